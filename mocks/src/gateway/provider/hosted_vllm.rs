//! An OpenAI-compatible server: `POST {api_base}/chat/completions`, streams as server-sent events.

use serde_json::{Map, Value, json};

use super::params::is_gateways_own;
use super::{Chunk, Completion};
use crate::gateway::config::{Deployment, Provider};
use crate::gateway::failure::{ErrorClass, Failure, SeenIn};

/// Fields of a request's body that are written anew.
const WRITTEN: [&str; 3] = ["model", "messages", "stream"];
/// Fields of a message that LiteLLM knows, in its order.
const MESSAGE_FIELDS: [&str; 8] =
    ["content", "role", "tool_calls", "function_call", "audio", "images", "reasoning_content", "annotations"];
/// Fields of a choice that LiteLLM knows.
const CHOICE_FIELDS: [&str; 5] =
    ["finish_reason", "index", "message", "logprobs", "provider_specific_fields"];
/// Fields of a whole reply that LiteLLM writes itself.
const REPLY_FIELDS: [&str; 6] = ["id", "created", "model", "object", "choices", "usage"];
/// Token counts in LiteLLM's order.
const USAGE_COUNTS: [&str; 3] = ["completion_tokens", "prompt_tokens", "total_tokens"];

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
    for (key, value) in deployment.default_params.iter().chain(request) {
        if !WRITTEN.contains(&key.as_str()) && !is_gateways_own(key) && !value.is_null() {
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
    if let Some(error) = reply.get("error").filter(|error| is_meant(error)) {
        return Err(error_in_band(error, 422));
    }
    let Some(choices) = reply.get("choices").and_then(Value::as_array) else {
        let keys: Vec<Value> =
            reply.as_object().into_iter().flat_map(Map::keys).map(|key| key.as_str().into()).collect();
        let message = format!(
            "litellm.APIError: LiteLLM: provider returned a response with no 'choices'. Raw keys: {}",
            super::python_repr(&keys.into())
        );
        return Err(Failure { seen_in: SeenIn::Content, ..Failure::new(ErrorClass::Api, 500, message) });
    };
    let choices = choices.iter().enumerate().map(|(index, choice)| self::choice(index, choice));
    Ok(Completion {
        id: reply.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned),
        created: reply.get("created").and_then(Value::as_u64),
        model: reply.get("model").and_then(Value::as_str).map(str::to_owned),
        choices: choices.collect(),
        usage: reply.get("usage").and_then(Value::as_object).map(usage),
        more: more(&reply),
    })
}

/// One choice: known fields in LiteLLM's order, others set apart.
fn choice(index: usize, choice: &Value) -> Value {
    let empty = Map::new();
    let said = choice.get("message").and_then(Value::as_object).unwrap_or(&empty);
    let mut message = Map::new();
    for key in MESSAGE_FIELDS {
        let value = said.get(key).filter(|value| !value.is_null());
        let is_empty = key == "tool_calls" && value.and_then(Value::as_array).is_some_and(Vec::is_empty);
        match value.filter(|_| !is_empty) {
            Some(value) => drop(message.insert(key.into(), value.clone())),
            None if key == "role" => drop(message.insert(key.into(), "assistant".into())),
            // The one field that is there even when it is null.
            None if key == "content" => drop(message.insert(key.into(), Value::Null)),
            None => {}
        }
    }
    let unknown = others(said, &MESSAGE_FIELDS);
    if !unknown.is_empty() {
        message.insert("provider_specific_fields".into(), unknown.into());
    }
    let finish_reason = match choice.get("finish_reason").and_then(Value::as_str).unwrap_or("stop") {
        "stop" if message.contains_key("tool_calls") => "tool_calls",
        reason => reason,
    };
    let unknown = choice.as_object().map(|choice| others(choice, &CHOICE_FIELDS)).unwrap_or_default();
    let mut written = json!({ "finish_reason": finish_reason, "index": index, "message": message });
    if let Some(said) = choice.get("logprobs").filter(|said| !said.is_null()) {
        written["logprobs"] = without_nulls(said);
    }
    written["provider_specific_fields"] = unknown.into();
    written
}

/// A value as LiteLLM writes what it has read itself: what is null is left out.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let said = fields.iter().filter(|(_, value)| !value.is_null());
            said.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        scalar => scalar.clone(),
    }
}

fn others(fields: &Map<String, Value>, known: &[&str]) -> Map<String, Value> {
    let others = fields.iter().filter(|(key, _)| !known.contains(&key.as_str()));
    others.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Token counts in LiteLLM's order; details only where there are any.
fn usage(said: &Map<String, Value>) -> Value {
    let mut usage = Map::new();
    for key in USAGE_COUNTS {
        usage.insert(
            key.into(),
            said.get(key).filter(|count| !count.is_null()).cloned().unwrap_or_else(|| 0.into()),
        );
    }
    for (key, value) in said {
        if !USAGE_COUNTS.contains(&key.as_str()) && !value.is_null() {
            usage.insert(key.clone(), value.clone());
        }
    }
    Value::Object(usage)
}

/// What stands in a reply beside the fields that every reply has.
fn more(reply: &Value) -> Map<String, Value> {
    let fields = reply.as_object().into_iter().flatten();
    let more = fields.filter(|(key, value)| !REPLY_FIELDS.contains(&key.as_str()) && !value.is_null());
    more.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Reads the data of one server-sent event; `None` for an event that carries nothing.
///
/// # Errors
/// [`Failure`] for an error event, with the status that it names (500 otherwise). Data that is not JSON is passed
/// over.
pub fn chunk(data: &str) -> Result<Option<Chunk>, Failure> {
    if data == "[DONE]" {
        return Ok(Some(Chunk::Done));
    }
    let Ok(reply) = serde_json::from_str::<Value>(data) else { return Ok(None) };
    if let Some(error) = reply.get("error").filter(|error| !error.is_null()) {
        return Err(error_in_band(error, 500));
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
        logprobs: choice.get("logprobs").filter(|said| !said.is_null()).map(without_nulls),
        finish_reason: choice.get("finish_reason").and_then(Value::as_str).map(str::to_owned),
        usage,
    }))
}

/// An error object that says something; some servers send an empty one with every reply.
fn is_meant(error: &Value) -> bool {
    match error {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => {
            let said = fields.get("message").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
            said || fields.get("code").is_some_and(|code| !code.is_null())
        }
        _ => true,
    }
}

/// An error that came with status 200: the status it names counts, else `otherwise`.
fn error_in_band(error: &Value, otherwise: u16) -> Failure {
    let code = match error.get("code") {
        Some(Value::String(code)) => code.parse().ok(),
        Some(code) => code.as_u64().and_then(|code| u16::try_from(code).ok()),
        None => None,
    };
    let status = code.filter(|code| (400..600).contains(code)).unwrap_or(otherwise);
    let detail = error.get("message").and_then(Value::as_str).unwrap_or("Error in response object");
    let limits = super::Limits { request_timeout: None, timeout: None };
    let failure = super::status_failure(Provider::HostedVllm, status, detail, limits);
    Failure { seen_in: SeenIn::Content, ..failure }
}
