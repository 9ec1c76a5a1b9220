//! What pods print, and a Loki that has it: counts that a run ends with, and what they may change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mocks::loki::{LogLine, Loki, LokiOptions};
use serde_json::Value;

use crate::child::Ended;
use crate::stack::{CLOUD_DOWN, Stack, Staging};

const LABELS: [(&str, &str); 3] = [("app", "litellm"), ("namespace", "ml"), ("pod", "litellm-0")];

async fn with_loki(loki: &Loki) -> Stack {
    let stack = Stack::start(Staging::default()).await;
    let known = format!("loki: {{ url: \"{}\", query: '{{app=\"litellm\"}}', within: 10s }}\n", loki.url());
    stack.edit("components:\n", &format!("{known}components:\n"));
    stack
}

async fn run(stack: &Stack, code: i32) -> Ended {
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    stack.harness("run", &[file]).end().await.expect(code)
}

fn count<'r>(result: &'r Value, source: &str) -> &'r Value {
    let counts = result["scenarios"][0]["counts"].as_array().unwrap();
    counts.iter().find(|count| count["source"] == source).unwrap_or_else(|| panic!("{source}: {counts:?}"))
}

fn upstream<'r>(result: &'r Value, component: &str, source: &str) -> &'r Value {
    let counts = result["scenarios"][0]["upstream_counts"].as_array().unwrap();
    let own = counts.iter().find(|count| count["component"] == component && count["source"] == source);
    own.unwrap_or_else(|| panic!("{source} of {component}: {counts:?}"))
}

/// Requirements and their verdicts.
fn judged(result: &Value) -> Vec<(&str, &str)> {
    let all = result["requirements"].as_array().unwrap().iter();
    all.map(|one| (one["id"].as_str().unwrap(), one["verdict"].as_str().unwrap())).collect()
}

/// Every third line late, every second one twice, and the others before all that came before them.
fn disorder(loki: Arc<Loki>) -> impl Fn(&str) + Send + Sync {
    let number = AtomicU64::new(0);
    move |text: &str| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let line = LogLine {
            labels: LABELS.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            at_ns: jiff::Timestamp::now().as_nanosecond(),
            text: text.to_owned(),
            late: if number.is_multiple_of(3) { 2 } else { 0 },
            copies: if number.is_multiple_of(2) { 2 } else { 1 },
        };
        if number.is_multiple_of(2) { loki.push(line) } else { loki.push_first(line) }
    }
}

async fn late_doubled_and_reordered() -> Ended {
    let loki = Arc::new(Loki::start(LokiOptions::default()).await.unwrap());
    let stack = with_loki(&loki).await;
    stack.gateway_prints_to(disorder(Arc::clone(&loki)));
    let ended = run(&stack, 0).await;
    assert!(loki.queries() > 2, "late lines were asked for again: {}", loki.queries());
    let (told, printed) = (count(&ended.result, "loki"), count(&ended.result, "gateway log"));
    assert!(printed["calls"].as_u64().unwrap() > 20, "{printed}");
    assert_eq!((&told["missing"], &told["trouble"]), (&0.into(), &Value::Null), "{told}");
    assert_eq!(told["calls"], printed["calls"], "each line once: {told} {printed}");
    stack.assert_clean();
    stack.strike().await;
    loki.shutdown().await;
    ended
}

async fn down() -> Ended {
    let loki = Loki::start(LokiOptions::default()).await.unwrap();
    loki.set_down(true);
    let stack = with_loki(&loki).await;
    let ended = run(&stack, 0).await;
    let told = count(&ended.result, "loki");
    assert_eq!((&told["calls"], &told["trouble"]), (&0.into(), &"it answers 503".into()), "{told}");
    assert!(ended.report.contains("loki: it answers 503"), "{}", ended.report);
    stack.assert_clean();
    stack.strike().await;
    loki.shutdown().await;
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loki_changes_no_verdict_with_lines_in_disorder_nor_by_being_down() {
    let (disordered, down) = tokio::join!(late_doubled_and_reordered(), down());
    assert_eq!(judged(&disordered.result), judged(&down.result));
    for ended in [disordered, down] {
        assert_eq!(ended.result["verdict"], "pass");
        // No Loki knows what vLLM prints.
        for source in ["access log", "counters"] {
            let vllm = upstream(&ended.result, "vllm", source);
            assert_eq!((&vllm["standing"], &vllm["trouble"]), (&"agrees".into(), &Value::Null), "{vllm}");
            assert!(vllm["got"].as_u64().unwrap() >= 20, "{vllm}");
            assert!(vllm["answered"].as_u64() >= vllm["got"].as_u64(), "{vllm}");
        }
        assert_eq!(upstream(&ended.result, "ollama", "access log")["got"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_printed_fewer_answers_than_clients_got_from_it_contradicts() {
    let stack = Stack::start(Staging::default()).await;
    let chats = AtomicU64::new(0);
    let is_printed = move |line: &str| {
        !line.contains("POST /v1/chat/completions") || !chats.fetch_add(1, Ordering::SeqCst).is_multiple_of(4)
    };
    stack.vllm_prints(is_printed);
    let ended = run(&stack, 3).await;
    let standing = |source| &upstream(&ended.result, "vllm", source)["standing"];
    assert_eq!((standing("access log"), standing("counters")), (&"contradicts".into(), &"agrees".into()));
    assert!(ended.reasons().contains("the access log of vllm shows "), "{}", ended.reasons());
    assert_eq!(ended.result["restored"], true);
    stack.assert_clean();
    stack.strike().await;
}
