//! LiteLLM in a virtual environment of our own, in the cache.
//!
//! The environment is made in place, since its scripts hold its path, and a marker file is written last: without
//! the marker, or if its Python has gone, it is made anew. A lock file keeps two installations apart; Python and
//! pip inherit the lock, so that it is held until the last of them is gone even if the harness is killed.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::find::{is_executable, on_path, version};
use super::log_tail::plain_line;
use super::surroundings;

const PYTHON: &str = "python3";
/// Written last; holds the version.
const MARKER: &str = ".complete";
/// Bound on each step, and on waiting for another installation: pip loads 150 MB.
const STEP_WITHIN: Duration = Duration::from_secs(900);
/// Bound on asking Python for its version.
const PYTHON_WITHIN: Duration = Duration::from_secs(30);
const LOCK_POLL: Duration = Duration::from_millis(200);
/// Lines of a failed step that its error quotes.
const LINES: usize = 15;
/// Longest line of a step's output that is kept, bytes.
const LINE_MAX: u64 = 4096;
/// Longest version.
const VERSION_LEN_MAX: usize = 40;

/// Why LiteLLM could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No place for a cache.
    #[error("no cache directory: neither XDG_CACHE_HOME nor HOME is set")]
    NoCache,
    /// What should be installed is no version.
    #[error("`{text}` is not a version, like 1.2.3")]
    NoVersion {
        /// What was named.
        text: String,
    },
    /// A file or directory in the cache cannot be used.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Python is missing.
    #[error("no `{PYTHON}` on PATH, which LiteLLM needs")]
    NoPython,
    /// Another installation goes on for too long.
    #[error("another installation has held {path} for {waited_s} s")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long this one has waited, seconds.
        waited_s: u64,
    },
    /// A step failed.
    #[error("`{step}` failed ({how}); the end of its output:\n{output}")]
    Step {
        /// The step, as a command.
        step: String,
        /// How it ended.
        how: String,
        /// The last lines of its output.
        output: String,
    },
}

/// This program's cache directory: `failover-harness` in `$XDG_CACHE_HOME`, else in `~/.cache`.
///
/// # Errors
/// When neither variable is set to an absolute path.
pub fn cache_dir() -> Result<PathBuf, InstallError> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("failover-harness")).ok_or(InstallError::NoCache)
}

/// The executable of LiteLLM `wanted` in the cache, installed now unless it is there and whole.
pub(super) async fn install(
    path: &OsStr,
    cache: Option<&Path>,
    wanted: &str,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<PathBuf, InstallError> {
    if !is_version(wanted) {
        return Err(InstallError::NoVersion { text: wanted.to_owned() });
    }
    let cache = cache.map_or_else(cache_dir, |cache| Ok(cache.to_owned()))?;
    let python = on_path(path, PYTHON).ok_or(InstallError::NoPython)?;
    std::fs::create_dir_all(&cache).map_err(file_error(&cache))?;
    let name = format!("litellm-{wanted}-py{}", python_version(&python).await?);
    let directory = cache.join(&name);
    let bin = directory.join("bin/litellm");
    if is_whole(&directory, &bin, wanted).await {
        return Ok(bin);
    }
    let lock = lock(&cache.join(format!("{name}.lock")), progress).await?;
    // Another installation may have finished while this one waited.
    if is_whole(&directory, &bin, wanted).await {
        return Ok(bin);
    }
    if directory.exists() {
        progress("removing an unfinished installation");
        std::fs::remove_dir_all(&directory).map_err(file_error(&directory))?;
    }
    progress(&format!("installing LiteLLM {wanted} in {}", directory.display()));
    let mut venv = Command::new(&python);
    surroundings::of_an_installer(&mut venv).args(["-m", "venv"]).arg(&directory);
    step("python3 -m venv", venv, &lock, progress).await?;
    let mut pip = Command::new(directory.join("bin/python"));
    let requirement = format!("litellm[proxy]=={wanted}");
    surroundings::of_an_installer(&mut pip)
        .args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"])
        // A person's preference for their own site directory does not go with a virtual environment.
        .env("PIP_USER", "0")
        .arg(&requirement);
    step(&format!("pip install {requirement}"), pip, &lock, progress).await?;
    let marker = directory.join(MARKER);
    std::fs::write(&marker, wanted).map_err(file_error(&marker))?;
    progress("LiteLLM is installed");
    Ok(bin)
}

/// Whether an installation was finished and still runs; its Python may have been removed since.
async fn is_whole(directory: &Path, bin: &Path, wanted: &str) -> bool {
    let marked = std::fs::read_to_string(directory.join(MARKER)).is_ok_and(|text| text == wanted);
    marked && is_executable(bin) && version(bin).await.is_ok_and(|version| version == wanted)
}

/// Digits first, then what versions are made of: neither an option of pip nor a path.
fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.len() <= VERSION_LEN_MAX
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '!' | '-'))
}

/// `3.X`, which names the cache entry: an environment serves one version of Python only.
async fn python_version(python: &Path) -> Result<String, InstallError> {
    let failed = |how: String, output: &[u8]| InstallError::Step {
        step: format!("{} -c ...", python.display()),
        how,
        output: String::from_utf8_lossy(output).trim().to_owned(),
    };
    let mut command = Command::new(python);
    surroundings::of_a_program(&mut command)
        .args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PYTHON_WITHIN, command.output())
        .await
        .map_err(|_| failed(format!("no answer within {} s", PYTHON_WITHIN.as_secs()), &[]))?
        .map_err(|error| failed(error.to_string(), &[]))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let is_version = version.len() >= 3 && version.chars().all(|c| c.is_ascii_digit() || c == '.');
    if output.status.success() && is_version {
        Ok(version)
    } else {
        Err(failed(output.status.to_string(), &output.stderr))
    }
}

/// Holds the lock file, once nobody else does.
pub(crate) async fn lock(path: &Path, progress: &mut (dyn FnMut(&str) + Send)) -> Result<File, InstallError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(file_error(path))?;
    let started = Instant::now();
    let mut told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(file_error(path)(errno.into())),
        }
        if started.elapsed() > STEP_WITHIN {
            return Err(InstallError::Locked { path: path.to_owned(), waited_s: STEP_WITHIN.as_secs() });
        }
        if !std::mem::replace(&mut told, true) {
            progress("waiting for another installation to finish");
        }
        sleep(LOCK_POLL).await;
    }
}

/// Runs one step, passes its lines on, and keeps the last ones for its error.
pub(crate) async fn step(
    name: &str,
    mut command: Command,
    lock: &File,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), InstallError> {
    let failed = |how: String, output: &VecDeque<String>| InstallError::Step {
        step: name.to_owned(),
        how,
        output: output.iter().map(String::as_str).collect::<Vec<_>>().join("\n"),
    };
    let mut kept = VecDeque::new();
    // The lock file is empty, so as an input it only says that there is none.
    let input = lock.try_clone().map_err(|error| failed(error.to_string(), &kept))?;
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(error.to_string(), &kept))?;
    let (sender, mut lines) = tokio::sync::mpsc::channel(64);
    let reader = |output| read_lines(output, sender.clone());
    let output = child.stdout.take().map(reader);
    let errors = child.stderr.take().map(|output| read_lines(output, sender.clone()));
    drop(sender);
    let read = async { tokio::join!(optional(output), optional(errors)) };
    let show = async {
        while let Some(line) = lines.recv().await {
            progress(&line);
            if kept.len() == LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    };
    let all = timeout(STEP_WITHIN, async { tokio::join!(read, show, child.wait()).2 }).await;
    match all {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(status.to_string(), &kept)),
        Ok(Err(error)) => Err(failed(error.to_string(), &kept)),
        Err(_) => Err(failed(format!("not done within {} s", STEP_WITHIN.as_secs()), &kept)),
    }
}

async fn optional(reading: Option<impl Future<Output = ()>>) {
    if let Some(reading) = reading {
        reading.await;
    }
}

async fn read_lines(output: impl AsyncRead + Unpin, lines: tokio::sync::mpsc::Sender<String>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut output).take(LINE_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = plain_line(&line);
                if !line.is_empty() && lines.send(line).await.is_err() {
                    return;
                }
            }
        }
    }
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::File { path, source }
}

#[cfg(test)]
mod tests;
