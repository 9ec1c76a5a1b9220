//! Why the API server does not do what it is asked, and how it says so.

use http::StatusCode;
use serde_json::{Value, json};

use super::resources::Resource;

/// One thing that is wrong with a request, as `details.causes` of a Status has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The kind of mistake, for example `FieldValueInvalid`.
    pub reason: &'static str,
    /// What is wrong, in words.
    pub message: String,
    /// The field's path.
    pub field: String,
}

/// A request that is refused. Everything but the two plain pages becomes a `metav1.Status`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 404: the object is not there.
    #[error("{} \"{name}\" not found", qualified(resource))]
    NotFound {
        /// What kind of object.
        resource: &'static Resource,
        /// Its name.
        name: String,
    },
    /// 404 without a Status: the path belongs to nobody.
    #[error("404 page not found")]
    NoSuchPage,
    /// 409: an object of this name is there.
    #[error("{} \"{name}\" already exists", qualified(resource))]
    AlreadyExists {
        /// What kind of object.
        resource: &'static Resource,
        /// Its name.
        name: String,
    },
    /// 409: the object is not as the request presumes.
    #[error("Operation cannot be fulfilled on {} \"{name}\": {message}", qualified(resource))]
    Conflict {
        /// What kind of object.
        resource: &'static Resource,
        /// Its name.
        name: String,
        /// What is not as presumed.
        message: String,
    },
    /// 409: fields that an apply names belong to others.
    #[error("{}", applied_over(causes))]
    ApplyConflict {
        /// One cause for each field.
        causes: Vec<Cause>,
    },
    /// 422: the object cannot be kept like this.
    #[error("{} \"{name}\" is invalid: {}", qualified_kind(resource), joined(causes))]
    Invalid {
        /// What kind of object.
        resource: &'static Resource,
        /// Its name.
        name: String,
        /// All that is wrong with it.
        causes: Vec<Cause>,
    },
    /// 422 for a patch that cannot be carried out.
    #[error("{0}")]
    Unprocessable(String),
    /// 410: the history does not go back so far.
    #[error("too old resource version: {asked} ({oldest})")]
    Expired {
        /// The version that was asked for.
        asked: u64,
        /// The oldest one that is still known.
        oldest: u64,
    },
    /// 410: a list cannot be continued.
    #[error(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter."
    )]
    ContinueExpired,
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// 401.
    #[error("Unauthorized")]
    Unauthorized,
    /// 403.
    #[error("{}{message}", forbidden_object(resource, name))]
    Forbidden {
        /// What kind of object, where it is about one.
        resource: Option<&'static Resource>,
        /// Its name; empty for none.
        name: String,
        /// Why.
        message: String,
    },
    /// 405.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// 406.
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(&'static str),
    /// 413.
    #[error("Request entity too large: limit is {0}")]
    TooLarge(usize),
    /// 415.
    #[error("the body of the request was in an unknown format - accepted media types include: {0}")]
    UnsupportedMediaType(String),
    /// 429, with `Retry-After` in seconds.
    #[error("{message}")]
    TooManyRequests {
        /// Why.
        message: String,
        /// Seconds that the client is asked to wait.
        retry_after: u32,
    },
    /// 500.
    #[error("{0}")]
    Internal(String),
    /// 503.
    #[error("{0}")]
    Unavailable(String),
    /// 504.
    #[error("{0}")]
    Timeout(String),
}

/// `deployments.apps`, or just `pods` for the core group.
fn qualified(resource: &Resource) -> String {
    if resource.group.is_empty() {
        resource.plural.to_owned()
    } else {
        format!("{}.{}", resource.plural, resource.group)
    }
}

fn qualified_kind(resource: &Resource) -> String {
    if resource.group.is_empty() {
        resource.kind.to_owned()
    } else {
        format!("{}.{}", resource.kind, resource.group)
    }
}

fn joined(causes: &[Cause]) -> String {
    let told: Vec<_> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    match told.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn applied_over(causes: &[Cause]) -> String {
    let plural = if causes.len() == 1 { "" } else { "s" };
    let told: Vec<_> = causes.iter().map(|cause| format!("{}: {}", cause.message, cause.field)).collect();
    format!("Apply failed with {} conflict{plural}: {}", causes.len(), told.join("; "))
}

fn forbidden_object(resource: &Option<&'static Resource>, name: &str) -> String {
    match resource {
        Some(resource) if name.is_empty() => format!("{} is forbidden: ", qualified(resource)),
        Some(resource) => format!("{} \"{name}\" is forbidden: ", qualified(resource)),
        None => String::new(),
    }
}

impl Refusal {
    /// The HTTP status code.
    #[must_use]
    pub fn code(&self) -> StatusCode {
        self.code_and_reason().0
    }

    /// The code, and the word that a Status gives for it.
    #[must_use]
    pub fn code_and_reason(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound { .. } | Self::NoSuchPage => (StatusCode::NOT_FOUND, "NotFound"),
            Self::AlreadyExists { .. } => (StatusCode::CONFLICT, "AlreadyExists"),
            Self::Conflict { .. } | Self::ApplyConflict { .. } => (StatusCode::CONFLICT, "Conflict"),
            Self::Invalid { .. } | Self::Unprocessable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
            Self::Expired { .. } | Self::ContinueExpired => (StatusCode::GONE, "Expired"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::NotAcceptable(_) => (StatusCode::NOT_ACCEPTABLE, "NotAcceptable"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            Self::UnsupportedMediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType"),
            Self::TooManyRequests { .. } => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
        }
    }

    /// The refusal as a `metav1.Status`.
    #[must_use]
    pub fn status(&self) -> Value {
        let (code, reason) = self.code_and_reason();
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "reason": reason,
        });
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        status["code"] = code.as_u16().into();
        status
    }

    fn details(&self) -> Option<Value> {
        let of = |resource: &Resource, kind: &str, name: &str| {
            let mut details = json!({});
            if !name.is_empty() {
                details["name"] = name.into();
            }
            if !resource.group.is_empty() {
                details["group"] = resource.group.into();
            }
            details["kind"] = kind.into();
            details
        };
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. }
            | Self::Forbidden { resource: Some(resource), name, .. } => {
                Some(of(resource, resource.plural, name))
            }
            Self::Invalid { resource, name, causes } => {
                let mut details = of(resource, resource.kind, name);
                details["causes"] = told(causes);
                Some(details)
            }
            Self::ApplyConflict { causes } => Some(json!({ "causes": told(causes) })),
            Self::TooManyRequests { retry_after, .. } => Some(json!({ "retryAfterSeconds": retry_after })),
            _ => None,
        }
    }
}

fn told(causes: &[Cause]) -> Value {
    let one =
        |cause: &Cause| json!({ "reason": cause.reason, "message": cause.message, "field": cause.field });
    causes.iter().map(one).collect()
}
