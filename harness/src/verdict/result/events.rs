//! A scenario whose faults are injected more than once: each event, and what all of them show.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Failback, Failover, FaultResult, Verdict};

/// One injection of a scenario, from its baseline to its recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventResult {
    /// Which, from 1.
    pub injection: u32,
    /// Whether it counts; one that was void does not, for nothing and against nothing.
    pub counts: bool,
    /// Of this injection alone.
    pub verdict: Verdict,
    /// Why it is not pass; empty on pass.
    pub reasons: Vec<String>,
    /// Every route with traffic.
    pub routes: Vec<EventRoute>,
    /// Its faults, where it is void and others count: the scenario lists those of the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultResult>,
}

/// One route's figures in one injection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRoute {
    /// `agent`, ...
    pub route: String,
    /// Judged probes sent.
    pub requests: u64,
    /// Complete, valid replies among them.
    pub ok: u64,
    /// `null` where nothing had to fail over.
    pub failover: Option<Failover>,
    /// `null` where no heal was seen.
    pub failback: Option<Failback>,
}

/// What the injections that were judged show of all outages of this kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Support {
    /// So many of them went well by both readings.
    pub well: u64,
    /// Confidence of what follows, in percent.
    pub confidence_percent: f64,
    /// At least this share of all outages goes well, in percent (exact binomial, one-sided).
    pub at_least_percent: f64,
    /// Upper bounds of quantiles over all outages (order statistics).
    pub bounds: Vec<QuantileBound>,
}

/// What is known of one quantile over all outages, from above.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuantileBound {
    /// Of which figure of an outage.
    pub of: Measure,
    /// Which quantile: 50, 90, 99.
    pub percent: u64,
    /// It is at most this; `null` where there are too few injections, or where the one that would bound it never ended.
    pub at_most_ms: Option<f64>,
    /// There are too few: so many would do.
    pub needed: Option<u64>,
}

/// A figure that each outage has once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The longest wait of a request in it.
    Worst,
    /// From the fault until service was steady, the later end of its bracket.
    Steady,
}
