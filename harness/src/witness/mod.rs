//! The witness: looks at a component directly, past the gateway, and says up or down.
//!
//! Probes are never their own evidence: when a fault took effect, whether it held and when it ended is
//! known from here alone. Observations are reported in the order in which they were *sent*, so that
//! "the last one that succeeded" and "the first that failed" bracket the moment of change.

mod look;
mod watch;

pub use look::{CompletionRequest, Look, Objects, Target, serves_completion};
pub(crate) use watch::wait_until;
pub use watch::{Observed, Witness};

use std::time::Duration;

/// Time between two TCP looks. A SYN into a blackhole comes back only with its back-off, so each look
/// is a fresh connection.
pub const TCP_EVERY: Duration = Duration::from_millis(20);
/// Time between two HTTP looks, for faults that let a connect succeed.
pub const HTTP_EVERY: Duration = Duration::from_millis(100);
/// Time between two looks at objects of a cluster, each of which is a call of its API.
pub const OBJECTS_EVERY: Duration = Duration::from_millis(500);
/// A TCP look that takes longer than this hangs. On loopback the kernel completes a connect by itself,
/// in microseconds; the rest is room for a busy machine.
pub const TCP_HANG: Duration = Duration::from_millis(150);
/// An HTTP look that takes longer than this hangs.
pub const HTTP_HANG: Duration = Duration::from_millis(1000);
