//! The whole mock cluster with the stock content in it: API server, control loops and data plane.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::cluster::{Cluster, ClusterOptions};
use super::controllers::reconcile::subscribe;
use super::controllers::{Opponent, Timing};
use super::kubelet::Processes;
use super::network::{Cni, Network};
use super::plane::{Plane, PlaneOptions};
use super::pod_io::PodIo;
use super::resources::{CrdGroup, DEPLOYMENTS, SERVICES};
use super::stack::{self, StackError, StackOptions};

/// What a [`Household`] is made of.
pub struct HouseholdOptions {
    /// The API server. The custom resources that opponents need are added.
    pub cluster: ClusterOptions,
    /// Who enforces policies.
    pub cni: Cni,
    /// How long everything takes.
    pub timing: Timing,
    /// What the content is wired to.
    pub stack: StackOptions,
    /// Who is told of processes that begin and end.
    pub processes: Arc<dyn Processes>,
}

/// A running mock cluster with the stock content. Dropping it ends it soon; [`Household::shutdown`] waits for that.
pub struct Household {
    cluster: Cluster,
    plane: Plane,
}

impl Household {
    /// Starts everything. Pods come up by themselves afterwards.
    ///
    /// # Errors
    ///
    /// No addresses or ports can be had, or the options name an object twice.
    pub async fn start(options: HouseholdOptions) -> io::Result<Self> {
        let HouseholdOptions { cluster: mut cluster_options, cni, timing, stack, processes } = options;
        for opponent in &stack.opponents {
            let group = match opponent {
                Opponent::Hpa => continue,
                Opponent::Keda => CrdGroup::Keda,
                Opponent::Argo => CrdGroup::Argo,
                Opponent::Flux => CrdGroup::Flux,
            };
            if !cluster_options.crds.contains(&group) {
                cluster_options.crds.push(group);
            }
        }
        let network = Arc::new(Network::claim(cni, stack::callers())?);
        let mut plane = Ok(None);
        let cluster = Cluster::start(cluster_options, |store| {
            let workloads = stack::workloads(&stack);
            let options = PlaneOptions { timing, workloads, processes: Arc::clone(&processes) };
            plane = Plane::start(store, Arc::clone(&network), options).map(Some);
            let kubelet = plane.as_ref().ok()?.as_ref()?.kubelet().clone();
            Some(Arc::new(kubelet) as Arc<dyn PodIo>)
        });
        let cluster = cluster.await?;
        let plane = plane?.ok_or_else(|| io::Error::other("the cluster did not ask for a kubelet"))?;
        stack::lay_out(cluster.store(), &network, &stack).await.map_err(|error| match error {
            StackError::Cloud(error) => error,
            StackError::Refused(refusal) => io::Error::new(io::ErrorKind::InvalidInput, refusal),
        })?;
        processes.print_to(plane.kubelet().printed());
        Ok(Self { cluster, plane })
    }

    /// The API server and the store.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The control loops and the data plane.
    #[must_use]
    pub fn plane(&self) -> &Plane {
        &self.plane
    }

    /// From now on, pods of Jobs with this image run a program of this machine; see [`super::kubelet::Kubelet::run_image`].
    pub fn run_image(&self, image: &str, executable: &Path) {
        self.plane.kubelet().run_image(image, executable, &self.cluster.url());
    }

    /// Waits until every Service of the stack has its address and every Deployment has the pods that it asks for, all
    /// ready, and no other.
    ///
    /// # Errors
    ///
    /// `TimedOut` if that takes longer than `within`.
    pub async fn ready(&self, within: Duration) -> io::Result<()> {
        let store = self.cluster.store();
        let ready = async {
            loop {
                let mut changes = subscribe(store);
                let services = store.list(&SERVICES, Some(stack::ML)).items;
                let deployments = store.list(&DEPLOYMENTS, Some(stack::ML)).items;
                let have_addresses = services.iter().all(|service| service["spec"]["clusterIP"].is_string());
                if have_addresses && deployments.iter().all(|deployment| is_rolled_out(deployment)) {
                    return;
                }
                // Having missed changes is a reason to look as well.
                let _change = changes.next().await;
            }
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the stack is not ready");
        tokio::time::timeout(within, ready).await.map_err(late)
    }

    /// Ends everything and waits for it. Calling it again does nothing.
    pub async fn shutdown(&self) {
        self.cluster.shutdown().await;
        self.plane.shutdown().await;
    }
}

/// As `kubectl rollout status` decides it: the latest spec was acted on, and its pods are all there is.
fn is_rolled_out(deployment: &Value) -> bool {
    let status = &deployment["status"];
    let has_all = |field: &str| status[field].as_u64().unwrap_or(0) == deployment["spec"]["replicas"];
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && ["updatedReplicas", "replicas", "readyReplicas"].into_iter().all(has_all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_rolled_out;

    #[test]
    fn a_deployment_is_not_ready_while_pods_of_before_are_left_or_its_spec_was_not_seen() {
        let stands = |generation: u64, updated: u64, pods: u64, ready: u64| {
            is_rolled_out(&json!({
                "metadata": { "generation": 3 },
                "spec": { "replicas": 2 },
                "status": {
                    "observedGeneration": generation, "updatedReplicas": updated, "replicas": pods, "readyReplicas": ready,
                },
            }))
        };
        assert!(stands(3, 2, 2, 2));
        assert!(!stands(2, 2, 2, 2), "the change was not acted on");
        assert!(!stands(3, 1, 2, 2), "one is of before");
        assert!(!stands(3, 2, 3, 2), "one of before is left");
        assert!(!stands(3, 2, 2, 1), "one is not ready");
        let none = json!({ "metadata": { "generation": 1 }, "spec": { "replicas": 0 }, "status": { "observedGeneration": 1 } });
        assert!(is_rolled_out(&none));
    }
}
