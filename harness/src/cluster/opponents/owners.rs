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
    entries_of(metadata, path).map(owner).collect()
}

/// Who wrote a field last, of those who own it.
#[must_use]
pub fn last_of(metadata: &ObjectMeta, path: &[&str]) -> Option<Owner> {
    newest(entries_of(metadata, path)).map(owner)
}

/// The last writer of an object, whatever it wrote; the status is left to those who keep it.
#[must_use]
pub fn last(metadata: &ObjectMeta) -> Option<Owner> {
    let entries = metadata.managed_fields.iter().flatten();
    newest(entries.filter(|entry| entry.subresource.as_deref() != Some("status"))).map(owner)
}

/// The entries of those who own a field.
pub(in crate::cluster) fn entries_of<'m>(
    metadata: &'m ObjectMeta,
    path: &[&str],
) -> impl Iterator<Item = &'m ManagedFieldsEntry> {
    let pointer: String = path.iter().map(|part| format!("/f:{part}")).collect();
    metadata.managed_fields.iter().flatten().filter(move |entry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer(&pointer).is_some())
    })
}

/// By time: the API lists whoever applies before whoever updates, whichever of them came last.
pub(in crate::cluster) fn newest<'m>(
    entries: impl Iterator<Item = &'m ManagedFieldsEntry>,
) -> Option<&'m ManagedFieldsEntry> {
    entries.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
}

fn owner(entry: &ManagedFieldsEntry) -> Owner {
    Owner {
        manager: entry.manager.clone().unwrap_or_default(),
        subresource: entry.subresource.clone().unwrap_or_default(),
        at: entry.time.as_ref().map(|time| time.0.to_string()),
    }
}
