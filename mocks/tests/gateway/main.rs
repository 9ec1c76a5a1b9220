//! The gateway at its boundary: real sockets on both sides.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod upstream;
mod wire;

mod failover;
mod pages;
mod settings;
mod streams;
mod surface;
mod tls;
