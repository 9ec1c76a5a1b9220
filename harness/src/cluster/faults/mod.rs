//! The faults that are made by objects of the cluster: what each needs to read, what it changes, and what keeps it
//! from being made.

mod egress_proxy;
pub mod gate;
pub mod isolate;
pub mod netns;
pub mod policy;
pub mod scale;

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::access::{Access, CallError, found};
use super::mutation::Mutation;
use super::opponents;
use super::refusals::{self, Fields, Refusal, Source, Sources};
use crate::environment::{Cluster, Component, Environment, FaultKind, Mechanism, ObjectName};
use crate::units::Period;

/// A fault that is asked for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Component of the environment.
    pub component: &'a str,
    /// The run, whose id the objects carry.
    pub run: &'a str,
    /// When the control plane ends it by itself, for faults that can be ended so.
    pub deadline: Period,
    /// The addresses of the component's endpoint as the gateway's pods resolve it; empty while nobody has asked them.
    pub targets: BTreeSet<IpAddr>,
}

/// What a fault comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prepared {
    /// What is changed, in order; the undo goes the other way.
    pub mutations: Vec<Mutation>,
    /// Why it is not made; empty where it can be.
    pub refusals: Vec<Refusal>,
    /// What a person should know before.
    pub warnings: Vec<String>,
}

/// Reads what a fault depends on, and says what it would change or why it cannot be made. Changes nothing.
///
/// # Errors
/// Where something that it depends on cannot be read.
pub async fn prepare(
    access: &Access,
    environment: &Environment,
    wanted: &Wanted<'_>,
) -> Result<Prepared, CallError> {
    let (Some(cluster), Some(component)) =
        (environment.cluster(), environment.components.get(wanted.component))
    else {
        return Ok(Prepared::default());
    };
    match (component.down, &component.deployment) {
        (FaultKind::ScaleToZero, Some(deployment)) => {
            scale_to_zero(access, environment, wanted, deployment).await
        }
        (FaultKind::Isolate, Some(deployment)) => isolated(access, wanted, deployment).await,
        (FaultKind::BlackholeBy(Mechanism::NetworkPolicy), _) => {
            blackholed(access, cluster, component, wanted).await
        }
        (FaultKind::BlackholeBy(Mechanism::NetnsDrop), _) => {
            netns::prepare(access, cluster, component, wanted).await
        }
        (FaultKind::BlackholeBy(Mechanism::EgressProxy), _) => {
            egress_proxy::prepare(access, cluster, component, wanted).await
        }
        _ => Ok(Prepared::default()),
    }
}

async fn scale_to_zero(
    access: &Access,
    environment: &Environment,
    wanted: &Wanted<'_>,
    deployment: &ObjectName,
) -> Result<Prepared, CallError> {
    let (scale, refusals) = scale::prepare(access, deployment).await?;
    let mut prepared = Prepared { refusals, ..Prepared::default() };
    if let Some(scale) = scale {
        let seen = opponents::look(access, deployment).await?;
        let verdict = opponents::judge(&seen, &environment.pause(wanted.component), access.namespaces());
        prepared.mutations.extend(verdict.pauses.into_iter().map(|pause| Mutation::Pause(Box::new(pause))));
        prepared.mutations.push(Mutation::Scale(scale));
        prepared.refusals.extend(verdict.refusals);
        prepared.warnings.extend(verdict.warnings);
    }
    Ok(prepared)
}

async fn isolated(
    access: &Access,
    wanted: &Wanted<'_>,
    deployment: &ObjectName,
) -> Result<Prepared, CallError> {
    let object = found(access.get::<Deployment>(deployment).await)?;
    let mut prepared = Prepared {
        refusals: refusals::target(deployment, object.as_ref(), &access.kubectl()),
        ..Prepared::default()
    };
    let Some(spec) = object.and_then(|object| object.spec) else { return Ok(prepared) };
    let labels = spec.template.metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
    let policies: Vec<NetworkPolicy> = access.list(Some(&deployment.namespace), "").await?;
    prepared.refusals.extend(refusals::ingress(deployment, &labels, &policies));
    prepared.mutations.extend(isolating(deployment, &spec.selector, wanted));
    Ok(prepared)
}

/// The gateway and the pods of its namespace, with what speaks against cutting it off from a host; nothing of them where
/// there is no gateway.
async fn cut_off(
    access: &Access,
    cluster: &Cluster,
    host: &str,
) -> Result<(Prepared, Option<(DeploymentSpec, Vec<Pod>)>), CallError> {
    let gateway = &cluster.gateway.deployment;
    let object = found(access.get::<Deployment>(gateway).await)?;
    let mut prepared = Prepared {
        refusals: refusals::target(gateway, object.as_ref(), &access.kubectl()),
        ..Prepared::default()
    };
    let Some(object) = object else { return Ok((prepared, None)) };
    let pods: Vec<Pod> = access.list(Some(&gateway.namespace), "").await?;
    prepared.refusals.extend(refusals::gateway_pods(gateway, &object, &cluster.gateway.pods, &pods));
    let sources = sources(access, &object, &gateway.namespace).await?;
    prepared.refusals.extend(refusals::gateway_template(gateway, &object, host, &sources));
    prepared.warnings.extend(unknown_proxies(gateway, &object, host, &sources));
    Ok((prepared, object.spec.map(|spec| (spec, pods))))
}

/// What the gateway's containers take variables from.
async fn sources(access: &Access, gateway: &Deployment, namespace: &str) -> Result<Sources, CallError> {
    let pod = gateway.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let mut known = Sources::new();
    for source in pod.map(refusals::sources).unwrap_or_default() {
        let fields = match &source {
            Source::ConfigMap(name) => {
                let map = access.find::<ConfigMap>(&ObjectName::new(namespace, name)).await;
                map.map(|map| map.map(|map| Fields::Values(map.data.unwrap_or_default())))
            }
            Source::Secret(name) => {
                let secret = access.find::<Secret>(&ObjectName::new(namespace, name)).await;
                let names = |secret: Secret| secret.data.unwrap_or_default().into_keys().collect();
                secret.map(|secret| secret.map(|secret| Fields::Names(names(secret))))
            }
        };
        match fields {
            // One that is not there sets nothing; a pod that needs it does not start.
            Ok(fields) => known.extend(fields.map(|fields| (source, fields))),
            Err(error) if error.is_forbidden() => _ = known.insert(source, Fields::Unread),
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}

fn unknown_proxies(name: &ObjectName, gateway: &Deployment, host: &str, sources: &Sources) -> Vec<String> {
    let pod = gateway.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    pod.map(|pod| refusals::unknown_proxies(name, pod, host, sources)).unwrap_or_default()
}

async fn blackholed(
    access: &Access,
    cluster: &Cluster,
    component: &Component,
    wanted: &Wanted<'_>,
) -> Result<Prepared, CallError> {
    let gateway = &cluster.gateway.deployment;
    let host = component.endpoint.as_deref().and_then(host_of).unwrap_or_default();
    let (mut prepared, found) = cut_off(access, cluster, &host).await?;
    let Some((spec, _)) = found else { return Ok(prepared) };
    let labels = spec.template.metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
    let policies: Vec<NetworkPolicy> = access.list(Some(&gateway.namespace), "").await?;
    prepared.refusals.extend(refusals::egress(gateway, &labels, &policies, &wanted.targets));
    prepared.mutations.extend(cutting(gateway, &host, &spec.selector, wanted));
    Ok(prepared)
}

/// What lets nobody reach the pods of a backend.
fn isolating(deployment: &ObjectName, selector: &LabelSelector, wanted: &Wanted<'_>) -> [Mutation; 2] {
    let (anchor, policy) = policy::anchored(
        &deployment.namespace,
        &format!("isolate-{}", wanted.component),
        wanted.run,
        wanted.deadline,
        format!("nobody reaches the pods of Deployment {deployment}"),
        isolate::nobody_in(selector),
    );
    [Mutation::Anchor(anchor), Mutation::Policy(Box::new(policy))]
}

/// What keeps the gateway's pods from a host.
fn cutting(gateway: &ObjectName, host: &str, selector: &LabelSelector, wanted: &Wanted<'_>) -> [Mutation; 2] {
    let addresses = if wanted.targets.is_empty() {
        "as they resolve it".to_owned()
    } else {
        policy::listed(&wanted.targets)
    };
    let (anchor, policy) = policy::anchored(
        &gateway.namespace,
        &format!("blackhole-{}", wanted.component),
        wanted.run,
        wanted.deadline,
        format!("the pods of Deployment {gateway} cannot reach {host} ({addresses})"),
        policy::everything_but(selector, &wanted.targets),
    );
    [Mutation::Anchor(anchor), Mutation::Policy(Box::new(policy))]
}

/// What a fault would change in a cluster that is not there yet, and what undoes it, in words: all that the environment
/// itself says.
#[must_use]
pub fn foreseen(environment: &Environment, wanted: &Wanted<'_>) -> Vec<(String, String)> {
    let (Some(cluster), Some(component)) =
        (environment.cluster(), environment.components.get(wanted.component))
    else {
        return Vec::new();
    };
    let gateway = &cluster.gateway.deployment;
    let host = component.endpoint.as_deref().and_then(host_of).unwrap_or_default();
    let words = |made: [Mutation; 2]| made.map(|one| (one.words(), one.undo_words())).to_vec();
    match (component.down, &component.deployment) {
        (FaultKind::ScaleToZero, Some(deployment)) => vec![(
            format!("scale Deployment {deployment} from the count that it has to 0"),
            format!("scale Deployment {deployment} back to that count"),
        )],
        (FaultKind::Isolate, Some(deployment)) => {
            words(isolating(deployment, &LabelSelector::default(), wanted))
        }
        (FaultKind::BlackholeBy(Mechanism::NetworkPolicy), _) => {
            words(cutting(gateway, &host, &LabelSelector::default(), wanted))
        }
        (FaultKind::BlackholeBy(Mechanism::NetnsDrop), _) => vec![(
            format!("drop what each pod of Deployment {gateway} sends to {host}, by a packet filter"),
            "take the packet filters away".to_owned(),
        )],
        (FaultKind::BlackholeBy(Mechanism::EgressProxy), _) => vec![(
            format!("let the gate before {} fall silent", wanted.component),
            "let it pass again".to_owned(),
        )],
        _ => Vec::new(),
    }
}

/// The host of an endpoint's URL.
#[must_use]
pub fn host_of(endpoint: &str) -> Option<String> {
    reqwest::Url::parse(endpoint).ok()?.host_str().map(str::to_owned)
}

/// The name of an object of a run: `drill-<what>-<run>`, as the API accepts it.
#[must_use]
pub fn object_name(what: &str, run: &str) -> String {
    let name = format!("drill-{what}-{run}").to_ascii_lowercase();
    let allowed = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let name: String = name.chars().map(allowed).collect();
    // The run is at the end and tells one name from another, so the beginning is what is cut.
    let start = name.len().saturating_sub(63);
    name[start..].trim_matches('-').to_owned()
}

/// Whether an object is called as those of a run are.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    name.starts_with("drill-")
}

#[cfg(test)]
mod tests {
    use super::object_name;

    #[test]
    fn names_of_objects_are_names_of_the_api() {
        assert_eq!(
            object_name("blackhole-cloud", "20261123T004551Z-0a1b2c"),
            "drill-blackhole-cloud-20261123t004551z-0a1b2c"
        );
        let long = object_name(&"x".repeat(80), "20261123T004551Z-0a1b2c");
        assert!(long.len() <= 63 && long.ends_with("x-20261123t004551z-0a1b2c"), "{long}");
        assert_eq!(object_name("a_b", "Ü"), "drill-a-b");
    }
}
