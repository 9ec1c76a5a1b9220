//! The access lines of an upstream, in the form of its real one.
//!
//! vLLM's server (uvicorn) writes one when an answer begins, Ollama's (GIN) when a request has ended. A client that left
//! before an answer began has no line of vLLM's, and the status 499 in Ollama's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use crate::record::Outcome;

/// Who takes a line.
pub type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// The status of a client that left, as Ollama writes it.
const LEFT: u16 = 499;

/// Where the lines go; nowhere until [`Self::lead_to`].
#[derive(Clone, Default)]
pub(super) struct AccessLog {
    sink: Arc<RwLock<Option<Sink>>>,
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").finish_non_exhaustive()
    }
}

/// A request that has come.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    client: SocketAddr,
    method: Method,
    target: String,
    came: Instant,
}

impl Asked {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let unknown = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Self {
            client: request.extensions().get().copied().unwrap_or(unknown),
            method: request.method().clone(),
            target: target.to_owned(),
            came: Instant::now(),
        }
    }
}

impl AccessLog {
    pub(super) fn lead_to(&self, sink: Sink) {
        *self.sink.write().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    fn write(&self, line: &str) {
        let sink = self.sink.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sink) = sink {
            sink(line);
        }
    }

    /// As uvicorn does it: an answer begins.
    pub(super) fn answers(&self, asked: &Asked, status: StatusCode) {
        self.write(&uvicorn_line(asked, status));
    }

    /// As GIN does it: a request has ended.
    pub(super) fn ended(&self, asked: &Asked, outcome: Outcome, has_begun: bool) {
        let status = match outcome {
            Outcome::Answered { status } => status,
            // Only a 200 is sent in parts, so only such a one can be left in its middle.
            Outcome::ClientLeft | Outcome::Open if has_begun => 200,
            Outcome::ClientLeft | Outcome::Open => LEFT,
        };
        self.write(&gin_line(asked, status, asked.came.elapsed(), Timestamp::now()));
    }
}

fn uvicorn_line(asked: &Asked, status: StatusCode) -> String {
    let Asked { client, method, target, .. } = asked;
    let phrase = status.canonical_reason().unwrap_or_default();
    format!(
        "(APIServer pid=1) INFO:     {client} - \"{method} {target} HTTP/1.1\" {} {phrase}",
        status.as_u16()
    )
}

fn gin_line(asked: &Asked, status: u16, took: Duration, at: Timestamp) -> String {
    let path = asked.target.split('?').next().unwrap_or_default();
    let (at, took) = (at.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d - %H:%M:%S"), format!("{took:?}"));
    let (client, method) = (asked.client.ip().to_string(), asked.method.as_str());
    format!("[GIN] {at} | {status:3} | {took:>13} | {client:>15} | {method:<7}  \"{path}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_real_servers() {
        let request = |path: &str| {
            let mut request = Request::post(path).body(()).unwrap();
            request.extensions_mut().insert(SocketAddr::from(([10, 42, 0, 7], 51234)));
            Asked::of(&request)
        };
        assert_eq!(
            uvicorn_line(&request("/v1/chat/completions?x=1"), StatusCode::OK),
            "(APIServer pid=1) INFO:     10.42.0.7:51234 - \"POST /v1/chat/completions?x=1 HTTP/1.1\" 200 OK"
        );
        let took = Duration::from_micros(1_234_567);
        let line = gin_line(&request("/api/chat"), 200, took, Timestamp::from_second(1_714_564_800).unwrap());
        assert_eq!(
            line,
            "[GIN] 2024/05/01 - 12:00:00 | 200 |     1.234567s |       10.42.0.7 | POST     \"/api/chat\""
        );
    }
}
