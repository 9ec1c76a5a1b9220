//! One scenario: facts and figures to its part of the result.

use crate::analysis::{Drift, FaultFacts, Figures, Hold, Mode, Probe, RunFacts, figures, ms};
use crate::journal::Outcome;
use crate::plan::{PlannedRoute, component_of};
use crate::scenario::{Answer, ComponentState, Requirement};

use super::checks::{Checks, check_counts, check_failback, check_failover, check_order, check_served};
use super::requirements;
use super::result::{
    AnsweredBy, Bracket, Conflict, Evidence, Failback, Failover, FaultResult, RouteResult, RouteSamples,
    ScenarioResult, Verdict,
};
use super::{events, story, streams, turns};

/// Conflicts that a result lists; how many there are is counted beside.
const CONFLICTS_SHOWN: usize = 10;

/// One mode as judged, with the figures that it rests on.
pub(super) struct Judged<'a> {
    pub(super) result: ScenarioResult,
    /// The experiment says nothing about the stack.
    pub(super) is_void: bool,
    /// One entry a route.
    pub(super) figures: Vec<Figures<'a>>,
}

/// Judge a scenario by its mode, or by its modes, where each is one of its injections.
pub(super) fn scenario(run: &RunFacts, modes: &[&Mode]) -> ScenarioResult {
    match modes {
        [only] if only.step.injection.is_none() => one(run, only).result,
        _ => events::together(run, modes),
    }
}

/// The order in which aliases take over on a route.
pub(super) fn chain(run: &RunFacts, planned: &PlannedRoute) -> Vec<String> {
    let route = run.start.environment.routes.get(&planned.route);
    route.map(|route| [vec![route.model.clone()], route.fallbacks.clone()].concat()).unwrap_or_default()
}

/// Judge one mode.
pub(super) fn one<'a>(run: &RunFacts, mode: &'a Mode) -> Judged<'a> {
    let mut checks = Checks { void: void(run, mode), ..Checks::default() };
    let all: Vec<Figures> = mode.step.routes.iter().map(|route| figures(mode, route)).collect();
    if checks.void.is_empty() {
        checks.void = leaked(run, mode, &all);
    }
    let mut routes = Vec::new();
    for figures in &all {
        let chain = chain(run, figures.planned);
        let mut own = Checks::default();
        check_served(&mut own, figures);
        check_counts(&mut own, run, mode, figures);
        check_order(&mut own, figures, &chain);
        let mut failover = check_failover(&mut own, mode, figures);
        let mut failback = check_failback(&mut own, mode, figures);
        if figures.planned.fails_over && failover.is_none() && checks.void.is_empty() {
            own.open(&[Requirement::NFR123], format!("{}: failover was not seen", figures.planned.route));
        }
        if let Some(doubt) = unimitated(run, &figures.planned.route) {
            own.doubt(doubt);
            if let Some(failover) = &mut failover {
                (failover.request_verdict, failover.service_verdict) =
                    (Verdict::Inconclusive, Verdict::Inconclusive);
            }
            if let Some(verdict) = failback.as_mut().and_then(|failback| failback.verdict.as_mut()) {
                *verdict = Verdict::Inconclusive;
            }
        }
        checks.add(own);
        routes.push(route_result(run, figures, &chain, failover, failback));
    }
    for (fault, why) in mode.faults.iter().filter_map(|fault| Some((fault, taken_over(mode, fault)?))) {
        let text = format!(
            "{} of {} was undone, and whether it comes back was not seen, since somebody else has it now: {why}",
            fault.kind, fault.component
        );
        checks.open(&[Requirement::NFR125], text);
    }
    if all.iter().all(|figures| figures.expectation.is_none()) {
        checks.open(&mode.step.scenario.requirements, "nothing is expected of any route".to_owned());
    }
    let fails_over = all.iter().any(|figures| figures.planned.fails_over);
    for fault in mode.faults.iter().filter(|_| fails_over) {
        if let Some(why) = &fault.weak {
            let text = format!(
                "{} of {} was not seen by a direct witness ({why}), so when it began is not known well enough",
                fault.kind, fault.component
            );
            checks.leave_open(Requirement::NFR123, text);
            leave_times_open(&mut routes);
        }
    }
    if let Some(others) = mode.others.last().filter(|_| fails_over && checks.void.is_empty()) {
        let why = format!(
            "{} while the time was measured: they wake models, keep connections and trip cooldowns, so it is not that of the fault alone",
            others.what
        );
        checks.leave_open(Requirement::NFR123, why);
        leave_times_open(&mut routes);
    }
    for (alias, count) in &mode.unexplained {
        let text = format!(
            "the journal of {alias} shows {count} answers that nobody is known to have asked for: who served what is not certain"
        );
        checks.open(&[Requirement::NFR125], text);
    }
    let verdict = checks.verdict();
    let result = ScenarioResult {
        name: mode.step.scenario.name.clone(),
        title: mode.step.scenario.title.clone(),
        verdict,
        reasons: reasons(&checks),
        requirements: requirements::of_scenario(mode, &checks),
        faults: mode.faults.iter().map(|fault| fault_result(run, mode, fault)).collect(),
        timeline: story::timeline(run, mode, &all),
        findings: story::findings(mode, &all),
        counts: mode.counts.clone(),
        upstream_counts: mode.upstream_counts.clone(),
        answered_by: mode
            .answered_by
            .as_ref()
            .map(|(known_by, pods)| AnsweredBy { known_by: *known_by, pods: pods.clone() }),
        routes,
        events: Vec::new(),
    };
    Judged { result, is_void: !checks.void.is_empty(), figures: all }
}

/// What a result says of one route.
pub(super) fn route_result(
    run: &RunFacts,
    figures: &Figures,
    chain: &[String],
    failover: Option<Failover>,
    failback: Option<Failback>,
) -> RouteResult {
    RouteResult {
        route: figures.planned.route.clone(),
        model: figures.planned.model.clone(),
        expected: figures.expectation.map(|expectation| match &expectation.answer {
            Answer::ServedBy(alias) => alias.clone(),
            Answer::Error => "error".to_owned(),
        }),
        requests: figures.judged.len() as u64,
        ok: figures.ok,
        errors: figures.errors.clone(),
        planned: figures.judged.len() as u64 + figures.skipped.0,
        skipped: figures.skipped.0,
        late: figures.late,
        served_by: figures.served_by.clone(),
        attribution_conflicts: figures.conflicts.len() as u64,
        conflicts: conflicts(figures),
        sources: figures.sources.clone(),
        latency_ms: figures.latency.clone(),
        ttft_ms: figures.ttft.clone(),
        error_reply_ms: figures.error_reply.clone(),
        unjudged: figures.unjudged.clone(),
        failover,
        failback,
        control_ms: figures.control.clone(),
        worst: story::worst(run, figures, chain),
        turns: turns::of(run, figures),
        streams: streams::of(figures),
    }
}

/// The first replies on which sources disagree, with what each said.
fn conflicts(figures: &Figures) -> Vec<Conflict> {
    let shown = figures.conflicts.iter().take(CONFLICTS_SHOWN);
    let conflict = |probe: &&Probe| {
        let attribution = &probe.attribution;
        Conflict {
            probe: probe.record.id.clone(),
            alias: attribution.alias.clone().unwrap_or_default(),
            by: attribution.by.map(|source| source.word().to_owned()).unwrap_or_default(),
            said: attribution.conflicts.clone(),
        }
    };
    shown.map(conflict).collect()
}

/// What somebody else has made of a component that this mode has healed, where it was not seen to serve since.
fn taken_over<'f>(mode: &Mode, fault: &'f FaultFacts) -> Option<&'f str> {
    let (from, to) = (mode.started_us?, mode.ended_us.unwrap_or(u64::MAX));
    let is_healed_here = fault.heal_called_us.is_some_and(|at_us| (from..=to).contains(&at_us));
    fault.left_alone.as_deref().filter(|_| is_healed_here && fault.healed.is_none())
}

/// How long it took is not told by any reading.
fn leave_times_open(routes: &mut [RouteResult]) {
    for failover in routes.iter_mut().filter_map(|route| route.failover.as_mut()) {
        (failover.request_verdict, failover.service_verdict) = (Verdict::Inconclusive, Verdict::Inconclusive);
    }
}

/// Whoever was seen down cannot have answered: the fault did not reach the gateway on every way, or the name is wrong.
/// Either way the mode says nothing of the stack.
fn leaked(run: &RunFacts, mode: &Mode, all: &[Figures]) -> Vec<String> {
    let mut void = Vec::new();
    for figures in all {
        for (alias, count) in &figures.served_by {
            let component = component_of(alias, &run.start.environment);
            let down = component.filter(|component| {
                mode.step.scenario.components.get(*component) == Some(&ComponentState::Down)
                    && mode.faults.iter().any(|fault| fault.component == *component)
            });
            if let Some(component) = down {
                void.push(format!(
                    "{}: {alias} answered {count} of {} probes while {component} was seen down: the fault did not \
                     reach the gateway on every way, or the reply names another than who served",
                    figures.planned.route,
                    figures.judged.len()
                ));
            }
        }
    }
    void
}

/// Why what this route was answered does not tell what LiteLLM would answer, if so.
fn unimitated(run: &RunFacts, route: &str) -> Option<String> {
    let settings = run.gateway.iter().flat_map(|gateway| &gateway.unsupported);
    let mut bearing = settings.filter(|setting| setting.bears_on(route));
    let first = &bearing.next()?.setting;
    let more = match bearing.count() {
        0 => String::new(),
        more => format!(" and {more} more such settings"),
    };
    Some(format!(
        "{route}: the mock gateway does not imitate `{first}`{more}, which may change its answers: run it with --gateway litellm"
    ))
}

fn reasons(checks: &Checks) -> Vec<String> {
    if !checks.void.is_empty() {
        return checks.void.clone();
    }
    checks.failed.iter().chain(&checks.open).map(|objection| objection.text.clone()).collect()
}

/// Why the experiment says nothing about the stack, if so.
fn void(run: &RunFacts, mode: &Mode) -> Vec<String> {
    let mut void = Vec::new();
    let cut = run.interrupted.as_ref().map(|cause| format!("the run was cut short ({cause})"));
    let cut = cut.or_else(|| run.aborted.as_ref().map(|cause| format!("the run was given up: {cause}")));
    let cut = cut.or_else(|| run.refused.as_ref().map(|why| format!("the run was refused: {why}")));
    let cut = cut.unwrap_or_else(|| "the run ended without saying why".to_owned());
    if mode.started_us.is_none() {
        return vec![format!("not reached: {cut}")];
    }
    if let Some(saw) = &mode.baseline_broken {
        void.push(format!("no steady state before the fault: {saw}"));
    }
    for fault in &mode.faults {
        if let Some(flaw) = fault.flaw.as_ref().filter(|_| fault.effective.is_none()) {
            void.push(format!("{} of {} {flaw}", fault.kind, fault.component));
        }
    }
    void.extend(mode.voided.iter().cloned());
    let drifted = |drift: &Drift| format!("what this mode rests on did not stay so: {}", drift.what);
    void.extend(mode.drifts.iter().map(drifted));
    let lost = |lost: &Drift| format!("what had to stay up did not: {}", lost.what);
    void.extend(mode.not_kept_up.iter().map(lost));
    void.extend(mode.way_broke.first().map(|first| way_broke(first, mode.way_broke.len())));
    if !void.is_empty() {
        return void;
    }
    let Some(until) = mode.hold_ended_us else {
        return vec![format!("not measured to its end: {cut}")];
    };
    let planned = mode.step.inject.len() + mode.step.inherited.len();
    if mode.faults.len() < planned {
        void.push(format!("{} of {planned} faults were made", mode.faults.len()));
    }
    for fault in &mode.faults {
        if fault.effective.is_none() {
            void.push(format!("{} of {} was never seen in effect", fault.kind, fault.component));
        } else if fault.effective.zip(mode.hold_from_us).is_some_and(|((_, hi), from)| from < hi) {
            void.push(format!(
                "{} of {} was seen in effect only after judging began",
                fault.kind, fault.component
            ));
        } else {
            let what = format!("{} of {}", fault.kind, fault.component);
            void.extend(match fault.hold(until) {
                Hold::Whole => None,
                Hold::Broken => Some(format!("{what} did not hold until the mode ended")),
                Hold::Unseen { from_us } => Some(format!(
                    "{what} was not seen to hold from {:.3} s on: for a while nobody saw it, up or down",
                    ms(from_us) / 1000.0
                )),
            });
        }
    }
    void
}

/// The first break of our own way to the gateway, and how many there were.
fn way_broke(first: &Drift, count: usize) -> String {
    let more = match count {
        0 | 1 => String::new(),
        count => format!(", and {} times more", count - 1),
    };
    format!(
        "the harness's own way to the gateway broke at {:.3} s{more}, so what failed then says nothing of the gateway: {}",
        ms(first.seen_us) / 1000.0,
        first.what
    )
}

fn fault_result(run: &RunFacts, mode: &Mode, fault: &FaultFacts) -> FaultResult {
    let (from, to) = (mode.started_us.unwrap_or(0), mode.ended_us.unwrap_or(u64::MAX));
    let until = mode.hold_ended_us.or(mode.ended_us).unwrap_or(run.last_us);
    let injected = fault.injected.unwrap_or((0, 0));
    let here = |at: &u64| (from..=to).contains(at);
    let mut evidence: Vec<Evidence> = fault
        .looks
        .iter()
        .filter(|look| here(&look.sent_us))
        .map(|look| Evidence {
            at_ms: ms(look.sent_us),
            source: look.source.clone(),
            saw: format!("{}: {}", if look.up { "up" } else { "down" }, look.saw),
        })
        .collect();
    for (source, gone) in [("connections", &fault.connections_gone), ("objects", &fault.pods_gone)] {
        if let Some(((_, gone_us), saw)) = gone.as_ref().filter(|((_, gone), _)| here(gone)) {
            evidence.push(Evidence {
                at_ms: ms(*gone_us),
                source: source.to_owned(),
                saw: format!("down: {saw}"),
            });
        }
    }
    if let Some(renewed) = renewed_evidence(fault, from, until) {
        evidence.push(renewed);
    }
    evidence.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
    let healed_here = fault.healed.filter(|(_, hi)| here(hi));
    FaultResult {
        component: fault.component.clone(),
        kind: fault.kind.clone(),
        inherited: fault.inherited,
        injection: None,
        injected_at: story::wall_clock(run, injected.0),
        injected_ms: Bracket(ms(injected.0), fault.injected.map(|(_, accepted)| ms(accepted))),
        effective_ms: fault.effective.map(|(lo, hi)| Bracket(ms(lo), Some(ms(hi)))),
        healed_ms: healed_here.map(|(lo, hi)| Bracket(ms(lo), Some(ms(hi)))),
        held: fault.held(until),
        seen_as: fault.seen_as().map(str::to_owned),
        evidence,
    }
}

/// "Seen down n times between then and then": what shows that an (inherited) fault still held.
fn renewed_evidence(fault: &FaultFacts, from: u64, until: u64) -> Option<Evidence> {
    let since = fault.effective.map_or(from, |(_, hi)| hi.max(from));
    let here = fault.counts.iter().filter(|(first, last, ..)| *first >= since && *last <= until);
    let (up, down, last) = here.fold((0_u64, 0_u64, 0), |(up, down, newest), (_, last, u, d)| {
        (up.saturating_add(*u), down.saturating_add(*d), newest.max(*last))
    });
    let looks = up.saturating_add(down);
    (looks > 0).then(|| Evidence {
        at_ms: ms(last),
        source: fault.looks.first().map_or_else(|| "witness".to_owned(), |look| look.source.clone()),
        saw: format!("looked {looks} times in this mode: {down} down, {up} up"),
    })
}

/// Latencies of the judged probes, for histograms: pictures only, never judged on.
#[must_use]
pub fn samples(run: &RunFacts) -> Vec<RouteSamples> {
    let mut all = Vec::new();
    for mode in &run.modes {
        for planned in &mode.step.routes {
            let figures = figures(mode, planned);
            if figures.judged.is_empty() {
                continue;
            }
            let ok = figures.judged.iter().filter(|probe| probe.record.outcome == Outcome::Ok);
            let samples_us: Vec<u64> =
                ok.map(|probe| probe.record.ended_us.saturating_sub(probe.record.intended_us)).collect();
            let errors = figures.judged.len() as u64 - samples_us.len() as u64;
            let scenario = &mode.step.scenario.name;
            let mut earlier = all.iter_mut();
            // Of a scenario that is injected more than once it is one picture.
            if let Some(earlier) = earlier
                .find(|own: &&mut RouteSamples| own.scenario == *scenario && own.route == planned.route)
            {
                earlier.samples_us.extend(samples_us);
                earlier.errors += errors;
                continue;
            }
            all.push(RouteSamples {
                scenario: scenario.clone(),
                route: planned.route.clone(),
                start_ms: mode.hold_from_us.map_or(0, |from| from / 1000),
                errors,
                samples_us,
            });
        }
    }
    all
}
