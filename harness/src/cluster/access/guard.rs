//! Who is asked before each change.

use std::time::Duration;

use futures::future::BoxFuture;

/// Why a change may not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoWrite {
    /// In words.
    pub why: String,
    /// For good: nothing may be changed any more.
    pub is_lost: bool,
}

/// Somebody who is asked before each single change whether it may be made. Every attempt is a change of its own: what
/// was allowed before the first one says nothing of the second.
pub trait MayWrite: Send + Sync {
    /// Whether a change may be made now, and by when it must have been answered: what is still on its way after that
    /// is given up. Takes a bounded time.
    fn may_write(&self) -> BoxFuture<'_, Result<Duration, NoWrite>>;

    /// What is left of that, asked right before a change is sent: this program may have been stopped since. `None` where
    /// it is over.
    fn left(&self) -> Option<Duration>;
}
