//! The world as a whole: records, restarts, shutdown.

use std::time::Duration;

use mocks::gate::GateMode;
use mocks::profile::Profile;
use mocks::record::{Outcome, Record};
use mocks::time::Epoch;
use mocks::world::{World, WorldError, WorldOptions};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::observe::{eventually, get, http_client, post, world_with};

fn chat_url(world: &World, component: &str) -> String {
    format!("{}/api/chat", world.base_url(component).unwrap())
}

fn slow(profile: &mut Profile) {
    profile.cloud.tokens_per_s = 1.0;
}

async fn ended_record(world: &World) -> Record {
    let ended = || world.recorder().all().into_iter().find(|record| record.outcome != Outcome::Open);
    eventually("a record that has ended", ended).await
}

#[tokio::test]
async fn records_what_was_asked_and_not_the_prompt() {
    let world = world_with(|_| {}).await;
    let before_us = world.epoch().now_us();
    let messages = json!([
        { "role": "system", "content": "a secret prompt" },
        { "role": "user", "content": [{ "type": "text", "text": "[probe:run1.7_a][purpose:control] hi" }] },
    ]);
    let body = json!({ "model": "kimi-k2.5", "messages": messages, "options": { "num_predict": 5 } });
    assert_eq!(post(chat_url(&world, "cloud"), body).await.0, 200);
    let record = ended_record(&world).await;
    assert_eq!((record.seq, record.component.as_str()), (0, "cloud"));
    assert_eq!(record.alias_model.as_deref(), Some("kimi-k2.5"));
    assert_eq!(record.path, "/api/chat");
    assert_eq!(record.probe.as_deref(), Some("run1.7_a"));
    assert_eq!(record.purpose.as_deref(), Some("control"));
    assert!(record.stream);
    assert_eq!(record.outcome, Outcome::Answered { status: 200 });
    let (first_us, ended_us) = (record.first_byte_us.unwrap(), record.ended_us.unwrap());
    assert!(before_us <= record.received_us && record.received_us + 5_000 <= first_us);
    // Tokens keep to their schedule, 5 ms of thought and then one a millisecond, even when the first one is late.
    assert!(first_us <= ended_us && record.received_us + 9_000 <= ended_us);
    assert!(ended_us <= world.epoch().now_us());
    assert!(!serde_json::to_string(&record).unwrap().contains("secret"));
    get(format!("{}/api/tags?x=1", world.base_url("ollama").unwrap())).await;
    let listing = world.recorder().records_since(1).remove(0);
    assert_eq!((listing.path.as_str(), listing.alias_model, listing.probe), ("/api/tags", None, None));
    world.shutdown().await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_recorded() {
    let world = world_with(slow).await;
    let body = json!({ "model": "kimi-k2.5", "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let mut response = http_client().post(chat_url(&world, "cloud")).body(body).send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    assert_eq!(world.recorder().all()[0].outcome, Outcome::Open);
    drop(response);
    let record = ended_record(&world).await;
    assert_eq!(record.outcome, Outcome::ClientLeft);
    assert!(record.first_byte_us.is_some() && record.ended_us > record.first_byte_us);
    world.shutdown().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_a_whole_answer_is_recorded() {
    let world = world_with(slow).await;
    let body =
        json!({ "model": "kimi-k2.5", "stream": false, "messages": [{ "role": "user", "content": "hi" }] });
    let asked = || (world.recorder().next_seq() == 1).then_some(());
    tokio::select! {
        _ = post(chat_url(&world, "cloud"), body) => panic!("the answer takes minutes"),
        () = eventually("the request", asked) => {}
    }
    let record = ended_record(&world).await;
    assert_eq!((record.outcome, record.first_byte_us), (Outcome::ClientLeft, None));
    world.shutdown().await;
}

#[tokio::test]
async fn refusing_breaks_a_stream_on_both_sides() {
    let world = world_with(slow).await;
    let body = json!({ "model": "kimi-k2.5", "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let mut response = http_client().post(chat_url(&world, "cloud")).body(body).send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    world.set("cloud", GateMode::Refuse).await.unwrap();
    assert!(response.chunk().await.is_err());
    assert_eq!(ended_record(&world).await.outcome, Outcome::ClientLeft);
    world.shutdown().await;
}

#[tokio::test]
async fn a_component_that_refused_has_to_load_again() {
    let world = world_with(|_| {}).await;
    let load_ns = async || {
        let body = json!({
            "model": "phi4-mini", "stream": false, "options": { "num_predict": 1 },
            "messages": [{ "role": "user", "content": "hi" }],
        });
        let (_, text) = post(chat_url(&world, "ollama"), body).await;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["load_duration"].as_u64().unwrap()
    };
    let cold_ns = 40_000_000;
    assert!(load_ns().await >= cold_ns);
    for (mode, loads) in [(GateMode::Stall, false), (GateMode::Blackhole, false), (GateMode::Refuse, true)] {
        world.set("ollama", mode).await.unwrap();
        world.set("ollama", GateMode::Pass).await.unwrap();
        assert_eq!(load_ns().await >= cold_ns, loads, "{mode:?}");
    }
    world.shutdown().await;
}

#[tokio::test]
async fn no_more_than_four_chats_run_at_once_on_the_cpu() {
    let world = world_with(|profile| profile.ollama.tokens_per_s = 100.0).await;
    let body = json!({
        "model": "phi4-mini", "options": { "num_predict": 20 },
        "messages": [{ "role": "user", "content": "hi" }],
    });
    let chats = (0..8).map(|_| post(chat_url(&world, "ollama"), body.clone()));
    let answers = futures::future::join_all(chats).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
    let records = world.recorder().all();
    let working_at = |at_us: u64| {
        let working = |r: &&Record| r.first_byte_us.unwrap() <= at_us && at_us < r.ended_us.unwrap();
        records.iter().filter(working).count()
    };
    let most = records.iter().map(|record| working_at(record.first_byte_us.unwrap())).max();
    assert_eq!(most, Some(4));
    world.shutdown().await;
}

#[tokio::test]
async fn says_how_it_stands_and_what_it_does_not_know() {
    let world = world_with(|_| {}).await;
    world.set("vllm", GateMode::Stall).await.unwrap();
    world.set_gone("cloud", vec!["kimi-k2.5".to_owned()]).unwrap();
    let states = world.states();
    let modes: Vec<_> = states.iter().map(|state| (state.name.as_str(), state.mode)).collect();
    let expected = [("cloud", GateMode::Pass), ("vllm", GateMode::Stall), ("ollama", GateMode::Pass)];
    assert_eq!(modes, expected);
    assert_eq!(states[0].gone, ["kimi-k2.5"]);
    assert_eq!(Some(states[1].base_url.clone()), world.base_url("vllm"));
    assert!(world.gate("none").is_none() && world.base_url("none").is_none());
    let unknown = world.set("none", GateMode::Pass).await.unwrap_err();
    assert!(matches!(unknown, WorldError::UnknownComponent { .. }), "{unknown}");
    let unknown = world.set_gone("cloud", vec!["none".to_owned()]).unwrap_err();
    assert!(matches!(unknown, WorldError::UnknownModel { .. }), "{unknown}");
    world.reset().await.unwrap();
    assert!(world.states().iter().all(|state| state.mode == GateMode::Pass && state.gone.is_empty()));
    world.shutdown().await;
}

#[tokio::test]
async fn two_components_cannot_share_a_name() {
    let mut options = WorldOptions::five_aliases(Epoch::starting_now(), 1, Profile::fast());
    options.components[1].name = "cloud".to_owned();
    assert_eq!(World::start(options).await.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn shutdown_leaves_no_task() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let world = world_with(|_| {}).await;
    let idle: Vec<TcpStream> = futures::future::try_join_all(
        world.states().iter().map(|state| TcpStream::connect(state.base_url["http://".len()..].to_owned())),
    )
    .await
    .unwrap();
    // Keepers and accept loops, and for each connection one task at the gate and one at the upstream.
    eventually("all tasks", || (tasks() >= before + 12).then_some(())).await;
    timeout(Duration::from_secs(5), world.shutdown()).await.unwrap();
    eventually("no task is left", || (tasks() <= before).then_some(())).await;
    drop(idle);
}
