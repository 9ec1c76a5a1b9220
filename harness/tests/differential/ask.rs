//! One request to a gateway, and all that came back.

use std::time::{Duration, Instant};

use harness::gateway::secret::Secret;
use serde_json::{Map, Value, json};

/// Bound on one request.
const WITHIN: Duration = Duration::from_secs(150);

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: reqwest::Method,
    /// Path and query.
    pub(crate) path: String,
    /// Besides the key.
    pub(crate) headers: Vec<(String, String)>,
    /// The body's text; empty for none.
    pub(crate) body: String,
    /// Whether the master key goes with it.
    pub(crate) with_key: bool,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As HTTP wants it.
    Clean,
    /// The connection broke.
    Broken,
    /// It did not, within the bound of this suite.
    Never,
}

/// What a gateway answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// `None` where there was no HTTP answer.
    pub(crate) status: Option<u16>,
    /// In their order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
    /// Until the last byte.
    pub(crate) took: Duration,
}

impl Ask {
    /// A chat request to `model`.
    pub(crate) fn chat(model: &str, streaming: bool) -> Self {
        Self::chat_with(model, streaming, &Map::new())
    }

    /// The same with more in its body.
    pub(crate) fn chat_with(model: &str, streaming: bool, more: &Map<String, Value>) -> Self {
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "say ok" }] });
        if streaming {
            body["stream"] = true.into();
        }
        for (name, value) in more {
            body[name] = value.clone();
        }
        Self {
            method: reqwest::Method::POST,
            path: "/v1/chat/completions".into(),
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string(),
            with_key: true,
        }
    }

    /// A GET request.
    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: reqwest::Method::GET,
            path: path.into(),
            headers: Vec::new(),
            body: String::new(),
            with_key: true,
        }
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends it to the gateway at `url`.
    pub(crate) async fn send(&self, client: &reqwest::Client, url: &str, key: &Secret) -> Reply {
        let mut request = client.request(self.method.clone(), format!("{url}{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if self.with_key {
            request = request.header("authorization", format!("Bearer {}", key.expose()));
        }
        if !self.body.is_empty() {
            request = request.body(self.body.clone());
        }
        let started = Instant::now();
        let mut reply = Reply {
            status: None,
            headers: Vec::new(),
            body: Vec::new(),
            end: End::Never,
            took: Duration::ZERO,
        };
        let exchange = async {
            let Ok(mut response) = request.send().await else { return End::Broken };
            reply.status = Some(response.status().as_u16());
            let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers = response.headers().iter();
            reply.headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
            loop {
                match response.chunk().await {
                    Ok(Some(piece)) => reply.body.extend_from_slice(&piece),
                    Ok(None) => return End::Clean,
                    Err(_) => return End::Broken,
                }
            }
        };
        let end = tokio::time::timeout(WITHIN, exchange).await.unwrap_or(End::Never);
        Reply { end, took: started.elapsed(), ..reply }
    }
}

/// A client that keeps no connection: each request is on its own.
pub(crate) fn client() -> reqwest::Client {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .build()
        .expect("a client")
}
