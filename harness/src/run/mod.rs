//! A run: the world and the gateway are started, the conductor takes them through the plan, everything is
//! undone, and the reports are rendered from the journal alone.

mod at_gateway;
mod at_upstreams;
mod conductor;
mod conversation;
mod during;
mod enter;
mod from_pods;
mod in_cluster;
mod leave;
mod live;
mod mock_cluster;
mod preflight;
mod safety;
mod schedule;
mod serve;
mod stage;
mod stop;
mod target;
mod unjournaled;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use rand::RngExt;
use thiserror::Error;

use crate::environment::Environment;
use crate::gateway::config::ConfigError;
use crate::gateway::local::{Choice, ConfigSource, against};
use crate::journal::{Clock, Entry, Event, FILE_NAME, FORMAT, Journal, JournalError, RunStarted};
use crate::plan;
use crate::report;
use crate::scenario::Scenario;
use crate::units::Period;
use crate::verdict::result::RunResult;
pub use conversation::ClientChoice;
pub use schedule::{Schedule, schedule};
pub use serve::{ServeOptions, Serving, serve};
use stage::{Keys, Stage, panic_words, placeholder_urls, upstream_models};
pub use stop::Stop;
use stop::{CLUSTER_RESTORE_RESERVE, RESTORE_RESERVE};

/// Traffic before each injection, so that a baseline exists.
#[must_use]
pub fn lead(environment: &Environment) -> Period {
    Period::from_secs(if environment.is_local() { 3 } else { 10 })
}

/// What to run.
pub struct RunOptions {
    /// Where.
    pub environment: Environment,
    /// Which modes.
    pub scenarios: Vec<Scenario>,
    /// Which gateway.
    pub gateway: Choice,
    /// Which openclaw stands before it, if any.
    pub client: Option<ClientChoice>,
    /// Its configuration.
    pub config: ConfigSource,
    /// Directory of run directories.
    pub out: PathBuf,
    /// The whole run ends, restored, by then.
    pub deadline: Option<Duration>,
    /// Go on in a cluster although nobody would restore it if this program were lost.
    pub no_dead_man: bool,
    /// Cuts the run short.
    pub stop: Stop,
}

/// Someone who watches: gets every journal entry, and lines about what takes long.
pub trait Watcher: Send + Sync {
    /// A line was written to the journal.
    fn entry(&self, entry: &Entry);
    /// Something that takes long goes on.
    fn progress(&self, line: &str);
}

/// Why there is no run at all.
#[derive(Debug, Error)]
pub enum RunError {
    /// The run directory cannot be made.
    #[error("cannot make the run directory {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There can be no journal, and so no run: what earlier runs have left in the cluster was seen to all the same.
    #[error("{error}; so nothing was run, and of what earlier runs have left: {}", told.join("; "))]
    Unjournaled {
        /// Why there is no journal.
        error: Box<Self>,
        /// What was restored, what was not and why, in words.
        told: Vec<String>,
        /// What could not be undone.
        left: Vec<String>,
        /// What to end with where nothing is left: of a Job that has run before.
        exit_code: Option<u8>,
    },
    /// The journal broke off in the middle of the run.
    #[error("{error}; the run was given up and cannot be judged; {}", left_words(.left))]
    JournalLost {
        /// What happened to it.
        error: JournalError,
        /// What could not be undone.
        left: Vec<String>,
    },
    /// The gateway's configuration does not fit the environment.
    #[error("{name}: {source}")]
    Config {
        /// Which file.
        name: String,
        /// Why.
        source: ConfigError,
    },
    /// The environment names a key variable that is not set, or empty.
    #[error(
        "the environment `{environment}` takes the gateway's key from ${variable}, which is not set or empty"
    )]
    NoKey {
        /// Which environment.
        environment: String,
        /// Which variable.
        variable: String,
    },
    /// The reports cannot be rendered or written.
    #[error("{error}; {}", left_words(.left))]
    Report {
        /// Why.
        error: RenderError,
        /// What could not be undone.
        left: Vec<String>,
    },
}

fn left_words(left: &[String]) -> String {
    if left.is_empty() {
        "everything was undone".to_owned()
    } else {
        format!("not undone: {}", left.join("; "))
    }
}

/// Why a journal cannot be turned into reports.
#[derive(Debug, Error)]
pub enum RenderError {
    /// The journal cannot be read.
    #[error(transparent)]
    Read(#[from] crate::journal::ReadError),
    /// A report cannot be written.
    #[error("cannot write the reports to {path}: {source}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A finished run.
pub struct Finished {
    /// Its directory.
    pub dir: PathBuf,
    /// Judged.
    pub result: RunResult,
    /// What to end with, where that is not for this result to say: of a Job that has run before.
    pub exit_code: Option<u8>,
}

/// Run, undo, render.
///
/// # Errors
/// Only where not even a journal exists, or it cannot be rendered; whatever happens to the stack or to the
/// run is in the result.
pub async fn run(options: RunOptions, watcher: Arc<dyn Watcher>) -> Result<Finished, RunError> {
    // Fails here, before anything exists, where the configuration does not fit: a person's mistake.
    let source_error = |source| RunError::Config { name: options.config.name.clone(), source };
    let draft = if options.environment.is_local() {
        let draft = against(&options.config, &options.environment, &placeholder_urls(&options.environment));
        Some(draft.map_err(source_error)?)
    } else {
        None
    };
    let keys = Keys::of(&options.environment)?;
    let clock = Clock::starting_now();
    let started_at = Timestamp::now();
    let seed = rand::rng().random::<u32>().into();
    let plan = plan::resolve(&options.scenarios, &options.environment, lead(&options.environment), seed);
    let run_id = run_id(started_at);
    let dir = options.out.join(&run_id);
    let before = std::fs::read_link(options.out.join("latest")).ok().map(|name| options.out.join(name));
    if let Some(deadline) = options.deadline {
        let local = options.environment.is_local();
        options.stop.on_deadline(deadline, if local { RESTORE_RESERVE } else { CLUSTER_RESTORE_RESERVE });
    }
    let started = RunStarted {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: run_id.clone(),
        started_at: format!("{started_at:.3}"),
        // Only LiteLLM is asked for what a run in a cluster needs to know.
        gateway_kind: if draft.is_some() { options.gateway.word() } else { "litellm" }.to_owned(),
        gateway_config: draft.as_ref().map_or_else(
            || "its own".to_owned(),
            |draft| format!("{} (sha256 {})", options.config.name, &draft.sha256_of_source[..12]),
        ),
        upstream_models: draft.as_ref().map(upstream_models).unwrap_or_default(),
        environment: options.environment.clone(),
        plan: plan.clone(),
        made_with: machine(),
    };
    let (journal, broken) = match begin(&options.out, &dir, clock, &watcher, started) {
        Ok(journal) => (Arc::new(journal), None),
        Err(error) => (Arc::new(Journal::of_nothing(clock)), Some(error)),
    };
    let stage = Stage {
        journal: Arc::clone(&journal),
        options: &options,
        plan,
        draft,
        keys,
        run_id,
        dir: dir.clone(),
        watcher,
        left: OnceLock::new(),
        exit_code: OnceLock::new(),
        record: OnceLock::new(),
    };
    if let Some(error) = broken {
        return Err(stage.without_journal(error).await);
    }
    if let Some(text) =
        options.deadline.and_then(|deadline| schedule::too_short(deadline, &stage.plan, &options.environment))
    {
        stage.found(text);
    }
    // Faults are healed inside; here a panic of anything else still ends in a journal with an end.
    let ended = match AssertUnwindSafe(stage.play()).catch_unwind().await {
        Ok(ended) => ended,
        Err(panic) => stage.abort(&format!("panic: {}", panic_words(&*panic))),
    };
    journal.append(Event::RunEnded { ended, finished_at: format!("{:.3}", Timestamp::now()) });
    if let Some(error) = journal.error() {
        // What is on disk is not the whole story, so it is not judged; but what was undone is known here.
        return Err(RunError::JournalLost { error, left: stage.left.get().cloned().unwrap_or_default() });
    }
    let left = || stage.left.get().cloned().unwrap_or_default();
    let result = render(&dir).map_err(|error| RunError::Report { error, left: left() })?;
    if let (Some(_), Some(before)) = (stage.exit_code.get(), before)
        && before.join("result.json").exists()
    {
        // A Job whose run ended badly makes its pod again: what that one found is not what people look for.
        point_latest(&options.out, &before);
    }
    Ok(Finished { dir, result, exit_code: stage.exit_code.get().copied() })
}

/// Judge a run directory's journal and write its reports again.
///
/// # Errors
/// See [`RenderError`].
pub fn render(dir: &Path) -> Result<RunResult, RenderError> {
    let path = dir.join(FILE_NAME);
    let entries = crate::journal::read(&path)?;
    let facts = crate::analysis::gather(&entries)
        .ok_or_else(|| crate::journal::ReadError::NoStart { path: path.display().to_string() })?;
    let result = crate::verdict::judge(&facts);
    report::write(dir, &result, &crate::verdict::samples(&facts))
        .map_err(|source| RenderError::Write { path: dir.to_owned(), source })?;
    Ok(result)
}

fn run_id(started_at: Timestamp) -> String {
    let suffix: u32 = rand::rng().random_range(0..0x0100_0000);
    format!("{}-{suffix:06x}", started_at.strftime("%Y%m%dT%H%M%SZ"))
}

/// The run's directory, and its journal with the first line on disk.
fn begin(
    out: &Path,
    dir: &Path,
    clock: Clock,
    watcher: &Arc<dyn Watcher>,
    started: RunStarted,
) -> Result<Journal, RunError> {
    std::fs::create_dir_all(dir).map_err(|source| RunError::Directory { path: dir.to_owned(), source })?;
    let mut journal = Journal::create(&dir.join(FILE_NAME), clock)?;
    let observer = Arc::clone(watcher);
    journal.observe(move |entry| observer.entry(entry));
    journal.append_durably(Event::RunStarted(Box::new(started)))?;
    point_latest(out, dir);
    Ok(journal)
}

/// `latest` points at the newest run; a link that cannot be made loses nothing but comfort.
fn point_latest(out: &Path, dir: &Path) {
    let (latest, fresh) = (out.join("latest"), out.join(format!(".latest-{}", std::process::id())));
    let Some(name) = dir.file_name() else { return };
    let linked = std::os::unix::fs::symlink(name, &fresh).and_then(|()| std::fs::rename(&fresh, &latest));
    if let Err(error) = linked {
        let _ = std::fs::remove_file(&fresh);
        tracing::warn!("cannot point {} at the newest run: {error}", latest.display());
    }
}

fn machine() -> Vec<(String, String)> {
    let cores =
        std::thread::available_parallelism().map_or_else(|_| "unknown".into(), |cores| cores.to_string());
    let system = rustix::system::uname();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
    vec![
        (
            "system".to_owned(),
            format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy()),
        ),
        ("cores".to_owned(), cores),
        ("load at start".to_owned(), load),
        ("clock".to_owned(), "monotonic, wall clock anchored at the start".to_owned()),
    ]
}
