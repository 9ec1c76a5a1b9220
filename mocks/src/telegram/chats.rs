//! What was written in the chats of the bot, and what it has yet to be told of that.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde_json::{Value, json};

/// The bot's own id.
pub(super) const BOT_ID: i64 = 1;
/// Updates that nobody fetches are kept so long.
const PENDING_MAX: usize = 10_000;

/// A message of the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id in the chat.
    pub id: i64,
    /// Its text, as it stands now.
    pub text: String,
    /// How often it was edited.
    pub edits: u64,
}

#[derive(Debug, Default)]
pub(super) struct Chats {
    messages: i64,
    updates: u64,
    pending: VecDeque<(u64, Value)>,
    written: BTreeMap<i64, Vec<Message>>,
    polls: u64,
}

impl Chats {
    fn next_message(&mut self) -> i64 {
        self.messages += 1;
        self.messages
    }

    /// A person writes to the bot; the id of the message.
    pub(super) fn say(&mut self, chat: i64, text: &str) -> i64 {
        let id = self.next_message();
        self.updates += 1;
        let update = json!({ "update_id": self.updates, "message": {
            "message_id": id, "date": Timestamp::now().as_second(), "text": text,
            "chat": { "id": chat, "type": "private", "first_name": "Person" },
            "from": { "id": chat, "is_bot": false, "first_name": "Person" },
        } });
        self.pending.push_back((self.updates, update));
        if self.pending.len() > PENDING_MAX {
            self.pending.pop_front();
        }
        id
    }

    /// The bot writes; its message as Telegram shows it.
    pub(super) fn send(&mut self, chat: i64, text: &str) -> Value {
        let id = self.next_message();
        self.written.entry(chat).or_default().push(Message { id, text: text.to_owned(), edits: 0 });
        shown(chat, id, text)
    }

    /// The bot edits a message of its own.
    ///
    /// # Errors
    /// In Telegram's words.
    pub(super) fn edit(&mut self, chat: i64, id: i64, text: &str) -> Result<Value, &'static str> {
        let messages = self.written.get_mut(&chat);
        let message = messages.and_then(|messages| messages.iter_mut().find(|message| message.id == id));
        let message = message.ok_or("Bad Request: message to edit not found")?;
        if message.text == text {
            return Err("Bad Request: message is not modified");
        }
        message.text = text.to_owned();
        message.edits += 1;
        Ok(shown(chat, id, text))
    }

    pub(super) fn read(&self, chat: i64) -> Vec<Message> {
        self.written.get(&chat).cloned().unwrap_or_default()
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// A poll that is newer than all others; it confirms what comes before its offset, and a negative one all but so many.
    pub(super) fn begin_poll(&mut self, offset: i64) -> u64 {
        match u64::try_from(offset) {
            Ok(first) => self.pending.retain(|(update, _)| *update >= first),
            Err(_) => {
                let kept = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
                self.pending.drain(..self.pending.len().saturating_sub(kept));
            }
        }
        self.polls += 1;
        self.polls
    }

    pub(super) fn is_newest_poll(&self, poll: u64) -> bool {
        self.polls == poll
    }

    pub(super) fn updates(&self, limit: usize) -> Vec<Value> {
        self.pending.iter().take(limit).map(|(_, update)| update.clone()).collect()
    }
}

fn shown(chat: i64, id: i64, text: &str) -> Value {
    json!({
        "message_id": id, "date": Timestamp::now().as_second(), "text": text,
        "chat": { "id": chat, "type": "private", "first_name": "Person" },
        "from": super::methods::bot(),
    })
}
