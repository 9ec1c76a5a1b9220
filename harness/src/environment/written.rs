//! An environment file as people write it. The JSON Schema for editors comes from these types; what reads them
//! stands beside each, and a test holds the two together.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{FaultKind, Profile};
use crate::input::at::{At, Entries, FromText, Items, Key, Text, one_of};
use crate::input::checker::Checker;
use crate::input::read::Read;
use crate::input::tree::{Content, Entry, Node};
use crate::units::{Period, Rate};

/// What `ready_within` is where it is left out.
pub(super) const READY_WITHIN: Period = Period::from_secs(30);

/// Where scenarios run: the world, the gateway, how each component is taken down, and the routes.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, title = "Environment")]
pub(crate) struct EnvironmentFile {
    /// Name of the environment: lower-case letters, digits, hyphens.
    #[schemars(regex(pattern = r"^[a-z0-9-]{1,63}$"), extend("examples" = ["local"]))]
    pub(crate) environment: Key<At<String>>,
    /// The mock world inside the harness, on loopback.
    pub(crate) embedded: Key<EmbeddedWritten>,
    /// How the gateway is reached; by default the harness starts one.
    #[schemars(default)]
    pub(crate) gateway: Key<GatewayWritten>,
    /// What can be up or down, by name.
    #[schemars(extend("minProperties" = 1))]
    pub(crate) components: Key<At<Entries<ComponentWritten>>>,
    /// What callers ask for, by name.
    #[schemars(extend("minProperties" = 1))]
    pub(crate) routes: Key<At<Entries<RouteWritten>>>,
}

impl Read for EnvironmentFile {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        if check.is_another_kind(node, &["environment", "embedded", "routes"]) {
            return None;
        }
        check.set_words_for_keys(words_for_key);
        let keys = check.keys(node, &["environment", "embedded", "gateway", "components", "routes"])?;
        let environment = keys.required(check, "environment", "environment: local");
        // One mistake: another kind of world in its place has been said.
        let other_world = ["kubernetes", "containers"].iter().any(|key| node.get(key).is_some());
        let embedded = if other_world {
            keys.optional(check, "embedded")
        } else {
            keys.required(check, "embedded", "embedded: { profile: realistic }")
        };
        Some(Self {
            environment,
            embedded,
            gateway: keys.optional(check, "gateway"),
            components: keys.required(
                check,
                "components",
                "components: { cloud: { aliases: [cloud-kimi], down: blackhole } }",
            ),
            routes: keys.required(check, "routes", "routes: { agent: { model: cloud-kimi } }"),
        })
    }
}

/// Keys of environments that this version does not run.
fn words_for_key(key: &str) -> Option<(String, String)> {
    matches!(key, "kubernetes" | "containers" | "endpoint" | "deployment" | "service" | "pods" | "port").then(
        || {
            (
                format!("unknown key `{key}`: this version runs the embedded world only"),
                "describe the environment with `embedded: { profile: realistic }`".to_owned(),
            )
        },
    )
}

/// The mock world.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Embedded")]
pub(crate) struct EmbeddedWritten {
    /// How fast the mock upstreams answer: like the real thing, or as quick as still makes sense.
    pub(crate) profile: Key<At<Text<Profile>>>,
}

impl Read for EmbeddedWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, &["profile"])?;
        Some(Self { profile: keys.required(check, "profile", "profile: realistic") })
    }
}

const PROFILES: [(&str, Profile); 2] = [("realistic", Profile::Realistic), ("fast", Profile::Fast)];

impl FromText for Profile {
    fn read(text: &str) -> Result<Self, (String, String)> {
        one_of("profile", text, &PROFILES)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}

/// How the gateway is reached.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Gateway")]
pub(crate) struct GatewayWritten {
    /// URL of a gateway that already runs, `http://` or `https://`.
    #[schemars(default, extend("format" = "uri", "pattern" = "^https?://", "examples" = ["http://127.0.0.1:4000"]))]
    pub(crate) url: Key<At<String>>,
    /// Where the gateway's master key is found; never the key itself.
    #[schemars(default)]
    pub(crate) key: Key<KeyWritten>,
}

impl Read for GatewayWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, &["url", "key"])?;
        Some(Self { url: keys.optional(check, "url"), key: keys.optional(check, "key") })
    }
}

/// Where a key is found.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Key")]
pub(crate) struct KeyWritten {
    /// Name of an environment variable: capital letters, digits, underscores.
    #[schemars(regex(pattern = r"^[A-Z_][A-Z0-9_]*$"), extend("examples" = ["LITELLM_MASTER_KEY"]))]
    pub(crate) env: Key<At<String>>,
}

impl Read for KeyWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        if matches!(node.content, Content::Scalar(_) | Content::List(_)) && !node.is_null() {
            check.secret_problem(
                node.place,
                "`key` must not hold the key itself",
                "name the environment variable that holds it: `key: { env: LITELLM_MASTER_KEY }`",
            );
            return None;
        }
        // Whoever writes a key here writes it in all sorts of ways.
        let named =
            |entry: &&Entry| entry.key.value == "env" && matches!(entry.value.content, Content::Scalar(_));
        for entry in node.entries().iter().filter(|entry| !named(entry)) {
            check.hide_all(&entry.value);
        }
        let keys = check.keys(node, &["env"])?;
        let env = if keys.strange {
            keys.optional(check, "env")
        } else {
            keys.required(check, "env", "env: LITELLM_MASTER_KEY")
        };
        Some(Self { env })
    }
}

/// Something that can be up or down.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Component")]
pub(crate) struct ComponentWritten {
    /// LiteLLM aliases that it serves; each belongs to one component only.
    #[schemars(extend("minItems" = 1))]
    pub(crate) aliases: Key<At<Items<At<String>>>>,
    /// How it is taken down here.
    pub(crate) down: Key<At<Fault>>,
    /// How long it may take from heal to serving a completion.
    #[schemars(default, extend("default" = READY_WITHIN))]
    pub(crate) ready_within: Key<At<Text<Period>>>,
    /// What one run may ask of it; unlimited where left out.
    #[schemars(default)]
    pub(crate) ceilings: Key<CeilingsWritten>,
}

impl Read for ComponentWritten {
    const KEYS: &'static [&'static str] = &["aliases", "down", "ready_within", "ceilings"];
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, Self::KEYS)?;
        Some(Self {
            aliases: keys.required(check, "aliases", "aliases: [cloud-kimi]"),
            down: keys.required(check, "down", "down: blackhole"),
            ready_within: keys.optional(check, "ready_within"),
            ceilings: keys.optional(check, "ceilings"),
        })
    }
}

/// A [`FaultKind`] as written.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) FaultKind);

const FAULTS: [(&str, FaultKind); 4] = [
    ("refuse", FaultKind::Refuse),
    ("blackhole", FaultKind::Blackhole),
    ("stall", FaultKind::Stall),
    ("nothing", FaultKind::Nothing),
];

impl Read for Fault {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        if matches!(node.content, Content::Mapping(_)) {
            check.problem(
                node.place,
                "a fault is one word here: this version runs the embedded world only",
                "write `blackhole`, `refuse`, `stall` or `nothing`",
            );
            return None;
        }
        let scalar = check.scalar(node, "one word")?;
        match one_of("fault", &scalar.text, &FAULTS) {
            Ok(kind) => Some(Self(kind)),
            Err((message, hint)) => {
                check.problem(node.place, &message, hint);
                None
            }
        }
    }
}

impl JsonSchema for Fault {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        FaultKind::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        FaultKind::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        FaultKind::json_schema(generator)
    }
}

/// Limits of what one run may ask of a component.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Ceilings")]
pub(crate) struct CeilingsWritten {
    /// Requests in a whole run.
    #[schemars(default, range(min = 1))]
    pub(crate) requests: Key<At<Text<u64>>>,
    /// Tokens, prompt and completion, in a whole run.
    #[schemars(default, range(min = 1))]
    pub(crate) tokens: Key<At<Text<u64>>>,
    /// US dollars in a whole run; needs `usd_per_million_tokens`.
    #[schemars(default)]
    pub(crate) cost_usd: Key<At<Text<f64>>>,
    /// Price, for `cost_usd`.
    #[schemars(default)]
    pub(crate) usd_per_million_tokens: Key<At<Text<f64>>>,
    /// Requests at any time.
    #[schemars(default)]
    pub(crate) rate: Key<At<Text<Rate>>>,
}

impl Read for CeilingsWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let known = ["requests", "tokens", "cost_usd", "usd_per_million_tokens", "rate"];
        let keys = check.keys(node, &known)?;
        Some(Self {
            requests: keys.optional(check, "requests"),
            tokens: keys.optional(check, "tokens"),
            cost_usd: keys.optional(check, "cost_usd"),
            usd_per_million_tokens: keys.optional(check, "usd_per_million_tokens"),
            rate: keys.optional(check, "rate"),
        })
    }
}

/// What a caller asks for.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Route")]
pub(crate) struct RouteWritten {
    /// The alias that the caller asks for.
    pub(crate) model: Key<At<String>>,
    /// The order in which other aliases take over; empty where no chain is configured.
    #[schemars(default, extend("default" = []))]
    pub(crate) fallbacks: Key<Items<At<String>>>,
}

impl Read for RouteWritten {
    const KEYS: &'static [&'static str] = &["model", "fallbacks"];
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, Self::KEYS)?;
        Some(Self {
            model: keys.required(check, "model", "model: cloud-kimi"),
            fallbacks: keys.optional(check, "fallbacks"),
        })
    }
}
