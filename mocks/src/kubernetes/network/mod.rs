//! The data plane of the mock cluster: pods and Services at addresses of their own that really listen, the hosts
//! outside, and the policies between them.
//!
//! A connection to a Service goes through the Service's port to that of a pod and on to the socket that
//! stands for the process in the pod. Each hop is a [gate](crate::gate), so every symptom is the kernel's own.
//!
//! All connections come from 127.0.0.1, so nobody can see which pod a client is in. The data plane takes every client
//! for the callers that it was told of, the gateway's pods: a policy closes a port when it forbids it to all of them.

mod cni;
mod enforcement;
pub(crate) mod names;
pub(crate) mod policy;
pub(crate) mod port;
pub(crate) mod proxy;
pub(crate) mod range;
pub(crate) mod selector;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

pub use cni::Cni;
pub(crate) use enforcement::Enforcement;

use crate::gate::{GateMode, Route};
use port::Port;
use range::{Part, Range};

/// The pods that every client of the data plane is taken to be in.
#[derive(Debug, Clone)]
pub struct Callers {
    /// Their namespace.
    pub namespace: String,
    /// Labels that they have, and no other pod there.
    pub labels: BTreeMap<String, String>,
}

impl Callers {
    fn has(&self, pod: &Value) -> bool {
        let has = |(key, value): (&String, &String)| pod["metadata"]["labels"][key].as_str() == Some(value);
        pod["metadata"]["namespace"].as_str() == Some(&self.namespace) && self.labels.iter().all(has)
    }
}

/// The data plane of one cluster. It is shared by kubelet, proxy and enforcement.
#[derive(Debug)]
pub struct Network {
    range: Range,
    cni: Cni,
    callers: Callers,
    tables: Mutex<Tables>,
    /// Nobody answers for names.
    names_away: AtomicBool,
}

#[derive(Debug, Default)]
struct Tables {
    /// The ports of pods, by the pod's address.
    pods: BTreeMap<Ipv4Addr, Vec<Arc<Port>>>,
    hosts: BTreeMap<String, Host>,
    /// The ports of Services, by their address.
    services: BTreeMap<SocketAddr, Arc<Port>>,
}

/// A name outside the cluster.
#[derive(Debug)]
struct Host {
    backing: SocketAddr,
    port: u16,
    /// What the name resolves to at present.
    answers: Vec<Ipv4Addr>,
    /// Every address that it ever had; they all go on serving.
    ports: Vec<Arc<Port>>,
}

impl Network {
    /// Takes a range of addresses.
    ///
    /// # Errors
    ///
    /// All ranges are taken, or loopback addresses other than 127.0.0.1 cannot be bound.
    pub fn claim(cni: Cni, callers: Callers) -> io::Result<Self> {
        Ok(Self {
            range: Range::claim()?,
            cni,
            callers,
            tables: Mutex::default(),
            names_away: AtomicBool::new(false),
        })
    }

    pub(crate) fn range(&self) -> &Range {
        &self.range
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on no program in a pod is told what a name means. Connections to addresses are as before.
    pub fn lose_names(&self) {
        self.names_away.store(true, Ordering::Relaxed);
    }

    pub(crate) fn are_names_away(&self) -> bool {
        self.names_away.load(Ordering::Relaxed)
    }

    /// The addresses of pods, in CIDR notation.
    #[must_use]
    pub fn pod_cidr(&self) -> String {
        self.range.cidr(Part::Pods)
    }

    /// The addresses of Services, in CIDR notation.
    #[must_use]
    pub fn service_cidr(&self) -> String {
        self.range.cidr(Part::Services)
    }

    /// Puts a host outside the cluster, at so many addresses, with this one port open.
    ///
    /// # Errors
    ///
    /// The port cannot be bound there.
    pub async fn add_host(
        &self,
        name: &str,
        port: u16,
        backing: SocketAddr,
        addresses: usize,
    ) -> io::Result<()> {
        let host = Host { backing, port, answers: Vec::new(), ports: Vec::new() };
        self.tables().hosts.insert(name.to_owned(), host);
        self.move_host(name, addresses).await.map(drop)
    }

    /// Lets a name of the outside resolve to new addresses, so many of them. The old ones go on serving.
    ///
    /// # Errors
    ///
    /// `NotFound` for a name that there is not; else the port cannot be bound there.
    pub async fn move_host(&self, name: &str, addresses: usize) -> io::Result<Vec<Ipv4Addr>> {
        let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("there is no host `{name}`"));
        let (port, backing) = {
            let tables = self.tables();
            let host = tables.hosts.get(name).ok_or_else(unknown)?;
            (host.port, host.backing)
        };
        let mut ports = Vec::new();
        for _ in 0..addresses {
            let address = SocketAddr::from((self.range.take(Part::Outside)?, port));
            let port = Port::start(address, Route::to(backing)).await?;
            port.open().await?;
            ports.push(Arc::new(port));
        }
        let answers: Vec<_> = ports.iter().filter_map(|port| ipv4(port.address())).collect();
        let mut tables = self.tables();
        let host = tables.hosts.get_mut(name).ok_or_else(unknown)?;
        host.answers.clone_from(&answers);
        host.ports.extend(ports);
        Ok(answers)
    }

    /// What a name outside the cluster resolves to at present; empty for a name that there is not.
    #[must_use]
    pub fn host(&self, name: &str) -> Vec<Ipv4Addr> {
        self.tables().hosts.get(name).map(|host| host.answers.clone()).unwrap_or_default()
    }

    /// What the addresses of a host outside do with connections at present.
    #[must_use]
    pub fn host_modes(&self, name: &str) -> Vec<(SocketAddr, GateMode)> {
        let tables = self.tables();
        let ports = tables.hosts.get(name).map_or(&[][..], |host| &host.ports);
        ports.iter().map(|port| (port.address(), port.mode())).collect()
    }

    /// Opens closed ports at a new pod's address.
    pub(crate) async fn add_pod(&self, ip: Ipv4Addr, ports: &[(u16, SocketAddr)]) -> io::Result<()> {
        let mut started = Vec::new();
        for (port, backing) in ports {
            started.push(Arc::new(Port::start((ip, *port).into(), Route::to(*backing)).await?));
        }
        self.tables().pods.insert(ip, started);
        Ok(())
    }

    /// The ports of a pod.
    pub(crate) fn pod_ports(&self, ip: Ipv4Addr) -> Vec<Arc<Port>> {
        self.tables().pods.get(&ip).cloned().unwrap_or_default()
    }

    /// Takes a pod's address back and resets its connections.
    pub(crate) async fn remove_pod(&self, ip: Ipv4Addr) {
        let ports = self.tables().pods.remove(&ip).unwrap_or_default();
        for port in ports {
            port.shutdown().await;
        }
        self.range.give_back(ip);
    }

    /// Drops everything to these addresses outside, or ends that: what a packet filter in one pod would do. Whoever
    /// begins it ends it once; it is over when all have.
    pub(crate) async fn drop_hosts(&self, addresses: &[Ipv4Addr], dropped: bool) -> io::Result<()> {
        for port in self.host_ports() {
            if ipv4(port.address()).is_some_and(|ip| addresses.contains(&ip)) {
                port.drop_all(dropped).await?;
            }
        }
        Ok(())
    }

    /// A Service listens there from now on.
    pub(crate) fn add_service(&self, port: Arc<Port>) {
        self.tables().services.insert(port.address(), port);
    }

    /// A Service listens there no more.
    pub(crate) fn remove_service(&self, address: SocketAddr) {
        self.tables().services.remove(&address);
    }

    /// A packet to a Service goes to one of its endpoints, so what policies forbid at all of these feels the same at
    /// the Service.
    pub(crate) async fn deny_services(&self) -> io::Result<()> {
        let services: Vec<_> = self.tables().services.values().cloned().collect();
        for service in services {
            let mut denials = Vec::new();
            for target in service.route().targets() {
                let ports = ipv4(target).map(|ip| self.pod_ports(ip)).unwrap_or_default();
                match ports.iter().find(|port| port.address() == target) {
                    Some(port) => denials.push(port.denied().await),
                    None => denials.push(None),
                }
            }
            let all_denied = denials.iter().all(Option::is_some);
            service.deny(denials.first().copied().flatten().filter(|_| all_denied)).await?;
        }
        Ok(())
    }

    fn host_ports(&self) -> Vec<Arc<Port>> {
        self.tables().hosts.values().flat_map(|host| host.ports.iter().cloned()).collect()
    }

    /// Resets all connections and gives up all ports of hosts and pods.
    pub(crate) async fn shutdown(&self) {
        let (pods, hosts) = {
            let mut tables = self.tables();
            (std::mem::take(&mut tables.pods), std::mem::take(&mut tables.hosts))
        };
        let hosts = hosts.into_values().flat_map(|host| host.ports);
        for port in pods.into_values().flatten().chain(hosts) {
            port.shutdown().await;
        }
    }
}

/// The IPv4 half of an address.
pub(crate) fn ipv4(address: SocketAddr) -> Option<Ipv4Addr> {
    match address {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    }
}
