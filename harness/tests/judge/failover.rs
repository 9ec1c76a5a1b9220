//! Both readings of NFR123, and what was in flight.

use harness::journal::Outcome;
use harness::verdict::result::{Failover, RunResult, Verdict};

use super::journal::{Part, Slot, Story, Told};
use super::{expect_verdict, route};

fn agent(result: &RunResult) -> &Failover {
    route(result, "cloud-down", "agent").failover.as_ref().unwrap()
}

fn story(edit: impl Fn(&Slot, &mut Told) + 'static) -> RunResult {
    Story::of(&["cloud-down"])
        .edit(move |slot, told| {
            if slot.route == "agent" {
                edit(slot, told)
            }
        })
        .judge()
}

#[test]
fn the_request_reading_is_the_worst_probe() {
    for (took_us, verdict) in
        [(4_999_999, Verdict::Pass), (5_000_000, Verdict::Pass), (5_000_900, Verdict::Fail)]
    {
        let result = story(move |slot, told| {
            if slot.part == Part::Judged && slot.nth == 2 {
                told.after(took_us);
            }
        });
        expect_verdict(&result, verdict, &format!("{took_us} us"));
        let seen = agent(&result);
        assert_eq!((seen.worst_ms, seen.request_verdict), (Some(took_us as f64 / 1000.0), verdict));
        assert!(!seen.censored);
    }
}

#[test]
fn an_error_has_no_worst_time() {
    let result = story(|slot, told| {
        if slot.part == Part::Judged && slot.nth == 2 {
            told.failed("client-timeout");
        }
    });
    let seen = agent(&result);
    assert_eq!((seen.worst_ms, seen.censored, seen.request_verdict), (None, true, Verdict::Fail));
}

#[test]
fn lateness_of_our_own_matters_only_where_it_decides() {
    let cases = [
        // (sent after, content after, verdict)
        (400_000, 600_000, Verdict::Pass),
        (400_000, 5_300_000, Verdict::Inconclusive),
        (400_000, 5_500_000, Verdict::Fail),
    ];
    for nth in [2, 45] {
        for (sent_us, took_us, verdict) in cases {
            let result = story(move |slot, told| {
                if slot.part == Part::Judged && slot.nth == nth {
                    told.record.sent_us = told.record.intended_us + sent_us;
                    told.after(took_us);
                }
            });
            expect_verdict(&result, verdict, &format!("probe {nth} sent {sent_us} us late, {took_us} us"));
            assert_eq!(route(&result, "cloud-down", "agent").late, 1);
        }
    }
}

#[test]
fn in_flight_without_content_may_be_served_by_the_old_or_the_new() {
    let cases = [
        ("vllm-qwen", 4_900_000, Verdict::Pass),
        ("cloud-kimi", 300_000, Verdict::Pass),
        ("cloud-kimi", 5_100_000, Verdict::Fail),
        ("vllm-qwen", 5_100_000, Verdict::Fail),
        ("ollama-qwen", 300_000, Verdict::Fail),
    ];
    for (alias, took_us, verdict) in cases {
        let mut story = Story::of(&["cloud-down"]);
        story.bracket_us = 100_000;
        let story = story.edit(move |slot, told| {
            if slot.route == "agent" && slot.part == Part::InFlight {
                told.served_by(alias);
                told.after(took_us);
            }
        });
        let result = story.judge();
        expect_verdict(&result, verdict, &format!("{alias} after {took_us} us"));
        assert_eq!(agent(&result).worst_ms, Some(took_us as f64 / 1000.0), "it enters the worst");
        let counted = route(&result, "cloud-down", "agent");
        assert_eq!(counted.requests, counted.served_by.get("vllm-qwen").copied().unwrap_or(0));
    }
    let lost = story(|slot, told| {
        if slot.part == Part::InFlight {
            told.failed("connection-reset");
        }
    });
    expect_verdict(&lost, Verdict::Fail, "lost without content");
}

/// Breaks off in the middle of its answer, one second after the fault.
fn broken_off(told: &mut Told) {
    let content = told.record.intended_us + 1;
    told.failed("truncated");
    told.record.first_content_us = Some(content);
    told.record.ended_us += 1_000_000;
}

#[test]
fn in_flight_with_content_is_counted_apart() {
    for (bound, verdict) in [(None, Verdict::Pass), (Some(0), Verdict::Fail), (Some(9), Verdict::Pass)] {
        let story = Story::changed("cloud-down", move |scenario| {
            scenario.expect.get_mut("agent").unwrap().lost_in_flight = bound;
        });
        let story = story.edit(|slot, told| {
            if slot.route == "agent" && slot.part == Part::InFlight {
                broken_off(told);
            }
        });
        let result = story.judge();
        expect_verdict(&result, verdict, &format!("lost in flight may be {bound:?}"));
        let lost = agent(&result).in_flight;
        assert!(lost.lost > 0 && lost.served == 0, "{lost:?}");
    }
}

/// All replies up to `seconds` after the fault are errors in good time.
fn broken_until(seconds: f64, bracket_us: u64) -> RunResult {
    let mut story = Story::of(&["cloud-down"]);
    story.bracket_us = bracket_us;
    let story = story.edit(move |slot, told| {
        if slot.judged("agent") && slot.seconds < seconds {
            told.failed("http-503");
        }
    });
    story.judge()
}

#[test]
fn the_service_reading_is_the_start_of_the_steady_run() {
    for (seconds, bracket_us, verdict) in [
        (2.0, 12_000, Verdict::Pass),
        (5.5, 12_000, Verdict::Fail),
        (4.7, 900_000, Verdict::Inconclusive),
        (20.0, 12_000, Verdict::Fail),
    ] {
        let result = broken_until(seconds, bracket_us);
        let seen = agent(&result);
        assert_eq!(seen.service_verdict, verdict, "{seconds} s: {:?}", seen.steady_after_ms);
        assert_eq!(seen.request_verdict, Verdict::Fail);
        assert_eq!(seen.steady_after_ms.is_none(), seconds > 12.0);
    }
}

#[test]
fn a_service_that_breaks_again_is_not_steady() {
    for at in [56, 80] {
        let result = story(move |slot, told| {
            if slot.part == Part::Judged && slot.nth == at {
                told.failed("http-503");
            }
        });
        assert_eq!(agent(&result).service_verdict, Verdict::Fail, "broken at probe {at}");
    }
}

#[test]
fn a_steady_run_needs_five_seconds_and_ten_probes() {
    for seconds in [4, 6] {
        let story = Story::changed("cloud-down", move |scenario| {
            for traffic in &mut scenario.traffic {
                traffic.hold = harness::units::Period::from_secs(seconds);
            }
        });
        let result = story.judge();
        let wanted = if seconds < 5 { Verdict::Inconclusive } else { Verdict::Pass };
        assert_eq!(agent(&result).service_verdict, wanted, "{seconds} s");
    }
    let few = Story::changed("cloud-down", |scenario| {
        scenario.traffic[0].rate = "30/m".parse().unwrap();
    });
    assert_eq!(agent(&few.judge()).service_verdict, Verdict::Inconclusive, "six probes");
}

/// Unsure replies up to 6 s could have been good: that the service was late is not shown.
#[test]
fn a_late_service_must_be_proven() {
    let result = story(|slot, told| {
        if slot.part == Part::Judged && (5.0..6.0).contains(&slot.seconds) {
            told.unknown();
        }
    });
    assert_eq!(agent(&result).service_verdict, Verdict::Inconclusive);
    let result = story(|slot, told| {
        if slot.part == Part::Judged && (1.0..6.0).contains(&slot.seconds) {
            told.record.outcome = Outcome::Error("http-500".into());
        }
    });
    assert_eq!(agent(&result).service_verdict, Verdict::Fail);
}
