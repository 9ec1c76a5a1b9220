//! `harness list`: the runs in a directory.

use std::path::Path;

use tabled::builder::Builder;
use tabled::settings::Style;

use super::args::ListArguments;
use super::exit::ExitStatus;
use super::printer;
use crate::verdict::result::{RunResult, Verdict};

pub(super) fn list(arguments: &ListArguments) -> ExitStatus {
    let entries = match std::fs::read_dir(&arguments.dir) {
        Ok(entries) => entries,
        Err(error) => {
            return printer::usage_error(&format!("cannot list {}: {error}", arguments.dir.display()));
        }
    };
    let dirs = entries.filter_map(Result::ok).map(|entry| entry.path());
    // `latest` is a second name for one of the others.
    let mut runs: Vec<[String; 6]> =
        dirs.filter(|dir| dir.is_dir() && !dir.is_symlink()).filter_map(|dir| row(&dir)).collect();
    runs.sort();
    let mut table = Builder::default();
    table.push_record(["run", "started", "verdict", "modes passed", "gateway", "ended"]);
    for row in runs {
        table.push_record(row);
    }
    printer::data(&format!("{}\n", table.build().with(Style::blank())))
}

/// `None`: not a run directory.
fn row(dir: &Path) -> Option<[String; 6]> {
    let name = dir.file_name()?.to_string_lossy().into_owned();
    if !dir.join(crate::journal::FILE_NAME).is_file() {
        return None;
    }
    let text = std::fs::read_to_string(dir.join("result.json")).unwrap_or_default();
    let Ok(result) = serde_json::from_str::<RunResult>(&text) else {
        let unknown = || "-".to_owned();
        return Some([name, unknown(), "no result".to_owned(), unknown(), unknown(), unknown()]);
    };
    let passed = result.scenarios.iter().filter(|scenario| scenario.verdict == Verdict::Pass).count();
    let restored = if result.restored { "" } else { ", not restored" };
    Some([
        name,
        result.started_at,
        format!("{}{restored}", word(&result.verdict)),
        format!("{passed} of {}", result.scenarios.len()),
        format!("{} {}", result.gateway.kind, result.gateway.version),
        word(&result.ended),
    ])
}

/// As in `result.json`.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
