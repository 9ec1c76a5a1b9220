//! What is deployed in a cluster: the manifests, what they allow, and that they run.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod allowed;
mod apply;
mod house;
mod manifests;
mod nightly;
mod optional;
mod restricted;
