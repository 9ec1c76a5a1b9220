//! An HTTP API on loopback by which another process changes and reads a mock world.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /state` | | `{"now_us", "components": [...], "journal": {"next_seq", "dropped_count"}}` |
//! | `PUT /gates/{component}` | `{"mode": "blackhole"}` | 204 once the mode is in effect |
//! | `PUT /gone/{component}` | `{"models": ["..."]}` | 204 |
//! | `POST /reset` | | 204 once all gates pass and all models are back |
//! | `GET /journal?since=SEQ` | | the records from that `seq` on, one JSON object a line |
//!
//! An error is `{"error": "..."}` with 400, 404, 405, 408, 413 or 500.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::gate::GateMode;
use crate::record::Recorder;
use crate::serve::{Answer, Body, Server, complete, read_body};
use crate::world::{World, WorldError};

const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";
/// Records copied at a time for one answer.
const PAGE_RECORDS: usize = 1000;

/// A running control API.
#[derive(Debug)]
pub struct Control {
    server: Server,
}

impl Control {
    /// Serves the control API of `world` on this port of 127.0.0.1, or on a free one where it is 0.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says when the port cannot be bound.
    pub async fn start(world: Arc<World>, port: u16) -> io::Result<Self> {
        Ok(Self { server: Server::start(port, Arc::new(Api { world })).await? })
    }

    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Ends all connections and waits for the last task. The world lives on.
    pub async fn shutdown(&self) {
        self.server.shutdown().await;
    }
}

struct Api {
    world: Arc<World>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GateChange {
    mode: GateMode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoneChange {
    models: Vec<String>,
}

/// A refused request: its status and what was wrong.
struct Refusal(StatusCode, String);

impl From<WorldError> for Refusal {
    fn from(error: WorldError) -> Self {
        match &error {
            WorldError::UnknownComponent { .. } => Self(StatusCode::NOT_FOUND, error.to_string()),
            WorldError::UnknownModel { .. } => Self(StatusCode::BAD_REQUEST, error.to_string()),
            WorldError::Gate { source, .. } => {
                Self(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}: {source}"))
            }
        }
    }
}

impl Answer for Api {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        self.route(request).await.unwrap_or_else(|Refusal(status, message)| {
            complete(status, JSON, json!({ "error": message }).to_string())
        })
    }
}

impl Api {
    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (head, body) = request.into_parts();
        let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
        match (&head.method, path.as_slice()) {
            (&Method::GET, ["state"]) => Ok(complete(StatusCode::OK, JSON, self.state())),
            (&Method::GET, ["journal"]) => {
                Ok(journal(self.world.recorder().clone(), since(head.uri.query())?))
            }
            (&Method::PUT, ["gates", component]) => {
                let GateChange { mode } = parse(body).await?;
                self.world.set(component, mode).await?;
                Ok(done())
            }
            (&Method::PUT, ["gone", component]) => {
                let GoneChange { models } = parse(body).await?;
                self.world.set_gone(component, models)?;
                Ok(done())
            }
            (&Method::POST, ["reset"]) => {
                self.world.reset().await?;
                Ok(done())
            }
            (_, ["state" | "journal" | "reset"] | ["gates" | "gone", _]) => {
                Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, format!("{} is not allowed here", head.method)))
            }
            _ => Err(Refusal(StatusCode::NOT_FOUND, "there is nothing at this path".to_owned())),
        }
    }

    fn state(&self) -> String {
        let recorder = self.world.recorder();
        json!({
            "now_us": self.world.epoch().now_us(),
            "components": self.world.states(),
            "journal": { "next_seq": recorder.next_seq(), "dropped_count": recorder.dropped_count() },
        })
        .to_string()
    }
}

async fn parse<T: DeserializeOwned>(body: Incoming) -> Result<T, Refusal> {
    let body = read_body(body).await.map_err(|error| Refusal(error.status(), error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))
}

fn done() -> Response<Body> {
    let mut response = Response::new(http_body_util::Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn since(query: Option<&str>) -> Result<u64, Refusal> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(0) };
    let seq = query.strip_prefix("since=").and_then(|seq| seq.parse().ok());
    seq.ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, "the query must be `since=SEQ`".to_owned()))
}

/// The records from `since` up to those that exist now, a page at a time.
fn journal(recorder: Recorder, since: u64) -> Response<Body> {
    let end = recorder.next_seq();
    let pages = stream::unfold(since, move |seq| {
        let left = usize::try_from(end.saturating_sub(seq)).unwrap_or(usize::MAX);
        let page = recorder.page(seq, left.min(PAGE_RECORDS));
        let next = page.last().map(|record| record.seq + 1);
        let lines: String = page.iter().map(|record| format!("{}\n", json!(record))).collect();
        let frame = next.map(|next| (Ok::<_, Infallible>(Frame::data(Bytes::from(lines))), next));
        std::future::ready(frame)
    });
    let mut response = Response::new(StreamBody::new(pages).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON_LINES));
    response
}
