//! The relay between openclaw and the gateway, with a small gateway behind it.

use std::sync::Arc;
use std::time::Duration;

use harness::client::relay::Relay;
use harness::journal::{ClaimSource, Clock, Event, FILE_NAME, GatewayCall, Journal};
use harness::probe::Ledger;
use serde_json::{Value, json};
use tempfile::TempDir;
use wiremock::matchers::{body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

struct Between {
    relay: Relay,
    directory: TempDir,
}

impl Between {
    async fn start(gateway: &str) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let journal =
            Journal::create(&directory.path().join(FILE_NAME), Clock::starting_now()).expect("journal");
        let relay = Relay::start(gateway, Arc::new(journal), Ledger::default()).await.expect("relay");
        Self { relay, directory }
    }

    fn ask(&self, content: Value) -> reqwest::RequestBuilder {
        let body = json!({ "model": "cloud-kimi", "stream": true, "messages": [
            { "role": "system", "content": "be brief" }, { "role": "user", "content": content } ] });
        reqwest::Client::new()
            .post(format!("{}/v1/chat/completions", self.relay.url()))
            .header("authorization", "Bearer sk-gateway")
            .body(body.to_string())
    }

    /// What stands in the journal once the relay is gone.
    async fn calls(self) -> Vec<GatewayCall> {
        self.relay.shutdown().await;
        let text = std::fs::read_to_string(self.directory.path().join(FILE_NAME)).expect("journal");
        assert!(!text.contains("sk-gateway") && !text.contains("be brief"), "{text}");
        let entry =
            |line: &str| serde_json::from_str::<harness::journal::Entry>(line).expect("an entry").event;
        let calls = text.lines().map(entry).map(|event| match event {
            Event::GatewayCalled(call) => call,
            other => panic!("{other:?}"),
        });
        calls.collect()
    }
}

#[tokio::test]
async fn a_call_is_passed_on_as_it_is_and_written_down_with_what_it_says_of_its_server() {
    let gateway = MockServer::start().await;
    let stream = "data: {\"model\":\"vllm-qwen\",\"choices\":[]}\n\ndata: [DONE]\n\n";
    let answer = ResponseTemplate::new(200)
        .insert_header("x-litellm-model-group", "vllm-qwen")
        .set_body_raw(stream, "text/event-stream");
    Mock::given(method("POST"))
        .and(path("/v1/chat/completions"))
        .and(header("authorization", "Bearer sk-gateway"))
        .and(body_partial_json(json!({ "model": "cloud-kimi", "stream": true })))
        .respond_with(answer)
        .mount(&gateway)
        .await;
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(404)).mount(&gateway).await;
    let between = Between::start(&gateway.uri()).await;
    let parts = json!([{ "type": "text", "text": "who are you? [probe:p-1]" }]);
    let answer = between.ask(parts).send().await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.text().await.expect("a body"), stream);
    // What is no model call is passed on and not written down.
    let list = reqwest::get(format!("{}/v1/models", between.relay.url())).await.expect("an answer");
    assert_eq!(list.status(), 404);
    let calls = between.calls().await;
    assert_eq!(calls.len(), 1, "{calls:?}");
    let call = &calls[0];
    assert_eq!((call.probe.as_deref(), call.model.as_str()), (Some("p-1"), "cloud-kimi"));
    assert_eq!((call.status, &call.broke), (Some(200), &None));
    assert!(call.headers_us.is_some_and(|headers| headers >= call.received_us && headers <= call.ended_us));
    let claims: Vec<_> = call.claims.iter().map(|claim| (claim.source, claim.value.as_str())).collect();
    assert_eq!(claims, [(ClaimSource::HeaderModelGroup, "vllm-qwen"), (ClaimSource::BodyModel, "vllm-qwen")]);
}

#[tokio::test]
async fn errors_leaving_and_nobody_there_are_told_apart() {
    let gateway = MockServer::start().await;
    let failing = ResponseTemplate::new(429).set_body_string("{}");
    Mock::given(body_partial_json(json!({ "messages": [{}, { "content": "[probe:fails]" }] })))
        .respond_with(failing)
        .mount(&gateway)
        .await;
    let hanging = ResponseTemplate::new(200).set_delay(Duration::from_secs(600));
    Mock::given(method("POST")).respond_with(hanging).mount(&gateway).await;
    let between = Between::start(&gateway.uri()).await;
    let failed = between.ask(json!("[probe:fails]")).send().await.expect("an answer");
    assert_eq!(failed.status(), 429);
    drop(failed.bytes().await);
    let left = between.ask(json!("[probe:leaves]")).timeout(Duration::from_millis(300)).send().await;
    assert!(left.expect_err("no answer").is_timeout());
    let calls = between.calls().await;
    let told: Vec<_> =
        calls.iter().map(|call| (call.probe.as_deref(), call.status, call.broke.as_deref())).collect();
    assert_eq!(told, [(Some("fails"), Some(429), None), (Some("leaves"), None, Some("openclaw left"))]);

    let between = Between::start("http://127.0.0.1:1").await;
    let answer = between.ask(json!("nobody asked")).send().await.expect("an answer");
    assert_eq!(answer.status(), 502);
    let calls = between.calls().await;
    assert_eq!(
        (&calls[0].probe, calls[0].status, calls[0].broke.as_deref()),
        (&None, None, Some("connect-refused"))
    );
}

#[tokio::test]
async fn a_stream_without_its_last_event_is_not_whole() {
    let gateway = MockServer::start().await;
    let stream = "data: {\"model\":\"cloud-kimi\",\"choices\":[]}\n\n";
    let answer = ResponseTemplate::new(200).set_body_raw(stream, "text/event-stream");
    Mock::given(method("POST")).respond_with(answer).mount(&gateway).await;
    let between = Between::start(&gateway.uri()).await;
    let answer = between.ask(json!("[probe:p-1]")).send().await.expect("an answer");
    assert_eq!(answer.text().await.expect("a body"), stream);
    let calls = between.calls().await;
    assert_eq!((calls[0].status, calls[0].broke.as_deref()), (Some(200), Some("truncated-stream")));
}
