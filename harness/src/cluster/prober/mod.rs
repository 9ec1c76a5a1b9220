//! A prober inside the gateway's pod: one long exec of a small script of ours, which looks at the cloud and at the
//! backends from where the gateway does, past the gateway.
//!
//! Several times a second it makes a new TCP connection to every address of each target. It holds one more to each,
//! opened before the fault, and asks there for `HEAD /` once a second: any answer shows that an established
//! connection still carries packets both ways, it calls no model and costs nothing, and it has no body. With https
//! the certificate is verified against the authorities that the container knows; where it cannot be, the held
//! connection shows nothing, and new connections still do. It resolves the targets' names again and again, and counts
//! the pod's sockets in `/proc/net/tcp` and `tcp6` without its own, so that pooled connections are seen to drain.
//!
//! Invariants: the script reads no environment variable and no file but those two, and needs no more than Python 3.8;
//! it ends with its standard input, when it hears nothing for 15 s, and after a set time. What it prints is typed,
//! bounded and never trusted; instants are on the run's clock, with the clock's error counted into every bracket. A
//! break in the stream is "unknown", never "down".
//!
//! Where the network is done on the socket (Cilium without kube-proxy) the kernel shows a pod's address in place of
//! a Service's, so sockets to backends are not counted there; those to the cloud are.

mod clock;
mod digest;
mod exec;
mod fleet;
mod held;
mod joint;
mod line;
mod reach;
mod session;
mod state;
mod symptom;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::digest::{Inbound, Pool, Seen, TargetSeen};
pub use self::exec::in_pod;
pub use self::fleet::{FLEET_MAX, Fleet};
pub use self::held::{Fate, HeldSeen, Lost};
pub use self::line::SocketState;
pub use self::session::{COMMAND, CannotOpen, Opener, Pipes};
pub use self::state::{FAILURES_NEEDED, SOURCE};
pub use self::symptom::Symptom;
pub use self::target::{BadUrl, Target};

use self::digest::Digest;
use self::joint::Joint;
use self::line::Lines;
use self::session::{End, Reader, follow};
use self::state::TargetState;
use crate::journal::{Event, Journal};
use crate::witness::Observed;

/// The first look must be there by then: starting Python takes less than a second.
const START_LIMIT: Duration = Duration::from_secs(20);
/// A stream is opened again so often, in all.
const REOPENED_MAX: u32 = 20;
/// Before it is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(500);

/// How a prober looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProberOptions {
    /// Between two new connections to a target.
    pub look_every: Duration,
    /// A connect that takes longer is silent.
    pub hang: Duration,
    /// Between two requests on a held connection.
    pub ask_every: Duration,
    /// Between two resolutions of a name.
    pub resolve_every: Duration,
    /// Between two counts of sockets.
    pub sockets_every: Duration,
    /// The gateway's own port in the pod.
    pub gateway_port: u16,
    /// The script ends by then, whatever happens.
    pub ends_after: Duration,
}

impl ProberOptions {
    /// What a cluster bears well.
    #[must_use]
    pub fn new(gateway_port: u16, ends_after: Duration) -> Self {
        Self {
            look_every: Duration::from_millis(150),
            hang: Duration::from_millis(600),
            ask_every: Duration::from_secs(1),
            resolve_every: Duration::from_millis(500),
            sockets_every: Duration::from_millis(500),
            gateway_port,
            ends_after,
        }
    }
}

/// Why there is no prober.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProberError {
    /// It could not be started, or ended before its first look.
    #[error("no prober in the gateway's pod: {0}")]
    NotStarted(String),
    /// It was started and showed nothing in time.
    #[error("the prober in the gateway's pod showed nothing within {} s", START_LIMIT.as_secs())]
    Silent,
}

/// A running prober.
pub struct Prober {
    seen: watch::Receiver<Seen>,
    observed: BTreeMap<String, watch::Receiver<Observed>>,
    handed_over: Arc<AtomicBool>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Prober {
    /// Start looking, and wait until the clock of the pod is known.
    ///
    /// # Errors
    /// When it cannot be started: exec is forbidden, the container has no Python 3, the pod is gone.
    pub async fn start(
        open: Opener,
        targets: Vec<Target>,
        options: ProberOptions,
        journal: Arc<Journal>,
    ) -> Result<Self, ProberError> {
        Self::start_as(open, targets, options, journal, Told::Journal { pod: None }).await
    }

    /// One that is a part of several.
    async fn start_as(
        open: Opener,
        targets: Vec<Target>,
        options: ProberOptions,
        journal: Arc<Journal>,
        told: Told,
    ) -> Result<Self, ProberError> {
        let components: Vec<String> = targets.iter().map(|target| target.component.clone()).collect();
        let state = |target: &Target| {
            let state = TargetState::new(&target.component, options.look_every);
            let state = state.whose_name_may_go(target.name_may_go);
            match told.pod() {
                Some(pod) => state.seen_from(pod),
                None => state,
            }
        };
        let digest = Digest::new(targets.iter().map(state).collect());
        let (sender, seen) = watch::channel(digest.seen().clone());
        let (senders, observed): (Vec<_>, Vec<_>) =
            components.iter().map(|_| watch::channel(Observed::default())).unzip();
        let stop = CancellationToken::new();
        let handed_over = Arc::new(AtomicBool::new(false));
        let seen_by_others = Arc::clone(&handed_over);
        let teller =
            Teller { digest, journal, told, handed_over: seen_by_others, seen: sender, observed: senders };
        let task = tokio::spawn(keep_looking(open, targets, options, teller, stop.clone()));
        let observed = components.into_iter().zip(observed).collect();
        let prober = Self { seen, observed, handed_over, stop, task: Some(task) };
        prober.wait_for_the_first().await?;
        Ok(prober)
    }

    async fn wait_for_the_first(&self) -> Result<(), ProberError> {
        let mut seen = self.seen.clone();
        let first = seen.wait_for(|seen| seen.clock_error_us.is_some() || seen.ended.is_some());
        match tokio::time::timeout(START_LIMIT, first).await {
            Ok(Ok(seen)) if seen.ended.is_none() => Ok(()),
            Ok(Ok(seen)) => Err(ProberError::NotStarted(seen.ended.clone().unwrap_or_default())),
            Ok(Err(_)) => Err(ProberError::NotStarted("it was stopped".to_owned())),
            Err(_) => Err(ProberError::Silent),
        }
    }

    /// What is known of the pod.
    #[must_use]
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// What is known of a component from there.
    #[must_use]
    pub fn target(&self, component: &str) -> Option<TargetSeen> {
        self.seen.borrow().targets.get(component).cloned()
    }

    /// Whether new connections to a component are accepted, as a witness has it.
    #[must_use]
    pub fn observed(&self, component: &str) -> Option<watch::Receiver<Observed>> {
        self.observed.get(component).cloned()
    }

    /// Another one looks from the same pod from now on: what the pod sees for itself is told by that one alone. Of which
    /// components nothing is known until then.
    fn hand_over(&self) -> impl Iterator<Item = &String> {
        self.handed_over.store(true, Ordering::Relaxed);
        self.observed.keys()
    }

    /// Stop looking, and wait until the script has ended.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// One that is dropped stops looking, too; the script ends with its input.
impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// How long the empty requests on a kept connection to a target take from there, in microseconds: some of them, or as many
/// as there are within `limit`.
///
/// # Errors
/// When no prober can be started.
pub async fn answer_times(
    open: Opener,
    target: Target,
    options: ProberOptions,
    journal: Arc<Journal>,
    samples: usize,
    limit: Duration,
) -> Result<Vec<u64>, ProberError> {
    let component = target.component.clone();
    let prober = Prober::start_as(open, vec![target], options, journal, Told::Nobody).await?;
    let enough =
        |seen: &Seen| seen.targets.get(&component).is_some_and(|target| target.held.took_us.len() >= samples);
    let mut seen = prober.seen();
    // With fewer there is less to go by, and the caller sees how many.
    let _ = tokio::time::timeout(limit, seen.wait_for(enough)).await;
    let took = prober.target(&component).map(|target| target.held.took_us.into_iter().collect());
    prober.stop().await;
    Ok(took.unwrap_or_default())
}

async fn keep_looking(
    open: Opener,
    targets: Vec<Target>,
    options: ProberOptions,
    mut teller: Teller,
    stop: CancellationToken,
) {
    for attempt in 0..=REOPENED_MAX {
        let opened = tokio::select! {
            () = stop.cancelled() => break,
            opened = open() => opened,
        };
        let (why, for_good) = match opened {
            Ok(pipes) => {
                teller.digest.begin();
                match follow(pipes, &targets, &options, &mut teller, &stop).await {
                    End::Stopped => break,
                    // One that never showed anything will not do so the next time.
                    End::Broke(why) => (why, teller.digest.seen().clock_error_us.is_none()),
                }
            }
            Err(error) => (error.why, error.for_good || attempt == 0),
        };
        teller.lose(&why);
        if for_good || attempt == REOPENED_MAX {
            teller.digest.end(&why);
            teller.publish();
            return;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(REOPEN_AFTER) => {}
        }
    }
    teller.lose("it was stopped");
}

/// Who is told what a prober observes. Two that see different things would contradict each other about the same
/// component, so of several only the whole is told to the journal.
enum Told {
    /// With which pod it is, where that is known.
    Journal { pod: Option<String> },
    /// As one of several, by its number.
    Joint { joint: Arc<Joint>, number: usize, pod: String },
    /// It is of interest to who asked alone.
    Nobody,
}

impl Told {
    fn pod(&self) -> Option<&str> {
        match self {
            Self::Journal { pod } => pod.as_deref(),
            Self::Joint { pod, .. } => Some(pod),
            Self::Nobody => None,
        }
    }
}

struct Teller {
    digest: Digest,
    journal: Arc<Journal>,
    told: Told,
    /// What the pod sees for itself is told by another.
    handed_over: Arc<AtomicBool>,
    seen: watch::Sender<Seen>,
    observed: Vec<watch::Sender<Observed>>,
}

impl Teller {
    fn lose(&mut self, why: &str) {
        let events = self.digest.lose(self.journal.clock().now_us(), why);
        self.append(events);
        if let Told::Joint { joint, number, .. } = &self.told {
            joint.lose(*number, why);
        }
        self.publish();
    }

    fn append(&self, events: Vec<Event>) {
        let is_of_pod = |event: &Event| matches!(event, Event::SeenFromPod { .. });
        let is_handed_over = self.handed_over.load(Ordering::Relaxed);
        match &self.told {
            Told::Journal { .. } => {
                let told = events.into_iter().filter(|event| !(is_handed_over && is_of_pod(event)));
                told.for_each(|event| self.journal.append(event));
            }
            Told::Joint { joint, number, .. } => {
                joint.take(*number, &events);
                // What each pod sees for itself is not joined.
                let told = events.into_iter().filter(|event| !is_handed_over && is_of_pod(event));
                told.for_each(|event| self.journal.append(event));
            }
            Told::Nobody => {}
        }
    }

    fn publish(&self) {
        for (sender, observed) in self.observed.iter().zip(self.digest.observed()) {
            sender.send_if_modified(|published| {
                let differs = published != observed;
                if differs {
                    published.clone_from(observed);
                }
                differs
            });
        }
        self.seen.send_if_modified(|published| {
            let differs = published != self.digest.seen();
            if differs {
                published.clone_from(self.digest.seen());
            }
            differs
        });
    }
}

impl Reader for Teller {
    fn read(&mut self, lines: &mut Lines, bytes: &[u8]) {
        let now_us = self.journal.clock().now_us();
        for line in lines.feed(bytes) {
            match line {
                Ok(line) => {
                    let events = self.digest.take(line, now_us);
                    self.append(events);
                }
                Err(_) => self.digest.spoil(),
            }
        }
        self.publish();
    }

    fn ask_echo(&mut self) -> u64 {
        self.digest.ask_echo(self.journal.clock().now_us())
    }
}

#[cfg(test)]
mod tests;
