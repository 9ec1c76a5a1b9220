//! Replies to the client: attribution headers, bodies, error objects (sections 2 and 5).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use super::drive::{Content, FailedAnswer, Outcome, Reply};
use super::failure::{ErrorClass, Failure};
use super::router::Served;
use super::sse::SseWriter;
use super::{Shared, VERSION};

/// From this length on LiteLLM compresses a whole reply for clients that accept it, and says so in `vary`. Here it is
/// said, not done.
const COMPRESSIBLE_BYTES: usize = 500;
/// What a reply cost: nothing, since the models are unknown to the price list.
const COST_HEADERS: [&str; 7] = [
    "x-litellm-response-cost-original",
    "x-litellm-response-cost-discount-amount",
    "x-litellm-response-cost-margin-amount",
    "x-litellm-response-cost-margin-percent",
    "x-litellm-response-cost-input",
    "x-litellm-response-cost-output",
    "x-litellm-response-cost-tool-usage",
];

/// The body of every reply.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What of the request shapes its reply.
pub(super) struct Asked {
    /// `x-litellm-call-id`, the client's own or a new one.
    pub(super) call_id: String,
    /// The body's `model`.
    pub(super) model: String,
    /// `stream_options.include_usage`.
    pub(super) include_usage: bool,
}

/// A reply with a JSON body and the headers that every reply of the proxy has.
pub(super) fn json_reply(status: u16, body: &Value) -> Response<Body> {
    let text = body.to_string();
    let is_long = text.len() >= COMPRESSIBLE_BYTES;
    let mut response = reply(status, "application/json", Full::new(Bytes::from(text)).boxed_unsync());
    if is_long {
        response.headers_mut().insert("vary", HeaderValue::from_static("Origin, Accept-Encoding"));
    }
    response
}

fn reply(status: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let fixed = [
        ("content-type", content_type),
        ("vary", "Origin"),
        ("x-frame-options", "DENY"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("x-content-type-options", "nosniff"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An error of the proxy itself, before any routing.
pub(super) fn proxy_error(status: u16, message: &str, kind: &str, param: Value) -> Response<Body> {
    json_reply(status, &error_object(message, kind.into(), param, status))
}

fn error_object(message: &str, kind: Value, param: Value, status: u16) -> Value {
    json!({ "error": { "message": message, "type": kind, "param": param, "code": status.to_string() } })
}

/// The error object's `type`; `None` where it is null.
pub(super) fn error_type(failure: &Failure, in_stream: bool) -> Option<Value> {
    if in_stream && matches!(failure.class, ErrorClass::ApiConnection | ErrorClass::BadRequest) {
        return None;
    }
    if failure.class == ErrorClass::NoDeployments {
        let by_group = failure.message.contains("All deployments for selected model are in cooldown");
        return Some(if by_group { "all_deployments_in_cooldown" } else { "rate_limit_error" }.into());
    }
    let kind = match failure.status_before_forcing.unwrap_or(failure.status) {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "throttling_error",
        400..=499 => "invalid_request_error",
        _ => "internal_server_error",
    };
    Some(kind.into())
}

/// The whole answer of a chat request.
pub(super) fn answer(shared: &Arc<Shared>, asked: Asked, outcome: Outcome) -> Response<Body> {
    let durations = [
        ("x-litellm-response-duration-ms", outcome.total),
        ("x-litellm-overhead-duration-ms", outcome.total.saturating_sub(outcome.in_calls)),
        // No callbacks are imitated.
        ("x-litellm-callback-duration-ms", Duration::ZERO),
    ];
    match outcome.answer {
        Err(failed) => failed_answer(shared, &asked, &failed, &durations),
        Ok(reply) => {
            let served = reply.served.clone();
            let streaming = matches!(reply.content, Content::Stream { .. });
            // `ollama_chat` loses the upstream's headers unless it streams.
            let is_vllm = reply.completion_has_upstream_headers(shared);
            let upstream = if streaming || is_vllm { reply.upstream_headers.clone() } else { Vec::new() };
            let mut response = served_body(shared, &asked, reply, outcome.prompt_chars);
            set(&mut response, "x-litellm-call-id", &asked.call_id);
            attribute(shared, &mut response, &served);
            account(&mut response, &durations);
            pass_on(&mut response, &upstream);
            response
        }
    }
}

/// What the reply cost and how long it took.
fn account(response: &mut Response<Body>, durations: &[(&str, Duration)]) {
    for name in COST_HEADERS {
        set(response, name, "0.0");
    }
    for (name, duration) in durations {
        set(response, name, &format!("{:.3}", duration.as_secs_f64() * 1000.0));
    }
}

impl Reply {
    fn completion_has_upstream_headers(&self, shared: &Shared) -> bool {
        let provider = shared.config.deployments[self.served.deployment].provider;
        provider == super::config::Provider::HostedVllm
    }
}

fn served_body(shared: &Arc<Shared>, asked: &Asked, reply: Reply, prompt_chars: usize) -> Response<Body> {
    let deployment = &shared.config.deployments[reply.served.deployment];
    let fell_back = reply.served.attempted_fallbacks > 0;
    match reply.content {
        Content::Whole(completion) => {
            let model = match completion.model {
                _ if !fell_back => asked.model.clone(),
                Some(own) => own,
                None => deployment.model.clone(),
            };
            let id = completion.id.unwrap_or_else(|| format!("chatcmpl-{}", shared.ids.uuid()));
            let mut body = json!({
                "id": id,
                "created": completion.created.unwrap_or_else(super::unix_seconds),
                "model": model,
                "object": "chat.completion",
                "choices": completion.choices,
            });
            if let Some(usage) = completion.usage {
                body["usage"] = usage;
            }
            for (key, value) in completion.more {
                body[key] = value;
            }
            json_reply(200, &body)
        }
        Content::Stream { first, rest } => {
            let model = if fell_back { reply.served.group } else { asked.model.clone() };
            let created = super::unix_seconds();
            let ids = shared.ids.clone();
            let adds_up = reply.served.after_broken_stream;
            let blames = reply.served.unfailed.then(|| (Arc::clone(shared), reply.served.deployment));
            let writer =
                SseWriter::new(first, rest, deployment.provider, ids, model, created, asked.include_usage)
                    .blaming(blames)
                    .counting(prompt_chars, adds_up);
            let frames = stream::unfold(writer, |mut writer| async move {
                let bytes = writer.next().await?;
                Some((Ok::<_, Infallible>(Frame::data(bytes)), writer))
            });
            let body = StreamBody::new(frames).boxed_unsync();
            let mut response = self::reply(200, "text/event-stream; charset=utf-8", body);
            set(&mut response, "cache-control", "no-cache");
            set(&mut response, "x-accel-buffering", "no");
            response
        }
    }
}

fn failed_answer(
    shared: &Shared,
    asked: &Asked,
    failed: &FailedAnswer,
    durations: &[(&str, Duration)],
) -> Response<Body> {
    let failure = &failed.failure;
    let kind = error_type(failure, failed.broken_stream.is_some()).unwrap_or(Value::Null);
    let body = error_object(&failure.message, kind, Value::Null, failure.status);
    let mut response = json_reply(failure.status, &body);
    set(&mut response, "x-litellm-call-id", &asked.call_id);
    if let Some((served, upstream_headers)) = &failed.broken_stream {
        attribute(shared, &mut response, served);
        account(&mut response, durations);
        pass_on(&mut response, upstream_headers);
        return response;
    }
    set(&mut response, "x-litellm-response-cost", "0");
    set(&mut response, "x-litellm-key-spend", "0.0");
    if let Some(timeout) = failure.timeout {
        set(&mut response, "x-litellm-timeout", &shared.config.as_written(timeout));
    }
    if let Some(cooldown) = failure.cooldown {
        set(&mut response, "retry-after", &cooldown.as_secs().to_string());
    }
    pass_on(&mut response, &failure.upstream_headers);
    response
}

fn attribute(shared: &Shared, response: &mut Response<Body>, served: &Served) {
    let deployment = &shared.config.deployments[served.deployment];
    set(response, "x-litellm-model-id", &deployment.id);
    set(response, "x-litellm-model-name", &shared.config.deployments[served.named].model);
    set(response, "x-litellm-model-api-base", &deployment.api_base);
    set(response, "x-litellm-version", VERSION);
    set(response, "x-litellm-key-spend", "0.0");
    set(response, "x-litellm-model-group", &served.group);
    set(response, "x-litellm-attempted-retries", &served.attempted_retries.to_string());
    if let Some(budget) = served.max_retries {
        set(response, "x-litellm-max-retries", &budget.to_string());
    }
    set(response, "x-litellm-attempted-fallbacks", &served.attempted_fallbacks.to_string());
}

fn pass_on(response: &mut Response<Body>, upstream_headers: &[(String, String)]) {
    for (name, value) in upstream_headers {
        set(response, &format!("llm_provider-{name}"), value);
    }
}

/// Sets a header; a value that cannot stand in one is left out.
pub(super) fn set(response: &mut Response<Body>, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        response.headers_mut().insert(name, value);
    }
}
