//! Who owns which fields: `metadata.managedFields`, and server-side apply, which stands on it.

mod apply;
mod fields;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub(crate) use self::apply::apply;
use self::fields::{Path, leaves, parse, render};
use crate::kubernetes::clock::to_seconds;
use crate::kubernetes::store::Writer;

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    manager: String,
    operation: String,
    api_version: String,
    time: Value,
    subresource: String,
    fields: BTreeSet<Path>,
}

fn owners(object: &Value) -> Vec<Owner> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let one = |entry: &Value| Owner {
        manager: text(entry, "manager"),
        operation: text(entry, "operation"),
        api_version: text(entry, "apiVersion"),
        time: entry["time"].clone(),
        subresource: text(entry, "subresource"),
        fields: parse(&entry["fieldsV1"]),
    };
    entries.map(one).collect()
}

fn write_owners(object: &mut Value, mut owners: Vec<Owner>) {
    owners.retain(|owner| !owner.fields.is_empty());
    // Appliers first, then by time, as the real server sorts them.
    owners.sort_by_key(|owner| (owner.operation != "Apply", owner.time.as_str().map(str::to_owned)));
    let one = |owner: &Owner| {
        let mut entry = json!({
            "manager": owner.manager,
            "operation": owner.operation,
            "apiVersion": owner.api_version,
            "time": owner.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": render(&owner.fields),
        });
        if !owner.subresource.is_empty() {
            entry["subresource"] = owner.subresource.as_str().into();
        }
        entry
    };
    let entries: Vec<Value> = owners.iter().map(one).collect();
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if entries.is_empty() {
        metadata.shift_remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), entries.into());
    }
}

/// Gives a writer the fields that it has set or changed, takes them from everybody else, and takes fields that are
/// gone from all.
///
/// Through `scale`, writing 0 leaves the field without any owner, and so does the next count after a 0: the Scale
/// object leaves a 0 out, so for the server nobody has written it.
pub(crate) fn record(old: Option<&Value>, new: &mut Value, writer: Writer<'_>, now: Timestamp) {
    let before = old.map(leaves).unwrap_or_default();
    let after = leaves(new);
    let mut changed: BTreeSet<Path> = BTreeSet::new();
    changed.extend(
        after.iter().filter(|(path, value)| before.get(*path) != Some(*value)).map(|(path, _)| path.clone()),
    );
    let gone: BTreeSet<Path> = before.keys().filter(|path| !after.contains_key(*path)).cloned().collect();
    if changed.is_empty() && gone.is_empty() {
        return;
    }
    let mut owners = owners(new);
    for owner in &mut owners {
        owner.fields.retain(|path| !changed.contains(path) && !gone.contains(path));
    }
    if writer.subresource == "scale" {
        let is_zero = |object: &Value| object["spec"]["replicas"].as_i64().unwrap_or(0) == 0;
        if is_zero(new) || old.is_some_and(is_zero) {
            changed.clear();
        }
    }
    if !changed.is_empty() {
        let api_version = new["apiVersion"].as_str().unwrap_or_default().to_owned();
        let index = position(&mut owners, writer, "Update", &api_version);
        owners[index].fields.extend(changed);
        owners[index].time = to_seconds(now).into();
    }
    write_owners(new, owners);
}

/// The writer's own entry, which is made where there is none.
fn position(owners: &mut Vec<Owner>, writer: Writer<'_>, operation: &str, api_version: &str) -> usize {
    let is_it = |owner: &Owner| {
        owner.manager == writer.manager
            && owner.operation == operation
            && owner.subresource == writer.subresource
            && owner.api_version == api_version
    };
    owners.iter().position(is_it).unwrap_or_else(|| {
        owners.push(Owner {
            manager: writer.manager.to_owned(),
            operation: operation.to_owned(),
            api_version: api_version.to_owned(),
            time: Value::Null,
            subresource: writer.subresource.to_owned(),
            fields: BTreeSet::new(),
        });
        owners.len() - 1
    })
}

/// Nobody writes the record itself.
pub(crate) fn keep(old: &Value, metadata: &mut Map<String, Value>) {
    match old["metadata"].get("managedFields") {
        Some(entries) => metadata.insert("managedFields".to_owned(), entries.clone()),
        None => metadata.shift_remove("managedFields"),
    };
}

/// Whether two states of an object differ in more than when somebody last owned something.
pub(crate) fn differ(old: &Value, new: &Value) -> bool {
    let without_times = |object: &Value| {
        let mut object = object.clone();
        for entry in object["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
            entry["time"] = Value::Null;
        }
        object
    };
    old != new && without_times(old) != without_times(new)
}
