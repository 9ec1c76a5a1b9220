//! What an environment says of a Kubernetes cluster.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Loki, Profile};
use crate::units::Period;

/// A cluster, and what in it may be touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// How its API is reached.
    pub reach: Reach,
    /// Nothing outside these namespaces is ever changed, or read where it belongs to one.
    pub namespaces: Vec<String>,
    /// The gateway in it.
    pub gateway: ClusterGateway,
    /// Image of the containers by which `netns-drop` changes the network of the gateway's pods; `nft` is in it.
    #[serde(default = "nft_image")]
    pub nft_image: String,
    /// Who is paused for every component (and the gateway), if found.
    pub pause: BTreeSet<Opponent>,
    /// How long a run waits for traffic of real users to end before it refuses; `None`: it refuses at once.
    pub postpone: Option<Period>,
    /// Where the log of the gateway's pods is kept, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loki: Option<Loki>,
    /// The client whose migration is looked at; `None` where nobody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openclaw: Option<Openclaw>,
}

/// Where openclaw keeps its configuration, unless it is told otherwise.
pub(crate) const CONFIG_PATH: &str = "/home/node/.openclaw/openclaw.json";

/// openclaw in a cluster; nothing of it is ever changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Openclaw {
    /// What runs it.
    pub deployment: ObjectName,
    /// Its container; `None`: the first one of the pod.
    pub container: Option<String>,
    /// Where its configuration is in the container.
    pub config: String,
    /// What its environment comes from.
    pub secret: ObjectName,
}

/// An image with `nft` in it, where the environment names none.
pub(crate) const NFT_IMAGE: &str = "docker.io/nicolaka/netshoot:v0.13";

fn nft_image() -> String {
    NFT_IMAGE.to_owned()
}

/// How the API of a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// By the service account of the pod that the harness runs in.
    InCluster,
    /// By a context of a kubeconfig, always named: the current context is whatever somebody used last.
    Context {
        /// Its name.
        context: String,
        /// The file; by default those of `KUBECONFIG`, else `~/.kube/config`.
        kubeconfig: Option<PathBuf>,
    },
    /// A mock cluster that is started in this process.
    Embedded {
        /// How fast the mock upstreams answer.
        profile: Profile,
        /// Whose network policies it imitates.
        cni: Cni,
        /// The context of its kubeconfig.
        context: String,
    },
}

/// The fault gate that the gateway's way to an endpoint leads through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressProxy {
    /// Where the gateway reaches it.
    pub service: ObjectName,
    /// What runs it.
    pub deployment: ObjectName,
    /// The port in its pods where it is told what to do.
    pub control: u16,
}

/// Whose way to enforce network policies the mock cluster imitates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cni {
    /// New connections are refused, established ones are kept (kube-router).
    #[default]
    K3s,
    /// New connections hang, established ones are kept.
    Calico,
    /// New and established connections hang.
    Cilium,
    /// New connections hang, established ones do so half a minute later.
    Kindnet,
    /// Policies are accepted and do nothing.
    None,
}

impl Cni {
    /// The word in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::K3s => "k3s",
            Self::Calico => "calico",
            Self::Cilium => "cilium",
            Self::Kindnet => "kindnet",
            Self::None => "none",
        }
    }
}

/// The gateway of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterGateway {
    /// Where callers reach it.
    pub service: ObjectName,
    /// The Service's port.
    pub port: u16,
    /// What runs it.
    pub deployment: ObjectName,
    /// Label selector of its pods, `key=value` pairs separated by commas.
    pub pods: String,
    /// Where the master key is; `None` for a gateway that the harness starts with a key of its own.
    pub key: Option<KeySource>,
}

/// Where a key is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// An environment variable of this program.
    Env(String),
    /// A field of a Secret.
    Secret {
        /// The Secret.
        secret: ObjectName,
        /// Key of its `data`.
        field: String,
    },
}

/// An object of a namespace, written `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// A name in a namespace.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// Why a text is no [`ObjectName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an object of a namespace, `namespace/name`")]
pub struct NotAnObjectName;

impl TryFrom<String> for ObjectName {
    type Error = NotAnObjectName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (namespace, name) = text.split_once('/').ok_or(NotAnObjectName)?;
        let right = is_dns_label(namespace) && is_dns_name(name);
        if right { Ok(Self::new(namespace, name)) } else { Err(NotAnObjectName) }
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.to_string()
    }
}

/// What a namespace, a Service or a container may be called.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let bytes = text.as_bytes();
    matches!(bytes, [first, .., last] | [first @ last] if *first != b'-' && *last != b'-')
        && bytes.len() <= 63
        && bytes.iter().all(|b| inner(*b))
}

/// What most objects may be called: labels with dots between them.
pub(crate) fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// Somebody who would undo a scale, and who can be told to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Opponent {
    /// A HorizontalPodAutoscaler with `minReplicas` of at least 1: it stands aside by itself while the count is 0.
    Hpa,
    /// KEDA: its ScaledObject is annotated as paused.
    Keda,
    /// Argo CD: its Application is annotated to skip reconciling.
    ArgoCd,
    /// Flux: its Kustomization or HelmRelease is suspended.
    Flux,
}

impl Opponent {
    /// All of them, with the word in the file.
    pub const WORDS: [(&'static str, Self); 4] =
        [("hpa", Self::Hpa), ("keda", Self::Keda), ("argo-cd", Self::ArgoCd), ("flux", Self::Flux)];

    /// The word in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, known)| *known == self).map_or("", |(word, _)| word)
    }
}

/// By what the way to an endpoint is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// A NetworkPolicy on the gateway's pods, which the control plane removes when its time is over.
    NetworkPolicy,
    /// A rule in the network namespace of each gateway pod, which the kernel removes when its time is over.
    NetnsDrop,
    /// The fault gate that stands between the gateway and the endpoint for good, and ends a fault by itself.
    EgressProxy,
}

impl Mechanism {
    /// All of them, with the word in the file.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("network-policy", Self::NetworkPolicy),
        ("netns-drop", Self::NetnsDrop),
        ("egress-proxy", Self::EgressProxy),
    ];

    /// The word in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, known)| *known == self).map_or("", |(word, _)| word)
    }
}

#[cfg(test)]
mod tests {
    use super::{ObjectName, is_dns_label, is_dns_name};

    #[test]
    fn names_of_objects_are_those_of_the_api() {
        for right in ["a", "ml", "a-1", "0"] {
            assert!(is_dns_label(right), "{right}");
        }
        for wrong in ["", "-a", "a-", "A", "a.b", "a_b", "a/b", &"a".repeat(64)] {
            assert!(!is_dns_label(wrong), "{wrong}");
        }
        assert!(is_dns_name("a.b-c.d") && !is_dns_name("a..b") && !is_dns_name("a.") && !is_dns_name(""));
    }

    #[test]
    fn an_object_name_reads_back() {
        let name = ObjectName::new("ml", "vllm");
        assert_eq!(ObjectName::try_from(name.to_string()), Ok(name));
        for wrong in ["vllm", "/vllm", "ml/", "ml/a/b", "ml vllm", "Ml/vllm"] {
            assert!(ObjectName::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
