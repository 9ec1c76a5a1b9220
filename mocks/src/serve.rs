//! A small HTTP/1.1 server, mostly on loopback: our own accept loop over hyper, with every bound in sight.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// The largest request body that is kept; a larger one is answered 413.
pub(crate) const REQUEST_BODY_MAX: usize = 1024 * 1024;
/// How much of a body that is too large is read and thrown away so that the client gets to read its 413.
const DISCARDED_MAX: usize = 16 * REQUEST_BODY_MAX;
const REQUEST_BODY_WITHIN: Duration = Duration::from_secs(30);
/// Also bounds how long an idle kept-alive connection stays: longer than client pools keep theirs.
const REQUEST_HEAD_WITHIN: Duration = Duration::from_secs(300);
const CONNECTIONS_MAX: usize = 4096;
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(20);

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What answers the requests of a [`Server`].
pub(crate) trait Answer: Send + Sync + 'static {
    /// Answers one request. The future is dropped when the client leaves.
    fn answer(self: Arc<Self>, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

/// A server that listens until it is shut down or dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    end: CancellationToken,
    tasks: TaskTracker,
    _ends_with_server: DropGuard,
}

impl Server {
    /// Listens on this port of 127.0.0.1, or on a free one where it is 0.
    pub(crate) async fn start(port: u16, answer: Arc<impl Answer>) -> io::Result<Self> {
        Self::at((Ipv4Addr::LOCALHOST, port).into(), answer).await
    }

    /// Listens at this address, on a free port where it is 0.
    pub(crate) async fn at(address: SocketAddr, answer: Arc<impl Answer>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let end = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(accept_all(listener, answer, end.clone(), tasks.clone()));
        Ok(Self { address, _ends_with_server: end.clone().drop_guard(), end, tasks })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the listener and all connections, and waits for their tasks.
    pub(crate) async fn shutdown(&self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn accept_all(
    listener: TcpListener,
    answer: Arc<impl Answer>,
    end: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // The accept loop itself is one of the tasks.
            Ok((stream, _)) if tasks.len() <= CONNECTIONS_MAX => {
                tasks.spawn(serve_connection(stream, Arc::clone(&answer), end.clone()));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_RETRY_AFTER).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, answer: Arc<impl Answer>, end: CancellationToken) {
    // Tokens are small and must not wait for one another. Failing to set it costs only time.
    let _set = stream.set_nodelay(true);
    let peer = stream.peer_addr().ok();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let answer = Arc::clone(&answer);
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        async move { Ok::<_, Infallible>(answer.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = end.cancelled() => {}
        // How a client's connection ends is in the records.
        _ended = connection => {}
    }
}

/// Why a request's body is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the request body is larger than {REQUEST_BODY_MAX} bytes")]
    TooLarge,
    #[error("the request body did not arrive within {} s", REQUEST_BODY_WITHIN.as_secs())]
    TooSlow,
    #[error("the request body broke off")]
    Broken,
}

impl BodyError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads a request's body, within bounds of size and time.
pub(crate) async fn read_body(mut body: Incoming) -> Result<Bytes, BodyError> {
    let read = async {
        let mut kept = BytesMut::new();
        let mut total = 0;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            total += data.len();
            if total > DISCARDED_MAX {
                break;
            }
            if total <= REQUEST_BODY_MAX {
                kept.extend_from_slice(&data);
            }
        }
        if total > REQUEST_BODY_MAX { Err(BodyError::TooLarge) } else { Ok(kept.freeze()) }
    };
    tokio::time::timeout(REQUEST_BODY_WITHIN, read).await.unwrap_or(Err(BodyError::TooSlow))
}

/// A response that is complete from the start.
pub(crate) fn complete(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let body = body.into();
    let length = body.len();
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}
