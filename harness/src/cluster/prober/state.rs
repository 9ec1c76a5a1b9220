//! From looks to "up" and "down" with brackets, in the shape that witnesses have.

use std::time::Duration;

use super::clock::Mapped;
use super::line::Shown;
use super::reach::Reach;
use super::symptom::Symptom;
use crate::journal::Event;
use crate::witness::Observed;

/// Name of the source in evidence.
pub const SOURCE: &str = "exec-prober";
/// Failures in a row that make a target down: a single lost packet is none.
pub const FAILURES_NEEDED: usize = 3;
/// How often unchanged observations are summed up in the journal.
const COUNT_EVERY_US: u64 = 1_000_000;

/// One look on the run's clock, with the clock's error counted in: it began no later than `sent_us` says, and was
/// over no earlier than `done_us`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timed {
    /// When it was sent, at the earliest.
    pub sent_us: u64,
    /// When its end was known, at the latest.
    pub done_us: u64,
    /// What it shows.
    pub shown: Shown,
    /// The name has no address any more, by the newest answer; those of before were tried.
    pub unresolved: bool,
    /// The name has been asked for, for longer than that takes, and there was no address in any answer.
    pub name_is_stale: bool,
}

impl Timed {
    /// From the pod's instants.
    #[must_use]
    pub(super) fn new(sent: Mapped, done: Mapped, shown: Shown) -> Self {
        let sent_us = sent.earliest_us();
        Self {
            sent_us,
            done_us: done.latest_us().max(sent_us),
            shown,
            unresolved: false,
            name_is_stale: false,
        }
    }
}

/// The state of one target: pure, looks in and journal events out.
#[derive(Debug)]
pub(super) struct TargetState {
    component: String,
    /// Its name goes with its pods, so that a name without an address is one of what is down.
    name_may_go: bool,
    /// Whether the pod reaches it, where it is told which pod that is.
    reach: Option<Reach>,
    /// A longer time between two looks is a gap.
    gap_us: u64,
    observed: Observed,
    /// Failures that are not yet enough, oldest first, each with the look before it.
    pending: Vec<(Timed, Option<u64>)>,
    last_sent_us: Option<u64>,
    symptom: Option<Symptom>,
    counts: Counts,
}

impl TargetState {
    /// Nothing is known yet.
    #[must_use]
    pub(super) fn new(component: &str, every: Duration) -> Self {
        let every_us = u64::try_from(every.as_micros()).unwrap_or(u64::MAX);
        Self {
            component: component.to_owned(),
            name_may_go: false,
            reach: None,
            gap_us: every_us.saturating_mul(4).max(1_000_000),
            observed: Observed::default(),
            pending: Vec::new(),
            last_sent_us: None,
            symptom: None,
            counts: Counts::default(),
        }
    }

    /// Its name goes with its pods.
    #[must_use]
    pub(super) fn whose_name_may_go(mut self, may_go: bool) -> Self {
        self.name_may_go = may_go;
        self
    }

    /// As this pod sees it: that is told, too.
    #[must_use]
    pub(super) fn seen_from(mut self, pod: &str) -> Self {
        self.reach = Some(Reach::new(&self.component, pod, self.gap_us));
        self
    }

    /// Which component it is.
    #[must_use]
    pub(super) fn component(&self) -> &str {
        &self.component
    }

    /// What is known.
    #[must_use]
    pub(super) fn observed(&self) -> &Observed {
        &self.observed
    }

    /// How new connections fail, while it is down.
    #[must_use]
    pub(super) fn symptom(&self) -> Option<&Symptom> {
        self.symptom.as_ref().filter(|_| self.observed.up == Some(false))
    }

    /// Take in one look; looks come in the order in which they were sent.
    pub(super) fn take(&mut self, mut look: Timed) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(last) = self.last_sent_us {
            // The error of the clock may shift neighbours against each other, by far less than their distance.
            look.sent_us = look.sent_us.max(last);
            look.done_us = look.done_us.max(look.sent_us);
            if look.sent_us - last > self.gap_us {
                events.extend(self.forget("no look for a while"));
            }
        }
        events.extend(self.reach.iter_mut().flat_map(|reach| reach.take(&look)));
        // Nobody comes to the addresses of before by a name that went with its pods.
        let is_unresolved = look.unresolved || look.shown == Shown::Unresolved;
        if is_unresolved && self.name_may_go && !matches!(look.shown, Shown::Unknown(_)) {
            look.shown = Shown::Down(Symptom::Unresolved);
        }
        match &look.shown {
            // As if it had not been sent: without others this becomes a gap.
            Shown::Unknown(_) => return events,
            // Neither, since nobody enforces anything by that a name has no address; but that is worth knowing.
            Shown::Unresolved => {
                if self.observed.up.is_none() {
                    self.observed.saw = words(&Symptom::Unresolved);
                }
                return events;
            }
            Shown::Up(_) => {
                // Too few in a row: counted, but they change nothing.
                for (failed, _) in std::mem::take(&mut self.pending) {
                    self.counts.add(failed.sent_us, false, &self.component, &mut events);
                }
                self.tell(&look, self.last_sent_us, &mut events);
            }
            Shown::Down(_) => {
                self.pending.push((look.clone(), self.last_sent_us));
                if self.observed.up == Some(false) || self.pending.len() >= FAILURES_NEEDED {
                    for (failed, before) in std::mem::take(&mut self.pending) {
                        self.tell(&failed, before, &mut events);
                    }
                }
            }
        }
        self.last_sent_us = Some(look.sent_us);
        events
    }

    /// From the last look on nothing is known: a gap is neither up nor down.
    pub(super) fn lose(&mut self, why: &str) -> Vec<Event> {
        let mut events = self.forget(why);
        events.extend(self.reach.iter_mut().filter_map(|reach| reach.lose(why)));
        events
    }

    fn forget(&mut self, why: &str) -> Vec<Event> {
        let mut events = Vec::new();
        for (failed, _) in std::mem::take(&mut self.pending) {
            self.counts.add(failed.sent_us, false, &self.component, &mut events);
        }
        self.counts.flush(&self.component, &mut events);
        self.last_sent_us = None;
        self.observed.up = None;
        self.observed.down_since_us = None;
        self.observed.saw = why.to_owned();
        events
    }

    fn tell(&mut self, look: &Timed, before: Option<u64>, events: &mut Vec<Event>) {
        let (up, saw) = match &look.shown {
            Shown::Up(address) => (true, format!("connection accepted by {address}")),
            Shown::Down(symptom) | Shown::Unknown(symptom) => (false, words(symptom)),
            Shown::Unresolved => (false, words(&Symptom::Unresolved)),
        };
        if self.observed.up != Some(up) {
            self.counts.flush(&self.component, events);
            events.push(Event::WitnessSaw {
                component: self.component.clone(),
                source: SOURCE.to_owned(),
                up,
                sent_us: look.sent_us,
                done_us: look.done_us,
                saw: saw.clone(),
                previous_sent_us: before,
            });
        }
        self.counts.add(look.sent_us, up, &self.component, events);
        if up {
            self.observed.down_since_us = None;
        } else {
            if self.observed.up != Some(false) {
                self.observed.down_since_us = Some(look.done_us);
            }
            self.observed.last_down_sent_us = Some(look.sent_us);
        }
        self.symptom = match &look.shown {
            Shown::Down(symptom) => Some(symptom.clone()),
            Shown::Up(_) | Shown::Unknown(_) | Shown::Unresolved => None,
        };
        self.observed.up = Some(up);
        self.observed.last_sent_us = look.sent_us;
        self.observed.saw = saw;
    }
}

/// How new connections fail, for a person.
#[must_use]
pub(super) fn words(symptom: &Symptom) -> String {
    match symptom {
        Symptom::Refused => "connection refused".to_owned(),
        Symptom::Silent => "no answer to a connect within the hang limit".to_owned(),
        Symptom::Reset => "connection reset while it was made".to_owned(),
        Symptom::Unreachable => "no way there".to_owned(),
        Symptom::Unresolved => "its name has no address".to_owned(),
        other => format!("connect failed: {}", other.word()),
    }
}

#[derive(Debug, Default)]
struct Counts {
    from_us: u64,
    to_us: u64,
    up: u64,
    down: u64,
}

impl Counts {
    fn add(&mut self, sent_us: u64, up: bool, component: &str, events: &mut Vec<Event>) {
        if self.up + self.down == 0 {
            self.from_us = sent_us;
        }
        self.to_us = sent_us;
        *(if up { &mut self.up } else { &mut self.down }) += 1;
        if self.to_us.saturating_sub(self.from_us) >= COUNT_EVERY_US {
            self.flush(component, events);
        }
    }

    fn flush(&mut self, component: &str, events: &mut Vec<Event>) {
        let Self { from_us, to_us, up, down } = std::mem::take(self);
        if up + down > 0 {
            let component = component.to_owned();
            events.push(Event::WitnessCounted { component, from_us, to_us, up, down });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{TargetState, Timed};
    use crate::cluster::prober::line::Shown;
    use crate::cluster::prober::symptom::Symptom;
    use crate::journal::Event;

    const EVERY_US: u64 = 150_000;

    fn look(number: u64, shown: &Shown) -> Timed {
        let sent_us = number * EVERY_US;
        Timed {
            sent_us,
            done_us: sent_us + 1000,
            shown: shown.clone(),
            unresolved: *shown == Shown::Unresolved,
            name_is_stale: false,
        }
    }

    fn up() -> Shown {
        Shown::Up(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn refused() -> Shown {
        Shown::Down(Symptom::Refused)
    }

    fn state() -> TargetState {
        TargetState::new("cloud", Duration::from_micros(EVERY_US))
    }

    /// Changes told: up or down, sent, previous.
    fn changes(events: &[Event]) -> Vec<(bool, u64, Option<u64>)> {
        let changes = events.iter().filter_map(|event| match event {
            Event::WitnessSaw { up, sent_us, previous_sent_us, .. } => {
                Some((*up, sent_us / EVERY_US, previous_sent_us.map(|at| at / EVERY_US)))
            }
            _ => None,
        });
        changes.collect()
    }

    fn run(looks: &[(u64, Shown)]) -> (TargetState, Vec<Event>) {
        let mut state = state();
        let events = looks.iter().flat_map(|(number, shown)| state.take(look(*number, shown))).collect();
        (state, events)
    }

    #[test]
    fn the_bracket_begins_at_the_last_up_and_ends_at_the_first_of_three_failures() {
        let (state, events) =
            run(&[(1, up()), (2, up()), (3, refused()), (4, refused()), (5, refused()), (6, refused())]);
        assert_eq!(changes(&events), [(true, 1, None), (false, 3, Some(2))]);
        assert_eq!(state.observed().down_since_us, Some(3 * EVERY_US + 1000));
        assert_eq!(state.observed().last_down_sent_us, Some(6 * EVERY_US));
        assert_eq!(state.symptom(), Some(&Symptom::Refused));
    }

    /// A policy that nobody enforces is not in effect because the DNS is away.
    #[test]
    fn a_name_without_an_address_is_down_only_where_it_goes_with_the_pods() {
        let mut looks = vec![(1, up()), (2, up())];
        looks.extend((3..20).map(|number| (number, Shown::Unresolved)));
        let (state, events) = run(&looks);
        assert_eq!(changes(&events), [(true, 1, None)]);
        assert_eq!((state.observed().up, state.observed().saw.as_str()), (None, "its name has no address"));
        let mut state =
            super::TargetState::new("vllm", Duration::from_micros(EVERY_US)).whose_name_may_go(true);
        let events: Vec<Event> =
            looks.iter().flat_map(|(number, shown)| state.take(look(*number, shown))).collect();
        assert_eq!(changes(&events), [(true, 1, None), (false, 3, Some(2))]);
        assert_eq!(state.symptom(), Some(&Symptom::Unresolved));
    }

    /// A policy is seen to hold on while the name is away, by the addresses of before.
    #[test]
    fn a_name_that_is_lost_hides_nothing_of_a_fault_that_cuts_off_addresses() {
        let lost = |shown: Shown| move |number| Timed { unresolved: true, ..look(number, &shown) };
        let mut state = state();
        let mut events = state.take(look(1, &up()));
        events.extend((2..5).flat_map(|number| state.take(look(number, &refused()))));
        events.extend((5..40).map(lost(refused())).flat_map(|look| state.take(look)));
        assert_eq!(changes(&events), [(true, 1, None), (false, 2, Some(1))]);
        assert_eq!(state.observed().last_down_sent_us, Some(39 * EVERY_US));
        assert_eq!(state.symptom(), Some(&Symptom::Refused));
        // One that goes with its pods is away for a client, though a pod that ends still accepts.
        let mut scaled =
            super::TargetState::new("vllm", Duration::from_micros(EVERY_US)).whose_name_may_go(true);
        let mut events = scaled.take(look(1, &up()));
        events.extend((2..9).map(lost(up())).flat_map(|look| scaled.take(look)));
        assert_eq!(changes(&events), [(true, 1, None), (false, 2, Some(1))]);
        assert_eq!(scaled.symptom(), Some(&Symptom::Unresolved));
    }

    #[test]
    fn two_lost_looks_are_counted_and_change_nothing() {
        let (state, mut events) = run(&[(1, up()), (2, refused()), (3, refused()), (4, up())]);
        assert_eq!(changes(&events), [(true, 1, None)]);
        assert_eq!(state.observed().up, Some(true));
        let mut state = state;
        events.extend(state.lose("the end"));
        let counted = events.iter().find_map(|event| match event {
            Event::WitnessCounted { up, down, .. } => Some((*up, *down)),
            _ => None,
        });
        assert_eq!(counted, Some((2, 2)));
    }

    #[test]
    fn one_success_ends_down_at_once() {
        let down = [(1, refused()), (2, refused()), (3, refused())];
        let (mut state, _) = run(&down);
        assert_eq!(changes(&state.take(look(4, &up()))), [(true, 4, Some(3))]);
        assert_eq!(state.symptom(), None);
    }

    #[test]
    fn a_gap_is_unknown_and_not_down() {
        let (mut state, _) = run(&[(1, refused()), (2, refused()), (3, refused())]);
        state.lose("the stream broke");
        assert_eq!((state.observed().up, state.observed().down_since_us), (None, None));
        let events = state.take(look(4, &up()));
        assert_eq!(changes(&events), [(true, 4, None)], "what was before the gap brackets nothing");
        let events = state.take(look(40, &up()));
        assert_eq!(changes(&events), [(true, 40, None)], "so does a pause of the prober");
    }

    #[test]
    fn failures_on_both_sides_of_a_gap_are_not_in_a_row() {
        let (mut state, _) = run(&[(1, up()), (2, refused()), (3, refused())]);
        assert!(changes(&state.take(look(30, &refused()))).is_empty());
        assert_eq!(state.observed().up, None);
    }

    #[test]
    fn a_look_that_could_not_be_made_shows_nothing() {
        let ours = Shown::Unknown(Symptom::Ours("EMFILE".to_owned()));
        let (state, events) = run(&[(1, up()), (2, ours.clone()), (3, ours.clone()), (4, ours)]);
        assert_eq!(changes(&events), [(true, 1, None)]);
        assert_eq!(state.observed().last_sent_us, EVERY_US);
    }

    proptest! {
        /// Changes alternate, every look is counted once, and brackets are in order of time.
        #[test]
        fn changes_alternate_and_nothing_is_lost(looks in prop::collection::vec(any::<bool>(), 1..200)) {
            let looks: Vec<_> = looks.iter().zip(1..).map(|(is_up, n)| (n, if *is_up { up() } else { refused() })).collect();
            let (mut state, mut events) = run(&looks);
            events.extend(state.lose("the end"));
            let changes = changes(&events);
            prop_assert!(changes.windows(2).all(|pair| pair[0].0 != pair[1].0 && pair[0].1 < pair[1].1));
            prop_assert!(changes.iter().all(|(_, sent, before)| before.is_none_or(|before| before < *sent)));
            let counted: u64 = events.iter().map(|event| match event {
                Event::WitnessCounted { up, down, .. } => up + down,
                _ => 0,
            }).sum();
            prop_assert_eq!(counted, looks.len() as u64);
        }
    }
}
