//! A mock of Telegram's Bot API on loopback, as far as a chat bot uses it: updates by long poll, messages sent and edited,
//! and the calls that a bot makes once at its start. What a person would type and read stands on the other side:
//! [`BotApi::say`] and [`BotApi::read`], or over HTTP `POST /mock/say` with `{"chat", "text"}` and `GET /mock/read/CHAT`.
//!
//! As Telegram does, it answers `{"ok": true, "result": ...}` or `{"ok": false, "error_code", "description"}`: a wrong
//! token is 401, an unknown method 404, and of two long polls the older one ends with 409.

mod chats;
mod methods;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::chats::Chats;
pub use self::chats::Message;
use self::methods::Failure;
use crate::serve::{Answer, Body, Server, complete, read_body};

const JSON: &str = "application/json";
/// The longest that a poll waits, as at Telegram.
const POLL_MAX: Duration = Duration::from_secs(50);
/// Updates of one answer, as at Telegram.
const UPDATES_MAX: usize = 100;

/// A running mock Bot API with one bot.
#[derive(Debug)]
pub struct BotApi {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    token: String,
    chats: Mutex<Chats>,
    /// Counts what changed in the chats.
    changes: watch::Sender<u64>,
    calls: Mutex<BTreeMap<String, u64>>,
}

impl BotApi {
    /// Serves the bot with this token on this port of 127.0.0.1, or on a free one where it is 0.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says when the port cannot be bound.
    pub async fn start(port: u16, token: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            token: token.to_owned(),
            chats: Mutex::default(),
            changes: watch::channel(0).0,
            calls: Mutex::default(),
        });
        Ok(Self { server: Server::start(port, Arc::clone(&shared)).await?, shared })
    }

    /// The root that a bot is given in place of `https://api.telegram.org`, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// A person writes `text` to the bot in the private chat with this id.
    pub fn say(&self, chat: i64, text: &str) {
        self.shared.change(|chats| chats.say(chat, text));
    }

    /// What the bot has written in a chat by now, in order; an edited message with its last text.
    #[must_use]
    pub fn read(&self, chat: i64) -> Vec<Message> {
        self.shared.chats().read(chat)
    }

    /// Waits until what the bot has written in a chat is such that `wanted` gives a value.
    pub async fn read_until<T>(&self, chat: i64, mut wanted: impl FnMut(&[Message]) -> Option<T>) -> T {
        let mut changes = self.shared.changes.subscribe();
        loop {
            if let Some(value) = wanted(&self.read(chat)) {
                return value;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    /// How often each method was called, those that are not known among them.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.shared.calls().clone()
    }

    /// Waits until the bot has polled for updates once.
    pub async fn polled(&self) {
        let mut changes = self.shared.changes.subscribe();
        while !self.shared.calls().contains_key("getUpdates") {
            let _ = changes.changed().await;
        }
    }

    /// Ends all connections and waits for the last task.
    pub async fn shutdown(&self) {
        self.server.shutdown().await;
    }
}

/// What a person types, over HTTP.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Say {
    chat: i64,
    text: String,
}

impl Shared {
    fn chats(&self) -> MutexGuard<'_, Chats> {
        self.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Chats) -> T) -> T {
        let changed = change(&mut self.chats());
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        changed
    }

    fn count(&self, method: &str) {
        *self.calls().entry(method.to_owned()).or_default() += 1;
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The updates from `offset` on, once there are any or the time is over.
    async fn updates(&self, wanted: &methods::GetUpdates) -> Result<Value, Failure> {
        let mut changes = self.changes.subscribe();
        let deadline = Instant::now() + Duration::from_secs(wanted.timeout).min(POLL_MAX);
        let poll = self.change(|chats| chats.begin_poll(wanted.offset));
        loop {
            {
                let chats = self.chats();
                if !chats.is_newest_poll(poll) {
                    return Err(Failure::new(
                        StatusCode::CONFLICT,
                        "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
                    ));
                }
                let updates = chats.updates(wanted.limit.unwrap_or(UPDATES_MAX).clamp(1, UPDATES_MAX));
                if !updates.is_empty() || Instant::now() >= deadline {
                    return Ok(Value::Array(updates));
                }
            }
            let _ = tokio::time::timeout_at(deadline.into(), changes.changed()).await;
        }
    }

    async fn bot(&self, method: &str, body: &[u8]) -> Result<Value, Failure> {
        self.count(method);
        match method {
            "getUpdates" => self.updates(&methods::parse(body)?).await,
            "sendMessage" => {
                let sent = methods::parse::<methods::SendMessage>(body)?.checked()?;
                Ok(self.change(|chats| chats.send(sent.0, &sent.1)))
            }
            "editMessageText" => {
                let edited = methods::parse::<methods::EditMessageText>(body)?.checked()?;
                self.change(|chats| chats.edit(edited.0, edited.1, &edited.2)).map_err(Failure::bad_request)
            }
            _ => methods::constant(method, self.chats().pending()),
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Value, Failure> {
        let (head, body) = request.into_parts();
        let body = read_body(body).await.map_err(|error| Failure::new(error.status(), &error.to_string()))?;
        let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
        match (&head.method, path.as_slice()) {
            (&Method::POST, ["mock", "say"]) => {
                let Say { chat, text } = methods::parse(&body)?;
                Ok(json!({ "message_id": self.change(|chats| chats.say(chat, &text)) }))
            }
            (&Method::GET, ["mock", "read", chat]) => {
                let chat =
                    chat.parse::<i64>().map_err(|_| Failure::bad_request("a chat's id is a number"))?;
                let said = self.chats().read(chat);
                Ok(said.into_iter().map(|said| json!({ "message_id": said.id, "text": said.text })).collect())
            }
            (&Method::GET | &Method::POST, [bot, method]) => match bot.strip_prefix("bot") {
                Some(token) if token == self.token => self.bot(method, &body).await,
                Some(_) => Err(Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized")),
                None => Err(Failure::not_found()),
            },
            _ => Err(Failure::not_found()),
        }
    }
}

impl Answer for Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        match self.route(request).await {
            Ok(result) => complete(StatusCode::OK, JSON, json!({ "ok": true, "result": result }).to_string()),
            Err(failure) => complete(failure.status, JSON, failure.body()),
        }
    }
}
