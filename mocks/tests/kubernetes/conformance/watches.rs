//! Watches.

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::runtime::watcher;
use serde_json::{Value, json};

use crate::ground::{Ground, PATIENCE};

fn config(name: &str, case: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": { "case": case } } })
}

async fn next<T: std::fmt::Debug>(stream: &mut (impl Stream<Item = T> + Unpin)) -> T {
    tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("an event in time")
        .expect("the stream goes on")
}

/// An event as `ADDED name`.
fn told(event: &WatchEvent<ConfigMap>) -> String {
    let name = |object: &ConfigMap| object.metadata.name.clone().unwrap();
    match event {
        WatchEvent::Added(object) => format!("ADDED {}", name(object)),
        WatchEvent::Modified(object) => format!("MODIFIED {}", name(object)),
        WatchEvent::Deleted(object) => format!("DELETED {}", name(object)),
        WatchEvent::Bookmark(_) => "BOOKMARK".to_owned(),
        WatchEvent::Error(status) => format!("ERROR {}", status.code),
    }
}

#[tokio::test]
async fn a_watch_tells_everything_after_its_version_in_order() {
    let ground = Ground::find("watch").await;
    let (name, case) = (ground.name("c"), ground.name("case"));
    let (_, made) = ground.post("api/v1", "configmaps", &config(&name, &case)).await;
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let api = ground.api::<ConfigMap>();
    let params = WatchParams::default().labels(&format!("case={case}"));
    let mut events = api.watch(&params, version).await.unwrap().boxed();
    let patch = |labels: Value| Patch::Merge(json!({ "metadata": { "labels": labels } }));
    let manager = PatchParams::default();
    api.patch(&name, &manager, &patch(json!({ "x": "1" }))).await.unwrap();
    api.patch(&name, &manager, &patch(json!({ "case": "other" }))).await.unwrap();
    api.patch(&name, &manager, &patch(json!({ "case": case }))).await.unwrap();
    api.delete(&name, &DeleteParams::background()).await.unwrap();
    for expected in ["MODIFIED", "DELETED", "ADDED", "DELETED"] {
        assert_eq!(told(&next(&mut events).await.unwrap()), format!("{expected} {name}"));
    }
    ground.leave::<ConfigMap>(&[]).await;
}

#[tokio::test]
async fn a_watch_from_zero_begins_with_what_is_there() {
    let ground = Ground::find("watch-zero").await;
    let (name, case) = (ground.name("c"), ground.name("case"));
    ground.post("api/v1", "configmaps", &config(&name, &case)).await;
    let api = ground.api::<ConfigMap>();
    let params = WatchParams::default().labels(&format!("case={case}"));
    let mut events = api.watch(&params, "0").await.unwrap().boxed();
    assert_eq!(told(&next(&mut events).await.unwrap()), format!("ADDED {name}"));
    api.delete(&name, &DeleteParams::background()).await.unwrap();
    assert_eq!(told(&next(&mut events).await.unwrap()), format!("DELETED {name}"));
    ground.leave::<ConfigMap>(&[]).await;
}

#[tokio::test]
async fn a_watch_from_too_long_ago_opens_and_then_says_410() {
    let ground = Ground::find("watch-old").await;
    let api = ground.api::<ConfigMap>();
    let mut events = api.watch(&WatchParams::default(), "1").await.unwrap().boxed();
    assert_eq!(told(&next(&mut events).await.unwrap()), "ERROR 410");
    ground.leave::<ConfigMap>(&[]).await;
}

#[tokio::test]
async fn a_watch_ends_when_it_said_it_would() {
    let ground = Ground::find("watch-end").await;
    let api = ground.api::<ConfigMap>();
    let case = ground.name("nothing");
    let params = WatchParams::default().labels(&format!("case={case}")).timeout(3);
    let version =
        api.list(&kube::api::ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let events = api.watch(&params, &version).await.unwrap();
    let events =
        tokio::time::timeout(PATIENCE, events.try_collect::<Vec<_>>()).await.expect("it ends").unwrap();
    assert!(events.iter().all(|event| matches!(event, WatchEvent::Bookmark(_))), "{events:?}");
    ground.leave::<ConfigMap>(&[]).await;
}

#[tokio::test]
async fn the_watcher_of_kube_follows_in_both_of_its_ways() {
    let ground = Ground::find("watcher").await;
    let case = ground.name("case");
    for (at, config_of) in
        [watcher::Config::default(), watcher::Config::default().streaming_lists()].into_iter().enumerate()
    {
        let names = ["a", "b"].map(|name| ground.name(&format!("{name}{at}")));
        ground.post("api/v1", "configmaps", &config(&names[0], &case)).await;
        let settings = config_of.labels(&format!("case={case}"));
        let mut events = watcher(ground.api::<ConfigMap>(), settings).boxed();
        assert!(matches!(next(&mut events).await.unwrap(), watcher::Event::Init));
        let first = next(&mut events).await.unwrap();
        assert!(
            matches!(&first, watcher::Event::InitApply(object) if object.metadata.name.as_ref() == Some(&names[0]))
        );
        assert!(matches!(next(&mut events).await.unwrap(), watcher::Event::InitDone));
        ground.post("api/v1", "configmaps", &config(&names[1], &case)).await;
        let next_one = next(&mut events).await.unwrap();
        assert!(
            matches!(&next_one, watcher::Event::Apply(object) if object.metadata.name.as_ref() == Some(&names[1]))
        );
        for name in &names {
            ground.api::<ConfigMap>().delete(name, &DeleteParams::background()).await.unwrap();
        }
        assert!(matches!(next(&mut events).await.unwrap(), watcher::Event::Delete(_)));
    }
    ground.leave::<ConfigMap>(&[]).await;
}
