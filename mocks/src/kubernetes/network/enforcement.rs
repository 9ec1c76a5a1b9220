//! Puts policies in force at the ports of the data plane, a while after they came or went.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::policy::{Peer, Policies};
use super::port::Port;
use super::{Network, ipv4};
use crate::gate::GateMode;
use crate::kubernetes::controllers::Timing;
use crate::kubernetes::controllers::reconcile::Reconcile;
use crate::kubernetes::resources::{NAMESPACES, NETWORK_POLICIES, PODS, Resource};
use crate::kubernetes::store::Store;

/// The enforcer of one cluster.
#[derive(Debug)]
pub(crate) struct Enforcement {
    store: Store,
    network: Arc<Network>,
    timing: Timing,
    /// What is in force, and since when connections are denied.
    denied: BTreeMap<SocketAddr, (GateMode, Instant)>,
}

impl Enforcement {
    pub(crate) fn new(store: Store, network: Arc<Network>, timing: Timing) -> Self {
        Self { store, network, timing, denied: BTreeMap::new() }
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
                let denied = denied.map(|denied| self.by_now(port.address(), denied));
                judged.push((port, denied));
            }
        }
        for pod in &pods {
            let Some(ip) = pod_ip(pod) else { continue };
            for port in self.network.pod_ports(ip) {
                let denied = denial(Peer { ip, pod: Some(pod) }, port.address().port());
                let denied = denied.map(|denied| self.by_now(port.address(), denied));
                judged.push((port, denied));
            }
        }
        judged
    }

    /// What a denial has come to.
    fn by_now(&self, port: SocketAddr, denied: GateMode) -> GateMode {
        let since = self.denied.get(&port).map(|(_, since)| *since);
        let is_late = since.is_some_and(|since| since.elapsed() >= self.timing.look_again_after);
        self.network.cni.late_denial().filter(|_| is_late).unwrap_or(denied)
    }

    /// Until the next denial comes to more.
    fn until_late(&self) -> Option<Duration> {
        let late = self.network.cni.late_denial()?;
        let early = self.denied.values().filter(|(denied, _)| *denied != late);
        early.map(|(_, since)| self.timing.look_again_after.saturating_sub(since.elapsed())).min()
    }

    fn differs(&self, judged: &[(Arc<Port>, Option<GateMode>)]) -> bool {
        let in_force = |port: &Port| self.denied.get(&port.address()).map(|(denied, _)| *denied);
        judged.iter().any(|(port, denied)| in_force(port) != *denied)
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
            return self.until_late();
        }
        tokio::time::sleep(self.timing.enforce_after).await;
        let mut failed = false;
        let mut denied_now = BTreeMap::new();
        for (port, denied) in self.judge() {
            let is_set = port.deny(denied).await.is_ok();
            failed |= !is_set;
            if let Some(denied) = denied.filter(|_| is_set) {
                let since = self.denied.get(&port.address()).map_or_else(Instant::now, |(_, since)| *since);
                denied_now.insert(port.address(), (denied, since));
            }
        }
        self.denied = denied_now;
        failed |= self.network.deny_services().await.is_err();
        // A port that just went away fails too, and is not there the next time.
        if failed { Some(self.timing.enforce_after) } else { self.until_late() }
    }
}
