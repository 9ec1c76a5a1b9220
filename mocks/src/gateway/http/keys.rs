//! Who may ask: the master key, without a database (section 6).

use http::HeaderMap;
use serde_json::{Value, json};

use super::Refusal;
use crate::gateway::Shared;
use crate::gateway::responses::{json_reply, proxy_error, set};

const MISSING: &str = "Authentication Error, No api key passed in.";
const MALFORMED: &str = "Authentication Error, Malformed API Key passed in. Ensure Key has `Bearer ` prefix.";
const NO_DATABASE: &str = "No connected db.";
/// Headers that hold a bare key, looked at in this order where `authorization` is absent.
const BARE_HEADERS: [&str; 4] = ["api-key", "x-api-key", "x-goog-api-key", "ocp-apim-subscription-key"];
/// Schemes of `authorization`; what follows `Basic` is not decoded.
const SCHEMES: [&str; 3] = ["Bearer ", "Basic ", "bearer "];

enum Wrong {
    Missing,
    Malformed,
    /// Not the master key: without a database it cannot be looked up.
    Unknown,
}

/// No master key means no authentication.
pub(super) fn check(shared: &Shared, headers: &HeaderMap) -> Result<(), Refusal> {
    verdict(shared, presented(headers)).map_err(|wrong| {
        Box::new(match wrong {
            Wrong::Missing => proxy_error(401, MISSING, "auth_error", "None".into()),
            Wrong::Malformed => proxy_error(401, MALFORMED, "auth_error", "None".into()),
            Wrong::Unknown => proxy_error(400, NO_DATABASE, "no_db_connection", Value::Null),
        })
    })
}

/// The check before `/metrics`, which words its refusals in its own way.
pub(super) fn check_metrics(shared: &Shared, headers: &HeaderMap) -> Result<(), Refusal> {
    let key = presented(headers).unwrap_or_default();
    verdict(shared, Some(key)).map_err(|wrong| {
        let why = match wrong {
            Wrong::Unknown => NO_DATABASE,
            Wrong::Missing | Wrong::Malformed => MALFORMED,
        };
        let message = format!(
            "Unauthorized access to metrics endpoint: {why} To allow unauthenticated access, set \
             `litellm_settings.require_auth_for_metrics_endpoint: false` in your proxy_config.yaml."
        );
        let mut refusal = json_reply(401, &json!(message));
        refusal.headers_mut().remove("vary");
        Box::new(refusal)
    })
}

fn verdict(shared: &Shared, key: Option<String>) -> Result<(), Wrong> {
    let Some(master_key) = &shared.master_key else { return Ok(()) };
    match key {
        None => Err(Wrong::Missing),
        Some(key) if key.is_empty() => Err(Wrong::Malformed),
        Some(key) if key == master_key.expose() => Ok(()),
        Some(_) => Err(Wrong::Unknown),
    }
}

/// The key of a request; empty where one was sent in a form that is not understood.
fn presented(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(value) = text("x-litellm-api-key") {
        return Some(without_scheme(value).unwrap_or_else(|| value.to_owned()));
    }
    if let Some(value) = text("authorization").filter(|value| !value.is_empty()) {
        return Some(without_scheme(value).unwrap_or_default());
    }
    BARE_HEADERS.into_iter().find_map(text).map(str::to_owned)
}

/// LiteLLM takes out every occurrence of the scheme, not the first alone.
fn without_scheme(value: &str) -> Option<String> {
    let scheme = SCHEMES.into_iter().find(|scheme| value.starts_with(scheme))?;
    Some(value.replace(scheme, ""))
}

/// Marks a reply as what LiteLLM answers to a chat request that it refuses.
pub(super) fn with_cost_headers(refusal: &mut Refusal, call_id: Option<&str>) {
    if let Some(call_id) = call_id {
        set(refusal, "x-litellm-call-id", call_id);
    }
    set(refusal, "x-litellm-response-cost", "0");
    set(refusal, "x-litellm-key-spend", "0.0");
}
