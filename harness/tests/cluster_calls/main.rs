//! What is sent to the API of a cluster, and what becomes of answers that are late, lost, refused or odd.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod access;
mod alarm;
mod applications;
mod household;
mod lock;
mod mock;
mod netns;
mod others;
mod record;
mod scale;
mod serve;
mod undo;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::cluster::access::Access;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// A server that answers by a function, and keeps what it was asked: `PATCH /path?query` and the body.
pub(crate) struct Api {
    server: MockServer,
}

struct Answers<F>(F);

impl<F: Fn(&Request) -> ResponseTemplate + Send + Sync> Respond for Answers<F> {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        (self.0)(request)
    }
}

impl Api {
    pub(crate) async fn start(answer: impl Fn(&Request) -> ResponseTemplate + Send + Sync + 'static) -> Self {
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(Answers(answer)).mount(&server).await;
        Self { server }
    }

    pub(crate) fn kubeconfig(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "wrong",
            "clusters": [{ "name": "c", "cluster": { "server": self.server.uri() } }],
            "users": [{ "name": "u", "user": { "token": "hunter2" } }],
            "contexts": [
                { "name": "wrong", "context": { "cluster": "none", "user": "u" } },
                { "name": "mock", "context": { "cluster": "c", "user": "u" } },
            ],
        })
    }

    pub(crate) async fn access(&self) -> Access {
        let namespaces = ["ml".to_owned(), "apps".to_owned()];
        let access = Access::with_kubeconfig(&self.kubeconfig(), "mock", &namespaces).await.unwrap();
        access.with_limit(Duration::from_secs(5))
    }

    /// What was asked so far, without the empty first pair that kube writes.
    pub(crate) async fn asked(&self) -> Vec<String> {
        let requests = self.server.received_requests().await.unwrap();
        requests.iter().map(line).collect()
    }

    pub(crate) async fn asked_with(&self, method: &str) -> Vec<Request> {
        let requests = self.server.received_requests().await.unwrap();
        requests.into_iter().filter(|request| request.method.as_str() == method).collect()
    }
}

fn line(request: &Request) -> String {
    let query =
        request.url.query().map(|query| query.trim_start_matches('&')).filter(|query| !query.is_empty());
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    format!("{} {}{query}", request.method, request.url.path())
}

pub(crate) fn answer(status: u16, body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

pub(crate) fn refusal(status: u16, reason: &str, message: &str) -> ResponseTemplate {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    });
    answer(status, &body)
}

/// A thing that answers change, for closures.
pub(crate) type Shared<T> = Arc<Mutex<T>>;

pub(crate) fn shared<T>(value: T) -> Shared<T> {
    Arc::new(Mutex::new(value))
}
