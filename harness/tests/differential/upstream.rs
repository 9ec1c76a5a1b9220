//! Upstreams that break in exactly one way each, byte for byte, and count what reaches them.
//!
//! Every deployment of a cell has an upstream of its own for each gateway: its port says whose attempt it was.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mocks::gate::{Gate, GateMode};
use mocks::gateway::config::Provider;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::fault::Fault;

/// Most bytes of a request.
const REQUEST_MAX: usize = 1 << 20;
/// How long a silent upstream holds a connection that its client does not close.
const HELD_WITHIN: Duration = Duration::from_secs(120);
/// How long [`Fault::Slow`] takes.
const SLOW: Duration = Duration::from_secs(3);

/// Between some content and the cut after it.
const CUT_PAUSE: Duration = Duration::from_millis(250);

/// What an upstream is to do.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// How it speaks.
    pub(crate) provider: Provider,
    /// How it breaks.
    pub(crate) fault: Fault,
    /// What it says, so that a reply tells who gave it.
    pub(crate) marker: String,
}

/// A listening upstream. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
    door: Door,
}

/// What has reached an upstream.
#[derive(Debug, Default)]
struct Seen {
    attempts: AtomicU32,
    /// Bodies of chat requests that nobody has taken yet.
    bodies: Mutex<Vec<Value>>,
}

#[derive(Debug)]
enum Door {
    Open(JoinHandle<()>),
    /// Nothing behind it is ever reached: nothing is counted.
    Shut {
        _gate: Gate,
    },
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Door::Open(serving) = &self.door {
            serving.abort();
        }
    }
}

impl Upstream {
    /// Starts one on a free port of 127.0.0.1.
    pub(crate) async fn start(script: Script) -> io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let mode = match script.fault {
            Fault::Refuse => Some(GateMode::Refuse),
            Fault::Blackhole => Some(GateMode::Blackhole),
            _ => None,
        };
        if let Some(mode) = mode {
            let gate = Gate::start(([127, 0, 0, 1], 1).into()).await?;
            gate.set(mode).await?;
            return Ok(Self { address: gate.address(), seen, door: Door::Shut { _gate: gate } });
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(serve(listener, Arc::new(script), Arc::clone(&seen)));
        Ok(Self { address, seen, door: Door::Open(serving) })
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// `api_base` for a deployment of this provider.
    pub(crate) fn api_base(&self, provider: Provider) -> String {
        match provider {
            Provider::OllamaChat => format!("http://{}", self.address),
            Provider::HostedVllm => format!("http://{}/v1", self.address),
        }
    }

    /// Chat requests that have reached it whole.
    pub(crate) fn attempts(&self) -> u32 {
        self.seen.attempts.load(Ordering::Acquire)
    }

    /// Bodies of the chat requests since the last call.
    pub(crate) fn take_bodies(&self) -> Vec<Value> {
        std::mem::take(&mut self.seen.bodies.lock().expect("not poisoned"))
    }
}

async fn serve(listener: TcpListener, script: Arc<Script>, seen: Arc<Seen>) {
    // Aborted with the listener's task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                connections.spawn(async move {
                    // A client that goes away ends its connection; nobody else minds.
                    let _ = connection(stream, &script, &seen).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Asked {
    is_chat: bool,
    body: Value,
}

async fn connection(mut stream: TcpStream, script: &Script, seen: &Seen) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    let mut used = false;
    while let Some(asked) = next_request(&mut stream, &mut buffer).await? {
        if !asked.is_chat {
            // LiteLLM looks around at its start: which models there are, what they can do.
            let found = json!({ "object": "list", "data": [] }).to_string();
            stream.write_all(whole(200, "", "application/json", &found).as_bytes()).await?;
            continue;
        }
        let streaming = asked.body["stream"] == Value::Bool(true);
        seen.bodies.lock().expect("not poisoned").push(asked.body);
        seen.attempts.fetch_add(1, Ordering::AcqRel);
        if used && script.fault == Fault::ResetUsed {
            stream.set_zero_linger()?;
        }
        if used && matches!(script.fault, Fault::ResetUsed | Fault::CloseUsed) {
            return Ok(());
        }
        used = true;
        if !reply(&mut stream, script, streaming).await? {
            return Ok(());
        }
    }
    Ok(())
}

async fn next_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Asked>> {
    loop {
        let head = buffer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head_len) = head {
            let head = String::from_utf8_lossy(&buffer[..head_len]).to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let end = head_len + length.unwrap_or(0_usize);
            if buffer.len() >= end {
                let body: Value = serde_json::from_slice(&buffer[head_len..end]).unwrap_or_default();
                buffer.drain(..end);
                let first = head.lines().next().unwrap_or_default();
                let is_chat = first.starts_with("post")
                    && (first.contains("/api/chat ") || first.contains("/chat/completions "));
                return Ok(Some(Asked { is_chat, body }));
            }
        }
        if buffer.len() > REQUEST_MAX || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Whether the connection can be used again.
async fn reply(stream: &mut TcpStream, script: &Script, streaming: bool) -> io::Result<bool> {
    match script.fault {
        Fault::Healthy | Fault::ResetUsed | Fault::CloseUsed => {}
        // Nobody is behind a shut door; a connect that slipped through is dropped.
        Fault::Refuse | Fault::Blackhole | Fault::Close => return Ok(false),
        Fault::Status { status, retry_after } => {
            let extra = retry_after.map(|value| format!("retry-after: {value}\r\n")).unwrap_or_default();
            let body = error_body(script.provider, status);
            stream.write_all(whole(status, &extra, "application/json", &body).as_bytes()).await?;
            return Ok(true);
        }
        Fault::Reset => {
            stream.set_zero_linger()?;
            return Ok(false);
        }
        Fault::Stall => {
            closed_within(stream, HELD_WITHIN).await;
            return Ok(false);
        }
        Fault::Slow => {
            if closed_within(stream, SLOW).await {
                return Ok(false);
            }
        }
        _ => return broken_reply(stream, script, streaming).await,
    }
    let bytes = if streaming { streamed(script, &pieces(script)) } else { healthy(script) };
    stream.write_all(bytes.as_bytes()).await?;
    Ok(true)
}

async fn broken_reply(stream: &mut TcpStream, script: &Script, streaming: bool) -> io::Result<bool> {
    let pieces = pieces(script);
    let (bytes, reusable) = match (script.fault, streaming) {
        (Fault::CutBefore, true) => (stream_head(script), false),
        (Fault::CutAfter, true) => {
            stream.write_all((stream_head(script) + &chunk(&pieces[0])).as_bytes()).await?;
            // LiteLLM loses content that arrives in one go with the end of its connection.
            closed_within(stream, CUT_PAUSE).await;
            return Ok(false);
        }
        (Fault::StallAfter, true) => {
            stream.write_all((stream_head(script) + &chunk(&pieces[0])).as_bytes()).await?;
            closed_within(stream, HELD_WITHIN).await;
            return Ok(false);
        }
        (Fault::StallBefore, true) => {
            stream.write_all(stream_head(script).as_bytes()).await?;
            closed_within(stream, HELD_WITHIN).await;
            return Ok(false);
        }
        (Fault::EarlyEnd, true) => (streamed(script, &pieces[..1]), true),
        (Fault::EmptyEnd, true) => (streamed(script, &[]), true),
        (Fault::ErrorFirst, true) => (streamed(script, &[error_piece(script.provider)]), true),
        (Fault::ErrorLater, true) => {
            (streamed(script, &[pieces[0].clone(), error_piece(script.provider)]), true)
        }
        (Fault::NotJson, true) => (streamed(script, &[garbage(script.provider)]), true),
        (Fault::ErrorFirst | Fault::ErrorLater, false) => {
            (whole(200, "", "application/json", &error_in_band(script.provider).to_string()), true)
        }
        (Fault::NotJson, false) => (whole(200, "", "text/html", "<html>bad gateway</html>"), true),
        (Fault::EmptyEnd, false) => (whole(200, "", "application/json", "{}"), true),
        (Fault::EarlyEnd, false) => (unfinished(script), true),
        // Cut: all of the headers, and of the body nothing or the first half.
        (Fault::CutBefore, false) => {
            let text = healthy(script);
            let head = text.find("\r\n\r\n").map_or(text.len(), |at| at + 4);
            (text[..head].to_owned(), false)
        }
        (_, false) => {
            let text = healthy(script);
            (text[..text.len() - 40].to_owned(), false)
        }
        (_, true) => (streamed(script, &pieces), true),
    };
    stream.write_all(bytes.as_bytes()).await?;
    Ok(reusable)
}

/// Waits until the client closes its side; `false` when it has not done so in time.
async fn closed_within(stream: &mut TcpStream, limit: Duration) -> bool {
    let mut rest = [0_u8; 64];
    let closed = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(limit, closed).await.is_ok()
}

fn whole(status: u16, extra: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\n{extra}content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn stream_head(script: &Script) -> String {
    let kind = match script.provider {
        Provider::OllamaChat => "application/x-ndjson",
        Provider::HostedVllm => "text/event-stream; charset=utf-8",
    };
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n")
}

fn chunk(piece: &str) -> String {
    format!("{:x}\r\n{piece}\r\n", piece.len())
}

fn streamed(script: &Script, pieces: &[String]) -> String {
    let chunks: String = pieces.iter().map(|piece| chunk(piece)).collect();
    stream_head(script) + &chunks + "0\r\n\r\n"
}

/// A whole stream, piece by piece: two of content and the end.
fn pieces(script: &Script) -> Vec<String> {
    match script.provider {
        Provider::OllamaChat => {
            let line = |content: &str| {
                json!({ "model": "m", "created_at": "2026-01-01T00:00:00Z", "done": false,
                    "message": { "role": "assistant", "content": content } })
            };
            let mut last = line("");
            last["done"] = true.into();
            last["done_reason"] = "stop".into();
            last["prompt_eval_count"] = 11.into();
            last["eval_count"] = 7.into();
            let lines = [line(&script.marker), line(" ok"), last];
            lines.iter().map(|line| format!("{line}\n")).collect()
        }
        Provider::HostedVllm => {
            let event = |choices: Value| {
                json!({ "id": "chatcmpl-upstream", "object": "chat.completion.chunk", "created": 1_700_000_000,
                    "model": "Qwen3", "choices": choices })
            };
            let delta = |delta: Value| json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null }]);
            let mut with_logprobs = delta(json!({ "content": " ok" }));
            with_logprobs[0]["logprobs"] = logprobs();
            let mut usage = event(json!([]));
            usage["usage"] = json!({ "prompt_tokens": 11, "total_tokens": 18, "completion_tokens": 7 });
            let events = [
                event(delta(json!({ "role": "assistant", "content": script.marker }))),
                event(with_logprobs),
                event(
                    json!([{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop", "stop_reason": null }]),
                ),
                usage,
            ];
            let events = events.iter().map(|event| format!("data: {event}\n\n"));
            events.chain(["data: [DONE]\n\n".to_owned()]).collect()
        }
    }
}

fn logprobs() -> Value {
    json!({ "content": [{ "token": " ok", "logprob": -0.25, "bytes": null, "top_logprobs": [] }] })
}

fn healthy_body(script: &Script) -> Value {
    let content = format!("{} ok", script.marker);
    match script.provider {
        Provider::OllamaChat => json!({ "model": "m", "created_at": "2026-01-01T00:00:00Z", "done": true,
            "done_reason": "stop", "message": { "role": "assistant", "content": content },
            "prompt_eval_count": 11, "eval_count": 7, "total_duration": 1 }),
        Provider::HostedVllm => {
            json!({ "id": "chatcmpl-upstream", "object": "chat.completion", "created": 1_700_000_000,
            "model": "Qwen3", "choices": [{ "index": 0, "logprobs": logprobs(), "finish_reason": "stop", "stop_reason": null,
                "message": { "role": "assistant", "content": content, "refusal": null, "annotations": null, "audio": null,
                    "function_call": null, "tool_calls": [], "reasoning_content": null }, "token_ids": null }],
            "service_tier": null, "system_fingerprint": null, "prompt_logprobs": null, "kv_transfer_params": null,
            "usage": { "prompt_tokens": 11, "total_tokens": 18, "completion_tokens": 7, "prompt_tokens_details": null } })
        }
    }
}

fn healthy(script: &Script) -> String {
    whole(200, "", "application/json", &healthy_body(script).to_string())
}

/// A whole reply that says nothing of its end.
fn unfinished(script: &Script) -> String {
    let mut body = healthy_body(script);
    match script.provider {
        Provider::OllamaChat => {
            body["done"] = false.into();
            body["done_reason"] = Value::Null;
        }
        Provider::HostedVllm => body["choices"][0]["finish_reason"] = Value::Null,
    }
    whole(200, "", "application/json", &body.to_string())
}

fn error_body(provider: Provider, status: u16) -> String {
    match provider {
        Provider::OllamaChat => json!({ "error": format!("upstream says {status}") }),
        Provider::HostedVllm => {
            json!({ "error": { "message": format!("upstream says {status}"), "type": "SomeError",
            "param": null, "code": status } })
        }
    }
    .to_string()
}

fn error_in_band(provider: Provider) -> Value {
    match provider {
        Provider::OllamaChat => json!({ "error": "the runner has died" }),
        Provider::HostedVllm => {
            json!({ "error": { "object": "error", "message": "the engine has died", "type": "InternalServerError",
                "param": null, "code": 500 } })
        }
    }
}

fn error_piece(provider: Provider) -> String {
    let error = error_in_band(provider);
    match provider {
        Provider::OllamaChat => format!("{error}\n"),
        Provider::HostedVllm => format!("data: {error}\n\n"),
    }
}

fn garbage(provider: Provider) -> String {
    match provider {
        Provider::OllamaChat => "<html>bad gateway</html>\n".into(),
        Provider::HostedVllm => "data: <html>bad gateway</html>\n\n".into(),
    }
}
