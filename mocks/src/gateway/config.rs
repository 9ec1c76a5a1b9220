//! A LiteLLM configuration, checked and with LiteLLM's defaults and precedence rules.
//!
//! The caller has read the YAML and replaced every `os.environ/NAME`. Keys that the mock does not act upon are
//! collected in [`GatewayConfig::unsupported`], so that nobody takes a setting for tested that was ignored.

use std::time::Duration;

use serde_json::{Map, Value};
use thiserror::Error;

use super::policy::ClassLimits;
use super::secret::Secret;

mod bearing;
mod prices;
mod read;
mod routing;
mod section;

pub use bearing::{BearsOn, ROUTER_SETTINGS, Unsupported};

use routing::{names, parse_lists};

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
    /// LiteLLM finds a price for it, if only of nothing.
    pub priced: bool,
    /// Base URL of the upstream, as written.
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
    /// Those of `litellm_params` that `/model/info` shows as written.
    pub shown_params: Map<String, Value>,
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
    /// Length of a cooldown and of the counting window; LiteLLM's 5 s where nothing is written.
    pub cooldown_time: Duration,
    /// No cooldown at all.
    pub disable_cooldowns: bool,
    /// Retries by class.
    pub retry_policy: Option<ClassLimits>,
    /// Retries by group and class.
    pub group_retry_policy: Vec<(String, ClassLimits)>,
    /// Fallback lists, the default list last under `*`.
    pub fallbacks: Vec<FallbackList>,
    /// Lists for prompts that are too long, instead of [`Self::fallbacks`]; `None` where none are configured.
    pub context_window_fallbacks: Option<Vec<FallbackList>>,
    /// Lists for prompts that a policy forbids, instead of [`Self::fallbacks`]; `None` where none are configured.
    pub content_policy_fallbacks: Option<Vec<FallbackList>>,
    /// Recursion depth of fallbacks.
    pub max_fallbacks: u32,
    /// After a failure the group's other deployments are tried before its fallback list.
    pub weighted_failover: bool,
    /// Calls that one request may make after its first, over all groups; `None` is no limit.
    pub num_retries_per_request: Option<u32>,
    /// Parameters that an upstream's dialect does not know are left out instead of refused.
    pub drop_params: bool,
    /// Other names of groups.
    pub aliases: Vec<GroupAlias>,
    /// Which of the timeouts here were written as whole numbers.
    pub whole_timeouts: WholeTimeouts,
    /// `router_settings` as written, but for what may hold a secret.
    pub written: Map<String, Value>,
}

/// Which timeouts for all deployments were written as whole numbers: headers show them so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WholeTimeouts {
    /// `router_settings.timeout`.
    pub timeout: bool,
    /// `router_settings.stream_timeout`.
    pub stream: bool,
    /// `litellm_settings.request_timeout`.
    pub request: bool,
}

/// Another name of a group: an entry of `model_group_alias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupAlias {
    /// The other name.
    pub name: String,
    /// The group.
    pub group: String,
    /// Left out of the list of models.
    pub hidden: bool,
}

impl RouterSettings {
    /// The group that a name stands for: itself unless it is an alias.
    #[must_use]
    pub fn aliased<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.iter().find(|alias| alias.name == name).map_or(name, |alias| &alias.group)
    }
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
    /// `general_settings.cancel_on_disconnect`: a client that leaves ends its request, unless that is a stream.
    pub cancel_on_disconnect: bool,
    /// `general_settings.expose_fallback_errors_to_caller`: requests may ask for the errors before the answer.
    pub expose_fallback_errors: bool,
    /// `general_settings.dangerously_allow_mock_testing_request_params`.
    pub allows_mock_params: bool,
    /// Keys that the mock does not act upon, and what each bears on.
    pub unsupported: Vec<Unsupported>,
}

/// What one request may override.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestOverrides {
    /// `x-litellm-timeout` or body `timeout`.
    pub timeout: Option<Duration>,
    /// Body `stream_timeout` or `x-litellm-stream-timeout`.
    pub stream_timeout: Option<Duration>,
    /// Whether any timeout was named, also one of 0 or of the other kind of request: no timeout of such a request
    /// is counted.
    pub names_timeout: bool,
    /// Body `num_retries` or `x-litellm-num-retries`.
    pub num_retries: Option<u32>,
    /// Body `disable_fallbacks`.
    pub disable_fallbacks: bool,
    /// Body `fallbacks`, instead of the configured lists.
    pub fallbacks: Option<RequestFallbacks>,
    /// Body `context_window_fallbacks`, instead of the configured lists.
    pub context_window_fallbacks: Option<Vec<FallbackList>>,
    /// Body `content_policy_fallbacks`, instead of the configured lists.
    pub content_policy_fallbacks: Option<Vec<FallbackList>>,
    /// Body `max_fallbacks`.
    pub max_fallbacks: Option<u32>,
    /// Body `include_fallback_errors`, where the configuration lets it count.
    pub include_fallback_errors: bool,
}

/// The three forms of a body's `fallbacks`.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestFallbacks {
    /// `["a", "b"]`: for whatever fails.
    Targets(Vec<String>),
    /// `[{"group": ["a"]}]`: as in the configuration.
    Lists(Vec<FallbackList>),
    /// `[{"model": "a", "temperature": 0.5}]`: for whatever fails, each with fields that replace the request's own.
    Overrides(Vec<Map<String, Value>>),
}

impl RequestFallbacks {
    /// Reads the value of a body's `fallbacks`. What has none of the three forms names nothing.
    #[must_use]
    pub fn read(value: &Value) -> Self {
        let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(targets) = names(value).filter(|targets| !targets.is_empty()) {
            return Self::Targets(targets);
        }
        let objects: Option<Vec<&Map<String, Value>>> = entries.iter().map(Value::as_object).collect();
        if let Some(objects) = objects
            && objects.iter().any(|fields| fields.get("model").is_some_and(|model| !model.is_array()))
        {
            return Self::Overrides(objects.into_iter().cloned().collect());
        }
        Self::Lists(Self::lists(value).unwrap_or_default())
    }

    /// Reads lists in the form of the configuration.
    #[must_use]
    pub fn lists(value: &Value) -> Option<Vec<FallbackList>> {
        parse_lists(value)
    }
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
        self.timeout_in_place(deployment, streaming, overrides).0
    }

    /// A deployment's timeout as headers show it, where no request overrides it: whole seconds that were written as
    /// such for all deployments stay so, a deployment's own become a decimal fraction.
    #[must_use]
    pub fn shown_timeout(&self, deployment: usize, streaming: bool) -> String {
        match self.timeout_in_place(deployment, streaming, &RequestOverrides::default()) {
            (limit, true) => limit.as_secs().to_string(),
            (limit, false) => format!("{:?}", limit.as_secs_f64()),
        }
    }

    /// The timeout, and whether it was written as a whole number for all deployments.
    fn timeout_in_place(
        &self,
        deployment: usize,
        streaming: bool,
        overrides: &RequestOverrides,
    ) -> (Duration, bool) {
        let deployment = &self.deployments[deployment];
        let router = &self.router;
        let own = |limit: Option<Duration>| (limit, false);
        // Ordered by precedence; a timeout of 0 is passed over like one that is not set.
        let of_streams = [
            own(overrides.stream_timeout),
            own(deployment.stream_timeout),
            (router.stream_timeout, router.whole_timeouts.stream),
            (router.timeout.and(router.request_timeout), router.whole_timeouts.request),
        ];
        let of_all = [
            own(overrides.timeout),
            own(deployment.timeout),
            (
                deployment.request_timeout,
                deployment.shown_params.get("request_timeout").is_some_and(Value::is_u64),
            ),
            (router.request_timeout, router.whole_timeouts.request),
            (router.timeout, router.whole_timeouts.timeout),
        ];
        let places = of_streams.into_iter().filter(|_| streaming).chain(of_all);
        let mut set = places.filter_map(|(limit, whole)| Some((limit?, whole)));
        set.find(|(limit, _)| !limit.is_zero()).unwrap_or((DEFAULT_TIMEOUT, false))
    }

    /// Indices of a group's deployments, in the order of `model_list`.
    pub fn members<'a>(&'a self, group: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.deployments.iter().enumerate().filter(move |(_, d)| d.group == group).map(|(index, _)| index)
    }

    /// Names in the list of models: aliases that are not hidden, then groups.
    #[must_use]
    pub fn listed_names(&self) -> Vec<&str> {
        let shown = self.router.aliases.iter().filter(|alias| !alias.hidden).map(|alias| alias.name.as_str());
        shown.chain(self.groups()).collect()
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
