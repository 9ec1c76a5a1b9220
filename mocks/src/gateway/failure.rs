//! What can go wrong in one attempt, in LiteLLM's terms: an exception class, a status and a message.

use std::time::Duration;

/// LiteLLM's exception classes, as far as upstreams and transports can cause them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// 400, 409, 413, 422.
    BadRequest,
    /// 401.
    Authentication,
    /// 402 from `ollama_chat`.
    PaymentRequired,
    /// 403 from `ollama_chat`.
    PermissionDenied,
    /// 404.
    NotFound,
    /// 408, 504 and every timeout of the gateway's own.
    Timeout,
    /// 429.
    RateLimit,
    /// 500, and a broken transport to `hosted_vllm`.
    InternalServer,
    /// 502.
    BadGateway,
    /// 503.
    ServiceUnavailable,
    /// A status without a class of its own.
    Api,
    /// A broken transport to `ollama_chat`: never counted for cooldown.
    ApiConnection,
    /// The prompt is longer than the model can read, by what an OpenAI-compatible server says.
    ContextWindow,
    /// The prompt breaks a policy, by what an OpenAI-compatible server says.
    ContentPolicy,
    /// Every deployment that could be picked is in cooldown: raised by the router, no call was made.
    NoDeployments,
}

impl ErrorClass {
    /// The class name as messages spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequestError",
            Self::Authentication => "AuthenticationError",
            Self::PaymentRequired => "PaymentRequiredError",
            Self::PermissionDenied => "PermissionDeniedError",
            Self::NotFound => "NotFoundError",
            Self::Timeout => "Timeout",
            Self::RateLimit => "RateLimitError",
            Self::InternalServer => "InternalServerError",
            Self::BadGateway => "BadGatewayError",
            Self::ServiceUnavailable => "ServiceUnavailableError",
            Self::Api => "APIError",
            Self::ApiConnection => "APIConnectionError",
            Self::ContextWindow => "ContextWindowExceededError",
            Self::ContentPolicy => "ContentPolicyViolationError",
            Self::NoDeployments => "RouterRateLimitError",
        }
    }

    /// The stem of this class's keys in `retry_policy` and `allowed_fails_policy`, if it has any.
    #[must_use]
    pub fn policy_stem(self) -> Option<&'static str> {
        match self {
            Self::Timeout => Some("TimeoutError"),
            // A kind of bad request without keys of its own.
            Self::ContextWindow => Some("BadRequestError"),
            Self::BadRequest
            | Self::ContentPolicy
            | Self::Authentication
            | Self::NotFound
            | Self::RateLimit
            | Self::InternalServer
            | Self::BadGateway
            | Self::ServiceUnavailable => Some(self.name()),
            Self::PaymentRequired
            | Self::PermissionDenied
            | Self::Api
            | Self::ApiConnection
            | Self::NoDeployments => None,
        }
    }
}

/// What a failure was seen in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenIn {
    /// In a status, a connection, or nowhere since no call was made.
    Exchange,
    /// In the gateway's own timer (an upstream's 408 is not that).
    Timer,
    /// In the content of a reply with status 200. The upstream's headers do not reach the client.
    Content,
    /// In the content of a reply with status 200 that is not JSON. The client gets 500, but retries and cooldown go by
    /// the reply's own status.
    Garbage,
    /// In LiteLLM's own code, which stumbled over such a content. Nothing is appended to what it says, either.
    Reading,
}

/// One failed attempt, or the router's refusal to make one.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The exception class.
    pub class: ErrorClass,
    /// The HTTP status that the class carries.
    pub status: u16,
    /// The whole message, class prefix included.
    pub message: String,
    /// The upstream's `Retry-After` in whole seconds, if it was a number or a date that is not over.
    pub retry_after_s: Option<u32>,
    /// The upstream's response headers, if there was a response.
    pub upstream_headers: Vec<(String, String)>,
    /// What it was seen in.
    pub seen_in: SeenIn,
    /// Index of the deployment that failed; `None` where the router made no call.
    pub deployment: Option<usize>,
    /// The effective timeout of the failed call; `None` where the router made no call.
    pub timeout: Option<Duration>,
    /// Length of the cooldown behind a refusal: the client's `retry-after`, which does not count down.
    pub cooldown: Option<Duration>,
    /// Retries made in vain before this was the group's failure; `None` where none were made.
    pub retries_spent: Option<u32>,
    /// The status before the message's text forced it to 429.
    pub status_before_forcing: Option<u16>,
}

impl Failure {
    /// A failure with a class, a status and a message; everything else unset.
    #[must_use]
    pub fn new(class: ErrorClass, status: u16, message: impl Into<String>) -> Self {
        Self {
            class,
            status,
            message: message.into(),
            retry_after_s: None,
            upstream_headers: Vec::new(),
            seen_in: SeenIn::Exchange,
            deployment: None,
            timeout: None,
            cooldown: None,
            retries_spent: None,
            status_before_forcing: None,
        }
    }

    /// The status that retries and cooldown go by.
    #[must_use]
    pub fn inner_status(&self) -> u16 {
        if self.seen_in == SeenIn::Garbage { 200 } else { self.status }
    }

    /// The same as it is counted when it was met inside a stream: no policy knows its class there.
    #[must_use]
    pub fn without_class(&self) -> Self {
        Self { class: ErrorClass::Api, ..self.clone() }
    }

    /// A failure with an upstream's status and class, for simulations without a real message.
    #[must_use]
    pub fn with_status(class: ErrorClass, status: u16) -> Self {
        Self::new(class, status, format!("litellm.{}: status {status}", class.name()))
    }
}
