//! An HTTP API on loopback by which another process changes and reads a mock world.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /state` | | `{"now_us", "components": [...], "journal": {"next_seq", "dropped_count"}}` |
//! | `PUT /gates/{component}` | `{"mode": "blackhole"}` | 204 once the mode is in effect |
//! | `PUT /gone/{component}` | `{"models": ["..."]}` | 204 |
//! | `POST /reset` | | 204 once all gates pass and all models are back |
//! | `GET /journal?since=SEQ` | | the records from that `seq` on, one JSON object a line |
//! | `GET /gates/{component}/fault`, `GET /gone/{component}/fault` | | [`Standing`](crate::fault::Standing) |
//! | `PUT` there | [`Order`](crate::fault::Order) | 204 once the fault is in effect; it ends by itself |
//! | `DELETE` there `?run=ID` | | [`Ended`](crate::fault::Ended) once it has ended |
//!
//! The requests of the upper half change things in nobody's name and for ever, and so take a fault over from the run
//! that made it. Those for a `fault` are refused with 409 where what they would change is not of their run.
//!
//! An error is `{"error": "..."}` with 400, 404, 405, 408, 409, 413 or 500.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::fault::{FaultError, Faults, Switch};
use crate::gate::GateMode;
use crate::record::Recorder;
use crate::serve::{Answer, Body, Server, complete, read_body};
use crate::world::{World, WorldError};

const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";
/// Records copied at a time for one answer.
const PAGE_RECORDS: usize = 1000;
/// The longest time that a fault of the world may be asked for.
const MAX_HOLD: Duration = Duration::from_secs(24 * 3600);

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
        let names = || world.states().into_iter().map(|state| state.name);
        let gate = |name: String| (name.clone(), Faults::new(WorldGate(Arc::clone(&world), name), MAX_HOLD));
        let gone =
            |name: String| (name.clone(), Faults::new(WorldModels(Arc::clone(&world), name), MAX_HOLD));
        let (gates, models) = (names().map(gate).collect(), names().map(gone).collect());
        Ok(Self { server: Server::start(port, Arc::new(Api { world, gates, models })).await? })
    }

    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Ends all connections and waits for the last task. The world lives on.
    pub async fn shutdown(&self) {
        self.server.shutdown().await;
    }
}

struct Api {
    world: Arc<World>,
    gates: BTreeMap<String, Arc<Faults<WorldGate>>>,
    models: BTreeMap<String, Arc<Faults<WorldModels>>>,
}

/// The gate of a component of the world.
#[derive(Debug)]
struct WorldGate(Arc<World>, String);

impl Switch for WorldGate {
    type Setting = GateMode;

    fn setting(&self) -> GateMode {
        self.0.gate(&self.1).map(crate::gate::Gate::mode).unwrap_or_default()
    }

    async fn set(&self, setting: GateMode) -> Result<(), FaultError> {
        self.0.set(&self.1, setting).await.map_err(|error| match error {
            WorldError::Gate { source, .. } => FaultError::Failed(format!("it cannot be set: {source}")),
            error => FaultError::Wrong(error.to_string()),
        })
    }
}

/// The models of a component that are not found.
#[derive(Debug)]
struct WorldModels(Arc<World>, String);

impl Switch for WorldModels {
    type Setting = Vec<String>;

    fn setting(&self) -> Vec<String> {
        let states = self.0.states().into_iter();
        states.filter(|state| state.name == self.1).flat_map(|state| state.gone).collect()
    }

    async fn set(&self, setting: Vec<String>) -> Result<(), FaultError> {
        self.0.set_gone(&self.1, setting).map_err(|error| FaultError::Wrong(error.to_string()))
    }
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
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

impl Refusal {
    pub(crate) fn method(method: &Method) -> Self {
        Self(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not allowed here"))
    }

    pub(crate) fn path() -> Self {
        Self(StatusCode::NOT_FOUND, "there is nothing at this path".to_owned())
    }

    pub(crate) fn response(self) -> Response<Body> {
        complete(self.0, JSON, json!({ "error": self.1 }).to_string())
    }
}

impl From<FaultError> for Refusal {
    fn from(error: FaultError) -> Self {
        let status = match &error {
            FaultError::Wrong(_) => StatusCode::BAD_REQUEST,
            FaultError::Taken(_) => StatusCode::CONFLICT,
            FaultError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

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
        self.route(request).await.unwrap_or_else(Refusal::response)
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
            (_, ["gates", component, "fault"]) => {
                let faults = self.gates.get(*component).ok_or_else(|| unknown(component))?;
                fault(faults, &head.method, head.uri.query(), body).await
            }
            (_, ["gone", component, "fault"]) => {
                let faults = self.models.get(*component).ok_or_else(|| unknown(component))?;
                fault(faults, &head.method, head.uri.query(), body).await
            }
            (_, ["state" | "journal" | "reset"] | ["gates" | "gone", _]) => {
                Err(Refusal::method(&head.method))
            }
            _ => Err(Refusal::path()),
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

fn unknown(component: &str) -> Refusal {
    WorldError::UnknownComponent { component: component.to_owned() }.into()
}

/// What is asked of a fault.
pub(crate) async fn fault<S: Switch>(
    faults: &Arc<Faults<S>>,
    method: &Method,
    query: Option<&str>,
    body: Incoming,
) -> Result<Response<Body>, Refusal> {
    match *method {
        Method::GET => Ok(complete(StatusCode::OK, JSON, json!(faults.standing().await).to_string())),
        Method::PUT => {
            faults.hold(parse(body).await?).await?;
            Ok(done())
        }
        Method::DELETE => {
            let run = query.and_then(|query| query.strip_prefix("run=")).filter(|run| !run.is_empty());
            let run =
                run.ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, "the query must be `run=ID`".to_owned()))?;
            Ok(complete(StatusCode::OK, JSON, json!(faults.release(run).await?).to_string()))
        }
        _ => Err(Refusal::method(method)),
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
