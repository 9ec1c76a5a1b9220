//! The life of one openclaw gateway: its home made, started under a guard, awaited, warmed up, stopped.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::config::{Agents, Retries};
use super::find::Found;
use crate::gateway::litellm::guarded::{GuardError, Guarded, Guarding};
use crate::gateway::litellm::log_tail::{log_mentions, log_tail};
use crate::gateway::secret::Secret;

/// Folder in the run directory that is openclaw's home: its configuration, its sessions, its own log.
pub const HOME: &str = "openclaw";
/// File in the run directory with everything that openclaw printed.
pub const LOG_FILE: &str = "openclaw.log";
/// What openclaw's processes load first: nothing beyond this machine is there for them.
pub const LOOPBACK_ONLY: &str = include_str!("loopback.cjs");
/// How long openclaw may take to become ready: 8 to 25 s were measured.
pub const READY_WITHIN: Duration = Duration::from_secs(120);

/// Free ports tried: between choosing one and openclaw binding it another process may take it.
const PORT_ATTEMPTS: u32 = 3;
/// What openclaw prints when its port is taken.
const PORT_TAKEN: &str = "already";
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bound on the turn that is discarded: the first one of a start takes about 12 s.
const WARM_UP_WITHIN: Duration = Duration::from_secs(60);

/// Variables that openclaw gets from the harness's own environment. None of them names a service.
const INHERITED: [&str; 4] = ["LANG", "LC_ALL", "TZ", "USER"];

/// How to start openclaw.
pub struct StartOptions<'a> {
    /// Which.
    pub found: &'a Found,
    /// Its models.
    pub agents: &'a Agents,
    /// How it retries.
    pub retries: Retries,
    /// Where it reaches the gateway, without `/v1`.
    pub gateway_url: &'a str,
    /// The gateway's key.
    pub gateway_key: &'a Secret,
    /// The Bot API and the bot's token, where people write over Telegram.
    pub telegram: Option<(&'a str, &'a Secret)>,
    /// An existing directory for [`HOME`] and [`LOG_FILE`].
    pub run_dir: &'a Path,
    /// The guard's command line, to which openclaw's is added.
    pub guard: Vec<OsString>,
    /// How long it may take to become ready, all attempts together.
    pub ready_within: Duration,
}

/// Why openclaw is not running. Quotes of the log hold no key.
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
    /// openclaw ended before it was ready.
    #[error("openclaw ended before it was ready ({ended}); the end of its log:\n{log}")]
    Ended {
        /// How it ended.
        ended: String,
        /// The last lines of its log.
        log: String,
    },
    /// openclaw was not ready in time; it has been stopped.
    #[error("openclaw was not ready within {within_s} s (last: {last_seen}); the end of its log:\n{log}")]
    NotReady {
        /// The bound, seconds.
        within_s: u64,
        /// What the last question to it gave.
        last_seen: String,
        /// The last lines of its log.
        log: String,
    },
}

/// openclaw is still there after SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("openclaw (process group {pid}) could not be stopped; end it with `kill -9 -- -{pid}`")]
pub struct StopError {
    /// Its process id, which is its process group's too.
    pub pid: u32,
}

/// An openclaw gateway that was ready once. Dropping it kills it; [`OpenClaw::stop`] is the orderly way.
#[derive(Debug)]
pub struct OpenClaw {
    process: Guarded,
    port: u16,
    token: Secret,
    hooks_token: Secret,
}

impl OpenClaw {
    /// Makes its home, starts it and waits until it says that it is ready. Dropping the future kills what it has started.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start(options: StartOptions<'_>) -> Result<Self, StartError> {
        let deadline = Instant::now() + options.ready_within;
        let run_dir = std::path::absolute(options.run_dir)
            .map_err(|source| StartError::Write { path: options.run_dir.to_owned(), source })?;
        let client =
            crate::http::loopback_client().timeout(POLL_TIMEOUT).build().map_err(StartError::Client)?;
        let (token, hooks_token) = (Secret::random(), Secret::random());
        let mut attempt = 1;
        loop {
            let port = free_port().map_err(StartError::NoPort)?;
            let home = Home::make(&run_dir, &options, port)?;
            let secrets = secrets(&options, &token, &hooks_token);
            let process = home.spawn(&options, &token, &hooks_token, &secrets).await?;
            let mut openclaw = Self { process, port, token: token.clone(), hooks_token: hooks_token.clone() };
            let error = match openclaw.ready(&client, &options, deadline, &home.log, &secrets).await {
                Ok(()) => return Ok(openclaw),
                Err(error) => error,
            };
            // What cannot be stopped is beyond us here; the error that led here says more.
            let _ = openclaw.process.stop().await;
            let clash = matches!(error, StartError::Ended { .. }) && log_mentions(&home.log, PORT_TAKEN);
            if !clash || attempt == PORT_ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// Its address: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What its HTTP API asks for: full access to everything that it can do.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// What its hooks ask for.
    #[must_use]
    pub fn hooks_token(&self) -> &Secret {
        &self.hooks_token
    }

    /// Its process id, which is the id of its process group too.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether its process is still there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// One turn that is thrown away: the first one loads what later ones find. Its status, if there was one, and how
    /// long it took.
    pub async fn warm_up(&self) -> (Option<u16>, Duration) {
        let begun = Instant::now();
        let status = async {
            let client = crate::http::loopback_client().timeout(WARM_UP_WITHIN).build().ok()?;
            let body = json!({ "model": super::AGENT, "messages": [{ "role": "user", "content": "warm-up [purpose:warm-up]" }] });
            let answer = client
                .post(format!("{}/v1/chat/completions", self.url()))
                .header("authorization", format!("Bearer {}", self.token.expose()))
                .header("content-type", "application/json")
                .body(body.to_string())
                .send()
                .await
                .ok()?;
            let status = answer.status().as_u16();
            answer.bytes().await.ok()?;
            Some(status)
        };
        (status.await, begun.elapsed())
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
        secrets: &[Secret],
    ) -> Result<(), StartError> {
        let page = format!("{}/readyz", self.url());
        let mut last_seen = "nothing".to_owned();
        let poll = async {
            while let Err(seen) = ask(client, &page).await {
                last_seen = seen;
                sleep(POLL_INTERVAL).await;
            }
        };
        let ended = tokio::select! {
            () = poll => return Ok(()),
            ended = self.process.ended() => Some(ended),
            () = tokio::time::sleep_until(deadline) => None,
        };
        let log = log_tail(log, secrets);
        Err(match ended {
            Some(ended) => StartError::Ended { ended, log },
            None => StartError::NotReady { within_s: options.ready_within.as_secs(), last_seen, log },
        })
    }
}

/// Asks once; `Err` says what was seen instead of a gateway that is ready.
async fn ask(client: &reqwest::Client, page: &str) -> Result<(), String> {
    let answer = client.get(page).send().await.map_err(|error| crate::probe::classify(&error).to_owned())?;
    let status = answer.status().as_u16();
    let body = answer.bytes().await.map_err(|error| crate::probe::classify(&error).to_owned())?;
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    if said["ready"] == json!(true) { Ok(()) } else { Err(format!("/readyz answered {status}, not ready")) }
}

/// All that it is given and its log may not show.
fn secrets(options: &StartOptions<'_>, token: &Secret, hooks_token: &Secret) -> Vec<Secret> {
    let own = [token, hooks_token, options.gateway_key].into_iter();
    own.chain(options.telegram.map(|(_, bot)| bot)).cloned().collect()
}

/// The folder that it lives in, and the file that it prints to.
struct Home {
    folder: PathBuf,
    run_dir: PathBuf,
    log: PathBuf,
}

impl Home {
    fn make(run_dir: &Path, options: &StartOptions<'_>, port: u16) -> Result<Self, StartError> {
        let home =
            Self { folder: run_dir.join(HOME), run_dir: run_dir.to_owned(), log: run_dir.join(LOG_FILE) };
        let agent = home.state().join("agents/main/agent");
        for folder in [&agent, &home.temporary()] {
            std::fs::create_dir_all(folder)
                .map_err(|source| StartError::Write { path: folder.clone(), source })?;
        }
        let own_log = home.folder.join("gateway.jsonl").display().to_string();
        let telegram = options.telegram.map(|(url, _)| url);
        let config = options.agents.openclaw_json(port, &own_log, telegram, options.retries);
        write(&home.config(), &config)?;
        std::fs::write(home.loopback_only(), LOOPBACK_ONLY)
            .map_err(|source| StartError::Write { path: home.loopback_only(), source })?;
        if let Some(settings) = Agents::settings_json(options.retries) {
            write(&agent.join("settings.json"), &settings)?;
        }
        Ok(home)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("openclaw.json")
    }

    fn loopback_only(&self) -> PathBuf {
        self.folder.join("loopback.cjs")
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    async fn spawn(
        &self,
        options: &StartOptions<'_>,
        token: &Secret,
        hooks_token: &Secret,
        secrets: &[Secret],
    ) -> Result<Guarded, StartError> {
        let mut command = options.found.command.clone();
        command.extend(["gateway", "run"].map(OsString::from));
        let environment = self.environment(options, token, hooks_token);
        let guarding = Guarding {
            guard: &options.guard,
            command,
            directory: &self.run_dir,
            log: &self.log,
            environment,
        };
        Guarded::spawn(guarding).await.map_err(|error| match error {
            GuardError::Log(source) => StartError::Write { path: self.log.clone(), source },
            GuardError::Guard { command, source } => StartError::Guard { command, source },
            GuardError::Ended(ended) => StartError::Ended { ended, log: log_tail(&self.log, secrets) },
        })
    }

    /// openclaw's whole environment.
    fn environment(
        &self,
        options: &StartOptions<'_>,
        token: &Secret,
        hooks_token: &Secret,
    ) -> Vec<(OsString, OsString)> {
        let inherited =
            INHERITED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
        let mut environment: Vec<(OsString, OsString)> = inherited.collect();
        let mut set = |name: &str, value: OsString| environment.push((name.into(), value));
        set("PATH", options.found.path.clone());
        set("HOME", self.folder.clone().into());
        set("TMPDIR", self.temporary().into());
        set("OPENCLAW_STATE_DIR", self.state().into());
        set("OPENCLAW_CONFIG_PATH", self.config().into());
        set("OPENCLAW_GATEWAY_TOKEN", token.expose().into());
        set("OPENCLAW_HOOKS_TOKEN", hooks_token.expose().into());
        set("LITELLM_BASE_URL", format!("{}/v1", options.gateway_url.trim_end_matches('/')).into());
        set("LITELLM_MASTER_KEY", options.gateway_key.expose().into());
        if let Some((_, bot)) = options.telegram {
            set("TELEGRAM_BOT_TOKEN", bot.expose().into());
        }
        if let Some(compiled) = &options.found.compiled {
            set("NODE_COMPILE_CACHE", compiled.into());
        }
        // Nothing calls out: no update, no telemetry, an npm that has nowhere to ask; and what asks all the same (a list of
        // plugins, at the start) finds nobody.
        set("NODE_OPTIONS", required(&self.loopback_only()).into());
        set("OPENCLAW_NO_AUTO_UPDATE", "1".into());
        set("DO_NOT_TRACK", "1".into());
        set("npm_config_offline", "true".into());
        set("npm_config_update_notifier", "false".into());
        set("NO_PROXY", "*".into());
        set("no_proxy", "*".into());
        set("NO_COLOR", "1".into());
        environment
    }
}

/// Node's option that loads a file first, in quotes as `NODE_OPTIONS` takes them.
fn required(path: &Path) -> String {
    let path = path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!("--require \"{path}\"")
}

fn write(path: &Path, value: &Value) -> Result<(), StartError> {
    std::fs::write(path, format!("{value:#}\n"))
        .map_err(|source| StartError::Write { path: path.to_owned(), source })
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
