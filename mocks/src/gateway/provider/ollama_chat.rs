//! Ollama's native chat API: `POST {api_base}/api/chat`, whole replies as JSON, streams as JSON lines.

use serde_json::{Map, Value, json};

use super::params::beyond_openai;
use super::{Chunk, Completion, param};
use crate::gateway::config::{Deployment, Provider};
use crate::gateway::failure::{ErrorClass, Failure};

/// OpenAI parameter -> Ollama option.
const OPTIONS: [(&str, &str); 7] = [
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("frequency_penalty", "repeat_penalty"),
    ("stop", "stop"),
    ("max_tokens", "num_predict"),
    ("max_completion_tokens", "num_predict"),
    ("seed", "seed"),
];

/// The body for Ollama.
pub(super) fn body(
    deployment: &Deployment,
    request: &Map<String, Value>,
    streaming: bool,
) -> Map<String, Value> {
    let messages: Vec<Value> =
        request.get("messages").and_then(Value::as_array).into_iter().flatten().map(message).collect();
    let mut options = Map::new();
    for (openai, ollama) in OPTIONS {
        if let Some(value) = param(deployment, request, openai) {
            options.insert(ollama.to_owned(), value.clone());
        }
    }
    for (name, value) in beyond_openai(request) {
        options.insert(name.clone(), value.clone());
    }
    let mut body = Map::new();
    body.insert("model".into(), deployment.upstream_model.as_str().into());
    body.insert("messages".into(), messages.into());
    body.insert("options".into(), options.into());
    body.insert("stream".into(), streaming.into());
    if let Some(tools) = param(deployment, request, "tools") {
        body.insert("tools".into(), tools.clone());
    }
    let wants_json = request.get("response_format").and_then(|format| format.get("type"));
    if wants_json.is_some_and(|kind| kind == "json_object") {
        body.insert("format".into(), "json".into());
    }
    body
}

/// Text parts are joined and images taken out, since Ollama wants them apart.
fn message(message: &Value) -> Value {
    let mut images: Vec<Value> = Vec::new();
    let content = match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let urls = parts.iter().filter_map(|part| part.pointer("/image_url/url")?.as_str());
            images.extend(urls.map(|url| url.rsplit_once(',').map_or(url, |(_, data)| data).into()));
            parts.iter().filter_map(|part| part.get("text")?.as_str()).collect()
        }
        _ => String::new(),
    };
    let role = message.get("role").cloned().unwrap_or_else(|| "assistant".into());
    let mut translated = json!({ "role": role, "content": content, "images": images });
    if let Some(calls) = message.get("tool_calls").and_then(Value::as_array) {
        translated["tool_calls"] = calls.iter().map(from_openai_call).collect();
    }
    translated
}

fn from_openai_call(call: &Value) -> Value {
    let arguments = call.pointer("/function/arguments").and_then(Value::as_str).unwrap_or("{}");
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
    json!({ "function": { "name": call.pointer("/function/name"), "arguments": arguments } })
}

fn to_openai_calls(message: &Value) -> Option<Value> {
    let calls = message.get("tool_calls")?.as_array().filter(|calls| !calls.is_empty())?;
    let translated = calls.iter().enumerate().map(|(index, call)| {
        let arguments = call.pointer("/function/arguments").cloned().unwrap_or_else(|| json!({}));
        let name = call.pointer("/function/name").cloned();
        json!({ "index": index, "id": format!("call_{index}"), "type": "function",
                "function": { "name": name, "arguments": arguments.to_string() } })
    });
    Some(translated.collect())
}

fn text<'a>(message: &'a Value, key: &str) -> &'a str {
    message.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn usage(reply: &Value) -> Value {
    let count = |key: &str| reply.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (prompt, completion) = (count("prompt_eval_count"), count("eval_count"));
    json!({ "completion_tokens": completion, "prompt_tokens": prompt, "total_tokens": prompt.saturating_add(completion) })
}

fn finish_reason(reply: &Value, has_calls: bool) -> String {
    if has_calls {
        return "tool_calls".to_owned();
    }
    match reply.get("done_reason").and_then(Value::as_str) {
        Some("length") => "length".to_owned(),
        _ => "stop".to_owned(),
    }
}

fn unexpected(reply: &Value) -> Failure {
    let message = format!(
        "litellm.BadRequestError: Ollama_chatException - KeyError: 'message', Got unexpected response from Ollama: {}",
        super::python_repr(reply)
    );
    Failure::new(ErrorClass::BadRequest, 400, message)
}

/// Reads a whole reply.
///
/// # Errors
/// [`Failure`] if it is not one.
pub fn completion(body: &[u8]) -> Result<Completion, Failure> {
    let reply: Value = serde_json::from_slice(body)
        .map_err(|_| super::not_json(Provider::OllamaChat, &String::from_utf8_lossy(body)))?;
    let Some(message) = reply.get("message").filter(|message| message.is_object()) else {
        return Err(super::stumbled(
            "litellm.types.utils.Message() argument after ** must be a mapping, not NoneType",
        ));
    };
    let calls = to_openai_calls(message);
    let finish_reason = finish_reason(&reply, calls.is_some());
    let mut translated = json!({ "content": text(message, "content"), "role": "assistant" });
    if let Some(calls) = calls {
        translated["tool_calls"] = calls;
    }
    if !text(message, "thinking").is_empty() {
        translated["reasoning_content"] = text(message, "thinking").into();
    }
    Ok(Completion {
        id: None,
        created: None,
        model: None,
        choices: json!([{ "finish_reason": finish_reason, "index": 0, "message": translated }]),
        usage: Some(usage(&reply)),
        more: Map::new(),
    })
}

/// Reads one line of a stream; `None` for one that is not JSON, which LiteLLM passes over.
///
/// # Errors
/// [`Failure`] for an error line (400).
pub fn chunk(line: &str) -> Result<Option<Chunk>, Failure> {
    let Ok(reply) = serde_json::from_str::<Value>(line) else { return Ok(None) };
    let Some(message) = reply.get("message").filter(|message| message.is_object()) else {
        return Err(unexpected(&reply));
    };
    let mut delta = Map::new();
    for (ollama, openai) in [("thinking", "reasoning_content"), ("content", "content")] {
        if !text(message, ollama).is_empty() {
            delta.insert(openai.to_owned(), text(message, ollama).into());
        }
    }
    let calls = to_openai_calls(message);
    let has_calls = calls.is_some();
    if let Some(calls) = calls {
        delta.insert("tool_calls".into(), calls);
    }
    let done = reply.get("done").and_then(Value::as_bool).unwrap_or(false);
    Ok(Some(Chunk::Delta {
        id: None,
        delta,
        logprobs: None,
        finish_reason: done.then(|| finish_reason(&reply, has_calls)),
        usage: done.then(|| usage(&reply)),
    }))
}
