//! A gateway in front of a scripted upstream, and a client that sees everything.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use mocks::gateway::{Gateway, GatewayOptions};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::upstream::Upstream;

pub(crate) const KEY: &str = "sk-test";

/// A complete reply as the client saw it.
pub(crate) struct Seen {
    pub(crate) status: u16,
    headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The data of each event.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
    }

    /// Id and hop header: who served.
    pub(crate) fn served(&self) -> (Option<&str>, Option<&str>) {
        (self.header("x-litellm-model-id"), self.header("x-litellm-attempted-fallbacks"))
    }
}

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) upstream: Upstream,
}

/// One request, on a connection of its own.
pub(crate) struct Call {
    authority: String,
    request: http::request::Builder,
    body: String,
}

/// A reply that is still being read.
pub(crate) struct Begun {
    body: hyper::body::Incoming,
    _sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    _connection: AbortOnDropHandle<()>,
}

impl Begun {
    /// The next piece, within ten seconds.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await;
        frame.expect("a piece in ten seconds")?.ok()?.into_data().ok()
    }
}

impl Call {
    pub(crate) fn new(url: &str, method: &str, path: &str) -> Self {
        let authority = url.strip_prefix("http://").unwrap().to_owned();
        let request = http::Request::builder().method(method).uri(path).header("host", &authority);
        Self { authority, request, body: String::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn bearer_auth(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn body(mut self, body: String) -> Self {
        self.body = body;
        self
    }

    /// The whole reply, within ten seconds; an error if the connection broke before its headers.
    pub(crate) async fn send(self) -> Result<Seen, hyper::Error> {
        tokio::time::timeout(Duration::from_secs(10), self.exchange()).await.expect("a reply in ten seconds")
    }

    /// The start of a reply whose body is read piece by piece; dropping it leaves.
    pub(crate) async fn begin(self) -> Begun {
        let stream = TcpStream::connect(&self.authority).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        let connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        let request = self.request.body(Full::new(Bytes::from(self.body))).unwrap();
        let body = sender.send_request(request).await.unwrap().into_body();
        Begun { body, _sender: sender, _connection: connection }
    }

    async fn exchange(self) -> Result<Seen, hyper::Error> {
        let stream = TcpStream::connect(&self.authority).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let request = self.request.body(Full::new(Bytes::from(self.body))).unwrap();
            let response = sender.send_request(request).await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let bytes = response.into_body().collect().await?.to_bytes();
            Ok(Seen { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() })
        };
        tokio::pin!(connection);
        tokio::pin!(exchange);
        tokio::select! {
            biased;
            seen = &mut exchange => seen,
            _ = &mut connection => exchange.await,
        }
    }
}

/// The stack's chain on one upstream; `vllm_port` moves vLLM elsewhere.
pub(crate) fn config(upstream: &Upstream, vllm_port: Option<u16>, router: Value) -> Value {
    let base = format!("http://{}", upstream.address);
    let vllm = vllm_port.map_or(format!("{base}/v1"), |port| format!("http://127.0.0.1:{port}/v1"));
    let entry = |name: &str, model: &str, base: &str, timeout: Value| {
        json!({ "model_name": name, "model_info": { "id": format!("id-{name}") },
            "litellm_params": { "model": model, "api_base": base, "api_key": "up", "timeout": timeout } })
    };
    let mut settings = json!({ "num_retries": 0, "allowed_fails": 0, "max_fallbacks": 1,
        "fallbacks": [{ "cloud-kimi": ["cloud-minimax", "vllm-qwen", "ollama-qwen"] }] });
    settings.as_object_mut().unwrap().extend(router.as_object().unwrap().clone());
    json!({
        "model_list": [
            entry("cloud-kimi", "ollama_chat/kimi", &base, 0.3.into()),
            entry("cloud-minimax", "ollama_chat/minimax", &base, 0.3.into()),
            entry("vllm-qwen", "hosted_vllm/Qwen3", &vllm, Value::Null),
            entry("ollama-qwen", "ollama_chat/phi", &base, Value::Null),
        ],
        "router_settings": settings,
        "general_settings": { "master_key": KEY },
    })
}

impl World {
    pub(crate) async fn start(router: Value) -> Self {
        Self::with_vllm_at(None, router).await
    }

    pub(crate) async fn with_vllm_at(port: Option<u16>, router: Value) -> Self {
        let upstream = Upstream::start().await;
        let config = config(&upstream, port, router);
        Self::of(upstream, config).await
    }

    /// The usual configuration, changed.
    pub(crate) async fn changed(router: Value, change: impl FnOnce(&mut Value)) -> Self {
        let upstream = Upstream::start().await;
        let mut config = config(&upstream, None, router);
        change(&mut config);
        Self::of(upstream, config).await
    }

    async fn of(upstream: Upstream, config: Value) -> Self {
        let options = GatewayOptions { config, seed: 1, master_key: None, port: 0 };
        let gateway = Gateway::start(options).await.unwrap();
        Self { gateway, upstream }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> Call {
        Call::new(&self.gateway.url(), method, path)
    }

    pub(crate) async fn seen(&self, call: Call) -> Seen {
        call.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Seen {
        self.seen(self.request("GET", path).bearer_auth(KEY)).await
    }

    pub(crate) async fn post(&self, body: &Value) -> Seen {
        let request = self.request("POST", "/v1/chat/completions").bearer_auth(KEY);
        self.seen(request.body(body.to_string())).await
    }

    pub(crate) async fn chat(&self, model: &str, streaming: bool) -> Seen {
        self.post(&chat(model, streaming)).await
    }
}

pub(crate) fn chat(model: &str, streaming: bool) -> Value {
    json!({ "model": model, "stream": streaming, "max_tokens": 8, "metadata": { "probe": "p1" },
        "messages": [{ "role": "user", "content": "hi" }] })
}
