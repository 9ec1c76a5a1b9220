//! The five operating modes, and what the breaker remembers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::upstream::{DRIP_GAP, Does, Upstream};
use crate::wire::{Call, World, chat, config};

const CLOUD: [&str; 2] = ["kimi", "minimax"];

/// A port that nothing listens on.
async fn refused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn normal_is_served_by_the_primary_in_both_forms() {
    let world = World::start(json!({})).await;
    let whole = world.chat("cloud-kimi", false).await;
    assert_eq!((whole.status, whole.served()), (200, (Some("id-cloud-kimi"), Some("0"))));
    let body = whole.json();
    assert_eq!(body["model"], "cloud-kimi");
    assert_eq!(body["choices"][0]["message"]["content"], "hello");
    assert_eq!(body["usage"]["total_tokens"], 5);
    assert_eq!(whole.header("x-litellm-version"), Some("1.106.2"));
    assert_eq!(whole.header("x-litellm-model-group"), Some("cloud-kimi"));
    assert_eq!(whole.header("llm_provider-x-up"), None, "lost for whole replies of this provider");
    let sent = &world.upstream.seen("kimi")[0];
    assert_eq!(sent["options"], json!({ "num_predict": 8 }));
    assert_eq!(sent.get("metadata"), None, "the gateway's own");

    let stream = world.chat("cloud-kimi", true).await;
    assert_eq!(stream.served(), (Some("id-cloud-kimi"), Some("0")));
    assert_eq!(stream.header("llm_provider-x-up"), Some("yes"));
    assert_eq!(stream.events().last(), Some(&"[DONE]"));
}

#[tokio::test]
async fn a_hung_cloud_costs_two_timeouts_once_and_nothing_while_cooled() {
    let world = World::start(json!({})).await;
    for model in CLOUD {
        world.upstream.set(model, Does::Hangs);
    }
    let started = Instant::now();
    let first = world.chat("cloud-kimi", true).await;
    let took = started.elapsed();
    assert_eq!(first.served(), (Some("id-vllm-qwen"), Some("2")));
    assert!((Duration::from_millis(600)..Duration::from_secs(20)).contains(&took), "{took:?}");
    let second = world.chat("cloud-kimi", false).await;
    assert_eq!(second.served(), (Some("id-vllm-qwen"), Some("2")), "cooled hops count");
    assert_eq!(second.json()["model"], "Qwen3");
    assert_eq!(second.header("llm_provider-x-up"), Some("yes"));
    assert_eq!((world.upstream.seen("kimi").len(), world.upstream.seen("minimax").len()), (1, 1));
}

#[tokio::test]
async fn no_timeout_of_a_caller_who_named_one_is_counted() {
    for named in [json!({ "stream_timeout": 9 }), json!({ "request_timeout": 0 })] {
        let world = World::start(json!({})).await;
        for model in CLOUD {
            world.upstream.set(model, Does::Hangs);
        }
        // Whole requests: neither is the timeout that fires.
        for _ in 0..2 {
            let mut body = chat("cloud-kimi", false);
            body.as_object_mut().unwrap().extend(named.as_object().unwrap().clone());
            let seen = world.post(&body).await;
            assert_eq!(seen.served(), (Some("id-vllm-qwen"), Some("2")));
        }
        assert_eq!(world.upstream.seen("kimi").len(), 2, "{named}: not cooled");
        world.chat("cloud-kimi", false).await;
        world.chat("cloud-kimi", false).await;
        assert_eq!(world.upstream.seen("kimi").len(), 3, "the timeout of a caller who named none cools");
    }
}

#[tokio::test]
async fn a_connect_that_never_completes_ends_at_the_timeout() {
    // A queue of one that is full and never emptied: the kernel drops further SYNs.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let port = full.local_addr().unwrap().port();
    let _first = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let world = World::with_vllm_at(Some(port), json!({ "timeout": 0.3 })).await;
    let started = Instant::now();
    let reply = world.chat("vllm-qwen", true).await;
    assert_eq!(reply.status, 408, "{}", reply.text);
    assert_eq!(reply.header("x-litellm-timeout"), Some("0.3"));
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn with_cloud_and_gpu_down_the_last_model_answers() {
    let world = World::with_vllm_at(Some(refused_port().await), json!({})).await;
    for model in CLOUD {
        world.upstream.set(model, Does::Status(503));
    }
    let whole = world.chat("cloud-kimi", false).await;
    assert_eq!(whole.served(), (Some("id-ollama-qwen"), Some("3")));
    assert_eq!(whole.json()["model"], "ollama_chat/phi");
    let stream = world.chat("cloud-kimi", true).await;
    let first: serde_json::Value = serde_json::from_str(stream.events()[0]).unwrap();
    assert_eq!(first["model"], "ollama-qwen", "streams name the group");
}

#[tokio::test]
async fn a_full_outage_is_the_primarys_error_and_then_the_cooldown() {
    let world = World::with_vllm_at(Some(refused_port().await), json!({})).await;
    world.upstream.set("kimi", Does::Hangs);
    world.upstream.set("minimax", Does::Status(500));
    world.upstream.set("phi", Does::Babbles);
    let first = world.chat("cloud-kimi", false).await;
    let error = &first.json()["error"];
    assert_eq!((first.status, error["code"].as_str()), (408, Some("408")));
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!(first.served(), (None, None), "errors carry no attribution");
    assert_eq!(first.header("x-litellm-timeout"), Some("0.3"));
    let second = world.chat("cloud-kimi", false).await;
    assert_eq!((second.status, second.header("retry-after")), (429, Some("5")));
    let error = &second.json()["error"];
    assert_eq!(error["type"], "all_deployments_in_cooldown");
    let listed = "cooldown_list=['id-cloud-kimi', 'id-cloud-minimax', 'id-vllm-qwen']";
    assert!(error["message"].as_str().unwrap().ends_with(listed), "{error}");
}

#[tokio::test]
async fn a_refused_vllm_is_cooled_and_a_babbling_ollama_is_not() {
    let world = World::with_vllm_at(Some(refused_port().await), json!({})).await;
    let first = world.chat("vllm-qwen", false).await;
    assert_eq!(first.status, 500);
    assert!(
        first.text.contains("InternalServerError: Hosted_vllmException - Cannot connect to host REDACTED:")
    );
    assert_eq!(world.chat("vllm-qwen", false).await.status, 429);
    world.upstream.set("phi", Does::Babbles);
    for _ in 0..2 {
        let reply = world.chat("ollama-qwen", false).await;
        assert_eq!(reply.status, 500);
        assert!(reply.text.contains("APIConnectionError"), "{}", reply.text);
    }
}

#[tokio::test]
async fn a_reset_is_sent_twice_and_a_closed_connection_once() {
    let world = World::start(json!({ "max_fallbacks": 0, "allowed_fails": 3 })).await;
    // The first on a new connection, the second on one that has served.
    for (does, sent) in [
        (Does::Resets, 2),
        (Does::Closes, 3),
        (Does::Serves, 4),
        (Does::Resets, 6),
        (Does::Serves, 7),
        (Does::Closes, 8),
    ] {
        world.upstream.set("phi", does);
        let reply = world.chat("ollama-qwen", false).await;
        assert_eq!(reply.status, if does == Does::Serves { 200 } else { 500 }, "{}", reply.text);
        assert_eq!(world.upstream.seen("phi").len(), sent, "{does:?}");
    }
    world.upstream.set("phi", Does::ServesOnce);
    for served in 0..5 {
        until(|| world.upstream.closed() == served).await;
        let reply = world.chat("ollama-qwen", false).await;
        assert_eq!(reply.status, 200, "a stale idle connection is not the request's fault: {}", reply.text);
    }
}

#[tokio::test]
async fn an_upstream_says_until_when_it_is_to_be_left_alone() {
    let world = World::start(json!({ "fallbacks": [] })).await;
    world.upstream.set("phi", Does::LimitedFor(40));
    assert_eq!(world.chat("ollama-qwen", false).await.status, 429);
    let refused = world.chat("ollama-qwen", false).await;
    let left: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=40).contains(&left), "{left}");
    assert_eq!(world.upstream.seen("phi").len(), 1);
}

#[tokio::test]
async fn a_deployment_id_reaches_past_the_cooldown() {
    let world = World::start(json!({})).await;
    world.upstream.set("kimi", Does::Status(500));
    assert_eq!(world.chat("cloud-kimi", false).await.served().0, Some("id-cloud-minimax"));
    world.upstream.set("kimi", Does::Serves);
    assert_eq!(world.chat("cloud-kimi", false).await.served().0, Some("id-cloud-minimax"));
    let direct = world.chat("id-cloud-kimi", false).await;
    assert_eq!(direct.served(), (Some("id-cloud-kimi"), Some("0")));
    assert_eq!(direct.json()["model"], "id-cloud-kimi");
    assert_eq!(direct.header("x-litellm-model-group"), Some("id-cloud-kimi"));
}

#[tokio::test]
async fn a_request_goes_on_after_its_client_has_left() {
    for streaming in [false, true] {
        let world = World::start(json!({})).await;
        for model in CLOUD {
            world.upstream.set(model, Does::Hangs);
        }
        let request = world.request("POST", "/v1/chat/completions").bearer_auth(crate::wire::KEY);
        let client = tokio::spawn(request.body(chat("cloud-kimi", streaming).to_string()).send());
        until(|| !world.upstream.seen("kimi").is_empty()).await;
        client.abort();
        until(|| !world.upstream.seen("Qwen3").is_empty()).await;
    }
}

#[tokio::test]
async fn a_stream_whose_client_leaves_is_left_too_and_counts_for_nothing() {
    let world = World::start(json!({})).await;
    world.upstream.set("phi", Does::StallsAfterContent);
    for left in 1..=2 {
        let request = world.request("POST", "/v1/chat/completions").bearer_auth(crate::wire::KEY);
        let mut response = request.body(chat("ollama-qwen", true).to_string()).begin().await;
        assert!(response.next().await.is_some(), "the first piece is there");
        drop(response);
        until(|| world.upstream.closed() == left).await;
    }
    world.upstream.set("phi", Does::Serves);
    assert_eq!(world.chat("ollama-qwen", true).await.served().0, Some("id-ollama-qwen"), "not cooled");
}

#[tokio::test]
async fn a_timeout_bounds_each_gap_and_not_the_whole() {
    let limit = DRIP_GAP * 5;
    let config = |config: &mut Value| {
        for entry in config["model_list"].as_array_mut().unwrap() {
            entry["litellm_params"]["timeout"] = limit.as_secs_f64().into();
        }
    };
    let world = World::changed(json!({}), config).await;
    for model in ["phi", "Qwen3"] {
        world.upstream.set(model, Does::Drips);
    }
    let started = Instant::now();
    let (whole, stream) = tokio::join!(world.chat("ollama-qwen", false), world.chat("vllm-qwen", true));
    assert!(started.elapsed() > limit, "longer than one timeout");
    assert_eq!((whole.status, stream.status), (200, 200), "{} {}", whole.text, stream.text);
    assert_eq!(stream.events().last(), Some(&"[DONE]"));
}

#[tokio::test]
async fn shutdown_ends_what_is_in_flight() {
    let upstream = Upstream::start().await;
    upstream.set("kimi", Does::Hangs);
    let mut config = config(&upstream, None, json!({}));
    config["model_list"][0]["litellm_params"]["timeout"] = 60.into();
    let options = mocks::gateway::GatewayOptions { config, seed: 1, master_key: None, port: 0 };
    let gateway = mocks::gateway::Gateway::start(options).await.unwrap();
    let body = chat("cloud-kimi", false).to_string();
    let call = Call::new(&gateway.url(), "POST", "/v1/chat/completions").bearer_auth(crate::wire::KEY);
    let call = tokio::spawn(call.body(body).send());
    until(|| !upstream.seen("kimi").is_empty()).await;
    let started = Instant::now();
    gateway.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let ended = call.await.unwrap();
    assert!(ended.is_err() || ended.unwrap().status == 503);
}

/// Waits for a condition, ten seconds at most.
async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come true in time");
        tick.tick().await;
    }
}
