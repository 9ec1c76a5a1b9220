//! What the API server makes of an object that somebody writes: names, times, generation, owners of fields.

pub(crate) mod defaults;
pub(crate) mod ownership;
pub(crate) mod schema;
pub(crate) mod shape;
mod validate;

use jiff::Timestamp;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::clock::to_seconds;
use super::refusal::{Cause, Refusal};
use super::resources::{
    CRON_JOBS, DEPLOYMENTS, JOBS, NETWORK_POLICIES, PODS, REPLICA_SETS, Resource, STATEFUL_SETS,
};
use super::store::Writer;

/// The order in which the real server writes metadata.
const METADATA: [&str; 14] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];
/// What no writer sets.
const OF_THE_SERVER: [&str; 6] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];
/// Letters that spell no words.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Fills in a new object and checks it. Gives its name.
pub(crate) fn prepare_create(
    resource: &'static Resource,
    namespace: &str,
    object: &mut Value,
    writer: Writer<'_>,
    now: Timestamp,
    chance: &mut ChaCha8Rng,
) -> Result<String, Refusal> {
    shape::check(resource, object)?;
    let metadata = metadata_of(object)?;
    for field in OF_THE_SERVER {
        metadata.shift_remove(field);
    }
    if writer.records {
        metadata.shift_remove("managedFields");
    }
    if resource.namespaced {
        metadata.insert("namespace".to_owned(), namespace.into());
    } else {
        metadata.shift_remove("namespace");
    }
    let name = name_of(resource, metadata, chance)?;
    metadata.insert("name".to_owned(), name.as_str().into());
    metadata.insert("uid".to_owned(), uid(chance).into());
    metadata.insert("creationTimestamp".to_owned(), to_seconds(now).into());
    if has_generation(resource) {
        metadata.insert("generation".to_owned(), 1.into());
    }
    drop_empty(metadata);
    object["apiVersion"] = resource.api_version().into();
    object["kind"] = resource.kind.into();
    if resource.has("status") {
        object.as_object_mut().and_then(|all| all.shift_remove("status"));
    }
    defaults::fill(resource, object);
    defaults::fill_new(resource, object);
    validate::check(resource, &name, object, None)?;
    if writer.records {
        ownership::record(None, object, writer, now);
    }
    Ok(name)
}

/// Puts back what the writer may not change, fills in the rest and checks it. False where nothing has changed.
pub(crate) fn prepare_update(
    resource: &'static Resource,
    old: &Value,
    new: &mut Value,
    writer: Writer<'_>,
    now: Timestamp,
) -> Result<bool, Refusal> {
    shape::check(resource, new)?;
    let metadata = metadata_of(new)?;
    for field in ["name", "namespace", "generateName"].iter().chain(&OF_THE_SERVER) {
        match old["metadata"].get(*field) {
            Some(value) => metadata.insert((*field).to_owned(), value.clone()),
            None => metadata.shift_remove(*field),
        };
    }
    drop_empty(metadata);
    if writer.records {
        ownership::keep(old, metadata);
    }
    new["apiVersion"] = old["apiVersion"].clone();
    new["kind"] = old["kind"].clone();
    confine(resource, old, new, writer.subresource);
    defaults::fill(resource, new);
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    validate::check(resource, name, new, Some(old))?;
    if *resource == PODS {
        validate::check_ephemeral(name, new, old, writer.subresource)?;
    }
    if has_generation(resource) && moves_generation(resource, old, new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = (generation + 1).into();
    }
    if writer.records {
        ownership::record(Some(old), new, writer, now);
    }
    Ok(ownership::differ(old, new))
}

/// A write through `status` changes nothing else, and other writes do not change the status.
fn confine(resource: &Resource, old: &Value, new: &mut Value, subresource: &str) {
    let Some(fields) = new.as_object_mut() else { return };
    let put_back = |fields: &mut Map<String, Value>, field: &str| match old.get(field) {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.shift_remove(field),
    };
    if subresource == "status" {
        let all: Vec<String> =
            fields.keys().chain(old.as_object().into_iter().flat_map(Map::keys)).cloned().collect();
        for field in all.iter().filter(|field| !["metadata", "status"].contains(&field.as_str())) {
            put_back(fields, field);
        }
        for field in ["labels", "annotations", "ownerReferences", "finalizers"] {
            match old["metadata"].get(field) {
                Some(value) => fields["metadata"][field] = value.clone(),
                None => drop(fields["metadata"].as_object_mut().and_then(|all| all.shift_remove(field))),
            }
        }
    } else if resource.has("status") {
        put_back(fields, "status");
    }
}

fn metadata_of(object: &mut Value) -> Result<&mut Map<String, Value>, Refusal> {
    let fields = object
        .as_object_mut()
        .ok_or_else(|| Refusal::BadRequest("the object is no JSON object".to_owned()))?;
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    if metadata.is_null() {
        *metadata = json!({});
    }
    metadata.as_object_mut().ok_or_else(|| Refusal::BadRequest("metadata is no JSON object".to_owned()))
}

/// Empty lists and maps are not written.
fn drop_empty(metadata: &mut Map<String, Value>) {
    metadata.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    });
}

fn name_of(
    resource: &'static Resource,
    metadata: &Map<String, Value>,
    chance: &mut ChaCha8Rng,
) -> Result<String, Refusal> {
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
    if !text("name").is_empty() {
        return Ok(text("name").to_owned());
    }
    let prefix = text("generateName");
    if prefix.is_empty() {
        let message = "Required value: name or generateName is required".to_owned();
        let cause = Cause { reason: "FieldValueRequired", message, field: "metadata.name".to_owned() };
        return Err(Refusal::Invalid { resource, name: String::new(), causes: vec![cause] });
    }
    // Names have at most 63 characters, so that they are labels too.
    let mut name: String = prefix.chars().take(58).collect();
    for _ in 0..5 {
        name.push(char::from(SUFFIX_LETTERS[chance.random_range(0..SUFFIX_LETTERS.len())]));
    }
    Ok(name)
}

fn uid(chance: &mut ChaCha8Rng) -> String {
    let bits: u128 = chance.random();
    // Version 4, variant 1.
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Custom resources and the kinds whose controllers look at it.
fn has_generation(resource: &'static Resource) -> bool {
    let own = [&CRON_JOBS, &DEPLOYMENTS, &JOBS, &NETWORK_POLICIES, &PODS, &REPLICA_SETS, &STATEFUL_SETS];
    resource.crd.is_some() || own.contains(&resource)
}

/// The generation moves with the specification, that of a Deployment with its annotations too.
fn moves_generation(resource: &Resource, old: &Value, new: &Value) -> bool {
    let annotations = |object: &Value| object["metadata"]["annotations"].clone();
    if resource.crd.is_some() {
        let apart = |object: &Value| {
            let fields = object.as_object().into_iter().flatten();
            fields
                .filter(|(field, _)| !["metadata", "status"].contains(&field.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<Map<_, _>>()
        };
        return apart(old) != apart(new);
    }
    old["spec"] != new["spec"] || (*resource == DEPLOYMENTS && annotations(old) != annotations(new))
}

/// Base64 with padding, as secrets and continue tokens are written.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .enumerate()
            .fold(0_u32, |bits, (at, byte)| bits | (u32::from(*byte) << (16 - 8 * at)));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Puts an object's own fields and those of its metadata into the order of the real server.
pub(crate) fn order_fields(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    sort_by(fields, &["kind", "apiVersion", "metadata", "spec", "data", "type", "status"]);
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        sort_by(metadata, &METADATA);
        for field in ["labels", "annotations"] {
            if let Some(texts) = metadata.get_mut(field).and_then(Value::as_object_mut) {
                texts.sort_keys();
            }
        }
    }
}

fn sort_by(fields: &mut Map<String, Value>, order: &[&str]) {
    let place = |field: &str| order.iter().position(|known| *known == field).unwrap_or(order.len());
    let mut all: Vec<_> = std::mem::take(fields).into_iter().collect();
    all.sort_by_key(|(field, _)| place(field));
    fields.extend(all);
}
