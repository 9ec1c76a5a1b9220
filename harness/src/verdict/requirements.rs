//! From checks to requirements: in one scenario, and over the run.

use std::collections::BTreeSet;

use crate::analysis::{Mode, RunFacts};
use crate::scenario::{Answer, ComponentState, Requirement};

use crate::statistics::{CONFIDENCE, at_least};

use super::checks::{Checks, Objection};
use super::result::{
    FaultResult, MigrationLine, RequirementVerdict, RouteResult, RunRequirement, ScenarioRequirement,
    ScenarioResult, Standing, Verdict,
};

const ALL: [Requirement; 5] =
    [Requirement::FR217, Requirement::FR222, Requirement::FR223, Requirement::NFR123, Requirement::NFR125];

/// The components whose states make up the five operating modes.
const MODES: [(&str, &[&str]); 5] = [
    ("normal", &[]),
    ("cloud down", &["cloud"]),
    ("gaming", &["vllm"]),
    ("cloud + GPU down", &["cloud", "vllm"]),
    ("full outage", &["cloud", "ollama", "vllm"]),
];

/// The requirements that a scenario file names, and those that a check of it spoke against.
pub(super) fn of_scenario(mode: &Mode, checks: &Checks) -> Vec<ScenarioRequirement> {
    let mut named: BTreeSet<Requirement> = mode.step.scenario.requirements.iter().copied().collect();
    if checks.void.is_empty() {
        let objections = checks.failed.iter().chain(&checks.open);
        named.extend(objections.flat_map(|objection| objection.requirements.iter().copied()));
    }
    ALL.into_iter().filter(|id| named.contains(id)).map(|id| one(id, mode, checks)).collect()
}

fn one(id: Requirement, mode: &Mode, checks: &Checks) -> ScenarioRequirement {
    let against = |objections: &[Objection]| {
        let texts = objections.iter().filter(|objection| objection.requirements.contains(&id));
        texts.map(|objection| objection.text.clone()).collect::<Vec<_>>()
    };
    let (failed, open) = (against(&checks.failed), against(&checks.open));
    let seen: Vec<String> =
        checks.looked_at.iter().filter(|(looked, _)| *looked == id).map(|(_, text)| text.clone()).collect();
    let (verdict, detail) = if !checks.void.is_empty() {
        (RequirementVerdict::Inconclusive, checks.void.join("; "))
    } else if !failed.is_empty() {
        (RequirementVerdict::Fail, failed.join("; "))
    } else if !open.is_empty() {
        (RequirementVerdict::Inconclusive, open.join("; "))
    } else if seen.is_empty() {
        (RequirementVerdict::NotChecked, "nothing in this mode could be checked for it".to_owned())
    } else {
        (RequirementVerdict::Pass, seen.join("; "))
    };
    let detail = match (id, verdict, not_exercised(mode)) {
        (Requirement::NFR125, RequirementVerdict::Pass, Some(note)) => format!("{detail}; {note}"),
        (Requirement::FR217, RequirementVerdict::Pass, _) => format!("{detail}{}", skipped_steps(mode)),
        _ => detail,
    };
    ScenarioRequirement { id: id.to_string(), verdict, detail }
}

/// Recovery that the scenario states and this run did not come to, since the next mode inherits the fault.
fn not_exercised(mode: &Mode) -> Option<String> {
    let stated = !mode.step.scenario.recover.is_empty() && !mode.step.scenario.components.is_empty();
    (stated && mode.step.heal.is_empty())
        .then(|| "recovery not checked here: the next mode keeps the fault".to_owned())
}

/// Hops of the chain that were down together with the primary, and so were not exercised.
fn skipped_steps(mode: &Mode) -> String {
    let expected: Vec<&String> = mode
        .step
        .scenario
        .expect
        .values()
        .filter_map(|expectation| match &expectation.answer {
            Answer::ServedBy(alias) => Some(alias),
            Answer::Error => None,
        })
        .collect();
    if expected.iter().any(|alias| *alias == "cloud-minimax") {
        String::new()
    } else {
        " (the step to cloud-minimax was not exercised: it went down with cloud-kimi)".to_owned()
    }
}

/// All requirements over the whole run.
pub(super) fn of_run(run: &RunFacts, scenarios: &[ScenarioResult]) -> Vec<RunRequirement> {
    ALL.into_iter()
        .map(|id| {
            let parts: Vec<(&str, &ScenarioRequirement)> = scenarios
                .iter()
                .flat_map(|scenario| scenario.requirements.iter().map(|part| (scenario.name.as_str(), part)))
                .filter(|(_, part)| {
                    part.id == id.to_string() && part.verdict != RequirementVerdict::NotChecked
                })
                .collect();
            let (verdict, detail) = with_migration(id, run, fold(id, run, &parts, scenarios));
            let scenarios = parts.iter().map(|(name, _)| (*name).to_owned()).collect();
            RunRequirement { id: id.to_string(), verdict, scenarios, detail }
        })
        .collect()
}

/// The facts of the migration that speak of a requirement; none where nobody looked.
fn facts(id: Requirement, run: &RunFacts, standing: Standing) -> Vec<&MigrationLine> {
    let lines = run.migration.iter().flatten();
    lines.filter(|line| line.requirement == id.to_string() && line.standing == standing).collect()
}

/// What the modes say of a requirement, with what the state of the migration says of it: the worse of both. Facts alone
/// show FR222, which is about nothing else; FR223 is shown by who answers.
fn with_migration(
    id: Requirement,
    run: &RunFacts,
    (verdict, detail): (RequirementVerdict, String),
) -> (RequirementVerdict, String) {
    let of = |standing| facts(id, run, standing);
    let (fails, open, holds) = (of(Standing::Fails), of(Standing::NotKnown), of(Standing::Holds));
    let all = fails.len() + open.len() + holds.len();
    if all == 0 {
        return (verdict, detail);
    }
    let told = |lines: &[&MigrationLine], word: &str| {
        let first = lines.first().map(|line| format!("{}: {}", line.fact, line.found)).unwrap_or_default();
        let more = if lines.len() > 1 { format!(" and {} more", lines.len() - 1) } else { String::new() };
        format!("of the migration {} of {all} facts {word}: {first}{more}", lines.len())
    };
    let facts = if !fails.is_empty() {
        (RequirementVerdict::Fail, told(&fails, "do not hold"))
    } else if !open.is_empty() {
        (RequirementVerdict::Inconclusive, told(&open, "are not known"))
    } else {
        (RequirementVerdict::Pass, format!("all {all} facts of the migration hold"))
    };
    match (verdict, facts.0) {
        (RequirementVerdict::NotChecked, RequirementVerdict::Pass) if id != Requirement::FR222 => {
            (RequirementVerdict::NotChecked, format!("{}, but {detail}", facts.1))
        }
        (RequirementVerdict::NotChecked, _) => facts,
        (RequirementVerdict::Fail, RequirementVerdict::Pass)
        | (RequirementVerdict::Inconclusive, RequirementVerdict::Pass) => (verdict, detail),
        (RequirementVerdict::Fail, _) => (verdict, format!("{detail}; {}", facts.1)),
        (_, RequirementVerdict::Fail) => facts,
        (RequirementVerdict::Inconclusive, _) => (verdict, format!("{detail}; {}", facts.1)),
        (RequirementVerdict::Pass, RequirementVerdict::Pass) => (verdict, format!("{detail}; {}", facts.1)),
        (RequirementVerdict::Pass, _) => facts,
    }
}

/// Why the migration keeps a run from passing: the facts that do not hold, or those that are not known.
pub(super) fn of_migration(run: &RunFacts, verdict: Verdict) -> Vec<String> {
    let (standing, word) = match verdict {
        Verdict::Fail => (Standing::Fails, "does not hold"),
        Verdict::Inconclusive => (Standing::NotKnown, "is not known"),
        Verdict::Pass => return Vec::new(),
    };
    let lines = run.migration.iter().flatten().filter(|line| line.standing == standing);
    lines.map(|line| format!("{}: {} {word}: {}", line.requirement, line.fact, line.found)).collect()
}

fn fold(
    id: Requirement,
    run: &RunFacts,
    parts: &[(&str, &ScenarioRequirement)],
    scenarios: &[ScenarioResult],
) -> (RequirementVerdict, String) {
    for verdict in [RequirementVerdict::Fail, RequirementVerdict::Inconclusive] {
        let these: Vec<String> = parts
            .iter()
            .filter(|(_, part)| part.verdict == verdict)
            // The first objection of each mode; the mode's own section has them all.
            .map(|(name, part)| format!("{name}: {}", part.detail.split("; ").next().unwrap_or_default()))
            .collect();
        if !these.is_empty() {
            let readings = (id == Requirement::NFR123).then(|| readings(verdict, parts, scenarios));
            return (
                verdict,
                these.into_iter().chain(readings.into_iter().flatten()).collect::<Vec<_>>().join("; "),
            );
        }
    }
    if parts.is_empty() {
        let why = match id {
            Requirement::FR222 => "the migration state is no part of this run",
            _ => "no scenario of this run looked at it",
        };
        return (RequirementVerdict::NotChecked, why.to_owned());
    }
    if id == Requirement::NFR125
        && let Some(missing) = missing_modes(run, parts)
    {
        return (
            RequirementVerdict::NotChecked,
            format!("it speaks of all five modes; what ran passed, but not in this run: {missing}"),
        );
    }
    let detail = match id {
        Requirement::NFR123 => worst_failover(parts, scenarios),
        Requirement::NFR125 => modes_behaved(scenarios),
        Requirement::FR217 | Requirement::FR222 | Requirement::FR223 => by_detail(parts),
    };
    (RequirementVerdict::Pass, detail)
}

/// Each evidence once, with the modes that gave it.
fn by_detail(parts: &[(&str, &ScenarioRequirement)]) -> String {
    let mut grouped: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, part) in parts {
        match grouped.iter_mut().find(|(detail, _)| *detail == part.detail) {
            Some((_, names)) => names.push(name),
            None => grouped.push((&part.detail, vec![name])),
        }
    }
    let lines = grouped.iter().map(|(detail, names)| format!("{detail} ({})", names.join(", ")));
    lines.collect::<Vec<_>>().join("; ")
}

/// The worst figure of all routes that had to fail over.
fn worst_failover(parts: &[(&str, &ScenarioRequirement)], scenarios: &[ScenarioResult]) -> String {
    let looked = scenarios.iter().filter(|scenario| parts.iter().any(|(name, _)| *name == scenario.name));
    let all = looked.flat_map(|scenario| scenario.routes.iter().map(move |route| (scenario, route)));
    let worst = all
        .filter_map(|(scenario, route)| {
            let failover = route.failover.as_ref()?;
            Some((failover.worst_ms?, failover.limit_ms, scenario, route))
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    worst.map_or_else(String::new, |(worst, limit, scenario, route)| {
        format!(
            "both readings hold; the longest wait was {:.2} s of {:.0} s (route {} in {}){}",
            worst / 1000.0,
            limit / 1000.0,
            route.route,
            scenario.name,
            measured(scenario, route)
        )
    })
}

/// Which reading stands how, where the requirement does not hold or is open: of the first such scenario.
fn readings(
    verdict: RequirementVerdict,
    parts: &[(&str, &ScenarioRequirement)],
    scenarios: &[ScenarioResult],
) -> Option<String> {
    let (name, _) = parts.iter().find(|(_, part)| part.verdict == verdict)?;
    let scenario = scenarios.iter().find(|scenario| scenario.name == *name)?;
    let stands = |verdict| match verdict {
        Verdict::Pass => "holds",
        Verdict::Inconclusive => "is open",
        Verdict::Fail => "fails",
    };
    let failovers = scenario.routes.iter().filter_map(|route| Some((route, route.failover.as_ref()?)));
    let (route, failover) =
        failovers.max_by_key(|(_, failover)| failover.request_verdict.max(failover.service_verdict))?;
    Some(format!(
        "on {} in {name} the request reading {} and the service reading {}{}",
        route.route,
        stands(failover.request_verdict),
        stands(failover.service_verdict),
        measured(scenario, route)
    ))
}

/// What a figure of a failover rests on: how much of it is the model's own time, how exactly the beginning of the fault is
/// known, and how many injections there were.
fn measured(scenario: &ScenarioResult, route: &RouteResult) -> String {
    let Some(failover) = &route.failover else { return String::new() };
    let mut text = String::new();
    let own = route.control_ms.as_ref().and_then(|control| control.p50);
    if let (Some(worst), Some(own)) = (failover.worst_ms, own) {
        text.push_str(&format!(
            "; of that wait {:.2} s are what {} takes by itself (control probes) and {:.2} s the failover",
            own.min(worst) / 1000.0,
            route.expected.as_deref().unwrap_or("the model"),
            (worst - own).max(0.0) / 1000.0
        ));
    }
    let widths =
        scenario.faults.iter().filter(|fault| !fault.inherited).filter_map(FaultResult::effect_width_ms);
    if let Some(width) = widths.max_by(f64::total_cmp) {
        text.push_str(&format!("; when the fault began is known to within {width:.0} ms"));
    }
    let well = u64::from(failover.request_verdict.max(failover.service_verdict) == Verdict::Pass);
    let (well, n, percent) = match &failover.support {
        Some(support) => (support.well, failover.injections, support.at_least_percent),
        None => (well, 1, (at_least(well, 1, CONFIDENCE) * 100.0).floor()),
    };
    let noun = if n == 1 { "injection" } else { "injections" };
    text.push_str(&format!(
        "; {well} of {n} {noun} went well, so at 95 % confidence at least {percent} % of such outages do"
    ));
    text
}

/// Who came back, and where nobody looked.
fn modes_behaved(scenarios: &[ScenarioResult]) -> String {
    let (back, kept): (Vec<&ScenarioResult>, Vec<&ScenarioResult>) =
        scenarios.iter().filter(|scenario| !scenario.faults.is_empty()).partition(|scenario| {
            let mut back =
                scenario.routes.iter().filter_map(|route| route.failback.as_ref()?.verdict).peekable();
            back.peek().is_some() && back.all(|verdict| verdict == Verdict::Pass)
        });
    let names = |list: &[&ScenarioResult]| {
        list.iter().map(|scenario| scenario.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut text =
        "in all five modes every reply came from the expected model, or was the expected error".to_owned();
    if !back.is_empty() {
        text.push_str(&format!("; the routes came back after {}", names(&back)));
    }
    if !kept.is_empty() {
        text.push_str(&format!(
            "; no recovery to check after {}, whose faults the next mode keeps",
            names(&kept)
        ));
    }
    text
}

/// Modes of the table that none of these parts stands for. A component of which only a model is gone is
/// not down.
fn missing_modes(run: &RunFacts, parts: &[(&str, &ScenarioRequirement)]) -> Option<String> {
    let ran: BTreeSet<Vec<&str>> = run
        .modes
        .iter()
        .filter(|mode| parts.iter().any(|(name, _)| *name == mode.step.scenario.name))
        .filter(|mode| {
            // "Behaves" speaks of every route.
            run.start.environment.routes.keys().all(|route| mode.step.scenario.expect.contains_key(route))
        })
        .filter(|mode| mode.step.scenario.components.values().all(|state| *state == ComponentState::Down))
        .map(|mode| mode.step.scenario.components.keys().map(String::as_str).collect())
        .collect();
    let missing = MODES.iter().filter(|(_, components)| !ran.contains(*components));
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}
