//! Whether one set of events misses more often than another.

use statrs::stats_tests::Alternative;
use statrs::stats_tests::fisher::fishers_exact;

/// The two-sided p-value of Fisher's exact test (Statistical Methods for Research Workers, 1934, 21.02) of two sets of
/// events, each by how many missed and how many there were: the share of all tables with the same sums that are as rare
/// as this one or rarer. 1 where a set is empty.
#[must_use]
pub fn fisher_exact((missed, of): (u64, u64), (other_missed, other_of): (u64, u64)) -> f64 {
    let (missed, other_missed) = (missed.min(of), other_missed.min(other_of));
    if of == 0 || other_of == 0 || missed + other_missed == 0 {
        return 1.0;
    }
    let table = [missed, of - missed, other_missed, other_of - other_missed];
    fishers_exact(&table, Alternative::TwoSided).unwrap_or(1.0).min(1.0)
}
