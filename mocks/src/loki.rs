//! A Loki at the network boundary: `query_range` over lines that come late, twice, or out of order.
//!
//! It knows stream selectors of the form `{name="value", ...}` and nothing behind them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::serve::{Answer, Body, Server, complete};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const PATH: &str = "/loki/api/v1/query_range";
/// Lines of an answer where a request names no limit.
const LIMIT: usize = 100;

/// Whom a [`Loki`] lets in.
#[derive(Debug, Clone, Default)]
pub struct LokiOptions {
    /// What `X-Scope-OrgID` must say; without one it has a single tenant and asks nobody.
    pub tenant: Option<String>,
    /// What `Authorization` must say, whole.
    pub authorization: Option<String>,
}

/// One line as it was sent.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// Of its stream.
    pub labels: BTreeMap<String, String>,
    /// When it was written, nanoseconds of Unix time.
    pub at_ns: i128,
    /// The line.
    pub text: String,
    /// So many queries do not see it yet.
    pub late: u64,
    /// How often it was sent.
    pub copies: usize,
}

/// A running Loki.
#[derive(Debug)]
pub struct Loki {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: LokiOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<LogLine>,
    queries: u64,
    refused: u64,
    down: bool,
}

impl Loki {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Whatever the operating system says when no port can be bound.
    pub async fn start(options: LokiOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared { options, state: Mutex::default() });
        let server = Server::start(0, Arc::clone(&shared)).await?;
        Ok(Self { server, shared })
    }

    /// Its base URL, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Takes a line in; lines are shown in the order in which they were taken in.
    pub fn push(&self, line: LogLine) {
        self.shared.state().lines.push(line);
    }

    /// Takes a line in that is shown before all others.
    pub fn push_first(&self, line: LogLine) {
        self.shared.state().lines.insert(0, line);
    }

    /// While it is down every request is answered 503.
    pub fn set_down(&self, down: bool) {
        self.shared.state().down = down;
    }

    /// Queries that were let in.
    #[must_use]
    pub fn queries(&self) -> u64 {
        self.shared.state().queries
    }

    /// Requests of those who may not ask.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.state().refused
    }

    /// Ends it.
    pub async fn shutdown(&self) {
        self.server.shutdown().await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_ask(&self, request: &Request<Incoming>) -> bool {
        let says = |name: &str, wanted: &Option<String>| {
            let said = request.headers().get(name).and_then(|value| value.to_str().ok());
            wanted.is_none() || said == wanted.as_deref()
        };
        says("x-scope-orgid", &self.options.tenant) && says("authorization", &self.options.authorization)
    }

    fn query(&self, query: &str) -> Option<Value> {
        let asked: BTreeMap<String, String> = query.split('&').filter_map(pair).collect();
        let wanted = selector(asked.get("query")?)?;
        let instant = |name: &str| asked.get(name)?.parse::<i128>().ok();
        let (start, end) = (instant("start")?, instant("end")?);
        let limit = asked.get("limit").map_or(Some(LIMIT), |limit| limit.parse().ok())?;
        let mut state = self.state();
        let seen = state.queries;
        state.queries += 1;
        let is_shown = |line: &&LogLine| {
            line.late <= seen
                && (start..end).contains(&line.at_ns)
                && wanted.iter().all(|(name, value)| line.labels.get(name) == Some(value))
        };
        // A limit cuts off the newest, whatever the order in which lines are shown.
        let mut shown: Vec<(usize, &LogLine)> = state.lines.iter().filter(is_shown).enumerate().collect();
        shown.sort_by_key(|(_, line)| line.at_ns);
        let mut copies: Vec<(usize, &LogLine)> =
            shown.into_iter().flat_map(|(index, line)| vec![(index, line); line.copies.max(1)]).collect();
        copies.truncate(limit);
        copies.sort_by_key(|(index, _)| *index);
        let mut streams: BTreeMap<&BTreeMap<String, String>, Vec<Value>> = BTreeMap::new();
        for (_, line) in copies {
            streams.entry(&line.labels).or_default().push(json!([line.at_ns.to_string(), line.text]));
        }
        let result: Vec<Value> = streams
            .into_iter()
            .map(|(labels, values)| json!({ "stream": labels, "values": values }))
            .collect();
        Some(
            json!({ "status": "success", "data": { "resultType": "streams", "result": result, "stats": {} } }),
        )
    }
}

impl Answer for Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if self.state().down {
            return complete(StatusCode::SERVICE_UNAVAILABLE, TEXT, "Ingester not ready");
        }
        if !self.may_ask(&request) {
            self.state().refused += 1;
            return complete(StatusCode::UNAUTHORIZED, TEXT, "no org id");
        }
        if request.uri().path() != PATH {
            return complete(StatusCode::NOT_FOUND, TEXT, "404 page not found");
        }
        match self.query(request.uri().query().unwrap_or_default()) {
            Some(answer) => complete(StatusCode::OK, JSON, answer.to_string()),
            None => complete(StatusCode::BAD_REQUEST, TEXT, "parse error"),
        }
    }
}

/// The labels that `{name="value", ...}` asks for.
fn selector(query: &str) -> Option<BTreeMap<String, String>> {
    let inner = query.trim().strip_prefix('{')?.strip_suffix('}')?;
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
        Some((name.trim().to_owned(), value.to_owned()))
    };
    inner.split(',').map(pair).collect()
}

/// `name=value` of a query, decoded.
fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), decoded(value)?))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{decoded, selector};

    #[test]
    fn selectors_are_equalities() {
        let labels = selector(r#"{app="litellm", namespace="ml"}"#).unwrap();
        assert_eq!((labels["app"].as_str(), labels["namespace"].as_str()), ("litellm", "ml"));
        for other in [r#"{app="litellm"} |= "x""#, "app", r#"{app=~"x"}"#] {
            assert_eq!(selector(other), None, "{other}");
        }
        assert_eq!(decoded("%7Bapp%3D%22x+y%22%7D").as_deref(), Some(r#"{app="x y"}"#));
        assert_eq!(decoded("%7"), None);
    }
}
