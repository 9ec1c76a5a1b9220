//! Routes, keys, checks, settings and the access log.

use std::sync::{Arc, Mutex};

use mocks::gateway::config::BearsOn;
use mocks::gateway::{Gateway, GatewayError, GatewayOptions, Secret};
use serde_json::{Value, json};

use crate::upstream::{Does, Upstream};
use crate::wire::{KEY, World, chat, config};

#[tokio::test]
async fn keys_are_checked_as_without_a_database() {
    let world = World::start(json!({})).await;
    let body = chat("cloud-kimi", false).to_string();
    let post = || world.request("POST", "/chat/completions").body(body.clone());
    let missing = world.seen(post()).await;
    assert_eq!((missing.status, &missing.json()["error"]["type"]), (401, &json!("auth_error")));
    let wrong = world.seen(post().bearer_auth("sk-wrong")).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["type"]), (400, &json!("no_db_connection")));
    assert_eq!(world.seen(post().header("x-litellm-api-key", KEY)).await.status, 200);
    assert_eq!(world.seen(world.request("GET", "/v1/models")).await.status, 401);
    for open in ["/health/liveliness", "/health/liveness", "/health/readiness"] {
        assert_eq!(world.seen(world.request("GET", open)).await.status, 200, "{open}");
    }
    let shown = format!("{:?}", world.gateway);
    assert!(!shown.contains(KEY), "{shown}");
}

#[tokio::test]
async fn each_reply_that_begins_is_a_line_of_the_access_log() {
    let world = World::start(json!({})).await;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    world.gateway.log_access(move |client, line| sink.lock().unwrap().push((client, line.to_owned())));
    assert_eq!(world.seen(world.request("GET", "/health/liveliness?x=1")).await.status, 200);
    assert_eq!(world.post(&chat("cloud-kimi", false)).await.status, 200);
    assert_eq!(world.seen(world.request("GET", "/v1/models")).await.status, 401);
    assert_eq!(world.seen(world.request("GET", "/nowhere")).await.status, 404);
    let mut begun = world.request("POST", "/v1/chat/completions").bearer_auth(KEY);
    begun = begun.body(chat("cloud-kimi", true).to_string());
    drop(begun.begin().await);
    let lines = lines.lock().unwrap().clone();
    let said: Vec<_> = lines
        .iter()
        .map(|(client, line)| line.strip_prefix(&format!("INFO:     {client} - ")).unwrap())
        .collect();
    let chatted = "\"POST /v1/chat/completions HTTP/1.1\" 200 OK";
    assert_eq!(
        said,
        [
            "\"GET /health/liveliness?x=1 HTTP/1.1\" 200 OK",
            chatted,
            "\"GET /v1/models HTTP/1.1\" 401 Unauthorized",
            "\"GET /nowhere HTTP/1.1\" 404 Not Found",
            chatted,
        ]
    );
    assert!(lines.iter().all(|(client, _)| client.ip().is_loopback() && client.port() != 0));
}

#[tokio::test]
async fn bad_requests_get_litellms_answers() {
    let world = World::start(json!({})).await;
    let post =
        |text: &str| world.request("POST", "/v1/chat/completions").bearer_auth(KEY).body(text.to_owned());
    let malformed = world.seen(post("{bad")).await;
    assert_eq!((malformed.status, &malformed.json()["error"]["param"]), (400, &json!("request_body")));
    let message = malformed.json()["error"]["message"].clone();
    let place = "unexpected character, expected a string key: line 1 column 2 (char 1)";
    assert_eq!(message, format!("Invalid JSON payload: {place}"));
    assert_eq!(malformed.header("x-litellm-call-id"), None);
    let list = world.seen(post("[]")).await;
    assert_eq!((list.status, list.header("vary")), (500, None));
    let empty = world.seen(post("")).await;
    assert_eq!((empty.status, &empty.json()["error"]["param"]), (400, &json!("messages")));
    assert!(empty.header("x-litellm-call-id").is_some());
    let number = world.post(&json!({ "model": 7, "messages": [] })).await;
    assert_eq!((number.status, &number.json()["error"]["type"]), (400, &json!("bad_request_error")));
    for messages in [json!("x"), json!(["x"]), json!({ "role": "user" })] {
        let seen = world.post(&json!({ "model": "cloud-kimi", "messages": messages })).await;
        assert_eq!((seen.status, &seen.json()["error"]["param"]), (400, &Value::Null), "{messages}");
    }
    let no_messages = world.post(&json!({ "model": "cloud-kimi" })).await;
    assert_eq!((no_messages.status, &no_messages.json()["error"]["param"]), (400, &json!("messages")));
    for body in [json!({ "model": "nope", "messages": [] }), json!({ "messages": [] })] {
        let unknown = world.post(&body).await;
        assert_eq!(unknown.status, 400);
        assert!(unknown.json()["error"]["provider_specific_fields"]["error"].is_string());
    }
    let mut mocked = chat("cloud-kimi", false);
    mocked["mock_testing_fallbacks"] = true.into();
    assert_eq!(world.post(&mocked).await.status, 400);
    let wrong_method = world.get("/v1/chat/completions").await;
    assert_eq!((wrong_method.status, wrong_method.header("allow")), (405, Some("POST")));
    assert_eq!(world.get("/nope").await.status, 404);
    assert!(world.upstream.seen("kimi").is_empty());
}

#[tokio::test]
async fn a_request_can_bring_its_own_id_timeout_and_fallbacks() {
    let world = World::start(json!({})).await;
    world.upstream.set("kimi", Does::Status(500));
    let mut body = chat("cloud-kimi", false);
    body["fallbacks"] = json!(["ollama-qwen"]);
    let request = world.request("POST", "/v1/chat/completions").bearer_auth(KEY).body(body.to_string());
    let reply = world.seen(request.header("x-litellm-call-id", "probe-7")).await;
    assert_eq!(reply.served(), (Some("id-ollama-qwen"), Some("1")));
    assert_eq!(reply.header("x-litellm-call-id"), Some("probe-7"));
    world.upstream.set("minimax", Does::Hangs);
    let mut body = chat("cloud-minimax", false);
    body["timeout"] = 0.1.into();
    for _ in 0..2 {
        let reply = world.post(&body).await;
        assert_eq!((reply.status, reply.header("x-litellm-timeout")), (408, Some("0.1")), "never counted");
    }
}

#[tokio::test]
async fn timeouts_show_as_they_were_written() {
    let world = World::changed(json!({ "timeout": 30, "stream_timeout": 40.5 }), |config| {
        config["model_list"][0]["litellm_params"]["timeout"] = 5.into();
    })
    .await;
    world.upstream.set("kimi", Does::Status(400));
    world.upstream.set("Qwen3", Does::Status(400));
    let shown = async |model: &str, streaming: bool, more: Value| {
        let mut body = chat(model, streaming);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body["disable_fallbacks"] = true.into();
        world.post(&body).await.header("x-litellm-timeout").unwrap().to_owned()
    };
    assert_eq!(shown("cloud-kimi", false, json!({})).await, "5.0");
    assert_eq!(shown("vllm-qwen", false, json!({})).await, "30");
    assert_eq!(shown("vllm-qwen", true, json!({})).await, "40.5");
    assert_eq!(shown("vllm-qwen", false, json!({ "timeout": 7 })).await, "7");
    assert_eq!(shown("vllm-qwen", false, json!({ "timeout": "7" })).await, "7");
    assert_eq!(shown("vllm-qwen", false, json!({ "request_timeout": 7.5 })).await, "7.5");
    assert_eq!(shown("vllm-qwen", false, json!({ "timeout": 0 })).await, "30", "0 is none");
    assert_eq!(shown("vllm-qwen", true, json!({ "timeout": 7, "stream_timeout": 8 })).await, "8");
}

#[tokio::test]
async fn headers_that_are_no_numbers_break_the_request() {
    let world = World::start(json!({})).await;
    for (name, value, message) in [
        ("x-litellm-timeout", "soon", "could not convert string to float: 'soon'"),
        ("x-litellm-num-retries", "1.5", "invalid literal for int() with base 10: '1.5'"),
    ] {
        let post = world.request("POST", "/v1/chat/completions").bearer_auth(KEY);
        let seen = world.seen(post.header(name, value).body(chat("cloud-kimi", false).to_string())).await;
        assert_eq!((seen.status, &seen.json()["error"]["message"]), (500, &json!(message)));
        assert_eq!(
            (seen.header("x-litellm-call-id"), seen.header("x-litellm-response-cost")),
            (None, Some("0"))
        );
    }
    assert!(world.upstream.seen("kimi").is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_only_where_configured() {
    for (configured, expected) in [(true, 1), (false, 2)] {
        let world = World::changed(json!({ "max_fallbacks": 5 }), |config| {
            config["general_settings"]["cancel_on_disconnect"] = configured.into();
        })
        .await;
        world.upstream.set("kimi", Does::Hangs);
        let post = world.request("POST", "/v1/chat/completions").bearer_auth(KEY);
        let leaving = post.body(chat("cloud-kimi", false).to_string()).send();
        let arrived = async {
            while world.upstream.seen("kimi").is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = leaving => panic!("the upstream hangs"),
            () = arrived => {}
        }
        // What is still under way counts as in flight until its client is seen to be gone.
        let idle = async {
            while world.get("/health/backlog").await.json()["in_flight_requests"] != 1 {
                tokio::task::yield_now().await;
            }
            // The walk's next step would come at the end of kimi's 0.3 s.
            for _ in 0..2 {
                world.get("/health?model=cloud-kimi").await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), idle).await.unwrap();
        let calls = 1 + usize::from(!world.upstream.seen("minimax").is_empty());
        assert_eq!(calls, expected, "cancel_on_disconnect: {configured}");
    }
}

#[tokio::test]
async fn pages_show_models_and_effective_settings() {
    let world = World::start(json!({})).await;
    let models = world.get("/v1/models?include_metadata=true").await.json();
    assert_eq!(models["data"][0]["id"], "cloud-kimi");
    let chain = json!(["cloud-minimax", "vllm-qwen", "ollama-qwen"]);
    assert_eq!(models["data"][0]["metadata"]["fallbacks"], chain);
    let info = world.get("/model/info").await;
    assert_eq!(info.json()["data"][2]["model_info"]["id"], "id-vllm-qwen");
    assert!(!info.text.contains("api_key"), "{}", info.text);
    let settings = &world.get("/router/settings").await.json()["current_values"];
    assert_eq!(settings["timeout"], 6000.0);
    assert_eq!((&settings["num_retries"], &settings["max_fallbacks"]), (&json!(0), &json!(1)));
    assert_eq!((&settings["allowed_fails"], &settings["cooldown_time"]), (&json!(0), &json!(5)));
    assert_eq!(world.get("/fallback/cloud-kimi").await.json()["fallback_models"], chain);
    assert_eq!(world.get("/fallback/vllm-qwen").await.status, 404);
}

#[tokio::test]
async fn start_reports_what_it_cannot_do() {
    let upstream = Upstream::start().await;
    let mut all = config(&upstream, None, json!({ "routing_strategy": "least-busy" }));
    let options = |config: Value| GatewayOptions {
        config,
        seed: 1,
        master_key: Some(Secret::new("sk-other")),
        port: 0,
    };
    let gateway = Gateway::start(options(all.clone())).await.unwrap();
    let [unsupported] = gateway.unsupported() else { panic!("{:?}", gateway.unsupported()) };
    assert_eq!(unsupported.path, "router_settings.routing_strategy");
    assert_eq!(unsupported.bears_on, BearsOn::Everything);
    let port = gateway.url().rsplit(':').next().unwrap().parse().unwrap();
    let taken = Gateway::start(GatewayOptions { port, ..options(all.clone()) }).await.unwrap_err();
    assert!(matches!(taken, GatewayError::Listen { .. }));
    gateway.shutdown().await;
    all["model_list"] = json!([]);
    assert!(matches!(Gateway::start(options(all)).await, Err(GatewayError::Config(_))));
}
