//! Controllers that many clusters have besides those of Kubernetes, and that set replicas themselves: a
//! HorizontalPodAutoscaler, KEDA, Argo CD and Flux. Each acts where its objects say so, under its own field manager.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::events::note;
use super::objects::{count, is_true, key_of, meta, set_condition, set_count, status_mut};
use super::reconcile::Reconcile;
use crate::kubernetes::resources::{
    APPLICATIONS, DEPLOYMENTS, HELM_RELEASES, HORIZONTAL_POD_AUTOSCALERS, KUSTOMIZATIONS, Resource,
    SCALED_OBJECTS,
};
use crate::kubernetes::store::{ObjectKey, Store, Writer};

/// An autoscaler of a cluster, or a tool that holds a Deployment to what is written elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opponent {
    /// A HorizontalPodAutoscaler of 1 to 3 replicas. It leaves alone what has 0.
    Hpa,
    /// A ScaledObject of KEDA, which takes 0 replicas for idle and 1 for what it wants.
    Keda,
    /// An Application of Argo CD that heals by itself.
    Argo,
    /// A Kustomization of Flux.
    Flux,
}

/// When opponents act.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long after a drift Argo CD puts it right.
    pub(crate) heal_after: Duration,
    /// The longest interval between two looks of any of them, whatever their objects say.
    pub(crate) interval_max: Duration,
    /// How often is looked at who is due.
    pub(crate) tick: Duration,
}

/// All opponents of one cluster.
#[derive(Debug)]
pub(crate) struct Opponents {
    store: Store,
    pace: Pace,
    /// What "Git" says: the replicas that a Deployment had when it was seen first.
    declared: BTreeMap<ObjectKey, u64>,
    /// When each object's next look is due.
    due: BTreeMap<ObjectKey, Instant>,
}

impl Opponents {
    pub(crate) fn new(store: Store, pace: Pace) -> Self {
        Self { store, pace, declared: BTreeMap::new(), due: BTreeMap::new() }
    }

    /// Whether the time of this object has come. Its first look is an interval after it was seen first.
    fn is_due(&mut self, key: &ObjectKey, interval: Duration) -> bool {
        let now = Instant::now();
        let interval = interval.min(self.pace.interval_max);
        let due = *self.due.entry(key.clone()).or_insert(now + interval);
        if due > now {
            return false;
        }
        self.due.insert(key.clone(), now + interval);
        true
    }

    fn set_replicas(&self, key: &ObjectKey, replicas: u64, writer: Writer<'_>) {
        // A Deployment that is gone by now has no replicas to set.
        let _set = self.store.update(key, writer, |deployment| {
            deployment["spec"]["replicas"] = replicas.into();
            Ok(())
        });
    }

    /// The Deployment that an autoscaler is about.
    fn target(&self, scaler: &Value) -> Option<(ObjectKey, u64)> {
        let target = &scaler["spec"]["scaleTargetRef"];
        if target["kind"].as_str().is_some_and(|kind| kind != "Deployment") {
            return None;
        }
        let key = ObjectKey::new(&DEPLOYMENTS, meta(scaler, "namespace"), target["name"].as_str()?);
        let deployment = self.store.get(&key)?;
        Some((key, count(&deployment["spec"]["replicas"], 1)))
    }

    fn autoscale(&mut self) {
        for scaler in self.store.list(&HORIZONTAL_POD_AUTOSCALERS, None).items {
            let key = key_of(&HORIZONTAL_POD_AUTOSCALERS, &scaler);
            let Some((target, replicas)) = self.target(&scaler) else { continue };
            if !self.is_due(&key, Duration::from_secs(15)) {
                continue;
            }
            let minimum = count(&scaler["spec"]["minReplicas"], 1);
            let wanted = replicas.clamp(minimum, count(&scaler["spec"]["maxReplicas"], 1).max(minimum));
            let is_active = replicas > 0 || minimum == 0;
            if is_active && wanted != replicas {
                self.set_replicas(&target, wanted, Writer::of_scale("kube-controller-manager"));
                let told = format!("New size: {wanted}; reason: outside of the limits");
                note(&self.store, &scaler, "SuccessfulRescale", &told, "horizontal-pod-autoscaler");
            }
            let now = self.store.clock().now();
            let _told = self.store.update(&key, Writer::of_status("kube-controller-manager"), |scaler| {
                set_count(scaler, "currentReplicas", replicas);
                status_mut(scaler)["desiredReplicas"] = if is_active { wanted } else { 0 }.into();
                let (reason, told) = if is_active {
                    ("ValidMetricFound", "the HPA was able to successfully calculate a replica count")
                } else {
                    ("ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
                };
                set_condition(scaler, "ScalingActive", is_active, reason, told, now);
                Ok(())
            });
        }
    }

    fn scale_objects(&mut self) {
        for scaler in self.store.list(&SCALED_OBJECTS, None).items {
            let key = key_of(&SCALED_OBJECTS, &scaler);
            let interval = Duration::from_secs(count(&scaler["spec"]["pollingInterval"], 30));
            let Some((target, replicas)) = self.target(&scaler) else { continue };
            let annotations = &scaler["metadata"]["annotations"];
            let pinned: Option<u64> = annotations["autoscaling.keda.sh/paused-replicas"]
                .as_str()
                .and_then(|text| text.parse().ok());
            let is_paused = pinned.is_some() || annotations["autoscaling.keda.sh/paused"] == "true";
            let now = self.store.clock().now();
            if is_true(&scaler, "Paused") != is_paused {
                let _told = self.store.update(&key, Writer::of_status("keda"), |scaler| {
                    let reason = if is_paused { "ScaledObjectPaused" } else { "ScaledObjectUnpaused" };
                    set_condition(scaler, "Paused", is_paused, reason, "", now);
                    Ok(())
                });
            }
            if let Some(pinned) = pinned.filter(|pinned| *pinned != replicas) {
                self.set_replicas(&target, pinned, Writer::of_scale("keda"));
            }
            if self.is_due(&key, interval) && !is_paused && replicas == 0 {
                let wanted = count(&scaler["spec"]["minReplicaCount"], 1).max(1);
                self.set_replicas(&target, wanted, Writer::of_scale("keda"));
                let told = format!(
                    "Scaled apps/v1.Deployment {}/{} from 0 to {wanted}",
                    target.namespace, target.name
                );
                note(&self.store, &scaler, "KEDAScaleTargetActivated", &told, "keda-operator");
            }
        }
    }

    /// Argo CD: an Application heals what carries its tracking id.
    fn heal(&mut self) {
        for application in self.store.list(&APPLICATIONS, None).items {
            let heals = application["spec"]["syncPolicy"]["automated"]["selfHeal"] == true;
            let annotations = &application["metadata"]["annotations"];
            let is_skipped = annotations["argocd.argoproj.io/skip-reconcile"] == "true";
            let prefix = format!("{}:", meta(&application, "name"));
            for deployment in self.store.list(&DEPLOYMENTS, None).items {
                let tracking = &deployment["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"];
                let is_ours = tracking.as_str().is_some_and(|id| id.starts_with(&prefix));
                if !is_ours {
                    continue;
                }
                self.declare(&deployment);
                if heals && !is_skipped && !ignores_replicas(&application) {
                    self.put_right(&deployment, "argocd-controller", self.pace.heal_after);
                }
            }
        }
    }

    /// Flux: a Kustomization or a HelmRelease applies what carries its name, again and again.
    fn apply(&mut self) {
        for (resource, group, manager) in [
            (&KUSTOMIZATIONS, "kustomize.toolkit.fluxcd.io", "kustomize-controller"),
            (&HELM_RELEASES, "helm.toolkit.fluxcd.io", "helm-controller"),
        ] {
            for source in self.store.list(resource, None).items {
                let is_active = source["spec"]["suspend"] != true
                    && (*resource != HELM_RELEASES || source["spec"]["driftDetection"]["mode"] == "enabled");
                let interval = duration(source["spec"]["interval"].as_str().unwrap_or("5m"));
                for deployment in self.store.list(&DEPLOYMENTS, None).items {
                    let metadata = &deployment["metadata"];
                    let label = |name: &str| metadata["labels"][format!("{group}/{name}")].as_str();
                    let is_ours = label("name") == Some(meta(&source, "name"))
                        && label("namespace") == Some(meta(&source, "namespace"));
                    let is_left = metadata["annotations"][format!("{group}/reconcile")] == "disabled";
                    if !is_ours {
                        continue;
                    }
                    self.declare(&deployment);
                    if is_active && !is_left {
                        self.put_right(&deployment, manager, interval);
                    }
                }
            }
        }
    }

    /// What "Git" says of a Deployment, from when it is seen first, whether or not anybody holds it to that yet.
    fn declare(&mut self, deployment: &Value) -> u64 {
        let replicas = count(&deployment["spec"]["replicas"], 1);
        *self.declared.entry(key_of(&DEPLOYMENTS, deployment)).or_insert(replicas)
    }

    /// Sets a Deployment back to what was declared, so long after the last look at which it was right.
    fn put_right(&mut self, deployment: &Value, manager: &str, after: Duration) {
        let key = key_of(&DEPLOYMENTS, deployment);
        let replicas = count(&deployment["spec"]["replicas"], 1);
        let declared = self.declare(deployment);
        let heals_drift = manager == "argocd-controller";
        if replicas == declared && heals_drift {
            // It waits from the drift on, not from look to look.
            self.due.remove(&key);
        } else if self.is_due(&key, after) && replicas != declared {
            self.set_replicas(&key, declared, Writer::of_object(manager));
        }
    }
}

fn ignores_replicas(application: &Value) -> bool {
    let mut ignored = application["spec"]["ignoreDifferences"].as_array().into_iter().flatten();
    ignored.any(|entry| {
        entry["jsonPointers"]
            .as_array()
            .is_some_and(|all| all.iter().any(|pointer| pointer == "/spec/replicas"))
    })
}

/// `1h2m3s`, as Go writes durations; parts that are not understood count nothing.
fn duration(text: &str) -> Duration {
    let (mut total, mut number) = (0_u64, 0_u64);
    for letter in text.chars() {
        if let Some(digit) = letter.to_digit(10) {
            number = number.saturating_mul(10).saturating_add(u64::from(digit));
            continue;
        }
        let unit = match letter {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => 0,
        };
        total = total.saturating_add(number.saturating_mul(unit));
        number = 0;
    }
    Duration::from_secs(total)
}

impl Reconcile for Opponents {
    fn kinds(&self) -> Vec<&'static Resource> {
        vec![&DEPLOYMENTS, &SCALED_OBJECTS, &APPLICATIONS, &KUSTOMIZATIONS, &HELM_RELEASES]
    }

    async fn reconcile(&mut self) -> Option<Duration> {
        self.autoscale();
        self.scale_objects();
        self.heal();
        self.apply();
        Some(self.pace.tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(duration("1h2m3s"), Duration::from_secs(3723));
        assert_eq!(duration("10m"), Duration::from_secs(600));
        assert_eq!(duration("soon"), Duration::ZERO);
    }
}
