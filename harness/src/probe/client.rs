//! One request through the gateway, timed.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::HeaderMap;
use serde_json::json;
use thiserror::Error;

use super::error_class::classify;
use super::reply::{Flaw, StreamReader, Tokens, read_whole};
use super::sse::Decoder;
use super::ways::{TOLD_ERROR, Way, Ways, hook_body, read_hook};
use crate::attribution::by_header;
use crate::gateway::secret::Secret;
use crate::journal::{Claim, ClaimSource, Clock, Outcome, ProbeRecord, Purpose};

/// Longest text of the other side that is kept, in characters.
const OUTSIDE_CHARS_MAX: usize = 200;
/// Largest body that is read.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The HTTP client cannot be set up.
#[derive(Debug, Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct ProberError(#[from] reqwest::Error);

/// Counts when it goes.
struct Ended<'a>(&'a AtomicU64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

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
    counts: Arc<Counts>,
    ways: Arc<Ways>,
}

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
    answered: AtomicU64,
    /// Complete replies, by the alias that their headers name.
    replies: Mutex<BTreeMap<String, u64>>,
}

/// Model calls that a prober and its clones have made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Begun, so that the gateway may have got them.
    pub begun: u64,
    /// Of those, so many have ended, one way or another.
    pub ended: u64,
    /// Of those, so many were answered, with whatever status.
    pub answered: u64,
}

impl Prober {
    /// A prober of the gateway at `url` (without `/v1`).
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(url: &str, key: Secret, clock: Clock) -> Result<Self, ProberError> {
        Ok(Self {
            fresh: crate::http::client_for(url).pool_max_idle_per_host(0).build()?,
            kept: crate::http::client_for(url).pool_max_idle_per_host(64).build()?,
            url: url.trim_end_matches('/').to_owned(),
            key,
            clock,
            counts: Arc::default(),
            ways: Arc::default(),
        })
    }

    /// The traffic of some routes goes through openclaw.
    #[must_use]
    pub fn through(self, ways: Ways) -> Self {
        Self { ways: Arc::new(ways), ..self }
    }

    /// What it and its clones have sent by now.
    #[must_use]
    pub fn sent(&self) -> Sent {
        // The last first: what is counted there was counted as begun before.
        let answered = self.counts.answered.load(Ordering::SeqCst);
        let ended = self.counts.ended.load(Ordering::SeqCst);
        Sent { begun: self.counts.begun.load(Ordering::SeqCst), ended, answered }
    }

    /// Complete replies by now, by the alias that their headers name: enough to wait for, not for a verdict.
    #[must_use]
    pub fn replies(&self) -> BTreeMap<String, u64> {
        // Counters, whole after every step.
        self.counts.replies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Send one probe and follow it to its end.
    pub async fn send(&self, request: &Request) -> ProbeRecord {
        let mut probe = request.opened(self.clock.now_us());
        probe.fresh |= self.way(request).is_some();
        self.counts.begun.fetch_add(1, Ordering::SeqCst);
        // Counted as ended also where it is given up.
        let _ended = Ended(&self.counts.ended);
        // What came of a stream is kept also where the time is over first.
        let mut stream = Stream::default();
        let exchange = self.exchange(request, &mut probe, &mut stream);
        let ended = bound(request.timeout, exchange).await;
        let outcome = match ended {
            Some(Ok(())) => Outcome::Ok,
            Some(Err(failure)) => {
                probe.detail = failure.detail.map(|detail| self.clean(&detail));
                Outcome::Error(failure.class)
            }
            None => Outcome::Error("client-timeout".into()),
        };
        probe.outcome = outcome;
        probe.ended_us = self.clock.now_us();
        stream.tell(&mut probe);
        if self.way(request).is_some() {
            probe.claims = self.ways.claims(&request.id);
        }
        if probe.status.is_some() {
            self.counts.answered.fetch_add(1, Ordering::SeqCst);
        }
        for claim in &mut probe.claims {
            claim.value = self.clean(&claim.value);
        }
        if let Some(alias) = by_header(&probe).filter(|_| probe.outcome == Outcome::Ok) {
            let mut replies = self.counts.replies.lock().unwrap_or_else(PoisonError::into_inner);
            *replies.entry(alias).or_default() += 1;
        }
        probe
    }

    /// Words of the other side as they may be kept: without the key, and only then cut to a bounded
    /// length, so that no part of a key is left at the cut.
    fn clean(&self, text: &str) -> String {
        self.ways.redact(&self.key.redact(text)).chars().take(OUTSIDE_CHARS_MAX).collect()
    }

    /// Where its traffic goes; what asks a model by its own name asks the gateway itself.
    fn way(&self, request: &Request) -> Option<&Way> {
        self.ways.of(&request.route).filter(|_| request.purpose == Purpose::Traffic)
    }

    async fn exchange(
        &self,
        request: &Request,
        probe: &mut ProbeRecord,
        stream: &mut Stream,
    ) -> Result<(), Failure> {
        match self.way(request) {
            None => {
                let post = self.post(request, &format!("{}/v1/chat/completions", self.url), &self.key);
                let post = post.header("x-litellm-call-id", &request.id).body(body_of(request));
                self.chat(request, post, probe, stream).await
            }
            Some(Way::Chat { url, token, agent }) => {
                let post = self.post(request, &format!("{url}/v1/chat/completions"), token);
                let told = self.chat(request, post.body(turn_body(request, agent)), probe, stream).await;
                told.map_err(|failure| match failure.class.as_str() {
                    "error-event" => Failure { class: TOLD_ERROR.to_owned(), ..failure },
                    _ => failure,
                })
            }
            Some(Way::Hook { url, token }) => {
                let post = self.post(request, &format!("{url}/hooks/agent"), token).body(hook_body(request));
                let response = self.answer(post, probe).await?;
                read_hook(&read_body(response).await?)?;
                self.all_at_once(probe);
                Ok(())
            }
            Some(Way::Telegram(chats)) => {
                let message = chats.turn(request).await;
                self.ways.read_message(&request.id, &message)?;
                self.all_at_once(probe);
                Ok(())
            }
        }
    }

    fn post(&self, request: &Request, url: &str, key: &Secret) -> reqwest::RequestBuilder {
        // openclaw's server closes an idle connection after 5 s, so a kept one could be gone when the next turn is sent.
        let client = if request.fresh || self.way(request).is_some() { &self.fresh } else { &self.kept };
        client
            .post(url)
            .header("authorization", format!("Bearer {}", key.expose()))
            .header("content-type", "application/json")
    }

    /// The reply is there, with its first content at its end.
    fn all_at_once(&self, probe: &mut ProbeRecord) {
        let now = self.clock.now_us();
        probe.first_content_us = Some(now);
        probe.first_answer_us = Some(now);
    }

    /// The headers of an answer 200.
    async fn answer(
        &self,
        post: reqwest::RequestBuilder,
        probe: &mut ProbeRecord,
    ) -> Result<reqwest::Response, Failure> {
        let response = post.send().await.map_err(|error| Failure::transport(&error))?;
        probe.headers_us = Some(self.clock.now_us());
        let status = response.status().as_u16();
        probe.status = Some(status);
        probe.claims = claims_of(response.headers());
        if status != 200 {
            let body = read_body(response).await?;
            return Err(Failure { class: format!("http-{status}"), detail: Some(error_words(&body)) });
        }
        Ok(response)
    }

    async fn chat(
        &self,
        request: &Request,
        post: reqwest::RequestBuilder,
        probe: &mut ProbeRecord,
        stream: &mut Stream,
    ) -> Result<(), Failure> {
        let response = self.answer(post, probe).await?;
        if request.streamed {
            self.read_stream(response, probe, stream).await
        } else {
            let body = read_body(response).await?;
            let model = read_whole(&body)?;
            self.all_at_once(probe);
            claim_body(probe, model);
            Ok(())
        }
    }

    async fn read_stream(
        &self,
        response: reqwest::Response,
        probe: &mut ProbeRecord,
        stream: &mut Stream,
    ) -> Result<(), Failure> {
        let mut chunks = response.bytes_stream();
        let (mut decoder, mut read) = (Decoder::default(), 0_usize);
        stream.is_open = true;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| Failure::transport(&error))?;
            let now = self.clock.now_us();
            read += chunk.len();
            if read > BODY_BYTES_MAX {
                return Err(Failure::plain("malformed", "the stream is longer than any probe can ask for"));
            }
            let fed = decoder.feed(&chunk, |data| match stream.reader.event(data) {
                Tokens::None => {}
                tokens => {
                    stream.gaps.token(now);
                    probe.first_content_us.get_or_insert(now);
                    if tokens == Tokens::Answer {
                        probe.first_answer_us.get_or_insert(now);
                    }
                }
            });
            fed.map_err(|error| Failure::plain("malformed", &error.to_string()))?;
            if probe.claims.iter().all(|claim| claim.source != ClaimSource::BodyModel) {
                claim_body(probe, stream.reader.model.clone());
            }
        }
        Ok(stream.reader.finish()?)
    }
}

/// What came of a stream.
#[derive(Default)]
struct Stream {
    /// It has begun: status 200.
    is_open: bool,
    reader: StreamReader,
    gaps: Gaps,
}

impl Stream {
    fn tell(&self, probe: &mut ProbeRecord) {
        probe.longest_gap_us = self.gaps.longest(probe.ended_us);
        probe.broke = (self.is_open && probe.outcome != Outcome::Ok).then(|| self.reader.got());
    }
}

/// The longest time between two tokens.
#[derive(Default)]
struct Gaps {
    last_us: Option<u64>,
    longest_us: u64,
}

impl Gaps {
    fn token(&mut self, now_us: u64) {
        self.longest_us = self.longest(now_us).unwrap_or(0);
        self.last_us = Some(now_us);
    }

    /// With the time since the last token; `None` before the first.
    fn longest(&self, now_us: u64) -> Option<u64> {
        self.last_us.map(|last_us| self.longest_us.max(now_us.saturating_sub(last_us)))
    }
}

/// `None` when the time is over first.
async fn bound<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

fn body_of(request: &Request) -> String {
    json!({
        "model": request.model,
        "messages": [{ "role": "user", "content": question(&request.id) }],
        "max_tokens": request.max_tokens,
        "stream": request.streamed,
        "metadata": { "probe_id": request.id },
    })
    .to_string()
}

/// What a probe says; its id is in the text, which every layer passes on.
pub(super) fn question(id: &str) -> String {
    format!("Say who you are, in a few words. [probe:{id}]")
}

/// A turn of an agent.
fn turn_body(request: &Request, agent: &str) -> String {
    let messages = json!([{ "role": "user", "content": question(&request.id) }]);
    json!({ "model": agent, "messages": messages, "stream": request.streamed }).to_string()
}

impl Request {
    /// The record of a probe that was just sent; everything that comes later is still open.
    pub(super) fn opened(&self, sent_us: u64) -> ProbeRecord {
        ProbeRecord {
            id: self.id.clone(),
            scenario: self.scenario.clone(),
            route: self.route.clone(),
            purpose: self.purpose,
            model: self.model.clone(),
            streamed: self.streamed,
            fresh: self.fresh,
            intended_us: self.intended_us,
            sent_us,
            headers_us: None,
            first_content_us: None,
            first_answer_us: None,
            ended_us: sent_us,
            status: None,
            outcome: Outcome::Ok,
            claims: Vec::new(),
            detail: None,
            longest_gap_us: None,
            broke: None,
        }
    }
}

fn claim_body(record: &mut ProbeRecord, model: Option<String>) {
    if let Some(value) = model {
        record.claims.push(Claim { source: ClaimSource::BodyModel, value });
    }
}

pub(super) struct Failure {
    pub(super) class: String,
    detail: Option<String>,
}

impl Failure {
    pub(super) fn plain(class: &str, detail: &str) -> Self {
        Self { class: class.to_owned(), detail: Some(detail.to_owned()) }
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

/// The gateway's own words: `type: message`.
fn error_words(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &value["error"];
    let kind = error["type"].as_str().unwrap_or("no type");
    let message = error["message"].as_str().unwrap_or("no message");
    format!("{kind}: {message}")
}

/// What an answer of the gateway says in its headers about who served it, raw.
#[must_use]
pub fn claims_of(headers: &HeaderMap) -> Vec<Claim> {
    const NAMES: [(&str, ClaimSource); 4] = [
        ("x-litellm-model-id", ClaimSource::HeaderModelId),
        ("x-litellm-model-group", ClaimSource::HeaderModelGroup),
        ("x-litellm-model-api-base", ClaimSource::HeaderApiBase),
        ("x-litellm-attempted-fallbacks", ClaimSource::HeaderFallbacks),
    ];
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    NAMES.into_iter().filter_map(|(name, source)| value(name).map(|value| Claim { source, value })).collect()
}
