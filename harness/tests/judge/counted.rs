//! What logs of the gateway counted is told, and decides nothing.

use std::collections::BTreeMap;

use harness::journal::{Event, LogCounted};
use harness::verdict::result::{RunResult, Verdict};

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
