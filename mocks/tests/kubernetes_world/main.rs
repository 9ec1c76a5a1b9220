//! The mock cluster's control loops and data plane, seen through the client that the harness uses and over TCP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]
mod cni;
mod commands;
mod forward;
mod household;
mod kubectl;
mod loops;
mod opponents;
mod programs;
mod scale;
