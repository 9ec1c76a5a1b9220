//! One connection of a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Does;
use super::reply::{Errors, Replies};

/// Longest request.
const REQUEST_MAX: usize = 1024 * 1024;

/// What a backend does at present.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) does: Does,
    /// Of whoever it answers as.
    pub(super) replies: Arc<Replies>,
}

/// What all connections of a backend share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) errors: Errors,
    pub(super) chunk_gap: Duration,
    pub(super) requests: AtomicU64,
}

/// How to go on with a connection.
enum Then {
    Keep,
    Close,
    Reset,
}

/// Answers requests until one side ends it.
pub(super) async fn serve(mut stream: TcpStream, mut state: watch::Receiver<State>, shared: Arc<Shared>) {
    let _set = stream.set_nodelay(true);
    let mut refused = state.clone();
    let ended = tokio::select! {
        ended = answer_all(&mut stream, &mut state, &shared) => ended,
        // The backend itself is gone where there is no answer to the wait.
        _gone = refused.wait_for(|state| state.does == Does::Refuse) => Then::Reset,
    };
    if let Then::Reset = ended {
        let _set = stream.set_zero_linger();
    }
}

async fn answer_all(stream: &mut TcpStream, state: &mut watch::Receiver<State>, shared: &Shared) -> Then {
    let mut read = BytesMut::with_capacity(4096);
    loop {
        let Some(streamed) = request(stream, &mut read).await else { return Then::Close };
        shared.requests.fetch_add(1, Ordering::Relaxed);
        match answer(stream, streamed, state, shared).await {
            Ok(Then::Keep) => {}
            Ok(then) => return then,
            Err(_) => return Then::Close,
        }
    }
}

/// Reads one request; whether it asks for a stream. `None` where the client has left or asks nonsense.
async fn request(stream: &mut TcpStream, read: &mut BytesMut) -> Option<bool> {
    loop {
        if let Some(head) = read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) {
            let length = content_length(&read[..head])?;
            if read.len() >= head + length {
                let body = &read[head..head + length];
                let streamed = body.windows(13).any(|part| part == b"\"stream\":true")
                    || body.windows(14).any(|part| part == b"\"stream\": true");
                read.advance(head + length);
                return Some(streamed);
            }
        }
        if read.len() > REQUEST_MAX || stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME));
    let Some(line) = line else { return Some(0) };
    let length = std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()?;
    (length <= REQUEST_MAX).then_some(length)
}

async fn answer(
    stream: &mut TcpStream,
    streamed: bool,
    state: &mut watch::Receiver<State>,
    shared: &Shared,
) -> std::io::Result<Then> {
    let mut now = state.borrow_and_update().clone();
    while now.does == Does::Hold {
        if state.changed().await.is_err() {
            return Ok(Then::Close);
        }
        now = state.borrow_and_update().clone();
    }
    let errors = &shared.errors;
    match &now.does {
        Does::Serve(_) => reply(stream, streamed, &now.replies, shared).await?,
        Does::SlowFirst(by_us) => {
            tokio::time::sleep(Duration::from_micros(*by_us)).await;
            reply(stream, streamed, &now.replies, shared).await?;
        }
        Does::Unavailable => stream.write_all(&errors.unavailable).await?,
        Does::Loading => stream.write_all(&errors.loading).await?,
        Does::Reset | Does::Refuse => return Ok(Then::Reset),
        // What comes now is thrown away; the end of it is the client's.
        Does::Swallow | Does::Hold => {
            let mut ignored = [0; 1024];
            while stream.read(&mut ignored).await? > 0 {}
            return Ok(Then::Close);
        }
        Does::Cut => {
            let replies = &now.replies;
            if streamed {
                stream.write_all(&replies.head).await?;
                for chunk in &replies.chunks[..replies.chunks.len().div_ceil(2)] {
                    stream.write_all(chunk).await?;
                }
            } else {
                stream.write_all(&replies.whole[..replies.whole.len() - 40]).await?;
            }
            return Ok(Then::Close);
        }
        Does::ErrorEvent if streamed => {
            stream.write_all(&now.replies.head).await?;
            stream.write_all(&now.replies.chunks[0]).await?;
            stream.write_all(&errors.event).await?;
        }
        Does::ErrorEvent => stream.write_all(&errors.internal).await?,
    }
    Ok(Then::Keep)
}

async fn reply(
    stream: &mut TcpStream,
    streamed: bool,
    replies: &Replies,
    shared: &Shared,
) -> std::io::Result<()> {
    if !streamed {
        return stream.write_all(&replies.whole).await;
    }
    stream.write_all(&replies.head).await?;
    for (place, chunk) in replies.chunks.iter().enumerate() {
        if place > 0 && !shared.chunk_gap.is_zero() {
            tokio::time::sleep(shared.chunk_gap).await;
        }
        stream.write_all(chunk).await?;
    }
    stream.write_all(&replies.end).await
}
