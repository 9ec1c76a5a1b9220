//! How long all but a few outages take, by order statistics.

use statrs::distribution::{Binomial, DiscreteCDF};

/// What is known of a quantile from above.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// It is at most this.
    AtMost(f64),
    /// The event that would bound it never ended: there is no bound.
    Never,
    /// There are too few events to bound it by any of them.
    TooFew {
        /// So many would do.
        needed: u64,
    },
}

/// An upper bound of a quantile of all events, at this confidence, by one value an event (`None`: never ended).
///
/// It is the k-th smallest value with the smallest k for which P(Binomial(n, quantile) <= k - 1) >= confidence: the
/// distribution-free bound (David and Nagaraja, Order Statistics, 7.1). It assumes nothing about how events are
/// distributed, and does not exist where even the largest of n values is below the quantile too often, which is for
/// n < log(1 - confidence) / log(quantile): 299 for the 99 % quantile at 95 %, 59 for 95 %, 29 for 90 %.
#[must_use]
pub fn quantile_at_most(events: &[Option<f64>], quantile: f64, confidence: f64) -> Bound {
    let count = events.len() as u64;
    let needed = ((1.0 - confidence).ln() / quantile.ln()).ceil().max(1.0) as u64;
    let Ok(below) = Binomial::new(quantile, count) else { return Bound::TooFew { needed } };
    let mut sorted: Vec<f64> = events.iter().map(|event| event.unwrap_or(f64::INFINITY)).collect();
    sorted.sort_by(f64::total_cmp);
    let bounding = (0..count).find(|rank| below.cdf(*rank) >= confidence);
    let value = bounding.and_then(|rank| sorted.get(usize::try_from(rank).ok()?));
    match value {
        None => Bound::TooFew { needed },
        Some(value) if value.is_finite() => Bound::AtMost(*value),
        Some(_) => Bound::Never,
    }
}
