//! What a run says of an outage, beside what really happened.

use mocks::truth::{Shape, Step};
use serde::{Deserialize, Serialize};

use super::BenchError;
use super::event::{LIMIT, Measured, Without};
use crate::analysis::{self, ms};
use crate::journal::{self, Event, Purpose};
use crate::verdict::judge;
use crate::verdict::result::Verdict;

/// A request needs so long to the server: sent before a change, it may meet what comes after.
pub(super) const ON_ITS_WAY_US: u64 = 2_000;

/// Several wrong ones are shown, so that what they have in common shows, too.
pub(super) const WRONG_SHOWN: usize = 3;

/// One outage as it was measured, and as it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Scored {
    /// How it failed.
    pub(super) shape: Shape,
    /// Time between two probes, milliseconds.
    pub(super) cadence_ms: f64,
    /// From the effect to the instant from which a new probe is good, milliseconds; `None`: never, or no effect.
    pub(super) steady_truth: Option<(f64, f64)>,
    /// The same as the analysis has it.
    pub(super) steady: Option<(f64, f64)>,
    /// Total time in which a new probe would not have been good, milliseconds.
    pub(super) bad_truth: Option<f64>,
    /// The same as the analysis has it.
    pub(super) bad: Option<f64>,
    /// Whether the request reading can only fail (true) or hold (false), by the instants at which probes were sent.
    pub(super) request_fails: Option<bool>,
    /// The service reading of NFR123.
    pub(super) service: Option<Verdict>,
    /// The request reading.
    pub(super) request: Option<Verdict>,
    /// The whole scenario.
    pub(super) verdict: Verdict,
    /// Its reasons.
    pub(super) reasons: Vec<String>,
    /// What `run` would end with.
    pub(super) exit: u8,
    /// By the schedule.
    pub(super) planned: u64,
    /// Ended, censored or skipped, each once.
    pub(super) accounted: u64,
    /// Requests that the server got.
    pub(super) requests: u64,
    /// Most that a probe was sent late, milliseconds.
    pub(super) late_ms: f64,
}

/// Judge its journal by the code that judges every run.
pub(super) fn score(measured: &Measured) -> Result<Scored, BenchError> {
    let entries = journal::read(&measured.journal)?;
    let run = analysis::gather(&entries).ok_or_else(|| BenchError::Truth("no run in it".to_owned()))?;
    let result = judge(&run);
    let mode = run.modes.first().ok_or_else(|| BenchError::Truth("no mode in it".to_owned()))?;
    let figures = mode.step.routes.first().map(|route| analysis::figures(mode, route));
    let failover = figures.as_ref().and_then(|figures| figures.failover.as_ref());
    let scenario = result.scenarios.first();
    let judged = scenario.and_then(|scenario| scenario.routes.first()?.failover.as_ref());
    let spans = bad_spans(measured);
    let down = measured.happened.down;
    let after =
        |at: (u64, u64)| down.map(|down| (ms(at.0.saturating_sub(down.1)), ms(at.1.saturating_sub(down.0))));
    // What lasts for less than the time between two probes may not be seen by any.
    let shortest_us = spans.iter().map(|span| span.1.0.saturating_sub(span.0.1)).min().unwrap_or(u64::MAX);
    let is_unseen =
        measured.spec.shape == Shape::Flap && u128::from(shortest_us) < measured.spec.cadence.as_micros();
    let steady_truth = match (measured.spec.shape, spans.last()) {
        (Shape::NeverRecovers, _) => None,
        _ if is_unseen => None,
        (_, Some(last)) => after(last.1),
        (_, None) => down.and_then(after),
    };
    let long = |span: &Edges| {
        ms(span.1.0.saturating_sub(span.0.1)) / 2.0 + ms(span.1.1.saturating_sub(span.0.0)) / 2.0
    };
    let is_plain = measured.spec.without == Without::Nothing && measured.spec.shape != Shape::NeverRecovers;
    let sent = mode.probes.iter().filter(|probe| probe.record.purpose == Purpose::Traffic);
    let late_us = sent.map(|probe| probe.record.sent_us.saturating_sub(probe.record.intended_us)).max();
    Ok(Scored {
        shape: measured.spec.shape,
        cadence_ms: measured.spec.cadence.as_secs_f64() * 1000.0,
        steady_truth,
        steady: failover.and_then(|failover| failover.steady_after_ms),
        bad_truth: is_plain.then(|| spans.iter().map(long).sum()),
        bad: failover.map(|failover| failover.bad_starts_ms),
        request_fails: figures.as_ref().and_then(|figures| {
            let counted = figures.all.iter().map(|probe| probe.record.sent_us);
            let met: Vec<Option<bool>> = counted.map(|sent_us| met(&spans, sent_us)).collect();
            if met.contains(&Some(true)) {
                Some(true)
            } else {
                met.iter().all(|met| *met == Some(false)).then_some(false)
            }
        }),
        service: judged.map(|failover| failover.service_verdict),
        request: judged.map(|failover| failover.request_verdict),
        verdict: scenario.map_or(Verdict::Inconclusive, |scenario| scenario.verdict),
        reasons: scenario.map(|scenario| scenario.reasons.clone()).unwrap_or_default(),
        exit: result.exit_code(),
        planned: measured.planned,
        accounted: accounted(&entries),
        requests: measured.happened.requests,
        late_ms: ms(late_us.unwrap_or(0)),
    })
}

/// A change lies between two instants; a span lies between two changes.
type Edges = ((u64, u64), (u64, u64));

/// When a probe that was started was not good.
fn bad_spans(measured: &Measured) -> Vec<Edges> {
    let limit_us = u64::try_from(LIMIT.as_micros()).unwrap_or(u64::MAX);
    let steps = &measured.happened.steps;
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Vec::new() };
    let script: Vec<Step> = measured.spec.shape.steps(0);
    match measured.spec.shape {
        Shape::NeverRecovers => vec![(*first, (u64::MAX, u64::MAX))],
        // Who is answered within the limit is good, however long it hung.
        Shape::HangRelease => {
            let end = (last.0.saturating_sub(limit_us), last.1.saturating_sub(limit_us) + ON_ITS_WAY_US);
            if end.1 > first.0 { vec![(*first, end)] } else { Vec::new() }
        }
        Shape::Flap => steps.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
        _ if steps.len() == script.len() => vec![(*first, *last)],
        // Cut before it was over.
        _ => vec![(*first, (u64::MAX, u64::MAX))],
    }
}

/// Whether a probe that was sent then met the outage; `None` where it cannot be told.
fn met(spans: &[Edges], sent_us: u64) -> Option<bool> {
    let surely = |span: &Edges| sent_us >= span.0.1 && sent_us + ON_ITS_WAY_US < span.1.0;
    let maybe = |span: &Edges| sent_us + ON_ITS_WAY_US >= span.0.0 && sent_us <= span.1.1;
    if spans.iter().any(surely) {
        Some(true)
    } else if spans.iter().any(maybe) {
        None
    } else {
        Some(false)
    }
}

/// Probes of the schedule that have a line in the journal, each counted once.
fn accounted(entries: &[journal::Entry]) -> u64 {
    let of = |event: &Event| match event {
        Event::ProbeEnded(record) if record.purpose == Purpose::Traffic => Some(record.intended_us),
        Event::ProbeSkipped { intended_us, .. } => Some(*intended_us),
        _ => None,
    };
    let all: std::collections::BTreeSet<u64> = entries.iter().filter_map(|entry| of(&entry.event)).collect();
    all.len() as u64
}

impl Scored {
    /// Whether the truth lies inside the bracket, give or take so many milliseconds; `None` where there is none to be.
    pub(super) fn is_inside(&self, slack_ms: f64) -> Option<bool> {
        let ((truth_lo, truth_hi), (lo, hi)) = self.steady_truth.zip(self.steady)?;
        Some(truth_hi >= lo - slack_ms && truth_lo <= hi + slack_ms)
    }

    /// The middle of the bracket less the truth, milliseconds, where a probe met the outage.
    pub(super) fn steady_error(&self) -> Option<f64> {
        let ((truth_lo, truth_hi), (lo, hi)) = self.steady_truth.zip(self.steady)?;
        (self.bad? > 0.0).then(|| (lo + hi) / 2.0 - (truth_lo + truth_hi) / 2.0)
    }

    /// The same of the total time of bad starts.
    pub(super) fn bad_error(&self) -> Option<f64> {
        Some(self.bad? - self.bad_truth?)
    }

    /// What a reading says that the truth does not allow, if so.
    pub(super) fn wrong(&self) -> Option<String> {
        let limit_ms = LIMIT.as_secs_f64() * 1000.0;
        let truth = self.steady_truth;
        let (cadence, shape) = (self.cadence_ms, self.shape.word());
        let is_never = self.shape == Shape::NeverRecovers;
        let wrong = match self.service {
            Some(Verdict::Pass) if is_never || truth.is_some_and(|(lo, _)| lo > limit_ms) => "passes",
            Some(Verdict::Fail) if truth.is_some_and(|(_, hi)| hi <= limit_ms) => "fails",
            _ => match (self.request, self.request_fails) {
                (Some(Verdict::Pass), Some(true)) => "passes by requests",
                (Some(Verdict::Fail), Some(false)) => "fails by requests",
                _ => return None,
            },
        };
        Some(format!("{shape} every {cadence} ms {wrong} at {truth:?} ms"))
    }

    /// The service reading cannot be told although the truth is further from the limit than the schedule is coarse.
    pub(super) fn is_needlessly_open(&self) -> bool {
        let limit_ms = LIMIT.as_secs_f64() * 1000.0;
        let near = |truth: f64| (truth - limit_ms).abs() <= self.cadence_ms + 5.0;
        let is_near = self.steady_truth.is_some_and(|(lo, hi)| near(lo) || near(hi));
        self.service != Some(Verdict::Pass) && self.service != Some(Verdict::Fail) && !is_near
    }

    /// Each planned probe has ended, was censored or was skipped; the last may have been due just as it was stopped.
    pub(super) fn is_accounted(&self) -> bool {
        self.planned.abs_diff(self.accounted) <= 1
    }
}
