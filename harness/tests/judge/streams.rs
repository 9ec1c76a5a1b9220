//! What is expected of streams beside a whole answer.

use harness::journal::{BrokenStream, Outcome};
use harness::units::Period;
use harness::verdict::result::{RunResult, Streams, Verdict};

use super::journal::{Part, Slot, Story, Told};
use super::{expect_verdict, route};

fn limited(edit: impl Fn(&Slot, &mut Told) + 'static) -> RunResult {
    Story::changed("cloud-down", |scenario| {
        if let Some(agent) = scenario.expect.get_mut("agent") {
            agent.first_token_within = Some(Period::from_secs(2));
            agent.max_stall = Some(Period::from_secs(1));
            agent.lost_in_flight = Some(9);
        }
    })
    .edit(|slot, told| {
        told.record.streamed |= slot.route == "agent";
        let is_told = told.record.streamed && told.record.first_content_us.is_some();
        told.record.longest_gap_us = is_told.then_some(40_000);
    })
    .edit(move |slot, told| {
        if slot.route == "agent" {
            edit(slot, told);
        }
    })
    .judge()
}

fn streams(result: &RunResult) -> &Streams {
    route(result, "cloud-down", "agent").streams.as_ref().unwrap()
}

#[test]
fn a_late_first_token_fails_where_it_is_bounded() {
    expect_verdict(&limited(|_, _| {}), Verdict::Pass, "as it should be");
    let late = limited(|slot, told| {
        if slot.part == Part::Judged && slot.nth == 5 {
            told.after(2_300_000);
            told.record.longest_gap_us = Some(40_000);
        }
    });
    expect_verdict(&late, Verdict::Fail, "2.3 s of 2 s");
    assert!(late.reasons[0].contains("1 streams gave their first token only after 2s"), "{:?}", late.reasons);
    assert_eq!(streams(&late).latest_first_token_ms, Some(2300.0));
    let of_ours = limited(|slot, told| {
        if slot.part == Part::Judged && slot.nth == 5 {
            told.after(2_300_000);
            told.record.sent_us += 500_000;
            told.record.longest_gap_us = Some(40_000);
        }
    });
    expect_verdict(&of_ours, Verdict::Inconclusive, "sent late by us");
}

#[test]
fn a_stream_that_never_gave_a_token_is_late_however_it_ended() {
    let result = limited(|slot, told| {
        if slot.part == Part::Judged && slot.nth == 5 {
            told.failed("http-500");
        }
    });
    expect_verdict(&result, Verdict::Fail, "no token at all");
    let text = "1 streams gave their first token only after 2s, or none";
    assert!(result.reasons.iter().any(|reason| reason.contains(text)), "{:?}", result.reasons);
}

#[test]
fn a_long_stall_fails_also_in_the_middle_of_an_answer_when_the_fault_strikes() {
    for part in [Part::Judged, Part::InFlight] {
        let result = limited(move |slot, told| {
            if slot.part == part && slot.nth <= 1 {
                // It has content when the fault takes effect, and ends after it.
                told.record.first_content_us = Some(told.record.intended_us + 1_000);
                told.record.ended_us = told.record.intended_us + 1_700_000;
                told.record.longest_gap_us = Some(1_600_000);
            }
        });
        expect_verdict(&result, Verdict::Fail, &format!("{part:?}"));
        assert!(
            result.reasons[0].contains("no further token for longer than 1s, the longest for 1.60 s"),
            "{:?}",
            result.reasons
        );
        assert_eq!(streams(&result).longest_stall_ms, Some(1600.0));
    }
}

#[test]
fn what_was_not_recorded_is_not_taken_for_short() {
    let result = limited(|slot, told| {
        if slot.part == Part::Judged && slot.nth == 5 {
            told.record.longest_gap_us = None;
        }
    });
    expect_verdict(&result, Verdict::Inconclusive, "an older journal");
    assert!(result.reasons[0].contains("it was not recorded"), "{:?}", result.reasons);
    let none = limited(|slot, told| {
        if matches!(slot.part, Part::Judged | Part::InFlight) {
            told.record.streamed = false;
        }
    });
    expect_verdict(&none, Verdict::Inconclusive, "no stream at all");
}

#[test]
fn what_clients_got_of_broken_streams_is_told() {
    let result = limited(|slot, told| {
        if slot.part == Part::Judged && [5, 7].contains(&slot.nth) {
            let tokens = if slot.nth == 5 { 2 } else { 6 };
            told.record.outcome = Outcome::Error("truncated-stream".into());
            told.record.broke =
                Some(BrokenStream { tokens, error_event: tokens == 6, ..BrokenStream::default() });
        }
    });
    expect_verdict(&result, Verdict::Fail, "broken streams are errors");
    let seen = streams(&result);
    assert_eq!((seen.broken, seen.tokens_before_break, seen.broken_with_error_event), (2, Some((2, 6)), 1));
}

/// Journals without what streams did are judged as ever.
#[test]
fn nothing_is_told_where_nothing_was_recorded() {
    let result = Story::of(&["cloud-down"]).judge();
    expect_verdict(&result, Verdict::Pass, "no limits");
    assert_eq!(route(&result, "cloud-down", "agent").streams, None);
}
