//! Drives a [`RequestWalk`] in real time: performs its actions and reports back what happened.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use http::HeaderMap;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde_json::{Map, Value};

use super::config::Deployment;
use super::failure::{Failure, SeenIn};
use super::provider::stream::ChunkStream;
use super::provider::{self, Chunk, Completion, Limits};
use super::router::{Action, Answer, BROKEN_STREAMS_TOLD, Event, RequestWalk, Served};
use super::{Shared, config::Provider};

/// What a request came to.
pub(super) struct Outcome {
    /// What to answer.
    pub(super) answer: Result<Reply, FailedAnswer>,
    /// From the walk's start to its answer.
    pub(super) total: Duration,
    /// The part of it spent inside HTTP calls.
    pub(super) in_calls: Duration,
    /// An upstream whose model is priced has accepted an attempt.
    pub(super) priced: bool,
    /// Characters of the request's messages.
    pub(super) prompt_chars: usize,
}

/// A reply and who gave it.
pub(super) struct Reply {
    pub(super) served: Served,
    pub(super) content: Content,
    pub(super) upstream_headers: Vec<(String, String)>,
}

/// An error and, where a stream was accepted and broke, whose it was.
pub(super) struct FailedAnswer {
    pub(super) failure: Failure,
    pub(super) broken_stream: Option<(Served, Vec<(String, String)>)>,
}

/// The two forms of a reply.
pub(super) enum Content {
    Whole(Completion),
    Stream { first: Option<Chunk>, rest: Box<ChunkStream> },
}

/// A failed attempt; with the upstream's headers where it had accepted a stream.
struct AttemptFault {
    failure: Box<Failure>,
    accepted: Option<Vec<(String, String)>>,
}

impl From<Failure> for AttemptFault {
    fn from(failure: Failure) -> Self {
        Self { failure: Box::new(failure), accepted: None }
    }
}

/// Runs one request to its answer. `body` is the client's.
pub(super) async fn drive(
    shared: &Shared,
    mut walk: RequestWalk,
    body: &Map<String, Value>,
    streaming: bool,
) -> Outcome {
    let started = Instant::now();
    let mut in_calls = Duration::ZERO;
    let mut event = Event::Started;
    let mut gained: Option<(Content, Vec<(String, String)>)> = None;
    let mut stream_headers = Vec::new();
    let mut broken_streams = 0;
    let mut priced = false;
    loop {
        event = match shared.decide(&mut walk, event) {
            Action::Wait(pause) => {
                tokio::time::sleep(pause).await;
                Event::Waited
            }
            Action::Attempt { deployment, timeout } => {
                let deployment = &shared.config.deployments[deployment];
                let changed = with_fields(body, walk.fields());
                match attempt(shared, deployment, &changed, streaming, timeout, &mut in_calls).await {
                    Ok(reply) => {
                        priced |= deployment.priced;
                        gained = Some(reply);
                        Event::Succeeded
                    }
                    Err(AttemptFault { failure, accepted: None }) => Event::Failed(*failure),
                    Err(AttemptFault { failure, accepted: Some(headers) }) => {
                        priced |= deployment.priced;
                        broken_streams += 1;
                        if broken_streams <= BROKEN_STREAMS_TOLD {
                            stream_headers = headers;
                        }
                        Event::StreamFailed(*failure)
                    }
                }
            }
            Action::Answer(answer) => {
                let answer = match (answer, gained) {
                    (Answer::Served(served), Some((content, upstream_headers))) => {
                        Ok(Reply { served, content, upstream_headers })
                    }
                    (Answer::Failed { failure, broken_stream }, _) => Err(FailedAnswer {
                        failure: *failure,
                        broken_stream: broken_stream.map(|served| (served, stream_headers)),
                    }),
                    (Answer::Served(_), None) => unreachable!("the walk serves only what an attempt gained"),
                };
                let prompt_chars = body.get("messages").map_or(0, characters);
                return Outcome { answer, total: started.elapsed(), in_calls, priced, prompt_chars };
            }
        };
    }
}

/// The client's body with the fields of the fallback target under way.
fn with_fields<'a>(body: &'a Map<String, Value>, fields: &Map<String, Value>) -> Cow<'a, Map<String, Value>> {
    if fields.is_empty() {
        return Cow::Borrowed(body);
    }
    let mut body = body.clone();
    body.extend(fields.clone());
    Cow::Owned(body)
}

/// One call past the router, for its outcome alone.
pub(super) async fn check_deployment(
    shared: &Shared,
    deployment: &Deployment,
    body: &Map<String, Value>,
    timeout: Duration,
) -> Result<(), Failure> {
    match attempt(shared, deployment, body, false, timeout, &mut Duration::default()).await {
        Ok(_) => Ok(()),
        Err(fault) => Err(*fault.failure),
    }
}

/// Characters of all texts in a value.
fn characters(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.iter().map(characters).sum(),
        Value::Object(entries) => entries.values().map(characters).sum(),
        _ => 0,
    }
}

async fn attempt(
    shared: &Shared,
    deployment: &Deployment,
    body: &Map<String, Value>,
    streaming: bool,
    timeout: Duration,
    in_calls: &mut Duration,
) -> Result<(Content, Vec<(String, String)>), AttemptFault> {
    let provider = deployment.provider;
    let limits = Limits::of(deployment);
    let body = provider::params::known(deployment, body, shared.config.router.drop_params)?;
    let request = provider::request(deployment, &body, streaming)?;
    let began = Instant::now();
    let broken = |error, in_calls: &mut Duration| {
        *in_calls += began.elapsed();
        provider::transport_failure(provider, &error, timeout, began.elapsed(), limits).into()
    };
    let mut reply = match shared.transport.send(&request, timeout).await {
        Ok(reply) => reply,
        Err(error) => return Err(broken(error, in_calls)),
    };
    let headers = header_list(&reply.headers);
    let status = reply.status.as_u16();
    if reply.status.is_success() && streaming {
        *in_calls += began.elapsed();
        return first_chunk(ChunkStream::new(provider, reply), headers).await;
    }
    let retry_after_s = retry_after(&reply.headers, Timestamp::now());
    let whole = match reply.read_to_end().await {
        Ok(whole) => whole,
        Err(error) => return Err(broken(error, in_calls)),
    };
    *in_calls += began.elapsed();
    let mut failure = if reply.status.is_success() {
        let completion = match provider {
            Provider::OllamaChat => provider::ollama_chat::completion(&whole),
            Provider::HostedVllm => provider::hosted_vllm::completion(&whole),
        };
        match completion {
            Ok(completion) => return Ok((Content::Whole(completion), headers)),
            Err(failure) => failure,
        }
    } else {
        provider::status_failure(provider, status, &String::from_utf8_lossy(&whole), limits)
    };
    failure.retry_after_s = retry_after_s;
    if matches!(failure.seen_in, SeenIn::Exchange | SeenIn::Garbage) {
        failure.upstream_headers = headers;
    }
    Err(failure.into())
}

/// Status and headers are held until the first chunk is there.
async fn first_chunk(
    mut stream: ChunkStream,
    headers: Vec<(String, String)>,
) -> Result<(Content, Vec<(String, String)>), AttemptFault> {
    match stream.next_chunk().await {
        Ok(first) => Ok((Content::Stream { first, rest: Box::new(stream) }, headers)),
        Err(failure) => Err(AttemptFault { failure: Box::new(failure), accepted: Some(headers) }),
    }
}

/// The upstream's `Retry-After` in whole seconds: a number, or how long until a date. One that is over is none.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<u32> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse::<i64>().ok().or_else(|| {
        let date = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
        Some(date.duration_since(now).as_secs())
    })?;
    (seconds >= 0).then(|| u32::try_from(seconds).unwrap_or(u32::MAX))
}

fn header_list(headers: &HeaderMap) -> Vec<(String, String)> {
    let readable = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    readable.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read(" 7 "), Some(7));
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("Thu, 01 Jan 2026 00:00:40 GMT"), Some(39));
        assert_eq!(read("Fri, 01 Jan 2026 00:01:00 +0000"), Some(59), "whatever the day of the week");
        assert_eq!(read("Thu, 01 Jan 2026 00:00:00 GMT"), Some(0), "half a second ago");
        for none in ["-1", "Wed, 31 Dec 2025 23:59:59 GMT", "1.5", "soon", ""] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(read("99999999999"), Some(u32::MAX));
    }
}
