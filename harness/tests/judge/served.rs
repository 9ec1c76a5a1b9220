//! Who answered, and how: served-by, errors, expected errors, counts and quantiles.

use harness::journal::{Claim, ClaimSource, Event, Outcome};
use harness::verdict::result::{RequirementVerdict, Verdict};

use super::journal::{SECOND, Story, Told};
use super::{expect_verdict, requirement, route, scenario};

#[test]
fn all_five_modes_as_they_must_be_pass() {
    let result = Story::of(&[]).judge();
    expect_verdict(&result, Verdict::Pass, "all well");
    for scenario in &result.scenarios {
        assert_eq!(scenario.verdict, Verdict::Pass, "{}", scenario.name);
        for route in &scenario.routes {
            assert_eq!(route.ok + route.errors.values().sum::<u64>(), route.requests);
            assert_eq!(route.served_by.values().sum::<u64>(), route.ok);
            assert_eq!(route.planned, route.requests + route.skipped);
        }
    }
}

/// One judged probe of cloud-down's agent, at 8 s, is changed.
fn one_agent_probe(change: impl Fn(&mut Told) + 'static) -> Story {
    Story::of(&["cloud-down"]).edit(move |slot, told| {
        if slot.judged("agent") && slot.nth == 20 {
            change(told);
        }
    })
}

#[test]
fn one_reply_by_another_alias_fails_and_names_it() {
    let result = one_agent_probe(|told| told.served_by("ollama-qwen")).judge();
    expect_verdict(&result, Verdict::Fail, "another alias");
    assert!(result.reasons.iter().any(|reason| reason.contains("ollama-qwen (1)")), "{:?}", result.reasons);
    assert_eq!(route(&result, "cloud-down", "agent").served_by["ollama-qwen"], 1);
    assert_eq!(requirement(scenario(&result, "cloud-down"), "FR217"), RequirementVerdict::Fail);
}

/// Wherever in the mode it happens: also where the service reading's limit is near.
#[test]
fn one_reply_by_nobody_known_is_inconclusive() {
    for nth in [0, 20, 42, 50, 95] {
        let result = Story::of(&["cloud-down"])
            .edit(move |slot, told| {
                if slot.judged("agent") && slot.nth == nth {
                    told.unknown();
                }
            })
            .judge();
        expect_verdict(&result, Verdict::Inconclusive, &format!("unknown at {nth}"));
        assert_eq!(route(&result, "cloud-down", "agent").served_by["unknown"], 1);
    }
}

#[test]
fn sources_that_disagree_are_inconclusive() {
    for nth in [0, 42, 50, 95] {
        let result = Story::of(&["cloud-down"])
            .edit(move |slot, told| {
                if slot.judged("agent") && slot.nth == nth {
                    let value = "cloud-kimi".into();
                    told.record.claims = vec![Claim { source: ClaimSource::HeaderModelGroup, value }];
                }
            })
            .judge();
        expect_verdict(&result, Verdict::Inconclusive, &format!("conflict at {nth}"));
        assert_eq!(route(&result, "cloud-down", "agent").attribution_conflicts, 1);
    }
}

#[test]
fn an_error_where_none_may_be_fails_and_allowed_ones_count() {
    let result = one_agent_probe(|told| told.failed("http-503")).judge();
    expect_verdict(&result, Verdict::Fail, "an error");
    assert_eq!(requirement(scenario(&result, "cloud-down"), "NFR125"), RequirementVerdict::Fail);

    let allowed = Story::changed("cloud-down", |scenario| {
        scenario.expect.get_mut("agent").unwrap().errors = 1;
    });
    let result = allowed.edit(|slot, told| {
        if slot.judged("agent") && slot.nth == 3 {
            told.failed("http-503");
        }
    });
    let result = result.judge();
    assert_eq!(requirement(scenario(&result, "cloud-down"), "NFR125"), RequirementVerdict::Pass);
}

#[test]
fn only_honest_errors_in_time_are_the_expected_error() {
    let cases = [
        ("http-408", 4_900_000, Verdict::Pass),
        ("http-429", 100_000, Verdict::Pass),
        ("http-500", 5_000_000, Verdict::Pass),
        ("http-500", 5_000_001 + 300, Verdict::Fail),
        ("http-503", 100_000, Verdict::Pass),
        ("http-400", 100_000, Verdict::Fail),
        ("http-401", 100_000, Verdict::Fail),
        ("http-403", 100_000, Verdict::Fail),
        ("http-404", 100_000, Verdict::Fail),
        ("connection-reset", 100_000, Verdict::Fail),
        ("client-timeout", 100_000, Verdict::Fail),
        ("truncated", 100_000, Verdict::Fail),
    ];
    for (class, took_us, wanted) in cases {
        let result = Story::of(&["full-outage"]).edit(move |slot, told| {
            if slot.judged("coder") && slot.nth == 5 {
                told.failed(class);
                told.after(took_us);
            }
        });
        expect_verdict(&result.judge(), wanted, class);
    }
    let result = Story::of(&["full-outage"]).edit(|slot, told| {
        if slot.judged("coder") && slot.nth == 5 {
            told.served_by("cloud-qwen3-coder");
        }
    });
    // Of one that cannot have answered: whatever it was, it was not a full outage.
    expect_verdict(&result.judge(), Verdict::Inconclusive, "a reply");
}

#[test]
fn a_reply_of_what_is_down_says_nothing_of_the_stack() {
    let result = Story::of(&["cloud-down"]).edit(|slot, told| {
        if slot.judged("agent") && slot.nth == 9 {
            told.served_by("cloud-minimax");
        }
    });
    let result = result.judge();
    expect_verdict(&result, Verdict::Inconclusive, "a leak");
    assert!(
        result.reasons.iter().any(|reason| reason.contains("while cloud was seen down")),
        "{:?}",
        result.reasons
    );
}

#[test]
fn a_mode_that_nothing_leaves_still_has_its_limit() {
    for (took_us, wanted) in [(4_900_000, Verdict::Pass), (5_100_000, Verdict::Fail)] {
        let story = Story::of(&["normal"]).edit(move |slot, told| {
            if slot.judged("agent") && slot.nth == 20 {
                told.after(took_us);
            }
        });
        expect_verdict(&story.judge(), wanted, &format!("{took_us} us"));
    }
    let story = Story::of(&["normal"]).edit(|slot, told| {
        if slot.judged("agent") && slot.nth == 20 {
            told.record.sent_us = told.record.intended_us + 900_000;
            told.after(5_100_000);
        }
    });
    expect_verdict(&story.judge(), Verdict::Inconclusive, "late by our own fault");
}

#[test]
fn a_scenario_that_expects_nothing_does_not_pass() {
    let story = Story::changed("normal", |scenario| scenario.expect.clear());
    expect_verdict(&story.judge(), Verdict::Inconclusive, "nothing expected");
}

#[test]
fn errors_stand_at_infinity_in_the_quantiles() {
    let result = Story::of(&["cloud-down"]).edit(|slot, told| {
        if slot.judged("agent") && slot.nth % 5 == 0 {
            told.failed("http-503");
        }
    });
    let result = result.judge();
    let agent = route(&result, "cloud-down", "agent");
    let latency = &agent.latency_ms;
    assert_eq!((latency.count, latency.infinite), (agent.requests, agent.errors["http-503"]));
    assert_eq!((latency.p50, latency.p90, latency.p99, latency.max), (Some(150.0), None, None, None));
    assert_eq!(agent.ttft_ms.p50, Some(100.0));
}

#[test]
fn skipped_probes_and_unsampled_time_are_inconclusive() {
    let lines = Story::of(&["cloud-down"]).tell();
    let from = lines.when(|event| matches!(event, Event::HoldStarted { .. }));
    let skipped = |intended_us, reason: &str| Event::ProbeSkipped {
        scenario: "cloud-down".into(),
        route: "agent".into(),
        intended_us,
        reason: reason.into(),
    };
    let result = lines.clone().with(from + SECOND, skipped(from + SECOND, "too many open")).judge();
    expect_verdict(&result, Verdict::Inconclusive, "one skipped");
    let agent = route(&result, "cloud-down", "agent");
    assert_eq!((agent.skipped, agent.planned), (1, agent.requests + 1));
    let of = scenario(&result, "cloud-down");
    assert_eq!(
        requirement(of, "NFR123"),
        RequirementVerdict::Inconclusive,
        "it might have been the slow one"
    );

    let outside = lines.clone().with(1000, skipped(1000, "too many open")).judge();
    expect_verdict(&outside, Verdict::Pass, "skipped outside of the judged window");

    let gap = lines.without(|event| match event {
        Event::ProbeEnded(record) => {
            record.route == "agent" && (from + SECOND..from + 3 * SECOND).contains(&record.intended_us)
        }
        _ => false,
    });
    expect_verdict(&gap.judge(), Verdict::Inconclusive, "two seconds without a probe");
}

#[test]
fn too_few_probes_are_inconclusive() {
    let story = Story::of(&["normal"]);
    let lines = story.tell().without(|event| match event {
        Event::ProbeEnded(record) => record.route == "coder" && !record.id.ends_with('3'),
        _ => false,
    });
    expect_verdict(&lines.judge(), Verdict::Inconclusive, "two probes");
}

#[test]
fn a_probe_left_open_is_never_absent() {
    for name in ["cloud-down", "full-outage", "normal"] {
        let story = Story::of(&[name]).edit(|slot, told| {
            if slot.judged("agent") && slot.nth == 20 {
                told.failed("x");
                told.record.outcome = Outcome::Censored(harness::journal::Censoring::RunCut);
            }
        });
        let result = story.judge();
        expect_verdict(&result, Verdict::Inconclusive, name);
        let agent = route(&result, name, "agent");
        assert_eq!(agent.errors["censored"], 1);
        assert_eq!(agent.latency_ms.infinite, agent.requests - agent.ok);
    }
}
