//! A LiteLLM configuration, checked and with LiteLLM's defaults and precedence rules.
//!
//! The caller has read the YAML and replaced every `os.environ/NAME`. Keys that the mock does not act upon are
//! collected in [`GatewayConfig::unsupported`], so that nobody takes a setting for tested that was ignored.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};
use thiserror::Error;

use super::policy::ClassLimits;
use super::provider::seconds;
use super::secret::Secret;

mod read;

pub(crate) use read::{names, parse_lists};

/// LiteLLM's effective timeout where nothing is configured.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(6000);
/// `allowed_fails` at this value is the same as not setting it.
pub const ALLOWED_FAILS_UNSET: u32 = 3;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A required value is absent.
    #[error("{path} is missing")]
    Missing {
        /// JSON path of the value.
        path: String,
    },
    /// A value has the wrong type or an impossible value.
    #[error("{path} must be {expected}")]
    Wrong {
        /// JSON path of the value.
        path: String,
        /// What was expected there.
        expected: &'static str,
    },
    /// A model prefix that the mock has no provider for.
    #[error("{path} names the provider of `{model}`, which the mock gateway does not have")]
    UnknownProvider {
        /// JSON path of the model string.
        path: String,
        /// The model string.
        model: String,
    },
    /// A fallback list names a group that does not exist.
    #[error("{path} names the unknown group `{group}`")]
    UnknownGroup {
        /// JSON path of the name.
        path: String,
        /// The name.
        group: String,
    },
    /// Two deployments share an id.
    #[error("{path} repeats the deployment id `{id}`")]
    DuplicateId {
        /// JSON path of the second id.
        path: String,
        /// The id.
        id: String,
    },
}

/// The upstream dialects that the mock gateway speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// `ollama_chat/`: Ollama's native chat API.
    OllamaChat,
    /// `hosted_vllm/`: an OpenAI-compatible server.
    HostedVllm,
}

impl Provider {
    /// The prefix in model strings.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::OllamaChat => "ollama_chat",
            Self::HostedVllm => "hosted_vllm",
        }
    }
}

/// One entry of `model_list`.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// `model_info.id`, or a hash of group and parameters.
    pub id: String,
    /// `model_name`.
    pub group: String,
    /// `litellm_params.model` with its prefix.
    pub model: String,
    /// The dialect that the prefix names.
    pub provider: Provider,
    /// The model string without its prefix.
    pub upstream_model: String,
    /// Base URL of the upstream, without a trailing slash.
    pub api_base: String,
    /// Sent upstream as a bearer token.
    pub api_key: Option<Secret>,
    /// `litellm_params.timeout`.
    pub timeout: Option<Duration>,
    /// `litellm_params.stream_timeout`.
    pub stream_timeout: Option<Duration>,
    /// `litellm_params.request_timeout`.
    pub request_timeout: Option<Duration>,
    /// `litellm_params.num_retries`.
    pub num_retries: Option<u32>,
    /// Share in the random pick.
    pub weight: Option<f64>,
    /// Lower is picked first.
    pub order: Option<i64>,
    /// Own cooldown length.
    pub cooldown_time: Option<Duration>,
    /// `model_info.allowed_fails`.
    pub allowed_fails: Option<u32>,
    /// `model_info.allowed_fails_policy`.
    pub allowed_fails_policy: Option<ClassLimits>,
    /// Request parameters that every call to this deployment gets unless the request sets them.
    pub default_params: Map<String, Value>,
    /// `model_info` as written.
    pub model_info: Map<String, Value>,
}

/// A group and where it falls back to, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackList {
    /// The group, or `*` for the default list.
    pub group: String,
    /// The targets in order.
    pub targets: Vec<String>,
}

/// `router_settings`, with what `litellm_settings` adds to it.
#[derive(Debug, Clone)]
pub struct RouterSettings {
    /// Retries per group where nothing nearer says otherwise.
    pub num_retries: u32,
    /// `router_settings.timeout`.
    pub timeout: Option<Duration>,
    /// `router_settings.stream_timeout`.
    pub stream_timeout: Option<Duration>,
    /// `litellm_settings.request_timeout`.
    pub request_timeout: Option<Duration>,
    /// Floor of the backoff sleep.
    pub retry_after: Duration,
    /// Failures allowed before cooldown; [`ALLOWED_FAILS_UNSET`] means that nothing is counted.
    pub allowed_fails: u32,
    /// The same by class.
    pub allowed_fails_policy: Option<ClassLimits>,
    /// Length of a cooldown and of the counting window; `None` is LiteLLM's 5 s.
    pub cooldown_time: Duration,
    /// No cooldown at all.
    pub disable_cooldowns: bool,
    /// Retries by class.
    pub retry_policy: Option<ClassLimits>,
    /// Retries by group and class.
    pub group_retry_policy: Vec<(String, ClassLimits)>,
    /// Fallback lists, the default list last under `*`.
    pub fallbacks: Vec<FallbackList>,
    /// Recursion depth of fallbacks.
    pub max_fallbacks: u32,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// `model_list` in order.
    pub deployments: Vec<Deployment>,
    /// How requests are routed.
    pub router: RouterSettings,
    /// `general_settings.master_key`.
    pub master_key: Option<Secret>,
    /// JSON paths of keys that the mock ignores.
    pub unsupported: Vec<String>,
    /// Timeouts that are written as whole numbers (`2`, not `2.0`), and shown so.
    pub whole_timeouts: BTreeSet<Duration>,
}

/// What one request may override.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestOverrides {
    /// `x-litellm-timeout` or body `timeout`.
    pub timeout: Option<Duration>,
    /// Body `stream_timeout` or `x-litellm-stream-timeout`.
    pub stream_timeout: Option<Duration>,
    /// Body `num_retries` or `x-litellm-num-retries`.
    pub num_retries: Option<u32>,
    /// Body `disable_fallbacks`.
    pub disable_fallbacks: bool,
    /// Body `fallbacks`, instead of the configured lists.
    pub fallbacks: Option<RequestFallbacks>,
}

/// The two forms of a body's `fallbacks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestFallbacks {
    /// `["a", "b"]`: for whatever fails.
    Targets(Vec<String>),
    /// `[{"group": ["a"]}]`: as in the configuration.
    Lists(Vec<FallbackList>),
}

impl GatewayConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] with the JSON path of the first value that cannot be used.
    pub fn from_value(value: &Value) -> Result<Self, ConfigError> {
        read::gateway_config(value)
    }

    /// The timeout of one attempt, per phase (section 1, "Which place wins").
    #[must_use]
    pub fn attempt_timeout(
        &self,
        deployment: usize,
        streaming: bool,
        overrides: &RequestOverrides,
    ) -> Duration {
        let deployment = &self.deployments[deployment];
        let router = &self.router;
        let whole = overrides
            .timeout
            .or(deployment.timeout)
            .or(deployment.request_timeout)
            .or(router.request_timeout)
            .or(router.timeout)
            .unwrap_or(DEFAULT_TIMEOUT);
        if !streaming {
            return whole;
        }
        overrides
            .stream_timeout
            .or(deployment.stream_timeout)
            .or(router.stream_timeout)
            .or(router.timeout.and(router.request_timeout))
            .unwrap_or(whole)
    }

    /// A timeout as the configuration writes it.
    #[must_use]
    pub fn as_written(&self, timeout: Duration) -> String {
        if self.whole_timeouts.contains(&timeout) { timeout.as_secs().to_string() } else { seconds(timeout) }
    }

    /// Indices of a group's deployments, in the order of `model_list`.
    pub fn members<'a>(&'a self, group: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.deployments.iter().enumerate().filter(move |(_, d)| d.group == group).map(|(index, _)| index)
    }

    /// Group names in order of first appearance.
    #[must_use]
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = Vec::new();
        for deployment in &self.deployments {
            if !groups.contains(&deployment.group.as_str()) {
                groups.push(&deployment.group);
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests;
