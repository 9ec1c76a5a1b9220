//! What upstreams in a cluster print while modes go on: their access lines, as counts past the gateway.
//!
//! A line names no request, so a count names no reply. It can contradict: whoever printed fewer answers than clients got
//! from it did not give them all. So that nothing late is taken for missing, a log is whole only once its pod has printed
//! something after the mode, by the time that stands before the line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::core::Selector;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::access::Access;
use crate::cluster::others::{LogReader, Since, Tally};
use crate::cluster::watch::Watching;
use crate::environment::{Environment, ObjectName};
use crate::journal::{Event, Journal, UpstreamCounted};
use crate::probe::Prober;

/// Between two looks for new pods.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// At the end of a mode lines that are missing are waited for so long.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(5);
/// A line that is so much younger than the end of a mode shows that all of the mode are there.
const AFTER_END: Duration = Duration::from_millis(500);
/// As the journal names it.
const SOURCE: &str = "access log";

/// An upstream whose pods print.
pub(super) struct Printing {
    component: String,
    aliases: BTreeSet<String>,
    namespace: String,
    selector: Selector,
    container: Option<String>,
}

impl Printing {
    /// Those of an environment that have pods: where those are, and the container that serves.
    #[must_use]
    pub(super) fn of(
        environment: &Environment,
        pods: &BTreeMap<String, (String, Selector)>,
        containers: &BTreeMap<String, String>,
    ) -> Vec<Self> {
        let printing = |(name, (namespace, selector)): (&String, &(String, Selector))| {
            let component = environment.components.get(name)?;
            Some(Self {
                component: name.clone(),
                aliases: component.aliases.iter().cloned().collect(),
                namespace: namespace.clone(),
                selector: selector.clone(),
                container: containers.get(name).cloned(),
            })
        };
        pods.iter().filter_map(printing).collect()
    }
}

/// Follows them. Dropping it ends that.
pub(super) struct AtUpstreams {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    access: Access,
    watching: Arc<Watching>,
    prober: Prober,
    journal: Arc<Journal>,
    members: Mutex<Vec<Member>>,
    mode: Mutex<Option<Mode>>,
}

/// One upstream, and what it has printed.
struct Member {
    printing: Printing,
    reader: LogReader,
    /// Pods that run.
    present: BTreeSet<ObjectName>,
    /// How many have gone.
    gone: u64,
}

/// How everything stood when a mode began.
struct Mode {
    scenario: String,
    sent: u64,
    replies: BTreeMap<String, u64>,
    begun: Vec<Standing>,
}

#[derive(Clone)]
struct Standing {
    tally: Tally,
    present: BTreeSet<ObjectName>,
    gone: u64,
}

impl AtUpstreams {
    /// Follow the logs of the pods of these upstreams, and of those that take their places. `prober` is what sends all that we
    /// send.
    #[must_use]
    pub(super) fn start(
        access: &Access,
        printing: Vec<Printing>,
        watching: &Arc<Watching>,
        prober: &Prober,
        journal: &Arc<Journal>,
    ) -> Self {
        let members = printing.into_iter().map(|printing| Member {
            printing,
            reader: LogReader::default(),
            present: BTreeSet::new(),
            gone: 0,
        });
        let shared = Arc::new(Shared {
            access: access.clone(),
            watching: Arc::clone(watching),
            prober: prober.clone(),
            journal: Arc::clone(journal),
            members: Mutex::new(members.collect()),
            mode: Mutex::default(),
        });
        // Those that run by now have printed what is none of this run.
        shared.look(Since::Now);
        let stop = CancellationToken::new();
        let (looking, end) = (Arc::clone(&shared), stop.clone());
        let task = tokio::spawn(async move {
            let mut timer = tokio::time::interval(LOOK_EVERY);
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            while end.run_until_cancelled(timer.tick()).await.is_some() {
                looking.look(Since::Beginning);
            }
        });
        Self { shared, stop, task: Some(task) }
    }

    /// From now on what is printed belongs to this mode.
    pub(super) fn begin(&self, scenario: &str) {
        let shared = &self.shared;
        let begun = shared.lock().iter().map(Member::standing).collect();
        *shared.lock_mode() = Some(Mode {
            scenario: scenario.to_owned(),
            sent: shared.prober.sent().begun,
            replies: shared.prober.replies(),
            begun,
        });
    }

    /// The mode is over, and all that was sent in it has ended: writes down what was counted in it. What is not printed yet
    /// is not waited for once the run is cut short.
    pub(super) async fn end(&self, cut: &CancellationToken) {
        let ended = Timestamp::now();
        let Some(mode) = self.shared.lock_mode().take() else { return };
        let deadline = Instant::now() + LAST_LINES_WITHIN;
        loop {
            self.shared.look(Since::Beginning);
            // Clocks differ: that a later line has come shows only then that none is under way.
            let is_over = Instant::now() >= deadline;
            let (counts, is_settled) = self.shared.counts(&mode, ended, is_over);
            let waited = tokio::time::sleep(LOOK_EVERY / 5);
            if is_settled || is_over || cut.run_until_cancelled(waited).await.is_none() {
                for count in counts {
                    self.shared.journal.append(Event::UpstreamCounted(count));
                }
                return;
            }
        }
    }

    /// Ends it; nothing is told any more.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl Drop for AtUpstreams {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Member {
    fn standing(&self) -> Standing {
        Standing { tally: self.reader.tally(), present: self.present.clone(), gone: self.gone }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Member>> {
        // Whole after each step.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_mode(&self) -> MutexGuard<'_, Option<Mode>> {
        // Replaced whole.
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows pods that were not there before, from then on.
    fn look(&self, since: Since) {
        for member in self.lock().iter_mut() {
            let Printing { namespace, selector, container, .. } = &member.printing;
            let running = self.watching.with(|watch| watch.running(namespace, selector));
            let running: BTreeSet<ObjectName> = running.into_iter().collect();
            for pod in running.difference(&member.present) {
                member.reader.follow_stamped(&self.access, pod, container.as_deref(), since);
            }
            member.gone += member.present.difference(&running).count() as u64;
            member.present = running;
        }
    }

    /// What each has counted in a mode, and whether nothing is waited for any more.
    fn counts(&self, mode: &Mode, ended: Timestamp, is_over: bool) -> (Vec<UpstreamCounted>, bool) {
        let ours = self.prober.sent().begun.saturating_sub(mode.sent);
        let replies = self.prober.replies();
        let after_end = ended + AFTER_END;
        let (mut counts, mut is_settled) = (Vec::new(), true);
        for (member, begun) in self.lock().iter().zip(&mode.begun) {
            let Printing { component, aliases, .. } = &member.printing;
            let now = member.standing();
            let added = now.tally.since(&begun.tally);
            let count = |all: &BTreeMap<String, u64>| -> u64 {
                aliases.iter().filter_map(|alias| all.get(alias)).sum()
            };
            let expected = count(&replies).saturating_sub(count(&mode.replies));
            let is_late = |pod: &ObjectName| added.newest.get(pod).is_none_or(|newest| *newest < after_end);
            let complete = is_over && !now.present.iter().any(is_late);
            let trouble = trouble(begun, &now, &added);
            is_settled &= trouble.is_some() || added.answered >= expected;
            counts.push(UpstreamCounted {
                scenario: mode.scenario.clone(),
                component: component.clone(),
                source: SOURCE.to_owned(),
                calls: added.calls,
                answered: added.answered,
                ours,
                complete,
                trouble,
            });
        }
        (counts, is_settled)
    }
}

/// Why the logs of a mode are not all there is to know.
fn trouble(begun: &Standing, now: &Standing, added: &Tally) -> Option<String> {
    let unread = added.unread.iter().find(|(pod, _)| now.present.contains(pod));
    if let Some((pod, why)) = unread {
        return Some(format!("the log of {pod} cannot be read ({why})"));
    }
    if let Some(pod) = begun.tally.unread.keys().find(|pod| begun.present.contains(pod)) {
        return Some(format!("the log of {pod} was not followed yet when the mode began"));
    }
    if let Some(pod) = added.ended.keys().find(|pod| now.present.contains(pod)) {
        return Some(format!("the log of {pod} ended meanwhile, and what was printed then is not counted"));
    }
    match now.gone.saturating_sub(begun.gone) {
        0 if now.present.is_empty() => Some("it has no pod that runs".to_owned()),
        0 if added.requests == 0 => Some("it shows no request".to_owned()),
        0 => None,
        gone => {
            Some(format!("pods that went away meanwhile: {gone}; what was read of them until then counts"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Standing, trouble};
    use crate::cluster::others::Tally;
    use crate::environment::ObjectName;

    fn standing(pods: &[&str], gone: u64, unread: &[&str], lines: usize) -> Standing {
        let mut tally = Tally::default();
        for _ in 0..lines {
            let line =
                "2026-11-24T02:13:05Z INFO: 10.0.0.1:5 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK";
            tally.take_stamped(&ObjectName::new("ml", "vllm-0"), line);
        }
        tally.unread.extend(unread.iter().map(|pod| (ObjectName::new("ml", *pod), "404".to_owned())));
        let present = pods.iter().map(|pod| ObjectName::new("ml", *pod)).collect();
        Standing { tally, present, gone }
    }

    fn told(begun: &Standing, now: &Standing) -> Option<String> {
        trouble(begun, now, &now.tally.since(&begun.tally))
    }

    #[test]
    fn what_was_not_read_is_said() {
        let begun = standing(&["vllm-0"], 0, &[], 2);
        assert_eq!(told(&begun, &standing(&["vllm-0"], 0, &[], 5)), None);
        assert_eq!(told(&begun, &standing(&["vllm-0"], 0, &["vllm-9"], 5)), None, "it is gone since long");
        let says = |begun: &Standing, now: &Standing, wanted: &str| {
            let told = told(begun, now);
            assert!(told.as_ref().is_some_and(|told| told.contains(wanted)), "{told:?}");
        };
        says(&begun, &standing(&["vllm-0"], 0, &["vllm-0"], 5), "the log of ml/vllm-0 cannot be read (404)");
        says(&begun, &standing(&["vllm-1"], 1, &["vllm-0"], 5), "pods that went away meanwhile: 1");
        says(&begun, &standing(&["vllm-0"], 0, &[], 2), "no request");
        says(&standing(&[], 1, &[], 2), &standing(&[], 1, &[], 2), "no pod");
        let late = standing(&["vllm-0"], 0, &["vllm-0"], 0);
        says(&late, &standing(&["vllm-0"], 0, &[], 5), "not followed yet");
        let mut broken = standing(&["vllm-0"], 0, &[], 5);
        broken.tally.ended.insert(ObjectName::new("ml", "vllm-0"), 1);
        says(&begun, &broken, "ended meanwhile");
    }
}
