//! The guard, with shell scripts in place of LiteLLM.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::world::{playing, runs, wait_for};

const SOON: Duration = Duration::from_secs(10);

/// A guard over `sh -c script`, and the script's process id.
fn guard_over(script: &str) -> (Child, u32) {
    let guard = playing("play_guard");
    let mut child = Command::new(&guard[0])
        .args(&guard[1..])
        .args(["sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("guard");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let pid =
        output.lines().find_map(|line| line.expect("line").strip_prefix("guarded process ")?.parse().ok());
    (child, pid.expect("the guard tells the process id"))
}

async fn exit_code(guard: &mut Child) -> Option<i32> {
    wait_for("the guard's end", SOON, || guard.try_wait().expect("wait")).await.code()
}

#[tokio::test]
async fn the_guard_ends_with_the_commands_exit_code() {
    let (mut guard, _) = guard_over("exit 7");
    assert_eq!(exit_code(&mut guard).await, Some(7));
    let (mut guard, _) = guard_over("kill -9 $$");
    assert_eq!(exit_code(&mut guard).await, Some(128 + 9));
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_127() {
    let guard = playing("play_guard");
    let output = Command::new(&guard[0])
        .args(&guard[1..])
        .arg("/nonexistent/litellm")
        .stdin(Stdio::piped())
        .output()
        .expect("guard");
    assert_eq!(output.status.code(), Some(127));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("cannot run /nonexistent/litellm"), "{complaint}");
}

/// A script that ignores SIGTERM, with a child that does so too, and both process ids.
async fn stubborn(directory: &TempDir) -> (Child, u32, u32) {
    let part = directory.path().join("pid.part");
    let file = directory.path().join("pid");
    let (guard, pid) = guard_over(&format!(
        "trap '' TERM; tail -f /dev/null & echo $! >{part}; mv {part} {file}; wait",
        part = part.display(),
        file = file.display()
    ));
    let child = wait_for("the script's child", SOON, || fs::read_to_string(&file).ok()).await;
    (guard, pid, child.trim().parse().expect("a number"))
}

#[tokio::test]
async fn end_of_input_ends_the_whole_group_also_where_it_ignores_sigterm() {
    let directory = tempfile::tempdir().expect("directory");
    let (mut guard, pid, child) = stubborn(&directory).await;
    assert!(runs(pid) && runs(child));
    drop(guard.stdin.take());
    assert_eq!(exit_code(&mut guard).await, Some(128 + 9));
    wait_for("the end of the group", SOON, || (!runs(pid) && !runs(child)).then_some(())).await;
}

#[tokio::test]
async fn what_the_command_leaves_behind_is_ended() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("pid");
    let (mut guard, _) = guard_over(&format!("tail -f /dev/null & echo $! >{}; exit 0", file.display()));
    assert_eq!(exit_code(&mut guard).await, Some(0));
    let left: u32 = fs::read_to_string(&file).expect("pid").trim().parse().expect("a number");
    wait_for("the end of what was left", SOON, || (!runs(left)).then_some(())).await;
}

#[tokio::test]
async fn signals_from_a_terminal_do_not_end_the_guard() {
    let (mut guard, pid) = guard_over("tail -f /dev/null");
    let process = Pid::from_child(&guard);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        kill_process(process, signal).expect("signal");
    }
    // Input that is not its end means nothing either; and the guard has had its signals by the time it reads.
    guard.stdin.as_mut().expect("piped").write_all(b"still here\n").expect("write");
    let pending = || {
        let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).ok()?;
        let shared = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"))?.trim().to_owned();
        (shared.chars().all(|digit| digit == '0')).then_some(())
    };
    wait_for("delivery of the signals", SOON, pending).await;
    assert!(runs(process.as_raw_nonzero().get().unsigned_abs()) && runs(pid));
    drop(guard.stdin.take());
    assert_eq!(exit_code(&mut guard).await, Some(128 + 15));
    assert!(!runs(pid));
}
