//! The life of one LiteLLM process: started under a guard, awaited, watched, stopped.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::guarded::{GuardError, Guarded, Guarding};
use super::log_follow::follow;
use super::log_tail::{log_mentions, log_tail};
use super::surroundings::INHERITED;
use super::{find, readiness};
use crate::gateway::config::{LocalConfig, MASTER_KEY_VARIABLE};
use crate::gateway::secret::Secret;

/// File in the run directory that LiteLLM reads. JSON, which is YAML.
pub const CONFIG_FILE: &str = "litellm-config.yaml";
/// File in the run directory with everything that LiteLLM printed.
pub const LOG_FILE: &str = "litellm.log";
/// How long LiteLLM may take to become ready unless told otherwise: it imports for 5 to 20 seconds.
pub const READY_WITHIN: Duration = Duration::from_secs(120);

/// Free ports tried: between choosing one and LiteLLM binding it another process may take it.
const PORT_ATTEMPTS: u32 = 3;
/// LiteLLM's default port, the only one which, when taken, it silently replaces by another.
const PORT_REPLACED: u16 = 4000;
/// What LiteLLM's server prints when its port is taken.
const PORT_TAKEN: &str = "address already in use";
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Parts of variable names that are not passed on even if the configuration refers to them: they steer where
/// LiteLLM and its libraries connect to.
const NEVER_PASSED: [&str; 5] = ["PROXY", "DATABASE", "REDIS", "LITELLM_", "PYTHON"];

/// How much LiteLLM logs. There is no level below: debug logs hold whole requests with their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Access lines and errors: a failover that succeeds leaves no trace.
    #[default]
    Normal,
    /// Each attempt and hop as well, which attribution can read.
    Info,
}

/// How to start LiteLLM.
#[derive(Debug)]
pub struct StartOptions<'a> {
    /// Its executable as an absolute path, see [`find::find`].
    pub bin: &'a Path,
    /// What it serves.
    pub config: &'a LocalConfig,
    /// The master key that it asks callers for.
    pub key: &'a Secret,
    /// An existing directory for [`CONFIG_FILE`] and [`LOG_FILE`]; also its working directory.
    pub run_dir: &'a Path,
    /// The guard's command line, to which LiteLLM's is added: [`own_guard`].
    pub guard: Vec<OsString>,
    /// How long it may take to become ready, all attempts together: [`READY_WITHIN`].
    pub ready_within: Duration,
    /// How much it logs.
    pub log_level: LogLevel,
}

/// Why LiteLLM is not running. Quotes of the log hold no key.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The run directory cannot be used.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The executable does not tell its version, so it is no LiteLLM that works.
    #[error(transparent)]
    Version(#[from] find::VersionError),
    /// No loopback port is to be had.
    #[error("no free port on 127.0.0.1: {0}")]
    NoPort(io::Error),
    /// The guard did not start.
    #[error("cannot start the guard {command}: {source}")]
    Guard {
        /// The guard's executable.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// The client for the readiness questions cannot be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(reqwest::Error),
    /// LiteLLM ended before it was ready.
    #[error("LiteLLM ended before it was ready ({ended}); the end of its log:\n{log}")]
    Ended {
        /// How it ended.
        ended: String,
        /// The last lines of its log.
        log: String,
    },
    /// LiteLLM was not ready in time; it has been stopped.
    #[error("LiteLLM was not ready within {within_s} s (last: {last_seen}); the end of its log:\n{log}")]
    NotReady {
        /// The bound, seconds.
        within_s: u64,
        /// What the last question to it gave.
        last_seen: String,
        /// The last lines of its log.
        log: String,
    },
}

/// LiteLLM is still there after SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("LiteLLM (process group {pid}) could not be stopped; end it with `kill -9 -- -{pid}`")]
pub struct StopError {
    /// Its process id, which is its process group's too.
    pub pid: u32,
}

/// A LiteLLM that was ready once. Dropping it kills it; [`LiteLlm::stop`] is the orderly way.
#[derive(Debug)]
pub struct LiteLlm {
    process: Guarded,
    port: u16,
    version: String,
    log: PathBuf,
    /// Reads the log for somebody.
    following: Option<AbortOnDropHandle<()>>,
}

/// The guard's command line when this program is the harness: itself, with its hidden subcommand.
///
/// # Errors
/// When the path of this program is unknown.
pub fn own_guard() -> io::Result<Vec<OsString>> {
    Ok(vec![std::env::current_exe()?.into_os_string(), "supervise".into(), "--".into()])
}

impl LiteLlm {
    /// Starts LiteLLM and waits until it answers on its port and lists every alias of its configuration.
    /// Dropping the future kills what it has started.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start(options: StartOptions<'_>) -> Result<Self, StartError> {
        let deadline = Instant::now() + options.ready_within;
        let run_dir = std::path::absolute(options.run_dir)
            .map_err(|source| StartError::Write { path: options.run_dir.to_owned(), source })?;
        let version = find::version(options.bin).await?;
        let config_path = run_dir.join(CONFIG_FILE);
        let config = format!("{:#}\n", options.config.value);
        std::fs::write(&config_path, config)
            .map_err(|source| StartError::Write { path: config_path.clone(), source })?;
        let client = readiness::client().map_err(StartError::Client)?;
        let log = run_dir.join(LOG_FILE);
        let mut attempt = 1;
        loop {
            let port = free_port().map_err(StartError::NoPort)?;
            let process = spawn(&options, &run_dir, port).await?;
            let (version, log_path) = (version.clone(), log.clone());
            let mut litellm = Self { process, port, version, log: log_path, following: None };
            let error = match litellm.ready(&client, &options, deadline, &log).await {
                Ok(()) => return Ok(litellm),
                Err(error) => error,
            };
            // What cannot be stopped is beyond us here; the error that led here says more.
            let _ = litellm.stop().await;
            let clash = matches!(error, StartError::Ended { .. }) && log_mentions(&log, PORT_TAKEN);
            if !clash || attempt == PORT_ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// Its address: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its version, as installed.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its process id, which is the id of its process group too.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether its process is still there.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Resolves once it has ended, with how: a status line for a person. Independent of `self`'s borrow, so that
    /// it can be awaited beside other work.
    pub fn ended(&self) -> impl Future<Output = String> + Send + 'static {
        self.process.ended()
    }

    /// From now on `sink` gets each line that it prints, with the client that the line names, until it is stopped.
    pub fn log_to(&mut self, sink: impl Fn(Option<SocketAddr>, &str) + Send + Sync + 'static) {
        self.following = Some(AbortOnDropHandle::new(tokio::spawn(follow(&self.log, sink))));
    }

    /// Stops it: SIGTERM, SIGKILL if need be, and a look whether it is gone. Takes at most seven seconds.
    ///
    /// # Errors
    /// When it is still there.
    pub async fn stop(mut self) -> Result<(), StopError> {
        let gone = self.process.stop().await;
        if gone { Ok(()) } else { Err(StopError { pid: self.pid() }) }
    }

    async fn ready(
        &mut self,
        client: &reqwest::Client,
        options: &StartOptions<'_>,
        deadline: Instant,
        log: &Path,
    ) -> Result<(), StartError> {
        let url = self.url();
        let aliases: BTreeSet<_> = options.config.upstream_models.keys().map(String::as_str).collect();
        let mut last_seen = "nothing".to_owned();
        let poll = async {
            while let Err(seen) = readiness::ask(client, &url, options.key, &aliases).await {
                last_seen = seen;
                sleep(POLL_INTERVAL).await;
            }
        };
        let ended = tokio::select! {
            () = poll => return Ok(()),
            ended = self.ended() => Some(ended),
            () = tokio::time::sleep_until(deadline) => None,
        };
        let log = log_tail(log, &secrets(options));
        Err(match ended {
            Some(ended) => StartError::Ended { ended, log },
            None => StartError::NotReady { within_s: options.ready_within.as_secs(), last_seen, log },
        })
    }
}

async fn spawn(options: &StartOptions<'_>, run_dir: &Path, port: u16) -> Result<Guarded, StartError> {
    let log = run_dir.join(LOG_FILE);
    let mut command = vec![OsString::from(options.bin)];
    command.extend(["--host", "127.0.0.1", "--num_workers", "1", "--port"].map(OsString::from));
    command.extend([
        port.to_string().into(),
        OsString::from("--config"),
        run_dir.join(CONFIG_FILE).into_os_string(),
    ]);
    let guarding = Guarding {
        guard: &options.guard,
        command,
        directory: run_dir,
        log: &log,
        environment: environment(options),
    };
    Guarded::spawn(guarding).await.map_err(|error| match error {
        GuardError::Log(source) => StartError::Write { path: log.clone(), source },
        GuardError::Guard { command, source } => StartError::Guard { command, source },
        GuardError::Ended(ended) => StartError::Ended { ended, log: log_tail(&log, &secrets(options)) },
    })
}

fn free_port() -> io::Result<u16> {
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if port != PORT_REPLACED {
            return Ok(port);
        }
    }
}

/// Variables that the configuration refers to and LiteLLM gets.
fn referenced(options: &StartOptions<'_>) -> impl Iterator<Item = String> {
    let names = options.config.environment_variables().into_iter();
    names.filter(|name| !NEVER_PASSED.iter().any(|part| name.to_ascii_uppercase().contains(part)))
}

/// All that LiteLLM knows and its log may not show: its key, and what the configuration takes from variables.
fn secrets(options: &StartOptions<'_>) -> Vec<Secret> {
    let passed = referenced(options).filter_map(|name| Secret::of_variable(&name));
    std::iter::once(options.key.clone()).chain(passed).collect()
}

/// LiteLLM's whole environment.
fn environment(options: &StartOptions<'_>) -> Vec<(OsString, OsString)> {
    let inherited = INHERITED.iter().map(|name| (*name).to_owned());
    let mut environment: Vec<(OsString, OsString)> = inherited
        .chain(referenced(options))
        .filter_map(|name| Some((OsString::from(&name), std::env::var_os(&name)?)))
        .collect();
    let mut set = |name: &str, value: &str| environment.push((name.into(), value.into()));
    set(MASTER_KEY_VARIABLE, options.key.expose());
    if let Some(keep_idle) = options.config.keep_idle {
        set("AIOHTTP_KEEPALIVE_TIMEOUT", &keep_idle.as_secs().max(1).to_string());
    }
    // Bundled tables instead of downloads.
    set("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    set("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True");
    set("LITELLM_LOCAL_AUTOROUTER_PRESETS", "True");
    set("LITELLM_LOCAL_BLOG_POSTS", "True");
    set("LITELLM_LOCAL_POLICY_TEMPLATES", "True");
    set("LITELLM_TELEMETRY", "False");
    set("HF_HUB_OFFLINE", "1");
    set("DO_NOT_TRACK", "1");
    // No `.env` file from a directory above its installation.
    set("LITELLM_MODE", "PRODUCTION");
    set("PYTHON_DOTENV_DISABLED", "1");
    // It asks the default Ollama about each Ollama model; port 1 keeps it away from a real one on this machine.
    set("OLLAMA_API_BASE", "http://127.0.0.1:1");
    set("NO_PROXY", "*");
    set("no_proxy", "*");
    set("PYTHONNOUSERSITE", "1");
    set("PYTHONUNBUFFERED", "1");
    if options.log_level == LogLevel::Info {
        set("LITELLM_LOG", "INFO");
    }
    environment
}
