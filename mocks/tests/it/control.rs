//! The control API, over HTTP.

use mocks::control::Control;
use mocks::gate::GateMode;
use mocks::record::Record;
use serde_json::{Value, json};

use crate::observe::{check_new_client_sees, get, http_client, shared_world};

async fn put(url: String, body: &str) -> u16 {
    http_client().put(url).body(body.to_owned()).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn changes_and_shows_the_world() {
    let world = shared_world().await;
    let control = Control::start(world.clone(), 0).await.unwrap();
    let url = |path: &str| format!("{}{path}", control.url());
    assert_eq!(put(url("/gates/vllm"), r#"{"mode":"blackhole"}"#).await, 204);
    let address = world.gate("vllm").unwrap().address();
    check_new_client_sees(GateMode::Blackhole, address, "after the request").await;
    assert_eq!(put(url("/gone/cloud"), r#"{"models":["kimi-k2.5"]}"#).await, 204);
    let (status, state) = get(url("/state")).await;
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(status, 200);
    assert_eq!(state["components"], json!(world.states()));
    assert_eq!(state["components"][1]["mode"], "blackhole");
    assert_eq!(state["components"][1]["dialect"], "openai");
    assert_eq!(state["journal"], json!({ "next_seq": 0, "dropped_count": 0 }));
    let reset = http_client().post(url("/reset")).send().await.unwrap();
    assert_eq!(reset.status(), 204);
    assert!(world.states().iter().all(|state| state.mode == GateMode::Pass && state.gone.is_empty()));
    control.shutdown().await;
    world.shutdown().await;
}

#[tokio::test]
async fn gives_the_journal_from_any_record_on() {
    let world = shared_world().await;
    let control = Control::start(world.clone(), 0).await.unwrap();
    for _ in 0..3 {
        get(format!("{}/health", world.base_url("vllm").unwrap())).await;
    }
    let journal = async |query: &str| -> Vec<Record> {
        let (status, text) = get(format!("{}/journal{query}", control.url())).await;
        assert_eq!(status, 200);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(journal("").await, world.recorder().all());
    assert_eq!(journal("?since=2").await, world.recorder().records_since(2));
    assert_eq!(journal("?since=3").await, []);
    assert_eq!(journal("?since=18446744073709551615").await, []);
    assert_eq!(get(format!("{}/journal?since=x", control.url())).await.0, 400);
    control.shutdown().await;
    world.shutdown().await;
}

#[tokio::test]
async fn refuses_what_it_does_not_understand() {
    let world = shared_world().await;
    let control = Control::start(world.clone(), 0).await.unwrap();
    let url = |path: &str| format!("{}{path}", control.url());
    assert_eq!(put(url("/gates/none"), r#"{"mode":"pass"}"#).await, 404);
    assert_eq!(put(url("/gates/vllm"), r#"{"mode":"explode"}"#).await, 400);
    assert_eq!(put(url("/gates/vllm"), r#"{"mode":"pass","for":1}"#).await, 400);
    assert_eq!(put(url("/gates/vllm"), "").await, 400);
    assert_eq!(put(url("/gone/cloud"), r#"{"models":["none"]}"#).await, 400);
    assert_eq!(put(url("/gates/vllm"), &" ".repeat(1024 * 1024 + 1)).await, 413);
    assert_eq!(put(url("/state"), "").await, 405);
    assert_eq!(get(url("/gates/vllm")).await.0, 405);
    let (status, text) = get(url("/none")).await;
    assert_eq!(status, 404);
    assert!(serde_json::from_str::<Value>(&text).unwrap()["error"].is_string());
    control.shutdown().await;
    world.shutdown().await;
}
