//! `blackhole` by a NetworkPolicy, and what every policy of ours has in common: it belongs to a Job without pods
//! whose deadline the control plane keeps. When the time is over the Job fails, is deleted, and takes the policy with
//! it, whatever has become of this program.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::object_name;
use crate::cluster::access::{Access, CallError, found};
use crate::cluster::mutation::{Applied, Kubectl, MutationError, ReadBack, Undone};
use crate::cluster::{HOME_LABEL, RUN_LABEL};
use crate::environment::ObjectName;
use crate::units::Period;

/// A Job without pods that ends after a deadline, and what belongs to it with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Its name.
    pub job: ObjectName,
    /// The run that makes it.
    pub run: String,
    /// When the control plane removes it if nobody has done so before.
    pub deadline: Period,
}

/// A NetworkPolicy of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Its name.
    pub policy: ObjectName,
    /// The run that makes it.
    pub run: String,
    /// The Job that it belongs to, in the same namespace.
    pub anchor: ObjectName,
    /// What it does, for people.
    pub effect: String,
    /// Its rules.
    pub spec: NetworkPolicySpec,
}

/// The two objects of one fault.
#[must_use]
pub fn anchored(
    namespace: &str,
    what: &str,
    run: &str,
    deadline: Period,
    effect: String,
    spec: NetworkPolicySpec,
) -> (Anchor, Policy) {
    let anchor = ObjectName::new(namespace, object_name(&format!("anchor-{what}"), run));
    let policy = ObjectName::new(namespace, object_name(what, run));
    (
        Anchor { job: anchor.clone(), run: run.to_owned(), deadline },
        Policy { policy, run: run.to_owned(), anchor, effect, spec },
    )
}

/// The rules that keep pods from these addresses and from nothing else. Pods and nodes are allowed by name, since
/// some networks never match them by address.
#[must_use]
pub fn everything_but(selector: &LabelSelector, targets: &BTreeSet<IpAddr>) -> NetworkPolicySpec {
    let except = |v6: bool, bits: u8| -> Vec<String> {
        targets.iter().filter(|ip| ip.is_ipv6() == v6).map(|ip| format!("{ip}/{bits}")).collect()
    };
    let block = |cidr: &str, except: Vec<String>| {
        if except.is_empty() {
            json!({ "ipBlock": { "cidr": cidr } })
        } else {
            json!({ "ipBlock": { "cidr": cidr, "except": except } })
        }
    };
    let spec = json!({
        "policyTypes": ["Egress"],
        "egress": [
            { "to": [{ "namespaceSelector": {} }] },
            { "to": [block("0.0.0.0/0", except(false, 32)), block("::/0", except(true, 128))] },
        ],
    });
    let mut spec: NetworkPolicySpec =
        serde_json::from_value(spec).expect("the rules above are those of a NetworkPolicy");
    spec.pod_selector = Some(selector.clone());
    spec
}

/// Addresses as people write them, not all of many.
pub(super) fn listed(targets: &BTreeSet<IpAddr>) -> String {
    let mut words: Vec<String> = targets.iter().take(4).map(ToString::to_string).collect();
    if targets.len() > 4 {
        words.push(format!("{} more", targets.len() - 4));
    }
    words.join(", ")
}

fn labels(run: &str, home: Option<&str>) -> BTreeMap<String, String> {
    let labels = [(RUN_LABEL, Some(run)), (HOME_LABEL, home)];
    labels.into_iter().filter_map(|(label, value)| Some((label.to_owned(), value?.to_owned()))).collect()
}

/// Whether an object is the one that a run made.
fn is_of<K: Resource>(object: &K, run: &str) -> bool {
    object.meta().labels.as_ref().and_then(|labels| labels.get(RUN_LABEL)).is_some_and(|of| of == run)
}

fn applied<K: Resource>(object: &K) -> Applied {
    Applied {
        uid: object.meta().uid.clone().unwrap_or_default(),
        resource_version: object.meta().resource_version.clone().unwrap_or_default(),
    }
}

/// Makes an object of a run. One that is there already, or of which the answer was lost, is taken where it is ours.
async fn make<K>(
    access: &Access,
    name: &ObjectName,
    run: &str,
    object: &K,
    words: String,
) -> Result<Applied, MutationError>
where
    K: Resource + Serialize + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let error = match access.create(name, object).await {
        Ok(made) => return Ok(applied(&made)),
        Err(error) if error.is_already_exists() || error.is_outcome_unknown() => error,
        Err(error) => return Err(error.into()),
    };
    let unsure = error.is_outcome_unknown();
    let error = match found(access.get::<K>(name).await) {
        Ok(Some(there)) if is_of(&there, run) => return Ok(applied(&there)),
        Ok(Some(_)) => MutationError::Changed {
            object: words.clone(),
            expected: "nothing of this name".to_owned(),
            saw: "somebody else's".to_owned(),
        },
        Ok(None) => error.into(),
        Err(error) => error.into(),
    };
    Err(if unsure { error.after_a_write_to(words) } else { error })
}

/// Deletes an object of a run, if it still is that one.
async fn unmake<K>(access: &Access, name: &ObjectName, run: &str) -> Result<Undone, CallError>
where
    K: Resource + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let Some(there) = found(access.get::<K>(name).await)? else { return Ok(Undone::Before) };
    if !is_of(&there, run) {
        return Ok(Undone::LeftAlone { saw: "it does not carry the label of this run".to_owned() });
    }
    // A conflict (409) does not say that it is another one now: whoever tries again reads it anew.
    match access.delete::<K>(name, there.meta().uid.as_deref().unwrap_or_default()).await? {
        true => Ok(Undone::Now),
        false => Ok(Undone::Before),
    }
}

impl Anchor {
    pub(in crate::cluster) fn object(&self) -> String {
        format!("jobs {}", self.job)
    }

    pub(in crate::cluster) fn words(&self) -> String {
        format!(
            "make Job {}, which runs no pod and is removed by the control plane after {}",
            self.job, self.deadline
        )
    }

    pub(in crate::cluster) fn undo_words(&self) -> String {
        format!("delete Job {}", self.job)
    }

    pub(in crate::cluster) fn undo_command(&self, kubectl: &Kubectl) -> String {
        kubectl.line(&self.job.namespace, format!("delete job {} --ignore-not-found", self.job.name))
    }

    /// The Job. `suspend` would stop its clock, a pod could keep it from ending.
    pub(in crate::cluster) fn manifest(&self, home: Option<&str>) -> Job {
        let labels = labels(&self.run, home);
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": self.job.name, "namespace": self.job.namespace, "labels": labels,
            },
            "spec": {
                "parallelism": 0,
                "activeDeadlineSeconds": self.deadline.0.as_secs().max(1),
                "ttlSecondsAfterFinished": 0,
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{ "name": "none", "image": "registry.invalid/none" }],
                    },
                },
            },
        });
        serde_json::from_value(job).expect("the fields above are those of a Job")
    }

    pub(in crate::cluster) async fn rehearse(&self, access: &Access) -> Result<(), CallError> {
        access.rehearse_create(&self.job, &self.manifest(access.home())).await.map(|_| ())
    }

    pub(in crate::cluster) async fn apply(&self, access: &Access) -> Result<Applied, MutationError> {
        make(access, &self.job, &self.run, &self.manifest(access.home()), self.object()).await
    }

    pub(in crate::cluster) async fn undo(&self, access: &Access) -> Result<Undone, CallError> {
        unmake::<Job>(access, &self.job, &self.run).await
    }

    pub(in crate::cluster) async fn read_back(&self, access: &Access) -> Result<ReadBack, CallError> {
        let job = found(access.get::<Job>(&self.job).await)?;
        Ok(match job {
            None => ReadBack::Undone,
            Some(job) if !is_of(&job, &self.run) => {
                ReadBack::Other { saw: "it does not carry the label of this run".to_owned() }
            }
            Some(job) => match unfit(&job) {
                None => ReadBack::Done,
                Some(why) => ReadBack::Other { saw: why.to_owned() },
            },
        })
    }
}

/// Why a Job no longer keeps time for what belongs to it.
fn unfit(job: &Job) -> Option<&'static str> {
    let spec = job.spec.as_ref();
    let failed = job.status.as_ref().and_then(|status| status.conditions.as_ref()).is_some_and(|all| {
        all.iter().any(|one| matches!(one.type_.as_str(), "Failed" | "Complete") && one.status == "True")
    });
    if job.metadata.deletion_timestamp.is_some() {
        Some("it is being deleted")
    } else if failed {
        Some("its time is over")
    } else if spec.and_then(|spec| spec.suspend) == Some(true) {
        Some("it is suspended, which stops its clock")
    } else if spec.and_then(|spec| spec.active_deadline_seconds).is_none() {
        Some("it has no deadline")
    } else {
        None
    }
}

impl Policy {
    pub(in crate::cluster) fn object(&self) -> String {
        format!("networkpolicies {}", self.policy)
    }

    pub(in crate::cluster) fn words(&self) -> String {
        format!("make NetworkPolicy {}: {}", self.policy, self.effect)
    }

    pub(in crate::cluster) fn undo_words(&self) -> String {
        format!("delete NetworkPolicy {}", self.policy)
    }

    pub(in crate::cluster) fn undo_command(&self, kubectl: &Kubectl) -> String {
        let line = format!("delete networkpolicy {} --ignore-not-found", self.policy.name);
        kubectl.line(&self.policy.namespace, line)
    }

    /// The policy, belonging to the Job with this uid.
    pub(in crate::cluster) fn manifest(&self, anchor_uid: &str, home: Option<&str>) -> NetworkPolicy {
        let metadata = json!({
            "name": self.policy.name,
            "namespace": self.policy.namespace,
            "labels": labels(&self.run, home),
            "ownerReferences": [
                { "apiVersion": "batch/v1", "kind": "Job", "name": self.anchor.name, "uid": anchor_uid }
            ],
        });
        NetworkPolicy {
            metadata: serde_json::from_value(metadata).expect("the fields above are those of metadata"),
            spec: Some(self.spec.clone()),
        }
    }

    /// The Job is not there yet, so that the policy is asked about without belonging to it.
    pub(in crate::cluster) async fn rehearse(&self, access: &Access) -> Result<(), CallError> {
        let mut policy = self.manifest("", access.home());
        policy.metadata.owner_references = None;
        access.rehearse_create(&self.policy, &policy).await.map(|_| ())
    }

    pub(in crate::cluster) async fn apply(&self, access: &Access) -> Result<Applied, MutationError> {
        let changed = |saw: &str| MutationError::Changed {
            object: format!("jobs {}", self.anchor),
            expected: "the Job that ends the policy in time".to_owned(),
            saw: saw.to_owned(),
        };
        let job = found(access.get::<Job>(&self.anchor).await)?.ok_or_else(|| changed("nothing"))?;
        if !is_of(&job, &self.run) {
            return Err(changed("somebody else's"));
        }
        if let Some(why) = unfit(&job) {
            return Err(changed(why));
        }
        if cuts_nothing(&self.spec) {
            return Err(MutationError::Changed {
                object: self.object(),
                expected: "addresses to cut off".to_owned(),
                saw: "none".to_owned(),
            });
        }
        let uid = job.metadata.uid.clone().filter(|uid| !uid.is_empty()).ok_or_else(|| changed("no uid"))?;
        make(access, &self.policy, &self.run, &self.manifest(&uid, access.home()), self.object()).await
    }

    pub(in crate::cluster) async fn undo(&self, access: &Access) -> Result<Undone, CallError> {
        unmake::<NetworkPolicy>(access, &self.policy, &self.run).await
    }

    pub(in crate::cluster) async fn read_back(&self, access: &Access) -> Result<ReadBack, CallError> {
        let policy = found(access.get::<NetworkPolicy>(&self.policy).await)?;
        Ok(match policy {
            None => ReadBack::Undone,
            Some(policy) => match self.differs(&policy) {
                None => ReadBack::Done,
                Some(why) => ReadBack::Other { saw: why.to_owned() },
            },
        })
    }

    fn differs(&self, policy: &NetworkPolicy) -> Option<&'static str> {
        if !is_of(policy, &self.run) {
            Some("it does not carry the label of this run")
        } else if policy.metadata.deletion_timestamp.is_some() {
            Some("it is being deleted")
        } else if policy.spec.as_ref() != Some(&self.spec) {
            Some("somebody has changed its rules")
        } else if !owned(policy) {
            Some("nobody removes it in time: it no longer belongs to the Job")
        } else {
            None
        }
    }
}

/// Rules that allow everything, as they are before the endpoint's addresses are known.
fn cuts_nothing(spec: &NetworkPolicySpec) -> bool {
    let blocks = spec.egress.iter().flatten().flat_map(|rule| rule.to.iter().flatten());
    let mut blocks = blocks.filter_map(|peer| peer.ip_block.as_ref()).peekable();
    blocks.peek().is_some() && blocks.all(|block| block.except.as_ref().is_none_or(Vec::is_empty))
}

fn owned(policy: &NetworkPolicy) -> bool {
    policy.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "Job")
}

#[cfg(test)]
mod tests;
