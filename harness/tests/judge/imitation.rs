//! A setting that the mock gateway does not imitate leaves open what depends on it, and nothing else.

use harness::journal::{Event, GatewayStarted, Unimitated};
use harness::verdict::result::{RequirementVerdict, RunResult, Verdict};

use crate::journal::Story;

fn setting(routes: Option<&[&str]>) -> Unimitated {
    let routes = routes.map(|routes| routes.iter().map(|route| (*route).to_owned()).collect());
    Unimitated { setting: "router_settings.odd".into(), routes }
}

/// A story judged as if its gateway left out these settings.
fn judged(story: &Story, unsupported: Vec<Unimitated>) -> RunResult {
    let gateway = GatewayStarted {
        version: "1".into(),
        unsupported,
        adapted: vec![],
        names: Default::default(),
        bases: Default::default(),
        timeouts: Default::default(),
    };
    let lines = story.tell().without(|event| matches!(event, Event::GatewayStarted(_)));
    lines.with(10, Event::GatewayStarted(gateway)).judge()
}

fn requirement(result: &RunResult, id: &str) -> RequirementVerdict {
    result.requirements.iter().find(|requirement| requirement.id == id).map(|found| found.verdict).unwrap()
}

#[test]
fn only_the_routes_that_it_bears_on_are_left_open() {
    let result = judged(&Story::of(&[]), vec![setting(Some(&["coder"]))]);
    assert_eq!(result.verdict, Verdict::Inconclusive);
    assert_eq!(requirement(&result, "FR217"), RequirementVerdict::Pass, "it is about the agent");
    assert_eq!(requirement(&result, "FR223"), RequirementVerdict::Inconclusive, "it is about the coder");
    let text = result.reasons.join("\n");
    assert!(text.contains("coder: the mock gateway does not imitate `router_settings.odd`"), "{text}");
    assert!(!text.contains("agent: the mock gateway"), "{text}");
    let finding =
        "the mock gateway does not imitate `router_settings.odd`: it may change the answers of coder";
    assert!(result.findings.iter().any(|found| found == finding), "{:?}", result.findings);
}

#[test]
fn one_that_bears_on_nothing_is_told_and_changes_no_verdict() {
    let result = judged(&Story::of(&[]), vec![setting(Some(&[]))]);
    assert_eq!(result.verdict, Verdict::Pass, "{:?}", result.reasons);
    assert!(result.findings.iter().any(|found| found.contains("router_settings.odd")));
}

#[test]
fn one_that_may_change_anything_leaves_all_open_and_no_reading_says_pass() {
    let result = judged(&Story::of(&[]), vec![setting(None), setting(Some(&["agent"]))]);
    for scenario in &result.scenarios {
        assert_eq!(scenario.verdict, Verdict::Inconclusive, "{}", scenario.name);
        for failover in scenario.routes.iter().filter_map(|route| route.failover.as_ref()) {
            assert_eq!(failover.request_verdict, Verdict::Inconclusive);
            assert_eq!(failover.service_verdict, Verdict::Inconclusive);
        }
    }
    assert!(result.reasons.iter().any(|reason| reason.contains("and 1 more such settings")));
}

#[test]
fn what_fails_on_an_imitation_that_is_not_one_is_no_failure_either() {
    let story = Story::of(&["cloud-down"]).edit(|slot, told| {
        if slot.judged("agent") {
            told.served_by("ollama-qwen");
        }
    });
    assert_eq!(story.judge().verdict, Verdict::Fail);
    assert_eq!(judged(&story, vec![setting(Some(&["agent"]))]).verdict, Verdict::Inconclusive);
    assert_eq!(judged(&story, vec![setting(Some(&["coder"]))]).verdict, Verdict::Fail);
}

#[test]
fn a_journal_of_format_1_has_the_path_alone() {
    let read: Unimitated = serde_json::from_str("\"router_settings.odd\"").unwrap();
    assert_eq!(read, setting(None));
    let written = serde_json::to_string(&setting(Some(&["agent"]))).unwrap();
    assert_eq!(serde_json::from_str::<Unimitated>(&written).unwrap(), setting(Some(&["agent"])));
}
