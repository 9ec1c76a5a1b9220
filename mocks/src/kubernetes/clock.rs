//! What the cluster takes for the present.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::time::Epoch;

/// The wall clock of a mock cluster, which can be put forward, and the run's monotonic clock beside it. Copies share
/// the same setting.
#[derive(Debug, Clone)]
pub struct Clock {
    epoch: Epoch,
    ahead_ms: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that shows the real time until it is put forward.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, ahead_ms: Arc::default() }
    }

    /// The cluster's wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.ahead_ms.load(Ordering::SeqCst));
        // Only a clock that was put forward by millennia cannot be told; it stands still.
        Timestamp::now().checked_add(ahead).unwrap_or(Timestamp::MAX)
    }

    /// Microseconds on the run's clock, which nothing puts forward.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.epoch.now_us()
    }

    /// Puts the wall clock forward. Nothing that waits is woken.
    pub fn put_forward(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let add = |ahead: i64| Some(ahead.saturating_add(by));
        // The function never declines, so this cannot fail.
        let _set = self.ahead_ms.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
    }
}

/// An instant as object metadata has it: RFC 3339, UTC, whole seconds.
#[must_use]
pub fn to_seconds(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An instant as leases and events have it: RFC 3339, UTC, exactly six digits of a second.
#[must_use]
pub fn to_micros(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
