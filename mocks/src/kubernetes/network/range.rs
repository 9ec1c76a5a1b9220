//! The addresses of one cluster: a /16 inside 127.0.0.0/8, all of which is loopback on Linux.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Whoever listens here, at the last address of a range, has the range.
const CLAIM_PORT: u16 = 47_999;
/// Addresses of one part are given out again only once all others were.
const PART_ADDRESSES: u32 = 1 << 14;

/// The parts of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The cluster's own services: 127.X.0.0/18.
    Nodes,
    /// Pods: 127.X.64.0/18.
    Pods,
    /// Services: 127.X.128.0/18.
    Services,
    /// What is not in the cluster: 127.X.192.0/18.
    Outside,
}

impl Part {
    fn first(self) -> u16 {
        match self {
            Self::Nodes => 0,
            Self::Pods => 1 << 14,
            Self::Services => 2 << 14,
            Self::Outside => 3 << 14,
        }
    }
}

/// A range that is this cluster's alone, on this machine, until it is dropped.
#[derive(Debug)]
pub(crate) struct Range {
    second: u8,
    given: Mutex<Given>,
    _claim: TcpListener,
}

#[derive(Debug, Default)]
struct Given {
    taken: BTreeSet<Ipv4Addr>,
    next: [u32; 4],
}

impl Range {
    /// Takes a range that nobody has: where the search starts is drawn, so that clusters that start together
    /// seldom meet.
    pub(crate) fn claim() -> io::Result<Self> {
        // The hasher's keys are fresh in each process and thread; nothing that is reported depends on them.
        let drawn = std::collections::hash_map::RandomState::new().build_hasher().finish();
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for step in 0..254_u64 {
            // 127.0.0.0/16 belongs to the machine itself.
            let second = u8::try_from((drawn.wrapping_add(step)) % 254 + 1).unwrap_or(1);
            let claim = SocketAddr::from(([127, second, 255, 254], CLAIM_PORT));
            match TcpListener::bind(claim) {
                Ok(claim) => return Ok(Self { second, given: Mutex::default(), _claim: claim }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// An address that is not in use.
    pub(crate) fn take(&self, part: Part) -> io::Result<Ipv4Addr> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..PART_ADDRESSES {
            let next = &mut given.next[part as usize];
            // Neither the first address of a part nor its last.
            let host = u16::try_from(*next % (PART_ADDRESSES - 2) + 1).unwrap_or(1);
            *next = next.wrapping_add(1);
            let address = self.address(part.first() + host);
            if given.taken.insert(address) {
                return Ok(address);
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "all addresses of the cluster are taken"))
    }

    /// Notes that this address is in use, if it is of this range.
    pub(crate) fn keep(&self, address: Ipv4Addr) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).taken.insert(address);
    }

    /// Takes an address back.
    pub(crate) fn give_back(&self, address: Ipv4Addr) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(&address);
    }

    /// A part in CIDR notation.
    pub(crate) fn cidr(&self, part: Part) -> String {
        format!("{}/18", self.address(part.first()))
    }

    fn address(&self, host: u16) -> Ipv4Addr {
        let [third, fourth] = host.to_be_bytes();
        Ipv4Addr::new(127, self.second, third, fourth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_clusters_that_live_together_differ() {
        let ranges: Vec<_> = (0..5).map(|_| Range::claim().unwrap()).collect();
        let seconds: BTreeSet<_> = ranges.iter().map(|range| range.second).collect();
        assert_eq!(seconds.len(), 5);
        assert!(!seconds.contains(&0));
    }

    #[test]
    fn addresses_are_of_their_part_and_unique_until_given_back() {
        let range = Range::claim().unwrap();
        let (first, second) = (range.take(Part::Pods).unwrap(), range.take(Part::Pods).unwrap());
        assert_ne!(first, second);
        assert_eq!(range.cidr(Part::Pods), format!("127.{}.64.0/18", range.second));
        assert_eq!(first.octets()[2], 64);
        range.give_back(first);
        assert_ne!(range.take(Part::Pods).unwrap(), first, "an address is not reused at once");
        assert_eq!(range.take(Part::Outside).unwrap().octets()[2], 192);
    }
}
