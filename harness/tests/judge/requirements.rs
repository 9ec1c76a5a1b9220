//! What the checks mean for the requirements, in a scenario and over the run.

use std::collections::BTreeMap;

use harness::journal::Event;
use harness::scenario::{Answer, ComponentState, Requirement, Scenario};
use harness::verdict::result::{
    GatewaySettings, MigrationLine, RequirementVerdict, RunRequirement, RunResult, Standing, Verdict,
};

use super::journal::{Story, shipped};
use super::{expect_verdict, requirement, scenario};

fn of_run<'a>(result: &'a RunResult, id: &str) -> &'a RunRequirement {
    result.requirements.iter().find(|requirement| requirement.id == id).unwrap()
}

#[test]
fn a_run_of_all_modes_checks_all_but_the_migration() {
    let result = Story::of(&[]).judge();
    let verdicts: BTreeMap<&str, RequirementVerdict> = result
        .requirements
        .iter()
        .map(|requirement| (requirement.id.as_str(), requirement.verdict))
        .collect();
    let wanted = [
        ("FR217", RequirementVerdict::Pass),
        ("FR222", RequirementVerdict::NotChecked),
        ("FR223", RequirementVerdict::Pass),
        ("NFR123", RequirementVerdict::Pass),
        ("NFR125", RequirementVerdict::Pass),
    ];
    assert_eq!(verdicts, BTreeMap::from(wanted));
    assert_eq!(of_run(&result, "FR217").scenarios, ["cloud-down", "cloud-gpu-down"]);
    assert!(of_run(&result, "FR217").detail.contains("minimax"));
    assert_eq!(of_run(&result, "NFR125").scenarios.len(), 5);
}

/// A story in which these facts of the migration were seen.
fn migrated(modes: &[&str], facts: &[(&str, Standing)]) -> RunResult {
    let mut lines = Story::of(modes).tell();
    let seen = facts.iter().map(|(requirement, standing)| MigrationLine {
        requirement: (*requirement).to_owned(),
        fact: "a fact".into(),
        standing: *standing,
        expected: "so".into(),
        found: "otherwise".into(),
        mend: None,
    });
    lines.push(20, Event::MigrationSeen { lines: seen.collect() });
    lines.sorted().judge()
}

#[test]
fn the_migration_is_judged_by_its_facts_and_moves_no_mode() {
    use RequirementVerdict::{Fail, Inconclusive, NotChecked, Pass};
    use Standing::{Fails, Holds, NotKnown};
    type Case<'c> = (&'c [(&'c str, Standing)], Verdict, RequirementVerdict, RequirementVerdict);
    let cases: [Case<'_>; 6] = [
        (&[("FR222", Holds), ("FR223", Holds)], Verdict::Pass, Pass, Pass),
        (&[("FR222", Holds), ("FR222", Fails), ("FR223", Holds)], Verdict::Fail, Fail, Pass),
        (&[("FR222", NotKnown), ("FR223", Holds)], Verdict::Inconclusive, Inconclusive, Pass),
        (&[("FR222", Fails), ("FR222", NotKnown)], Verdict::Fail, Fail, Pass),
        (&[("FR222", Holds), ("FR223", Fails)], Verdict::Fail, Pass, Fail),
        (&[("FR222", Holds), ("FR223", NotKnown)], Verdict::Inconclusive, Pass, Inconclusive),
    ];
    for (facts, verdict, fr222, fr223) in cases {
        let result = migrated(&[], facts);
        expect_verdict(&result, verdict, &format!("{facts:?}"));
        assert_eq!(of_run(&result, "FR222").verdict, fr222, "{facts:?}");
        assert_eq!(of_run(&result, "FR223").verdict, fr223, "{facts:?}");
        assert!(result.scenarios.iter().all(|scenario| scenario.verdict == Verdict::Pass), "{facts:?}");
        assert_eq!(result.reasons.is_empty(), verdict == Verdict::Pass, "{:?}", result.reasons);
        assert_eq!(result.migration.as_ref().map(Vec::len), Some(facts.len()));
    }
    // Who answers is no part of a configuration.
    let result = migrated(&["cloud-down"], &[("FR223", Holds)]);
    assert_eq!(of_run(&result, "FR223").verdict, NotChecked);
    assert_eq!(of_run(&result, "FR222").verdict, NotChecked);
    assert_eq!(of_run(&migrated(&["cloud-down"], &[("FR223", Fails)]), "FR223").verdict, Fail);
}

#[test]
fn what_the_gateway_told_is_in_the_result_and_judges_nothing() {
    let mut lines = Story::of(&["cloud-down"]).tell();
    let settings =
        GatewaySettings { num_retries: Some(2), timeout_s: Some(6000.0), ..GatewaySettings::default() };
    lines.push(20, Event::GatewayTold { settings: Some(Box::new(settings)), why: None });
    let result = lines.sorted().judge();
    expect_verdict(&result, Verdict::Pass, "a forecast is no failure");
    let outlook = result.outlook.unwrap();
    assert!(outlook.warnings.iter().any(|warning| warning.starts_with("NFR123 cannot hold")), "{outlook:?}");
    let mut lines = Story::of(&["cloud-down"]).tell();
    lines.push(20, Event::GatewayTold { settings: None, why: Some("no such page".into()) });
    let outlook = lines.sorted().judge().outlook.unwrap();
    assert_eq!((outlook.not_known.as_deref(), outlook.waits.len()), (Some("no such page"), 0));
}

#[test]
fn fewer_modes_say_nothing_of_all_modes() {
    let result = Story::of(&["cloud-down"]).judge();
    expect_verdict(&result, Verdict::Pass, "not-checked does not move the verdict");
    let modes = of_run(&result, "NFR125");
    assert_eq!(modes.verdict, RequirementVerdict::NotChecked);
    assert!(modes.detail.contains("gaming"), "{}", modes.detail);
    assert_eq!(of_run(&result, "FR223").verdict, RequirementVerdict::NotChecked);
}

fn kimi_gone(mut scenario: Scenario) -> Scenario {
    scenario.name = "kimi-gone".into();
    scenario.components =
        [("cloud".to_owned(), ComponentState::Gone(vec!["cloud-kimi".into()]))].into_iter().collect();
    scenario.expect.get_mut("agent").unwrap().answer = Answer::ServedBy("cloud-minimax".into());
    let coder = scenario.expect.get_mut("coder").unwrap();
    coder.answer = Answer::ServedBy("cloud-qwen3-coder".into());
    scenario
}

#[test]
fn one_model_gone_is_not_the_cloud_down() {
    let (mut scenarios, environment) = shipped(&[]);
    let place = scenarios.iter().position(|scenario| scenario.name == "cloud-down").unwrap();
    scenarios[place] = kimi_gone(scenarios[place].clone());
    let result = Story::with(&scenarios, environment.clone()).judge();
    expect_verdict(&result, Verdict::Pass, "kimi gone");
    assert_eq!(of_run(&result, "NFR125").verdict, RequirementVerdict::NotChecked, "cloud down did not run");
    let alone = Story::with(&scenarios[place..=place], environment).judge();
    let fr217 = of_run(&alone, "FR217");
    assert_eq!(fr217.verdict, RequirementVerdict::Pass);
    assert!(!fr217.detail.contains("not exercised"), "{}", fr217.detail);
}

#[test]
fn a_mode_that_does_not_speak_of_it_is_missing() {
    let (mut scenarios, environment) = shipped(&[]);
    for scenario in scenarios.iter_mut().filter(|scenario| scenario.name == "gaming") {
        scenario.requirements.retain(|requirement| *requirement != Requirement::NFR125);
    }
    let result = Story::with(&scenarios, environment).judge();
    assert_eq!(of_run(&result, "NFR125").verdict, RequirementVerdict::NotChecked);
}

#[test]
fn an_upstream_journal_that_contradicts_the_order_fails() {
    for (asked, verdict) in [
        (vec!["cloud-kimi", "cloud-minimax"], Verdict::Pass),
        (vec!["cloud-kimi", "cloud-kimi"], Verdict::Pass),
        (vec!["cloud-minimax", "cloud-kimi"], Verdict::Fail),
        (vec!["ollama-qwen"], Verdict::Fail),
    ] {
        let case = asked.join(", ");
        let story = Story::of(&["cloud-down"]).edit(move |slot, told| {
            if slot.judged("agent") && slot.nth == 7 {
                let before = asked.iter().enumerate();
                let before = before
                    .map(|(place, alias)| told.call(alias, Some(503), place as u64))
                    .collect::<Vec<_>>();
                told.calls.splice(0..0, before);
            }
        });
        let result = story.judge();
        expect_verdict(&result, verdict, &case);
        let fr217 = requirement(scenario(&result, "cloud-down"), "FR217");
        assert_eq!(fr217 == RequirementVerdict::Fail, verdict == Verdict::Fail, "{case}");
    }
}

#[test]
fn fail_beats_inconclusive_over_scenarios() {
    let story = Story::of(&["normal", "cloud-down"]).edit(|slot, told| {
        if slot.judged("agent") && slot.nth == 20 {
            match slot.scenario.as_str() {
                "normal" => told.unknown(),
                _ => told.failed("http-503"),
            }
        }
    });
    let result = story.judge();
    expect_verdict(&result, Verdict::Fail, "both");
    assert_eq!(scenario(&result, "normal").verdict, Verdict::Inconclusive);
    let nfr125 = of_run(&result, "NFR125");
    assert_eq!(nfr125.verdict, RequirementVerdict::Fail);
    assert_eq!(nfr125.scenarios, ["normal", "cloud-down"]);
}

#[test]
fn a_shifted_median_is_a_finding_only() {
    for (shift_us, found) in [(200_000, 0), (600_000, 1)] {
        let story = Story::of(&["normal", "gaming"]).edit(move |slot, told| {
            if slot.scenario == "gaming" && slot.judged("agent") {
                told.after(100_000 + shift_us);
            }
        });
        let result = story.judge();
        expect_verdict(&result, Verdict::Pass, "slower");
        let shifted = result.findings.iter().filter(|finding| finding.contains("the median")).count();
        assert_eq!(shifted, found, "{:?}", result.findings);
    }
}
