//! Quantities as people write them: periods (`5s`) and rates (`8/s`).

use std::time::Duration;

/// A length of time as written in a file, e.g. `300ms`, `5s`, `15m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// In milliseconds, fractions kept.
    #[must_use]
    pub fn as_ms(self) -> f64 {
        self.0.as_secs_f64() * 1000.0
    }
}

/// Probes per unit of time, e.g. `8/s` or `30/m`; held as probes per second, finite and positive.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// Probes per second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.0
    }
    /// The time between two probes.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }
}
