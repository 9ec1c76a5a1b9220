//! What happened, for those who watch.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::{ObjectKey, Store};
use crate::kubernetes::refusal::Refusal;

/// Changes that are remembered.
const CHANGES_MAX: usize = 8192;
/// Their objects together, in bytes of JSON.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is another now.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change of one object.
#[derive(Debug)]
pub struct Change {
    /// The store's version with it.
    pub version: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// To which object.
    pub key: ObjectKey,
    /// The object with it; its last state where it is gone.
    pub object: Arc<Value>,
    /// The object before it.
    pub previous: Option<Arc<Value>>,
    /// The field manager of who did it.
    pub manager: String,
    /// When, in microseconds on the run's clock.
    pub at_us: u64,
    pub(super) bytes: usize,
}

/// The latest changes, oldest first.
#[derive(Debug)]
pub(super) struct History {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// The version before the oldest change.
    before: u64,
}

impl History {
    pub(super) fn new(before: u64) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, before }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.bytes += change.bytes;
        self.changes.push_back(Arc::new(change));
        while self.changes.len() > CHANGES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.changes.pop_front() else { return };
            self.bytes -= oldest.bytes;
            self.before = oldest.version;
        }
    }

    /// Changes after `version`.
    pub(super) fn since(
        &self,
        version: u64,
    ) -> Result<impl DoubleEndedIterator<Item = &Arc<Change>>, Refusal> {
        if version < self.before {
            return Err(Refusal::Expired { asked: version, oldest: self.before });
        }
        let first = self.changes.partition_point(|change| change.version <= version);
        Ok(self.changes.range(first..))
    }
}

/// All changes of a store from one version on, each once and in order.
#[derive(Debug)]
pub struct Subscription {
    store: Store,
    changed: watch::Receiver<u64>,
    /// The version up to which changes were given out.
    seen: u64,
}

impl Subscription {
    pub(super) fn new(store: Store, changed: watch::Receiver<u64>, seen: u64) -> Self {
        Self { store, changed, seen }
    }

    /// The next change, as soon as there is one. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// [`Refusal::Expired`] for one who comes so seldom that the next change is forgotten.
    pub async fn next(&mut self) -> Result<Arc<Change>, Refusal> {
        loop {
            // Before the look, so that a change between the look and the wait wakes.
            self.changed.mark_unchanged();
            let next = self.store.state().history.since(self.seen)?.next().cloned();
            if let Some(change) = next {
                self.seen = change.version;
                return Ok(change);
            }
            // The store holds the sender, and this holds the store.
            self.changed.changed().await.expect("the sender lives as long as this subscription");
        }
    }

    /// The version up to which everything was given out.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }
}
