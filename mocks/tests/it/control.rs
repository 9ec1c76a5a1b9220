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

async fn delete(url: String) -> (u16, String) {
    let answer = http_client().delete(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_fault_has_an_owner_and_an_end() {
    let world = shared_world().await;
    let control = Control::start(world.clone(), 0).await.unwrap();
    let url = |path: &str| format!("{}{path}", control.url());
    let standing = async |path: &str| -> Value { serde_json::from_str(&get(url(path)).await.1).unwrap() };
    let (gate, gone) = ("/gates/vllm/fault", "/gone/cloud/fault");
    assert_eq!(put(url(gate), r#"{"run":"a","seconds":600,"to":"blackhole"}"#).await, 204);
    assert_eq!(put(url(gate), r#"{"run":"a","seconds":600,"to":"blackhole"}"#).await, 204, "idempotent");
    assert_eq!(put(url(gone), r#"{"run":"a","seconds":600,"to":["kimi-k2.5"]}"#).await, 204);
    check_new_client_sees(GateMode::Blackhole, world.gate("vllm").unwrap().address(), "after it").await;
    let seen = standing(gate).await;
    assert_eq!((&seen["now"], &seen["run"]), (&json!("blackhole"), &json!("a")));
    assert!((1.0..=600.0).contains(&seen["expires_in_s"].as_f64().unwrap()), "{seen}");
    assert_eq!(standing(gone).await["now"], json!(["kimi-k2.5"]));
    assert_eq!(put(url(gate), r#"{"run":"b","seconds":600,"to":"refuse"}"#).await, 409);
    assert_eq!(delete(url("/gates/vllm/fault?run=b")).await.0, 409);
    assert_eq!(delete(url("/gates/vllm/fault?run=a")).await, (200, r#""now""#.to_owned()));
    assert_eq!(delete(url("/gates/vllm/fault?run=a")).await, (200, r#""before""#.to_owned()));
    assert_eq!(delete(url("/gone/cloud/fault?run=a")).await.0, 200);
    // What somebody sets for ever is theirs.
    assert_eq!(put(url(gate), r#"{"run":"a","seconds":600,"to":"blackhole"}"#).await, 204);
    assert_eq!(put(url("/gates/vllm"), r#"{"mode":"refuse"}"#).await, 204);
    assert_eq!(
        (&standing(gate).await["now"], &standing(gate).await["run"]),
        (&json!("refuse"), &Value::Null)
    );
    assert_eq!(delete(url("/gates/vllm/fault?run=a")).await.0, 409);
    assert_eq!(put(url("/gates/vllm"), r#"{"mode":"pass"}"#).await, 204);
    for (body, status) in [
        (r#"{"run":"a","seconds":0,"to":"blackhole"}"#, 400),
        (r#"{"run":"a","seconds":600,"to":"pass"}"#, 400),
        (r#"{"run":"a","to":"blackhole"}"#, 400),
        (r#"{"run":"a","seconds":600,"to":"blackhole","for":1}"#, 400),
    ] {
        assert_eq!(put(url(gate), body).await, status, "{body}");
    }
    assert_eq!(put(url("/gone/cloud/fault"), r#"{"run":"a","seconds":1,"to":["none"]}"#).await, 400);
    assert_eq!(get(url("/gates/none/fault")).await.0, 404);
    assert_eq!(delete(url(gate)).await.0, 400);
    // It is over when its time is.
    assert_eq!(put(url(gate), r#"{"run":"a","seconds":1,"to":"blackhole"}"#).await, 204);
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
    let over = async {
        while standing(gate).await["now"] != "pass" {
            looks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), over).await.unwrap();
    assert_eq!(get(format!("{}/health", world.base_url("vllm").unwrap())).await.0, 200);
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
