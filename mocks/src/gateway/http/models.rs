//! Pages about models: the list, one model, deployments, groups.

use http::Response;
use serde_json::{Map, Value, json};

use super::Refusal;
use super::pages::unprocessable;
use super::query::Query;
use super::settings::{FallbackKind, chain};
use crate::gateway::Shared;
use crate::gateway::config::{Deployment, Provider};
use crate::gateway::responses::{Body, json_reply};

/// `created` of every model.
const CREATED: u64 = 1_677_610_602;
/// Request parameters that LiteLLM knows of an OpenAI-compatible server.
const VLLM_PARAMS: [&str; 33] = [
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "max_tokens",
    "max_completion_tokens",
    "modalities",
    "prediction",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "tools",
    "tool_choice",
    "function_call",
    "functions",
    "max_retries",
    "extra_headers",
    "parallel_tool_calls",
    "audio",
    "web_search_options",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "store",
    "response_format",
    "reasoning_effort",
    "thinking",
];

/// Reads a flag of a query as LiteLLM's web framework does.
fn flag(query: &Query, name: &str) -> Result<bool, Refusal> {
    match query.get(name).map(str::to_ascii_lowercase).as_deref() {
        None | Some("0" | "off" | "f" | "false" | "n" | "no") => Ok(false),
        Some("1" | "on" | "t" | "true" | "y" | "yes") => Ok(true),
        Some(_) => {
            let message = "Input should be a valid boolean, unable to interpret input";
            Err(Box::new(unprocessable("bool_parsing", name, message)))
        }
    }
}

pub(super) fn list(shared: &Shared, query: &Query) -> Response<Body> {
    let detailed = match flag(query, "include_metadata") {
        Ok(detailed) => detailed,
        Err(refusal) => return *refusal,
    };
    let kind = query.get("fallback_type").map_or(Some(FallbackKind::General), FallbackKind::named);
    if detailed && kind.is_none() {
        let detail = "Invalid fallback_type. Must be one of: ['general', 'context_window', 'content_policy']";
        return json_reply(400, &json!({ "detail": detail }));
    }
    let data = shared.config.listed_names().into_iter().map(|name| {
        let mut model = listed(shared, name, "openai");
        if let Some(kind) = kind.filter(|_| detailed) {
            model["metadata"] = json!({ "fallbacks": chain(shared, name, kind).unwrap_or_default() });
        }
        model
    });
    json_reply(200, &json!({ "data": data.collect::<Vec<Value>>(), "object": "list" }))
}

pub(super) fn one(shared: &Shared, name: &str) -> Response<Body> {
    if shared.config.router.aliases.iter().any(|alias| alias.name == name && !alias.hidden) {
        let detail = format!("Model '{name}' not found in router configuration");
        return json_reply(404, &json!({ "detail": detail }));
    }
    let provider = shared.config.members(name).next().map(|index| shared.config.deployments[index].provider);
    match provider {
        Some(provider) => json_reply(200, &listed(shared, name, provider.prefix())),
        None => {
            let detail = format!("The model `{name}` does not exist or is not accessible");
            json_reply(404, &json!({ "detail": detail }))
        }
    }
}

fn listed(shared: &Shared, name: &str, owner: &str) -> Value {
    let config = &shared.config;
    let mut model = json!({ "id": name, "object": "model", "created": CREATED, "owned_by": owner });
    let group = config.router.aliased(name);
    let members: Vec<&Deployment> = config.members(group).map(|index| &config.deployments[index]).collect();
    let written = |key: &str| members.iter().find_map(|member| member.model_info.get(key)).cloned();
    // A name that is also an upstream's is found in LiteLLM's table of models, as a chat model.
    let known = config.deployments.iter().any(|deployment| deployment.upstream_model == group);
    if let Some(mode) = written("mode").or_else(|| known.then(|| "chat".into())) {
        model["mode"] = mode;
    }
    for key in ["max_input_tokens", "max_output_tokens"] {
        if let Some(tokens) = written(key) {
            model[key] = tokens;
        }
    }
    model
}

pub(super) fn info(shared: &Shared, query: &Query) -> Response<Body> {
    let deployments = &shared.config.deployments;
    let wanted = query.get("litellm_model_id");
    let chosen = deployments.iter().filter(|d| wanted.is_none_or(|id| d.id == id));
    let mut data: Vec<Value> =
        chosen.map(|deployment| deployment_info(deployment, &deployment.group)).collect();
    let aliases = shared.config.router.aliases.iter().filter(|alias| !alias.hidden && wanted.is_none());
    for alias in aliases {
        let members = shared.config.members(&alias.group);
        data.extend(members.map(|index| deployment_info(&deployments[index], &alias.name)));
    }
    match wanted {
        Some(id) if data.is_empty() => {
            let error = format!("Model id = {id} not found on litellm proxy");
            json_reply(400, &json!({ "detail": { "error": error } }))
        }
        _ => json_reply(200, &json!({ "data": data })),
    }
}

fn deployment_info(deployment: &Deployment, name: &str) -> Value {
    let mut params = Map::new();
    params.insert("api_base".into(), deployment.api_base.as_str().into());
    let timeouts = [("timeout", deployment.timeout), ("stream_timeout", deployment.stream_timeout)];
    for (key, timeout) in timeouts {
        if let Some(timeout) = timeout {
            params.insert(key.into(), timeout.as_secs_f64().into());
        }
    }
    // LiteLLM's own defaults stand between what it knows and what it does not.
    for key in [
        "allow_client_keepalive_override",
        "use_in_pass_through",
        "use_litellm_proxy",
        "use_xai_oauth",
        "merge_reasoning_content_in_choices",
    ] {
        params.insert(key.into(), false.into());
    }
    params.insert("model".into(), deployment.model.as_str().into());
    params.extend(deployment.shown_params.clone());
    let mut info = Map::new();
    info.insert("id".into(), deployment.id.as_str().into());
    info.insert("db_model".into(), false.into());
    info.insert("member_auto_router".into(), false.into());
    for (key, value) in &deployment.model_info {
        if key != "id" {
            info.insert(key.clone(), value.clone());
        }
    }
    info.insert("pricing_overrides".into(), json!([]));
    if deployment.provider == Provider::HostedVllm {
        info.insert("key".into(), deployment.model.as_str().into());
        info.insert("litellm_provider".into(), deployment.provider.prefix().into());
        info.insert("supported_openai_params".into(), VLLM_PARAMS.as_slice().into());
    }
    json!({ "model_name": name, "litellm_params": params, "model_info": info })
}

pub(super) fn groups(shared: &Shared, query: &Query) -> Response<Body> {
    let config = &shared.config;
    let wanted = query.get("model_group");
    let groups =
        config.listed_names().into_iter().filter(|group| wanted.is_none_or(|wanted| wanted == *group));
    let data: Vec<Value> = groups.map(|group| group_info(shared, group)).collect();
    json_reply(200, &json!({ "data": data }))
}

fn group_info(shared: &Shared, name: &str) -> Value {
    let config = &shared.config;
    let group = config.router.aliased(name);
    let members: Vec<&Deployment> = config.members(group).map(|index| &config.deployments[index]).collect();
    let mut providers: Vec<&str> = Vec::new();
    for member in &members {
        if !providers.contains(&member.provider.prefix()) {
            providers.push(member.provider.prefix());
        }
    }
    let tokens = |key: &str| members.iter().find_map(|m| m.model_info.get(key).and_then(Value::as_f64));
    let vllm = members.iter().any(|member| member.provider == Provider::HostedVllm);
    let written_mode = members.iter().find_map(|member| member.model_info.get("mode")).cloned();
    let mode = written_mode.or_else(|| (!vllm).then(|| "chat".into()));
    let params: &[&str] = if vllm { &VLLM_PARAMS } else { &[] };
    json!({
        "model_group": name, "providers": providers,
        "max_input_tokens": tokens("max_input_tokens"), "max_output_tokens": tokens("max_output_tokens"),
        "input_cost_per_token": null, "output_cost_per_token": null, "input_cost_per_pixel": null,
        "mode": mode, "tpm": null, "rpm": null, "itpm": null, "otpm": null,
        "supports_parallel_function_calling": false, "supports_vision": false, "supports_web_search": false,
        "supports_url_context": false, "supports_reasoning": false, "supports_function_calling": false,
        "supports_fast_mode": false, "supported_reasoning_efforts": null, "supported_openai_params": params,
        "configurable_clientside_auth_params": null, "is_public_model_group": false, "health_status": null,
        "health_response_time": null, "health_checked_at": null,
    })
}
