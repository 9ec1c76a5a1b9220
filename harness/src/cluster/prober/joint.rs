//! Several pods as one witness: what each of them sees of a component, joined. Pure, but for who writes it down.
//!
//! A component is down once no pod reaches it, and up again once one does. The bracket of that change is wide enough
//! for every pod: from the first that saw it up for the last time to the last that saw it down. Evidence is as fresh as
//! that of the pod that was heard of longest ago, and a pod of which nothing is known leaves the whole unknown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::state::SOURCE;
use crate::journal::{Event, Journal};
use crate::witness::Observed;

/// What all pods see, for the journal and for those who wait.
pub(super) struct Joint {
    journal: Arc<Journal>,
    components: Mutex<BTreeMap<String, Component>>,
}

struct Component {
    merge: Merge,
    observed: watch::Sender<Observed>,
}

impl Joint {
    /// Of so many pods, which look at these components.
    pub(super) fn new<'a>(
        pods: usize,
        components: impl Iterator<Item = &'a str>,
        journal: &Arc<Journal>,
    ) -> Self {
        let joined = |name: &str| {
            let observed = watch::channel(Observed::default()).0;
            (name.to_owned(), Component { merge: Merge::new(name, pods), observed })
        };
        Self { journal: Arc::clone(journal), components: Mutex::new(components.map(joined).collect()) }
    }

    /// What they see of a component.
    pub(super) fn observed(&self, component: &str) -> Option<watch::Receiver<Observed>> {
        self.lock().get(component).map(|component| component.observed.subscribe())
    }

    /// One pod has seen this.
    pub(super) fn take(&self, pod: usize, events: &[Event]) {
        let mut components = self.lock();
        for event in events {
            let (Event::WitnessSaw { component, .. } | Event::WitnessCounted { component, .. }) = event
            else {
                continue;
            };
            if let Some(known) = components.get_mut(component) {
                self.tell(known, |merge| merge.take(pod, event));
            }
        }
    }

    /// Nothing is known from one pod any more.
    pub(super) fn lose(&self, pod: usize, why: &str) {
        for known in self.lock().values_mut() {
            self.tell(known, |merge| merge.lose(pod, why));
        }
    }

    fn tell(&self, component: &mut Component, change: impl FnOnce(&mut Merge) -> Vec<Event>) {
        // Under the lock, so that the journal has the order of what is merged.
        for event in change(&mut component.merge) {
            self.journal.append(event);
        }
        component.observed.send_if_modified(|published| {
            let differs = *published != component.merge.observed;
            if differs {
                published.clone_from(&component.merge.observed);
            }
            differs
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Component>> {
        // Whole after each step.
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One component.
#[derive(Debug)]
struct Merge {
    component: String,
    pods: Vec<Pod>,
    observed: Observed,
}

/// What one pod has seen last.
#[derive(Clone, Debug, Default)]
struct Pod {
    up: Option<bool>,
    /// Of the look that showed its last change.
    sent_us: u64,
    done_us: u64,
    previous_sent_us: Option<u64>,
    /// What it has counted since that was told last.
    counted: Option<Counted>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    from_us: u64,
    to_us: u64,
    up: u64,
    down: u64,
}

impl Merge {
    fn new(component: &str, pods: usize) -> Self {
        let pods = vec![Pod::default(); pods];
        Self { component: component.to_owned(), pods, observed: Observed::default() }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a pod tells of nothing else")]
    fn take(&mut self, pod: usize, event: &Event) -> Vec<Event> {
        let Some(own) = self.pods.get_mut(pod) else { return Vec::new() };
        match event {
            Event::WitnessSaw { up, sent_us, done_us, saw, previous_sent_us, .. } => {
                own.up = Some(*up);
                (own.sent_us, own.done_us, own.previous_sent_us) = (*sent_us, *done_us, *previous_sent_us);
                self.change(saw, *sent_us, *done_us)
            }
            Event::WitnessCounted { from_us, to_us, up, down, .. } => {
                let counted =
                    own.counted.get_or_insert(Counted { from_us: *from_us, to_us: *to_us, up: 0, down: 0 });
                counted.to_us = counted.to_us.max(*to_us);
                counted.up = counted.up.saturating_add(*up);
                counted.down = counted.down.saturating_add(*down);
                // What one of them has not told yet is not seen by all.
                if self.pods.iter().all(|pod| pod.counted.is_some()) { self.flush() } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn lose(&mut self, pod: usize, why: &str) -> Vec<Event> {
        let events = self.flush();
        if let Some(own) = self.pods.get_mut(pod) {
            *own = Pod::default();
        }
        (self.observed.up, self.observed.down_since_us) = (None, None);
        why.clone_into(&mut self.observed.saw);
        events
    }

    /// The whole after a change of one pod.
    fn change(&mut self, saw: &str, sent_us: u64, done_us: u64) -> Vec<Event> {
        let all = |up| self.pods.iter().all(|pod| pod.up == Some(up));
        let next = if all(false) {
            Some(false)
        } else if all(true)
            || (self.observed.up == Some(false) && self.pods.iter().any(|pod| pod.up == Some(true)))
        {
            Some(true)
        } else {
            self.observed.up
        };
        if next == self.observed.up {
            return Vec::new();
        }
        let up = next == Some(true);
        let (sent_us, done_us, previous_sent_us) = if up {
            (sent_us, done_us, self.observed.up.map(|_| self.observed.last_sent_us))
        } else {
            // Each of them has its own bracket; this one holds them all.
            let of = |pick: fn(&Pod) -> u64| self.pods.iter().map(pick).max().unwrap_or_default();
            let previous: Option<Vec<u64>> = self.pods.iter().map(|pod| pod.previous_sent_us).collect();
            (of(|pod| pod.sent_us), of(|pod| pod.done_us), previous.and_then(|all| all.into_iter().min()))
        };
        // Looks are told in the order of their sending.
        let sent_us = sent_us.max(self.observed.last_sent_us);
        let done_us = done_us.max(sent_us);
        let mut events = self.flush();
        events.push(Event::WitnessSaw {
            component: self.component.clone(),
            source: SOURCE.to_owned(),
            up,
            sent_us,
            done_us,
            saw: saw.to_owned(),
            previous_sent_us,
        });
        self.observed.up = next;
        self.observed.down_since_us = (!up).then_some(done_us);
        if !up {
            self.observed.last_down_sent_us = Some(sent_us);
        }
        self.observed.last_sent_us = sent_us;
        saw.clone_into(&mut self.observed.saw);
        events
    }

    /// What was counted, as far as all have told it.
    fn flush(&mut self) -> Vec<Event> {
        let counted: Vec<Counted> = self.pods.iter_mut().filter_map(|pod| pod.counted.take()).collect();
        let from_us = counted.iter().map(|one| one.from_us).min();
        let to_us = counted.iter().map(|one| one.to_us).min();
        let (Some(from_us), Some(to_us)) = (from_us, to_us) else { return Vec::new() };
        let sum = |pick: fn(&Counted) -> u64| counted.iter().map(pick).fold(0_u64, u64::saturating_add);
        self.observed.last_sent_us = self.observed.last_sent_us.max(to_us);
        if self.observed.up == Some(false) {
            self.observed.last_down_sent_us = Some(self.observed.last_sent_us);
        }
        vec![Event::WitnessCounted {
            component: self.component.clone(),
            from_us,
            to_us: to_us.max(from_us),
            up: sum(|one| one.up),
            down: sum(|one| one.down),
        }]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Merge;
    use crate::journal::Event;

    fn saw(up: bool, previous: Option<u64>, sent_us: u64, done_us: u64) -> Event {
        Event::WitnessSaw {
            component: "cloud".into(),
            source: "exec-prober".into(),
            up,
            sent_us,
            done_us,
            saw: if up { "accepted" } else { "refused" }.into(),
            previous_sent_us: previous,
        }
    }

    fn counted(from_us: u64, to_us: u64, down: u64) -> Event {
        Event::WitnessCounted { component: "cloud".into(), from_us, to_us, up: 0, down }
    }

    #[test]
    fn the_bracket_holds_that_of_every_pod() {
        let mut merge = Merge::new("cloud", 2);
        assert!(merge.take(0, &saw(true, None, 10, 11)).is_empty(), "the other may not see it");
        assert_eq!(merge.observed.up, None);
        assert_eq!(merge.take(1, &saw(true, None, 12, 13)), [saw(true, None, 12, 13)]);
        assert!(merge.take(1, &saw(false, Some(90), 100, 101)).is_empty(), "one still reaches it");
        assert_eq!(merge.observed.up, Some(true));
        let down = merge.take(0, &saw(false, Some(140), 150, 160));
        assert_eq!(down, [saw(false, Some(90), 150, 160)]);
        assert_eq!((merge.observed.up, merge.observed.down_since_us), (Some(false), Some(160)));
        assert!(merge.take(0, &counted(150, 1150, 7)).is_empty(), "nothing from the other yet");
        assert_eq!(merge.take(1, &counted(100, 1100, 7)), [counted(100, 1100, 14)]);
        assert_eq!(merge.take(1, &saw(true, Some(1100), 1200, 1201)).len(), 1, "one is enough to break it");
        assert_eq!(merge.observed.up, Some(true));
    }

    #[test]
    fn a_pod_of_which_nothing_is_known_leaves_it_unknown() {
        let mut merge = Merge::new("cloud", 2);
        for pod in [0, 1] {
            merge.take(pod, &saw(false, Some(5), 10, 11));
        }
        merge.lose(1, "the stream broke");
        assert_eq!((merge.observed.up, merge.observed.saw.as_str()), (None, "the stream broke"));
        assert!(merge.take(0, &counted(20, 30, 3)).is_empty(), "and there is no fresh evidence");
        assert_eq!(merge.take(1, &saw(false, None, 50, 51)).last(), Some(&saw(false, None, 50, 51)));
    }

    proptest! {
        /// Whatever the order: it is down exactly while all are, and its bracket holds the last change of each.
        #[test]
        fn it_is_down_when_all_are(changes in prop::collection::vec((0_usize..3, any::<bool>()), 1..60)) {
            let mut merge = Merge::new("cloud", 3);
            let mut pods: [Option<(bool, u64, u64)>; 3] = [None; 3];
            let (mut told, mut last_sent) = (None, 0);
            for ((pod, up), at) in changes.into_iter().zip((100_u64..).step_by(10)) {
                if pods[pod].is_some_and(|(known, ..)| known == up) {
                    continue;
                }
                let event = saw(up, Some(at - 5), at, at + 2);
                pods[pod] = Some((up, at - 5, at + 2));
                for event in merge.take(pod, &event) {
                    let Event::WitnessSaw { up, sent_us, done_us, previous_sent_us, .. } = event else { continue };
                    prop_assert!(sent_us >= last_sent && done_us >= sent_us);
                    prop_assert!(told != Some(up));
                    (told, last_sent) = (Some(up), sent_us);
                    if !up {
                        for (_, lo, hi) in pods.iter().flatten() {
                            prop_assert!(previous_sent_us.is_some_and(|previous| previous <= *lo) && done_us >= *hi);
                        }
                    }
                }
                let all_down = pods.iter().all(|pod| matches!(pod, Some((false, ..))));
                prop_assert_eq!(merge.observed.up == Some(false), all_down);
                prop_assert_eq!(merge.observed.up, told);
            }
        }
    }
}
