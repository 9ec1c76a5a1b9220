//! A command that must not outlive the harness: the guard above it, its process group, its end.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::group;
use super::supervise::STARTED;

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Bound on the guard's first line.
const GUARD_WITHIN: Duration = Duration::from_secs(10);
/// Bound on what the guard says before that line, bytes.
const GUARD_OUTPUT_MAX: u64 = 16 * 1024;
/// From the request to stop until SIGKILL.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// From SIGKILL until a process that is still there counts as unstoppable.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// What to run under a guard.
pub(crate) struct Guarding<'a> {
    /// The guard's command line, to which the command is added.
    pub(crate) guard: &'a [OsString],
    /// The command and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Where it runs.
    pub(crate) directory: &'a Path,
    /// The file that gets all that it prints, made anew.
    pub(crate) log: &'a Path,
    /// All of its environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// Why nothing runs.
#[derive(Debug)]
pub(crate) enum GuardError {
    /// The log cannot be made.
    Log(io::Error),
    /// The guard did not start.
    Guard {
        /// Its executable.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// The command, or the guard, ended before it was told of.
    Ended(String),
}

/// A process group and the guard above it. Dropping it kills both; [`Guarded::stop`] is the orderly way.
#[derive(Debug)]
pub(crate) struct Guarded {
    group: Pid,
    guard: Option<Pid>,
    /// Open as long as the command shall run.
    lifeline: Option<ChildStdin>,
    ended: watch::Receiver<Option<String>>,
    watcher: JoinHandle<()>,
}

impl Guarded {
    /// Starts the command under its guard.
    ///
    /// # Errors
    /// See [`GuardError`]; nothing is left running then.
    pub(crate) async fn spawn(guarding: Guarding<'_>) -> Result<Self, GuardError> {
        let log_file = std::fs::File::create(guarding.log).map_err(GuardError::Log)?;
        let (program, arguments) = guarding.guard.split_first().ok_or_else(|| GuardError::Guard {
            command: "(none)".into(),
            source: io::ErrorKind::InvalidInput.into(),
        })?;
        let guard_error = |source| GuardError::Guard { command: program.display().to_string(), source };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(guarding.command)
            .current_dir(guarding.directory)
            .env_clear()
            .envs(guarding.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .process_group(0);
        let mut child = command.spawn().map_err(guard_error)?;
        let lifeline = child.stdin.take();
        let announced = match child.stdout.take() {
            Some(output) => timeout(GUARD_WITHIN, announced_pid(output)).await.ok().flatten(),
            None => None,
        };
        let Some(group) = announced else {
            // Whatever the guard did start ends with the lifeline, even if the guard has yet to start it.
            drop(lifeline);
            let ended = match timeout(STOP_WITHIN, child.wait()).await {
                Ok(Ok(status)) => status.to_string(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the guard does not answer".to_owned(),
            };
            return Err(GuardError::Ended(ended));
        };
        let guard = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (sender, ended) = watch::channel(None);
        let watcher = tokio::spawn(watch_guard(child, group, sender));
        Ok(Self { group, guard, lifeline, ended, watcher })
    }

    /// The command's process id, which is the id of its process group too.
    pub(crate) fn pid(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether the command is still there.
    pub(crate) fn is_alive(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Resolves once it has ended, with how; independent of `self`'s borrow.
    pub(crate) fn ended(&self) -> impl Future<Output = String> + Send + 'static {
        let ended = self.ended.clone();
        async move { wait_ended(ended).await }
    }

    /// Stops it: SIGTERM, SIGKILL if need be. Whether it is gone at the end of it.
    pub(crate) async fn stop(&mut self) -> bool {
        drop(self.lifeline.take());
        if timeout(STOP_WITHIN, wait_ended(self.ended.clone())).await.is_err() {
            self.kill();
        }
        let deadline = Instant::now() + KILLED_WITHIN;
        let _ = timeout_at(deadline, wait_ended(self.ended.clone())).await;
        while !group::is_gone(self.group) {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(POLL_INTERVAL).await;
        }
        self.ended.borrow().is_some()
    }

    /// SIGKILL for both. The numbers are still theirs: until `ended` is set neither has been reaped here.
    fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        if let Some(guard) = self.guard {
            let _ = kill_process(guard, Signal::KILL);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.ended.borrow().is_none() {
            // The guard sees its command end, and ends by itself.
            let _ = kill_process_group(self.group, Signal::KILL);
        }
        drop(self.lifeline.take());
        self.watcher.abort();
    }
}

async fn watch_guard(mut guard: Child, group: Pid, ended: watch::Sender<Option<String>>) {
    let status = guard.wait().await;
    if !group::is_gone(group) {
        // A guard that did not come to its end (killed, or a panic) has stopped nothing.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let words = status.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
    ended.send_replace(Some(words));
}

async fn wait_ended(mut ended: watch::Receiver<Option<String>>) -> String {
    match ended.wait_for(Option::is_some).await {
        Ok(words) => words.clone().unwrap_or_default(),
        Err(_) => "its watcher is gone".to_owned(),
    }
}

/// The process id in the guard's first line of that kind.
async fn announced_pid(output: ChildStdout) -> Option<Pid> {
    let mut lines = BufReader::new(output.take(GUARD_OUTPUT_MAX)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(pid) = line.strip_prefix(STARTED) {
            return Pid::from_raw(pid.trim().parse().ok()?);
        }
    }
    None
}
