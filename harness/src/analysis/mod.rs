//! Analysis: the journal in, figures out. A pure function: the same journal gives the same figures.
//!
//! Nothing here says pass or fail. Definitions are those of the measurement design: figures count from
//! the witness's brackets and are brackets themselves; an error is infinitely late; a probe that is
//! still open is censored, never absent.

mod facts;
mod failback;
mod failover;
mod faults;
mod figures;
mod pool;
mod quantiles;
mod sources;
mod streams;
mod turns;
mod upstreams;

pub use crate::attribution::balance::Balance;
pub use crate::attribution::hops::{End, Hop as Step};
pub use facts::{Drift, Mode, Probe, RunFacts, gather};
pub use failback::FailbackFigures;
pub use failover::{FailoverFigures, Goodness};
pub use faults::{FaultFacts, Hold, Look};
pub use figures::{Figures, Phase, figures};
pub use pool::pooled;
pub use quantiles::quantiles;
pub use sources::way;
pub use streams::StreamFigures;
pub use turns::{KnownFrom, TurnFigures, turns};

/// A span on the run's clock in microseconds: [earliest, latest] moment at which something was so.
pub type Span = (u64, u64);

/// Whether an error class is a complete HTTP answer that an outage may honestly give: 408, 429, 5xx. Or openclaw has told
/// the person in another way that has no status: an error in a stream that had begun, a message, a child that ended so.
///
/// A transport error, a client timeout, or a 4xx that a wrong key or request would give is not.
#[must_use]
pub fn is_honest_error(class: &str) -> bool {
    let status = class.strip_prefix("http-").and_then(|status| status.parse::<u16>().ok());
    class == "told-error"
        || status.is_some_and(|status| status == 408 || status == 429 || (500..600).contains(&status))
}

/// What a turn through openclaw counts as that ended in an error and of which no request reached the gateway: it is no
/// evidence of how the gateway takes an outage, for or against it.
pub const GATEWAY_NOT_ASKED: &str = "gateway-not-asked";

/// `[event - latest, event - earliest]` in milliseconds, not below zero: how long after `start` it was.
#[must_use]
pub fn after_ms(event_us: u64, start: Span) -> (f64, f64) {
    (ms(event_us.saturating_sub(start.1)), ms(event_us.saturating_sub(start.0)))
}

/// Microseconds to milliseconds.
#[must_use]
pub fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::is_honest_error;

    #[test]
    fn only_408_429_and_5xx_are_honest() {
        for class in ["http-408", "http-429", "http-500", "http-503", "told-error"] {
            assert!(is_honest_error(class), "{class}");
        }
        for class in
            ["http-400", "http-401", "http-403", "http-404", "http-200", "client-timeout", "reset", "http-"]
        {
            assert!(!is_honest_error(class), "{class}");
        }
    }
}
