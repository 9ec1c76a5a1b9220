//! The proxy's HTTP surface: routes, keys, request checks, pages (sections 1, 6 and 7).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use serde_json::json;

use super::Shared;
use super::access_log::request_line;
use super::responses::{Body, bare_reply, empty_reply, json_reply, set};

use self::pages::{Access, Page};
use self::query::{Query, decoded};

mod chat;
mod health;
mod json_text;
mod keys;
mod models;
mod pages;
mod query;
mod settings;

/// A reply that ends a request before its routing.
type Refusal = Box<Response<Body>>;

/// What stands at a path.
enum Route {
    /// A chat request, with the model that the path names.
    Chat(Option<String>),
    Page(Page),
}

impl Route {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" | "/chat/completions" => return Some(Self::Chat(None)),
            _ => {}
        }
        if let Some(page) = Page::at(path) {
            return Some(Self::Page(page));
        }
        let named = path.strip_suffix("/chat/completions")?;
        let model = ["/openai/deployments/", "/engines/"]
            .into_iter()
            .find_map(|prefix| named.strip_prefix(prefix))?;
        (!model.is_empty()).then(|| Self::Chat(Some(decoded(model))))
    }
}

/// Answers one request of this client.
pub(super) async fn serve(
    shared: Arc<Shared>,
    client: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let _in_flight = shared.in_flight.enter();
    let line = request_line(&request);
    let response = answer(&shared, request).await;
    shared.access_log.answered(client, &line, response.status());
    Ok(response)
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let Some(route) = Route::at(request.uri().path()) else {
        return elsewhere(request.uri(), request.headers());
    };
    match route {
        Route::Chat(_) if request.method() != Method::POST => method_not_allowed("POST"),
        Route::Chat(model) => chat::chat(Arc::clone(shared), request, model).await,
        Route::Page(page) if request.method() != Method::GET => match page.options() {
            Some(response) if request.method() == Method::OPTIONS => response,
            _ => method_not_allowed(page.methods()),
        },
        Route::Page(page) => {
            let refused = match page.access() {
                Access::Open => Ok(()),
                Access::Key => keys::check(shared, request.headers()),
                Access::Metrics => keys::check_metrics(shared, request.headers()),
            };
            match refused {
                Err(refusal) => *refusal,
                Ok(()) => page.render(shared, &Query::read(request.uri().query())).await,
            }
        }
    }
}

/// A path that is a page's but for a slash at its end leads there; any other leads nowhere.
fn elsewhere(uri: &Uri, headers: &HeaderMap) -> Response<Body> {
    let path = uri.path();
    let there = path.strip_suffix('/').filter(|path| !path.is_empty() && Route::at(path).is_some());
    let host = headers.get("host").and_then(|host| host.to_str().ok());
    match (there, host) {
        (Some(there), Some(host)) => {
            let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            let mut response = empty_reply(307);
            set(&mut response, "location", &format!("http://{host}{there}{query}"));
            response
        }
        _ => json_reply(404, &json!({ "detail": "Not Found" })),
    }
}

fn method_not_allowed(allowed: &str) -> Response<Body> {
    let mut response = json_reply(405, &json!({ "detail": "Method Not Allowed" }));
    set(&mut response, "allow", allowed);
    response
}

/// What the real proxy answers where its own code broke: none of its usual headers.
fn internal_error() -> Response<Body> {
    bare_reply(
        500,
        &json!({ "error": { "message": "Internal server error", "type": "internal_server_error" } }),
    )
}
