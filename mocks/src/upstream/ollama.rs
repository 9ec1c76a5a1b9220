//! Ollama's API, as far as a chat client and a gateway use it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::engine::Work;
use super::reply::{Script, streamed, whole};
use super::{Component, read_messages};
use crate::profile::TimingKind;
use crate::record::{Entry, Markers};
use crate::serve::{Body, read_body};

const JSON: &str = "application/json; charset=utf-8";
const NDJSON: &str = "application/x-ndjson";
const TEXT: &str = "text/plain; charset=utf-8";
const VERSION: &str = "0.13.0";
/// The date that listings give for all models.
const MODIFIED_AT: &str = "2026-10-01T08:00:00Z";

pub(super) async fn answer(
    component: &Component,
    entry: Entry,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let method = &head.method;
    let is_read = method == Method::GET || method == Method::HEAD;
    let plain = |entry, status, text: &'static str| whole(entry, method, status, TEXT, text);
    match head.uri.path() {
        "/" if is_read => plain(entry, StatusCode::OK, "Ollama is running"),
        "/api/version" if is_read => {
            whole(entry, method, StatusCode::OK, JSON, json!({ "version": VERSION }).to_string())
        }
        "/api/tags" if is_read => whole(entry, method, StatusCode::OK, JSON, tags(component).to_string()),
        path @ ("/api/chat" | "/api/show") if method == Method::POST => {
            let body = match read_body(body).await {
                Ok(body) => body,
                Err(error) => return failure(entry, error.status(), &error.to_string()),
            };
            let asked: Value = match serde_json::from_slice(&body) {
                Ok(asked) => asked,
                Err(_) if body.is_empty() => {
                    return failure(entry, StatusCode::BAD_REQUEST, "missing request body");
                }
                Err(error) => return failure(entry, StatusCode::BAD_REQUEST, &error.to_string()),
            };
            if path == "/api/chat" {
                chat(component, entry, &asked).await
            } else {
                show(component, entry, &asked)
            }
        }
        "/" | "/api/version" | "/api/tags" | "/api/chat" | "/api/show" => {
            plain(entry, StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed")
        }
        _ => plain(entry, StatusCode::NOT_FOUND, "404 page not found"),
    }
}

fn failure(entry: Entry, status: StatusCode, message: &str) -> Response<Body> {
    whole(entry, &Method::POST, status, JSON, json!({ "error": message }).to_string())
}

/// `name` and `name:latest` mean the same model.
fn without_latest(model: &str) -> &str {
    model.strip_suffix(":latest").unwrap_or(model)
}

/// The present model that this name means.
fn find(component: &Component, asked: &str) -> Option<String> {
    let present = component.engine.present();
    present.into_iter().find(|model| without_latest(model) == without_latest(asked)).map(str::to_owned)
}

fn tags(component: &Component) -> Value {
    let model = |model: &str| {
        // The hosted service lists names as they are; a local Ollama always with a tag.
        let local = component.options.timing != TimingKind::Cloud && !model.contains(':');
        let name = if local { format!("{model}:latest") } else { model.to_owned() };
        json!({
            "name": name, "model": name, "modified_at": MODIFIED_AT, "size": 2_491_876_774_u64,
            "digest": "", "details": details(model),
        })
    };
    json!({ "models": component.engine.present().into_iter().map(model).collect::<Vec<_>>() })
}

fn details(model: &str) -> Value {
    let family = model.split([':', '-']).next().unwrap_or(model);
    json!({
        "parent_model": "", "format": "gguf", "family": family, "families": [family],
        "parameter_size": "3.8B", "quantization_level": "Q4_K_M",
    })
}

fn show(component: &Component, entry: Entry, asked: &Value) -> Response<Body> {
    let Some(name) =
        asked["model"].as_str().or_else(|| asked["name"].as_str()).filter(|name| !name.is_empty())
    else {
        return failure(entry, StatusCode::BAD_REQUEST, "model is required");
    };
    entry.describe(Some(name), Markers::default(), false);
    let Some(model) = find(component, name) else { return not_found(entry, name) };
    let shown = json!({
        "modelfile": "", "parameters": "", "template": "{{ .Prompt }}", "details": details(&model),
        "model_info": { "general.architecture": "mock" }, "capabilities": ["completion", "tools"],
        "modified_at": MODIFIED_AT,
    });
    whole(entry, &Method::POST, StatusCode::OK, JSON, shown.to_string())
}

fn not_found(entry: Entry, model: &str) -> Response<Body> {
    failure(entry, StatusCode::NOT_FOUND, &format!("model \"{model}\" not found"))
}

async fn chat(component: &Component, entry: Entry, asked: &Value) -> Response<Body> {
    let stream = asked["stream"].as_bool().unwrap_or(true);
    let messages = asked["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let (markers, prompt_token_count) = read_messages(messages);
    let model = asked["model"].as_str().unwrap_or_default().to_owned();
    entry.describe(Some(&model), markers, stream);
    if model.is_empty() {
        return failure(entry, StatusCode::BAD_REQUEST, "model is required");
    }
    let Some(present) = find(component, &model) else { return not_found(entry, &model) };
    // Negative limits mean no limit, and so does 0.
    let limit = asked["options"]["num_predict"].as_i64().filter(|limit| *limit > 0);
    let limit = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
    let Ok(work) = component.engine.begin(&present, limit).await else {
        let message = "server busy, please try again.  maximum pending requests exceeded";
        return failure(entry, StatusCode::SERVICE_UNAVAILABLE, message);
    };
    if messages.is_empty() {
        // A chat without messages only loads the model.
        let loaded = line(&model, "", Some(json!({ "done_reason": "load" })));
        return whole(entry, &Method::POST, StatusCode::OK, JSON, loaded.to_string());
    }
    let tokens = (0..work.token_count).map(|index| component.token(index)).collect();
    let chat = Chat { model, prompt_token_count, tokens, work };
    if stream {
        // The real one sends its headers together with the first token.
        tokio::time::sleep_until(chat.work.first_token_at).await;
        return streamed(entry, NDJSON, chat.work.first_token_at, chat);
    }
    tokio::time::sleep_until(chat.work.last_token_at()).await;
    let answer = line(&chat.model, &chat.tokens.concat(), Some(chat.ending()));
    whole(entry, &Method::POST, StatusCode::OK, JSON, answer.to_string())
}

/// A chat whose answer is being sent.
struct Chat {
    model: String,
    prompt_token_count: u64,
    tokens: Vec<&'static str>,
    work: Work,
}

impl Chat {
    /// What only the last line has.
    fn ending(&self) -> Value {
        let work = &self.work;
        json!({
            "done_reason": if work.cut { "length" } else { "stop" },
            "total_duration": nanoseconds(work.began.elapsed()),
            "load_duration": nanoseconds(work.load),
            "prompt_eval_count": self.prompt_token_count,
            "prompt_eval_duration": nanoseconds(work.think),
            "eval_count": work.token_count,
            "eval_duration": nanoseconds(work.last_token_offset()),
        })
    }
}

impl Script for Chat {
    fn due(&self, n: u32) -> Option<Duration> {
        (n <= self.work.token_count).then(|| self.work.token_offset(n.min(self.work.token_count - 1)))
    }

    fn render(&self, n: u32) -> Bytes {
        let line = match self.tokens.get(n as usize) {
            Some(token) => line(&self.model, token, None),
            None => line(&self.model, "", Some(self.ending())),
        };
        format!("{line}\n").into()
    }
}

/// One object of an answer; the last one (or the only one) has an `ending`.
fn line(model: &str, content: &str, ending: Option<Value>) -> Value {
    let mut line = json!({
        "model": model,
        "created_at": jiff::Timestamp::now().to_string(),
        "message": { "role": "assistant", "content": content },
        "done": ending.is_some(),
    });
    if let (Some(line), Some(Value::Object(ending))) = (line.as_object_mut(), ending) {
        line.extend(ending);
    }
    line
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
