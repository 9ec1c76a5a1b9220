//! What must hold of the parts of an environment file that are about a Kubernetes cluster.

mod loki;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::openclaw::openclaw;
use crate::environment::cluster::{NFT_IMAGE, is_dns_label};
use crate::environment::written::{
    CONTROL_PORT, ComponentWritten, EnvironmentFile, GATEWAY_PORT, GatewayWritten, KeyWritten,
    KubernetesWritten, OpponentsWritten, ProxyWritten,
};
use crate::environment::{
    Cluster, ClusterGateway, Cni, EgressProxy, FaultKind, KeySource, Mechanism, ObjectName, Opponent,
    Profile, Reach,
};
use crate::input::at::{At, Entries, Key, Text};
use crate::input::checker::Checker;
use crate::input::problem::Place;

/// Where the stack of a file runs, as far as that is known.
pub(super) enum World<'w> {
    /// The file does not say, or not so that it could be read.
    Unknown,
    /// In this process.
    Embedded,
    /// In a cluster.
    Cluster {
        /// Those that may be touched, if they are known.
        namespaces: Option<BTreeSet<&'w str>>,
        /// The cluster is in this process.
        mock: bool,
    },
}

impl<'w> World<'w> {
    pub(super) fn of(file: &'w EnvironmentFile) -> Self {
        if file.kubernetes.is_absent() {
            return if file.embedded.is_absent() { Self::Unknown } else { Self::Embedded };
        }
        let listed = file.kubernetes.there().and_then(|written| written.value.namespaces.there());
        let whole = listed.filter(|listed| listed.value.complete && !listed.value.empty);
        let namespaces =
            whole.map(|listed| listed.value.items.iter().map(|name| name.value.as_str()).collect());
        Self::Cluster { namespaces, mock: !file.embedded.is_absent() }
    }

    /// Notes what means nothing without a cluster.
    pub(super) fn no_cluster(&self, check: &mut Checker<'_>, key: &str, place: Option<Place>) {
        if let (Self::Embedded, Some(place)) = (self, place) {
            check.problem(
                place,
                &format!("`{key}` is about a cluster, and this environment has none"),
                "leave it out, or add `kubernetes: { context: home, namespaces: [ml] }`",
            );
        }
    }

    /// An object that the harness may touch.
    pub(super) fn object(
        &self,
        check: &mut Checker<'_>,
        key: &str,
        written: &Key<At<String>>,
    ) -> Option<ObjectName> {
        self.no_cluster(check, key, written.place());
        let written = written.there()?;
        let Ok(name) = ObjectName::try_from(written.value.clone()) else {
            let hint = if written.value.contains('/') {
                "write `namespace/name` in lower-case letters, digits and hyphens".to_owned()
            } else {
                let first = match self {
                    Self::Cluster { namespaces: Some(all), .. } => all.first().copied(),
                    _ => None,
                };
                format!("write it with its namespace, like `{}/{}`", first.unwrap_or("ml"), written.value)
            };
            let message = format!("`{key}` is an object of a namespace, not `{}`", written.value);
            check.problem(written.place, &message, hint);
            return None;
        };
        if let Self::Cluster { namespaces: Some(all), .. } = self
            && !all.contains(name.namespace.as_str())
        {
            let known = check.hint("namespace", &name.namespace, all.iter().copied());
            check.problem(
                written.place,
                &format!("`{name}` lies outside the namespaces of this environment"),
                format!("{known}; nothing outside `kubernetes.namespaces` is touched"),
            );
        }
        Some(name)
    }

    /// A TCP port.
    fn port(&self, check: &mut Checker<'_>, key: &str, written: &Key<At<Text<u64>>>) -> Option<u16> {
        self.no_cluster(check, key, written.place());
        let written = written.there()?;
        let port = u16::try_from(check.value(written)?).ok().filter(|port| *port > 0);
        if port.is_none() {
            check.problem(written.place, "this is not a port", "write a number from 1 to 65535");
        }
        port
    }

    /// Who may be paused.
    pub(super) fn pause(
        &self,
        check: &mut Checker<'_>,
        written: &Key<At<OpponentsWritten>>,
    ) -> BTreeSet<Opponent> {
        self.no_cluster(check, "opponents", written.place());
        let listed = written.there().and_then(|written| written.value.pause.there());
        let Some(listed) = listed else { return BTreeSet::new() };
        if listed.value.empty {
            check.problem(
                listed.place,
                "nobody is named",
                "name who may be paused, or leave `opponents` out",
            );
        }
        let items = &listed.value.items;
        check.no_repeats("opponent", items.iter().map(|item| (item.value.text.as_str(), item.place)));
        items.iter().filter_map(|item| check.value(item)).collect()
    }
}

/// The cluster of an environment that is about one; `None` where something is wrong with it.
pub(super) fn cluster(check: &mut Checker<'_>, file: &EnvironmentFile, world: &World<'_>) -> Option<Cluster> {
    let pause = world.pause(check, &file.opponents);
    world.no_cluster(check, "users", file.users.place());
    let users = file.users.there().and_then(|users| users.value.postpone.there());
    let postpone = users.and_then(|postpone| check.period("postpone", postpone));
    let cni = file.embedded.there().map(|embedded| &embedded.value.cni);
    world.no_cluster(check, "cni", cni.and_then(Key::place));
    world.no_cluster(check, "loki", file.loki.place());
    let openclaw = openclaw(check, &file.openclaw, world);
    let written = file.kubernetes.there()?;
    let namespaces = namespaces(check, &written.value);
    let reach = reach(check, file, written);
    let nft_image = nft_image(check, &written.value);
    let loki = loki::loki(check, file);
    let gateway = match &file.gateway {
        Key::Absent => {
            check.problem(
                written.place,
                "`gateway` is missing in this file",
                "add `gateway: { service: ml/litellm, pods: \"app=litellm\", key: { env: LITELLM_MASTER_KEY } }`",
            );
            None
        }
        Key::Broken => None,
        Key::There(gateway) => self::gateway(check, gateway, world),
    };
    Some(Cluster {
        reach: reach?,
        namespaces: namespaces?,
        gateway: gateway?,
        nft_image: nft_image?,
        pause,
        postpone,
        loki: loki.ok()?,
        openclaw,
    })
}

fn nft_image(check: &mut Checker<'_>, written: &KubernetesWritten) -> Option<String> {
    let written = match &written.nft_image {
        Key::Absent => return Some(NFT_IMAGE.to_owned()),
        Key::Broken => return None,
        Key::There(written) => written,
    };
    let wrong = |c: char| c.is_whitespace() || c.is_control();
    // The API takes no longer names.
    if written.value.is_empty() || written.value.len() > 255 || written.value.contains(wrong) {
        check.problem(
            written.place,
            "this is not the name of an image",
            format!("write it like `{NFT_IMAGE}`, or leave it out"),
        );
        return None;
    }
    Some(written.value.clone())
}

fn namespaces(check: &mut Checker<'_>, written: &KubernetesWritten) -> Option<Vec<String>> {
    let listed = written.namespaces.there()?;
    if listed.value.empty {
        check.problem(
            listed.place,
            "there is no namespace in which anything may be touched",
            "name those of the gateway, the components and the key",
        );
    }
    let items = &listed.value.items;
    for name in items.iter().filter(|name| !is_dns_label(&name.value)) {
        check.problem(
            name.place,
            &format!("`{}` cannot be a namespace", name.value),
            "use lower-case letters, digits and hyphens, at most 63 of them",
        );
    }
    check.no_repeats("namespace", items.iter().map(|name| (name.value.as_str(), name.place)));
    Some(items.iter().map(|name| name.value.clone()).collect())
}

fn reach(check: &mut Checker<'_>, file: &EnvironmentFile, written: &At<KubernetesWritten>) -> Option<Reach> {
    let KubernetesWritten { context, kubeconfig, in_cluster, .. } = &written.value;
    let named = context.there().map(|context| {
        if context.value.trim().is_empty() || context.value.chars().any(char::is_control) {
            check.problem(
                context.place,
                "this is not the name of a context",
                "write it as in the kubeconfig",
            );
        }
        context.value.clone()
    });
    let inside = in_cluster.there().filter(|inside| inside.value);
    if let Some(embedded) = file.embedded.there() {
        let of_its_own = "the mock cluster has a kubeconfig of its own";
        for place in [kubeconfig.place(), inside.map(|inside| inside.place)].into_iter().flatten() {
            check.problem(place, of_its_own, "leave this out, or leave `embedded` out");
        }
        let profile: Profile = check.value(embedded.value.profile.there()?)?;
        let cni = match &embedded.value.cni {
            Key::There(cni) => check.value(cni)?,
            Key::Absent | Key::Broken => Cni::default(),
        };
        return Some(Reach::Embedded { profile, cni, context: named.unwrap_or_else(|| "mock".to_owned()) });
    }
    if !file.embedded.is_absent() {
        return None;
    }
    if inside.is_some() {
        for place in [context.place(), kubeconfig.place()].into_iter().flatten() {
            check.problem(
                place,
                "inside the cluster the service account of the pod is used, and no kubeconfig",
                "leave this out, or leave `in_cluster` out",
            );
        }
        return Some(Reach::InCluster);
    }
    if let Some(file) = kubeconfig.there() {
        if file.value.is_empty() {
            check.problem(file.place, "this is not a file", "name the kubeconfig, or leave this out");
        } else if file.value.starts_with('~') {
            check.problem(file.place, "`~` is not replaced here", "write the whole path");
        }
    }
    if context.is_absent() && !matches!(in_cluster, Key::Broken) {
        check.problem(
            written.place,
            "`context` is missing here: the current context is whatever somebody used last",
            "add `context: home`, or `in_cluster: true`",
        );
    }
    let kubeconfig = kubeconfig.there().map(|file| PathBuf::from(&file.value));
    Some(Reach::Context { context: named?, kubeconfig })
}

/// Notes the parts of a gateway that mean nothing without a cluster.
pub(super) fn plain_gateway(check: &mut Checker<'_>, written: &GatewayWritten, world: &World<'_>) {
    let place_of_secret = written.key.there().and_then(|key| key.secret.place());
    for (key, place) in [
        ("service", written.service.place()),
        ("port", written.port.place()),
        ("deployment", written.deployment.place()),
        ("pods", written.pods.place()),
        ("secret", place_of_secret),
    ] {
        world.no_cluster(check, key, place);
    }
}

fn gateway(
    check: &mut Checker<'_>,
    written: &At<GatewayWritten>,
    world: &World<'_>,
) -> Option<ClusterGateway> {
    let (place, written) = (written.place, &written.value);
    if let Some(url) = written.url.place() {
        check.problem(
            url,
            "the gateway of a cluster is named by its Service, not by a URL",
            "write `service: ml/litellm`; the harness finds the way to it",
        );
    }
    for (key, absent, example) in [
        ("service", written.service.is_absent(), "service: ml/litellm"),
        ("pods", written.pods.is_absent(), "pods: \"app=litellm\""),
    ] {
        if absent {
            let message = format!("`{key}` is missing here: the gateway of a cluster is found by it");
            check.problem(place, &message, format!("add `{example}`"));
        }
    }
    let service = world.object(check, "service", &written.service);
    let deployment = match &written.deployment {
        Key::Absent => service.clone(),
        deployment => world.object(check, "deployment", deployment),
    };
    if let (Some(pods), Some(place)) = (written.pods.there(), written.pods.place())
        && !is_labels(&pods.value)
    {
        check.problem(
            place,
            "this is not a list of labels",
            "write `app=litellm`, with commas between several",
        );
    }
    let port = match &written.port {
        Key::Absent => Some(GATEWAY_PORT),
        port => world.port(check, "port", port),
    };
    let key = match &written.key {
        Key::Absent => {
            if let World::Cluster { mock: false, .. } = world {
                check.problem(
                    place,
                    "`key` is missing here: the harness asks the gateway as its callers do",
                    "add `key: { secret: apps/openclaw-secrets, field: LITELLM_MASTER_KEY }`, or `key: { env: ... }`",
                );
            }
            None
        }
        Key::Broken => None,
        Key::There(key) => key_source(check, key, world),
    };
    Some(ClusterGateway {
        service: service?,
        port: port?,
        deployment: deployment?,
        pods: written.pods.there()?.value.clone(),
        key,
    })
}

fn key_source(check: &mut Checker<'_>, written: &KeyWritten, world: &World<'_>) -> Option<KeySource> {
    if let Some(env) = written.env.there() {
        return Some(KeySource::Env(env.value.clone()));
    }
    if let Some(secret) = written.secret.there()
        && !secret.value.contains('/')
    {
        check.secret_problem(
            secret.place,
            "`secret` is a Secret of a namespace",
            "write its name, like `apps/openclaw-secrets`, never the key itself",
        );
        return None;
    }
    let secret = world.object(check, "secret", &written.secret);
    let field = written.field.there()?;
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let right = !field.value.is_empty() && field.value.len() <= 253 && field.value.bytes().all(known);
    if !right || field.value.starts_with("sk-") {
        check.secret_problem(
            field.place,
            "this is not the name of a field of a Secret",
            "write the name of the field, like `LITELLM_MASTER_KEY`, never the key itself",
        );
    }
    Some(KeySource::Secret { secret: secret?, field: field.value.clone() })
}

/// Of labels of one object each: `key=value`, with commas between them.
fn is_labels(text: &str) -> bool {
    let name = |text: &str, empty: bool| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let end = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        (empty && text.is_empty())
            || (text.len() <= 63
                && text.bytes().all(inner)
                && end(text.bytes().next())
                && end(text.bytes().last()))
    };
    let key = |key: &str| match key.split_once('/') {
        Some((prefix, rest)) => crate::environment::cluster::is_dns_name(prefix) && name(rest, false),
        None => name(key, false),
    };
    text.split(',')
        .all(|pair| pair.trim().split_once('=').is_some_and(|(left, right)| key(left) && name(right, true)))
}

/// Where a component is, in a cluster.
#[derive(Default)]
pub(super) struct Whereabouts {
    pub(super) endpoint: Option<String>,
    pub(super) deployment: Option<ObjectName>,
    pub(super) service: Option<ObjectName>,
    pub(super) port: Option<u16>,
    pub(super) proxy: Option<EgressProxy>,
    pub(super) pause: BTreeSet<Opponent>,
}

/// Where a component is, and whether its fault can be made there.
pub(super) fn whereabouts(
    check: &mut Checker<'_>,
    written: &ComponentWritten,
    world: &World<'_>,
) -> Whereabouts {
    let deployment = world.object(check, "deployment", &written.deployment);
    let service = match &written.service {
        Key::Absent => deployment.clone(),
        service => world.object(check, "service", service),
    };
    world.no_cluster(check, "endpoint", written.endpoint.place());
    if let Some(endpoint) = written.endpoint.there() {
        self::endpoint(check, endpoint);
    }
    if let Some(down) = written.down.there() {
        fault(check, down.place, down.value.0, written, world);
    }
    Whereabouts {
        endpoint: written.endpoint.there().map(|endpoint| endpoint.value.clone()),
        deployment,
        service,
        port: world.port(check, "port", &written.port),
        proxy: proxy(check, &written.proxy, world),
        pause: world.pause(check, &written.opponents),
    }
}

/// The gate before an endpoint.
fn proxy(check: &mut Checker<'_>, written: &Key<At<ProxyWritten>>, world: &World<'_>) -> Option<EgressProxy> {
    world.no_cluster(check, "proxy", written.place());
    let World::Cluster { .. } = world else { return None };
    let written = &written.there()?.value;
    let service = world.object(check, "service", &written.service);
    let deployment = match &written.deployment {
        Key::Absent => service.clone(),
        deployment => world.object(check, "deployment", deployment),
    };
    let control = match &written.control {
        Key::Absent => Some(CONTROL_PORT),
        control => world.port(check, "control", control),
    };
    Some(EgressProxy { service: service?, deployment: deployment?, control: control? })
}

fn endpoint(check: &mut Checker<'_>, written: &At<String>) {
    match reqwest::Url::parse(&written.value) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => check.secret_problem(
            written.place,
            "the URL holds a user name or password",
            "leave them out: only the host and the port are of interest",
        ),
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
        _ => check.problem(
            written.place,
            "this is not the URL of an endpoint",
            "write it like `https://ollama.com`",
        ),
    }
}

/// Whether a fault can be made here.
fn fault(
    check: &mut Checker<'_>,
    place: Place,
    kind: FaultKind,
    written: &ComponentWritten,
    world: &World<'_>,
) {
    let word = kind.word();
    match (world, kind) {
        (World::Embedded, FaultKind::ScaleToZero | FaultKind::Isolate) => check.problem(
            place,
            &format!("`{word}` is a fault of a cluster, and this environment has none"),
            "write `blackhole`, `refuse`, `stall` or `nothing`",
        ),
        (World::Embedded, FaultKind::BlackholeBy(_)) => check.problem(
            place,
            "a mechanism is for a cluster, and this environment has none",
            "write `blackhole` alone",
        ),
        (World::Cluster { .. }, FaultKind::Refuse | FaultKind::Stall) => check.problem(
            place,
            &format!("`{word}` is a fault of the embedded world"),
            "write `scale-to-zero`, `isolate`, `{ blackhole: network-policy }` or `nothing`",
        ),
        (World::Cluster { .. }, FaultKind::Blackhole) => check.problem(
            place,
            "`blackhole` does not say by what the way is cut",
            "write `{ blackhole: network-policy }`, `{ blackhole: netns-drop }` or `{ blackhole: egress-proxy }`",
        ),
        (World::Cluster { .. }, FaultKind::ScaleToZero | FaultKind::Isolate)
            if written.deployment.is_absent() =>
        {
            check.problem(
                place,
                &format!("`{word}` needs a Deployment"),
                "add `deployment: ml/vllm` to this component",
            );
        }
        (World::Cluster { .. }, FaultKind::BlackholeBy(_)) if written.endpoint.is_absent() => check.problem(
            place,
            "`blackhole` needs an endpoint to cut off",
            "add `endpoint: \"https://ollama.com\"` to this component",
        ),
        (World::Cluster { .. }, FaultKind::BlackholeBy(mechanism))
            if mechanism == Mechanism::EgressProxy && written.proxy.is_absent() =>
        {
            check.problem(
                place,
                "`egress-proxy` needs the gate that stands before the endpoint",
                "add `proxy: { service: ml/egress-gate }` to this component",
            );
        }
        _ => {}
    }
}

/// Notes what two components share: a fault of one would be a fault of the other.
pub(super) fn no_sharing(
    check: &mut Checker<'_>,
    components: &At<Entries<ComponentWritten>>,
    gateway: Option<&GatewayWritten>,
) {
    let own = gateway.and_then(|gateway| match &gateway.deployment {
        Key::Absent => gateway.service.there(),
        deployment => deployment.there(),
    });
    let mut deployments: BTreeMap<&str, &str> = BTreeMap::new();
    let mut hosts: BTreeMap<String, &str> = BTreeMap::new();
    let mut gates: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, component) in &components.value.0 {
        let Some(component) = component else { continue };
        if let Some(deployment) = component.deployment.there() {
            if own.is_some_and(|own| own.value == deployment.value) {
                check.problem(
                    deployment.place,
                    &format!("Deployment `{}` is the gateway", deployment.value),
                    "name the Deployment that serves this component's models",
                );
            } else if let Some(owner) = deployments.insert(&deployment.value, &name.value) {
                check.problem(
                    deployment.place,
                    &format!("Deployment `{}` already belongs to component `{owner}`", deployment.value),
                    "what goes down together is one component",
                );
            }
        }
        if let Some(gate) = component.proxy.there().and_then(|proxy| proxy.value.runs_as())
            && let Some(owner) = gates.insert(&gate.value, &name.value)
        {
            check.problem(
                gate.place,
                &format!("the gate `{}` already stands before component `{owner}`", gate.value),
                "give each component a gate of its own, or make them one component",
            );
        }
        let host = |text: &str| reqwest::Url::parse(text).ok()?.host_str().map(str::to_owned);
        if let Some(endpoint) = component.endpoint.there()
            && let Some(host) = host(&endpoint.value)
            && let Some(owner) = hosts.insert(host.clone(), &name.value)
        {
            check.problem(
                endpoint.place,
                &format!("`{host}` is already the endpoint of component `{owner}`"),
                "what goes down together is one component",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_labels;

    #[test]
    fn labels_are_pairs_of_what_the_api_allows() {
        for right in ["app=litellm", "app=litellm,tier=edge", "app.kubernetes.io/name=litellm", "app="] {
            assert!(is_labels(right), "{right}");
        }
        for wrong in ["", "app", "app=a,", "=a", "app in (a,b)", "app!=a", "app=a b", "App/=a", "app=-a"] {
            assert!(!is_labels(wrong), "{wrong}");
        }
    }
}
