//! ReplicaSets: as many pods as they say.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::events::note;
use super::objects::{
    count, is_controlled_by, is_ending, is_true, key_of, meta, owner_reference, set_count, status_mut,
};
use super::reconcile::Reconcile;
use crate::kubernetes::resources::{PODS, REPLICA_SETS, Resource};
use crate::kubernetes::store::{Deletion, Store, Writer};

const MANAGER: &str = "kube-controller-manager";
/// A set makes no more pods than this at a look.
const PODS_AT_ONCE: u64 = 100;

/// The controller of ReplicaSets.
#[derive(Debug)]
pub(crate) struct ReplicaSets {
    pub(crate) store: Store,
}

impl Reconcile for ReplicaSets {
    fn kinds(&self) -> Vec<&'static Resource> {
        vec![&REPLICA_SETS, &PODS]
    }

    async fn reconcile(&mut self) -> Option<Duration> {
        for set in self.store.list(&REPLICA_SETS, None).items {
            let mut pods = self.store.list(&PODS, Some(meta(&set, "namespace"))).items;
            pods.retain(|pod| is_controlled_by(pod, &set) && is_active(pod));
            if !is_ending(&set) {
                self.fill(&set, &mut pods);
            }
            self.report(&set, &pods);
        }
        None
    }
}

/// Whether a pod counts: it has not ended and is not about to.
pub(super) fn is_active(pod: &Value) -> bool {
    !is_ending(pod) && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

impl ReplicaSets {
    fn fill(&self, set: &Value, pods: &mut [Arc<Value>]) {
        let wanted = count(&set["spec"]["replicas"], 1);
        let present = pods.len() as u64;
        for _ in 0..wanted.saturating_sub(present).min(PODS_AT_ONCE) {
            let Some(name) = make_pod(&self.store, &REPLICA_SETS, set) else { return };
            note(
                &self.store,
                set,
                "SuccessfulCreate",
                &format!("Created pod: {name}"),
                "replicaset-controller",
            );
        }
        // Those that serve stay longest, and among them the oldest.
        pods.sort_by_key(|pod| (is_true(pod, "Ready"), Reverse(meta(pod, "creationTimestamp").to_owned())));
        let surplus = usize::try_from(present.saturating_sub(wanted)).unwrap_or(usize::MAX);
        for pod in pods.iter().take(surplus) {
            if self.store.delete(&key_of(&PODS, pod), &Deletion::default(), MANAGER).is_ok() {
                let told = format!("Deleted pod: {}", meta(pod, "name"));
                note(&self.store, set, "SuccessfulDelete", &told, "replicaset-controller");
            }
        }
    }

    fn report(&self, set: &Value, pods: &[Arc<Value>]) {
        let ready = pods.iter().filter(|pod| is_true(pod, "Ready")).count() as u64;
        let observed = set["metadata"]["generation"].clone();
        let key = key_of(&REPLICA_SETS, set);
        let _reported = self.store.update(&key, Writer::of_status(MANAGER), |set| {
            set_count(set, "fullyLabeledReplicas", pods.len() as u64);
            set_count(set, "readyReplicas", ready);
            set_count(set, "availableReplicas", ready);
            let status = status_mut(set);
            status["observedGeneration"] = observed;
            status["replicas"] = pods.len().into();
            Ok(())
        });
    }
}

/// Makes a pod from the template of its owner, with a name of its own.
pub(super) fn make_pod(store: &Store, resource: &'static Resource, owner: &Value) -> Option<String> {
    let template = &owner["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    if !metadata.is_object() {
        metadata = json!({});
    }
    metadata["generateName"] = format!("{}-", meta(owner, "name")).into();
    metadata["namespace"] = meta(owner, "namespace").into();
    metadata["ownerReferences"] = json!([owner_reference(resource, owner)]);
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] });
    let made = store.create(&PODS, meta(owner, "namespace"), pod, Writer::of_object(MANAGER));
    made.ok().map(|pod| meta(&pod, "name").to_owned())
}
