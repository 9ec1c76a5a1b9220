//! A TCP gate in front of an upstream that can take the upstream away.
//!
//! Callers only ever know the gate's address, which stays the same for the gate's whole life. What happens to
//! their bytes is the gate's [`GateMode`]:
//!
//! | mode | a new connection | an established connection |
//! | --- | --- | --- |
//! | `pass` | is served by the upstream | its bytes flow both ways |
//! | `refuse` | is refused (RST) | is reset |
//! | `blackhole` | gets no answer to its SYN | goes silent: no bytes, no FIN, no RST |
//! | `stall` | is accepted and never answered | goes silent |
//! | `refuse-new` | is refused (RST) | is served on |
//! | `drop-new` | gets no answer to its SYN | is served on |
//!
//! The last two are how a network policy falls on a connection that is already tracked: it stays.
//!
//! Silence ends when the gate passes again: held connections are served and bytes flow on from where they
//! stopped. A silent connection that meets `refuse` is reset.
//!
//! # How it is done
//!
//! *Refuse*: the listening socket is closed, and a second socket that never listens keeps the port bound
//! (`SO_REUSEPORT` on both), so that no other process can be given the port while nobody listens there.
//!
//! *Blackhole* needs no privilege on Linux: the gate stops accepting, puts one connection of its own (the
//! filler) into the accept queue, resets it, and calls `listen` again with a backlog of 0. The kernel keeps the
//! place of a connection that was reset until it is accepted, and lists it nowhere. A full accept queue makes it
//! drop each further SYN, so a client's connect runs into its own time limit. Afterwards `listen` is
//! called with the normal backlog, and SYN retransmissions connect (the first one comes a second after the
//! SYN). A client whose connect was already through before the queue was full holds an established connection
//! that is silent.
//!
//! Only Linux has been tried. Elsewhere `listen` with 0 may mean another length: on the BSDs and macOS the
//! blackhole is then likely to look like `stall` (connects succeed into the queue and are never answered), and
//! on systems that answer a full queue with a reset it looks like `refuse`. `SO_REUSEPORT` is needed, so
//! Windows is out.
//!
//! # Bounds
//!
//! Two copy buffers of 16 KiB for each connection, at most [`CONNECTIONS_MAX`] connections (one more is reset),
//! and a connect to the upstream that takes longer than 5 s resets the client.

mod door;
mod forward;
mod route;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use door::{Door, Listening, Order};
use forward::Flow;
pub(crate) use route::Route;

/// The most connections that one gate holds at once, served and silent together; any further one is reset.
pub const CONNECTIONS_MAX: usize = 4096;

/// What a gate does with its connections. See the [module](self) for the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateMode {
    /// Bytes flow both ways, half-closes included.
    #[default]
    Pass,
    /// Connects are refused and established connections are reset.
    Refuse,
    /// SYNs are dropped and established connections are silent.
    Blackhole,
    /// Connects succeed and nothing is ever answered; established connections are silent.
    Stall,
    /// Connects are refused; established connections are served on.
    RefuseNew,
    /// SYNs are dropped; established connections are served on.
    DropNew,
}

impl GateMode {
    /// Whether the bytes of established connections flow.
    pub(crate) fn carries(self) -> bool {
        matches!(self, Self::Pass | Self::RefuseNew | Self::DropNew)
    }
}

/// A fault gate before one upstream, at an address of its own.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    flow: Flow,
    orders: mpsc::Sender<Order>,
    keeper: Mutex<Option<JoinHandle<()>>>,
    life: CancellationToken,
    // Ends the keeper and all connections when a gate is dropped without `shutdown`.
    _ends_with_gate: DropGuard,
}

impl Gate {
    /// Opens a gate in mode [`GateMode::Pass`] before `upstream`, on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says when no port can be bound or listened on.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Route::to(upstream), CONNECTIONS_MAX)
    }

    /// Opens a gate in mode [`GateMode::Pass`] at this address (on a free port where it is 0) before `upstream`, as
    /// `host:port`: the name is looked up anew for each connection.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says when the address cannot be bound or listened on.
    pub async fn listen(address: SocketAddr, upstream: &str) -> io::Result<Self> {
        Self::open(address, Route::to_name(upstream), CONNECTIONS_MAX)
    }

    /// Opens a gate that refuses, at exactly this address, before the upstreams of `route`.
    ///
    /// # Errors
    ///
    /// `AddrInUse` and whatever else the operating system says when the address cannot be bound.
    pub(crate) async fn start_closed(address: SocketAddr, route: Route) -> io::Result<Self> {
        Ok(Self::keep(Listening::reserve(address)?, route, GateMode::Refuse, CONNECTIONS_MAX))
    }

    fn open(address: SocketAddr, route: Route, connections_max: usize) -> io::Result<Self> {
        let mut listening = Listening::reserve(address)?;
        listening.open()?;
        Ok(Self::keep(listening, route, GateMode::Pass, connections_max))
    }

    fn keep(listening: Listening, route: Route, mode: GateMode, connections_max: usize) -> Self {
        let address = listening.address();
        let flow = Flow::new(mode);
        let life = CancellationToken::new();
        let (orders, inbox) = mpsc::channel(16);
        let door = Door::new(listening, route, flow.clone(), life.clone(), connections_max);
        let keeper = tokio::spawn(door.keep(inbox));
        Self {
            address,
            flow,
            orders,
            keeper: Mutex::new(Some(keeper)),
            _ends_with_gate: life.clone().drop_guard(),
            life,
        }
    }

    /// Where callers connect, with a port that is ours for the gate's whole life.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The mode that was asked for last (in effect once [`Gate::set`] has returned).
    #[must_use]
    pub fn mode(&self) -> GateMode {
        self.flow.mode()
    }

    /// Switches to `mode` and returns once it is in effect for new and established connections alike.
    ///
    /// Once asked for, the switch is carried out even when the returned future is dropped.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says when listening cannot be changed; `NotConnected` after
    /// [`Gate::shutdown`]. The gate then keeps its connections silent until a later call succeeds.
    pub async fn set(&self, mode: GateMode) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the gate is shut down");
        self.orders.send(Order { mode, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Resets every connection, gives up the port and waits until all tasks of the gate have ended. Calling it
    /// again does nothing.
    pub async fn shutdown(&self) {
        self.life.cancel();
        if let Some(keeper) = self.keeper.lock().await.take() {
            // An error would mean that the keeper panicked or was aborted with the runtime: it is gone all the same.
            let _ended = keeper.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const WITHIN: Duration = Duration::from_secs(5);

    #[test]
    fn modes_are_written_in_kebab_case() {
        let modes = [
            GateMode::Pass,
            GateMode::Refuse,
            GateMode::Blackhole,
            GateMode::Stall,
            GateMode::RefuseNew,
            GateMode::DropNew,
        ];
        let json = serde_json::to_string(&modes).unwrap();
        assert_eq!(json, r#"["pass","refuse","blackhole","stall","refuse-new","drop-new"]"#);
        assert_eq!(serde_json::from_str::<Vec<GateMode>>(&json).unwrap(), modes);
    }

    #[tokio::test]
    async fn holds_no_more_connections_than_its_bound() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let gate = Gate::open(here, Route::to(upstream.local_addr().unwrap()), 2).unwrap();
        gate.set(GateMode::Stall).await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(gate.address()).await.unwrap());
        }
        // Connections are accepted in order, so the third is the one too many.
        let mut third = clients.pop().unwrap();
        let read = tokio::time::timeout(WITHIN, third.read_u8()).await.unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        // The other two are held, and served once the gate passes.
        gate.set(GateMode::Pass).await.unwrap();
        for client in &mut clients {
            client.write_all(b"x").await.unwrap();
        }
        for _ in &clients {
            let (mut served, _) = tokio::time::timeout(WITHIN, upstream.accept()).await.unwrap().unwrap();
            assert_eq!(tokio::time::timeout(WITHIN, served.read_u8()).await.unwrap().unwrap(), b'x');
        }
        gate.shutdown().await;
    }
}
