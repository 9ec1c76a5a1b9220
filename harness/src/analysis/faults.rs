//! One fault of a mode: when it can have been met, and whether it held.

use super::Span;

/// The source of looks that are concluded from objects of the cluster.
const OBJECTS: &str = "objects";

/// One fault in one mode.
#[derive(Clone, Debug, Default)]
pub struct FaultFacts {
    /// Number in the run.
    pub id: u32,
    /// Component that it hits.
    pub component: String,
    /// `blackhole`, ...
    pub kind: String,
    /// Carried over from the mode before.
    pub inherited: bool,
    /// Mutation called and accepted.
    pub injected: Option<Span>,
    /// Why it was not made, or not seen.
    pub flaw: Option<String>,
    /// When the gateway's connections from before it were gone, where they outlived its beginning.
    pub connections_gone: Option<(Span, String)>,
    /// When its last pod was gone, where that was later than its new connections failed.
    pub pods_gone: Option<(Span, String)>,
    /// Why nobody saw the component itself.
    pub weak: Option<String>,
    /// What the undo left to someone else's change.
    pub left_alone: Option<String>,
    /// Last evidence of up, first evidence of down.
    pub effective: Option<Span>,
    /// The lower end of `effective` before old connections were gone: from then on a probe may have met the fault.
    pub first_effect_us: Option<u64>,
    /// When heal was called.
    pub heal_called_us: Option<u64>,
    /// Last evidence of down, first completion.
    pub healed: Option<Span>,
    /// What the witness saw, on every change.
    pub looks: Vec<Look>,
    /// How often it saw the same: first sent, last sent, up, down.
    pub counts: Vec<(u64, u64, u64, u64)>,
}

/// One observation of a witness that differs from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it was asked.
    pub sent_us: u64,
    /// When the answer, or the lack of one, was known.
    pub done_us: u64,
    /// When the observation before it was asked.
    pub previous_sent_us: Option<u64>,
    /// Who looked.
    pub source: String,
    /// Up or down.
    pub up: bool,
    /// In words.
    pub saw: String,
}

impl FaultFacts {
    /// What a client of the component meets, in the words of the first look that saw the fault; `None` where it was only
    /// concluded, from objects of the cluster, which meet nothing.
    #[must_use]
    pub fn seen_as(&self) -> Option<&str> {
        self.first_seen().filter(|look| look.source != OBJECTS).map(|look| look.saw.as_str())
    }

    /// The first look that saw the fault. It may have been seen before the call that made it returned, so
    /// only the call itself is the earliest moment.
    fn first_seen(&self) -> Option<&Look> {
        let (called, _) = self.injected?;
        self.looks.iter().find(|look| !look.up && look.done_us >= called)
    }

    /// The earliest moment at which it can have been in effect for new connections.
    pub(super) fn first_effect(&self) -> Option<u64> {
        let (called, _) = self.injected?;
        let first = self.first_seen()?;
        // It cannot have been in effect before it was called.
        Some(first.previous_sent_us.unwrap_or(called).max(called).min(first.done_us))
    }

    pub(super) fn bracket(&self) -> Option<Span> {
        let first = self.first_seen()?;
        let (lo, hi) = (self.first_effect()?, first.done_us);
        // While old connections still work, or may do so, the gateway does not feel it.
        let later = self.connections_gone.iter().chain(&self.pods_gone);
        let (lo, hi) =
            later.fold((lo, hi), |(lo, hi), ((last_seen, gone), _)| (lo.max(*last_seen), hi.max(*gone)));
        Some((lo.min(hi), hi))
    }

    /// In effect without a break, with fresh evidence all the time, from its start to `until_us`.
    #[must_use]
    pub fn held(&self, until_us: u64) -> bool {
        self.hold(until_us) == Hold::Whole
    }

    /// How far it was seen in effect without a break, from its start to `until_us`.
    #[must_use]
    pub fn hold(&self, until_us: u64) -> Hold {
        let (Some((_, since)), Some(first)) = (self.effective, self.first_seen()) else {
            return Hold::Unseen { from_us: self.injected.map_or(0, |(called, _)| called) };
        };
        let heal = self.heal_called_us.unwrap_or(u64::MAX);
        let until = heal.min(until_us);
        let broken = |sent: u64| sent > first.sent_us && sent < until;
        // A look that was sent before the heal may be answered because of it.
        let seen_up = self.looks.iter().any(|look| look.up && broken(look.sent_us) && look.done_us < heal);
        let counted_up = self.counts.iter().any(|(from, _, up, _)| {
            *up > 0 && broken(*from) && from.saturating_add(LOOK_TAKES_MAX_US) < heal
        });
        let mut shown_to = since;
        for (from, to, _, _) in self.counts.iter().filter(|(_, _, _, down)| *down > 0) {
            if *from <= shown_to.saturating_add(EVIDENCE_AGE_US) {
                shown_to = shown_to.max(*to);
            }
        }
        if seen_up || counted_up {
            Hold::Broken
        } else if shown_to.saturating_add(EVIDENCE_AGE_US) < until {
            Hold::Unseen { from_us: shown_to }
        } else {
            Hold::Whole
        }
    }
}

/// Whether a fault was in effect all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It was, and was seen to be.
    Whole,
    /// The component was seen up.
    Broken,
    /// For a while nobody saw it, up or down: the name had no address, or nobody could look.
    Unseen {
        /// From here on.
        from_us: u64,
    },
}

/// A look takes at most this long (the HTTP witness's hang limit).
const LOOK_TAKES_MAX_US: u64 = 1_100_000;
/// Evidence older than this does not show that a fault still holds. Counts come once a second.
const EVIDENCE_AGE_US: u64 = 2_500_000;
