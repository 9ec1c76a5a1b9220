//! Answers whose progress is written into the request's record.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use tokio::time::Instant;

use crate::record::Entry;
use crate::serve::Body;

/// The frames of a streamed answer, made when they are due.
pub(super) trait Script: Send + 'static {
    /// When frame `n` is due, counted from the first token; `None` if there is no such frame.
    fn due(&self, n: u32) -> Option<Duration>;
    /// Frame `n`, made at the time it is sent.
    fn render(&self, n: u32) -> Bytes;
}

/// A 200 whose frames are sent as the script says, from `start` on. The script is kept until the last one.
pub(super) fn streamed(
    entry: Entry,
    content_type: &'static str,
    start: Instant,
    script: impl Script,
) -> Response<Body> {
    let mut response = Response::new(paced(entry, StatusCode::OK, start, script));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A whole answer.
pub(super) fn whole(
    entry: Entry,
    method: &Method,
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let body = body.into();
    let length = body.len();
    let body = if body.is_empty() || method == Method::HEAD {
        // No byte of a body will be asked for, so the answer counts as sent when it is handed over.
        entry.answered(status.as_u16());
        Empty::new().boxed_unsync()
    } else {
        paced(entry, status, Instant::now(), Single(body))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

struct Single(Bytes);

impl Script for Single {
    fn due(&self, n: u32) -> Option<Duration> {
        (n == 0).then_some(Duration::ZERO)
    }

    fn render(&self, _: u32) -> Bytes {
        self.0.clone()
    }
}

/// A body that is dropped before its last frame leaves the record saying that the client left.
fn paced(entry: Entry, status: StatusCode, start: Instant, script: impl Script) -> Body {
    let frames = stream::unfold((Some(entry), script, 0_u32), move |(mut entry, script, n)| async move {
        let due = start + script.due(n)?;
        // A timer takes at least its tick of a millisecond: what is due already must not wait for one, or a
        // whole answer would leave in two parts, its head first, with a gap in which a fault can fall.
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        let frame = script.render(n);
        if let Some(entry) = entry.as_ref().filter(|_| n == 0) {
            entry.first_byte();
        }
        if script.due(n + 1).is_none()
            && let Some(entry) = entry.take()
        {
            entry.answered(status.as_u16());
        }
        Some((Ok::<_, Infallible>(Frame::data(frame)), (entry, script, n + 1)))
    });
    StreamBody::new(frames).boxed_unsync()
}
