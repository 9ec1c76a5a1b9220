//! Reading and writing the parts of objects that several controllers need.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kubernetes::clock::to_seconds;
use crate::kubernetes::resources::Resource;
use crate::kubernetes::store::ObjectKey;

/// A text of the metadata; empty where it is none.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Where an object of this kind is.
pub(crate) fn key_of(resource: &'static Resource, object: &Value) -> ObjectKey {
    ObjectKey::new(resource, meta(object, "namespace"), meta(object, "name"))
}

/// Whether somebody has asked for its deletion.
pub(crate) fn is_ending(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// A number of replicas; what is not there is `otherwise`.
pub(crate) fn count(value: &Value, otherwise: u64) -> u64 {
    value.as_u64().unwrap_or(otherwise)
}

/// The owner that controls the object.
pub(crate) fn controller_of(object: &Value) -> Option<&Value> {
    let mut owners = object["metadata"]["ownerReferences"].as_array()?.iter();
    owners.find(|owner| owner["controller"] == true)
}

/// Whether `owner` controls the object.
pub(crate) fn is_controlled_by(object: &Value, owner: &Value) -> bool {
    controller_of(object).is_some_and(|found| found["uid"] == owner["metadata"]["uid"])
}

/// The reference of a controlling owner.
pub(crate) fn owner_reference(resource: &Resource, owner: &Value) -> Value {
    json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// A condition of a status.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether a condition of a status is true.
pub(crate) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Sets a condition; its transition time moves only when its status does.
pub(crate) fn set_condition(
    object: &mut Value,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let since = condition(object, kind).filter(|before| before["status"] == status);
    let since = since.map_or_else(|| to_seconds(now).into(), |before| before["lastTransitionTime"].clone());
    let mut condition = json!({ "type": kind, "status": status, "lastTransitionTime": since });
    if !reason.is_empty() {
        condition["reason"] = reason.into();
    }
    if !message.is_empty() {
        condition["message"] = message.into();
    }
    let status = status_mut(object);
    let Some(all) = status["conditions"].as_array_mut() else {
        status["conditions"] = json!([condition]);
        return;
    };
    match all.iter_mut().find(|before| before["type"] == kind) {
        Some(before) => *before = condition,
        None => all.push(condition),
    }
}

/// Puts a number into a status; 0 is not written, as the real API leaves it out.
pub(crate) fn set_count(object: &mut Value, field: &str, count: u64) {
    let status = status_mut(object);
    if count > 0 {
        status[field] = count.into();
    } else if let Some(fields) = status.as_object_mut() {
        fields.shift_remove(field);
    }
}

/// The status, to be written; what is no object becomes one.
pub(crate) fn status_mut(object: &mut Value) -> &mut Value {
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    &mut object["status"]
}

/// Sets an annotation.
pub(crate) fn annotate(object: &mut Value, key: &str, value: &str) {
    let annotations = &mut object["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = json!({});
    }
    annotations[key] = value.into();
}

/// An instant of metadata or status.
pub(crate) fn instant(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// The letters that generated names have: no vowels, so no words.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A suffix for names that is the same for the same text.
pub(crate) fn name_hash(text: &str, length: usize) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(text);
    digest
        .iter()
        .take(length)
        .map(|byte| char::from(NAME_LETTERS[usize::from(*byte) % NAME_LETTERS.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let mut object = json!({});
        let at = |second| Timestamp::from_second(second).unwrap();
        set_condition(&mut object, "Ready", true, "", "", at(1));
        set_condition(&mut object, "Ready", true, "Still", "", at(2));
        assert_eq!(condition(&object, "Ready").unwrap()["lastTransitionTime"], "1970-01-01T00:00:01Z");
        set_condition(&mut object, "Ready", false, "", "gone", at(3));
        assert!(!is_true(&object, "Ready"));
        assert_eq!(condition(&object, "Ready").unwrap()["lastTransitionTime"], "1970-01-01T00:00:03Z");
        assert_eq!(object["status"]["conditions"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_count_of_nothing_is_not_written() {
        let mut object = json!({});
        set_count(&mut object, "replicas", 2);
        assert_eq!(object["status"]["replicas"], 2);
        set_count(&mut object, "replicas", 0);
        assert!(object["status"].get("replicas").is_none());
    }
}
