//! What happened, in words and in time order: for the person who was not there.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::analysis::{
    End, FaultFacts, Figures, Goodness, Mode, Probe, RunFacts, Step, is_honest_error, ms, way,
};
use crate::journal::Outcome;
use crate::scenario::Answer;

use super::result::{
    CountStanding, Hop, KnownBy, LogCount, ScenarioResult, TimelineEntry, UpstreamCount, WorstProbe,
};

/// How many of the worst probes are told.
const WORST_MAX: usize = 5;
/// A median that moves more than this, by both measures, is a finding.
const SHIFT_RATIO: f64 = 0.2;
const SHIFT_MS: f64 = 250.0;

/// RFC 3339 time of an instant of the run.
pub(super) fn wall_clock(run: &RunFacts, at_us: u64) -> String {
    let start: Result<Timestamp, _> = run.start.started_at.parse();
    let micros = i64::try_from(at_us).unwrap_or(i64::MAX);
    start.map_or_else(
        |_| run.start.started_at.clone(),
        |start| match start.checked_add(jiff::SignedDuration::from_micros(micros)) {
            Ok(at) => format!("{at:.3}"),
            Err(_) => run.start.started_at.clone(),
        },
    )
}

/// The slowest judged probes, those without an answer first, each with where its time went.
pub(super) fn worst(run: &RunFacts, figures: &Figures, chain: &[String]) -> Vec<WorstProbe> {
    let error_expected = matches!(figures.expectation.map(|e| &e.answer), Some(Answer::Error));
    let time = |probe: &Probe| figures.answered_after_us(probe, error_expected);
    let mut probes: Vec<&Probe> = figures.judged.clone();
    probes
        .sort_by_key(|probe| (std::cmp::Reverse(time(probe).unwrap_or(u64::MAX)), probe.record.intended_us));
    probes.truncate(WORST_MAX);
    probes
        .into_iter()
        .map(|probe| WorstProbe {
            probe: probe.record.id.clone(),
            at_ms: ms(probe.record.intended_us),
            first_content_ms: time(probe).map(ms),
            outcome: match &probe.record.outcome {
                Outcome::Ok => probe.attribution.alias.clone().unwrap_or_else(|| "unknown".to_owned()),
                Outcome::Error(class) => class.clone(),
                Outcome::Censored(_) => "censored".to_owned(),
            },
            hops: way(run, probe, chain).iter().map(hop).collect(),
        })
        .collect()
}

fn hop(step: &Step) -> Hop {
    let many = step.aliases.len() > 1;
    let outcome = match step.end {
        End::Answered(200) => "answered".to_owned(),
        End::Answered(status) => format!("answered {status}"),
        End::GivenUp => "was given up by the gateway".to_owned(),
        End::Open => "never answered".to_owned(),
        End::TimedOut => "was not reached, for as long as the gateway's timeout".to_owned(),
        End::Unreached(Some(count)) => {
            format!("were not reached; it is the timeout of {count} of them, the rest took no time")
        }
        End::Unreached(None) => format!("{} not reached", if many { "were" } else { "was" }),
        End::PassedOver => {
            format!("{} passed over (refused at once, or in cooldown)", if many { "were" } else { "was" })
        }
        End::Left if many => "one of them was waited for when the client gave up".to_owned(),
        End::Left => "was waited for when the client gave up".to_owned(),
        End::Waited => "nobody was asked".to_owned(),
    };
    Hop {
        alias: step.aliases.join(", "),
        at_ms: ms(step.from_us),
        took_ms: step.to_us.map(|to| ms(to.saturating_sub(step.from_us))),
        outcome,
    }
}

/// Where the time of the bad probes went, as far as the upstreams' journals tell; starts with a colon.
pub(super) fn why_late(mode: &Mode, figures: &Figures) -> String {
    let bad: Vec<&Probe> = figures.bad_probes();
    let gave_up =
        |probe: &Probe| matches!(&probe.record.outcome, Outcome::Error(class) if class == "client-timeout");
    let unanswered: Vec<&Probe> = bad.iter().copied().filter(|probe| gave_up(probe)).collect();
    let down: Vec<String> =
        mode.faults.iter().map(|fault| format!("{} ({})", fault.component, fault.kind)).collect();
    let down = down.join(", ");
    if !unanswered.is_empty() {
        // The gateway may go on after its client left; what it does then explains nothing.
        let passed_on = unanswered.iter().filter(|probe| probe.calls_in_time().next().is_some()).count();
        let count = unanswered.len();
        let waited = figures.planned.timeout;
        // Of a turn it is not the gateway that had no answer.
        let asked: usize = unanswered.iter().map(|probe| probe.turn.len()).sum();
        let place = match passed_on {
            _ if asked > 0 => {
                format!("openclaw asked the gateway {asked} times for them and had not given up by then")
            }
            0 => format!(
                "none of them was passed on to any upstream in that time: the gateway went on waiting for what is down ({down}) instead of falling back"
            ),
            some => format!("{some} of them reached an upstream that did not answer in time"),
        };
        return format!(": {count} had no answer within the client timeout of {waited}; {place}");
    }
    let waits = bad.iter().filter_map(|probe| {
        let answered_us = figures.answered_after_us(probe, true)?;
        Some((answered_us, probe))
    });
    let Some((waited_us, slowest)) = waits.max_by_key(|(waited_us, _)| *waited_us) else {
        return String::new();
    };
    let total_s = ms(waited_us) / 1000.0;
    match slowest.calls_in_time().rfind(|(call, _)| call.status == Some(200)) {
        Some((call, alias)) => format!(
            ": the slowest took {total_s:.2} s; {} was asked only after {:.2} s, and the time before went into attempts on what is down ({down})",
            alias.as_deref().unwrap_or(&call.model),
            ms(call.received_us.saturating_sub(slowest.record.intended_us)) / 1000.0,
        ),
        None => format!(": the slowest took {total_s:.2} s"),
    }
}

/// What happened in one mode.
pub(super) fn timeline(run: &RunFacts, mode: &Mode, all: &[Figures]) -> Vec<TimelineEntry> {
    let mut story: Vec<(u64, String)> = Vec::new();
    let mut tell = |at: Option<u64>, what: String| story.extend(at.map(|at| (at, what)));
    tell(mode.started_us, "probe traffic starts".to_owned());
    if let Some(saw) = &mode.baseline_broken {
        tell(mode.started_us, format!("the baseline is broken, so no fault is injected: {saw}"));
    }
    for fault in &mode.faults {
        let name = format!("{} of {}", fault.kind, fault.component);
        if fault.inherited {
            tell(mode.started_us, format!("{name} is still in effect from the mode before"));
        } else {
            tell(fault.injected.map(|(called, _)| called), format!("{name} is injected"));
            let effect = fault.effective.map(|(lo, hi)| {
                format!(
                    "{name} is in effect (took effect between {:.3} s and {:.3} s)",
                    ms(lo) / 1000.0,
                    ms(hi) / 1000.0
                )
            });
            tell(fault.effective.map(|(_, hi)| hi), effect.unwrap_or_default());
        }
        if let (Some(flaw), at) = (&fault.flaw, fault.injected.map(|(_, accepted)| accepted)) {
            tell(at, format!("{name} {flaw}"));
        }
        let here = fault.heal_called_us.filter(|_| mode.heal_called_us.is_some());
        tell(here, format!("{name} is healed"));
        tell(
            fault.healed.filter(|_| here.is_some()).map(|(_, served)| served),
            format!("{} serves a completion again", fault.component),
        );
    }
    let disturbances =
        [&mode.drifts, &mode.drifts_after, &mode.not_kept_up, &mode.way_broke, &mode.way_broke_after];
    for drift in disturbances.into_iter().flatten() {
        tell(Some(drift.seen_us), drift.what.clone());
    }
    for others in &mode.others {
        tell(Some(others.seen_us), format!("{} since this mode began", others.what));
    }
    tell(mode.hold_from_us, "judging starts".to_owned());
    tell(mode.hold_ended_us, "each judged probe has ended".to_owned());
    for figures in all {
        for (at, what) in route_story(figures) {
            story.push((at, what));
        }
    }
    if let (Some(cause), None) = (&run.interrupted, mode.ended_us)
        && mode.started_us.is_some()
    {
        story.push((run.last_us, format!("the run is cut short by {cause}")));
    }
    story.sort_by_key(|(at, _)| *at);
    story.into_iter().map(|(at, what)| TimelineEntry { at_ms: ms(at), what }).collect()
}

/// Changes of who serves a route, as the client saw them.
fn route_story(figures: &Figures) -> Vec<(u64, String)> {
    let mut story = Vec::new();
    let mut last: Option<String> = None;
    let mut probes: Vec<&Probe> = figures.all.clone();
    probes.sort_by_key(|probe| probe.record.ended_us);
    for probe in probes {
        let now = match &probe.record.outcome {
            Outcome::Ok => format!("answered by {}", probe.attribution.alias.as_deref().unwrap_or("unknown")),
            // 408 and 429 in turn are one and the same outage to the caller.
            Outcome::Error(class) if is_honest_error(class) => "getting an HTTP error".to_owned(),
            Outcome::Error(class) => format!("ending in {class}"),
            Outcome::Censored(_) => continue,
        };
        if last.as_ref() != Some(&now) {
            story.push((probe.record.ended_us, format!("{} is {now}", figures.planned.route)));
            last = Some(now);
        }
    }
    // A route that changes its server all the time would bury everything else.
    if story.len() > CHANGES_MAX {
        let more = story.len() - CHANGES_MAX;
        story.truncate(CHANGES_MAX);
        if let Some((_, what)) = story.last_mut() {
            what.push_str(&format!(" (and {more} more changes, not listed)"));
        }
    }
    story
}

const CHANGES_MAX: usize = 12;

/// Findings of one mode that are no failure.
pub(super) fn findings(mode: &Mode, all: &[Figures]) -> Vec<String> {
    let left_alone = |fault: &FaultFacts| {
        let why = fault.left_alone.as_ref()?;
        Some(format!(
            "{} of {}: the undo left alone what someone else has changed: {why}",
            fault.kind, fault.component
        ))
    };
    let mut findings: Vec<String> = mode.faults.iter().filter_map(left_alone).collect();
    findings.extend(mode.others.last().map(|others| {
        format!("{}: what is counted by number in the gateway's logs is not ours alone", others.what)
    }));
    findings.extend(mode.counts.iter().filter_map(never_arrived));
    findings.extend(mode.upstream_counts.iter().filter_map(not_agreed));
    findings.extend(mode.answered_by.as_ref().map(|(known_by, pods)| answered_by(*known_by, pods)));
    for figures in all {
        let route = &figures.planned.route;
        if figures.late > 0 {
            findings.push(format!(
                "{route}: {} sent late by this machine; latency counts from when it should have been",
                probes(figures.late, "was", "were")
            ));
        }
        if let Some(failback) = figures.failback.as_ref().filter(|failback| failback.flaps > 0) {
            findings.push(format!(
                "{route}: changes of the serving alias beyond the one needed while coming back: {}",
                failback.flaps
            ));
        }
        if let Some(failback) = figures.failback.as_ref().filter(|failback| failback.errors > 0) {
            findings
                .push(format!("{route}: {} while coming back", probes(failback.errors, "failed", "failed")));
        }
    }
    findings
}

/// What a log does not say. It decides nothing: lines get lost, and others use the gateway.
fn never_arrived(count: &LogCount) -> Option<String> {
    let LogCount { source, missing, ours, trouble, .. } = count;
    match trouble {
        Some(why) => Some(format!(
            "{source}: {why}; it shows {} of {ours} calls of ours",
            ours.saturating_sub(*missing)
        )),
        None if *missing > 0 => {
            Some(format!("{source}: of {ours} calls of ours {missing} never arrived in it"))
        }
        None => None,
    }
}

/// What an upstream's own count leaves open. It is everybody's, so more than clients got decides nothing.
fn not_agreed(count: &UpstreamCount) -> Option<String> {
    let UpstreamCount { component, source, answered, ours, got, trouble, .. } = count;
    let why = trouble.as_deref().unwrap_or("its last lines may not have come");
    match count.standing {
        CountStanding::Silent if *got > 0 => Some(format!("the {source} of {component} says nothing: {why}")),
        CountStanding::NotKnown => Some(format!(
            "the {source} of {component} shows {answered} of {got} replies that are said to be of it; whether the others are missing cannot be said: {why}"
        )),
        CountStanding::Beyond => Some(format!(
            "the {source} of {component} shows {answered} answers, more than the {ours} requests that we sent: others use it, or it was asked again"
        )),
        CountStanding::Agrees | CountStanding::Contradicts | CountStanding::Silent => None,
    }
}

/// Which pods of the gateway answered.
fn answered_by(known_by: KnownBy, pods: &BTreeMap<String, Option<u64>>) -> String {
    let names: Vec<String> = pods.iter().map(|(pod, calls)| pod_words(pod, *calls)).collect();
    let names = names.join(", ");
    match known_by {
        KnownBy::OnlyPod => format!("answered by {names}, the gateway's only pod"),
        KnownBy::PortForward => format!("answered by {names}, where the port-forward led"),
        KnownBy::AccessLog => format!(
            "model calls in the logs of the gateway's pods: {names}; these are counts, as a reply does not name its pod"
        ),
    }
}

fn pod_words(pod: &str, calls: Option<u64>) -> String {
    calls.map_or_else(|| pod.to_owned(), |calls| format!("{pod} ({calls})"))
}

fn probes(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 probe {one}") } else { format!("{count} probes {many}") }
}

/// A mode whose primary serves must not be slower than `normal` of the same run; where it is, that is
/// a finding and no failure: pooled probes cannot carry a test.
pub(super) fn shifted_median(scenarios: &[ScenarioResult]) -> Vec<String> {
    let Some(normal) = scenarios.iter().find(|scenario| scenario.faults.is_empty()) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for scenario in scenarios.iter().filter(|scenario| !scenario.faults.is_empty()) {
        for route in scenario.routes.iter().filter(|route| route.expected.as_ref() == Some(&route.model)) {
            let usual = normal.routes.iter().find(|usual| usual.route == route.route);
            let medians = usual.and_then(|usual| usual.latency_ms.p50).zip(route.latency_ms.p50);
            if let Some((usual, now)) = medians
                && (now - usual).abs() > SHIFT_MS
                && (now - usual).abs() > SHIFT_RATIO * usual
            {
                findings.push(format!(
                    "{}: the median of {} is {now:.0} ms, in {} it was {usual:.0} ms",
                    scenario.name, route.route, normal.name
                ));
            }
        }
    }
    findings
}

impl<'a> Figures<'a> {
    /// Judged probes that are bad by evidence.
    fn bad_probes(&self) -> Vec<&'a Probe> {
        self.judged.iter().copied().filter(|probe| self.goodness(probe) == Goodness::Bad).collect()
    }
}
