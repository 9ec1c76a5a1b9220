//! The forms in which objects are told: whole, as metadata alone, or as the tables that `kubectl get` prints.

mod cells;

use std::sync::Arc;

use http::HeaderMap;
use http::header::ACCEPT;
use serde_json::{Value, json};

use super::objects;
use super::request::Query;
use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::resources::Resource;
use crate::kubernetes::store::Store;

/// How objects are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    Metadata,
    Table(Rows),
}

/// What of the object a row carries beside its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    Nothing,
    Metadata,
    Whole,
}

impl Form {
    /// Reads `Accept`; the first form that is known wins.
    pub(super) fn read(headers: &HeaderMap, query: &Query) -> Result<Self, Refusal> {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
        for form in accept.split(',') {
            let mut parts = form.split(';').map(str::trim);
            if !matches!(parts.next(), Some("application/json" | "application/*" | "*/*" | "")) {
                continue;
            }
            let parts: Vec<&str> = parts.collect();
            if parts.contains(&"as=Table") {
                return Ok(Self::Table(match query.get("includeObject") {
                    Some("None") => Rows::Nothing,
                    Some("Object") => Rows::Whole,
                    _ => Rows::Metadata,
                }));
            }
            if parts.iter().any(|part| part.starts_with("as=PartialObjectMetadata")) {
                return Ok(Self::Metadata);
            }
            if !parts.iter().any(|part| part.starts_with("as=")) {
                return Ok(Self::Whole);
            }
        }
        Err(Refusal::NotAcceptable("application/json"))
    }

    /// One object in this form.
    pub(super) fn one(self, resource: &'static Resource, object: &Arc<Value>, store: &Store) -> Value {
        // A Scale and what other subresources show has no table of its own.
        match self {
            Self::Whole => Value::clone(object),
            Self::Metadata => metadata_of(object),
            Self::Table(_) if object["kind"] != resource.kind => Value::clone(object),
            Self::Table(rows) => {
                let version = object["metadata"]["resourceVersion"].clone();
                table(
                    resource,
                    std::slice::from_ref(object),
                    rows,
                    &json!({ "resourceVersion": version }),
                    store,
                )
            }
        }
    }

    /// A list in this form.
    pub(super) fn many(
        self,
        resource: &'static Resource,
        objects: &[Arc<Value>],
        metadata: Value,
        store: &Store,
    ) -> Value {
        match self {
            Self::Whole => objects::listing(resource, objects, metadata),
            Self::Metadata => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": objects.iter().map(|object| metadata_of(object)).collect::<Vec<_>>(),
            }),
            Self::Table(rows) => table(resource, objects, rows, &metadata, store),
        }
    }
}

fn metadata_of(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

fn table(
    resource: &'static Resource,
    objects: &[Arc<Value>],
    rows: Rows,
    metadata: &Value,
    store: &Store,
) -> Value {
    let now = store.clock().now();
    let column = |(name, kind, priority): &(&str, &str, i32)| {
        let format = if *name == "Name" { "name" } else { "" };
        json!({ "name": name, "type": kind, "format": format, "description": "", "priority": priority })
    };
    let row = |object: &Arc<Value>| {
        let mut row = json!({ "cells": cells::cells(resource, object, now) });
        match rows {
            Rows::Nothing => {}
            Rows::Metadata => row["object"] = metadata_of(object),
            Rows::Whole => row["object"] = Value::clone(object),
        }
        row
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": cells::columns(resource).iter().map(column).collect::<Vec<_>>(),
        "rows": objects.iter().map(row).collect::<Vec<_>>(),
    })
}

/// How many cells a row has.
#[cfg(test)]
pub(super) fn cells_of(resource: &'static Resource, object: &Value, now: jiff::Timestamp) -> usize {
    cells::cells(resource, object, now).len()
}

/// How many columns a table has.
#[cfg(test)]
pub(super) fn columns_of(resource: &'static Resource) -> usize {
    cells::columns(resource).len()
}
