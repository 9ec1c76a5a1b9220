//! The control loops and the data plane of a mock cluster together, over a store.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::controllers::{self, Timing, reconcile};
use super::kubelet::{Kubelet, KubeletParts, Processes, Workload};
use super::network::names::Names;
use super::network::proxy::Proxy;
use super::network::{Enforcement, Network};
use super::store::Store;

/// The one node of the cluster.
pub const NODE: &str = "mock-node";

/// What a [`Plane`] is made of.
pub struct PlaneOptions {
    /// How long everything takes.
    pub timing: Timing,
    /// What is behind the pods.
    pub workloads: Vec<Workload>,
    /// Who is told of processes that begin and end.
    pub processes: Arc<dyn Processes>,
}

/// The running loops. Dropping it ends them soon; [`Plane::shutdown`] waits for that.
pub struct Plane {
    network: Arc<Network>,
    names: Names,
    kubelet: Kubelet,
    end: CancellationToken,
    tasks: TaskTracker,
    _ends_with_plane: DropGuard,
}

impl Plane {
    /// Starts everything over what is in the store and what comes, on the present runtime.
    ///
    /// # Errors
    ///
    /// The DNS of the cluster cannot listen, or there is no room for temporary files.
    pub fn start(store: &Store, network: Arc<Network>, options: PlaneOptions) -> io::Result<Self> {
        let PlaneOptions { timing, workloads, processes } = options;
        let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
        let ends_with_plane = end.clone().drop_guard();
        let names = Names::new(store.clone(), Arc::clone(&network));
        let names_at = names.serve(end.clone(), &tasks)?;
        let parts = KubeletParts {
            store: store.clone(),
            network: Arc::clone(&network),
            names_at,
            node: NODE.to_owned(),
            timing,
            workloads,
            processes,
        };
        let kubelet = Kubelet::start(parts, end.clone(), tasks.clone())?;
        controllers::start(store, timing, &end, &tasks);
        let proxy = Proxy::new(store.clone(), Arc::clone(&network));
        let enforcement = Enforcement::new(store.clone(), Arc::clone(&network), timing);
        // kube-proxy and the CNI have delays of their own.
        let delay = timing.react_after;
        tasks.spawn(reconcile::run(store.clone(), delay, end.clone(), proxy));
        tasks.spawn(reconcile::run(store.clone(), delay, end.clone(), enforcement));
        Ok(Self { network, names, kubelet, end, tasks, _ends_with_plane: ends_with_plane })
    }

    /// Runs what is asked of pods: give it to the API server.
    #[must_use]
    pub fn kubelet(&self) -> &Kubelet {
        &self.kubelet
    }

    /// The data plane.
    #[must_use]
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// What a name means in a pod of this namespace; nothing where it does not exist.
    #[must_use]
    pub fn resolve(&self, namespace: &str, name: &str) -> Vec<Ipv4Addr> {
        self.names.resolve(namespace, name)
    }

    /// Ends all loops, connections and commands, and waits for them. Calling it again does nothing.
    pub async fn shutdown(&self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.network.shutdown().await;
    }
}
