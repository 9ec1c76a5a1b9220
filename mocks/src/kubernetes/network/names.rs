//! The DNS of the cluster: what a name means in a pod of a namespace, and the socket where programs that an exec
//! started ask.
//!
//! The question is a line `NAMESPACE NAME`, the answer a line of addresses: none for a name that does not exist.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Network;
use super::range::Part;
use crate::kubernetes::resources::{ENDPOINT_SLICES, SERVICES};
use crate::kubernetes::store::{ObjectKey, Store};

const CLUSTER_DOMAIN: &str = "cluster.local";
/// A name has at most 253 bytes, and so has that of a namespace.
const QUESTION_MAX: u64 = 1024;
const QUESTION_WITHIN: Duration = Duration::from_secs(5);
const QUESTIONS_MAX: usize = 1024;
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(20);

/// The names of one cluster. Copies are the same.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    store: Store,
    network: Arc<Network>,
}

impl Names {
    pub(crate) fn new(store: Store, network: Arc<Network>) -> Self {
        Self { store, network }
    }

    /// The addresses of a name, asked in a pod of this namespace; none if it does not exist.
    pub(crate) fn resolve(&self, namespace: &str, name: &str) -> Vec<Ipv4Addr> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let in_cluster = name.strip_suffix(CLUSTER_DOMAIN).and_then(|rest| rest.strip_suffix('.'));
        let parts: Vec<_> = in_cluster.unwrap_or(&name).split('.').collect();
        let found = match (parts.as_slice(), in_cluster) {
            (&[service], None) => self.service(namespace, service),
            (&[service, namespace], None) | (&[service, namespace, "svc"], _) => {
                self.service(namespace, service)
            }
            _ => None,
        };
        found.unwrap_or_else(|| self.network.host(&name))
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Vec<Ipv4Addr>> {
        let service = self.store.get(&ObjectKey::new(&SERVICES, namespace, name))?;
        let spec = &service["spec"];
        if let Some(external) = spec["externalName"].as_str() {
            return Some(self.network.host(external.trim_end_matches('.')));
        }
        Some(match spec["clusterIP"].as_str() {
            Some("None") => self.ready_pods(namespace, name),
            ip => ip.and_then(|ip| ip.parse().ok()).into_iter().collect(),
        })
    }

    fn ready_pods(&self, namespace: &str, name: &str) -> Vec<Ipv4Addr> {
        let slices = self.store.list(&ENDPOINT_SLICES, Some(namespace)).items;
        let of_service =
            |slice: &&Arc<Value>| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name;
        let endpoints = slices.iter().filter(of_service).flat_map(|slice| slice["endpoints"].as_array());
        let ready = endpoints.flatten().filter(|endpoint| endpoint["conditions"]["ready"] == true);
        ready.filter_map(|endpoint| endpoint["addresses"][0].as_str()?.parse().ok()).collect()
    }

    /// Answers questions at an address of the cluster's own until `end`.
    pub(crate) fn serve(&self, end: CancellationToken, tasks: &TaskTracker) -> io::Result<SocketAddr> {
        let listener = std::net::TcpListener::bind((self.network.range().take(Part::Nodes)?, 0))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let (names, questions) = (self.clone(), TaskTracker::new());
        tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = end.cancelled() => break,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) if questions.len() < QUESTIONS_MAX => {
                        let (names, end) = (names.clone(), end.clone());
                        questions.spawn(async move {
                            tokio::select! {
                                () = end.cancelled() => {}
                                // Who asks and leaves has no answer.
                                _answered = tokio::time::timeout(QUESTION_WITHIN, names.answer(stream)) => {}
                            }
                        });
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(ACCEPT_RETRY_AFTER).await,
                }
            }
            questions.close();
            questions.wait().await;
        });
        Ok(address)
    }

    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let (from, mut to) = stream.split();
        let mut question = String::new();
        BufReader::new(from).take(QUESTION_MAX).read_line(&mut question).await?;
        if self.network.are_names_away() {
            // Who asked takes that for a failure of the DNS, not for a name that does not exist.
            return Ok(());
        }
        let (namespace, name) = question.trim_end().split_once(' ').unwrap_or_default();
        let addresses = self.resolve(namespace, name);
        let told: Vec<_> = addresses.iter().map(Ipv4Addr::to_string).collect();
        to.write_all(format!("{}\n", told.join(" ")).as_bytes()).await
    }
}
