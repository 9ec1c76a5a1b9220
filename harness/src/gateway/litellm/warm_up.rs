//! First requests, made before anything is measured: LiteLLM imports code on the first of each kind.

use std::time::{Duration, Instant};

use serde_json::json;

use super::readiness;
use crate::gateway::secret::Secret;

/// Requests that each alias gets: one whole, one streamed.
pub const REQUESTS_EACH: u64 = 2;
/// Tokens that each may generate.
pub const MAX_TOKENS: u64 = 8;
/// Bound on one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What came of one warm-up request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarmUpStatus {
    /// A whole answer with this HTTP status.
    Answered(u16),
    /// No whole answer in time.
    TimedOut,
    /// No whole answer, for this reason.
    Failed(String),
}

/// One warm-up request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmUp {
    /// The alias that was asked.
    pub alias: String,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// What came of it.
    pub status: WarmUpStatus,
    /// How long it took, milliseconds.
    pub ms: u64,
}

impl WarmUp {
    /// Whether the alias answered as it should.
    pub fn is_ok(&self) -> bool {
        self.status == WarmUpStatus::Answered(200)
    }
}

/// Sends each of `aliases` one whole and one streamed short chat through the gateway at `url`, one after the
/// other and without fallbacks, so that each alias is warmed itself. Takes at most a minute for each alias. A
/// failure is a result: whether the gateway is fit is for the caller to say.
pub async fn warm_up(url: &str, key: &Secret, aliases: &[String]) -> Vec<WarmUp> {
    let client = readiness::client();
    let mut results = Vec::with_capacity(aliases.len() * 2);
    for alias in aliases {
        for stream in [false, true] {
            let started = Instant::now();
            let status = match &client {
                Ok(client) => chat(client, url, key, alias, stream).await,
                Err(error) => WarmUpStatus::Failed(readiness::in_words(error)),
            };
            let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            results.push(WarmUp { alias: alias.clone(), stream, status, ms });
        }
    }
    results
}

async fn chat(client: &reqwest::Client, url: &str, key: &Secret, alias: &str, stream: bool) -> WarmUpStatus {
    let body = json!({
        "model": alias,
        "messages": [{ "role": "user", "content": "warm-up [purpose:warm-up]" }],
        "max_tokens": MAX_TOKENS,
        "stream": stream,
        "disable_fallbacks": true,
    });
    let request = client
        .post(format!("{url}/v1/chat/completions"))
        .header(http::header::AUTHORIZATION, format!("Bearer {}", key.expose()))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string());
    let exchange = async {
        let response = request.send().await.map_err(|error| readiness::in_words(&error))?;
        let status = response.status().as_u16();
        readiness::bounded_body(response).await.map(|_| status)
    };
    match tokio::time::timeout(REQUEST_TIMEOUT, exchange).await {
        Ok(Ok(status)) => WarmUpStatus::Answered(status),
        Ok(Err(reason)) => WarmUpStatus::Failed(reason),
        Err(_) => WarmUpStatus::TimedOut,
    }
}
