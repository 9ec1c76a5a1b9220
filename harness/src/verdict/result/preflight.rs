//! What was found out before anything was measured: the state that a migration has left, and what the gateway's own
//! settings let expect.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How one fact of the migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It was read, and is as it must be.
    Holds,
    /// It was read, and is not as it must be.
    Fails,
    /// It could not be read, or does not say.
    NotKnown,
}

impl Standing {
    /// The word in lists.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::NotKnown => "not known",
        }
    }
}

/// One fact of the migration state. No value of a Secret, of a variable or of a key is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationLine {
    /// `FR222` or `FR223`.
    pub requirement: String,
    /// What it is about.
    pub fact: String,
    /// How it stands.
    pub standing: Standing,
    /// What must be.
    pub expected: String,
    /// What is, or why that is not known.
    pub found: String,
    /// What to do; `null` where nothing is.
    pub mend: Option<String>,
}

/// How a gateway routes, as it tells itself. What it does not tell is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GatewaySettings {
    /// Aliases that it takes.
    pub models: Vec<String>,
    /// Who takes over for a group, in order; `*` for every group without a list of its own.
    pub fallbacks: BTreeMap<String, Vec<String>>,
    /// Timeout of each phase of an attempt, in seconds.
    pub timeout_s: Option<f64>,
    /// The same of streams, where it is another.
    pub stream_timeout_s: Option<f64>,
    /// Retries of each group that is tried.
    pub num_retries: Option<u64>,
    /// Retries differ by the class of the error.
    pub retries_by_class: bool,
    /// The least pause before a retry, in seconds.
    pub retry_after_s: Option<f64>,
    /// How deeply fallbacks may be nested.
    pub max_fallbacks: Option<u64>,
    /// Failures that are allowed before a deployment is left alone; 3 stands for "not set".
    pub allowed_fails: Option<u64>,
    /// How long it is then left alone, in seconds.
    pub cooldown_time_s: Option<f64>,
    /// Nothing is ever left alone.
    pub cooldowns_disabled: bool,
    /// What is behind the groups.
    pub deployments: Vec<DeploymentSettings>,
}

/// What a deployment of a gateway has of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentSettings {
    /// Its group.
    pub group: String,
    /// Its own timeout, in seconds.
    pub timeout_s: Option<f64>,
    /// Its own timeout of streams, in seconds.
    pub stream_timeout_s: Option<f64>,
    /// Its own retries.
    pub num_retries: Option<u64>,
}

/// What a gateway's settings let expect, before anything is broken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outlook {
    /// As the gateway tells them; `null` where it does not.
    pub settings: Option<GatewaySettings>,
    /// Why they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_known: Option<String>,
    /// The longest waits that they lead to.
    pub waits: Vec<ForeseenWait>,
    /// Where a requirement cannot hold, and what to know of the settings, in words.
    pub warnings: Vec<String>,
}

/// How long a first request waits until the next who is up is asked, or the error is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForeseenWait {
    /// `agent`, ...
    pub route: String,
    /// Components that are down.
    pub down: Vec<String>,
    /// How they fail.
    pub failing: Failing,
    /// Streams, or whole replies.
    pub streamed: bool,
    /// Who is asked then; `null`: nobody is left, and an error is given.
    pub then: Option<String>,
    /// From the least to the most, in seconds; without what the answer itself takes.
    pub wait_s: (f64, f64),
    /// What NFR123 allows, in seconds.
    pub limit_s: f64,
    /// How the wait is made up.
    pub formula: String,
}

/// How a component that is down meets a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Failing {
    /// It refuses, or answers with an error, at once.
    AtOnce,
    /// Packets to it get lost.
    Blackhole,
    /// It takes the request and never answers.
    Hang,
}

impl Failing {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::AtOnce => "fails at once",
            Self::Blackhole => "is a blackhole",
            Self::Hang => "takes requests and never answers",
        }
    }
}
