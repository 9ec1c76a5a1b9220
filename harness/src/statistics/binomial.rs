//! How many of all outages go well, by those that did.

use statrs::distribution::{Beta, ContinuousCDF};

/// Events beyond which nobody looks for a number that suffices.
const EVENTS_MAX: u64 = 100_000;

/// The share of all events that goes well at least, at this confidence, where `well` of `of` did: the one-sided lower
/// bound of Clopper and Pearson (Biometrika 26, 1934), which is exact.
///
/// It is the `1 - confidence` quantile of Beta(well, of - well + 1). Where all of them went well that is
/// `(1 - confidence)^(1 / of)`; where none did, 0.
#[must_use]
pub fn at_least(well: u64, of: u64, confidence: f64) -> f64 {
    let (well, doubt) = (well.min(of), 1.0 - confidence);
    if well == 0 || !(0.0..1.0).contains(&doubt) {
        return 0.0;
    }
    if well == of {
        return doubt.powf(1.0 / of as f64);
    }
    Beta::new(well as f64, (of - well + 1) as f64).map_or(0.0, |beta| beta.inverse_cdf(doubt))
}

/// How many events show that at least this `share` of all goes well, at this confidence, where `missed` of them do not;
/// `None` where no number does that anybody could run.
#[must_use]
pub fn needed(share: f64, missed: u64, confidence: f64) -> Option<u64> {
    let shows = |of: u64| at_least(of - missed, of, confidence) >= share;
    if !shows(missed + EVENTS_MAX) {
        return None;
    }
    // The bound grows with each event that goes well.
    let (mut short, mut enough) = (missed, missed + EVENTS_MAX);
    while enough - short > 1 {
        let middle = short + (enough - short) / 2;
        if shows(middle) { enough = middle } else { short = middle }
    }
    Some(enough)
}
