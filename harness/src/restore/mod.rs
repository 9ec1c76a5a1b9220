//! Undoes what earlier runs have left in a cluster, from wherever: all that is needed is in the records that they wrote
//! there.
//!
//! The newest run first, its last change first, each whatever becomes of the others; what somebody has changed since is
//! left alone and named. Nothing is undone of a run that lives, unless its lock is taken from it.

mod earlier;
mod evidence;
mod orphans;
mod undo;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt as _;
use tokio::time::Instant;

pub use self::earlier::{CUT_WITHIN, earlier_within};
pub use self::undo::Undoing;
use crate::cluster::access::{Access, CallError};
use crate::cluster::lease::{self, Claim, Holder, Lock, LockError, LockOptions, SystemTimes, Terms};
use crate::cluster::mutation::{FILTER_SENT_WITHIN, Kubectl, Mutation};
use crate::cluster::permissions::{self, needed_to_restore};
use crate::cluster::record::{self, Found};
use crate::environment::{Cluster, Environment};

/// A sweep ends by then, so that the next one finds nothing of it.
const SWEEP_WITHIN: Duration = Duration::from_secs(40);
/// No call of a sweep takes longer.
const SWEEP_CALL_LIMIT: Duration = Duration::from_secs(4);
/// An undo that fails is tried again for so long; a person is told what to type after that.
const UNDO_WITHIN: Duration = Duration::from_secs(60);
/// Whatever was still on its way to the API has come through by then.
const SETTLED_WITHIN: Duration =
    FILTER_SENT_WITHIN.saturating_add(record::LANDS_WITHIN).saturating_add(record::CLOCKS_DIFFER);

/// From when nobody sends a change any more until nothing of it can come through.
pub(crate) fn lands_within(mutation: &Mutation) -> Duration {
    mutation.sent_within() + record::LANDS_WITHIN
}

/// Another sweep ends by then.
const RESTORER_ENDS_WITHIN: Duration = Duration::from_secs(90);
/// An API that has a bad moment is asked again for so long.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// Between two questions.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Hears what is done and waited for.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Only what nobody else will undo, in bounded time, without waiting for pods.
    pub abandoned: bool,
    /// Of runs that live, too: their lock is taken from them.
    pub take_over: bool,
    /// How long to wait until what was scaled back is available; by default as long as its component may take.
    pub wait: Option<Duration>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// What was undone now or had been before, in words.
    pub undone: Vec<String>,
    /// What somebody has changed since, which was left to them.
    pub left_alone: Vec<String>,
    /// What is not as it was, with what to do.
    pub left: Vec<String>,
    /// Runs that live: they undo their changes themselves.
    pub live: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// What may be left, and cannot be told.
    pub unknown: Vec<String>,
    /// Nothing is left, but what a run would leave could not be undone: why not. Asked by a sweep that finds nothing.
    pub unable: Vec<String>,
}

impl Restored {
    /// It is known that nothing is left which somebody would have to undo, nor would be.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.left.is_empty() && self.live.is_empty() && self.unknown.is_empty() && self.unable.is_empty()
    }

    /// Nothing was found at all.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.is_complete() && self.undone.is_empty() && self.left_alone.is_empty()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.undone.extend(other.undone);
        self.left_alone.extend(other.left_alone);
        self.left.extend(other.left);
        self.live.extend(other.live);
        self.notes.extend(other.notes);
        self.unknown.extend(other.unknown);
        self.unable.extend(other.unable);
    }
}

/// Why it cannot even be told what there is to restore.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The API does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Something is left, and nothing was undone: without the lock that is not safe.
    #[error("nothing was undone of what {} has left: {why}{}", runs.join(", "), hint(why, by_hand))]
    NoLock {
        /// Runs whose records are open.
        runs: Vec<String>,
        /// Why there is no lock.
        why: LockError,
        /// What shows a person what to type instead.
        by_hand: Vec<String>,
    },
}

fn hint(why: &LockError, by_hand: &[String]) -> String {
    let rights = match why {
        LockError::Call(error) if error.is_unauthenticated() => {
            "; the cluster does not know this user any more"
        }
        LockError::Call(error) if error.is_forbidden() => {
            "; this needs the right to get, create and update leases, which `harness plan` prints"
        }
        _ => "",
    };
    format!("{rights}; what to do by hand: {}", by_hand.join("; "))
}

/// A unique name for somebody who restores.
#[must_use]
pub fn new_id() -> String {
    let chance = rand::rng().random_range(0..0x0100_0000_u32);
    format!("restore-{}-{chance:06x}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"))
}

/// Undoes what runs have left in a cluster.
///
/// # Errors
/// Where it cannot be told what they have left.
pub async fn restore(
    access: &Access,
    environment: &Environment,
    cluster: &Cluster,
    wish: Wish,
    progress: Progress<'_>,
) -> Result<Restored, RestoreError> {
    let began = Instant::now();
    let access = if wish.abandoned { access.clone().with_limit(SWEEP_CALL_LIMIT) } else { access.clone() };
    let namespace = &cluster.gateway.deployment.namespace;
    let mut restored = Restored::default();
    let patience = if wish.abandoned { SWEEP_CALL_LIMIT } else { ANSWERS_WITHIN };
    let open = patiently(patience, async || open_records(&access, namespace).await).await?;
    let lease = lease::name(namespace);
    let kubectl = Kubectl::of(cluster);
    let no_lock = |why: LockError| RestoreError::NoLock {
        runs: open.iter().map(|found| found.run.clone()).collect(),
        by_hand: open.iter().map(|found| read_by_hand(&kubectl, found)).collect(),
        why,
    };
    let mut claim = match patiently(patience, async || lease::look(&access, &lease).await).await {
        Err(error) if !open.is_empty() => return Err(no_lock(error.into())),
        looked => looked?,
    };
    let mut lock = None;
    if !open.is_empty() {
        match take_lock(&access, namespace, &open, wish, claim.as_ref(), progress).await {
            Ok(taken) => {
                claim = None;
                lock = Some(taken);
            }
            Err(LockError::Held { claim: held, .. }) => claim = Some(*held),
            Err(LockError::Call(error)) if goes_on_without(&error, wish, claim.as_ref()) => {
                claim = None;
                let words = format!(
                    "restored without the lock, so that nothing keeps somebody else from writing meanwhile: {error}"
                );
                progress(&words);
                restored.notes.push(words);
            }
            Err(why) => return Err(no_lock(why)),
        }
    }
    let writing = lock.as_ref().map_or_else(|| access.clone(), |lock| access.clone().guarded(lock.guard()));
    let by = lock
        .as_ref()
        .map_or_else(|| Holder::here(&new_id(), lease::TO_RESTORE), |lock| lock.holder().clone());
    let mut undoing = Undoing::new(&writing, environment, kubectl.clone(), &by, progress);
    undoing.asks = patience;
    undoing.alone = lock.as_ref().map(|_| lands_within as _);
    undoing.wait = if wish.abandoned { Some(Duration::ZERO) } else { wish.wait };
    for found in &open {
        match &claim {
            // Without the lock nothing is undone beside somebody who has it.
            Some(claim) => left_to(&mut restored, found, claim, wish),
            None => {
                // In a sweep, half of what is left: reading back takes its time, and there may be other records.
                let left = SWEEP_WITHIN.saturating_sub(began.elapsed()) / 2;
                (undoing.tries, undoing.settles) =
                    if wish.abandoned { (left, left) } else { (UNDO_WITHIN, SETTLED_WITHIN) };
                restored.add(undoing.undo(found).await);
            }
        }
    }
    if open.is_empty() || claim.is_none() {
        restored.add(undoing.orphans(namespace).await);
    }
    if wish.abandoned && open.is_empty() {
        let within = SWEEP_WITHIN.saturating_sub(began.elapsed());
        restored.unable = rehearse(&access, environment, within).await;
    }
    if let Some(lock) = lock {
        if let Some(why) = lock.lost() {
            restored.left.push(why.to_owned());
        }
        if let Err(error) = lock.release().await {
            restored.notes.push(format!("the lock was not released, and ends by itself: {error}"));
        }
    }
    Ok(restored)
}

/// Whether somebody who may not write the Lease restores all the same: a person, and only where nobody who lives holds
/// it. A sweep acts on its own, so it never does, and whoever does not know who asks says nothing of the lock either.
fn goes_on_without(error: &CallError, wish: Wish, claim: Option<&Claim>) -> bool {
    let may_not_write = error.is_forbidden() && !error.is_unauthenticated() && error.verb.changes();
    // By force it was not looked at whether the holder lives.
    may_not_write && !wish.abandoned && !(wish.take_over && claim.is_some())
}

/// What shows what a record says to a person.
fn read_by_hand(kubectl: &Kubectl, found: &Found) -> String {
    let (namespace, name) = (&found.name.namespace, &found.name.name);
    kubectl.line(namespace, format_args!(r"get configmap {name} -o jsonpath='{{.data.restore\.txt}}'"))
}

/// What keeps a sweep from undoing what a run would leave: a right that it was not given is not missed before it is
/// needed, and then nobody restores.
async fn rehearse(access: &Access, environment: &Environment, within: Duration) -> Vec<String> {
    let ask =
        patiently(SWEEP_CALL_LIMIT, async || permissions::ask(access, needed_to_restore(environment)).await);
    match tokio::time::timeout(within, ask).await {
        Ok(Ok(answers)) => permissions::missing(&answers)
            .map(|need| {
                let name = need.name.as_ref().map_or(String::new(), |name| format!(", called {name}"));
                format!("{}{name}", need.refusal())
            })
            .collect(),
        Ok(Err(error)) => vec![format!("what this user may do is not known: {error}")],
        Err(_) => vec![format!("what this user may do is not known after {} s", within.as_secs())],
    }
}

fn left_to(restored: &mut Restored, found: &Found, claim: &Claim, wish: Wish) {
    let words = if claim.purpose != lease::TO_RESTORE && claim.holder != found.run {
        format!(
            "the run {} is left to {}, which lives, and restores it before all else",
            found.run,
            claim.words()
        )
    } else if claim.purpose == lease::TO_RESTORE {
        format!("{} lives, and is restoring", claim.words())
    } else {
        format!("{} lives, and undoes its changes itself", claim.words())
    };
    let told = if wish.abandoned { &mut restored.notes } else { &mut restored.live };
    let words =
        if wish.abandoned { words } else { format!("{words}; --take-over stops it and restores now") };
    if !told.contains(&words) {
        told.push(words);
    }
}

/// Asks again as long as the API has a bad moment, or something else changes what is asked for (409).
pub(crate) async fn patiently<T>(
    within: Duration,
    ask: impl AsyncFn() -> Result<T, CallError>,
) -> Result<T, CallError> {
    let deadline = Instant::now() + within;
    loop {
        match ask().await {
            Err(error) if (error.is_passing() || error.is_conflict()) && Instant::now() < deadline => {
                tracing::warn!("{error}");
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
            answer => return answer,
        }
    }
}

/// Records of which something may be left, the newest first.
///
/// # Errors
/// Where they cannot be listed.
pub async fn open_records(access: &Access, namespace: &str) -> Result<Vec<Found>, CallError> {
    let mut all = record::list(access, namespace).await?;
    all.retain(Found::is_open);
    Ok(all)
}

/// The lock, which also keeps whoever held it from writing on.
async fn take_lock(
    access: &Access,
    namespace: &str,
    open: &[Found],
    wish: Wish,
    claim: Option<&Claim>,
    progress: Progress<'_>,
) -> Result<Lock, LockError> {
    let now = Timestamp::now();
    let is_overdue = |claim: &Claim| {
        let own = open.iter().filter(|found| found.run == claim.holder);
        own.filter_map(|found| found.record.as_ref().ok()).any(|record| record.is_overdue(now))
    };
    let by_force = wish.take_over || (wish.abandoned && claim.is_some_and(is_overdue));
    let terms = Terms::default();
    let taken = lease::take(LockOptions {
        access,
        lease: lease::name(namespace),
        holder: Holder::here(&new_id(), lease::TO_RESTORE),
        terms,
        times: Arc::new(SystemTimes::default()),
        by_force,
        patience: if wish.abandoned { Duration::ZERO } else { RESTORER_ENDS_WITHIN },
        troubled: Box::new(|trouble| tracing::warn!("{}", trouble.words())),
        progress,
    })
    .await?;
    if let (true, Some(from)) = (by_force, taken.from) {
        // By then it has asked itself again, and has given up what it had sent before.
        let notices = terms.lasts;
        progress(&format!(
            "the lock was taken from {}; waiting {} s until it has noticed",
            from.words(),
            notices.as_secs()
        ));
        tokio::time::sleep(notices).await;
    }
    Ok(taken.lock)
}

/// Ids of runs that something may be left of.
fn runs(open: &[Found], claim: Option<&Claim>) -> BTreeSet<String> {
    let held = claim.map(|claim| claim.holder.clone());
    open.iter().map(|found| found.run.clone()).chain(held).collect()
}

#[cfg(test)]
mod tests;
