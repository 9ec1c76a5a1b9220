//! Where a gate sends its connections: one upstream for ever, or whichever serve at present.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The upstreams of a gate, taken in turn. A copy is the same route.
#[derive(Debug, Clone, Default)]
pub(crate) struct Route {
    targets: Arc<RwLock<Vec<SocketAddr>>>,
    taken: Arc<AtomicUsize>,
}

impl Route {
    /// A route to this upstream.
    pub(crate) fn to(target: SocketAddr) -> Self {
        let route = Self::default();
        route.set(vec![target]);
        route
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
    pub(super) fn next(&self) -> Option<SocketAddr> {
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
