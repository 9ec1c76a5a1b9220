//! How streams end, and what falls back.

use mocks::gateway::{Gateway, GatewayOptions};
use serde_json::{Value, json};

use crate::upstream::{Does, Upstream};
use crate::wire::{World, chat};

fn chunk(event: &str) -> Value {
    serde_json::from_str(event).unwrap()
}

#[tokio::test]
async fn chunks_have_the_form_of_litellm() {
    let world = World::start(json!({})).await;
    let ollama = world.chat("cloud-kimi", true).await;
    assert_eq!(ollama.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = ollama.events();
    assert_eq!(events.len(), 4, "{events:?}");
    let first = chunk(events[0]);
    assert_eq!(first["choices"], json!([{ "index": 0, "delta": { "role": "assistant", "content": "hel" } }]));
    assert_ne!(first["id"], chunk(events[1])["id"], "a new id for every chunk");
    let last = json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]);
    assert_eq!(chunk(events[2])["choices"], last);

    let mut body = chat("vllm-qwen", true);
    body["stream_options"] = json!({ "include_usage": true });
    body["model"] = "ollama-qwen".into();
    let counted = world.post(&body).await;
    assert_eq!(chunk(counted.events()[3])["usage"]["total_tokens"], 5);

    let vllm = world.chat("vllm-qwen", true).await;
    let ids: Vec<Value> = vllm.events()[..3].iter().map(|event| chunk(event)["id"].clone()).collect();
    assert!(ids.iter().all(|id| id == "chatcmpl-up"), "{ids:?}");
    let sent = &world.upstream.seen("Qwen3")[0];
    assert_eq!((&sent["max_tokens"], &sent["stream_options"]["include_usage"]), (&json!(8), &json!(true)));
    assert_eq!(sent.get("metadata"), None);
    // Counts are asked for where the group that was asked for can give them, not where it falls back to one.
    world.upstream.set("kimi", Does::Status(500));
    world.upstream.set("minimax", Does::Status(500));
    world.chat("cloud-kimi", true).await;
    assert_eq!(world.upstream.seen("Qwen3")[1].get("stream_options"), None);
}

#[tokio::test]
async fn a_stream_that_breaks_before_content_falls_back_once_with_max_fallbacks_one() {
    let world = World::start(json!({})).await;
    world.upstream.set("kimi", Does::BreaksBeforeContent);
    let reply = world.chat("cloud-kimi", true).await;
    assert_eq!((reply.status, reply.served()), (200, (Some("id-cloud-minimax"), Some("1"))));
    world.upstream.set("minimax", Does::BreaksBeforeContent);
    let reply = world.chat("cloud-kimi", true).await;
    assert_eq!((reply.status, reply.served()), (500, (Some("id-cloud-minimax"), Some("1"))));
    assert_eq!(reply.json()["error"]["type"], Value::Null);
    assert!(!reply.text.contains("LiteLLM: model group"), "{}", reply.text);

    let deep = World::start(json!({ "max_fallbacks": 5, "num_retries": 2 })).await;
    deep.upstream.set("kimi", Does::BreaksBeforeContent);
    deep.upstream.set("minimax", Does::BreaksBeforeContent);
    let reply = deep.chat("cloud-kimi", true).await;
    assert_eq!(reply.served(), (Some("id-vllm-qwen"), Some("2")), "right, and without retries");
    assert_eq!(deep.upstream.seen("kimi").len(), 1);
}

#[tokio::test]
async fn a_stream_that_breaks_after_content_ends_in_an_error_event() {
    let world = World::start(json!({})).await;
    for (model, group) in [("kimi", "cloud-kimi"), ("Qwen3", "vllm-qwen")] {
        world.upstream.set(model, Does::BreaksAfterContent);
        let reply = world.chat(group, true).await;
        assert_eq!(reply.status, 200);
        let events = reply.events();
        assert_eq!(events.len(), 2, "{events:?}");
        let error = &chunk(events[1])["error"];
        assert_eq!((&error["code"], &error["type"]), (&json!("500"), &Value::Null));
        assert!(error["message"].as_str().unwrap().contains("payload is not completed"));
    }
}

#[tokio::test]
async fn a_clean_early_end_looks_complete() {
    let world = World::start(json!({})).await;
    for (model, group) in [("kimi", "cloud-kimi"), ("Qwen3", "vllm-qwen")] {
        world.upstream.set(model, Does::EndsEarly);
        let reply = world.chat(group, true).await;
        let events = reply.events();
        assert_eq!(events.len(), 4, "{events:?}");
        assert_eq!(chunk(events[2])["choices"][0]["finish_reason"], "stop");
        assert_eq!(chunk(events[2])["id"], chunk(events[1])["id"]);
        assert_eq!(events[3], "[DONE]");
    }
}

#[tokio::test]
async fn an_error_as_first_event_falls_back_only_for_vllm() {
    let fallbacks = json!([{ "cloud-kimi": ["cloud-minimax"] }, { "vllm-qwen": ["ollama-qwen"] }]);
    let world = World::start(json!({ "fallbacks": fallbacks })).await;
    world.upstream.set("kimi", Does::ErrorInStream);
    let reply = world.chat("cloud-kimi", true).await;
    assert_eq!(reply.status, 400, "{}", reply.text);
    assert!(reply.text.contains("Got unexpected response from Ollama"));
    world.upstream.set("Qwen3", Does::ErrorInStream);
    let reply = world.chat("vllm-qwen", true).await;
    assert_eq!((reply.status, reply.served()), (200, (Some("id-ollama-qwen"), Some("1"))));
}

#[tokio::test]
async fn an_error_after_content_cools_only_where_its_class_does() {
    let fallbacks = json!([{ "cloud-kimi": ["ollama-qwen"] }, { "vllm-qwen": ["ollama-qwen"] }]);
    let world = World::start(json!({ "fallbacks": fallbacks })).await;
    for (model, group, second) in
        [("kimi", "cloud-kimi", "id-cloud-kimi"), ("Qwen3", "vllm-qwen", "id-ollama-qwen")]
    {
        world.upstream.set(model, Does::ErrorAfterContent);
        let first = world.chat(group, true).await;
        assert_eq!(first.events().len(), 2, "{}", first.text);
        let next = world.chat(group, true).await;
        assert_eq!(next.served().0, Some(second));
    }
}

#[tokio::test]
async fn a_stream_succeeds_at_its_end_and_not_before() {
    let upstream = Upstream::start().await;
    let member = |model: &str, weight: f64| {
        json!({ "model_name": "pair", "model_info": { "id": format!("id-{model}") },
            "litellm_params": { "model": format!("hosted_vllm/{model}"), "weight": weight,
                "api_base": format!("http://{}/v1", upstream.address) } })
    };
    let config = json!({ "model_list": [member("often", 1e12), member("never", 1.0)],
        "router_settings": { "num_retries": 0, "cooldown_time": 300 } });
    // Of five, half must have failed at least, and more than half for a cooldown.
    for (whole, broken, cooled) in [(0, 4, false), (0, 5, true), (2, 3, true), (3, 3, false), (3, 4, true)] {
        let options = GatewayOptions { config: config.clone(), seed: 1, master_key: None, port: 0 };
        let world =
            World { gateway: Gateway::start(options).await.unwrap(), upstream: Upstream::start().await };
        for (does, times) in [(Does::Serves, whole), (Does::ErrorAfterContent, broken)] {
            upstream.set("often", does);
            for _ in 0..times {
                assert_eq!(world.chat("pair", true).await.served().0, Some("id-often"));
            }
        }
        let next = world.chat("pair", true).await;
        let expected = if cooled { "id-never" } else { "id-often" };
        assert_eq!(next.served().0, Some(expected), "{whole} whole, {broken} broken");
    }
}

#[tokio::test]
async fn a_line_that_is_not_json_is_passed_over() {
    let world = World::start(json!({})).await;
    for (model, group) in [("kimi", "cloud-kimi"), ("Qwen3", "vllm-qwen")] {
        world.upstream.set(model, Does::Babbles);
        let reply = world.chat(group, true).await;
        let events = reply.events();
        assert_eq!(events.len(), 2, "{events:?}");
        let only = chunk(events[0]);
        assert_eq!(only["choices"], json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]));
        assert!(only["id"].as_str().unwrap().starts_with("chatcmpl-"), "{only}");
        assert_eq!(events[1], "[DONE]");
    }
}
