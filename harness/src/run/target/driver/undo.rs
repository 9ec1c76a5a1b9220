//! Undoing: each change within a bound of its own and whatever becomes of the others, and once more where a write comes
//! through late that nobody has answered.

use std::collections::BTreeSet;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::{Change, Driver, State};
use crate::cluster::access::CallError;
use crate::cluster::alarm::Stuck;
use crate::cluster::mutation::{Mutation, ReadBack, Undone};
use crate::cluster::record::State as Recorded;
use crate::journal::Event;
use crate::run::target::{ActiveFault, Healed};

/// Changes of as many pods, of which none depends on another.
fn are_apart(one: &Change, other: &Change) -> bool {
    matches!(
        (&one.mutation, &other.mutation),
        (Mutation::Gate(_), Mutation::Gate(_)) | (Mutation::NetnsDrop(_), Mutation::NetnsDrop(_))
    )
}

impl Driver {
    /// Undoes what was changed for a fault, the last first and those of several pods at once, each whatever becomes of
    /// the others. Can be repeated.
    ///
    /// # Errors
    /// In words, what could not be undone, and what a person types instead.
    pub(in crate::run::target) async fn heal(&self, active: &ActiveFault) -> Result<Healed, String> {
        let (mut left_alone, mut failed, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for at_once in self.to_undo(active.id).chunk_by(are_apart) {
            let undone = join_all(at_once.iter().map(|change| self.undo(&change.mutation))).await;
            for (Change { mutation, seq, .. }, undone) in at_once.iter().zip(undone) {
                match undone {
                    // The record says so once it reads back so: whatever becomes of this run until then, it stays
                    // open.
                    Ok(Undone::Now) => {
                        self.note(*seq, State::Made);
                        self.undone(*seq);
                    }
                    Ok(Undone::Before) => self.undone(*seq),
                    Ok(Undone::LeftAlone { saw }) => {
                        self.note(*seq, State::LeftAlone);
                        known.push((*seq, Recorded::LeftAlone));
                        left_alone.push(format!("{}: {saw}", mutation.object()));
                    }
                    Err(error) => {
                        failed.push(format!("{error}; to undo it: {}", mutation.undo_command(&self.kubectl)));
                    }
                }
            }
        }
        // Only then: what is slow to be written must not keep anything from being undone.
        self.record(&known).await;
        if !failed.is_empty() {
            return Err(failed.join("; "));
        }
        if let Some(made) = self.made().get_mut(&active.id) {
            made.is_over = true;
        }
        Ok(if left_alone.is_empty() { Healed::Undone } else { Healed::LeftAlone(left_alone.join("; ")) })
    }

    async fn undo(&self, mutation: &Mutation) -> Result<Undone, String> {
        let (begun, deadline) = (Instant::now(), Instant::now() + self.patience.undo_within);
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(self.patience.last_try);
            let (why, is_final) = match timeout(left, mutation.undo(self.access())).await {
                Ok(Ok(undone)) => {
                    self.end_alarm(mutation, !matches!(undone, Undone::LeftAlone { .. }));
                    return Ok(undone);
                }
                Ok(Err(error)) if error.is_lock_lost() => {
                    return self.undone_by_others(mutation, &error).await;
                }
                // A right that has just been given takes a moment to be known.
                Ok(Err(error)) => (
                    error.to_string(),
                    error.is_forbidden() && begun.elapsed() >= self.patience.forbidden_for,
                ),
                Err(_) => (format!("it took more than {} s", left.as_secs()), false),
            };
            let stuck = [Stuck {
                mutation: mutation.clone(),
                why: why.clone(),
                command: mutation.undo_command(&self.kubectl),
            }];
            if is_final || Instant::now() >= deadline {
                self.alarmed(self.alarm.raise(self.access(), &stuck).await);
                return Err(why);
            }
            tracing::warn!("{} is not undone yet: {why}", mutation.object());
            self.alarmed(self.alarm.raise_if_due(self.access(), &stuck).await);
            sleep(self.patience.again_after).await;
        }
    }

    /// What alarms were about stays in the journal, and so in the report: each once, and again when its words change.
    fn alarmed(&self, about: Vec<String>) {
        for words in about {
            self.journal.append(Event::Found { text: format!("alarm: {words}") });
        }
    }

    /// Whoever took the lock undoes what this run has left; here it is only read.
    async fn undone_by_others(&self, mutation: &Mutation, lost: &CallError) -> Result<Undone, String> {
        let until = *self.others_until.get_or_init(|| Instant::now() + self.patience.read_back_within);
        loop {
            let read = mutation.read_back(self.access()).await;
            if read == Ok(ReadBack::Undone) {
                self.end_alarm(mutation, true);
                let words = mutation.undo_words();
                self.journal
                    .append(Event::Found { text: format!("done by somebody else: {words} ({lost})") });
                return Ok(Undone::Before);
            }
            if Instant::now() >= until {
                return Err(match read {
                    Ok(ReadBack::Other { saw }) => format!("{} is left as {saw}; {lost}", mutation.object()),
                    Ok(_) => lost.to_string(),
                    Err(error) => format!("{error}; {lost}"),
                });
            }
            sleep(self.patience.again_after).await;
        }
    }

    /// Looks again at what was undone but may still come through, since nobody has answered it, until it can no longer,
    /// and undoes what does. Tells first what is waited for. The record stays open until then: whoever ends this
    /// program meanwhile leaves it to whoever comes next.
    ///
    /// # Errors
    /// In words, what could not be undone, and what a person types instead.
    pub(in crate::run::target) async fn settle(&self, tell: &(dyn Fn(&str) + Sync)) -> Result<(), String> {
        let (mut components, mut failed) = (BTreeSet::new(), Vec::new());
        // Whoever has taken the lock does the same.
        while self.others_until.get().is_none() && failed.is_empty() {
            let unsettled = self.unsettled();
            if unsettled.is_empty() {
                break;
            }
            if components.is_empty() {
                let objects: Vec<String> =
                    unsettled.iter().map(|(.., change)| change.mutation.object()).collect();
                tell(&format!(
                    "waiting until nothing that was sent to {} can still come through, {} s at most",
                    objects.join(", "),
                    self.patience.lands_within.as_secs()
                ));
            }
            sleep(self.patience.again_after).await;
            let undone = join_all(unsettled.iter().map(|(.., change)| self.undo(&change.mutation))).await;
            for ((component, change), undone) in unsettled.into_iter().zip(undone) {
                components.insert(component);
                let object = change.mutation.object();
                match undone {
                    Ok(Undone::Before) => {}
                    Ok(Undone::Now) => {
                        self.note(change.seq, State::Made);
                        let text = format!("what was sent to {object} came through late, and was undone");
                        self.journal.append(Event::Found { text });
                    }
                    Ok(Undone::LeftAlone { saw }) => {
                        self.note(change.seq, State::LeftAlone);
                        self.record(&[(change.seq, Recorded::LeftAlone)]).await;
                        let text = format!("{object} was left as it is: {saw}");
                        self.journal.append(Event::Found { text });
                    }
                    Err(error) => failed.push(format!(
                        "what was sent to {object} may still come through: {error}; to undo it: {}",
                        change.mutation.undo_command(&self.kubectl)
                    )),
                }
            }
        }
        // What that finds to be wrong, the end of the run finds, too.
        join_all(components.iter().map(|component| self.is_healed(component))).await;
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    /// What reads as undone, and may still come through: its component, and the change.
    fn unsettled(&self) -> Vec<(String, Change)> {
        let made = self.made();
        let over = made.values().filter(|made| made.is_over);
        let changes = over
            .flat_map(|made| made.mutations.iter().map(|change| (made.component.clone(), change.clone())));
        changes.filter(|(.., change)| self.may_still_land(change)).collect()
    }

    fn may_still_land(&self, change: &Change) -> bool {
        change.state == State::Intended && change.sent.elapsed() < self.patience.lands_within
    }

    /// Reads back: is everything that a component's faults changed as it was before? What is for good, the record says.
    ///
    /// # Errors
    /// In words, when that cannot be told.
    pub(in crate::run::target) async fn is_healed(&self, component: &str) -> Result<bool, String> {
        let deadline = Instant::now() + self.patience.read_back_within;
        let (mut healed, mut known) = (Ok(true), Vec::new());
        let changes = self.changes_of(component);
        let read = join_all(changes.iter().map(|change| self.reads_undone(&change.mutation, deadline))).await;
        for (change, read) in changes.iter().zip(read) {
            match read {
                // The first that is not tells for all.
                Ok(ReadBack::Done) if healed == Ok(true) => healed = Ok(false),
                Err(error) if healed == Ok(true) => healed = Err(error),
                Ok(ReadBack::Done) | Err(_) => {}
                Ok(read) => {
                    self.end_alarm(&change.mutation, read == ReadBack::Undone);
                    if self.may_still_land(change) {
                        continue;
                    }
                    let (state, recorded) = match read {
                        ReadBack::Other { saw } => self.left_to_another(change, &saw).await,
                        ReadBack::Done | ReadBack::Undone => (State::Undone, Recorded::Undone),
                    };
                    self.note(change.seq, state);
                    known.push((change.seq, recorded));
                }
            }
        }
        self.record(&known).await;
        healed
    }

    /// Somebody was faster than we read, or than we could undo it: it is theirs, and nobody is fought. What became of it.
    async fn left_to_another(&self, change: &Change, saw: &str) -> (State, Recorded) {
        let who = change.mutation.changed_by(self.access()).await;
        let text = change.mutation.taken_over_words(change.is_undone, who.as_deref(), saw);
        self.journal.append(Event::Found { text });
        if change.is_undone {
            (State::Undone, Recorded::Undone)
        } else {
            (State::LeftAlone, Recorded::LeftAlone)
        }
    }

    /// `Done` where it is not undone by then, `Other` where somebody else has made something else of it.
    async fn reads_undone(&self, mutation: &Mutation, deadline: Instant) -> Result<ReadBack, String> {
        loop {
            let read = mutation.read_back(self.access()).await;
            match &read {
                Ok(ReadBack::Undone) => return Ok(ReadBack::Undone),
                Ok(ReadBack::Other { .. }) if matches!(mutation, Mutation::Scale(_)) => {
                    return read.map_err(|error| error.to_string());
                }
                _ => {}
            }
            if Instant::now() >= deadline {
                return read.map(|_| ReadBack::Done).map_err(|error| error.to_string());
            }
            // On its way out, not yet taken back by whoever was told to wait, or the API has a bad moment.
            sleep(self.patience.again_after).await;
        }
    }
}
