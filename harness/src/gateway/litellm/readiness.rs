//! Whether a gateway answers yet.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::client::client_builder;
use crate::gateway::secret::Secret;

/// Bound on one question.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Bound on what is read of one answer, bytes.
const BODY_MAX: usize = 1024 * 1024;

/// A client for the gateway's own port: no proxies, no redirects, no kept-alive connections.
pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    client_builder().no_proxy().redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(0).build()
}

/// The body of a reply.
///
/// # Errors
/// When the connection breaks, or with more than [`BODY_MAX`] bytes; in words for a person.
pub(super) async fn bounded_body(mut response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| in_words(&error))? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(format!("answered with more than {BODY_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Asks once; `Err` says what was seen instead of a gateway that serves all of `aliases`.
pub(super) async fn ask(
    client: &reqwest::Client,
    url: &str,
    key: &Secret,
    aliases: &BTreeSet<&str>,
) -> Result<(), String> {
    get(client, &format!("{url}/health/liveliness"), None).await?;
    let body = get(client, &format!("{url}/v1/models"), Some(key)).await?;
    let models: Value =
        serde_json::from_slice(&body).map_err(|error| format!("/v1/models is not JSON: {error}"))?;
    let listed: BTreeSet<_> =
        models["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str()).collect();
    match aliases.difference(&listed).next() {
        Some(alias) => Err(format!("/v1/models does not list {alias}")),
        None => Ok(()),
    }
}

async fn get(client: &reqwest::Client, url: &str, key: Option<&Secret>) -> Result<Vec<u8>, String> {
    let mut request = client.get(url).timeout(REQUEST_TIMEOUT);
    if let Some(key) = key {
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {}", key.expose()));
    }
    let response = request.send().await.map_err(|error| in_words(&error))?;
    let status = response.status();
    let body = bounded_body(response).await?;
    if status.is_success() { Ok(body) } else { Err(format!("{url} answered {}", status.as_u16())) }
}

/// An error with its causes: reqwest's own message alone does not say why.
pub(super) fn in_words(error: &reqwest::Error) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}
