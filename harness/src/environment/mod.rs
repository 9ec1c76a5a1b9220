//! An environment: where the same scenarios run, and how a component is taken down there.

pub(crate) mod check;
mod cluster;
mod command;
pub(crate) mod loki;
mod names;
pub(crate) mod written;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::cluster::{
    Cluster, ClusterGateway, Cni, EgressProxy, KeySource, Mechanism, NotAnObjectName, ObjectName, Openclaw,
    Opponent, Reach,
};
pub(crate) use self::command::quoted;
pub use self::loki::{Loki, LokiUser};
pub use self::names::Names;
use crate::scenario::Source;
use crate::units::{Period, Rate};

/// One environment file, validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// `[a-z0-9-]+`.
    pub name: String,
    /// Where the stack lives.
    pub kind: Kind,
    /// How the gateway is reached.
    pub gateway: Gateway,
    /// By name: `cloud`, `vllm`, `ollama`.
    pub components: BTreeMap<String, Component>,
    /// By name: `agent`, `coder`.
    pub routes: BTreeMap<String, Route>,
    /// Where it was read.
    pub source: Source,
}

impl Environment {
    /// What a text says that is not in a file of this machine, under the name that it has elsewhere.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn of_text(name: &str, text: String) -> Result<Self, crate::input::Problems> {
        crate::input::environment_of(name, text)
    }

    /// The cluster that it is about, if it is about one.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.kind {
            Kind::Embedded { .. } => None,
            Kind::Kubernetes(cluster) => Some(cluster),
        }
    }

    /// Whether everything is in this process or on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.cluster().is_none_or(|cluster| matches!(cluster.reach, Reach::Embedded { .. }))
    }

    /// Who may be paused while a component is down.
    #[must_use]
    pub fn pause(&self, component: &str) -> BTreeSet<Opponent> {
        let everywhere = self.cluster().map(|cluster| &cluster.pause).into_iter().flatten();
        let own = self.components.get(component).map(|own| &own.pause).into_iter().flatten();
        everywhere.chain(own).copied().collect()
    }
}

/// Where the stack lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The mock world inside this process, on loopback.
    Embedded {
        /// How fast the mock upstreams answer.
        profile: Profile,
    },
    /// A Kubernetes cluster.
    Kubernetes(Box<Cluster>),
}

/// Named sets of answer times of the mock upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Like the real thing.
    Realistic,
    /// As quick as still makes sense, for tests.
    Fast,
}

/// How the gateway is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// A gateway that already runs; by default the harness starts one (`--gateway`).
    pub url: Option<String>,
    /// Environment variable that holds the master key; by default one is made up for the run.
    pub key_env: Option<String>,
}

/// Something that can be up or down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// LiteLLM aliases that it serves, each belonging to one component only.
    pub aliases: Vec<String>,
    /// How it is taken down here.
    pub down: FaultKind,
    /// How long it may take from heal to serving a completion; also what its restart costs when modes
    /// are put in order.
    pub ready_within: Period,
    /// What the harness may ask of it in one run.
    pub ceilings: Ceilings,
    /// Its URL outside the cluster, `http://` or `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// What runs it in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<ObjectName>,
    /// Where the gateway reaches it in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ObjectName>,
    /// Port of the Service; by default the only one that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What the gateway reaches the endpoint through, where that is a fault gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<EgressProxy>,
    /// Who is paused while it is down, if found, beside those of the whole environment.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pause: BTreeSet<Opponent>,
}

/// A way to take a component down. The embedded world knows the first three, a cluster the last three, both
/// know `nothing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Connections are refused (RST), as by a Service without endpoints; established ones are reset.
    Refuse,
    /// Connects never complete, established connections go silent.
    Blackhole,
    /// Connections are accepted and never answered.
    Stall,
    /// Accepted as a mutation and not done: a control that must never pass.
    Nothing,
    /// The Deployment has no pods.
    ScaleToZero,
    /// Nobody reaches the pods of the Deployment, which run on.
    Isolate,
    /// The gateway's pods cannot reach the endpoint.
    BlackholeBy(Mechanism),
}

impl FaultKind {
    /// The word used in journal and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Blackhole | Self::BlackholeBy(_) => "blackhole",
            Self::Stall => "stall",
            Self::Nothing => "nothing",
            Self::ScaleToZero => "scale-to-zero",
            Self::Isolate => "isolate",
        }
    }
}

/// Limits of what one run may ask of a component; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Requests in a whole run.
    pub requests: Option<u64>,
    /// Tokens (prompt and completion) in a whole run.
    pub tokens: Option<u64>,
    /// Cost in a whole run, in US dollars; needs `usd_per_million_tokens`.
    pub cost_usd: Option<f64>,
    /// Price, for `cost_usd`.
    pub usd_per_million_tokens: Option<f64>,
    /// Requests per second at any time.
    pub rate: Option<Rate>,
}

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The alias that the caller asks for.
    pub model: String,
    /// The order in which other aliases take over (FR217); empty where no chain is configured.
    pub fallbacks: Vec<String>,
    /// Where it enters the stack.
    #[serde(default, skip_serializing_if = "Via::is_gateway")]
    pub via: Via,
}

/// Where a route enters the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// At the gateway itself.
    #[default]
    Gateway,
    /// At openclaw's HTTP API, as a turn of its agent.
    Openclaw,
    /// At openclaw's hook that starts a sub-agent and waits for it.
    OpenclawSubagent,
    /// In a Telegram chat with openclaw's bot.
    Telegram,
}

impl Via {
    /// Whether nothing stands before the gateway.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        *self == Self::Gateway
    }

    /// As in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Openclaw => "openclaw",
            Self::OpenclawSubagent => "openclaw-subagent",
            Self::Telegram => "telegram",
        }
    }
}
