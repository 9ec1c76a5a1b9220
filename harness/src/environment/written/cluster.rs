//! The parts of an environment file that only a Kubernetes cluster has, and those where it says more.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::environment::cluster::NFT_IMAGE;
use crate::environment::{Cni, Mechanism, Opponent};
use crate::input::at::{At, FromText, Items, Key, Text, one_of};
use crate::input::checker::Checker;
use crate::input::read::Read;
use crate::input::tree::{Content, Entry, Node};
use crate::units::Period;

/// A Kubernetes cluster; with `embedded` beside it, a mock one.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Kubernetes")]
pub(crate) struct KubernetesWritten {
    /// The context of the kubeconfig. Required except with `in_cluster` or `embedded`: the current one is never used.
    #[schemars(default, extend("examples" = ["home"]))]
    pub(crate) context: Key<At<String>>,
    /// The kubeconfig; by default those that `KUBECONFIG` names, else `~/.kube/config`.
    #[schemars(default)]
    pub(crate) kubeconfig: Key<At<String>>,
    /// The harness runs in a pod of the cluster, with the rights of its service account.
    #[schemars(default, extend("default" = false))]
    pub(crate) in_cluster: Key<At<bool>>,
    /// Nothing outside these namespaces is ever changed.
    #[schemars(extend("minItems" = 1))]
    pub(crate) namespaces: Key<At<Items<At<String>>>>,
    /// Image with `nft` for `{ blackhole: netns-drop }`; it is run in the gateway's pods.
    #[schemars(default, extend("pattern" = r"^\S+$", "maxLength" = 255, "default" = NFT_IMAGE))]
    pub(crate) nft_image: Key<At<String>>,
}

impl Read for KubernetesWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, &["context", "kubeconfig", "in_cluster", "namespaces", "nft_image"])?;
        Some(Self {
            context: keys.optional(check, "context"),
            kubeconfig: keys.optional(check, "kubeconfig"),
            in_cluster: keys.optional(check, "in_cluster"),
            namespaces: keys.required(check, "namespaces", "namespaces: [ml]"),
            nft_image: keys.optional(check, "nft_image"),
        })
    }
}

/// How the gateway is reached.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Gateway")]
pub(crate) struct GatewayWritten {
    /// URL of a gateway that already runs, `http://` or `https://`; not in a cluster.
    #[schemars(default, extend("format" = "uri", "pattern" = "^https?://", "examples" = ["http://127.0.0.1:4000"]))]
    pub(crate) url: Key<At<String>>,
    /// Kubernetes: the Service that callers use, `namespace/name`. Required in a cluster.
    #[schemars(default, extend("pattern" = OBJECT_PATTERN, "examples" = ["ml/litellm"]))]
    pub(crate) service: Key<At<String>>,
    /// Kubernetes: port of that Service.
    #[schemars(default, range(min = 1, max = 65535), extend("default" = GATEWAY_PORT))]
    pub(crate) port: Key<At<Text<u64>>>,
    /// Kubernetes: the Deployment that runs the gateway, `namespace/name`; by default it is called as the Service.
    #[schemars(default, extend("pattern" = OBJECT_PATTERN, "examples" = ["ml/litellm"]))]
    pub(crate) deployment: Key<At<String>>,
    /// Kubernetes: the labels of the gateway's pods, and of no others. Required in a cluster.
    #[schemars(default, extend("examples" = ["app=litellm"]))]
    pub(crate) pods: Key<At<String>>,
    /// Where the gateway's master key is found; never the key itself. Required in a real cluster.
    #[schemars(default)]
    pub(crate) key: Key<KeyWritten>,
}

/// `namespace/name`.
pub(super) const OBJECT_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-.a-z0-9]*[a-z0-9])?$";
/// Where LiteLLM listens unless it is told otherwise.
pub(crate) const GATEWAY_PORT: u16 = 4000;

impl Read for GatewayWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, &["url", "service", "port", "deployment", "pods", "key"])?;
        Some(Self {
            url: keys.optional(check, "url"),
            service: keys.optional(check, "service"),
            port: keys.optional(check, "port"),
            deployment: keys.optional(check, "deployment"),
            pods: keys.optional(check, "pods"),
            key: keys.optional(check, "key"),
        })
    }
}

/// The fault gate that a gateway reaches an endpoint through.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Proxy")]
pub(crate) struct ProxyWritten {
    /// The Service that the name in `endpoint` leads to, `namespace/name`.
    #[schemars(extend("pattern" = OBJECT_PATTERN, "examples" = ["ml/egress-gate"]))]
    pub(crate) service: Key<At<String>>,
    /// The Deployment that runs `harness gate`; by default it is called as the Service.
    #[schemars(default, extend("pattern" = OBJECT_PATTERN, "examples" = ["ml/egress-gate"]))]
    pub(crate) deployment: Key<At<String>>,
    /// Port of its control in the pods, reached by a port-forward.
    #[schemars(default, range(min = 1, max = 65535), extend("default" = CONTROL_PORT))]
    pub(crate) control: Key<At<Text<u64>>>,
}

impl ProxyWritten {
    /// What names its Deployment.
    pub(crate) fn runs_as(&self) -> Option<&At<String>> {
        match &self.deployment {
            Key::Absent => self.service.there(),
            deployment => deployment.there(),
        }
    }
}

/// Where `harness gate` is told what to do unless it is told otherwise.
pub(crate) const CONTROL_PORT: u16 = 9099;

impl Read for ProxyWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, &["service", "deployment", "control"])?;
        Some(Self {
            service: keys.required(check, "service", "service: ml/egress-gate"),
            deployment: keys.optional(check, "deployment"),
            control: keys.optional(check, "control"),
        })
    }
}

/// Where a key is found: in an environment variable, or in a field of a Secret.
#[derive(Debug, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    rename = "Key",
    extend("oneOf" = [
        { "required": ["env"], "not": { "anyOf": [{ "required": ["secret"] }, { "required": ["field"] }] } },
        { "required": ["secret", "field"], "not": { "required": ["env"] } },
    ])
)]
pub(crate) struct KeyWritten {
    /// Name of an environment variable: capital letters, digits, underscores.
    #[schemars(default, regex(pattern = r"^[A-Z_][A-Z0-9_]*$"), extend("examples" = ["LITELLM_MASTER_KEY"]))]
    pub(crate) env: Key<At<String>>,
    /// Kubernetes: a Secret, `namespace/name`.
    #[schemars(default, extend("pattern" = OBJECT_PATTERN, "examples" = ["apps/openclaw-secrets"]))]
    pub(crate) secret: Key<At<String>>,
    /// Kubernetes: which key of the Secret's data.
    #[schemars(default, regex(pattern = r"^[-._a-zA-Z0-9]+$"), extend("examples" = ["LITELLM_MASTER_KEY"]))]
    pub(crate) field: Key<At<String>>,
}

const KEY_HINT: &str = "name the environment variable that holds it: `key: { env: LITELLM_MASTER_KEY }`";

impl Read for KeyWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        if matches!(node.content, Content::Scalar(_) | Content::List(_)) && !node.is_null() {
            check.secret_problem(node.place, "`key` must not hold the key itself", KEY_HINT);
            return None;
        }
        // Whoever writes a key here writes it in all sorts of ways.
        let named = |entry: &&Entry| {
            matches!(entry.key.value.as_str(), "env" | "secret" | "field")
                && matches!(entry.value.content, Content::Scalar(_))
        };
        for entry in node.entries().iter().filter(|entry| !named(entry)) {
            check.hide_all(&entry.value);
        }
        let keys = check.keys(node, &["env", "secret", "field"])?;
        let written = Self {
            env: keys.optional(check, "env"),
            secret: keys.optional(check, "secret"),
            field: keys.optional(check, "field"),
        };
        let says = |key: &Key<At<String>>| !key.is_absent();
        if says(&written.env) && (says(&written.secret) || says(&written.field)) {
            check.problem(
                node.place,
                "a key is in an environment variable or in a Secret, not in both",
                "keep `env`, or `secret` and `field`",
            );
        } else if says(&written.secret) != says(&written.field) {
            let missing = if says(&written.secret) { "field" } else { "secret" };
            check.problem(
                node.place,
                &format!("`{missing}` is missing here: a key is in a field of a Secret"),
                "write it like `key: { secret: apps/openclaw-secrets, field: LITELLM_MASTER_KEY }`",
            );
        } else if !says(&written.env) && !says(&written.secret) && !keys.strange {
            check.problem(node.place, "`key` does not say where the key is", KEY_HINT);
        }
        Some(written)
    }
}

/// Who would fight a fault, and may be told to wait.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Opponents")]
pub(crate) struct OpponentsWritten {
    /// Those that may be paused where they are found; without this a run refuses.
    pub(crate) pause: Key<At<Items<At<Text<Opponent>>>>>,
}

impl Read for OpponentsWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, &["pause"])?;
        Some(Self { pause: keys.required(check, "pause", "pause: [argo-cd]") })
    }
}

/// What to do about traffic of real users on the gateway.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Users")]
pub(crate) struct UsersWritten {
    /// How long a run waits for their traffic to end before it refuses.
    pub(crate) postpone: Key<At<Text<Period>>>,
}

impl Read for UsersWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, &["postpone"])?;
        Some(Self { postpone: keys.required(check, "postpone", "postpone: 10m") })
    }
}

impl FromText for Mechanism {
    fn read(text: &str) -> Result<Self, (String, String)> {
        one_of("mechanism", text, &Self::WORDS)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}

impl FromText for Opponent {
    fn read(text: &str) -> Result<Self, (String, String)> {
        one_of("opponent", text, &Self::WORDS)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}

impl FromText for Cni {
    fn read(text: &str) -> Result<Self, (String, String)> {
        let all = [Self::K3s, Self::Calico, Self::Cilium, Self::Kindnet, Self::None];
        one_of("kind of network", text, &all.map(|cni| (cni.word(), cni)))
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}
