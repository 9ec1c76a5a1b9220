//! Sets of fields, and FieldsV1, which is how an object holds them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::kubernetes::rules::schema::{self, List};

/// A field as FieldsV1 names it, step by step: `f:spec`, `f:containers`, `k:{"name":"main"}`, `f:image`. A last step
/// `.` is the item itself.
pub(super) type Path = Vec<String>;

/// Fields of the server or of no one, which nobody owns.
const UNOWNED: [&str; 10] = [
    "name",
    "namespace",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// All fields of an object that somebody can own, with their values.
pub(super) fn leaves(object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    for (field, value) in object.as_object().into_iter().flatten() {
        match (field.as_str(), value) {
            ("apiVersion" | "kind", _) => {}
            ("metadata", Value::Object(metadata)) => {
                for (field, value) in metadata.iter().filter(|(field, _)| !UNOWNED.contains(&field.as_str()))
                {
                    walk(&mut vec!["f:metadata".to_owned()], "metadata", field, value, &mut found);
                }
            }
            _ => walk(&mut Vec::new(), "", field, value, &mut found),
        }
    }
    found
}

fn walk(path: &mut Path, parent: &str, field: &str, value: &Value, found: &mut BTreeMap<Path, Value>) {
    path.push(format!("f:{field}"));
    match value {
        Value::Object(fields) if !fields.is_empty() && !schema::is_atomic_map(field, parent) => {
            for (inner, value) in fields {
                walk(path, field, inner, value, found);
            }
        }
        Value::Array(items) if !items.is_empty() => walk_list(path, field, items, found),
        leaf => {
            found.insert(path.clone(), leaf.clone());
        }
    }
    path.pop();
}

fn walk_list(path: &mut Path, field: &str, items: &[Value], found: &mut BTreeMap<Path, Value>) {
    match schema::list(field, items) {
        List::Atomic => {
            found.insert(path.clone(), Value::Array(items.to_vec()));
        }
        List::Set => {
            for item in items {
                path.push(format!("v:{item}"));
                found.insert(path.clone(), item.clone());
                path.pop();
            }
        }
        List::Keyed(key) => {
            for item in items {
                path.push(schema::key(key, item));
                path.push(".".to_owned());
                // The item is there; what is in it are fields of their own.
                found.insert(path.clone(), Value::Bool(true));
                path.pop();
                for (inner, value) in item.as_object().into_iter().flatten() {
                    walk(path, field, inner, value, found);
                }
                path.pop();
            }
        }
    }
}

/// Reads FieldsV1.
pub(super) fn parse(tree: &Value) -> BTreeSet<Path> {
    fn descend(tree: &Map<String, Value>, path: &mut Path, found: &mut BTreeSet<Path>) {
        for (step, below) in tree {
            path.push(step.clone());
            match below.as_object() {
                Some(below) if !below.is_empty() => descend(below, path, found),
                _ => {
                    found.insert(path.clone());
                }
            }
            path.pop();
        }
    }
    let mut found = BTreeSet::new();
    if let Some(tree) = tree.as_object() {
        descend(tree, &mut Vec::new(), &mut found);
    }
    found
}

/// Writes FieldsV1.
pub(super) fn render(fields: &BTreeSet<Path>) -> Value {
    let mut tree = Map::new();
    for path in fields {
        let mut at = &mut tree;
        for step in path {
            let below = at.entry(step.as_str()).or_insert_with(|| Value::Object(Map::new()));
            // Everything in the tree was put there as a map, here.
            at = below.as_object_mut().expect("the tree is made of maps");
        }
    }
    Value::Object(tree)
}

/// A field as people write it: `.spec.template.spec.containers[name="main"].image`.
pub(super) fn for_people(path: &Path) -> String {
    let mut told = String::new();
    for step in path {
        match step.split_once(':') {
            Some(("f", field)) => {
                told.push('.');
                told.push_str(field);
            }
            Some(("k", key)) => {
                let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let pairs: Vec<_> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                told.push_str(&format!("[{}]", pairs.join(",")));
            }
            Some((_, value)) => told.push_str(&format!("[={value}]")),
            None => {}
        }
    }
    told
}
