//! What a number of events supports. Pure arithmetic: it knows neither journal nor verdict.
//!
//! One value stands for one event, which is one injection: probes of the same outage are not independent of each other,
//! and pooling them finds differences where there are none. A value that never came (a failover that was not over when
//! the event ended) is censored and ranks last; it is `None` here.

mod binomial;
mod multiple;
mod quantile;
mod rank;
mod table;

pub use binomial::{at_least, needed};
pub use multiple::benjamini_hochberg;
pub use quantile::{Bound, quantile_at_most};
pub use rank::{EXACT_MAX, hodges_lehmann, mann_whitney};
pub use table::fisher_exact;

/// Confidence of all that a report claims.
pub const CONFIDENCE: f64 = 0.95;
