//! Garbage collection: what belongs to nobody any more goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::objects::{is_ending, key_of, meta};
use super::reconcile::Reconcile;
use crate::kubernetes::resources::{ALL, EVENTS, Resource};
use crate::kubernetes::store::{Deletion, ObjectKey, Store, Writer};

const MANAGER: &str = "kube-controller-manager";
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The garbage collector.
#[derive(Debug)]
pub(crate) struct Collection {
    pub(crate) store: Store,
}

impl Reconcile for Collection {
    fn kinds(&self) -> Vec<&'static Resource> {
        ALL.iter().copied().filter(|resource| **resource != EVENTS).collect()
    }

    async fn reconcile(&mut self) -> Option<Duration> {
        let mut all: Vec<(ObjectKey, Arc<Value>)> = Vec::new();
        for resource in self.kinds() {
            let items = self.store.list(resource, None).items;
            all.extend(items.into_iter().map(|object| (key_of(resource, &object), object)));
        }
        let living: BTreeSet<&str> = all.iter().map(|(_, object)| meta(object, "uid")).collect();
        for (key, object) in &all {
            let owners = owners(object);
            let is_left = !owners.is_empty() && !owners.iter().any(|owner| living.contains(owner));
            if is_left && !is_ending(object) {
                self.collect(key, object);
            }
            if is_ending(object) {
                self.finish(key, object, &all);
            }
        }
        None
    }
}

fn owners(object: &Value) -> Vec<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.filter_map(|owner| owner["uid"].as_str()).collect()
}

fn has_finalizer(object: &Value, name: &str) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|all| all.iter().any(|finalizer| finalizer == name))
}

impl Collection {
    fn collect(&self, key: &ObjectKey, object: &Value) {
        let deletion = Deletion { uid: Some(meta(object, "uid").to_owned()), ..Deletion::default() };
        // One that is gone by now needs no more.
        let _deleted = self.store.delete(key, &deletion, MANAGER);
    }

    /// Does for an object that is held by a finalizer of deletion what the finalizer is for, and takes it off.
    fn finish(&self, key: &ObjectKey, object: &Value, all: &[(ObjectKey, Arc<Value>)]) {
        let uid = meta(object, "uid");
        let dependents = || all.iter().filter(|(_, other)| owners(other).contains(&uid));
        if has_finalizer(object, ORPHAN) {
            for (dependent, _) in dependents() {
                let _freed = self.store.update(dependent, Writer::of_object(MANAGER), |dependent| {
                    if let Some(owners) = dependent["metadata"]["ownerReferences"].as_array_mut() {
                        owners.retain(|owner| owner["uid"] != uid);
                    }
                    Ok(())
                });
            }
            self.release(key, ORPHAN);
        }
        if has_finalizer(object, FOREGROUND) {
            let mut is_held = false;
            for (dependent, other) in dependents() {
                is_held |= blocks(other, uid);
                if !is_ending(other) {
                    self.collect(dependent, other);
                }
            }
            if !is_held {
                self.release(key, FOREGROUND);
            }
        }
    }

    fn release(&self, key: &ObjectKey, finalizer: &str) {
        let _released = self.store.update(key, Writer::of_object(MANAGER), |object| {
            if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
                finalizers.retain(|name| name != finalizer);
            }
            Ok(())
        });
    }
}

/// Whether a dependent keeps its owner until it is gone itself.
fn blocks(dependent: &Value, uid: &str) -> bool {
    let mut owners = dependent["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.any(|owner| owner["uid"] == uid && owner["blockOwnerDeletion"] == true)
}
