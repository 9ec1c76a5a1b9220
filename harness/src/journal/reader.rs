//! Reading a journal back, also one that was cut in the middle of its last line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use thiserror::Error;

use super::event::{Entry, Event, FORMAT};

/// Longest line that is read; the first line holds the whole plan.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a journal cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not an entry.
    #[error("{path}:{line}:{column}: not a journal entry: {message}")]
    Line {
        /// Which file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Why.
        message: String,
    },
    /// The entries are not the ones that were written, in their order.
    #[error(
        "{path}:{line}:1: entry {found} stands where entry {expected} should: the journal was changed or lines were lost"
    )]
    Sequence {
        /// Which file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// `seq` expected.
        expected: u64,
        /// `seq` found.
        found: u64,
    },
    /// There is no first line, or it is no run's start.
    #[error("{path}: the first line is not the start of a run")]
    NoStart {
        /// Which file.
        path: String,
    },
    /// Written by a newer program.
    #[error("{path}: journal format {found}; this program reads up to {FORMAT}: use a newer harness")]
    Format {
        /// Which file.
        path: String,
        /// The format found.
        found: u64,
    },
}

/// Read all entries. A last line without its newline is a write that a crash cut off: it is left out.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path) -> Result<Vec<Entry>, ReadError> {
    let name = path.display().to_string();
    let io = |source| ReadError::Io { path: name.clone(), source };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let mut entries: Vec<Entry> = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(io)?;
        if read == 0 || line.last() != Some(&b'\n') {
            break;
        }
        if number == 1 {
            check_format(&name, &line)?;
        }
        let entry: Entry = serde_json::from_slice(&line).map_err(|error| ReadError::Line {
            path: name.clone(),
            line: number,
            column: error.column().max(1),
            message: error.to_string(),
        })?;
        let expected = entries.len() as u64;
        if entry.seq != expected {
            return Err(ReadError::Sequence { path: name, line: number, expected, found: entry.seq });
        }
        entries.push(entry);
    }
    match entries.first().map(|entry| &entry.event) {
        Some(Event::RunStarted(_)) => Ok(entries),
        _ => Err(ReadError::NoStart { path: name }),
    }
}

/// A newer format is named as such, not as a parse error somewhere in the line.
fn check_format(path: &str, line: &[u8]) -> Result<(), ReadError> {
    let format = serde_json::from_slice::<serde_json::Value>(line)
        .ok()
        .and_then(|value| value["event"]["run-started"]["format"].as_u64());
    match format {
        Some(found) if found > u64::from(FORMAT) => Err(ReadError::Format { path: path.to_owned(), found }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Clock, Journal};
    use super::*;
    use std::io::Write;

    fn found(text: &str) -> Event {
        Event::Found { text: text.into() }
    }

    fn raw(lines: &[&str], tail: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut file = File::create(&path).unwrap();
        for line in lines {
            writeln!(file, "{line}").unwrap();
        }
        write!(file, "{tail}").unwrap();
        (dir, path)
    }

    #[test]
    fn a_journal_must_begin_with_a_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let journal = Journal::create(&path, Clock::starting_now()).unwrap();
        journal.append(found("x"));
        assert!(matches!(read(&path), Err(ReadError::NoStart { .. })));
        assert!(
            Journal::create(&path, Clock::starting_now()).is_err(),
            "an existing journal is never reopened"
        );
    }

    #[test]
    fn a_gap_and_a_newer_format_are_named() {
        let (_dir, path) = raw(&[r#"{"seq":3,"at_us":0,"event":{"found":{"text":"x"}}}"#], "");
        assert!(read(&path).unwrap_err().to_string().contains(":1:1: entry 3 stands where entry 0 should"));
        let (_dir, path) = raw(&[r#"{"seq":0,"at_us":0,"event":{"run-started":{"format":99}}}"#], "");
        assert!(read(&path).unwrap_err().to_string().contains("journal format 99"));
        let (_dir, path) = raw(&[r#"{"seq":0,"at_us":0,"event":{"fuond":{"text":"x"}}}"#], "");
        assert!(read(&path).unwrap_err().to_string().contains(":1:"), "unknown events have a position");
    }
}
