//! Faults that were not what they should be, and runs that did not come to their end.

use harness::journal::{Event, Outcome, ProbeRecord};
use harness::verdict::result::{Ended, Verdict};

use super::journal::{Lines, SECOND, Story};
use super::{expect_verdict, route, scenario};

/// Cloud-down with a failure in it: a void experiment must hide it.
fn failing() -> Lines {
    let story = Story::of(&["cloud-down"]).edit(|slot, told| {
        if slot.judged("agent") && slot.nth == 20 {
            told.failed("http-503");
        }
    });
    story.tell()
}

fn is_effect(event: &Event) -> bool {
    matches!(event, Event::WitnessSaw { up: false, .. })
}

fn is_hold(event: &Event) -> bool {
    matches!(event, Event::HoldStarted { .. })
}

fn counted_from(from: u64, to: u64) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::WitnessCounted { from_us, .. } if (from..to).contains(from_us))
}

#[test]
fn a_fault_that_held_is_judged() {
    expect_verdict(&failing().judge(), Verdict::Fail, "as told");
    assert!(scenario(&failing().judge(), "cloud-down").faults[0].held);
}

#[test]
fn a_void_experiment_beats_a_failure() {
    let lines = failing();
    let hold = lines.when(is_hold);
    let cases = [
        ("never effective", lines.clone().without(is_effect)),
        ("seen up in the middle", {
            let up = lines.clone().look("cloud", true, hold + 4 * SECOND);
            up.look("cloud", false, hold + 4 * SECOND + 100_000)
        }),
        ("seen up at once", {
            // Sent after the look that showed the effect, but before that one was over.
            let up = lines.clone().look("cloud", true, hold + 400);
            up.look("cloud", false, hold + 12_000)
        }),
        ("evidence is not renewed", lines.clone().without(counted_from(hold + 6 * SECOND, u64::MAX))),
        ("judged before its effect", {
            lines.clone().without(is_effect).look("cloud", false, hold + 4 * SECOND)
        }),
        ("nobody looked for a while", {
            lines.clone().without(counted_from(hold + 3 * SECOND, hold + 8 * SECOND))
        }),
        ("no evidence after its start", lines.clone().without(counted_from(0, u64::MAX))),
        ("not injected", {
            let undone = |event: &Event| is_effect(event) || matches!(event, Event::FaultInjected { .. });
            let error = "permission denied".into();
            lines.clone().without(undone).with(hold, Event::InjectionFailed { fault: 0, error })
        }),
        ("the mutation did nothing", {
            lines
                .clone()
                .without(is_effect)
                .with(hold, Event::FaultNotEffective { fault: 0, waited_ms: 5000 })
        }),
        ("no baseline", {
            let (scenario, saw) = ("cloud-down".into(), "http-500".into());
            lines.clone().with(hold, Event::BaselineBroken { scenario, saw })
        }),
    ];
    for (case, lines) in cases {
        let result = lines.judge();
        expect_verdict(&result, Verdict::Inconclusive, case);
        assert_eq!(scenario(&result, "cloud-down").verdict, Verdict::Inconclusive, "{case}");
    }
}

/// What nobody saw is not said to have ended.
#[test]
fn a_hold_that_was_not_seen_is_told_apart_from_one_that_broke() {
    let lines = failing();
    let hold = lines.when(is_hold);
    let up = lines.clone().look("cloud", true, hold + 4 * SECOND);
    let broken = up.look("cloud", false, hold + 4 * SECOND + 100_000).judge();
    let unseen = lines.without(counted_from(hold + 3 * SECOND, u64::MAX)).judge();
    for (result, words) in [
        (broken, "blackhole of cloud did not hold until the mode ended"),
        (unseen, "blackhole of cloud was not seen to hold from "),
    ] {
        let reasons = scenario(&result, "cloud-down").reasons.join("; ");
        assert!(reasons.contains(words), "{reasons}");
    }
}

#[test]
fn an_effect_seen_before_the_call_returned_counts() {
    let lines = Story::of(&["cloud-down"]).tell();
    let effect = lines.when(is_effect);
    let mut late = lines.clone().without(|event| matches!(event, Event::FaultInjected { .. }));
    let called_us = lines.when(|event| matches!(event, Event::FaultIntended { .. })) + 10;
    late = late.with(effect + 5, Event::FaultInjected { fault: 0, called_us, accepted_us: effect + 5 });
    let result = late.judge();
    expect_verdict(&result, Verdict::Pass, "the witness was quicker than the call");
    let fault = &scenario(&result, "cloud-down").faults[0];
    assert_eq!(fault.effective_ms.unwrap().1, Some(effect as f64 / 1000.0));
}

#[test]
fn an_inherited_fault_needs_fresh_evidence() {
    let story = Story::of(&["gaming", "cloud-gpu-down"]);
    let lines = story.tell();
    let result = lines.judge();
    expect_verdict(&result, Verdict::Pass, "as told");
    let faults = &scenario(&result, "cloud-gpu-down").faults;
    let (inherited, own) = (&faults[0], &faults[1]);
    assert_eq!((inherited.component.as_str(), inherited.inherited, inherited.held), ("vllm", true, true));
    assert_eq!((own.component.as_str(), own.inherited), ("cloud", false));
    assert!(inherited.effective_ms.unwrap().0 < own.effective_ms.unwrap().0, "its instants stay");
    let started = lines.when(
        |event| matches!(event, Event::ScenarioStarted { scenario, .. } if scenario == "cloud-gpu-down"),
    );
    assert!(inherited.evidence.iter().any(|seen| seen.at_ms > started as f64 / 1000.0), "renewed");

    let stale = lines.clone().without(|event| {
        matches!(event, Event::WitnessCounted { component, from_us, .. } if component == "vllm" && *from_us > started)
    });
    let result = stale.judge();
    assert_eq!(scenario(&result, "gaming").verdict, Verdict::Pass);
    assert_eq!(scenario(&result, "cloud-gpu-down").verdict, Verdict::Inconclusive);
    let unnamed = lines.without(|event| matches!(event, Event::FaultInherited { .. }));
    assert_eq!(scenario(&unnamed.judge(), "cloud-gpu-down").verdict, Verdict::Inconclusive);
}

fn ended(ended: Ended) -> Event {
    Event::RunEnded { ended, finished_at: "2026-01-02T03:05:00.000Z".into() }
}

fn restored(restored: bool) -> Event {
    Event::RestoreEnded { restored, left: if restored { vec![] } else { vec!["vllm is still at 0".into()] } }
}

#[test]
fn a_mode_that_was_not_reached_says_why() {
    let lines = Story::of(&["normal", "cloud-down"]).tell();
    let at = lines
        .when(|event| matches!(event, Event::ScenarioStarted { scenario, .. } if scenario == "cloud-down"))
        - 1;
    let last =
        vec![restored(true), Event::Interrupted { cause: "SIGTERM".into() }, ended(Ended::Interrupted)];
    let result = lines.cut(at, last).judge();
    expect_verdict(&result, Verdict::Inconclusive, "not reached");
    assert_eq!(scenario(&result, "normal").verdict, Verdict::Pass);
    assert!(scenario(&result, "cloud-down").reasons[0].contains("SIGTERM"), "{:?}", result.reasons);
}

#[test]
fn a_hold_that_was_cut_keeps_its_open_probes() {
    let lines = Story::of(&["cloud-down"]).tell();
    let at = lines.when(is_hold) + 6 * SECOND;
    let open = |number: u64| {
        let mut record: ProbeRecord = lines
            .0
            .iter()
            .find_map(|(_, event)| match event {
                Event::ProbeEnded(record) if record.route == "agent" => Some((**record).clone()),
                _ => None,
            })
            .unwrap();
        record.id = format!("open-{number}");
        record.intended_us = at - 1000 * number;
        record.sent_us = record.intended_us;
        record.first_content_us = None;
        record.ended_us = at;
        record.outcome = Outcome::Censored(harness::journal::Censoring::RunCut);
        Event::ProbeEnded(Box::new(record))
    };
    let healed = Event::FaultHealed { fault: 0, called_us: at, accepted_us: at, read_back: true };
    let gone = Event::FaultGone { fault: 0, last_down_us: at, served_us: at };
    let mut last = vec![healed, gone, open(1), open(2)];
    last.extend([restored(true), Event::Interrupted { cause: "SIGINT".into() }, ended(Ended::Interrupted)]);
    let result = lines.clone().cut(at, last).judge();
    expect_verdict(&result, Verdict::Inconclusive, "interrupted");
    let agent = route(&result, "cloud-down", "agent");
    assert_eq!(agent.errors["censored"], 2);
    assert_eq!(agent.latency_ms.infinite, 2);
}

#[test]
fn runs_that_end_otherwise_never_pass() {
    let lines = Story::of(&["cloud-down"]).tell();
    let refused =
        lines.clone().cut(10, vec![Event::Refused { reason: "locked".into() }, ended(Ended::Refused)]);
    let result = refused.judge();
    expect_verdict(&result, Verdict::Inconclusive, "refused");
    assert!(result.restored, "nothing was touched");
    assert!(result.reasons[0].contains("refused, nothing was touched: locked"), "{:?}", result.reasons);
    let undone = Event::EarlierRestored {
        undone: vec!["scale deployment ml/vllm back to 2".into()],
        left_alone: Vec::new(),
        left: Vec::new(),
    };
    let refused = vec![undone, Event::Refused { reason: "locked".into() }, ended(Ended::Refused)];
    let result = lines.clone().cut(10, refused).judge();
    assert!(result.reasons[0].contains("but what an earlier run had left"), "{:?}", result.reasons);

    let not_over = lines.clone().without(|event| matches!(event, Event::RunEnded { .. }));
    let result = not_over.judge();
    expect_verdict(&result, Verdict::Inconclusive, "no last line");
    assert_eq!(result.ended, Ended::Aborted);

    let unrestored = |event: &Event| matches!(event, Event::RestoreEnded { .. });
    let result = lines.clone().without(unrestored).judge();
    expect_verdict(&result, Verdict::Inconclusive, "restore not seen");
    assert!(!result.restored);
    let at = lines.0.last().unwrap().0;
    let result = lines.clone().without(unrestored).with(at, restored(false)).judge();
    expect_verdict(&result, Verdict::Inconclusive, "not restored");
    assert!(result.reasons[0].contains("vllm is still at 0"), "{:?}", result.reasons);
    let result = failing().without(unrestored).judge();
    expect_verdict(&result, Verdict::Fail, "fail beats not restored");

    let last = vec![restored(true), Event::Aborted { cause: "disk full".into() }, ended(Ended::Aborted)];
    let result = lines.cut(8 * SECOND, last).judge();
    expect_verdict(&result, Verdict::Inconclusive, "aborted");
    assert!(result.reasons[0].contains("disk full"));
}

/// Killed between the intent and the answer to the call: the change may have been made.
#[test]
fn an_intent_without_an_answer_is_not_restored() {
    let lines = Story::of(&["cloud-down"]).tell();
    let at = lines.when(|event| matches!(event, Event::FaultIntended { .. }));
    let result = lines.cut(at, vec![]).judge();
    expect_verdict(&result, Verdict::Inconclusive, "killed");
    assert!(!result.restored);
}
