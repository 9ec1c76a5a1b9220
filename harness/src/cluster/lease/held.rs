//! The lock while it is held: renewed by a task, and asked before every change.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::task::JoinHandle;

use super::{Claim, Holder, LockOptions, Now, Terms, Times, released, written};
use crate::cluster::access::{Access, CallError, MayWrite, NoWrite, found};
use crate::environment::ObjectName;

/// A call for the Lease must not use up the time that it lasts.
const CALL_LIMIT: Duration = Duration::from_secs(3);
/// How often a renewal is tried again where only the version has changed.
const ATTEMPTS: usize = 3;

/// What keeps a lock from being held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Somebody else has it: nothing may be changed any more.
    Lost(String),
    /// It was not renewed in time. It is still ours where nobody else has taken it.
    Late(String),
}

impl Trouble {
    /// In words.
    #[must_use]
    pub fn words(&self) -> &str {
        match self {
            Self::Lost(words) | Self::Late(words) => words,
        }
    }
}

/// A lock that is held.
pub struct Lock {
    shared: Arc<Shared>,
}

struct Shared {
    /// Without a guard: the Lease itself is no change of the cluster under test.
    access: Access,
    name: ObjectName,
    holder: Holder,
    terms: Terms,
    times: Arc<dyn Times>,
    troubled: Box<dyn Fn(&Trouble) + Send + Sync>,
    /// As it was written last. Held while it is renewed, so that nobody does it twice.
    lease: tokio::sync::Mutex<Lease>,
    /// When the last renewal that came through was begun.
    renewed: Mutex<Now>,
    lost: OnceLock<String>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.shared.end_task();
    }
}

impl Lock {
    pub(super) fn start(options: LockOptions<'_>, lease: Lease, now: Now) -> Self {
        let shared = Arc::new(Shared {
            access: options.access.clone().with_limit(CALL_LIMIT),
            name: options.lease,
            holder: options.holder,
            terms: options.terms,
            times: options.times,
            troubled: options.troubled,
            lease: tokio::sync::Mutex::new(lease),
            renewed: Mutex::new(now),
            lost: OnceLock::new(),
            task: Mutex::new(None),
        });
        let task = tokio::spawn(Arc::clone(&shared).renew_again_and_again());
        *shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Self { shared }
    }

    /// Why nothing may be changed any more, if that is so.
    #[must_use]
    pub fn lost(&self) -> Option<&str> {
        self.shared.lost.get().map(String::as_str)
    }

    /// The Lease.
    #[must_use]
    pub fn name(&self) -> &ObjectName {
        &self.shared.name
    }

    /// Who holds it.
    #[must_use]
    pub fn holder(&self) -> &Holder {
        &self.shared.holder
    }

    /// What is asked before each change.
    #[must_use]
    pub fn guard(&self) -> Arc<dyn MayWrite> {
        Arc::clone(&self.shared) as Arc<dyn MayWrite>
    }

    /// Leaves it to others at once. Where it was lost there is nothing to release.
    ///
    /// # Errors
    /// Where it was not released: others take it when its time is over.
    pub async fn release(self) -> Result<(), CallError> {
        self.shared.end_task();
        let lease = self.shared.lease.lock().await;
        if self.lost().is_some() {
            return Ok(());
        }
        match self.shared.access.replace(&self.shared.name, &released(&lease)).await {
            Ok(_) => Ok(()),
            // Somebody has it, or nobody.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl MayWrite for Shared {
    fn may_write(&self) -> BoxFuture<'_, Result<Duration, NoWrite>> {
        async {
            if let Some(why) = self.lost.get() {
                return Err(NoWrite { why: why.clone(), is_lost: true });
            }
            if let Some(left) = self.lasts_for() {
                return Ok(left);
            }
            match self.renew().await {
                // A renewal that took too long itself is no basis to write on.
                Ok(()) => self.lasts_for().ok_or_else(|| NoWrite {
                    why: format!("the lock {} was renewed too slowly", self.name),
                    is_lost: false,
                }),
                Err(why) => Err(NoWrite { why, is_lost: self.lost.get().is_some() }),
            }
        }
        .boxed()
    }

    fn left(&self) -> Option<Duration> {
        self.lost.get().is_none().then(|| self.lasts_for())?
    }
}

impl Shared {
    fn renewed(&self) -> Now {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long nobody else can have it, by both clocks; `None` where that is too short for a change.
    fn lasts_for(&self) -> Option<Duration> {
        let left = self.terms.lasts.checked_sub(self.times.now().since(self.renewed()))?;
        (left > self.terms.margin).then_some(left)
    }

    fn end_task(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    async fn renew_again_and_again(self: Arc<Self>) {
        while self.lost.get().is_none() {
            tokio::time::sleep(self.terms.renewed_every).await;
            if let Err(why) = self.renew().await {
                tracing::warn!("the lock {} is not renewed: {why}", self.name);
            }
        }
    }

    /// Writes the Lease once more, if it still is as it was written last or at least still ours.
    async fn renew(&self) -> Result<(), String> {
        let mut lease = self.lease.lock().await;
        if let Some(why) = self.lost.get() {
            return Err(why.clone());
        }
        let begun = self.times.now();
        let before = self.renewed();
        let outcome = self.write(&mut lease, begun).await;
        if outcome.is_ok() {
            *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        }
        // Whether it came through now or not: there was a time in which others could have taken it.
        let gap = self.times.now().since(before);
        if self.lost.get().is_none() && gap > self.terms.lasts {
            let words = format!(
                "the lock {} was not renewed for {} s: the API did not answer, or this program or its machine was \
                 stopped",
                self.name,
                gap.as_secs()
            );
            (self.troubled)(&Trouble::Late(words));
        }
        outcome
    }

    async fn write(&self, lease: &mut Lease, begun: Now) -> Result<(), String> {
        let mut read = Some(lease.clone());
        for _ in 0..ATTEMPTS {
            let wanted = written(read.as_ref(), &self.name, &self.holder, &self.terms, begun.wall);
            let sent = match &read {
                Some(_) => self.access.replace(&self.name, &wanted).await,
                // Somebody has deleted it, and whoever makes it again has it.
                None => self.access.create(&self.name, &wanted).await,
            };
            match sent {
                Ok(written) => {
                    *lease = written;
                    return Ok(());
                }
                Err(error) if error.is_conflict() || error.is_already_exists() || error.is_not_found() => {}
                Err(error) => return Err(error.to_string()),
            }
            let there =
                found(self.access.get::<Lease>(&self.name).await).map_err(|error| error.to_string())?;
            if let Some(there) = &there {
                self.still_ours(there)?;
            }
            // Of a write whose answer was lost, or somebody has put a label there: it is ours.
            read = there;
        }
        Err("it changes again and again".to_owned())
    }

    /// A Lease as it was found, or why the lock is lost.
    fn still_ours(&self, there: &Lease) -> Result<(), String> {
        let why = match Claim::of(there) {
            Some(claim) if claim.holder == self.holder.id => return Ok(()),
            Some(claim) => format!("the lock {} was taken by {}", self.name, claim.words()),
            None => format!("the lock {} was taken by somebody else, who has released it since", self.name),
        };
        let why = self.lost.get_or_init(|| why).clone();
        (self.troubled)(&Trouble::Lost(why.clone()));
        Err(why)
    }
}
