//! Settings and request fields that change where a failure leads.

use mocks::gateway::{Gateway, GatewayOptions};
use serde_json::{Value, json};

use crate::upstream::{Does, Upstream};
use crate::wire::{KEY, Seen, World, chat, config};

const TOO_LONG: &str = r#"{"error": {"message": "This model's maximum context length is 4096 tokens."}}"#;
const FORBIDDEN: &str =
    r#"{"error": {"type": "invalid_request_error", "code": "content_policy_violation", "message": "no"}}"#;

fn message(seen: &Seen) -> String {
    seen.json()["error"]["message"].as_str().unwrap().to_owned()
}

async fn ask(world: &World, model: &str, more: Value) -> Seen {
    let mut body = chat(model, false);
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.post(&body).await
}

/// Two deployments of `duo`, of which the first is nearly always picked first.
fn add_duo(config: &mut Value) {
    let base = config["model_list"][0]["litellm_params"]["api_base"].clone();
    for (id, model, weight) in [("duo-1", "one", 1_000_000_000), ("duo-2", "two", 1)] {
        config["model_list"].as_array_mut().unwrap().push(json!({
            "model_name": "duo", "model_info": { "id": id },
            "litellm_params": { "model": format!("ollama_chat/{model}"), "api_base": base, "weight": weight },
        }));
    }
}

#[tokio::test]
async fn prompts_that_are_too_long_or_forbidden_have_lists_of_their_own() {
    let router = json!({
        "fallbacks": [{ "vllm-qwen": ["cloud-kimi"] }],
        "context_window_fallbacks": [{ "vllm-qwen": ["cloud-minimax"] }],
        "content_policy_fallbacks": [{ "vllm-qwen": ["ollama-qwen"] }],
    });
    let world = World::start(router).await;
    for (says, served) in
        [(TOO_LONG, "id-cloud-minimax"), (FORBIDDEN, "id-ollama-qwen"), ("other", "id-cloud-kimi")]
    {
        world.upstream.set("Qwen3", Does::Says(400, says));
        assert_eq!(world.chat("vllm-qwen", false).await.served().0, Some(served), "{says}");
    }
    world.upstream.set("Qwen3", Does::Says(400, TOO_LONG));
    let bare = ask(&world, "vllm-qwen", json!({ "disable_fallbacks": true })).await;
    assert_eq!(bare.status, 400);
    let start = "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: \
                 Hosted_vllmException - ";
    assert_eq!(message(&bare), format!("{start}{TOO_LONG}"));
    let own = json!({ "context_window_fallbacks": [{ "vllm-qwen": ["ollama-qwen"] }] });
    assert_eq!(ask(&world, "vllm-qwen", own).await.served().0, Some("id-ollama-qwen"));
    let other_list = json!({ "context_window_fallbacks": [{ "cloud-kimi": ["ollama-qwen"] }] });
    let none = ask(&world, "vllm-qwen", other_list).await;
    assert!(message(&none).ends_with("failed with the error above. No fallback was attempted."));
}

#[tokio::test]
async fn without_such_lists_the_general_ones_count_and_the_message_says_so() {
    let world = World::start(json!({ "fallbacks": [{ "vllm-qwen": ["cloud-kimi"] }] })).await;
    world.upstream.set("Qwen3", Does::Says(400, TOO_LONG));
    assert_eq!(world.chat("vllm-qwen", false).await.served().0, Some("id-cloud-kimi"));
    world.upstream.set("kimi", Does::Status(500));
    let failed = message(&world.chat("vllm-qwen", false).await);
    let said = "\nmodel=vllm-qwen. context_window_fallbacks=None. fallbacks=[{'vllm-qwen': ['cloud-kimi']}].";
    assert!(failed.contains(said), "{failed}");
}

#[tokio::test]
async fn an_ollama_never_says_that_a_prompt_is_too_long() {
    let world = World::start(json!({ "context_window_fallbacks": [{ "cloud-kimi": ["vllm-qwen"] }] })).await;
    world.upstream.set("kimi", Does::Says(400, TOO_LONG));
    // The general list of `cloud-kimi` begins with `cloud-minimax`.
    assert_eq!(world.chat("cloud-kimi", false).await.served().0, Some("id-cloud-minimax"));
}

#[tokio::test]
async fn what_an_openai_server_says_counts_for_more_than_its_status() {
    let world = World::start(json!({ "fallbacks": [] })).await;
    for (status, says, seen) in [
        (500, "Rate-Limit reached", 429),
        (400, "429 is a token", 400),
        (500, r#"{"type": "invalid_request_error"}"#, 400),
        (400, "The server had an error processing your request.", 500),
        (400, "A timeout occurred", 408),
    ] {
        let world = if seen == 400 { &world } else { &World::start(json!({ "fallbacks": [] })).await };
        world.upstream.set("Qwen3", Does::Says(status, says));
        assert_eq!(world.chat("vllm-qwen", false).await.status, seen, "{status} {says}");
    }
}

#[tokio::test]
async fn a_request_may_bring_targets_with_fields_of_their_own() {
    let world = World::start(json!({})).await;
    world.upstream.set("kimi", Does::Status(500));
    world.upstream.set("minimax", Does::Status(500));
    let other = json!([{ "role": "user", "content": "other" }]);
    let fallbacks = json!([{ "model": "cloud-minimax", "temperature": 0.5 }, { "model": "vllm-qwen", "messages": other }]);
    let seen = ask(&world, "cloud-kimi", json!({ "fallbacks": fallbacks })).await;
    assert_eq!(seen.served(), (Some("id-vllm-qwen"), Some("2")));
    let body = &world.upstream.seen("Qwen3")[0];
    assert_eq!((&body["messages"][0]["content"], &body["temperature"]), (&json!("other"), &json!(0.5)));
    assert_eq!(world.upstream.seen("kimi")[0]["messages"][0]["content"], "hi");
}

#[tokio::test]
async fn a_target_that_does_not_exist_fails_its_hop() {
    let world = World::start(json!({ "disable_cooldowns": true })).await;
    world.upstream.set("kimi", Does::Status(500));
    let missing = "Fallback to nope also failed: litellm.BadRequestError: You passed in model=nope. There are no \
                   healthy deployments for this model";
    let seen = ask(&world, "cloud-kimi", json!({ "fallbacks": ["nope"] })).await;
    assert!(message(&seen).ends_with(missing), "{}", message(&seen));
    let seen = ask(&world, "cloud-kimi", json!({ "fallbacks": [{ "model": "nope" }] })).await;
    assert!(message(&seen).contains("Fallback to {'model': 'nope'} also failed"));
    let seen = ask(&world, "cloud-kimi", json!({ "fallbacks": ["nope", "vllm-qwen"] })).await;
    assert_eq!(seen.served(), (Some("id-vllm-qwen"), Some("2")));
}

#[tokio::test]
async fn lists_that_lead_back_end() {
    let lists = json!([{ "cloud-kimi": ["cloud-kimi"] }, { "cloud-minimax": ["vllm-qwen"] }, { "vllm-qwen": ["cloud-minimax"] }]);
    let world =
        World::start(json!({ "fallbacks": lists, "max_fallbacks": 5, "disable_cooldowns": true })).await;
    for model in ["kimi", "minimax", "Qwen3"] {
        world.upstream.set(model, Does::Status(500));
    }
    let own = message(&world.chat("cloud-kimi", false).await);
    assert!(own.contains("Fallback to cloud-kimi also failed: litellm.InternalServerError"), "{own}");
    assert_eq!(world.chat("cloud-minimax", false).await.status, 500);
    let calls = ["kimi", "minimax", "Qwen3"].map(|model| world.upstream.seen(model).len());
    assert_eq!(calls, [1, 1, 1]);
}

#[tokio::test]
async fn max_fallbacks_of_a_request_bounds_it() {
    let world = World::start(json!({ "max_fallbacks": 5 })).await;
    world.upstream.set("kimi", Does::Status(500));
    assert_eq!(ask(&world, "cloud-kimi", json!({ "max_fallbacks": 0 })).await.status, 500);
    assert!(world.upstream.seen("minimax").is_empty());
}

#[tokio::test]
async fn weighted_failover_tries_the_group_before_its_list() {
    for (configured, served) in [(true, "duo-2"), (false, "id-vllm-qwen")] {
        let router =
            json!({ "enable_weighted_failover": configured, "fallbacks": [{ "duo": ["vllm-qwen"] }] });
        let world = World::changed(router, add_duo).await;
        world.upstream.set("one", Does::Status(400));
        let seen = world.chat("duo", false).await;
        assert_eq!(seen.served(), (Some(served), Some("1")), "{configured}");
        world.upstream.set("two", Does::Status(400));
        assert_eq!(world.chat("duo", false).await.served().0, Some("id-vllm-qwen"));
        world.upstream.set("Qwen3", Does::Status(400));
        let failed = message(&world.chat("duo", false).await);
        assert!(
            failed.contains("model group 'duo' failed with the error above. Fallback to vllm-qwen"),
            "{failed}"
        );
    }
}

#[tokio::test]
async fn num_retries_per_request_stops_all_failover() {
    let world = World::changed(json!({ "disable_cooldowns": true }), |config| {
        config["litellm_settings"] = json!({ "num_retries_per_request": 1 });
    })
    .await;
    world.upstream.set("kimi", Does::Status(500));
    let seen = world.chat("cloud-kimi", false).await;
    assert_eq!(seen.status, 500);
    assert!(message(&seen).contains("Max retries per request hit!"), "{}", message(&seen));
    let calls = ["kimi", "minimax", "Qwen3", "phi"].map(|model| world.upstream.seen(model).len());
    assert_eq!(calls, [1, 0, 0, 0]);
}

#[tokio::test]
async fn the_errors_before_an_answer_are_told_where_configured_and_asked_for() {
    for configured in [true, false] {
        let world = World::changed(json!({ "max_fallbacks": 5 }), |config| {
            config["general_settings"]["expose_fallback_errors_to_caller"] = configured.into();
        })
        .await;
        world.upstream.set("kimi", Does::Status(400));
        world.upstream.set("minimax", Does::Status(400));
        let asked = json!({ "include_fallback_errors": true });
        let seen = ask(&world, "cloud-kimi", asked.clone()).await;
        let header = seen.header("x-litellm-fallback-errors").map(str::to_owned);
        let told: Vec<Value> = header.map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default();
        assert_eq!(told.len(), if configured { 2 } else { 0 });
        if configured {
            assert_eq!((&told[0]["code"], &told[0]["type"]), (&json!("400"), &json!("None")));
        }
        assert_eq!(world.chat("cloud-kimi", false).await.header("x-litellm-fallback-errors"), None);
        let mut body = chat("cloud-kimi", true);
        body["include_fallback_errors"] = true.into();
        let stream = world.post(&body).await;
        let events = stream.events();
        let second: Value = serde_json::from_str(events[1]).unwrap();
        assert_eq!(second["id"] == "litellm-fallback-metadata", configured, "{second}");
        if configured {
            assert_eq!(second["litellm_fallback"]["fallback_model"], "vllm-qwen");
        }
    }
}

#[tokio::test]
async fn parameters_that_an_ollama_does_not_know_are_refused_before_any_call() {
    let world = World::start(json!({ "fallbacks": [] })).await;
    let seen = ask(&world, "cloud-kimi", json!({ "n": 2 })).await;
    assert_eq!((seen.status, seen.header("x-litellm-timeout")), (400, Some("0.3")));
    assert!(message(&seen).starts_with("litellm.UnsupportedParamsError: ollama_chat does not support"));
    assert!(world.upstream.seen("kimi").is_empty());
    assert_eq!(ask(&world, "cloud-kimi", json!({ "n": 2, "drop_params": true })).await.status, 200);
    let drops =
        World::changed(json!({}), |config| config["litellm_settings"] = json!({ "drop_params": true })).await;
    assert_eq!(ask(&drops, "cloud-kimi", json!({ "n": 2 })).await.status, 200);
}

#[tokio::test]
async fn a_slash_after_an_address_stays() {
    let world = World::changed(json!({}), |config| {
        for index in [0, 2] {
            let base = config["model_list"][index]["litellm_params"]["api_base"].as_str().unwrap().to_owned();
            config["model_list"][index]["litellm_params"]["api_base"] = format!("{base}/").into();
        }
    })
    .await;
    // The scripted upstream does not know this path: the request goes on to the next target.
    assert_eq!(world.chat("cloud-kimi", false).await.served().0, Some("id-cloud-minimax"));
    assert_eq!(world.upstream.paths("kimi"), ["//api/chat"]);
    let vllm = world.chat("vllm-qwen", false).await;
    assert!(vllm.header("x-litellm-model-api-base").unwrap().ends_with("/v1/"));
    assert_eq!(world.upstream.paths("Qwen3"), ["/v1/chat/completions"]);
}

#[tokio::test]
async fn a_group_without_a_list_falls_back_to_the_default_one() {
    let router =
        json!({ "fallbacks": [{ "cloud-kimi": ["cloud-minimax"] }], "default_fallbacks": ["ollama-qwen"] });
    let world = World::start(router).await;
    for model in ["kimi", "Qwen3"] {
        world.upstream.set(model, Does::Status(400));
    }
    assert_eq!(world.chat("cloud-kimi", false).await.served().0, Some("id-cloud-minimax"), "its own list");
    assert_eq!(world.chat("vllm-qwen", false).await.served().0, Some("id-ollama-qwen"));
}

#[tokio::test]
async fn a_retry_policy_of_a_group_is_for_that_group_alone() {
    let none = json!({ "BadRequestErrorRetries": 0, "InternalServerErrorRetries": 0 });
    let router = json!({ "fallbacks": [], "allowed_fails": 3, "retry_policy": none,
        "model_group_retry_policy": { "ollama-qwen": { "BadRequestErrorRetries": 1 } } });
    let world = World::start(router).await;
    for (model, group, status, attempts) in
        [("phi", "ollama-qwen", 400, 2), ("kimi", "cloud-kimi", 400, 1), ("Qwen3", "vllm-qwen", 500, 1)]
    {
        world.upstream.set(model, Does::Status(status));
        assert_eq!(world.chat(group, false).await.status, status);
        assert_eq!(world.upstream.seen(model).len(), attempts, "{group}");
    }
}

#[tokio::test]
async fn no_secret_of_the_configuration_is_shown() {
    const SECRET: &str = "hush-hush";
    let upstream = Upstream::start().await;
    let router = json!({ "redis_password": SECRET, "redis_url": format!("redis://me:{SECRET}@localhost"),
        "default_litellm_params": { "api_key": SECRET } });
    let mut config = config(&upstream, None, router);
    config["model_list"][0]["litellm_params"]["api_key"] = SECRET.into();
    config["general_settings"]["master_key"] = KEY.into();
    let options = GatewayOptions { config, seed: 1, master_key: None, port: 0 };
    assert!(!format!("{options:?}").contains(SECRET));
    let world = World { gateway: Gateway::start(options).await.unwrap(), upstream };
    assert!(!format!("{:?}", world.gateway).contains(SECRET));
    for page in ["/router/settings", "/get/config/callbacks", "/model/info"] {
        let seen = world.get(page).await;
        assert_eq!(seen.status, 200, "{page}");
        assert!(!seen.text.contains(SECRET), "{page}: {}", seen.text);
    }
}
