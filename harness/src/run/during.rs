//! Calls of others while we call ourselves: what the logs add, less what we may have added.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cluster::others::{Others, Ours, Tally, judge};
use crate::cluster::prober::Inbound;
use crate::probe::Sent;

/// The count of one mode. It is a lower bound: as many calls as ours may be printed late may be those of others.
#[derive(Clone, Debug)]
pub(super) struct During {
    begun: Tally,
    sent: Sent,
    /// Calls of ours from before that may still be printed.
    late: u64,
    settled: Sent,
    told: u64,
    /// Connections to the gateway, as far as probers in its pods have counted any.
    inbound: Option<Inbound>,
}

impl During {
    /// Begin with what the logs show and what we have sent by now; `settled` is what we had sent some seconds ago, so
    /// that all of it is printed that ever will be.
    #[must_use]
    pub(super) fn begin(tally: Tally, sent: Sent, settled: Sent) -> Self {
        let late = sent.begun.saturating_sub(settled.ended);
        Self { begun: tally, sent, late, settled, told: 0, inbound: None }
    }

    /// A prober in a pod of the gateway counted who is connected to it.
    pub(super) fn count(&mut self, inbound: &Inbound) {
        self.inbound.get_or_insert_default().add(inbound);
    }

    /// What the logs have added since.
    #[must_use]
    pub(super) fn added(&self, tally: &Tally) -> Tally {
        tally.since(&self.begun)
    }

    /// Calls of ours that were answered since.
    #[must_use]
    pub(super) fn answered(&self, sent: Sent) -> u64 {
        sent.answered.saturating_sub(self.sent.answered)
    }

    /// Whether others use the gateway, as far as the logs show by now. `tally` must have been read before `sent`.
    #[must_use]
    pub(super) fn judge(
        &self,
        tally: &Tally,
        sent: Sent,
        settled: Sent,
        addresses: &BTreeSet<IpAddr>,
    ) -> Others {
        let ours = Ours {
            sent: self.late.saturating_add(sent.begun.saturating_sub(self.sent.begun)),
            answered: settled.answered.saturating_sub(self.settled.answered.max(self.sent.answered)),
            addresses: addresses.clone(),
        };
        judge(&self.added(tally), &ours, self.inbound.as_ref())
    }

    /// The same, once it says more than was told before.
    #[must_use]
    pub(super) fn news(
        &mut self,
        tally: &Tally,
        sent: Sent,
        settled: Sent,
        addresses: &BTreeSet<IpAddr>,
    ) -> Option<Others> {
        let others = self.judge(tally, sent, settled, addresses);
        let Others::Calls { count, .. } = &others else { return None };
        let is_news = *count > self.told;
        self.told = self.told.max(*count);
        is_news.then_some(others)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::During;
    use crate::cluster::others::{Others, Tally};
    use crate::cluster::prober::Inbound;
    use crate::environment::ObjectName;
    use crate::probe::Sent;

    fn sent(begun: u64, ended: u64) -> Sent {
        Sent { begun, ended, answered: ended }
    }

    fn printed(tally: &mut Tally, from: &str, count: u64) {
        let line = format!("INFO:     {from}:5 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK");
        (0..count).for_each(|_| tally.take(&ObjectName::new("ml", "litellm-0"), &line));
    }

    #[test]
    fn more_calls_than_ours_are_told_once_and_again_when_they_become_more() {
        let none = BTreeSet::new();
        let mut tally = Tally::default();
        printed(&mut tally, "10.0.0.1", 20);
        // Of 22 that were sent before, 2 were answered just now, and their lines may still come.
        let mut during = During::begin(tally.clone(), sent(22, 22), sent(20, 20));
        printed(&mut tally, "10.0.0.1", 12);
        assert_eq!(during.news(&tally, sent(32, 31), sent(22, 22), &none), None, "all may be ours");
        printed(&mut tally, "10.0.0.1", 1);
        let others = during.news(&tally, sent(32, 32), sent(22, 22), &none);
        assert_eq!(others, Some(Others::Calls { count: 1, from: Vec::new() }));
        assert_eq!(during.news(&tally, sent(32, 32), sent(32, 32), &none), None, "it is told");
        printed(&mut tally, "10.0.0.1", 2);
        let others = during.news(&tally, sent(32, 32), sent(32, 32), &none);
        assert_eq!(others, Some(Others::Calls { count: 3, from: Vec::new() }));
    }

    #[test]
    fn through_a_port_forward_we_come_from_inside_the_pod() {
        let inside = BTreeSet::from(["127.0.0.1".parse().unwrap()]);
        let mut tally = Tally::default();
        let mut during = During::begin(tally.clone(), sent(0, 0), sent(0, 0));
        printed(&mut tally, "127.0.0.1", 3);
        printed(&mut tally, "127.0.0.6", 1);
        assert_eq!(during.news(&tally, sent(9, 9), sent(0, 0), &inside), None);
        printed(&mut tally, "10.42.0.9", 2);
        let others = during.news(&tally, sent(9, 9), sent(0, 0), &inside);
        let from = vec![("10.42.0.9".parse().unwrap(), 2)];
        assert_eq!(others, Some(Others::Calls { count: 2, from }), "though we sent more than were printed");
    }

    #[test]
    fn where_the_log_shows_nothing_whoever_was_connected_at_any_time_is_a_hint() {
        let inside = BTreeSet::from(["127.0.0.1".parse().unwrap()]);
        let tally = Tally::default();
        let mut during = During::begin(tally.clone(), sent(0, 0), sent(0, 0));
        let judge = |during: &During| during.judge(&tally, sent(9, 9), sent(9, 9), &inside);
        assert!(matches!(judge(&during), Others::Unknown(_)), "nobody counts connections");
        let inbound = |from: &str| Inbound { from: [(from.to_owned(), 1)].into(), ..Inbound::default() };
        during.count(&inbound("127.0.0.1"));
        assert!(matches!(judge(&during), Others::Unknown(_)), "those are ours");
        during.count(&inbound("10.42.0.9"));
        during.count(&Inbound::default());
        assert_eq!(judge(&during), Others::Connected(vec!["10.42.0.9".to_owned()]));
        (0..99).for_each(|last| during.count(&inbound(&format!("10.42.1.{last}"))));
        let Others::Connected(from) = judge(&during) else { panic!("a hint") };
        assert!(from.len() <= 33 && from.contains(&"others".to_owned()), "{from:?}");
    }

    proptest! {
        /// Whatever of ours is printed, in whatever order and however late, is never taken for somebody else's.
        #[test]
        fn ours_are_never_others(steps in prop::collection::vec((0_u64..4, 0_u64..4, 0_u64..4), 0..60), at in 0_usize..60) {
            let (mut tally, mut now) = (Tally::default(), Sent::default());
            let (mut during, mut settled, mut printed_lines) = (None::<During>, Sent::default(), 0);
            for (index, (begun, ended, lines)) in steps.into_iter().enumerate() {
                now.begun += begun;
                now.ended = (now.ended + ended).min(now.begun);
                now.answered = now.ended;
                // All that ended some steps ago is printed by now.
                let lines = (printed_lines + lines).min(now.begun).max(settled.ended) - printed_lines;
                printed(&mut tally, "10.0.0.1", lines);
                printed_lines += lines;
                if index == at {
                    during = Some(During::begin(tally.clone(), now, settled));
                }
                if let Some(during) = &mut during {
                    prop_assert_eq!(during.news(&tally, now, settled, &BTreeSet::new()), None);
                }
                settled = now;
            }
        }
    }
}
