//! The access log, as LiteLLM's server writes it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use http::{Request, StatusCode, Version};

/// Who takes a line, beside the client that it is about.
type Sink = Arc<dyn Fn(SocketAddr, &str) + Send + Sync>;

/// Where the lines go; nowhere until [`Self::lead_to`].
#[derive(Default)]
pub(super) struct AccessLog {
    sink: RwLock<Option<Sink>>,
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").finish_non_exhaustive()
    }
}

impl AccessLog {
    pub(super) fn lead_to(&self, sink: Sink) {
        *self.sink.write().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }

    /// A reply to this client begins. One who left before that has no line.
    pub(super) fn answered(&self, client: SocketAddr, request: &str, status: StatusCode) {
        let sink = self.sink.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sink) = sink {
            let phrase = status.canonical_reason().unwrap_or_default();
            sink(client, &format!("INFO:     {client} - \"{request}\" {} {phrase}", status.as_u16()));
        }
    }
}

/// `POST /v1/chat/completions HTTP/1.1`, with the query.
pub(super) fn request_line<B>(request: &Request<B>) -> String {
    let version = if request.version() == Version::HTTP_10 { "1.0" } else { "1.1" };
    let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    format!("{} {target} HTTP/{version}", request.method())
}
