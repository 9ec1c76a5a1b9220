//! Pages about how requests are routed: settings as written over settings as they are, and fallback lists.

use http::Response;
use serde_json::{Map, Value, json};

use super::pages::unprocessable;
use super::query::Query;
use crate::gateway::Shared;
use crate::gateway::config::{DEFAULT_TIMEOUT, FallbackList};
use crate::gateway::policy::ClassLimits;
use crate::gateway::responses::{Body, json_reply};

const STRATEGIES: [&str; 7] = [
    "simple-shuffle",
    "least-busy",
    "usage-based-routing",
    "latency-based-routing",
    "cost-based-routing",
    "usage-based-routing-v2",
    "lar1",
];
/// Classes of a retry policy, as the effective one lists them.
const RETRY_STEMS: [&str; 9] = [
    "BadRequestError",
    "AuthenticationError",
    "TimeoutError",
    "RateLimitError",
    "ContentPolicyViolationError",
    "InternalServerError",
    "ServiceUnavailableError",
    "NotFoundError",
    "Default",
];

/// The three kinds of fallback lists.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum FallbackKind {
    General,
    ContextWindow,
    ContentPolicy,
}

impl FallbackKind {
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::General, Self::ContextWindow, Self::ContentPolicy].into_iter().find(|kind| kind.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::ContextWindow => "context_window",
            Self::ContentPolicy => "content_policy",
        }
    }
}

/// The list of a group, or the default list.
pub(super) fn chain<'a>(shared: &'a Shared, group: &str, kind: FallbackKind) -> Option<&'a [String]> {
    let router = &shared.config.router;
    let lists: &[FallbackList] = match kind {
        FallbackKind::General => &router.fallbacks,
        FallbackKind::ContextWindow => router.context_window_fallbacks.as_deref().unwrap_or_default(),
        FallbackKind::ContentPolicy => router.content_policy_fallbacks.as_deref().unwrap_or_default(),
    };
    let named = |name: &str| lists.iter().find(|list| list.group == name);
    named(group).or_else(|| named("*")).map(|list| list.targets.as_slice())
}

pub(super) fn fallback(shared: &Shared, group: &str, query: &Query) -> Response<Body> {
    let Some(kind) = query.get("fallback_type").map_or(Some(FallbackKind::General), FallbackKind::named)
    else {
        let message = "Input should be 'general', 'context_window' or 'content_policy'";
        return unprocessable("literal_error", "fallback_type", message);
    };
    match chain(shared, group, kind) {
        Some(targets) => {
            let body = json!({ "model": group, "fallback_models": targets, "fallback_type": kind.name() });
            json_reply(200, &body)
        }
        None => {
            let error = format!("No {} fallbacks configured for model '{group}'", kind.name());
            json_reply(404, &json!({ "detail": { "error": error } }))
        }
    }
}

fn lists(lists: &[FallbackList]) -> Value {
    lists.iter().map(|list| json!({ list.group.as_str(): list.targets })).collect()
}

fn optional_lists(written: Option<&[FallbackList]>) -> Value {
    written.map_or(Value::Null, lists)
}

/// Whole seconds as an integer, as they were most likely written.
fn seconds(duration: std::time::Duration) -> Value {
    if duration.subsec_nanos() == 0 { duration.as_secs().into() } else { duration.as_secs_f64().into() }
}

/// What is in effect, in the order of the page.
fn effective(shared: &Shared) -> Map<String, Value> {
    let router = &shared.config.router;
    let timeout = router.timeout.or(router.request_timeout).unwrap_or(DEFAULT_TIMEOUT).as_secs_f64();
    let general: Vec<FallbackList> = router.fallbacks.clone();
    let values = json!({
        "routing_groups": [],
        "routing_strategy": "simple-shuffle",
        "routing_strategy_args": {},
        "num_retries": router.num_retries,
        "timeout": timeout,
        "stream_timeout": router.stream_timeout.map(|timeout| timeout.as_secs_f64()),
        "max_fallbacks": router.max_fallbacks,
        "fallbacks": lists(&general),
        "context_window_fallbacks": optional_lists(router.context_window_fallbacks.as_deref()),
        "content_policy_fallbacks": optional_lists(router.content_policy_fallbacks.as_deref()),
        "allowed_fails": router.allowed_fails,
        "cooldown_time": seconds(router.cooldown_time),
        "retry_after": seconds(router.retry_after),
        "retry_policy": null,
        "model_group_alias": {},
        "enable_pre_call_checks": false,
        "default_litellm_params": {
            "timeout": router.written.get("timeout"), "max_retries": 0, "metadata": { "caching_groups": null },
        },
        "set_verbose": false,
        "default_max_parallel_requests": null,
        "enable_tag_filtering": false,
        "tag_filtering_match_any": true,
        "disable_cooldowns": null,
    });
    let Value::Object(values) = values else { return Map::new() };
    values
}

/// The form of each field: name, type, default, and what the form for people calls it.
fn field_forms() -> [(&'static str, &'static str, Value, &'static str); 22] {
    let none = Value::Null;
    [
        ("routing_strategy", "String", json!("simple-shuffle"), "Routing Strategy"),
        ("routing_strategy_args", "Dictionary", json!({}), "Routing Strategy Args"),
        ("routing_groups", "List", json!([]), "Routing Groups"),
        ("num_retries", "Integer", json!(0), "Number of Retries"),
        ("timeout", "Float", none.clone(), "Timeout"),
        ("stream_timeout", "Float", none.clone(), "Stream Timeout"),
        ("max_fallbacks", "Integer", json!(5), "Max Fallbacks"),
        ("fallbacks", "List", json!([]), "Fallbacks"),
        ("context_window_fallbacks", "List", json!([]), "Context Window Fallbacks"),
        ("content_policy_fallbacks", "List", json!([]), "Content Policy Fallbacks"),
        ("allowed_fails", "Integer", none.clone(), "Allowed Fails"),
        ("cooldown_time", "Float", none.clone(), "Cooldown Time"),
        ("retry_after", "Integer", json!(0), "Retry After"),
        ("retry_policy", "Dictionary", none.clone(), "Retry Policy"),
        ("model_group_alias", "Dictionary", json!({}), "Model Group Alias"),
        ("enable_pre_call_checks", "Boolean", json!(false), "Enable Pre-call Checks"),
        ("default_litellm_params", "Dictionary", none.clone(), "Default LiteLLM Params"),
        ("set_verbose", "Boolean", json!(false), "Verbose Logging"),
        ("default_max_parallel_requests", "Integer", none.clone(), "Max Parallel Requests"),
        ("enable_tag_filtering", "Boolean", json!(false), "Enable Tag Filtering"),
        ("tag_filtering_match_any", "Boolean", json!(true), "Tag Filtering Match Any"),
        ("disable_cooldowns", "Boolean", none, "Disable Cooldowns"),
    ]
}

fn fields(values: Option<&Map<String, Value>>) -> Vec<Value> {
    let form = |(name, kind, default, label): (&str, &str, Value, &str)| {
        json!({
            "field_name": name, "field_type": kind,
            "field_value": values.and_then(|values| values.get(name)),
            "field_default": default,
            "options": (name == "routing_strategy").then_some(STRATEGIES),
            "ui_field_name": label,
            "link": (name == "enable_tag_filtering").then_some("https://docs.litellm.ai/docs/proxy/tag_routing"),
        })
    };
    field_forms().into_iter().map(form).collect()
}

fn group_strategies() -> Vec<&'static str> {
    STRATEGIES.into_iter().chain(["priority"]).collect()
}

/// What was written stands over what is in effect.
pub(super) fn router_settings(shared: &Shared) -> Value {
    let mut values = effective(shared);
    let mut source: Map<String, Value> = values
        .keys()
        .map(|name| {
            let unset =
                ["stream_timeout", "retry_policy", "default_max_parallel_requests", "disable_cooldowns"];
            let from = if unset.contains(&name.as_str()) { "unset" } else { "default" };
            (name.clone(), from.into())
        })
        .collect();
    for (name, value) in &shared.config.router.written {
        values.insert(name.clone(), value.clone());
        source.insert(name.clone(), "config".into());
    }
    json!({
        "fields": fields(Some(&values)),
        "current_values": values,
        "routing_strategy_descriptions": {},
        "routing_group_strategies": group_strategies(),
        "source": source,
    })
}

pub(super) fn router_fields() -> Value {
    json!({
        "fields": fields(None), "routing_strategy_descriptions": {},
        "routing_group_strategies": group_strategies(),
    })
}

/// A policy with every class it may name.
fn whole_policy(policy: &ClassLimits) -> Value {
    let named = policy.to_json("Retries");
    let all = RETRY_STEMS.iter().map(|stem| {
        let name = format!("{stem}Retries");
        let limit = named.get(&name).cloned().unwrap_or_default();
        (name, limit)
    });
    Value::Object(all.collect())
}

pub(super) fn callbacks(shared: &Shared) -> Value {
    let router = &shared.config.router;
    let mut settings = effective(shared);
    let written = |name: &str| router.written.get(name).cloned();
    for name in ["num_retries", "timeout", "allowed_fails", "cooldown_time", "retry_after"] {
        if let Some(value) = written(name) {
            settings.insert(name.into(), value);
        }
    }
    let value = |name: &str| settings.get(name).cloned().unwrap_or_default();
    json!({
        "status": "success", "callbacks": [], "alerts": [], "active_alerting_destinations": [],
        "router_settings": {
            "routing_strategy_args": {}, "routing_strategy": "simple-shuffle",
            "allowed_fails": value("allowed_fails"), "cooldown_time": value("cooldown_time"),
            "num_retries": value("num_retries"), "timeout": value("timeout"), "retry_after": value("retry_after"),
            "fallbacks": value("fallbacks"), "context_window_fallbacks": value("context_window_fallbacks"),
            "model_group_retry_policy": written("model_group_retry_policy").unwrap_or_else(|| json!({})),
            "retry_policy": router.retry_policy.as_ref().map(whole_policy),
            "model_group_alias": written("model_group_alias").unwrap_or_else(|| json!({})),
            "enable_weighted_failover": router.weighted_failover,
            "enable_tag_filtering": false, "tag_routing_prefix": "", "routing_groups": [],
        },
        "available_callbacks": {},
    })
}
