//! The node of the mock cluster: it takes pods to their readiness and to their end, and runs what is asked of their
//! containers.
//!
//! A pod's process is a socket somewhere in this process or outside, its *backing*: the pod's address forwards to it
//! from readiness until the process "exits". Only commands of an exec are real processes, and the pods of Jobs whose
//! image stands for a program ([`Kubelet::run_image`]).

mod exec;
mod lifecycle;
mod logs;
mod names;
mod packet_filter;
mod port_forward;
mod process;
mod program;
mod spdy;
mod status;
mod websocket;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Response;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::logs::Logs;
use self::names::NameFiles;
use super::controllers::Timing;
use super::controllers::objects::meta;
use super::controllers::reconcile::subscribe;
use super::network::Network;
use super::pod_io::{Body, PodIo, PodRequest};
use super::refusal::Refusal;
use super::resources::{NODES, PODS};
use super::store::{ObjectKey, Store};

/// What is behind the pods of a Deployment.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The Deployment's namespace.
    pub namespace: String,
    /// The Deployment's name.
    pub deployment: String,
    /// The socket that stands for the process in its pods.
    pub backing: SocketAddr,
    /// From the running container to its readiness; the cluster's timing where it is none.
    pub ready_after: Option<Duration>,
}

impl Workload {
    fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.deployment.clone())
    }
}

/// Whoever wants to know when the processes of a Deployment begin and end: the owner of the backing.
pub trait Processes: Send + Sync + 'static {
    /// The first process of the Deployment serves; connections come once the future is done.
    fn started(&self, namespace: &str, deployment: &str) -> BoxFuture<'static, ()>;

    /// The last process of the Deployment is gone, and its connections with it.
    fn stopped(&self, namespace: &str, deployment: &str) -> BoxFuture<'static, ()>;

    /// What the processes print goes there; nobody has to print anything.
    fn print_to(&self, _printed: Printed) {}
}

/// Takes a line that is printed behind the pods of a Deployment: its namespace, its name, and the line.
pub type Printed = Arc<dyn Fn(&str, &str, &str) + Send + Sync>;

/// The first process of a Deployment began, or its last one ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProcessChange {
    /// The Deployment's namespace.
    pub namespace: String,
    /// The Deployment's name.
    pub deployment: String,
    /// Whether it began.
    pub started: bool,
    /// When, in microseconds on the run's clock.
    pub at_us: u64,
}

/// Changes that are kept; later ones are not.
const PROCESS_CHANGES_MAX: usize = 10_000;

/// Processes that nobody asks about.
#[derive(Debug, Clone, Copy)]
pub struct Unheard;

impl Processes for Unheard {
    fn started(&self, _: &str, _: &str) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn stopped(&self, _: &str, _: &str) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

/// What a kubelet is made of.
pub(crate) struct KubeletParts {
    pub(crate) store: Store,
    pub(crate) network: Arc<Network>,
    pub(crate) names_at: SocketAddr,
    pub(crate) node: String,
    pub(crate) timing: Timing,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) processes: Arc<dyn Processes>,
}

/// The kubelet. Copies are the same.
#[derive(Clone)]
pub struct Kubelet {
    inner: Arc<Inner>,
}

struct Inner {
    parts: KubeletParts,
    names: NameFiles,
    logs: Logs,
    running: Mutex<BTreeMap<String, Running>>,
    /// Serving processes of each Deployment; held through the calls of [`Processes`].
    serving: tokio::sync::Mutex<BTreeMap<(String, String), usize>>,
    changes: Mutex<Vec<ProcessChange>>,
    /// What is behind the pods, those of the parts included.
    workloads: Mutex<Vec<Workload>>,
    /// What the images are of which there is a program.
    programs: Mutex<Vec<program::Program>>,
    /// The backing of each Deployment at present.
    backings: Mutex<BTreeMap<(String, String), SocketAddr>>,
    /// Open connections of port-forwards: their end here, and the pod's uid.
    forwarded: Mutex<BTreeMap<SocketAddr, String>>,
    end: CancellationToken,
    tasks: TaskTracker,
}

/// A pod whose container runs.
#[derive(Debug, Clone)]
struct Running {
    /// Cancelled when its process is gone.
    life: CancellationToken,
    ip: Ipv4Addr,
    /// What is behind it, by namespace and Deployment.
    workload: Option<(String, String)>,
    /// Ports at which its process listens, once it does.
    ports: Vec<u16>,
    serves: bool,
    environments: Arc<Environments>,
}

/// The variables that each container of a pod was started with, by its name. Some are secrets.
struct Environments(BTreeMap<String, BTreeMap<String, std::ffi::OsString>>);

impl std::fmt::Debug for Environments {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Running {
    /// What a container was started with; none for one that was added later.
    fn started_with(&self, container: &Value) -> Option<BTreeMap<String, std::ffi::OsString>> {
        self.environments.0.get(container["name"].as_str()?).cloned()
    }
}

impl Kubelet {
    /// Starts with an empty node. It ends with `end`.
    pub(crate) fn start(parts: KubeletParts, end: CancellationToken, tasks: TaskTracker) -> io::Result<Self> {
        let names = NameFiles::make(parts.names_at)?;
        let backing = |workload: &Workload| (workload.key(), workload.backing);
        let backings = Mutex::new(parts.workloads.iter().map(backing).collect());
        let workloads = Mutex::new(parts.workloads.clone());
        let inner = Inner {
            parts,
            names,
            logs: Logs::default(),
            running: Mutex::default(),
            serving: tokio::sync::Mutex::default(),
            changes: Mutex::default(),
            workloads,
            programs: Mutex::default(),
            backings,
            forwarded: Mutex::default(),
            end,
            tasks,
        };
        let kubelet = Self { inner: Arc::new(inner) };
        kubelet.inner.tasks.spawn(kubelet.clone().watch_pods());
        Ok(kubelet)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the containers of a pod get that starts now.
    fn environments(&self, pod: &Value) -> Environments {
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let named = containers.filter_map(|container| {
            Some((container["name"].as_str()?.to_owned(), process::environment(self, pod, container)))
        });
        Environments(named.collect())
    }

    /// The running pod of this object, while its process lives.
    fn running_pod(&self, pod: &Value) -> Option<Running> {
        self.running().get(meta(pod, "uid")).cloned()
    }

    /// Puts another socket behind the pods of a Deployment, those that run included; present connections stay where
    /// they are. False for a Deployment that has no socket.
    pub fn set_backing(&self, namespace: &str, deployment: &str, backing: SocketAddr) -> bool {
        let key = (namespace.to_owned(), deployment.to_owned());
        let running: Vec<Ipv4Addr> = {
            let mut backings = self.inner.backings.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(slot) = backings.get_mut(&key) else { return false };
            *slot = backing;
            let running = self.running();
            let of_key = running.values().filter(|running| running.workload.as_ref() == Some(&key));
            of_key.map(|running| running.ip).collect()
        };
        for port in running.into_iter().flat_map(|ip| self.inner.parts.network.pod_ports(ip)) {
            port.route().set(vec![backing]);
        }
        true
    }

    /// From now on the pods of a Deployment take so long to become ready. False for one that is not known.
    pub fn set_ready_after(&self, namespace: &str, deployment: &str, ready_after: Duration) -> bool {
        let key = (namespace.to_owned(), deployment.to_owned());
        let mut workloads = self.inner.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        let workload = workloads.iter_mut().find(|workload| workload.key() == key);
        workload.map(|workload| workload.ready_after = Some(ready_after)).is_some()
    }

    /// Knows what is behind the pods of one more Deployment, which must not have any yet.
    pub fn add_workload(&self, workload: Workload) {
        let mut backings = self.inner.backings.lock().unwrap_or_else(PoisonError::into_inner);
        backings.insert(workload.key(), workload.backing);
        self.inner.workloads.lock().unwrap_or_else(PoisonError::into_inner).push(workload);
    }

    /// From now on, pods of Jobs with this image (whatever its tag) run a program of this machine, with the arguments and
    /// the environment of their container and files for its volumes. Paths below a `mountPath` are replaced in both, as
    /// nothing is really mounted. Instead of the files of its service account the process has `KUBECONFIG`, whose
    /// context is named as everywhere, with the account's token for the API server at `api`.
    pub fn run_image(&self, image: &str, executable: &Path, api: &str) {
        let program = program::Program {
            image: image.to_owned(),
            executable: executable.to_owned(),
            api: api.to_owned(),
        };
        self.inner.programs.lock().unwrap_or_else(PoisonError::into_inner).push(program);
    }

    /// Where the files of a PersistentVolumeClaim are, as long as the kubelet lives.
    #[must_use]
    pub fn claim_folder(&self, namespace: &str, claim: &str) -> PathBuf {
        program::claim_folder(self, namespace, claim)
    }

    /// What a container has written so far, line by line; the pod may be gone.
    #[must_use]
    pub fn log_of(&self, pod: &Value, container: &str) -> Vec<String> {
        self.inner.logs.lines(meta(pod, "uid"), container)
    }

    fn backing(&self, key: &(String, String)) -> Option<SocketAddr> {
        self.inner.backings.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    /// Every begin and end of a Deployment's processes so far, in their order.
    #[must_use]
    pub fn process_changes(&self) -> Vec<ProcessChange> {
        self.inner.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_change(&self, workload: &Workload, started: bool) {
        let mut changes = self.inner.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.len() < PROCESS_CHANGES_MAX {
            let (namespace, deployment) = (workload.namespace.clone(), workload.deployment.clone());
            let at_us = self.inner.parts.store.clock().now_us();
            changes.push(ProcessChange { namespace, deployment, started, at_us });
        }
    }

    /// Adds a line to the log of a container.
    pub fn log_line(&self, pod: &Value, container: &str, line: &str) {
        self.inner.logs.add(meta(pod, "uid"), container, line, self.inner.parts.store.clock().now());
    }

    /// Whether a pod is for this node: it names it, or names none and asks for no labels that it has not.
    fn takes(&self, pod: &Value) -> bool {
        let spec = &pod["spec"];
        let own = self.inner.parts.node.as_str();
        if let Some(node) = spec["nodeName"].as_str().filter(|node| !node.is_empty()) {
            return node == own;
        }
        let wanted = spec["nodeSelector"].as_object().filter(|wanted| !wanted.is_empty());
        wanted.is_none_or(|wanted| {
            let node = self.inner.parts.store.get(&ObjectKey::new(&NODES, "", own));
            let labels = node.as_ref().map(|node| &node["metadata"]["labels"]);
            wanted.iter().all(|(label, value)| labels.is_some_and(|labels| labels.get(label) == Some(value)))
        })
    }

    /// What is behind the pods of a Deployment writes a line, perhaps about a client. It is one socket for all of these
    /// pods, so the line goes to the pod that the client was port-forwarded into, for any other client to the first
    /// that serves, and nowhere if none does.
    pub fn log_line_for(
        &self,
        namespace: &str,
        deployment: &str,
        container: &str,
        client: Option<SocketAddr>,
        line: &str,
    ) {
        let key = (namespace.to_owned(), deployment.to_owned());
        let forwarded = client.and_then(|client| self.forwarded().get(&client).cloned());
        let uid = forwarded.or_else(|| {
            let running = self.running();
            let mut of_key = running.iter().filter(|(_, pod)| pod.workload.as_ref() == Some(&key));
            of_key.find(|(_, pod)| pod.serves).map(|(uid, _)| uid.clone())
        });
        if let Some(uid) = uid {
            self.inner.logs.add(&uid, container, line, self.inner.parts.store.clock().now());
        }
    }

    /// Takes lines for the container that has the name of its Deployment, as long as there is a kubelet.
    #[must_use]
    pub(in crate::kubernetes) fn printed(&self) -> Printed {
        let inner = Arc::downgrade(&self.inner);
        Arc::new(move |namespace, deployment, line| {
            if let Some(inner) = inner.upgrade() {
                Self { inner }.log_line_for(namespace, deployment, deployment, None, line);
            }
        })
    }

    fn forwarded(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, String>> {
        self.inner.forwarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up every pod of this node that appears. There are no other nodes: other pods stay as they are.
    async fn watch_pods(self) {
        let mut taken = std::collections::BTreeSet::new();
        let work = async {
            loop {
                let mut changes = subscribe(&self.inner.parts.store);
                let pods = self.inner.parts.store.list(&PODS, None).items;
                taken.retain(|uid: &String| pods.iter().any(|pod| meta(pod, "uid") == uid));
                for pod in pods {
                    if self.takes(&pod) && taken.insert(meta(&pod, "uid").to_owned()) {
                        let life = lifecycle::Lifecycle::new(self.clone(), &pod);
                        self.inner.tasks.spawn(life.live());
                    }
                }
                while let Ok(change) = changes.next().await {
                    if *change.key.resource == PODS {
                        break;
                    }
                }
            }
        };
        tokio::select! {
            () = self.inner.end.cancelled() => {}
            () = work => {}
        }
    }
}

/// The container that a request names, else the first.
fn container_of<'a>(pod: &'a Value, query: &[(String, String)]) -> Result<&'a Value, Refusal> {
    let asked = parameter(query, "container").filter(|name| !name.is_empty());
    let lists = ["containers", "ephemeralContainers", "initContainers"];
    let mut all = lists.iter().flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten());
    let found = match asked {
        Some(name) => all.find(|container| container["name"] == name),
        None => all.next(),
    };
    found.ok_or_else(|| {
        let (name, pod) = (asked.unwrap_or_default(), meta(pod, "name"));
        Refusal::BadRequest(format!("container {name} is not valid for pod {pod}"))
    })
}

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn is_set(query: &[(String, String)], name: &str) -> bool {
    parameter(query, name).is_some_and(|value| ["true", "1"].contains(&value))
}

fn refused(refusal: &Refusal) -> Response<Body> {
    use http_body_util::BodyExt;
    let body = http_body_util::Full::from(refusal.status().to_string());
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = refusal.code();
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

impl PodIo for Kubelet {
    fn exec(&self, request: PodRequest) -> BoxFuture<'static, Response<Body>> {
        let answer = exec::exec(self, request).unwrap_or_else(|refusal| refused(&refusal));
        Box::pin(async { answer })
    }

    fn port_forward(&self, request: PodRequest) -> BoxFuture<'static, Response<Body>> {
        let answer = port_forward::port_forward(self, request).unwrap_or_else(|refusal| refused(&refusal));
        Box::pin(async { answer })
    }

    fn log(&self, request: PodRequest) -> BoxFuture<'static, Response<Body>> {
        let answer = logs::log(self, &request).unwrap_or_else(|refusal| refused(&refusal));
        Box::pin(async { answer })
    }
}
