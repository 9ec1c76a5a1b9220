//! The files of a run directory that are rendered from the result.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::{RouteSamples, histograms, json, junit, markdown};
use crate::verdict::result::RunResult;

/// Writes `result.json`, `report.md`, `junit.xml` and `histograms/*.hlog` into `dir`, which is made
/// where it is missing. Each file appears whole or not at all; an existing one is replaced.
///
/// # Errors
/// The first file that cannot be written, with its path in the message.
pub fn write(dir: &Path, result: &RunResult, samples: &[RouteSamples]) -> io::Result<()> {
    let logs = dir.join("histograms");
    fs::create_dir_all(&logs).map_err(|e| named(&logs, &e))?;
    for (name, bytes) in histograms(samples) {
        replace(&logs.join(name), &bytes)?;
    }
    replace(&dir.join("report.md"), markdown(result).as_bytes())?;
    replace(&dir.join("junit.xml"), junit(result).as_bytes())?;
    // Last, so that whoever waits for the result finds the other files beside it.
    replace(&dir.join("result.json"), json(result).as_bytes())
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let written = File::create(partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(partial, path));
    written.map_err(|e| {
        // The write's own error is the one to tell; a leftover is harmless and replaced next time.
        let _ = fs::remove_file(partial);
        named(path, &e)
    })
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_replaced_and_nothing_partial_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.md");
        replace(&path, b"old and longer").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing").join("report.md");
        let error = replace(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("report.md"), "{error}");
    }
}
