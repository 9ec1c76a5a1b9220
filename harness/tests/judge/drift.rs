//! What others change during a run, and what nobody saw directly.

use harness::journal::Event;
use harness::verdict::result::{KnownBy, RequirementVerdict, Verdict};

use super::journal::{Lines, SECOND, Story};
use super::{expect_verdict, requirement, scenario};

fn told() -> Lines {
    Story::of(&["cloud-down"]).tell()
}

fn hold(lines: &Lines) -> u64 {
    lines.when(|event| matches!(event, Event::HoldStarted { .. }))
}

fn drifted(seen_us: u64) -> Event {
    Event::Drifted { seen_us, what: "ml/vllm was scaled to 1 by kubectl".to_owned() }
}

#[test]
fn what_someone_else_changes_while_a_fault_is_held_voids_the_mode() {
    let lines = told();
    let at = hold(&lines) + 4 * SECOND;
    let result = lines.with(at, drifted(at)).judge();
    expect_verdict(&result, Verdict::Inconclusive, "drift");
    let mode = scenario(&result, "cloud-down");
    let reason = "what this mode rests on did not stay so: ml/vllm was scaled to 1 by kubectl";
    assert_eq!(mode.reasons, [reason]);
    let told = mode.timeline.iter().filter(|entry| entry.what.contains("scaled to 1")).count();
    assert_eq!(told, 1, "and stands in the story");
}

const PODS: [&str; 2] = ["ml/litellm-0", "ml/litellm-1"];

fn seen_from(pod: &str, component: &str, reached: Option<bool>, sent_us: u64) -> Event {
    Event::SeenFromPod {
        component: component.into(),
        pod: pod.into(),
        reached,
        sent_us,
        done_us: sent_us + 300_000,
        saw: if reached == Some(true) { "new connections get through" } else { "connection refused" }.into(),
    }
}

/// Of `component`, from each of these pods: not reached from one instant on, and reached again from another, if so.
fn away(
    lines: &Lines,
    component: &str,
    pods: &[&str],
    from_us: u64,
    to: Option<(u64, Option<bool>)>,
) -> Lines {
    let mut lines = lines.clone().with(20, seen_from(PODS[0], component, Some(true), 20));
    for pod in pods {
        lines = lines.with(from_us + 300_000, seen_from(pod, component, Some(false), from_us));
        if let Some((to_us, reached)) = to {
            lines = lines.with(to_us, seen_from(pod, component, reached, to_us));
        }
    }
    lines
}

/// The gateway did what it had to: who was next in the chain answered.
fn served_by_the_next() -> Lines {
    let story = Story::of(&["cloud-down"]).edit(|slot, told| {
        if slot.judged("agent") && slot.seconds > 4.0 {
            told.served_by("ollama-qwen");
        }
    });
    story.tell()
}

#[test]
fn what_had_to_stay_up_and_was_not_reached_is_no_failure_of_the_gateway() {
    let lines = served_by_the_next();
    expect_verdict(&lines.judge(), Verdict::Fail, "nobody saw why");
    let at = hold(&lines) + 4 * SECOND;
    let result = away(&lines, "vllm", &PODS, at, None).judge();
    expect_verdict(&result, Verdict::Inconclusive, "vLLM was away");
    let mode = scenario(&result, "cloud-down");
    let reason = format!(
        "what had to stay up did not: vllm was not reached by new connections from ml/litellm-0, ml/litellm-1, since {:.3} s: connection refused",
        at as f64 / 1e6
    );
    assert_eq!(mode.reasons, [reason]);
    assert_eq!(mode.timeline.iter().filter(|entry| entry.what.contains("vllm was not reached")).count(), 1);
    let one = away(&lines, "ollama", &PODS[1..], at, Some((at + SECOND, Some(true)))).judge();
    expect_verdict(
        &one,
        Verdict::Inconclusive,
        "one replica did not reach the last of the chain for a second",
    );
    assert!(
        scenario(&one, "cloud-down").reasons[0].contains("from ml/litellm-1, since"),
        "{:?}",
        one.reasons
    );
}

#[test]
fn what_is_away_while_nothing_is_judged_or_where_it_should_be_is_no_matter() {
    let lines = told();
    let (from, pods) = (hold(&lines), &PODS[..1]);
    let started = lines.when(|event| matches!(event, Event::ScenarioStarted { .. }));
    let ended = lines.when(|event| matches!(event, Event::HoldEnded { .. }));
    let back = |at| Some((at, Some(true)));
    let cases = [
        ("before the fault", away(&lines, "vllm", pods, started + SECOND, back(started + 2 * SECOND))),
        (
            "not known before the fault",
            away(&lines, "vllm", pods, started + SECOND, Some((started + 2 * SECOND, None))),
        ),
        ("while it comes back", away(&lines, "vllm", pods, ended + SECOND, back(ended + 2 * SECOND))),
        ("what the fault hits", away(&lines, "cloud", pods, from, None)),
        ("nobody looked", lines.clone().with(from + SECOND, seen_from(PODS[0], "vllm", None, from + SECOND))),
        ("what the environment has not", away(&lines, "elsewhere", pods, from + SECOND, None)),
    ];
    for (case, lines) in cases {
        expect_verdict(&lines.judge(), Verdict::Pass, case);
    }
    let since_before = away(&lines, "vllm", pods, started + SECOND, None);
    expect_verdict(&since_before.judge(), Verdict::Inconclusive, "and still away when it was judged");
}

#[test]
fn what_several_modes_take_down_has_to_stay_up_in_none_of_them() {
    let lines = Story::of(&["gaming", "cloud-gpu-down", "full-outage"]).tell();
    let first = lines.when(|event| matches!(event, Event::FaultIntended { .. }));
    let lines = away(&lines, "vllm", &PODS, first + 1000, None);
    expect_verdict(&lines.judge(), Verdict::Pass, "it is down in all three, by inheritance");
    let outage = lines
        .when(|event| matches!(event, Event::ScenarioStarted { scenario, .. } if scenario == "full-outage"));
    let early = away(&lines, "ollama", &PODS, outage - 4 * SECOND, None).judge();
    let verdict = |name: &str| scenario(&early, name).verdict;
    assert_eq!(
        (verdict("gaming"), verdict("full-outage")),
        (Verdict::Pass, Verdict::Pass),
        "{:?}",
        early.reasons
    );
    assert_eq!(verdict("cloud-gpu-down"), Verdict::Inconclusive);
}

#[test]
fn a_normal_day_has_everything_up() {
    let lines = Story::of(&["normal"]).tell();
    let at = hold(&lines) + SECOND;
    let result = away(&lines, "ollama", &PODS[..1], at, None).judge();
    expect_verdict(&result, Verdict::Inconclusive, "the last of the chain is away");
}

#[test]
fn what_changes_after_the_heal_was_called_leaves_the_way_back_open() {
    let lines = told();
    let healed = lines.when(|event| matches!(event, Event::HealIntended { .. })) + SECOND;
    let result = lines.with(healed, drifted(healed)).judge();
    expect_verdict(&result, Verdict::Inconclusive, "after the heal");
    let mode = scenario(&result, "cloud-down");
    assert!(
        mode.reasons.iter().all(|reason| reason.contains("disturbed while it came back")),
        "{:?}",
        mode.reasons
    );
    assert_eq!(requirement(mode, "NFR123"), RequirementVerdict::Pass, "the failover was over by then");
}

#[test]
fn a_cluster_that_was_left_changed_is_told_with_what_to_type() {
    let lines = told();
    let at = lines.when(|event| matches!(event, Event::FaultIntended { .. })) + 1;
    let undo = "kubectl --context home -n ml scale deployment/vllm --replicas=1".to_owned();
    let mutation = Event::MutationIntended {
        fault: 0,
        object: "deployments/scale ml/vllm".into(),
        what: "scale".into(),
        undo: undo.clone(),
        mutation: serde_json::Value::Null,
    };
    let ended = |event: &Event| {
        matches!(event, Event::FaultHealed { .. } | Event::RestoreEnded { .. } | Event::RunEnded { .. })
    };
    let mut killed = lines.with(at, mutation).without(ended);
    killed.in_cluster();
    let result = killed.judge();
    assert!(!result.restored);
    assert!(result.reasons[0].contains(&undo), "{:?}", result.reasons);
}

#[test]
fn a_mode_that_was_voided_says_why() {
    let lines = told();
    let at = hold(&lines) + 10;
    let why = "2 pooled connections to the cloud still carry traffic".to_owned();
    let result = lines.with(at, Event::Voided { scenario: "cloud-down".into(), why: why.clone() }).judge();
    expect_verdict(&result, Verdict::Inconclusive, "voided");
    assert_eq!(scenario(&result, "cloud-down").reasons, [why]);
}

#[test]
fn weak_evidence_leaves_the_time_open_and_nothing_else() {
    let lines = told();
    let at = lines.when(|event| matches!(event, Event::FaultIntended { .. })) + 5;
    let weak = Event::EvidenceWeak { component: "cloud".into(), why: "exec is forbidden".into() };
    let result = lines.with(at, weak).judge();
    expect_verdict(&result, Verdict::Inconclusive, "weak");
    let mode = scenario(&result, "cloud-down");
    assert_eq!(requirement(mode, "NFR123"), RequirementVerdict::Inconclusive);
    assert_eq!(requirement(mode, "FR217"), RequirementVerdict::Pass);
    assert!(mode.reasons.iter().all(|reason| reason.contains("exec is forbidden")), "{:?}", mode.reasons);
}

#[test]
fn weak_evidence_of_a_mode_in_which_nothing_fails_over_changes_nothing() {
    let lines = Story::of(&["gaming"]).tell();
    let at = lines.when(|event| matches!(event, Event::FaultIntended { .. })) + 5;
    let weak = Event::EvidenceWeak { component: "vllm".into(), why: "exec is forbidden".into() };
    let result = lines.with(at, weak).judge();
    assert_eq!(scenario(&result, "gaming").verdict, Verdict::Pass, "{:?}", result.reasons);
}

#[test]
fn what_the_undo_left_to_someone_else_is_told() {
    let lines = told();
    let at = lines.when(|event| matches!(event, Event::HealIntended { .. })) + 1;
    let why = "ml/vllm has 3 replicas, we left 0".to_owned();
    let result = lines.with(at, Event::HealLeftAlone { fault: 0, why: why.clone() }).judge();
    let findings = &scenario(&result, "cloud-down").findings;
    assert!(findings.iter().any(|finding| finding.ends_with(&why)), "{findings:?}");
}

/// It was undone, and never seen to serve: what is not measured is no pass, and what failed before stays failed.
#[test]
fn what_somebody_takes_down_once_it_was_undone_is_left_open() {
    let lines = told();
    let at = lines.when(|event| matches!(event, Event::FaultHealed { .. })) + 1;
    let why = "ml/vllm was undone, and has been changed by kubectl since: 0 pods".to_owned();
    let taken = lines.with(at, Event::HealLeftAlone { fault: 0, why: why.clone() });
    expect_verdict(&taken.clone().judge(), Verdict::Pass, "it serves again");
    let taken = taken.without(|event| matches!(event, Event::FaultGone { .. }));
    let result = taken.judge();
    expect_verdict(&result, Verdict::Inconclusive, "taken down");
    assert!(result.restored);
    let reasons = &scenario(&result, "cloud-down").reasons;
    assert!(reasons.iter().any(|reason| reason.ends_with(&why)), "{reasons:?}");
}

#[test]
fn what_a_client_meets_is_named() {
    let result = told().judge();
    let seen_as = scenario(&result, "cloud-down").faults[0].seen_as.clone();
    assert!(seen_as.is_some_and(|words| !words.is_empty()));
}

#[test]
fn a_fault_is_in_effect_for_the_gateway_once_its_old_connections_are_gone() {
    let lines = told();
    let seen = lines.when(|event| matches!(event, Event::WitnessSaw { up: false, .. }));
    let gone = |gone_us| Event::ConnectionsGone {
        fault: 0,
        last_seen_us: gone_us - 5_000,
        gone_us,
        saw: "2 old connections were closed".into(),
    };
    let early = lines.clone().with(seen + 1, gone(seen)).judge();
    expect_verdict(&early, Verdict::Pass, "as judging began");
    let fault = &scenario(&early, "cloud-down").faults[0];
    let (lo, hi) = (seen as f64 / 1000.0 - 5.0, seen as f64 / 1000.0);
    assert_eq!((fault.effective_ms.unwrap().0, fault.effective_ms.unwrap().1), (lo, Some(hi)));
    assert!(fault.evidence.iter().any(|seen| seen.saw.contains("old connections were closed")));
    let late = lines.with(seen + SECOND, gone(seen + SECOND)).judge();
    expect_verdict(&late, Verdict::Inconclusive, "judged before they were gone");
}

#[test]
fn a_backend_is_down_once_its_last_pod_is_gone() {
    let lines = told();
    let seen = lines.when(|event| matches!(event, Event::WitnessSaw { up: false, .. }));
    let gone = |last_seen_us, gone_us| Event::PodsGone {
        fault: 0,
        last_seen_us,
        gone_us,
        saw: "no pod is left, no endpoint is ready or serving".into(),
    };
    let effective = |result: &harness::verdict::result::RunResult| {
        let fault = &scenario(result, "cloud-down").faults[0];
        assert!(
            fault.evidence.iter().any(|seen| seen.source == "objects" && seen.saw.contains("no pod is left"))
        );
        fault.effective_ms.map(|bracket| (bracket.0, bracket.1.unwrap())).unwrap()
    };
    let before = scenario(&lines.clone().judge(), "cloud-down").faults[0].effective_ms.unwrap();
    let at = hold(&lines);
    let wide = effective(&lines.clone().with(seen + 1, gone(0, at)).judge());
    assert_eq!(wide, (before.0, at as f64 / 1000.0), "nothing answered on an old connection");
    let narrow = effective(&lines.with(seen + 1, gone(at - 2000, at)).judge());
    assert_eq!(narrow, ((at - 2000) as f64 / 1000.0, at as f64 / 1000.0), "one did to the last");
}

#[test]
fn a_way_to_the_gateway_that_breaks_voids_the_mode_and_is_no_failure_of_the_gateway() {
    let lines = told();
    let at = hold(&lines) + 2 * SECOND;
    let broke =
        |broke_us| Event::WayBroke { broke_us, why: "the port-forward to ml/litellm-0 broke: reset".into() };
    let failing = Story::of(&["cloud-down"]).edit(|slot, told| {
        if slot.judged("agent") && slot.nth == 20 {
            told.failed("reset");
        }
    });
    expect_verdict(&failing.judge(), Verdict::Fail, "an error of the gateway's own");
    let failing = failing.tell();
    // It may be written down only later.
    let result = failing.with(at + 3 * SECOND, broke(at)).with(at + 3 * SECOND, broke(at + 1)).judge();
    expect_verdict(&result, Verdict::Inconclusive, "ours");
    let mode = scenario(&result, "cloud-down");
    let [reason] = &mode.reasons[..] else { panic!("{:?}", mode.reasons) };
    assert!(reason.starts_with("the harness's own way to the gateway broke at "), "{reason}");
    assert!(reason.contains(&format!("{:.3} s, and 1 times more", at as f64 / 1e6)), "{reason}");
    assert_eq!(mode.timeline.iter().filter(|entry| entry.what.contains("port-forward")).count(), 2);

    let healed = lines.when(|event| matches!(event, Event::HealIntended { .. })) + SECOND;
    let result = lines.with(healed, broke(healed)).judge();
    expect_verdict(&result, Verdict::Inconclusive, "while it came back");
    assert_eq!(requirement(scenario(&result, "cloud-down"), "NFR123"), RequirementVerdict::Pass);
}

fn others(seen_us: u64) -> Event {
    let what = "at least 3 model calls of others went through the gateway".to_owned();
    Event::OthersCalled { scenario: "cloud-down".into(), seen_us, what }
}

#[test]
fn calls_of_others_leave_the_time_open_whether_it_held_or_not() {
    let lines = told();
    let at = hold(&lines) + SECOND;
    let result = lines.clone().with(at, others(at)).judge();
    expect_verdict(&result, Verdict::Inconclusive, "others");
    let mode = scenario(&result, "cloud-down");
    assert_eq!(requirement(mode, "NFR123"), RequirementVerdict::Inconclusive);
    for id in ["FR217", "NFR125"] {
        assert_eq!(
            requirement(mode, id),
            RequirementVerdict::Pass,
            "{id}: our own replies name their server"
        );
    }
    let failover = mode.routes.iter().find_map(|route| route.failover.as_ref()).unwrap();
    assert_eq!(failover.request_verdict, Verdict::Inconclusive);
    assert_eq!(failover.service_verdict, Verdict::Inconclusive);
    assert!(mode.findings.iter().any(|finding| finding.contains("not ours alone")), "{:?}", mode.findings);
    assert!(mode.timeline.iter().any(|entry| entry.what.contains("calls of others")));

    let slow = Story::of(&["cloud-down"]).edit(|slot, told| {
        if slot.judged("agent") && slot.nth == 20 {
            told.after(7 * SECOND);
        }
    });
    assert_eq!(requirement(scenario(&slow.judge(), "cloud-down"), "NFR123"), RequirementVerdict::Fail);
    let result = slow.tell().with(at, others(at)).judge();
    expect_verdict(&result, Verdict::Inconclusive, "their load may have been the cause");
}

#[test]
fn the_pods_that_answered_are_named() {
    let lines = told();
    let at = hold(&lines) + SECOND;
    let pods = [("ml/litellm-0".to_owned(), Some(40)), ("ml/litellm-1".to_owned(), Some(44))];
    let answered = Event::PodsAnswered {
        scenario: "cloud-down".into(),
        known_by: KnownBy::AccessLog,
        pods: pods.clone().into_iter().collect(),
    };
    let result = lines.with(at, answered).judge();
    let mode = scenario(&result, "cloud-down");
    assert_eq!(mode.answered_by.as_ref().unwrap().pods, pods.into_iter().collect());
    let told = mode.findings.iter().find(|finding| finding.contains("ml/litellm-1 (44)")).unwrap();
    assert!(told.contains("these are counts"), "{told}");
}
