//! Makes mutations and undoes them: each written down durably before it is made, each undone whatever becomes of the
//! others, and left alone where somebody else has changed it since. Once the lock is lost nothing is written any more:
//! what is left is read back only.

mod undo;

pub(in crate::run) use self::undo::TAKEN_DOWN_WITHIN;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};

use super::ActiveFault;
use crate::cluster::access::{Access, CALL_LIMIT, CallError};
use crate::cluster::alarm::Alarm;
use crate::cluster::mutation::{self, Applied, Kubectl, Mutation, ReadBack};
use crate::cluster::record::{Keeper, LANDS_WITHIN, State as Recorded};
use crate::journal::{Event, Journal};

/// The longest that making one change takes; what is not made by then is undone.
pub(in crate::run) const MADE_WITHIN: Duration = mutation::SENT_WITHIN;
/// The same for a packet filter, which a container has to put there.
pub(in crate::run) const FILTER_MADE_WITHIN: Duration = mutation::FILTER_SENT_WITHIN;

/// How long undoing may take.
#[derive(Clone, Copy, Debug)]
pub(in crate::run) struct Patience {
    /// An undo that fails is tried again for so long; a person is told what to type after that.
    pub(in crate::run) undo_within: Duration,
    /// No try takes longer than what is left of that, or than this at its end.
    pub(in crate::run) last_try: Duration,
    /// Where it is forbidden for so long, that is the last word.
    pub(in crate::run) forbidden_for: Duration,
    /// A write that was not answered has come through by then or never will.
    pub(in crate::run) lands_within: Duration,
    /// What was undone must read back so by then.
    pub(in crate::run) read_back_within: Duration,
    /// A read that fails is tried again for so long while the traffic goes on; the last of them may begin at its end.
    pub(in crate::run) read_again_within: Duration,
    /// Between two tries.
    pub(in crate::run) again_after: Duration,
}

impl Patience {
    /// Behind an API that may have a bad moment.
    pub(in crate::run) const IN_CLUSTER: Self = Self {
        undo_within: Duration::from_secs(60),
        last_try: CALL_LIMIT,
        forbidden_for: Duration::from_secs(15),
        lands_within: LANDS_WITHIN,
        read_back_within: Duration::from_secs(30),
        read_again_within: Duration::from_secs(10),
        again_after: Duration::from_secs(1),
    };
    /// On this machine; less than the reserve that a run has for it.
    pub(super) const HERE: Self = Self {
        undo_within: Duration::from_secs(4),
        last_try: Duration::from_secs(1),
        forbidden_for: Duration::ZERO,
        // What is on this machine answers or is gone.
        lands_within: Duration::ZERO,
        read_back_within: Duration::from_secs(2),
        read_again_within: Duration::from_secs(1),
        again_after: Duration::from_millis(100),
    };
}

impl Patience {
    /// The longest that making one change takes.
    #[must_use]
    pub(in crate::run) fn made_within(mutation: &Mutation) -> Duration {
        mutation.sent_within()
    }

    /// The longest that one undo takes: an alarm that is due at the end of its time has its events made, one more try
    /// follows, and one more alarm.
    #[must_use]
    pub(in crate::run) const fn one_undo(&self) -> Duration {
        let alarms = CALL_LIMIT.saturating_mul(2);
        self.undo_within.saturating_add(alarms).saturating_add(self.again_after).saturating_add(self.last_try)
    }

    /// The longest that reading back takes: a gate's last look is at its pod, for the way to it, and at what it says.
    #[must_use]
    pub(in crate::run) const fn one_read_back(&self) -> Duration {
        self.read_back_within.saturating_add(CALL_LIMIT.saturating_mul(3))
    }

    /// The same while the traffic goes on, for all changes of a component: they are read at once.
    #[must_use]
    pub(in crate::run) const fn one_read_again(&self) -> Duration {
        self.read_again_within.saturating_add(CALL_LIMIT.saturating_mul(3))
    }
}

/// Knows every mutation of a run, and so what may have to be undone.
pub(super) struct Driver {
    cluster: Option<Cluster>,
    patience: Patience,
    kubectl: Kubectl,
    journal: Arc<Journal>,
    made: Mutex<BTreeMap<u32, Made>>,
    alarm: Alarm,
    /// Until then whoever took the lock may have undone all of it.
    others_until: OnceLock<Instant>,
}

/// Where there is a cluster.
struct Cluster {
    access: Access,
    /// In the cluster, for whoever restores from elsewhere.
    record: Arc<Keeper>,
}

/// What was changed for one fault.
#[derive(Default)]
struct Made {
    component: String,
    mutations: Vec<Change>,
    /// It was to be undone: whatever comes through from now on is undone, too.
    is_over: bool,
}

/// One mutation.
#[derive(Clone)]
struct Change {
    mutation: Mutation,
    state: State,
    /// What a person types to undo it, as far as is known by now.
    command: String,
    /// Its number in the record.
    seq: u32,
    /// Nothing was sent for it after that.
    sent: Instant,
    /// An undo of it has come through here, or has found it as before.
    is_undone: bool,
}

impl Change {
    /// A count that was given back, so that nothing which was sent before can follow any more: what it is from then on
    /// is whoever's who has made it so.
    fn is_given_back(&self) -> bool {
        matches!(self.mutation, Mutation::Scale(_)) && self.is_undone && self.state == State::Made
    }
}

/// What is known of a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may have been made.
    Intended,
    /// It was made.
    Made,
    /// It was not: there is nothing of ours to undo.
    NotMade,
    /// Somebody else has changed it since, and it was left to them.
    LeftAlone,
    /// It was undone, and read back so: what becomes of the object from then on is not ours.
    Undone,
}

impl Driver {
    /// For a cluster; nothing is changed yet.
    #[must_use]
    pub(super) fn in_cluster(
        access: Access,
        kubectl: Kubectl,
        journal: Arc<Journal>,
        record: Arc<Keeper>,
    ) -> Self {
        Self::new(Some(Cluster { access, record }), Patience::IN_CLUSTER, kubectl, journal)
    }

    /// For what is on this machine; nothing is changed yet.
    #[must_use]
    pub(super) fn here(journal: Arc<Journal>) -> Self {
        Self::new(None, Patience::HERE, Kubectl::new(None), journal)
    }

    fn new(cluster: Option<Cluster>, patience: Patience, kubectl: Kubectl, journal: Arc<Journal>) -> Self {
        Self {
            cluster,
            patience,
            kubectl,
            journal,
            made: Mutex::default(),
            alarm: Alarm::default(),
            others_until: OnceLock::new(),
        }
    }

    /// Writes down that it will be made, and makes it.
    ///
    /// # Errors
    /// In words, why it was not made, or that this is not known.
    pub(super) async fn make(&self, active: &ActiveFault, mutation: &Mutation) -> Result<Applied, String> {
        let (begun, limit) = (Instant::now(), Patience::made_within(mutation));
        let seq = self.intend(active, mutation).await?;
        // Whoever reads the intent counts from it: nothing is sent later than that.
        let Ok(made) = timeout_at(begun + limit, mutation.apply(self.access())).await else {
            self.sent(seq);
            let object = mutation.object();
            return Err(format!("{object} was not changed within {} s, and may be yet", limit.as_secs()));
        };
        match made {
            Ok(applied) => {
                self.note(seq, State::Made);
                self.remember(&[(seq, Recorded::Made)]);
                Ok(applied)
            }
            Err(error) => {
                if error.is_outcome_unknown() {
                    self.sent(seq);
                } else {
                    // A definite no: whatever is found there later is somebody else's.
                    self.note(seq, State::NotMade);
                    self.remember(&[(seq, Recorded::NotMade)]);
                    self.write_down().await;
                }
                Err(error.to_string())
            }
        }
    }

    /// On disk, in the cluster, and remembered: from here on it may have been made. Its number.
    async fn intend(&self, active: &ActiveFault, mutation: &Mutation) -> Result<u32, String> {
        let command = mutation.undo_command(&self.kubectl);
        let intended = Event::MutationIntended {
            fault: active.id,
            object: mutation.object(),
            what: mutation.words(),
            undo: command.clone(),
            mutation: serde_json::to_value(mutation).map_err(|error| error.to_string())?,
        };
        self.journal.append_durably(intended).map_err(|error| error.to_string())?;
        let seq = match &self.cluster {
            Some(Cluster { record, .. }) => {
                let seq = record.intend(mutation).await.map_err(|error| error.to_string())?;
                self.journal.append(Event::RecordWritten {
                    record: record.name().to_string(),
                    phase: "armed".to_owned(),
                    change: Some(seq),
                });
                seq
            }
            // What is on this machine ends with it.
            None => u32::try_from(self.made().values().map(|made| made.mutations.len()).sum::<usize>())
                .unwrap_or(u32::MAX),
        };
        let mut made = self.made();
        let own = made.entry(active.id).or_default();
        own.component.clone_from(&active.fault.component);
        own.mutations.push(Change {
            mutation: mutation.clone(),
            state: State::Intended,
            command,
            seq,
            sent: Instant::now(),
            is_undone: false,
        });
        Ok(seq)
    }

    /// Its last write was given up just now.
    fn sent(&self, seq: u32) {
        self.change(seq, |known| known.sent = Instant::now());
    }

    /// How commands for a person begin.
    #[must_use]
    pub(super) fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// What a person types to undo what this component's faults changed; nothing where they changed nothing.
    #[must_use]
    pub(super) fn undo_commands(&self, component: &str) -> String {
        let ours = self.changes_of(component).into_iter().rev();
        ours.map(|change| format!("; to undo it: {}", change.command)).collect()
    }

    /// What is no longer as this component's faults left it, in words.
    pub(super) async fn what_has_changed(&self, component: &str) -> Vec<String> {
        let mut changed = Vec::new();
        let mutations = self.of(component);
        // At once: a mode waits for this while its traffic goes on.
        let read = join_all(mutations.iter().map(|mutation| self.read_back_at_last(mutation))).await;
        for (mutation, read) in mutations.iter().zip(read) {
            match read {
                Ok(ReadBack::Done) => {}
                Ok(ReadBack::Undone) => {
                    self.end_alarm(mutation, true);
                    changed.push(format!("{} is as before: somebody undid it", mutation.object()));
                }
                Ok(ReadBack::Other { saw }) => changed.push(format!("{}: {saw}", mutation.object())),
                Err(error) => changed.push(format!("{} cannot be read back: {error}", mutation.object())),
            }
        }
        changed
    }

    /// One call that fails says nothing about the object.
    async fn read_back_at_last(&self, mutation: &Mutation) -> Result<ReadBack, CallError> {
        let deadline = Instant::now() + self.patience.read_again_within;
        loop {
            match mutation.read_back(self.access()).await {
                Err(error) if error.is_passing() && Instant::now() < deadline => {
                    sleep(self.patience.again_after).await;
                }
                read => return read,
            }
        }
    }

    /// Whether something of this component may be changed at present.
    #[must_use]
    pub(super) fn has_made(&self, component: &str) -> bool {
        !self.of(component).is_empty()
    }

    /// Everything that was intended for a fault, whatever became of it, in order.
    #[must_use]
    pub(super) fn intended_for(&self, fault: u32) -> Vec<Mutation> {
        let made = self.made();
        let own = made.get(&fault).map(|own| own.mutations.iter()).into_iter().flatten();
        own.map(|change| change.mutation.clone()).collect()
    }

    /// What may have to be undone for a fault, the last first.
    fn to_undo(&self, fault: u32) -> Vec<Change> {
        let made = self.made();
        let own = made.get(&fault).map(|own| own.mutations.iter()).into_iter().flatten();
        own.rev().filter(|change| matches!(change.state, State::Intended | State::Made)).cloned().collect()
    }

    /// Mutations of a component that may be in effect, in order.
    fn of(&self, component: &str) -> Vec<Mutation> {
        self.changes_of(component).into_iter().map(|change| change.mutation).collect()
    }

    fn changes_of(&self, component: &str) -> Vec<Change> {
        let made = self.made();
        let own = made.values().filter(|made| made.component == component);
        own.flat_map(|made| &made.mutations)
            .filter(|change| matches!(change.state, State::Intended | State::Made))
            .cloned()
            .collect()
    }

    /// A change as it is known now.
    fn known(&self, seq: u32) -> Option<Change> {
        let made = self.made();
        made.values().flat_map(|own| &own.mutations).find(|known| known.seq == seq).cloned()
    }

    /// What a person types to undo a change, as far as is known by now.
    fn command(&self, change: &Change) -> String {
        self.known(change.seq).map_or_else(|| change.command.clone(), |known| known.command)
    }

    /// Where an undo has failed in a way which shows that what was to be typed would fail, too, something else is from now
    /// on, in the record, too.
    async fn retell(&self, change: &Change, failed: &CallError) {
        let Some(command) = change.mutation.undo_command_instead(failed, &self.kubectl) else { return };
        if self.command(change) == command {
            return;
        }
        self.change(change.seq, |known| known.command.clone_from(&command));
        let object = change.mutation.object();
        let text = format!("{object} cannot be undone as was intended ({failed}); to undo it: {command}");
        self.journal.append(Event::Found { text });
        let Some(Cluster { record, .. }) = &self.cluster else { return };
        if let Err(error) = record.retell(change.seq, &command).await {
            tracing::warn!("{error}");
        }
    }

    /// An undo came through, or found it as before.
    fn undone(&self, seq: u32) {
        self.change(seq, |known| known.is_undone = true);
    }

    fn note(&self, seq: u32, state: State) {
        self.change(seq, |known| known.state = state);
    }

    fn change(&self, seq: u32, how: impl Fn(&mut Change)) {
        let mut made = self.made();
        made.values_mut().flat_map(|own| &mut own.mutations).filter(|known| known.seq == seq).for_each(how);
    }

    /// It is seen undone, or left to somebody else, whoever has done that: nobody need be alarmed any more.
    fn end_alarm(&self, mutation: &Mutation, is_undone: bool) {
        if self.alarm.end(mutation) {
            let why = if is_undone { "it is undone" } else { "somebody else has changed it" };
            let text = format!("the alarm about {} is over: {why}", mutation.object());
            self.journal.append(Event::Found { text });
        }
    }

    /// The record is to say so, too, with its next write; whoever reads it before looks at the objects themselves.
    fn remember(&self, changes: &[(u32, Recorded)]) {
        if let Some(Cluster { record, .. }) = &self.cluster {
            record.remember(changes);
        }
    }

    /// The record says what is remembered, however much that is. Where it does not, the next write corrects it.
    async fn write_down(&self) {
        let Some(Cluster { record, .. }) = &self.cluster else { return };
        if let Err(error) = record.write_down().await {
            tracing::warn!("{error}");
        }
    }

    fn access(&self) -> Option<&Access> {
        self.cluster.as_ref().map(|cluster| &cluster.access)
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<u32, Made>> {
        // Whole after each step, also after one that panicked.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
