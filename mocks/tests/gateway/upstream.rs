//! A scripted upstream that speaks both dialects and counts what it gets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Parts of a dripping reply.
pub(crate) const DRIPS: usize = 7;
/// Between two of them.
pub(crate) const DRIP_GAP: Duration = Duration::from_millis(200);

/// What a model does with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Does {
    Serves,
    Status(u16),
    /// 429, with a `Retry-After` that is a date so many seconds ahead.
    LimitedFor(i64),
    /// An error in words.
    Says(u16, &'static str),
    /// Reads the request and says nothing.
    Hangs,
    /// Sends response headers, then closes.
    BreaksBeforeContent,
    /// Sends one piece, then closes in the middle.
    BreaksAfterContent,
    /// Sends one piece and ends the body cleanly.
    EndsEarly,
    /// An error line as the first piece of a stream.
    ErrorInStream,
    /// An error line after the first piece of a stream.
    ErrorAfterContent,
    /// A body that is not JSON.
    Babbles,
    /// Reads the request and closes without an answer.
    Closes,
    /// Reads the request and resets the connection.
    Resets,
    /// Serves, in [`DRIPS`] parts with [`DRIP_GAP`] between them.
    Drips,
    /// Sends one piece of a stream, and no more until the other side leaves; [`Upstream::closed`] counts those.
    StallsAfterContent,
    /// Serves, and closes the connection after it without saying so; [`Upstream::closed`] counts those that the
    /// other side has closed, too.
    ServesOnce,
}

#[derive(Default)]
struct Script {
    does: HashMap<String, Does>,
    seen: Vec<(String, Value)>,
    paths: Vec<(String, String)>,
    closed: usize,
}

/// Listens until dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let shared = Arc::clone(&script);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, script, task }
    }

    pub(crate) fn set(&self, model: &str, does: Does) {
        self.script.lock().unwrap().does.insert(model.to_owned(), does);
    }

    /// Paths of the requests for a model, in order.
    pub(crate) fn paths(&self, model: &str) -> Vec<String> {
        let script = self.script.lock().unwrap();
        script.paths.iter().filter(|(name, _)| name == model).map(|(_, path)| path.clone()).collect()
    }

    /// Connections closed from both sides after [`Does::ServesOnce`] and [`Does::StallsAfterContent`].
    pub(crate) fn closed(&self) -> usize {
        self.script.lock().unwrap().closed
    }

    /// Bodies of the requests for a model, in order.
    pub(crate) fn seen(&self, model: &str) -> Vec<Value> {
        let script = self.script.lock().unwrap();
        script.seen.iter().filter(|(name, _)| name == model).map(|(_, body)| body.clone()).collect()
    }
}

/// Serves one request after another; every fault ends the connection.
async fn serve(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    while let Some((path, body)) = read_request(&mut stream).await {
        let model = body["model"].as_str().unwrap_or_default().to_owned();
        let does = {
            let mut script = script.lock().unwrap();
            script.seen.push((model.clone(), body.clone()));
            script.paths.push((model.clone(), path.clone()));
            script.does.get(&model).copied().unwrap_or(Does::Serves)
        };
        let streaming = body["stream"] == true;
        if does == Does::Hangs {
            // Until the other side gives up.
            let mut rest = [0; 1];
            let _ = stream.read(&mut rest).await;
            return;
        }
        if does == Does::Resets {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        if matches!(does, Does::Resets | Does::Closes) {
            return;
        }
        let (reply, keep) = reply(does, &model, streaming, path == "/api/chat");
        let parts = if does == Does::Drips { DRIPS } else { 1 };
        let mut gaps = tokio::time::interval(DRIP_GAP);
        for part in reply.as_bytes().chunks(reply.len().div_ceil(parts)) {
            gaps.tick().await;
            if stream.write_all(part).await.is_err() {
                return;
            }
        }
        if !keep {
            return;
        }
        if matches!(does, Does::ServesOnce | Does::StallsAfterContent) {
            if does == Does::ServesOnce {
                let _ = stream.shutdown().await;
            }
            let _ = stream.read(&mut [0; 1]).await;
            script.lock().unwrap().closed += 1;
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            })?;
            while bytes.len() < end + 4 + length {
                stream.read_buf(&mut bytes).await.ok().filter(|read| *read > 0)?;
            }
            let body = serde_json::from_slice(&bytes[end + 4..end + 4 + length]).unwrap();
            return Some((head.split(' ').nth(1).unwrap().to_owned(), body));
        }
        stream.read_buf(&mut bytes).await.ok().filter(|read| *read > 0)?;
    }
}

fn whole(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nx-up: yes\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn chunked(pieces: &[String], complete: bool) -> String {
    let mut reply = "HTTP/1.1 200 OK\r\nx-up: yes\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for piece in pieces {
        reply.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    if complete {
        reply.push_str("0\r\n\r\n");
    }
    reply
}

/// The bytes of a reply, and whether the connection goes on.
fn reply(does: Does, model: &str, streaming: bool, ollama: bool) -> (String, bool) {
    match does {
        Does::LimitedFor(seconds) => {
            let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
            return (format!("HTTP/1.1 429 X\r\nretry-after: {date}\r\ncontent-length: 2\r\n\r\n{{}}"), true);
        }
        Does::Says(status, text) => return (whole(status, text), true),
        Does::Status(status) => return (whole(status, r#"{"error": "boom"}"#), true),
        Does::Babbles if !streaming => return (whole(200, "<html>"), true),
        _ => {}
    }
    if !streaming {
        let body = if ollama {
            json!({ "model": model, "message": { "role": "assistant", "content": "hello" }, "done": true,
                "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2 })
        } else {
            json!({ "id": "chatcmpl-up", "created": 17, "model": model, "object": "chat.completion",
                "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hello" },
                    "finish_reason": "stop" }],
                "usage": { "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 } })
        };
        return (whole(200, &body.to_string()), true);
    }
    let piece = |text: &str| {
        if ollama {
            json!({ "model": model, "message": { "role": "assistant", "content": text }, "done": false })
        } else {
            json!({ "id": "chatcmpl-up", "created": 17, "model": model,
                "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] })
        }
    };
    let end = if ollama {
        json!({ "model": model, "message": { "role": "assistant", "content": "" }, "done": true,
            "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2 })
    } else {
        json!({ "id": "chatcmpl-up", "model": model,
            "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] })
    };
    let frame = |value: Value| if ollama { format!("{value}\n") } else { format!("data: {value}\n\n") };
    let mut all = vec![frame(piece("hel")), frame(piece("lo")), frame(end)];
    if !ollama {
        all.push("data: [DONE]\n\n".to_owned());
    }
    match does {
        Does::BreaksBeforeContent => (chunked(&[], false), false),
        Does::BreaksAfterContent => (chunked(&all[..1], false), false),
        Does::StallsAfterContent => (chunked(&all[..1], false), true),
        Does::EndsEarly => (chunked(&all[..2], true), true),
        Does::ErrorAfterContent => (
            chunked(&[all[0].clone(), frame(json!({ "error": { "message": "oops", "code": 500 } }))], true),
            true,
        ),
        Does::Babbles => (chunked(&["<html>\n\n".to_owned()], true), true),
        Does::ErrorInStream => (chunked(&[frame(json!({ "error": "oops" }))], true), true),
        _ => (chunked(&all, true), true),
    }
}
