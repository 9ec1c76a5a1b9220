//! A real LiteLLM proxy as the gateway of a local run: found or installed, started, watched, stopped.
//!
//! The process tree is harness -> guard -> LiteLLM. The guard ([`supervise`]) is this same program in another
//! role; it holds the read end of a pipe from the harness and stops LiteLLM when that pipe closes, which the
//! kernel does however the harness ends.
//!
//! Invariants: LiteLLM listens on loopback only, runs with an environment of named variables, gets its master
//! key by environment alone, and never outlives the harness.

pub mod find;
mod group;
pub(crate) mod guarded;
pub mod install;
mod log_follow;
pub(crate) mod log_tail;
pub mod process;
mod readiness;
pub mod supervise;
pub(crate) mod surroundings;
pub mod warm_up;

/// The version whose behaviour the harness knows and its mock gateway reproduces.
pub const LITELLM_VERSION: &str = "1.106.2";
