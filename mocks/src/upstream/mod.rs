//! Mock upstreams: HTTP servers that answer as Ollama and vLLM do, at a pace drawn from a seeded profile, and
//! that write down every request.
//!
//! What a mock model says is no evidence of which model it is: the mock cloud claims to be another vendor's
//! model, on purpose.

mod access_log;
mod engine;
mod metrics;
mod ollama;
mod openai;
mod reply;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use crate::profile::{Profile, TimingKind};
use crate::record::{Markers, Recorder};
use crate::serve::{Answer, Body, Server};
use access_log::{AccessLog, Asked};
use engine::Engine;
use metrics::Metrics;

pub use access_log::Sink;

/// The API that an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Ollama's own API under `/api/`.
    Ollama,
    /// OpenAI's API under `/v1/`, as vLLM serves it.
    #[serde(rename = "openai")]
    OpenAi,
}

/// One component of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentOptions {
    /// The component's name, unique in its world.
    pub name: String,
    /// The API that it speaks.
    pub dialect: Dialect,
    /// Which of the profile's timings it has; also decides what its models say.
    pub timing: TimingKind,
    /// The models that it serves.
    pub models: Vec<String>,
}

/// A running mock upstream.
#[derive(Debug)]
pub struct Upstream {
    server: Server,
    component: Arc<Component>,
}

impl Upstream {
    /// Starts an upstream on a free port of 127.0.0.1. `seed` and `stream` fix its draws: components of one
    /// world share the seed and differ in the stream.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says when no port can be bound.
    pub async fn start(
        options: ComponentOptions,
        profile: &Profile,
        seed: u64,
        stream: u64,
        recorder: Recorder,
    ) -> io::Result<Self> {
        let timing = profile.timing(options.timing).clone();
        let engine = Engine::new(timing, options.models.clone(), seed, stream);
        let (access_log, metrics) = (AccessLog::default(), Metrics::default());
        let component = Arc::new(Component { options, engine, recorder, access_log, metrics });
        let server = Server::start(0, Arc::clone(&component)).await?;
        Ok(Self { server, component })
    }

    /// Where it listens, past any gate.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> &ComponentOptions {
        &self.component.options
    }

    /// From now on this takes the access lines, as the real server writes them.
    pub fn log_to(&self, sink: Sink) {
        self.component.access_log.lead_to(sink);
    }

    /// Forgets what a new process would not know: the next call of each model loads it again.
    pub fn restart(&self) {
        self.component.engine.unload();
        self.component.metrics.forget();
    }

    /// From now on these models are not found, and all others are.
    pub fn set_gone(&self, models: Vec<String>) {
        self.component.engine.set_gone(models);
    }

    /// The models that are not found at present.
    #[must_use]
    pub fn gone(&self) -> Vec<String> {
        self.component.engine.gone()
    }

    /// Closes all connections and waits for their tasks. Requests under way are recorded as left by their client.
    pub async fn shutdown(&self) {
        self.server.shutdown().await;
    }
}

/// What the requests of one upstream share.
#[derive(Debug)]
struct Component {
    options: ComponentOptions,
    engine: Engine,
    recorder: Recorder,
    access_log: AccessLog,
    metrics: Metrics,
}

impl Answer for Component {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let mut entry = self.recorder.open(&self.options.name, request.uri().path());
        let asked = Asked::of(&request);
        match self.options.dialect {
            Dialect::Ollama => {
                let log = self.access_log.clone();
                entry.at_its_end(move |outcome, has_begun| log.ended(&asked, outcome, has_begun));
                ollama::answer(&self, entry, request).await
            }
            Dialect::OpenAi => {
                let response = openai::answer(&self, entry, request).await;
                self.access_log.answers(&asked, response.status());
                response
            }
        }
    }
}

impl Component {
    /// The answer's token at this index: a word, with the space before it.
    fn token(&self, index: u32) -> &'static str {
        let words: &[&str] = match self.options.timing {
            TimingKind::Cloud => {
                &["I am", " Claude", " Sonnet", " 4.6", ",", " and", " happy", " to", " help", ". "]
            }
            TimingKind::Vllm => &["The", " answer", " is", " short", " and", " plain", ". "],
            TimingKind::Ollama => &["Yes", ",", " this", " can", " be", " done", ". "],
        };
        words[index as usize % words.len()]
    }
}

/// The markers in the text of a chat's messages, and a rough count of its tokens.
fn read_messages(messages: &[serde_json::Value]) -> (Markers, u64) {
    let mut markers = Markers::default();
    let mut byte_count = 0;
    let mut take = |text: &str| {
        markers.collect(text);
        byte_count += text.len() as u64;
    };
    for message in messages {
        match &message["content"] {
            serde_json::Value::String(text) => take(text),
            serde_json::Value::Array(parts) => {
                parts.iter().filter_map(|part| part["text"].as_str()).for_each(&mut take);
            }
            _ => {}
        }
    }
    (markers, byte_count / 4 + 1)
}
