//! `harness check`.

use super::args::FileArguments;
use super::exit::ExitStatus;
use super::printer;
use crate::gateway::config::LoadedBy;
use crate::gateway::local::ConfigSource;
use crate::input::{self, Loaded};

/// Load files; on problems those of all files are shown. Warnings are shown either way.
pub(super) fn loaded(files: &FileArguments) -> Result<Loaded, ExitStatus> {
    let path = files.litellm_config.as_deref();
    load(files, path.map(|_| LoadedBy::Any)).map(|(loaded, _)| loaded)
}

/// Load files and the LiteLLM configuration of a local run: a file, or the tuned one that is built in.
pub(super) fn loaded_with_config(
    files: &FileArguments,
    loaded_by: LoadedBy,
) -> Result<(Loaded, ConfigSource), ExitStatus> {
    let (loaded, config) = load(files, Some(loaded_by))?;
    // Without it there was a problem, which has been shown.
    config.map(|config| (loaded, config)).ok_or(ExitStatus::Usage)
}

/// `loaded_by` is `None` where no configuration is asked for.
fn load(
    files: &FileArguments,
    loaded_by: Option<LoadedBy>,
) -> Result<(Loaded, Option<ConfigSource>), ExitStatus> {
    let mut checked = input::check(&files.paths, files.env.as_deref());
    let config = loaded_by.and_then(|loaded_by| {
        let path = files.litellm_config.as_deref();
        // Whether the built-in one fits can wait until the environment is right.
        let waits = path.is_none() && checked.environment.is_none();
        let config = ConfigSource::check(path, (!waits).then_some(&checked.names), loaded_by);
        checked.findings.0.extend(config.findings.0);
        config.source
    });
    let loaded = checked.loaded().map_err(|problems| printer::problems(&problems))?;
    for warning in &loaded.warnings {
        printer::problem(warning);
    }
    Ok((loaded, config))
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
