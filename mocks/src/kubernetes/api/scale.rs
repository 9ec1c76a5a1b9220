//! The scale subresource: an `autoscaling/v1` Scale that stands for the count of its parent.

use serde_json::{Value, json};

use crate::kubernetes::refusal::{Cause, Refusal};
use crate::kubernetes::resources::Resource;

/// The Scale of an object. A count of 0 is left out, in the specification as in the status.
pub(super) fn of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {},
    });
    if let Some(count) = object["spec"]["replicas"].as_i64().filter(|count| *count != 0) {
        scale["spec"]["replicas"] = count.into();
    }
    // A status always says its count.
    scale["status"] = json!({ "replicas": object["status"]["replicas"].as_i64().unwrap_or(0) });
    let selector = selector_text(&object["spec"]["selector"]);
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// A label selector as text.
fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push(format!("{key}={}", value.as_str().unwrap_or_default()));
    }
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let values = values.collect::<Vec<_>>().join(",");
        parts.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.sort();
    parts.join(",")
}

/// Writes a Scale back into its parent.
pub(super) fn put(resource: &'static Resource, object: &mut Value, scale: &Value) -> Result<(), Refusal> {
    let count = match &scale["spec"]["replicas"] {
        Value::Null => 0,
        count => count.as_i64().and_then(|count| i32::try_from(count).ok()).ok_or_else(|| {
            Refusal::BadRequest(
                "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas is no int32".to_owned(),
            )
        })?,
    };
    if count < 0 {
        let message = format!("Invalid value: {count}: must be greater than or equal to 0");
        let cause = Cause { reason: "FieldValueInvalid", message, field: "spec.replicas".to_owned() };
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        return Err(Refusal::Invalid { resource, name, causes: vec![cause] });
    }
    for field in ["uid", "resourceVersion"] {
        // What the Scale presumes, the store checks.
        if scale["metadata"][field].is_string() {
            object["metadata"][field] = scale["metadata"][field].clone();
        }
    }
    object["spec"]["replicas"] = count.into();
    Ok(())
}
