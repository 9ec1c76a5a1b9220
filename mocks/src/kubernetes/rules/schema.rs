//! What a merge has to know of the kinds' fields: which lists are keyed, and what is one value whole.

use serde_json::Value;

/// How the items of a list are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    /// Not at all: the list is one value.
    Atomic,
    /// By these fields.
    Keyed(&'static [&'static str]),
    /// The items are words, and a word is there or not.
    Set,
}

/// What is known of the list under this field name.
pub(crate) fn list(field: &str, items: &[Value]) -> List {
    match field {
        "containers" | "initContainers" | "ephemeralContainers" | "env" | "volumes" | "imagePullSecrets" => {
            List::Keyed(&["name"])
        }
        "volumeMounts" => List::Keyed(&["mountPath"]),
        "volumeDevices" => List::Keyed(&["devicePath"]),
        "conditions" => List::Keyed(&["type"]),
        "ownerReferences" => List::Keyed(&["uid"]),
        "hostAliases" => List::Keyed(&["ip"]),
        "topologySpreadConstraints" => List::Keyed(&["topologyKey", "whenUnsatisfiable"]),
        "ports" if items.iter().any(|item| item.get("containerPort").is_some()) => {
            List::Keyed(&["containerPort", "protocol"])
        }
        "ports" if items.iter().any(|item| item.get("targetPort").is_some()) => {
            List::Keyed(&["port", "protocol"])
        }
        "finalizers" => List::Set,
        _ => List::Atomic,
    }
}

/// Whether the map under this field name is one value.
pub(crate) fn is_atomic_map(field: &str, parent: &str) -> bool {
    // A label selector is one value; the selector of a Service is one as well.
    matches!(field, "selector" | "podSelector" | "namespaceSelector" | "labelSelector" | "nodeSelector")
        || matches!(
            field,
            "fieldRef" | "resourceFieldRef" | "secretKeyRef" | "configMapKeyRef" | "scaleTargetRef"
        )
        || (field == "involvedObject" && parent.is_empty())
}

/// The key of an item, as FieldsV1 has it; the item's protocol is TCP where it says none.
pub(crate) fn key(fields: &[&str], item: &Value) -> String {
    let mut key = serde_json::Map::new();
    for field in fields {
        let value = item.get(*field).cloned();
        let value = value.or_else(|| (*field == "protocol").then(|| "TCP".into()));
        key.insert((*field).to_owned(), value.unwrap_or(Value::Null));
    }
    key.sort_keys();
    format!("k:{}", Value::Object(key))
}
