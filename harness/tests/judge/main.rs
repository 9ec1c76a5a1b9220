//! From files to a plan, and from a journal to a verdict: cases by hand, and laws.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod compare;
mod counted;
mod drift;
mod evidence;
mod failover;
mod faults;
mod imitation;
mod injections;
mod journal;
mod laws;
mod plan;
mod plan_laws;
mod recovery;
mod requirements;
mod served;
mod streams;
mod turns;

use harness::verdict::result::{RequirementVerdict, RouteResult, RunResult, ScenarioResult, Verdict};

/// The part of a result that is about one scenario.
fn scenario<'a>(result: &'a RunResult, name: &str) -> &'a ScenarioResult {
    result.scenarios.iter().find(|scenario| scenario.name == name).unwrap()
}

/// The part that is about one route of it.
fn route<'a>(result: &'a RunResult, scenario_name: &str, name: &str) -> &'a RouteResult {
    scenario(result, scenario_name).routes.iter().find(|route| route.route == name).unwrap()
}

/// What one requirement came to, in one scenario.
fn requirement(scenario: &ScenarioResult, id: &str) -> RequirementVerdict {
    scenario.requirements.iter().find(|requirement| requirement.id == id).unwrap().verdict
}

/// The verdict of the only scenario of a run, which is also the run's; else its reasons are shown.
fn expect_verdict(result: &RunResult, wanted: Verdict, case: &str) {
    assert_eq!(result.verdict, wanted, "{case}: {:#?}", result.reasons);
    assert_eq!(result.reasons.is_empty(), wanted == Verdict::Pass, "{case}: {:#?}", result.reasons);
}
