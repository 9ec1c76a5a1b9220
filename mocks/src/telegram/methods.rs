//! The methods of the Bot API: what they are asked with, and those whose answer is always the same.

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::chats::BOT_ID;

/// Longest text of a message, in characters.
const TEXT_MAX: usize = 4096;

/// A refused call.
pub(super) struct Failure {
    pub(super) status: StatusCode,
    description: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, description: &str) -> Self {
        Self { status, description: description.to_owned() }
    }

    pub(super) fn bad_request(description: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, description)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    pub(super) fn body(&self) -> String {
        json!({ "ok": false, "error_code": self.status.as_u16(), "description": self.description })
            .to_string()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct GetUpdates {
    pub(super) offset: i64,
    pub(super) limit: Option<usize>,
    /// Seconds.
    pub(super) timeout: u64,
}

#[derive(Deserialize)]
pub(super) struct SendMessage {
    #[serde(deserialize_with = "id")]
    chat_id: i64,
    text: String,
}

impl SendMessage {
    pub(super) fn checked(self) -> Result<(i64, String), Failure> {
        Ok((self.chat_id, text(self.text)?))
    }
}

#[derive(Deserialize)]
pub(super) struct EditMessageText {
    #[serde(deserialize_with = "id")]
    chat_id: i64,
    message_id: i64,
    text: String,
}

impl EditMessageText {
    pub(super) fn checked(self) -> Result<(i64, i64, String), Failure> {
        Ok((self.chat_id, self.message_id, text(self.text)?))
    }
}

fn text(text: String) -> Result<String, Failure> {
    if text.trim().is_empty() {
        Err(Failure::bad_request("Bad Request: message text is empty"))
    } else if text.chars().count() > TEXT_MAX {
        Err(Failure::bad_request("Bad Request: message is too long"))
    } else {
        Ok(text)
    }
}

/// Clients write an id as a number or as a text.
fn id<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(i64),
        Text(String),
    }
    match Id::deserialize(from)? {
        Id::Number(id) => Ok(id),
        Id::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// A call's arguments; none at all are an empty object.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Failure::bad_request(&format!("Bad Request: {error}")))
}

pub(super) fn bot() -> Value {
    json!({ "id": BOT_ID, "is_bot": true, "first_name": "Mock", "username": "mock_bot" })
}

/// What a method answers that changes nothing here.
///
/// # Errors
/// Where Telegram has no such method, or this mock has not.
pub(super) fn constant(method: &str, pending: usize) -> Result<Value, Failure> {
    Ok(match method {
        "getMe" => {
            let mut me = bot();
            me["can_join_groups"] = json!(true);
            me["can_read_all_group_messages"] = json!(false);
            me["supports_inline_queries"] = json!(false);
            me
        }
        "getWebhookInfo" => {
            json!({ "url": "", "has_custom_certificate": false, "pending_update_count": pending })
        }
        "getMyCommands" => json!([]),
        "deleteWebhook" | "setMyCommands" | "deleteMyCommands" | "sendChatAction" | "setMessageReaction"
        | "deleteMessage" => json!(true),
        _ => return Err(Failure::not_found()),
    })
}
