//! A scenario: one operating mode of the stack, the traffic that probes it, and what must be true.

pub(crate) mod check;
mod injections;
pub(crate) mod written;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Period, Rate};

/// One scenario file, validated: names are known, values are in range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// `[a-z0-9-]+`, unique within a run.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// What this scenario gives evidence for.
    pub requirements: Vec<Requirement>,
    /// Components that are not fully up in this mode; all others stay up.
    pub components: BTreeMap<String, ComponentState>,
    /// Probe traffic, at most one entry a route.
    pub traffic: Vec<Traffic>,
    /// Expectation by route; a route with traffic but no expectation is measured, not judged.
    pub expect: BTreeMap<String, Expectation>,
    /// Expected recovery by route after this mode's faults are healed.
    pub recover: BTreeMap<String, Recovery>,
    /// How often its faults are injected, each time from a steady primary and healed again; 1 unless it says so.
    #[serde(default = "Scenario::once", skip_serializing_if = "Scenario::is_once")]
    pub injections: u32,
    /// Where it was read.
    pub source: Source,
}

impl Scenario {
    /// What most scenarios do.
    pub const ONCE: u32 = 1;

    const fn once() -> u32 {
        Self::ONCE
    }

    const fn is_once(injections: &u32) -> bool {
        *injections == Self::ONCE
    }

    /// Whether its faults are injected more than once.
    #[must_use]
    pub const fn is_repeated(&self) -> bool {
        self.injections > Self::ONCE
    }
}

/// Where a file's text came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Path as the person gave it, or `built-in:scenarios/normal.yaml`.
    pub name: String,
    /// SHA-256 of the bytes, lower-case hex.
    pub sha256: String,
}

/// A requirement that reports trace to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Requirement {
    /// LiteLLM falls back in order.
    FR217,
    /// No Anthropic anywhere; openclaw's primary is cloud-kimi through LiteLLM.
    FR222,
    /// Coder sub-agents run on cloud-qwen3-coder.
    FR223,
    /// Failover activates within 5 seconds.
    NFR123,
    /// Every operating mode behaves as its table says.
    NFR125,
}

/// What is wrong with a component in a mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentState {
    /// All of it, in the way that the environment says.
    Down,
    /// Only these aliases are gone (their upstream answers 404), the rest works.
    Gone(Vec<String>),
}

/// Probe traffic on one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Route name of the environment.
    pub route: String,
    /// Wished rate; the environment's ceilings may lower it.
    pub rate: Rate,
    /// How long the mode is judged, from the upper end of the fault's effective bracket (`for`).
    pub hold: Period,
    /// Which kinds of request.
    pub stream: Forms,
    /// `max_tokens` of each probe.
    pub max_tokens: u32,
    /// Client timeout of each probe.
    pub timeout: Period,
}

/// Which reply forms a route's probes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forms {
    /// Whole and streamed, on fresh and kept-alive connections: four kinds in turn.
    Mixed,
    /// Whole replies only, fresh and kept-alive in turn.
    Whole,
    /// Streamed replies only, fresh and kept-alive in turn.
    Streamed,
}

/// What must be true of one route's judged probes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Who answers.
    pub answer: Answer,
    /// Limit from a probe's intended start to its first content (NFR123), or to the whole error reply.
    pub within: Period,
    /// How many judged probes may end in an error; not used where the error is what is expected.
    pub errors: u64,
    /// How many in-flight probes may be lost in the middle of an answer; `None` is unbounded.
    pub lost_in_flight: Option<u64>,
    /// Limit from a streamed probe's intended start to its first token, beside `within`; `None`: not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_within: Option<Period>,
    /// The longest time in which a stream that has begun may give no further token; `None` is unbounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_stall: Option<Period>,
}

/// Who must answer a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// This alias.
    ServedBy(String),
    /// Nobody: a complete HTTP answer 408, 429 or 5xx from the gateway.
    Error,
}

/// What must be true of a route after the faults are healed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The alias that serves again.
    pub served_by: String,
    /// Limit from heal to steady service.
    pub within: Period,
}

impl std::fmt::Display for Requirement {
    /// The id that people know it by, e.g. `FR217`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::NAMES.iter().find(|(_, requirement)| requirement == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}
