//! The upstream dialects: how a chat request is written, and how replies and faults are read.

pub mod hosted_vllm;
pub mod ollama_chat;
pub mod params;
pub mod stream;

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};
use serde_json::{Map, Value};

use super::config::{Deployment, Provider};
use super::failure::{ErrorClass, Failure, SeenIn};
use super::transport::{TransportError, UpstreamRequest};

/// A whole reply in OpenAI's terms, without its `model`.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The upstream's id, if it gives one.
    pub id: Option<String>,
    /// The upstream's creation time in Unix seconds, if it gives one.
    pub created: Option<u64>,
    /// The upstream's own model name, if it gives one.
    pub model: Option<String>,
    /// `choices` as the client gets them.
    pub choices: Value,
    /// `usage` as the client gets it.
    pub usage: Option<Value>,
    /// Further fields of the reply, after those above.
    pub more: Map<String, Value>,
}

/// One event of a stream in OpenAI's terms.
#[derive(Debug, Clone, PartialEq)]
pub enum Chunk {
    /// A piece of the reply.
    Delta {
        /// The upstream's id, if it gives one.
        id: Option<String>,
        /// `delta` as the client gets it.
        delta: Map<String, Value>,
        /// `logprobs` of the piece, if it has any.
        logprobs: Option<Value>,
        /// Set on the last piece.
        finish_reason: Option<String>,
        /// Token counts, where they come with the piece.
        usage: Option<Value>,
    },
    /// Token counts in an event of their own.
    Usage(Value),
    /// The upstream said that it is done.
    Done,
}

/// Writes the upstream request for a chat request.
///
/// # Errors
/// [`Failure`] (400) if the request cannot be written for this upstream.
pub fn request(
    deployment: &Deployment,
    body: &Map<String, Value>,
    streaming: bool,
) -> Result<UpstreamRequest, Failure> {
    let (suffix, upstream_body, content_type) = match deployment.provider {
        Provider::OllamaChat => {
            ("/api/chat", ollama_chat::body(deployment, body, streaming), "application/octet-stream")
        }
        Provider::HostedVllm => {
            ("/chat/completions", hosted_vllm::body(deployment, body, streaming), "application/json")
        }
    };
    // What is written after an Ollama's address stays there, a slash too.
    let base = match deployment.provider {
        Provider::OllamaChat => deployment.api_base.as_str(),
        Provider::HostedVllm => deployment.api_base.trim_end_matches('/'),
    };
    let url = if base.ends_with(suffix) { base.to_owned() } else { format!("{base}{suffix}") };
    let unusable =
        |what: &str| Failure::new(ErrorClass::BadRequest, 400, format!("litellm.BadRequestError: {what}"));
    let uri: Uri = url.parse().map_err(|_| unusable("the upstream URL is not valid"))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("user-agent", HeaderValue::from_static("litellm/1.106.2"));
    if let Some(key) = &deployment.api_key {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| unusable("the upstream key is not a valid header value"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let body = Bytes::from(Value::Object(upstream_body).to_string());
    Ok(UpstreamRequest { uri, headers, body })
}

/// A request parameter: the request's own, else the deployment's default; `null` counts as absent.
fn param<'a>(deployment: &'a Deployment, body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null()).or_else(|| deployment.default_params.get(name))
}

/// Class and status of an error response (section 3's table).
#[must_use]
pub fn status_failure(provider: Provider, status: u16, body: &str, limits: Limits) -> Failure {
    use ErrorClass as C;
    let ollama = provider == Provider::OllamaChat;
    if let Some(failure) = (!ollama).then(|| told_by_text(status, body)).flatten() {
        return failure;
    }
    let class = match status {
        400 | 422 => C::BadRequest,
        401 => C::Authentication,
        402 if ollama => C::PaymentRequired,
        403 if ollama => C::PermissionDenied,
        404 => C::NotFound,
        408 | 504 => C::Timeout,
        429 => C::RateLimit,
        400..500 if ollama => C::BadRequest,
        500 => C::InternalServer,
        502 => C::BadGateway,
        503 => C::ServiceUnavailable,
        _ => C::Api,
    };
    let mut failure = Failure::new(class, status, message(provider, class, body));
    if class == C::Timeout {
        failure.message.push_str(&limits.info());
    }
    failure
}

/// What LiteLLM concludes from the words of an OpenAI-compatible server's error, before it looks at the status.
fn told_by_text(status: u16, body: &str) -> Option<Failure> {
    use ErrorClass as C;
    let lower = body.to_lowercase();
    let has = |text: &str| body.contains(text);
    let (class, status, repeats) = if names_rate_limit(status, body, &lower) {
        (C::RateLimit, 429, true)
    } else if is_too_long(&lower) {
        (C::ContextWindow, 400, true)
    } else if has("invalid_request_error") && has("model_not_found") {
        (C::NotFound, 404, false)
    } else if has("A timeout occurred") {
        (C::Timeout, 408, false)
    } else if (has("invalid_request_error") && has("content_policy_violation"))
        || (has("Invalid prompt") && has("violating our usage policy"))
        || lower.contains("request was rejected as a result of the safety system")
    {
        (C::ContentPolicy, 400, true)
    } else if has("invalid_request_error") && !has("Incorrect API key provided") {
        (C::BadRequest, 400, false)
    } else if has("Web server is returning an unknown error")
        || has("The server had an error processing your request.")
    {
        (C::InternalServer, 500, false)
    } else if has("Request too large") {
        (C::RateLimit, 429, true)
    } else {
        return None;
    };
    let name = class.name();
    // The first two are kinds of bad requests, and say so.
    let kind = match class {
        C::ContextWindow | C::ContentPolicy => "litellm.BadRequestError: ",
        _ => "",
    };
    let repeated = if repeats { format!("{name}: ") } else { String::new() };
    let message = format!("litellm.{name}: {kind}{repeated}Hosted_vllmException - {body}");
    Some(Failure::new(class, status, message))
}

/// A rate limit by name, or by its number where the status does not say otherwise.
fn names_rate_limit(status: u16, body: &str, lower: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let numbered = status == 429 && body.split(|c| !is_word(c)).any(|word| word == "429");
    let after_rate = |rest: &str| {
        let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '_' || c == '-');
        rest.starts_with("limit")
    };
    numbered
        || lower.match_indices("rate").any(|(at, rate)| after_rate(&lower[at + rate.len()..]))
        || lower.contains("service tier capacity exceeded")
}

/// The prompt does not fit, in one of the many ways of saying so.
fn is_too_long(lower: &str) -> bool {
    const SAYINGS: [&str; 9] = [
        "exceed context limit",
        "this model's maximum context length is",
        "string too long. expected a string with maximum length",
        "model's maximum context limit",
        "is longer than the model's context length",
        "input tokens exceed the configured limit",
        "`inputs` tokens + `max_new_tokens` must be",
        "exceeds the available context size",
        "exceeds the maximum number of tokens allowed",
    ];
    let both = |a: &str, b: &str| lower.contains(a) && lower.contains(b);
    if lower.contains("string_above_max_length") || both("invalid 'user'", "string too long") {
        return false;
    }
    SAYINGS.into_iter().any(|saying| lower.contains(saying))
        || both("current length is", "while limit is")
        || both("maximum input length is", "tokens")
}

/// The timeouts written on a deployment, which timeout messages repeat.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `request_timeout`.
    pub request_timeout: Option<Duration>,
    /// `timeout`.
    pub timeout: Option<Duration>,
}

impl Limits {
    /// The limits of a deployment.
    #[must_use]
    pub fn of(deployment: &Deployment) -> Self {
        Self { request_timeout: deployment.request_timeout, timeout: deployment.timeout }
    }

    fn info(self) -> String {
        let show = |limit: Option<Duration>| limit.map_or("None".to_owned(), seconds);
        format!(
            "\n\nDeployment Info: request_timeout: {}\ntimeout: {}",
            show(self.request_timeout),
            show(self.timeout)
        )
    }
}

/// Seconds as LiteLLM writes them: `1.75`, `6000.0`.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    format!("{:?}", duration.as_secs_f64())
}

fn message(provider: Provider, class: ErrorClass, detail: &str) -> String {
    let name = class.name();
    match provider {
        Provider::OllamaChat => format!("litellm.{name}: Ollama_chatException - {detail}"),
        Provider::HostedVllm => match class {
            ErrorClass::BadRequest => format!("litellm.{name}: Hosted_vllmException - {detail}"),
            ErrorClass::Timeout => format!("litellm.{name}: Timeout Error: Hosted_vllmException - {detail}"),
            _ => format!("litellm.{name}: {name}: Hosted_vllmException - {detail}"),
        },
    }
}

/// A broken exchange before the response's headers, or while a whole reply was read.
#[must_use]
pub fn transport_failure(
    provider: Provider,
    error: &TransportError,
    limit: Duration,
    taken: Duration,
    limits: Limits,
) -> Failure {
    if matches!(error, TransportError::Timeout { .. }) {
        let detail = format!(
            "litellm.Timeout: Connection timed out. Timeout passed={}, time taken={:.3} seconds",
            seconds(limit),
            taken.as_secs_f64()
        );
        let mut failure =
            Failure::new(ErrorClass::Timeout, 408, message(provider, ErrorClass::Timeout, &detail));
        failure.message.push_str(&limits.info());
        failure.seen_in = SeenIn::Timer;
        return failure;
    }
    let class = match provider {
        Provider::OllamaChat => ErrorClass::ApiConnection,
        Provider::HostedVllm => ErrorClass::InternalServer,
    };
    Failure::new(class, 500, message(provider, class, &describe(error)))
}

/// A stream that broke after the response's headers: a connection error for both dialects, timeouts included.
#[must_use]
pub fn stream_failure(provider: Provider, error: &TransportError) -> Failure {
    let detail = match error {
        TransportError::Timeout { .. } => "Timeout on reading data from socket".to_owned(),
        other => describe(other),
    };
    let class = ErrorClass::ApiConnection;
    let mut failure = Failure::new(class, 500, message(provider, class, &detail));
    if matches!(error, TransportError::Timeout { .. }) {
        failure.seen_in = SeenIn::Timer;
    }
    failure
}

/// A 200 whose body is not JSON. With `ollama_chat` LiteLLM's own code stumbles over it, and says little.
#[must_use]
pub fn not_json(provider: Provider, text: &str) -> Failure {
    const COMPLAINT: &str = "Expecting value: line 1 column 1 (char 0)";
    match provider {
        Provider::OllamaChat => stumbled(COMPLAINT),
        Provider::HostedVllm => {
            let class = ErrorClass::Api;
            let detail = format!("Unable to get json response - {COMPLAINT}, Original Response: {text}");
            let mut failure = Failure::new(class, 500, message(provider, class, &detail));
            failure.seen_in = SeenIn::Garbage;
            failure
        }
    }
}

/// An error of LiteLLM's own while it read a reply of `ollama_chat`.
fn stumbled(complaint: &str) -> Failure {
    let class = ErrorClass::ApiConnection;
    let mut failure = Failure::new(class, 500, format!("litellm.{}: {complaint}", class.name()));
    failure.seen_in = SeenIn::Reading;
    failure
}

/// What each attempt becomes once a request has made as many as it may: no call is made.
#[must_use]
pub fn past_the_cap(provider: Provider) -> Failure {
    const COMPLAINT: &str = "Max retries per request hit!";
    match provider {
        Provider::OllamaChat => stumbled(COMPLAINT),
        Provider::HostedVllm => {
            let class = ErrorClass::ApiConnection;
            Failure::new(class, 500, message(provider, class, COMPLAINT))
        }
    }
}

/// A JSON value as Python prints it, which is how some messages quote replies.
#[must_use]
pub fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => python_string(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(python_repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entry =
                |(name, entry): (&String, &Value)| format!("{}: {}", python_string(name), python_repr(entry));
            let entries: Vec<String> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn python_string(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// LiteLLM hides IP addresses in messages, not host names and ports.
fn redacted(host: &str) -> &str {
    if host.parse::<std::net::IpAddr>().is_ok() { "REDACTED" } else { host }
}

fn describe(error: &TransportError) -> String {
    match error {
        TransportError::Connect { host, port, source } => {
            let host = redacted(host);
            let why = if source.to_string().starts_with("failed to lookup address") {
                "Name or service not known".to_owned()
            } else {
                format!("Connect call failed ('{host}', {port})")
            };
            // The address of an object in memory says nothing; it only has to look like one.
            format!(
                "Cannot connect to host {host}:{port} ssl:<ssl.SSLContext object at 0x7f0000000000> [{why}]"
            )
        }
        TransportError::Certificate { host, port, .. } => format!(
            "Cannot connect to host {}:{port} ssl:True [SSLCertVerificationError: (1, '[SSL: CERTIFICATE_VERIFY_FAILED] \
             certificate verify failed: self-signed certificate (_ssl.c:1006)')]",
            redacted(host)
        ),
        TransportError::Tls { host, port, .. } => format!(
            "Cannot connect to host {}:{port} ssl:<ssl.SSLContext object at 0x7f0000000000> [[SSL: \
             WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)]",
            redacted(host)
        ),
        TransportError::Disconnected | TransportError::NotSent => "Server disconnected".to_owned(),
        TransportError::Truncated { received, expected: Some(expected) } => format!(
            "Response payload is not completed: <ContentLengthError: 400, message='Not enough data to satisfy content \
             length header (received {received} of {expected} bytes).'>"
        ),
        TransportError::Truncated { expected: None, .. } => {
            "Response payload is not completed: <TransferEncodingError: 400, message='Not enough data to satisfy \
             transfer length header.'>"
                .to_owned()
        }
        TransportError::Reset => "[Errno 104] Connection reset by peer".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
