//! What a client got of a stream.

use serde::{Deserialize, Serialize};

/// What a client got of a stream that broke off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokenStream {
    /// Chunks that carried a token.
    pub tokens: u32,
    /// A finish reason came.
    pub finished: bool,
    /// The terminator came.
    pub terminated: bool,
    /// An error event came.
    pub error_event: bool,
}
