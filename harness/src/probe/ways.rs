//! Ways to the gateway that lead through openclaw: how a turn is sent on each, and what its reply means.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mocks::telegram::{BotApi, Message};
use serde_json::{Value, json};

use super::client::{Failure, Request, question};
use crate::gateway::secret::Secret;
use crate::journal::Claim;

/// The person was told of the failure, in whatever way this way has: an error in a stream that had begun, a message.
pub(super) const TOLD_ERROR: &str = "told-error";
/// What openclaw's messages of failures begin with.
const FAILURE_MARK: char = '\u{26a0}';
/// What its messages about itself begin with, which are no answers.
const NOTICE_MARK: char = '\u{21aa}';
/// What a person writes to end a turn.
const STOP: &str = "/stop";
/// By so much longer than its client a hook's turn waits for a gateway that hangs: the client gives up first.
const HOOK_WAITS_LONGER: Duration = Duration::from_secs(1);
/// The id of the first chat; each turn has a chat, and so a session, of its own.
const FIRST_CHAT: i64 = 1000;

/// What the gateway has answered to the requests of each turn by now, by probe. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, Answered>>>);

#[derive(Debug, Default)]
struct Answered {
    /// What the last answer says about who served it, raw.
    claims: Vec<Claim>,
    /// It has come to its end.
    whole: bool,
}

impl Ledger {
    /// The gateway answers a request of this turn; a later answer replaces an earlier one.
    pub fn note(&self, probe: &str, claims: &[Claim], whole: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(probe.to_owned(), Answered { claims: claims.to_vec(), whole });
    }

    /// The turn asks again: what was answered before is not what the person gets.
    pub fn begin(&self, probe: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = all.get_mut(probe) {
            last.whole = false;
        }
    }

    fn is_whole(&self, probe: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(probe).is_some_and(|last| last.whole)
    }

    fn take(&self, probe: &str) -> Vec<Claim> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(probe);
        last.unwrap_or_default().claims
    }
}

/// One way through openclaw.
#[derive(Clone)]
pub enum Way {
    /// Its chat API.
    Chat {
        /// Its URL, without `/v1`.
        url: String,
        /// Its token.
        token: Secret,
        /// The agent, in place of a model.
        agent: String,
    },
    /// A hook that starts a sub-agent and waits for it.
    Hook {
        /// Its URL.
        url: String,
        /// The hooks' token.
        token: Secret,
    },
    /// A chat over Telegram.
    Telegram(Arc<Chats>),
}

/// The chats of people with the bot.
pub struct Chats {
    api: Arc<BotApi>,
    next: AtomicI64,
}

impl Chats {
    /// None yet.
    #[must_use]
    pub fn new(api: Arc<BotApi>) -> Self {
        Self { api, next: AtomicI64::new(FIRST_CHAT) }
    }

    /// Writes to the bot in a chat of its own and waits for what it writes back.
    pub(super) async fn turn(&self, request: &Request) -> String {
        let chat = self.next.fetch_add(1, Ordering::Relaxed);
        self.api.say(chat, &question(&request.id));
        let mut waiting = Waiting { api: &self.api, chat, is_over: false };
        let message = self.api.read_until(chat, answer).await;
        waiting.is_over = true;
        message
    }
}

/// A turn whose reply is waited for. Where that is given up, openclaw is told to stop: it would go on for minutes.
struct Waiting<'a> {
    api: &'a BotApi,
    chat: i64,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.api.say(self.chat, STOP);
        }
    }
}

/// The first message that is for the person.
fn answer(messages: &[Message]) -> Option<String> {
    messages.iter().map(|message| &message.text).find(|text| !text.starts_with(NOTICE_MARK)).cloned()
}

/// Which routes lead through openclaw, and how.
#[derive(Clone, Default)]
pub struct Ways {
    by_route: BTreeMap<String, Way>,
    ledger: Ledger,
}

impl Ways {
    /// These routes, each with its way; `ledger` is told by whoever stands before the gateway.
    #[must_use]
    pub fn new(by_route: BTreeMap<String, Way>, ledger: Ledger) -> Self {
        Self { by_route, ledger }
    }

    pub(super) fn of(&self, route: &str) -> Option<&Way> {
        self.by_route.get(route)
    }

    /// Whether a message is the answer to this turn. openclaw also writes what went wrong, not always with its mark: where the
    /// gateway has answered no request to its end, there is no answer that it could be.
    pub(super) fn read_message(&self, probe: &str, message: &str) -> Result<(), Failure> {
        if message.starts_with(FAILURE_MARK) || !self.ledger.is_whole(probe) {
            return Err(Failure::plain(TOLD_ERROR, message));
        }
        Ok(())
    }

    /// What is known of who served this turn, once it is over.
    pub(super) fn claims(&self, probe: &str) -> Vec<Claim> {
        self.ledger.take(probe)
    }

    /// A text without any token of these ways.
    pub(super) fn redact(&self, text: &str) -> String {
        let tokens = self.by_route.values().filter_map(|way| match way {
            Way::Chat { token, .. } | Way::Hook { token, .. } => Some(token),
            Way::Telegram(_) => None,
        });
        tokens.fold(text.to_owned(), |text, token| token.redact(&text))
    }
}

/// What the hook is sent: it waits, hardly longer than its client, and delivers to nobody. A child that fails wakes no other agent,
/// which would ask the gateway once more.
pub(super) fn hook_body(request: &Request) -> String {
    let bound = request.timeout + HOOK_WAITS_LONGER;
    json!({
        "message": question(&request.id),
        "waitForCompletion": true,
        "deliver": false,
        "wakeMode": "next-heartbeat",
        "timeoutSeconds": bound.as_secs_f64().ceil(),
    })
    .to_string()
}

/// Whether the child has answered: the hook's own status is 200 also where it has not.
pub(super) fn read_hook(body: &[u8]) -> Result<(), Failure> {
    let said: Value =
        serde_json::from_slice(body).map_err(|error| Failure::plain("malformed", &error.to_string()))?;
    let completion = &said["completion"];
    match (completion["status"].as_str(), completion["replyDisposition"].as_str()) {
        (Some("ok"), Some("visible")) => Ok(()),
        (Some("ok"), _) => Err(Failure::plain("empty-reply", "the child has said nothing")),
        (Some(status), _) => Err(Failure::plain(TOLD_ERROR, &format!("the child ended with `{status}`"))),
        (None, _) => Err(Failure::plain("malformed", "no `completion.status`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::ClaimSource;

    #[test]
    fn a_child_is_judged_by_its_completion_and_not_by_the_status_of_the_call() {
        let class = |body: &str| read_hook(body.as_bytes()).map_err(|failure| failure.class);
        let of = |status: &str, reply: &str| {
            class(
                &json!({ "ok": true, "completion": { "status": status, "replyDisposition": reply } })
                    .to_string(),
            )
        };
        assert_eq!(of("ok", "visible"), Ok(()));
        assert_eq!(of("error", "empty"), Err(TOLD_ERROR.to_owned()));
        assert_eq!(of("ok", "empty"), Err("empty-reply".to_owned()));
        assert_eq!(class(r#"{"ok":true,"runId":"r"}"#), Err("malformed".to_owned()));
        assert_eq!(class("<html>"), Err("malformed".to_owned()));
    }

    fn request() -> Request {
        Request {
            id: "p".into(),
            scenario: "s".into(),
            route: "r".into(),
            purpose: crate::journal::Purpose::Traffic,
            model: "cloud-kimi".into(),
            streamed: false,
            fresh: true,
            max_tokens: 8,
            timeout: Duration::from_millis(29_500),
            intended_us: 0,
        }
    }

    #[test]
    fn a_hooks_turn_ends_soon_after_its_client_and_wakes_nobody() {
        let body: Value = serde_json::from_str(&hook_body(&request())).unwrap();
        assert_eq!(body["timeoutSeconds"], json!(31.0));
        assert_eq!(body["wakeMode"], json!("next-heartbeat"));
    }

    #[tokio::test]
    async fn a_turn_in_a_chat_that_is_given_up_is_stopped_and_one_that_is_over_is_not() {
        let api = Arc::new(BotApi::start(0, "1:token").await.unwrap());
        let chats = Chats::new(Arc::clone(&api));
        let request = request();
        let given_up = tokio::time::timeout(Duration::from_millis(1), chats.turn(&request)).await;
        given_up.expect_err("nobody answers");
        let bot = |call: &str| format!("{}/bot1:token/{call}", api.url());
        let client = crate::http::loopback_client().build().unwrap();
        let ask = async |call: &str, body: Value| {
            let answer =
                client.post(bot(call)).header("content-type", "application/json").body(body.to_string());
            let said = answer.send().await.unwrap().bytes().await.unwrap();
            serde_json::from_slice::<Value>(&said).unwrap()
        };
        let answered = async {
            let second = FIRST_CHAT + 1;
            loop {
                let updates = ask("getUpdates", json!({ "timeout": 1 })).await;
                let texts: Vec<(i64, String)> = updates["result"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|update| &update["message"])
                    .map(|told| {
                        (told["chat"]["id"].as_i64().unwrap(), told["text"].as_str().unwrap().to_owned())
                    })
                    .collect();
                if texts.iter().any(|(chat, _)| *chat == second) {
                    ask("sendMessage", json!({ "chat_id": second, "text": "I am here." })).await;
                    return texts;
                }
            }
        };
        let (texts, said) = tokio::join!(answered, chats.turn(&request));
        assert_eq!(said, "I am here.");
        let first: Vec<&str> =
            texts.iter().filter(|(chat, _)| *chat == FIRST_CHAT).map(|(_, text)| text.as_str()).collect();
        assert_eq!(first, [question("p").as_str(), STOP]);
        let rest = ask("getUpdates", json!({ "timeout": 0 })).await;
        let stopped =
            rest["result"].as_array().unwrap().iter().filter(|update| update["message"]["text"] == STOP);
        assert_eq!(stopped.count(), 1, "only the one that was given up: {rest}");
    }

    #[test]
    fn notices_are_no_answers() {
        let message = |text: &str| Message { id: 1, text: text.to_owned(), edits: 0 };
        let notice = message("\u{21aa}\u{fe0f} Model Fallback cleared: litellm/cloud-kimi");
        assert_eq!(answer(std::slice::from_ref(&notice)), None);
        assert_eq!(answer(&[notice, message("I am here.")]), Some("I am here.".to_owned()));
    }

    #[test]
    fn the_last_answer_of_a_turn_is_what_counts() {
        let ledger = Ledger::default();
        let claim =
            |value: &str| vec![Claim { source: ClaimSource::HeaderModelGroup, value: value.to_owned() }];
        ledger.note("p", &claim("cloud-kimi"), true);
        ledger.note("p", &claim("vllm-qwen"), true);
        let ways = Ways::new(BTreeMap::new(), ledger);
        assert_eq!(ways.claims("p"), claim("vllm-qwen"));
        assert!(ways.claims("p").is_empty(), "each turn is over once");
    }

    #[test]
    fn a_message_without_an_answer_of_the_gateway_behind_it_tells_of_a_failure() {
        let ledger = Ledger::default();
        let ways = Ways::new(BTreeMap::new(), ledger.clone());
        let class = |message: &str| ways.read_message("p", message).map_err(|failure| failure.class);
        let told = Err(TOLD_ERROR.to_owned());
        assert_eq!(class("The model did not produce a response before the model idle timeout."), told);
        ledger.note("p", &[], false);
        assert_eq!(class("I am half of an answer"), told);
        ledger.note("p", &[], true);
        assert_eq!(class("I am vLLM."), Ok(()));
        ledger.begin("p");
        assert_eq!(class("The model did not produce a response before the model idle timeout."), told);
        ledger.note("p", &[], true);
        assert_eq!(class("\u{26a0}\u{fe0f} The model request was rate-limited."), told);
    }
}
