//! From JSON to [`GatewayConfig`].

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::prices::price;
use super::routing::{check_fallback_targets, class_limits, router_settings};
use super::section::{Read, Section};
use super::{BearsOn, ConfigError, Deployment, GatewayConfig, Provider, Unsupported};
use crate::gateway::secret::Secret;

/// Request parameters that may stand in `litellm_params` and then are defaults of every call.
const DEFAULT_PARAMS: [&str; 7] =
    ["max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "tools"];
/// Other parameters that hold no secret.
const SHOWN_PARAMS: [&str; 8] =
    ["request_timeout", "num_retries", "max_retries", "cooldown_time", "weight", "order", "rpm", "tpm"];

pub(super) fn gateway_config(value: &Value) -> Read<GatewayConfig> {
    let mut unsupported = Vec::new();
    let mut root = Section::open(String::new(), Some(value))?;
    let deployments = deployments(&mut root, &mut unsupported)?;
    let router = router_settings(&mut root, &mut unsupported)?;
    let mut general = root.section("general_settings")?;
    let master_key = general.text("master_key")?.map(Secret::new);
    let cancel_on_disconnect = general.flag("cancel_on_disconnect")?;
    let expose_fallback_errors = general.flag("expose_fallback_errors_to_caller")?;
    let allows_mock_params = general.flag("dangerously_allow_mock_testing_request_params")?;
    general.report_unknown(None, &mut unsupported);
    root.report_unknown(None, &mut unsupported);
    let config = GatewayConfig {
        deployments,
        router,
        master_key,
        cancel_on_disconnect,
        expose_fallback_errors,
        allows_mock_params,
        unsupported,
    };
    check_fallback_targets(&config)?;
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
    price(&mut deployments);
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
    let api_base = params.required_text("api_base")?;
    let is_url = |uri: http::Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    if !api_base.parse::<http::Uri>().is_ok_and(is_url) {
        return params.wrong("api_base", "an http:// or https:// URL");
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
        id: id.unwrap_or_else(|| hash_id(&group, params.keys)),
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
        shown_params: shown_params(params.keys),
        group,
        model,
        provider,
        upstream_model,
        // Depends on the others, too.
        priced: false,
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

fn shown_params(written: Option<&Map<String, Value>>) -> Map<String, Value> {
    let written = written.into_iter().flatten();
    let shown = written.filter(|(key, value)| {
        let key = key.as_str();
        (SHOWN_PARAMS.contains(&key) || DEFAULT_PARAMS.contains(&key)) && !value.is_null()
    });
    shown.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn provider(model: &str) -> Option<(Provider, String)> {
    let (prefix, name) = model.split_once('/')?;
    let provider = [Provider::OllamaChat, Provider::HostedVllm].into_iter().find(|p| p.prefix() == prefix)?;
    (!name.is_empty()).then(|| (provider, name.to_owned()))
}

/// The id of a deployment without one: a hash of its group and its parameters as written, LiteLLM's own.
fn hash_id(group: &str, params: Option<&Map<String, Value>>) -> String {
    let mut text = group.to_owned();
    for (key, value) in params.into_iter().flatten() {
        text.push_str(key);
        text.push_str(&as_python(value));
    }
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value as Python's `str` writes it; an object as Python's JSON.
fn as_python(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let quoted = |item: &Value| match item {
                Value::String(text) => format!("'{text}'"),
                other => as_python(other),
            };
            format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields =
                fields.iter().map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), spaced(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

/// JSON with a space after each colon and comma.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Object(_) => as_python(value),
        scalar => scalar.to_string(),
    }
}
