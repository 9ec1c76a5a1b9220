//! A gateway that behaves as LiteLLM 1.106.2 does at the network boundary: routing, retries, fallbacks, cooldown,
//! timeouts, attribution headers and error replies.
//!
//! [`router`] and [`cooldown`] decide, without I/O or clock; [`transport`] and [`provider`] talk to upstreams;
//! the rest puts the two behind HTTP. Sections named in comments are those of `docs/litellm.md`, which
//! holds what was measured on the real program.

mod access_log;
pub mod config;
pub mod cooldown;
mod drive;
pub mod failure;
mod http;
pub mod policy;
pub mod provider;
mod responses;
pub mod router;
mod secret;
mod sse;
pub mod transport;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::access_log::AccessLog;
use self::config::{ConfigError, GatewayConfig, Unsupported};
use self::cooldown::CooldownMemory;
use self::router::{Action, Event, RequestWalk};
pub use self::secret::Secret;
use self::transport::Transport;

/// The version that the mock stands for.
pub const VERSION: &str = "1.106.2";
/// Client connections served at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client connection may be idle or slow with its request head.
const CLIENT_IDLE_LIMIT: Duration = Duration::from_secs(75);
/// How long [`Gateway::shutdown`] waits for its tasks.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What to start a gateway with.
#[derive(Clone)]
pub struct GatewayOptions {
    /// A LiteLLM configuration with every `os.environ/NAME` replaced.
    pub config: serde_json::Value,
    /// Source of all chance: picks, jitter, ids.
    pub seed: u64,
    /// Overrides `general_settings.master_key`; no key in either place means no authentication.
    pub master_key: Option<Secret>,
    /// Port on 127.0.0.1; 0 for any.
    pub port: u16,
}

/// Without the configuration: it holds the keys of upstreams as plain text.
impl fmt::Debug for GatewayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config: _, seed, master_key, port } = self;
        let mut shown = f.debug_struct("GatewayOptions");
        shown.field("seed", seed).field("master_key", master_key).field("port", port).finish_non_exhaustive()
    }
}

/// Why a gateway did not start.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The configuration cannot be used.
    #[error("the gateway configuration cannot be used")]
    Config(#[from] ConfigError),
    /// The port cannot be listened on.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port asked for.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running gateway. Dropping it stops it without waiting for its tasks; [`Self::shutdown`] waits.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    unsupported: Vec<Unsupported>,
    shared: Arc<Shared>,
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    config: GatewayConfig,
    master_key: Option<Secret>,
    transport: Transport,
    memory: Mutex<CooldownMemory>,
    chance: Mutex<ChaCha8Rng>,
    ids: Ids,
    in_flight: InFlight,
    access_log: AccessLog,
    epoch: Instant,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Shared {
    /// Counts a failure that a stream met after its first chunk.
    fn count_late(&self, deployment: usize, failure: &failure::Failure) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.count_failure(&self.config, deployment, &failure.without_class(), self.epoch.elapsed());
    }

    /// Counts a stream that came to its end.
    fn count_ended(&self, deployment: usize) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.count_success(deployment, self.epoch.elapsed());
    }

    /// One step of a walk, in real time.
    fn decide(&self, walk: &mut RequestWalk, event: Event) -> Action {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        walk.next(&self.config, &mut memory, self.epoch.elapsed(), event, &mut *chance)
    }
}

/// How many requests are being answered.
#[derive(Debug, Default)]
struct InFlight(AtomicUsize);

/// One request that is being answered, until dropped.
struct Entered<'a>(&'a InFlight);

impl InFlight {
    fn enter(&self) -> Entered<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self)
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ids in the form of random UUIDs, from a seed.
#[derive(Debug, Clone)]
struct Ids {
    chance: Arc<Mutex<ChaCha8Rng>>,
}

impl Ids {
    fn new(seed: u64) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        // Apart from the stream that picks and jitter are drawn from.
        chance.set_stream(1);
        Self { chance: Arc::new(Mutex::new(chance)) }
    }

    fn uuid(&self) -> String {
        let mut bytes = [0_u8; 16];
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// Unix time, for `created` fields.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Gateway {
    /// Checks the configuration, binds the port and serves until [`Self::shutdown`].
    ///
    /// # Errors
    /// [`GatewayError`] if the configuration is unusable or the port is taken.
    pub async fn start(options: GatewayOptions) -> Result<Self, GatewayError> {
        let mut config = GatewayConfig::from_value(&options.config)?;
        let port = options.port;
        let listen = |source| GatewayError::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let tasks = TaskTracker::new();
        let cancel = CancellationToken::new();
        let unsupported = std::mem::take(&mut config.unsupported);
        let shared = Arc::new(Shared {
            master_key: options.master_key.or_else(|| config.master_key.clone()),
            config,
            transport: Transport::new(tasks.clone(), cancel.clone()),
            memory: Mutex::default(),
            chance: Mutex::new(ChaCha8Rng::seed_from_u64(options.seed)),
            ids: Ids::new(options.seed),
            in_flight: InFlight::default(),
            access_log: AccessLog::default(),
            epoch: Instant::now(),
            tasks: tasks.clone(),
            cancel: cancel.clone(),
        });
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, unsupported, shared })
    }

    /// Base URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Keeps a connection to an upstream that nobody uses for so long; 120 s, as LiteLLM does, unless this is called.
    pub fn keep_idle(&self, limit: Duration) {
        self.shared.transport.keep_idle(limit);
    }

    /// From now on `sink` gets a line of the access log for each reply that begins, with the client's address:
    /// `INFO:     127.0.0.1:41234 - "POST /v1/chat/completions HTTP/1.1" 200 OK`. Replies wait for it, so it must
    /// not block. It lives as long as the gateway, so it must not own what owns the gateway.
    pub fn log_access(&self, sink: impl Fn(SocketAddr, &str) + Send + Sync + 'static) {
        self.shared.access_log.lead_to(Arc::new(sink));
    }

    /// Configuration keys that the mock does not act upon, and what each bears on.
    #[must_use]
    pub fn unsupported(&self) -> &[Unsupported] {
        &self.unsupported
    }

    /// Stops listening, drops every connection and waits for all tasks, at most five seconds.
    pub async fn shutdown(self) {
        self.shared.cancel.cancel();
        self.shared.tasks.close();
        self.shared.transport.close_idle();
        // Every task ends with the token; the limit is there for a starved runtime only.
        let _ = tokio::time::timeout(SHUTDOWN_LIMIT, self.shared.tasks.wait()).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept_all = async {
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, client)) => {
                    let connection = serve_connection(stream, client, Arc::clone(&shared));
                    shared.tasks.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    tokio::select! {
        () = accept_all => {}
        () = shared.cancel.cancelled() => {}
    }
}

async fn serve_connection(stream: TcpStream, client: SocketAddr, shared: Arc<Shared>) {
    // Chunks must not wait for each other; a socket that refuses the option works all the same.
    let _ = stream.set_nodelay(true);
    let cancel = shared.cancel.clone();
    let service = service_fn(move |request| http::serve(Arc::clone(&shared), client, request));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(CLIENT_IDLE_LIMIT);
    tokio::select! {
        // A client that breaks its connection is its own affair.
        _ = server.serve_connection(TokioIo::new(stream), service) => {}
        () = cancel.cancelled() => {}
    }
}
