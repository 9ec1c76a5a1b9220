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

use super::config::Provider;
use super::drive::{Content, FailedAnswer, Outcome, Reply};
use super::failure::{ErrorClass, Failure};
use super::router::Served;
use super::sse::{SseWriter, Tally};
use super::{Shared, VERSION};

/// What a reply cost: nothing, for the models of the two providers.
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
    /// The body's `model`, if it has one.
    pub(super) model: Option<String>,
    /// The reply is to be a stream.
    pub(super) streaming: bool,
    /// The request's own timeout, as it was written.
    pub(super) timeout: Option<String>,
    /// A stream is to tell of the failures before it.
    pub(super) tells_fallbacks: bool,
    /// `stream_options.include_usage`.
    pub(super) include_usage: bool,
}

/// A reply with a JSON body and the headers that every reply of the proxy has.
pub(super) fn json_reply(status: u16, body: &Value) -> Response<Body> {
    whole_reply(status, "application/json", body.to_string())
}

/// A page for people.
pub(super) fn html_reply(text: &str) -> Response<Body> {
    whole_reply(200, "text/html; charset=utf-8", text.to_owned())
}

/// A reply without a body.
pub(super) fn empty_reply(status: u16) -> Response<Body> {
    let mut response = whole_reply(status, "", String::new());
    response.headers_mut().remove("content-type");
    response
}

/// A reply from outside the layer that sets the proxy's usual headers.
pub(super) fn bare_reply(status: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set(&mut response, "content-type", "application/json");
    response
}

/// From this size on a whole body would be compressed for clients that accept it, which `vary` says to all.
const COMPRESSED_BYTES: usize = 500;

fn whole_reply(status: u16, content_type: &'static str, body: String) -> Response<Body> {
    let large = body.len() >= COMPRESSED_BYTES;
    let mut response = reply(status, content_type, Full::new(Bytes::from(body)).boxed_unsync());
    if large {
        set(&mut response, "vary", "Origin, Accept-Encoding");
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
        Err(failed) => failed_answer(shared, &asked, &failed, &durations, outcome.priced),
        Ok(reply) => {
            let served = reply.served.clone();
            let streaming = matches!(reply.content, Content::Stream { .. });
            // `ollama_chat` loses the upstream's headers unless it streams.
            let is_vllm = reply.completion_has_upstream_headers(shared);
            let upstream = if streaming || is_vllm { reply.upstream_headers.clone() } else { Vec::new() };
            let mut response = served_body(shared, &asked, reply, outcome.prompt_chars);
            set(&mut response, "x-litellm-call-id", &asked.call_id);
            attribute(shared, &mut response, &served);
            if !served.fallback_errors.is_empty() {
                let errors = python_json(&fallback_errors(&served));
                set(&mut response, "x-litellm-fallback-errors", &errors);
            }
            account(&mut response, &durations, outcome.priced);
            pass_on(&mut response, &upstream);
            response
        }
    }
}

/// What the reply cost and how long it took.
fn account(response: &mut Response<Body>, durations: &[(&str, Duration)], priced: bool) {
    for name in COST_HEADERS.into_iter().filter(|_| priced) {
        set(response, name, "0.0");
    }
    for (name, duration) in durations {
        set(response, name, &format!("{:.3}", duration.as_secs_f64() * 1000.0));
    }
}

impl Reply {
    fn completion_has_upstream_headers(&self, shared: &Shared) -> bool {
        let provider = shared.config.deployments[self.served.deployment].provider;
        provider == Provider::HostedVllm
    }
}

fn served_body(shared: &Arc<Shared>, asked: &Asked, reply: Reply, prompt_chars: usize) -> Response<Body> {
    let deployment = &shared.config.deployments[reply.served.deployment];
    let fell_back = reply.served.attempted_fallbacks > 0;
    match reply.content {
        Content::Whole(completion) => {
            let model = match (asked.model.as_ref().filter(|_| !fell_back), completion.model) {
                (Some(asked), _) => asked.clone(),
                (None, Some(own)) => own,
                (None, None) => deployment.model.clone(),
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
            let created = super::unix_seconds();
            let told = fallback_event(&reply.served, created).filter(|_| asked.tells_fallbacks);
            let model = match (reply.served.chunks_name, &asked.model) {
                (Some(name), _) => name,
                (None, Some(asked)) if !fell_back => asked.clone(),
                (None, _) => reply.served.group,
            };
            let adds_up = reply.served.after_broken_stream;
            let tally = Tally {
                shared: Arc::clone(shared),
                deployment: reply.served.deployment,
                counts_failure: reply.served.unfailed,
            };
            let writer =
                SseWriter::new(first, rest, deployment.provider, tally, model, created, asked.include_usage)
                    .telling(told)
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
    priced: bool,
) -> Response<Body> {
    let failure = &failed.failure;
    let kind = error_type(failure, failed.broken_stream.is_some()).unwrap_or(Value::Null);
    let body = error_object(&failure.message, kind, Value::Null, failure.status);
    let mut response = json_reply(failure.status, &body);
    set(&mut response, "x-litellm-call-id", &asked.call_id);
    if let Some((served, upstream_headers)) = &failed.broken_stream {
        attribute(shared, &mut response, served);
        account(&mut response, durations, priced);
        pass_on(&mut response, upstream_headers);
        return response;
    }
    set(&mut response, "x-litellm-response-cost", "0");
    set(&mut response, "x-litellm-key-spend", "0.0");
    if let Some(deployment) = failure.deployment {
        let shown = || shared.config.shown_timeout(deployment, asked.streaming);
        set(&mut response, "x-litellm-timeout", &asked.timeout.clone().unwrap_or_else(shown));
    }
    if let Some(cooldown) = failure.cooldown {
        set(&mut response, "retry-after", &cooldown.as_secs().to_string());
    }
    pass_on(&mut response, &failure.upstream_headers);
    response
}

/// The failures before a reply, in the form of the header and of the event that tell of them.
fn fallback_errors(served: &Served) -> Value {
    let told = served.fallback_errors.iter().map(|error| {
        // Only these classes have a `type` of their own; Python shows the others' as it shows nothing.
        let kind = match error.class {
            ErrorClass::InternalServer => "internal_server_error",
            ErrorClass::RateLimit => "throttling_error",
            ErrorClass::NoDeployments => error.class.name(),
            _ => "None",
        };
        json!({ "message": error.message, "type": kind, "param": null, "code": error.status.to_string() })
    });
    told.collect()
}

/// The event that tells the same in a stream.
fn fallback_event(served: &Served, created: u64) -> Option<Bytes> {
    if served.fallback_errors.is_empty() {
        return None;
    }
    let group = served.chunks_name.as_ref().unwrap_or(&served.group);
    let event = json!({
        "id": "litellm-fallback-metadata", "object": "chat.completion.chunk", "created": created,
        "model": group, "choices": [],
        "litellm_fallback": { "fallback_model": group, "errors": fallback_errors(served) },
    });
    Some(Bytes::from(format!("data: {}\n\n", python_json(&event))))
}

/// JSON as Python writes it by default: spaces after colons and commas, and no character beyond ASCII.
pub(super) fn python_json(value: &Value) -> String {
    let text = match value {
        Value::Array(items) => format!("[{}]", items.iter().map(python_json).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                format!("{}: {}", python_json(&Value::from(name.as_str())), python_json(value))
            };
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    };
    if text.is_ascii() {
        return text;
    }
    let mut units = [0; 2];
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            escaped.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    escaped
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
