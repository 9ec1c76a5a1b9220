//! The mock Bot API, over HTTP as a bot calls it.

use std::time::Duration;

use mocks::telegram::BotApi;
use serde_json::{Value, json};

use crate::observe::http_client;

const TOKEN: &str = "1:mock";

async fn call(api: &BotApi, token: &str, method: &str, arguments: Value) -> (u16, Value) {
    let url = format!("{}/bot{token}/{method}", api.url());
    let answer = http_client().post(url).body(arguments.to_string()).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

async fn ok(api: &BotApi, method: &str, arguments: Value) -> Value {
    let (status, answer) = call(api, TOKEN, method, arguments).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)), "{answer}");
    answer["result"].clone()
}

#[tokio::test]
async fn a_message_goes_in_by_long_poll_and_the_reply_comes_out() {
    let api = BotApi::start(0, TOKEN).await.unwrap();
    assert_eq!(ok(&api, "getMe", json!({})).await["is_bot"], true);
    assert_eq!(ok(&api, "getUpdates", json!({ "timeout": 0 })).await, json!([]));
    api.polled().await;
    // The poll is there first, and ends as soon as somebody writes.
    let poll = ok(&api, "getUpdates", json!({ "timeout": 30, "limit": 100 }));
    let say = async {
        api.read_until(7, |_| (api.calls()["getUpdates"] == 2).then_some(())).await;
        api.say(7, "hello");
    };
    let (updates, ()) = tokio::join!(poll, say);
    assert_eq!(updates[0]["message"]["text"], "hello");
    assert_eq!(updates[0]["message"]["chat"], json!({ "id": 7, "type": "private", "first_name": "Person" }));
    // It is told again until it is confirmed.
    let again = ok(&api, "getUpdates", json!({})).await;
    assert_eq!(again, updates);
    let next = updates[0]["update_id"].as_u64().unwrap() + 1;
    assert_eq!(ok(&api, "getUpdates", json!({ "offset": next })).await, json!([]));

    let sent = ok(&api, "sendMessage", json!({ "chat_id": "7", "text": "hi", "parse_mode": "HTML" })).await;
    let id = sent["message_id"].as_i64().unwrap();
    ok(&api, "editMessageText", json!({ "chat_id": 7, "message_id": id, "text": "hi there" })).await;
    let read = api.read_until(7, |messages| messages.first().cloned()).await;
    assert_eq!((read.id, read.text.as_str(), read.edits), (id, "hi there", 1));
    assert_eq!(api.read(8), []);
    api.shutdown().await;
}

#[tokio::test]
async fn people_and_other_programs_write_and_read_over_http() {
    let api = BotApi::start(0, TOKEN).await.unwrap();
    let say = http_client().post(format!("{}/mock/say", api.url()));
    let said = say.body(r#"{"chat": 9, "text": "hello"}"#).send().await.unwrap();
    assert_eq!(said.status(), 200);
    assert_eq!(ok(&api, "getUpdates", json!({})).await[0]["message"]["chat"]["id"], 9);
    ok(&api, "sendMessage", json!({ "chat_id": 9, "text": "hi" })).await;
    let read = http_client().get(format!("{}/mock/read/9", api.url())).send().await.unwrap();
    let read: Value = serde_json::from_str(&read.text().await.unwrap()).unwrap();
    assert_eq!(read["result"][0]["text"], "hi");
    api.shutdown().await;
}

#[tokio::test]
async fn what_telegram_refuses_is_refused() {
    let api = BotApi::start(0, TOKEN).await.unwrap();
    let refused = async |token: &str, method: &str, arguments: Value| {
        let (status, answer) = call(&api, token, method, arguments).await;
        assert_eq!((&answer["ok"], &answer["error_code"]), (&json!(false), &json!(status)), "{answer}");
        (status, answer["description"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused("2:wrong", "getMe", json!({})).await.0, 401);
    assert_eq!(refused(TOKEN, "noSuchMethod", json!({})).await.0, 404);
    assert_eq!(refused(TOKEN, "sendMessage", json!({ "chat_id": 1, "text": " " })).await.0, 400);
    assert_eq!(refused(TOKEN, "sendMessage", json!({ "text": "to nobody" })).await.0, 400);
    let edit = json!({ "chat_id": 1, "message_id": 5, "text": "x" });
    assert!(refused(TOKEN, "editMessageText", edit).await.1.contains("not found"));
    assert_eq!(api.calls()["noSuchMethod"], 1);
    api.shutdown().await;
}

#[tokio::test]
async fn of_two_polls_the_older_one_is_ended() {
    let api = BotApi::start(0, TOKEN).await.unwrap();
    let older = call(&api, TOKEN, "getUpdates", json!({ "timeout": 30 }));
    let newer = async {
        api.polled().await;
        ok(&api, "getUpdates", json!({ "timeout": 0 })).await
    };
    let both = async { tokio::join!(older, newer) };
    let ((status, _), updates) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!((status, updates), (409, json!([])));
    api.shutdown().await;
}
