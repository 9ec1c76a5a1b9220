//! Follows what happens to the objects of some namespaces, and notices what is not our doing.
//!
//! [`Reducer`] is pure: what was seen and what we did go in, drift and evidence come out. [`Watching`] feeds it from
//! one watch a kind and namespace. Invariants: a broken watch is "not known" until everything has been listed again,
//! and what was deleted meanwhile is noticed by that list; a change that we make is expected before it is made.

mod drift;
mod kept_up;
mod reduce;
mod seen;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event as ClusterEvent, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::core::Selector;
use kube::runtime::watcher::{Config, Event, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub use self::drift::{Drift, What};
pub use self::reduce::{Presence, Reducer};
pub use self::seen::{Actor, Kind, PodSeen, Seen};

use self::seen::{Watched, name_of};
use super::access::{Access, CallError};
use super::prober;
use crate::environment::ObjectName;
use crate::journal::Clock;

/// A server ends a watch after so long, and it is opened again where it ended: a connection that silently died is
/// noticed within 5 s more.
const WATCH_SECONDS: u32 = 60;
/// The first list of a kind must be whole by then.
const LIST_LIMIT: Duration = Duration::from_secs(15);
/// Before a broken watch is opened again, doubling.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Watches under way. Dropping it ends them.
pub struct Watching {
    shared: Shared,
    /// Counts what was seen.
    changed: watch::Receiver<u64>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Clone)]
struct Shared {
    reducer: Arc<Mutex<Reducer>>,
    changes: Arc<watch::Sender<u64>>,
    clock: Clock,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Reducer> {
        // The reducer's maps are whole after every step, also after one that panicked.
        self.reducer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, seen: Seen) {
        self.lock().take(self.clock.now_us(), seen);
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Watching {
    /// Watch the namespaces of the gateway and the backends; nodes only where that is allowed.
    #[must_use]
    pub fn start(
        access: &Access,
        run: &str,
        namespaces: &BTreeSet<String>,
        nodes: bool,
        clock: Clock,
    ) -> Self {
        let (sender, changed) = watch::channel(0);
        let reducer = Arc::new(Mutex::new(Reducer::new(run)));
        let shared = Shared { reducer, changes: Arc::new(sender), clock };
        let watching = Self { shared, changed, stop: CancellationToken::new(), tasks: Mutex::default() };
        for namespace in namespaces {
            watching.follow::<Deployment>(access.streaming(namespace), namespace);
            watching.follow::<Pod>(access.streaming(namespace), namespace);
            watching.follow::<EndpointSlice>(access.streaming(namespace), namespace);
            watching.follow::<Service>(access.streaming(namespace), namespace);
            watching.follow::<NetworkPolicy>(access.streaming(namespace), namespace);
            watching.follow::<ClusterEvent>(access.streaming(namespace), namespace);
        }
        if nodes {
            watching.follow::<Node>(Api::all(access.streaming_client()), "");
        }
        watching
    }

    fn follow<K: Watched>(&self, api: Api<K>, namespace: &str) {
        self.shared.lock().will_watch(K::KIND, namespace);
        let watch = follow(api, namespace.to_owned(), self.shared.clone(), self.stop.clone());
        self.lock_tasks().spawn(watch);
    }

    /// Feed what a prober has ever resolved, too: an address that moves is drift, also where it moves back at once.
    pub fn mind_addresses(&self, mut seen: watch::Receiver<prober::Seen>) {
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        self.lock_tasks().spawn(async move {
            loop {
                let resolved: Vec<_> = seen
                    .borrow_and_update()
                    .targets
                    .iter()
                    .map(|(name, target)| Seen::Resolved {
                        target: name.clone(),
                        ever: target.ever.clone(),
                        more: target.more,
                    })
                    .collect();
                for one in resolved {
                    shared.take(one);
                }
                tokio::select! {
                    () = stop.cancelled() => break,
                    changed = seen.changed() => if changed.is_err() { break },
                }
            }
        });
    }

    fn lock_tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        // Whole after each step.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ask or tell the reducer something; it never waits.
    pub fn with<T>(&self, ask: impl FnOnce(&mut Reducer) -> T) -> T {
        ask(&mut self.shared.lock())
    }

    /// From now on this component has to stay up; drift where it is not by now, too.
    pub fn expect_up(&self, component: &str, deployment: &ObjectName, pods: (&str, &Selector)) {
        self.shared.lock().expect_up(self.shared.clock.now_us(), component, deployment, pods);
        self.shared.changes.send_modify(|count| *count += 1);
    }

    /// Wait until what is known satisfies `wanted`; false when `limit` is over.
    pub async fn wait_until(&self, limit: Duration, mut wanted: impl FnMut(&Reducer) -> bool) -> bool {
        let mut changed = self.changed.clone();
        let deadline = Instant::now() + limit;
        loop {
            changed.mark_unchanged();
            if wanted(&self.shared.lock()) {
                return true;
            }
            match timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return wanted(&self.shared.lock()),
            }
        }
    }

    /// Wait until everything is known that drift and evidence need; events and nodes are tried, and may be forbidden
    /// ([`Reducer::blind`] says so).
    ///
    /// # Errors
    /// When `limit` is over: what is not known, and why, in words.
    pub async fn settle(&self, limit: Duration) -> Result<(), Vec<String>> {
        let is_settled = |reducer: &Reducer| {
            reducer.blind().all(|(kind, _, why)| !kind.is_needed() && why != reduce::NOT_YET)
        };
        if self.wait_until(limit, is_settled).await {
            return Ok(());
        }
        let words = |(kind, namespace, why): (Kind, &str, &str)| match namespace {
            "" => format!("{} objects: {why}", kind.word()),
            _ => format!("{} objects in {namespace}: {why}", kind.word()),
        };
        Err(self.with(|reducer| reducer.blind().map(words).collect()))
    }

    /// End all watches.
    pub async fn stop(self) {
        self.stop.cancel();
        let mut tasks = self.tasks.into_inner().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

async fn follow<K: Watched>(api: Api<K>, namespace: String, shared: Shared, stop: CancellationToken) {
    let mut pause = RETRY_FIRST;
    loop {
        let mut was_listed = false;
        let why = tokio::select! {
            () = stop.cancelled() => return,
            why = follow_once(&api, &namespace, &shared, &mut was_listed) => why,
        };
        // A new watch begins with a list, so that nothing is missed that happened meanwhile.
        shared.take(Seen::Lost(K::KIND, namespace.clone(), why));
        if was_listed {
            pause = RETRY_FIRST;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Watch until that breaks; says why.
async fn follow_once<K: Watched>(
    api: &Api<K>,
    namespace: &str,
    shared: &Shared,
    was_listed: &mut bool,
) -> String {
    let mut events = pin!(watcher(api.clone(), Config::default().timeout(WATCH_SECONDS)));
    let mut listing = Some((BTreeSet::new(), Vec::new()));
    let list_by = Instant::now() + LIST_LIMIT;
    loop {
        let event = match &listing {
            None => events.next().await,
            Some(_) => match timeout_at(list_by, events.next()).await {
                Ok(event) => event,
                Err(_) => return format!("not listed within {} s", LIST_LIMIT.as_secs()),
            },
        };
        match event {
            Some(Ok(Event::Init)) => listing = Some((BTreeSet::new(), Vec::new())),
            Some(Ok(Event::InitApply(object))) => {
                let Some((names, pods)) = &mut listing else { continue };
                names.insert(name_of(object.meta()));
                match object.seen() {
                    // One of them after another, each would be judged by what the others were before.
                    Seen::Pod(name, pod) => pods.push((name, pod)),
                    other => shared.take(other),
                }
            }
            Some(Ok(Event::InitDone)) => {
                let (names, pods) = listing.take().unwrap_or_default();
                *was_listed = true;
                shared.take(match K::KIND {
                    Kind::Pod => Seen::PodsListed(namespace.to_owned(), pods),
                    kind => Seen::Listed(kind, namespace.to_owned(), names),
                });
            }
            Some(Ok(Event::Apply(object))) => shared.take(object.seen()),
            Some(Ok(Event::Delete(object))) => shared.take(Seen::Gone(K::KIND, name_of(object.meta()))),
            Some(Err(error)) => return words(&error),
            None => return "the watch ended".to_owned(),
        }
    }
}

/// The pods that a selector selects, ready and not on their way out, by name.
///
/// # Errors
/// When they cannot be read.
pub async fn ready_pods(
    access: &Access,
    namespace: &str,
    selector: &Selector,
) -> Result<Vec<ObjectName>, CallError> {
    let pods: Vec<Pod> = access.list(Some(namespace), &selector.to_string()).await?;
    let ready = pods.iter().filter_map(|pod| match pod.seen() {
        Seen::Pod(name, seen) if seen.ready && seen.runs && !seen.terminating => Some(name),
        _ => None,
    });
    let mut ready: Vec<ObjectName> = ready.collect();
    ready.sort();
    Ok(ready)
}

/// An error with its causes, each once.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = inner.source();
    }
    words.chars().take(400).collect()
}

#[cfg(test)]
mod tests;
