//! How objects go: at once, after a grace period that the kubelet ends, or when the last finalizer goes.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{ObjectKey, State, Store};
use crate::kubernetes::clock::to_seconds;
use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::resources::{NAMESPACES, PODS, Resource};

/// What becomes of the objects that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are collected after it is gone.
    Background,
    /// It goes after them: the finalizer `foregroundDeletion` holds it.
    Foreground,
    /// They lose their owner first: the finalizer `orphan` holds it.
    Orphan,
}

/// How an object is to be deleted.
#[derive(Debug, Clone, Default)]
pub struct Deletion {
    /// Seconds that a pod is given; what the pod says, else 30, where it is none.
    pub grace_seconds: Option<i64>,
    /// What becomes of dependents; background where it is none.
    pub propagation: Option<Propagation>,
    /// Only this object, and no other of its name.
    pub uid: Option<String>,
    /// Only at this version.
    pub resource_version: Option<String>,
    /// Nothing is really done.
    pub dry_run: bool,
}

impl Deletion {
    /// At once, whatever a pod says.
    #[must_use]
    pub fn now() -> Self {
        Self { grace_seconds: Some(0), ..Self::default() }
    }
}

/// What a deletion came to.
#[derive(Debug, Clone)]
pub enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Arc<Value>),
    /// It has its `deletionTimestamp` and stays until the kubelet or a finalizer lets it go.
    Pending(Arc<Value>),
}

/// Whether the object is being deleted.
pub(super) fn is_begun(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether nothing holds an object that is being deleted any more.
pub(super) fn is_due(resource: &Resource, object: &Value) -> bool {
    let is_given_time = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    is_begun(object) && finalizers(object).next().is_none() && !is_given_time && *resource != NAMESPACES
}

impl Store {
    /// Deletes an object. A pod on a node gets its grace period: it stays, with its `deletionTimestamp`, until somebody
    /// (the kubelet) deletes it with a grace of 0. Finalizers hold any object. A namespace goes with the last object
    /// in it.
    ///
    /// # Errors
    ///
    /// The object is not there, or is not the one that the preconditions name.
    pub fn delete(&self, key: &ObjectKey, deletion: &Deletion, manager: &str) -> Result<Deleted, Refusal> {
        let mut state = self.state();
        let old = state.objects.get(key).ok_or_else(|| key.not_found())?.object.clone();
        check_preconditions(key, &old, deletion)?;
        if deletion.dry_run {
            return Ok(Deleted::Gone(old));
        }
        let mut new = Value::clone(&old);
        self.mark(key.resource, &mut new, deletion);
        if is_due(key.resource, &new) {
            return Ok(Deleted::Gone(self.remove(&mut state, key, None, manager)));
        }
        let mut object = Arc::clone(&old);
        if new != *old {
            object = self.put(&mut state, key.clone(), new, Some(old), manager)?;
        }
        if *key.resource == NAMESPACES {
            self.empty_namespace(&mut state, key, manager)?;
            if !state.objects.contains_key(key) {
                return Ok(Deleted::Gone(object));
            }
        }
        Ok(Deleted::Pending(object))
    }

    /// Writes into the metadata that the object is to go, and what holds it.
    fn mark(&self, resource: &'static Resource, object: &mut Value, deletion: &Deletion) {
        let grace = if *resource == PODS { pod_grace(object, deletion) } else { 0 };
        let begun = is_begun(object);
        let metadata = &mut object["metadata"];
        let left = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(i64::MAX);
        // A grace period is shortened by a second request and never made longer.
        if !begun || grace < left {
            let ends = self.shared.clock.now().saturating_add(SignedDuration::from_secs(grace));
            if let Ok(ends) = ends {
                metadata["deletionTimestamp"] = to_seconds(ends).into();
            }
            metadata["deletionGracePeriodSeconds"] = grace.into();
        }
        if !begun && let Some(generation) = metadata["generation"].as_i64() {
            metadata["generation"] = (generation + 1).into();
        }
        if *resource == NAMESPACES {
            object["status"] = json!({ "phase": "Terminating" });
        }
        let held_by = match deletion.propagation {
            Some(Propagation::Foreground) => "foregroundDeletion",
            Some(Propagation::Orphan) => "orphan",
            Some(Propagation::Background) | None => return,
        };
        if !begun && !finalizers(object).any(|finalizer| finalizer == held_by) {
            match object["metadata"]["finalizers"].as_array_mut() {
                Some(all) => all.push(held_by.into()),
                None => object["metadata"]["finalizers"] = json!([held_by]),
            }
        }
    }

    /// Deletes what is in a namespace, as its controller does.
    fn empty_namespace(&self, state: &mut State, key: &ObjectKey, manager: &str) -> Result<(), Refusal> {
        let inside = state.objects.iter().filter(|(inner, _)| inner.namespace == key.name);
        let inside: Vec<_> = inside.map(|(inner, stored)| (inner.clone(), stored.object.clone())).collect();
        for (inner, old) in inside {
            let mut new = Value::clone(&old);
            self.mark(inner.resource, &mut new, &Deletion::default());
            if is_due(inner.resource, &new) {
                self.remove(state, &inner, None, manager);
            } else if new != *old {
                self.put(state, inner, new, Some(old), manager)?;
            }
        }
        // It was empty from the start.
        self.end_namespace(state, &key.name);
        Ok(())
    }
}

/// Pods that never got a node, and pods that have ended, need no time.
fn pod_grace(pod: &Value, deletion: &Deletion) -> i64 {
    let is_placed = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let has_ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !is_placed || has_ended {
        return 0;
    }
    let asked = deletion.grace_seconds.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64());
    asked.unwrap_or(30).max(0)
}

fn check_preconditions(key: &ObjectKey, object: &Value, deletion: &Deletion) -> Result<(), Refusal> {
    let real = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    for (presumed, field, word) in
        [(&deletion.uid, "uid", "UID"), (&deletion.resource_version, "resourceVersion", "ResourceVersion")]
    {
        if let Some(presumed) = presumed
            && presumed != real(field)
        {
            return Err(key.conflict(format!(
                "Precondition failed: {word} in precondition: {presumed}, {word} in object meta: {}",
                real(field)
            )));
        }
    }
    Ok(())
}
