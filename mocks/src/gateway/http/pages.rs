//! The GET routes: health, models and settings.

use http::Response;
use serde_json::{Map, Value, json};

use crate::gateway::Shared;
use crate::gateway::config::{DEFAULT_TIMEOUT, Deployment};
use crate::gateway::responses::{Body, json_reply};

/// A page by its path.
pub(super) enum Page {
    Alive,
    Ready,
    Models,
    ModelInfo,
    RouterSettings,
    Fallback(String),
}

/// The page at a path.
pub(super) fn page(path: &str) -> Option<Page> {
    match path {
        "/health/liveliness" | "/health/liveness" => Some(Page::Alive),
        "/health/readiness" => Some(Page::Ready),
        "/v1/models" | "/models" => Some(Page::Models),
        "/model/info" | "/v1/model/info" => Some(Page::ModelInfo),
        "/router/settings" => Some(Page::RouterSettings),
        _ => {
            let group = path.strip_prefix("/fallback/")?;
            (!group.is_empty() && !group.contains('/')).then(|| Page::Fallback(group.to_owned()))
        }
    }
}

impl Page {
    /// Needs no key.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Alive | Self::Ready)
    }

    pub(super) fn render(&self, shared: &Shared, query: Option<&str>) -> Response<Body> {
        match self {
            Self::Alive => json_reply(200, &json!("I'm alive!")),
            Self::Ready => json_reply(200, &json!({ "status": "healthy", "db": "Not connected" })),
            Self::Models => {
                let detailed =
                    query.is_some_and(|query| query.split('&').any(|q| q == "include_metadata=true"));
                json_reply(200, &models(shared, detailed))
            }
            Self::ModelInfo => {
                let data: Vec<Value> = shared.config.deployments.iter().map(model_info).collect();
                json_reply(200, &json!({ "data": data }))
            }
            Self::RouterSettings => json_reply(200, &json!({ "current_values": settings(shared) })),
            Self::Fallback(group) => fallback(shared, group),
        }
    }
}

fn chain<'a>(shared: &'a Shared, group: &str) -> Option<&'a [String]> {
    let list = shared.config.router.fallbacks.iter().find(|list| list.group == group)?;
    Some(&list.targets)
}

fn models(shared: &Shared, detailed: bool) -> Value {
    let data = shared.config.groups().into_iter().map(|group| {
        let mut model =
            json!({ "id": group, "object": "model", "created": 1_677_610_602, "owned_by": "openai" });
        if detailed {
            model["metadata"] = json!({ "fallbacks": chain(shared, group).unwrap_or_default() });
        }
        model
    });
    json!({ "data": data.collect::<Vec<Value>>(), "object": "list" })
}

fn model_info(deployment: &Deployment) -> Value {
    let mut params = Map::new();
    params.insert("api_base".into(), deployment.api_base.as_str().into());
    let timeouts = [
        ("timeout", deployment.timeout),
        ("stream_timeout", deployment.stream_timeout),
        ("request_timeout", deployment.request_timeout),
    ];
    for (key, timeout) in timeouts {
        if let Some(timeout) = timeout {
            params.insert(key.into(), timeout.as_secs_f64().into());
        }
    }
    for (key, value) in [
        ("num_retries", deployment.num_retries.map(Value::from)),
        ("weight", deployment.weight.map(Value::from)),
        ("order", deployment.order.map(Value::from)),
    ] {
        if let Some(value) = value {
            params.insert(key.into(), value);
        }
    }
    params.extend(deployment.default_params.clone());
    params.insert("model".into(), deployment.model.as_str().into());
    let mut info = deployment.model_info.clone();
    info.insert("id".into(), deployment.id.as_str().into());
    info.insert("db_model".into(), false.into());
    json!({ "model_name": deployment.group, "litellm_params": params, "model_info": info })
}

/// Whole seconds as an integer, as they were most likely written.
fn seconds(duration: std::time::Duration) -> Value {
    if duration.subsec_nanos() == 0 { duration.as_secs().into() } else { duration.as_secs_f64().into() }
}

fn settings(shared: &Shared) -> Value {
    let router = &shared.config.router;
    let fallbacks: Vec<Value> =
        router.fallbacks.iter().map(|list| json!({ list.group.as_str(): list.targets })).collect();
    let timeout = router.request_timeout.or(router.timeout).unwrap_or(DEFAULT_TIMEOUT);
    json!({
        "routing_strategy": "simple-shuffle",
        "num_retries": router.num_retries,
        "timeout": timeout.as_secs_f64(),
        "stream_timeout": router.stream_timeout.map(|timeout| timeout.as_secs_f64()),
        "max_fallbacks": router.max_fallbacks,
        "fallbacks": fallbacks,
        "context_window_fallbacks": null,
        "content_policy_fallbacks": null,
        "allowed_fails": router.allowed_fails,
        "cooldown_time": seconds(router.cooldown_time),
        "retry_after": seconds(router.retry_after),
        "retry_policy": router.retry_policy.as_ref().map(|policy| policy.to_json("Retries")),
        "enable_pre_call_checks": false,
        "disable_cooldowns": router.disable_cooldowns.then_some(true),
    })
}

fn fallback(shared: &Shared, group: &str) -> Response<Body> {
    match chain(shared, group) {
        Some(targets) => {
            let body = json!({ "model": group, "fallback_models": targets, "fallback_type": "general" });
            json_reply(200, &body)
        }
        None => {
            let error = format!("No general fallbacks configured for model '{group}'");
            json_reply(404, &json!({ "detail": { "error": error } }))
        }
    }
}
