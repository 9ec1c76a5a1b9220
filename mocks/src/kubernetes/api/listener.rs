//! The HTTP/1.1 listener: our own accept loop over hyper, because connections must be upgraded and cut.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Api;
use crate::gateway::Secret;

/// Also bounds how long an idle kept-alive connection stays.
const REQUEST_HEAD_WITHIN: Duration = Duration::from_secs(300);
const CONNECTIONS_MAX: usize = 2048;
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(20);

/// A listener that serves until it is shut down or dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    end: CancellationToken,
    tasks: TaskTracker,
    _ends_with_listener: DropGuard,
}

impl Listener {
    /// Listens on a free port of 127.0.0.1. Where there is a token, it is that of every request that carries none.
    pub(crate) async fn start(api: Arc<Api>, token: Option<Secret>) -> io::Result<Self> {
        let token = token.map(|token| HeaderValue::try_from(format!("Bearer {}", token.expose())));
        let token = token.transpose().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let end = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(accept_all(listener, Served { api, token }, end.clone(), tasks.clone()));
        Ok(Self { address, _ends_with_listener: end.clone().drop_guard(), end, tasks })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the listener and all connections that were not upgraded, and waits for their tasks.
    pub(crate) async fn shutdown(&self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What connections are served with.
#[derive(Clone)]
struct Served {
    api: Arc<Api>,
    token: Option<HeaderValue>,
}

async fn accept_all(listener: TcpListener, served: Served, end: CancellationToken, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // The accept loop itself is one of the tasks.
            Ok((stream, _)) if tasks.len() <= CONNECTIONS_MAX => {
                tasks.spawn(serve(stream, served.clone(), end.clone()));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_RETRY_AFTER).await,
        }
    }
}

async fn serve(stream: TcpStream, served: Served, end: CancellationToken) {
    // Events of a watch are small and must not wait for one another. Failing to set it costs only time.
    let _set = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(token) = &served.token {
            request.headers_mut().entry(AUTHORIZATION).or_insert_with(|| token.clone());
        }
        Arc::clone(&served.api).answer(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        () = end.cancelled() => {}
        // How a client's connection ends is the client's affair.
        _ended = connection => {}
    }
}
