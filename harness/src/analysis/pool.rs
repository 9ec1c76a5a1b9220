//! One route over several injections taken together.

use std::collections::BTreeMap;

use crate::journal::Outcome;
use crate::scenario::Answer;
use crate::verdict::result::PhaseCounts;

use super::facts::Probe;
use super::failover::answered_after_us;
use super::figures::{Figures, counts, times};
use super::sources::standings;

/// The counts and times of one route over several injections, each probe once. What belongs to one injection (failover,
/// fail-back) is left out. `None` of none.
#[must_use]
pub fn pooled<'a>(events: &[&Figures<'a>]) -> Option<Figures<'a>> {
    let first = *events.first()?;
    let all_of = |of: &dyn Fn(&Figures<'a>) -> Vec<&'a Probe>| -> Vec<&'a Probe> {
        events.iter().flat_map(|event| of(event)).collect()
    };
    let judged = all_of(&|event| event.judged.clone());
    let controls = all_of(&|event| event.controls.clone());
    let replies: Vec<&Probe> =
        judged.iter().copied().filter(|probe| probe.record.outcome == Outcome::Ok).collect();
    let seen = counts(&judged);
    let error_expected =
        matches!(first.expectation.map(|expectation| &expectation.answer), Some(Answer::Error));
    let skipped = events.iter().map(|event| event.skipped.0).sum();
    let mut unjudged: BTreeMap<String, PhaseCounts> = BTreeMap::new();
    for (phase, of_event) in events.iter().flat_map(|event| &event.unjudged) {
        let all = unjudged.entry(phase.clone()).or_default();
        all.requests += of_event.requests;
        all.ok += of_event.ok;
        for (alias, count) in &of_event.served_by {
            *all.served_by.entry(alias.clone()).or_default() += count;
        }
        for (class, count) in &of_event.errors {
            *all.errors.entry(class.clone()).or_default() += count;
        }
    }
    Some(Figures {
        planned: first.planned,
        expectation: first.expectation,
        ok: seen.ok,
        errors: seen.errors,
        skipped: (skipped, events.iter().find_map(|event| event.skipped.1.clone())),
        late: events.iter().map(|event| event.late).sum(),
        unsampled_us: events.iter().map(|event| event.unsampled_us).max().unwrap_or(0),
        served_by: seen.served_by,
        conflicts: all_of(&|event| event.conflicts.clone()),
        unshown: all_of(&|event| event.unshown.clone()),
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
        unjudged,
        control: (!controls.is_empty()).then(|| times(&controls, |probe| answered_after_us(probe, false))),
        controls,
        streams_in_flight: all_of(&|event| event.streams_in_flight.clone()),
        failover: None,
        failback: None,
        all: all_of(&|event| event.all.clone()),
        judged,
    })
}
