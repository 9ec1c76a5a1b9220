//! Answers in the forms that clients ask for.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::request::Target;
use crate::kubernetes::pod_io::Body;
use crate::kubernetes::refusal::Refusal;

/// An answer that is complete from the start.
pub(super) fn complete(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let body = body.into();
    let length = body.len();
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-cache, private"));
    response
}

pub(super) fn json(status: StatusCode, body: &Value) -> Response<Body> {
    let mut text = body.to_string();
    text.push('\n');
    complete(status, "application/json", text)
}

/// A Status, or the one plain page.
pub(super) fn refused(refusal: &Refusal) -> Response<Body> {
    if *refusal == Refusal::NoSuchPage {
        return complete(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n");
    }
    let mut response = json(refusal.code(), &refusal.status());
    if let Refusal::TooManyRequests { retry_after, .. } = refusal {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*retry_after));
    }
    response
}

/// A refusal that is no more than trouble on purpose; the status in it says the same as the head.
pub(super) fn troubled(target: &Target, code: u16, retry_after: Option<u32>) -> Response<Body> {
    let (resource, name) = (target.resource, target.name.clone());
    let message = "the server is currently unable to handle the request".to_owned();
    let refusal = match code {
        401 => Refusal::Unauthorized,
        403 => {
            Refusal::Forbidden { resource: Some(resource), name, message: "trouble on purpose".to_owned() }
        }
        409 => Refusal::Conflict {
            resource,
            name,
            message:
                "the object has been modified; please apply your changes to the latest version and try again"
                    .to_owned(),
        },
        429 => Refusal::TooManyRequests {
            message: "the server has received too many requests and has asked us to try again later"
                .to_owned(),
            retry_after: retry_after.unwrap_or(1),
        },
        500 => Refusal::Internal("Internal error occurred: trouble on purpose".to_owned()),
        504 => Refusal::Timeout("Timeout: request did not complete within the allotted timeout".to_owned()),
        _ => Refusal::Unavailable(message),
    };
    let mut response = refused(&refusal);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    // A code that is none stays what the refusal made it.
    if let Ok(code) = StatusCode::from_u16(code) {
        *response.status_mut() = code;
    }
    response
}

/// Adds a warning, which clients show to people.
pub(super) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append("warning", value);
        }
    }
}

/// The success of a deletion, where the object itself is not what is told.
pub(super) fn deleted(group: &str, plural: &str, name: &str, uid: &Value) -> Value {
    let mut details = json!({ "name": name });
    if !group.is_empty() {
        details["group"] = group.into();
    }
    details["kind"] = plural.into();
    details["uid"] = uid.clone();
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}
