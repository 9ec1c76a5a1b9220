//! A mock cluster around the mock world, for runs of the whole path on one machine.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mocks::gate::Gate;
use mocks::kubernetes::cluster::ClusterOptions;
use mocks::kubernetes::controllers::Timing;
use mocks::kubernetes::household::{Household, HouseholdOptions};
use mocks::kubernetes::network;
use mocks::kubernetes::openclaw::Openclaw;
use mocks::kubernetes::resources::SERVICES;
use mocks::kubernetes::stack::{ML, StackOptions, WorldProcesses};
use mocks::kubernetes::store::ObjectKey;
use mocks::time::Epoch;
use mocks::world::World;

use crate::cluster::places::service_of;
use crate::environment::{Cni, Environment, Profile};
use crate::gateway::local::Gateway;
use crate::gateway::secret::Secret;
use crate::journal::{Clock, Event};
use crate::migration::Expected;

/// The stock content must be up by then.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The cloud's port where no environment names it; below 1024 it would need rights.
const CLOUD_PORT: u16 = 8443;
/// The gateway's Deployment, and the container in its pods.
const GATEWAY: &str = "litellm";
/// Where nobody listens: what is behind pods that have no process yet.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// What a mock cluster is made for.
pub(super) struct MockClusterOptions<'a> {
    pub(super) environment: &'a Environment,
    pub(super) profile: Profile,
    pub(super) cni: Cni,
    pub(super) world: Arc<World>,
    pub(super) key: &'a Secret,
    pub(super) clock: Clock,
    pub(super) seed: u64,
    /// Whether its pods must be ready before it is used.
    pub(super) wait: bool,
}

/// The cluster, with a way in for a gateway that is started after it.
pub(super) struct MockCluster {
    household: Household,
}

impl MockCluster {
    /// Starts it, with everything but the gateway behind its pods.
    pub(super) async fn start(options: MockClusterOptions<'_>) -> io::Result<Self> {
        let MockClusterOptions { environment, profile, cni, world, key, clock, seed, wait } = options;
        let backing = |component: &str| {
            let gate = world.gate(component).map(Gate::address);
            // A component that the environment does not have is a Deployment that nobody uses.
            gate.unwrap_or(NOBODY)
        };
        let endpoint = environment.components.values().find_map(|component| component.endpoint.as_deref());
        let endpoint = endpoint.and_then(|endpoint| reqwest::Url::parse(endpoint).ok());
        let host = endpoint.as_ref().and_then(reqwest::Url::host_str).unwrap_or("ollama.com").to_owned();
        let port = endpoint.as_ref().and_then(reqwest::Url::port_or_known_default).unwrap_or(CLOUD_PORT);
        let stack = StackOptions {
            cloud: backing("cloud"),
            cloud_host: host,
            cloud_port: port,
            vllm: backing("vllm"),
            ollama: backing("ollama"),
            gateway: NOBODY,
            master_key: mocks::gateway::Secret::new(key.expose().to_owned()),
            gateway_replicas: 1,
            vllm_ready_after: None,
            opponents: Vec::new(),
        };
        let epoch = Epoch::from_instant(clock.zero());
        let household = Household::start(HouseholdOptions {
            cluster: ClusterOptions { open_port: true, ..ClusterOptions::new(epoch, seed, &[]) },
            cni: match cni {
                Cni::K3s => network::Cni::K3s,
                Cni::Calico => network::Cni::Calico,
                Cni::Cilium => network::Cni::Cilium,
                Cni::Kindnet => network::Cni::Kindnet,
                Cni::None => network::Cni::None,
            },
            timing: match profile {
                Profile::Realistic => Timing::realistic(),
                Profile::Fast => Timing::fast(),
            },
            stack,
            processes: Arc::new(WorldProcesses::new(world)),
        });
        let household = household.await?;
        if let Some(openclaw) = environment.cluster().and_then(|cluster| cluster.openclaw.as_ref()) {
            // As it is once its migration is done.
            let expected = Expected::of(environment, Some(&openclaw.deployment.namespace));
            let litellm = expected.urls.first().cloned().unwrap_or_default();
            if let Err(error) = Openclaw::after(&household, &litellm).await {
                household.shutdown().await;
                return Err(error);
            }
        }
        if wait && let Err(error) = household.ready(READY_WITHIN).await {
            household.shutdown().await;
            return Err(error);
        }
        Ok(Self { household })
    }

    /// Where a gateway in the cluster reaches each component.
    pub(super) fn urls(&self, environment: &Environment) -> BTreeMap<String, String> {
        let url = |name: &String| {
            let component = environment.components.get(name)?;
            if let Some(endpoint) = &component.endpoint {
                let mut url = reqwest::Url::parse(endpoint).ok()?;
                let address = *self.household.plane().network().host(url.host_str()?).first()?;
                url.set_ip_host(address.into()).ok()?;
                return Some(url.to_string().trim_end_matches('/').to_owned());
            }
            let service = service_of(component)?;
            let key = ObjectKey::new(&SERVICES, &service.namespace, &service.name);
            let object = self.household.cluster().store().get(&key)?;
            let address = object["spec"]["clusterIP"].as_str()?.to_owned();
            let port =
                component.port.map(u64::from).or_else(|| object["spec"]["ports"][0]["port"].as_u64())?;
            Some(format!("http://{address}:{port}"))
        };
        environment.components.keys().filter_map(|name| Some((name.clone(), url(name)?))).collect()
    }

    /// From now on the gateway's pods are this gateway, and what it prints is in their log. False for one that is not on
    /// this machine.
    pub(super) fn lead_to(&self, gateway: &mut Gateway) -> bool {
        let Ok(address) = gateway.url.trim_start_matches("http://").parse() else { return false };
        let kubelet = self.household.plane().kubelet().clone();
        kubelet.set_backing(ML, GATEWAY, address);
        gateway.log_to(move |client, line| kubelet.log_line_for(ML, GATEWAY, GATEWAY, client, line));
        true
    }

    /// The same for kubectl, which sends no token without TLS.
    pub(super) fn kubectl_config(&self) -> Option<serde_json::Value> {
        self.household.cluster().kubectl_config()
    }

    /// How its API is reached.
    pub(super) fn kubeconfig(&self) -> serde_json::Value {
        self.household.cluster().kubeconfig()
    }

    /// The processes behind its pods that were started and stopped since it began.
    pub(super) fn processes(&self) -> impl Iterator<Item = Event> {
        self.household.plane().kubelet().process_changes().into_iter().map(|change| Event::MockProcess {
            deployment: format!("{}/{}", change.namespace, change.deployment),
            started: change.started,
            changed_us: change.at_us,
        })
    }

    /// Ends it and waits for that.
    pub(super) async fn shutdown(&self) {
        self.household.shutdown().await;
    }
}
