//! All objects of the mock cluster. The API server, the controllers and the kubelet go through the same few calls,
//! so whatever is written, by whomever, gets a version, has its owners recorded and is seen by every watch.
//!
//! One lock, one counter of versions. The closures of [`Store::update`] run under the lock and must not call the store.

mod deletion;
mod history;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tokio::sync::watch;

pub use self::deletion::{Deleted, Deletion, Propagation};
pub use self::history::{Change, ChangeKind, Subscription};

use self::history::History;
use super::clock::Clock;
use super::refusal::Refusal;
use super::resources::{NAMESPACES, Resource};
use super::rules;

/// The largest object, in bytes of JSON; etcd's default limit for one request.
const OBJECT_BYTES_MAX: usize = 1536 * 1024;
/// All objects together, in bytes of JSON.
const OBJECTS_BYTES_MAX: usize = 128 * 1024 * 1024;
/// All objects together.
const OBJECTS_MAX: usize = 20_000;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub resource: &'static Resource,
    /// Its namespace; empty where the kind has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of these names. The namespace is dropped where the kind has none.
    #[must_use]
    pub fn new(resource: &'static Resource, namespace: &str, name: &str) -> Self {
        let namespace = if resource.namespaced { namespace } else { "" };
        Self { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn not_found(&self) -> Refusal {
        Refusal::NotFound { resource: self.resource, name: self.name.clone() }
    }

    fn conflict(&self, message: impl Into<String>) -> Refusal {
        Refusal::Conflict { resource: self.resource, name: self.name.clone(), message: message.into() }
    }
}

/// Who writes, and through which door.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The subresource; empty for the object itself. `status` may change the status alone, and the object itself
    /// anything else.
    pub subresource: &'a str,
    /// Whether the store records who owns the fields that change. An apply has done so itself.
    pub records: bool,
}

impl<'a> Writer<'a> {
    /// Writes the object itself.
    #[must_use]
    pub fn of_object(manager: &'a str) -> Self {
        Self { manager, subresource: "", records: true }
    }

    /// Writes the object's status.
    #[must_use]
    pub fn of_status(manager: &'a str) -> Self {
        Self { manager, subresource: "status", records: true }
    }

    /// Writes the object's scale.
    #[must_use]
    pub fn of_scale(manager: &'a str) -> Self {
        Self { manager, subresource: "scale", records: true }
    }
}

/// Objects as they all were at one version.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Sorted by namespace and name.
    pub items: Vec<Arc<Value>>,
    /// The version.
    pub version: u64,
}

/// The store. Copies are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: Mutex<State>,
    /// The latest version.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<ObjectKey, Stored>,
    bytes: usize,
    version: u64,
    history: History,
    chance: ChaCha8Rng,
}

#[derive(Debug, Clone)]
struct Stored {
    object: Arc<Value>,
    bytes: usize,
}

impl Store {
    /// An empty store that draws uids and name suffixes from `seed`.
    #[must_use]
    pub fn new(seed: u64, clock: Clock) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            bytes: 0,
            // A real cluster's first versions belong to objects that nobody asks for.
            version: 1000,
            history: History::new(1000),
            chance: ChaCha8Rng::seed_from_u64(seed),
        };
        let (changed, _) = watch::channel(state.version);
        Self { shared: Arc::new(Shared { clock, state: Mutex::new(state), changed }) }
    }

    /// The clock that the store takes its times from.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A closure that panicked has changed nothing: every write is put in place in one step.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object, if it is there.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Value>> {
        self.state().objects.get(key).map(|stored| Arc::clone(&stored.object))
    }

    /// The latest version of anything.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// All objects of a kind, in one namespace or in all.
    #[must_use]
    pub fn list(&self, resource: &'static Resource, namespace: Option<&str>) -> Listing {
        let state = self.state();
        let items =
            state.of_kind(resource, namespace).map(|(_, stored)| Arc::clone(&stored.object)).collect();
        Listing { items, version: state.version }
    }

    /// All objects of a kind as they were at an earlier version.
    ///
    /// # Errors
    ///
    /// [`Refusal::Expired`] where the history does not go back so far.
    pub fn list_at(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        version: u64,
    ) -> Result<Listing, Refusal> {
        let state = self.state();
        let present = state.of_kind(resource, namespace);
        let mut objects: BTreeMap<ObjectKey, Arc<Value>> =
            present.map(|(key, stored)| (key.clone(), Arc::clone(&stored.object))).collect();
        for change in state.history.since(version)?.rev() {
            if change.key.resource != resource || namespace.is_some_and(|name| name != change.key.namespace) {
                continue;
            }
            match &change.previous {
                Some(previous) => objects.insert(change.key.clone(), Arc::clone(previous)),
                None => objects.remove(&change.key),
            };
        }
        Ok(Listing { items: objects.into_values().collect(), version })
    }

    /// Makes an object. Name (also from `generateName`), defaults, uid, times and owners of fields are filled in; a
    /// status is dropped where the kind has a status subresource.
    ///
    /// # Errors
    ///
    /// As the API server refuses it: the name is taken, the namespace is not there or ends, the object is not valid.
    pub fn create(
        &self,
        resource: &'static Resource,
        namespace: &str,
        object: Value,
        writer: Writer<'_>,
    ) -> Result<Arc<Value>, Refusal> {
        self.create_if(resource, namespace, object, writer, true)
    }

    /// As [`Store::create`], but nothing is kept unless `commit`: a dry run.
    pub(crate) fn create_if(
        &self,
        resource: &'static Resource,
        namespace: &str,
        mut object: Value,
        writer: Writer<'_>,
        commit: bool,
    ) -> Result<Arc<Value>, Refusal> {
        let mut state = self.state();
        let now = self.shared.clock.now();
        let name = rules::prepare_create(resource, namespace, &mut object, writer, now, &mut state.chance)?;
        let key = ObjectKey::new(resource, namespace, &name);
        if state.objects.contains_key(&key) {
            return Err(Refusal::AlreadyExists { resource, name });
        }
        state.check_namespace(&key)?;
        if !commit {
            return Ok(Arc::new(object));
        }
        if state.objects.len() >= OBJECTS_MAX {
            return Err(Refusal::Internal("etcdserver: mvcc: database space exceeded".to_owned()));
        }
        self.put(&mut state, key, object, None, writer.manager)
    }

    /// Changes an object in one step. Nothing is written, and no version used, where the closure changes nothing.
    /// What a writer may not change is put back: uid, times, names; see [`Writer`] for the status. An object whose
    /// last finalizer goes while it is being deleted is removed.
    ///
    /// # Errors
    ///
    /// The object is not there, the closure refuses, it leaves another `resourceVersion` or `uid` in the metadata than
    /// the object has (a conflict), or the outcome is not valid.
    pub fn update(
        &self,
        key: &ObjectKey,
        writer: Writer<'_>,
        change: impl FnOnce(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Arc<Value>, Refusal> {
        self.update_if(key, writer, change, true)
    }

    /// As [`Store::update`], but nothing is kept unless `commit`: a dry run.
    pub(crate) fn update_if(
        &self,
        key: &ObjectKey,
        writer: Writer<'_>,
        change: impl FnOnce(&mut Value) -> Result<(), Refusal>,
        commit: bool,
    ) -> Result<Arc<Value>, Refusal> {
        let mut state = self.state();
        let old = state.objects.get(key).ok_or_else(|| key.not_found())?.object.clone();
        let mut new = Value::clone(&old);
        change(&mut new)?;
        check_identity(key, &old, &new)?;
        let now = self.shared.clock.now();
        if !rules::prepare_update(key.resource, &old, &mut new, writer, now)? {
            return Ok(old);
        }
        if !commit {
            return Ok(Arc::new(new));
        }
        if deletion::is_due(key.resource, &new) {
            return Ok(self.remove(&mut state, key, Some(new), writer.manager));
        }
        self.put(&mut state, key.clone(), new, Some(old), writer.manager)
    }

    /// Changes from just after `version` on. The latest version of the store gives what happens from now on.
    ///
    /// # Errors
    ///
    /// [`Refusal::Expired`] where the history does not go back so far.
    pub fn subscribe(&self, version: u64) -> Result<Subscription, Refusal> {
        let changed = self.shared.changed.subscribe();
        drop(self.state().history.since(version)?);
        Ok(Subscription::new(self.clone(), changed, version))
    }

    /// Drops the history, so that every version before the present is too old to watch from.
    pub fn compact(&self) {
        let mut state = self.state();
        let version = state.version;
        state.history = History::new(version);
    }

    /// Puts an object in place and tells everybody.
    fn put(
        &self,
        state: &mut State,
        key: ObjectKey,
        mut object: Value,
        previous: Option<Arc<Value>>,
        manager: &str,
    ) -> Result<Arc<Value>, Refusal> {
        let version = state.version + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        rules::order_fields(&mut object);
        // A `Value` always becomes JSON.
        let bytes = serde_json::to_vec(&object).map_or(usize::MAX, |json| json.len());
        if bytes > OBJECT_BYTES_MAX {
            return Err(Refusal::Internal("etcdserver: request is too large".to_owned()));
        }
        let freed = state.objects.get(&key).map_or(0, |stored| stored.bytes);
        if state.bytes - freed + bytes > OBJECTS_BYTES_MAX {
            return Err(Refusal::Internal("etcdserver: mvcc: database space exceeded".to_owned()));
        }
        let object = Arc::new(object);
        state.bytes = state.bytes - freed + bytes;
        state.objects.insert(key.clone(), Stored { object: Arc::clone(&object), bytes });
        let kind = if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        self.tell(state, kind, key, Arc::clone(&object), previous, bytes, manager);
        Ok(object)
    }

    /// Takes an object away and tells everybody; `last` is what it was at the very end, where that was never kept.
    fn remove(&self, state: &mut State, key: &ObjectKey, last: Option<Value>, manager: &str) -> Arc<Value> {
        let stored = state.objects.remove(key).expect("the caller has found it under the same lock");
        state.bytes -= stored.bytes;
        let mut object = last.unwrap_or_else(|| Value::clone(&stored.object));
        object["metadata"]["resourceVersion"] = (state.version + 1).to_string().into();
        let object = Arc::new(object);
        let previous = Some(stored.object);
        self.tell(
            state,
            ChangeKind::Deleted,
            key.clone(),
            Arc::clone(&object),
            previous,
            stored.bytes,
            manager,
        );
        self.end_namespace(state, &key.namespace);
        object
    }

    /// Removes a namespace that is being deleted once nothing is left in it.
    fn end_namespace(&self, state: &mut State, namespace: &str) {
        let key = ObjectKey::new(&NAMESPACES, "", namespace);
        let ends = state.objects.get(&key).is_some_and(|stored| deletion::is_begun(&stored.object));
        if ends && !state.objects.keys().any(|other| other.namespace == namespace) {
            self.remove(state, &key, None, "namespace-controller");
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one change has these parts")]
    fn tell(
        &self,
        state: &mut State,
        kind: ChangeKind,
        key: ObjectKey,
        object: Arc<Value>,
        previous: Option<Arc<Value>>,
        bytes: usize,
        manager: &str,
    ) {
        state.version += 1;
        let version = state.version;
        let at_us = self.shared.clock.now_us();
        let manager = manager.to_owned();
        state.history.push(Change { version, kind, key, object, previous, manager, at_us, bytes });
        self.shared.changed.send_replace(version);
    }
}

impl State {
    fn of_kind<'a>(
        &'a self,
        resource: &'static Resource,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a ObjectKey, &'a Stored)> {
        let first = ObjectKey::new(resource, namespace.unwrap_or(""), "");
        self.objects
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(move |(key, _)| key.resource == resource)
            .take_while(move |(key, _)| {
                namespace.is_none_or(|name| !resource.namespaced || name == key.namespace)
            })
    }

    fn check_namespace(&self, key: &ObjectKey) -> Result<(), Refusal> {
        if !key.resource.namespaced {
            return Ok(());
        }
        let namespace = ObjectKey::new(&NAMESPACES, "", &key.namespace);
        let found = self.objects.get(&namespace).ok_or_else(|| namespace.not_found())?;
        if deletion::is_begun(&found.object) {
            return Err(Refusal::Forbidden {
                resource: Some(key.resource),
                name: key.name.clone(),
                message: format!(
                    "unable to create new content in namespace {} because it is being terminated",
                    key.namespace
                ),
            });
        }
        Ok(())
    }
}

/// A writer that read another state of the object, or another object of this name, must not write.
fn check_identity(key: &ObjectKey, old: &Value, new: &Value) -> Result<(), Refusal> {
    let differs = |field: &str| {
        let presumed = new["metadata"][field].as_str().filter(|text| !text.is_empty());
        presumed.is_some_and(|presumed| Some(presumed) != old["metadata"][field].as_str())
    };
    if differs("uid") {
        let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let (presumed, real) = (uid(new), uid(old));
        return Err(key.conflict(format!(
            "Precondition failed: UID in precondition: {presumed}, UID in object meta: {real}"
        )));
    }
    if differs("resourceVersion") {
        return Err(key.conflict(
            "the object has been modified; please apply your changes to the latest version and try again",
        ));
    }
    Ok(())
}
