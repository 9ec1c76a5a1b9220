//! Whether one pod of the gateway reaches a target: for what has to stay up.
//!
//! It differs from what a witness of a fault says in one thing: a name without an address, or one that nobody answers
//! for any more, shows that the gateway cannot reach the target, and shows nothing of a fault that cuts off addresses.

use super::line::Shown;
use super::state::{FAILURES_NEEDED, Timed, words};
use super::symptom::Symptom;
use crate::journal::Event;

/// Pure: looks in, what changed out.
#[derive(Debug)]
pub(super) struct Reach {
    component: String,
    pod: String,
    /// A longer time between two looks is a gap.
    gap_us: u64,
    reached: Option<bool>,
    /// Looks in a row that failed, and when the first of them was sent.
    failed: usize,
    first_us: u64,
    last_us: Option<u64>,
}

impl Reach {
    /// Nothing is known yet.
    pub(super) fn new(component: &str, pod: &str, gap_us: u64) -> Self {
        let (component, pod) = (component.to_owned(), pod.to_owned());
        Self { component, pod, gap_us, reached: None, failed: 0, first_us: 0, last_us: None }
    }

    /// Take in one look; looks come in the order in which they were sent.
    pub(super) fn take(&mut self, look: &Timed) -> Vec<Event> {
        let failure = match &look.shown {
            Shown::Up(_) if !look.name_is_stale => None,
            Shown::Up(_) => Some("its name is not resolved any more".to_owned()),
            Shown::Down(symptom) => Some(words(symptom)),
            Shown::Unresolved => Some(words(&Symptom::Unresolved)),
            // As if it had not been sent.
            Shown::Unknown(_) => return Vec::new(),
        };
        let mut events = Vec::new();
        if self.last_us.is_some_and(|last| look.sent_us.saturating_sub(last) > self.gap_us) {
            events.extend(self.lose("no look for a while"));
        }
        self.last_us = Some(look.sent_us);
        match failure {
            None => {
                self.failed = 0;
                let saw = "new connections get through";
                events.extend(self.change(Some(true), (look.sent_us, look.done_us), saw));
            }
            Some(saw) => {
                if self.failed == 0 {
                    self.first_us = look.sent_us;
                }
                self.failed = self.failed.saturating_add(1);
                if self.failed >= FAILURES_NEEDED {
                    events.extend(self.change(Some(false), (self.first_us, look.done_us), &saw));
                }
            }
        }
        events
    }

    /// From the last look on nothing is known.
    pub(super) fn lose(&mut self, why: &str) -> Option<Event> {
        let last_us = self.last_us.take().unwrap_or_default();
        self.failed = 0;
        self.change(None, (last_us, last_us), why)
    }

    fn change(&mut self, reached: Option<bool>, (sent_us, done_us): (u64, u64), saw: &str) -> Option<Event> {
        if self.reached == reached {
            return None;
        }
        self.reached = reached;
        Some(Event::SeenFromPod {
            component: self.component.clone(),
            pod: self.pod.clone(),
            reached,
            sent_us,
            done_us: done_us.max(sent_us),
            saw: saw.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::Reach;
    use crate::cluster::prober::line::Shown;
    use crate::cluster::prober::state::Timed;
    use crate::cluster::prober::symptom::Symptom;
    use crate::journal::Event;

    fn look(number: u64, shown: &Shown) -> Timed {
        let sent_us = number * 150_000;
        Timed { sent_us, done_us: sent_us + 1000, shown: shown.clone(), name_is_stale: false }
    }

    fn up() -> Shown {
        Shown::Up(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// What is told of these looks: reached or not, and the number of the look that it began with.
    fn told(looks: &[(u64, Shown)]) -> Vec<(Option<bool>, u64)> {
        let mut reach = Reach::new("vllm", "ml/litellm-0", 1_000_000);
        let events = looks.iter().flat_map(|(number, shown)| reach.take(&look(*number, shown)));
        let told = events.map(|event| match event {
            Event::SeenFromPod { reached, sent_us, .. } => (reached, sent_us / 150_000),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    #[test]
    fn three_failures_in_a_row_are_needed_and_a_look_that_was_none_is_passed_over() {
        let (down, none) = (Shown::Down(Symptom::Refused), Shown::Unknown(Symptom::Ours("EMFILE".into())));
        let brief = [(1, up()), (2, down.clone()), (3, down.clone()), (4, up()), (5, down.clone())];
        assert_eq!(told(&brief), [(Some(true), 1)]);
        let not_looked = [(1, up()), (2, none.clone()), (3, none.clone()), (4, none.clone()), (5, up())];
        assert_eq!(told(&not_looked), [(Some(true), 1)]);
        let gone = [(1, up()), (2, down.clone()), (3, none), (4, Shown::Unresolved), (5, down), (6, up())];
        assert_eq!(told(&gone), [(Some(true), 1), (Some(false), 2), (Some(true), 6)]);
    }

    #[test]
    fn a_gap_is_neither() {
        let down = || Shown::Down(Symptom::Silent);
        assert_eq!(told(&[(1, up()), (2, down()), (3, down()), (50, down())]), [(Some(true), 1), (None, 3)]);
    }

    #[test]
    fn a_name_that_nobody_answers_for_any_more_is_not_reached() {
        let mut reach = Reach::new("vllm", "ml/litellm-0", 1_000_000);
        let stale = |number| Timed { name_is_stale: true, ..look(number, &up()) };
        let events: Vec<Event> = (1..=3).flat_map(|number| reach.take(&stale(number))).collect();
        assert!(
            matches!(&events[..], [Event::SeenFromPod { reached: Some(false), saw, .. }] if saw.contains("name")),
            "{events:?}"
        );
    }

    proptest! {
        /// Each line tells a change, and none tells of a failure without three looks that failed.
        #[test]
        fn only_changes_are_told(kinds in prop::collection::vec((1_u64..9, 0_u8..4), 0..80)) {
            let mut reach = Reach::new("vllm", "ml/litellm-0", 1_000_000);
            let (mut number, mut failed, mut known) = (0, 0_u32, None);
            for (step, kind) in kinds {
                number += step;
                let shown = match kind {
                    0 => up(),
                    1 => Shown::Down(Symptom::Refused),
                    2 => Shown::Unresolved,
                    _ => Shown::Unknown(Symptom::Ours("EMFILE".into())),
                };
                failed = match kind { 0 => 0, 3 => failed, _ => failed + 1 };
                for event in reach.take(&look(number, &shown)) {
                    let Event::SeenFromPod { reached, .. } = event else { panic!("another event") };
                    prop_assert!(reached != known);
                    prop_assert!(reached != Some(false) || failed >= 3);
                    known = reached;
                }
            }
        }
    }
}
