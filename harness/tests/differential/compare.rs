//! Where two lists of facts, or two latencies, part.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::facts::Facts;

/// The widest jitter of one backoff sleep.
pub(crate) const JITTER: Duration = Duration::from_millis(750);
/// What two equal latencies may be apart at least.
const APART_MIN: Duration = Duration::from_millis(300);
/// The same as a share of the longer one.
const APART_SHARE: f64 = 0.15;
/// What two equal sums of latencies may be apart, as a share of the longer one, beyond their jitter.
const TOTAL_SHARE: f64 = 0.1;
/// How many standard deviations of their jitter they may be apart.
const DEVIATIONS: u32 = 4;

/// One thing that the two gateways do differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Which request of the cell, from 1.
    pub(crate) request: usize,
    /// Name of the fact.
    pub(crate) fact: String,
    /// What the real one says; `None` where it says nothing of it.
    pub(crate) real: Option<String>,
    /// What the mock one says.
    pub(crate) mock: Option<String>,
}

/// All facts that are not the same.
pub(crate) fn differences(request: usize, real: &Facts, mock: &Facts) -> Vec<Difference> {
    let names: BTreeSet<&String> = real.keys().chain(mock.keys()).collect();
    let apart = names.into_iter().filter(|name| real.get(*name) != mock.get(*name));
    apart
        .map(|name| Difference {
            request,
            fact: name.clone(),
            real: real.get(name).cloned(),
            mock: mock.get(name).cloned(),
        })
        .collect()
}

/// Whether the sums of some latencies are the same after the jitter of `sleeps` sleeps in all of them, on either side.
/// What a single latency may be off for its jitter hides a sleep that is missing; their sum does not: jitter evens out.
pub(crate) fn same_total(real: Duration, mock: Duration, requests: u32, sleeps: u32) -> bool {
    // Of the difference of two sums of uniform jitters.
    let deviation = JITTER.mul_f64((f64::from(sleeps) / 6.0).sqrt());
    let allowed = (APART_MIN * requests).max(real.max(mock).mul_f64(TOTAL_SHARE)) + deviation * DEVIATIONS;
    real.abs_diff(mock) <= allowed
}

/// Whether two latencies are the same after the jitter of up to `sleeps` sleeps on either side.
pub(crate) fn same_latency(real: Duration, mock: Duration, sleeps: u32) -> bool {
    let allowed = APART_MIN.max(real.max(mock).mul_f64(APART_SHARE)) + JITTER * sleeps;
    real.abs_diff(mock) <= allowed
}
