//! What upstreams in a cluster print and count while modes go on: their access lines and counters, past the gateway.
//!
//! Neither names a request, so a count names no reply. It can contradict: whoever printed fewer answers than clients got
//! from it did not give them all. So that nothing late is taken for missing, a log is whole only once its pod has printed
//! something after the mode, by the time that stands before the line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::core::Selector;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::access::Access;
use crate::cluster::counters::{self, Counters, difference};
use crate::cluster::others::{LogReader, Since, Tally};
use crate::cluster::places::Places;
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
/// Counters that are read so long after the end of a mode hold all of it.
const COUNTED_AFTER: Duration = Duration::from_secs(2);
/// As the journal names them.
const ACCESS_LOG: &str = "access log";
const COUNTERS: &str = "counters";

/// An upstream whose pods print.
pub(super) struct Printing {
    component: String,
    aliases: BTreeSet<String>,
    namespace: String,
    selector: Selector,
    container: Option<String>,
    /// Where it shows its counters, if it has any.
    page: Option<String>,
}

impl Printing {
    /// Those of an environment that have pods.
    #[must_use]
    pub(super) fn of(environment: &Environment, places: &Places) -> Vec<Self> {
        let Places { pods, containers, looked_at } = places;
        let printing = |(name, (namespace, selector)): (&String, &(String, Selector))| {
            let component = environment.components.get(name)?;
            Some(Self {
                component: name.clone(),
                aliases: component.aliases.iter().cloned().collect(),
                namespace: namespace.clone(),
                selector: selector.clone(),
                container: containers.get(name).cloned(),
                page: looked_at.iter().find(|target| target.component == *name).map(counters::page_of),
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
    /// It was seen to show counters.
    counts: bool,
}

/// How everything stood when a mode began.
struct Mode {
    scenario: String,
    sent: u64,
    replies: BTreeMap<String, u64>,
    begun: Vec<Standing>,
    /// Where counters are read from: a pod of the gateway, and its container.
    from: Option<(ObjectName, String)>,
    /// What they were.
    pages: Vec<Option<Counters>>,
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
            counts: false,
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

    /// From now on what is printed and counted belongs to this mode. `from` is a pod of the gateway, and its container.
    pub(super) async fn begin(&self, scenario: &str, from: Option<(ObjectName, String)>) {
        let shared = &self.shared;
        let urls: Vec<_> = shared.lock().iter().map(|member| member.printing.page.clone()).collect();
        let reads = urls.into_iter().map(|url| shared.read(from.as_ref(), url));
        let pages = join_all(reads).await;
        let begun = shared.lock().iter().map(Member::standing).collect();
        *shared.lock_mode() = Some(Mode {
            scenario: scenario.to_owned(),
            sent: shared.prober.sent().begun,
            replies: shared.prober.replies(),
            begun,
            from,
            pages,
        });
    }

    /// The mode is over, and all that was sent in it has ended: writes down what was counted in it. What is not printed yet
    /// is not waited for once the run is cut short.
    pub(super) async fn end(&self, cut: &CancellationToken) {
        let ended = Timestamp::now();
        let Some(mode) = self.shared.lock_mode().take() else { return };
        let counted = self.counted(&mode, cut);
        let (lines, counted) = tokio::join!(self.lines(&mode, ended, cut), counted);
        for count in lines.into_iter().chain(counted) {
            self.shared.journal.append(Event::UpstreamCounted(count));
        }
    }

    /// What they have printed.
    async fn lines(&self, mode: &Mode, ended: Timestamp, cut: &CancellationToken) -> Vec<UpstreamCounted> {
        let deadline = Instant::now() + LAST_LINES_WITHIN;
        loop {
            self.shared.look(Since::Beginning);
            // Clocks differ: that a later line has come shows only then that none is under way.
            let is_over = Instant::now() >= deadline;
            let (counts, is_settled) = self.shared.counts(mode, ended, is_over);
            let waited = tokio::time::sleep(LOOK_EVERY / 5);
            if is_settled || is_over || cut.run_until_cancelled(waited).await.is_none() {
                return counts;
            }
        }
    }

    /// What they have counted.
    async fn counted(&self, mode: &Mode, cut: &CancellationToken) -> Vec<UpstreamCounted> {
        let all = (0..mode.pages.len()).map(|index| self.shared.counted(mode, index));
        let all = cut.run_until_cancelled(join_all(all)).await.unwrap_or_default();
        all.into_iter().flatten().collect()
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

impl Mode {
    /// Complete replies whose headers name an alias of this upstream.
    fn expected(&self, printing: &Printing, replies: &BTreeMap<String, u64>) -> u64 {
        let count = |all: &BTreeMap<String, u64>| -> u64 {
            printing.aliases.iter().filter_map(|alias| all.get(alias)).sum()
        };
        count(replies).saturating_sub(count(&self.replies))
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

    /// What an upstream counts by now.
    async fn read(&self, from: Option<&(ObjectName, String)>, url: Option<String>) -> Option<Counters> {
        let ((pod, container), url) = (from?, url?);
        Some(counters::read(&self.access, pod, container, &url).await)
    }

    /// What one has counted in a mode; none where it shows no counters. They are read once more where answers are missing.
    async fn counted(&self, mode: &Mode, index: usize) -> Option<UpstreamCounted> {
        let ended = Instant::now();
        // One that answers and has no counters has none later.
        let before = mode.pages.get(index)?.as_ref().filter(|page| **page != Counters::Absent)?;
        loop {
            let url = self.lock().get(index)?.printing.page.clone();
            let complete = ended.elapsed() >= COUNTED_AFTER;
            let after = self.read(mode.from.as_ref(), url).await?;
            let (counted, is_settled) = self.weighed(mode, index, before, &after, complete)?;
            if complete || is_settled {
                return Some(counted);
            }
            tokio::time::sleep_until(ended + COUNTED_AFTER).await;
        }
    }

    fn weighed(
        &self,
        mode: &Mode,
        index: usize,
        before: &Counters,
        after: &Counters,
        complete: bool,
    ) -> Option<(UpstreamCounted, bool)> {
        let (sent, replies) = (self.prober.sent(), self.prober.replies());
        let mut members = self.lock();
        let (member, begun) = (members.get_mut(index)?, mode.begun.get(index)?);
        member.counts |= [before, after].into_iter().any(|page| matches!(page, Counters::Shown(_)));
        if !member.counts {
            return None;
        }
        let counted = difference(before, after);
        let mut trouble = counted.as_ref().err().cloned();
        if member.present != begun.present || member.gone != begun.gone {
            trouble.get_or_insert_with(|| "its pods are others than when the mode began".to_owned());
        } else if member.present.len() > 1 {
            trouble.get_or_insert_with(|| "it has several pods, and one of them was read".to_owned());
        }
        let (calls, answered) = counted.unwrap_or_default();
        let expected = mode.expected(&member.printing, &replies);
        let is_settled = trouble.is_some() || answered >= expected;
        let counted = UpstreamCounted {
            scenario: mode.scenario.clone(),
            component: member.printing.component.clone(),
            source: COUNTERS.to_owned(),
            calls,
            answered,
            ours: sent.begun.saturating_sub(mode.sent),
            complete,
            trouble,
        };
        Some((counted, is_settled))
    }

    /// What each has printed in a mode, and whether nothing is waited for any more.
    fn counts(&self, mode: &Mode, ended: Timestamp, is_over: bool) -> (Vec<UpstreamCounted>, bool) {
        let ours = self.prober.sent().begun.saturating_sub(mode.sent);
        let replies = self.prober.replies();
        let after_end = ended + AFTER_END;
        let (mut counts, mut is_settled) = (Vec::new(), true);
        for (member, begun) in self.lock().iter().zip(&mode.begun) {
            let now = member.standing();
            let added = now.tally.since(&begun.tally);
            let expected = mode.expected(&member.printing, &replies);
            let is_late = |pod: &ObjectName| added.newest.get(pod).is_none_or(|newest| *newest < after_end);
            let complete = is_over && !now.present.iter().any(is_late);
            let trouble = trouble(begun, &now, &added);
            is_settled &= trouble.is_some() || added.answered >= expected;
            counts.push(UpstreamCounted {
                scenario: mode.scenario.clone(),
                component: member.printing.component.clone(),
                source: ACCESS_LOG.to_owned(),
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
