//! One look at a component.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use tokio::net::TcpStream;

use super::{HTTP_EVERY, HTTP_HANG, OBJECTS_EVERY, TCP_EVERY, TCP_HANG};

/// How to ask a component for one completion, past the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletionRequest {
    /// Whole URL.
    pub url: String,
    /// Upstream model name.
    pub model: String,
}

/// What a witness looks at.
#[derive(Clone, Debug)]
pub enum Target {
    /// Does it accept connections?
    Tcp(SocketAddr),
    /// Does it answer a minimal request at all?
    Answers(CompletionRequest),
    /// What do the objects of a cluster say? They tell less than a connection does.
    Objects(Objects),
}

/// Reads objects of a cluster and concludes whether a component is up.
#[derive(Clone)]
pub struct Objects(pub Arc<dyn Fn() -> BoxFuture<'static, Look> + Send + Sync>);

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Objects")
    }
}

/// What one look saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Up or down.
    pub up: bool,
    /// In words.
    pub saw: String,
}

impl Look {
    fn up(saw: &str) -> Self {
        Self { up: true, saw: saw.to_owned() }
    }
    fn down(saw: impl Into<String>) -> Self {
        Self { up: false, saw: saw.into() }
    }
}

impl Target {
    /// Name of the source in evidence.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp-witness",
            Self::Answers(_) => "http-witness",
            Self::Objects(_) => "objects",
        }
    }

    /// Time between two looks.
    #[must_use]
    pub fn every(&self) -> Duration {
        match self {
            Self::Tcp(_) => TCP_EVERY,
            Self::Answers(_) => HTTP_EVERY,
            Self::Objects(_) => OBJECTS_EVERY,
        }
    }

    /// Look once; bounded by the hang limit.
    pub async fn look(&self, client: &reqwest::Client) -> Look {
        match self {
            Self::Tcp(address) => look_tcp(*address).await,
            Self::Answers(request) => look_http(client, request).await,
            Self::Objects(objects) => objects.look().await,
        }
    }
}

impl Objects {
    async fn look(&self) -> Look {
        match tokio::time::timeout(HTTP_HANG, (self.0)()).await {
            Ok(look) => look,
            Err(_) => Look { up: true, saw: "the cluster's API does not answer".to_owned() },
        }
    }
}

async fn look_tcp(address: SocketAddr) -> Look {
    match tokio::time::timeout(TCP_HANG, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            // Reset instead of TIME_WAIT: 50 looks a second would otherwise eat ports.
            let _ = stream.set_zero_linger();
            Look::up("connection accepted")
        }
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Look::down("connection refused"),
        Ok(Err(error)) => Look::down(format!("connect failed: {}", error.kind())),
        Err(_) => Look::down(format!("connect not completed in {} ms", TCP_HANG.as_millis())),
    }
}

async fn look_http(client: &reqwest::Client, request: &CompletionRequest) -> Look {
    match tokio::time::timeout(HTTP_HANG, ask(client, request)).await {
        Ok(Ok(200)) => Look::up("request answered with 200"),
        Ok(Ok(status)) => Look::down(format!("request answered with {status}")),
        Ok(Err(class)) => Look::down(format!("request failed: {class}")),
        Err(_) => Look::down(format!("no answer in {} ms", HTTP_HANG.as_millis())),
    }
}

/// Ask once for a completion of one token; `Ok` only for a whole 200 reply.
///
/// # Errors
/// In words, what came instead.
pub async fn serves_completion(
    client: &reqwest::Client,
    request: &CompletionRequest,
    limit: Duration,
) -> Result<(), String> {
    match tokio::time::timeout(limit, ask(client, request)).await {
        Ok(Ok(200)) => Ok(()),
        Ok(Ok(status)) => Err(format!("answered with {status}")),
        Ok(Err(class)) => Err(class),
        Err(_) => Err(format!("no answer in {} ms", limit.as_millis())),
    }
}

/// The status, once the whole body has arrived.
async fn ask(client: &reqwest::Client, request: &CompletionRequest) -> Result<u16, String> {
    // Both dialects take this body: Ollama reads `options`, the OpenAI protocol `max_tokens`.
    let body = json!({
        "model": request.model,
        "messages": [{ "role": "user", "content": "ok [purpose:witness]" }],
        "stream": false,
        "max_tokens": 1,
        "options": { "num_predict": 1 },
    });
    let response = client
        .post(&request.url)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .map_err(|error| crate::probe::classify(&error).to_owned())?;
    let status = response.status().as_u16();
    // A few hundred bytes from our own mock world; the limit above bounds the time.
    response.bytes().await.map_err(|error| crate::probe::classify(&error).to_owned())?;
    Ok(status)
}
