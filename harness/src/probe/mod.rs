//! Probes: short chats through the gateway, sent on a fixed schedule that never reacts to replies.
//!
//! A probe is never retried, follows no redirect, and ends in exactly one outcome.

mod client;
mod error_class;
mod pacer;
mod reply;
mod sse;
mod traffic;
mod ways;

pub use client::{Prober, ProberError, Request, Sent, claims_of};
pub use error_class::classify;
pub use pacer::{Pacer, Schedule, Tick};
pub use traffic::{Live, LiveProbe, Traffic, TrafficOptions};
pub use ways::{Chats, Ledger, Way, Ways};
