//! Streams of one route: when their first token came, how long they stalled, what clients got of those that broke off.

use crate::journal::{BrokenStream, Outcome};
use crate::units::Period;

use super::facts::Probe;
use super::figures::Figures;

/// The figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFigures {
    /// Judged streams that gave a token, and those that were in the middle of an answer when the fault took effect.
    pub begun: u64,
    /// Of the judged ones the latest first token, from its intended start.
    pub latest_first_us: Option<u64>,
    /// Of the judged ones, those whose first token came later than the limit, or that ended without one.
    pub late: u64,
    /// The same, where only our own sending puts it over the limit, or the run was cut before it came.
    pub late_unsure: u64,
    /// The longest time in which one that had begun gave no further token.
    pub longest_stall_us: Option<u64>,
    /// Those that stalled longer than the limit.
    pub stalled: u64,
    /// Those of which it was not recorded: of an older journal, or of a reply that comes at once.
    pub untold: u64,
    /// What clients got of those that began and are no complete, valid reply, tokens or not.
    pub broken: Vec<BrokenStream>,
}

impl Figures<'_> {
    /// Judged streams, and those that were in the middle of an answer when the fault took effect.
    #[must_use]
    pub fn streams(&self) -> StreamFigures {
        let judged = || self.judged.iter().copied().filter(|probe| probe.record.streamed);
        let all: Vec<&Probe> = judged().chain(self.streams_in_flight.iter().copied()).collect();
        let has_begun = |probe: &&Probe| probe.record.first_content_us.is_some();
        let us = |period: Period| u64::try_from(period.0.as_micros()).unwrap_or(u64::MAX);
        let limit = |of: Option<Period>| of.map_or(u64::MAX, us);
        let first_limit = limit(self.expectation.and_then(|expectation| expectation.first_token_within));
        let stall_limit = limit(self.expectation.and_then(|expectation| expectation.max_stall));
        let firsts = || {
            let begun = judged().filter_map(|probe| Some((probe, probe.record.first_content_us?)));
            begun.map(|(probe, at)| {
                (at.saturating_sub(probe.record.intended_us), at.saturating_sub(probe.record.sent_us))
            })
        };
        // One without a token is infinitely late, however many errors are allowed; where a limit is asked for at all.
        let is_bounded = first_limit < u64::MAX;
        let without = |probe: &&Probe| is_bounded && probe.record.first_content_us.is_none();
        let is_cut = |probe: &&Probe| matches!(probe.record.outcome, Outcome::Censored(_));
        let never = judged().filter(without).filter(|probe| !is_cut(probe)).count();
        let open = judged().filter(without).filter(is_cut).count();
        let stalls = || all.iter().filter_map(|probe| probe.record.longest_gap_us);
        StreamFigures {
            begun: all.iter().copied().filter(has_begun).count() as u64,
            latest_first_us: firsts().map(|(user, _)| user).max(),
            late: (firsts().filter(|(_, service)| *service > first_limit).count() + never) as u64,
            late_unsure: (firsts()
                .filter(|(user, service)| *user > first_limit && *service <= first_limit)
                .count()
                + open) as u64,
            longest_stall_us: stalls().max(),
            stalled: stalls().filter(|stall| *stall > stall_limit).count() as u64,
            untold: all
                .iter()
                .copied()
                .filter(has_begun)
                .filter(|probe| probe.record.longest_gap_us.is_none())
                .count() as u64,
            broken: all
                .iter()
                .filter(|probe| probe.record.outcome != Outcome::Ok)
                .filter_map(|probe| probe.record.broke)
                .collect(),
        }
    }
}
