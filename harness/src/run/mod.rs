//! A run: the world and the gateway are started, the conductor takes them through the plan, everything is
//! undone, and the reports are rendered from the journal alone.

mod conductor;
mod enter;
mod leave;
mod live;
mod serve;
mod stop;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use mocks::profile::TimingKind;
use mocks::time::Epoch;
use mocks::upstream::{ComponentOptions, Dialect};
use mocks::world::{World, WorldOptions};
use rand::RngExt;
use thiserror::Error;

use crate::environment::{Environment, Kind, Profile};
use crate::gateway::config::{ConfigError, LocalConfig};
use crate::gateway::litellm::warm_up::{MAX_TOKENS, REQUESTS_EACH, WarmUpStatus, warm_up};
use crate::gateway::local::{Choice, ConfigSource, Gateway, against, speaks_ollama};
use crate::gateway::secret::Secret;
use crate::journal::{
    Clock, Entry, Event, FILE_NAME, FORMAT, GatewayStarted, Journal, JournalError, RunStarted, WarmUp,
};
use crate::plan::{self, Budget, Plan};
use crate::probe::Prober;
use crate::report;
use crate::scenario::Scenario;
use crate::units::Period;
use crate::verdict::result::{Ended, RunResult};
use conductor::{Conductor, Cut, Means};
pub use serve::{ServeOptions, Serving, serve};
pub use stop::Stop;
use target::{Embedded, EmbeddedComponent};

/// Traffic before each injection in a local run.
pub const LEAD: Period = Period(Duration::from_secs(3));

/// What one warm-up request may cost.
const WARM_UP_TOKENS: u64 = plan::PROMPT_TOKENS + MAX_TOKENS;

/// What to run.
pub struct RunOptions {
    /// Where.
    pub environment: Environment,
    /// Which modes.
    pub scenarios: Vec<Scenario>,
    /// Which gateway.
    pub gateway: Choice,
    /// Its configuration.
    pub config: ConfigSource,
    /// Directory of run directories.
    pub out: PathBuf,
    /// The whole run ends, restored, by then.
    pub deadline: Option<Duration>,
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
    /// The environment names a key variable that is not set.
    #[error("the environment `{environment}` takes the gateway's key from ${variable}, which is not set")]
    NoKey {
        /// Which environment.
        environment: String,
        /// Which variable.
        variable: String,
    },
    /// The reports cannot be rendered or written.
    #[error(transparent)]
    Report(#[from] RenderError),
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
}

/// Run, undo, render.
///
/// # Errors
/// Only where not even a journal exists, or it cannot be rendered; whatever happens to the stack or to the
/// run is in the result.
pub async fn run(options: RunOptions, watcher: Arc<dyn Watcher>) -> Result<Finished, RunError> {
    // Fails here, before anything exists, where the configuration does not fit: a person's mistake.
    let source_error = |source| RunError::Config { name: options.config.name.clone(), source };
    let draft = against(&options.config, &options.environment, &placeholder_urls(&options.environment));
    let draft = draft.map_err(source_error)?;
    let keys = Keys::of(&options.environment)?;
    let clock = Clock::starting_now();
    let started_at = Timestamp::now();
    let seed = rand::rng().random::<u32>().into();
    let plan = plan::resolve(&options.scenarios, &options.environment, LEAD, seed);
    let (run_id, dir) = run_directory(&options.out, started_at)?;
    let mut journal = Journal::create(&dir.join(FILE_NAME), clock)?;
    point_latest(&options.out, &dir);
    let observer = Arc::clone(&watcher);
    journal.observe(move |entry| observer.entry(entry));
    let journal = Arc::new(journal);
    journal.append_durably(Event::RunStarted(Box::new(RunStarted {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        run_id,
        started_at: format!("{started_at:.3}"),
        gateway_kind: options.gateway.word().to_owned(),
        gateway_config: format!("{} (sha256 {})", options.config.name, &draft.sha256_of_source[..12]),
        upstream_models: upstream_models(&draft),
        environment: options.environment.clone(),
        plan: plan.clone(),
        made_with: machine(),
    })))?;
    if let Some(deadline) = options.deadline {
        options.stop.on_deadline(deadline);
    }
    let stage = Stage {
        journal: Arc::clone(&journal),
        options: &options,
        plan,
        draft,
        keys,
        dir: dir.clone(),
        watcher,
        left: OnceLock::new(),
    };
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
    let result = render(&dir)?;
    Ok(Finished { dir, result })
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

/// Everything between the first and the last line of the journal.
struct Stage<'a> {
    journal: Arc<Journal>,
    options: &'a RunOptions,
    plan: Plan,
    draft: LocalConfig,
    keys: Keys,
    dir: PathBuf,
    watcher: Arc<dyn Watcher>,
    /// What could not be undone, once that is known.
    left: OnceLock<Vec<String>>,
}

impl Stage<'_> {
    async fn play(&self) -> Ended {
        let world = match self.start_world().await {
            Ok(world) => Arc::new(world),
            Err(error) => return self.refuse(&format!("the mock world did not start: {error}")),
        };
        let ended = self.play_in(&world).await;
        world.shutdown().await;
        ended
    }

    async fn play_in(&self, world: &Arc<World>) -> Ended {
        let environment = &self.options.environment;
        let urls =
            environment.components.keys().filter_map(|name| Some((name.clone(), world.base_url(name)?)));
        let config = match against(&self.options.config, environment, &urls.collect()) {
            Ok(config) => config,
            Err(error) => return self.refuse(&error.to_string()),
        };
        let mut progress = |line: &str| self.watcher.progress(line);
        let start = Gateway::start(
            &self.options.gateway,
            &config,
            &self.keys.master,
            &self.dir,
            self.plan.seed,
            &mut progress,
        );
        let gateway = tokio::select! {
            // Dropping the start kills what it has started.
            () = self.options.stop.token().cancelled() => return self.interrupted(),
            started = start => match started {
                Ok(gateway) => gateway,
                Err(error) => return self.refuse(&error.to_string()),
            },
        };
        self.journal.append(Event::GatewayStarted(GatewayStarted {
            version: gateway.version.clone(),
            unsupported: gateway.unsupported.clone(),
            adapted: config.warnings.clone(),
        }));
        let ended = self.conduct(world, &gateway).await;
        if let Err(error) = gateway.stop().await {
            self.journal.append(Event::Found { text: error.to_string() });
        }
        ended
    }

    async fn conduct(&self, world: &Arc<World>, gateway: &Gateway) -> Ended {
        let budgets = tokio::select! {
            () = self.options.stop.token().cancelled() => return self.interrupted(),
            left = self.warm_up(gateway) => left,
        };
        let prober = match Prober::new(&gateway.url, self.keys.probes.clone(), self.journal.clock()) {
            Ok(prober) => prober,
            Err(error) => return self.refuse(&error.to_string()),
        };
        let client = match crate::http::loopback_client().pool_max_idle_per_host(0).build() {
            Ok(client) => client,
            Err(error) => return self.refuse(&format!("no HTTP client for the witness: {error}")),
        };
        let means = Means {
            target: Embedded::new(Arc::clone(world), components(&self.draft, &self.options.environment)),
            prober,
            client,
            budgets,
        };
        let mut conductor = Conductor::new(
            Arc::clone(&self.journal),
            self.plan.clone(),
            self.options.environment.clone(),
            self.options.stop.clone(),
            means,
        );
        let outcome = AssertUnwindSafe(conductor.run()).catch_unwind().await;
        let (restored, left) = conductor.restore().await;
        let _ = self.left.set(left.clone());
        self.journal.append(Event::RestoreEnded { restored, left });
        conductor.journal_calls(true);
        match outcome {
            Ok(Ok(())) => Ended::Completed,
            Ok(Err(Cut::Stopped)) => self.interrupted(),
            Ok(Err(Cut::Journal(error))) => self.abort(&error.to_string()),
            Ok(Err(Cut::System(error))) => self.abort(&error.to_string()),
            Err(panic) => self.abort(&format!("panic: {}", panic_words(&*panic))),
        }
    }

    /// Loads the gateway's lazy parts: each route's own model, and one alias of each further protocol. A
    /// model that loads on its first call stays cold, as it would be in an outage. Counts against the
    /// ceilings like everything else that is sent; what is left of them is returned.
    async fn warm_up(&self, gateway: &Gateway) -> BTreeMap<String, Budget> {
        let environment = &self.options.environment;
        let mut protocols = BTreeSet::new();
        let mut aliases: Vec<String> = environment.routes.values().map(|route| route.model.clone()).collect();
        protocols.extend(aliases.iter().map(|alias| speaks_ollama(&self.draft, alias)));
        for alias in environment.components.values().flat_map(|component| &component.aliases) {
            if protocols.insert(speaks_ollama(&self.draft, alias)) {
                aliases.push(alias.clone());
            }
        }
        let mut budgets = Budget::all(environment);
        aliases.retain(|alias| {
            let component = plan::component_of(alias, environment);
            let Some(budget) = component.and_then(|component| budgets.get_mut(component)) else {
                return true;
            };
            (0..REQUESTS_EACH).all(|_| budget.spend(WARM_UP_TOKENS))
        });
        let requests = warm_up(&gateway.url, &self.keys.probes, &aliases).await;
        let requests = requests.into_iter().map(|request| WarmUp {
            alias: request.alias,
            streamed: request.stream,
            status: match request.status {
                WarmUpStatus::Answered(status) => Some(status),
                WarmUpStatus::TimedOut | WarmUpStatus::Failed(_) => None,
            },
            took_ms: request.ms as f64,
        });
        self.journal.append(Event::WarmedUp { requests: requests.collect() });
        budgets
    }

    async fn start_world(&self) -> std::io::Result<World> {
        let environment = &self.options.environment;
        World::start(world_options(&self.draft, environment, self.journal.clock(), self.plan.seed)).await
    }

    fn refuse(&self, reason: &str) -> Ended {
        self.journal.append(Event::Refused { reason: reason.to_owned() });
        Ended::Refused
    }

    fn abort(&self, cause: &str) -> Ended {
        self.journal.append(Event::Aborted { cause: cause.to_owned() });
        Ended::Aborted
    }

    fn interrupted(&self) -> Ended {
        let cause = self.options.stop.cause().unwrap_or("an unknown cause").to_owned();
        self.journal.append(Event::Interrupted { cause });
        Ended::Interrupted
    }
}

/// The mock world of an environment, serving the models of a configuration.
fn world_options(config: &LocalConfig, environment: &Environment, clock: Clock, seed: u64) -> WorldOptions {
    let Kind::Embedded { profile } = &environment.kind;
    let profile = match profile {
        Profile::Realistic => mocks::profile::Profile::realistic(),
        Profile::Fast => mocks::profile::Profile::fast(),
    };
    let members = components(config, environment).into_iter().map(|(name, component)| ComponentOptions {
        timing: match name.as_str() {
            "vllm" => TimingKind::Vllm,
            "ollama" => TimingKind::Ollama,
            _ => TimingKind::Cloud,
        },
        dialect: component.dialect,
        models: component.models.into_values().collect(),
        name,
    });
    WorldOptions { epoch: Epoch::from_instant(clock.zero()), seed, profile, components: members.collect() }
}

/// Before the world has ports; only the models are of interest then.
fn placeholder_urls(environment: &Environment) -> BTreeMap<String, String> {
    environment.components.keys().map(|name| (name.clone(), "http://127.0.0.1:9".to_owned())).collect()
}

/// Who presents which key.
struct Keys {
    /// What a gateway that the run starts asks for.
    master: Secret,
    /// What probes present.
    probes: Secret,
}

impl Keys {
    /// Made up for the run, unless the environment names the variable that holds the callers' key: then
    /// the gateway takes its own from `LITELLM_MASTER_KEY`, as everywhere, and the two may differ.
    fn of(environment: &Environment) -> Result<Self, RunError> {
        let Some(variable) = &environment.gateway.key_env else {
            let key = Secret::random();
            return Ok(Self { master: key.clone(), probes: key });
        };
        let probes = std::env::var(variable).map(Secret::new).map_err(|_| RunError::NoKey {
            environment: environment.name.clone(),
            variable: variable.clone(),
        })?;
        let master = std::env::var("LITELLM_MASTER_KEY").map_or_else(|_| Secret::random(), Secret::new);
        Ok(Self { master, probes })
    }
}

fn upstream_models(config: &LocalConfig) -> BTreeMap<String, String> {
    let pairs = config.upstream_models.iter();
    pairs.flat_map(|(alias, models)| models.iter().map(|model| (model.clone(), alias.clone()))).collect()
}

fn components(config: &LocalConfig, environment: &Environment) -> BTreeMap<String, EmbeddedComponent> {
    let mut components = BTreeMap::new();
    for (name, component) in &environment.components {
        let models = component.aliases.iter().filter_map(|alias| {
            let model = config.upstream_models.get(alias)?.first()?;
            Some((alias.clone(), model.clone()))
        });
        let ollama = component.aliases.iter().any(|alias| speaks_ollama(config, alias));
        let dialect = if ollama { Dialect::Ollama } else { Dialect::OpenAi };
        components.insert(name.clone(), EmbeddedComponent { dialect, models: models.collect() });
    }
    components
}

fn run_directory(out: &Path, started_at: Timestamp) -> Result<(String, PathBuf), RunError> {
    let suffix: u32 = rand::rng().random_range(0..0x0100_0000);
    let run_id = format!("{}-{suffix:06x}", started_at.strftime("%Y%m%dT%H%M%SZ"));
    let dir = out.join(&run_id);
    match std::fs::create_dir_all(&dir) {
        Ok(()) => Ok((run_id, dir)),
        Err(source) => Err(RunError::Directory { path: dir, source }),
    }
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

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}
