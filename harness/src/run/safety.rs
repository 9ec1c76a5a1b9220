//! What a run in a cluster does so that nothing is left of it: the lock first, then what earlier runs have left, then a
//! record of its own, which is closed before the lock is released.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::stage::Stage;
use crate::cluster::access::{Access, CallError};
use crate::cluster::lease::{self, Holder, Lock, LockError, LockOptions, SystemTimes, Terms, Trouble};
use crate::cluster::mutation::Kubectl;
use crate::cluster::record::{self, Found, Keeper, Record};
use crate::environment::Cluster;
use crate::journal::{Entry, Event};
use crate::restore::{ANSWERS_WITHIN, Undoing, lands_within, patiently};
use crate::units::Period;
use crate::verdict::result::Ended;

/// Tells which Job the pod belongs to: a pod that replaces another one of the same Job runs nothing again.
const JOB_UID: &str = "HARNESS_JOB_UID";
/// A sweep ends by then.
const RESTORER_ENDS_WITHIN: Duration = Duration::from_secs(90);
/// What a run ends with whose verdict nobody wrote down.
const INCONCLUSIVE: u8 = 3;
/// What it ends with where something is left.
const NOT_RESTORED: u8 = 4;

fn job_uid() -> Option<String> {
    std::env::var(JOB_UID).ok().filter(|uid| !uid.is_empty())
}

impl Stage<'_> {
    /// Opens the cluster and does that under its lock: each single change is made only while the lock is held.
    pub(super) async fn under_lock(
        &self,
        cluster: &Cluster,
        kubeconfig: Option<&serde_json::Value>,
        work: impl AsyncFnOnce(&Access) -> Ended,
    ) -> Ended {
        let access = match Access::open(cluster, kubeconfig).await {
            Ok(access) => access,
            Err(error) => return self.refuse(&error.to_string()),
        };
        let lock = match self.take_lock(&access, cluster).await {
            Ok(lock) => lock,
            Err(ended) => return ended,
        };
        let access = access.guarded(lock.guard());
        let ended = work(&access).await;
        self.let_go(&access, cluster, lock, ended).await;
        ended
    }

    /// The lock, under the run's id.
    ///
    /// # Errors
    /// How the run ended without it.
    async fn take_lock(&self, access: &Access, cluster: &Cluster) -> Result<Lock, Ended> {
        let (journal, stop) = (Arc::clone(&self.journal), self.options.stop.clone());
        let was_late = AtomicBool::new(false);
        let troubled = move |trouble: &Trouble| {
            let lost = matches!(trouble, Trouble::Lost(_));
            if lost || !was_late.swap(true, Ordering::Relaxed) {
                journal.append(Event::LockTroubled { why: trouble.words().to_owned(), lost });
            }
            stop.fire(trouble.words());
        };
        let watcher = Arc::clone(&self.watcher);
        let progress = move |line: &str| watcher.progress(line);
        let taking = lease::take(LockOptions {
            access,
            lease: lease::name(&cluster.gateway.deployment.namespace),
            holder: Holder::here(&self.run_id, "run"),
            terms: Terms::default(),
            times: Arc::new(SystemTimes::default()),
            by_force: false,
            patience: RESTORER_ENDS_WITHIN,
            troubled: Box::new(troubled),
            progress: &progress,
        });
        let taken = tokio::select! {
            () = self.options.stop.token().cancelled() => return Err(self.interrupted()),
            taken = taking => taken,
        };
        match taken {
            Ok(taken) => {
                self.journal.append(Event::LockTaken {
                    lease: taken.lock.name().to_string(),
                    from: taken.from.map(|from| from.words()),
                });
                Ok(taken.lock)
            }
            Err(error @ LockError::Held { .. }) => Err(self.refuse(&format!(
                "{error}; wait until it has ended, or take the lock from it: {} --take-over",
                self.options.environment.restore_command()
            ))),
            Err(LockError::Call(error)) if error.is_forbidden() => Err(self.refuse(&format!(
                "the lock cannot be taken: {error}; `harness plan` prints what to add to the Role"
            ))),
            Err(error) => Err(self.refuse(&error.to_string())),
        }
    }

    /// Undoes what earlier runs have left.
    ///
    /// # Errors
    /// How the run ended, where something is left or it is the same Job's over again.
    pub(super) async fn restore_earlier(&self, access: &Access, cluster: &Cluster) -> Result<(), Ended> {
        let namespace = &cluster.gateway.deployment.namespace;
        let unknown = |error: CallError| {
            self.refuse(&format!("whether an earlier run has left something cannot be told: {error}"))
        };
        let listed = patiently(ANSWERS_WITHIN, async || record::list(access, namespace).await);
        let all = listed.await.map_err(unknown)?;
        let by = Holder::here(&self.run_id, "run");
        let watcher = Arc::clone(&self.watcher);
        let progress = move |line: &str| watcher.progress(line);
        let environment = &self.options.environment;
        let mut undoing = Undoing::new(access, environment, Kubectl::of(cluster), &by, &progress);
        undoing.cut = self.options.stop.token().clone();
        undoing.alone = Some(lands_within);
        let open: Vec<&Found> = all.iter().filter(|found| found.is_open()).collect();
        let mut restored = undoing.undo_earlier(&open, namespace).await;
        for note in &restored.notes {
            self.found(note.clone());
        }
        for unknown in std::mem::take(&mut restored.unknown) {
            self.found(format!("not known: {unknown}"));
        }
        if !restored.is_nothing() {
            self.journal.append(Event::EarlierRestored {
                undone: restored.undone.clone(),
                left_alone: restored.left_alone.clone(),
                left: restored.left.clone(),
            });
        }
        if !restored.left.is_empty() {
            let _ = self.left.set(restored.left.clone());
            self.journal.append(Event::RestoreEnded { restored: false, left: restored.left });
            return Err(self.refuse("what an earlier run has left is not undone"));
        }
        if self.options.stop.token().is_cancelled() {
            return Err(self.interrupted());
        }
        // What may still come through, or could not be written down, would keep this run from changing the same.
        let listed = patiently(ANSWERS_WITHIN, async || record::list(access, namespace).await);
        let still: Vec<String> = listed
            .await
            .map_err(unknown)?
            .iter()
            .filter(|found| found.is_open())
            .map(|found| found.run.clone())
            .collect();
        if !still.is_empty() {
            return Err(self.refuse(&format!(
                "the record of {} is still open: what it has changed may not be undone for good yet; run again in some minutes, or see `{}`",
                still.join(", "),
                self.options.environment.restore_command()
            )));
        }
        let job = job_uid();
        let is_same = |record: &Record| job.is_some() && record.job_uid == job && record.run != self.run_id;
        let mut records = all.iter().filter_map(|found: &Found| found.record.as_ref().ok());
        if let Some(record) = records.find(|record| is_same(record)) {
            let code = record.exit_code.unwrap_or(INCONCLUSIVE);
            let _ = self.exit_code.set(code);
            return Err(self.refuse(&format!(
                "the Job of this pod has run already: {} ended with exit code {code}{}",
                record.run,
                if record.exit_code.is_some() { "" } else { ", as far as that is known" }
            )));
        }
        Ok(())
    }

    /// The record of this run, before anything is changed.
    ///
    /// # Errors
    /// Why nothing may be changed.
    pub(super) async fn arm(
        &self,
        access: &Access,
        cluster: &Cluster,
        deadline: Period,
    ) -> Result<Arc<Keeper>, Ended> {
        let now = Timestamp::now();
        let record = Record::new(
            &self.run_id,
            &self.options.environment.name,
            &Holder::here(&self.run_id, "run").machine,
            job_uid(),
            now,
            now.checked_add(deadline.0).unwrap_or(now),
        );
        let namespace = &cluster.gateway.deployment.namespace;
        let keeper = Keeper::create(access, namespace, Kubectl::of(cluster), deadline, record).await;
        let keeper = Arc::new(keeper.map_err(|error| self.refuse(&error.to_string()))?);
        self.recorded(&keeper, "armed");
        let _ = self.record.set(Arc::clone(&keeper));
        Ok(keeper)
    }

    fn recorded(&self, keeper: &Keeper, phase: &str) {
        let record = keeper.name().to_string();
        self.journal.append(Event::RecordWritten { record, phase: phase.to_owned(), change: None });
    }

    /// Closes the record, and leaves the lock to others.
    async fn let_go(&self, access: &Access, cluster: &Cluster, lock: Lock, ended: Ended) {
        if let Some(keeper) = self.record.get() {
            let is_restored = self.left.get().is_some_and(Vec::is_empty);
            let code = self.exit_code_so_far(ended);
            if lock.lost().is_some() {
                self.found(format!(
                    "the record {} was left as it is: the lock is somebody else's",
                    keeper.name()
                ));
            } else if let Err(error) = keeper.close(is_restored, code).await {
                self.found(format!("the run is not closed in the cluster: {error}"));
            } else {
                self.recorded(keeper, if is_restored { "restored" } else { "restoring" });
                let namespace = &cluster.gateway.deployment.namespace;
                if let Err(error) = record::prune(access, namespace).await {
                    tracing::warn!("old records stay: {error}");
                }
            }
        }
        let (lease, lost) = (lock.name().to_string(), lock.lost().is_some());
        match lock.release().await {
            Ok(()) if lost => {}
            Ok(()) => self.journal.append(Event::LockReleased { lease }),
            Err(error) => self.found(format!("the lock is not released, and ends by itself: {error}")),
        }
    }

    /// What the program will end with: as far as the journal tells, or else by what is left.
    fn exit_code_so_far(&self, ended: Ended) -> u8 {
        // On disk it breaks off before what was undone: the program does not judge it either.
        let judged = if self.journal.error().is_none() { self.judged_so_far(ended) } else { None };
        let is_left = self.left.get().is_some_and(|left| !left.is_empty());
        judged.unwrap_or(if is_left { NOT_RESTORED } else { INCONCLUSIVE })
    }

    fn judged_so_far(&self, ended: Ended) -> Option<u8> {
        let mut entries = crate::journal::read(&self.dir.join(crate::journal::FILE_NAME)).ok()?;
        let last = entries.last()?;
        let (seq, at_us) = (last.seq + 1, last.at_us);
        let finished_at = format!("{:.3}", Timestamp::now());
        entries.push(Entry { seq, at_us, event: Event::RunEnded { ended, finished_at } });
        let facts = crate::analysis::gather(&entries)?;
        Some(crate::verdict::judge(&facts).exit_code())
    }
}
