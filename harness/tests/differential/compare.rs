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

/// Whether two latencies are the same after the jitter of up to `sleeps` sleeps on either side.
pub(crate) fn same_latency(real: Duration, mock: Duration, sleeps: u32) -> bool {
    let allowed = APART_MIN.max(real.max(mock).mul_f64(APART_SHARE)) + JITTER * sleeps;
    real.abs_diff(mock) <= allowed
}
