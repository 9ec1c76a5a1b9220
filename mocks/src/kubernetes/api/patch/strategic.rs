//! Strategic merge: as a merge patch, but items of keyed lists are merged one by one, and directives say more.

use serde_json::{Map, Value};

use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::rules::schema::{self, List};

pub(super) fn change(object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    match (object.as_object_mut(), patch.as_object()) {
        (Some(fields), Some(patch)) => merge_map(fields, patch),
        _ => Err(Refusal::BadRequest("the patch is no JSON object".to_owned())),
    }
}

fn merge_map(fields: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), Refusal> {
    match patch.get("$patch").and_then(Value::as_str) {
        None | Some("merge") => {}
        Some("replace") => fields.clear(),
        Some("delete") => {
            fields.clear();
            return Ok(());
        }
        Some(other) => return Err(Refusal::BadRequest(format!("there is no directive $patch: {other}"))),
    }
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|field, _| kept.iter().any(|kept| kept == field));
    }
    for (field, value) in patch {
        if let Some(list) = field.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) {
                items.retain(|item| !gone.contains(item));
            }
        }
    }
    for (field, value) in patch.iter().filter(|(field, _)| !field.starts_with('$')) {
        merge_field(fields, field, value)?;
    }
    for (field, order) in patch {
        if let Some(list) = field.strip_prefix("$setElementOrder/")
            && let (Some(items), Some(order)) =
                (fields.get_mut(list).and_then(Value::as_array_mut), order.as_array())
        {
            set_order(list, items, order);
        }
    }
    Ok(())
}

fn merge_field(fields: &mut Map<String, Value>, field: &str, value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Null => {
            fields.shift_remove(field);
        }
        Value::Object(patch) => {
            let known = fields.entry(field).or_insert_with(|| Value::Object(Map::new()));
            if !known.is_object() {
                *known = Value::Object(Map::new());
            }
            if let Some(known) = known.as_object_mut() {
                merge_map(known, patch)?;
            }
        }
        Value::Array(patch) => {
            let known = fields.entry(field).or_insert_with(|| Value::Array(Vec::new()));
            match known.as_array_mut() {
                Some(known) => merge_list(field, known, patch)?,
                None => *known = value.clone(),
            }
        }
        other => {
            fields.insert(field.to_owned(), other.clone());
        }
    }
    Ok(())
}

/// What strategic merge tells the items by: one field, even where there is more that makes them unique.
fn merge_key(field: &str, items: &[Value]) -> List {
    match schema::list(field, items) {
        List::Keyed(key) => List::Keyed(&key[..1]),
        // A patch may name a port by its number alone.
        List::Atomic if field == "ports" && items.iter().any(|item| item.get("port").is_some()) => {
            List::Keyed(&["port"])
        }
        other => other,
    }
}

fn merge_list(field: &str, known: &mut Vec<Value>, patch: &[Value]) -> Result<(), Refusal> {
    if patch.iter().any(|item| item["$patch"] == "replace") {
        *known = patch.iter().filter(|item| item["$patch"] != "replace").cloned().collect();
        return Ok(());
    }
    match merge_key(field, patch) {
        List::Atomic => *known = patch.to_vec(),
        List::Set => {
            for item in patch {
                if !known.contains(item) {
                    known.push(item.clone());
                }
            }
        }
        List::Keyed(key) => {
            for item in patch {
                merge_item(known, key[0], item)?;
            }
        }
    }
    Ok(())
}

fn merge_item(known: &mut Vec<Value>, key: &str, item: &Value) -> Result<(), Refusal> {
    let name = item.get(key).ok_or_else(|| {
        Refusal::BadRequest(format!("map: {item} does not contain declared merge key: {key}"))
    })?;
    if item["$patch"] == "delete" {
        known.retain(|known| known.get(key) != Some(name));
        return Ok(());
    }
    let at = known.iter().position(|known| known.get(key) == Some(name)).unwrap_or_else(|| {
        known.push(Value::Object(Map::new()));
        known.len() - 1
    });
    match (known[at].as_object_mut(), item.as_object()) {
        (Some(known), Some(item)) => merge_map(known, item),
        _ => Err(Refusal::BadRequest("the items of a keyed list are no JSON objects".to_owned())),
    }
}

/// Items that the order names stand as it says; others keep their places among themselves, after them.
fn set_order(field: &str, items: &mut [Value], order: &[Value]) {
    let place = |item: &Value| match merge_key(field, order) {
        List::Keyed(key) => order.iter().position(|named| named.get(key[0]) == item.get(key[0])),
        List::Atomic | List::Set => order.iter().position(|named| named == item),
    };
    items.sort_by_key(|item| place(item).unwrap_or(usize::MAX));
}
