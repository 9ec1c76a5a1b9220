//! One request through the gateway, timed.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::HeaderMap;
use serde_json::json;
use thiserror::Error;

use super::error_class::classify;
use super::reply::{Flaw, StreamReader, Tokens, bounded, read_whole};
use super::sse::Decoder;
use crate::gateway::client::client_builder;
use crate::gateway::secret::Secret;
use crate::journal::{Claim, ClaimSource, Clock, Outcome, ProbeRecord, Purpose};

/// Largest body that is read.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The HTTP client cannot be set up.
#[derive(Debug, Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct ProberError(#[from] reqwest::Error);

/// What to ask.
#[derive(Clone, Debug)]
pub struct Request {
    /// Unique in the run.
    pub id: String,
    /// Scenario.
    pub scenario: String,
    /// Route.
    pub route: String,
    /// Why it is sent.
    pub purpose: Purpose,
    /// Alias asked for.
    pub model: String,
    /// Streamed or whole.
    pub streamed: bool,
    /// On a fresh connection or a kept-alive one.
    pub fresh: bool,
    /// `max_tokens`.
    pub max_tokens: u32,
    /// Client timeout, from the moment of sending.
    pub timeout: Duration,
    /// When the schedule says, in microseconds of the run's clock.
    pub intended_us: u64,
}

/// Sends probes to one gateway. Cheap to clone.
#[derive(Clone)]
pub struct Prober {
    fresh: reqwest::Client,
    kept: reqwest::Client,
    url: String,
    key: Secret,
    clock: Clock,
}

impl Prober {
    /// A prober of the gateway at `url` (without `/v1`).
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(url: &str, key: Secret, clock: Clock) -> Result<Self, ProberError> {
        // Whatever the library could do behind our back would falsify a result: it is all off.
        let builder = || {
            client_builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .tcp_nodelay(true)
        };
        let builder = || if is_loopback(url) { builder().no_proxy() } else { builder() };
        Ok(Self {
            fresh: builder().pool_max_idle_per_host(0).build()?,
            kept: builder().pool_max_idle_per_host(64).build()?,
            url: url.trim_end_matches('/').to_owned(),
            key,
            clock,
        })
    }

    /// Send one probe and follow it to its end; `on_content` is called at its first content.
    pub async fn send(&self, request: &Request, on_content: impl FnOnce() + Send) -> ProbeRecord {
        let mut probe = Probe::new(request, self.clock);
        let exchange = self.exchange(request, &mut probe, on_content);
        let ended = bound(request.timeout, exchange).await;
        let outcome = match ended {
            Some(Ok(())) => Outcome::Ok,
            Some(Err(failure)) => {
                probe.record.detail = failure.detail.map(|detail| detail.replace(self.key.expose(), "***"));
                Outcome::Error(failure.class)
            }
            None => Outcome::Error("client-timeout".into()),
        };
        probe.record.outcome = outcome;
        probe.record.ended_us = self.clock.now_us();
        probe.record
    }

    async fn exchange(
        &self,
        request: &Request,
        probe: &mut Probe,
        on_content: impl FnOnce() + Send,
    ) -> Result<(), Failure> {
        let client = if request.fresh { &self.fresh } else { &self.kept };
        let response = client
            .post(format!("{}/v1/chat/completions", self.url))
            .header("authorization", format!("Bearer {}", self.key.expose()))
            .header("content-type", "application/json")
            .header("x-litellm-call-id", &request.id)
            .body(body_of(request))
            .send()
            .await
            .map_err(|error| Failure::transport(&error))?;
        probe.record.headers_us = Some(self.clock.now_us());
        let status = response.status().as_u16();
        probe.record.status = Some(status);
        probe.record.claims = header_claims(response.headers());
        if status != 200 {
            let body = read_body(response).await?;
            return Err(Failure { class: format!("http-{status}"), detail: Some(error_words(&body)) });
        }
        if request.streamed {
            self.read_stream(response, probe, on_content).await
        } else {
            let body = read_body(response).await?;
            let model = read_whole(&body)?;
            let now = self.clock.now_us();
            probe.record.first_content_us = Some(now);
            probe.record.first_answer_us = Some(now);
            probe.claim_body(model);
            on_content();
            Ok(())
        }
    }

    async fn read_stream(
        &self,
        response: reqwest::Response,
        probe: &mut Probe,
        on_content: impl FnOnce() + Send,
    ) -> Result<(), Failure> {
        let mut chunks = response.bytes_stream();
        let (mut decoder, mut reader, mut read) = (Decoder::default(), StreamReader::default(), 0_usize);
        let mut on_content = Some(on_content);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| Failure::transport(&error))?;
            let now = self.clock.now_us();
            read += chunk.len();
            if read > BODY_BYTES_MAX {
                return Err(Failure::plain("malformed", "the stream is longer than any probe can ask for"));
            }
            let fed = decoder.feed(&chunk, |data| match reader.event(data) {
                Tokens::None => {}
                tokens => {
                    probe.record.first_content_us.get_or_insert(now);
                    if tokens == Tokens::Answer {
                        probe.record.first_answer_us.get_or_insert(now);
                    }
                    if let Some(tell) = on_content.take() {
                        tell();
                    }
                }
            });
            fed.map_err(|error| Failure::plain("malformed", &error.to_string()))?;
            if probe.record.claims.iter().all(|claim| claim.source != ClaimSource::BodyModel) {
                probe.claim_body(reader.model.clone());
            }
        }
        Ok(reader.finish()?)
    }
}

/// `None` when the time is over first.
async fn bound<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

fn is_loopback(url: &str) -> bool {
    reqwest::Url::parse(url).ok().is_some_and(|url| match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    })
}

fn body_of(request: &Request) -> String {
    json!({
        "model": request.model,
        "messages": [{ "role": "user", "content": format!("Say who you are, in a few words. [probe:{}]", request.id) }],
        "max_tokens": request.max_tokens,
        "stream": request.streamed,
        "metadata": { "probe_id": request.id },
    })
    .to_string()
}

/// A probe on its way.
struct Probe {
    record: ProbeRecord,
}

impl Probe {
    fn new(request: &Request, clock: Clock) -> Self {
        let sent_us = clock.now_us();
        Self {
            record: ProbeRecord {
                id: request.id.clone(),
                scenario: request.scenario.clone(),
                route: request.route.clone(),
                purpose: request.purpose,
                model: request.model.clone(),
                streamed: request.streamed,
                fresh: request.fresh,
                intended_us: request.intended_us,
                sent_us,
                headers_us: None,
                first_content_us: None,
                first_answer_us: None,
                ended_us: sent_us,
                status: None,
                outcome: Outcome::Ok,
                claims: Vec::new(),
                detail: None,
            },
        }
    }

    fn claim_body(&mut self, model: Option<String>) {
        if let Some(value) = model {
            self.record.claims.push(Claim { source: ClaimSource::BodyModel, value });
        }
    }
}

struct Failure {
    class: String,
    detail: Option<String>,
}

impl Failure {
    fn plain(class: &str, detail: &str) -> Self {
        Self { class: class.to_owned(), detail: Some(bounded(detail)) }
    }
    fn transport(error: &reqwest::Error) -> Self {
        Self { class: classify(error).to_owned(), detail: None }
    }
}

impl From<Flaw> for Failure {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Malformed(why) => Self::plain("malformed", &why),
            Flaw::Empty => Self { class: "empty-reply".into(), detail: None },
            Flaw::ErrorEvent(message) => Self::plain("error-event", &message),
            Flaw::Truncated => Self { class: "truncated-stream".into(), detail: None },
        }
    }
}

async fn read_body(response: reqwest::Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Failure::transport(&error))?;
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(Failure::plain("malformed", "the reply is longer than any probe can ask for"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The gateway's own words, short: `type: message`.
fn error_words(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &value["error"];
    let kind = error["type"].as_str().unwrap_or("no type");
    let message = error["message"].as_str().unwrap_or("no message");
    bounded(&format!("{kind}: {message}"))
}

fn header_claims(headers: &HeaderMap) -> Vec<Claim> {
    const NAMES: [(&str, ClaimSource); 4] = [
        ("x-litellm-model-id", ClaimSource::HeaderModelId),
        ("x-litellm-model-group", ClaimSource::HeaderModelGroup),
        ("x-litellm-model-api-base", ClaimSource::HeaderApiBase),
        ("x-litellm-attempted-fallbacks", ClaimSource::HeaderFallbacks),
    ];
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(bounded);
    NAMES.into_iter().filter_map(|(name, source)| value(name).map(|value| Claim { source, value })).collect()
}
