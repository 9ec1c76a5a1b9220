//! One monotonic clock for the mock world and whoever observes it.

use std::time::Instant;

/// The zero of a run's clock.
///
/// The harness and the mocks hold a copy of the same epoch, so every instant that either of them writes down
/// is microseconds on one monotonic clock and can be compared without any synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    zero: Instant,
}

impl Epoch {
    /// An epoch whose zero is the present instant.
    #[must_use]
    pub fn starting_now() -> Self {
        Self { zero: Instant::now() }
    }

    /// An epoch whose zero is `zero`.
    #[must_use]
    pub fn from_instant(zero: Instant) -> Self {
        Self { zero }
    }

    /// Microseconds since the epoch's zero; 0 while the zero still lies ahead.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(Instant::now().saturating_duration_since(self.zero).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counts_microseconds_from_its_zero() {
        let past = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let epoch = Epoch::from_instant(past);
        let first = epoch.now_us();
        assert!((2_000_000..12_000_000).contains(&first), "{first}");
        assert!(epoch.now_us() >= first);
    }

    #[test]
    fn is_zero_before_its_zero() {
        let epoch = Epoch::from_instant(Instant::now() + Duration::from_secs(60));
        assert_eq!(epoch.now_us(), 0);
    }
}
