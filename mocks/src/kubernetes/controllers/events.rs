//! Events: what happened to objects, for people.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kubernetes::clock::to_seconds;
use crate::kubernetes::resources::EVENTS;
use crate::kubernetes::store::{ObjectKey, Store, Writer};

/// Tells of something ordinary. The same words about the same object are one event that counts.
pub(crate) fn note(store: &Store, object: &Value, reason: &str, message: &str, component: &str) {
    tell(store, object, "Normal", reason, message, component);
}

/// Tells of something that went wrong.
pub(crate) fn warn(store: &Store, object: &Value, reason: &str, message: &str, component: &str) {
    tell(store, object, "Warning", reason, message, component);
}

fn tell(store: &Store, object: &Value, kind: &str, reason: &str, message: &str, component: &str) {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    // Events about what has no namespace are kept in this one.
    let namespace = if text("namespace").is_empty() { "default" } else { text("namespace") };
    let digest = Sha256::digest(format!("{}\n{kind}\n{reason}\n{message}\n{component}", text("uid")));
    let suffix: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{}.{suffix}", text("name"));
    let now = to_seconds(store.clock().now());
    let writer = Writer::of_object(component);
    let key = ObjectKey::new(&EVENTS, namespace, &name);
    let counted = store.update(&key, writer, |event| {
        let count = event["count"].as_u64().unwrap_or(1);
        event["count"] = (count + 1).into();
        event["lastTimestamp"] = now.as_str().into();
        Ok(())
    });
    if counted.is_ok() {
        return;
    }
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": namespace },
        "involvedObject": {
            "apiVersion": object["apiVersion"],
            "kind": object["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "reason": reason,
        "message": message,
        "source": { "component": component },
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "type": kind,
        "eventTime": null,
        "reportingComponent": component,
        "reportingInstance": "",
    });
    // Nothing depends on an event; one in a namespace that ends is lost.
    let _told = store.create(&EVENTS, namespace, event, writer);
}
