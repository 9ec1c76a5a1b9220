//! openclaw before the gateway: what a person's turn goes through before LiteLLM sees it.
//!
//! Installed from npm or found, started under the same guard as LiteLLM with its home inside the run directory, and asked
//! over its own HTTP API. Between it and the gateway stands a [`relay`], which writes down the requests that each turn
//! becomes: openclaw's replies do not say who served.
//!
//! Invariants: it listens on loopback only and is told of nothing beyond, runs with an environment of named variables,
//! gets its keys by environment alone, and never outlives the harness.

mod config;
pub mod find;
mod install;
pub mod process;
pub mod relay;
pub mod transcript;

pub use config::{Agents, Retries};

/// The agent that people talk to, as its HTTP API calls it.
pub const AGENT: &str = "openclaw/default";
/// The version whose behaviour the harness knows.
pub const OPENCLAW_VERSION: &str = "2026.9.6";
/// The Node that is installed beside it: 24.16 or newer of that line.
pub const NODE_VERSION: &str = "24.21.0";
