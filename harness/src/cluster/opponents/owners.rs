//! Who wrote a field last, as the API keeps it in `managedFields`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

/// One writer of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What it calls itself.
    pub manager: String,
    /// By which part of the API: `scale`, `status`, empty for the object itself.
    pub subresource: String,
    /// When, as the API wrote it; seconds.
    pub at: Option<String>,
}

/// Who owns a field, `["spec", "replicas"]` for one. Nobody does where a Deployment was scaled to 0: the API forgets.
#[must_use]
pub fn of(metadata: &ObjectMeta, path: &[&str]) -> Vec<Owner> {
    let pointer: String = path.iter().map(|part| format!("/f:{part}")).collect();
    let entries = metadata.managed_fields.iter().flatten();
    let has = |entry: &&ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer(&pointer).is_some())
    };
    entries.filter(has).map(owner).collect()
}

/// The last writer of an object, whatever it wrote; the status is left to those who keep it.
#[must_use]
pub fn last(metadata: &ObjectMeta) -> Option<Owner> {
    let entries = metadata.managed_fields.iter().flatten();
    let own = entries.filter(|entry| entry.subresource.as_deref() != Some("status"));
    own.max_by_key(|entry| entry.time.as_ref().map(|time| time.0)).map(owner)
}

fn owner(entry: &ManagedFieldsEntry) -> Owner {
    Owner {
        manager: entry.manager.clone().unwrap_or_default(),
        subresource: entry.subresource.clone().unwrap_or_default(),
        at: entry.time.as_ref().map(|time| time.0.to_string()),
    }
}
