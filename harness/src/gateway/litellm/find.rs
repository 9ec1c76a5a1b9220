//! Which LiteLLM to run, and which version that is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::LITELLM_VERSION;
use super::install::{self, InstallError};
use super::surroundings;

/// LiteLLM's executable.
const BIN: &str = "litellm";
/// Bound on the question for the version: LiteLLM's own answer imports all of it first.
const VERSION_WITHIN: Duration = Duration::from_secs(60);
/// Reads the version without importing the package: 0.1 s instead of several.
const VERSION_SCRIPT: &str = "import importlib.metadata as m; print(m.version('litellm'))";
/// Longest first line of a script that is looked at, bytes: what Linux allows.
const SHEBANG_MAX: u64 = 256;

/// What the person said about which LiteLLM to use.
#[derive(Debug, Clone, Default)]
pub struct FindOptions {
    /// `--litellm-bin`.
    pub bin: Option<PathBuf>,
    /// `--install-litellm`.
    pub install: bool,
    /// The version to install; the pinned one unless set.
    pub version: Option<String>,
    /// The search path; `$PATH` of this process unless set.
    pub path: Option<OsString>,
    /// The cache directory of this program; see [`install::cache_dir`] unless set.
    pub cache_dir: Option<PathBuf>,
}

/// A LiteLLM that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its executable, absolute.
    pub bin: PathBuf,
    /// Its version.
    pub version: String,
}

impl Found {
    /// Whether it is the version that the harness knows.
    pub fn is_pinned(&self) -> bool {
        self.version == LITELLM_VERSION
    }
}

/// Why there is no LiteLLM to run.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// `--litellm-bin` names nothing that can be executed.
    #[error("{0} is not an executable file")]
    NotExecutable(PathBuf),
    /// Neither named, nor on the search path, nor to be installed.
    #[error(
        "no `litellm` on PATH; name one with --litellm-bin FILE, or let --install-litellm set up version {LITELLM_VERSION} in a cache"
    )]
    NotFound,
    /// It does not tell its version.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The installation failed.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// A LiteLLM executable that does not tell its version.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell the LiteLLM version of {bin}: {reason}")]
pub struct VersionError {
    /// The executable.
    pub bin: PathBuf,
    /// What happened instead.
    pub reason: String,
}

/// Finds LiteLLM: the executable named, else the pinned one in the cache if it is to be installed (set up now if
/// need be), else the first on the search path. `progress` gets a line for each step of an installation.
/// Dropping the future ends a running installation, which the next one repairs.
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
            let version = options.version.as_deref().unwrap_or(LITELLM_VERSION);
            install::install(&path, options.cache_dir.as_deref(), version, progress).await?
        }
        None => on_path(&path, BIN).ok_or(FindError::NotFound)?,
    };
    let bin = std::path::absolute(&bin).unwrap_or(bin);
    let version = version(&bin).await?;
    Ok(Found { bin, version })
}

/// The version of the LiteLLM at `bin`, from the interpreter that runs it, else from `bin --version`.
///
/// # Errors
/// When neither answers within a minute.
pub async fn version(bin: &Path) -> Result<String, VersionError> {
    if let Some((interpreter, arguments)) = interpreter(bin) {
        let mut command = Command::new(interpreter);
        surroundings::of_a_program(&mut command).args(arguments).args(["-c", VERSION_SCRIPT]);
        if let Some(version) = first_version(&output(command).await.unwrap_or_default()) {
            return Ok(version);
        }
    }
    let mut command = Command::new(bin);
    // No download of price lists before the answer.
    surroundings::of_a_program(&mut command).arg("--version").env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let answer = output(command).await;
    let failed = |reason| VersionError { bin: bin.to_owned(), reason };
    let answer = answer.map_err(failed)?;
    first_version(&answer).ok_or_else(|| failed("its answer to --version holds none".into()))
}

async fn output(mut command: Command) -> Result<String, String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(VERSION_WITHIN, command.output())
        .await
        .map_err(|_| format!("no answer within {} s", VERSION_WITHIN.as_secs()))?
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("it ended with {}", output.status))
    }
}

/// The first word that looks like `1.2.3`, with whatever follows the numbers.
fn first_version(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        let mut parts = word.split('.');
        let number =
            |part: Option<&str>| part.is_some_and(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        number(parts.next()) && number(parts.next()) && number(parts.next())
    };
    text.split_whitespace().find(is_version).map(str::to_owned)
}

/// The Python that runs the script `bin`: named in its first line, else beside it.
fn interpreter(bin: &Path) -> Option<(PathBuf, Vec<String>)> {
    let mut start = Vec::new();
    File::open(bin).ok()?.take(SHEBANG_MAX).read_to_end(&mut start).ok()?;
    let start = String::from_utf8_lossy(&start);
    let mut words = start.strip_prefix("#!")?.lines().next()?.split_whitespace();
    let program = PathBuf::from(words.next()?);
    let arguments: Vec<_> = words.map(str::to_owned).collect();
    let is_python = |name: &OsStr| name.to_string_lossy().starts_with("python");
    let runs_python = program.file_name().is_some_and(is_python)
        || arguments.last().is_some_and(|argument| is_python(OsStr::new(argument)));
    if runs_python && is_executable(&program) {
        return Some((program, arguments));
    }
    // A path too long for a first line is wrapped in a shell script.
    let beside = bin.canonicalize().ok()?.with_file_name("python3");
    is_executable(&beside).then_some((beside, Vec::new()))
}

/// The first executable called `name` in the directories of a search path.
pub(crate) fn on_path(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|directory| !directory.as_os_str().is_empty())
        .map(|directory| directory.join(name))
        .find(|bin| is_executable(bin))
}

/// Whether `path` is a file with a right to execute it.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests;
