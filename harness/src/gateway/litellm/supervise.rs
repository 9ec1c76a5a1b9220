//! The guard: runs one command and makes sure that it ends when the harness does.
//!
//! The harness may get SIGKILL and run no code of its own. What the kernel then still does is close the
//! harness's end of the guard's standard input, and that is the guard's only order: end of input means stop.
//!
//! Protocol: the guard writes [`STARTED`] and the command's process id as one line to its standard output. The
//! command's own output goes to the guard's standard error, its input is empty.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::signal::unix::{SignalKind, signal};

/// What the line begins with in which the guard tells the command's process id.
pub const STARTED: &str = "guarded process ";

/// How long the command may take to end by itself once it was asked to.
const GRACE: Duration = Duration::from_secs(3);

/// Exit code when the command could not be started, as in a shell.
const NOT_STARTED: u8 = 127;

/// Why the guard stops waiting.
#[derive(Debug, PartialEq, Eq)]
enum Cue {
    /// The harness closed its end, or is gone.
    InputEnded,
    /// The command ended; not reaped yet.
    CommandEnded,
}

/// Runs `args` (the command and its arguments, after an optional `--`) until it ends or standard input does.
/// Returns the exit code to end with: the command's own, or 128 and its signal.
///
/// The command gets a process group of its own, and nothing in that group is left when this returns. SIGINT,
/// SIGTERM, SIGHUP and SIGQUIT are ignored: a gateway must outlive the harness's own orderly end.
///
/// Blocks the calling thread; call it outside an async runtime.
pub fn supervise(args: Vec<OsString>) -> u8 {
    let mut args = args.into_iter().skip_while(|arg| arg == "--");
    let Some(program) = args.next() else {
        complain("no command to supervise");
        return NOT_STARTED;
    };
    match ignoring_signals(|| run(&program, args.collect())) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("cannot run {}: {error}", program.display()));
            NOT_STARTED
        }
    }
}

/// Runs `work` with handlers in place that do nothing. Handlers, unlike an ignored signal, are not inherited, so
/// the command still ends on SIGTERM.
fn ignoring_signals<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _context = runtime.enter();
    let _handlers =
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()]
            .into_iter()
            .map(signal)
            .collect::<io::Result<Vec<_>>>()?;
    work()
}

fn run(program: &OsString, args: Vec<OsString>) -> io::Result<u8> {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()?;
    let group = Pid::from_child(&child);
    // Nobody listening any more is no reason to leave the command alone: the end of input says so as well.
    let _ = announce(group);
    let (cues, received) = mpsc::channel();
    let input_cues = cues.clone();
    thread::spawn(move || {
        wait_for_end_of_input();
        let _ = input_cues.send(Cue::InputEnded);
    });
    thread::spawn(move || {
        wait_for_exit(group);
        let _ = cues.send(Cue::CommandEnded);
    });
    if received.recv() == Ok(Cue::InputEnded) {
        let _ = kill_process_group(group, Signal::TERM);
        while matches!(received.recv_timeout(GRACE), Ok(Cue::InputEnded)) {}
    }
    end_group(child, group).map(exit_code)
}

fn announce(group: Pid) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{STARTED}{}", group.as_raw_nonzero())?;
    output.flush()
}

fn wait_for_end_of_input() {
    let mut input = io::stdin().lock();
    let mut ignored = [0; 64];
    loop {
        match input.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Waits without reaping: while the command is a zombie its number cannot be given to another process group.
fn wait_for_exit(process: Pid) {
    while let Err(error) = waitid(WaitId::Pid(process), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
        if error != rustix::io::Errno::INTR {
            return;
        }
    }
}

/// Kills what is left of the group, then reaps the command.
fn end_group(mut child: Child, group: Pid) -> io::Result<ExitStatus> {
    let _ = kill_process_group(group, Signal::KILL);
    child.wait()
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "guard: {message}");
}
