//! Exact quantiles over records, errors at infinity.

use crate::verdict::result::Quantiles;

/// Quantiles by nearest rank over `finite` microseconds and so many at infinity; figures in
/// milliseconds. A quantile that falls into the infinite mass is `None`.
#[must_use]
pub fn quantiles(mut finite: Vec<u64>, infinite: u64) -> Quantiles {
    finite.sort_unstable();
    let count = finite.len() as u64 + infinite;
    let rank = |q: f64| {
        let rank = (q * count as f64).ceil().max(1.0) as u64;
        usize::try_from(rank - 1).ok().and_then(|index| finite.get(index)).map(|us| super::ms(*us))
    };
    if count == 0 {
        return Quantiles::default();
    }
    Quantiles {
        count,
        infinite,
        min: rank(0.0),
        p50: rank(0.5),
        p90: rank(0.9),
        p99: rank(0.99),
        max: rank(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nearest_rank_with_an_infinite_tail() {
        let q = quantiles((1..=9).map(|n| n * 1000).collect(), 1);
        assert_eq!((q.count, q.infinite), (10, 1));
        assert_eq!((q.min, q.p50, q.p90, q.p99, q.max), (Some(1.0), Some(5.0), Some(9.0), None, None));
        assert_eq!(quantiles(vec![], 3).max, None);
        assert_eq!(quantiles(vec![], 0), Quantiles::default());
    }

    proptest! {
        #[test]
        fn quantiles_rise_and_nulls_come_last(finite in proptest::collection::vec(0_u64..10_000_000, 0..50), infinite in 0_u64..20) {
            let q = quantiles(finite, infinite);
            let all = [q.min, q.p50, q.p90, q.p99, q.max];
            let known: Vec<f64> = all.iter().flatten().copied().collect();
            prop_assert!(known.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(all[known.len()..].iter().all(Option::is_none));
            prop_assert_eq!(q.count > 0 && q.max.is_none(), infinite > 0);
        }
    }
}
