//! An environment file as people write it. The JSON Schema for editors comes from these types.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{FaultKind, Profile};
use crate::input::at::{At, Entries, Text};
use crate::input::yaml::Document;
use crate::units::{Period, Rate};

/// Where scenarios run: the world, the gateway, how each component is taken down, and the routes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Environment")]
pub(crate) struct EnvironmentFile {
    /// Name of the environment: lower-case letters, digits, hyphens.
    #[schemars(regex(pattern = r"^[a-z0-9-]{1,63}$"))]
    pub(crate) environment: At<String>,
    /// The mock world inside the harness, on loopback.
    pub(crate) embedded: EmbeddedWritten,
    /// How the gateway is reached; by default the harness starts one.
    #[serde(default)]
    pub(crate) gateway: GatewayWritten,
    /// What can be up or down, by name.
    #[schemars(extend("minProperties" = 1))]
    pub(crate) components: At<Entries<ComponentWritten>>,
    /// What callers ask for, by name.
    #[schemars(extend("minProperties" = 1))]
    pub(crate) routes: At<Entries<RouteWritten>>,
}

impl Document for EnvironmentFile {
    fn unknown_key(key: &str) -> Option<(String, String)> {
        matches!(key, "kubernetes" | "containers" | "endpoint" | "deployment" | "service" | "pods" | "port")
            .then(|| {
                (
                    format!("unknown key `{key}`: this version runs the embedded world only"),
                    "describe the environment with `embedded: { profile: realistic }`".to_owned(),
                )
            })
    }

    const CHOICE_HINT: &'static str =
        "this version runs the embedded world only: write `blackhole`, `refuse`, `stall` or `nothing`";
}

/// The mock world.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Embedded")]
pub(crate) struct EmbeddedWritten {
    /// How fast the mock upstreams answer: like the real thing, or as quick as still makes sense.
    pub(crate) profile: Profile,
}

/// How the gateway is reached.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Gateway")]
pub(crate) struct GatewayWritten {
    /// URL of a gateway that already runs, `http://` or `https://`.
    #[schemars(extend("format" = "uri", "pattern" = "^https?://"))]
    pub(crate) url: Option<At<String>>,
    /// Where the gateway's master key is found; never the key itself.
    pub(crate) key: Option<KeyWritten>,
}

/// Where a key is found.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Key")]
pub(crate) struct KeyWritten {
    /// Name of an environment variable.
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub(crate) env: At<String>,
}

/// Something that can be up or down.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Component")]
pub(crate) struct ComponentWritten {
    /// LiteLLM aliases that it serves; each belongs to one component only.
    #[schemars(length(min = 1))]
    pub(crate) aliases: At<Vec<At<String>>>,
    /// How it is taken down here.
    pub(crate) down: FaultKind,
    /// How long it may take from heal to serving a completion.
    #[serde(default = "half_a_minute")]
    pub(crate) ready_within: At<Text<Period>>,
    /// What one run may ask of it; unlimited where left out.
    #[serde(default)]
    pub(crate) ceilings: CeilingsWritten,
}

/// Limits of what one run may ask of a component.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Ceilings")]
pub(crate) struct CeilingsWritten {
    /// Requests in a whole run.
    #[schemars(range(min = 1))]
    pub(crate) requests: Option<At<Text<u64>>>,
    /// Tokens, prompt and completion, in a whole run.
    #[schemars(range(min = 1))]
    pub(crate) tokens: Option<At<Text<u64>>>,
    /// US dollars in a whole run; needs `usd_per_million_tokens`.
    pub(crate) cost_usd: Option<At<Text<f64>>>,
    /// Price, for `cost_usd`.
    pub(crate) usd_per_million_tokens: Option<At<Text<f64>>>,
    /// Requests at any time.
    pub(crate) rate: Option<At<Text<Rate>>>,
}

/// What a caller asks for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Route")]
pub(crate) struct RouteWritten {
    /// The alias that the caller asks for.
    pub(crate) model: At<String>,
    /// The order in which other aliases take over; empty where no chain is configured.
    #[serde(default)]
    pub(crate) fallbacks: Vec<At<String>>,
}

fn half_a_minute() -> At<Text<Period>> {
    At::nowhere(Text::new("30s"))
}
