//! Streams of one route.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What clients got of judged streams, and of those that were in the middle of an answer when the fault took effect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Streams {
    /// Those that gave a token.
    pub begun: u64,
    /// The latest first token of a judged one, from its intended start; `null` where none gave one.
    pub latest_first_token_ms: Option<f64>,
    /// Its limit; `null` where the scenario states none.
    pub first_token_limit_ms: Option<f64>,
    /// The longest time in which one that had begun gave no further token; `null` where that is not known.
    pub longest_stall_ms: Option<f64>,
    /// Its limit; `null` where the scenario states none.
    pub stall_limit_ms: Option<f64>,
    /// Those that began and are no complete, valid reply.
    pub broken: u64,
    /// Chunks with a token that those gave: the fewest, the most.
    pub tokens_before_break: Option<(u64, u64)>,
    /// Of those, so many said so in an error event.
    pub broken_with_error_event: u64,
    /// Of those, so many had a terminator all the same.
    pub broken_with_terminator: u64,
}
