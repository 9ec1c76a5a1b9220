//! Undoing: each change within a bound of its own and whatever becomes of the others, once more where a write comes
//! through late that nobody has answered, and once more at the end of a run where it still reads as changed.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Change, Driver, State};
use crate::cluster::access::CallError;
use crate::cluster::alarm::Stuck;
use crate::cluster::mutation::{Mutation, ReadBack, Undone};
use crate::cluster::record::State as Recorded;
use crate::journal::Event;
use crate::run::target::{ActiveFault, Healed};

/// An object is read again so long to learn whether somebody else keeps it down, and then who that is.
const ASKED_WITHIN: Duration = Duration::from_secs(2);
/// The longest that both take.
pub(in crate::run) const TAKEN_DOWN_WITHIN: Duration = ASKED_WITHIN.saturating_mul(2);

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
        let ours: Vec<Change> =
            self.to_undo(active.id).into_iter().filter(|change| !change.is_given_back()).collect();
        for at_once in ours.chunk_by(are_apart) {
            let undone = join_all(at_once.iter().map(|change| self.undo(change))).await;
            for (change @ Change { mutation, seq, .. }, undone) in at_once.iter().zip(undone) {
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
                        failed.push(format!("{error}; to undo it: {}", self.command(change)));
                    }
                }
            }
        }
        // Written with what is read back: what is slow to be written must not keep anything from being undone.
        self.remember(&known);
        if let Some(made) = self.made().get_mut(&active.id) {
            made.is_over = true;
        }
        if !failed.is_empty() {
            return Err(failed.join("; "));
        }
        Ok(if left_alone.is_empty() { Healed::Undone } else { Healed::LeftAlone(left_alone.join("; ")) })
    }

    async fn undo(&self, change: &Change) -> Result<Undone, String> {
        self.undo_until(Instant::now() + self.patience.undo_within, change).await
    }

    /// The last try of it begins by then.
    async fn undo_until(&self, deadline: Instant, change: &Change) -> Result<Undone, String> {
        let (begun, mutation) = (Instant::now(), &change.mutation);
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(self.patience.last_try);
            let (why, is_final) = match self.try_to_undo(left, mutation).await {
                Ok(Ok(undone)) => return Ok(undone),
                Ok(Err(error)) if error.is_lock_lost() => {
                    return self.undone_by_others(mutation, &error).await;
                }
                // A right that has just been given takes a moment to be known.
                Ok(Err(error)) => {
                    // No undo takes longer for it; the next write of the record says it, too.
                    let _ = timeout_at(deadline, self.retell(change, &error)).await;
                    let is_final = error.is_forbidden() && begun.elapsed() >= self.patience.forbidden_for;
                    (error.to_string(), is_final)
                }
                Err(_) => (format!("it took more than {} s", left.as_secs()), false),
            };
            let stuck =
                [Stuck { mutation: mutation.clone(), why: why.clone(), command: self.command(change) }];
            if is_final || Instant::now() >= deadline {
                self.alarmed(self.alarm.raise(self.access(), &stuck).await);
                return Err(why);
            }
            tracing::warn!("{} is not undone yet: {why}", mutation.object());
            self.alarmed(self.alarm.raise_if_due(self.access(), &stuck).await);
            sleep(self.patience.again_after).await;
        }
    }

    async fn try_to_undo(
        &self,
        within: Duration,
        mutation: &Mutation,
    ) -> Result<Result<Undone, CallError>, Elapsed> {
        let undone = timeout(within, mutation.undo(self.access())).await;
        if let Ok(Ok(end)) = &undone {
            self.end_alarm(mutation, !matches!(end, Undone::LeftAlone { .. }));
        }
        undone
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
    /// and once after that, however late this is called; undoes what does. Tells first what is waited for. The record
    /// stays open until then: whoever ends this program meanwhile leaves it to whoever comes next.
    ///
    /// Of what could not be undone that in words, with what a person types instead, by its number.
    pub(in crate::run::target) async fn settle(&self, tell: &(dyn Fn(&str) + Sync)) -> BTreeMap<u32, String> {
        let unsettled = self.unsettled();
        let objects: Vec<String> = unsettled
            .iter()
            .filter(|(_, change)| self.may_still_land(change))
            .map(|(_, change)| change.mutation.object())
            .collect();
        if !objects.is_empty() && self.others_until.get().is_none() {
            tell(&format!(
                "waiting until nothing that was sent to {} can still come through, {} s at most",
                objects.join(", "),
                self.patience.lands_within.as_secs()
            ));
        }
        // One that cannot be undone keeps nobody from looking at the others.
        let settling = unsettled.iter().map(|(_, change)| self.settle_one(change));
        let failed = join_all(settling).await;
        // What that finds to be wrong, the end of the run finds, too. Nor may a bad moment of the API keep a later mode from
        // changing what was undone.
        let components: BTreeSet<String> = self.undone_unread();
        let read = join_all(components.iter().map(|component| self.is_healed(component)));
        // What was left to others is written down together.
        tokio::join!(read, self.write_down());
        let failed = unsettled.iter().zip(failed).map(|((_, change), settled)| (change.seq, settled.err()));
        failed.filter_map(|(seq, why)| Some((seq, why?))).collect()
    }

    async fn settle_one(&self, change: &Change) -> Result<(), String> {
        let object = change.mutation.object();
        let lands_by = change.sent + self.patience.lands_within;
        let deadline = lands_by.max(Instant::now()) + self.patience.undo_within;
        loop {
            sleep(self.patience.again_after).await;
            // Whoever has taken the lock does the same.
            if self.others_until.get().is_some() {
                return Ok(());
            }
            let looked_at = Instant::now();
            match self.undo_until(deadline, change).await {
                Ok(Undone::Before) => {}
                Ok(Undone::Now) => self.came_late(change),
                Ok(Undone::LeftAlone { saw }) => {
                    self.leave_alone(change, &saw);
                    return Ok(());
                }
                Err(error) => {
                    let command = self.command(change);
                    return Err(format!(
                        "what was sent to {object} may still come through: {error}; to undo it: {command}"
                    ));
                }
            }
            let is_given_back = self.known(change.seq).is_some_and(|known| known.is_given_back());
            if is_given_back || looked_at >= lands_by || Instant::now() >= deadline {
                return Ok(());
            }
        }
    }

    /// To be written down at the end of whatever finds it.
    fn leave_alone(&self, change: &Change, saw: &str) {
        self.note(change.seq, State::LeftAlone);
        self.remember(&[(change.seq, Recorded::LeftAlone)]);
        let text = format!("{} was left as it is: {saw}", change.mutation.object());
        self.journal.append(Event::Found { text });
    }

    /// An undo was written and answered.
    fn given_back(&self, change: &Change) {
        self.undone(change.seq);
        // What was sent before held the version of before, and can come through no more.
        if matches!(change.mutation, Mutation::Scale(_)) {
            self.note(change.seq, State::Made);
        }
    }

    fn came_late(&self, change: &Change) {
        self.given_back(change);
        let text = format!("what was sent to {} came through late, and was undone", change.mutation.object());
        self.journal.append(Event::Found { text });
    }

    /// Undoes what comes through late, for as long as somebody is waited for anyhow; never ends, and can be dropped at
    /// any time: what is for good only [`Self::settle`] says.
    pub(in crate::run::target) async fn look_again(&self) -> Infallible {
        loop {
            sleep(self.patience.again_after).await;
            if self.others_until.get().is_some() {
                return std::future::pending().await;
            }
            let unsettled = self.unsettled();
            let looked = unsettled.iter().filter(|(_, change)| self.may_still_land(change));
            join_all(looked.map(async |(_, change)| {
                let undone = self.try_to_undo(self.patience.last_try, &change.mutation).await;
                if let Ok(Ok(Undone::Now)) = undone {
                    self.came_late(change);
                }
            }))
            .await;
        }
    }

    /// What is to be undone and was never answered, so that it may have come through since it was looked at: its
    /// component, and the change.
    fn unsettled(&self) -> Vec<(String, Change)> {
        let made = self.made();
        let over = made.values().filter(|made| made.is_over);
        let changes = over
            .flat_map(|made| made.mutations.iter().map(|change| (made.component.clone(), change.clone())));
        changes.filter(|(_, change)| change.state == State::Intended).collect()
    }

    /// Components of which something was to be undone and has not been read back since.
    fn undone_unread(&self) -> BTreeSet<String> {
        let made = self.made();
        let is_unread = |change: &Change| match change.state {
            State::Intended => true,
            State::Made => change.is_undone,
            State::NotMade | State::LeftAlone | State::Undone => false,
        };
        let over = made.values().filter(|made| made.is_over && made.mutations.iter().any(is_unread));
        over.map(|made| made.component.clone()).collect()
    }

    /// Whether nothing of it can come through any more, and that has been read back.
    pub(in crate::run::target) fn is_settled(&self, seq: u32) -> bool {
        self.known(seq).is_none_or(|known| known.state != State::Intended)
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
        // Before it is read: what comes through after that is not seen.
        let may_still_land: Vec<bool> = changes.iter().map(|change| self.may_still_land(change)).collect();
        let read = join_all(changes.iter().map(|change| self.reads_undone(change, deadline))).await;
        for ((change, may_still_land), read) in changes.iter().zip(may_still_land).zip(read) {
            match read {
                Ok(ReadBack::Done) if change.is_given_back() => {
                    self.end_alarm(&change.mutation, false);
                    known
                        .push((change.seq, self.left_to_another(change, "as it was during the fault").await));
                }
                // The first that is not tells for all.
                Ok(ReadBack::Done) if healed == Ok(true) => healed = Ok(false),
                Err(error) if healed == Ok(true) => healed = Err(error),
                Ok(ReadBack::Done) | Err(_) => {}
                Ok(read) => {
                    self.end_alarm(&change.mutation, read == ReadBack::Undone);
                    if may_still_land {
                        continue;
                    }
                    let recorded = match read {
                        ReadBack::Other { saw } => self.left_to_another(change, &saw).await,
                        ReadBack::Done | ReadBack::Undone => {
                            self.note(change.seq, State::Undone);
                            Recorded::Undone
                        }
                    };
                    known.push((change.seq, recorded));
                }
            }
        }
        self.remember(&known);
        self.write_down().await;
        healed
    }

    /// The same at the end of a run. What still reads as changed, or cannot be read, is undone once more, one try each:
    /// an API that was away for longer than an undo is tried may be back.
    ///
    /// # Errors
    /// In words, when it cannot be told.
    pub(in crate::run::target) async fn is_restored(&self, component: &str) -> Result<bool, String> {
        let healed = self.is_healed(component).await;
        // Whoever has taken the lock undoes it.
        if healed == Ok(true) || self.others_until.get().is_some() {
            return healed;
        }
        let mut changes = self.changes_of(component);
        changes.retain(|change| !change.is_given_back());
        changes.reverse();
        for at_once in changes.chunk_by(are_apart) {
            let tries =
                at_once.iter().map(|change| self.try_to_undo(self.patience.last_try, &change.mutation));
            for (change, undone) in at_once.iter().zip(join_all(tries).await) {
                match undone {
                    Ok(Ok(Undone::LeftAlone { saw })) => self.leave_alone(change, &saw),
                    Ok(Ok(Undone::Now)) => {
                        self.given_back(change);
                        let text = format!(
                            "{} was undone at the end of the run; whether {component} serves again was not waited for",
                            change.mutation.object()
                        );
                        self.journal.append(Event::Found { text });
                    }
                    Ok(Ok(Undone::Before)) => self.undone(change.seq),
                    Ok(Err(error)) => tracing::warn!("{} is not undone: {error}", change.mutation.object()),
                    Err(_) => tracing::warn!("{} is not undone in time", change.mutation.object()),
                }
            }
        }
        self.is_healed(component).await
    }

    /// That somebody else keeps down what was undone for a fault, or left to them, in words. Where it cannot be read, or
    /// nothing was undone yet, nobody is accused. Takes [`TAKEN_DOWN_WITHIN`] at most.
    pub(in crate::run::target) async fn taken_down(&self, active: &ActiveFault) -> Option<String> {
        let change = self.given_up(active.id)?;
        let down = timeout(ASKED_WITHIN, change.mutation.is_down(self.access())).await;
        let Ok(Ok(Some(saw))) = down else { return None };
        let who = timeout(ASKED_WITHIN, change.mutation.changed_by(self.access())).await.ok().flatten();
        Some(change.mutation.taken_over_words(change.is_undone, who.as_deref(), &saw))
    }

    /// What is not ours any more of a fault: a count that was given back, or left to somebody.
    fn given_up(&self, fault: u32) -> Option<Change> {
        let made = self.made();
        let is_given_up = |change: &&Change| {
            let is_over = matches!(change.state, State::Undone | State::LeftAlone);
            matches!(change.mutation, Mutation::Scale(_)) && (is_over || change.is_given_back())
        };
        made.get(&fault)?.mutations.iter().find(is_given_up).cloned()
    }

    /// Somebody was faster than we read, or than we could undo it: it is theirs, and nobody is fought. What became of it.
    async fn left_to_another(&self, change: &Change, saw: &str) -> Recorded {
        let who = change.mutation.changed_by(self.access()).await;
        let text = change.mutation.taken_over_words(change.is_undone, who.as_deref(), saw);
        self.journal.append(Event::Found { text });
        let (state, recorded) = if change.is_undone {
            (State::Undone, Recorded::Undone)
        } else {
            (State::LeftAlone, Recorded::LeftAlone)
        };
        self.note(change.seq, state);
        recorded
    }

    /// `Done` where it is not undone by then, `Other` where somebody else has made something else of it.
    async fn reads_undone(&self, change: &Change, deadline: Instant) -> Result<ReadBack, String> {
        let mutation = &change.mutation;
        loop {
            let read = mutation.read_back(self.access()).await;
            match &read {
                Ok(ReadBack::Undone) => return Ok(ReadBack::Undone),
                Ok(ReadBack::Done) if change.is_given_back() => return Ok(ReadBack::Done),
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
