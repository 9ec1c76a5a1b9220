//! The connections of a gate: bytes between a client and the upstream, while the gate lets them flow.

use std::io;
use std::net::Shutdown;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{GateMode, Route};

const COPY_BUFFER_BYTES: usize = 16 * 1024;
const UPSTREAM_CONNECT_MAX: Duration = Duration::from_secs(5);

/// The gate's mode as its connections see it.
///
/// Every read, write and half-close is one non-blocking call made under the read half of the lock. So once
/// [`Flow::set`] has returned, no connection moves another byte that the new mode forbids.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    mode: Arc<RwLock<GateMode>>,
    changes: watch::Sender<GateMode>,
}

impl Flow {
    pub(super) fn new(mode: GateMode) -> Self {
        Self { mode: Arc::new(RwLock::new(mode)), changes: watch::Sender::new(mode) }
    }

    pub(super) fn mode(&self) -> GateMode {
        *self.mode.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, mode: GateMode) {
        *self.mode.write().unwrap_or_else(PoisonError::into_inner) = mode;
        self.changes.send_replace(mode);
    }

    /// Waits until bytes may flow.
    async fn passing(&self) {
        let mut changes = self.changes.subscribe();
        // The sender is a field of `self`, so it cannot be gone.
        let _passing = changes.wait_for(|mode| mode.carries()).await;
    }

    /// Makes a non-blocking call if bytes may flow now; `None` if not.
    fn while_passing<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let mode = self.mode.read().unwrap_or_else(PoisonError::into_inner);
        mode.carries().then(call)
    }
}

/// Makes the coming close of `stream` a reset.
pub(super) fn reset_on_close(stream: &TcpStream) {
    // It fails only on a socket that is gone already.
    let _set = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Serves one client until both sides have closed, one of them breaks, or `end` says so; the last two reset
/// both sides.
pub(super) async fn serve_connection(client: TcpStream, route: Route, flow: Flow, end: CancellationToken) {
    let served = async {
        flow.passing().await;
        let server = tokio::time::timeout(UPSTREAM_CONNECT_MAX, route.connect()).await??;
        // Tokens are small and must not wait for one another. Failing to set it costs only time.
        let _set = (client.set_nodelay(true), server.set_nodelay(true));
        let both = async { tokio::try_join!(copy(&client, &server, &flow), copy(&server, &client, &flow)) };
        let ended = tokio::select! {
            ended = both => ended.map(drop),
            () = end.cancelled() => Err(io::ErrorKind::ConnectionReset.into()),
        };
        if ended.is_err() {
            reset_on_close(&server);
        }
        ended
    };
    let ended = tokio::select! {
        biased;
        ended = served => ended,
        () = end.cancelled() => Err(io::ErrorKind::ConnectionReset.into()),
    };
    if ended.is_err() {
        reset_on_close(&client);
    }
}

/// Copies from one side to the other until the first has finished sending, and then finishes likewise.
async fn copy(from: &TcpStream, to: &TcpStream, flow: &Flow) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    loop {
        let read = transfer(flow, from.readable(), || from.try_read(&mut buffer));
        let filled = match read.await? {
            Some(0) => break,
            Some(filled) => filled,
            None => continue,
        };
        let mut rest = &buffer[..filled];
        while !rest.is_empty() {
            if let Some(written) = transfer(flow, to.writable(), || to.try_write(rest)).await? {
                rest = &rest[written..];
            }
        }
    }
    loop {
        if let Some(closed) = flow.while_passing(|| SockRef::from(to).shutdown(Shutdown::Write)) {
            return closed;
        }
        flow.passing().await;
    }
}

/// One attempt to move bytes once the socket is `ready`; `None` if it has to be tried again.
async fn transfer(
    flow: &Flow,
    ready: impl Future<Output = io::Result<()>>,
    call: impl FnOnce() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    ready.await?;
    match flow.while_passing(call) {
        None => {
            flow.passing().await;
            Ok(None)
        }
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Some(moved) => moved.map(Some),
    }
}
