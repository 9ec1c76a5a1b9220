//! Which openclaw to run, and which version that is.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::install::install;
use super::{NODE_VERSION, OPENCLAW_VERSION};
use crate::gateway::litellm::find::{is_executable, on_path};
use crate::gateway::litellm::install::InstallError;
use crate::gateway::litellm::surroundings;

/// Bound on the question for the version.
const VERSION_WITHIN: Duration = Duration::from_secs(60);
/// How much of what openclaw says in place of its version is quoted, in characters.
const QUOTED_CHARS: usize = 200;

/// What the person said about which openclaw to use.
#[derive(Debug, Clone, Default)]
pub struct FindOptions {
    /// `--openclaw-bin`.
    pub bin: Option<PathBuf>,
    /// `--install-openclaw`.
    pub install: bool,
    /// The search path; `$PATH` of this process unless set.
    pub path: Option<OsString>,
    /// The cache directory of this program; the usual one unless set.
    pub cache_dir: Option<PathBuf>,
}

/// An openclaw that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What runs it, without its own arguments.
    pub command: Vec<OsString>,
    /// Its version.
    pub version: String,
    /// The search path that it needs.
    pub path: OsString,
    /// Where Node may keep what it has compiled.
    pub compiled: Option<PathBuf>,
}

/// Why there is no openclaw to run.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// `--openclaw-bin` names nothing that can be executed.
    #[error("{0} is not an executable file")]
    NotExecutable(PathBuf),
    /// Neither named, nor on the search path, nor to be installed.
    #[error(
        "no `openclaw` on PATH; name one with --openclaw-bin FILE, or let --install-openclaw set up version {OPENCLAW_VERSION} with Node {NODE_VERSION} in a cache"
    )]
    NotFound,
    /// npm is missing.
    #[error("no `npm` on PATH, which --install-openclaw needs; Debian's packages `nodejs` and `npm` have it")]
    NoNpm,
    /// It does not tell its version.
    #[error("cannot tell the openclaw version of {command}: {reason}")]
    Version {
        /// What was run.
        command: String,
        /// What happened instead.
        reason: String,
    },
    /// The installation failed.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// Finds openclaw: the executable named, else the pinned one in the cache if it is to be installed (set up now if need
/// be), else the first on the search path. `progress` gets a line for each step of an installation.
///
/// # Errors
/// See [`FindError`].
pub async fn find(
    options: &FindOptions,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<Found, FindError> {
    let path = options.path.clone().or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let bin = match &options.bin {
        Some(bin) if is_executable(bin) => bin.clone(),
        Some(bin) => return Err(FindError::NotExecutable(bin.clone())),
        None if options.install => {
            let found = install(&path, options.cache_dir.as_deref(), progress).await?;
            return found.ok_or(FindError::NoNpm);
        }
        None => on_path(&path, "openclaw").ok_or(FindError::NotFound)?,
    };
    let command = vec![std::path::absolute(&bin).unwrap_or(bin).into_os_string()];
    let version = version(&command, &path)
        .await
        .map_err(|reason| FindError::Version { command: command[0].display().to_string(), reason })?;
    Ok(Found { command, version, path, compiled: None })
}

/// What `--version` answers: `OpenClaw 2026.9.6 (eb377ac)`.
pub(super) async fn version(command: &[OsString], path: &OsStr) -> Result<String, String> {
    let (program, arguments) = command.split_first().ok_or_else(|| "there is no command".to_owned())?;
    let mut command = Command::new(program);
    surroundings::of_a_program(&mut command)
        .args(arguments)
        .arg("--version")
        .env("PATH", path)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_WITHIN, command.output())
        .await
        .map_err(|_| format!("no answer within {} s", VERSION_WITHIN.as_secs()))?
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    match said.split_whitespace().find(is_version) {
        Some(version) if output.status.success() => Ok(version.to_owned()),
        _ => {
            // A Node that is too old is told by openclaw itself, in its first line.
            let complained = String::from_utf8_lossy(&output.stderr);
            let first = complained.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let first: String = first.chars().filter(|c| !c.is_control()).take(QUOTED_CHARS).collect();
            Err(format!("it ended with {}: {first}", output.status))
        }
    }
}

#[cfg(test)]
mod tests;
