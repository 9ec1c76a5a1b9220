//! The binary while it runs, and what it leaves.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::stack::KEY;

/// Nothing here takes longer, on a busy machine either.
pub(crate) const LIMIT: Duration = Duration::from_secs(500);

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// `result.json`, if there is a run directory.
    pub(crate) result: Value,
    /// `report.md`.
    pub(crate) report: String,
    /// The lines of `journal.jsonl`.
    pub(crate) journal: Vec<Value>,
}

pub(crate) struct Running {
    pub(crate) child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    said: String,
    out: PathBuf,
}

impl Running {
    /// Starts `PROGRAM ARGUMENTS` in a directory.
    pub(crate) fn start(mut command: Command, dir: &Path) -> Self {
        command.current_dir(dir).env_remove("KUBECONFIG").env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, stderr, said: String::new(), out: dir.join("out") }
    }

    /// Listens until it says so on stderr.
    pub(crate) async fn until_it_says(&mut self, wanted: &str) {
        let listening = async {
            while let Some(line) = self.stderr.next_line().await.unwrap() {
                self.said.push_str(&line);
                self.said.push('\n');
                if line.contains(wanted) {
                    return;
                }
            }
            let report = std::fs::read_to_string(self.out.join("latest/report.md")).unwrap_or_default();
            panic!("never said {wanted:?}:\n{}\n{report}", self.said);
        };
        tokio::time::timeout(LIMIT, listening).await.expect("it says so in time");
    }

    /// What a person or a container runtime sends.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap()
    }

    /// It ends without a chance to do anything.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub(crate) async fn end(mut self) -> Ended {
        let ending = async {
            let mut stdout = String::new();
            let mut pipe = self.child.stdout.take().unwrap();
            let read = pipe.read_to_string(&mut stdout);
            let said = async {
                while let Some(line) = self.stderr.next_line().await.unwrap() {
                    self.said.push_str(&line);
                    self.said.push('\n');
                }
            };
            let (read, ()) = tokio::join!(read, said);
            read.unwrap();
            (self.child.wait().await.unwrap(), stdout)
        };
        let (status, stdout) = tokio::time::timeout(LIMIT, ending).await.expect("it ends in time");
        let file =
            |name: &str| std::fs::read_to_string(self.out.join("latest").join(name)).unwrap_or_default();
        let result = serde_json::from_str(&file("result.json")).unwrap_or(Value::Null);
        assert!(!self.said.contains("panicked"), "{}", self.said);
        assert!(!self.said.contains(KEY) && !stdout.contains(KEY), "the key is shown");
        assert!(
            !file("journal.jsonl").contains(KEY) && !file("report.md").contains(KEY),
            "the key is written"
        );
        let lines = file("journal.jsonl");
        // The last line of one that was killed may be half a line.
        let journal = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ended { status, stdout, stderr: self.said, result, report: file("report.md"), journal }
    }
}

impl Ended {
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}\n{}\n{:#}",
            self.stdout,
            self.stderr,
            self.result["reasons"]
        );
        self
    }

    /// All reasons of the result in one text.
    pub(crate) fn reasons(&self) -> String {
        self.result["reasons"].to_string()
    }
}
