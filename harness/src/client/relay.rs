//! Between openclaw and the gateway: passes everything on as it comes, and writes down each model call.
//!
//! openclaw's own reply does not say who served, nor how often it asked. What the gateway answered stands in the journal
//! with the probe that it was for (by the marker in its prompt), the time that it took, and the answer's headers, raw:
//! they are the gateway's own claim. Nothing else of a prompt or an answer is kept.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mocks::record::Markers;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::journal::{Claim, ClaimSource, Event, GatewayCall, Journal};
use crate::probe::{Ledger, claims_of};

/// A turn's request is about 60 kB.
const REQUEST_MAX: usize = 16 * 1024 * 1024;
/// By then the first event of a stream has named its model.
const FIRST_EVENT_MAX: usize = 64 * 1024;
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(20);
/// Longest value that is kept of what others say, in characters.
const OUTSIDE_CHARS_MAX: usize = 200;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    end: CancellationToken,
    tasks: TaskTracker,
    _ends_with_it: DropGuard,
}

struct Shared {
    gateway: String,
    client: reqwest::Client,
    journal: Arc<Journal>,
    ledger: Ledger,
}

impl Relay {
    /// Listens on a free port of 127.0.0.1 and passes on to the gateway at this URL, without `/v1`. What it sees of who
    /// served goes into `ledger` at once.
    ///
    /// # Errors
    /// When there is no port, or no HTTP client.
    pub async fn start(gateway: &str, journal: Arc<Journal>, ledger: Ledger) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let client = crate::http::client_for(gateway).build().map_err(io::Error::other)?;
        let gateway = gateway.trim_end_matches('/').to_owned();
        let shared = Arc::new(Shared { gateway, client, journal, ledger });
        let (end, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept_all(listener, shared, end.clone(), tasks.clone()));
        Ok(Self { address, _ends_with_it: end.clone().drop_guard(), end, tasks })
    }

    /// Its URL, without `/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections and waits for the last task; each call that was open is in the journal then.
    pub async fn shutdown(&self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>, end: CancellationToken, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tasks.spawn(serve(stream, Arc::clone(&shared), end.clone()));
            }
            // Out of descriptors: others end, and it goes on.
            Err(_) => tokio::time::sleep(ACCEPT_RETRY_AFTER).await,
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, end: CancellationToken) {
    // Tokens are small and must not wait for one another. Failing to set it costs only time.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.pass_on(request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = end.cancelled() => {}
        _ended = connection => {}
    }
}

impl Shared {
    async fn pass_on(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let received_us = self.journal.clock().now_us();
        let Ok(body) = Limited::new(body, REQUEST_MAX).collect().await else {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the relay takes no request that long");
        };
        let body = body.to_bytes();
        let is_call = head.method == Method::POST && head.uri.path().ends_with("/chat/completions");
        // Told also where openclaw leaves, which drops all of this.
        let mut open = is_call.then(|| Open::new(self, &body, received_us));
        let target = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let sent = self
            .client
            .request(head.method.clone(), format!("{}{target}", self.gateway))
            .headers(passed(&head.headers))
            .body(body)
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let class = crate::probe::classify(&error);
                if let Some(open) = &mut open {
                    open.call.broke = Some(class.to_owned());
                }
                return plain(StatusCode::BAD_GATEWAY, &format!("the gateway did not answer: {class}"));
            }
        };
        let (status, headers) = (answer.status(), passed(answer.headers()));
        if let Some(open) = &mut open {
            open.answered(status.as_u16(), &headers);
        }
        let chunks = Box::pin(answer.bytes_stream());
        let mut response = Response::new(StreamBody::new(Passing { chunks, open }).boxed_unsync());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Headers as they go on: those of one connection do not.
fn passed(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for own in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(own);
    }
    headers
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let body =
        Full::new(Bytes::from(text.to_owned())).map_err(|never: Infallible| -> io::Error { match never {} });
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}

/// A model call under way; written into the journal when it goes, however it ended.
struct Open {
    call: GatewayCall,
    journal: Arc<Journal>,
    ledger: Ledger,
    /// The beginning of the answer, until its first event is whole.
    beginning: Option<Vec<u8>>,
    /// Its last bytes.
    end: Vec<u8>,
    /// It is a stream, whose end is an event.
    streamed: bool,
}

/// The last event of a stream.
const LAST_EVENT: &[u8] = b"data: [DONE]";

impl Open {
    fn new(shared: &Shared, body: &[u8], received_us: u64) -> Self {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let probe = probe_of(&asked);
        if let Some(probe) = &probe {
            shared.ledger.begin(probe);
        }
        let model = asked["model"].as_str().unwrap_or("unknown").chars().take(OUTSIDE_CHARS_MAX).collect();
        Self {
            call: GatewayCall {
                probe,
                model,
                received_us,
                headers_us: None,
                ended_us: received_us,
                status: None,
                broke: Some("openclaw left".to_owned()),
                claims: Vec::new(),
            },
            journal: Arc::clone(&shared.journal),
            ledger: shared.ledger.clone(),
            beginning: None,
            end: Vec::new(),
            streamed: false,
        }
    }

    fn answered(&mut self, status: u16, headers: &HeaderMap) {
        self.call.headers_us = Some(self.journal.clock().now_us());
        self.call.status = Some(status);
        self.call.claims = claims_of(headers);
        for claim in &mut self.call.claims {
            claim.value = claim.value.chars().take(OUTSIDE_CHARS_MAX).collect();
        }
        self.beginning = (status == 200).then(Vec::new);
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        self.streamed = status == 200 && kind.starts_with("text/event-stream");
        self.told();
    }

    /// A part of the answer has come.
    fn take(&mut self, chunk: &[u8]) {
        self.end.extend_from_slice(chunk);
        if self.end.windows(LAST_EVENT.len()).any(|bytes| bytes == LAST_EVENT) {
            // Whoever reads it need not wait for the end of the body.
            self.whole();
        }
        self.end.drain(..self.end.len().saturating_sub(LAST_EVENT.len()));
        let Some(beginning) = &mut self.beginning else { return };
        beginning.extend_from_slice(chunk);
        let text = String::from_utf8_lossy(beginning);
        let model = text.lines().filter_map(|line| line.strip_prefix("data:")).find_map(|data| {
            let event: Value = serde_json::from_str(data.trim()).ok()?;
            event["model"].as_str().map(|model| model.chars().take(OUTSIDE_CHARS_MAX).collect::<String>())
        });
        let give_up = beginning.len() > FIRST_EVENT_MAX;
        if let Some(value) = model {
            self.call.claims.push(Claim { source: ClaimSource::BodyModel, value });
            self.beginning = None;
            self.told();
        } else if give_up {
            self.beginning = None;
        }
    }

    /// The body has ended. A stream that broke after its first content ends so, too, but without its last event.
    fn ended(&mut self) {
        if !self.streamed {
            self.whole();
        } else if self.call.broke.is_some() {
            self.call.broke = Some("truncated-stream".to_owned());
        }
    }

    /// The answer has come to its end.
    fn whole(&mut self) {
        self.call.broke = None;
        self.told();
    }

    fn told(&self) {
        if let (Some(probe), Some(200)) = (&self.call.probe, self.call.status) {
            self.ledger.note(probe, &self.call.claims, self.call.broke.is_none());
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.call.ended_us = self.journal.clock().now_us();
        self.journal.append(Event::GatewayCalled(self.call.clone()));
    }
}

/// The probe that a turn is for: the marker stands in what the person wrote.
fn probe_of(asked: &Value) -> Option<String> {
    let mut markers = Markers::default();
    for message in asked["messages"].as_array().into_iter().flatten() {
        match &message["content"] {
            Value::String(text) => markers.collect(text),
            Value::Array(parts) => {
                parts.iter().filter_map(|part| part["text"].as_str()).for_each(|text| markers.collect(text));
            }
            _ => {}
        }
    }
    markers.probe
}

/// The answer on its way.
struct Passing<S> {
    chunks: Pin<Box<S>>,
    open: Option<Open>,
}

impl<S: Stream<Item = reqwest::Result<Bytes>>> Stream for Passing<S> {
    type Item = Result<Frame<Bytes>, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let next = std::task::ready!(this.chunks.as_mut().poll_next(context));
        Poll::Ready(match next {
            Some(Ok(chunk)) => {
                if let Some(open) = &mut this.open {
                    open.take(&chunk);
                }
                Some(Ok(Frame::data(chunk)))
            }
            Some(Err(error)) => {
                if let Some(mut open) = this.open.take() {
                    open.call.broke = Some(crate::probe::classify(&error).to_owned());
                }
                Some(Err(io::Error::other(error)))
            }
            None => {
                if let Some(mut open) = this.open.take() {
                    open.ended();
                }
                None
            }
        })
    }
}
