//! Why a fault is not made here, concluded from objects that were read. Nothing in this file asks the cluster.

mod network;
mod proxy;
mod selects;

use std::fmt;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};
use serde::{Deserialize, Serialize};

pub use self::network::{egress, ingress};
pub use self::proxy::{Fields, Source, Sources, sources, unknown_proxies};
pub use self::selects::{parse_labels, selects};
use super::TARGET_LABEL;
use super::mutation::Kubectl;
use crate::environment::ObjectName;

/// A reason, and what a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// What is in the way, one line.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

impl Refusal {
    /// A reason with its hint.
    #[must_use]
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.reason, self.hint)
    }
}

/// Whether a Deployment may be a target: it is there, its owner has agreed, and there is something to take down.
#[must_use]
pub fn target(name: &ObjectName, deployment: Option<&Deployment>, kubectl: &Kubectl) -> Vec<Refusal> {
    let Some(deployment) = deployment else {
        return vec![Refusal::new(
            format!("there is no Deployment {name}"),
            "correct the name in the environment file",
        )];
    };
    let mut refused = Vec::new();
    if deployment.metadata.deletion_timestamp.is_some() {
        refused.push(Refusal::new(
            format!("Deployment {name} is being deleted"),
            "name one that stays in the environment file",
        ));
    }
    if !has_agreed(deployment) {
        refused.push(Refusal::new(
            format!("Deployment {name} is not marked as a target: it lacks the label {TARGET_LABEL}=true"),
            format!(
                "if it may be: {}",
                kubectl.line(
                    &name.namespace,
                    format_args!("label deployment {} {TARGET_LABEL}=true", name.name)
                )
            ),
        ));
    }
    let spec = deployment.spec.as_ref();
    if spec.and_then(|spec| spec.replicas) == Some(0) {
        refused.push(nothing_to_take_down(name));
    }
    if spec.and_then(|spec| spec.paused) == Some(true) {
        refused.push(Refusal::new(
            format!("the rollout of Deployment {name} is paused"),
            kubectl.line(&name.namespace, format_args!("rollout resume deployment {}", name.name)),
        ));
    }
    refused
}

/// For a Deployment whose count is 0 already.
pub(super) fn nothing_to_take_down(name: &ObjectName) -> Refusal {
    Refusal::new(
        format!("Deployment {name} is at 0 already: there is nothing to take down, and nothing to restore"),
        "scale it up first",
    )
}

/// By label or annotation, on the Deployment itself.
pub(crate) fn has_agreed(deployment: &Deployment) -> bool {
    let metadata = &deployment.metadata;
    let marks = [&metadata.labels, &metadata.annotations];
    marks.into_iter().flatten().any(|all| all.get(TARGET_LABEL).is_some_and(|value| value == "true"))
}

/// Whether `gateway.pods` of the environment file are the pods of the gateway's Deployment, neither more nor fewer.
#[must_use]
pub fn gateway_pods(name: &ObjectName, deployment: &Deployment, labels: &str, pods: &[Pod]) -> Vec<Refusal> {
    let Some(spec) = &deployment.spec else { return Vec::new() };
    let named = parse_labels(labels);
    let hint = "make `gateway.pods` in the environment file name the pods of the gateway and no others";
    let label_of = |pod: &Pod| pod.metadata.labels.clone().unwrap_or_default();
    let live = pods.iter().filter(|pod| !is_over(pod));
    let (mut ours, mut missed, mut others) = (0, Vec::new(), Vec::new());
    for pod in live {
        let labels = label_of(pod);
        let is_named = named.iter().all(|(key, value)| labels.get(key) == Some(value));
        let is_run = selects(&spec.selector, &labels);
        let pod = pod.metadata.name.clone().unwrap_or_default();
        match (is_named, is_run) {
            (true, true) => ours += 1,
            (true, false) => others.push(pod),
            (false, true) => missed.push(pod),
            (false, false) => {}
        }
    }
    let mut refused = Vec::new();
    if !others.is_empty() {
        let reason =
            format!("`{labels}` names pods that are not of Deployment {name}: {}", others.join(", "));
        refused.push(Refusal::new(reason, hint));
    }
    if !missed.is_empty() {
        let reason = format!("`{labels}` leaves out pods of Deployment {name}: {}", missed.join(", "));
        refused.push(Refusal::new(reason, hint));
    }
    if ours == 0 && refused.is_empty() {
        let reason = format!("Deployment {name} has no pod with the labels `{labels}`");
        refused.push(Refusal::new(reason, "start the gateway, or correct the environment file"));
    }
    refused
}

/// A pod that has ended stays in lists for a while.
pub(super) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Connections of a pod that ends are on their way out.
pub(super) fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether what the gateway's pods are lets a NetworkPolicy or a packet filter of theirs cut them off from the endpoint
/// `host`, and no more.
#[must_use]
pub fn gateway_template(
    name: &ObjectName,
    deployment: &Deployment,
    host: &str,
    sources: &Sources,
) -> Vec<Refusal> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let Some(pod) = pod else { return Vec::new() };
    let mut refused = Vec::new();
    if pod.host_network == Some(true) {
        refused.push(Refusal::new(
            format!(
                "the pods of Deployment {name} use the network of their node: no policy cuts it, and a packet filter \
                 would cut the node"
            ),
            "run the gateway without hostNetwork",
        ));
    }
    refused.extend(gateway_way(name, deployment, host, sources));
    refused
}

/// Whether the gateway's pods go to the endpoint `host` by themselves, and go on without it.
#[must_use]
pub fn gateway_way(
    name: &ObjectName,
    deployment: &Deployment,
    host: &str,
    sources: &Sources,
) -> Vec<Refusal> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let Some(pod) = pod else { return Vec::new() };
    let mut refused = proxy::refusals(name, pod, host, sources);
    for (container, probe) in model_probes(pod) {
        refused.push(Refusal::new(
            format!(
                "the {probe} probe of container {container} of Deployment {name} asks /health, which asks every \
                 model: the fault would restart the gateway"
            ),
            "probe /health/liveliness and /health/readiness, which ask no model",
        ));
    }
    refused
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.containers.iter().chain(pod.init_containers.iter().flatten())
}

/// Containers with a probe that makes the gateway ask its models.
fn model_probes(pod: &PodSpec) -> Vec<(&str, &'static str)> {
    let mut found = Vec::new();
    for container in containers(pod) {
        for (kind, probe) in [
            ("liveness", &container.liveness_probe),
            ("readiness", &container.readiness_probe),
            ("startup", &container.startup_probe),
        ] {
            if probe.as_ref().is_some_and(asks_models) {
                found.push((container.name.as_str(), kind));
            }
        }
    }
    found
}

fn asks_models(probe: &Probe) -> bool {
    let path = probe.http_get.as_ref().and_then(|get| get.path.as_deref());
    let is_health = |path: &str| {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        path.trim_end_matches('/') == "/health" || path.trim_end_matches('/').ends_with("/health")
    };
    let command = probe.exec.as_ref().and_then(|exec| exec.command.as_ref());
    // A command holds the path as part of a URL, at the end of a word.
    let words = command
        .into_iter()
        .flatten()
        .flat_map(|part| part.split(|c: char| c.is_whitespace() || "'\"();|&<>".contains(c)));
    path.is_some_and(is_health) || words.into_iter().any(|word| word.contains("://") && is_health(word))
}

#[cfg(test)]
mod tests;
