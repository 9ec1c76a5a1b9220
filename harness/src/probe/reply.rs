//! Is a reply complete and valid? One reader for whole bodies, one that is fed stream events.

use serde_json::Value;

use crate::journal::BrokenStream;

/// What can be wrong with a reply that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Not the JSON of a chat completion.
    Malformed(String),
    /// Valid, complete, and without a single token.
    Empty,
    /// An error inside a 200 stream.
    ErrorEvent(String),
    /// A stream that ends without finish reason and `[DONE]`.
    Truncated,
}

/// The model that a whole reply names.
pub(super) fn read_whole(body: &[u8]) -> Result<Option<String>, Flaw> {
    let value: Value = serde_json::from_slice(body).map_err(|error| Flaw::Malformed(error.to_string()))?;
    let choice = value["choices"].get(0).ok_or_else(|| Flaw::Malformed("no `choices[0]`".into()))?;
    if !choice["finish_reason"].is_string() {
        return Err(Flaw::Truncated);
    }
    if tokens_in(&choice["message"]) == Tokens::None {
        return Err(Flaw::Empty);
    }
    Ok(value["model"].as_str().map(str::to_owned))
}

/// What a message or delta carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tokens {
    /// Nothing (a role, an empty string).
    None,
    /// Reasoning only.
    Reasoning,
    /// The answer itself, or a tool call.
    Answer,
}

fn tokens_in(message: &Value) -> Tokens {
    let filled = |key: &str| message[key].as_str().is_some_and(|text| !text.is_empty());
    if filled("content") || message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) {
        Tokens::Answer
    } else if filled("reasoning_content") || filled("reasoning") {
        Tokens::Reasoning
    } else {
        Tokens::None
    }
}

/// Reads a stream, event by event.
#[derive(Debug, Default)]
pub(super) struct StreamReader {
    /// The first chunk's model.
    pub(super) model: Option<String>,
    finished: bool,
    done: bool,
    tokens: u32,
    flaw: Option<Flaw>,
}

impl StreamReader {
    /// Take one event's data; says what tokens it carried.
    pub(super) fn event(&mut self, data: &str) -> Tokens {
        if data.trim() == "[DONE]" {
            self.done = true;
            return Tokens::None;
        }
        let value: Value = match serde_json::from_str(data) {
            Ok(value) => value,
            Err(error) => {
                self.flaw.get_or_insert(Flaw::Malformed(error.to_string()));
                return Tokens::None;
            }
        };
        if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
            let message = error["message"].as_str().unwrap_or("no message");
            self.flaw.get_or_insert(Flaw::ErrorEvent(message.to_owned()));
            return Tokens::None;
        }
        if self.model.is_none() {
            self.model = value["model"].as_str().map(str::to_owned);
        }
        let Some(choice) = value["choices"].get(0) else { return Tokens::None };
        self.finished |= choice["finish_reason"].is_string();
        let tokens = tokens_in(&choice["delta"]);
        self.tokens = self.tokens.saturating_add(u32::from(tokens != Tokens::None));
        tokens
    }

    /// The body is over: was it a complete, valid reply?
    pub(super) fn finish(&self) -> Result<(), Flaw> {
        if let Some(flaw) = &self.flaw {
            return Err(flaw.clone());
        }
        if !(self.finished && self.done) {
            return Err(Flaw::Truncated);
        }
        if self.tokens > 0 { Ok(()) } else { Err(Flaw::Empty) }
    }

    /// What came of it by now.
    pub(super) fn got(&self) -> BrokenStream {
        BrokenStream {
            tokens: self.tokens,
            finished: self.finished,
            terminated: self.done,
            error_event: matches!(self.flaw, Some(Flaw::ErrorEvent(_))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(events: &[&str]) -> Result<(), Flaw> {
        let mut reader = StreamReader::default();
        for event in events {
            reader.event(event);
        }
        reader.finish()
    }

    const ROLE: &str = r#"{"model":"m","choices":[{"delta":{"role":"assistant","content":""}}]}"#;
    const TOKEN: &str = r#"{"model":"m","choices":[{"delta":{"content":"hi"},"finish_reason":null}]}"#;
    const STOP: &str = r#"{"model":"m","choices":[{"delta":{},"finish_reason":"stop"}]}"#;

    #[test]
    fn a_stream_needs_token_finish_and_terminator() {
        assert_eq!(stream(&[ROLE, TOKEN, STOP, "[DONE]"]), Ok(()));
        assert_eq!(stream(&[ROLE, TOKEN, STOP]), Err(Flaw::Truncated));
        assert_eq!(stream(&[ROLE, TOKEN, "[DONE]"]), Err(Flaw::Truncated));
        assert_eq!(stream(&[ROLE, STOP, "[DONE]"]), Err(Flaw::Empty));
        assert_eq!(stream(&[]), Err(Flaw::Truncated));
    }

    #[test]
    fn an_error_event_beats_a_proper_end() {
        let error = r#"{"error":{"message":"boom","code":"500"}}"#;
        assert_eq!(stream(&[TOKEN, error, STOP, "[DONE]"]), Err(Flaw::ErrorEvent("boom".into())));
        assert!(matches!(stream(&[TOKEN, "{", STOP, "[DONE]"]), Err(Flaw::Malformed(_))));
    }

    #[test]
    fn a_role_is_no_content_and_reasoning_is() {
        let mut reader = StreamReader::default();
        assert_eq!(reader.event(ROLE), Tokens::None);
        let thought = r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#;
        assert_eq!(reader.event(thought), Tokens::Reasoning);
        assert_eq!(reader.event(TOKEN), Tokens::Answer);
        assert_eq!(reader.model.as_deref(), Some("m"));
    }

    #[test]
    fn a_whole_reply_needs_a_choice_a_finish_and_a_token() {
        let whole = |content: &str, finish: &str| {
            format!(
                r#"{{"model":"m","choices":[{{"message":{{"content":{content}}},"finish_reason":{finish}}}]}}"#
            )
        };
        assert_eq!(read_whole(whole("\"hi\"", "\"stop\"").as_bytes()), Ok(Some("m".into())));
        assert_eq!(read_whole(whole("\"\"", "\"stop\"").as_bytes()), Err(Flaw::Empty));
        assert_eq!(read_whole(whole("\"hi\"", "null").as_bytes()), Err(Flaw::Truncated));
        assert!(matches!(read_whole(b"{}"), Err(Flaw::Malformed(_))));
        assert!(matches!(read_whole(b"<html>"), Err(Flaw::Malformed(_))));
    }
}
