//! The proxy's HTTP surface: routes, keys, request checks (sections 1, 6 and 7).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::Shared;
use super::config::{FallbackList, RequestFallbacks, RequestOverrides};
use super::drive::drive;
use super::responses::{Asked, Body, answer, json_reply, proxy_error, set};
use super::router::RequestWalk;

mod pages;

/// Most bytes of a request body.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// How long a client may take to send its body.
const BODY_LIMIT: Duration = Duration::from_secs(30);
/// Body parameters that LiteLLM refuses unless its configuration allows tests in production.
const MOCK_PARAMS: [&str; 4] =
    ["mock_testing_fallbacks", "mock_timeout", "mock_delay", "mock_testing_rate_limit_error"];
/// Longest timeout that a request can set.
const MAX_TIMEOUT_S: f64 = 1e9;

/// A reply that ends a request before its routing.
type Refusal = Box<Response<Body>>;

/// Answers one request.
pub(super) async fn serve(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let response = match path.as_str() {
        "/v1/chat/completions" | "/chat/completions" => {
            if request.method() != Method::POST {
                return Ok(method_not_allowed("POST"));
            }
            match check_key(&shared, request.headers()) {
                Err(refusal) => *refusal,
                Ok(()) => chat(shared, request).await,
            }
        }
        _ => match pages::page(&path) {
            None => json_reply(404, &json!({ "detail": "Not Found" })),
            Some(_) if request.method() != Method::GET => method_not_allowed("GET"),
            Some(page) if page.is_open() => page.render(&shared, request.uri().query()),
            Some(page) => match check_key(&shared, request.headers()) {
                Err(refusal) => *refusal,
                Ok(()) => page.render(&shared, request.uri().query()),
            },
        },
    };
    Ok(response)
}

fn method_not_allowed(allowed: &str) -> Response<Body> {
    let mut response = json_reply(405, &json!({ "detail": "Method Not Allowed" }));
    set(&mut response, "allow", allowed);
    response
}

/// No master key means no authentication.
fn check_key(shared: &Shared, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(master_key) = &shared.master_key else { return Ok(()) };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bare = |value: &str| value.strip_prefix("Bearer ").unwrap_or(value).trim().to_owned();
    let key = text("x-litellm-api-key").or_else(|| text("authorization")).map(bare);
    match key.filter(|key| !key.is_empty()) {
        None => {
            let message = "Authentication Error, No api key passed in.";
            Err(Box::new(proxy_error(401, message, "auth_error", "None".into())))
        }
        Some(key) if key == master_key.expose() => Ok(()),
        // Without a database a key that is not the master key cannot even be looked up.
        Some(_) => Err(Box::new(proxy_error(400, "No connected db.", "no_db_connection", Value::Null))),
    }
}

async fn chat(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let limited = Limited::new(body, MAX_REQUEST_BYTES).collect();
    let bytes = match tokio::time::timeout(BODY_LIMIT, limited).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(_)) => {
            return proxy_error(
                413,
                "Request body is too large or broken",
                "invalid_request_error",
                Value::Null,
            );
        }
        Err(_) => return proxy_error(408, "Request body is late", "invalid_request_error", Value::Null),
    };
    match checked(&shared, &parts.headers, &bytes) {
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

/// A client that goes away does not end its request: the work runs in a task of its own.
async fn answered(shared: Arc<Shared>, checked: Checked) -> Response<Body> {
    let cancel = shared.cancel.clone();
    let tasks = shared.tasks.clone();
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
    match work.await {
        Ok(Some(response)) => response,
        _ => proxy_error(503, "the gateway is shutting down", "internal_server_error", Value::Null),
    }
}

fn bad_request(message: &str, param: Value) -> Refusal {
    Box::new(proxy_error(400, message, "invalid_request_error", param))
}

fn checked(shared: &Shared, headers: &HeaderMap, bytes: &Bytes) -> Result<Checked, Refusal> {
    let body: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|error| bad_request(&format!("Invalid JSON payload: {error}"), "request_body".into()))?;
    if let Some(param) = MOCK_PARAMS.into_iter().find(|param| body.contains_key(*param)) {
        return Err(bad_request(&format!("{param} is not allowed on this proxy"), param.into()));
    }
    let model = body.get("model").and_then(Value::as_str);
    let streaming = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    let overrides = overrides(headers, &body)?;
    let walk = model.and_then(|model| RequestWalk::new(&shared.config, model, streaming, overrides).ok());
    let (Some(model), Some(walk)) = (model, walk) else {
        return Err(unknown_model(model.unwrap_or("None")));
    };
    if !body.get("messages").is_some_and(Value::is_array) {
        let message = "/chat/completions: Missing required parameter: 'messages'.";
        return Err(bad_request(message, "messages".into()));
    }
    let asked = Asked {
        call_id: header_text(headers, "x-litellm-call-id").unwrap_or_else(|| shared.ids.uuid()),
        model: model.to_owned(),
        include_usage: body.get("stream_options").and_then(|options| options.get("include_usage"))
            == Some(&Value::Bool(true)),
    };
    Ok(Checked { walk, asked, streaming, body })
}

fn unknown_model(name: &str) -> Refusal {
    let message = format!(
        "/chat/completions: Invalid model name passed in model={name}. Call `/v1/models` to view available models \
         for your key."
    );
    let body = json!({ "error": {
        "message": message, "type": "invalid_request_error", "param": null, "code": "400",
        "provider_specific_fields": { "error": message },
    } });
    Box::new(json_reply(400, &body))
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn overrides(headers: &HeaderMap, body: &Map<String, Value>) -> Result<RequestOverrides, Refusal> {
    let number = |header: &str, key: &str| -> Result<Option<f64>, Refusal> {
        let value = match header_text(headers, header) {
            Some(text) => text.parse::<f64>().ok(),
            None => match body.get(key).filter(|value| !value.is_null()) {
                None => return Ok(None),
                Some(value) => value.as_f64(),
            },
        };
        match value.filter(|value| (0.0..=MAX_TIMEOUT_S).contains(value)) {
            Some(value) => Ok(Some(value)),
            None => Err(bad_request(&format!("{key} must be a number that is not negative"), key.into())),
        }
    };
    let retries = number("x-litellm-num-retries", "num_retries")?;
    if retries.is_some_and(|retries| retries.fract() != 0.0 || retries > 1000.0) {
        return Err(bad_request("num_retries must be a whole number up to 1000", "num_retries".into()));
    }
    Ok(RequestOverrides {
        timeout: number("x-litellm-timeout", "timeout")?.map(Duration::from_secs_f64),
        stream_timeout: number("x-litellm-stream-timeout", "stream_timeout")?.map(Duration::from_secs_f64),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        num_retries: retries.map(|retries| retries as u32),
        disable_fallbacks: body.get("disable_fallbacks").and_then(Value::as_bool).unwrap_or(false),
        fallbacks: request_fallbacks(body)?,
    })
}

fn request_fallbacks(body: &Map<String, Value>) -> Result<Option<RequestFallbacks>, Refusal> {
    let Some(value) = body.get("fallbacks").filter(|value| !value.is_null()) else { return Ok(None) };
    if let Some(targets) = super::config::names(value) {
        return Ok(Some(RequestFallbacks::Targets(targets)));
    }
    let lists: Option<Vec<FallbackList>> = super::config::parse_lists(value);
    match lists {
        Some(lists) => Ok(Some(RequestFallbacks::Lists(lists))),
        None => Err(bad_request(
            "fallbacks must be a list of groups or of {group: [groups]} entries",
            "fallbacks".into(),
        )),
    }
}
