//! What the tests share: a small upstream, a configuration, a LiteLLM, and conditions to wait for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use harness::gateway::config::{LocalConfig, Upstream, localize};
use harness::gateway::litellm::find::{FindOptions, find};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use wiremock::matchers::{body_partial_json, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// The command line that makes this test binary play `part`.
pub(crate) fn playing(part: &str) -> Vec<OsString> {
    let this = std::env::current_exe().expect("this binary").into_os_string();
    vec![this, part.into(), "--exact".into(), "--nocapture".into(), "--".into()]
}

/// The guard as the program has it. A test binary playing it has a flaw of its own: after a minute the test
/// harness around it writes to a standard output that nobody reads any more, and dies of it.
pub(crate) fn own_guard() -> Vec<OsString> {
    [env!("CARGO_BIN_EXE_harness"), "supervise", "--"].map(OsString::from).to_vec()
}

/// The LiteLLM under test.
pub(crate) async fn litellm() -> PathBuf {
    static BIN: OnceCell<PathBuf> = OnceCell::const_new();
    let find_it = || async {
        let bin = std::env::var_os("HARNESS_TEST_LITELLM").map(PathBuf::from);
        let options = FindOptions { install: bin.is_none(), bin, ..FindOptions::default() };
        let found = find(&options, &mut |_| {}).await.expect("a LiteLLM to test with");
        assert!(found.is_pinned(), "{} is version {}", found.bin.display(), found.version);
        found.bin
    };
    BIN.get_or_init(find_it).await.clone()
}

/// An upstream that speaks both dialects and always says `hello`.
pub(crate) async fn upstream() -> MockServer {
    let server = MockServer::start().await;
    let whole = json!({ "model": "kimi", "created_at": "2026-01-01T00:00:00Z", "done": true, "done_reason": "stop",
        "message": { "role": "assistant", "content": "hello" }, "prompt_eval_count": 1, "eval_count": 1 });
    let part = json!({ "model": "kimi", "created_at": "2026-01-01T00:00:00Z", "done": false,
        "message": { "role": "assistant", "content": "hel" } });
    let streamed = format!("{part}\n{whole}\n");
    let chat = |stream: bool| {
        Mock::given(method("POST")).and(path("/api/chat")).and(body_partial_json(json!({ "stream": stream })))
    };
    chat(false).respond_with(ResponseTemplate::new(200).set_body_json(whole)).mount(&server).await;
    chat(true)
        .respond_with(ResponseTemplate::new(200).set_body_raw(streamed, "application/x-ndjson"))
        .mount(&server)
        .await;
    let completion = json!({ "id": "c1", "object": "chat.completion", "created": 1, "model": "Qwen3",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "hello" } }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 } });
    Mock::given(method("POST"))
        .and(path("/v1/chat/completions"))
        .respond_with(ResponseTemplate::new(200).set_body_json(completion))
        .mount(&server)
        .await;
    server
}

/// Two aliases, both at `base_url`; the person's own key stands in the file.
pub(crate) fn config(base_url: &str, settings: Value) -> LocalConfig {
    let at = |component: &str| Upstream { component: component.into(), base_url: base_url.into() };
    let upstreams = BTreeMap::from([("cloud-kimi".into(), at("cloud")), ("vllm-qwen".into(), at("vllm"))]);
    let source = json!({
        "model_list": [
            { "model_name": "cloud-kimi",
              "litellm_params": { "model": "ollama_chat/kimi", "api_base": "https://ollama.com" } },
            { "model_name": "vllm-qwen",
              "litellm_params": { "model": "hosted_vllm/Qwen3", "api_base": "http://vllm:8000/v1" } },
        ],
        "router_settings": settings,
        "litellm_settings": { "callbacks": ["langfuse"] },
        "general_settings": { "master_key": PERSONS_KEY, "database_url": "postgresql://nowhere/x" },
    });
    localize(&source, &upstreams).expect("a good config")
}

/// A key in the person's own file.
pub(crate) const PERSONS_KEY: &str = "sk-the-persons-own-key";

/// Waits until `condition` gives a value; fails after `within`.
pub(crate) async fn wait_for<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let poll = async {
        loop {
            ticks.tick().await;
            if let Some(value) = condition() {
                return value;
            }
        }
    };
    match tokio::time::timeout(within, poll).await {
        Ok(value) => value,
        Err(_) => panic!("not within {within:?}: {what}"),
    }
}

/// Whether the process `pid` runs; one that ended but was not reaped does not.
pub(crate) fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().next());
    !matches!(state, Some("Z" | "X") | None)
}
