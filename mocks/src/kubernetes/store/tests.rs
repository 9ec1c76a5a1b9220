use serde_json::json;

use super::*;
use crate::kubernetes::resources::{CONFIG_MAPS, DEPLOYMENTS, PODS};
use crate::time::Epoch;

const WRITER: Writer<'static> = Writer { manager: "test", subresource: "", records: true };

fn store() -> Store {
    let store = Store::new(1, Clock::new(Epoch::starting_now()));
    store.create(&NAMESPACES, "", json!({ "metadata": { "name": "ml" } }), WRITER).unwrap();
    store
}

fn config(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "data": { "a": "1" } })
}

fn pod(node: &str) -> Value {
    json!({
        "metadata": { "name": "p" },
        "spec": { "nodeName": node, "containers": [{ "name": "main", "image": "x" }] },
    })
}

#[test]
fn a_write_that_changes_nothing_uses_no_version() {
    let store = store();
    store.create(&CONFIG_MAPS, "ml", config("c"), WRITER).unwrap();
    let version = store.version();
    let key = ObjectKey::new(&CONFIG_MAPS, "ml", "c");
    store.update(&key, Writer::of_object("other"), |_| Ok(())).unwrap();
    assert_eq!(store.version(), version);
    store
        .update(&key, WRITER, |object| {
            object["data"]["a"] = "2".into();
            Ok(())
        })
        .unwrap();
    assert_eq!(store.version(), version + 1);
}

#[test]
fn a_placed_pod_goes_when_the_kubelet_says_so_and_an_unplaced_one_at_once() {
    let store = store();
    let key = ObjectKey::new(&PODS, "ml", "p");
    store.create(&PODS, "ml", pod("node-1"), WRITER).unwrap();
    let Deleted::Pending(pending) = store.delete(&key, &Deletion::default(), "test").unwrap() else {
        panic!()
    };
    assert_eq!(pending["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(pending["metadata"]["deletionTimestamp"].is_string());
    assert!(matches!(store.delete(&key, &Deletion::now(), "kubelet").unwrap(), Deleted::Gone(_)));
    assert!(store.get(&key).is_none());
    store.create(&PODS, "ml", pod(""), WRITER).unwrap();
    assert!(matches!(store.delete(&key, &Deletion::default(), "test").unwrap(), Deleted::Gone(_)));
}

#[test]
fn a_finalizer_holds_and_its_end_lets_go() {
    let store = store();
    let key = ObjectKey::new(&CONFIG_MAPS, "ml", "c");
    store.create(&CONFIG_MAPS, "ml", config("c"), WRITER).unwrap();
    let foreground = Deletion { propagation: Some(Propagation::Foreground), ..Deletion::default() };
    assert!(matches!(store.delete(&key, &foreground, "test").unwrap(), Deleted::Pending(_)));
    let free = |object: &mut Value| {
        object["metadata"]["finalizers"] = json!([]);
        Ok(())
    };
    store.update(&key, Writer::of_object("gc"), free).unwrap();
    assert!(store.get(&key).is_none());
}

#[test]
fn a_namespace_goes_with_the_last_object_in_it() {
    let store = store();
    let namespace = ObjectKey::new(&NAMESPACES, "", "ml");
    store.create(&CONFIG_MAPS, "ml", config("c"), WRITER).unwrap();
    store.create(&PODS, "ml", pod("node-1"), WRITER).unwrap();
    assert!(matches!(store.delete(&namespace, &Deletion::default(), "test").unwrap(), Deleted::Pending(_)));
    assert!(store.get(&ObjectKey::new(&CONFIG_MAPS, "ml", "c")).is_none());
    let refused = store.create(&CONFIG_MAPS, "ml", config("d"), WRITER).unwrap_err();
    assert_eq!(refused.code(), http::StatusCode::FORBIDDEN);
    store.delete(&ObjectKey::new(&PODS, "ml", "p"), &Deletion::now(), "kubelet").unwrap();
    assert!(store.get(&namespace).is_none());
}

#[test]
fn the_past_is_listed_as_it_was() {
    let store = store();
    store.create(&CONFIG_MAPS, "ml", config("a"), WRITER).unwrap();
    store.create(&CONFIG_MAPS, "ml", config("b"), WRITER).unwrap();
    let then = store.list(&CONFIG_MAPS, Some("ml"));
    store.delete(&ObjectKey::new(&CONFIG_MAPS, "ml", "a"), &Deletion::default(), "test").unwrap();
    store.create(&CONFIG_MAPS, "ml", config("c"), WRITER).unwrap();
    let key = ObjectKey::new(&CONFIG_MAPS, "ml", "b");
    store
        .update(&key, WRITER, |object| {
            object["data"]["a"] = "2".into();
            Ok(())
        })
        .unwrap();
    let again = store.list_at(&CONFIG_MAPS, Some("ml"), then.version).unwrap();
    assert_eq!(again.items, then.items);
    store.compact();
    assert!(matches!(store.list_at(&CONFIG_MAPS, None, then.version), Err(Refusal::Expired { .. })));
}

#[tokio::test]
async fn a_subscription_gives_every_change_once_and_in_order() {
    let store = store();
    let from = store.version();
    let mut changes = store.subscribe(from).unwrap();
    for index in 0..100 {
        store.create(&CONFIG_MAPS, "ml", config(&format!("c{index}")), WRITER).unwrap();
    }
    for offset in 1..=100 {
        assert_eq!(changes.next().await.unwrap().version, from + offset);
    }
    let (next, _) =
        tokio::join!(changes.next(), async { store.create(&CONFIG_MAPS, "ml", config("d"), WRITER) });
    assert_eq!(next.unwrap().key.name, "d");
}

#[test]
fn the_generation_moves_with_specification_and_annotations_only() {
    let store = store();
    let key = ObjectKey::new(&DEPLOYMENTS, "ml", "vllm");
    let labels = json!({ "app": "vllm" });
    let deployment = json!({
        "metadata": { "name": "vllm" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "m", "image": "x" }] } },
        },
    });
    let generation = |object: &Value| object["metadata"]["generation"].as_i64().unwrap();
    assert_eq!(generation(&store.create(&DEPLOYMENTS, "ml", deployment, WRITER).unwrap()), 1);
    let write = |writer, field: &str, value: Value| {
        let change = |object: &mut Value| {
            *object.pointer_mut(field).unwrap() = value;
            Ok(())
        };
        generation(&store.update(&key, writer, change).unwrap())
    };
    assert_eq!(write(Writer::of_status("c"), "/status", json!({ "replicas": 1 })), 1);
    assert_eq!(write(WRITER, "/spec/replicas", json!(0)), 2);
    assert_eq!(write(WRITER, "/spec/replicas", json!(0)), 2);
    let annotate = |object: &mut Value| {
        object["metadata"]["annotations"] = json!({ "a": "b" });
        Ok(())
    };
    assert_eq!(generation(&store.update(&key, WRITER, annotate).unwrap()), 3);
}
