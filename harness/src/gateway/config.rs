//! A person's LiteLLM configuration, turned into one that talks to the local mock world only.
//!
//! Routing (groups, timeouts, retries, cooldowns, fallbacks) is kept exactly as written, since it is what is
//! being tested. What would reach beyond loopback, run other code, or put a key on disk is taken out, and each
//! removal is a warning that names its path, never its value.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub(crate) mod check;
mod fallbacks;
mod known;
mod models;
mod settings;
mod values;

pub use check::LoadedBy;

use crate::input::secret::names_a_secret;

/// What LiteLLM resolves from its own environment when it reads a configuration.
pub const ENVIRONMENT_PREFIX: &str = "os.environ/";

/// A reference that LiteLLM resolves by calling an identity service rather than by looking at a variable.
const TOKEN_REFERENCE: &str = "os.environ/oidc/";

/// The variable that carries the master key to a gateway; the key itself is in no file.
pub const MASTER_KEY_VARIABLE: &str = "LITELLM_MASTER_KEY";

/// Stands in for every upstream key: the mock world asks for none.
const UPSTREAM_KEY: &str = "not-a-key";

/// Top-level keys that say how requests are routed. All others name further services or hold secrets.
const SECTIONS: [&str; 4] = ["model_list", "router_settings", "litellm_settings", "general_settings"];

/// The part of `general_settings` that bears on requests. The rest is administration (database, sign-in,
/// alerts, retention), so here, unlike in the routing sections, only what is known to be local stays.
const GENERAL_SETTINGS: [&str; 24] = [
    "admission_queue_timeout_seconds",
    "background_health_check_model_groups",
    "background_health_checks",
    "cancel_on_disconnect",
    "completion_model",
    "dangerously_allow_mock_testing_request_params",
    "disable_retry_on_max_parallel_request_limit_error",
    "enable_health_check_routing",
    "enforce_fallback_model_access",
    "expose_fallback_errors_to_caller",
    "forward_client_headers_to_llm_api",
    "global_max_parallel_requests",
    "health_check_concurrency",
    "health_check_details",
    "health_check_ignore_transient_errors",
    "health_check_interval",
    "health_check_staleness_threshold",
    "include_call_id_in_error_body",
    "infer_model_from_keys",
    "max_in_flight_requests_per_worker",
    "max_parallel_requests",
    "max_queued_requests_per_worker",
    "max_request_size_mb",
    "model_list_healthy_only",
];

/// Parts of setting names that mean another service or other code; those of secrets are known elsewhere.
const FOREIGN_NAME_PARTS: [&str; 31] = [
    "alert",
    "api_base",
    "api_key",
    "assistants",
    "aws_",
    "azure_",
    "bitbucket",
    "callback",
    "cold_storage",
    "custom_provider_map",
    "database",
    "email",
    "endpoint",
    "gcs",
    "gitlab",
    "guardrail",
    "langfuse",
    "mcp",
    "otel",
    "plugins",
    "prompt_directory",
    "redis",
    "rules",
    "s3_",
    "search_tools",
    "slack",
    "telemetry",
    "url",
    "valkey",
    "vertex_",
    "webhook",
];

/// A local component that serves an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The component's name in the environment (`cloud`, `vllm`, `ollama`).
    pub component: String,
    /// Where it listens, scheme, host and port only: `http://127.0.0.1:PORT`. The path that a model's dialect
    /// needs is added from the model's provider.
    pub base_url: String,
}

/// How a LiteLLM provider speaks to its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Ollama's own chat API, asked at the root.
    Ollama,
    /// The OpenAI API, asked under `/v1`.
    OpenAi,
}

impl Dialect {
    fn of_provider(provider: &str) -> Option<Self> {
        match provider {
            "ollama_chat" => Some(Self::Ollama),
            "hosted_vllm" | "openai" => Some(Self::OpenAi),
            _ => None,
        }
    }

    /// The `api_base` of a model that speaks this dialect at `base_url`.
    pub fn api_base(self, base_url: &str) -> String {
        let base_url = base_url.trim_end_matches('/');
        match self {
            Self::Ollama => base_url.to_owned(),
            Self::OpenAi => format!("{base_url}/v1"),
        }
    }
}

/// A configuration that is safe to write to disk and to run.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalConfig {
    /// The whole configuration; holds no key.
    pub value: Value,
    /// One line for each thing that was taken out, beginning with its path.
    pub warnings: Vec<String>,
    /// Alias -> its models as its upstream knows them (no provider prefix), in the order of `model_list`; more
    /// than one where a group has several deployments.
    pub upstream_models: BTreeMap<String, Vec<String>>,
    /// SHA-256 of the configuration as the person wrote it (its compact JSON), in lower-case hex.
    pub sha256_of_source: String,
    /// How long the gateway keeps a connection to an upstream that nobody uses; `None`: as long as it does by itself.
    pub keep_idle: Option<Duration>,
}

/// Why a configuration cannot be run against an environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not the shape of a LiteLLM configuration.
    #[error("`{path}` in the LiteLLM config should be {expected}")]
    Malformed {
        /// Where, like `model_list[2].litellm_params`.
        path: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// The file is not the whole configuration.
    #[error("the LiteLLM config includes other files (`include`); give one file that holds everything")]
    Include,
    /// The config routes to an alias that nothing in the environment serves.
    #[error(
        "the LiteLLM config has the alias `{alias}` (model_list), which no component of the environment serves"
    )]
    UnservedAlias {
        /// The alias.
        alias: String,
    },
    /// The environment expects an alias that the config does not route to.
    #[error(
        "the environment's alias `{alias}` (component `{component}`) is missing from the LiteLLM config's model_list"
    )]
    MissingAlias {
        /// The alias.
        alias: String,
        /// The component that serves it.
        component: String,
    },
    /// A model whose provider the mock world does not speak.
    #[error(
        "the alias `{alias}` uses the model `{model}`; local runs know the providers ollama_chat, hosted_vllm and openai"
    )]
    UnknownProvider {
        /// The alias.
        alias: String,
        /// Its `litellm_params.model`.
        model: String,
    },
    /// An upstream outside this machine: a local run calls nothing else.
    #[error("the component `{component}` is at `{base_url}`, which is not a loopback address")]
    NotLoopback {
        /// The component.
        component: String,
        /// Its address.
        base_url: String,
    },
}

/// Turns `source` into a configuration whose every alias is served by `upstreams` (alias -> component).
///
/// # Errors
/// See [`ConfigError`]; nothing in a message is a value that could be a key.
pub fn localize(source: &Value, upstreams: &BTreeMap<String, Upstream>) -> Result<LocalConfig, ConfigError> {
    let document = source.as_object().ok_or_else(|| malformed("(whole file)", "a mapping"))?;
    if document.get("include").is_some_and(|include| !include.is_null()) {
        return Err(ConfigError::Include);
    }
    for upstream in upstreams.values() {
        if !is_loopback_url(&upstream.base_url) {
            let (component, base_url) = (upstream.component.clone(), upstream.base_url.clone());
            return Err(ConfigError::NotLoopback { component, base_url });
        }
    }
    let mut cleaner = Cleaner { warnings: Vec::new(), keys: literal_keys(document) };
    for name in document.keys().filter(|name| !SECTIONS.contains(&name.as_str())) {
        cleaner.warn(name, "is not part of routing");
    }
    let (model_list, upstream_models) = local_models(document, upstreams, &mut cleaner)?;
    let mut value = Map::new();
    value.insert("model_list".into(), Value::Array(model_list));
    for name in ["router_settings", "litellm_settings"] {
        if let Some(settings) = section(document, name)? {
            value.insert(name.into(), Value::Object(cleaner.settings(name, settings)));
        }
    }
    let general = section(document, "general_settings")?;
    value.insert("general_settings".into(), Value::Object(cleaner.general_settings(general)));
    let sha256_of_source = hex(&Sha256::digest(source.to_string().as_bytes()));
    Ok(LocalConfig {
        value: Value::Object(value),
        warnings: cleaner.warnings,
        upstream_models,
        sha256_of_source,
        keep_idle: None,
    })
}

impl LocalConfig {
    /// The environment variables that the configuration still asks LiteLLM to look up, without the master key.
    pub fn environment_variables(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        walk_strings(&self.value, &mut |text| {
            if let Some(name) = text.strip_prefix(ENVIRONMENT_PREFIX) {
                names.insert(name.to_owned());
            }
        });
        names.remove(MASTER_KEY_VARIABLE);
        names
    }
}

/// A copy of `value` in which each `os.environ/NAME` is what `lookup` says of `NAME`, or null where it says
/// nothing. As in LiteLLM, `true` and `false` in any case become booleans and all else stays text, also numbers.
/// For a gateway that does not read its own environment.
pub fn resolve_environment(value: &Value, lookup: &dyn Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix(ENVIRONMENT_PREFIX) {
            Some(name) => match lookup(name) {
                Some(text) if text.eq_ignore_ascii_case("true") => Value::Bool(true),
                Some(text) if text.eq_ignore_ascii_case("false") => Value::Bool(false),
                Some(text) => Value::String(text),
                None => Value::Null,
            },
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| resolve_environment(item, lookup)).collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(name, entry)| (name.clone(), resolve_environment(entry, lookup)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

type Models = (Vec<Value>, BTreeMap<String, Vec<String>>);

fn local_models(
    document: &Map<String, Value>,
    upstreams: &BTreeMap<String, Upstream>,
    cleaner: &mut Cleaner,
) -> Result<Models, ConfigError> {
    let entries = document
        .get("model_list")
        .and_then(Value::as_array)
        .ok_or_else(|| malformed("model_list", "a list of models"))?;
    let mut models: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut local = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("model_list[{index}]");
        let entry = entry.as_object().ok_or_else(|| malformed(&path, "a mapping"))?;
        let (entry, alias, model) = local_model(entry, &path, upstreams, cleaner)?;
        let known = models.entry(alias).or_default();
        if !known.contains(&model) {
            known.push(model);
        }
        local.push(Value::Object(entry));
    }
    tell_apart(entries, &mut local);
    match upstreams.iter().find(|(alias, _)| !models.contains_key(*alias)) {
        Some((alias, upstream)) => {
            Err(ConfigError::MissingAlias { alias: alias.clone(), component: upstream.component.clone() })
        }
        None => Ok((local, models)),
    }
}

/// Gives an id to each deployment that only its upstream's address or key told from another of its group: LiteLLM makes
/// ids of group and parameters, and takes two deployments with one id for one.
fn tell_apart(sources: &[Value], local: &mut [Value]) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let ids = local.iter().filter_map(|entry| text(&entry["model_info"]["id"]));
    let mut taken: BTreeSet<String> =
        ids.chain(local.iter().filter_map(|e| text(&e["model_name"]))).collect();
    // Group and parameters here -> how the parameters are written, and the last number given.
    let mut seen: BTreeMap<(String, String), (BTreeSet<String>, usize)> = BTreeMap::new();
    for (source, entry) in sources.iter().zip(local) {
        let has_id = !entry["model_info"]["id"].is_null();
        let Some(group) = text(&entry["model_name"]).filter(|_| !has_id) else { continue };
        let (written, number) = seen
            .entry((group.clone(), entry["litellm_params"].to_string()))
            .or_insert_with(|| (BTreeSet::new(), 1));
        let first = written.is_empty();
        // Written twice in the same words they are one to LiteLLM too.
        if !written.insert(source["litellm_params"].to_string()) || first {
            continue;
        }
        *number += 1;
        while !taken.insert(format!("{group}#{number}")) {
            *number += 1;
        }
        if entry["model_info"].is_null() {
            entry["model_info"] = json!({});
        }
        if let Some(info) = entry["model_info"].as_object_mut() {
            info.insert("id".into(), format!("{group}#{number}").into());
        }
    }
}

/// One `model_list` entry pointed at the mock world, with its alias and its upstream's name for the model.
fn local_model(
    entry: &Map<String, Value>,
    path: &str,
    upstreams: &BTreeMap<String, Upstream>,
    cleaner: &mut Cleaner,
) -> Result<(Map<String, Value>, String, String), ConfigError> {
    let alias = entry
        .get("model_name")
        .and_then(Value::as_str)
        .ok_or_else(|| malformed(&format!("{path}.model_name"), "a name"))?;
    let upstream =
        upstreams.get(alias).ok_or_else(|| ConfigError::UnservedAlias { alias: alias.to_owned() })?;
    let params_path = format!("{path}.litellm_params");
    let params = entry
        .get("litellm_params")
        .and_then(Value::as_object)
        .ok_or_else(|| malformed(&params_path, "a mapping"))?;
    let model = params
        .get("model")
        .and_then(Value::as_str)
        .ok_or_else(|| malformed(&format!("{params_path}.model"), "a model name"))?;
    let (dialect, upstream_model) = upstream_model(model, params)
        .ok_or_else(|| ConfigError::UnknownProvider { alias: alias.to_owned(), model: model.to_owned() })?;

    // These two are replaced below, which is the purpose of it all and no cause for a warning.
    let mut others = params.clone();
    for replaced in ["api_base", "base_url", "api_key"] {
        others.remove(replaced);
    }
    let mut local_params = cleaner.settings(&params_path, &others);
    local_params.insert("api_base".into(), dialect.api_base(&upstream.base_url).into());
    local_params.insert("api_key".into(), UPSTREAM_KEY.into());
    let mut others = entry.clone();
    others.remove("litellm_params");
    let mut local = cleaner.settings(path, &others);
    // LiteLLM makes text of an id that is a number; from here on it is.
    if let Some(id) = local.get_mut("model_info").and_then(|info| info.get_mut("id")).filter(|id| id.is_i64())
    {
        *id = id.to_string().into();
    }
    local.insert("litellm_params".into(), Value::Object(local_params));
    Ok((local, alias.to_owned(), upstream_model))
}

/// A model's dialect and its name without the provider, which is a prefix or `custom_llm_provider`.
fn upstream_model(model: &str, params: &Map<String, Value>) -> Option<(Dialect, String)> {
    if let Some((dialect, name)) =
        model.split_once('/').and_then(|(provider, name)| Some((Dialect::of_provider(provider)?, name)))
    {
        return Some((dialect, name.to_owned()));
    }
    let dialect = Dialect::of_provider(params.get("custom_llm_provider")?.as_str()?)?;
    Some((dialect, model.to_owned()))
}

/// Takes out what must not be loaded, and remembers what it was.
struct Cleaner {
    warnings: Vec<String>,
    /// Keys found in the file as plain text.
    keys: Vec<String>,
}

impl Cleaner {
    fn warn(&mut self, path: &str, why: &str) {
        self.warnings.push(format!("{path}: not loaded, it {why}"));
    }

    /// The settings of one mapping that stay. Names are judged at this level only: further down they may be
    /// aliases, which a person names freely. Values are judged all the way down.
    fn settings(&mut self, path: &str, settings: &Map<String, Value>) -> Map<String, Value> {
        let mut kept = Map::new();
        let local_cache = settings.get("cache_params").is_some_and(|params| params["type"] == "local");
        for (name, value) in settings {
            let setting_path = format!("{path}.{name}");
            if value.is_null() || *value == Value::Bool(false) {
                kept.insert(name.clone(), value.clone());
            } else if is_foreign_name(name) {
                self.warn(&setting_path, "could reach beyond this machine or hold a credential");
            } else if matches!(name.as_str(), "cache" | "cache_params" | "cache_kwargs") && !local_cache {
                self.warn(&setting_path, "is a cache outside the process");
            } else if name == "set_verbose" || name == "debug_level" {
                self.warn(&setting_path, "would log whole requests with their keys");
            } else if name == "default_litellm_params" && value.is_object() {
                let defaults = value.as_object().map(|defaults| self.settings(&setting_path, defaults));
                kept.insert(name.clone(), defaults.map_or(Value::Null, Value::Object));
            } else if let Some(why) = self.objection(value) {
                self.warn(&setting_path, why);
            } else {
                kept.insert(name.clone(), value.clone());
            }
        }
        kept
    }

    fn general_settings(&mut self, settings: Option<&Map<String, Value>>) -> Map<String, Value> {
        let mut kept = Map::new();
        for (name, value) in settings.into_iter().flatten().filter(|(name, _)| *name != "master_key") {
            let path = format!("general_settings.{name}");
            if !GENERAL_SETTINGS.contains(&name.as_str()) {
                if value.is_null() || *value == Value::Bool(false) {
                    continue;
                }
                self.warn(&path, "is administration, which a local run goes without");
            } else if let Some(why) = self.objection(value) {
                self.warn(&path, why);
            } else {
                kept.insert(name.clone(), value.clone());
            }
        }
        kept.insert("master_key".into(), json!(format!("{ENVIRONMENT_PREFIX}{MASTER_KEY_VARIABLE}")));
        kept
    }

    /// What speaks against loading a value: an address elsewhere, or a key that the file also has elsewhere.
    fn objection(&self, value: &Value) -> Option<&'static str> {
        let mut objection = None;
        walk_strings(value, &mut |text| {
            if text.starts_with(TOKEN_REFERENCE) {
                objection = Some("asks an identity service for a token");
            } else if text.contains("://") && !is_loopback_url(text) {
                objection = Some("holds an address beyond this machine");
            } else if self.keys.iter().any(|key| text.contains(key.as_str())) || looks_like_a_key(text) {
                objection = Some("holds a key");
            }
        });
        objection
    }
}

/// In the form in which keys of this field come, wherever it stands.
fn looks_like_a_key(text: &str) -> bool {
    text.strip_prefix("sk-").is_some_and(|rest| rest.len() >= 4)
}

fn is_foreign_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    FOREIGN_NAME_PARTS.iter().any(|part| name.contains(part)) || names_a_secret(&name)
}

/// Keys that stand in the file as plain text: the master key and the upstreams' keys.
fn literal_keys(document: &Map<String, Value>) -> Vec<String> {
    /// Anything shorter would match ordinary words, and guards nothing.
    const KEY_LEN_MIN: usize = 6;
    let master = document.get("general_settings").and_then(|settings| settings.get("master_key"));
    let models = document.get("model_list").and_then(Value::as_array);
    let upstream =
        models.into_iter().flatten().filter_map(|model| model.get("litellm_params")?.get("api_key"));
    master
        .into_iter()
        .chain(upstream)
        .filter_map(Value::as_str)
        .filter(|key| key.len() >= KEY_LEN_MIN && !key.starts_with(ENVIRONMENT_PREFIX))
        .map(str::to_owned)
        .collect()
}

fn section<'a>(
    document: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, ConfigError> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(settings)) => Ok(Some(settings)),
        Some(_) => Err(malformed(name, "a mapping")),
    }
}

fn malformed(path: &str, expected: &'static str) -> ConfigError {
    ConfigError::Malformed { path: path.to_owned(), expected }
}

fn is_loopback_url(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn walk_strings(value: &Value, visit: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| walk_strings(item, visit)),
        Value::Object(entries) => {
            for (name, entry) in entries {
                visit(name);
                walk_strings(entry, visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
