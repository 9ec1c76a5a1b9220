//! What kube-proxy does: a Service's address forwards to its endpoints, and refuses where there are none.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Network;
use super::port::Port;
use super::range::Part;
use crate::gate::Route;
use crate::kubernetes::controllers::events::warn;
use crate::kubernetes::controllers::reconcile::Reconcile;
use crate::kubernetes::resources::{ENDPOINT_SLICES, Resource, SERVICES};
use crate::kubernetes::store::{ObjectKey, Store, Writer};

/// How long after a port could not be bound it is tried again.
const BIND_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The proxy of one cluster.
#[derive(Debug)]
pub(crate) struct Proxy {
    store: Store,
    network: Arc<Network>,
    ports: BTreeMap<SocketAddr, Arc<Port>>,
}

impl Proxy {
    pub(crate) fn new(store: Store, network: Arc<Network>) -> Self {
        Self { store, network, ports: BTreeMap::new() }
    }

    /// Gives a Service its address, as the API server does.
    fn allocate(&self, service: &Value) -> Option<Ipv4Addr> {
        let spec = &service["spec"];
        match spec["clusterIP"].as_str() {
            Some("None") => return None,
            Some(given) if !given.is_empty() => {
                let given = given.parse().ok()?;
                self.network.range().keep(given);
                return Some(given);
            }
            _ if spec["type"].as_str() == Some("ExternalName") => return None,
            _ => {}
        }
        let ip = self.network.range().take(Part::Services).ok()?;
        let written = self.store.update(&key(service), Writer::of_object("kube-apiserver"), |service| {
            service["spec"]["clusterIP"] = ip.to_string().into();
            service["spec"]["clusterIPs"] = serde_json::json!([ip.to_string()]);
            Ok(())
        });
        written.is_ok().then_some(ip)
    }

    /// The address of each Service's ports, and the endpoints behind it.
    fn wanted(&self) -> BTreeMap<SocketAddr, (Arc<Value>, Vec<SocketAddr>)> {
        let mut wanted = BTreeMap::new();
        let slices = self.store.list(&ENDPOINT_SLICES, None).items;
        for service in self.store.list(&SERVICES, None).items {
            let Some(ip) = self.allocate(&service) else { continue };
            for entry in service["spec"]["ports"].as_array().into_iter().flatten() {
                let port = entry["port"].as_u64().and_then(|port| u16::try_from(port).ok());
                let (Some(port), "TCP") = (port, entry["protocol"].as_str().unwrap_or("TCP")) else {
                    continue;
                };
                let targets = endpoints(&slices, &service, entry["name"].as_str().unwrap_or_default());
                wanted.insert((ip, port).into(), (Arc::clone(&service), targets));
            }
        }
        wanted
    }
}

fn key(service: &Value) -> ObjectKey {
    let text = |field: &str| service["metadata"][field].as_str().unwrap_or_default();
    ObjectKey::new(&SERVICES, text("namespace"), text("name"))
}

/// The ready endpoints of a Service's port; where there is none, those that end and still serve.
fn endpoints(slices: &[Arc<Value>], service: &Value, port_name: &str) -> Vec<SocketAddr> {
    let (mut ready, mut serving) = (Vec::new(), Vec::new());
    let is_of = |slice: &&Arc<Value>| {
        slice["metadata"]["namespace"] == service["metadata"]["namespace"]
            && slice["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    };
    for slice in slices.iter().filter(is_of) {
        let ports = slice["ports"].as_array().into_iter().flatten();
        let named = ports.filter(|port| port["name"].as_str().unwrap_or_default() == port_name);
        let mut numbers = named.filter_map(|port| u16::try_from(port["port"].as_u64()?).ok());
        let Some(port) = numbers.next() else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let conditions = &endpoint["conditions"];
            let Some(ip) = endpoint["addresses"][0].as_str().and_then(|ip| ip.parse::<Ipv4Addr>().ok())
            else {
                continue;
            };
            if conditions["ready"].as_bool().unwrap_or(true) {
                ready.push((ip, port).into());
            } else if conditions["serving"] == true && conditions["terminating"] == true {
                serving.push((ip, port).into());
            }
        }
    }
    if ready.is_empty() { serving } else { ready }
}

impl Reconcile for Proxy {
    fn kinds(&self) -> Vec<&'static Resource> {
        vec![&SERVICES, &ENDPOINT_SLICES]
    }

    async fn reconcile(&mut self) -> Option<Duration> {
        let wanted = self.wanted();
        let gone: Vec<_> =
            self.ports.keys().filter(|address| !wanted.contains_key(address)).copied().collect();
        for address in gone {
            self.network.remove_service(address);
            if let Some(port) = self.ports.remove(&address) {
                port.shutdown().await;
            }
            if let Some(ip) = super::ipv4(address) {
                self.network.range().give_back(ip);
            }
        }
        let mut again = None;
        for (address, (service, targets)) in wanted {
            let port = match self.ports.entry(address) {
                Entry::Occupied(port) => port.into_mut(),
                Entry::Vacant(place) => match Port::start(address, Route::default()).await {
                    Ok(port) => {
                        let port = place.insert(Arc::new(port));
                        self.network.add_service(Arc::clone(port));
                        port
                    }
                    Err(error) => {
                        let told = format!("{address} cannot be listened on: {error}");
                        warn(&self.store, &service, "FailedToListen", &told, "kube-proxy");
                        again = Some(BIND_AGAIN_AFTER);
                        continue;
                    }
                },
            };
            let has_targets = !targets.is_empty();
            port.route().set(targets);
            let switched = if has_targets { port.open().await } else { port.close_to_new().await };
            if switched.is_err() {
                again = Some(BIND_AGAIN_AFTER);
            }
        }
        if self.network.deny_services().await.is_err() {
            again = Some(BIND_AGAIN_AFTER);
        }
        again
    }

    async fn close(self) {
        for (address, port) in self.ports {
            self.network.remove_service(address);
            port.shutdown().await;
        }
    }
}
