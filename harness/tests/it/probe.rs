//! What a probe keeps of the other side's words.

use std::time::Duration;

use harness::gateway::secret::Secret;
use harness::journal::{Clock, Purpose};
use harness::probe::{Prober, Request};
use serde_json::json;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

const KEY: &str = "sk-canary-0123456789-abcdefghij";

fn request(streamed: bool) -> Request {
    Request {
        id: "probe-1".into(),
        scenario: "s".into(),
        route: "agent".into(),
        purpose: Purpose::Traffic,
        model: "m".into(),
        streamed,
        fresh: true,
        max_tokens: 8,
        timeout: Duration::from_secs(10),
        intended_us: 0,
    }
}

/// The record of a probe as the journal would hold it.
async fn record(reply: ResponseTemplate, streamed: bool) -> String {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(reply).mount(&server).await;
    let prober = Prober::new(&server.uri(), Secret::new(KEY), Clock::starting_now()).expect("a client");
    serde_json::to_string(&prober.send(&request(streamed)).await).expect("a record")
}

/// Also a part of a key is too much: any eight characters of it in a row.
#[track_caller]
fn assert_keyless(record: &str) {
    let parts = (0..=KEY.len() - 8).map(|from| &KEY[from..from + 8]);
    let shown: Vec<&str> = parts.filter(|part| record.contains(part)).collect();
    assert!(shown.is_empty(), "{shown:?} in {record}");
}

#[tokio::test]
async fn a_gateway_that_echoes_the_key_does_not_get_it_into_the_record() {
    // The error words are `t: ` and the message: the key lies across their 200th character.
    let message = format!("{}{KEY}", "x".repeat(180));
    let error = json!({ "error": { "type": "t", "message": message } });
    let reply = ResponseTemplate::new(500).set_body_json(&error).insert_header("x-litellm-model-id", KEY);
    let kept = record(reply, false).await;
    assert_keyless(&kept);
    assert!(kept.contains("http-500") && kept.contains("***"), "{kept}");

    let whole = json!({ "model": format!("m-{KEY}"), "choices": [
        { "finish_reason": "stop", "message": { "content": "hello" } } ] });
    let kept = record(ResponseTemplate::new(200).set_body_json(&whole), false).await;
    assert_keyless(&kept);
    assert!(kept.contains("m-***"), "{kept}");

    let stream = format!("data: {error}\n\ndata: [DONE]\n\n");
    let kept = record(ResponseTemplate::new(200).set_body_string(stream), true).await;
    assert_keyless(&kept);
    assert!(kept.contains("error-event"), "{kept}");
}

/// What would keep a probe from tripping the breaker that real callers trip, or from going the way that they go.
const BREAKER_KEYS: [&str; 10] = [
    "timeout",
    "stream_timeout",
    "request_timeout",
    "num_retries",
    "max_retries",
    "fallbacks",
    "disable_fallbacks",
    "mock_response",
    "mock_testing_fallbacks",
    "include_fallback_errors",
];

#[tokio::test]
async fn a_probe_asks_as_a_real_caller_does() {
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::any()).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    let prober = Prober::new(&server.uri(), Secret::new(KEY), Clock::starting_now()).expect("a client");
    for streamed in [false, true] {
        prober.send(&request(streamed)).await;
    }
    let requests = server.received_requests().await.expect("recorded");
    assert_eq!(requests.len(), 2, "no page of the gateway is asked beside, and nothing twice");
    for request in requests {
        assert_eq!((request.method.as_str(), request.url.path()), ("POST", "/v1/chat/completions"));
        let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        let body = body.as_object().expect("an object");
        assert_eq!(body["model"], "m", "the alias, and no deployment's id");
        let of_body: Vec<_> = body.keys().filter(|key| BREAKER_KEYS.contains(&key.as_str())).collect();
        let of_headers: Vec<_> = request
            .headers
            .keys()
            .filter(|name| name.as_str().starts_with("x-litellm-") && name.as_str() != "x-litellm-call-id")
            .collect();
        assert!(of_body.is_empty() && of_headers.is_empty(), "{of_body:?} {of_headers:?}");
        // Its id is where LiteLLM keeps it: in the header that it echoes, the metadata, and the prompt.
        assert_eq!(request.headers["x-litellm-call-id"], "probe-1");
        assert_eq!(body["metadata"]["probe_id"], "probe-1");
        assert!(body["messages"][0]["content"].as_str().expect("text").contains("[probe:probe-1]"));
    }
}
