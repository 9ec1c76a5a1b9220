//! Taking the lock: at once where nobody holds it, after a look at whether its holder lives where somebody does.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

use super::held::{Lock, Trouble};
use super::{Claim, Holder, Life, TO_RESTORE, Terms, Times, Watch, written};
use crate::cluster::access::{Access, CallError, found};
use crate::environment::ObjectName;

/// Between two looks at a Lease that somebody else holds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often somebody else may be faster.
const RACES_MAX: usize = 5;

/// What a lock is taken with.
pub struct LockOptions<'a> {
    /// The API.
    pub access: &'a Access,
    /// The Lease.
    pub lease: ObjectName,
    /// Who takes it.
    pub holder: Holder,
    /// By what times it is kept.
    pub terms: Terms,
    /// Tells the time.
    pub times: Arc<dyn Times>,
    /// Take it from a holder that lives, too.
    pub by_force: bool,
    /// How long to wait for somebody who only restores, and lives.
    pub patience: Duration,
    /// Hears what keeps the lock from being held.
    pub troubled: Box<dyn Fn(&Trouble) + Send + Sync>,
    /// Hears what is waited for.
    pub progress: &'a (dyn Fn(&str) + Send + Sync),
}

/// The lock, taken.
pub struct Taken {
    /// It is held, and renewed, until it is released.
    pub lock: Lock,
    /// Whose it was: somebody who did not release it.
    pub from: Option<Claim>,
}

/// Why there is no lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it, and lives.
    #[error("the lock {lease} is held by {}", claim.words())]
    Held {
        /// The Lease.
        lease: ObjectName,
        /// Who.
        claim: Box<Claim>,
    },
    /// It cannot be read or written.
    #[error("the lock cannot be taken: {0}")]
    Call(#[from] CallError),
}

/// Who holds a Lease, and nobody where there is none.
///
/// # Errors
/// Where it cannot be read.
pub async fn look(access: &Access, lease: &ObjectName) -> Result<Option<Claim>, CallError> {
    Ok(found(access.get::<Lease>(lease).await)?.as_ref().and_then(Claim::of))
}

/// Takes the lock.
///
/// # Errors
/// Where somebody else holds it and lives, or the API does not answer.
pub async fn take(options: LockOptions<'_>) -> Result<Taken, LockError> {
    let mut watch: Option<Watch> = None;
    let mut races = 0;
    let began = options.times.now();
    loop {
        let read = match found(options.access.get::<Lease>(&options.lease).await) {
            Ok(read) => read,
            Err(error) if races < RACES_MAX && error.is_passing() => {
                races += 1;
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let claim = read.as_ref().and_then(Claim::of);
        if let Some(claim) = claim.as_ref().filter(|claim| claim.holder != options.holder.id)
            && !options.by_force
        {
            let now = options.times.now();
            let watched = watch.get_or_insert_with(|| {
                (options.progress)(&format!("waiting to see whether {} still lives", claim.words()));
                Watch::new(claim.clone(), now)
            });
            match watched.judge(claim, now) {
                Life::Over => {}
                // That ends soon.
                Life::Lives
                    if claim.purpose == TO_RESTORE
                        && now.monotonic.saturating_sub(began.monotonic) < options.patience =>
                {
                    watch = Some(Watch::new(claim.clone(), now));
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                Life::Lives => {
                    return Err(LockError::Held {
                        lease: options.lease.clone(),
                        claim: Box::new(claim.clone()),
                    });
                }
                Life::Unknown => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
            }
        }
        let now = options.times.now();
        let lease = written(read.as_ref(), &options.lease, &options.holder, &options.terms, now.wall);
        let sent = match &read {
            Some(_) => options.access.replace(&options.lease, &lease).await,
            None => options.access.create(&options.lease, &lease).await,
        };
        match sent {
            Ok(lease) => {
                return Ok(Taken { lock: Lock::start(options, lease, now), from: claim });
            }
            // Somebody was faster, or it is not known whether the answer was only lost: it is looked at again.
            Err(error)
                if races < RACES_MAX
                    && (error.is_conflict()
                        || error.is_already_exists()
                        || error.is_not_found()
                        || error.is_passing()) =>
            {
                races += 1;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
