//! Server-side apply.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fields::{Path, for_people, leaves};
use super::{Owner, owners, position, write_owners};
use crate::kubernetes::clock::to_seconds;
use crate::kubernetes::refusal::{Cause, Refusal};
use crate::kubernetes::rules::schema::{self, List};
use crate::kubernetes::store::Writer;

/// Makes `live` what `applied` says and records the writer as the owner of all that it names. What it named the last
/// time, names no more, and nobody else owns, goes. Without `force`, changing what somebody else owns is a conflict.
pub(crate) fn apply(
    live: &mut Value,
    applied: &Value,
    writer: Writer<'_>,
    force: bool,
    now: Timestamp,
) -> Result<(), Refusal> {
    let wanted = leaves(applied);
    let before = leaves(live);
    let mut all = owners(live);
    let api_version = applied["apiVersion"].as_str().unwrap_or_default().to_owned();
    let own = position(&mut all, writer, "Apply", &api_version);
    let changes = |path: &Path| before.get(path) != wanted.get(path);
    let taken: Vec<(usize, Path)> = conflicts(&all, own, &wanted, changes);
    if !taken.is_empty() && !force {
        return Err(refuse(&all, &taken));
    }
    for (owner, path) in taken {
        all[owner].fields.remove(&path);
    }
    let named: BTreeSet<Path> = wanted.keys().cloned().collect();
    let dropped: Vec<Path> = all[own].fields.difference(&named).cloned().collect();
    let others =
        |path: &Path| all.iter().enumerate().any(|(at, owner)| at != own && owner.fields.contains(path));
    let gone: Vec<Path> = dropped.into_iter().filter(|path| !others(path)).collect();
    // Items are taken out after what is in them, so that a whole item goes in one step.
    for path in gone.iter().rev() {
        take_out(live, path);
    }
    merge("", live, applied);
    if all[own].fields != named {
        all[own].time = to_seconds(now).into();
    }
    all[own].fields = named;
    write_owners(live, all);
    Ok(())
}

fn conflicts(
    all: &[Owner],
    own: usize,
    wanted: &BTreeMap<Path, Value>,
    changes: impl Fn(&Path) -> bool,
) -> Vec<(usize, Path)> {
    let mut found = Vec::new();
    for (at, owner) in all.iter().enumerate().filter(|(at, _)| *at != own) {
        let shared = owner.fields.iter().filter(|path| wanted.contains_key(*path) && changes(path));
        found.extend(shared.map(|path| (at, path.clone())));
    }
    found
}

fn refuse(all: &[Owner], taken: &[(usize, Path)]) -> Refusal {
    let cause = |(at, path): &(usize, Path)| {
        let owner = &all[*at];
        let through = match owner.subresource.as_str() {
            "" => String::new(),
            subresource => format!(" with subresource \"{subresource}\""),
        };
        Cause {
            reason: "FieldManagerConflict",
            message: format!("conflict with \"{}\"{through} using {}", owner.manager, owner.api_version),
            field: for_people(path),
        }
    };
    Refusal::ApplyConflict { causes: taken.iter().map(cause).collect() }
}

/// Lays `applied` over `live`: maps field by field, keyed lists item by item, all else whole.
fn merge(field: &str, live: &mut Value, applied: &Value) {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) => {
            for (inner, value) in applied {
                // These decide on preconditions and are no content.
                if field == "metadata"
                    && ["managedFields", "resourceVersion", "uid"].contains(&inner.as_str())
                {
                    continue;
                }
                if value.is_null() {
                    live.shift_remove(inner);
                } else if schema::is_atomic_map(inner, field) || !live.contains_key(inner) {
                    live.insert(inner.clone(), value.clone());
                } else {
                    merge(inner, &mut live[inner], value);
                }
            }
        }
        (Value::Array(live), Value::Array(applied)) => merge_list(field, live, applied),
        (live, applied) => *live = applied.clone(),
    }
}

fn merge_list(field: &str, live: &mut Vec<Value>, applied: &[Value]) {
    match schema::list(field, applied) {
        List::Atomic => *live = applied.to_vec(),
        List::Set => {
            for item in applied.iter().filter(|item| !live.contains(item)).cloned().collect::<Vec<_>>() {
                live.push(item);
            }
        }
        List::Keyed(key) => {
            for item in applied {
                let name = schema::key(key, item);
                match live.iter_mut().find(|known| schema::key(key, known) == name) {
                    Some(known) => merge(field, known, item),
                    None => live.push(item.clone()),
                }
            }
        }
    }
}

/// Takes one field or item out, and what is empty after that.
fn take_out(value: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else { return };
    match (step.split_once(':'), value) {
        (Some(("f", field)), Value::Object(fields)) => take_field(fields, field, rest),
        (Some(("k", key)), Value::Array(items)) => {
            let Ok(Value::Object(key)) = serde_json::from_str(key) else { return };
            let is_it = |item: &Value| {
                let protocol = Value::from("TCP");
                let of_item = |name: &str| item.get(name).or((name == "protocol").then_some(&protocol));
                key.iter().all(|(name, wanted)| of_item(name) == Some(wanted))
            };
            if rest == ["."] {
                items.retain(|item| !is_it(item));
            } else if let Some(item) = items.iter_mut().find(|item| is_it(item)) {
                take_out(item, rest);
            }
        }
        (Some(("v", word)), Value::Array(items)) => {
            items.retain(|item| serde_json::from_str(word).ok().as_ref() != Some(item))
        }
        _ => {}
    }
}

fn take_field(fields: &mut Map<String, Value>, field: &str, rest: &[String]) {
    if rest.is_empty() {
        fields.shift_remove(field);
        return;
    }
    let Some(inner) = fields.get_mut(field) else { return };
    take_out(inner, rest);
    let is_empty =
        inner.as_object().is_some_and(Map::is_empty) || inner.as_array().is_some_and(Vec::is_empty);
    if is_empty {
        fields.shift_remove(field);
    }
}
