//! What openclaw's own transcripts say of who answered, read with its own Node once it has stopped.
//!
//! They are SQLite in its state. An answer names the model that openclaw asked for, and as `responseModel` the one that the
//! gateway's stream named, if that is another.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::find::Found;
use super::process::HOME;
use crate::gateway::litellm::find::on_path;
use crate::gateway::litellm::surroundings;
use crate::journal::TurnTranscribed;

const SCRIPT: &str = include_str!("transcript.cjs");
/// Bound on reading: a run has some hundred turns.
const READ_WITHIN: Duration = Duration::from_secs(60);
/// How much of what Node says in place of it is quoted, in characters.
const QUOTED_CHARS: usize = 200;

/// All answers to probes in the transcripts that a run has left in this directory, in the order of each session.
///
/// # Errors
/// In words, why they cannot be read.
pub async fn read(found: &Found, run_dir: &Path) -> Result<Vec<TurnTranscribed>, String> {
    let node = on_path(&found.path, "node").ok_or("there is no `node` on the search path of openclaw")?;
    let home = run_dir.join(HOME);
    let mut command = Command::new(node);
    surroundings::of_a_program(&mut command)
        .env("HOME", &home)
        .args(["-e", SCRIPT, "--"])
        .arg(home.join("state"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(READ_WITHIN, command.output())
        .await
        .map_err(|_| format!("not done within {} s", READ_WITHIN.as_secs()))?
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let complained = String::from_utf8_lossy(&output.stderr);
        let error = complained.lines().find(|line| line.contains("Error")).unwrap_or_default();
        let error: String = error.chars().filter(|c| !c.is_control()).take(QUOTED_CHARS).collect();
        return Err(format!("node ended with {}: {error}", output.status));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let turns: Result<_, serde_json::Error> = said.lines().map(serde_json::from_str).collect();
    turns.map_err(|error| format!("what they hold is not as expected: {error}"))
}
