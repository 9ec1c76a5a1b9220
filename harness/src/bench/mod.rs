//! The bench: is what the harness measures true, and what does it cost?
//!
//! Outages of known length, made by a truth server on another core, go through the pacer, the prober, the witness, the
//! journal, the analysis and the verdict of every run. Each row is compared with what really happened, or with what
//! other tools say of the same server.

mod accuracy;
mod disturbed;
mod event;
mod gateway;
mod job;
mod load;
mod peers;
mod score;
mod table;
mod truth;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use job::job;
pub use table::{Row, Table};

use crate::journal::{JournalError, ReadError};

/// Why the bench cannot go on.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The system refused something.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// A journal cannot be written.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// A journal cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The truth server does not do what it must.
    #[error("the truth server: {0}")]
    Truth(String),
    /// A client cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Http(String),
    /// A part of the bench that is a process of its own failed.
    #[error("{part}: {why}")]
    Part {
        /// Which.
        part: String,
        /// Why.
        why: String,
    },
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Little of everything.
    Quick,
    /// So many outages.
    Full(usize),
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much.
    pub size: Size,
    /// Only these rows; all where none is named.
    pub rows: Vec<String>,
}

/// The rows that there are, by what is measured together.
pub const ROWS: [&str; 10] = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9", "peers", "gateway"];

/// Measure.
///
/// # Errors
/// When something that it works with cannot be set up.
pub async fn bench(options: &Options) -> Result<Table, BenchError> {
    let begun = std::time::Instant::now();
    let before = load();
    let folder = Folder::new()?;
    let wants = |rows: &[&str]| {
        options.rows.is_empty() || options.rows.iter().any(|row| rows.contains(&row.as_str()))
    };
    let mut rows = Vec::new();
    if wants(&["B1", "B2", "B4", "B9"]) {
        let truth = truth::TruthServer::start(other_core())?;
        rows.extend(accuracy::rows(options.size, &truth, &folder.0).await?);
    }
    if wants(&["B3"]) {
        rows.extend(disturbed::rows(options.size).await?);
    }
    if wants(&["B5", "B6", "B7"]) {
        rows.extend(load::rows(options.size, &folder.0).await?);
    }
    if wants(&["peers"]) {
        rows.extend(peers::rows(options.size, &folder.0).await?);
    }
    if wants(&["gateway"]) {
        rows.extend(gateway::rows(options.size).await?);
    }
    rows.sort_by(|a, b| a.row.cmp(&b.row));
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let size = match options.size {
        Size::Quick => "quick".to_owned(),
        Size::Full(events) => format!("{events} outages"),
    };
    Ok(Table {
        host: host(),
        build: format!("{build}, {size}"),
        load: (before, load()),
        took_s: begun.elapsed().as_secs_f64(),
        rows,
    })
}

/// A part of the bench as a process of its own: what it measures goes to stdout.
///
/// # Errors
/// When it cannot be done.
pub fn part(name: &str, cpu: Option<usize>, given: &str) -> Result<(), BenchError> {
    if let Some(cpu) = cpu {
        stay_on(cpu)?;
    }
    match name {
        "truth" => Ok(truth::serve()?),
        "load" => load::part(given),
        "outage" => disturbed::part(given),
        "burn" => burn(),
        other => Err(BenchError::Part { part: other.to_owned(), why: "there is no such part".to_owned() }),
    }
}

/// Where this process runs from now on, with all the threads that it starts.
fn stay_on(cpu: usize) -> std::io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Takes a core until it is killed, or until whoever started it is gone.
fn burn() -> Result<(), BenchError> {
    let parent = rustix::process::getppid();
    let mut sum = 0_u64;
    while rustix::process::getppid() == parent {
        for number in 0..10_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(number));
        }
    }
    Ok(())
}

/// The cores that this process may use: the first is the client's, the second, where there is one, the truth server's.
fn allowed_cores() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None);
    set.map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
        .unwrap_or_default()
}

/// The core of the client, where the truth server has one of its own.
fn first_core() -> Option<usize> {
    allowed_cores().get(..2).map(|two| two[0])
}

/// The core of the truth server, where there is more than one.
fn other_core() -> Option<usize> {
    allowed_cores().get(1).copied()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}

fn host() -> String {
    let name = rustix::system::uname();
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let (system, release) = (name.sysname().to_string_lossy(), name.release().to_string_lossy());
    format!("{} cores of {model}, {system} {release}", cores())
}

/// A folder that goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let name = format!("harness-bench-{}-{}", std::process::id(), mocks::truth::monotonic_us());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// Run a part of the bench in a process of its own on the first core.
async fn in_part(name: &str, given: &str, path: Option<&Path>) -> Result<tokio::process::Child, BenchError> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg("bench-part");
    command.args(first_core().filter(|_| name == "load").map(|cpu| format!("--cpu={cpu}")));
    command.arg(name).arg(given).kill_on_drop(true);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    if let Some(path) = path {
        command.current_dir(path);
    }
    Ok(command.spawn()?)
}

/// What a part says in the end.
async fn said<T: serde::de::DeserializeOwned>(
    name: &str,
    child: tokio::process::Child,
) -> Result<T, BenchError> {
    let out = child.wait_with_output().await?;
    let failed = |why: String| BenchError::Part { part: name.to_owned(), why };
    if !out.status.success() {
        return Err(failed(format!("ended with {}", out.status)));
    }
    serde_json::from_slice(&out.stdout).map_err(|error| failed(error.to_string()))
}
