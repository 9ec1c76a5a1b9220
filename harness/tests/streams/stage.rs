//! A mock cluster with the stock content, and the clients of the harness before it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use harness::cluster::access::Access;
use harness::cluster::prober::{Fleet, Prober, ProberError, ProberOptions, Seen, Target, in_pod};
use harness::environment::ObjectName;
use harness::journal::{Clock, Entry, Journal};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::Selector;
use mocks::gateway::Secret;
use mocks::kubernetes::api::User;
use mocks::kubernetes::cluster::ClusterOptions;
use mocks::kubernetes::controllers::{Opponent, Timing};
use mocks::kubernetes::household::{Household, HouseholdOptions};
use mocks::kubernetes::network::Cni;
use mocks::kubernetes::stack::{StackOptions, WorldProcesses};
use mocks::profile::Profile;
use mocks::time::Epoch;
use mocks::world::{World, WorldOptions};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);
pub(crate) const CLOUD: &str = "ollama.com";
const CLOUD_PORT: u16 = 8443;

/// What differs between the stages of tests.
pub(crate) struct Staging {
    pub(crate) cni: Cni,
    pub(crate) replicas: u32,
    pub(crate) users: Vec<User>,
    pub(crate) opponents: Vec<Opponent>,
}

impl Default for Staging {
    fn default() -> Self {
        Self { cni: Cni::K3s, replicas: 1, users: Vec::new(), opponents: Vec::new() }
    }
}

pub(crate) struct Stage {
    pub(crate) household: Household,
    pub(crate) access: Access,
    pub(crate) journal: Arc<Journal>,
    world: Arc<World>,
    gateway: JoinHandle<()>,
    dir: TempDir,
}

/// Answers any request with an empty 204, on kept connections.
async fn empty_answers() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, task)
}

impl Stage {
    pub(crate) async fn set(staging: Staging) -> Self {
        let clock = Clock::starting_now();
        let epoch = Epoch::from_instant(clock.zero());
        let world = World::start(WorldOptions::five_aliases(epoch, 1, Profile::fast())).await.unwrap();
        let socket = |name: &str| -> SocketAddr {
            let url = world.base_url(name).unwrap();
            url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
        };
        let (gateway_at, gateway) = empty_answers().await;
        let stack = StackOptions {
            cloud: socket("cloud"),
            cloud_host: CLOUD.to_owned(),
            cloud_port: CLOUD_PORT,
            vllm: socket("vllm"),
            ollama: socket("ollama"),
            gateway: gateway_at,
            master_key: Secret::new("sk-test"),
            gateway_replicas: staging.replicas,
            vllm_ready_after: None,
            opponents: staging.opponents,
        };
        let world = Arc::new(world);
        let mut cluster = ClusterOptions::new(epoch, 1, &["ml", "apps"]);
        cluster.users = staging.users;
        let options = HouseholdOptions {
            cluster,
            cni: staging.cni,
            timing: Timing::fast(),
            stack,
            processes: Arc::new(WorldProcesses::new(Arc::clone(&world))),
        };
        let household = Household::start(options).await.unwrap();
        let access = access(&household.cluster().kubeconfig()).await;
        let dir = TempDir::new().unwrap();
        let journal = Arc::new(Journal::create(&dir.path().join("journal.jsonl"), clock).unwrap());
        let stage = Self { household, access, journal, world, gateway, dir };
        stage.gateway_pods(staging.replicas as usize).await;
        stage
    }

    pub(crate) fn clock(&self) -> Clock {
        self.journal.clock()
    }

    /// The gateway's pods, once so many are ready.
    pub(crate) async fn gateway_pods(&self, count: usize) -> Vec<ObjectName> {
        let mut looks = interval(LOOK_EVERY);
        let all_ready = async {
            loop {
                looks.tick().await;
                let pods =
                    harness::cluster::watch::ready_pods(&self.access, "ml", &app("litellm")).await.unwrap();
                if pods.len() == count {
                    return pods;
                }
            }
        };
        tokio::time::timeout(LIMIT, all_ready).await.expect("the gateway's pods become ready")
    }

    /// A prober in the gateway's only pod.
    pub(crate) async fn prober(&self, access: &Access) -> Result<Prober, ProberError> {
        let pod = self.gateway_pods(1).await.remove(0);
        let open = in_pod(access, &pod, Some("litellm"));
        Prober::start(open, targets(), quick(), Arc::clone(&self.journal)).await
    }

    /// A prober in each of these pods.
    pub(crate) async fn fleet(&self, pods: &[ObjectName]) -> Fleet {
        let container = Some("litellm");
        Fleet::start(&self.access, pods, container, &targets(), &quick(), &self.journal).await.unwrap()
    }

    /// The cloud is not to be reached any more, as a run would have it.
    pub(crate) async fn blackhole(&self, addresses: &BTreeSet<IpAddr>) -> NetworkPolicy {
        let except: Vec<String> = addresses.iter().map(|address| format!("{address}/32")).collect();
        let policy: NetworkPolicy = serde_json::from_value(json!({
            "metadata": { "name": "drill-blackhole-r1", "namespace": "ml", "labels": { "failover-harness/run": "r1" } },
            "spec": {
                "podSelector": { "matchLabels": { "app": "litellm" } },
                "policyTypes": ["Egress"],
                "egress": [
                    { "to": [{ "namespaceSelector": {} }] },
                    { "to": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": except } }] },
                ],
            },
        }))
        .unwrap();
        self.access.create(&policy_name(), &policy).await.unwrap()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        let text = std::fs::read_to_string(self.dir.path().join("journal.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) async fn strike(self) {
        self.household.shutdown().await;
        self.world.shutdown().await;
        self.gateway.abort();
    }
}

fn targets() -> Vec<Target> {
    vec![
        Target::endpoint("cloud", &format!("http://{CLOUD}:{CLOUD_PORT}")).unwrap(),
        Target::service("vllm", &ObjectName::new("ml", "vllm"), 8000),
    ]
}

fn quick() -> ProberOptions {
    ProberOptions {
        look_every: Duration::from_millis(50),
        hang: Duration::from_millis(300),
        ask_every: Duration::from_millis(200),
        resolve_every: Duration::from_millis(200),
        ..ProberOptions::new(4000, Duration::from_secs(120))
    }
}

pub(crate) async fn access(kubeconfig: &serde_json::Value) -> Access {
    Access::with_kubeconfig(kubeconfig, "mock", &["ml".to_owned(), "apps".to_owned()]).await.unwrap()
}

pub(crate) fn policy_name() -> ObjectName {
    ObjectName::new("ml", "drill-blackhole-r1")
}

pub(crate) fn app(name: &str) -> Selector {
    Selector::from_iter([("app".to_owned(), name.to_owned())])
}

pub(crate) async fn wait<T: Clone + std::fmt::Debug>(
    mut receiver: watch::Receiver<T>,
    wanted: impl FnMut(&T) -> bool,
) -> T {
    if let Ok(Ok(value)) = tokio::time::timeout(LIMIT, receiver.wait_for(wanted)).await {
        return value.clone();
    }
    panic!("not seen: {:?}", receiver.borrow().clone());
}

pub(crate) async fn see(prober: &Prober, wanted: impl FnMut(&Seen) -> bool) -> Seen {
    wait(prober.seen(), wanted).await
}
