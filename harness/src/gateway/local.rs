//! The gateway of a local run: the mock, a real LiteLLM process, or one that already runs somewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use mocks::gateway::config::Unsupported;
use thiserror::Error;

use super::config::{self, ConfigError, LoadedBy, LocalConfig, Upstream, localize, resolve_environment};
use super::litellm::find::{FindError, FindOptions, find};
use super::litellm::process::{
    LiteLlm, LogLevel, READY_WITHIN, StartError, StartOptions, StopError, own_guard,
};
use super::secret::Secret;
use crate::environment::{Environment, Names};
use crate::input::Problems;

/// The configuration that local runs use unless told otherwise.
const TUNED: &str = include_str!("../../../mocks/litellm/tuned.yaml");
const TUNED_NAME: &str = "built-in:mocks/litellm/tuned.yaml";

/// Which gateway to run.
#[derive(Clone, Debug)]
pub enum Choice {
    /// The mock gateway, in this process.
    Mock,
    /// A real LiteLLM.
    LiteLlm(FindOptions),
    /// One that already runs, at this URL.
    Running(String),
}

impl Choice {
    /// As in `result.json`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Mock => "mock",
            Self::LiteLlm(_) => "litellm",
            // What it is cannot be told from outside; it speaks the OpenAI protocol.
            Self::Running(_) => "openai",
        }
    }
}

/// A LiteLLM configuration as a person gave it; it may hold keys.
#[derive(Clone, PartialEq)]
pub struct ConfigSource {
    /// Path, or `built-in:mocks/litellm/tuned.yaml`.
    pub name: String,
    /// Its content.
    pub value: serde_json::Value,
}

impl std::fmt::Debug for ConfigSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigSource").field("name", &self.name).field("value", &"***").finish()
    }
}

/// A LiteLLM configuration as far as it could be read, with everything that is wrong with it.
#[derive(Clone, Debug)]
pub struct CheckedConfig {
    /// `None` where something is wrong with it.
    pub source: Option<ConfigSource>,
    /// Problems and warnings, in the order of lines.
    pub findings: Problems,
}

impl ConfigSource {
    /// The built-in configuration, for an environment that fits it.
    ///
    /// # Errors
    /// Never for the file that is shipped; a test reads it.
    pub fn tuned() -> Result<Self, Problems> {
        Self::check(None, None, LoadedBy::Any).source()
    }

    /// A file, without an environment that it must fit.
    ///
    /// # Errors
    /// What is wrong with it, with its position.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Self::check(Some(path), None, LoadedBy::Any).source()
    }

    /// A file, or the built-in configuration, checked against what is known of an environment.
    #[must_use]
    pub fn check(path: Option<&Path>, names: Option<&Names>, loaded_by: LoadedBy) -> CheckedConfig {
        let (name, text) = match path {
            None => (TUNED_NAME.to_owned(), TUNED.to_owned()),
            Some(path) => match crate::input::read_document(path) {
                Ok(document) => (document.source.name, document.text),
                Err(problem) => return CheckedConfig { source: None, findings: problem.into() },
            },
        };
        let (value, findings) =
            config::check::read(&name, &text, names.unwrap_or(&Names::default()), loaded_by);
        CheckedConfig { source: value.map(|value| Self { name, value }), findings: Problems(findings) }
    }
}

impl CheckedConfig {
    fn source(self) -> Result<ConfigSource, Problems> {
        self.source.ok_or(self.findings)
    }
}

/// The configuration against an environment whose components listen where `base_urls` says.
///
/// # Errors
/// See [`ConfigError`].
pub fn against(
    source: &ConfigSource,
    environment: &Environment,
    base_urls: &BTreeMap<String, String>,
) -> Result<LocalConfig, ConfigError> {
    let mut upstreams = BTreeMap::new();
    for (component, settings) in &environment.components {
        let base_url = base_urls.get(component).cloned().unwrap_or_default();
        for alias in &settings.aliases {
            let upstream = Upstream { component: component.clone(), base_url: base_url.clone() };
            upstreams.insert(alias.clone(), upstream);
        }
    }
    localize(&source.value, &upstreams)
}

/// Whether a model of this configuration is asked in Ollama's own protocol, by alias.
#[must_use]
pub fn speaks_ollama(config: &LocalConfig, alias: &str) -> bool {
    let models = config.value["model_list"].as_array().map_or(&[][..], Vec::as_slice);
    models.iter().any(|model| {
        model["model_name"].as_str() == Some(alias)
            && model["litellm_params"]["model"].as_str().is_some_and(|name| name.starts_with("ollama_chat/"))
    })
}

/// Why there is no gateway.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// No LiteLLM to run.
    #[error(transparent)]
    Find(#[from] FindError),
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The mock did not start.
    #[error("the mock gateway did not start: {0}")]
    Mock(String),
    /// The guard's path is unknown.
    #[error("cannot find this program's own file: {0}")]
    OwnPath(std::io::Error),
    /// Nothing answers at the URL.
    #[error("no gateway answers at {url}: {reason}")]
    NotThere {
        /// Where it should be.
        url: String,
        /// What was seen instead.
        reason: String,
    },
}

/// A gateway that answers.
pub struct Gateway {
    kind: Kind,
    /// Its URL, without `/v1`.
    pub url: String,
    /// As it told; `unknown` where it did not.
    pub version: String,
    /// Settings that the mock does not imitate.
    pub unsupported: Vec<Unsupported>,
}

enum Kind {
    Mock(mocks::gateway::Gateway),
    LiteLlm(Box<LiteLlm>),
    Running,
}

impl Gateway {
    /// Start it, or see that it is there.
    ///
    /// # Errors
    /// See [`GatewayError`]; nothing is left running then.
    pub async fn start(
        choice: &Choice,
        config: &LocalConfig,
        key: &Secret,
        run_dir: &Path,
        seed: u64,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Self, GatewayError> {
        match choice {
            Choice::Mock => Self::start_mock(config, key, seed).await,
            Choice::LiteLlm(options) => {
                let found = find(options, progress).await?;
                progress(&format!("starting LiteLLM {}", found.version));
                let litellm = LiteLlm::start(StartOptions {
                    bin: &found.bin,
                    config,
                    key,
                    run_dir,
                    guard: own_guard().map_err(GatewayError::OwnPath)?,
                    ready_within: READY_WITHIN,
                    log_level: LogLevel::Normal,
                })
                .await?;
                let (url, version) = (litellm.url(), litellm.version().to_owned());
                Ok(Self { kind: Kind::LiteLlm(Box::new(litellm)), url, version, unsupported: Vec::new() })
            }
            Choice::Running(url) => {
                let not_there = |reason: String| GatewayError::NotThere { url: url.clone(), reason };
                answers(url).await.map_err(not_there)?;
                let (url, version) = (url.trim_end_matches('/').to_owned(), "unknown".to_owned());
                Ok(Self { kind: Kind::Running, url, version, unsupported: Vec::new() })
            }
        }
    }

    async fn start_mock(config: &LocalConfig, key: &Secret, seed: u64) -> Result<Self, GatewayError> {
        let master = key.expose().to_owned();
        let lookup = |name: &str| match name {
            "LITELLM_MASTER_KEY" => Some(master.clone()),
            other => std::env::var(other).ok(),
        };
        let options = mocks::gateway::GatewayOptions {
            config: resolve_environment(&config.value, &lookup),
            seed,
            master_key: Some(mocks::gateway::Secret::new(master.clone())),
            port: 0,
        };
        let in_words = |error: mocks::gateway::GatewayError| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            GatewayError::Mock(cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
        };
        let gateway = mocks::gateway::Gateway::start(options).await.map_err(in_words)?;
        if let Some(keep_idle) = config.keep_idle {
            gateway.keep_idle(keep_idle);
        }
        let (url, unsupported) = (gateway.url(), gateway.unsupported().to_vec());
        let version = super::litellm::LITELLM_VERSION;
        Ok(Self { kind: Kind::Mock(gateway), url, version: format!("{version} (imitated)"), unsupported })
    }

    /// From now on `sink` gets each line that it prints, with the client that the line is about, if any. One that was not
    /// started here prints elsewhere.
    pub fn log_to(&mut self, sink: impl Fn(Option<SocketAddr>, &str) + Send + Sync + 'static) {
        match &mut self.kind {
            Kind::Mock(gateway) => gateway.log_access(move |client, line| sink(Some(client), line)),
            Kind::LiteLlm(litellm) => litellm.log_to(sink),
            Kind::Running => {}
        }
    }

    /// Stop what was started.
    ///
    /// # Errors
    /// When a process is still there after SIGKILL.
    pub async fn stop(self) -> Result<(), StopError> {
        match self.kind {
            Kind::Mock(gateway) => {
                gateway.shutdown().await;
                Ok(())
            }
            Kind::LiteLlm(litellm) => litellm.stop().await,
            Kind::Running => Ok(()),
        }
    }

    /// In words, if a process that was started is gone without being asked to end.
    #[must_use]
    pub fn ended_by_itself(&self) -> Option<String> {
        match &self.kind {
            Kind::LiteLlm(litellm) if !litellm.is_alive() => Some(format!(
                "LiteLLM ended by itself during the run: from then on the gateway was gone, whatever failover would have done; its log is {}",
                super::litellm::process::LOG_FILE
            )),
            Kind::LiteLlm(_) | Kind::Mock(_) | Kind::Running => None,
        }
    }
}

/// Any HTTP answer shows that something is there; whether it is fit is for the baseline to see.
async fn answers(url: &str) -> Result<(), String> {
    let client = crate::http::client_for(url)
        .timeout(std::time::Duration::from_secs(5))
        .build()
        .map_err(|error| error.to_string())?;
    let page = format!("{}/health/liveliness", url.trim_end_matches('/'));
    client.get(page).send().await.map(|_| ()).map_err(|error| crate::probe::classify(&error).to_owned())
}
