//! `router_settings`, with what `litellm_settings` adds to it.

use std::time::Duration;

use serde_json::{Map, Value};

use super::section::{Read, Section};
use super::{
    ALLOWED_FAILS_UNSET, BearsOn, ConfigError, FallbackList, GatewayConfig, GroupAlias, RouterSettings,
    Unsupported, WholeTimeouts,
};
use crate::gateway::policy::{ClassLimits, is_known_stem};

const DEFAULT_RETRIES: u32 = 2;
const DEFAULT_MAX_FALLBACKS: u32 = 5;
const DEFAULT_COOLDOWN: Duration = Duration::from_secs(5);
/// What fallback lists must be.
const LISTS: &str = "a list of entries with one {group: [groups]} each";

pub(super) fn router_settings(
    root: &mut Section<'_>,
    unsupported: &mut Vec<Unsupported>,
) -> Read<RouterSettings> {
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
    for key in ["health_check_interval", "health_check_concurrency"] {
        if router.get(key).is_some() {
            return router.wrong(key, "in general_settings");
        }
    }
    let settings = RouterSettings {
        num_retries: either(&mut router, &mut litellm, "num_retries")?.unwrap_or(DEFAULT_RETRIES),
        timeout: router.seconds("timeout")?,
        stream_timeout: router.seconds("stream_timeout")?,
        request_timeout: litellm.seconds("request_timeout")?,
        retry_after: router.seconds("retry_after")?.unwrap_or_default(),
        allowed_fails: either(&mut router, &mut litellm, "allowed_fails")?.unwrap_or(ALLOWED_FAILS_UNSET),
        allowed_fails_policy,
        cooldown_time: router.seconds("cooldown_time")?.unwrap_or(DEFAULT_COOLDOWN),
        disable_cooldowns: router.flag("disable_cooldowns")?,
        retry_policy,
        group_retry_policy,
        fallbacks,
        context_window_fallbacks: dedicated(&mut router, &mut litellm, "context_window_fallbacks")?,
        content_policy_fallbacks: dedicated(&mut router, &mut litellm, "content_policy_fallbacks")?,
        max_fallbacks: either(&mut router, &mut litellm, "max_fallbacks")?.unwrap_or(DEFAULT_MAX_FALLBACKS),
        weighted_failover: router.flag("enable_weighted_failover")?,
        num_retries_per_request: litellm.count("num_retries_per_request")?,
        drop_params: litellm.flag("drop_params")?,
        aliases: aliases(&mut router)?,
        whole_timeouts: WholeTimeouts {
            timeout: router.is_whole("timeout"),
            stream: router.is_whole("stream_timeout"),
            request: litellm.is_whole("request_timeout"),
        },
        written: router.keys.map(without_secrets).unwrap_or_default(),
    };
    router.report_unknown(None, unsupported);
    litellm.report_unknown(None, unsupported);
    Ok(settings)
}

/// Settings with each text hidden whose key says that it is a password, a key or an address that may hold one. LiteLLM
/// shows them; the mock acts upon none of them.
fn without_secrets(settings: &Map<String, Value>) -> Map<String, Value> {
    const SECRETS: [&str; 5] = ["password", "secret", "token", "key", "url"];
    let shown = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::String(_) if SECRETS.iter().any(|end| key.ends_with(end)) => "***".into(),
            Value::Object(inner) if key == "default_litellm_params" => without_secrets(inner).into(),
            other => other.clone(),
        };
        (key.clone(), value)
    };
    settings.iter().map(shown).collect()
}

/// The router's value, else that of `litellm_settings`; both are checked.
fn either(router: &mut Section<'_>, litellm: &mut Section<'_>, key: &'static str) -> Read<Option<u32>> {
    let (router, litellm) = (router.count(key)?, litellm.count(key)?);
    Ok(router.or(litellm))
}

/// Lists for one class of errors; an empty list is none.
fn dedicated(
    router: &mut Section<'_>,
    litellm: &mut Section<'_>,
    key: &'static str,
) -> Read<Option<Vec<FallbackList>>> {
    let read = |section: &mut Section<'_>| match section.get(key) {
        None => Ok(None),
        Some(value) => match parse_lists(value) {
            Some(lists) => Ok(Some(lists).filter(|lists| !lists.is_empty())),
            None => section.wrong(key, LISTS),
        },
    };
    let (of_router, of_litellm) = (read(router)?, read(litellm)?);
    Ok(of_router.or(of_litellm))
}

/// `{alias: group}` or `{alias: {"model": group, "hidden": true}}`.
fn aliases(router: &mut Section<'_>) -> Read<Vec<GroupAlias>> {
    let entries = router.section("model_group_alias")?;
    let mut aliases = Vec::new();
    for (name, entry) in entries.keys.into_iter().flatten() {
        let (group, hidden) = match entry {
            Value::String(group) => (Some(group.as_str()), false),
            entry => (entry["model"].as_str(), entry["hidden"] == true),
        };
        let Some(group) = group else {
            return entries.wrong(name, "a group, or an object with `model`");
        };
        aliases.push(GroupAlias { name: name.clone(), group: group.to_owned(), hidden });
    }
    Ok(aliases)
}

pub(super) fn class_limits(
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
        match value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 1_000_000) {
            Some(limit) => limits.set(stem, limit),
            None if value.is_null() => {}
            None => return Err(ConfigError::Wrong { path, expected: "a whole number from 0 to 1000000" }),
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
        Some(value) => parse_lists(value).ok_or(()).or_else(|()| section.wrong("fallbacks", LISTS))?,
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
pub(super) fn parse_lists(value: &Value) -> Option<Vec<FallbackList>> {
    let mut lists = Vec::new();
    for entry in value.as_array()? {
        // LiteLLM does not start with an entry of two groups.
        let entry = entry.as_object().filter(|entry| entry.len() == 1)?;
        for (group, targets) in entry {
            lists.push(FallbackList { group: group.clone(), targets: names(targets)? });
        }
    }
    Some(lists)
}

/// Reads `["a", "b"]`.
pub(super) fn names(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// LiteLLM starts with lists that name what does not exist and fails each hop to it; here that is refused.
pub(super) fn check_fallback_targets(config: &GatewayConfig) -> Read<()> {
    let known = |name: &str| {
        let group = config.router.aliased(name);
        config.deployments.iter().any(|d| d.group == group || d.id == name || d.model == name)
    };
    let router = &config.router;
    let all = [
        ("fallbacks", Some(&router.fallbacks)),
        ("context_window_fallbacks", router.context_window_fallbacks.as_ref()),
        ("content_policy_fallbacks", router.content_policy_fallbacks.as_ref()),
    ];
    for (key, lists) in all {
        for (index, list) in lists.into_iter().flatten().enumerate() {
            let path = format!("router_settings.{key}[{index}]");
            if list.group != "*" && !known(&list.group) {
                return Err(ConfigError::UnknownGroup { path, group: list.group.clone() });
            }
            if let Some(target) = list.targets.iter().find(|target| !known(target)) {
                let path = format!("{path}.{}", list.group);
                return Err(ConfigError::UnknownGroup { path, group: target.clone() });
            }
        }
    }
    let lost = |alias: &&GroupAlias| !config.deployments.iter().any(|d| d.group == alias.group);
    match router.aliases.iter().find(lost) {
        None => Ok(()),
        Some(alias) => {
            let path = format!("router_settings.model_group_alias.{}", alias.name);
            Err(ConfigError::UnknownGroup { path, group: alias.group.clone() })
        }
    }
}
