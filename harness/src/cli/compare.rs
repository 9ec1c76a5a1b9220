//! `harness compare`: two runs, or two sets of nights, beside each other.

use std::path::{Path, PathBuf};

use tabled::builder::Builder;
use tabled::settings::Style;

use super::args::CompareArguments;
use super::exit::ExitStatus;
use super::printer;
use crate::compare::{Comparison, Figure, Line, Outcome, compare};
use crate::verdict::result::RunResult;

pub(super) fn run(arguments: &CompareArguments) -> ExitStatus {
    let sets = runs(&arguments.first).and_then(|first| Ok((first, runs(&arguments.second)?)));
    let told = sets.and_then(|(first, second)| compare(&first, &second).map_err(|error| error.to_string()));
    match told {
        Ok(comparison) => printer::data(&words(&comparison)),
        Err(error) => printer::usage_error(&error),
    }
}

/// The result of a run directory, or of each run directory in a directory, by name.
fn runs(dir: &Path) -> Result<Vec<RunResult>, String> {
    let is_run = |dir: &Path| dir.join(crate::journal::FILE_NAME).is_file();
    if is_run(dir) {
        return Ok(vec![result(dir)?]);
    }
    let entries =
        std::fs::read_dir(dir).map_err(|error| format!("cannot read {}: {error}", dir.display()))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    // `latest` is a second name for one of the others.
    let mut dirs: Vec<PathBuf> = paths.filter(|path| !path.is_symlink() && is_run(path)).collect();
    dirs.sort();
    if dirs.is_empty() {
        return Err(format!("{} is no run directory, and none is in it", dir.display()));
    }
    dirs.iter().map(|dir| result(dir)).collect()
}

fn result(dir: &Path) -> Result<RunResult, String> {
    let path = dir.join("result.json");
    let again = || format!("`harness report {}` writes it again", dir.display());
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("cannot read {}: {error}; {}", path.display(), again()))?;
    serde_json::from_str(&text)
        .map_err(|error| format!("{} is no result of this version: {error}; {}", path.display(), again()))
}

fn words(comparison: &Comparison) -> String {
    let (first, second) = &comparison.configurations;
    let mut table = Builder::default();
    table.push_record(["scenario", "route", "figure", "events", "first", "second", "says"]);
    for line in &comparison.lines {
        table.push_record([
            line.scenario.clone(),
            line.route.clone(),
            line.figure.words().to_owned(),
            format!("{} and {}", line.events.0, line.events.1),
            typical(line, line.typical.0),
            typical(line, line.typical.1),
            says(line),
        ]);
    }
    format!("first:  {first}\nsecond: {second}\n\n{}\n", table.build().with(Style::blank()))
}

fn typical(line: &Line, value: Option<f64>) -> String {
    match (line.figure, value) {
        (Figure::Misses, Some(count)) => format!("{count:.0}"),
        (_, Some(ms)) => format!("{:.2} s", ms / 1000.0),
        (_, None) => "-".to_owned(),
    }
}

fn says(line: &Line) -> String {
    match &line.outcome {
        Outcome::NotCompared(why) => format!("not compared: {why}"),
        Outcome::NoDifference { p } => format!("no difference found (p = {p:.3})"),
        Outcome::Differs { p, by } => {
            let (amount, more, less) = match line.figure {
                Figure::Misses => (format!("{:.0} of 100 outages", by.abs()), "missed more", "missed less"),
                Figure::Worst | Figure::Steady | Figure::Back if by.is_infinite() => {
                    ("most of one set never ended".to_owned(), "slower", "faster")
                }
                Figure::Worst | Figure::Steady | Figure::Back => {
                    (format!("{:.2} s", by.abs() / 1000.0), "slower", "faster")
                }
            };
            let which = if *by > 0.0 { more } else { less };
            format!("the second is {which}: {amount} (p = {p:.4}); confirm it with another run")
        }
    }
}
