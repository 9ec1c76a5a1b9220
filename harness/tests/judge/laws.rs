//! Laws of judging: worse evidence never gives a better verdict.

use std::io::Write;

use harness::journal::{Event, Outcome, read};
use harness::verdict::result::Verdict;
use proptest::prelude::*;
use proptest::sample::Index;

use super::journal::{Lines, SECOND, Story};

/// A run of one mode, with some replies bad or unclear, and a fault that may not have held.
fn told() -> impl Strategy<Value = Lines> {
    let name = prop_oneof![Just("cloud-down"), Just("gaming"), Just("full-outage"), Just("normal")];
    let spoiled = proptest::collection::vec((0_usize..40, 0_u8..4), 0..3);
    let blip = proptest::option::weighted(0.3, 1_u64..6);
    (name, spoiled, blip).prop_map(|(name, spoiled, blip)| {
        let story = Story::of(&[name]).edit(move |slot, told| {
            for (nth, how) in &spoiled {
                if slot.judged("agent") && slot.nth == *nth {
                    match how {
                        0 => told.failed("http-401"),
                        1 => told.served_by("ollama-qwen"),
                        2 => told.unknown(),
                        _ => told.after(4_000_000),
                    }
                }
            }
        });
        let lines = story.tell();
        let hold = lines.when(|event| matches!(event, Event::HoldStarted { .. }));
        match blip {
            Some(seconds) if name == "cloud-down" => {
                let up = hold + seconds * SECOND;
                lines.look("cloud", true, up).look("cloud", false, up + 100_000)
            }
            _ => lines,
        }
    })
}

/// Lines without which less is known of the experiment, and nothing else changes.
fn is_evidence(event: &Event) -> bool {
    match event {
        Event::WitnessSaw { up, .. } => !up,
        Event::WitnessCounted { up, .. } => *up == 0,
        Event::HoldStarted { .. }
        | Event::HoldEnded { .. }
        | Event::FaultIntended { .. }
        | Event::FaultInherited { .. }
        | Event::FaultInjected { .. }
        | Event::FaultHealed { .. }
        | Event::FaultGone { .. }
        | Event::ScenarioStarted { .. }
        | Event::RestoreEnded { .. }
        | Event::RunEnded { .. } => true,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn an_error_instead_of_a_reply_never_helps(lines in told(), which: Index) {
        let before = lines.judge().verdict;
        let mut worse = lines;
        let mut replies: Vec<&mut Event> = worse
            .0
            .iter_mut()
            .map(|(_, event)| event)
            .filter(|event| matches!(event, Event::ProbeEnded(record)
                if record.outcome == Outcome::Ok))
            .collect();
        if !replies.is_empty() {
            let place = which.index(replies.len());
            if let Event::ProbeEnded(record) = &mut *replies[place] {
                record.outcome = Outcome::Error("transport".into());
                record.first_content_us = None;
            }
            let after = worse.judge().verdict;
            // A reply by nobody known that becomes an error may turn inconclusive into fail.
            prop_assert!(after >= before, "{before:?} became {after:?}");
        }
    }

    #[test]
    fn the_order_of_probe_lines_does_not_matter(lines in told(), keys in proptest::collection::vec(any::<u32>(), 64)) {
        let is_probe = |event: &Event| matches!(event, Event::ProbeEnded(_) | Event::UpstreamCalled(_));
        let mut moved = lines.clone();
        let places: Vec<usize> = (0..lines.0.len()).filter(|place| is_probe(&lines.0[*place].1)).collect();
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|place| keys[place % keys.len()]);
        for (to, from) in places.iter().zip(order) {
            moved.0[*to].1 = lines.0[places[from]].1.clone();
        }
        prop_assert_eq!(moved.judge(), lines.judge());
    }

    #[test]
    fn a_journal_that_is_read_back_says_the_same(lines in told()) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for entry in lines.entries() {
            writeln!(file, "{}", serde_json::to_string(&entry).unwrap()).unwrap();
        }
        let entries = read(file.path()).unwrap();
        prop_assert_eq!(&entries, &lines.entries());
        let result = harness::verdict::judge(&harness::analysis::gather(&entries).unwrap());
        prop_assert_eq!(result, lines.judge());
    }

    #[test]
    fn nothing_that_is_missing_makes_a_panic(lines in told(), kept in proptest::collection::vec(any::<bool>(), 97)) {
        let mut number = 0_usize;
        let mut some = lines;
        some.0.retain(|_| { number += 1; number == 1 || kept[number % kept.len()] });
        let _ = some.judge();
    }

    #[test]
    fn missing_evidence_never_makes_a_pass(lines in told(), dropped in proptest::collection::vec(proptest::bool::weighted(0.1), 31)) {
        let before = lines.judge().verdict;
        let mut number = 0_usize;
        let mut less = lines;
        less.0.retain(|(_, event)| {
            number += usize::from(is_evidence(event));
            !is_evidence(event) || !dropped[number % dropped.len()]
        });
        if before != Verdict::Pass {
            prop_assert_ne!(less.judge().verdict, Verdict::Pass);
        }
    }
}

/// Numbers that no clock gives, but that a damaged file may hold.
#[test]
fn absurd_instants_do_not_panic() {
    for absurd in [0, 1, u64::MAX - 1, u64::MAX] {
        let mut lines = Story::of(&["cloud-down"]).tell();
        for (place, (at, event)) in lines.0.iter_mut().enumerate() {
            match event {
                Event::ProbeEnded(record) if place % 3 == 0 => {
                    (record.intended_us, record.ended_us) = (absurd, u64::MAX - absurd);
                    record.first_content_us = Some(u64::MAX - absurd);
                }
                Event::WitnessCounted { from_us, to_us, down, .. } => {
                    (*from_us, *to_us, *down) = (absurd, u64::MAX, u64::MAX);
                }
                Event::HoldStarted { from_us, .. } => *from_us = absurd,
                Event::FaultInjected { called_us, .. } => *called_us = absurd,
                _ => *at = absurd,
            }
        }
        let _ = lines.judge();
        for (at, _) in &mut lines.0 {
            *at = u64::MAX;
        }
        let _ = lines.judge();
    }
}
