//! `harness mock`: the mock world on its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::child::{Running, harness};
use crate::place::{Place, fixture};
use crate::result::{number, text};

/// One HTTP request by hand; status and body.
fn post(base: &str, path: &str, key: &str, body: &Value) -> (u16, String) {
    let address = base.strip_prefix("http://").expect("http").trim_end_matches('/');
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("write");
    let mut reply = String::new();
    stream.take(1024 * 1024).read_to_string(&mut reply).expect("read");
    let status = reply.split_whitespace().nth(1).and_then(|status| status.parse().ok()).expect("status");
    (status, reply.split_once("\r\n\r\n").expect("body").1.to_owned())
}

fn mock(place: &Place) -> (Running, Value) {
    let environment = fixture("environment.yaml");
    let mut running =
        Running::start(harness(place.path(), ["mock".as_ref(), "--env".as_ref(), environment.as_os_str()]));
    let line = running.until_it_says("{");
    let urls = serde_json::from_str(&line).expect("one line of JSON");
    (running, urls)
}

#[test]
fn the_mock_world_serves_a_chat_and_ends_on_sigterm() {
    let place = Place::new();
    let (running, urls) = mock(&place);
    for url in [&urls["gateway"], &urls["control"], &urls["upstreams"]["cloud"], &urls["upstreams"]["vllm"]] {
        assert!(text(url).starts_with("http://127.0.0.1:"), "{url}");
    }
    let chat = json!({ "model": "cloud-kimi", "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 8 });
    let (gateway, key) = (text(&urls["gateway"]), text(&urls["master_key"]));
    let (status, body) = post(gateway, "/v1/chat/completions", key, &chat);
    assert_eq!(status, 200, "{body}");
    let reply: Value = serde_json::from_str(&body).expect("JSON");
    assert!(!text(&reply["choices"][0]["message"]["content"]).is_empty(), "{reply}");
    assert!(number(&reply["usage"]["completion_tokens"]) <= 8, "{reply}");
    let (status, body) = post(gateway, "/v1/chat/completions", "sk-not-the-key", &chat);
    assert!((400..500).contains(&status), "{status}: {body}");

    running.signal(Signal::TERM);
    let ended = running.end_within(Duration::from_secs(3)).expect(0);
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    assert_eq!(ended.stderr, "");
}

#[test]
fn the_mock_world_ends_on_sigint_also_with_an_open_connection() {
    let place = Place::new();
    let (running, urls) = mock(&place);
    let address = text(&urls["gateway"]).strip_prefix("http://").expect("http").to_owned();
    let open = TcpStream::connect(address).expect("connect");
    running.signal(Signal::INT);
    running.end_within(Duration::from_secs(3)).expect(0);
    drop(open);
}

#[test]
#[cfg(target_os = "linux")]
fn what_is_in_its_memory_does_not_come_to_lie_on_a_disk() {
    // It inherits as much as this user may have.
    let allowed = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: allowed.maximum, ..allowed }).expect("up to the hard limit");
    let place = Place::new();
    let (running, _) = mock(&place);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.pid())).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("one of a core");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    running.signal(Signal::TERM);
    running.end_within(Duration::from_secs(3)).expect(0);
}
