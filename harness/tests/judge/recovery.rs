//! After heal: who came back, when, and how cleanly.

use harness::journal::{Censoring, Event, Outcome};
use harness::units::Period;
use harness::verdict::result::{Failback, RunResult, Verdict};

use super::journal::{SECOND, Slot, Story, Told};
use super::{expect_verdict, route, scenario};

fn agent(result: &RunResult) -> &Failback {
    route(result, "cloud-down", "agent").failback.as_ref().unwrap()
}

/// Cloud-down with a limit of 10 s, watched so long.
fn watched(seconds: u64, edit: impl Fn(&Slot, &mut Told) + 'static) -> RunResult {
    let mut story = Story::changed("cloud-down", |scenario| {
        scenario.recover.values_mut().for_each(|recovery| recovery.within = Period::from_secs(10));
    });
    story.recovery_us = seconds * SECOND;
    story
        .edit(move |slot, told| {
            if slot.recovering("agent") {
                edit(slot, told)
            }
        })
        .judge()
}

#[test]
fn recovery_counts_from_heal_to_steady() {
    let cases = [
        (7, 0.0, Verdict::Pass),
        (18, 9.0, Verdict::Pass),
        (18, 10.5, Verdict::Fail),
        (18, 99.0, Verdict::Fail),
        (8, 5.0, Verdict::Inconclusive),
    ];
    for (seconds, fallback_until, verdict) in cases {
        let result = watched(seconds, move |slot, told| {
            if slot.seconds < fallback_until {
                told.served_by("vllm-qwen");
            }
        });
        expect_verdict(&result, verdict, &format!("by the fallback for {fallback_until} of {seconds} s"));
        assert_eq!(agent(&result).verdict, Some(verdict));
    }
}

#[test]
fn what_somebody_disturbs_while_it_comes_back_fails_nobody() {
    let mut story = Story::changed("cloud-down", |scenario| {
        scenario.recover.values_mut().for_each(|recovery| recovery.within = Period::from_secs(10));
    });
    story.recovery_us = 18 * SECOND;
    let late = story.edit(|slot, told| {
        if slot.recovering("agent") {
            told.served_by("vllm-qwen");
        }
    });
    let lines = late.tell();
    expect_verdict(&lines.clone().judge(), Verdict::Fail, "it does not come back");
    let healed = lines.when(|event| matches!(event, Event::HealIntended { .. })) + SECOND;
    let broken = [
        Event::Drifted { seen_us: healed, what: "ml/vllm was scaled to 0 by kubectl".to_owned() },
        Event::WayBroke { broke_us: healed, why: "the port-forward broke".to_owned() },
    ];
    for event in broken {
        expect_verdict(&lines.clone().with(healed, event).judge(), Verdict::Inconclusive, "disturbed");
    }
}

#[test]
fn errors_and_flaps_are_counted_and_are_no_failure() {
    let result = watched(9, |slot, told| match slot.nth {
        2 | 3 => told.failed("http-503"),
        5 | 7 => told.served_by("vllm-qwen"),
        _ => {}
    });
    expect_verdict(&result, Verdict::Pass, "unquiet");
    let seen = agent(&result);
    assert_eq!((seen.errors, seen.flaps), (2, 3));
    assert_eq!(scenario(&result, "cloud-down").findings.len(), 2);
}

/// One probe in four hangs; those of the last half minute are still open when the watch is over.
#[test]
fn probes_that_hang_are_no_recovery() {
    let result = watched(30, |slot, told| {
        if slot.nth % 4 == 0 {
            told.failed("x");
            told.record.outcome = Outcome::Censored(Censoring::RunCut);
        }
    });
    expect_verdict(&result, Verdict::Inconclusive, "hanging");
    assert_eq!(agent(&result).steady_after_ms, None);
}

/// The watch ends as soon as all is steady: what is open by then is nothing against it.
#[test]
fn probes_that_are_open_when_the_watch_ends_are_nothing_against_it() {
    let result = watched(8, |slot, told| {
        if slot.seconds > 6.0 && slot.nth % 2 == 0 {
            told.record.outcome = Outcome::Censored(Censoring::RunCut);
        }
    });
    expect_verdict(&result, Verdict::Pass, "open at the end");
}

#[test]
fn replies_by_nobody_known_prove_no_missing_recovery() {
    for seconds in [8, 18] {
        let result = watched(seconds, |_, told| told.unknown());
        expect_verdict(&result, Verdict::Inconclusive, &format!("unknown for {seconds} s"));
    }
}

#[test]
fn a_heal_that_was_not_seen_is_inconclusive() {
    let lines = Story::of(&["cloud-down"]).tell();
    let unseen = lines.clone().without(|event| matches!(event, Event::FaultGone { .. }));
    expect_verdict(&unseen.judge(), Verdict::Inconclusive, "never served again");

    // Ollama is back 30 s after the cloud; the agent only shortly after that, 35 s after its primary.
    let mut story = Story::changed("full-outage", |scenario| {
        scenario.recover.values_mut().for_each(|recovery| recovery.within = Period::from_secs(20));
    });
    story.recovery_us = 50 * SECOND;
    let story = story.edit(|slot, told| {
        if slot.recovering("agent") && slot.seconds < 35.0 {
            told.failed("http-503");
        }
    });
    let mut lines = story.tell();
    let cloud = story.plan.steps[0].inject.iter().position(|fault| fault.component == "cloud").unwrap();
    for (at, event) in &mut lines.0 {
        if let Event::FaultGone { fault, served_us, last_down_us } = event
            && *fault as usize != cloud
        {
            *served_us += 30 * SECOND;
            *last_down_us += 30 * SECOND;
            *at += 30 * SECOND;
        }
    }
    let lines = lines.sorted();
    expect_verdict(&lines.judge(), Verdict::Fail, "35 s after its primary");
    let unseen =
        lines.without(|event| matches!(event, Event::FaultGone { fault, .. } if *fault as usize == cloud));
    assert_ne!(unseen.judge().verdict, Verdict::Pass, "the heal of its primary was not seen");
}
