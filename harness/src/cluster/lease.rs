//! The lock of runs: one Lease in the gateway's namespace, held under a unique id and renewed by a task.
//!
//! A Lease keeps nobody from writing; it only says who may. So the holder asks itself before every single change
//! whether it has renewed the Lease lately, by both of its clocks (a machine that slept counts no time on one of
//! them), and whoever finds a Lease of somebody else watches whether it is renewed for as long as it lasts, by the own
//! clock: clocks of two machines are never compared. All changes of the Lease are replacements of the version that was
//! read.

mod held;
mod take;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

pub use self::held::{Lock, Trouble};
pub use self::take::{LockError, LockOptions, Taken, look, take};
use crate::environment::ObjectName;

/// Name of the Lease.
pub const LEASE: &str = "failover-harness";
/// Annotation of the Lease: the machine of its holder.
const MACHINE: &str = "failover-harness/machine";
/// Annotation of the Lease: what its holder does.
const PURPOSE: &str = "failover-harness/purpose";
/// Purpose of whoever only restores.
pub const TO_RESTORE: &str = "restore";
/// A Lease that lasts longer is none of ours, and nobody waits for it.
const LASTS_MAX: Duration = Duration::from_secs(60);
/// Longer texts of others are cut.
const WORD_CHARS: usize = 120;

/// The Lease of an environment whose gateway runs in a namespace.
#[must_use]
pub fn name(namespace: &str) -> ObjectName {
    ObjectName::new(namespace, LEASE)
}

/// By what times a lock is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who has not renewed it for so long holds it no more.
    pub lasts: Duration,
    /// How often it is renewed.
    pub renewed_every: Duration,
    /// No change is begun in the last part of it: what was sent takes its time.
    pub margin: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lasts: Duration::from_secs(15),
            renewed_every: Duration::from_secs(5),
            margin: Duration::from_secs(5),
        }
    }
}

/// One moment on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since some zero; stands still while the machine sleeps, and is never set.
    pub monotonic: Duration,
    /// Goes on while the machine sleeps, and may be set.
    pub wall: Timestamp,
}

impl Now {
    /// How long ago that was, by the clock that says more. A wall clock that was set back says by how much.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let wall = self.wall.duration_since(earlier.wall).unsigned_abs();
        self.monotonic.saturating_sub(earlier.monotonic).max(wall)
    }
}

/// Tells the time.
pub trait Times: Send + Sync {
    /// What time it is.
    fn now(&self) -> Now;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemTimes {
    zero: Instant,
}

impl Default for SystemTimes {
    fn default() -> Self {
        Self { zero: Instant::now() }
    }
}

impl Times for SystemTimes {
    fn now(&self) -> Now {
        Now { monotonic: self.zero.elapsed(), wall: Timestamp::now() }
    }
}

/// Who takes a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Unique: the id of a run, or of somebody who restores.
    pub id: String,
    /// The machine it is on.
    pub machine: String,
    /// What for, for people.
    pub purpose: String,
}

impl Holder {
    /// On this machine.
    #[must_use]
    pub fn here(id: &str, purpose: &str) -> Self {
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { id: id.to_owned(), machine, purpose: purpose.to_owned() }
    }
}

/// Who holds a Lease, as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Unique id of the holder.
    pub holder: String,
    /// Where it is.
    pub machine: String,
    /// What for.
    pub purpose: String,
    /// Since when, by its clock.
    pub since: Option<Timestamp>,
    /// When it was renewed last, by its clock.
    pub renewed: Option<Timestamp>,
    /// How long it lasts.
    pub lasts: Duration,
    /// How often it has changed hands.
    transitions: i32,
}

impl Claim {
    /// What a Lease says; `None` where nobody holds it.
    #[must_use]
    pub fn of(lease: &Lease) -> Option<Self> {
        let spec = lease.spec.as_ref()?;
        let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
        let noted = |key: &str| {
            let noted = lease.metadata.annotations.as_ref().and_then(|all| all.get(key));
            noted.map_or_else(|| "unknown".to_owned(), |word| short(word))
        };
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Some(Self {
            holder: short(&holder),
            machine: noted(MACHINE),
            purpose: noted(PURPOSE),
            since: spec.acquire_time.as_ref().map(|time| time.0),
            renewed: spec.renew_time.as_ref().map(|time| time.0),
            lasts: seconds.map_or(Terms::default().lasts, Duration::from_secs),
            transitions: spec.lease_transitions.unwrap_or_default(),
        })
    }

    /// In words: who, where, since when.
    #[must_use]
    pub fn words(&self) -> String {
        let since = self.since.map_or_else(String::new, |since| format!(" since {since:.0}"));
        format!("{} ({}, on {}){since}", self.holder, self.purpose, self.machine)
    }
}

fn short(word: &str) -> String {
    let clean = word.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(WORD_CHARS).collect()
}

/// Whether a holder lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It was not watched for long enough.
    Unknown,
    /// It has renewed its Lease while it was watched, or nobody waits for as long as it lasts.
    Lives,
    /// It has not, for as long as the Lease lasts.
    Over,
}

/// Watches one Lease that somebody else holds.
#[derive(Clone, Debug)]
pub struct Watch {
    claim: Claim,
    from: Duration,
}

impl Watch {
    /// From the first look on.
    #[must_use]
    pub fn new(claim: Claim, now: Now) -> Self {
        Self { claim, from: now.monotonic }
    }

    /// The Lease as it is now.
    #[must_use]
    pub fn judge(&self, claim: &Claim, now: Now) -> Life {
        if *claim != self.claim {
            // Whoever took it meanwhile lives, too.
            return Life::Lives;
        }
        let watched = now.monotonic.saturating_sub(self.from);
        match claim.lasts {
            lasts if watched > lasts => Life::Over,
            lasts if lasts > LASTS_MAX && watched >= LASTS_MAX => Life::Lives,
            _ => Life::Unknown,
        }
    }
}

/// The Lease as a holder writes it, over the one that was read.
fn written(
    read: Option<&Lease>,
    name: &ObjectName,
    holder: &Holder,
    terms: &Terms,
    wall: Timestamp,
) -> Lease {
    let mut lease = read.cloned().unwrap_or_default();
    let before = lease.spec.take().unwrap_or_default();
    let is_ours = before.holder_identity.as_deref() == Some(holder.id.as_str());
    let metadata = ObjectMeta {
        name: Some(name.name.clone()),
        namespace: Some(name.namespace.clone()),
        managed_fields: None,
        ..lease.metadata
    };
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.insert(MACHINE.to_owned(), holder.machine.clone());
    annotations.insert(PURPOSE.to_owned(), holder.purpose.clone());
    let transitions = before.lease_transitions.unwrap_or_default();
    Lease {
        metadata: ObjectMeta { annotations: Some(annotations), ..metadata },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.id.clone()),
            lease_duration_seconds: Some(i32::try_from(terms.lasts.as_secs().max(1)).unwrap_or(i32::MAX)),
            acquire_time: before.acquire_time.filter(|_| is_ours).or(Some(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(if is_ours || read.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        }),
    }
}

/// The Lease as its holder leaves it.
fn released(lease: &Lease) -> Lease {
    let mut lease = lease.clone();
    lease.metadata.managed_fields = None;
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = Some(String::new());
    }
    lease
}

#[cfg(test)]
mod tests;
