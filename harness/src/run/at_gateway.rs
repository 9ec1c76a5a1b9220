//! What goes on at a gateway in a cluster while modes go on: who else uses it, and which of its pods answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::during::During;
use crate::cluster::access::Access;
use crate::cluster::forward::{Forwarded, Way};
use crate::cluster::gateway::Gateway;
use crate::cluster::loki::LokiReader;
use crate::cluster::others::{LogReader, Others, Tally};
use crate::cluster::prober::{Fleet, Seen};
use crate::environment::ObjectName;
use crate::journal::{Event, Journal, LogCounted};
use crate::probe::{Prober, Sent};
use crate::verdict::result::KnownBy;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What was answered so long ago is in the log that the API shows, if it ever will be.
const PRINTED_WITHIN_US: u64 = 5_000_000;
/// At the end of a mode the last lines of our own are waited for so long.
pub(super) const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

/// Follows it. Dropping it ends that.
pub(super) struct AtGateway {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    logs: Mutex<Logs>,
    prober: Prober,
    journal: Arc<Journal>,
    /// The addresses that the gateway sees us by, where they are known.
    addresses: BTreeSet<IpAddr>,
    way: Option<Way>,
    loki: Option<LokiReader>,
    state: Mutex<State>,
}

/// The logs that are read, of these pods, and what probers in them see.
struct Logs {
    reader: LogReader,
    pods: Vec<ObjectName>,
    probers: Vec<watch::Receiver<Seen>>,
}

#[derive(Default)]
struct State {
    mode: Option<Mode>,
    /// What we had sent, by time.
    samples: VecDeque<(u64, Sent)>,
    /// Troubles of the way that are in the journal.
    troubles: u64,
    /// What is not known of others, as it was told.
    unknown: Option<String>,
}

struct Mode {
    scenario: String,
    during: During,
    forwarded: Forwarded,
    /// On the wall clock, nanoseconds of Unix time.
    begun_ns: i128,
}

impl AtGateway {
    /// Follow the logs of the gateway's pods, who is connected to them as far as there are probers in them, and the way to
    /// it. `prober` is what sends all that we send.
    #[must_use]
    pub(super) fn start(
        access: &Access,
        gateway: &Gateway,
        probers: Option<&Fleet>,
        prober: &Prober,
        loki: Option<LokiReader>,
        journal: &Arc<Journal>,
    ) -> Self {
        let way = gateway.way();
        // A port-forward ends inside the pod, so that all of ours come from there and nobody else's do.
        let inside =
            way.iter().flat_map(|_| [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()]);
        let shared = Arc::new(Shared {
            logs: Mutex::new(Logs::of(access, &gateway.pods, gateway.container.as_deref(), probers)),
            prober: prober.clone(),
            journal: Arc::clone(journal),
            addresses: inside.collect(),
            way,
            loki,
            state: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(look_on(Arc::clone(&shared), stop.clone()));
        Self { shared, stop, task: Some(task) }
    }

    /// Follow the logs of these pods instead; between two modes.
    pub(super) fn follow(
        &self,
        access: &Access,
        pods: &[ObjectName],
        container: Option<&str>,
        probers: Option<&Fleet>,
    ) {
        *self.shared.lock_logs() = Logs::of(access, pods, container, probers);
    }

    /// From now on what is seen belongs to this mode.
    pub(super) fn begin(&self, scenario: &str) {
        let shared = &self.shared;
        let (tally, now_us) = (shared.tally(), shared.journal.clock().now_us());
        let mut state = shared.lock();
        let settled = state.settled(now_us);
        let during = During::begin(tally, shared.prober.sent(), settled);
        let forwarded = shared.way.as_ref().map(Way::forwarded).unwrap_or_default();
        let begun_ns = jiff::Timestamp::now().as_nanosecond();
        state.mode = Some(Mode { scenario: scenario.to_owned(), during, forwarded, begun_ns });
    }

    /// The mode is over, and all that was sent in it has ended: writes down what was seen in it. What is not printed yet is
    /// not waited for once the run is cut short.
    pub(super) async fn end(&self, cut: &CancellationToken) {
        let shared = &self.shared;
        last_lines(|| shared.is_printed(), cut).await;
        shared.look();
        let mode = shared.lock().mode.take();
        if let Some(mode) = mode {
            shared.tell_pods(&mode);
            shared.tell_counts(&mode, cut).await;
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
        // What reads the logs ends with the last who holds it, which is this one.
        self.shared.look();
    }
}

impl Drop for AtGateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits until all of ours is printed, for a moment.
async fn last_lines(is_printed: impl Fn() -> bool, cut: &CancellationToken) {
    let deadline = Instant::now() + LAST_LINES_WITHIN;
    while !is_printed() && Instant::now() < deadline {
        if cut.run_until_cancelled(tokio::time::sleep(LOOK_EVERY / 5)).await.is_none() {
            return;
        }
    }
}

async fn look_on(shared: Arc<Shared>, stop: CancellationToken) {
    let mut timer = tokio::time::interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => shared.look(),
        }
    }
}

impl Logs {
    fn of(access: &Access, pods: &[ObjectName], container: Option<&str>, probers: Option<&Fleet>) -> Self {
        Self {
            reader: LogReader::start(access, pods, container, Duration::ZERO),
            pods: pods.to_vec(),
            probers: probers.into_iter().flat_map(Fleet::members).map(|(_, prober)| prober.seen()).collect(),
        }
    }
}

impl State {
    /// What we had sent so long ago that it is printed.
    fn settled(&self, now_us: u64) -> Sent {
        let old = self.samples.iter().rev().find(|(at_us, _)| at_us + PRINTED_WITHIN_US <= now_us);
        old.map(|(_, sent)| *sent).unwrap_or_default()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_logs(&self) -> MutexGuard<'_, Logs> {
        // Replaced whole.
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tally(&self) -> Tally {
        self.lock_logs().reader.tally()
    }

    fn look(&self) {
        // What we have sent is read after what was printed: no line of ours is there without its call.
        let tally = self.tally();
        let sent = self.prober.sent();
        let now_us = self.journal.clock().now_us();
        let mut state = self.lock();
        self.tell_troubles(&mut state);
        state.samples.push_back((now_us, sent));
        while state.samples.get(1).is_some_and(|(at_us, _)| at_us + PRINTED_WITHIN_US <= now_us) {
            state.samples.pop_front();
        }
        let settled = state.settled(now_us);
        let Some(mode) = &mut state.mode else { return };
        for seen in &self.lock_logs().probers {
            if let Some(inbound) = &seen.borrow().inbound {
                mode.during.count(inbound);
            }
        }
        if let Some(others) = mode.during.news(&tally, sent, settled, &self.addresses) {
            let what = others.words();
            self.journal.append(Event::OthersCalled {
                scenario: mode.scenario.clone(),
                seen_us: now_us,
                what,
            });
        }
    }

    /// Our own way to the gateway broke: what failed then says nothing of the gateway.
    fn tell_troubles(&self, state: &mut State) {
        let Some(forwarded) = self.way.as_ref().map(|way| way.forwarded()) else { return };
        // Only the newest are kept; how many there were is known of all.
        let new =
            usize::try_from(forwarded.trouble_count.saturating_sub(state.troubles)).unwrap_or(usize::MAX);
        let troubles = &forwarded.troubles[forwarded.troubles.len().saturating_sub(new)..];
        for trouble in troubles {
            let to = trouble.pod.as_ref().map(|pod| format!(" to {pod}")).unwrap_or_default();
            let why = format!("the port-forward{to} broke or could not be opened: {}", trouble.why);
            self.journal.append(Event::WayBroke { broke_us: trouble.at_us, why });
        }
        state.troubles = forwarded.trouble_count;
    }

    /// Whether all of ours in this mode that were answered are in the log, as far as it shows calls at all.
    fn is_printed(&self) -> bool {
        let tally = self.tally();
        let state = self.lock();
        let Some(mode) = &state.mode else { return true };
        let printed = mode.during.added(&tally).calls;
        printed == 0 || printed >= mode.during.answered(self.prober.sent())
    }

    /// What the gateway's log counted in a mode, read from its pods and from where else it is kept.
    async fn tell_counts(&self, mode: &Mode, cut: &CancellationToken) {
        let ended_ns = jiff::Timestamp::now().as_nanosecond();
        let ours = mode.during.answered(self.prober.sent());
        let added = mode.during.added(&self.tally());
        let unread = added.unread.first_key_value();
        let trouble = unread.map(|(pod, why)| format!("the log of {pod} cannot be read ({why})"));
        self.tell_log(mode, "gateway log", ours, added, trouble);
        if let Some(loki) = &self.loki {
            let shown = loki.count(mode.begun_ns, ended_ns, ours, cut).await;
            self.tell_log(mode, "loki", ours, shown.tally, shown.trouble);
        }
    }

    fn tell_log(&self, mode: &Mode, source: &str, ours: u64, tally: Tally, trouble: Option<String>) {
        self.journal.append(Event::LogCounted(LogCounted {
            scenario: mode.scenario.clone(),
            source: source.to_owned(),
            calls: tally.calls,
            ours,
            answers: tally.answers,
            trouble,
        }));
    }

    /// Which pods answered in a mode, as far as that is known.
    fn tell_pods(&self, mode: &Mode) {
        let sent = self.prober.sent();
        if mode.during.answered(sent) == 0 {
            return;
        }
        let tally = self.tally();
        let added = mode.during.added(&tally);
        let pods = self.lock_logs().pods.clone();
        let (known_by, pods): (KnownBy, BTreeMap<String, Option<u64>>) = match (&self.way, &pods[..]) {
            (Some(way), _) => (KnownBy::PortForward, pods_of(&mode.forwarded, &way.forwarded())),
            (None, [only]) => (KnownBy::OnlyPod, BTreeMap::from([(only.to_string(), None)])),
            (None, _) => {
                let counts = added.by_pod.iter().map(|(pod, calls)| (pod.to_string(), Some(*calls)));
                (KnownBy::AccessLog, counts.collect())
            }
        };
        if !pods.is_empty() {
            self.journal.append(Event::PodsAnswered { scenario: mode.scenario.clone(), known_by, pods });
        }
        // What is not known of others is told once, with the first mode that shows it.
        let mut state = self.lock();
        let others =
            mode.during.judge(&tally, sent, state.settled(self.journal.clock().now_us()), &self.addresses);
        if let others @ (Others::Unknown(_) | Others::Connected(_)) = others
            && state.unknown.is_none()
        {
            let text = format!("while modes went on: {}", others.words());
            state.unknown = Some(text.clone());
            self.journal.append(Event::Found { text });
        }
    }
}

/// The pods that connections of a mode led to: the one that was in use when it began, and those that were opened to.
fn pods_of(before: &Forwarded, after: &Forwarded) -> BTreeMap<String, Option<u64>> {
    let opened = |pod: &&ObjectName| after.connections.get(*pod) > before.connections.get(*pod);
    let opened = after.connections.keys().filter(opened);
    opened.chain(&before.pod).map(|pod| (pod.to_string(), None)).collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::{LAST_LINES_WITHIN, last_lines, pods_of};
    use crate::cluster::forward::Forwarded;
    use crate::environment::ObjectName;

    /// Faults of the mode before may be held meanwhile.
    #[tokio::test]
    async fn last_lines_are_not_waited_for_once_the_run_is_cut_short() {
        let (cut, begun) = (CancellationToken::new(), Instant::now());
        let fired = async { cut.cancel() };
        tokio::join!(last_lines(|| false, &cut), fired);
        assert!(begun.elapsed() < LAST_LINES_WITHIN / 2, "{:?}", begun.elapsed());
        let begun = Instant::now();
        last_lines(|| false, &CancellationToken::new()).await;
        assert!(begun.elapsed() >= LAST_LINES_WITHIN);
        last_lines(|| true, &CancellationToken::new()).await;
    }

    #[test]
    fn the_pods_of_a_mode_are_the_one_in_use_and_those_that_followed() {
        let pod = |name: &str| ObjectName::new("ml", name);
        let forwarded = |used: Option<&str>, connections: &[(&str, u64)]| Forwarded {
            pod: used.map(pod),
            connections: connections.iter().map(|(name, count)| (pod(name), *count)).collect(),
            ..Forwarded::default()
        };
        let names =
            |before: &Forwarded, after: &Forwarded| pods_of(before, after).into_keys().collect::<Vec<_>>();
        let before = forwarded(Some("b"), &[("a", 3), ("b", 1)]);
        assert_eq!(names(&before, &before), ["ml/b"], "on kept connections");
        let after = forwarded(Some("c"), &[("a", 3), ("b", 4), ("c", 1)]);
        assert_eq!(names(&before, &after), ["ml/b", "ml/c"]);
    }
}
