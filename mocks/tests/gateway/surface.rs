//! Routes, keys, checks and settings.

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
async fn bad_requests_get_litellms_answers() {
    let world = World::start(json!({})).await;
    let post =
        |text: &str| world.request("POST", "/v1/chat/completions").bearer_auth(KEY).body(text.to_owned());
    let malformed = world.seen(post("{bad")).await;
    assert_eq!((malformed.status, &malformed.json()["error"]["param"]), (400, &json!("request_body")));
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
