//! A port-forward to the gateway that the harness opens itself, for runs from outside the cluster.
//!
//! Each connection to a local port becomes one stream of its own to a ready pod of the gateway. All go to the same
//! pod as long as that works, so that the run measures one replica and knows which; once a stream cannot be opened or
//! breaks, the next connection goes to another ready pod. Nothing that a client sent is ever sent twice.
//!
//! A stream that breaks resets its client's connection and is remembered with its time: a probe that fails then says
//! nothing about the gateway. What the way through the API costs is measured by empty requests ([`Forward::measure`]).

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::Portforwarder;
use kube::core::Selector;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::access::{Access, CallError, Target, Verb};
use super::watch::ready_pods;
use crate::environment::ObjectName;
use crate::journal::Clock;

/// Connections that are forwarded at a time; more wait.
const CONNECTIONS_MAX: usize = 512;
/// A stream must be open by then.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// Streams that are tried for one connection.
const TRIES_MAX: usize = 3;
/// Before the next one.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// What the other side may still send after one side has closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Troubles that are remembered one by one, the newest.
const TROUBLES_MAX: usize = 100;
/// An empty request must be answered by then.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no port-forward.
#[derive(Debug, Error)]
pub enum ForwardError {
    /// No local port.
    #[error("no local port for the port-forward: {0}")]
    Listen(#[from] std::io::Error),
    /// The pods cannot be read.
    #[error(transparent)]
    Call(#[from] CallError),
    /// None of the gateway's pods is ready.
    #[error("no pod of the gateway is ready in {0}")]
    NoPod(String),
    /// An empty request through it was not answered.
    #[error("an empty request through the port-forward was not answered: {0}")]
    Unanswered(String),
}

/// What became of the connections so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The pod that new connections go to.
    pub pod: Option<ObjectName>,
    /// Connections, by pod.
    pub connections: BTreeMap<ObjectName, u64>,
    /// What went wrong, in order of time; bounded.
    pub troubles: Vec<Trouble>,
    /// How often something went wrong, also beyond that bound.
    pub trouble_count: u64,
}

/// A stream could not be opened, or broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// When, in microseconds since the run's zero.
    pub at_us: u64,
    /// To which pod.
    pub pod: Option<ObjectName>,
    /// In words.
    pub why: String,
}

/// Tells what becomes of a port-forward, also after its end.
#[derive(Clone)]
pub struct Way {
    shared: Arc<Shared>,
}

impl Way {
    /// What became of the connections so far.
    #[must_use]
    pub fn forwarded(&self) -> Forwarded {
        self.shared.lock().clone()
    }
}

/// A port-forward under way. Dropping it ends it.
pub struct Forward {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    access: Access,
    namespace: String,
    selector: Selector,
    port: u16,
    clock: Clock,
    state: Mutex<Forwarded>,
}

impl Forward {
    /// Listen on a local port for a port of the gateway's pods, and open one stream to see that it works.
    ///
    /// # Errors
    /// When no pod is ready, or port-forward is not allowed.
    pub async fn start(
        access: &Access,
        namespace: &str,
        selector: &Selector,
        port: u16,
        clock: Clock,
    ) -> Result<Self, ForwardError> {
        let shared = Arc::new(Shared {
            access: access.clone().with_limit(OPEN_LIMIT.min(access.limit())),
            namespace: namespace.to_owned(),
            selector: selector.clone(),
            port,
            clock,
            state: Mutex::new(Forwarded::default()),
        });
        let (_, forwarder) = shared.open().await?;
        forwarder.abort();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), stop.clone()));
        Ok(Self { address, shared, stop, task: Some(task) })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What became of the connections so far.
    #[must_use]
    pub fn forwarded(&self) -> Forwarded {
        self.shared.lock().clone()
    }

    /// Who can tell that, too.
    #[must_use]
    pub fn way(&self) -> Way {
        Way { shared: Arc::clone(&self.shared) }
    }

    /// What a request costs on its way through: so many empty ones on new connections, and on a kept one.
    ///
    /// # Errors
    /// When one is not answered at all; any status is an answer.
    pub async fn measure(&self, path: &str, samples: usize) -> Result<Overhead, ForwardError> {
        let unanswered = |error: reqwest::Error| ForwardError::Unanswered(error.without_url().to_string());
        let url = format!("http://{}{path}", self.address);
        let mut spreads = Vec::new();
        for idle in [0, 1] {
            let client = crate::http::loopback_client().pool_max_idle_per_host(idle).timeout(REQUEST_LIMIT);
            let client = client.build().map_err(unanswered)?;
            if idle > 0 {
                client.head(&url).send().await.map_err(unanswered)?;
            }
            let mut took_us = Vec::new();
            for _ in 0..samples.max(1) {
                let begun = Instant::now();
                client.head(&url).send().await.map_err(unanswered)?;
                took_us.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            spreads.push(Spread::of(took_us));
        }
        let (fresh, kept) = (spreads[0], spreads[1]);
        Ok(Overhead { fresh, kept, inside: None })
    }

    /// End it, with all its connections.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Forwarded> {
        // Counters and lists, whole after every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self, pod: Option<&ObjectName>, why: String) {
        let mut state = self.lock();
        state.trouble_count += 1;
        if state.troubles.len() == TROUBLES_MAX {
            state.troubles.remove(0);
        }
        state.troubles.push(Trouble { at_us: self.clock.now_us(), pod: pod.cloned(), why });
        if state.pod.as_ref() == pod {
            state.pod = None;
        }
    }

    /// A stream to the pod that is used, or else to another ready one, or else to the same once more.
    async fn open(&self) -> Result<(ObjectName, Portforwarder), ForwardError> {
        let mut failed: Vec<ObjectName> = Vec::new();
        loop {
            let used = self.lock().pod.clone();
            let pod = match used {
                Some(pod) => pod,
                None => {
                    let ready = ready_pods(&self.access, &self.namespace, &self.selector).await?;
                    let other = ready.iter().find(|pod| !failed.contains(pod)).or(ready.first());
                    other.cloned().ok_or_else(|| ForwardError::NoPod(self.namespace.clone()))?
                }
            };
            let api = self.access.streaming::<Pod>(&pod.namespace);
            let opened = api.portforward(&pod.name, std::slice::from_ref(&self.port));
            match self.access.bounded(Verb::Create, Target::new("pods/portforward", &pod), opened).await {
                Ok(forwarder) => {
                    self.lock().pod = Some(pod.clone());
                    return Ok((pod, forwarder));
                }
                Err(error) => {
                    self.trouble(Some(&pod), error.to_string());
                    failed.push(pod);
                    if failed.len() == TRIES_MAX || error.is_forbidden() {
                        return Err(error.into());
                    }
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    async fn serve(&self, client: TcpStream) {
        let opened = self.open().await;
        let (pod, mut forwarder) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.trouble(None, error.to_string());
                let _ = client.set_zero_linger();
                return;
            }
        };
        *self.lock().connections.entry(pod.clone()).or_default() += 1;
        let (Some(stream), Some(error)) = (forwarder.take_stream(self.port), forwarder.take_error(self.port))
        else {
            return;
        };
        if let Err(why) = relay(client, stream, error, forwarder).await {
            self.trouble(Some(&pod), why);
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            // Collected as they end, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
            accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (listener.accept().await, permit)
            } => accepted,
        };
        if let (Ok((client, _)), Ok(permit)) = accepted {
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                let _ = client.set_nodelay(true);
                shared.serve(client).await;
                drop(permit);
            });
        }
    }
    connections.shutdown().await;
}

/// Copies both ways until one side ends; an error when that was not in good order.
async fn relay(
    mut client: TcpStream,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    error: impl Future<Output = Option<String>>,
    forwarder: Portforwarder,
) -> Result<(), String> {
    if !pod_ends_first(&mut client, stream).await {
        forwarder.abort();
        return Ok(());
    }
    // The pod's end of the connection, an error that the kubelet tells, or the way to it broke.
    let told = timeout(CLOSE_LIMIT, error).await.ok().flatten();
    let joined = timeout(CLOSE_LIMIT, forwarder.join()).await;
    let why = match (told, joined) {
        (Some(told), _) => Some(told),
        // The pod closed in good order while the client still had something to say, as with any kept connection.
        (None, Ok(Err(error))) if error.to_string().contains("Sending after closing") => None,
        (None, Ok(Err(error))) => Some(error.to_string()),
        (None, Ok(Ok(())) | Err(_)) => None,
    };
    match why {
        Some(why) => {
            // Not an end in good order: what the client has of a reply may not be the whole.
            let _ = client.set_zero_linger();
            Err(why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect())
        }
        None => Ok(()),
    }
}

/// Copies until one side ends: true where that was the pod's.
async fn pod_ends_first(client: &mut TcpStream, stream: impl AsyncRead + AsyncWrite + Unpin) -> bool {
    let (mut from_pod, mut to_pod) = tokio::io::split(stream);
    let (mut from_client, mut to_client) = client.split();
    let down = copy(&mut from_pod, &mut to_client);
    let up = async {
        let copied = copy(&mut from_client, &mut to_pod).await;
        let _ = to_pod.shutdown().await;
        copied
    };
    tokio::pin!(down, up);
    tokio::select! {
        // The client left, in whatever order: what is still on its way to it may arrive.
        _ = &mut up => {
            let _ = timeout(CLOSE_LIMIT, &mut down).await;
            false
        }
        _ = &mut down => true,
    }
}

/// Of several measured times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The quickest.
    pub min_us: u64,
    /// The one in the middle.
    pub median_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// How many.
    pub count: usize,
}

impl Spread {
    /// Of at least one time; zeros of none.
    #[must_use]
    pub fn of(times_us: impl IntoIterator<Item = u64>) -> Self {
        let mut times: Vec<u64> = times_us.into_iter().collect();
        times.sort_unstable();
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        let count = times.len();
        Self { min_us: at(0), median_us: at(count / 2), max_us: at(count.saturating_sub(1)), count }
    }
}

/// What the way through the API costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overhead {
    /// Empty requests, each on a new connection.
    pub fresh: Spread,
    /// Empty requests on a kept connection.
    pub kept: Spread,
    /// The same on a kept connection inside the pod, by a prober.
    pub inside: Option<Spread>,
}

impl Overhead {
    /// With what the same requests took inside the pod: then only the difference is the way.
    #[must_use]
    pub fn with_inside(mut self, took_us: impl IntoIterator<Item = u64>) -> Self {
        let inside = Spread::of(took_us);
        self.inside = (inside.count > 0).then_some(inside);
        self
    }

    /// What it adds to a request on a kept connection, in the middle; the whole where the inside is not known.
    #[must_use]
    pub fn kept_us(&self) -> u64 {
        self.kept.median_us.saturating_sub(self.inside.map_or(0, |inside| inside.median_us))
    }

    /// What it adds to a request on a new connection, in the middle.
    #[must_use]
    pub fn fresh_us(&self) -> u64 {
        self.fresh.median_us.saturating_sub(self.inside.map_or(0, |inside| inside.median_us))
    }
}

impl fmt::Display for Overhead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1000.0;
        write!(
            formatter,
            "the port-forward adds {:.1} ms to a request on a kept connection and {:.1} ms on a new one (median of \
             {} empty requests each, slowest {:.1} and {:.1} ms)",
            ms(self.kept_us()),
            ms(self.fresh_us()),
            self.kept.count,
            ms(self.kept.max_us),
            ms(self.fresh.max_us),
        )?;
        match &self.inside {
            Some(inside) => write!(
                formatter,
                "; {:.1} ms that the same takes inside the pod are not counted",
                ms(inside.median_us)
            ),
            None => formatter.write_str("; what the gateway itself takes is in it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Overhead, Spread};

    #[test]
    fn what_the_gateway_takes_is_no_overhead_of_the_way() {
        let overhead =
            Overhead { fresh: Spread::of([9000, 8000, 30_000]), kept: Spread::of([2500]), inside: None };
        assert_eq!((overhead.kept_us(), overhead.fresh_us()), (2500, 9000));
        assert!(overhead.to_string().ends_with("what the gateway itself takes is in it"));
        let overhead = overhead.with_inside([400, 500, 600]);
        assert_eq!((overhead.kept_us(), overhead.fresh_us()), (2000, 8500));
        assert_eq!(
            overhead.to_string(),
            "the port-forward adds 2.0 ms to a request on a kept connection and 8.5 ms on a new one (median of 1 empty \
             requests each, slowest 2.5 and 30.0 ms); 0.5 ms that the same takes inside the pod are not counted"
        );
        assert_eq!(overhead.with_inside([]).inside, None);
    }

    proptest! {
        #[test]
        fn a_spread_is_in_order(times in prop::collection::vec(any::<u64>(), 0..40)) {
            let spread = Spread::of(times.iter().copied());
            prop_assert!(spread.min_us <= spread.median_us && spread.median_us <= spread.max_us);
            prop_assert_eq!(spread.count, times.len());
        }
    }
}
