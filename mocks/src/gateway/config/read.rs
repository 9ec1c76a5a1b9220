//! From JSON to [`GatewayConfig`].

use std::time::Duration;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::bearing::bearing;
use super::{
    ALLOWED_FAILS_UNSET, BearsOn, ConfigError, Deployment, FallbackList, GatewayConfig, Provider,
    RouterSettings, Unsupported,
};
use crate::gateway::policy::{ClassLimits, is_known_stem};
use crate::gateway::secret::Secret;

/// Request parameters that may stand in `litellm_params` and then are defaults of every call.
const DEFAULT_PARAMS: [&str; 7] =
    ["max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "tools"];
const DEFAULT_RETRIES: u32 = 2;
const DEFAULT_MAX_FALLBACKS: u32 = 5;
const DEFAULT_COOLDOWN: Duration = Duration::from_secs(5);

type Read<T> = Result<T, ConfigError>;

/// An object at a known path, which remembers the keys that were asked for.
struct Section<'a> {
    path: String,
    keys: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    fn open(path: String, value: Option<&'a Value>) -> Read<Self> {
        let keys = match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(keys)) => Some(keys),
            Some(_) => return Err(ConfigError::Wrong { path, expected: "an object" }),
        };
        Ok(Self { path, keys, known: Vec::new() })
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value, `null` counting as absent.
    fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.keys?.get(key).filter(|value| !value.is_null())
    }

    fn section(&mut self, key: &'static str) -> Read<Section<'a>> {
        let value = self.get(key);
        Section::open(self.path_of(key), value)
    }

    fn wrong<T>(&self, key: &str, expected: &'static str) -> Read<T> {
        Err(ConfigError::Wrong { path: self.path_of(key), expected })
    }

    fn text(&mut self, key: &'static str) -> Read<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.starts_with("os.environ/") => {
                self.wrong(key, "resolved from its environment variable")
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => self.wrong(key, "a string"),
        }
    }

    fn required_text(&mut self, key: &'static str) -> Read<String> {
        self.text(key)?.ok_or_else(|| ConfigError::Missing { path: self.path_of(key) })
    }

    fn number(&mut self, key: &'static str) -> Read<Option<f64>> {
        let number = match self.get(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        match number.filter(|n| n.is_finite() && *n >= 0.0) {
            Some(number) => Ok(Some(number)),
            None => self.wrong(key, "a number that is not negative"),
        }
    }

    fn seconds(&mut self, key: &'static str) -> Read<Option<Duration>> {
        let Some(seconds) = self.number(key)? else { return Ok(None) };
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) if seconds <= 1e9 => Ok(Some(duration)),
            _ => self.wrong(key, "at most 1e9 seconds"),
        }
    }

    fn count(&mut self, key: &'static str) -> Read<Option<u32>> {
        let count = match self.get(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
            Some(_) => None,
        };
        match count.filter(|n| *n <= 1000) {
            Some(count) => Ok(Some(count)),
            None => self.wrong(key, "a whole number from 0 to 1000"),
        }
    }

    fn flag(&mut self, key: &'static str) -> Read<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => self.wrong(key, "true or false"),
        }
    }

    /// Adds every key that nobody asked for; what would bear on everything bears on `group`, where one is given.
    fn report_unknown(&self, group: Option<&str>, unsupported: &mut Vec<Unsupported>) {
        for (key, value) in self.keys.into_iter().flatten() {
            if self.known.contains(&key.as_str()) || value.is_null() {
                continue;
            }
            let bears_on = match (bearing(&self.path, key, value), group) {
                (None, _) => continue,
                (Some(BearsOn::Everything), Some(group)) => BearsOn::Groups(vec![group.to_owned()]),
                (Some(bears_on), _) => bears_on,
            };
            unsupported.push(Unsupported::new(self.path_of(key), bears_on));
        }
    }
}

pub(super) fn gateway_config(value: &Value) -> Read<GatewayConfig> {
    let mut unsupported = Vec::new();
    let mut root = Section::open(String::new(), Some(value))?;
    let deployments = deployments(&mut root, &mut unsupported)?;
    let router = router_settings(&mut root, &mut unsupported)?;
    let mut general = root.section("general_settings")?;
    let master_key = general.text("master_key")?.map(Secret::new);
    general.report_unknown(None, &mut unsupported);
    root.report_unknown(None, &mut unsupported);
    let config = GatewayConfig { deployments, router, master_key, unsupported };
    check_fallback_groups(&config)?;
    Ok(config)
}

fn deployments(root: &mut Section<'_>, unsupported: &mut Vec<Unsupported>) -> Read<Vec<Deployment>> {
    let list = match root.get("model_list") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(_) => return root.wrong("model_list", "a list of at least one deployment"),
        None => return Err(ConfigError::Missing { path: "model_list".into() }),
    };
    let mut deployments: Vec<Deployment> = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let path = format!("model_list[{index}]");
        let deployment = deployment(Section::open(path.clone(), Some(entry))?, unsupported)?;
        if deployments.iter().any(|other| other.id == deployment.id) {
            return Err(ConfigError::DuplicateId {
                path: format!("{path}.model_info.id"),
                id: deployment.id,
            });
        }
        deployments.push(deployment);
    }
    Ok(deployments)
}

fn deployment(mut entry: Section<'_>, unsupported: &mut Vec<Unsupported>) -> Read<Deployment> {
    let group = entry.required_text("model_name")?;
    let mut params = entry.section("litellm_params")?;
    let model = params.required_text("model")?;
    let (provider, upstream_model) = provider(&model).ok_or_else(|| ConfigError::UnknownProvider {
        path: params.path_of("model"),
        model: model.clone(),
    })?;
    let api_base = params.required_text("api_base")?.trim_end_matches('/').to_owned();
    if api_base.parse::<http::Uri>().ok().is_none_or(|uri| uri.scheme_str() != Some("http")) {
        return params.wrong("api_base", "an http:// URL (the mock gateway does not speak TLS)");
    }
    let api_key = params.text("api_key")?.map(Secret::new);
    let mut default_params = Map::new();
    for name in DEFAULT_PARAMS {
        if let Some(value) = params.get(name) {
            default_params.insert(name.to_owned(), value.clone());
        }
    }
    let mut info = entry.section("model_info")?;
    let allowed_fails = info.count("allowed_fails")?;
    let policy_path = info.path_of("allowed_fails_policy");
    let allowed_fails_policy =
        class_limits(info.get("allowed_fails_policy"), &policy_path, false, unsupported)?;
    let cooldown_time = info.seconds("cooldown_time")?.or(params.seconds("cooldown_time")?);
    let id = info.text("id")?;
    // The provider client's own retries: the router passes 0, so a written 0 changes nothing.
    if params.count("max_retries")?.is_some_and(|retries| retries > 0) {
        let bears_on = BearsOn::Groups(vec![group.clone()]);
        unsupported.push(Unsupported::new(params.path_of("max_retries"), bears_on));
    }
    let deployment = Deployment {
        id: id.unwrap_or_else(|| hash_id(&group, &model, &api_base)),
        timeout: params.seconds("timeout")?,
        stream_timeout: params.seconds("stream_timeout")?,
        request_timeout: params.seconds("request_timeout")?,
        num_retries: params.count("num_retries")?,
        weight: params.number("weight")?,
        order: match params.get("order") {
            None => None,
            Some(order) => match order.as_i64() {
                Some(order) => Some(order),
                None => return params.wrong("order", "a whole number"),
            },
        },
        model_info: info.keys.cloned().unwrap_or_default(),
        group,
        model,
        provider,
        upstream_model,
        api_base,
        api_key,
        cooldown_time,
        allowed_fails,
        allowed_fails_policy,
        default_params,
    };
    params.report_unknown(Some(&deployment.group), unsupported);
    entry.report_unknown(Some(&deployment.group), unsupported);
    Ok(deployment)
}

fn provider(model: &str) -> Option<(Provider, String)> {
    let (prefix, name) = model.split_once('/')?;
    let provider = [Provider::OllamaChat, Provider::HostedVllm].into_iter().find(|p| p.prefix() == prefix)?;
    (!name.is_empty()).then(|| (provider, name.to_owned()))
}

fn hash_id(group: &str, model: &str, api_base: &str) -> String {
    let digest = Sha256::digest(format!("{group}\n{model}\n{api_base}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn router_settings(root: &mut Section<'_>, unsupported: &mut Vec<Unsupported>) -> Read<RouterSettings> {
    let mut router = root.section("router_settings")?;
    let mut litellm = root.section("litellm_settings")?;
    let policy_path = router.path_of("allowed_fails_policy");
    let allowed_fails_policy =
        class_limits(router.get("allowed_fails_policy"), &policy_path, false, unsupported)?;
    let policy_path = router.path_of("retry_policy");
    let retry_policy = class_limits(router.get("retry_policy"), &policy_path, true, unsupported)?;
    let mut groups = router.section("model_group_retry_policy")?;
    let mut group_retry_policy = Vec::new();
    for (group, limits) in groups.keys.into_iter().flatten() {
        let path = groups.path_of(group);
        let limits = class_limits(Some(limits), &path, true, unsupported)?.unwrap_or_default();
        group_retry_policy.push((group.clone(), limits));
    }
    groups.known.clear();

    let fallbacks = match fallback_lists(&mut router)? {
        Some(lists) => {
            // Read for its errors and to mark the key as known; the router's list wins.
            fallback_lists(&mut litellm)?;
            lists
        }
        None => fallback_lists(&mut litellm)?.unwrap_or_default(),
    };
    let retries = |count: Option<u32>| count.unwrap_or(DEFAULT_RETRIES);
    let num_retries = router.count("num_retries")?;
    let litellm_retries = litellm.count("num_retries")?;
    // These two change nothing when false, and are not simulated when true.
    for (section, key) in [(&mut router, "enable_weighted_failover"), (&mut litellm, "drop_params")] {
        if section.flag(key)? {
            unsupported.push(Unsupported::new(section.path_of(key), BearsOn::Everything));
        }
    }
    let settings = RouterSettings {
        num_retries: retries(num_retries.or(litellm_retries)),
        timeout: router.seconds("timeout")?,
        stream_timeout: router.seconds("stream_timeout")?,
        request_timeout: litellm.seconds("request_timeout")?,
        retry_after: router.seconds("retry_after")?.unwrap_or_default(),
        allowed_fails: router.count("allowed_fails")?.unwrap_or(ALLOWED_FAILS_UNSET),
        allowed_fails_policy,
        cooldown_time: router.seconds("cooldown_time")?.unwrap_or(DEFAULT_COOLDOWN),
        disable_cooldowns: router.flag("disable_cooldowns")?,
        retry_policy,
        group_retry_policy,
        fallbacks,
        max_fallbacks: router.count("max_fallbacks")?.unwrap_or(DEFAULT_MAX_FALLBACKS),
    };
    router.report_unknown(None, unsupported);
    litellm.report_unknown(None, unsupported);
    Ok(settings)
}

fn class_limits(
    value: Option<&Value>,
    path: &str,
    retries: bool,
    unsupported: &mut Vec<Unsupported>,
) -> Read<Option<ClassLimits>> {
    let Some(value) = value else { return Ok(None) };
    let Value::Object(keys) = value else {
        return Err(ConfigError::Wrong { path: path.to_owned(), expected: "an object" });
    };
    let suffix = if retries { "Retries" } else { "AllowedFails" };
    let mut limits = ClassLimits::default();
    for (key, value) in keys {
        let path = format!("{path}.{key}");
        let Some(stem) = key.strip_suffix(suffix).filter(|stem| is_known_stem(stem, retries)) else {
            // LiteLLM reads a policy's known keys and drops the others.
            unsupported.push(Unsupported::new(path, BearsOn::Nothing));
            continue;
        };
        match value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 1000) {
            Some(limit) => limits.set(stem, limit),
            None if value.is_null() => {}
            None => return Err(ConfigError::Wrong { path, expected: "a whole number from 0 to 1000" }),
        }
    }
    Ok(Some(limits))
}

/// `fallbacks` with `default_fallbacks` appended under `*`; `None` if neither is set.
fn fallback_lists(section: &mut Section<'_>) -> Read<Option<Vec<FallbackList>>> {
    let fallbacks = section.get("fallbacks");
    let default = section.get("default_fallbacks");
    if fallbacks.is_none() && default.is_none() {
        return Ok(None);
    }
    let mut lists = match fallbacks {
        None => Vec::new(),
        Some(value) => parse_lists(value)
            .ok_or(())
            .or_else(|()| section.wrong("fallbacks", "a list of {group: [groups]} entries"))?,
    };
    if let Some(value) = default {
        let targets = names(value)
            .ok_or(())
            .or_else(|()| section.wrong("default_fallbacks", "a list of group names"))?;
        lists.push(FallbackList { group: "*".into(), targets });
    }
    Ok(Some(lists))
}

/// Reads `[{"group": ["a", "b"]}, ...]`.
pub(crate) fn parse_lists(value: &Value) -> Option<Vec<FallbackList>> {
    let mut lists = Vec::new();
    for entry in value.as_array()? {
        for (group, targets) in entry.as_object()? {
            lists.push(FallbackList { group: group.clone(), targets: names(targets)? });
        }
    }
    Some(lists)
}

/// Reads `["a", "b"]`.
pub(crate) fn names(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn check_fallback_groups(config: &GatewayConfig) -> Read<()> {
    let groups = config.groups();
    // A deployment can be asked for by its id too.
    let known = |name: &str| groups.contains(&name) || config.deployments.iter().any(|d| d.id == name);
    for (index, list) in config.router.fallbacks.iter().enumerate() {
        let path = format!("router_settings.fallbacks[{index}]");
        if list.group != "*" && !known(&list.group) {
            return Err(ConfigError::UnknownGroup { path, group: list.group.clone() });
        }
        for target in &list.targets {
            if !known(target) {
                let path = format!("{path}.{}", list.group);
                return Err(ConfigError::UnknownGroup { path, group: target.clone() });
            }
        }
    }
    Ok(())
}
