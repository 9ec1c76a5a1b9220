//! Failover of one route in one mode: both readings of NFR123 rest on these figures.

use crate::journal::{GatewayCall, Outcome};
use crate::plan::{STEADY_MS, STEADY_PROBES};
use crate::scenario::{Answer, Expectation};

use super::facts::Probe;
use super::{GATEWAY_NOT_ASKED, Span, after_ms, is_honest_error, ms};

/// Whether a probe was answered as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodness {
    /// Complete, valid, from whom it must be, within the limit.
    Good,
    /// Not so, by evidence.
    Bad,
    /// Cannot be told: nobody or two are named as its server, or only our own lateness puts it over
    /// the limit, or the run was cut while it was open.
    Unsure,
}

/// The figures.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverFigures {
    /// The limit.
    pub limit_us: u64,
    /// Worst time to first content (or to the whole error reply); `None` where a probe never had it.
    pub worst_us: Option<u64>,
    /// Worst time to the last byte, likewise.
    pub worst_last_byte_us: Option<u64>,
    /// Effective to the moment from which replies were steady, in milliseconds: [the last probe that was not good, the
    /// first of the steady run]. What began between those two nobody has seen.
    pub steady_after_ms: Option<(f64, f64)>,
    /// The same, if all that is unsure were good: the earliest that the evidence allows.
    pub steady_at_best_after_ms: Option<(f64, f64)>,
    /// Effective to the first expected reply.
    pub first_expected_after_ms: Option<(f64, f64)>,
    /// Gap between good completions around the fault, less the usual gap.
    pub gap_ms: Option<f64>,
    /// Total time in which a newly started probe would not have been good.
    pub bad_starts_ms: f64,
    /// Had content when the fault took effect, and completed.
    pub in_flight_served: u64,
    /// Had content when the fault took effect, and broke off.
    pub in_flight_lost: u64,
    /// Judged probes, and those in flight without content, that are bad.
    pub bad: u64,
    /// The same, unsure.
    pub unsure: u64,
    /// Probes that count for the request reading.
    pub judged: u64,
    /// A bad probe started more than the limit after the fault was surely in effect.
    pub bad_after_limit: bool,
}

/// One route's probes around the moment of the fault.
pub(super) struct Around<'a> {
    /// What must be true.
    pub(super) expectation: &'a Expectation,
    /// Who answered before; `None`: an error.
    pub(super) before: Option<&'a str>,
    /// When the fault took effect.
    pub(super) effective: Span,
    /// The route's interval between probes.
    pub(super) interval_us: u64,
    /// Ended before the effect.
    pub(super) baseline: Vec<&'a Probe>,
    /// Sent before, and open at, the effect.
    pub(super) in_flight: Vec<&'a Probe>,
    /// Judged.
    pub(super) judged: Vec<&'a Probe>,
    /// After the judged window, before heal, and ended by then.
    pub(super) drain: Vec<&'a Probe>,
}

/// Judge one probe by itself.
pub(super) fn goodness(probe: &Probe, answers: &[Option<&str>], limit_us: u64) -> Goodness {
    let record = &probe.record;
    let answered_us = match &record.outcome {
        Outcome::Censored(_) => return Goodness::Unsure,
        Outcome::Ok => {
            if answers.iter().all(Option::is_none) {
                return Goodness::Bad;
            }
            let Some(alias) = &probe.attribution.alias else { return Goodness::Unsure };
            if !answers.contains(&Some(alias)) {
                return Goodness::Bad;
            }
            record.first_content_us
        }
        Outcome::Error(class) if answers.contains(&None) && is_honest_error(class) => Some(record.ended_us),
        Outcome::Error(class) if answers.contains(&None) && class == GATEWAY_NOT_ASKED => {
            return Goodness::Unsure;
        }
        Outcome::Error(_) => return Goodness::Bad,
    };
    let Some(answered_us) = answered_us else { return Goodness::Bad };
    if answered_us.saturating_sub(record.intended_us) <= limit_us {
        if probe.attribution.conflicts.is_empty() { Goodness::Good } else { Goodness::Unsure }
    } else if answered_us.saturating_sub(record.sent_us) <= limit_us {
        Goodness::Unsure
    } else {
        Goodness::Bad
    }
}

/// Time to the answer (first content, or the whole error reply where an error is expected).
pub(super) fn answered_after_us(probe: &Probe, error_expected: bool) -> Option<u64> {
    let record = &probe.record;
    let at = match &record.outcome {
        Outcome::Ok => record.first_content_us,
        Outcome::Error(class) if error_expected && (class.starts_with("http-") || is_honest_error(class)) => {
            Some(record.ended_us)
        }
        Outcome::Error(_) | Outcome::Censored(_) => None,
    };
    at.map(|at| at.saturating_sub(record.intended_us))
}

fn expected(expectation: &Expectation) -> Option<&str> {
    match &expectation.answer {
        Answer::ServedBy(alias) => Some(alias),
        Answer::Error => None,
    }
}

pub(super) fn failover(around: &Around) -> FailoverFigures {
    let limit_us = u64::try_from(around.expectation.within.0.as_micros()).unwrap_or(u64::MAX);
    let wanted = expected(around.expectation);
    let (hi, error_expected) = (around.effective.1, wanted.is_none());
    // Of a turn the gateway's stream had begun: nobody can go on with it, whatever the person has seen of it.
    let had_begun =
        |call: &GatewayCall| call.status == Some(200) && call.headers_us.is_some_and(|at| at <= hi);
    let had_content = |probe: &&&Probe| {
        probe.record.first_content_us.is_some_and(|at| at <= hi) || probe.turn.iter().any(had_begun)
    };
    let (with_content, without): (Vec<&Probe>, Vec<&Probe>) =
        around.in_flight.iter().copied().partition(|probe| had_content(&probe));
    let judged = around.judged.iter().map(|probe| (*probe, goodness(probe, &[wanted], limit_us)));
    let early = without.iter().map(|probe| (*probe, goodness(probe, &[wanted, around.before], limit_us)));
    let counted: Vec<(&Probe, Goodness)> = judged.chain(early).collect();
    let worst = |time: &dyn Fn(&Probe) -> Option<u64>| {
        counted
            .iter()
            .map(|(probe, _)| time(probe))
            .collect::<Option<Vec<u64>>>()
            .and_then(|all| all.into_iter().max())
    };
    let count = |wanted| counted.iter().filter(|(_, goodness)| *goodness == wanted).count() as u64;
    let bad_after_limit = |(probe, goodness): &(&Probe, Goodness)| {
        *goodness == Goodness::Bad && probe.record.intended_us > hi.saturating_add(limit_us)
    };
    // Also those that started while the fault took effect: they have met it, or were good.
    let started = around.in_flight.iter().filter(|probe| probe.record.intended_us >= around.effective.0);
    let started_bad = started
        .map(|probe| goodness(probe, &[wanted, around.before], limit_us))
        .chain(around.judged.iter().map(|probe| goodness(probe, &[wanted], limit_us)))
        .filter(|goodness| *goodness == Goodness::Bad);
    let served = with_content.iter().filter(|probe| probe.record.outcome == Outcome::Ok).count() as u64;
    FailoverFigures {
        limit_us,
        worst_us: worst(&|probe| answered_after_us(probe, error_expected)),
        worst_last_byte_us: worst(&|probe| {
            answered_after_us(probe, error_expected)
                .map(|_| probe.record.ended_us.saturating_sub(probe.record.intended_us))
        }),
        steady_after_ms: steady_after(around, |probe, answers| {
            goodness(probe, answers, limit_us) == Goodness::Good
        }),
        steady_at_best_after_ms: steady_after(around, |probe, answers| {
            goodness(probe, answers, limit_us) != Goodness::Bad
        }),
        first_expected_after_ms: first_expected(around, wanted).map(|at| after_ms(at, around.effective)),
        gap_ms: gap(around, wanted, limit_us),
        bad_starts_ms: started_bad.count() as f64 * ms(around.interval_us),
        in_flight_served: served,
        in_flight_lost: with_content.len() as u64 - served,
        bad: count(Goodness::Bad),
        unsure: count(Goodness::Unsure),
        judged: counted.len() as u64,
        bad_after_limit: counted.iter().any(bad_after_limit),
    }
}

/// Effective to the moment from which all probes are good until heal, if they are for long enough: not before the last
/// that was not good should have started, and not after the first that was good was sent.
fn steady_after(around: &Around, good: impl Fn(&Probe, &[Option<&str>]) -> bool) -> Option<(f64, f64)> {
    let wanted = expected(around.expectation);
    let after: Vec<&Probe> = around.judged.iter().chain(&around.drain).copied().collect();
    let broken = after.iter().rposition(|probe| !good(probe, &[wanted]));
    let run = &after[broken.map_or(0, |place| place + 1)..];
    long_enough(run)?;
    let sent_us = run.first()?.record.sent_us;
    let before = match broken {
        Some(place) => Some(after[place]),
        // One that was sent while the fault took effect may have met it.
        None => around.in_flight.iter().copied().rfind(|probe| !good(probe, &[wanted, around.before])),
    };
    let (effective_lo, effective_hi) = around.effective;
    let not_before_us = before.map_or(effective_lo, |probe| probe.record.intended_us);
    Some((ms(not_before_us.saturating_sub(effective_hi)), ms(sent_us.saturating_sub(effective_lo))))
}

/// Start of the unbroken run of good probes at the end, if it has the length that "steady" asks for.
pub(super) fn steady_run(probes: &[&Probe], good: impl Fn(&Probe) -> bool) -> Option<u64> {
    let broken = probes.iter().rposition(|probe| !good(probe));
    long_enough(&probes[broken.map_or(0, |place| place + 1)..])
}

/// Start of a run of good probes, if it has the length that "steady" asks for.
pub(super) fn long_enough(run: &[&Probe]) -> Option<u64> {
    let (first, last) = (run.first()?.record.intended_us, run.last()?.record.intended_us);
    (run.len() as u64 >= STEADY_PROBES && ms(last.saturating_sub(first)) >= STEADY_MS).then_some(first)
}

fn first_expected(around: &Around, wanted: Option<&str>) -> Option<u64> {
    let after = around.in_flight.iter().chain(&around.judged).chain(&around.drain);
    let after = after.filter(|probe| probe.record.sent_us >= around.effective.0);
    let answered = after.filter(|probe| goodness(probe, &[wanted], u64::MAX) == Goodness::Good);
    let at = |probe: &&Probe| match &probe.record.outcome {
        Outcome::Ok => probe.record.first_content_us,
        Outcome::Error(_) | Outcome::Censored(_) => Some(probe.record.ended_us),
    };
    answered.filter_map(at).min()
}

fn gap(around: &Around, wanted: Option<&str>, limit_us: u64) -> Option<f64> {
    let ended = |probes: &[&Probe], answers: &[Option<&str>]| {
        let good = probes.iter().filter(|probe| goodness(probe, answers, limit_us) == Goodness::Good);
        let mut ends: Vec<u64> = good.map(|probe| probe.record.ended_us).collect();
        ends.sort_unstable();
        ends
    };
    let baseline = ended(&around.baseline, &[around.before]);
    let mut usual: Vec<u64> = baseline.windows(2).map(|pair| pair[1] - pair[0]).collect();
    usual.sort_unstable();
    let usual = *usual.get(usual.len() / 2)?;
    let mut all =
        [baseline, ended(&around.in_flight, &[wanted, around.before]), ended(&around.judged, &[wanted])]
            .concat();
    all.sort_unstable();
    let after_effect = all.windows(2).filter(|pair| pair[1] >= around.effective.0);
    let widest = after_effect.map(|pair| pair[1] - pair[0]).max()?;
    Some(ms(widest.saturating_sub(usual)))
}
