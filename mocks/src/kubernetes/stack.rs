//! The stock content of the mock cluster: a household's LLM stack, as a person would have deployed it.
//!
//! Namespace `ml` has the gateway `litellm` and the backends `vllm` and `ollama`, `apps` the client's Secret. The cloud
//! is a host outside the cluster.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::controllers::Opponent;
use super::kubelet::{Printed, Processes, Workload};
use super::network::{Callers, Network};
use super::plane::NODE;
use super::refusal::Refusal;
use super::resources::{
    APPLICATIONS, DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS, KUSTOMIZATIONS, NAMESPACES, NODES, Resource,
    SCALED_OBJECTS, SECRETS, SERVICE_ACCOUNTS, SERVICES,
};
use super::store::{ObjectKey, Store, Writer};
use crate::gate::GateMode;
use crate::gateway::Secret;
use crate::world::World;

/// The namespace of gateway and backends.
pub const ML: &str = "ml";
/// The namespace of the client.
pub const APPS: &str = "apps";
/// The label by which a Deployment agrees to be faulted.
pub const OPT_IN: &str = "failover-harness/target";

const MANAGER: &str = "kubectl-client-side-apply";
const GATEWAY_PORT: u16 = 4000;

/// What the stock content is wired to.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// The socket behind the cloud's name.
    pub cloud: SocketAddr,
    /// The cloud's name.
    pub cloud_host: String,
    /// The cloud's port.
    pub cloud_port: u16,
    /// The socket behind the pods of `ml/vllm`.
    pub vllm: SocketAddr,
    /// The socket behind the pods of `ml/ollama`.
    pub ollama: SocketAddr,
    /// The socket behind the pods of `ml/litellm`; a gateway that starts after the cluster is put there by
    /// [`super::kubelet::Kubelet::set_backing`].
    pub gateway: SocketAddr,
    /// The gateway's master key, for the Secret `apps/openclaw-secrets`.
    pub master_key: Secret,
    /// Pods of the gateway.
    pub gateway_replicas: u32,
    /// From a running container of vLLM to its readiness; the cluster's timing where it is none.
    pub vllm_ready_after: Option<Duration>,
    /// Who sets the replicas of `ml/vllm` besides its owner.
    pub opponents: Vec<Opponent>,
}

/// Why the content could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The store refused an object.
    #[error("the store refused an object of the stock content")]
    Refused(#[from] Refusal),
    /// The cloud's port could not be bound.
    #[error("the cloud cannot listen")]
    Cloud(#[from] io::Error),
}

/// The pods that every client of the data plane is taken to be in: the gateway's.
#[must_use]
pub fn callers() -> Callers {
    Callers { namespace: ML.to_owned(), labels: [("app".to_owned(), "litellm".to_owned())].into() }
}

/// What is behind the pods, for [`super::plane::PlaneOptions`].
#[must_use]
pub fn workloads(options: &StackOptions) -> Vec<Workload> {
    let workload = |deployment: &str, backing, ready_after| Workload {
        namespace: ML.to_owned(),
        deployment: deployment.to_owned(),
        backing,
        ready_after,
    };
    vec![
        workload("litellm", options.gateway, None),
        workload("vllm", options.vllm, options.vllm_ready_after),
        workload("ollama", options.ollama, None),
    ]
}

/// Puts the content into the store and the cloud beside the cluster.
///
/// # Errors
///
/// An object is there already, or the cloud's port cannot be bound.
pub async fn lay_out(store: &Store, network: &Network, options: &StackOptions) -> Result<(), StackError> {
    network.add_host(&options.cloud_host, options.cloud_port, options.cloud, 1).await?;
    make_base(store, network, options.master_key.expose())?;
    for (name, port, image, replicas) in [
        ("litellm", GATEWAY_PORT, "ghcr.io/berriai/litellm:v1.106.2", options.gateway_replicas),
        ("vllm", 8000, "vllm/vllm-openai:v0.11.0", 1),
        ("ollama", 11_434, "ollama/ollama:0.12.6", 1),
    ] {
        create(store, &DEPLOYMENTS, ML, deployment(name, port, image, replicas))?;
        create(store, &SERVICES, ML, service(name, port))?;
    }
    for opponent in &options.opponents {
        add_opponent(store, *opponent)?;
    }
    Ok(())
}

fn create(store: &Store, resource: &'static Resource, namespace: &str, object: Value) -> Result<(), Refusal> {
    store.create(resource, namespace, object, Writer::of_object(MANAGER)).map(drop)
}

/// Namespaces, accounts, the node and the Secret.
fn make_base(store: &Store, network: &Network, master_key: &str) -> Result<(), Refusal> {
    for namespace in ["default", "kube-system", ML, APPS] {
        let object = json!({ "metadata": { "name": namespace } });
        match create(store, &NAMESPACES, "", object) {
            // The cluster may have made it.
            Ok(()) | Err(Refusal::AlreadyExists { .. }) => {}
            Err(error) => return Err(error),
        }
        match create(store, &SERVICE_ACCOUNTS, namespace, json!({ "metadata": { "name": "default" } })) {
            Ok(()) | Err(Refusal::AlreadyExists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let node = json!({
        "metadata": {
            "name": NODE,
            "labels": { "kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" },
        },
        "spec": { "podCIDR": network.pod_cidr(), "podCIDRs": [network.pod_cidr()] },
    });
    create(store, &NODES, "", node)?;
    let now = super::clock::to_seconds(store.clock().now());
    store.update(&ObjectKey::new(&NODES, "", NODE), Writer::of_status("kubelet"), |node| {
        node["status"] = json!({
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady",
                "message": "kubelet is posting ready status",
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            }],
            "addresses": [
                { "type": "InternalIP", "address": "127.0.0.1" },
                { "type": "Hostname", "address": NODE },
            ],
            "capacity": { "cpu": "8", "memory": "64Gi", "pods": "110" },
            "allocatable": { "cpu": "8", "memory": "64Gi", "pods": "110" },
            "nodeInfo": {
                "kubeletVersion": "v1.33.1+k3s1", "osImage": "mock", "kernelVersion": "mock",
                "containerRuntimeVersion": "containerd://2.0.5-k3s1", "architecture": "amd64",
                "operatingSystem": "linux",
            },
        });
        Ok(())
    })?;
    let secret = json!({
        "metadata": { "name": "openclaw-secrets" },
        "type": "Opaque",
        "stringData": { "LITELLM_MASTER_KEY": master_key },
    });
    create(store, &SECRETS, APPS, secret)
}

fn deployment(name: &str, port: u16, image: &str, replicas: u32) -> Value {
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": "http" } });
    let mut container = json!({
        "name": name,
        "image": image,
        "ports": [{ "name": "http", "containerPort": port }],
    });
    if name == "litellm" {
        container["livenessProbe"] = probe("/health/liveliness");
        container["readinessProbe"] = probe("/health/readiness");
    }
    json!({
        "metadata": { "name": name, "labels": { "app": name, OPT_IN: "true" } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "terminationGracePeriodSeconds": 30, "containers": [container] },
            },
        },
    })
}

fn service(name: &str, port: u16) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "selector": { "app": name },
            "ports": [{ "name": "http", "port": port, "targetPort": "http" }],
        },
    })
}

/// Puts `ml/vllm` under the care of an opponent.
///
/// # Errors
///
/// Its objects are there already.
pub fn add_opponent(store: &Store, opponent: Opponent) -> Result<(), Refusal> {
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm" });
    let vllm = ObjectKey::new(&DEPLOYMENTS, ML, "vllm");
    match opponent {
        Opponent::Hpa => {
            let spec = json!({ "scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3 });
            let object = json!({ "metadata": { "name": "vllm" }, "spec": spec });
            create(store, &HORIZONTAL_POD_AUTOSCALERS, ML, object)
        }
        Opponent::Keda => {
            let trigger = json!({ "type": "prometheus", "metadata": { "threshold": "1" } });
            let spec = json!({
                "scaleTargetRef": { "name": "vllm" }, "pollingInterval": 30, "minReplicaCount": 0,
                "maxReplicaCount": 1, "triggers": [trigger],
            });
            create(store, &SCALED_OBJECTS, ML, json!({ "metadata": { "name": "vllm" }, "spec": spec }))
        }
        Opponent::Argo => {
            store.update(&vllm, Writer::of_object("argocd-controller"), |vllm| {
                let id = "household:apps/Deployment:ml/vllm";
                super::controllers::objects::annotate(vllm, "argocd.argoproj.io/tracking-id", id);
                Ok(())
            })?;
            let spec = json!({
                "destination": { "server": "https://kubernetes.default.svc", "namespace": ML },
                "project": "default",
                "source": { "repoURL": "https://git.invalid/household.git", "path": "ml", "targetRevision": "HEAD" },
                "syncPolicy": { "automated": { "selfHeal": true, "prune": true } },
            });
            // Argo CD's own namespace is not needed for that.
            create(store, &APPLICATIONS, ML, json!({ "metadata": { "name": "household" }, "spec": spec }))
        }
        Opponent::Flux => {
            store.update(&vllm, Writer::of_object("kustomize-controller"), |vllm| {
                vllm["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = "household".into();
                vllm["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/namespace"] = ML.into();
                Ok(())
            })?;
            let spec = json!({
                "interval": "1m", "prune": true, "path": "./ml",
                "sourceRef": { "kind": "GitRepository", "name": "household" },
            });
            create(store, &KUSTOMIZATIONS, ML, json!({ "metadata": { "name": "household" }, "spec": spec }))
        }
    }
}

/// Lets the mock world know of the processes in the pods: a component whose last process ended refuses, and comes back
/// cold.
#[derive(Debug, Clone)]
pub struct WorldProcesses {
    world: Arc<World>,
}

impl WorldProcesses {
    /// The components of `world` have the names of their Deployments in [`ML`].
    #[must_use]
    pub fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    fn set(&self, namespace: &str, deployment: &str, mode: GateMode) -> BoxFuture<'static, ()> {
        let (world, deployment) = (Arc::clone(&self.world), deployment.to_owned());
        let is_ours = namespace == ML;
        Box::pin(async move {
            if is_ours {
                // The gateway is no component of the world.
                let _set = world.set(&deployment, mode).await;
            }
        })
    }
}

impl Processes for WorldProcesses {
    fn started(&self, namespace: &str, deployment: &str) -> BoxFuture<'static, ()> {
        self.set(namespace, deployment, GateMode::Pass)
    }

    fn stopped(&self, namespace: &str, deployment: &str) -> BoxFuture<'static, ()> {
        self.set(namespace, deployment, GateMode::Refuse)
    }

    fn print_to(&self, printed: Printed) {
        for component in self.world.states() {
            let (name, printed) = (component.name.clone(), Arc::clone(&printed));
            let sink = Arc::new(move |line: &str| printed(ML, &name, line));
            // It is a component of the world.
            let _led = self.world.log_to(&component.name, sink);
        }
    }
}
