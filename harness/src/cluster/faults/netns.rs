//! `netns-drop`: a packet filter in the network of each gateway pod, put there by an ephemeral container that runs
//! `nft` once and ends.
//!
//! The kernel ends it by itself: the addresses are elements of a set, each with the fault's deadline as its timeout. The
//! table bears the name of the container. It is made only where there is none of that name, and the undo leaves an
//! empty one behind: a container that starts late, after the undo, then changes nothing. Containers cannot be taken out
//! of a pod again; they stay listed until it is replaced.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerState, EphemeralContainer, Namespace, Pod};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Prepared, Wanted, cut_off, host_of, object_name, policy};
use crate::cluster::access::{Access, CallError, Failure, Target, Verb, found, shown};
use crate::cluster::mutation::{ATTEMPTS, Applied, Kubectl, Mutation, MutationError, ReadBack, Undone};
use crate::cluster::refusals::{self, Refusal, is_ending, is_ready, selects};
use crate::environment::{Cluster, Component, ObjectName, quoted};
use crate::units::Period;

/// A container has run by then: its image may have to be pulled before.
pub(crate) const RUNS_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at whether it has.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// More of a component's name does not go into the names of containers, which end after 63 characters.
const COMPONENT_CHARS: usize = 20;
/// By what a namespace says which pods it takes.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
/// What a container waits for that does not come by waiting.
const IN_VAIN: [&str; 4] =
    ["ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"];

/// Addresses that one pod sends nothing to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsDrop {
    /// The pod.
    pub pod: ObjectName,
    /// Its uid: another one of the same name has a network of its own.
    pub uid: String,
    /// The run that does it.
    pub run: String,
    /// The component that is cut off.
    pub component: String,
    /// Which time it is in this pod and run, from 1.
    pub number: u32,
    /// What holds `nft`.
    pub image: String,
    /// The host that is cut off, for people.
    pub host: String,
    /// Its addresses; empty while nobody has asked for them.
    pub targets: BTreeSet<IpAddr>,
    /// When the kernel ends it.
    pub deadline: Period,
}

/// Reads what a packet filter in the gateway's pods depends on.
pub(super) async fn prepare(
    access: &Access,
    cluster: &Cluster,
    component: &Component,
    wanted: &Wanted<'_>,
) -> Result<Prepared, CallError> {
    let gateway = &cluster.gateway.deployment;
    let host = component.endpoint.as_deref().and_then(host_of).unwrap_or_default();
    let (mut prepared, found) = cut_off(access, cluster, &host).await?;
    let Some((spec, pods)) = found else { return Ok(prepared) };
    prepared.refusals.extend(pod_security(access, &gateway.namespace).await?);
    let ours = |pod: &&Pod| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        selects(&spec.selector, &labels) && !refusals::is_over(pod) && !is_ending(pod)
    };
    for pod in pods.iter().filter(ours) {
        let name = ObjectName::new(&gateway.namespace, pod.metadata.name.clone().unwrap_or_default());
        if !is_ready(pod) {
            prepared.refusals.push(Refusal::new(
                format!("pod {name} of the gateway is not ready: it might reach {host} once it is"),
                "wait until all pods of the gateway are ready",
            ));
        }
        prepared.mutations.push(Mutation::NetnsDrop(Box::new(NetnsDrop {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            run: wanted.run.to_owned(),
            component: wanted.component.to_owned(),
            number: next_number(pod, wanted.component, wanted.run),
            image: cluster.nft_image.clone(),
            host: host.clone(),
            targets: wanted.targets.clone(),
            deadline: wanted.deadline,
            pod: name,
        })));
    }
    prepared.warnings.push(format!(
        "each time {} goes down and comes back, two containers are added to each pod of the gateway; they have ended, \
         but stay listed, and an empty nft table stays in the pod's network, until the pod is replaced",
        wanted.component
    ));
    prepared.warnings.push(format!(
        "a pod of the gateway that starts while {} is down is not cut off from it: such a mode is inconclusive",
        wanted.component
    ));
    Ok(prepared)
}

/// Whether the namespace takes containers that change the network of their pod.
async fn pod_security(access: &Access, namespace: &str) -> Result<Option<Refusal>, CallError> {
    let namespace = match access.whole::<Namespace>(namespace).await {
        Ok(namespace) => namespace,
        // What enforces the level is asked, too, by a rehearsal.
        Err(error) if error.is_forbidden() || error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let labels = namespace.metadata.labels.unwrap_or_default();
    let name = namespace.metadata.name.unwrap_or_default();
    let level = labels.get(POD_SECURITY).filter(|level| matches!(level.as_str(), "baseline" | "restricted"));
    Ok(level.map(|level| {
        Refusal::new(
            format!(
                "namespace {name} enforces the Pod Security level {level}: no container may change its pod's network"
            ),
            "take it down by `network-policy` here",
        )
    }))
}

/// The container that puts the filter there, and the table that it makes.
fn drop_name(component: &str, run: &str, number: u32) -> String {
    let component: String = component.chars().take(COMPONENT_CHARS).collect();
    object_name(&format!("{component}-drop-{number}"), run)
}

/// The container that takes it away again, at the first or a later attempt.
fn lift_name(component: &str, run: &str, number: u32, attempt: usize) -> String {
    let component: String = component.chars().take(COMPONENT_CHARS).collect();
    object_name(&format!("{component}-lift-{number}-{attempt}"), run)
}

fn entry<'p>(pod: &'p Pod, container: &str) -> Option<&'p EphemeralContainer> {
    let spec = pod.spec.as_ref()?;
    spec.ephemeral_containers.iter().flatten().find(|one| one.name == container)
}

/// The first that this pod has not seen in this run.
fn next_number(pod: &Pod, component: &str, run: &str) -> u32 {
    let is_free = |number: &u32| entry(pod, &drop_name(component, run, *number)).is_none();
    (1..).find(is_free).unwrap_or(u32::MAX)
}

/// What has become of a container of a pod.
#[derive(Debug, PartialEq, Eq)]
enum Ran {
    /// It is not in the pod's list.
    Never,
    /// It has not ended; why, and whether waiting may help.
    NotYet(String, bool),
    /// It did what it was to do.
    Well,
    /// It ended with an error, and `nft` does all or nothing.
    Badly(String),
}

fn ran(pod: &Pod, container: &str) -> Ran {
    if entry(pod, container).is_none() {
        return Ran::Never;
    }
    let statuses = pod.status.iter().flat_map(|status| status.ephemeral_container_statuses.iter().flatten());
    let state =
        statuses.into_iter().find(|status| status.name == container).and_then(|one| one.state.as_ref());
    match state {
        Some(ContainerState { terminated: Some(ended), .. }) if ended.exit_code == 0 => Ran::Well,
        Some(ContainerState { terminated: Some(ended), .. }) => {
            let why = ended.message.as_deref().or(ended.reason.as_deref()).unwrap_or_default();
            Ran::Badly(shown(&format!("it ended with {}: {}", ended.exit_code, why.trim())))
        }
        Some(ContainerState { waiting: Some(waiting), .. }) => {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            let why = waiting.message.as_deref().map_or(String::new(), |message| format!(": {message}"));
            Ran::NotYet(shown(&format!("{reason}{why}")), !IN_VAIN.contains(&reason))
        }
        Some(ContainerState { running: Some(_), .. }) => Ran::NotYet("it is running".to_owned(), true),
        _ => Ran::NotYet("its node has not taken it up".to_owned(), true),
    }
}

/// Whether each of these pods that is ready is cut off from a component by this run, as far as its containers tell.
#[must_use]
pub fn in_force(pods: &[Pod], component: &str, run: &str) -> bool {
    let cut_off = |pod: &Pod| {
        let number = next_number(pod, component, run).saturating_sub(1);
        let lifted = |attempt| ran(pod, &lift_name(component, run, number, attempt)) == Ran::Well;
        number > 0 && ran(pod, &drop_name(component, run, number)) == Ran::Well && !(1..=ATTEMPTS).any(lifted)
    };
    let mut ready = pods.iter().filter(|pod| is_ready(pod) && !is_ending(pod)).peekable();
    ready.peek().is_some() && ready.all(cut_off)
}

impl NetnsDrop {
    pub(in crate::cluster) fn object(&self) -> String {
        format!("pods/ephemeralcontainers {}", self.pod)
    }

    /// Filters of one pod are apart by their tables.
    pub(in crate::cluster) fn key(&self) -> String {
        format!("{} {}", self.object(), self.drop_name())
    }

    pub(in crate::cluster) fn words(&self) -> String {
        let addresses = if self.targets.is_empty() {
            "as it resolves it".to_owned()
        } else {
            policy::listed(&self.targets)
        };
        format!(
            "run nft once in pod {} (image {}): it sends nothing to {} ({addresses}) until that is undone, and for no \
             longer than {}",
            self.pod, self.image, self.host, self.deadline
        )
    }

    pub(in crate::cluster) fn undo_words(&self) -> String {
        format!(
            "run nft once more in pod {}, which lets it send to {} again; both containers stay listed in the pod",
            self.pod, self.host
        )
    }

    pub(in crate::cluster) fn undo_command(&self, kubectl: &Kubectl) -> String {
        let line = format!(
            "debug {} --profile=netadmin --image={} -- nft {}",
            self.pod.name,
            quoted(&self.image),
            quoted(&self.lift_rules())
        );
        kubectl.line(&self.pod.namespace, line)
    }

    /// What is left to do where the image cannot be run: what may still come of its containers goes with the pod.
    pub(in crate::cluster) fn delete_command(&self, kubectl: &Kubectl) -> String {
        kubectl.line(&self.pod.namespace, format!("delete pod {} --ignore-not-found", self.pod.name))
    }

    fn drop_name(&self) -> String {
        drop_name(&self.component, &self.run, self.number)
    }

    /// One transaction: all of it is done or nothing.
    fn drop_rules(&self) -> String {
        let table = self.drop_name();
        let mut rules = format!(
            "create table inet {table}; \
             add set inet {table} blocked4 {{ type ipv4_addr; flags timeout; }}; \
             add set inet {table} blocked6 {{ type ipv6_addr; flags timeout; }}; \
             add chain inet {table} out {{ type filter hook output priority 0; policy accept; }}; \
             add rule inet {table} out ip daddr @blocked4 drop; \
             add rule inet {table} out ip6 daddr @blocked6 drop"
        );
        let seconds = self.deadline.0.as_secs().max(1);
        for (set, v6) in [("blocked4", false), ("blocked6", true)] {
            let of_family = self.targets.iter().filter(|address| address.is_ipv6() == v6);
            let elements: Vec<String> =
                of_family.map(|address| format!("{address} timeout {seconds}s")).collect();
            if !elements.is_empty() {
                rules.push_str(&format!("; add element inet {table} {set} {{ {} }}", elements.join(", ")));
            }
        }
        rules
    }

    /// What is there goes, whether there is anything or not, and an empty table stays.
    fn lift_rules(&self) -> String {
        let table = self.drop_name();
        format!("add table inet {table}; delete table inet {table}; add table inet {table}")
    }

    /// A patch that adds a container which runs `nft` with these rules.
    fn patch(&self, container: &str, rules: &str) -> serde_json::Value {
        json!({
            "metadata": { "uid": self.uid },
            "spec": { "ephemeralContainers": [{
                "name": container,
                "image": self.image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["nft", rules],
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": {
                    "runAsUser": 0,
                    "runAsNonRoot": false,
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN"] },
                },
            }] },
        })
    }

    /// The pod, if it is still that one and goes on.
    async fn look(&self, access: &Access) -> Result<Option<Pod>, CallError> {
        let pod = found(access.get::<Pod>(&self.pod).await)?;
        let is_same = |pod: &Pod| pod.metadata.uid.as_deref() == Some(self.uid.as_str());
        Ok(pod.filter(|pod| is_same(pod) && !is_ending(pod) && !refusals::is_over(pod)))
    }

    fn failed(&self, container: &str, why: &str) -> CallError {
        CallError {
            verb: Verb::Patch,
            target: Target::new("pods/ephemeralcontainers", &self.pod),
            failure: Failure::Container(format!("container {container}: {why}")),
        }
    }

    /// Adds a container, if it is not there yet, and waits until it has ended; the pod as it is then, or none where it is
    /// gone. `may_be_there` once the container may be in the pod's list.
    async fn run(
        &self,
        access: &Access,
        container: &str,
        rules: &str,
        may_be_there: &mut bool,
    ) -> Result<Option<Pod>, CallError> {
        let until = tokio::time::Instant::now() + RUNS_WITHIN;
        let mut sent = 0;
        loop {
            let Some(pod) = self.look(access).await? else { return Ok(None) };
            let ran = ran(&pod, container);
            *may_be_there |= ran != Ran::Never;
            match ran {
                Ran::Well => return Ok(Some(pod)),
                Ran::Badly(why) | Ran::NotYet(why, false) => return Err(self.failed(container, &why)),
                Ran::NotYet(why, true) if tokio::time::Instant::now() >= until => {
                    let why = format!("it has not run within {} s: {why}", RUNS_WITHIN.as_secs());
                    return Err(self.failed(container, &why));
                }
                Ran::NotYet(_, true) => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
                Ran::Never if sent >= ATTEMPTS => return Err(self.failed(container, "nobody keeps it")),
                Ran::Never => {
                    let patch = self.patch(container, rules);
                    sent += 1;
                    let added = access.add_containers(&self.pod, &patch).await;
                    *may_be_there |= added.as_ref().map_or_else(CallError::is_outcome_unknown, |_| true);
                    match added {
                        Ok(_) => {}
                        // Whether it was added, the next look shows.
                        Err(error)
                            if sent < ATTEMPTS && (error.is_conflict() || error.is_outcome_unknown()) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    pub(in crate::cluster) async fn rehearse(&self, access: &Access) -> Result<(), CallError> {
        let patch = self.patch(&self.drop_name(), &self.drop_rules());
        access.rehearse_containers(&self.pod, &patch).await.map(|_| ())
    }

    pub(in crate::cluster) async fn apply(&self, access: &Access) -> Result<Applied, MutationError> {
        let changed = |expected: &str, saw: &str| MutationError::Changed {
            object: self.object(),
            expected: expected.to_owned(),
            saw: saw.to_owned(),
        };
        if self.targets.is_empty() {
            return Err(changed("addresses to cut off", "none"));
        }
        let gone = || changed("the pod that was looked at", "that it is gone or ends");
        let pod = self.look(access).await?.ok_or_else(gone)?;
        if pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
            return Err(changed("a network of its own", "that of its node"));
        }
        let (container, rules) = (self.drop_name(), self.drop_rules());
        let is_other =
            |one: &EphemeralContainer| one.command.as_ref().is_none_or(|words| words.get(1) != Some(&rules));
        if entry(&pod, &container).is_some_and(is_other) {
            return Err(changed("no container of this name", "somebody else's"));
        }
        let mut may_be_there = false;
        let ran = self.run(access, &container, &rules, &mut may_be_there).await;
        let ran = ran.map_err(MutationError::from);
        let ran =
            ran.map_err(|error| if may_be_there { error.after_a_write_to(self.object()) } else { error });
        // The filter went with the pod's network.
        let pod = ran?.ok_or_else(gone)?;
        Ok(Applied {
            uid: self.uid.clone(),
            resource_version: pod.metadata.resource_version.unwrap_or_default(),
        })
    }

    pub(in crate::cluster) async fn undo(&self, access: &Access) -> Result<Undone, CallError> {
        // The filter goes with the network of its pod.
        let Some(pod) = self.look(access).await? else { return Ok(Undone::Before) };
        if matches!(ran(&pod, &self.drop_name()), Ran::Never | Ran::Badly(_)) {
            return Ok(Undone::Before);
        }
        let rules = self.lift_rules();
        let mut last = None;
        for attempt in 1..=ATTEMPTS {
            let container = lift_name(&self.component, &self.run, self.number, attempt);
            match ran(&pod, &container) {
                Ran::Well => return Ok(Undone::Before),
                Ran::Badly(why) => last = Some(self.failed(&container, &why)),
                Ran::Never | Ran::NotYet(..) => {
                    self.run(access, &container, &rules, &mut false).await?;
                    return Ok(Undone::Now);
                }
            }
        }
        Err(last.unwrap_or_else(|| self.failed(&self.drop_name(), "it is not lifted")))
    }

    pub(in crate::cluster) async fn read_back(&self, access: &Access) -> Result<ReadBack, CallError> {
        let Some(pod) = self.look(access).await? else { return Ok(ReadBack::Undone) };
        Ok(self.read(&pod))
    }

    /// What the containers of the pod tell. That the kernel has ended it meanwhile, none of them knows.
    fn read(&self, pod: &Pod) -> ReadBack {
        let lift = |attempt| lift_name(&self.component, &self.run, self.number, attempt);
        if (1..=ATTEMPTS).any(|attempt| ran(pod, &lift(attempt)) == Ran::Well) {
            return ReadBack::Undone;
        }
        match ran(pod, &self.drop_name()) {
            Ran::Never | Ran::Badly(_) => ReadBack::Undone,
            Ran::Well => ReadBack::Done,
            Ran::NotYet(why, _) => ReadBack::Other { saw: why },
        }
    }
}

#[cfg(test)]
mod tests;
