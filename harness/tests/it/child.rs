//! One run of the binary as a child process, with a hard bound on its life.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A process that lives longer is killed, and its test fails.
const LIFE_MAX: Duration = Duration::from_secs(90);
/// Longest line that is kept; more would be a fault of its own.
const OUTPUT_MAX: u64 = 8 * 1024 * 1024;

/// The binary under test, in the working directory `cwd`, without this process's settings.
pub(crate) fn harness<I, S>(cwd: &Path, arguments: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(arguments).current_dir(cwd).stdin(Stdio::null());
    for name in ["LITELLM_MASTER_KEY", "NO_COLOR", "RUST_BACKTRACE", "HTTP_PROXY", "http_proxy", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command
}

/// A process that runs.
pub(crate) struct Running {
    child: Child,
    started: Instant,
    said: Receiver<Said>,
    stdout: String,
    stderr: String,
}

enum Said {
    Out(String),
    Err(String),
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// All of stdout.
    pub(crate) stdout: String,
    /// All of stderr.
    pub(crate) stderr: String,
    /// How long it lived.
    pub(crate) took: Duration,
}

impl Ended {
    /// Assert the exit code, and that nothing panicked.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }

    /// Both outputs.
    pub(crate) fn said(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// Run to the end.
pub(crate) fn run(command: Command) -> Ended {
    Running::start(command).end()
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
        let (sender, said) = channel();
        tell_lines(child.stdout.take().expect("piped"), sender.clone(), Said::Out);
        tell_lines(child.stderr.take().expect("piped"), sender, Said::Err);
        Self { child, started: Instant::now(), said, stdout: String::new(), stderr: String::new() }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // The child is not reaped before `end`, so the id is still its own.
        kill_process(self.pid(), signal).expect("kill");
    }

    /// Listen until a line on stdout or stderr contains `wanted`.
    #[track_caller]
    pub(crate) fn until_it_says(&mut self, wanted: &str) -> String {
        let deadline = self.started + LIFE_MAX;
        loop {
            match self.listen(deadline) {
                Ok(line) if line.contains(wanted) => return line,
                Ok(_) => {}
                Err(error) => panic!("never said {wanted:?} ({error}):\n{}{}", self.stdout, self.stderr),
            }
        }
    }

    /// Listen until `instant`; whether it still runs then.
    pub(crate) fn runs_until(&mut self, instant: Instant) -> bool {
        loop {
            match self.listen(instant) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Listen to the end, which comes once the process and all that share its outputs are gone.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        self.end_within(LIFE_MAX)
    }

    /// The same, at most `bound` from now.
    #[track_caller]
    pub(crate) fn end_within(mut self, bound: Duration) -> Ended {
        let gone = !self.runs_until(Instant::now() + bound);
        if !gone {
            panic!("still there after {bound:?}, killed:\n{}{}", self.stdout, self.stderr);
        }
        let status = self.child.wait().expect("wait");
        Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: std::mem::take(&mut self.stdout),
            stderr: std::mem::take(&mut self.stderr),
            took: self.started.elapsed(),
        }
    }

    fn listen(&mut self, until: Instant) -> Result<String, RecvTimeoutError> {
        let said = self.said.recv_timeout(until.saturating_duration_since(Instant::now()))?;
        let (text, line) = match said {
            Said::Out(line) => (&mut self.stdout, line),
            Said::Err(line) => (&mut self.stderr, line),
        };
        text.push_str(&line);
        Ok(line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing where it has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tell_lines(source: impl Read + Send + 'static, sender: Sender<Said>, said: fn(String) -> Said) {
    // Ends with its source: when the process, and whoever inherited its output, is gone.
    std::thread::spawn(move || {
        let mut source = BufReader::new(source.take(OUTPUT_MAX));
        let mut line = Vec::new();
        while source.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if sender.send(said(String::from_utf8_lossy(&line).into_owned())).is_err() {
                break;
            }
            line.clear();
        }
    });
}
