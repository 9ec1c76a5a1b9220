//! A scenario whose faults are injected more than once: each event is judged by itself, and the worst of them is what the
//! scenario is worth. What all of them together support is told with its confidence; an event that was void is told, and
//! counts neither for nor against anything.

use std::collections::BTreeMap;

use crate::analysis::{Figures, Mode, RunFacts, pooled};
use crate::statistics::{Bound, CONFIDENCE, at_least, quantile_at_most};

use super::result::{
    AnsweredBy, Bracket, EventResult, EventRoute, Failback, Failover, FaultResult, LogCount, Measure,
    QuantileBound, RequirementVerdict, RouteResult, ScenarioRequirement, ScenarioResult, Support,
    TimelineEntry, UpstreamCount, Verdict,
};
use super::scenario::{Judged, chain, one, route_result};

/// Reasons that a scenario lists; the rest is in its events.
const REASONS_MAX: usize = 10;
/// Quantiles over outages that are bounded, in percent.
const QUANTILES: [u64; 3] = [50, 90, 99];

/// Judge a scenario by all of its injections.
pub(super) fn together(run: &RunFacts, modes: &[&Mode]) -> ScenarioResult {
    let events: Vec<Event> = modes
        .iter()
        .zip(1..)
        .map(|(mode, place)| Event { number: mode.step.injection.unwrap_or(place), judged: one(run, mode) })
        .collect();
    let counted: Vec<&Event> = events.iter().filter(|event| !event.judged.is_void).collect();
    // Where none counts, what was seen is shown all the same.
    let shown: Vec<&Event> = if counted.is_empty() { events.iter().collect() } else { counted.clone() };
    let too_few = too_few(counted.len(), events.len());
    let worst = counted.iter().map(|event| event.judged.result.verdict).max();
    let verdict = match (worst, &too_few) {
        (None, _) | (Some(Verdict::Pass), Some(_)) => Verdict::Inconclusive,
        (Some(worst), _) => worst,
    };
    let (name, title) = modes
        .first()
        .map(|mode| (mode.step.scenario.name.clone(), mode.step.scenario.title.clone()))
        .unwrap_or_default();
    ScenarioResult {
        name,
        title,
        verdict,
        reasons: if verdict == Verdict::Pass {
            Vec::new()
        } else {
            reasons(&events, verdict, too_few.as_ref())
        },
        requirements: requirements(&shown, events.len(), too_few.as_ref()),
        faults: shown.iter().flat_map(|event| event.faults()).collect(),
        routes: routes(run, &shown, counted.len()),
        timeline: events.iter().flat_map(Event::timeline).collect(),
        findings: findings(&events),
        answered_by: answered_by(&events),
        counts: counts(&events),
        upstream_counts: upstream_counts(&events),
        events: events.iter().map(|event| event.result(!counted.is_empty())).collect(),
    }
}

/// One injection with its number.
struct Event<'a> {
    number: u32,
    judged: Judged<'a>,
}

impl Event<'_> {
    fn faults(&self) -> impl Iterator<Item = FaultResult> {
        let faults = self.judged.result.faults.iter().cloned();
        faults.map(|fault| FaultResult { injection: Some(self.number), ..fault })
    }

    fn timeline(&self) -> impl Iterator<Item = TimelineEntry> {
        let told = self.judged.result.timeline.iter();
        told.map(|entry| TimelineEntry {
            what: format!("injection {}: {}", self.number, entry.what),
            ..entry.clone()
        })
    }

    /// `others_count`: the scenario lists the faults of those, and not of one that is void.
    fn result(&self, others_count: bool) -> EventResult {
        let ScenarioResult { verdict, reasons, routes, .. } = &self.judged.result;
        let route = |route: &RouteResult| EventRoute {
            route: route.route.clone(),
            requests: route.requests,
            ok: route.ok,
            failover: route.failover.clone(),
            failback: route.failback.clone(),
        };
        EventResult {
            injection: self.number,
            counts: !self.judged.is_void,
            verdict: *verdict,
            reasons: reasons.clone(),
            routes: routes.iter().map(route).collect(),
            faults: if self.judged.is_void && others_count { self.faults().collect() } else { Vec::new() },
        }
    }

    fn reasons(&self, of: usize) -> impl Iterator<Item = String> {
        let void = if self.judged.is_void { " does not count" } else { "" };
        let reasons = self.judged.result.reasons.iter();
        reasons.map(move |reason| format!("injection {} of {of}{void}: {reason}", self.number))
    }
}

/// Why those that could be judged are too few to say anything of the others, if so.
fn too_few(counted: usize, planned: usize) -> Option<String> {
    (2 * counted < planned).then(|| format!("only {counted} of {planned} injections could be judged"))
}

fn reasons(events: &[Event], verdict: Verdict, too_few: Option<&String>) -> Vec<String> {
    let of = events.len();
    let is_void = |event: &&Event| event.judged.is_void;
    let decisive = events.iter().filter(|event| !is_void(event) && event.judged.result.verdict == verdict);
    let mut reasons: Vec<String> = decisive.flat_map(|event| event.reasons(of)).collect();
    reasons.extend(too_few.cloned());
    reasons.extend(events.iter().filter(is_void).flat_map(|event| event.reasons(of)));
    let more = reasons.len().saturating_sub(REASONS_MAX);
    if more > 0 {
        reasons.truncate(REASONS_MAX);
        reasons.push(format!("and {more} more, told at their injections"));
    }
    reasons
}

/// What each injection found, and those that do not count.
fn findings(events: &[Event]) -> Vec<String> {
    let of = events.len();
    let found = events.iter().flat_map(|event| {
        let found = event.judged.result.findings.iter();
        let found = found.map(|text| format!("injection {}: {text}", event.number));
        let void = event.judged.is_void.then(|| event.reasons(of));
        found.chain(void.into_iter().flatten())
    });
    found.collect()
}

/// The worst of all events that count, requirement by requirement.
fn requirements(shown: &[&Event], planned: usize, too_few: Option<&String>) -> Vec<ScenarioRequirement> {
    let mut by_id: BTreeMap<&str, Vec<(&Event, &ScenarioRequirement)>> = BTreeMap::new();
    for event in shown {
        for requirement in &event.judged.result.requirements {
            by_id.entry(&requirement.id).or_default().push((event, requirement));
        }
    }
    let judged = shown.len();
    let one = |(id, parts): (&str, Vec<(&Event, &ScenarioRequirement)>)| {
        let of = |verdict| parts.iter().filter(move |(_, part)| part.verdict == verdict);
        let told = |verdict: RequirementVerdict| {
            let mut those = of(verdict);
            let (event, part) = those.next()?;
            let count = those.count() + 1;
            let which = format!("{count} of {judged} injections judged, first number {}", event.number);
            Some((verdict, format!("in {which}: {}", part.detail)))
        };
        let passed = || {
            let slowest =
                of(RequirementVerdict::Pass).max_by(|(a, _), (b, _)| worst_ms(a).total_cmp(&worst_ms(b)));
            let (event, part) = slowest?;
            let detail = format!(
                "in all {judged} injections judged of {planned}, of the slowest (number {}): {}",
                event.number, part.detail
            );
            let verdict = match too_few {
                Some(why) => return Some((RequirementVerdict::Inconclusive, format!("{why}: {detail}"))),
                None => RequirementVerdict::Pass,
            };
            Some((verdict, detail))
        };
        let (verdict, detail) = told(RequirementVerdict::Fail)
            .or_else(|| told(RequirementVerdict::Inconclusive))
            .or_else(passed)
            .unwrap_or_else(|| {
                (RequirementVerdict::NotChecked, "nothing in this mode could be checked for it".to_owned())
            });
        ScenarioRequirement { id: id.to_owned(), verdict, detail }
    };
    by_id.into_iter().map(one).collect()
}

/// The longest wait of all routes that had to fail over.
fn worst_ms(event: &Event) -> f64 {
    let routes = event.judged.result.routes.iter();
    routes.filter_map(|route| route.failover.as_ref()?.worst_ms).fold(0.0, f64::max)
}

fn routes(run: &RunFacts, shown: &[&Event], counted: usize) -> Vec<RouteResult> {
    let places = shown.first().map_or(0, |event| event.judged.figures.len());
    let route = |place: usize| {
        let figures: Vec<&Figures> =
            shown.iter().filter_map(|event| event.judged.figures.get(place)).collect();
        let results: Vec<&RouteResult> =
            shown.iter().filter_map(|event| event.judged.result.routes.get(place)).collect();
        let all = pooled(&figures)?;
        let failovers: Vec<&Failover> = results.iter().filter_map(|route| route.failover.as_ref()).collect();
        let failbacks: Vec<&Failback> = results.iter().filter_map(|route| route.failback.as_ref()).collect();
        let chain = chain(run, all.planned);
        Some(route_result(run, &all, &chain, worst_failover(&failovers, counted), worst_failback(&failbacks)))
    };
    (0..places).filter_map(route).collect()
}

/// The largest; `None` where one is missing, which is worse than any, or there is none.
fn largest(figures: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    figures.collect::<Option<Vec<f64>>>()?.into_iter().max_by(f64::total_cmp)
}

/// The bracket that ends last; `None` where one is missing.
fn latest(brackets: impl Iterator<Item = Option<Bracket>>) -> Option<Bracket> {
    let end = |bracket: &Bracket| bracket.1.unwrap_or(f64::INFINITY);
    brackets.collect::<Option<Vec<Bracket>>>()?.into_iter().max_by(|a, b| end(a).total_cmp(&end(b)))
}

/// Each figure that of the event in which it was worst; `None` where nothing failed over.
fn worst_failover(events: &[&Failover], counted: usize) -> Option<Failover> {
    let first = events.first()?;
    let all = || events.iter();
    let injections = counted.min(events.len()) as u64;
    let is_well =
        |event: &&&Failover| event.request_verdict == Verdict::Pass && event.service_verdict == Verdict::Pass;
    Some(Failover {
        limit_ms: first.limit_ms,
        injections,
        worst_ms: largest(all().map(|event| event.worst_ms)),
        censored: all().any(|event| event.censored),
        worst_last_byte_ms: largest(all().map(|event| event.worst_last_byte_ms)),
        steady_after_ms: latest(all().map(|event| event.steady_after_ms)),
        first_expected_after_ms: latest(all().map(|event| event.first_expected_after_ms)),
        unavailable_gap_ms: largest(all().map(|event| event.unavailable_gap_ms)),
        unavailable_starts_ms: all().map(|event| event.unavailable_starts_ms).fold(0.0, f64::max),
        in_flight: all().map(|event| event.in_flight).max_by_key(|lives| lives.lost).unwrap_or_default(),
        request_verdict: all().map(|event| event.request_verdict).max().unwrap_or(Verdict::Inconclusive),
        service_verdict: all().map(|event| event.service_verdict).max().unwrap_or(Verdict::Inconclusive),
        support: (injections > 0).then(|| Support {
            well: all().filter(is_well).count() as u64,
            confidence_percent: percent(CONFIDENCE),
            at_least_percent: percent(at_least(all().filter(is_well).count() as u64, injections, CONFIDENCE)),
            bounds: bounds(events),
        }),
    })
}

/// In percent, to a tenth, rounded down: no claim is larger than what supports it.
fn percent(share: f64) -> f64 {
    (share * 1000.0 + 1e-9).floor() / 10.0
}

fn bounds(events: &[&Failover]) -> Vec<QuantileBound> {
    let worst: Vec<Option<f64>> = events.iter().map(|event| event.worst_ms).collect();
    let steady: Vec<Option<f64>> = events.iter().map(|event| event.steady_after_ms?.1).collect();
    let bound = |of: Measure, values: &[Option<f64>], percent: u64| {
        let (at_most_ms, needed) = match quantile_at_most(values, percent as f64 / 100.0, CONFIDENCE) {
            Bound::AtMost(ms) => (Some(ms), None),
            Bound::Never => (None, None),
            Bound::TooFew { needed } => (None, Some(needed)),
        };
        QuantileBound { of, percent, at_most_ms, needed }
    };
    let of_worst = QUANTILES.map(|percent| bound(Measure::Worst, &worst, percent));
    let of_steady = QUANTILES.map(|percent| bound(Measure::Steady, &steady, percent));
    of_worst.into_iter().chain(of_steady).collect()
}

fn worst_failback(events: &[&Failback]) -> Option<Failback> {
    let first = events.first()?;
    let all = || events.iter();
    Some(Failback {
        first_after_ms: latest(all().map(|event| event.first_after_ms)),
        steady_after_ms: latest(all().map(|event| event.steady_after_ms)),
        errors: all().map(|event| event.errors).sum(),
        flaps: all().map(|event| event.flaps).max().unwrap_or(0),
        limit_ms: first.limit_ms,
        verdict: all().filter_map(|event| event.verdict).max(),
    })
}

/// All pods that answered in any of them.
fn answered_by(events: &[Event]) -> Option<AnsweredBy> {
    let mut seen = events.iter().filter_map(|event| event.judged.result.answered_by.clone());
    let mut all = seen.next()?;
    for of_event in seen {
        for (pod, calls) in of_event.pods {
            let sum = all.pods.entry(pod).or_insert(None);
            *sum = match (*sum, calls) {
                (Some(sum), Some(calls)) => Some(sum + calls),
                (sum, calls) => sum.or(calls),
            };
        }
    }
    Some(all)
}

/// By log, over all of them.
fn counts(events: &[Event]) -> Vec<LogCount> {
    let mut all: Vec<LogCount> = Vec::new();
    for count in events.iter().flat_map(|event| &event.judged.result.counts) {
        let Some(sum) = all.iter_mut().find(|sum| sum.source == count.source) else {
            all.push(count.clone());
            continue;
        };
        sum.calls += count.calls;
        sum.ours += count.ours;
        sum.missing += count.missing;
        for (to, from) in [(&mut sum.answers, &count.answers), (&mut sum.got, &count.got)] {
            for (alias, answers) in from {
                *to.entry(alias.clone()).or_default() += answers;
            }
        }
        sum.trouble = sum.trouble.take().or_else(|| count.trouble.clone());
    }
    all
}

/// Each upstream's sum, which stands as the worst of its events does.
fn upstream_counts(events: &[Event]) -> Vec<UpstreamCount> {
    let mut all: Vec<UpstreamCount> = Vec::new();
    for count in events.iter().flat_map(|event| &event.judged.result.upstream_counts) {
        let is_same =
            |sum: &&mut UpstreamCount| (&sum.component, &sum.source) == (&count.component, &count.source);
        let Some(sum) = all.iter_mut().find(is_same) else {
            all.push(count.clone());
            continue;
        };
        sum.calls += count.calls;
        sum.answered += count.answered;
        sum.ours += count.ours;
        sum.got += count.got;
        sum.standing = sum.standing.max(count.standing);
        sum.trouble = sum.trouble.take().or_else(|| count.trouble.clone());
    }
    all
}
