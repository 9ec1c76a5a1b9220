//! Where a gate sends its connections: one upstream for ever, or whichever serve at present.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::net::TcpStream;

/// The upstreams of a gate, taken in turn. A copy is the same route.
#[derive(Debug, Clone, Default)]
pub(crate) struct Route {
    targets: Arc<RwLock<Vec<SocketAddr>>>,
    taken: Arc<AtomicUsize>,
    /// `host:port` instead of them.
    name: Option<Arc<str>>,
}

impl Route {
    /// A route to this upstream.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let route = Self::default();
        route.set(vec![target]);
        route
    }

    /// A route to whatever a name means at the time, `host:port`.
    pub(super) fn to_name(name: &str) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// A connection to the upstream.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        match &self.name {
            Some(name) => TcpStream::connect(&**name).await,
            None => TcpStream::connect(self.next().ok_or(io::ErrorKind::ConnectionReset)?).await,
        }
    }

    /// New connections go to these from now on; present ones stay where they are.
    pub(crate) fn set(&self, targets: Vec<SocketAddr>) {
        *self.targets.write().unwrap_or_else(PoisonError::into_inner) = targets;
    }

    /// Where new connections go at present.
    pub(crate) fn targets(&self) -> Vec<SocketAddr> {
        self.targets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The upstream of the next connection; `None` where there is none.
    fn next(&self) -> Option<SocketAddr> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        targets.get(taken.checked_rem(targets.len())?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_take_turns_and_none_is_nobody() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let route = Route::to(address(1));
        assert_eq!((route.next(), route.next()), (Some(address(1)), Some(address(1))));
        route.set(vec![address(1), address(2)]);
        assert_ne!(route.next(), route.next());
        route.set(Vec::new());
        assert_eq!(route.next(), None);
    }
}
