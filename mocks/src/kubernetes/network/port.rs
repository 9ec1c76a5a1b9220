//! One address and port of the cluster, open or closed by whoever serves there, and denied by policies.

use std::io;
use std::net::SocketAddr;

use tokio::sync::Mutex;

use crate::gate::{Gate, GateMode, Route};

/// A port that forwards. It begins closed: it refuses.
#[derive(Debug)]
pub(crate) struct Port {
    gate: Gate,
    route: Route,
    wanted: Mutex<Wanted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    open: bool,
    /// What policies make of it.
    denied: Option<GateMode>,
    /// How many packet filters drop what goes here, which goes before policies.
    filters: usize,
}

impl Wanted {
    fn mode(self) -> GateMode {
        match self {
            Self { open: false, .. } => GateMode::RefuseNew,
            Self { filters: 1.., .. } => GateMode::Blackhole,
            Self { denied, .. } => denied.unwrap_or(GateMode::Pass),
        }
    }
}

impl Port {
    /// Takes the address.
    pub(crate) async fn start(address: SocketAddr, route: Route) -> io::Result<Self> {
        let gate = Gate::start_closed(address, route.clone()).await?;
        let wanted = Wanted { open: false, denied: None, filters: 0 };
        Ok(Self { gate, route, wanted: Mutex::new(wanted) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    pub(crate) fn mode(&self) -> GateMode {
        self.gate.mode()
    }

    /// Where new connections go.
    pub(crate) fn route(&self) -> &Route {
        &self.route
    }

    /// Accepts connections, unless a policy is against it.
    pub(crate) async fn open(&self) -> io::Result<()> {
        self.change(|wanted| wanted.open = true).await
    }

    /// Refuses new connections and leaves the others.
    pub(crate) async fn close_to_new(&self) -> io::Result<()> {
        self.change(|wanted| wanted.open = false).await
    }

    /// Puts a denial by policies in force, or lifts it.
    pub(crate) async fn deny(&self, denied: Option<GateMode>) -> io::Result<()> {
        self.change(|wanted| wanted.denied = denied).await
    }

    /// What policies make of it.
    pub(crate) async fn denied(&self) -> Option<GateMode> {
        self.wanted.lock().await.denied
    }

    /// One packet filter more drops all that goes here, or one less; any of them is enough.
    pub(crate) async fn drop_all(&self, dropped: bool) -> io::Result<()> {
        self.change(|wanted| {
            wanted.filters =
                if dropped { wanted.filters.saturating_add(1) } else { wanted.filters.saturating_sub(1) };
        })
        .await
    }

    async fn change(&self, change: impl FnOnce(&mut Wanted)) -> io::Result<()> {
        // Held through the switch, so that the last wish is the one in effect.
        let mut wanted = self.wanted.lock().await;
        change(&mut wanted);
        if self.gate.mode() == wanted.mode() { Ok(()) } else { self.gate.set(wanted.mode()).await }
    }

    pub(crate) async fn shutdown(&self) {
        self.gate.shutdown().await;
    }
}
