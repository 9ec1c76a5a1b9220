//! Objects of the cluster, reduced to what evidence and drift need.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::core::Selector;

use crate::cluster::opponents::owners;
use crate::environment::ObjectName;

/// Longer texts of others are cut.
const TEXT_CHARS: usize = 200;
/// Which Service an EndpointSlice belongs to.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// What kinds are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Deployments.
    Deployment,
    /// Pods.
    Pod,
    /// EndpointSlices.
    EndpointSlice,
    /// Services.
    Service,
    /// NetworkPolicies.
    NetworkPolicy,
    /// Events.
    Event,
    /// Nodes, which have no namespace.
    Node,
}

impl Kind {
    /// As the API has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::Pod => "Pod",
            Self::EndpointSlice => "EndpointSlice",
            Self::Service => "Service",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Event => "Event",
            Self::Node => "Node",
        }
    }
}

impl Kind {
    /// Without it drift is not seen; events only say more of it, and nodes are not everybody's to see.
    #[must_use]
    pub fn is_needed(self) -> bool {
        !matches!(self, Self::Event | Self::Node)
    }
}

/// Who changed an object last, as far as its managed fields say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Name that the client gave itself; a person's `kubectl` is `kubectl`, `kubectl-scale`, ...
    pub manager: String,
    /// `Update` or `Apply`.
    pub operation: String,
    /// `scale`, `status`, ...
    pub subresource: Option<String>,
    /// RFC 3339, to the second.
    pub time: Option<String>,
}

impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}", self.manager, self.operation)?;
        if let Some(subresource) = &self.subresource {
            write!(formatter, " of {subresource}")?;
        }
        if let Some(time) = &self.time {
            write!(formatter, " at {time}")?;
        }
        formatter.write_str(")")
    }
}

/// Who set `spec.replicas` last. A scale to 0 erases every owner and one back up records none: then nobody is named,
/// since whoever changed the object last has changed something else.
fn scaler(meta: &ObjectMeta) -> Option<Actor> {
    newest(owners::entries_of(meta, &["spec", "replicas"]))
}

/// Who changed the object last; what controllers write into its status is no change of theirs to it.
fn changer(meta: &ObjectMeta) -> Option<Actor> {
    let entries = || meta.managed_fields.iter().flatten();
    newest(entries().filter(|entry| entry.subresource.as_deref() != Some("status")))
        .or_else(|| newest(entries()))
}

fn newest<'a>(entries: impl Iterator<Item = &'a ManagedFieldsEntry>) -> Option<Actor> {
    let entry = owners::newest(entries)?;
    Some(Actor {
        manager: cut(entry.manager.as_deref().unwrap_or("somebody without a name")),
        operation: cut(entry.operation.as_deref().unwrap_or("Update")),
        subresource: entry.subresource.as_deref().filter(|name| !name.is_empty()).map(cut),
        time: entry.time.as_ref().map(|time| time.0.to_string()),
    })
}

/// Others' words, bounded and on one line.
fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_CHARS).collect()
}

/// A Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentSeen {
    /// Unique in time.
    pub uid: String,
    /// Wished for. The API leaves out a 0 nowhere but in a scale; a Deployment without a count has one.
    pub replicas: i32,
    /// Who set that last.
    pub actor: Option<Actor>,
    /// Who changed anything of it last.
    pub changer: Option<Actor>,
}

/// A Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSeen {
    /// Unique in time.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where it runs.
    pub node: Option<String>,
    /// It will be deleted.
    pub terminating: bool,
    /// A container of it runs or may still run.
    pub runs: bool,
    /// All its containers are ready.
    pub ready: bool,
    /// How often its containers were started again, in all.
    pub restarts: i32,
    /// How long it may take to end, in seconds.
    pub grace_s: Option<i64>,
    /// Who made or changed it last.
    pub actor: Option<Actor>,
}

impl PodSeen {
    /// It is given connections.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.ready && self.runs && !self.terminating
    }
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceSeen {
    /// Of which Service.
    pub service: ObjectName,
    /// Endpoints that are given new connections.
    pub ready: usize,
    /// Endpoints that answer, also those that are terminating: while there are no others, they are given new
    /// connections, too.
    pub serving: usize,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSeen {
    /// Unique in time.
    pub uid: String,
    /// Its specification, as text to compare.
    pub spec: String,
    /// Who changed it last.
    pub actor: Option<Actor>,
}

/// A NetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySeen {
    /// Unique in time.
    pub uid: String,
    /// Moves with every change of its specification.
    pub generation: i64,
    /// Pods that it selects; `None` where that cannot be read, and it may be any.
    pub selector: Option<Selector>,
    /// The run that made it.
    pub run: Option<String>,
    /// It will be deleted.
    pub terminating: bool,
    /// Who changed it last.
    pub actor: Option<Actor>,
}

/// What the watch, or a prober, saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Made or changed.
    Deployment(ObjectName, DeploymentSeen),
    /// Made or changed.
    Pod(ObjectName, PodSeen),
    /// Made or changed.
    Slice(ObjectName, SliceSeen),
    /// Made or changed.
    Service(ObjectName, ServiceSeen),
    /// Made or changed.
    Policy(ObjectName, PolicySeen),
    /// Made or changed; with whether it is ready.
    Node(String, bool),
    /// Something was told about an object.
    Told {
        /// `Pod ml/vllm-x`.
        about: String,
        /// `Killing: Stopping container vllm (kubelet)`.
        what: String,
    },
    /// Deleted. Nodes have an empty namespace.
    Gone(Kind, ObjectName),
    /// All objects of a kind but pods in a namespace were read one after another, and these are all.
    Listed(Kind, String, BTreeSet<ObjectName>),
    /// All pods of a namespace were read together, and these are all.
    PodsListed(String, Vec<(ObjectName, PodSeen)>),
    /// The watch broke: until the next list nothing is known of this kind there.
    Lost(Kind, String, String),
    /// A target's name was resolved in a gateway's pod.
    Resolved {
        /// The target.
        target: String,
        /// Every address that it ever had there.
        ever: BTreeSet<IpAddr>,
        /// It has had more than those that are looked at.
        more: bool,
    },
}

/// The name of an object; a node's namespace is empty.
pub(super) fn name_of(meta: &ObjectMeta) -> ObjectName {
    ObjectName::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// A kind that is watched.
pub(super) trait Watched:
    kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static
{
    /// Which.
    const KIND: Kind;

    /// What there is to see.
    fn seen(&self) -> Seen;
}

impl Watched for Deployment {
    const KIND: Kind = Kind::Deployment;

    fn seen(&self) -> Seen {
        let replicas = self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let uid = self.metadata.uid.clone().unwrap_or_default();
        Seen::Deployment(
            name_of(&self.metadata),
            DeploymentSeen { uid, replicas, actor: scaler(&self.metadata), changer: changer(&self.metadata) },
        )
    }
}

impl Watched for Pod {
    const KIND: Kind = Kind::Pod;

    fn seen(&self) -> Seen {
        let status = self.status.as_ref();
        let containers: &[ContainerStatus] =
            status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
        let has_ended = |container: &ContainerStatus| {
            container.state.as_ref().is_some_and(|state| state.terminated.is_some())
        };
        let phase = status.and_then(|status| status.phase.as_deref());
        let is_over = matches!(phase, Some("Succeeded" | "Failed"))
            || (!containers.is_empty() && containers.iter().all(has_ended));
        let is_ready = |status: &k8s_openapi::api::core::v1::PodStatus| {
            let mut conditions = status.conditions.iter().flatten();
            conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let restarts = containers.iter().fold(0_i32, |sum, one| sum.saturating_add(one.restart_count));
        Seen::Pod(
            name_of(&self.metadata),
            PodSeen {
                uid: self.metadata.uid.clone().unwrap_or_default(),
                labels: self.metadata.labels.clone().unwrap_or_default(),
                node: self.spec.as_ref().and_then(|spec| spec.node_name.clone()),
                terminating: self.metadata.deletion_timestamp.is_some(),
                runs: !is_over,
                ready: status.is_some_and(is_ready),
                restarts,
                grace_s: self
                    .metadata
                    .deletion_grace_period_seconds
                    .or_else(|| self.spec.as_ref()?.termination_grace_period_seconds),
                actor: changer(&self.metadata),
            },
        )
    }
}

impl Watched for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;

    fn seen(&self) -> Seen {
        let name = name_of(&self.metadata);
        let labels = self.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_LABEL)).cloned().unwrap_or_default();
        // Left out, both mean yes.
        let conditions: Vec<(bool, bool)> = self
            .endpoints
            .iter()
            .map(|endpoint| {
                let conditions = endpoint.conditions.as_ref();
                let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
                (ready, conditions.and_then(|conditions| conditions.serving).unwrap_or(ready))
            })
            .collect();
        let seen = SliceSeen {
            service: ObjectName::new(name.namespace.clone(), service),
            ready: conditions.iter().filter(|(ready, _)| *ready).count(),
            serving: conditions.iter().filter(|(_, serving)| *serving).count(),
        };
        Seen::Slice(name, seen)
    }
}

impl Watched for Service {
    const KIND: Kind = Kind::Service;

    fn seen(&self) -> Seen {
        Seen::Service(
            name_of(&self.metadata),
            ServiceSeen {
                uid: self.metadata.uid.clone().unwrap_or_default(),
                spec: serde_json::to_string(&self.spec).unwrap_or_default(),
                actor: changer(&self.metadata),
            },
        )
    }
}

impl Watched for NetworkPolicy {
    const KIND: Kind = Kind::NetworkPolicy;

    fn seen(&self) -> Seen {
        let selector = self.spec.as_ref().and_then(|spec| spec.pod_selector.clone()).unwrap_or_default();
        let labels = self.metadata.labels.as_ref();
        Seen::Policy(
            name_of(&self.metadata),
            PolicySeen {
                uid: self.metadata.uid.clone().unwrap_or_default(),
                generation: self.metadata.generation.unwrap_or_default(),
                selector: Selector::try_from(selector).ok(),
                run: labels.and_then(|labels| labels.get(crate::cluster::RUN_LABEL)).cloned(),
                terminating: self.metadata.deletion_timestamp.is_some(),
                actor: changer(&self.metadata),
            },
        )
    }
}

impl Watched for Node {
    const KIND: Kind = Kind::Node;

    fn seen(&self) -> Seen {
        let conditions = self.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.filter(|condition| condition.type_ == "Ready").all(|one| one.status == "True");
        Seen::Node(self.metadata.name.clone().unwrap_or_default(), ready)
    }
}

impl Watched for Event {
    const KIND: Kind = Kind::Event;

    fn seen(&self) -> Seen {
        let object = &self.involved_object;
        let text = |part: &Option<String>| part.as_deref().map(cut).unwrap_or_default();
        let name = ObjectName::new(text(&object.namespace), text(&object.name));
        let source = self.source.as_ref().and_then(|source| source.component.as_deref());
        let by = source.or(self.reporting_component.as_deref()).filter(|by| !by.is_empty()).map(cut);
        let by = by.map(|by| format!(" ({by})")).unwrap_or_default();
        Seen::Told {
            about: format!("{} {name}", text(&object.kind)),
            what: format!("{}: {}{by}", text(&self.reason), text(&self.message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::{Event, Pod};
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use serde_json::json;

    use super::{Seen, Watched};

    fn seen<K: Watched>(value: serde_json::Value) -> Seen {
        serde_json::from_value::<K>(value).expect("an object of this kind").seen()
    }

    #[test]
    fn whoever_owns_the_count_is_the_actor() {
        let deployment = json!({
            "metadata": { "name": "vllm", "namespace": "ml", "uid": "u", "managedFields": [
                { "manager": "helm", "operation": "Update", "time": "2026-11-01T10:00:00Z",
                  "fieldsV1": { "f:spec": { "f:template": {} } } },
                { "manager": "kubectl", "operation": "Update", "subresource": "scale",
                  "time": "2026-11-23T10:00:00Z", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
                { "manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
                  "time": "2026-11-23T10:00:09Z", "fieldsV1": { "f:status": {} } },
            ] },
            "spec": { "replicas": 1, "selector": {}, "template": {} },
        });
        let Seen::Deployment(name, seen) = seen::<Deployment>(deployment.clone()) else { panic!("its kind") };
        assert_eq!((name.to_string().as_str(), seen.replicas), ("ml/vllm", 1));
        let actor = seen.actor.expect("somebody").to_string();
        assert_eq!(actor, "kubectl (Update of scale at 2026-11-23T10:00:00Z)");
        let mut erased = deployment;
        erased["metadata"]["managedFields"][1] = json!({});
        let Seen::Deployment(_, seen) = super::tests::seen::<Deployment>(erased) else { panic!("its kind") };
        assert_eq!(seen.actor, None, "helm has set something else");
        assert_eq!(seen.changer.expect("somebody").manager, "helm", "a status is no change of it");
    }

    #[test]
    fn endpoints_that_terminate_may_still_serve() {
        let slice = json!({
            "metadata": { "name": "vllm-x", "namespace": "ml", "labels": { "kubernetes.io/service-name": "vllm" } },
            "addressType": "IPv4",
            "endpoints": [
                { "addresses": ["10.0.0.1"], "conditions": { "ready": false, "serving": true, "terminating": true } },
                { "addresses": ["10.0.0.2"] },
                { "addresses": ["10.0.0.3"], "conditions": { "ready": false } },
            ],
        });
        let Seen::Slice(_, slice) = seen::<EndpointSlice>(slice) else { panic!("its kind") };
        assert_eq!((slice.ready, slice.serving, slice.service.name.as_str()), (1, 2, "vllm"));
    }

    #[test]
    fn a_pod_whose_containers_have_all_ended_runs_no_more() {
        let pod = |state: serde_json::Value, phase: &str| {
            let pod = json!({
                "metadata": { "name": "p", "namespace": "ml" },
                "status": { "phase": phase, "containerStatuses": [
                    { "name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": 2, "state": state },
                ] },
            });
            let Seen::Pod(_, pod) = seen::<Pod>(pod) else { panic!("its kind") };
            (pod.runs, pod.restarts)
        };
        assert_eq!(pod(json!({ "running": {} }), "Running"), (true, 2));
        assert_eq!(pod(json!({ "terminated": { "exitCode": 0 } }), "Running"), (false, 2));
        assert_eq!(pod(json!({ "waiting": {} }), "Failed"), (false, 2));
        let Seen::Pod(_, none) = seen::<Pod>(json!({ "metadata": { "name": "p" } })) else {
            panic!("its kind")
        };
        assert!(none.runs, "one that is not known yet may run");
    }

    #[test]
    fn events_are_told_in_one_bounded_line() {
        let event = json!({
            "metadata": { "name": "e", "namespace": "ml" },
            "involvedObject": { "kind": "Pod", "namespace": "ml", "name": "litellm-1" },
            "reason": "Killing", "message": format!("Stopping\n{}", "x".repeat(900)),
            "source": { "component": "kubelet" },
        });
        let Seen::Told { about, what } = seen::<Event>(event) else { panic!("its kind") };
        assert_eq!(about, "Pod ml/litellm-1");
        assert!(what.starts_with("Killing: Stopping xxx") && what.ends_with("(kubelet)") && what.len() < 240);
    }
}
