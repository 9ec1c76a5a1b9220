//! An OpenAI-compatible server: `POST {api_base}/chat/completions`, streams as server-sent events.

use serde_json::{Map, Value, json};

use super::{Chunk, Completion, message};
use crate::gateway::config::{Deployment, Provider};
use crate::gateway::failure::{ErrorClass, Failure};

/// Keys of a chat request that are the gateway's own and never go upstream.
const GATEWAY_KEYS: [&str; 11] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "metadata",
    "timeout",
    "stream_timeout",
    "num_retries",
    "fallbacks",
    "disable_fallbacks",
    "include_fallback_errors",
];

/// The body for the upstream.
pub(super) fn body(
    deployment: &Deployment,
    request: &Map<String, Value>,
    streaming: bool,
) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".into(), deployment.upstream_model.as_str().into());
    body.insert("messages".into(), request.get("messages").cloned().unwrap_or_else(|| json!([])));
    body.insert("stream".into(), streaming.into());
    if streaming {
        // Asked for on every stream; the client sees the counts only if it asked too.
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    for (key, value) in deployment.default_params.iter().chain(request) {
        if !GATEWAY_KEYS.contains(&key.as_str()) && !value.is_null() {
            body.insert(key.clone(), value.clone());
        }
    }
    body
}

/// Reads a whole reply.
///
/// # Errors
/// [`Failure`] if it is not one.
pub fn completion(body: &[u8]) -> Result<Completion, Failure> {
    let reply: Value = serde_json::from_slice(body)
        .map_err(|_| super::not_json(Provider::HostedVllm, &String::from_utf8_lossy(body)))?;
    let Some(choices) = reply.get("choices").and_then(Value::as_array) else {
        return Err(super::not_json(Provider::HostedVllm, &reply.to_string()));
    };
    let choices = choices.iter().map(|choice| {
        let mut message = choice.get("message").cloned().unwrap_or_else(|| json!({}));
        if let Some(fields) = message.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        json!({
            "finish_reason": choice.get("finish_reason").cloned().unwrap_or_else(|| "stop".into()),
            "index": choice.get("index").cloned().unwrap_or_else(|| 0.into()),
            "message": message,
            "provider_specific_fields": {},
        })
    });
    Ok(Completion {
        id: reply.get("id").and_then(Value::as_str).map(str::to_owned),
        created: reply.get("created").and_then(Value::as_u64),
        model: reply.get("model").and_then(Value::as_str).map(str::to_owned),
        choices: choices.collect(),
        usage: reply.get("usage").filter(|usage| usage.is_object()).cloned(),
    })
}

/// Reads the data of one server-sent event; `None` for an event that carries nothing.
///
/// # Errors
/// [`Failure`] for an error event, with the status that it names (500 otherwise), and for data that is not JSON.
pub fn chunk(data: &str) -> Result<Option<Chunk>, Failure> {
    if data == "[DONE]" {
        return Ok(Some(Chunk::Done));
    }
    let reply: Value = serde_json::from_str(data).map_err(|_| super::not_json(Provider::HostedVllm, data))?;
    if let Some(error) = reply.get("error").filter(|error| !error.is_null()) {
        return Err(error_event(error));
    }
    let usage = reply.get("usage").filter(|usage| usage.is_object()).cloned();
    let Some(choice) = reply.pointer("/choices/0") else { return Ok(usage.map(Chunk::Usage)) };
    let mut delta = choice.get("delta").and_then(Value::as_object).cloned().unwrap_or_default();
    delta.retain(|_, value| !value.is_null());
    // The role belongs to the first chunk, which the stream writer decides.
    delta.remove("role");
    Ok(Some(Chunk::Delta {
        id: reply.get("id").and_then(Value::as_str).map(str::to_owned),
        delta,
        finish_reason: choice.get("finish_reason").and_then(Value::as_str).map(str::to_owned),
        usage,
    }))
}

fn error_event(error: &Value) -> Failure {
    let code = match error.get("code") {
        Some(Value::String(code)) => code.parse().ok(),
        Some(code) => code.as_u64().and_then(|code| u16::try_from(code).ok()),
        None => None,
    };
    let status = code.filter(|code| (400..600).contains(code)).unwrap_or(500);
    let detail = error.get("message").and_then(Value::as_str).unwrap_or_default();
    if status == 500 {
        let class = ErrorClass::InternalServer;
        return Failure::new(class, 500, message(Provider::HostedVllm, class, detail));
    }
    let limits = super::Limits { request_timeout: None, timeout: None };
    super::status_failure(Provider::HostedVllm, status, detail, limits)
}
