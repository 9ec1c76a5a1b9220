//! The gateway under test: how it is configured, started, watched and stopped.
//!
//! Owns the gateway's configuration as the local environment needs it ([`config`]), the life of a real
//! LiteLLM process ([`litellm`]) and the one face of both kinds ([`local`]). Knows nothing of scenarios,
//! probes or verdicts.
//!
//! Invariants: nothing that is started here outlives the harness, a person's key is never written anywhere, and
//! a gateway configured here calls nothing beyond loopback.

pub mod config;
pub mod known;
pub mod litellm;
pub mod local;
pub mod pages;
pub mod reach;
pub mod secret;
