//! The journal: everything that a run saw and did, one JSON object a line, in order.
//!
//! It is the only link between a run and its analysis. It knows nothing of verdicts. A line is written
//! and flushed before the run goes on; intents of mutations are synced to disk before the mutation.
//! Invariants: `seq` counts from 0 without gaps; `at_us` is the writer's monotonic time of writing.

mod client;
mod event;
mod reader;
mod stream;
mod writer;

pub use client::{ClientStarted, GatewayCall, TurnTranscribed};
pub use event::{
    AttemptTimeouts, Censoring, Claim, ClaimSource, Entry, Event, FORMAT, GatewayStarted, LogCounted,
    Outcome, ProbeRecord, Purpose, RunStarted, Unimitated, UpstreamCall, UpstreamCounted, WarmUp,
};
pub use reader::{ReadError, read};
pub use stream::BrokenStream;
pub use writer::{Clock, Journal, JournalError};

/// File name of the journal in a run directory.
pub const FILE_NAME: &str = "journal.jsonl";
