//! The streams of the cluster driver (exec, watches, port-forward, logs) through the API of the mock cluster.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod drift;
mod gateway;
mod prober;
mod stage;
