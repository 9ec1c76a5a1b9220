//! The mock cluster as its clients see it. `conformance` holds what any cluster does: it runs against the mock, or
//! against a live cluster that `FAILOVER_CONFORMANCE_KUBECONFIG`, `..._CONTEXT` and `..._NAMESPACE` name, where it
//! touches nothing but what it has made in that namespace; `scripts/conformance` sets them, and `live` tries that way.
//! What needs the mock's own controls is in `controls`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]
mod conformance;
mod controls;
mod ground;
mod kubectl;
mod live;
