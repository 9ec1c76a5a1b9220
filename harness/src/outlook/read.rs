//! The pages on which a gateway tells how it routes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::verdict::result::{DeploymentSettings, GatewaySettings};

/// Longer lists are not a household's.
const LIST_MAX: usize = 1000;
/// Longer names are cut.
const NAME_CHARS: usize = 200;

/// What `/router/settings`, `/model/info` and `/v1/models` say.
///
/// # Errors
/// Which of them is not what LiteLLM answers.
pub fn read(router: &Value, info: &Value, models: &Value) -> Result<GatewaySettings, String> {
    let current = &router["current_values"];
    if !current.is_object() {
        return Err("the gateway's page /router/settings has no `current_values`".to_owned());
    }
    let list = |page: &Value, path: &str| match page["data"].as_array() {
        Some(list) => Ok(list.iter().take(LIST_MAX).cloned().collect::<Vec<_>>()),
        None => Err(format!("the gateway's page {path} has no `data`")),
    };
    let by_class = |key: &str| match &current[key] {
        Value::Null => false,
        Value::Object(set) => set.values().any(|value| !value.is_null()),
        _ => true,
    };
    let mut fallbacks = lists(&current["fallbacks"]);
    let default = names(&current["default_fallbacks"]);
    if !default.is_empty() {
        fallbacks.entry("*".to_owned()).or_insert(default);
    }
    let deployments = list(info, "/model/info")?;
    Ok(GatewaySettings {
        models: list(models, "/v1/models")?.iter().filter_map(|model| name(&model["id"])).collect(),
        fallbacks,
        timeout_s: seconds(&current["timeout"]),
        stream_timeout_s: seconds(&current["stream_timeout"]),
        num_retries: current["num_retries"].as_u64(),
        retries_by_class: by_class("retry_policy") || by_class("model_group_retry_policy"),
        retry_after_s: seconds(&current["retry_after"]),
        max_fallbacks: current["max_fallbacks"].as_u64(),
        allowed_fails: current["allowed_fails"].as_u64(),
        cooldown_time_s: seconds(&current["cooldown_time"]),
        cooldowns_disabled: current["disable_cooldowns"] == true,
        deployments: deployments.iter().filter_map(deployment).collect(),
    })
}

fn deployment(entry: &Value) -> Option<DeploymentSettings> {
    let params = &entry["litellm_params"];
    Some(DeploymentSettings {
        group: name(&entry["model_name"])?,
        timeout_s: seconds(&params["timeout"]).or_else(|| seconds(&params["request_timeout"])),
        stream_timeout_s: seconds(&params["stream_timeout"]),
        num_retries: params["num_retries"].as_u64(),
    })
}

/// LiteLLM takes a number or a text of one; 0 is none.
fn seconds(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// A name that may be shown.
fn name(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    Some(text.chars().take(NAME_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect())
}

fn names(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().take(LIST_MAX).filter_map(name).collect()
}

/// `[{ "cloud-kimi": ["vllm-qwen"] }]`; of a group that is there twice the first counts.
fn lists(value: &Value) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for entry in value.as_array().into_iter().flatten().take(LIST_MAX) {
        for (group, targets) in entry.as_object().into_iter().flatten() {
            all.entry(group.chars().take(NAME_CHARS).collect()).or_insert_with(|| names(targets));
        }
    }
    all
}
