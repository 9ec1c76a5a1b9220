//! `harness check`.

use std::path::Path;

use super::args::FileArguments;
use super::exit::ExitStatus;
use super::printer;
use crate::gateway::local::ConfigSource;
use crate::input::{Loaded, load};

/// Load files; on problems they are shown. Warnings are shown either way.
pub(super) fn loaded(files: &FileArguments) -> Result<Loaded, ExitStatus> {
    let loaded = load(&files.paths, Some(&files.env)).map_err(|problems| printer::problems(&problems))?;
    for warning in &loaded.warnings {
        printer::problem(warning);
    }
    Ok(loaded)
}

/// The LiteLLM configuration of a local run: a file, or the tuned one that is built in.
pub(super) fn config(path: Option<&Path>) -> Result<ConfigSource, ExitStatus> {
    let config = path.map_or_else(ConfigSource::tuned, ConfigSource::read);
    config.map_err(|problem| printer::problem(&problem))
}

pub(super) fn check(files: &FileArguments) -> ExitStatus {
    let loaded = match loaded(files) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let names: Vec<&str> = loaded.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    printer::data(&format!(
        "{} fit{} the environment {}: {}\n",
        counted(names.len(), "scenario"),
        if names.len() == 1 { "s" } else { "" },
        loaded.environment.name,
        names.join(", ")
    ))
}

/// "1 scenario", "2 scenarios".
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
