//! The replies of one alias, built once.

use bytes::Bytes;
use serde_json::json;

/// All that is ever written for one alias.
#[derive(Debug)]
pub(super) struct Replies {
    /// A whole reply.
    pub(super) whole: Bytes,
    /// The head of a stream.
    pub(super) head: Bytes,
    /// Its content chunks.
    pub(super) chunks: Vec<Bytes>,
    /// The last chunk, the terminator and the end of the body.
    pub(super) end: Bytes,
}

/// What goes wrong.
#[derive(Debug)]
pub(super) struct Errors {
    pub(super) unavailable: Bytes,
    pub(super) loading: Bytes,
    pub(super) internal: Bytes,
    /// An error event and the end of the body.
    pub(super) event: Bytes,
}

impl Replies {
    pub(super) fn of(alias: &str, chunks: usize) -> Self {
        let body = json!({
            "id": "chatcmpl-truth", "object": "chat.completion", "created": 1, "model": alias,
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": format!("I am {alias}.") },
                "finish_reason": "stop",
            }],
            "usage": { "prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17 },
        })
        .to_string();
        let whole = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-litellm-model-group: {alias}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-litellm-model-group: {alias}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let event = |delta: serde_json::Value, finish: Option<&str>| {
            json!({
                "id": "chatcmpl-truth", "object": "chat.completion.chunk", "created": 1, "model": alias,
                "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
            })
            .to_string()
        };
        let content = chunked(&event(json!({ "role": "assistant", "content": "word " }), None));
        let end = [chunked(&event(json!({}), Some("stop"))), chunked("[DONE]"), "0\r\n\r\n".to_owned()];
        Self {
            whole: whole.into(),
            head: head.into(),
            chunks: vec![content.into(); chunks.max(1)],
            end: end.concat().into(),
        }
    }
}

impl Errors {
    pub(super) fn new() -> Self {
        let error = |status: &str, message: &str| {
            let body = json!({ "error": { "message": message, "type": "server_error", "code": status } });
            let body = body.to_string();
            let length = body.len();
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
                .into()
        };
        let event = json!({ "error": { "message": "broken", "type": "server_error", "code": "500" } });
        Self {
            unavailable: error("503 Service Unavailable", "unavailable"),
            loading: error("503 Service Unavailable", "the model is loading"),
            internal: error("500 Internal Server Error", "broken"),
            event: format!("{}0\r\n\r\n", chunked(&event.to_string())).into(),
        }
    }
}

/// An event as a chunk of a body.
fn chunked(data: &str) -> String {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}
