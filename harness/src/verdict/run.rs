//! The whole run: scenarios, requirements, and what the harness itself has to say.

use crate::analysis::{Mode, RunFacts, ms};
use crate::journal::Unimitated;
use crate::outlook::outlook;

use super::requirements;
use super::result::{
    Balance, Ended, GatewayIdentity, RequirementVerdict, RunRequirement, RunResult, ScenarioResult, Verdict,
};
use super::scenario::scenario;
use super::story;

/// Judge a run.
#[must_use]
pub fn judge(run: &RunFacts) -> RunResult {
    let modes: Vec<&Mode> = run.modes.iter().collect();
    let of_one = |a: &&Mode, b: &&Mode| a.step.scenario.name == b.step.scenario.name;
    let scenarios: Vec<ScenarioResult> = modes.chunk_by(of_one).map(|modes| scenario(run, modes)).collect();
    let requirements = requirements::of_run(run, &scenarios);
    let (ended, finished_at) = match &run.ended {
        Some((ended, at)) => (*ended, at.clone()),
        // No last line: the process died in the middle.
        None => (Ended::Aborted, story::wall_clock(run, run.last_us)),
    };
    // An intent may have been carried out before the end, even where no answer to the call was written.
    let changed = run.modes.iter().any(|mode| !mode.faults.is_empty());
    let restored = run.restored.as_ref().map_or(!changed, |(restored, _)| *restored);
    let verdict = verdict(&scenarios, &requirements, ended, restored);
    let reasons =
        if verdict == Verdict::Pass { Vec::new() } else { reasons(run, &scenarios, ended, restored) };
    let start = &run.start;
    let mut findings = run.found.clone();
    if let Some(gateway) = &run.gateway {
        findings.extend(gateway.unsupported.iter().map(Unimitated::told));
        findings.extend(gateway.adapted.clone());
    }
    findings.extend(start.plan.notes.clone());
    findings.extend(story::shifted_median(&scenarios));
    RunResult {
        schema: "harness/result/v1".to_owned(),
        run_id: start.run_id.clone(),
        environment: start.environment.name.clone(),
        started_at: start.started_at.clone(),
        finished_at,
        ended,
        gateway: GatewayIdentity {
            kind: start.gateway_kind.clone(),
            version: run
                .gateway
                .as_ref()
                .map_or_else(|| "unknown".to_owned(), |gateway| gateway.version.clone()),
            config: start.gateway_config.clone(),
        },
        verdict,
        restored,
        restore_with: (!restored).then(|| start.environment.restore_command()),
        reasons,
        requirements,
        scenarios,
        outlook: run.told.clone().map(|told| outlook(told, &start.environment)),
        migration: run.migration.clone(),
        findings,
        made_with: made_with(run),
        balance: balance(run),
    }
}

/// What the journals of the upstreams say was served, alias by alias.
fn balance(run: &RunFacts) -> Vec<Balance> {
    let line = |(alias, own): (&String, &crate::analysis::Balance)| Balance {
        alias: alias.clone(),
        source: "upstream journal".to_owned(),
        served: own.served,
        got: own.got,
        missing: own.missing,
        explained: own.explained.iter().map(|(cause, count)| (cause.word().to_owned(), *count)).collect(),
        unexplained: own.unexplained.len() as u64,
    };
    run.balance.iter().map(line).collect()
}

fn verdict(
    scenarios: &[ScenarioResult],
    requirements: &[RunRequirement],
    ended: Ended,
    restored: bool,
) -> Verdict {
    let worst = scenarios.iter().map(|scenario| scenario.verdict).max().unwrap_or(Verdict::Inconclusive);
    let of = |verdict| requirements.iter().any(|requirement| requirement.verdict == verdict);
    if worst == Verdict::Fail || of(RequirementVerdict::Fail) {
        Verdict::Fail
    } else if worst == Verdict::Inconclusive
        || of(RequirementVerdict::Inconclusive)
        || ended != Ended::Completed
        || !restored
    {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    }
}

fn reasons(run: &RunFacts, scenarios: &[ScenarioResult], ended: Ended, restored: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    if !restored {
        let left = run.restored.as_ref().map_or_else(|| unrestored(run), |(_, left)| left.join("; "));
        reasons.push(format!("not restored: {left}"));
    }
    let cause = [&run.refused, &run.aborted, &run.interrupted].into_iter().flatten().next();
    match (ended, cause) {
        (Ended::Completed, _) => {}
        (Ended::Refused, cause) => {
            let touched = if run.earlier_undone {
                "nothing was touched but what an earlier run had left, which was undone"
            } else {
                "nothing was touched"
            };
            reasons.push(format!("refused, {touched}: {}", cause.map_or("no reason", String::as_str)));
        }
        (Ended::Interrupted, cause) => {
            reasons.push(format!("cut short by {}", cause.map_or("something unknown", String::as_str)));
        }
        (Ended::Aborted, cause) => reasons.push(format!(
            "the harness could not go on: {}",
            cause.map_or("its journal has no end", String::as_str)
        )),
    }
    for verdict in [Verdict::Fail, Verdict::Inconclusive] {
        for scenario in scenarios.iter().filter(|scenario| scenario.verdict == verdict) {
            reasons.extend(scenario.reasons.iter().map(|reason| format!("{}: {reason}", scenario.name)));
        }
        reasons.extend(requirements::of_migration(run, verdict));
    }
    if reasons.is_empty() {
        // A verdict that is not pass always says why; this line is the last resort, not the rule.
        reasons.push("no scenario was judged".to_owned());
    }
    reasons
}

/// What a run that ended without a word has left.
fn unrestored(run: &RunFacts) -> String {
    if run.start.environment.is_local() {
        return "the run ended without restoring; the world was its own and ended with it".to_owned();
    }
    // The fault that was made last is undone first.
    let commands: Vec<&str> = run.undo_commands.values().rev().flatten().map(String::as_str).collect();
    format!("the run ended without restoring; to undo what it may have left: {}", commands.join("; "))
}

fn made_with(run: &RunFacts) -> Vec<(String, String)> {
    let start = &run.start;
    let mut made = vec![("harness".to_owned(), start.program.clone())];
    made.extend(start.made_with.clone());
    made.push(("seed".to_owned(), start.plan.seed.to_string()));
    for mode in run.modes.iter().filter(|mode| mode.step.injection.is_none_or(|number| number == 1)) {
        let source = &mode.step.scenario.source;
        made.push((
            format!("scenario {}", mode.step.scenario.name),
            format!("{} (sha256 {})", source.name, short(&source.sha256)),
        ));
    }
    let source = &start.environment.source;
    made.push(("environment".to_owned(), format!("{} (sha256 {})", source.name, short(&source.sha256))));
    made.push(("took".to_owned(), format!("{:.1} s", ms(run.last_us) / 1000.0)));
    made
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
