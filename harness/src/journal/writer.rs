//! Appending to the journal.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use thiserror::Error;

use super::event::{Entry, Event};

/// The run's monotonic clock: microseconds since the run's zero.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// A clock whose zero is now.
    #[must_use]
    pub fn starting_now() -> Self {
        Self { zero: Instant::now() }
    }

    /// The zero itself, to be shared with the mock world.
    #[must_use]
    pub fn zero(self) -> Instant {
        self.zero
    }

    /// Microseconds since zero.
    #[must_use]
    pub fn now_us(self) -> u64 {
        u64::try_from(self.zero.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The instant of a number of microseconds after zero.
    #[must_use]
    pub fn instant(self, at_us: u64) -> Instant {
        self.zero + std::time::Duration::from_micros(at_us)
    }
}

/// The journal cannot be written: the run has no evidence any more.
#[derive(Debug, Error)]
#[error("cannot write the journal {path}: {source}")]
pub struct JournalError {
    path: String,
    source: std::io::Error,
}

type Observer = Box<dyn Fn(&Entry) + Send + Sync>;

/// An open journal. Appending is safe from any thread; a write error is kept and reported by
/// [`Journal::error`], so that measuring code need not handle it at every probe.
pub struct Journal {
    clock: Clock,
    path: String,
    state: Mutex<State>,
    observers: Vec<Observer>,
}

struct State {
    /// `None` where nothing is kept.
    file: Option<File>,
    next_seq: u64,
    error: Option<std::io::Error>,
}

impl Journal {
    /// Create a new journal file; it must not exist yet.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path, clock: Clock) -> Result<Self, JournalError> {
        let name = path.display().to_string();
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(path)
            .map_err(|source| JournalError { path: name.clone(), source })?;
        Ok(Self {
            clock,
            path: name,
            state: Mutex::new(State { file: Some(file), next_seq: 0, error: None }),
            observers: Vec::new(),
        })
    }

    /// A journal of nothing, for what tells one and is used outside of a run.
    #[must_use]
    pub fn of_nothing(clock: Clock) -> Self {
        let state = Mutex::new(State { file: None, next_seq: 0, error: None });
        Self { clock, path: "nowhere".to_owned(), state, observers: Vec::new() }
    }

    /// Call `observer` with every entry that is appended from now on. Progress display hangs here.
    pub fn observe(&mut self, observer: impl Fn(&Entry) + Send + Sync + 'static) {
        self.observers.push(Box::new(observer));
    }

    /// The run's clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Append one event.
    pub fn append(&self, event: Event) {
        self.write(event, false);
    }

    /// Append one event and wait until it is on disk.
    ///
    /// # Errors
    /// When it, or anything before it, could not be written: then the caller must not go on.
    pub fn append_durably(&self, event: Event) -> Result<(), JournalError> {
        self.write(event, true);
        self.error().map_or(Ok(()), Err)
    }

    /// The first write error, if there was one.
    #[must_use]
    pub fn error(&self) -> Option<JournalError> {
        let state = self.lock();
        state.error.as_ref().map(|error| JournalError {
            path: self.path.clone(),
            source: std::io::Error::new(error.kind(), error.to_string()),
        })
    }

    fn write(&self, event: Event, durably: bool) {
        let mut state = self.lock();
        let entry = Entry { seq: state.next_seq, at_us: self.clock.now_us(), event };
        state.next_seq += 1;
        let mut line = serde_json::to_vec(&entry).expect("events have string keys and finite numbers");
        line.push(b'\n');
        let State { file, error, .. } = &mut *state;
        if let Some(file) = file
            && error.is_none()
        {
            // One write call a line: a crash can cut the last line, never mix two.
            let written =
                file.write_all(&line).and_then(|()| if durably { file.sync_data() } else { Ok(()) });
            *error = written.err();
        }
        drop(state);
        for observer in &self.observers {
            observer(&entry);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while holding the lock leaves the state whole: every field is set by one assignment.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
