//! What logs of the gateway counted is told, and decides nothing; what upstreams counted can contradict.

use std::collections::BTreeMap;

use harness::journal::{Event, LogCounted, UpstreamCounted};
use harness::verdict::result::{CountStanding, RequirementVerdict, RunResult, Verdict};

use super::journal::{Lines, Story};
use super::{expect_verdict, scenario};

fn counted(source: &str, calls: u64, answers: &[(&str, u64)], trouble: Option<&str>) -> Event {
    Event::LogCounted(LogCounted {
        scenario: "cloud-down".into(),
        source: source.into(),
        calls,
        ours: 100,
        answers: answers.iter().map(|(model, count)| ((*model).to_owned(), *count)).collect(),
        trouble: trouble.map(str::to_owned),
    })
}

/// The mode with this in its journal just before its end.
fn with(lines: &Lines, event: Event) -> RunResult {
    let at = lines.when(|event| matches!(event, Event::HoldEnded { .. }));
    lines.clone().with(at, event).judge()
}

#[test]
fn no_count_of_a_log_changes_a_verdict() {
    let good = Story::of(&["cloud-down"]).tell();
    let slow = Story::of(&["cloud-down"]).edit(|slot, told| {
        if slot.judged("agent") && slot.nth == 2 {
            told.after(5_500_000);
        }
    });
    for (lines, verdict) in [(good, Verdict::Pass), (slow.tell(), Verdict::Fail)] {
        expect_verdict(&lines.judge(), verdict, "without any");
        let all = [
            counted("loki", 100, &[("m-vllm-qwen", 100)], None),
            counted("loki", 0, &[], Some("it answers 503")),
            counted("loki", 3, &[("ollama_chat/m-cloud-kimi", 3)], None),
            counted(
                "gateway log",
                9000,
                &[("nobody", 9000)],
                Some("the log of ml/litellm-0 cannot be read (403)"),
            ),
        ];
        for event in all {
            let result = with(&lines, event.clone());
            expect_verdict(&result, verdict, &format!("{event:?}"));
            let reasons = lines.judge().reasons;
            assert_eq!(result.reasons, reasons, "{event:?}");
        }
    }
}

#[test]
fn what_a_log_counted_stands_beside_what_clients_got_and_what_never_arrived_is_said() {
    let lines = Story::of(&["cloud-down"]).tell();
    let result = with(&lines, counted("loki", 97, &[("hosted_vllm/m-vllm-qwen", 90), ("strange", 2)], None));
    let seen = scenario(&result, "cloud-down");
    let count = &seen.counts[0];
    assert_eq!((count.calls, count.ours, count.missing), (97, 100, 3));
    let answers = BTreeMap::from([("strange".to_owned(), 2), ("vllm-qwen".to_owned(), 90)]);
    assert_eq!(count.answers, answers);
    assert!(count.got["vllm-qwen"] > 10 && count.got["cloud-kimi"] > 10, "{:?}", count.got);
    let said = "loki: of 100 calls of ours 3 never arrived in it";
    assert!(seen.findings.iter().any(|finding| finding == said), "{:?}", seen.findings);

    let result = with(&lines, counted("loki", 0, &[], Some("it answers 503")));
    let said = "loki: it answers 503; it shows 0 of 100 calls of ours";
    let findings = &scenario(&result, "cloud-down").findings;
    assert!(findings.iter().any(|finding| finding == said), "{findings:?}");
    let page = harness::report::markdown(&result);
    assert!(page.contains("Counted in the gateway's log"), "{page}");
}

/// What vLLM, or another, printed in the mode.
fn printed(component: &str, answered: u64, complete: bool, trouble: Option<&str>) -> Event {
    Event::UpstreamCounted(UpstreamCounted {
        scenario: "cloud-down".into(),
        component: component.into(),
        source: "access log".into(),
        calls: answered,
        answered,
        ours: 1000,
        complete,
        trouble: trouble.map(str::to_owned),
    })
}

fn got_of_vllm(lines: &Lines) -> u64 {
    let result = with(lines, printed("vllm", 0, false, None));
    scenario(&result, "cloud-down").upstream_counts[0].got
}

#[test]
fn an_upstream_that_answered_less_often_than_clients_got_from_it_contradicts() {
    let lines = Story::of(&["cloud-down"]).tell();
    let got = got_of_vllm(&lines);
    assert!(got > 10, "{got}");
    let result = with(&lines, printed("vllm", got - 1, true, None));
    expect_verdict(&result, Verdict::Inconclusive, "one answer is missing");
    let seen = scenario(&result, "cloud-down");
    assert_eq!(seen.upstream_counts[0].standing, CountStanding::Contradicts);
    let said = format!("the access log of vllm shows {} answers in this mode, but {got} replies", got - 1);
    assert!(seen.reasons.iter().any(|reason| reason.contains(&said)), "{:?}", seen.reasons);
    let left_open = |id: &str| {
        let of = seen.requirements.iter().find(|requirement| requirement.id == id);
        of.is_some_and(|requirement| requirement.verdict == RequirementVerdict::Inconclusive)
    };
    assert!(left_open("FR217") && left_open("NFR123") && left_open("NFR125"), "{:?}", seen.requirements);
    assert!(harness::report::markdown(&result).contains("**contradict**"));
}

#[test]
fn no_count_of_an_upstream_that_may_be_late_or_is_of_others_changes_a_verdict() {
    let lines = Story::of(&["cloud-down"]).tell();
    let got = got_of_vllm(&lines);
    let reasons = lines.judge().reasons;
    let broke = Some("the log of ml/vllm-0 ended meanwhile");
    for (event, standing, said) in [
        (printed("vllm", got, true, None), CountStanding::Agrees, None),
        (printed("vllm", got + 7, false, broke), CountStanding::Agrees, None),
        (
            printed("vllm", 2000, true, None),
            CountStanding::Beyond,
            Some("more than the 1000 requests that we sent"),
        ),
        (printed("vllm", got - 1, false, None), CountStanding::NotKnown, Some("cannot be said")),
        (printed("vllm", got - 1, true, broke), CountStanding::NotKnown, Some("cannot be said")),
        (printed("vllm", 0, true, Some("403")), CountStanding::Silent, Some("says nothing: 403")),
        (printed("ollama", 0, true, None), CountStanding::Agrees, None),
    ] {
        let result = with(&lines, event.clone());
        expect_verdict(&result, Verdict::Pass, &format!("{event:?}"));
        assert_eq!(result.reasons, reasons, "{event:?}");
        let seen = scenario(&result, "cloud-down");
        assert_eq!(seen.upstream_counts[0].standing, standing, "{event:?}");
        if let Some(said) = said {
            assert!(seen.findings.iter().any(|finding| finding.contains(said)), "{:?}", seen.findings);
        }
    }
}
