//! Many tests at once.

/// Which of these p-values may be believed where at most the share `rate` of those that are believed is to be chance: the
/// procedure of Benjamini and Hochberg (Journal of the Royal Statistical Society B 57, 1995).
///
/// With the m values in rising order, all up to the last one with `p <= rate * rank / m`. A value that is no number is
/// believed in no case, and counts as a test that was made.
#[must_use]
pub fn benjamini_hochberg(p_values: &[f64], rate: f64) -> Vec<bool> {
    let mut sorted: Vec<f64> = p_values.iter().copied().filter(|p| !p.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let all = p_values.len() as f64;
    let passes = |(place, p): &(usize, &f64)| **p <= rate * (place + 1) as f64 / all;
    let limit = sorted.iter().enumerate().filter(passes).map(|(_, p)| *p).next_back();
    p_values.iter().map(|p| limit.is_some_and(|limit| *p <= limit)).collect()
}
