//! A mock Kubernetes cluster: an API server on a real HTTP/1.1 listener over one store of objects. What it does as the
//! real one does, and where it differs, is in `docs/mock-world.md`.

pub mod api;
pub mod clock;
pub mod cluster;
pub mod controllers;
pub mod household;
pub mod kubelet;
pub mod network;
pub mod openclaw;
pub mod plane;
pub mod pod_io;
pub mod refusal;
pub mod resources;
mod rules;
pub mod stack;
pub mod store;
