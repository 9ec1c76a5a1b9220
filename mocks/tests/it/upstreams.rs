//! What the upstreams say, through their gates.

use std::time::Duration;

use mocks::profile::{Profile, Timing};
use mocks::world::World;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::observe::{SILENCE, WITHIN, get, http_client, post, world_with};

fn url(world: &World, component: &str, path: &str) -> String {
    format!("{}{path}", world.base_url(component).unwrap())
}

fn chat(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "[probe:p1] hello" }] })
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

#[tokio::test]
async fn ollama_answers_whole() {
    let world = world_with(|_| {}).await;
    let body = with(chat("kimi-k2.5"), json!({ "stream": false, "options": { "num_predict": 4 } }));
    let (status, text) = post(url(&world, "cloud", "/api/chat"), body).await;
    let answer = parsed(&text);
    assert_eq!(status, 200);
    assert_eq!(answer["model"], "kimi-k2.5");
    assert_eq!(answer["message"], json!({ "role": "assistant", "content": "I am Claude Sonnet 4.6" }));
    assert_eq!((&answer["done"], &answer["done_reason"]), (&json!(true), &json!("length")));
    assert_eq!(answer["eval_count"], 4);
    for field in
        ["total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_duration"]
    {
        assert!(answer[field].is_u64(), "{field} in {answer}");
    }
    let created_at: jiff::Timestamp = answer["created_at"].as_str().unwrap().parse().unwrap();
    assert!(created_at <= jiff::Timestamp::now());
    world.shutdown().await;
}

#[tokio::test]
async fn ollama_streams_lines_unless_told_otherwise() {
    let world = world_with(|_| {}).await;
    let body = with(chat("phi4-mini:latest"), json!({ "options": { "num_predict": -1 } }));
    let response =
        http_client().post(url(&world, "ollama", "/api/chat")).body(body.to_string()).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(parsed).collect();
    assert_eq!(lines.len(), 201);
    let (last, tokens) = lines.split_last().unwrap();
    assert!(tokens.iter().all(|line| line["done"] == false && line["message"]["content"] != ""));
    assert!(tokens.iter().all(|line| line.get("eval_count").is_none()));
    assert_eq!((&last["done_reason"], &last["eval_count"]), (&json!("stop"), &json!(200)));
    assert!(lines.iter().all(|line| line["model"] == "phi4-mini:latest"));
    world.shutdown().await;
}

#[tokio::test]
async fn ollama_loads_its_model_on_the_first_call_only() {
    let world = world_with(|_| {}).await;
    let body = with(chat("phi4-mini"), json!({ "stream": false, "options": { "num_predict": 1 } }));
    let load_ns = async || {
        let (status, text) = post(url(&world, "ollama", "/api/chat"), body.clone()).await;
        assert_eq!(status, 200, "{text}");
        parsed(&text)["load_duration"].as_u64().unwrap()
    };
    assert!(load_ns().await >= 40_000_000);
    assert!(load_ns().await < 40_000_000);
    world.shutdown().await;
}

#[tokio::test]
async fn ollama_lists_and_shows() {
    let world = world_with(|_| {}).await;
    assert_eq!(get(url(&world, "ollama", "/")).await, (200, "Ollama is running".to_owned()));
    let head = http_client().head(url(&world, "ollama", "/")).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.text().await.unwrap().as_str()), (200, ""));
    let (_, version) = get(url(&world, "ollama", "/api/version")).await;
    assert!(parsed(&version)["version"].is_string());
    let names = |text: String| {
        let tags = parsed(&text);
        tags["models"].as_array().unwrap().iter().map(|m| m["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(get(url(&world, "ollama", "/api/tags")).await.1), ["phi4-mini:latest"]);
    let cloud = ["kimi-k2.5", "minimax-m2.5", "qwen3-coder:480b"];
    assert_eq!(names(get(url(&world, "cloud", "/api/tags")).await.1), cloud);
    let (status, shown) = post(url(&world, "ollama", "/api/show"), json!({ "model": "phi4-mini" })).await;
    assert_eq!((status, &parsed(&shown)["details"]["family"]), (200, &json!("phi4")));
    assert_eq!(post(url(&world, "ollama", "/api/show"), json!({ "name": "x" })).await.0, 404);
    world.shutdown().await;
}

#[tokio::test]
async fn ollama_refuses_what_it_cannot_do() {
    let world = world_with(|_| {}).await;
    let chat_url = || url(&world, "cloud", "/api/chat");
    let (status, text) = post(chat_url(), chat("x")).await;
    assert_eq!((status, parsed(&text)), (404, json!({ "error": "model \"x\" not found" })));
    world.set_gone("cloud", vec!["kimi-k2.5".to_owned()]).unwrap();
    assert_eq!(post(chat_url(), chat("kimi-k2.5")).await.0, 404);
    assert_eq!(post(chat_url(), chat("minimax-m2.5")).await.0, 200);
    world.set_gone("cloud", Vec::new()).unwrap();
    assert_eq!(post(chat_url(), chat("kimi-k2.5")).await.0, 200);
    for malformed in ["", "{", "[]", "{\"model\":7}"] {
        let response = http_client().post(chat_url()).body(malformed).send().await.unwrap();
        assert_eq!(response.status(), 400, "{malformed:?}");
        assert!(parsed(&response.text().await.unwrap())["error"].is_string());
    }
    let large = http_client().post(chat_url()).body(vec![b' '; 1024 * 1024 + 1]).send().await.unwrap();
    assert_eq!(large.status(), 413);
    assert_eq!(get(chat_url()).await.0, 405);
    assert_eq!(get(url(&world, "cloud", "/api/none")).await.0, 404);
    world.shutdown().await;
}

#[tokio::test]
async fn vllm_answers_whole() {
    let world = world_with(|_| {}).await;
    let chat_url = || url(&world, "vllm", "/v1/chat/completions");
    let (status, text) = post(chat_url(), with(chat("Qwen3"), json!({ "max_tokens": 3 }))).await;
    let answer = parsed(&text);
    assert_eq!(status, 200);
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("Qwen3")));
    assert_eq!(answer["choices"][0]["message"]["content"], "The answer is");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    let newer = with(chat("Qwen3"), json!({ "max_tokens": 9, "max_completion_tokens": 1 }));
    assert_eq!(parsed(&post(chat_url(), newer).await.1)["usage"]["completion_tokens"], 1);
    let whole = parsed(&post(chat_url(), chat("Qwen3")).await.1);
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    world.shutdown().await;
}

#[tokio::test]
async fn vllm_streams_events() {
    let world = world_with(|_| {}).await;
    for with_usage in [false, true] {
        let more = json!({
            "stream": true, "max_tokens": 3, "stream_options": { "include_usage": with_usage },
        });
        let body = with(chat("Qwen3"), more).to_string();
        let request = http_client().post(url(&world, "vllm", "/v1/chat/completions")).body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        let text = response.text().await.unwrap();
        let mut events: Vec<&str> =
            text.split("\n\n").map(|e| e.strip_prefix("data: ").unwrap_or(e)).collect();
        assert_eq!((events.pop(), events.pop()), (Some(""), Some("[DONE]")));
        let chunks: Vec<Value> = events.into_iter().map(parsed).collect();
        assert_eq!(chunks.len(), if with_usage { 6 } else { 5 });
        assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
        assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
        let content: String = chunks[1..4]
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(content, "The answer is");
        assert!(chunks[..4].iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()));
        assert_eq!(chunks[4]["choices"][0]["finish_reason"], "length");
        if with_usage {
            assert_eq!(chunks[5]["choices"], json!([]));
            assert_eq!(chunks[5]["usage"]["completion_tokens"], 3);
        }
    }
    world.shutdown().await;
}

#[tokio::test]
async fn vllm_lists_and_refuses() {
    let world = world_with(|_| {}).await;
    assert_eq!(get(url(&world, "vllm", "/health")).await, (200, String::new()));
    assert!(parsed(&get(url(&world, "vllm", "/version")).await.1)["version"].is_string());
    assert_eq!(parsed(&get(url(&world, "vllm", "/v1/models")).await.1)["data"][0]["id"], "Qwen3");
    let chat_url = || url(&world, "vllm", "/v1/chat/completions");
    let (status, text) = post(chat_url(), chat("x")).await;
    let error = json!({ "error": {
        "message": "The model `x` does not exist.", "type": "NotFoundError", "param": "model", "code": 404,
    }});
    assert_eq!((status, parsed(&text)), (404, error));
    for malformed in
        ["", "{", "{}", "{\"messages\":[],\"max_tokens\":0}", "{\"messages\":[],\"max_tokens\":\"a\"}"]
    {
        let response = http_client().post(chat_url()).body(malformed).send().await.unwrap();
        assert_eq!(response.status(), 400, "{malformed:?}");
    }
    assert_eq!(get(chat_url()).await.0, 405);
    assert_eq!(get(url(&world, "vllm", "/none")).await.0, 404);
    world.set_gone("vllm", vec!["Qwen3".to_owned()]).unwrap();
    assert_eq!(post(chat_url(), chat("Qwen3")).await.0, 404);
    assert_eq!(parsed(&get(url(&world, "vllm", "/v1/models")).await.1)["data"], json!([]));
    world.shutdown().await;
}

/// Both dialects think for a minute here, so whatever comes comes before the first token.
#[tokio::test]
async fn headers_come_before_the_first_token_from_vllm_and_with_it_from_ollama() {
    let slow = |timing: &mut Timing| {
        timing.first_token_min = Duration::from_secs(60);
        timing.first_token_max = Duration::from_secs(60);
    };
    let world = world_with(|profile: &mut Profile| {
        slow(&mut profile.vllm);
        slow(&mut profile.cloud);
    })
    .await;
    let send = |component, path, model| {
        let body = with(chat(model), json!({ "stream": true })).to_string();
        http_client().post(url(&world, component, path)).body(body).send()
    };
    let mut early = timeout(WITHIN, send("vllm", "/v1/chat/completions", "Qwen3")).await.unwrap().unwrap();
    assert_eq!(early.status(), 200);
    assert!(timeout(SILENCE, early.chunk()).await.is_err());
    assert!(timeout(SILENCE, send("cloud", "/api/chat", "kimi-k2.5")).await.is_err());
    world.shutdown().await;
}

#[tokio::test]
async fn the_same_seed_draws_the_same() {
    let id = async || {
        let world = world_with(|_| {}).await;
        let body = with(chat("Qwen3"), json!({ "max_tokens": 1 }));
        let (_, text) = post(url(&world, "vllm", "/v1/chat/completions"), body).await;
        world.shutdown().await;
        parsed(&text)["id"].clone()
    };
    assert_eq!(id().await, id().await);
}

/// As the real ones send it: a gap between head and body would be a moment for a fault that no real reply has.
#[tokio::test]
async fn a_whole_answer_leaves_in_one_piece() {
    let world = world_with(|_| {}).await;
    for (component, path, model) in
        [("cloud", "/api/chat", "kimi-k2.5"), ("vllm", "/v1/chat/completions", "Qwen3")]
    {
        let body = with(chat(model), json!({ "stream": false, "max_tokens": 2 })).to_string();
        let mut client = TcpStream::connect(world.gate(component).unwrap().address()).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut piece = vec![0; 64 * 1024];
        let read = timeout(WITHIN, client.read(&mut piece)).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&piece[..read]).into_owned();
        let (_, answer) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("only a part: {text}"));
        assert!(parsed(answer).is_object(), "{component}: {text}");
    }
}
