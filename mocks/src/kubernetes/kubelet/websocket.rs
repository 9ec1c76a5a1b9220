//! The websocket side of exec and port-forward: the handshake, and frames whose first byte names their channel.

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use crate::kubernetes::pod_io::Body;
use crate::kubernetes::refusal::Refusal;

/// The largest message that is taken.
const MESSAGE_MAX: usize = 1024 * 1024;

/// The ways to number channels, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Has frames that close a channel.
    V5,
    V4,
}

impl Protocol {
    const ALL: [(Self, &'static str); 2] = [(Self::V5, "v5.channel.k8s.io"), (Self::V4, "v4.channel.k8s.io")];
}

/// A websocket that the client is about to get.
pub(super) struct Handshake {
    pub(super) protocol: Protocol,
    upgrade: OnUpgrade,
}

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Answers a request for a websocket.
pub(super) fn accept(mut request: Request<Incoming>) -> Result<(Handshake, Response<Body>), Refusal> {
    let upgrade = hyper::upgrade::on(&mut request);
    let headers = request.headers();
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| has_word(headers, UPGRADE.as_str(), "websocket"));
    let Some(key) =
        key.filter(|_| headers.get("sec-websocket-version").is_some_and(|version| version == "13"))
    else {
        let told = "unable to upgrade: you must specify a websocket with version 13";
        return Err(Refusal::BadRequest(told.to_owned()));
    };
    let offers = |name: &str| has_word(headers, SEC_WEBSOCKET_PROTOCOL.as_str(), name);
    let Some((protocol, name)) = Protocol::ALL.into_iter().find(|(_, name)| offers(name)) else {
        let told =
            "unable to upgrade: none of the subprotocols is known: v5.channel.k8s.io, v4.channel.k8s.io";
        return Err(Refusal::BadRequest(told.to_owned()));
    };
    let accepted = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    let accepted = accepted.map_err(|_| Refusal::Internal("the handshake has no key".to_owned()))?;
    let mut response = Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    Ok((Handshake { protocol, upgrade }, response))
}

/// Whether a header that is a list has this word.
fn has_word(headers: &HeaderMap, name: &str, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(word))
}

impl Handshake {
    /// The websocket, once the response is out; none if the client is gone by then.
    pub(super) async fn finish(self) -> Option<Socket> {
        let upgraded = TokioIo::new(self.upgrade.await.ok()?);
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MESSAGE_MAX);
        config.max_frame_size = Some(MESSAGE_MAX);
        Some(WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await)
    }
}

/// The end of a session in which nothing went wrong.
pub(super) fn end() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Bytes of a channel, as a frame.
pub(super) fn frame(channel: u8, bytes: &[u8]) -> Message {
    let mut framed = Vec::with_capacity(bytes.len() + 1);
    framed.push(channel);
    framed.extend_from_slice(bytes);
    Message::Binary(framed.into())
}
