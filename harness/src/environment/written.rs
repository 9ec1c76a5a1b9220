//! An environment file as people write it. The JSON Schema for editors comes from these types; what reads them
//! stands beside each, and a test holds the two together.

mod cluster;
mod loki;
mod openclaw;

use schemars::{JsonSchema, Schema, SchemaGenerator};

pub(super) use self::cluster::{
    CONTROL_PORT, GATEWAY_PORT, GatewayWritten, KeyWritten, KubernetesWritten, OpponentsWritten,
    ProxyWritten, UsersWritten,
};
pub(super) use self::loki::LokiWritten;
pub(super) use self::openclaw::OpenclawWritten;
use super::{Cni, FaultKind, Mechanism, Profile, Via};
use crate::input::at::{At, Entries, FromText, Items, Key, Text, one_of};
use crate::input::checker::Checker;
use crate::input::read::Read;
use crate::input::tree::{Content, Node};
use crate::units::{Period, Rate};

/// What `ready_within` is where it is left out.
pub(super) const READY_WITHIN: Period = Period::from_secs(30);

/// What `ready_within` is where it is left out and a Deployment is scaled back up: models take minutes to load.
pub(super) const READY_WITHIN_OF_PODS: Period = Period::from_secs(15 * 60);

/// Where scenarios run: the world or cluster, the gateway, how each component is taken down, and the routes.
#[derive(Debug, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    title = "Environment",
    extend("anyOf" = [{ "required": ["embedded"] }, { "required": ["kubernetes"] }])
)]
pub(crate) struct EnvironmentFile {
    /// Name of the environment: lower-case letters, digits, hyphens.
    #[schemars(regex(pattern = r"^[a-z0-9-]{1,63}$"), extend("examples" = ["local"]))]
    pub(crate) environment: Key<At<String>>,
    /// The mock world inside the harness, on loopback; with `kubernetes` beside it, behind a mock cluster.
    #[schemars(default)]
    pub(crate) embedded: Key<At<EmbeddedWritten>>,
    /// A Kubernetes cluster.
    #[schemars(default)]
    pub(crate) kubernetes: Key<At<KubernetesWritten>>,
    /// How the gateway is reached; in the embedded world the harness starts one by default.
    #[schemars(default)]
    pub(crate) gateway: Key<At<GatewayWritten>>,
    /// Kubernetes: who may be paused for any component.
    #[schemars(default)]
    pub(crate) opponents: Key<At<OpponentsWritten>>,
    /// Kubernetes: what to do about traffic of real users; by default a run refuses where there is any.
    #[schemars(default)]
    pub(crate) users: Key<At<UsersWritten>>,
    /// Kubernetes: a Loki that keeps the log of the gateway's pods.
    #[schemars(default)]
    pub(crate) loki: Key<At<LokiWritten>>,
    /// Kubernetes: the client whose migration is looked at (FR222, FR223).
    #[schemars(default)]
    pub(crate) openclaw: Key<At<OpenclawWritten>>,
    /// What can be up or down, by name.
    #[schemars(extend("minProperties" = 1))]
    pub(crate) components: Key<At<Entries<ComponentWritten>>>,
    /// What callers ask for, by name.
    #[schemars(extend("minProperties" = 1))]
    pub(crate) routes: Key<At<Entries<RouteWritten>>>,
}

const KEYS: [&str; 10] = [
    "environment",
    "embedded",
    "kubernetes",
    "gateway",
    "opponents",
    "users",
    "loki",
    "openclaw",
    "components",
    "routes",
];

impl Read for EnvironmentFile {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        if check.is_another_kind(node, &["environment", "embedded", "kubernetes", "routes"]) {
            return None;
        }
        check.set_words_for_keys(words_for_key);
        let keys = check.keys(node, &KEYS)?;
        let file = Self {
            environment: keys.required(check, "environment", "environment: local"),
            embedded: keys.optional(check, "embedded"),
            kubernetes: keys.optional(check, "kubernetes"),
            gateway: keys.optional(check, "gateway"),
            opponents: keys.optional(check, "opponents"),
            users: keys.optional(check, "users"),
            loki: keys.optional(check, "loki"),
            openclaw: keys.optional(check, "openclaw"),
            components: keys.required(
                check,
                "components",
                "components: { cloud: { aliases: [cloud-kimi], down: blackhole } }",
            ),
            routes: keys.required(check, "routes", "routes: { agent: { model: cloud-kimi } }"),
        };
        // One mistake: another kind of world in its place has been said.
        if file.embedded.is_absent() && file.kubernetes.is_absent() && node.get("containers").is_none() {
            check.problem(
                node.place,
                "the file does not say where the stack runs",
                "add `embedded: { profile: realistic }`, or `kubernetes: { context: home, namespaces: [ml] }`",
            );
        }
        Some(file)
    }
}

/// Keys of environments that this version does not run.
fn words_for_key(key: &str) -> Option<(String, String)> {
    (key == "containers").then(|| {
        (
            "unknown key `containers`: this version runs the embedded world and Kubernetes".to_owned(),
            "describe the environment with `embedded: { profile: realistic }`".to_owned(),
        )
    })
}

/// The mock world.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Embedded")]
pub(crate) struct EmbeddedWritten {
    /// How fast the mock upstreams answer: like the real thing, or as quick as still makes sense.
    pub(crate) profile: Key<At<Text<Profile>>>,
    /// With `kubernetes`: whose network policies the mock cluster imitates.
    #[schemars(default, extend("default" = Cni::default()))]
    pub(crate) cni: Key<At<Text<Cni>>>,
}

impl Read for EmbeddedWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, &["profile", "cni"])?;
        Some(Self {
            profile: keys.required(check, "profile", "profile: realistic"),
            cni: keys.optional(check, "cni"),
        })
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

/// Something that can be up or down.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Component")]
pub(crate) struct ComponentWritten {
    /// LiteLLM aliases that it serves; each belongs to one component only.
    #[schemars(extend("minItems" = 1))]
    pub(crate) aliases: Key<At<Items<At<String>>>>,
    /// How it is taken down here.
    pub(crate) down: Key<At<Fault>>,
    /// Kubernetes: its URL outside the cluster; what `{ blackhole: ... }` cuts off.
    #[schemars(default, extend("format" = "uri", "pattern" = "^https?://", "examples" = ["https://ollama.com"]))]
    pub(crate) endpoint: Key<At<String>>,
    /// Kubernetes: the Deployment that runs it, `namespace/name`; what `scale-to-zero` and `isolate` act on.
    #[schemars(default, extend("pattern" = cluster::OBJECT_PATTERN, "examples" = ["ml/vllm"]))]
    pub(crate) deployment: Key<At<String>>,
    /// Kubernetes: the Service that the gateway reaches it by; by default it is called as the Deployment.
    #[schemars(default, extend("pattern" = cluster::OBJECT_PATTERN, "examples" = ["ml/vllm"]))]
    pub(crate) service: Key<At<String>>,
    /// Kubernetes: port of the Service; by default the only one that it has.
    #[schemars(default, range(min = 1, max = 65535))]
    pub(crate) port: Key<At<Text<u64>>>,
    /// Kubernetes: the fault gate that the gateway reaches the `endpoint` through; what `egress-proxy` acts on.
    #[schemars(default)]
    pub(crate) proxy: Key<At<ProxyWritten>>,
    /// Kubernetes: who may be paused while it is down, beside those of the whole file.
    #[schemars(default)]
    pub(crate) opponents: Key<At<OpponentsWritten>>,
    /// How long it may take from heal to serving a completion; `15m` where a Deployment is scaled back up.
    #[schemars(default, extend("default" = READY_WITHIN))]
    pub(crate) ready_within: Key<At<Text<Period>>>,
    /// What one run may ask of it; unlimited where left out.
    #[schemars(default)]
    pub(crate) ceilings: Key<CeilingsWritten>,
}

impl Read for ComponentWritten {
    const KEYS: &'static [&'static str] = &[
        "aliases",
        "down",
        "endpoint",
        "deployment",
        "service",
        "port",
        "proxy",
        "opponents",
        "ready_within",
        "ceilings",
    ];
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, Self::KEYS)?;
        Some(Self {
            aliases: keys.required(check, "aliases", "aliases: [cloud-kimi]"),
            down: keys.required(check, "down", "down: blackhole"),
            endpoint: keys.optional(check, "endpoint"),
            deployment: keys.optional(check, "deployment"),
            service: keys.optional(check, "service"),
            port: keys.optional(check, "port"),
            proxy: keys.optional(check, "proxy"),
            opponents: keys.optional(check, "opponents"),
            ready_within: keys.optional(check, "ready_within"),
            ceilings: keys.optional(check, "ceilings"),
        })
    }
}

/// A [`FaultKind`] as written.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) FaultKind);

/// A way to take a component down.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case", rename = "FaultKind")]
#[expect(dead_code, reason = "the schema of a fault; what reads one stands below")]
enum FaultSchema {
    /// Embedded: connections are refused (RST), as by a Service without endpoints; established ones are reset.
    Refuse,
    /// Embedded: connects never complete, established connections go silent.
    Blackhole,
    /// Embedded: connections are accepted and never answered.
    Stall,
    /// Accepted as a mutation and not done: a control that must never pass.
    Nothing,
    /// Kubernetes: the Deployment has no pods.
    ScaleToZero,
    /// Kubernetes: nobody reaches the pods of the Deployment, which run on.
    Isolate,
    /// Kubernetes: the gateway's pods cannot reach the `endpoint`, by this mechanism.
    #[schemars(rename = "blackhole")]
    BlackholeBy(Mechanism),
}

/// The faults that are one word.
const FAULTS: [(&str, FaultKind); 6] = [
    ("refuse", FaultKind::Refuse),
    ("blackhole", FaultKind::Blackhole),
    ("stall", FaultKind::Stall),
    ("nothing", FaultKind::Nothing),
    ("scale-to-zero", FaultKind::ScaleToZero),
    ("isolate", FaultKind::Isolate),
];

const FAULT_HINT: &str = "write one word, or `{ blackhole: network-policy }` with the mechanism in a cluster";

impl Read for Fault {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let (word, mechanism) = match (&node.content, node.entries()) {
            (Content::Mapping(_), [only]) => {
                (At { value: only.key.value.clone(), place: only.key.place }, Some(&only.value))
            }
            (Content::Mapping(_) | Content::List(_), _) => {
                check.wrong_kind(node, "a fault", FAULT_HINT);
                return None;
            }
            _ => {
                let scalar = check.scalar(node, "a fault")?;
                (At { value: scalar.text.clone(), place: node.place }, None)
            }
        };
        let kind = match one_of("fault", &word.value, &FAULTS) {
            Ok(kind) => kind,
            Err((message, hint)) => {
                check.problem(word.place, &message, hint);
                return None;
            }
        };
        match (kind, mechanism) {
            (kind, None) => Some(Self(kind)),
            (FaultKind::Blackhole, Some(node)) => {
                let written =
                    check.part("`blackhole`".to_owned(), |check| At::<Text<Mechanism>>::read(node, check))?;
                check.value(&written).map(|mechanism| Self(FaultKind::BlackholeBy(mechanism)))
            }
            (_, Some(node)) => {
                let message = format!("`{}` takes no value of its own", word.value);
                check.problem(node.place, &message, FAULT_HINT);
                None
            }
        }
    }
}

impl JsonSchema for Fault {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        FaultSchema::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        FaultSchema::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        FaultSchema::json_schema(generator)
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
    /// Embedded: where it enters the stack; what is not `gateway` needs `run --client openclaw`.
    #[schemars(default, extend("default" = Via::default()))]
    pub(crate) via: Key<At<Text<Via>>>,
}

impl Read for RouteWritten {
    const KEYS: &'static [&'static str] = &["model", "fallbacks", "via"];
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, Self::KEYS)?;
        Some(Self {
            model: keys.required(check, "model", "model: cloud-kimi"),
            fallbacks: keys.optional(check, "fallbacks"),
            via: keys.optional(check, "via"),
        })
    }
}

const VIAS: [(&str, Via); 4] = [
    ("gateway", Via::Gateway),
    ("openclaw", Via::Openclaw),
    ("openclaw-subagent", Via::OpenclawSubagent),
    ("telegram", Via::Telegram),
];

impl FromText for Via {
    fn read(text: &str) -> Result<Self, (String, String)> {
        one_of("way", text, &VIAS)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}
