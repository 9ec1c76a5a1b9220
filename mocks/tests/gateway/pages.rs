//! Pages: keys, methods, paths, and what LiteLLM says without a database, a cache or Prometheus.

use serde_json::{Value, json};

use crate::upstream::Does;
use crate::wire::{KEY, Seen, World, chat};

/// A page asked for with one header.
async fn with_header(world: &World, path: &str, header: &str, value: &str) -> Seen {
    world.seen(world.request("GET", path).header(header, value)).await
}

fn error(seen: &Seen) -> (u16, String) {
    (seen.status, seen.json()["error"]["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_key_may_come_in_many_headers() {
    let world = World::start(json!({})).await;
    let bearer = format!("Bearer {KEY}");
    for (header, value) in [
        ("authorization", bearer.as_str()),
        ("authorization", &format!("bearer {KEY}")),
        ("authorization", &format!("Bearer {bearer}")),
        ("authorization", &format!("Basic {KEY}")),
        ("x-litellm-api-key", KEY),
        ("x-litellm-api-key", &bearer),
        ("api-key", KEY),
        ("x-api-key", KEY),
        ("x-goog-api-key", KEY),
        ("ocp-apim-subscription-key", KEY),
    ] {
        assert_eq!(with_header(&world, "/v1/models", header, value).await.status, 200, "{header}: {value}");
    }
    let malformed = "Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix.";
    for (header, value, status, message) in [
        ("authorization", KEY, 401, malformed),
        ("authorization", "Bearer", 401, malformed),
        ("x-other", KEY, 401, "Authentication Error, No api key passed in."),
        ("authorization", "Bearer sk-wrong", 400, "No connected db."),
        ("x-litellm-api-key", "sk-wrong", 400, "No connected db."),
    ] {
        let seen = with_header(&world, "/v1/models", header, value).await;
        assert_eq!(error(&seen), (status, message.to_owned()), "{header}: {value}");
    }
    // The first of the two decides.
    let both = world.request("GET", "/v1/models").bearer_auth(KEY).header("x-litellm-api-key", "sk-wrong");
    assert_eq!(world.seen(both).await.status, 400);
}

#[tokio::test]
async fn metrics_word_their_refusal_in_their_own_way() {
    let world = World::start(json!({})).await;
    let missing = world.seen(world.request("GET", "/metrics")).await;
    assert_eq!(missing.status, 401);
    assert!(missing.text.starts_with("\"Unauthorized access to metrics endpoint: Authentication Error"));
    assert_eq!(missing.header("vary"), None);
    assert_eq!(with_header(&world, "/metrics/", "authorization", "Bearer sk-wrong").await.status, 401);
    assert_eq!(world.get("/metrics").await.status, 404, "there is no Prometheus");
}

#[tokio::test]
async fn a_slash_too_many_leads_to_the_page() {
    let world = World::start(json!({})).await;
    for path in ["/v1/models/", "/health/", "/chat/completions/"] {
        let seen = world.seen(world.request("GET", path)).await;
        let there = format!("{}{}", world.gateway.url(), path.trim_end_matches('/'));
        assert_eq!((seen.status, seen.header("location")), (307, Some(there.as_str())), "{path}");
        assert_eq!((seen.text.as_str(), seen.header("content-type")), ("", None));
    }
    let with_query = world.seen(world.request("GET", "/health/?model=a")).await;
    assert!(with_query.header("location").unwrap().ends_with("/health?model=a"));
    assert_eq!(world.get("/nope/").await.status, 404);
}

#[tokio::test]
async fn methods_are_told_apart() {
    let world = World::start(json!({})).await;
    for (method, path, allow) in [
        ("POST", "/health/liveliness", "GET"),
        ("DELETE", "/model/info", "GET"),
        ("PUT", "/chat/completions", "POST"),
    ] {
        let seen = world.seen(world.request(method, path)).await;
        assert_eq!((seen.status, seen.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    let options = world.seen(world.request("OPTIONS", "/health/readiness")).await;
    assert_eq!((options.status, options.header("allow")), (200, Some("GET, OPTIONS")));
}

#[tokio::test]
async fn pages_without_a_database_say_so() {
    let world = World::start(json!({})).await;
    for (path, status, text) in [
        ("/v2/model/info", 500, "DB not connected"),
        ("/config/list?config_type=general_settings", 400, "DB not connected"),
        ("/config/list", 422, "Field required"),
        ("/config/field/info?field_name=x", 400, "DB not connected"),
        ("/health/history", 500, "Database not initialized"),
        ("/spend/logs", 500, "Database not connected"),
        ("/model/metrics", 500, "Prisma Client is not initialized"),
        ("/cache/ping", 503, "Cache not initialized"),
        ("/cache/redis/info", 503, "Cache not initialized"),
    ] {
        let seen = world.get(path).await;
        assert_eq!(seen.status, status, "{path}");
        assert!(seen.text.contains(text), "{path}: {}", seen.text);
        assert_eq!(world.seen(world.request("GET", path)).await.status, 401, "{path} without a key");
    }
}

#[tokio::test]
async fn open_pages_need_no_key() {
    let world = World::start(json!({})).await;
    for path in ["/test", "/", "/openapi.json", "/routes"] {
        assert_eq!(world.seen(world.request("GET", path)).await.status, 200, "{path}");
    }
    let details = world.get("/health/readiness/details").await.json();
    assert_eq!(details["litellm_version"], "1.106.2");
    let backlog = world.get("/health/backlog").await.json();
    assert_eq!((&backlog["in_flight_requests"], &backlog["queued_requests"]), (&json!(1), &json!(0)));
    assert_eq!(world.seen(world.request("GET", "/health/backlog")).await.status, 401);
}

#[tokio::test]
async fn models_are_shown_one_by_one_and_by_group() {
    let world = World::start(json!({})).await;
    let one = world.get("/v1/models/vllm-qwen").await;
    assert_eq!((one.status, &one.json()["owned_by"]), (200, &json!("hosted_vllm")));
    let unknown = world.get("/v1/models/nope").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["detail"], "The model `nope` does not exist or is not accessible");
    let by_id = world.get("/model/info?litellm_model_id=id-vllm-qwen").await.json();
    assert_eq!(
        (by_id["data"].as_array().unwrap().len(), &by_id["data"][0]["model_name"]),
        (1, &json!("vllm-qwen"))
    );
    assert_eq!(world.get("/v1/model/info?litellm_model_id=nope").await.status, 400);
    let groups = world.get("/model_group/info?model_group=cloud-kimi").await.json();
    assert_eq!(groups["data"][0]["providers"], json!(["ollama_chat"]));
    assert_eq!(world.get("/v1/models?include_metadata=perhaps").await.status, 422);
    let invalid = world.get("/v1/models?include_metadata=1&fallback_type=x").await;
    assert_eq!(invalid.status, 400);
}

#[tokio::test]
async fn settings_are_shown_as_written_over_what_is_in_effect() {
    let world = World::changed(json!({ "timeout": 3, "cooldown_time": 7.5 }), |config| {
        config["router_settings"]["context_window_fallbacks"] = json!([{ "cloud-kimi": ["vllm-qwen"] }]);
    })
    .await;
    let page = world.get("/router/settings").await.json();
    let values = &page["current_values"];
    assert_eq!((&values["timeout"], &values["cooldown_time"]), (&json!(3), &json!(7.5)));
    assert_eq!(
        (&page["source"]["timeout"], &page["source"]["retry_after"]),
        (&json!("config"), &json!("default"))
    );
    assert_eq!(page["source"]["stream_timeout"], "unset");
    let field = page["fields"].as_array().unwrap().iter().find(|f| f["field_name"] == "num_retries").unwrap();
    assert_eq!((&field["field_value"], &field["field_type"]), (&json!(0), &json!("Integer")));
    let callbacks = world.get("/get/config/callbacks").await.json();
    assert_eq!(callbacks["router_settings"]["allowed_fails"], 0);
    let chain = world.get("/fallback/cloud-kimi?fallback_type=context_window").await.json();
    assert_eq!(chain["fallback_models"], json!(["vllm-qwen"]));
    assert_eq!(world.get("/fallback/cloud-kimi?fallback_type=content_policy").await.status, 404);
    assert_eq!(world.get("/fallback/cloud-kimi?fallback_type=x").await.status, 422);
}

#[tokio::test]
async fn health_asks_every_deployment_and_touches_no_cooldown() {
    let world = World::start(json!({})).await;
    world.upstream.set("kimi", Does::Status(500));
    let all = world.get("/health").await;
    assert_eq!(all.status, 200);
    let all = all.json();
    assert_eq!((&all["healthy_count"], &all["unhealthy_count"]), (&json!(3), &json!(1)));
    let broken = &all["unhealthy_endpoints"][0];
    assert_eq!((&broken["model_id"], &broken["exception_status"]), (&json!("id-cloud-kimi"), &json!(500)));
    let asked = &world.upstream.seen("kimi")[0];
    assert_eq!((&asked["options"]["num_predict"], &asked["stream"]), (&json!(16), &json!(false)));
    // `allowed_fails` is 0: one counted failure would have cooled it.
    world.upstream.set("kimi", Does::Serves);
    assert_eq!(world.chat("cloud-kimi", false).await.served(), (Some("id-cloud-kimi"), Some("0")));
    world.upstream.set("kimi", Does::Status(401));
    let one = world.get("/health?model=cloud-kimi").await;
    assert_eq!((one.status, &one.json()["unhealthy_count"]), (503, &json!(1)));
    let by_id = world.get("/health?model_id=id-vllm-qwen").await;
    assert_eq!((by_id.status, &by_id.json()["healthy_count"]), (200, &json!(1)));
    let by_string = world.get("/health?model=ollama_chat/phi").await;
    assert_eq!(by_string.json()["healthy_endpoints"][0]["model_id"], "id-ollama-qwen");
    assert_eq!(world.get("/health?model_id=nope").await.status, 404);
    assert_eq!(world.get("/health?model=nope").await.status, 503);
}

#[tokio::test]
async fn a_health_check_has_its_own_limit() {
    let world = World::changed(json!({}), |config| {
        config["model_list"][2]["model_info"]["health_check_timeout"] = 0.2.into();
    })
    .await;
    world.upstream.set("Qwen3", Does::Hangs);
    let seen = world.get("/health?model=vllm-qwen").await;
    let broken = &seen.json()["unhealthy_endpoints"][0];
    assert_eq!((&broken["error"], &broken["exception_status"]), (&json!("Timeout exceeded"), &json!(408)));
}

#[tokio::test]
async fn the_path_may_name_the_model() {
    let world = World::start(json!({})).await;
    let mut body = chat("vllm-qwen", false);
    for path in [
        "/openai/deployments/cloud-kimi/chat/completions",
        "/engines/cloud-kimi/chat/completions",
        "/openai/deployments/ollama_chat%2Fkimi/chat/completions",
        "/openai/deployments/ollama_chat/kimi/chat/completions",
    ] {
        let post = world.request("POST", path).bearer_auth(KEY).body(body.to_string());
        let seen = world.seen(post).await;
        assert_eq!(seen.served(), (Some("id-cloud-kimi"), Some("0")), "{path}");
        assert_eq!(seen.json()["model"], "vllm-qwen", "what the body asked for");
    }
    body.as_object_mut().unwrap().remove("model");
    let path = "/engines/cloud-kimi/chat/completions";
    let seen = world.seen(world.request("POST", path).bearer_auth(KEY).body(body.to_string())).await;
    assert_eq!(seen.json()["model"], "ollama_chat/kimi");
}

#[tokio::test]
async fn an_alias_is_a_group_with_a_fallback_list_of_its_own() {
    let world = World::changed(json!({}), |config| {
        config["router_settings"]["model_group_alias"] =
            json!({ "kimi": "cloud-kimi", "secret": { "model": "cloud-minimax", "hidden": true } });
    })
    .await;
    let seen = world.chat("kimi", false).await;
    assert_eq!(
        (seen.header("x-litellm-model-group"), seen.served().0),
        (Some("kimi"), Some("id-cloud-kimi"))
    );
    assert_eq!(world.chat("secret", false).await.served().0, Some("id-cloud-minimax"));
    let models = world.get("/v1/models").await.json();
    let names: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(names[..2], ["kimi", "cloud-kimi"]);
    assert!(!names.contains(&&json!("secret")));
    world.upstream.set("kimi", Does::Status(500));
    // The list of `cloud-kimi` is not that of its alias.
    assert_eq!(world.chat("kimi", false).await.status, 500);
}

#[tokio::test]
async fn large_replies_vary_by_what_the_client_accepts() {
    let world = World::start(json!({})).await;
    assert_eq!(world.get("/model/info").await.header("vary"), Some("Origin, Accept-Encoding"));
    assert_eq!(world.get("/health/liveness").await.header("vary"), Some("Origin"));
}
