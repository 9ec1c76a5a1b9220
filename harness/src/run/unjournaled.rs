//! A run that cannot have a journal (its disk is full, say) is none, but what earlier runs have left in the cluster does
//! not wait for somebody who makes room.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;

use super::RunError;
use super::stage::{Stage, panic_words};
use crate::environment::Cluster;
use crate::journal::{Event, Journal};
use crate::verdict::result::Ended;

impl Stage<'_> {
    /// Undoes what earlier runs have left, where there is a cluster that they may have left it in; what the program has to
    /// say of that, and why it does not run.
    pub(super) async fn without_journal(self, error: RunError) -> RunError {
        let environment = &self.options.environment;
        let Some(cluster) = environment.cluster().filter(|_| !environment.is_local()) else { return error };
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let (watcher, telling) = (Arc::clone(&self.watcher), Arc::clone(&told));
        let mut journal = Journal::of_nothing(self.journal.clock());
        journal.observe(move |entry| {
            watcher.entry(entry);
            telling.lock().unwrap_or_else(PoisonError::into_inner).extend(words(&entry.event));
        });
        let stage = Self { journal: Arc::new(journal), ..self };
        if let Err(panic) = AssertUnwindSafe(stage.only_restore(cluster)).catch_unwind().await {
            stage.abort(&format!("panic: {}", panic_words(&*panic)));
        }
        let mut told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
        if told.is_empty() {
            told.push("nothing".to_owned());
        }
        let left = stage.left.get().cloned().unwrap_or_default();
        RunError::Unjournaled {
            error: Box::new(error),
            told,
            left,
            exit_code: stage.exit_code.get().copied(),
        }
    }

    /// The lock, what earlier runs have left, and no more.
    async fn only_restore(&self, cluster: &Cluster) -> Ended {
        self.under_lock(cluster, None, async |access| {
            self.restore_earlier(access, cluster).await.err().unwrap_or(Ended::Refused)
        })
        .await
    }
}

/// What of it a person is told who has no report to read.
fn words(event: &Event) -> Vec<String> {
    match event {
        Event::EarlierRestored { undone, left_alone, left } => {
            let undone = undone.iter().map(|what| format!("undone: {what}"));
            let alone =
                left_alone.iter().map(|what| format!("left alone, since somebody has changed it: {what}"));
            let left = left.iter().map(|what| format!("not undone: {what}"));
            undone.chain(alone).chain(left).collect()
        }
        Event::Found { text: words }
        | Event::Refused { reason: words }
        | Event::Aborted { cause: words }
        | Event::Interrupted { cause: words } => vec![words.clone()],
        _ => Vec::new(),
    }
}
