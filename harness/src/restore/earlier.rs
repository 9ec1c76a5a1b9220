//! What earlier runs have left, undone before a run begins: all of it in a time that is known before, however many runs
//! there were.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, sleep_until};

use super::undo::{READ_BACK_WITHIN, Undoing};
use super::{Restored, SETTLED_WITHIN, UNDO_WITHIN};
use crate::cluster::record::{Change, Found};
use crate::environment::Environment;

/// What is left when the time for waiting is over is still tried, and written down, for so long.
const LAST_TRIES: Duration = Duration::from_secs(60);
/// Where several runs have left something, each change of all of them is first tried once for so long.
const ONCE_WITHIN: Duration = Duration::from_secs(5);
/// A run that is cut short goes on with it for so long.
pub const CUT_WITHIN: Duration = UNDO_WITHIN.saturating_add(READ_BACK_WITHIN);

/// What there is for all of them.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// Nothing is waited for after that.
    waits: Duration,
    /// What is under way then ends by then, or is given up.
    last_tries: Duration,
    /// The same, from when the run is cut short.
    after_cut: Duration,
}

/// The longest that [`Undoing::undo_earlier`] takes.
#[must_use]
pub fn earlier_within(environment: &Environment) -> Duration {
    waits_within(environment) + LAST_TRIES
}

/// One run alone may wait so long: until nothing that it sent can still come through, until all reads back, and until
/// its slowest component is there again.
fn waits_within(environment: &Environment) -> Duration {
    let scaled = environment.components.values().filter(|component| component.deployment.is_some());
    let slowest = scaled.map(|component| component.ready_within.0).max().unwrap_or_default();
    SETTLED_WITHIN.max(UNDO_WITHIN) + READ_BACK_WITHIN + slowest
}

impl Undoing<'_> {
    /// Undoes all of these, and removes what carries the label of a run that nothing is known of. One budget for all:
    /// see [`earlier_within`]; after the cut [`CUT_WITHIN`].
    pub async fn undo_earlier(&mut self, open: &[&Found], namespace: &str) -> Restored {
        let waits = waits_within(self.environment);
        self.undo_in(Budget { waits, last_tries: LAST_TRIES, after_cut: CUT_WITHIN }, open, namespace).await
    }

    async fn undo_in(&mut self, budget: Budget, open: &[&Found], namespace: &str) -> Restored {
        let waits_until = Instant::now() + budget.waits;
        self.until = Some(waits_until);
        let cut = self.cut.clone();
        let is_over = async {
            tokio::select! {
                () = sleep_until(waits_until + budget.last_tries) => {}
                () = async { cut.cancelled().await; sleep(budget.after_cut).await } => {}
            }
        };
        tokio::pin!(is_over);
        let mut restored = Restored::default();
        // One that is stuck for as long as it may be keeps nobody waiting whose undo is a matter of milliseconds. No two
        // of these records are about the same object.
        if open.len() > 1 {
            let undone = Mutex::new(Vec::new());
            let once = join_all(open.iter().map(|found| self.undo_once(found, ONCE_WITHIN, &undone)));
            let is_over = tokio::select! {
                _ = once => false,
                () = &mut is_over => true,
            };
            let undone = undone.into_inner().unwrap_or_else(PoisonError::into_inner);
            self.undone.extend(undone.into_iter().map(|own| (own, true)));
            if is_over {
                self.out_of_time(open, &mut restored);
                return restored;
            }
        }
        for (at, found) in open.iter().enumerate() {
            tokio::select! {
                () = self.undo_into(&mut restored, found) => {}
                () = &mut is_over => {
                    self.out_of_time(&open[at..], &mut restored);
                    return restored;
                }
            }
        }
        tokio::select! {
            removed = self.orphans(namespace) => restored.add(removed),
            () = &mut is_over => {
                restored.unknown.push("whether objects of earlier runs are left: its time was over".into());
            }
        }
        restored
    }

    /// Their records stay open, for whoever comes next.
    fn out_of_time(&self, open: &[&Found], restored: &mut Restored) {
        for found in open {
            let record = match &found.record {
                Ok(record) => record,
                Err(why) => {
                    restored.left.push(self.unreadable(found, why));
                    continue;
                }
            };
            let is_undone = |change: &&Change| self.undone.contains_key(&(record.run.clone(), change.seq));
            let (undone, left): (Vec<&Change>, Vec<&Change>) = record.to_undo().partition(is_undone);
            for change in undone {
                let words = format!("{} (run {})", change.mutation.undo_words(), record.run);
                if !restored.undone.contains(&words) {
                    restored.undone.push(words);
                }
            }
            // Of some it may have been said already.
            let is_told = |change: &&&Change| {
                let own = format!("{} (run {})", change.object, record.run);
                restored.left.iter().any(|words| words.contains(&change.undo))
                    || restored.left_alone.iter().any(|words| words.starts_with(&own))
            };
            let untold = left.iter().filter(|change| !is_told(change));
            let commands: Vec<&str> = untold.map(|change| change.undo.as_str()).collect();
            if commands.is_empty() && !left.is_empty() {
                continue;
            }
            restored.left.push(if commands.is_empty() {
                format!(
                    "what the run {} has left was undone, but not looked at again in the time that there is for it: \
                     `{}` does",
                    record.run,
                    self.environment.restore_command()
                )
            } else {
                format!(
                    "what the run {} has left was not undone in the time that there is for it; to undo it: {}",
                    record.run,
                    commands.join("; ")
                )
            });
        }
    }
}

#[cfg(test)]
mod tests;
