//! `--events -`: the journal's lines on stdout while the run goes on, for other programs.
//!
//! Whoever reads them can be slow, stop, or go away; the run does not wait for that. Lines come whole and in order. Where
//! too many wait, the newest are left out, which `seq` shows, and it is said.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::printer;
use crate::journal::Entry;

/// So many lines wait for their reader at most: at 8 probes a second an hour's, and some 50 MB.
const WAITING_MAX: usize = 50_000;
/// How long the end of a run waits for its reader.
const READER_HAS: Duration = Duration::from_secs(5);

/// Streams the journal.
pub(super) struct Events {
    sorted: Mutex<Sorted>,
    left_out: AtomicU64,
    finished: Mutex<Receiver<()>>,
}

/// Threads tell of their lines out of order.
struct Sorted {
    next_seq: u64,
    early: BTreeMap<u64, Vec<u8>>,
    /// `None` once the reader has gone away, or the run has ended.
    lines: Option<SyncSender<Vec<u8>>>,
}

impl Events {
    /// To `out`, from a thread of its own.
    pub(super) fn to(mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel::<Vec<u8>>(WAITING_MAX);
        let (done, finished) = sync_channel(1);
        std::thread::Builder::new().name("events".into()).spawn(move || {
            for line in waiting {
                // A reader that closed its end is no error of ours, and nothing follows to it.
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    break;
                }
            }
            let _ = done.send(());
        })?;
        let sorted = Sorted { next_seq: 0, early: BTreeMap::new(), lines: Some(lines) };
        Ok(Self { sorted: Mutex::new(sorted), left_out: AtomicU64::new(0), finished: Mutex::new(finished) })
    }

    /// Passes a line on. Never waits for the reader.
    pub(super) fn entry(&self, entry: &Entry) {
        let Ok(mut line) = serde_json::to_vec(entry) else { return };
        line.push(b'\n');
        let mut sorted = lock(&self.sorted);
        let Sorted { next_seq, early, lines } = &mut *sorted;
        early.insert(entry.seq, line);
        while let Some(line) = early.remove(next_seq) {
            *next_seq += 1;
            match lines.as_ref().map(|lines| lines.try_send(line)) {
                Some(Err(TrySendError::Full(_))) => {
                    self.left_out.fetch_add(1, Ordering::Relaxed);
                }
                Some(Err(TrySendError::Disconnected(_))) => *lines = None,
                Some(Ok(())) | None => {}
            }
        }
    }

    /// Waits, for a bounded time, until the reader has all.
    pub(super) fn finish(&self) {
        lock(&self.sorted).lines = None;
        let late = lock(&self.finished).recv_timeout(READER_HAS).is_err();
        let left_out = self.left_out.load(Ordering::Relaxed);
        if left_out > 0 {
            printer::tell(&format!(
                "warning: --events: the reader was too slow, {left_out} lines were left out; journal.jsonl has them all"
            ));
        }
        if late {
            printer::tell(
                "warning: --events: the reader did not take the last lines; journal.jsonl has them all",
            );
        }
    }
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done where its holder panics.
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Event;

    fn entry(seq: u64) -> Entry {
        Entry { seq, at_us: seq, event: Event::Found { text: "x".into() } }
    }

    #[test]
    fn lines_come_in_order_whoever_tells_of_them_first() {
        let (reader, writer) = std::io::pipe().unwrap();
        let events = Events::to(writer).unwrap();
        for seq in [1, 0, 3, 4, 2] {
            events.entry(&entry(seq));
        }
        events.finish();
        let text = std::io::read_to_string(reader).unwrap();
        let seen: Vec<Entry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(seen, (0..5).map(entry).collect::<Vec<_>>());
    }

    #[test]
    fn a_reader_that_goes_away_or_never_reads_holds_nobody_up() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let gone = Events::to(writer).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let stuck = Events::to(writer).unwrap();
        for seq in 0..WAITING_MAX as u64 + 10_000 {
            gone.entry(&entry(seq));
            stuck.entry(&entry(seq));
        }
        assert!(stuck.left_out.load(Ordering::Relaxed) > 0, "a pipe holds only so much");
        gone.finish();
        assert_eq!(gone.left_out.load(Ordering::Relaxed), 0);
        drop(reader);
        stuck.finish();
    }
}
