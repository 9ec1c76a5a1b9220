//! Puts policies in force at the ports of the data plane, a while after they came or went.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::policy::{Peer, Policies};
use super::port::Port;
use super::{Network, ipv4};
use crate::gate::GateMode;
use crate::kubernetes::controllers::reconcile::Reconcile;
use crate::kubernetes::resources::{NAMESPACES, NETWORK_POLICIES, PODS, Resource};
use crate::kubernetes::store::Store;

/// The enforcer of one cluster.
#[derive(Debug)]
pub(crate) struct Enforcement {
    store: Store,
    network: Arc<Network>,
    delay: Duration,
    /// What is in force.
    denied: BTreeMap<SocketAddr, GateMode>,
}

impl Enforcement {
    pub(crate) fn new(store: Store, network: Arc<Network>, delay: Duration) -> Self {
        Self { store, network, delay, denied: BTreeMap::new() }
    }

    /// All ports with what policies make of them now.
    fn judge(&self) -> Vec<(Arc<Port>, Option<GateMode>)> {
        let policies = Policies {
            policies: self.store.list(&NETWORK_POLICIES, None).items,
            namespaces: self.store.list(&NAMESPACES, None).items,
            blocks_match_pods: self.network.cni.blocks_match_pods(),
        };
        let pods = self.store.list(&PODS, None).items;
        let callers: Vec<_> = pods.iter().filter(|pod| self.network.callers.has(pod)).collect();
        let denial = |to: Peer<'_>, port: u16| {
            let from = callers.iter().filter_map(|pod| Some(Peer { ip: pod_ip(pod)?, pod: Some(pod) }));
            // A caller is reached from outside the cluster.
            let is_caller = to.pod.is_some_and(|pod| self.network.callers.has(pod));
            let outside = Peer { ip: std::net::Ipv4Addr::LOCALHOST, pod: None };
            let mut from = if is_caller { vec![outside] } else { from.collect() }.into_iter().peekable();
            let has_callers = from.peek().is_some();
            let is_denied = has_callers && from.all(|from| !policies.allow(from, to, port));
            is_denied.then(|| self.network.cni.denial()).flatten()
        };
        let mut judged = Vec::new();
        for port in self.network.host_ports() {
            if let Some(ip) = ipv4(port.address()) {
                let denied = denial(Peer { ip, pod: None }, port.address().port());
                judged.push((port, denied));
            }
        }
        for pod in &pods {
            let Some(ip) = pod_ip(pod) else { continue };
            for port in self.network.pod_ports(ip) {
                let denied = denial(Peer { ip, pod: Some(pod) }, port.address().port());
                judged.push((port, denied));
            }
        }
        judged
    }

    fn differs(&self, judged: &[(Arc<Port>, Option<GateMode>)]) -> bool {
        judged.iter().any(|(port, denied)| self.denied.get(&port.address()) != denied.as_ref())
    }
}

fn pod_ip(pod: &Value) -> Option<std::net::Ipv4Addr> {
    pod["status"]["podIP"].as_str()?.parse().ok()
}

impl Reconcile for Enforcement {
    fn kinds(&self) -> Vec<&'static Resource> {
        vec![&NETWORK_POLICIES, &PODS, &NAMESPACES]
    }

    async fn reconcile(&mut self) -> Option<Duration> {
        if !self.differs(&self.judge()) {
            return None;
        }
        tokio::time::sleep(self.delay).await;
        let mut failed = false;
        let mut denied_now = BTreeMap::new();
        for (port, denied) in self.judge() {
            let is_set = port.deny(denied).await.is_ok();
            failed |= !is_set;
            if let Some(denied) = denied.filter(|_| is_set) {
                denied_now.insert(port.address(), denied);
            }
        }
        self.denied = denied_now;
        failed |= self.network.deny_services().await.is_err();
        // A port that just went away fails too, and is not there the next time.
        failed.then_some(self.delay)
    }
}
