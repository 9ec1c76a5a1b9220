//! Fail-back of one route after its heal.

use crate::journal::Outcome;
use crate::units::Period;

use super::facts::Probe;
use super::failover::{long_enough, steady_run};
use super::{Span, after_ms};

/// The figures.
#[derive(Clone, Debug, PartialEq)]
pub struct FailbackFigures {
    /// Healed to the first reply by the primary.
    pub first_after_ms: Option<(f64, f64)>,
    /// Healed to steady service by the primary.
    pub steady_after_ms: Option<(f64, f64)>,
    /// The same, if all that is unsure were good: the earliest that the evidence allows.
    pub steady_at_best_after_ms: Option<(f64, f64)>,
    /// Errors of probes started after heal.
    pub errors: u64,
    /// Changes of the serving alias beyond one.
    pub flaps: u64,
    /// A probe that started later than the limit was surely not served by the primary.
    pub bad_after_limit: bool,
}

/// `after`: probes started after the heal was called, by intended start.
pub(super) fn failback(
    after: &[&Probe],
    healed: Span,
    primary: &str,
    limit: Option<Period>,
) -> FailbackFigures {
    let limit_us = limit.map_or(u64::MAX, |limit| u64::try_from(limit.0.as_micros()).unwrap_or(u64::MAX));
    let by_primary = |probe: &Probe| probe.attribution.alias.as_deref() == Some(primary);
    let first = after
        .iter()
        .filter(|probe| by_primary(probe))
        .filter_map(|probe| probe.record.first_content_us)
        .min();
    let since: Vec<&Probe> =
        after.iter().copied().filter(|probe| probe.record.intended_us >= healed.1).collect();
    let ended: Vec<&Probe> =
        since.iter().copied().filter(|probe| !matches!(probe.record.outcome, Outcome::Censored(_))).collect();
    let servers: Vec<&str> = ended.iter().filter_map(|probe| probe.attribution.alias.as_deref()).collect();
    let changes = servers.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
    let is_error = |probe: &&&Probe| matches!(probe.record.outcome, Outcome::Error(_));
    FailbackFigures {
        first_after_ms: first.map(|at| after_ms(at, healed)),
        steady_after_ms: steady_start(&since, |probe| {
            by_primary(probe) && probe.attribution.conflicts.is_empty()
        })
        .map(|start| after_ms(start, healed)),
        steady_at_best_after_ms: steady_run(&ended, |probe| may_be_good(probe, primary))
            .map(|start| after_ms(start, healed)),
        errors: ended.iter().filter(is_error).count() as u64,
        flaps: changes.saturating_sub(1),
        bad_after_limit: ended.iter().any(|probe| {
            probe.record.intended_us > healed.1.saturating_add(limit_us) && !may_be_good(probe, primary)
        }),
    }
}

fn is_open(probe: &Probe) -> bool {
    matches!(probe.record.outcome, Outcome::Censored(_))
}

/// Served by the primary, as far as is known.
fn may_be_good(probe: &Probe, primary: &str) -> bool {
    let named = probe.attribution.alias.as_deref();
    probe.record.outcome == Outcome::Ok
        && (named.is_none_or(|alias| alias == primary) || !probe.attribution.conflicts.is_empty())
}

/// Start of the steady run after the last bad probe. The watch ends as soon as all is steady, so some
/// probes are open by then: they do not break what was steady before, and no run goes on across them.
fn steady_start(since: &[&Probe], good: impl Fn(&Probe) -> bool) -> Option<u64> {
    let bad = since.iter().rposition(|probe| !is_open(probe) && !good(probe));
    let tail = &since[bad.map_or(0, |place| place + 1)..];
    tail.split(|probe| is_open(probe)).find_map(long_enough)
}
