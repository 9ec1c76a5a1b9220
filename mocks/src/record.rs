//! The ground truth: what each mock upstream was asked, when, and how it ended.
//!
//! A record speaks of the upstream's side of the gate. An answer that a gate swallowed is still `answered`
//! here, because the upstream did send it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::time::Epoch;

/// The most records that a [`Recorder`] keeps; later requests are only counted.
pub const RECORDS_MAX: usize = 200_000;

/// The longest model name and path that a record keeps, in bytes; the rest is cut off.
const TEXT_MAX: usize = 256;

/// One request that reached an upstream. Instants are microseconds on the world's [`Epoch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Position in the recorder's order of arrival, from 0, without gaps.
    pub seq: u64,
    /// The component that was asked.
    pub component: String,
    /// The upstream model that the request named, if it named one.
    pub alias_model: Option<String>,
    /// The path that was asked, without the query: tells chats from health checks and listings.
    pub path: String,
    /// The id in the prompt's `[probe:ID]` marker.
    pub probe: Option<String>,
    /// The word in the prompt's `[purpose:WORD]` marker.
    pub purpose: Option<String>,
    /// Whether the answer was to be streamed.
    pub stream: bool,
    /// When the request's head had arrived.
    pub received_us: u64,
    /// When the first byte of the answer's body was handed to the connection: the first token of a stream.
    pub first_byte_us: Option<u64>,
    /// When the last byte was handed over, or when the upstream learnt that the client had left.
    pub ended_us: Option<u64>,
    /// How it ended, or that it has not.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The whole answer was sent.
    Answered {
        /// The HTTP status of the answer.
        status: u16,
    },
    /// The connection went away before the whole answer was sent.
    ClientLeft,
    /// Under way.
    Open,
}

/// What a chat's text says about itself by markers. Nothing else of a prompt is ever kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Markers {
    /// From `[probe:ID]`.
    pub probe: Option<String>,
    /// From `[purpose:WORD]`.
    pub purpose: Option<String>,
}

impl Markers {
    /// Takes from `text` each marker that has not been seen yet.
    ///
    /// An id is 1 to 64 ASCII letters, digits, `_`, `.` and `-`; anything else is not a marker.
    pub fn collect(&mut self, text: &str) {
        if self.probe.is_none() {
            self.probe = marker(text, "[probe:");
        }
        if self.purpose.is_none() {
            self.purpose = marker(text, "[purpose:");
        }
    }
}

fn marker(text: &str, opening: &str) -> Option<String> {
    text.match_indices(opening).find_map(|(start, _)| {
        let rest = &text[start + opening.len()..];
        let end = rest.bytes().take(65).position(|b| b == b']')?;
        let id = &rest[..end];
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        (!id.is_empty() && id.bytes().all(allowed)).then(|| id.to_owned())
    })
}

/// Collects the records of all components. Clones share one store.
#[derive(Debug, Clone)]
pub struct Recorder {
    epoch: Epoch,
    limit: usize,
    store: Arc<Mutex<Store>>,
}

#[derive(Debug, Default)]
struct Store {
    records: Vec<Record>,
    dropped_count: u64,
}

impl Recorder {
    /// An empty recorder whose instants count from `epoch`.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self::with_limit(epoch, RECORDS_MAX)
    }

    fn with_limit(epoch: Epoch, limit: usize) -> Self {
        Self { epoch, limit, store: Arc::default() }
    }

    /// Copies of all records, in order of arrival; those under way as they stand.
    #[must_use]
    pub fn all(&self) -> Vec<Record> {
        self.records_since(0)
    }

    /// Copies of the records whose `seq` is at least `seq`, those under way as they stand. To follow on, ask
    /// again from the lowest `seq` that was still [`Outcome::Open`], or else from the last one plus 1.
    #[must_use]
    pub fn records_since(&self, seq: u64) -> Vec<Record> {
        self.page(seq, usize::MAX)
    }

    /// Like [`Recorder::records_since`], but no more than `limit` records.
    #[must_use]
    pub fn page(&self, seq: u64, limit: usize) -> Vec<Record> {
        let store = self.store();
        let start = usize::try_from(seq).unwrap_or(usize::MAX).min(store.records.len());
        store.records[start..].iter().take(limit).cloned().collect()
    }

    /// The `seq` that the next record will get.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.store().records.len() as u64
    }

    /// How many requests came after the recorder was full.
    #[must_use]
    pub fn dropped_count(&self) -> u64 {
        self.store().dropped_count
    }

    /// Opens a record for a request whose head has just arrived.
    pub(crate) fn open(&self, component: &str, path: &str) -> Entry {
        let received_us = self.epoch.now_us();
        let mut store = self.store();
        let index = store.records.len();
        if index >= self.limit {
            store.dropped_count += 1;
            return Entry { recorder: self.clone(), index: None, ended: false, at_end: AtEnd(None) };
        }
        store.records.push(Record {
            seq: index as u64,
            component: component.to_owned(),
            alias_model: None,
            path: cut(path),
            probe: None,
            purpose: None,
            stream: false,
            received_us,
            first_byte_us: None,
            ended_us: None,
            outcome: Outcome::Open,
        });
        Entry { recorder: self.clone(), index: Some(index), ended: false, at_end: AtEnd(None) }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // Each change is one assignment, so a panic elsewhere cannot leave the store half changed.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(text: &str) -> String {
    let end = (0..=TEXT_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

/// The record of one request under way. Dropped before [`Entry::answered`], it says that the client left.
#[derive(Debug)]
pub(crate) struct Entry {
    recorder: Recorder,
    /// `None` when the recorder was full.
    index: Option<usize>,
    ended: bool,
    at_end: AtEnd,
}

/// Who is told of the end of a request, and whether its answer had begun.
struct AtEnd(Option<Box<dyn FnOnce(Outcome, bool) + Send>>);

impl fmt::Debug for AtEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AtEnd").field(&self.0.is_some()).finish()
    }
}

impl Entry {
    /// Have this told of its end, and whether the answer had begun by then.
    pub(crate) fn at_its_end(&mut self, tell: impl FnOnce(Outcome, bool) + Send + 'static) {
        self.at_end = AtEnd(Some(Box::new(tell)));
    }

    pub(crate) fn describe(&self, model: Option<&str>, markers: Markers, stream: bool) {
        self.change(|record, _| {
            record.alias_model = model.map(cut);
            record.probe = markers.probe;
            record.purpose = markers.purpose;
            record.stream = stream;
        });
    }

    pub(crate) fn first_byte(&self) {
        self.change(|record, now_us| {
            record.first_byte_us.get_or_insert(now_us);
        });
    }

    pub(crate) fn answered(mut self, status: u16) {
        self.end(Outcome::Answered { status });
    }

    fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        let mut has_begun = false;
        self.change(|record, now_us| {
            record.ended_us = Some(now_us);
            record.outcome = outcome;
            has_begun = record.first_byte_us.is_some();
        });
        if let Some(tell) = self.at_end.0.take() {
            tell(outcome, has_begun);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Record, u64)) {
        let now_us = self.recorder.epoch.now_us();
        let mut store = self.recorder.store();
        if let Some(record) = self.index.and_then(|index| store.records.get_mut(index)) {
            change(record, now_us);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Outcome::ClientLeft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn probe_in(text: &str) -> Option<String> {
        let mut markers = Markers::default();
        markers.collect(text);
        markers.probe
    }

    #[test]
    fn finds_markers_and_nothing_else() {
        assert_eq!(probe_in("say [probe:r1_a-0.7] hi").as_deref(), Some("r1_a-0.7"));
        assert_eq!(probe_in("[probe:][probe:a b][probe:ok]").as_deref(), Some("ok"));
        assert_eq!(probe_in("[probe:unfinished"), None);
        assert_eq!(probe_in(&format!("[probe:{}]", "x".repeat(64))), Some("x".repeat(64)));
        assert_eq!(probe_in(&format!("[probe:{}]", "x".repeat(65))), None);
        assert_eq!(probe_in("[probe:é]"), None);
        let mut markers = Markers::default();
        markers.collect("[purpose:control] [probe:one]");
        markers.collect("[probe:two]");
        let expected = Markers { probe: Some("one".to_owned()), purpose: Some("control".to_owned()) };
        assert_eq!(markers, expected);
    }

    #[test]
    fn a_record_goes_from_open_to_answered() {
        let recorder = Recorder::new(Epoch::starting_now());
        let entry = recorder.open("vllm", "/v1/chat/completions");
        entry.describe(Some("Qwen3"), Markers::default(), true);
        let open = recorder.all();
        assert_eq!((open[0].outcome, open[0].ended_us), (Outcome::Open, None));
        entry.first_byte();
        let first = recorder.all()[0].first_byte_us;
        entry.first_byte();
        assert_eq!(recorder.all()[0].first_byte_us, first);
        entry.answered(200);
        let record = recorder.all().remove(0);
        assert_eq!(record.outcome, Outcome::Answered { status: 200 });
        assert!(record.received_us <= first.unwrap() && first <= record.ended_us);
        assert_eq!(record.alias_model.as_deref(), Some("Qwen3"));
    }

    #[test]
    fn an_entry_dropped_early_means_that_the_client_left() {
        let recorder = Recorder::new(Epoch::starting_now());
        drop(recorder.open("cloud", "/api/chat"));
        let record = recorder.all().remove(0);
        assert_eq!(record.outcome, Outcome::ClientLeft);
        assert!(record.ended_us.is_some());
    }

    #[test]
    fn is_bounded_and_counts_the_rest() {
        let recorder = Recorder::with_limit(Epoch::starting_now(), 2);
        for _ in 0..5 {
            recorder.open("cloud", &"/é".repeat(300)).answered(404);
        }
        assert_eq!((recorder.next_seq(), recorder.dropped_count()), (2, 3));
        assert!(recorder.all().iter().all(|record| record.path.len() <= TEXT_MAX));
        assert_eq!(recorder.records_since(1)[0].seq, 1);
        assert!(recorder.records_since(u64::MAX).is_empty());
    }

    #[test]
    fn has_a_plain_json_form() {
        let recorder = Recorder::new(Epoch::starting_now());
        recorder.open("cloud", "/api/tags").answered(200);
        let json = serde_json::to_value(recorder.all()).unwrap();
        assert_eq!(json[0]["outcome"], serde_json::json!({ "answered": { "status": 200 } }));
        assert_eq!(serde_json::from_value::<Vec<Record>>(json).unwrap(), recorder.all());
    }

    proptest! {
        #[test]
        fn any_valid_id_is_found_in_any_text(
            before in "[^\\[]{0,40}", id in "[A-Za-z0-9_.-]{1,64}", after in ".{0,40}",
        ) {
            prop_assert_eq!(probe_in(&format!("{before}[probe:{id}]{after}")), Some(id));
        }

        #[test]
        fn no_text_makes_it_panic_or_gives_an_invalid_id(text in "(\\[probe:|.|\\]){0,60}") {
            if let Some(id) = probe_in(&text) {
                prop_assert!(!id.is_empty() && id.len() <= 64 && id.is_ascii());
            }
        }
    }
}
