//! Records in the cluster: the own one while a run goes on, and all of them for whoever restores.

use std::sync::{Mutex as Lock, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::{AlreadyOpen, KEPT, Record, State};
use crate::cluster::RUN_LABEL;
use crate::cluster::access::{Access, CALL_LIMIT, CallError};
use crate::cluster::mutation::{Kubectl, Mutation};
use crate::environment::ObjectName;
use crate::units::Period;

/// How often a record is tried to be made.
const ATTEMPTS: usize = 5;
/// An API that has a bad moment is asked again for so long before a change is made and when a run ends.
const CALM_FOR: Duration = Duration::from_secs(15);
/// The same while a fault is undone, where others wait for it.
const BRIEFLY: Duration = Duration::from_millis(1500);
/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// A write whose time is over has one try under way, and looks once whether it came through.
const LAST_TRY: Duration = CALL_LIMIT.saturating_mul(2);
/// The longest that writing down an intent takes: the others' records are listed first.
pub const INTENDED_WITHIN: Duration = CALL_LIMIT.saturating_add(CALM_FOR).saturating_add(LAST_TRY);
/// The longest that one write of what became of changes takes. However many notes come at once, each is written after two
/// such writes: the one that is under way, and one for all that came meanwhile.
pub const NOTED_WITHIN: Duration = BRIEFLY.saturating_add(LAST_TRY);
/// The longest that closing a record takes.
pub const CLOSED_WITHIN: Duration = CALM_FOR.saturating_add(LAST_TRY);

/// Why a record was not written: then nothing may be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The API did not do it.
    #[error("the run's record is not written: {0}")]
    Call(#[from] CallError),
    /// Somebody else has changed or deleted it.
    #[error("the run's record {0} was changed by somebody else")]
    Changed(ObjectName),
    /// There is an intent for the object.
    #[error(transparent)]
    Open(#[from] AlreadyOpen),
    /// It is too large, or another one cannot be read.
    #[error("{0}")]
    Unfit(String),
}

/// A record that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its ConfigMap.
    pub name: ObjectName,
    /// Uid of the ConfigMap.
    pub uid: String,
    /// Version of the ConfigMap.
    pub version: String,
    /// The run, by its label.
    pub run: String,
    /// What it says, or why that cannot be read.
    pub record: Result<Record, String>,
}

impl Found {
    fn of(map: &ConfigMap) -> Option<Self> {
        let record = Record::read(map)?;
        Some(Self {
            name: ObjectName::new(map.namespace().unwrap_or_default(), map.name_any()),
            uid: map.uid().unwrap_or_default(),
            version: map.resource_version().unwrap_or_default(),
            run: map.labels().get(RUN_LABEL).cloned().unwrap_or_default(),
            record,
        })
    }

    /// Whether something of it may be left.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.record.as_ref().map_or(true, Record::is_open)
    }
}

/// All records in a namespace, the newest first.
///
/// # Errors
/// Where they cannot be listed.
pub async fn list(access: &Access, namespace: &str) -> Result<Vec<Found>, CallError> {
    let maps: Vec<ConfigMap> = access.list(Some(namespace), RUN_LABEL).await?;
    let mut found: Vec<Found> = maps.iter().filter_map(Found::of).collect();
    // What cannot be read comes first: nobody knows how old it is.
    found.sort_by_key(|found| {
        let started = found.record.as_ref().ok().and_then(|record| record.started.parse::<Timestamp>().ok());
        // Of two that began in the same second the one with the greater id: ids begin with the time.
        std::cmp::Reverse((started.unwrap_or(Timestamp::MAX), found.run.clone()))
    });
    Ok(found)
}

/// Deletes the oldest records of runs that have left nothing.
///
/// # Errors
/// Where one was not deleted; the others are.
pub async fn prune(access: &Access, namespace: &str) -> Result<(), CallError> {
    let all = list(access, namespace).await?;
    let mut last = Ok(());
    for found in all.iter().filter(|found| !found.is_open()).skip(KEPT) {
        if let Err(error) = access.delete::<ConfigMap>(&found.name, &found.uid).await {
            last = Err(error);
        }
    }
    last
}

/// Writes a record over the version that was read, and again where only the answer was lost or something else of the
/// object has changed; the version it has then.
///
/// # Errors
/// Where it was not written, or somebody else has written it meanwhile.
pub async fn replace(
    access: &Access,
    name: &ObjectName,
    version: &str,
    before: &Record,
    record: &Record,
) -> Result<String, RecordError> {
    replace_any(access, name, version, std::slice::from_ref(before), record, BRIEFLY).await
}

/// The same over any of several contents that may be there.
async fn replace_any(
    access: &Access,
    name: &ObjectName,
    version: &str,
    before: &[Record],
    record: &Record,
    within: Duration,
) -> Result<String, RecordError> {
    let deadline = Instant::now() + within;
    let mut version = version.to_owned();
    loop {
        let map = record.manifest(name, Some(&version)).map_err(RecordError::Unfit)?;
        let failed = match access.replace(name, &map).await {
            Ok(map) => return Ok(map.resource_version().unwrap_or_default()),
            Err(error) if error.is_conflict() || error.is_passing() => error,
            Err(error) => return Err(error.into()),
        };
        match access.find::<ConfigMap>(name).await {
            Ok(Some(map)) => match Record::read(&map) {
                Some(Ok(there)) if there == *record => return Ok(map.resource_version().unwrap_or_default()),
                Some(Ok(there)) if before.contains(&there) => {
                    version = map.resource_version().unwrap_or_default();
                }
                _ => return Err(RecordError::Changed(name.clone())),
            },
            Ok(None) => return Err(RecordError::Changed(name.clone())),
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() + AGAIN_AFTER >= deadline {
            return Err(failed.into());
        }
        sleep(AGAIN_AFTER).await;
    }
}

/// The record of the run that goes on.
pub struct Keeper {
    access: Access,
    name: ObjectName,
    kubectl: Kubectl,
    deadline: Period,
    wanted: Lock<Wanted>,
    kept: Mutex<Kept>,
}

/// As it should be.
struct Wanted {
    record: Record,
    /// Counts what was noted and is to be written.
    notes: u64,
    /// Counts those who asked for that.
    asked: u64,
}

/// Whoever writes holds this.
struct Kept {
    /// How many notes are written.
    notes: u64,
    /// Who the last write was for that has ended, they and all before them, and what came of it.
    last: (u64, Result<(), RecordError>),
    /// As it may be in the cluster: as it was last known to be, then what was sent since and never answered.
    there: Vec<Record>,
    version: String,
}

impl Keeper {
    /// Makes the record, before anything is changed. `deadline` is how long after each change a run may take to undo
    /// it.
    ///
    /// # Errors
    /// Where it was not made.
    pub async fn create(
        access: &Access,
        namespace: &str,
        kubectl: Kubectl,
        deadline: Period,
        record: Record,
    ) -> Result<Self, RecordError> {
        let name = Record::name(namespace, &record.run);
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let map = record.manifest(&name, None).map_err(RecordError::Unfit)?;
            let there = match access.create(&name, &map).await {
                Ok(map) => Some(map),
                Err(error) if error.is_already_exists() || error.is_passing() => {
                    last = Some(error);
                    access.find::<ConfigMap>(&name).await.ok().flatten()
                }
                Err(error) => return Err(error.into()),
            };
            if let Some(map) = there {
                // A run's id is its own: what has it and says the same is the one whose answer was lost.
                if Record::read(&map) != Some(Ok(record.clone())) {
                    return Err(RecordError::Changed(name));
                }
                let version = map.resource_version().unwrap_or_default();
                let kept = Kept { notes: 0, last: (0, Ok(())), there: vec![record.clone()], version };
                return Ok(Self {
                    access: access.clone(),
                    name,
                    kubectl,
                    deadline,
                    wanted: Lock::new(Wanted { record, notes: 0, asked: 0 }),
                    kept: Mutex::new(kept),
                });
            }
            sleep(AGAIN_AFTER).await;
        }
        Err(last.expect("each of several attempts has failed").into())
    }

    /// The ConfigMap.
    #[must_use]
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// Writes down that a change will be made; its number.
    ///
    /// # Errors
    /// Where it was not written, or the first intent for the object is still open in any record: then the change must
    /// not be made.
    pub async fn intend(&self, mutation: &Mutation) -> Result<u32, RecordError> {
        for other in list(&self.access, &self.name.namespace).await? {
            match &other.record {
                _ if other.name == self.name => {}
                Ok(record) => record.holds(mutation).map_or(Ok(()), Err)?,
                Err(why) => {
                    return Err(RecordError::Unfit(format!(
                        "what the record {} says is not known: {why}",
                        other.name
                    )));
                }
            }
        }
        let mut kept = self.kept.lock().await;
        let seq = {
            let mut wanted = self.wanted();
            let seq = wanted.record.intend(mutation, &self.kubectl)?;
            if let Ok(deadline) = Timestamp::now().checked_add(self.deadline.0) {
                wanted.record.deadline = format!("{deadline:.0}");
            }
            seq
        };
        let written = self.write(&mut kept, CALM_FOR).await;
        if written.is_err() {
            // It is not made; should the cluster have the intent, the next write corrects it.
            self.wanted().record.note(seq, State::NotMade);
        }
        written.map(|()| seq)
    }

    /// Remembers what has become of changes, and writes it down where somebody else would act on it: what was made
    /// need not be written, it is looked at either way.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn note(&self, changes: &[(u32, State)]) -> Result<(), RecordError> {
        self.remember(changes);
        self.write_down().await
    }

    /// Remembers what has become of changes: the next write has it. Whoever reads the record before looks at the objects
    /// themselves.
    pub fn remember(&self, changes: &[(u32, State)]) {
        let mut wanted = self.wanted();
        for (seq, state) in changes {
            wanted.record.note(*seq, *state);
        }
        wanted.notes += u64::from(changes.iter().any(|(_, state)| *state != State::Made));
    }

    /// Writes down what was remembered so far, if somebody else would act on it; all who ask meanwhile wait for one write
    /// together. Takes twice [`NOTED_WITHIN`] at most, however many they are.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn write_down(&self) -> Result<(), RecordError> {
        let place = {
            let mut wanted = self.wanted();
            wanted.asked += 1;
            wanted.asked
        };
        let mut kept = self.kept.lock().await;
        // A write that began since had it, whatever came of it.
        if kept.last.0 >= place {
            return kept.last.1.clone();
        }
        let Wanted { notes, asked, .. } = *self.wanted();
        if kept.notes >= notes {
            return Ok(());
        }
        let written = self.write(&mut kept, BRIEFLY).await;
        if written.is_ok() {
            kept.notes = notes;
        }
        kept.last = (asked, written.clone());
        written
    }

    /// Writes down that a person has to type something else to undo a change than was intended.
    ///
    /// # Errors
    /// Where it was not written; the next write says it, too.
    pub async fn retell(&self, seq: u32, command: &str) -> Result<(), RecordError> {
        let mut kept = self.kept.lock().await;
        self.wanted().record.retell(seq, command);
        self.write(&mut kept, BRIEFLY).await
    }

    /// Writes down how the run ended: restored, unless something is left.
    ///
    /// # Errors
    /// Where it was not written.
    pub async fn close(&self, is_restored: bool, exit_code: u8) -> Result<(), RecordError> {
        let mut kept = self.kept.lock().await;
        {
            let mut wanted = self.wanted();
            wanted.record.phase = if is_restored { super::Phase::Restored } else { super::Phase::Restoring };
            wanted.record.exit_code = Some(exit_code);
        }
        self.write(&mut kept, CALM_FOR).await
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // Whole after each step.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, kept: &mut Kept, within: Duration) -> Result<(), RecordError> {
        let record = self.wanted().record.clone();
        if kept.there == [record.clone()] {
            return Ok(());
        }
        let Kept { there, version, .. } = kept;
        // From here on it may be done, also where nobody hears of it or waits for it any more: then it is no change of
        // somebody else's.
        if !there.contains(&record) {
            there.push(record.clone());
        }
        *version = replace_any(&self.access, &self.name, version, there, &record, within).await?;
        *there = vec![record];
        Ok(())
    }
}
