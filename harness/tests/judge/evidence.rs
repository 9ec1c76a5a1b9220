//! What must have been seen before anything passes, and what nobody may be blamed for.

use harness::environment::FaultKind;
use harness::journal::{Event, Outcome};
use harness::plan::RECOVERY_WITHIN;
use harness::scenario::{Answer, Recovery, Requirement};
use harness::units::Period;
use harness::verdict::result::{RequirementVerdict, RunRequirement, RunResult, ScenarioResult, Verdict};

use super::journal::{Lines, Part, SECOND, Slot, Story, Told, shipped};
use super::{expect_verdict, requirement, route, scenario};

fn of_run<'a>(result: &'a RunResult, id: &str) -> &'a RunRequirement {
    result.requirements.iter().find(|requirement| requirement.id == id).unwrap()
}

fn detail<'a>(scenario: &'a ScenarioResult, id: &str) -> &'a str {
    &scenario.requirements.iter().find(|requirement| requirement.id == id).unwrap().detail
}

/// All five modes, none of which states what must be after its heal.
fn unstated() -> Story {
    let (mut scenarios, environment) = shipped(&[]);
    scenarios.iter_mut().for_each(|scenario| scenario.recover.clear());
    Story::with(&scenarios, environment)
}

#[test]
fn a_heal_asks_for_recovery_even_where_the_scenario_states_none() {
    let story = unstated();
    for step in &story.plan.steps {
        for route in &step.routes {
            let usual = Recovery { served_by: route.model.clone(), within: RECOVERY_WITHIN };
            let wanted = (!step.heal.is_empty()).then_some(usual);
            assert_eq!(route.recover, wanted, "{} of {}", route.route, step.scenario.name);
        }
    }
    assert_eq!(RECOVERY_WITHIN, Period::from_secs(60));

    let result = story.judge();
    expect_verdict(&result, Verdict::Pass, "back in time");
    assert_eq!(of_run(&result, "NFR125").verdict, RequirementVerdict::Pass);
    for name in ["cloud-down", "full-outage"] {
        for of in ["agent", "coder"] {
            let seen = route(&result, name, of).failback.as_ref().unwrap();
            assert_eq!((seen.limit_ms, seen.verdict), (Some(60_000.0), Some(Verdict::Pass)), "{of}, {name}");
        }
    }
}

#[test]
fn a_heal_after_which_nobody_asked_does_not_pass() {
    let lines = unstated().tell();
    for name in ["cloud-down", "full-outage"] {
        let over = lines.when(|event| matches!(event, Event::HoldEnded { scenario } if scenario == name));
        let blind = lines.clone().without(
            |event| matches!(event, Event::ProbeEnded(probe) if probe.scenario == name && probe.intended_us > over),
        );
        assert!(blind.0.len() < lines.0.len());
        let result = blind.judge();
        expect_verdict(&result, Verdict::Inconclusive, name);
        for seen in &result.scenarios {
            assert_eq!(seen.verdict == Verdict::Pass, seen.name != name, "{}: {:?}", seen.name, seen.reasons);
        }
        assert_eq!(of_run(&result, "NFR125").verdict, RequirementVerdict::Inconclusive, "{name}");
        for of in ["agent", "coder"] {
            let reasons = &scenario(&result, name).reasons;
            assert!(reasons.iter().any(|reason| reason.starts_with(of)), "{of}: {reasons:?}");
        }
    }
}

/// The route that fails over is not looked at: that the others did well says nothing of it.
#[test]
fn a_mode_that_leaves_a_route_out_is_missing() {
    let left_out = ["cloud-down", "cloud-gpu-down"];
    let (mut scenarios, environment) = shipped(&[]);
    for scenario in scenarios.iter_mut().filter(|scenario| left_out.contains(&scenario.name.as_str())) {
        scenario.expect.remove("agent");
        scenario.recover.remove("agent");
    }
    let result = Story::with(&scenarios, environment).judge();
    expect_verdict(&result, Verdict::Pass, "what is looked at is well");
    assert_eq!(result.scenarios.len(), 5);
    for scenario in &result.scenarios {
        assert_eq!(scenario.verdict, Verdict::Pass, "{}", scenario.name);
    }
    let modes = of_run(&result, "NFR125");
    assert_eq!(modes.verdict, RequirementVerdict::NotChecked, "{}", modes.detail);
    assert!(modes.detail.ends_with(": cloud down, cloud + GPU down"), "{}", modes.detail);
}

/// Cloud-down, where vLLM is expected and answers, with this chain behind the agent's own model.
fn vllm_answers(fallbacks: &[&str]) -> RunResult {
    let (scenarios, mut environment) = shipped(&["cloud-down"]);
    environment.routes.get_mut("agent").unwrap().fallbacks =
        fallbacks.iter().map(|alias| (*alias).to_owned()).collect();
    let story = Story::with(&scenarios, environment).edit(|slot, told| {
        if slot.route == "agent" && matches!(slot.part, Part::InFlight | Part::Judged | Part::Drain) {
            told.served_by("vllm-qwen");
        }
    });
    story.judge()
}

#[test]
fn an_expectation_that_passes_over_who_is_up_is_not_the_order() {
    let result = vllm_answers(&["cloud-minimax", "vllm-qwen", "ollama-qwen"]);
    expect_verdict(&result, Verdict::Pass, "in order");

    let result = vllm_answers(&["cloud-minimax", "ollama-qwen", "vllm-qwen"]);
    expect_verdict(&result, Verdict::Fail, "ollama comes first");
    let seen = scenario(&result, "cloud-down");
    assert_eq!(requirement(seen, "FR217"), RequirementVerdict::Fail);
    let said = "agent: vllm-qwen answered although ollama-qwen is up and comes before it in the order";
    assert_eq!((seen.reasons.as_slice(), detail(seen, "FR217")), (&[said.to_owned()][..], said));
    assert_eq!(requirement(seen, "NFR123"), RequirementVerdict::Pass, "it was in time all the same");
    assert_eq!(of_run(&result, "FR217").verdict, RequirementVerdict::Fail);
}

/// One model of a component that serves on: the next in the chain is up, and was passed over.
#[test]
fn a_model_of_the_same_component_is_passed_over_just_as_badly() {
    let story = Story::changed("cloud-down", |scenario| {
        let gone = harness::scenario::ComponentState::Gone(vec!["cloud-kimi".into()]);
        scenario.components = [("cloud".to_owned(), gone)].into_iter().collect();
        scenario.expect.get_mut("coder").unwrap().answer = Answer::ServedBy("cloud-qwen3-coder".into());
    });
    let result = story
        .edit(|slot, told| {
            if slot.route == "agent" && matches!(slot.part, Part::InFlight | Part::Judged | Part::Drain) {
                told.served_by("vllm-qwen");
            }
        })
        .judge();
    expect_verdict(&result, Verdict::Fail, "minimax is up");
    let seen = scenario(&result, "cloud-down");
    assert_eq!(requirement(seen, "FR217"), RequirementVerdict::Fail);
    assert!(detail(seen, "FR217").contains("although cloud-minimax is up"), "{}", detail(seen, "FR217"));
}

/// The file expects vllm in the normal mode; kimi answers, as the order of the chain says.
#[test]
fn a_wrong_expectation_fails_the_mode_and_not_the_order() {
    let story = Story::changed("normal", |scenario| {
        scenario.requirements = vec![Requirement::FR217, Requirement::NFR125];
        scenario.expect.get_mut("agent").unwrap().answer = Answer::ServedBy("vllm-qwen".into());
    });
    let kimi = |slot: &Slot, told: &mut Told| {
        if slot.route == "agent" {
            told.served_by("cloud-kimi");
        }
    };
    let result = story.edit(kimi).judge();
    expect_verdict(&result, Verdict::Fail, "kimi answered");
    let seen = scenario(&result, "normal");
    assert_eq!(requirement(seen, "NFR125"), RequirementVerdict::Fail);
    assert!(detail(seen, "NFR125").contains("cloud-kimi"), "{}", detail(seen, "NFR125"));
    assert_eq!(requirement(seen, "FR217"), RequirementVerdict::NotChecked);
}

/// Cloud-down whose routes must be back within `limit` s, watched for `seconds` s after the heal.
fn watched(limit: u64, seconds: f64, edit: impl Fn(&Slot, &mut Told) + 'static) -> Lines {
    let mut story = Story::changed("cloud-down", |scenario| {
        scenario.recover.values_mut().for_each(|recovery| recovery.within = Period::from_secs(limit));
    });
    story.recovery_us = (seconds * SECOND as f64) as u64;
    let story = story.edit(move |slot, told| {
        if slot.recovering("agent") {
            edit(slot, told);
        }
    });
    story.tell()
}

fn agent_is_back(lines: &Lines, wanted: Verdict, case: &str) {
    let result = lines.judge();
    expect_verdict(&result, wanted, case);
    let agent = route(&result, "cloud-down", "agent").failback.as_ref().unwrap();
    assert_eq!(agent.verdict, Some(wanted), "{case}");
    let nfr125 = requirement(scenario(&result, "cloud-down"), "NFR125");
    assert_eq!(nfr125 == RequirementVerdict::Fail, wanted == Verdict::Fail, "{case}");
    assert_eq!(nfr125 == RequirementVerdict::Pass, wanted == Verdict::Pass, "{case}");
}

/// The watch went on beyond the limit and saw nothing bad, only too little.
#[test]
fn a_watch_that_ended_early_is_no_missing_recovery() {
    agent_is_back(&watched(3, 7.0, |_, _| {}), Verdict::Pass, "long enough");
    agent_is_back(&watched(3, 4.5, |_, _| {}), Verdict::Inconclusive, "4.5 s are no steady run");

    let all = watched(10, 13.0, |_, _| {});
    agent_is_back(&all, Verdict::Pass, "enough");
    let over = all.when(|event| matches!(event, Event::HoldEnded { .. }));
    let few = all.without(|event| match event {
        Event::ProbeEnded(probe) => {
            let number: u32 = probe.id.rsplit('-').next().unwrap().parse().unwrap();
            probe.route == "agent" && probe.intended_us > over && !number.is_multiple_of(16)
        }
        _ => false,
    });
    agent_is_back(&few, Verdict::Inconclusive, "six or seven probes are no steady run");

    let late = watched(10, 13.0, |slot, told| {
        if slot.seconds < 9.5 {
            told.served_by("vllm-qwen");
        }
    });
    agent_is_back(&late, Verdict::Inconclusive, "back within the limit, and seen for 3.5 s");
}

#[test]
fn a_probe_that_another_serves_after_the_limit_is_a_missing_recovery() {
    let one_at = |from: f64, edit: fn(&mut Told)| {
        watched(10, 13.0, move |slot, told| {
            // One of eight a second.
            if (from..from + 0.125).contains(&slot.seconds) {
                edit(told);
            }
        })
    };
    let fallback = |told: &mut Told| told.served_by("vllm-qwen");
    let error = |told: &mut Told| told.failed("http-503");
    agent_is_back(&one_at(10.3, fallback), Verdict::Fail, "another after the limit");
    agent_is_back(&one_at(10.3, error), Verdict::Fail, "an error after the limit");
    agent_is_back(&one_at(9.7, fallback), Verdict::Inconclusive, "another before the limit");
    agent_is_back(&one_at(9.7, error), Verdict::Inconclusive, "an error before the limit");
    agent_is_back(&one_at(10.3, Told::unknown), Verdict::Inconclusive, "nobody known after the limit");
    let open = |told: &mut Told| told.record.outcome = Outcome::Censored(harness::journal::Censoring::RunCut);
    agent_is_back(&one_at(12.6, open), Verdict::Pass, "open when the watch ended");
}

#[test]
fn an_objection_counts_for_a_requirement_that_the_file_does_not_name() {
    let story = || Story::changed("cloud-down", |scenario| scenario.requirements = vec![Requirement::FR217]);
    let ids = |result: &RunResult| {
        let listed = scenario(result, "cloud-down").requirements.iter();
        listed.map(|requirement| requirement.id.clone()).collect::<Vec<_>>()
    };
    let result = story().judge();
    expect_verdict(&result, Verdict::Pass, "in time");
    assert_eq!(ids(&result), ["FR217"]);
    assert_eq!(of_run(&result, "NFR123").verdict, RequirementVerdict::NotChecked);

    let late = story().edit(|slot, told| {
        if slot.judged("agent") && slot.nth == 2 {
            told.after(5_500_000);
        }
    });
    let result = late.judge();
    expect_verdict(&result, Verdict::Fail, "too late");
    assert_eq!(ids(&result), ["FR217", "NFR123"]);
    let seen = scenario(&result, "cloud-down");
    assert_eq!(requirement(seen, "NFR123"), RequirementVerdict::Fail);
    assert_eq!(requirement(seen, "FR217"), RequirementVerdict::Pass);
    let nfr123 = of_run(&result, "NFR123");
    assert_eq!(
        (nfr123.verdict, nfr123.scenarios.as_slice()),
        (RequirementVerdict::Fail, &["cloud-down".into()][..])
    );
    assert!(nfr123.detail.contains("request reading"), "{}", nfr123.detail);

    let unclear = story().edit(|slot, told| {
        if slot.judged("agent") && slot.nth == 2 {
            told.record.sent_us = told.record.intended_us + 400_000;
            told.after(5_300_000);
        }
    });
    let result = unclear.judge();
    expect_verdict(&result, Verdict::Inconclusive, "late by our own fault");
    assert_eq!(requirement(scenario(&result, "cloud-down"), "NFR123"), RequirementVerdict::Inconclusive);
    assert_eq!(of_run(&result, "NFR123").verdict, RequirementVerdict::Inconclusive);
}

/// Cloud-down by a cloud that accepts and never answers, and when the judging ended and heal was called.
fn stalled() -> (Lines, u64, u64) {
    let (scenarios, mut environment) = shipped(&["cloud-down"]);
    environment.components.get_mut("cloud").unwrap().down = FaultKind::Stall;
    let lines = Story::with(&scenarios, environment).tell();
    let hold_ended = lines.when(|event| matches!(event, Event::HoldEnded { .. }));
    let healed = lines.0.iter().find_map(|(_, event)| match event {
        Event::FaultHealed { called_us, .. } => Some(*called_us),
        _ => None,
    });
    (lines, hold_ended, healed.unwrap())
}

fn answered(sent_us: u64, done_us: u64) -> Event {
    Event::WitnessSaw {
        component: "cloud".into(),
        source: "http-witness".into(),
        up: true,
        sent_us,
        done_us,
        saw: "http-200".into(),
        previous_sent_us: Some(sent_us - 20_000),
    }
}

fn held(lines: &Lines, wanted: bool, case: &str) {
    let result = lines.judge();
    let verdict = if wanted { Verdict::Pass } else { Verdict::Inconclusive };
    expect_verdict(&result, verdict, case);
    assert_eq!(scenario(&result, "cloud-down").faults[0].held, wanted, "{case}");
}

/// The heal lets go what was waiting: its answer says nothing of the time before.
#[test]
fn a_look_that_the_heal_answered_breaks_no_hold() {
    let (lines, hold_ended, healed) = stalled();
    held(&lines, true, "as told");
    for (sent, done, holds) in [
        (hold_ended - 900_000, healed + 20_000, true),
        (hold_ended - 1000, healed + 1, true),
        (hold_ended - 900_000, hold_ended - 300_000, false),
        (hold_ended - 2000, hold_ended - 1000, false),
    ] {
        let case =
            format!("sent {} us before, done {} us before", healed - sent, healed as i64 - done as i64);
        held(&lines.clone().with(done, answered(sent, done)), holds, &case);
    }
    // Counts come once a second, and one of them may reach across the heal.
    for (from, to, holds) in
        [(healed - 600_000, healed + 300_000, true), (healed - 3 * SECOND, healed - 2 * SECOND, false)]
    {
        let component = "cloud".into();
        let counted = Event::WitnessCounted { component, from_us: from, to_us: to, up: 4, down: 20 };
        held(&lines.clone().with(to, counted), holds, &format!("counted from {} us before", healed - from));
    }
}

/// Sent while it was judged, and answered before anybody called for the heal: something else let it go.
#[test]
fn a_look_that_was_answered_before_the_heal_breaks_the_hold() {
    let (lines, hold_ended, healed) = stalled();
    assert!(hold_ended < healed - 50);
    for sent in [hold_ended - 1000, hold_ended - 900_000] {
        let case = format!("sent {} us before the heal, answered 50 us before it", healed - sent);
        held(&lines.clone().with(healed - 50, answered(sent, healed - 50)), false, &case);
    }
}

/// The next mode keeps the fault: there is no heal near that could have answered.
#[test]
fn a_look_across_the_end_of_a_mode_that_heals_nothing_breaks_its_hold() {
    let story = Story::of(&["gaming", "cloud-gpu-down"]);
    assert!(story.plan.steps[0].scenario.name == "gaming" && story.plan.steps[0].heal.is_empty());
    let lines = story.tell();
    let over = lines.when(|event| matches!(event, Event::HoldEnded { .. }));
    let result = lines.look("vllm", true, over + 500).judge();
    for scenario in &result.scenarios {
        assert_eq!(scenario.verdict, Verdict::Inconclusive, "{}: {:?}", scenario.name, scenario.reasons);
    }
}

/// A request written into a connection that went silent reaches its upstream when the fault is healed, long
/// after another one has answered: it neither served the probe nor breaks the order.
#[test]
fn a_request_delivered_after_the_reply_says_nothing() {
    for status in [Some(200), None] {
        let story = Story::of(&["cloud-down"]).edit(move |slot, told| {
            if slot.judged("agent") && slot.nth == 7 {
                let late = told.call("cloud-kimi", status, 12_000_000);
                told.calls.push(late);
            }
        });
        let result = story.judge();
        expect_verdict(&result, Verdict::Pass, "kimi came too late to have a say");
        let agent = route(&result, "cloud-down", "agent");
        assert_eq!((agent.attribution_conflicts, agent.served_by.len()), (0, 1));
    }
}
