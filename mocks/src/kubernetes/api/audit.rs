//! Who asked for what, so that a test can tell what a program really did.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

const ENTRIES_MAX: usize = 20_000;

/// One request for objects, or one review of access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was answered, in microseconds on the run's clock.
    pub at_us: u64,
    /// The user; empty where the token was nobody's.
    pub user: String,
    /// The verb as RBAC has it.
    pub verb: String,
    /// The API group.
    pub group: String,
    /// The resource, with its subresource.
    pub resource: String,
    /// The namespace; empty for none.
    pub namespace: String,
    /// The object; empty for a collection.
    pub name: String,
    /// The field manager that it names.
    pub manager: String,
    /// Whether it asked that nothing be kept.
    pub dry_run: bool,
    /// The HTTP status of the answer; 0 for one that never came.
    pub code: u16,
}

impl AuditEntry {
    /// Whether it was meant to change something.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        let changes =
            ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str());
        changes && !self.dry_run && !self.resource.starts_with("selfsubject")
    }
}

/// The latest requests. Copies are the same.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    entries: Arc<Mutex<VecDeque<AuditEntry>>>,
}

impl Audit {
    pub(super) fn push(&self, entry: AuditEntry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == ENTRIES_MAX {
            entries.pop_front();
        }
        entries.push_back(entry);
    }

    /// The requests so far, oldest first; only the latest 20 000.
    #[must_use]
    pub fn entries(&self) -> Vec<AuditEntry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
