//! Whether one set of events takes longer than another, by ranks, and by how much.

use statrs::function::erf::erfc;

/// Up to this many events in both sets together the distribution of the rank sum is counted out; beyond it is taken for
/// normal.
pub const EXACT_MAX: usize = 40;

/// The two-sided p-value of Mann and Whitney's test (Annals of Mathematical Statistics 18, 1947): how often chance alone
/// would put the ranks of two sets as far apart as they are, if there were no difference. Events that never ended (`None`)
/// rank last, all alike; equal values share the mean of their ranks. 1 where a set is empty.
///
/// The rank sum of the first set has mean n1 (N + 1) / 2. Up to [`EXACT_MAX`] events its distribution over all ways of
/// drawing n1 of the N ranks, ties as they are, is counted out (Streitberg and Roehmel, 1986) and the p-value is the share
/// of those that are at least as far from the mean. Beyond, it is the normal one with the variance that ties leave,
/// n1 n2 / 12 (N + 1 - sum(t^3 - t) / (N (N - 1))), and a correction of a half for continuity.
#[must_use]
pub fn mann_whitney(first: &[Option<f64>], second: &[Option<f64>]) -> f64 {
    if first.is_empty() || second.is_empty() {
        return 1.0;
    }
    let ranks = Ranks::of(first, second);
    if first.len() + second.len() <= EXACT_MAX {
        ranks.counted_out(first.len())
    } else {
        ranks.normal(first.len())
    }
}

/// How much longer the second set takes: the median of all differences `second - first` (Hodges and Lehmann, Annals of
/// Mathematical Statistics 34, 1963). An event that never ended takes longer than any that did, by infinity; of two such
/// events neither takes longer. `None` where a set is empty, or where the two differences in the middle are infinite both
/// ways.
#[must_use]
pub fn hodges_lehmann(first: &[Option<f64>], second: &[Option<f64>]) -> Option<f64> {
    let difference = |from: &Option<f64>, to: &Option<f64>| match (from, to) {
        (Some(from), Some(to)) => to - from,
        (Some(_), None) => f64::INFINITY,
        (None, Some(_)) => f64::NEG_INFINITY,
        (None, None) => 0.0,
    };
    let pairs = first.iter().flat_map(|from| second.iter().map(move |to| difference(from, to)));
    let mut differences: Vec<f64> = pairs.collect();
    differences.sort_by(f64::total_cmp);
    let (lower, upper) =
        (differences.get(differences.len().checked_sub(1)? / 2)?, differences.get(differences.len() / 2)?);
    let middle = if lower == upper { *lower } else { f64::midpoint(*lower, *upper) };
    (!middle.is_nan()).then_some(middle)
}

/// Ranks of two sets taken together, doubled so that the mean of two is whole.
struct Ranks {
    /// Of all, the first set's first.
    doubled: Vec<usize>,
    /// How many share each value.
    ties: Vec<usize>,
}

impl Ranks {
    fn of(first: &[Option<f64>], second: &[Option<f64>]) -> Self {
        let values: Vec<f64> =
            first.iter().chain(second).map(|value| value.unwrap_or(f64::INFINITY)).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let (mut doubled, mut ties, mut from) = (vec![0; values.len()], Vec::new(), 0);
        for alike in order.chunk_by(|a, b| values[*a] == values[*b]) {
            for place in alike {
                // Ranks from + 1 to from + len have the mean from + (len + 1) / 2.
                doubled[*place] = 2 * from + alike.len() + 1;
            }
            ties.push(alike.len());
            from += alike.len();
        }
        Self { doubled, ties }
    }

    /// How far twice the doubled rank sum of the first set is from twice its mean: whole, so that nothing is rounded.
    fn distance(&self, sum: usize, of_first: usize) -> usize {
        (2 * sum).abs_diff(2 * of_first * (self.doubled.len() + 1))
    }

    fn counted_out(&self, of_first: usize) -> f64 {
        let most: usize = self.doubled.iter().sum();
        // ways[n][s]: in how many ways n of the ranks seen so far add up to s.
        let mut ways = vec![vec![0.0_f64; most + 1]; of_first + 1];
        ways[0][0] = 1.0;
        for rank in &self.doubled {
            for drawn in (1..=of_first).rev() {
                let (fewer, more) = ways.split_at_mut(drawn);
                for (sum, count) in fewer[drawn - 1][..=most - rank].iter().enumerate() {
                    more[0][sum + rank] += count;
                }
            }
        }
        let seen = self.distance(self.doubled[..of_first].iter().sum(), of_first);
        let all: f64 = ways[of_first].iter().sum();
        let as_far =
            ways[of_first].iter().enumerate().filter(|(sum, _)| self.distance(*sum, of_first) >= seen);
        (as_far.map(|(_, count)| count).sum::<f64>() / all).min(1.0)
    }

    fn normal(&self, of_first: usize) -> f64 {
        let (all, first) = (self.doubled.len() as f64, of_first as f64);
        let shared: f64 = self.ties.iter().map(|tie| (*tie as f64).powi(3) - *tie as f64).sum();
        let variance = first * (all - first) / 12.0 * (all + 1.0 - shared / (all * (all - 1.0)));
        let sum = self.doubled[..of_first].iter().sum::<usize>();
        let away = (self.distance(sum, of_first) as f64 / 4.0 - 0.5).max(0.0);
        if variance <= 0.0 {
            return 1.0;
        }
        erfc(away / variance.sqrt() / std::f64::consts::SQRT_2).min(1.0)
    }
}
