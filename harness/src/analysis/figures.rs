//! One route in one mode: which probes count for what, and the figures over them.

use std::collections::BTreeMap;

use crate::journal::{Outcome, Purpose};
use crate::plan::PlannedRoute;
use crate::scenario::{Answer, Expectation};
use crate::verdict::result::{PhaseCounts, Quantiles, SourceStanding};

use super::facts::{Mode, Probe};
use super::failback::{FailbackFigures, failback};
use super::failover::{Around, FailoverFigures, Goodness, answered_after_us, failover, goodness};
use super::sources::standings;
use super::{Span, quantiles};

/// Which part of a mode a probe belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Ended before the fault took effect.
    Baseline,
    /// Sent before, and still open when the fault took effect.
    InFlight,
    /// Started in the judged window.
    Judged,
    /// After the judged window, before heal.
    Drain,
    /// After heal was called.
    FailBack,
    /// Asks the expected alias itself.
    Control,
}

impl Phase {
    /// As in `result.json`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::InFlight => "in-flight",
            Self::Judged => "judged",
            Self::Drain => "drain",
            Self::FailBack => "fail-back",
            Self::Control => "control",
        }
    }
}

/// The figures of one route in one mode.
#[derive(Clone, Debug)]
pub struct Figures<'a> {
    /// As planned.
    pub planned: &'a PlannedRoute,
    /// What must be true; `None`: measured, not judged.
    pub expectation: Option<&'a Expectation>,
    /// All probes of the route's schedule, whatever they count for.
    pub all: Vec<&'a Probe>,
    /// The judged probes.
    pub judged: Vec<&'a Probe>,
    /// Complete, valid replies among them.
    pub ok: u64,
    /// By class.
    pub errors: BTreeMap<String, u64>,
    /// Judged probes that were planned and not sent, with the first reason.
    pub skipped: (u64, Option<String>),
    /// Sent later than the lateness limit.
    pub late: u64,
    /// Longest stretch of the judged window without a probe sent, in microseconds.
    pub unsampled_us: u64,
    /// By alias.
    pub served_by: BTreeMap<String, u64>,
    /// Complete replies on which two sources disagree.
    pub conflicts: Vec<&'a Probe>,
    /// Complete replies that the journal of whoever is said to have served them does not show.
    pub unshown: Vec<&'a Probe>,
    /// How each source stands to who served, over complete replies.
    pub sources: Vec<SourceStanding>,
    /// To the last byte.
    pub latency: Quantiles,
    /// To the first content.
    pub ttft: Quantiles,
    /// To the whole error reply, where an error is expected.
    pub error_reply: Option<Quantiles>,
    /// Probes that are not judged.
    pub unjudged: BTreeMap<String, PhaseCounts>,
    /// Streams in the middle of an answer when the fault took effect.
    pub streams_in_flight: Vec<&'a Probe>,
    /// The control probes.
    pub controls: Vec<&'a Probe>,
    /// The same, to their first content.
    pub control: Option<Quantiles>,
    /// Where something had to fail over and the fault was seen.
    pub failover: Option<FailoverFigures>,
    /// Where a heal followed and was seen.
    pub failback: Option<FailbackFigures>,
}

/// Lateness above this is counted (or above the route's interval, if that is less).
const LATE_US: u64 = 50_000;

/// Compute one route's figures.
#[must_use]
pub fn figures<'a>(mode: &'a Mode, planned: &'a PlannedRoute) -> Figures<'a> {
    let expectation = mode.step.scenario.expect.get(&planned.route);
    let probes = mode.probes.iter().filter(|probe| probe.record.route == planned.route);
    let mut phases: BTreeMap<Phase, Vec<&Probe>> = BTreeMap::new();
    for probe in probes {
        phases.entry(phase(mode, planned, probe)).or_default().push(probe);
    }
    let of = |phase: Phase| phases.get(&phase).cloned().unwrap_or_default();
    let judged = of(Phase::Judged);
    let interval_us = u64::try_from(planned.rate.interval().as_micros()).unwrap_or(u64::MAX);
    let window = window(mode, planned);
    let counts = counts(&judged);
    let error_expected = matches!(expectation.map(|expectation| &expectation.answer), Some(Answer::Error));
    let skipped = mode.skipped.iter().filter(|(route, at, _)| {
        *route == planned.route && window.is_some_and(|(from, to)| (from..=to).contains(at))
    });
    let skipped: Vec<&String> = skipped.map(|(_, _, reason)| reason).collect();
    let late = |probe: &&&Probe| {
        probe.record.sent_us.saturating_sub(probe.record.intended_us) > LATE_US.min(interval_us)
    };
    let around = mode.moved().zip(expectation).filter(|_| planned.fails_over && window.is_some());
    let controls = of(Phase::Control);
    let unjudged = [Phase::Baseline, Phase::InFlight, Phase::Drain, Phase::FailBack, Phase::Control];
    let conflicts = judged.iter().filter(|probe| !probe.attribution.conflicts.is_empty());
    let replies: Vec<&Probe> =
        judged.iter().copied().filter(|probe| probe.record.outcome == Outcome::Ok).collect();
    Figures {
        planned,
        expectation,
        ok: counts.ok,
        errors: counts.errors,
        skipped: (skipped.len() as u64, skipped.first().map(|reason| (*reason).clone())),
        late: judged.iter().filter(late).count() as u64,
        unsampled_us: window.map_or(0, |window| unsampled(&judged, window)),
        served_by: counts.served_by,
        conflicts: conflicts.copied().collect(),
        unshown: judged.iter().copied().filter(|probe| probe.is_unshown).collect(),
        sources: standings(&replies),
        latency: times(&judged, |probe| {
            (probe.record.outcome == Outcome::Ok)
                .then(|| probe.record.ended_us.saturating_sub(probe.record.intended_us))
        }),
        ttft: times(&judged, |probe| answered_after_us(probe, false)),
        error_reply: error_expected.then(|| {
            times(&judged, |probe| match probe.record.outcome {
                Outcome::Error(_) => answered_after_us(probe, true),
                Outcome::Ok | Outcome::Censored(_) => None,
            })
        }),
        unjudged: unjudged
            .into_iter()
            .filter(|phase| phases.contains_key(phase))
            .map(|phase| (phase.word().to_owned(), self::counts(&of(phase))))
            .collect(),
        control: (!controls.is_empty()).then(|| times(&controls, |probe| answered_after_us(probe, false))),
        controls,
        streams_in_flight: of(Phase::InFlight)
            .into_iter()
            .filter(|probe| probe.record.streamed && probe.record.first_content_us.is_some())
            .filter(|probe| mode.hold_from_us.is_some_and(|from| probe.record.first_content_us <= Some(from)))
            .collect(),
        failover: around.map(|(effective, expectation)| {
            failover(&Around {
                expectation,
                before: planned.before.as_deref(),
                effective,
                interval_us,
                baseline: of(Phase::Baseline),
                in_flight: of(Phase::InFlight),
                judged: judged.clone(),
                drain: of(Phase::Drain)
                    .into_iter()
                    .filter(|probe| mode.hold_ended_us.is_some_and(|until| probe.record.ended_us <= until))
                    .collect(),
            })
        }),
        failback: mode.healed_for(planned).map(|healed| {
            let primary = planned.recover.as_ref().map_or(&planned.model, |recovery| &recovery.served_by);
            let limit = planned.recover.as_ref().map(|recovery| recovery.within);
            failback(&of(Phase::FailBack), healed, primary, limit)
        }),
        all: phases
            .iter()
            .filter(|(phase, _)| **phase != Phase::Control)
            .flat_map(|(_, probes)| probes)
            .copied()
            .collect(),
        judged,
    }
}

impl Figures<'_> {
    /// How one judged probe stands to what is expected of the route.
    #[must_use]
    pub fn goodness(&self, probe: &Probe) -> Goodness {
        let Some(expectation) = self.expectation else { return Goodness::Unsure };
        let limit_us = u64::try_from(expectation.within.0.as_micros()).unwrap_or(u64::MAX);
        let wanted = match &expectation.answer {
            Answer::ServedBy(alias) => Some(alias.as_str()),
            Answer::Error => None,
        };
        goodness(probe, &[wanted], limit_us)
    }

    /// Intended start to first content (or to the whole error reply, where one is expected).
    #[must_use]
    pub fn answered_after_us(&self, probe: &Probe, error_expected: bool) -> Option<u64> {
        answered_after_us(probe, error_expected)
    }
}

impl Mode {
    /// When the mode's own faults were all in effect: the bracket of the latest of them.
    #[must_use]
    pub fn moved(&self) -> Option<Span> {
        let own = self.faults.iter().filter(|fault| !fault.inherited);
        own.map(|fault| fault.effective).collect::<Option<Vec<Span>>>()?.into_iter().max_by_key(|(_, hi)| *hi)
    }

    /// From when on a probe may have met the latest of the mode's own faults, also on its way to a new connection only.
    fn felt_from_us(&self) -> Option<u64> {
        self.moved()?;
        let own = self.faults.iter().filter(|fault| !fault.inherited);
        own.max_by_key(|fault| fault.effective.map(|(_, hi)| hi))?.first_effect_us
    }

    /// When the component behind a route's primary was healed in this mode, or the last component if that
    /// one was not down; `None` without a heal that was seen.
    fn healed_for(&self, planned: &PlannedRoute) -> Option<Span> {
        self.heal_called_us?;
        let (from, to) = (self.started_us?, self.ended_us.unwrap_or(u64::MAX));
        let healed = self.faults.iter().filter(|fault| self.step.heal.contains(&fault.component));
        let healed: Vec<(bool, Option<Span>)> = healed
            .map(|fault| {
                let here = fault.healed.filter(|(_, hi)| (from..=to).contains(hi));
                (self.serves_primary(&fault.component, planned), here)
            })
            .collect();
        // A heal that was not seen is not replaced by another one's.
        match healed.iter().find(|(own, _)| *own) {
            Some((_, here)) => *here,
            None => healed
                .iter()
                .map(|(_, here)| *here)
                .collect::<Option<Vec<Span>>>()?
                .into_iter()
                .max_by_key(|h| h.1),
        }
    }

    fn serves_primary(&self, component: &str, planned: &PlannedRoute) -> bool {
        // The primary did not serve in this mode exactly because its own component was down.
        planned.after.as_deref() != Some(planned.model.as_str())
            && self.primary_components.get(&planned.route).is_some_and(|own| own == component)
    }
}

/// The judged window of a route: [from, until].
fn window(mode: &Mode, planned: &PlannedRoute) -> Option<Span> {
    let from = mode.hold_from_us?;
    Some((from, from.saturating_add(u64::try_from(planned.hold.0.as_micros()).unwrap_or(u64::MAX))))
}

fn phase(mode: &Mode, planned: &PlannedRoute, probe: &Probe) -> Phase {
    let record = &probe.record;
    if record.purpose == Purpose::Control {
        return Phase::Control;
    }
    if mode.heal_called_us.is_some_and(|heal| record.intended_us >= heal) {
        return Phase::FailBack;
    }
    let Some((from, until)) = window(mode, planned) else { return Phase::Baseline };
    if record.intended_us > until {
        return Phase::Drain;
    }
    if record.intended_us >= from {
        return Phase::Judged;
    }
    match mode.felt_from_us() {
        Some(earliest) if record.ended_us >= earliest => Phase::InFlight,
        Some(_) | None => Phase::Baseline,
    }
}

pub(super) fn counts(probes: &[&Probe]) -> PhaseCounts {
    let mut counts = PhaseCounts { requests: probes.len() as u64, ..PhaseCounts::default() };
    for probe in probes {
        match &probe.record.outcome {
            Outcome::Ok => {
                counts.ok += 1;
                let alias = probe.attribution.alias.clone().unwrap_or_else(|| "unknown".into());
                *counts.served_by.entry(alias).or_default() += 1;
            }
            Outcome::Error(class) => *counts.errors.entry(class.clone()).or_default() += 1,
            Outcome::Censored(_) => *counts.errors.entry("censored".into()).or_default() += 1,
        }
    }
    counts
}

pub(super) fn times(probes: &[&Probe], time: impl Fn(&Probe) -> Option<u64>) -> Quantiles {
    let finite: Vec<u64> = probes.iter().filter_map(|probe| time(probe)).collect();
    let infinite = (probes.len() - finite.len()) as u64;
    quantiles(finite, infinite)
}

/// The longest stretch of the window in which no probe was sent.
fn unsampled(judged: &[&Probe], (from, until): Span) -> u64 {
    let mut sent: Vec<u64> = judged.iter().map(|probe| probe.record.sent_us).collect();
    sent.sort_unstable();
    let edges = std::iter::once(from).chain(sent).chain(std::iter::once(until)).collect::<Vec<_>>();
    edges.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0)
}
