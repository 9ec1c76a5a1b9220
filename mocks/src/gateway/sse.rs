//! A stream as the client gets it: server-sent events in LiteLLM's form, whatever the upstream's dialect.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::config::Provider;
use super::failure::Failure;
use super::provider::Chunk;
use super::provider::stream::ChunkStream;
use super::responses::error_type;
use super::{Ids, Shared};

/// How long a finished upstream may take to close its body, so that its connection can be used again.
const DRAIN_LIMIT: Duration = Duration::from_millis(100);

/// Writes one stream.
pub(super) struct SseWriter {
    stream: Box<ChunkStream>,
    provider: Provider,
    ids: Ids,
    /// What every chunk names as its model.
    model: String,
    created: u64,
    include_usage: bool,
    ready: VecDeque<Bytes>,
    started: bool,
    last_id: String,
    finish_reason: Option<String>,
    usage: Option<Value>,
    /// Characters of the request and of the reply so far, for an upstream that does not count tokens.
    prompt_chars: usize,
    reply_chars: usize,
    adds_up: bool,
    state: State,
    /// Where its end is counted.
    tally: Tally,
}

/// Whose success or failure the end of a stream is.
pub(super) struct Tally {
    pub(super) shared: Arc<Shared>,
    pub(super) deployment: usize,
    /// A failure would be the first of its request: no other counts.
    pub(super) counts_failure: bool,
}

#[derive(PartialEq)]
enum State {
    Reading,
    Closing,
    Closed,
}

impl SseWriter {
    /// A writer for `first` and everything after it; `first` is `None` where the stream was empty.
    pub(super) fn new(
        first: Option<Chunk>,
        stream: Box<ChunkStream>,
        provider: Provider,
        tally: Tally,
        model: String,
        created: u64,
        include_usage: bool,
    ) -> Self {
        let mut writer = Self {
            stream,
            provider,
            ids: tally.shared.ids.clone(),
            model,
            created,
            include_usage,
            ready: VecDeque::new(),
            started: false,
            last_id: String::new(),
            finish_reason: None,
            usage: None,
            prompt_chars: 0,
            reply_chars: 0,
            adds_up: false,
            state: State::Reading,
            tally,
        };
        match first {
            Some(chunk) => writer.take(chunk),
            None => writer.close(),
        }
        writer
    }

    /// A further event after the first.
    pub(super) fn telling(mut self, event: Option<Bytes>) -> Self {
        if let Some(event) = event {
            self.ready.insert(self.ready.len().min(1), event);
        }
        self
    }

    /// The same, which knows how long the request was, and whether its counts are added to those of a stream before.
    pub(super) fn counting(mut self, prompt_chars: usize, adds_up: bool) -> Self {
        self.prompt_chars = prompt_chars;
        self.adds_up = adds_up;
        self
    }

    /// The next bytes for the client; `None` at the end of the body.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.state {
                State::Closed => return None,
                State::Closing => {
                    self.state = State::Closed;
                    // Nobody waits for what it says, only for the connection.
                    let _ = tokio::time::timeout(DRAIN_LIMIT, self.stream.next_chunk()).await;
                }
                State::Reading => match self.stream.next_chunk().await {
                    Ok(Some(chunk)) => self.take(chunk),
                    Ok(None) => self.close(),
                    Err(failure) => self.fail(&failure),
                },
            }
        }
    }

    fn take(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Done => self.close(),
            Chunk::Usage(usage) => self.usage = Some(usage),
            Chunk::Delta { id, delta, logprobs, finish_reason, usage } => {
                self.usage = usage.or_else(|| self.usage.take());
                // Ollama's stream has no ids: the gateway makes a new one for every chunk.
                let id = id.unwrap_or_else(|| self.ids.uuid());
                let opens = !self.started && self.provider == Provider::HostedVllm;
                if !delta.is_empty() || opens {
                    self.delta(id.clone(), delta, logprobs);
                }
                if let Some(reason) = finish_reason {
                    self.finish(id, reason);
                    if self.provider == Provider::OllamaChat {
                        self.close();
                    }
                }
            }
        }
    }

    fn delta(&mut self, id: String, mut delta: Map<String, Value>, logprobs: Option<Value>) {
        if !self.started {
            self.started = true;
            let mut opening = Map::new();
            opening.insert("role".into(), "assistant".into());
            opening.append(&mut delta);
            delta = opening;
        }
        self.last_id = id;
        let text = delta.get("content").and_then(Value::as_str).unwrap_or_default();
        self.reply_chars = self.reply_chars.saturating_add(text.chars().count());
        let event = match logprobs {
            None => self.event(json!([{ "index": 0, "delta": delta }])),
            // What LiteLLM does not write by hand has another order.
            Some(logprobs) => json!({
                "id": self.last_id,
                "created": self.created,
                "model": self.model,
                "object": "chat.completion.chunk",
                "choices": [{ "index": 0, "delta": delta, "logprobs": logprobs }],
            }),
        };
        self.push(&event);
    }

    fn finish(&mut self, id: String, reason: String) {
        self.last_id = id;
        let event = self.event(json!([{ "index": 0, "delta": {}, "finish_reason": reason }]));
        self.push(&event);
        self.finish_reason = Some(reason);
    }

    /// The end, with a synthetic `stop` if the upstream ended without a finish marker.
    fn close(&mut self) {
        let is_empty = self.last_id.is_empty();
        if self.finish_reason.is_none() {
            // Where nothing came at all, the id is of another form.
            let id = if is_empty { format!("chatcmpl-{}", self.ids.uuid()) } else { self.last_id.clone() };
            self.finish(id, "stop".to_owned());
        }
        if self.include_usage && is_empty {
            let event = self.event(json!([{ "index": 0, "delta": {} }]));
            self.push(&event);
        } else if self.include_usage {
            let event = json!({
                "id": self.last_id,
                "created": self.created,
                "model": self.model,
                "object": "chat.completion.chunk",
                "choices": [{ "index": 0, "delta": {} }],
                "usage": self.usage(),
            });
            self.push(&event);
        }
        self.ready.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        self.tally.shared.count_ended(self.tally.deployment);
        self.state = State::Closing;
    }

    /// The stream broke after its first chunk: an error event, and no `[DONE]`.
    fn fail(&mut self, failure: &Failure) {
        if self.tally.counts_failure {
            self.tally.shared.count_late(self.tally.deployment, failure);
        }
        let kind = error_type(failure, true).unwrap_or(Value::Null);
        // This event alone is written with spaces after separators.
        let event = format!(
            "data: {{\"error\": {{\"message\": {}, \"type\": {kind}, \"param\": null, \"code\": \"{}\"}}}}\n\n",
            Value::from(failure.message.as_str()),
            failure.status
        );
        self.ready.push_back(event.into());
        self.state = State::Closed;
    }

    /// The upstream's counts. LiteLLM counts with a tokenizer where there are none; here four characters are a token.
    fn usage(&self) -> Value {
        let said = |key: &str| self.usage.as_ref()?.get(key)?.as_u64();
        let estimate = |chars: usize| u64::try_from(chars.div_ceil(4)).unwrap_or(u64::MAX);
        let reply = said("completion_tokens").unwrap_or_else(|| estimate(self.reply_chars));
        let prompt = said("prompt_tokens").unwrap_or_else(|| estimate(self.prompt_chars));
        let details = if self.adds_up {
            json!({
                "accepted_prediction_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 0,
                "rejected_prediction_tokens": 0, "text_tokens": reply, "image_tokens": 0, "video_tokens": 0,
            })
        } else {
            json!({ "reasoning_tokens": 0, "text_tokens": reply })
        };
        json!({
            "completion_tokens": reply,
            "prompt_tokens": prompt,
            "total_tokens": prompt.saturating_add(reply),
            "completion_tokens_details": details,
        })
    }

    fn event(&self, choices: Value) -> Value {
        json!({
            "id": self.last_id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    fn push(&mut self, event: &Value) {
        self.ready.push_back(format!("data: {event}\n\n").into());
    }
}
