//! Deployments: a ReplicaSet for each pod template, and how the pods stand.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::events::note;
use super::objects::{
    annotate, count, is_controlled_by, is_ending, key_of, meta, name_hash, owner_reference, set_condition,
    set_count, status_mut,
};
use super::reconcile::Reconcile;
use crate::kubernetes::resources::{DEPLOYMENTS, REPLICA_SETS, Resource};
use crate::kubernetes::store::{Store, Writer};

const MANAGER: &str = "kube-controller-manager";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The controller of Deployments.
#[derive(Debug)]
pub(crate) struct Deployments {
    pub(crate) store: Store,
}

impl Reconcile for Deployments {
    fn kinds(&self) -> Vec<&'static Resource> {
        vec![&DEPLOYMENTS, &REPLICA_SETS]
    }

    async fn reconcile(&mut self) -> Option<Duration> {
        for deployment in self.store.list(&DEPLOYMENTS, None).items {
            if !is_ending(&deployment) {
                let namespace = meta(&deployment, "namespace");
                let mut sets = self.store.list(&REPLICA_SETS, Some(namespace)).items;
                sets.retain(|set| is_controlled_by(set, &deployment) && !is_ending(set));
                self.roll(&deployment, &sets);
                self.report(&deployment, &sets);
            }
        }
        None
    }
}

impl Deployments {
    /// Gives the pods to the set of the present template.
    fn roll(&self, deployment: &Value, sets: &[Arc<Value>]) {
        let wanted = count(&deployment["spec"]["replicas"], 1);
        let template = &deployment["spec"]["template"];
        let hash = name_hash(&template.to_string(), 10);
        let (new, old): (Vec<_>, Vec<_>) =
            sets.iter().partition(|set| set["metadata"]["labels"]["pod-template-hash"] == hash.as_str());
        let is_paused = deployment["spec"]["paused"] == true;
        let old_pods = old.iter().map(|set| count(&set["status"]["replicas"], 0)).sum::<u64>();
        let Some(new) = new.first() else {
            // A paused one rolls nothing out, not even for the first time.
            if !is_paused {
                self.make_set(deployment, sets, &hash);
            } else if let Some(latest) = old.iter().max_by_key(|set| revision(set)) {
                self.scale(deployment, latest, wanted);
            }
            return;
        };
        let recreates = deployment["spec"]["strategy"]["type"] == "Recreate";
        if recreates && old_pods > 0 {
            old.iter().for_each(|set| self.scale(deployment, set, 0));
            return;
        }
        self.scale(deployment, new, wanted);
        // The old pods serve until the new ones do.
        if count(&new["status"]["readyReplicas"], 0) >= wanted {
            old.iter().for_each(|set| self.scale(deployment, set, 0));
        }
    }

    fn make_set(&self, deployment: &Value, sets: &[Arc<Value>], hash: &str) {
        let mut template = deployment["spec"]["template"].clone();
        let mut selector = deployment["spec"]["selector"].clone();
        let is_whole = template["metadata"]["labels"].is_object() && selector["matchLabels"].is_object();
        if !is_whole {
            return;
        }
        template["metadata"]["labels"]["pod-template-hash"] = hash.into();
        selector["matchLabels"]["pod-template-hash"] = hash.into();
        let name = format!("{}-{hash}", meta(deployment, "name"));
        let latest = sets.iter().map(|set| revision(set)).max().unwrap_or(0) + 1;
        let set = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": meta(deployment, "namespace"),
                "labels": template["metadata"]["labels"],
                "annotations": { REVISION: latest.to_string() },
                "ownerReferences": [owner_reference(&DEPLOYMENTS, deployment)],
            },
            "spec": { "replicas": 0, "selector": selector, "template": template },
        });
        let writer = Writer::of_object(MANAGER);
        // It makes a change that calls for the next look, which gives it its pods.
        let made = self.store.create(&REPLICA_SETS, meta(deployment, "namespace"), set, writer);
        if made.is_ok() {
            let _noted = self.store.update(&key_of(&DEPLOYMENTS, deployment), writer, |deployment| {
                annotate(deployment, REVISION, &latest.to_string());
                Ok(())
            });
        }
    }

    fn scale(&self, deployment: &Value, set: &Value, wanted: u64) {
        let before = count(&set["spec"]["replicas"], 1);
        if before == wanted {
            return;
        }
        let scaled = self.store.update(&key_of(&REPLICA_SETS, set), Writer::of_object(MANAGER), |set| {
            set["spec"]["replicas"] = wanted.into();
            Ok(())
        });
        if scaled.is_ok() {
            let direction = if wanted > before { "up" } else { "down" };
            let name = meta(set, "name");
            let told = format!("Scaled {direction} replica set {name} from {before} to {wanted}");
            note(&self.store, deployment, "ScalingReplicaSet", &told, "deployment-controller");
        }
    }

    /// Writes into the status what the sets have, and which spec was acted on.
    fn report(&self, deployment: &Value, sets: &[Arc<Value>]) {
        let sum = |field: &str| sets.iter().map(|set| count(&set["status"][field], 0)).sum::<u64>();
        let wanted = count(&deployment["spec"]["replicas"], 1);
        let hash = name_hash(&deployment["spec"]["template"].to_string(), 10);
        let is_new = |set: &&Arc<Value>| set["metadata"]["labels"]["pod-template-hash"] == hash.as_str();
        let updated = sets.iter().find(is_new).map_or(0, |set| count(&set["status"]["replicas"], 0));
        let (pods, ready, available) = (sum("replicas"), sum("readyReplicas"), sum("availableReplicas"));
        let observed = deployment["metadata"]["generation"].clone();
        let now = self.store.clock().now();
        let key = key_of(&DEPLOYMENTS, deployment);
        let _reported = self.store.update(&key, Writer::of_status(MANAGER), |deployment| {
            set_count(deployment, "replicas", pods);
            set_count(deployment, "updatedReplicas", updated);
            set_count(deployment, "readyReplicas", ready);
            set_count(deployment, "availableReplicas", available);
            set_count(deployment, "unavailableReplicas", wanted.saturating_sub(available));
            status_mut(deployment)["observedGeneration"] = observed;
            // A rolling update may miss a quarter of the pods, rounded down.
            let is_available = available >= wanted - wanted / 4;
            let (reason, told) = if is_available {
                ("MinimumReplicasAvailable", "Deployment has minimum availability.")
            } else {
                ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
            };
            set_condition(deployment, "Available", is_available, reason, told, now);
            let (reason, told) = if updated == wanted && available >= wanted {
                ("NewReplicaSetAvailable", "ReplicaSet has successfully progressed.")
            } else {
                ("ReplicaSetUpdated", "ReplicaSet is progressing.")
            };
            set_condition(deployment, "Progressing", true, reason, told, now);
            Ok(())
        });
    }
}

fn revision(set: &Value) -> u64 {
    set["metadata"]["annotations"][REVISION].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}
