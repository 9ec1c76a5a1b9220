//! The mock world as its callers see it: over TCP and HTTP on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]
mod control;
mod gates;
mod observe;
mod telegram;
mod truth;
mod upstreams;
mod world;
