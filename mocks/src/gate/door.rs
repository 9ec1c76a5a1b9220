//! The listening side of a gate: who may come in, and the switch from mode to mode.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::forward::{Flow, reset_on_close, serve_connection};
use super::{GateMode, Route};

const BACKLOG: i32 = 1024;
/// Our own connect over loopback is immediate unless the accept queue is full already, which is as good.
const FILLER_CONNECT_MAX: Duration = Duration::from_millis(250);
/// A pause after a failed accept (out of file descriptors), so that it cannot become a busy loop.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(20);

/// A request to switch modes; `done` is answered once the mode is in effect.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) mode: GateMode,
    pub(super) done: oneshot::Sender<io::Result<()>>,
}

/// The port of a gate and, unless it refuses, the socket that listens there.
#[derive(Debug)]
pub(super) struct Listening {
    address: SocketAddr,
    listener: Option<TcpListener>,
    /// Bound and never listening: keeps the port ours while `listener` is away.
    _reservation: Socket,
}

impl Listening {
    /// Takes this address (a free port where it is 0) and does not listen yet.
    pub(super) fn reserve(address: SocketAddr) -> io::Result<Self> {
        let reservation = bound(address)?;
        let address = reservation.local_addr()?.as_socket().ok_or_else(|| {
            io::Error::new(io::ErrorKind::AddrNotAvailable, "the bound port has no address")
        })?;
        Ok(Self { address, listener: None, _reservation: reservation })
    }

    /// Listens for clients.
    pub(super) fn open(&mut self) -> io::Result<()> {
        self.listen(BACKLOG)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens with this backlog, whether or not it was listening before.
    fn listen(&mut self, backlog: i32) -> io::Result<()> {
        if let Some(listener) = &self.listener {
            return SockRef::from(listener).listen(backlog);
        }
        let socket = bound(self.address)?;
        socket.listen(backlog)?;
        self.listener = Some(TcpListener::from_std(socket.into())?);
        Ok(())
    }

    /// Stops listening: the kernel resets what waits in the accept queue and refuses what comes later.
    fn close(&mut self) {
        self.listener = None;
    }

    /// The next connection; never resolves while nothing listens.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.listener {
            Some(listener) => listener.accept().await,
            None => std::future::pending().await,
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Not SO_REUSEADDR: it would let anyone who sets it too (as most servers do) bind the port while we do not
    // listen. SO_REUSEPORT has no such hole for other users, and covers connections in TIME_WAIT as well.
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The task that owns the listening socket and starts, counts and ends the connections.
pub(super) struct Door {
    listening: Listening,
    route: Route,
    flow: Flow,
    /// Cancelled when the gate ends.
    life: CancellationToken,
    /// Cancelled, and replaced, when all present connections are to be reset.
    present: CancellationToken,
    connections: TaskTracker,
    connections_max: usize,
    accepting: bool,
    /// The address of the filler while it waits in the accept queue.
    filler_address: Option<SocketAddr>,
}

impl Door {
    pub(super) fn new(
        listening: Listening,
        route: Route,
        flow: Flow,
        life: CancellationToken,
        connections_max: usize,
    ) -> Self {
        Self {
            listening,
            route,
            flow,
            life,
            present: CancellationToken::new(),
            connections: TaskTracker::new(),
            connections_max,
            accepting: true,
            filler_address: None,
        }
    }

    pub(super) async fn keep(mut self, mut inbox: mpsc::Receiver<Order>) {
        let life = self.life.clone();
        loop {
            tokio::select! {
                () = life.cancelled() => break,
                order = inbox.recv() => {
                    let Some(Order { mode, done }) = order else { break };
                    // Nobody may be waiting for the answer any more; the switch is made all the same.
                    let _unheard = done.send(self.switch(mode).await);
                }
                accepted = self.listening.accept(), if self.accepting => match accepted {
                    Ok((client, from)) => self.admit(client, from),
                    Err(_) => tokio::time::sleep(ACCEPT_RETRY_AFTER).await,
                },
            }
        }
        self.listening.close();
        self.reset_present().await;
    }

    fn admit(&mut self, client: TcpStream, from: SocketAddr) {
        if self.filler_address == Some(from) {
            self.filler_address = None;
            return;
        }
        if self.connections.len() >= self.connections_max {
            reset_on_close(&client);
            return;
        }
        let work = serve_connection(client, self.route.clone(), self.flow.clone(), self.present.clone());
        self.connections.spawn(work);
    }

    async fn switch(&mut self, mode: GateMode) -> io::Result<()> {
        // Silence before anything else; letting bytes flow comes last.
        if !mode.carries() {
            self.flow.set(mode);
        }
        match mode {
            GateMode::Pass | GateMode::Stall => {
                self.listening.open()?;
                self.accepting = true;
            }
            GateMode::Refuse => {
                self.close();
                self.reset_present().await;
            }
            GateMode::RefuseNew => self.close(),
            GateMode::Blackhole | GateMode::DropNew => self.fill_queue().await?,
        }
        if mode.carries() {
            self.flow.set(mode);
        }
        Ok(())
    }

    fn close(&mut self) {
        self.accepting = false;
        self.filler_address = None;
        self.listening.close();
    }

    async fn fill_queue(&mut self) -> io::Result<()> {
        self.accepting = false;
        if self.filler_address.is_some() {
            return self.listening.listen(0);
        }
        self.listening.listen(BACKLOG)?;
        // The filler goes in while there is room, so it cannot lose the last place to a client and hang. Only a
        // queue that clients have filled to the brim makes it wait, and then the bound ends it: full is full.
        let connect = TcpStream::connect(self.listening.address());
        match tokio::time::timeout(FILLER_CONNECT_MAX, connect).await {
            Ok(Ok(filler)) => {
                self.filler_address = Some(filler.local_addr()?);
                // Its place in the queue stays taken until it is accepted, and it is in no table of sockets any more:
                // whoever counts connections to this address must not count one of ours.
                reset_on_close(&filler);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        self.listening.listen(0)
    }

    /// Resets all present connections and waits for the end of their tasks, which do not linger.
    async fn reset_present(&mut self) {
        self.present.cancel();
        self.connections.close();
        self.connections.wait().await;
        self.connections.reopen();
        self.present = CancellationToken::new();
    }
}
