//! A mock cluster with echo servers behind it, and waiting for a condition.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use mocks::gateway::Secret;
use mocks::kubernetes::cluster::ClusterOptions;
use mocks::kubernetes::controllers::Timing;
use mocks::kubernetes::household::{Household, HouseholdOptions};
use mocks::kubernetes::kubelet::{Processes, Unheard};
use mocks::kubernetes::network::Cni;
use mocks::kubernetes::stack::StackOptions;
use mocks::time::Epoch;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A bound on waits that are expected to end.
pub(crate) const WITHIN: Duration = Duration::from_secs(20);
pub(crate) const CLOUD: &str = "ollama.com";
pub(crate) const CLOUD_PORT: u16 = 18_443;

/// A running cluster and a client of it.
pub(crate) struct Stage {
    pub(crate) household: Household,
    pub(crate) client: Client,
}

/// Starts a server that sends back what it gets. It ends with the runtime of the test.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _copied = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

/// Options for a fast cluster before echo servers.
pub(crate) async fn options() -> HouseholdOptions {
    HouseholdOptions {
        cluster: ClusterOptions::new(Epoch::starting_now(), 7, &["ml", "apps"]),
        cni: Cni::K3s,
        timing: Timing::fast(),
        stack: StackOptions {
            cloud: echo_server().await,
            cloud_host: CLOUD.to_owned(),
            cloud_port: CLOUD_PORT,
            vllm: echo_server().await,
            ollama: echo_server().await,
            gateway: echo_server().await,
            master_key: Secret::new("sk-mock"),
            gateway_replicas: 1,
            vllm_ready_after: None,
            opponents: Vec::new(),
        },
        processes: Arc::new(Unheard) as Arc<dyn Processes>,
    }
}

/// Starts a cluster and waits until all of the stack serves.
pub(crate) async fn start(options: HouseholdOptions) -> Stage {
    // An error means that another test of this process has installed it.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let household = Household::start(options).await.unwrap();
    let kubeconfig: Kubeconfig = serde_json::from_value(household.cluster().kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let stage = Stage { household, client };
    for (name, port) in [("litellm", 4000), ("vllm", 8000), ("ollama", 11_434)] {
        stage.eventually(name, async || stage.echoes(name, port).await).await;
    }
    stage
}

/// A fast cluster like any other.
pub(crate) async fn usual() -> Stage {
    start(options().await).await
}

/// How a connect went, as a gateway would see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connect {
    Served,
    Refused,
    Silent,
}

/// Sends a byte and reads it back.
pub(crate) async fn echo(stream: &mut TcpStream) -> bool {
    let both = async {
        stream.write_all(b"x").await.ok()?;
        stream.read_u8().await.ok()
    };
    timeout(Duration::from_millis(300), both).await.is_ok_and(|read| read == Some(b'x'))
}

impl Stage {
    pub(crate) async fn shutdown(self) {
        drop(self.client);
        timeout(WITHIN, self.household.shutdown()).await.expect("everything ends in time");
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "ml")
    }

    /// Where a name leads, asked in the gateway's namespace.
    pub(crate) fn address(&self, name: &str, port: u16) -> Option<SocketAddr> {
        let found = self.household.plane().resolve("ml", name);
        found.first().map(|ip| SocketAddr::from((*ip, port)))
    }

    pub(crate) async fn connect(&self, name: &str, port: u16) -> Connect {
        let address = self.address(name, port).unwrap();
        match timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            Err(_) => Connect::Silent,
            Ok(Ok(mut stream)) => {
                if echo(&mut stream).await {
                    Connect::Served
                } else {
                    Connect::Silent
                }
            }
            Ok(Err(error)) => {
                let is_end = [std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::ConnectionReset];
                assert!(is_end.contains(&error.kind()), "{error}");
                Connect::Refused
            }
        }
    }

    pub(crate) async fn echoes(&self, name: &str, port: u16) -> bool {
        self.address(name, port).is_some() && self.connect(name, port).await == Connect::Served
    }

    /// Looks every few milliseconds until it is so.
    pub(crate) async fn eventually(&self, what: &str, mut check: impl AsyncFnMut() -> bool) {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let wait = async {
            loop {
                ticks.tick().await;
                if check().await {
                    return;
                }
            }
        };
        timeout(WITHIN, wait).await.unwrap_or_else(|_| panic!("never seen: {what}"));
    }

    /// The pods of one app, those that end included.
    pub(crate) async fn pods(&self, app: &str) -> Vec<Pod> {
        let list = ListParams::default().labels(&format!("app={app}"));
        self.api::<Pod>().list(&list).await.unwrap().items
    }

    pub(crate) async fn pod(&self, app: &str) -> String {
        self.pods(app).await.first().unwrap().metadata.name.clone().unwrap()
    }

    /// Scales a Deployment as a person would.
    pub(crate) async fn scale(&self, name: &str, replicas: i32) {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let parameters = PatchParams { field_manager: Some("person".to_owned()), ..PatchParams::default() };
        self.deployments().patch_scale(name, &parameters, &patch).await.unwrap();
    }

    pub(crate) fn deployments(&self) -> Api<k8s_openapi::api::apps::v1::Deployment> {
        self.api()
    }

    /// Makes an object in `ml` from JSON.
    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::Serialize
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&kube::api::PostParams::default(), &object).await.unwrap()
    }
}
