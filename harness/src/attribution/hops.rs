//! A probe's way through the chain, hop by hop, with the time that went into each.
//!
//! The upstreams' journals tell who was asked, when, and how that ended. A hop that reached nobody stands in no journal:
//! it is the time between two records, and whose it was follows from the order of the chain. Where it fits the gateway's
//! timeouts, they split it. The gateway's own hop count is not asked: it counts nesting.

use std::collections::BTreeMap;

use crate::journal::{AttemptTimeouts, ProbeRecord, UpstreamCall};

/// Shorter gaps are the gateway's own time.
const GAP_MIN_US: u64 = 250_000;
/// A hop lasts so much longer than its timeout, at most.
const TIMEOUT_OVERRUN_US: u64 = 300_000;

/// One step on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Whom the gateway asked, or meant to ask; several where the time cannot be told apart.
    pub aliases: Vec<String>,
    /// When it began.
    pub from_us: u64,
    /// When it ended; `None` where no end was seen.
    pub to_us: Option<u64>,
    /// How.
    pub end: End,
}

/// How a hop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an HTTP status.
    Answered(u16),
    /// The gateway closed the connection.
    GivenUp,
    /// Not before the probe did.
    Open,
    /// It reached nobody, for as long as the gateway's timeout.
    TimedOut,
    /// It reached nobody. So many of the aliases used up their timeout, where that can be told.
    Unreached(Option<usize>),
    /// The client left before the gateway was done with one of them.
    Left,
    /// It took no time: refused at once, or in cooldown.
    PassedOver,
    /// No upstream was asked, as between an attempt and its repetition.
    Waited,
}

/// Who was asked for a probe while its client waited. `calls` in time order, each with its alias; `chain` in the order of
/// the route.
#[must_use]
pub fn hops(
    record: &ProbeRecord,
    calls: &[(&UpstreamCall, Option<&str>)],
    chain: &[String],
    timeouts: &BTreeMap<String, AttemptTimeouts>,
) -> Vec<Hop> {
    let mut way = Way { record, chain, timeouts, hops: Vec::new(), at_us: record.sent_us, place: 0 };
    for (index, (call, alias)) in calls.iter().enumerate() {
        let place = alias.and_then(|alias| chain.iter().position(|own| own == alias));
        let place = place.unwrap_or(way.place);
        way.unrecorded(call.received_us, place);
        let next_us = calls.get(index + 1).map_or(record.ended_us, |(next, _)| next.received_us);
        // An upstream may work on for nobody.
        let to_us = call.ended_us.map(|ended| ended.min(next_us.max(call.received_us)));
        way.hops.push(Hop {
            aliases: vec![alias.unwrap_or(&call.model).to_owned()],
            from_us: call.received_us,
            to_us,
            end: match (call.status, call.ended_us) {
                (Some(status), _) => End::Answered(status),
                (None, Some(_)) => End::GivenUp,
                (None, None) => End::Open,
            },
        });
        way.at_us = to_us.unwrap_or(next_us).max(way.at_us);
        way.place = place + 1;
    }
    let is_answered = calls.last().is_some_and(|(call, _)| call.status == Some(200));
    if !is_answered && record.outcome != crate::journal::Outcome::Ok {
        way.unrecorded(record.ended_us, chain.len());
        // Without an answer nobody knows how far the gateway had come.
        if let Some(last) = way.hops.last_mut().filter(|_| record.status.is_none())
            && matches!(last.end, End::Unreached(_) | End::PassedOver)
        {
            last.end = End::Left;
        }
    }
    way.hops
}

struct Way<'a> {
    record: &'a ProbeRecord,
    chain: &'a [String],
    timeouts: &'a BTreeMap<String, AttemptTimeouts>,
    hops: Vec<Hop>,
    /// Up to here it is told.
    at_us: u64,
    /// The first of the chain that was not asked yet.
    place: usize,
}

impl Way<'_> {
    /// Up to `until_us` no journal tells anything, and the next to be asked stands at `place` of the chain.
    fn unrecorded(&mut self, until_us: u64, place: usize) {
        let (from_us, gap_us) = (self.at_us, until_us.saturating_sub(self.at_us));
        let passed: Vec<String> = self.chain.get(self.place..place).unwrap_or_default().to_vec();
        let limits: Option<Vec<u64>> = passed.iter().map(|alias| self.limit_us(alias)).collect();
        let end = match &limits {
            _ if passed.is_empty() && gap_us < GAP_MIN_US => return,
            _ if passed.is_empty() => End::Waited,
            _ if gap_us < GAP_MIN_US => End::PassedOver,
            Some(limits) if fits(gap_us, limits.iter().fold(0, |sum, limit| sum.saturating_add(*limit))) => {
                return self.timed_out(&passed, limits, until_us);
            }
            Some(limits) => End::Unreached(tried(gap_us, limits)),
            None => End::Unreached(None),
        };
        self.hops.push(Hop { aliases: passed, from_us, to_us: Some(until_us), end });
    }

    /// Each used up its timeout, and the last what is left.
    fn timed_out(&mut self, aliases: &[String], limits: &[u64], until_us: u64) {
        let mut at_us = self.at_us;
        for (index, (alias, limit)) in aliases.iter().zip(limits).enumerate() {
            let is_last = index + 1 == aliases.len();
            let to_us = if is_last { until_us } else { at_us.saturating_add(*limit).min(until_us) };
            let aliases = vec![alias.clone()];
            self.hops.push(Hop { aliases, from_us: at_us, to_us: Some(to_us), end: End::TimedOut });
            at_us = to_us;
        }
    }

    fn limit_us(&self, alias: &str) -> Option<u64> {
        let own = self.timeouts.get(alias)?;
        let limit_ms = if self.record.streamed { own.stream_ms } else { own.whole_ms };
        limit_ms.checked_mul(1000).filter(|limit| *limit > 0)
    }
}

/// How many of them used up their timeout, where all have the same and that fits.
fn tried(gap_us: u64, limits: &[u64]) -> Option<usize> {
    let first = *limits.first()?;
    let same = limits.iter().all(|limit| *limit == first);
    (1..limits.len()).find(|count| same && fits(gap_us, first.saturating_mul(*count as u64)))
}

/// Whether a time is that of timeouts that add up to `limit_us`.
fn fits(gap_us: u64, limit_us: u64) -> bool {
    let overrun = TIMEOUT_OVERRUN_US.saturating_add(limit_us / 20);
    gap_us >= limit_us - limit_us / 50 && gap_us <= limit_us.saturating_add(overrun)
}
