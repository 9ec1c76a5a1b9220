//! OpenAI's chat API in the form that vLLM gives it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::engine::Work;
use super::reply::{Script, streamed, whole};
use super::{Component, read_messages};
use crate::record::{Entry, Outcome};
use crate::serve::{Body, read_body};

const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const SSE: &str = "text/event-stream; charset=utf-8";
const VERSION: &str = "0.12.0";

pub(super) async fn answer(
    component: &Component,
    entry: Entry,
    request: Request<Incoming>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let method = &head.method;
    let is_read = method == Method::GET || method == Method::HEAD;
    match head.uri.path() {
        "/health" if is_read => whole(entry, method, StatusCode::OK, JSON, ""),
        "/version" if is_read => {
            whole(entry, method, StatusCode::OK, JSON, json!({ "version": VERSION }).to_string())
        }
        "/metrics" | "/metrics/" if is_read => {
            let page = component.metrics.page(&component.engine.present());
            whole(entry, method, StatusCode::OK, METRICS, page)
        }
        "/v1/models" if is_read => whole(entry, method, StatusCode::OK, JSON, models(component).to_string()),
        "/v1/chat/completions" if method == Method::POST => match read_body(body).await {
            Ok(body) => match serde_json::from_slice(&body) {
                Ok(asked) => chat(component, entry, &asked).await,
                Err(error) => bad_request(entry, &format!("JSON decode error: {error}"), Value::Null),
            },
            Err(error) => {
                let status = error.status();
                failure(
                    entry,
                    status,
                    status.canonical_reason().unwrap_or_default(),
                    &error.to_string(),
                    Value::Null,
                )
            }
        },
        "/health" | "/version" | "/metrics" | "/metrics/" | "/v1/models" | "/v1/chat/completions" => failure(
            entry,
            StatusCode::METHOD_NOT_ALLOWED,
            "Method Not Allowed",
            "Method Not Allowed",
            Value::Null,
        ),
        _ => failure(entry, StatusCode::NOT_FOUND, "Not Found", "Not Found", Value::Null),
    }
}

fn failure(entry: Entry, status: StatusCode, kind: &str, message: &str, param: Value) -> Response<Body> {
    let error = json!({
        "error": { "message": message, "type": kind, "param": param, "code": status.as_u16() }
    });
    whole(entry, &Method::POST, status, JSON, error.to_string())
}

fn bad_request(entry: Entry, message: &str, param: Value) -> Response<Body> {
    failure(entry, StatusCode::BAD_REQUEST, "BadRequestError", message, param)
}

fn models(component: &Component) -> Value {
    let created = jiff::Timestamp::now().as_second();
    let model = |id: &str| {
        json!({
            "id": id, "object": "model", "created": created, "owned_by": "vllm", "root": id, "parent": null,
            "max_model_len": 32_768, "permission": [],
        })
    };
    json!({ "object": "list", "data": component.engine.present().into_iter().map(model).collect::<Vec<_>>() })
}

async fn chat(component: &Component, mut entry: Entry, asked: &Value) -> Response<Body> {
    let stream = asked["stream"].as_bool().unwrap_or(false);
    let messages = asked["messages"].as_array();
    let (markers, prompt_token_count) = read_messages(messages.map_or(&[][..], Vec::as_slice));
    let named = asked["model"].as_str();
    entry.describe(named, markers, stream);
    if messages.is_none() {
        return bad_request(entry, "messages: Field required", json!("messages"));
    }
    let present = component.engine.present();
    // A request that names no model gets the first one.
    let Some(model) = present.iter().find(|model| named.is_none_or(|named| named == **model)) else {
        let message = format!("The model `{}` does not exist.", named.unwrap_or_default());
        return failure(entry, StatusCode::NOT_FOUND, "NotFoundError", &message, json!("model"));
    };
    let limit =
        [&asked["max_completion_tokens"], &asked["max_tokens"]].into_iter().find(|limit| !limit.is_null());
    let limit = match limit.map(|limit| limit.as_u64()) {
        None => None,
        Some(Some(limit)) if limit > 0 => Some(u32::try_from(limit).unwrap_or(u32::MAX)),
        Some(_) => {
            return bad_request(entry, "max_tokens must be an integer of at least 1.", json!("max_tokens"));
        }
    };
    let Ok(work) = component.engine.begin(model, limit).await else {
        let message = "The server is overloaded.";
        return failure(entry, StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message, Value::Null);
    };
    let chat = Chat {
        id: format!("chatcmpl-{}", component.engine.draw_id()),
        created: jiff::Timestamp::now().as_second(),
        model: (*model).to_owned(),
        prompt_token_count,
        with_usage: asked["stream_options"]["include_usage"].as_bool().unwrap_or(false),
        tokens: (0..work.token_count).map(|index| component.token(index)).collect(),
        work,
    };
    let (metrics, model, reason) = (component.metrics.clone(), chat.model.clone(), chat.finish_reason());
    entry.at_its_end(move |outcome, _| {
        let reason = if matches!(outcome, Outcome::Answered { .. }) { reason } else { "abort" };
        metrics.count(&model, reason);
    });
    if stream {
        // The real one sends its headers at once, long before the first token.
        return streamed(entry, SSE, chat.work.first_token_at, chat);
    }
    tokio::time::sleep_until(chat.work.last_token_at()).await;
    let answer = chat.whole();
    whole(entry, &Method::POST, StatusCode::OK, JSON, answer.to_string())
}

/// A chat whose answer is being sent.
struct Chat {
    id: String,
    created: i64,
    model: String,
    prompt_token_count: u64,
    with_usage: bool,
    tokens: Vec<&'static str>,
    work: Work,
}

/// What a frame of the stream is.
enum Part {
    Role,
    Token(u32),
    Finish,
    Usage,
    Done,
}

impl Chat {
    fn finish_reason(&self) -> &'static str {
        if self.work.cut { "length" } else { "stop" }
    }

    fn usage(&self) -> Value {
        let completion_tokens = u64::from(self.work.token_count);
        json!({
            "prompt_tokens": self.prompt_token_count,
            "total_tokens": self.prompt_token_count + completion_tokens,
            "completion_tokens": completion_tokens,
        })
    }

    fn whole(&self) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{
                "index": 0,
                "message": {
                    "role": "assistant", "content": self.tokens.concat(), "refusal": null, "tool_calls": [],
                    "reasoning_content": null,
                },
                "logprobs": null, "finish_reason": self.finish_reason(), "stop_reason": null,
            }],
            "usage": self.usage(), "prompt_logprobs": null,
        })
    }

    /// Frame `n`: role, tokens, finish, usage where it was asked for, done.
    fn part(&self, n: u32) -> Option<Part> {
        let after_tokens = self.work.token_count.checked_add(1)?;
        match (n, n.checked_sub(after_tokens)) {
            (0, _) => Some(Part::Role),
            (_, None) => Some(Part::Token(n - 1)),
            (_, Some(0)) => Some(Part::Finish),
            (_, Some(1)) if self.with_usage => Some(Part::Usage),
            (_, Some(rest)) => (rest == 1 + u32::from(self.with_usage)).then_some(Part::Done),
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        })
    }

    fn delta(&self, delta: Value, finish_reason: Option<&str>) -> Value {
        self.chunk(json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason }]))
    }
}

impl Script for Chat {
    fn due(&self, n: u32) -> Option<Duration> {
        Some(match self.part(n)? {
            Part::Role => Duration::ZERO,
            Part::Token(index) => self.work.token_offset(index),
            Part::Finish | Part::Usage | Part::Done => self.work.last_token_offset(),
        })
    }

    fn render(&self, n: u32) -> Bytes {
        let chunk = match self.part(n) {
            Some(Part::Role) => self.delta(json!({ "role": "assistant", "content": "" }), None),
            Some(Part::Token(index)) => self.delta(json!({ "content": self.tokens[index as usize] }), None),
            Some(Part::Finish) => self.delta(json!({}), Some(self.finish_reason())),
            Some(Part::Usage) => {
                let mut chunk = self.chunk(json!([]));
                chunk["usage"] = self.usage();
                chunk
            }
            Some(Part::Done) | None => return Bytes::from_static(b"data: [DONE]\n\n"),
        };
        format!("data: {chunk}\n\n").into()
    }
}
