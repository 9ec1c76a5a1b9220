//! HTTP to the upstreams, with the phases and the hidden second tries of LiteLLM's HTTP layer (section 4).
//!
//! One number limits each phase: the connect, the wait for response headers, and each gap between reads.
//! There is no total. A connect error or a reset makes the layer send once more inside the same attempt.

use std::collections::{HashMap, VecDeque};
use std::error::Error as _;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::tls::{Tls, TlsError};

mod tls;

/// How long an idle connection is kept, unless told otherwise (`AIOHTTP_KEEPALIVE_TIMEOUT`).
const IDLE_LIMIT_MS: u64 = 120_000;
/// How often idle connections are looked at.
const IDLE_LOOK_EVERY: Duration = Duration::from_millis(500);
/// Idle connections kept per upstream.
const IDLE_CONNECTIONS: usize = 32;
/// Most bytes of an upstream's reply.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// How a call broke.
#[derive(Debug, Error)]
pub enum TransportError {
    /// A phase took longer than the timeout.
    #[error("connection timed out")]
    Timeout {
        /// The reply had begun: a gap between reads, not the wait for headers.
        reading: bool,
    },
    /// No connection could be made.
    #[error("cannot connect to host {host}:{port}")]
    Connect {
        /// Host of the base URL.
        host: String,
        /// Port of the base URL.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The upstream's certificate is not to be trusted.
    #[error("cannot trust the certificate of {host}:{port}: {reason}")]
    Certificate {
        /// Host of the base URL.
        host: String,
        /// Port of the base URL.
        port: u16,
        /// Why.
        reason: String,
    },
    /// There was a connection, but no TLS on it.
    #[error("no TLS with {host}:{port}: {reason}")]
    Tls {
        /// Host of the base URL.
        host: String,
        /// Port of the base URL.
        port: u16,
        /// Why.
        reason: String,
    },
    /// The connection was reset.
    #[error("connection reset by peer")]
    Reset,
    /// The connection ended before the response did.
    #[error("server disconnected")]
    Disconnected,
    /// The connection had ended before the request was written to it.
    #[error("connection is closed")]
    NotSent,
    /// The response body was cut short.
    #[error("response payload is not completed")]
    Truncated {
        /// Bytes of it that came.
        received: usize,
        /// Bytes that its `Content-Length` promised; `None` where it came in chunks.
        expected: Option<u64>,
    },
    /// The reply is larger than [`MAX_BODY_BYTES`].
    #[error("response is larger than {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// Something in the exchange was not HTTP.
    #[error("not a valid HTTP exchange: {reason}")]
    Protocol {
        /// What was wrong.
        reason: String,
    },
}

/// One POST to an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamRequest {
    /// Absolute `http://` or `https://` URL.
    pub uri: Uri,
    /// Headers, `host` excepted.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// A reply whose body is still to be read.
#[derive(Debug)]
pub struct UpstreamReply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    gap: Duration,
    read_bytes: usize,
    expected_bytes: Option<u64>,
    lease: Lease,
}

/// The connection of a reply, which goes back to its pool once the reply was read to its end.
#[derive(Debug)]
struct Lease {
    sender: Option<SendRequest<Full<Bytes>>>,
    authority: String,
    pool: Option<Arc<Pool>>,
}

#[derive(Debug)]
struct Pool {
    idle: Mutex<HashMap<String, VecDeque<IdleConnection>>>,
    idle_limit_ms: AtomicU64,
}

impl Default for Pool {
    fn default() -> Self {
        Self { idle: Mutex::default(), idle_limit_ms: AtomicU64::new(IDLE_LIMIT_MS) }
    }
}

#[derive(Debug)]
struct IdleConnection {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// Connections to all upstreams.
#[derive(Debug, Clone)]
pub struct Transport {
    pool: Arc<Pool>,
    tls: Tls,
    tasks: TaskTracker,
    cancel: CancellationToken,
    /// Connects tried; a refused one leaves no other trace.
    #[cfg(test)]
    connects: Arc<std::sync::atomic::AtomicUsize>,
}

/// Where to connect to.
struct Peer<'a> {
    host: &'a str,
    port: u16,
    secure: bool,
}

impl Pool {
    fn take(&self, authority: &str) -> Option<SendRequest<Full<Bytes>>> {
        let limit = self.idle_limit();
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let queue = idle.get_mut(authority)?;
        while let Some(connection) = queue.pop_back() {
            if connection.since.elapsed() < limit && connection.sender.is_ready() {
                return Some(connection.sender);
            }
        }
        None
    }

    fn give_back(&self, authority: &str, sender: SendRequest<Full<Bytes>>) {
        let limit = self.idle_limit();
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let queue = idle.entry(authority.to_owned()).or_default();
        queue.retain(|connection| connection.since.elapsed() < limit && !connection.sender.is_closed());
        if queue.len() < IDLE_CONNECTIONS {
            queue.push_back(IdleConnection { sender, since: Instant::now() });
        }
    }

    fn idle_limit(&self) -> Duration {
        Duration::from_millis(self.idle_limit_ms.load(Ordering::Relaxed))
    }

    /// Closes what has been idle for too long.
    fn prune(&self) {
        let limit = self.idle_limit();
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        idle.retain(|_, queue| {
            queue.retain(|connection| connection.since.elapsed() < limit && !connection.sender.is_closed());
            !queue.is_empty()
        });
    }

    fn clear(&self) {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}

impl Transport {
    /// A transport whose connection tasks run in `tasks` and end with `cancel`.
    #[must_use]
    pub fn new(tasks: TaskTracker, cancel: CancellationToken) -> Self {
        let pool = Arc::<Pool>::default();
        let (pruned, end) = (Arc::clone(&pool), cancel.clone());
        tasks.spawn(async move {
            let mut looks = tokio::time::interval(IDLE_LOOK_EVERY);
            loop {
                tokio::select! {
                    () = end.cancelled() => return,
                    _ = looks.tick() => pruned.prune(),
                }
            }
        });
        Self {
            pool,
            tls: Tls::default(),
            tasks,
            cancel,
            #[cfg(test)]
            connects: Arc::default(),
        }
    }

    /// Keeps idle connections for so long from now on.
    pub fn keep_idle(&self, limit: Duration) {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.pool.idle_limit_ms.store(ms, Ordering::Relaxed);
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        self.pool.clear();
    }

    /// Sends a request and waits for the response's headers; `limit` bounds each phase.
    ///
    /// # Errors
    /// Any [`TransportError`]. A failed connect and a reset have been tried twice by then.
    pub async fn send(
        &self,
        request: &UpstreamRequest,
        limit: Duration,
    ) -> Result<UpstreamReply, TransportError> {
        let host = request.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let secure = request.uri.scheme_str() == Some("https");
        let port = request.uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let authority = format!("{host}:{port}");
        let peer = Peer { host: &host, port, secure };
        match self.first_try(&peer, &authority, request, limit).await {
            Err(TransportError::Connect { .. } | TransportError::Reset) => {}
            outcome => return outcome,
        }
        // Once more, on a connection that is made for it and is not kept.
        let sender = self.connect(&peer, limit).await?;
        let mut reply = self.exchange(sender, &authority, request, limit).await?;
        reply.lease.pool = None;
        Ok(reply)
    }

    /// A try on an idle connection, or on a new one where there is none.
    async fn first_try(
        &self,
        peer: &Peer<'_>,
        authority: &str,
        request: &UpstreamRequest,
        limit: Duration,
    ) -> Result<UpstreamReply, TransportError> {
        while let Some(sender) = self.pool.take(authority) {
            match self.exchange(sender, authority, request, limit).await {
                // It was closed while it was idle: no try at all.
                Err(TransportError::NotSent) => {}
                outcome => return outcome,
            }
        }
        let sender = self.connect(peer, limit).await?;
        self.exchange(sender, authority, request, limit).await
    }

    async fn connect(
        &self,
        peer: &Peer<'_>,
        limit: Duration,
    ) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        #[cfg(test)]
        self.connects.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let begun = Instant::now();
        let connected = timeout(limit, TcpStream::connect((peer.host, peer.port))).await;
        match connected.map_err(|_| TransportError::Timeout { reading: false })? {
            Ok(stream) => self.secured(stream, peer, limit.saturating_sub(begun.elapsed())).await,
            Err(source) => {
                Err(TransportError::Connect { host: peer.host.to_owned(), port: peer.port, source })
            }
        }
    }

    /// TLS belongs to the phase of the connect, and has what is left of its limit.
    async fn secured(
        &self,
        stream: TcpStream,
        peer: &Peer<'_>,
        left: Duration,
    ) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        // Small writes must not wait for each other; a socket that refuses the option works all the same.
        let _ = stream.set_nodelay(true);
        if !peer.secure {
            return self.handshake(stream).await;
        }
        let (host, port) = (peer.host.to_owned(), peer.port);
        match timeout(left, self.tls.connect(peer.host, stream)).await {
            Err(_) => Err(TransportError::Timeout { reading: false }),
            Ok(Ok(stream)) => self.handshake(stream).await,
            Ok(Err(TlsError::Certificate(reason))) => Err(TransportError::Certificate { host, port, reason }),
            Ok(Err(TlsError::Other(reason))) => Err(TransportError::Tls { host, port, reason }),
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| classify(&e))?;
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                // What broke is reported to whoever waits for the response.
                _ = connection => {}
                () = cancel.cancelled() => {}
            }
        });
        Ok(sender)
    }

    async fn exchange(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        authority: &str,
        request: &UpstreamRequest,
        limit: Duration,
    ) -> Result<UpstreamReply, TransportError> {
        let path = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut message = Request::post(path)
            .header("host", authority)
            .body(Full::new(request.body.clone()))
            .map_err(|error| TransportError::Protocol { reason: error.to_string() })?;
        message.headers_mut().extend(request.headers.clone());
        let response = timeout(limit, sender.try_send_request(message))
            .await
            .map_err(|_| TransportError::Timeout { reading: false })?
            .map_err(|mut failed| match failed.take_message() {
                Some(_) => TransportError::NotSent,
                None => classify(failed.error()),
            })?;
        let (parts, body) = response.into_parts();
        let pool = Some(Arc::clone(&self.pool));
        let lease = Lease { sender: Some(sender), authority: authority.to_owned(), pool };
        Ok(UpstreamReply {
            status: parts.status,
            expected_bytes: content_length(&parts.headers),
            headers: parts.headers,
            body,
            gap: limit,
            read_bytes: 0,
            lease,
        })
    }
}

impl UpstreamReply {
    /// The next piece of the body, or `None` at its end.
    ///
    /// # Errors
    /// A gap longer than the timeout, a cut body, a body that is too large.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, TransportError> {
        loop {
            let frame = timeout(self.gap, self.body.frame())
                .await
                .map_err(|_| TransportError::Timeout { reading: true })?;
            let Some(frame) = frame else {
                self.lease.end();
                return Ok(None);
            };
            let (received, expected) = (self.read_bytes, self.expected_bytes);
            let frame = frame.map_err(|error| match classify(&error) {
                TransportError::Disconnected => TransportError::Truncated { received, expected },
                other => other,
            })?;
            let Ok(piece) = frame.into_data() else { continue };
            self.read_bytes = self.read_bytes.saturating_add(piece.len());
            if self.read_bytes > MAX_BODY_BYTES {
                return Err(TransportError::TooLarge);
            }
            return Ok(Some(piece));
        }
    }

    /// The rest of the body.
    ///
    /// # Errors
    /// As [`Self::next_piece`].
    pub async fn read_to_end(&mut self) -> Result<Vec<u8>, TransportError> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next_piece().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

impl Lease {
    fn end(&mut self) {
        let sender = self.sender.take().filter(|sender| !sender.is_closed());
        if let (Some(sender), Some(pool)) = (sender, &self.pool) {
            pool.give_back(&self.authority, sender);
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

fn classify(error: &hyper::Error) -> TransportError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => return TransportError::Reset,
                io::ErrorKind::UnexpectedEof => return TransportError::Disconnected,
                _ => {}
            }
        }
        source = cause.source();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return TransportError::Disconnected;
    }
    TransportError::Protocol { reason: error.to_string() }
}

#[cfg(test)]
mod tests;
