//! Whether one pod of the gateway reaches a target: for what has to stay up.
//!
//! It differs from what a witness of a fault says in two things. A name that has had no address for longer than a lost
//! question costs shows that the gateway cannot reach the target, and shows nothing of a fault that cuts off addresses.
//! And what voids a mode is no short loss: the failures in a row span a second.

use super::line::Shown;
use super::state::{FAILURES_NEEDED, Timed, words};
use super::symptom::Symptom;
use crate::journal::Event;

/// Three looks that are silent may be one loss of 300 ms: failures are shown only where they span this time, from when the
/// first was sent to the end of the last.
const FAILED_FOR_US: u64 = 1_000_000;

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
            Shown::Down(symptom) => Some(words(symptom)),
            Shown::Up(_) | Shown::Unresolved if look.name_is_stale => Some(match look.unresolved {
                true => words(&Symptom::Unresolved),
                false => "its name is not resolved any more".to_owned(),
            }),
            Shown::Up(_) => None,
            // As if it had not been sent: one lookup that failed shows nothing yet.
            Shown::Unresolved | Shown::Unknown(_) => return Vec::new(),
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
                let span_us = look.done_us.saturating_sub(self.first_us);
                if self.failed >= FAILURES_NEEDED && span_us >= FAILED_FOR_US {
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
        let unresolved = *shown == Shown::Unresolved;
        Timed { sent_us, done_us: sent_us + 1000, shown: shown.clone(), unresolved, name_is_stale: false }
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
        let gone = [(1, up()), (2, down.clone()), (4, none), (6, down.clone()), (9, down), (10, up())];
        assert_eq!(told(&gone), [(Some(true), 1), (Some(false), 2), (Some(true), 10)]);
    }

    #[test]
    fn failures_in_a_row_must_span_a_second() {
        let looks =
            |to: u64, shown: Shown| [(1, up())].into_iter().chain((2..=to).map(move |n| (n, shown.clone())));
        let refused = |to| told(&looks(to, Shown::Down(Symptom::Refused)).collect::<Vec<_>>());
        assert_eq!(refused(8), [(Some(true), 1)]);
        assert_eq!(refused(9), [(Some(true), 1), (Some(false), 2)]);
        // Each hangs for longer than three times the distance of two: the fourth ends a second after the first was sent.
        let mut reach = Reach::new("vllm", "ml/litellm-0", 1_000_000);
        reach.take(&look(1, &up()));
        let silent = |number: u64| {
            let look = look(number, &Shown::Down(Symptom::Silent));
            Timed { done_us: look.sent_us + 600_000, ..look }
        };
        assert!((2..=4).all(|number| reach.take(&silent(number)).is_empty()), "it may be one loss of 300 ms");
        assert_eq!(reach.take(&silent(5)).len(), 1);
    }

    #[test]
    fn a_gap_is_neither() {
        let down = || Shown::Down(Symptom::Silent);
        assert_eq!(told(&[(1, up()), (2, down()), (3, down()), (50, down())]), [(Some(true), 1), (None, 3)]);
    }

    #[test]
    fn a_name_without_an_address_is_not_reached_once_it_has_had_none_for_long() {
        for (shown, unresolved, word) in [
            (up(), false, "its name is not resolved any more"),
            (up(), true, "its name has no address"),
            (Shown::Unresolved, true, "its name has no address"),
        ] {
            let mut reach = Reach::new("vllm", "ml/litellm-0", 1_000_000);
            reach.take(&look(1, &up()));
            let lost = |number, name_is_stale| Timed { unresolved, name_is_stale, ..look(number, &shown) };
            let one: Vec<Event> = (2..=6).flat_map(|number| reach.take(&lost(number, false))).collect();
            assert_eq!(one, [], "one lookup that failed");
            let events: Vec<Event> = (7..=15).flat_map(|number| reach.take(&lost(number, true))).collect();
            assert!(
                matches!(&events[..], [Event::SeenFromPod { reached: Some(false), saw, .. }] if saw == word),
                "{events:?}"
            );
        }
    }

    proptest! {
        /// Each line tells a change, and none tells of a failure without three looks that failed in a second or longer.
        #[test]
        fn only_changes_are_told(kinds in prop::collection::vec((1_u64..9, 0_u8..4), 0..80)) {
            let mut reach = Reach::new("vllm", "ml/litellm-0", 1_000_000);
            let (mut number, mut failed, mut first, mut known) = (0, 0_u32, 0, None);
            for (step, kind) in kinds {
                number += step;
                let shown = match kind {
                    0 => up(),
                    1 => Shown::Down(Symptom::Refused),
                    2 => Shown::Unresolved,
                    _ => Shown::Unknown(Symptom::Ours("EMFILE".into())),
                };
                failed = match kind { 0 => 0, 3 => failed, _ => failed + 1 };
                if failed == 1 && kind != 3 {
                    first = number;
                }
                let look = Timed { name_is_stale: kind == 2, ..look(number, &shown) };
                for event in reach.take(&look) {
                    let Event::SeenFromPod { reached, .. } = event else { panic!("another event") };
                    prop_assert!(reached != known);
                    prop_assert!(reached != Some(false) || (failed >= 3 && (number - first) * 150_000 + 1000 >= 1_000_000));
                    known = reached;
                }
            }
        }
    }
}
