//! A LiteLLM file as input: everything that is wrong with it, with its place, before anything is started.
//!
//! LiteLLM itself ignores much of what it does not know. Where it would go on with a setting that a person
//! evidently meant otherwise, this is a problem; where it says so itself and goes on, a warning.

use std::collections::{BTreeMap, BTreeSet};

use super::fallbacks::{self, Groups};
use super::values::{Reader, Zero, misspelt};
use super::{Dialect, GENERAL_SETTINGS, SECTIONS, Upstream, is_foreign_name};
use crate::environment::Names;
use crate::input::Problem;
use crate::input::at::At;
use crate::input::checker::{Checker, MISSPELT, nearest, nearest_of};
use crate::input::json;
use crate::input::problem::Place;
use crate::input::tree::{self, Content, Entry, Node};

/// Sections that LiteLLM reads besides those that say how requests are routed.
const OTHER_SECTIONS: [&str; 24] = [
    "agent_list",
    "assistant_settings",
    "callback_settings",
    "credential_list",
    "default_vertex_config",
    "environment_variables",
    "files_settings",
    "finetune_settings",
    "guardrails",
    "include",
    "mcp_aliases",
    "mcp_servers",
    "mcp_tools",
    "pass_through_endpoints",
    "plugins",
    "policies",
    "policy_attachments",
    "prompts",
    "sandbox_tools",
    "search_tools",
    "vector_store_registry",
    "worker_registry",
    "websearch_interception_params",
    "tool_permissions",
];

/// What `router_settings` may hold; LiteLLM warns of anything else and ignores it.
const ROUTER_SETTINGS: [&str; 56] = [
    "alerting_config",
    "allowed_fails",
    "allowed_fails_policy",
    "assistants_config",
    "background_health_check_model_groups",
    "cache_kwargs",
    "cache_responses",
    "caching_groups",
    "client_ttl",
    "content_policy_fallbacks",
    "context_window_fallbacks",
    "cooldown_time",
    "debug_level",
    "default_fallbacks",
    "default_litellm_params",
    "default_max_parallel_requests",
    "default_priority",
    "deployment_affinity_ttl_seconds",
    "disable_cooldowns",
    "enable_health_check_routing",
    "enable_pre_call_checks",
    "enable_tag_filtering",
    "enable_weighted_failover",
    "fallbacks",
    "guardrail_list",
    "health_check_ignore_transient_errors",
    "health_check_staleness_threshold",
    "ignore_invalid_deployments",
    "max_fallbacks",
    "model_group_affinity_config",
    "model_group_alias",
    "model_group_retry_policy",
    "model_list",
    "num_retries",
    "optional_pre_call_checks",
    "plugins",
    "polling_interval",
    "provider_budget_config",
    "redis_db",
    "redis_host",
    "redis_password",
    "redis_port",
    "redis_url",
    "retry_after",
    "retry_policy",
    "router_general_settings",
    "routing_groups",
    "routing_strategy",
    "routing_strategy_args",
    "search_tools",
    "set_verbose",
    "stream_timeout",
    "tag_filtering_match_any",
    "tag_routing_prefix",
    "timeout",
    "auto_router_capability_limit",
];

/// Keys of the other mappings that bear on routing, for whoever misspells one.
const MODEL_KEYS: [&str; 3] = ["model_name", "litellm_params", "model_info"];
const PARAMS: [&str; 14] = [
    "model",
    "custom_llm_provider",
    "api_base",
    "base_url",
    "api_key",
    "timeout",
    "stream_timeout",
    "request_timeout",
    "num_retries",
    "max_retries",
    "cooldown_time",
    "weight",
    "order",
    "max_tokens",
];
const MODEL_INFO: [&str; 4] = ["id", "allowed_fails", "allowed_fails_policy", "cooldown_time"];
const LITELLM_SETTINGS: [&str; 7] = [
    "num_retries",
    "request_timeout",
    "fallbacks",
    "default_fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "drop_params",
];

/// Classes of errors that a policy can name, before `Retries` or `AllowedFails`.
const CLASSES: [&str; 9] = [
    "AuthenticationError",
    "BadGatewayError",
    "BadRequestError",
    "ContentPolicyViolationError",
    "InternalServerError",
    "NotFoundError",
    "RateLimitError",
    "ServiceUnavailableError",
    "TimeoutError",
];

/// Providers that a local run speaks, and of these the ones that the mock gateway does not.
const PROVIDERS: [&str; 3] = ["ollama_chat", "hosted_vllm", "openai"];
const NOT_OF_THE_MOCK: &str = "openai";

/// Which gateway will load the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadedBy {
    /// The mock gateway, which does not do all that LiteLLM does.
    Mock,
    /// A real LiteLLM, or it is not known yet.
    Any,
}

/// Reads and checks a file against the names of an environment. The configuration is there only where nothing is
/// wrong with it.
pub(crate) fn read(
    name: &str,
    text: &str,
    names: &Names,
    loaded_by: LoadedBy,
) -> (Option<serde_json::Value>, Vec<Problem>) {
    let mut check = Checker::new(name, text);
    let root = tree::parse(&mut check);
    let value = root.and_then(|root| {
        let mut reader = Reader { check: &mut check, lookup: &|name| std::env::var(name).ok() };
        file(&mut reader, &root, names, loaded_by);
        let value = json::value(&root);
        if check.is_clean() {
            what_is_left(&mut check, &root, &value, names, loaded_by);
        }
        check.is_clean().then_some(value)
    });
    (value, check.finish())
}

/// What the program itself would say of the configuration once it is used, said before.
fn what_is_left(
    check: &mut Checker<'_>,
    root: &Node,
    value: &serde_json::Value,
    names: &Names,
    loaded_by: LoadedBy,
) {
    let Some(aliases) = names.aliases() else { return };
    let upstream = |component: &String| Upstream {
        component: component.clone(),
        base_url: "http://127.0.0.1:1".to_owned(),
    };
    let upstreams = aliases.iter().map(|(alias, component)| (alias.clone(), upstream(component))).collect();
    let hint = "see docs/litellm.md for what a local run takes";
    let local = match super::localize(value, &upstreams) {
        Ok(local) => local,
        Err(error) => return check.whole(&error.to_string(), hint),
    };
    if loaded_by == LoadedBy::Any {
        return;
    }
    let lookup = |name: &str| match name {
        super::MASTER_KEY_VARIABLE => Some("set for the run".to_owned()),
        other => std::env::var(other).ok(),
    };
    let resolved = super::resolve_environment(&local.value, &lookup);
    if let Err(error) = mocks::gateway::config::GatewayConfig::from_value(&resolved) {
        let message = format!("the mock gateway cannot use this: {error}");
        check.problem(place_in(root, &error.to_string()), &message, hint);
    }
}

/// The place of the path that an error message begins with, like `model_list[0].litellm_params.order`.
fn place_in(root: &Node, message: &str) -> Place {
    let path = message.split_whitespace().next().unwrap_or_default();
    let mut place = Place::default();
    let mut node = Some(root);
    for part in path.split(['.', '[']) {
        let index = part.strip_suffix(']').and_then(|digits| digits.parse::<usize>().ok());
        node = node.and_then(|node| match (&node.content, index) {
            (Content::List(items), Some(index)) => items.get(index),
            _ => node.get(part),
        });
        place = node.map_or(place, |node| node.place);
    }
    place
}

/// Checks a whole file against the environment's names.
fn file(reader: &mut Reader<'_, '_>, root: &Node, names: &Names, loaded_by: LoadedBy) {
    hide_secrets(reader, root, false);
    json::warn_of_surprises(root, reader.check);
    if !matches!(root.content, Content::Mapping(_)) {
        let message = format!("expected a LiteLLM configuration, found {}", root.kind());
        reader.check.problem(root.place, &message, "begin it with `model_list:`");
        return;
    }
    let sections = sections(reader, root);
    let models = match sections.get("model_list") {
        Some(entry) => models(reader, entry, names, loaded_by),
        None => {
            let hint = "add `model_list:` with the models of the gateway";
            reader.check.problem(root.place, "`model_list` is missing here", hint);
            None
        }
    };
    let aliases = sections.get("router_settings").and_then(|section| section.value.get("model_group_alias"));
    let groups = models.map(|mut groups| {
        groups.extend(aliases.into_iter().flat_map(Node::entries).map(|entry| entry.key.value.clone()));
        // Those that are missing have been named.
        groups.extend(names.aliases().into_iter().flatten().map(|(alias, _)| alias.clone()));
        groups
    });
    if let Some(section) = sections.get("router_settings") {
        router_settings(reader, &section.value, &groups);
    }
    if let Some(section) = sections.get("litellm_settings") {
        let router = sections.get("router_settings").map(|section| &section.value);
        litellm_settings(reader, &section.value, router, &groups);
    }
    if let Some(section) = sections.get("general_settings") {
        general_settings(reader, &section.value);
    }
}

/// The sections that say how requests are routed.
fn sections<'n>(reader: &mut Reader<'_, '_>, root: &'n Node) -> BTreeMap<&'static str, &'n Entry> {
    let mut found = BTreeMap::new();
    for entry in root.entries() {
        let key = &entry.key;
        if let Some(name) = SECTIONS.iter().find(|name| **name == key.value) {
            found.insert(*name, entry);
        } else if key.value == "include" && !entry.value.is_null() {
            reader.check.problem(
                key.place,
                "the file includes others, which are not read here",
                "give one file that holds everything",
            );
        }
    }
    for entry in root.entries() {
        let key = &entry.key;
        if SECTIONS.contains(&key.value.as_str()) || OTHER_SECTIONS.contains(&key.value.as_str()) {
            continue;
        }
        let absent = SECTIONS.iter().copied().filter(|name| !found.contains_key(name));
        if let Some(meant) = nearest(&key.value, absent, MISSPELT) {
            reader.check.problem(
                key.place,
                &format!("LiteLLM knows no section `{}` and would ignore it", key.value),
                format!("did you mean `{meant}`?"),
            );
            found.insert(meant, entry);
        } else {
            reader.check.warning(
                key.place,
                &format!("LiteLLM knows no section `{}` and ignores it", key.value),
                format!("what says how requests are routed is in: {}", SECTIONS.join(", ")),
            );
        }
    }
    found
}

/// The groups of `model_list`, if all of them could be read.
fn models(reader: &mut Reader<'_, '_>, entry: &Entry, names: &Names, loaded_by: LoadedBy) -> Groups {
    let items = reader.list("model_list", &entry.value, "begin each model with `- model_name: NAME`")?;
    if items.is_empty() {
        let hint = "add the models of the gateway: `- model_name: NAME` and so on";
        reader.check.problem(entry.value.place, "`model_list` is empty", hint);
        return None;
    }
    let mut ids = Ids::default();
    let read: Vec<Option<At<String>>> =
        items.iter().map(|item| model(reader, item, &mut ids, loaded_by)).collect();
    let groups: Option<Vec<At<String>>> = read.into_iter().collect();
    let groups = groups?;
    against_environment(reader, entry.key.place, &groups, names);
    Some(groups.into_iter().map(|group| group.value).collect())
}

/// Every alias has its component, and every component's aliases are there.
fn against_environment(reader: &mut Reader<'_, '_>, list: Place, groups: &[At<String>], names: &Names) {
    let Some(aliases) = names.aliases() else { return };
    let written: BTreeSet<&str> = groups.iter().map(|group| group.value.as_str()).collect();
    let mut missing: BTreeMap<&str, &str> = aliases
        .iter()
        .filter(|(alias, _)| !written.contains(alias.as_str()))
        .map(|(alias, component)| (alias.as_str(), component.as_str()))
        .collect();
    let mut seen = BTreeSet::new();
    for group in groups.iter().filter(|group| !aliases.contains_key(&group.value)) {
        if !seen.insert(group.value.as_str()) {
            continue;
        }
        let known = aliases.keys().map(String::as_str);
        reader.check.problem(
            group.place,
            &format!("no component of the environment serves the alias `{}`", group.value),
            nearest_of("alias", &group.value, known.take(100)),
        );
        // One mistake: the name that was meant is not missing as well.
        if let Some(meant) = nearest(&group.value, missing.keys().copied(), MISSPELT) {
            missing.remove(meant);
        }
    }
    for (alias, component) in missing {
        reader.check.problem(
            list,
            &format!("the alias `{alias}` of the environment's component `{component}` is missing"),
            format!("add `- model_name: {alias}` with its `litellm_params` to `model_list`"),
        );
    }
}

/// What tells deployments apart.
#[derive(Default)]
struct Ids {
    by_id: BTreeMap<String, Place>,
    /// Group and model of those without an id.
    unnamed: BTreeMap<(String, String), Place>,
}

/// Checks one entry of `model_list` and gives its group.
fn model(reader: &mut Reader<'_, '_>, node: &Node, ids: &mut Ids, loaded_by: LoadedBy) -> Option<At<String>> {
    if !matches!(node.content, Content::Mapping(_)) {
        reader.wrong(node, "an entry of `model_list` is a mapping", "begin it with `- model_name: NAME`");
        return None;
    }
    let keys = Keys::open(reader, node, &MODEL_KEYS, "a model");
    let group = keys.required(reader, "model_name", "model_name: cloud-kimi");
    let group = group.and_then(|name| reader.text("model_name", name));
    let params = keys.required(reader, "litellm_params", "litellm_params: { model: ollama_chat/NAME }");
    let model = params.and_then(|params| litellm_params(reader, params, loaded_by));
    let id = keys.get("model_info").and_then(|info| model_info(reader, info));
    match (id, &group, model) {
        (Some(id), _, _) => {
            if let Some(first) = ids.by_id.insert(id.value.clone(), id.place) {
                reader.check.problem(
                    id.place,
                    &format!("the id `{}` is already on line {}", id.value, first.line),
                    "give each deployment an id of its own",
                );
            }
        }
        (None, Some(group), Some(model)) => {
            let twin = ids.unnamed.insert((group.value.clone(), model), group.place);
            if let Some(first) = twin {
                reader.check.problem(
                    group.place,
                    &format!(
                        "a local run cannot tell this deployment of `{}` from that on line {}: same model, no ids",
                        group.value, first.line
                    ),
                    "give each an id: `model_info: { id: NAME }`",
                );
            }
        }
        _ => {}
    }
    group
}

/// Checks the parameters of a deployment and gives its model.
fn litellm_params(reader: &mut Reader<'_, '_>, node: &Node, loaded_by: LoadedBy) -> Option<String> {
    if !matches!(node.content, Content::Mapping(_)) {
        reader.wrong(
            node,
            "`litellm_params` is a mapping",
            "write `litellm_params: { model: PROVIDER/NAME }`",
        );
        return None;
    }
    let keys = Keys::open(reader, node, &PARAMS, "litellm_params");
    for (key, value) in &keys.found {
        match *key {
            "timeout" | "stream_timeout" | "request_timeout" => reader.seconds(key, value, Zero::Unset),
            "cooldown_time" => reader.seconds(key, value, Zero::Fine),
            "num_retries" | "max_retries" => reader.count(key, value),
            "weight" => reader.number(key, value),
            "order" => reader.integer(key, value),
            // A local run has its own in their place.
            "api_base" | "base_url" | "api_key" | "model" => {}
            _ => reader.variables(value),
        }
    }
    for entry in node.entries().iter().filter(|entry| !keys.has(entry)) {
        if !is_foreign_name(&entry.key.value) {
            reader.variables(&entry.value);
        }
    }
    let model = keys.required(reader, "model", "model: ollama_chat/NAME")?;
    let model = reader.text("model", model)?;
    provider(reader, &model, keys.get("custom_llm_provider"), loaded_by);
    Some(model.value)
}

fn provider(reader: &mut Reader<'_, '_>, model: &At<String>, custom: Option<&Node>, loaded_by: LoadedBy) {
    let (prefix, name) = model.value.split_once('/').unwrap_or(("", &model.value));
    let custom = custom.map(json::value);
    let custom = custom.as_ref().and_then(serde_json::Value::as_str);
    let known = Dialect::of_provider(prefix).is_some();
    let by_custom = custom.is_some_and(|custom| Dialect::of_provider(custom).is_some());
    if known && name.is_empty() {
        let hint = format!("write `{prefix}/NAME`");
        reader.check.problem(model.place, "there is no model behind the provider", hint);
    } else if !known && !by_custom {
        let message = if prefix.is_empty() {
            format!("`{}` does not say its provider", model.value)
        } else {
            format!("local runs do not know the provider `{prefix}`")
        };
        let hint = nearest_of("provider", prefix, PROVIDERS);
        reader.check.problem(model.place, &message, format!("write it as `PROVIDER/NAME`; {hint}"));
    } else if !known || prefix == NOT_OF_THE_MOCK {
        let message = "the mock gateway speaks `ollama_chat/NAME` and `hosted_vllm/NAME` only";
        let hint = "use `--gateway litellm`, or one of these two";
        match loaded_by {
            LoadedBy::Mock => reader.check.problem(model.place, message, hint),
            LoadedBy::Any => reader.check.warning(model.place, message, hint),
        }
    }
}

/// Checks `model_info` and gives the deployment's id.
fn model_info(reader: &mut Reader<'_, '_>, node: &Node) -> Option<At<String>> {
    reader.mapping("model_info", node);
    let keys = Keys::open(reader, node, &MODEL_INFO, "model_info");
    for (key, value) in &keys.found {
        match *key {
            "allowed_fails" => reader.count(key, value),
            "allowed_fails_policy" => policy(reader, key, value, "AllowedFails"),
            "cooldown_time" => reader.seconds(key, value, Zero::Fine),
            _ => {}
        }
    }
    keys.get("id").filter(|id| !id.is_null()).and_then(|id| reader.text("id", id))
}

fn router_settings(reader: &mut Reader<'_, '_>, node: &Node, groups: &Groups) {
    for entry in reader.mapping("router_settings", node) {
        let (key, value) = (entry.key.value.as_str(), &entry.value);
        match key {
            "num_retries" | "max_fallbacks" | "allowed_fails" => reader.count(key, value),
            "timeout" | "stream_timeout" => reader.seconds(key, value, Zero::Unset),
            "retry_after" | "cooldown_time" => reader.seconds(key, value, Zero::Fine),
            "disable_cooldowns"
            | "enable_pre_call_checks"
            | "enable_weighted_failover"
            | "enable_tag_filtering" => reader.flag(key, value),
            "retry_policy" => policy(reader, key, value, "Retries"),
            "allowed_fails_policy" => policy(reader, key, value, "AllowedFails"),
            "model_group_retry_policy" => {
                for group in reader.mapping(key, value) {
                    policy(reader, &group.key.value, &group.value, "Retries");
                }
            }
            "model_group_alias" => {
                reader.mapping(key, value);
            }
            "fallbacks" | "context_window_fallbacks" | "content_policy_fallbacks" => {
                fallbacks::lists(reader, key, value, groups);
            }
            "default_fallbacks" => fallbacks::default_list(reader, value, groups),
            "health_check_interval" | "health_check_concurrency" => reader.check.problem(
                entry.key.place,
                &format!("LiteLLM does not start with `{key}` in router_settings"),
                "move it to `general_settings`",
            ),
            _ if ROUTER_SETTINGS.contains(&key) => {
                if !is_foreign_name(key) {
                    reader.variables(value);
                }
            }
            _ => {
                let hint = match nearest(key, ROUTER_SETTINGS, MISSPELT) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "remove it, or move it to the section that it belongs to".to_owned(),
                };
                let message = format!("LiteLLM knows no router setting `{key}` and ignores it");
                reader.check.warning(entry.key.place, &message, hint);
            }
        }
    }
}

fn litellm_settings(reader: &mut Reader<'_, '_>, node: &Node, router: Option<&Node>, groups: &Groups) {
    reader.mapping("litellm_settings", node);
    let keys = Keys::open(reader, node, &LITELLM_SETTINGS, "litellm_settings");
    for (key, value) in &keys.found {
        match *key {
            "num_retries" => reader.count(key, value),
            "request_timeout" => reader.seconds(key, value, Zero::Unset),
            "drop_params" => reader.flag(key, value),
            "default_fallbacks" => fallbacks::default_list(reader, value, groups),
            _ => fallbacks::lists(reader, key, value, groups),
        }
        let in_router = router.and_then(|router| router.get(key));
        if in_router.is_some_and(|other| !other.is_null()) && !value.is_null() {
            reader.check.warning(
                value.place,
                &format!("this `{key}` is not used: that of router_settings wins whole"),
                "keep one of the two",
            );
        }
    }
    for entry in node.entries().iter().filter(|entry| !keys.has(entry)) {
        if !is_foreign_name(&entry.key.value) {
            reader.variables(&entry.value);
        }
    }
}

fn general_settings(reader: &mut Reader<'_, '_>, node: &Node) {
    for entry in reader.mapping("general_settings", node) {
        let key = entry.key.value.as_str();
        if GENERAL_SETTINGS.contains(&key) {
            reader.variables(&entry.value);
        } else if let Some(meant) =
            misspelt(key, GENERAL_SETTINGS.into_iter().chain(["master_key"])).filter(|meant| *meant != key)
        {
            let message = format!("LiteLLM knows no general setting `{key}` and ignores it");
            reader.check.warning(entry.key.place, &message, format!("did you mean `{meant}`?"));
        }
    }
}

/// Checks numbers by class of error.
fn policy(reader: &mut Reader<'_, '_>, key: &str, node: &Node, suffix: &str) {
    for entry in reader.mapping(key, node) {
        let name = entry.key.value.as_str();
        let default = suffix == "Retries" && name == "DefaultRetries";
        if default || name.strip_suffix(suffix).is_some_and(|class| CLASSES.contains(&class)) {
            reader.count(name, &entry.value);
        } else {
            let known: Vec<String> = CLASSES.iter().map(|class| format!("{class}{suffix}")).collect();
            let hint = nearest_of("class", name, known.iter().map(String::as_str));
            let message = format!("LiteLLM knows no class of errors `{name}` and ignores it");
            reader.check.warning(entry.key.place, &message, hint);
        }
    }
}

/// The keys of a mapping that bear on routing. A misspelt one is said, and read as the one that is meant.
struct Keys<'n> {
    node: &'n Node,
    found: Vec<(&'static str, &'n Node)>,
}

impl<'n> Keys<'n> {
    fn open(reader: &mut Reader<'_, '_>, node: &'n Node, known: &[&'static str], what: &str) -> Self {
        let exact = |key: &str| known.iter().copied().find(|name| *name == key);
        let entries = node.entries();
        let mut found: Vec<_> =
            entries.iter().filter_map(|entry| Some((exact(&entry.key.value)?, &entry.value))).collect();
        for entry in entries.iter().filter(|entry| exact(&entry.key.value).is_none()) {
            let absent = known.iter().copied().filter(|name| found.iter().all(|(found, _)| found != name));
            if let Some(meant) = misspelt(&entry.key.value, absent) {
                let message = format!("LiteLLM does not know `{}` in {what}", entry.key.value);
                reader.check.problem(entry.key.place, &message, format!("did you mean `{meant}`?"));
                found.push((meant, &entry.value));
            }
        }
        Self { node, found }
    }

    fn get(&self, key: &str) -> Option<&'n Node> {
        self.found.iter().find(|(name, _)| *name == key).map(|(_, node)| *node)
    }

    /// Whether an entry is one of those found.
    fn has(&self, entry: &Entry) -> bool {
        self.found.iter().any(|(_, node)| std::ptr::eq(*node, &entry.value))
    }

    fn required(&self, reader: &mut Reader<'_, '_>, key: &str, example: &str) -> Option<&'n Node> {
        let node = self.get(key);
        if node.is_none() && !self.node.is_null() {
            let message = format!("`{key}` is missing here");
            reader.check.problem(self.node.place, &message, format!("add `{example}`"));
        }
        node
    }
}

/// Keeps every value that may be a secret from being shown with a problem beside it.
fn hide_secrets(reader: &mut Reader<'_, '_>, node: &Node, secret: bool) {
    match &node.content {
        Content::Scalar(scalar) => {
            let shown = scalar.text.is_empty() || scalar.text.starts_with(super::ENVIRONMENT_PREFIX);
            if secret && !shown {
                reader.check.hide(node.place);
            }
        }
        Content::List(items) => items.iter().for_each(|item| hide_secrets(reader, item, secret)),
        Content::Mapping(entries) => {
            for entry in entries {
                let key = entry.key.value.to_ascii_lowercase();

                let named = ["password", "secret", "credential", "auth", "headers", "environment_variables"]
                    .iter()
                    .any(|part| key.contains(part))
                    || key.ends_with("key")
                    || key.ends_with("token");
                hide_secrets(reader, &entry.value, secret || named);
            }
        }
        Content::Broken => {}
    }
}
