//! Undoes the changes of one record.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Progress, Restored};
use crate::cluster::access::{Access, CallError};
use crate::cluster::alarm::{Alarm, Stuck};
use crate::cluster::lease::Holder;
use crate::cluster::mutation::{Kubectl, Mutation, ReadBack, Undone};
use crate::cluster::record::{self, Change, Found, Phase, Record, State};
use crate::environment::Environment;

/// Between two tries of an undo.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What was undone must read back so by then.
pub(super) const READ_BACK_WITHIN: Duration = Duration::from_secs(30);
/// One that is stuck leaves time for the others.
const ONE_AT_MOST: Duration = Duration::from_secs(65);

/// Whether what was undone is in effect.
pub(super) enum Seen {
    /// It is.
    Yes,
    /// It should be by now, and is not.
    No(String),
    /// Nobody waited long enough.
    NotWaitedFor(String),
}

/// One try that came to nothing.
struct Failed {
    why: String,
    may_pass: bool,
    /// What a person types instead of what is recorded, which would fail, too.
    instead: Option<String>,
}

/// Undoes records.
pub struct Undoing<'a> {
    pub(super) access: &'a Access,
    pub(super) environment: &'a Environment,
    pub(super) kubectl: Kubectl,
    pub(super) by: &'a Holder,
    pub(super) progress: Progress<'a>,
    pub(super) alarm: Alarm,
    /// How long an undo is tried.
    pub tries: Duration,
    /// How long an API that has a bad moment is asked what there is.
    pub asks: Duration,
    /// How long to wait until nothing that was sent can still come through.
    pub settles: Duration,
    /// While this holds the lock nobody sends anything: after so long nothing of a change can come through, whatever the
    /// clock of its machine said. Without the lock only clocks tell.
    pub alone: Option<fn(&Mutation) -> Duration>,
    /// How long to wait until what was scaled back is available; by default as long as its component may take.
    pub wait: Option<Duration>,
    /// Ends waiting for what was scaled back; what is undone is undone all the same.
    pub cut: CancellationToken,
    /// Nothing is waited for after that, whatever else is said here: what is left is tried once.
    pub until: Option<Instant>,
    /// What was undone, by run and number, and whether a write from here has done it.
    pub(super) undone: BTreeMap<(String, u32), bool>,
}

impl<'a> Undoing<'a> {
    /// In this environment, by this holder.
    #[must_use]
    pub fn new(
        access: &'a Access,
        environment: &'a Environment,
        kubectl: Kubectl,
        by: &'a Holder,
        progress: Progress<'a>,
    ) -> Self {
        Self {
            access,
            environment,
            kubectl,
            by,
            progress,
            alarm: Alarm::default(),
            tries: super::UNDO_WITHIN,
            asks: super::ANSWERS_WITHIN,
            settles: super::SETTLED_WITHIN,
            alone: None,
            wait: None,
            cut: CancellationToken::new(),
            until: None,
            undone: BTreeMap::new(),
        }
    }

    /// So long, or as much of it as there is.
    pub(super) fn at_most(&self, time: Duration) -> Duration {
        self.until.map_or(time, |until| time.min(until.saturating_duration_since(Instant::now())))
    }

    /// Everything of a record that may be left, and says so in it.
    pub async fn undo(&mut self, found: &Found) -> Restored {
        let mut restored = Restored::default();
        self.undo_into(&mut restored, found).await;
        restored
    }

    /// The same for those who may not wait until it ends: what has been done by then is said.
    pub(super) async fn undo_into(&mut self, restored: &mut Restored, found: &Found) {
        let (found, record) = match self.read_again(found).await {
            Ok(Some(read)) => read,
            // Somebody else has just done it.
            Ok(None) => return,
            Err(why) => return restored.left.push(self.unreadable(found, &why)),
        };
        (self.progress)(&format!("undoing what the run {} has left", record.run));
        let changes: Vec<Change> = record.to_undo().cloned().collect();
        // Whoever restored before may not have waited until these were in effect.
        let earlier = record.changes.iter().filter(|change| change.state == State::Undone).cloned();
        let mut to_show: Vec<Change> = earlier.filter(|change| self.takes_time(&change.mutation)).collect();
        let (mut after, mut version) = (record.clone(), found.version.clone());
        let (done, stuck) = self.undo_changes(&changes, &record.run, &mut after, restored).await;
        let (read, mut unseen) = self.read_all_back(&done, &record.run, &mut after, restored).await;
        if !stuck.is_empty() {
            self.alarm.raise(Some(self.access), &stuck).await;
        }
        after.restored_by = Some(format!("{} on {}", self.by.id, self.by.machine));
        let mut before = record.clone();
        if read.iter().any(|change| self.takes_time(&change.mutation)) {
            // On record before minutes are waited for: from now on a count is whoever's who makes it so, also where this
            // program does not live to see the end.
            after.phase = Phase::Restoring;
            match record::replace(self.access, &found.name, &version, &before, &after).await {
                Ok(replaced) => (version, before) = (replaced, after.clone()),
                Err(error) => tracing::warn!("the record of {} does not say so yet: {error}", record.run),
            }
        }
        to_show.extend(read);
        unseen.extend(self.show(&to_show, restored).await);
        let is_whole = stuck.is_empty() && unseen.is_empty();
        restored.left.extend(stuck.iter().map(Stuck::words).chain(unseen));
        let is_seen = after.to_undo().next().is_none();
        after.phase = if is_whole && is_seen { Phase::Restored } else { Phase::Restoring };
        let written = record::replace(self.access, &found.name, &version, &before, &after).await;
        if let Err(error) = written {
            // Undoing it once more does no harm, but until then no run begins.
            restored.notes.push(format!("the record of {} does not say so yet: {error}", record.run));
        }
    }

    /// Each change of a record once and briefly, before anything is waited for; tells what was undone, by run and number.
    pub(super) async fn undo_once(
        &self,
        found: &Found,
        each_within: Duration,
        undone: &Mutex<Vec<(String, u32)>>,
    ) {
        let Ok(record) = &found.record else { return };
        for change in record.to_undo() {
            match self.undo_one(&change.mutation, each_within).await {
                Ok(Undone::Now) => {
                    let own = (record.run.clone(), change.seq);
                    undone.lock().unwrap_or_else(PoisonError::into_inner).push(own);
                }
                // All of it is looked at once more.
                Ok(Undone::Before | Undone::LeftAlone { .. }) => {}
                Err(Failed { why, .. }) => tracing::warn!("{} is not undone yet: {why}", change.object),
            }
        }
    }

    /// What to do about a record that nobody here understands.
    pub(super) fn unreadable(&self, found: &Found, why: &str) -> String {
        let (namespace, name) = (&found.name.namespace, &found.name.name);
        let read = super::read_by_hand(&self.kubectl, found);
        let delete = self.kubectl.line(namespace, format_args!("delete configmap {name}"));
        format!(
            "what the run {} has changed is not known, since its record {} cannot be read: {why}; restore with the harness \
             that wrote it, or by hand: {read}; and then: {delete}",
            found.run, found.name
        )
    }

    /// As it is now, where something of it may be left.
    async fn read_again(&self, found: &Found) -> Result<Option<(Found, Record)>, String> {
        let read = match self.access.find::<ConfigMap>(&found.name).await {
            Ok(None) => return Ok(None),
            Ok(Some(map)) => {
                let version = map.metadata.resource_version.clone().unwrap_or_default();
                Record::read(&map).map(|record| (Found { version, ..found.clone() }, record))
            }
            Err(error) => {
                // As it was when it was listed: it is undone all the same.
                tracing::warn!("the record of {} is not read again: {error}", found.run);
                Some((found.clone(), found.record.clone()))
            }
        };
        match read {
            Some((found, Ok(record))) => Ok(record.is_open().then_some((found, record))),
            Some((_, Err(why))) => Err(why),
            None => Err("it is no record any more".to_owned()),
        }
    }

    /// Again and again until each is undone, as long as it may take: those that came through, and those that did not.
    async fn undo_changes(
        &mut self,
        changes: &[Change],
        run: &str,
        after: &mut Record,
        restored: &mut Restored,
    ) -> (Vec<Change>, Vec<Stuck>) {
        let begun = Instant::now();
        let (deadline, settled_by) = (begun + self.at_most(self.tries), begun + self.at_most(self.settles));
        let (given_back, mut pending): (Vec<&Change>, Vec<&Change>) =
            changes.iter().partition(|change| self.is_given_back(change, run));
        let words = |change: &&Change| format!("{} (run {run})", change.mutation.undo_words());
        restored.undone.extend(given_back.iter().map(words));
        let (mut done, mut told) = (given_back.into_iter().cloned().collect::<Vec<_>>(), false);
        loop {
            let (mut failed, mut in_vain, mut unsettled) = (Vec::new(), true, Vec::new());
            let trying = std::mem::take(&mut pending);
            for (at, change) in trying.iter().copied().enumerate() {
                // One that hangs leaves the others their share.
                let share = deadline.saturating_duration_since(Instant::now())
                    / u32::try_from(trying.len() - at).unwrap_or(u32::MAX);
                let undone = self.undo_one(&change.mutation, share.clamp(AGAIN_AFTER, ONE_AT_MOST)).await;
                if undone.is_ok() {
                    self.alarm.end(&change.mutation);
                }
                match undone {
                    Ok(Undone::LeftAlone { saw }) => {
                        after.note(change.seq, State::LeftAlone);
                        restored.left_alone.push(format!("{} (run {run}): {saw}", change.object));
                    }
                    // A write that was sent may still come through: only then is "as before" the last word.
                    Ok(Undone::Before)
                        if change.may_still_land(Timestamp::now())
                            && self.alone.is_none_or(|within| begun.elapsed() < within(&change.mutation)) =>
                    {
                        unsettled.push(change.object.as_str());
                        pending.push(change);
                    }
                    Ok(undone) => {
                        let key = (run.to_owned(), change.seq);
                        let is_new = self.undone.insert(key, undone == Undone::Now).is_none();
                        let before =
                            if undone == Undone::Before && is_new { " (it was so already)" } else { "" };
                        let words = change.mutation.undo_words();
                        restored.undone.push(format!("{words}{before} (run {run})"));
                        done.push(change.clone());
                    }
                    Err(Failed { why, may_pass, instead }) => {
                        in_vain &= !may_pass;
                        if let Some(command) = instead {
                            after.retell(change.seq, &command);
                        }
                        let known = after.changes.iter().find(|known| known.seq == change.seq);
                        let command = known.map_or_else(|| change.undo.clone(), |known| known.undo.clone());
                        failed.push(Stuck { mutation: change.mutation.clone(), why, command });
                        pending.push(change);
                    }
                }
            }
            let next = Instant::now() + AGAIN_AFTER;
            let is_settled = unsettled.is_empty() || self.cut.is_cancelled() || next >= settled_by;
            if is_settled && (failed.is_empty() || in_vain || next >= deadline) {
                // It stays open: whoever comes next looks again.
                restored.notes.extend(unsettled.iter().map(|object| {
                    format!("{object} is as before (run {run}); what was sent to it may still come through")
                }));
                return (done, failed);
            }
            if !failed.is_empty() {
                self.alarm.raise_if_due(Some(self.access), &failed).await;
            }
            if !told && !unsettled.is_empty() {
                told = true;
                (self.progress)(&format!(
                    "waiting until nothing that was sent to {} can still come through",
                    unsettled.join(", ")
                ));
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    /// A count that was given back by a write from here, which nothing that was sent before can follow: what it is from then
    /// on is whoever's who has made it so.
    fn is_given_back(&self, change: &Change, run: &str) -> bool {
        matches!(change.mutation, Mutation::Scale(_))
            && self.undone.get(&(run.to_owned(), change.seq)) == Some(&true)
    }

    /// What became of one try.
    async fn undo_one(&self, mutation: &Mutation, left: Duration) -> Result<Undone, Failed> {
        let undone = timeout(left, mutation.undo(self.access)).await;
        let failed = |error: CallError| Failed {
            why: error.to_string(),
            may_pass: !error.is_forbidden() && !error.is_lock_lost(),
            instead: mutation.undo_command_instead(&error, &self.kubectl),
        };
        match undone {
            Ok(undone) => undone.map_err(failed),
            Err(_) => {
                let why = format!("it took more than {} s", left.as_secs());
                Err(Failed { why, may_pass: true, instead: None })
            }
        }
    }

    /// Reads each back and notes it; those that read back as undone, of which it is to be seen that they are in effect, and
    /// what does not, in words.
    pub(super) async fn read_all_back(
        &self,
        done: &[Change],
        run: &str,
        after: &mut Record,
        restored: &mut Restored,
    ) -> (Vec<Change>, Vec<String>) {
        let deadline = Instant::now() + self.at_most(self.tries.min(READ_BACK_WITHIN));
        let (mut undone, mut unseen) = (Vec::new(), Vec::new());
        // At once: one that has a bad moment leaves the others their time.
        let read = join_all(done.iter().map(|change| self.reads_back(change, run, deadline))).await;
        for (change, read) in done.iter().zip(read) {
            match read {
                Ok(taken_over) => {
                    after.note(change.seq, State::Undone);
                    match taken_over {
                        None => undone.push(change.clone()),
                        // Theirs, whatever becomes of its pods.
                        Some(words) => restored.notes.push(format!("{words} (run {run})")),
                    }
                }
                Err(why) => unseen.push(format!(
                    "{} was undone, and does not read back so: {why}; to undo it: {}",
                    change.object, change.undo
                )),
            }
        }
        (undone, unseen)
    }

    /// Waits until each is in effect again; what is not, in words.
    async fn show(&self, undone: &[Change], restored: &mut Restored) -> Vec<String> {
        let mut unseen = Vec::new();
        for change in undone {
            match self.shows(&change.mutation).await {
                Seen::Yes => {}
                Seen::No(why) => unseen.push(why),
                // It has been read back; nobody has the time to see more of it.
                Seen::NotWaitedFor(words) => restored.notes.push(words),
            }
        }
        unseen
    }

    /// Where somebody else has made something else of it since, that in words.
    async fn reads_back(
        &self,
        change: &Change,
        run: &str,
        deadline: Instant,
    ) -> Result<Option<String>, String> {
        let mutation = &change.mutation;
        let taken_over = async |saw: &str| {
            let who = mutation.changed_by(Some(self.access)).await;
            mutation.taken_over_words(true, who.as_deref(), saw)
        };
        loop {
            let why = match mutation.read_back(self.access).await {
                Ok(ReadBack::Undone) => return Ok(None),
                // Somebody is faster than we read: it is theirs.
                Ok(ReadBack::Other { saw }) if matches!(mutation, Mutation::Scale(_)) => {
                    return Ok(Some(taken_over(&saw).await));
                }
                Ok(ReadBack::Done) if self.is_given_back(change, run) => {
                    return Ok(Some(taken_over("as the run had left it").await));
                }
                Ok(ReadBack::Done) => "it is as the run left it".to_owned(),
                Ok(ReadBack::Other { saw }) => saw,
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(why);
            }
            sleep(AGAIN_AFTER).await;
        }
    }
}

#[cfg(test)]
mod tests;
