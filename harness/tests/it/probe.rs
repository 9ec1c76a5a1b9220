//! What a probe keeps of the other side's words.

use std::time::Duration;

use harness::gateway::secret::Secret;
use harness::journal::{BrokenStream, Clock, Outcome, Purpose};
use harness::probe::{Prober, Request};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
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

/// A gateway that gives these chunks of a stream, and then closes, or never says anything again.
async fn streams(chunks: &'static [&'static str], closes: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked).await;
        let body: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        stream.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
        if !closes {
            std::future::pending::<()>().await;
        }
    });
    url
}

const TOKEN: &str = r#"{"model":"m","choices":[{"delta":{"content":"hi"},"finish_reason":null}]}"#;
const STOP: &str = r#"{"model":"m","choices":[{"delta":{},"finish_reason":"stop"}]}"#;

#[tokio::test]
async fn what_a_client_got_of_a_stream_is_kept_however_it_ends() {
    let asked = async |url: String| {
        let prober = Prober::new(&url, Secret::new(KEY), Clock::starting_now()).expect("a client");
        prober.send(&Request { timeout: Duration::from_millis(400), ..request(true) }).await
    };
    let broke = |tokens, finished, terminated, error_event| {
        Some(BrokenStream { tokens, finished, terminated, error_event })
    };
    let whole = asked(streams(&[TOKEN, TOKEN, STOP, "[DONE]"], true).await).await;
    assert_eq!((&whole.outcome, whole.broke), (&Outcome::Ok, None));
    assert!(whole.longest_gap_us.is_some());

    let cut = asked(streams(&[TOKEN, TOKEN], true).await).await;
    assert_eq!(
        (&cut.outcome, cut.broke),
        (&Outcome::Error("truncated-stream".into()), broke(2, false, false, false))
    );

    let error = asked(streams(&[TOKEN, r#"{"error":{"message":"gone"}}"#, "[DONE]"], true).await).await;
    assert_eq!(
        (&error.outcome, error.broke),
        (&Outcome::Error("error-event".into()), broke(1, false, true, true))
    );

    // The silence up to the end counts: nobody knows how long it would have been.
    let hung = asked(streams(&[TOKEN], false).await).await;
    assert_eq!(
        (&hung.outcome, hung.broke),
        (&Outcome::Error("client-timeout".into()), broke(1, false, false, false))
    );
    let began = hung.first_content_us.expect("a token");
    assert_eq!(hung.longest_gap_us, Some(hung.ended_us - began));

    let nothing = asked(streams(&[], false).await).await;
    assert_eq!((nothing.longest_gap_us, nothing.broke), (None, broke(0, false, false, false)));
}
