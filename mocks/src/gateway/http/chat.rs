//! Chat requests: what is checked before the router sees them (section 7), and what they may override (section 1).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::json_text;
use super::keys::{self, with_cost_headers};
use super::{Refusal, internal_error};
use crate::gateway::Shared;
use crate::gateway::config::{RequestFallbacks, RequestOverrides};
use crate::gateway::drive::drive;
use crate::gateway::responses::{Asked, Body, answer, json_reply, proxy_error, set};
use crate::gateway::router::RequestWalk;

/// Most bytes of a request body.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// How long a client may take to send its body.
const BODY_LIMIT: Duration = Duration::from_secs(30);
/// Body parameters that LiteLLM refuses unless its configuration allows tests in production.
const MOCK_PARAMS: [&str; 6] = [
    "mock_testing_fallbacks",
    "mock_testing_context_fallbacks",
    "mock_testing_content_policy_fallbacks",
    "mock_testing_rate_limit_error",
    "mock_timeout",
    "mock_delay",
];
/// Longest timeout that a request can set.
const MAX_TIMEOUT_S: f64 = 1e9;
/// Most retries that a request can ask for.
const MAX_RETRIES: u64 = 1000;

/// Answers a chat request. `in_path` is the model that the path names: it decides where to the request goes, the
/// body's own `model` only what the reply calls itself.
pub(super) async fn chat(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    in_path: Option<String>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let limited = Limited::new(body, MAX_REQUEST_BYTES).collect();
    let bytes = match tokio::time::timeout(BODY_LIMIT, limited).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(_)) => {
            let message = "Request body is too large or broken";
            return proxy_error(413, message, "invalid_request_error", Value::Null);
        }
        Err(_) => return proxy_error(408, "Request body is late", "invalid_request_error", Value::Null),
    };
    let checked = fields(&parts.headers, &bytes)
        .and_then(|body| keys::check(&shared, &parts.headers).map(|()| body))
        .and_then(|body| checked(&shared, &parts.headers, body, in_path));
    match checked {
        Err(refusal) => *refusal,
        Ok(checked) => answered(shared, checked).await,
    }
}

struct Checked {
    body: Map<String, Value>,
    walk: RequestWalk,
    asked: Asked,
    streaming: bool,
}

/// A client that goes away does not end its request, unless the configuration says so: the work runs in a task of
/// its own.
async fn answered(shared: Arc<Shared>, checked: Checked) -> Response<Body> {
    let cancel = shared.cancel.clone();
    let tasks = shared.tasks.clone();
    let ends_with_client = shared.config.cancel_on_disconnect && !checked.streaming;
    let work = tasks.spawn(async move {
        let driven = async {
            let outcome = drive(&shared, checked.walk, &checked.body, checked.streaming).await;
            answer(&shared, checked.asked, outcome)
        };
        tokio::select! {
            response = driven => Some(response),
            () = cancel.cancelled() => None,
        }
    });
    let done = if ends_with_client { AbortOnDropHandle::new(work).await } else { work.await };
    match done {
        Ok(Some(response)) => response,
        Err(broken) if broken.is_panic() => internal_error(),
        _ => proxy_error(503, "the gateway is shutting down", "internal_server_error", Value::Null),
    }
}

/// The body's fields. They are read before the key is looked at.
fn fields(headers: &HeaderMap, bytes: &Bytes) -> Result<Map<String, Value>, Refusal> {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // What a form holds is not the form of a chat request, whatever its fields.
    if bytes.is_empty()
        || matches!(kind.as_str(), "application/x-www-form-urlencoded" | "multipart/form-data")
    {
        return Ok(Map::new());
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Box::new(internal_error())),
        Err(error) => {
            let reason = json_text::reason(bytes).unwrap_or_else(|| error.to_string());
            let message = format!("Invalid JSON payload: {reason}");
            Err(Box::new(proxy_error(400, &message, "invalid_request_error", "request_body".into())))
        }
    }
}

fn checked(
    shared: &Shared,
    headers: &HeaderMap,
    mut body: Map<String, Value>,
    in_path: Option<String>,
) -> Result<Checked, Refusal> {
    let call_id = header_text(headers, "x-litellm-call-id").unwrap_or_else(|| shared.ids.uuid());
    let refused = |mut refusal: Refusal| {
        with_cost_headers(&mut refusal, Some(&call_id));
        refusal
    };
    if body.get("model").is_some_and(|model| !model.is_string() && !model.is_null()) {
        let refusal = proxy_error(400, "'model' must be a string.", "bad_request_error", "model".into());
        return Err(refused(Box::new(refusal)));
    }
    let of_headers = header_overrides(headers)?;
    let messages = body.get("messages").filter(|messages| !messages.is_null());
    if messages.is_none() {
        let message = "/chat/completions: Missing required parameter: 'messages'.";
        return Err(refused(bad_request(message, "messages".into())));
    }
    if !shared.config.allows_mock_params {
        check_mock_params(&body).map_err(refused)?;
    }
    let own = body.get("model").and_then(Value::as_str).map(str::to_owned);
    let model = in_path.or_else(|| own.clone());
    let streaming = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    let overrides = overrides(shared, &of_headers, &body).map_err(refused)?;
    let walk = model
        .as_deref()
        .and_then(|model| RequestWalk::new(&shared.config, model, streaming, overrides).ok())
        .ok_or_else(|| refused(unknown_model(model.as_deref().unwrap_or("None"))))?;
    if let Some(refusal) = body.get("messages").and_then(malformed_messages) {
        return Err(refused(refusal));
    }
    let asked = Asked {
        call_id,
        model: own,
        streaming,
        tells_fallbacks: body.get("include_fallback_errors") == Some(&Value::Bool(true)),
        timeout: timeout_as_written(&of_headers, &body, streaming),
        include_usage: body.get("stream_options").and_then(|options| options.get("include_usage"))
            == Some(&Value::Bool(true)),
    };
    if walk.asks_for_usage(&shared.config) {
        ask_for_usage(&mut body);
    }
    Ok(Checked { walk, asked, streaming, body })
}

fn ask_for_usage(body: &mut Map<String, Value>) {
    let options = body.entry("stream_options").or_insert_with(|| json!({}));
    if !options.is_object() {
        *options = json!({});
    }
    options["include_usage"] = true.into();
}

fn bad_request(message: &str, param: Value) -> Refusal {
    Box::new(proxy_error(400, message, "invalid_request_error", param))
}

fn with_specifics(message: &str) -> Refusal {
    let body = json!({ "error": {
        "message": message, "type": "invalid_request_error", "param": null, "code": "400",
        "provider_specific_fields": { "error": message },
    } });
    Box::new(json_reply(400, &body))
}

fn check_mock_params(body: &Map<String, Value>) -> Result<(), Refusal> {
    let found: Vec<&str> = MOCK_PARAMS.into_iter().filter(|param| body.contains_key(*param)).collect();
    if found.is_empty() {
        return Ok(());
    }
    Err(with_specifics(&format!(
        "Mock testing request params are disabled on this proxy: {}. An admin can enable them by setting \
         `general_settings.dangerously_allow_mock_testing_request_params: true` in config.yaml. This setting cannot \
         be changed from the Admin UI or the API.",
        found.join(", ")
    )))
}

fn unknown_model(name: &str) -> Refusal {
    with_specifics(&format!(
        "/chat/completions: Invalid model name passed in model={name}. Call `/v1/models` to view available models \
         for your key."
    ))
}

/// Messages that are no list of objects break LiteLLM's own code, in each provider and before any call.
fn malformed_messages(messages: &Value) -> Option<Refusal> {
    let kind = |value: &Value| match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    };
    let culprit = match messages {
        Value::Array(messages) => messages.iter().find(|message| !message.is_object()).map(kind)?,
        Value::String(text) if text.is_empty() => return None,
        Value::Object(fields) if fields.is_empty() => return None,
        // Iterating over these gives text.
        Value::String(_) | Value::Object(_) => "str",
        other => kind(other),
    };
    let message = format!(
        "Invalid request format: litellm.APIConnectionError: '{culprit}' object has no attribute 'get'"
    );
    Some(bad_request(&message, Value::Null))
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// What the headers override.
struct HeaderOverrides {
    timeout: Option<f64>,
    stream_timeout: Option<f64>,
    retries: Option<i64>,
}

/// LiteLLM converts these before it knows the request, so its answer to a wrong one carries no call id.
fn header_overrides(headers: &HeaderMap) -> Result<HeaderOverrides, Refusal> {
    let refused = |message: String| {
        let mut refusal: Refusal = Box::new(proxy_error(500, &message, "internal_server_error", Value::Null));
        with_cost_headers(&mut refusal, None);
        refusal
    };
    let seconds = |name: &str| match header_text(headers, name) {
        None => Ok(None),
        Some(text) => match text.trim().parse::<f64>() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(refused(format!("could not convert string to float: '{text}'"))),
        },
    };
    let timeout = seconds("x-litellm-timeout")?;
    let stream_timeout = seconds("x-litellm-stream-timeout")?;
    let retries = match header_text(headers, "x-litellm-num-retries") {
        None => None,
        Some(text) => match text.trim().parse() {
            Ok(retries) => Some(retries),
            Err(_) => {
                return Err(refused(format!("invalid literal for int() with base 10: '{text}'")));
            }
        },
    };
    Ok(HeaderOverrides { timeout, stream_timeout, retries })
}

/// What the request overrides, headers first.
fn overrides(
    shared: &Shared,
    headers: &HeaderOverrides,
    body: &Map<String, Value>,
) -> Result<RequestOverrides, Refusal> {
    let whole = match timeout(headers.timeout, body, "timeout")? {
        None => timeout(None, body, "request_timeout")?,
        whole => whole,
    };
    let retries = match headers.retries {
        Some(retries) => Some(retries),
        None => whole_number(body, "num_retries"),
    };
    let max_fallbacks = whole_number(body, "max_fallbacks");
    let clamped =
        |number: i64| u32::try_from(number.max(0).unsigned_abs().min(MAX_RETRIES)).unwrap_or(u32::MAX);
    Ok(RequestOverrides {
        timeout: whole,
        stream_timeout: timeout(headers.stream_timeout, body, "stream_timeout")?,
        names_timeout: headers.timeout.or(headers.stream_timeout).is_some()
            || ["timeout", "request_timeout", "stream_timeout"].iter().any(|key| is_given(body, key)),
        num_retries: retries.map(clamped),
        disable_fallbacks: body.get("disable_fallbacks") == Some(&Value::Bool(true)),
        fallbacks: body.get("fallbacks").filter(|value| !value.is_null()).map(RequestFallbacks::read),
        context_window_fallbacks: body.get("context_window_fallbacks").and_then(RequestFallbacks::lists),
        content_policy_fallbacks: body.get("content_policy_fallbacks").and_then(RequestFallbacks::lists),
        max_fallbacks: max_fallbacks.map(clamped),
        include_fallback_errors: shared.config.expose_fallback_errors
            && body.get("include_fallback_errors").is_some_and(says_yes),
    })
}

fn is_given(body: &Map<String, Value>, key: &str) -> bool {
    body.get(key).is_some_and(|value| !value.is_null())
}

/// A timeout of the header or of the body, as number or as text; 0 is none.
fn timeout(header: Option<f64>, body: &Map<String, Value>, key: &str) -> Result<Option<Duration>, Refusal> {
    let seconds = match (header, body.get(key).filter(|value| !value.is_null())) {
        (Some(seconds), _) => seconds,
        (None, None) => return Ok(None),
        (None, Some(value)) => {
            let text: Cow<'_, str> = match value {
                Value::String(text) => text.into(),
                other => other.to_string().into(),
            };
            text.trim().parse::<f64>().map_err(|_| {
                let message =
                    format!("litellm.APIConnectionError: could not convert string to float: '{text}'");
                let mut refusal = proxy_error(500, &message, "internal_server_error", Value::Null);
                set(&mut refusal, "x-litellm-timeout", &text);
                Box::new(refusal)
            })?
        }
    };
    // A negative one is over before it begins; more than the longest is as good as none.
    let least = 1e-9;
    Ok((seconds != 0.0).then(|| Duration::from_secs_f64(seconds.max(least).min(MAX_TIMEOUT_S))))
}

/// What counts as true in Python.
fn says_yes(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// How the timeout of the request's own shows in headers: a number of the body as it was written there.
fn timeout_as_written(
    headers: &HeaderOverrides,
    body: &Map<String, Value>,
    streaming: bool,
) -> Option<String> {
    let written = |header: Option<f64>, key: &str| match (header, body.get(key)) {
        (Some(seconds), _) => (seconds != 0.0).then(|| format!("{seconds:?}")),
        (None, None | Some(Value::Null)) => None,
        (None, Some(Value::String(text))) => Some(text.clone()),
        (None, Some(number)) => (number.as_f64() != Some(0.0)).then(|| number.to_string()),
    };
    let of_stream = written(headers.stream_timeout, "stream_timeout").filter(|_| streaming);
    of_stream.or_else(|| written(headers.timeout, "timeout")).or_else(|| written(None, "request_timeout"))
}

/// What is no whole number is as good as absent.
fn whole_number(body: &Map<String, Value>, key: &str) -> Option<i64> {
    match body.get(key)? {
        Value::Bool(flag) => Some(i64::from(*flag)),
        number => number.as_i64(),
    }
}
