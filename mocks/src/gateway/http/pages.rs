//! The pages: which there are, who may see them, and what the simple ones say (section 6).

use http::Response;
use serde_json::{Value, json};

use super::query::{Query, decoded};
use super::{health, models, settings};
use crate::gateway::responses::{Body, empty_reply, html_reply, json_reply, proxy_error, python_json, set};
use crate::gateway::{Shared, VERSION};

/// What LiteLLM answers where a page needs the database that there is none of.
const NEEDS_DATABASE: &str = "DB not connected. This endpoint needs a database; set DATABASE_URL to a PostgreSQL \
     connection string (postgresql://...) to enable it. See https://docs.litellm.ai/docs/proxy/virtual_keys";
const SPEND_NEEDS_DATABASE: &str = "/spend/logs ErrorDatabase not connected. Connect a database to your proxy - \
     https://docs.litellm.ai/docs/simple_proxy#managing-auth---virtual-keys";
const NO_CACHE: &str = "Cache not initialized. litellm.cache is None";

/// A page by its path.
pub(super) enum Page {
    Alive,
    Ready,
    ReadyDetails,
    Backlog,
    Health,
    Models,
    Model(String),
    ModelInfo,
    GroupInfo,
    RouterSettings,
    RouterFields,
    Callbacks,
    Fallback(String),
    CachePing,
    CacheInfo,
    Metrics,
    NeedsDatabase(DatabasePage),
    Test,
    Docs,
    OpenApi,
    Routes,
}

/// Pages that need a database, and so say only that.
#[derive(Clone, Copy)]
pub(super) enum DatabasePage {
    ModelInfo,
    ConfigList,
    ConfigField,
    HealthHistory,
    SpendLogs,
    ModelMetrics,
}

/// Who may see a page.
pub(super) enum Access {
    Open,
    Key,
    Metrics,
}

type MakePage = fn() -> Page;

/// Paths without a variable part.
const PATHS: [(&str, MakePage); 28] = [
    ("/health/liveliness", || Page::Alive),
    ("/health/liveness", || Page::Alive),
    ("/health/readiness", || Page::Ready),
    ("/health/readiness/details", || Page::ReadyDetails),
    ("/health/backlog", || Page::Backlog),
    ("/health", || Page::Health),
    ("/v1/models", || Page::Models),
    ("/models", || Page::Models),
    ("/model/info", || Page::ModelInfo),
    ("/v1/model/info", || Page::ModelInfo),
    ("/v2/model/info", || Page::NeedsDatabase(DatabasePage::ModelInfo)),
    ("/model_group/info", || Page::GroupInfo),
    ("/router/settings", || Page::RouterSettings),
    ("/router/fields", || Page::RouterFields),
    ("/get/config/callbacks", || Page::Callbacks),
    ("/cache/ping", || Page::CachePing),
    ("/cache/redis/info", || Page::CacheInfo),
    ("/metrics", || Page::Metrics),
    ("/config/list", || Page::NeedsDatabase(DatabasePage::ConfigList)),
    ("/config/field/info", || Page::NeedsDatabase(DatabasePage::ConfigField)),
    ("/health/history", || Page::NeedsDatabase(DatabasePage::HealthHistory)),
    ("/health/latest", || Page::NeedsDatabase(DatabasePage::HealthHistory)),
    ("/spend/logs", || Page::NeedsDatabase(DatabasePage::SpendLogs)),
    ("/model/metrics", || Page::NeedsDatabase(DatabasePage::ModelMetrics)),
    ("/test", || Page::Test),
    ("/", || Page::Docs),
    ("/openapi.json", || Page::OpenApi),
    ("/routes", || Page::Routes),
];

impl Page {
    pub(super) fn at(path: &str) -> Option<Self> {
        if let Some((_, page)) = PATHS.iter().find(|(at, _)| *at == path) {
            return Some(page());
        }
        if path.starts_with("/metrics/") {
            return Some(Self::Metrics);
        }
        let last = |prefix: &str| {
            path.strip_prefix(prefix).filter(|name| !name.is_empty() && !name.contains('/')).map(decoded)
        };
        let plain = |name: &String| !name.contains('/');
        last("/fallback/")
            .map(Self::Fallback)
            .or_else(|| last("/v1/models/").or_else(|| last("/models/")).filter(plain).map(Self::Model))
    }

    pub(super) fn access(&self) -> Access {
        match self {
            Self::Alive | Self::Ready | Self::Test | Self::Docs | Self::OpenApi | Self::Routes => {
                Access::Open
            }
            Self::Metrics => Access::Metrics,
            _ => Access::Key,
        }
    }

    /// The `allow` of a wrong method.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Docs | Self::OpenApi => "GET, HEAD",
            _ => "GET",
        }
    }

    /// The answer to OPTIONS, which these two pages alone have.
    pub(super) fn options(&self) -> Option<Response<Body>> {
        if !matches!(self, Self::Alive | Self::Ready) {
            return None;
        }
        let mut response = empty_reply(200);
        set(&mut response, "allow", "GET, OPTIONS");
        set(&mut response, "access-control-allow-methods", "GET, OPTIONS");
        set(&mut response, "access-control-allow-headers", "*");
        Some(response)
    }

    pub(super) async fn render(&self, shared: &Shared, query: &Query) -> Response<Body> {
        match self {
            Self::Alive => json_reply(200, &json!("I'm alive!")),
            Self::Ready => json_reply(200, &json!({ "status": "healthy", "db": "Not connected" })),
            Self::ReadyDetails => json_reply(200, &ready_details()),
            Self::Backlog => {
                let backlog = json!({
                    "in_flight_requests": shared.in_flight.count(),
                    "admitted_requests": 0, "queued_requests": 0, "rejected_requests": 0,
                });
                json_reply(200, &backlog)
            }
            Self::Health => health::page(shared, query).await,
            Self::Models => models::list(shared, query),
            Self::Model(name) => models::one(shared, name),
            Self::ModelInfo => models::info(shared, query),
            Self::GroupInfo => models::groups(shared, query),
            Self::RouterSettings => json_reply(200, &settings::router_settings(shared)),
            Self::RouterFields => json_reply(200, &settings::router_fields()),
            Self::Callbacks => json_reply(200, &settings::callbacks(shared)),
            Self::Fallback(group) => settings::fallback(shared, group, query),
            Self::CachePing => {
                let detail = json!({ "message": NO_CACHE, "litellm_cache_params": "{}",
                    "health_check_cache_params": "{}" });
                proxy_error(503, &python_json(&detail), "cache_ping_error", "cache_ping".into())
            }
            Self::CacheInfo => {
                json_reply(503, &json!({ "detail": format!("Service Unhealthy (503: {NO_CACHE})") }))
            }
            // Prometheus is not among the callbacks.
            Self::Metrics => json_reply(404, &json!({ "detail": "Not Found" })),
            Self::NeedsDatabase(page) => page.render(query),
            Self::Test => json_reply(200, &json!({ "route": "/test" })),
            Self::Docs => html_reply(
                "<!DOCTYPE html><html><head><title>LiteLLM API - Swagger UI</title></head>\
                 <body><p>The mock gateway has no pages for people.</p></body></html>",
            ),
            Self::OpenApi => json_reply(200, &open_api()),
            Self::Routes => {
                let routes: Vec<Value> =
                    PATHS.iter().map(|(path, _)| json!({ "path": path, "methods": ["GET"] })).collect();
                json_reply(200, &json!({ "routes": routes }))
            }
        }
    }
}

impl DatabasePage {
    fn render(self, query: &Query) -> Response<Body> {
        let detail = |status, error: &str| json_reply(status, &json!({ "detail": { "error": error } }));
        let failed = |message: &str| proxy_error(500, message, "internal_error", "None".into());
        let required = match self {
            Self::ConfigList => Some("config_type"),
            Self::ConfigField => Some("field_name"),
            _ => None,
        };
        if let Some(name) = required.filter(|name| query.get(name).is_none()) {
            return unprocessable("missing", name, "Field required");
        }
        match self {
            Self::ModelInfo => detail(500, NEEDS_DATABASE),
            Self::ConfigList | Self::ConfigField => detail(400, NEEDS_DATABASE),
            Self::HealthHistory => detail(500, "Database not initialized"),
            Self::SpendLogs => failed(SPEND_NEEDS_DATABASE),
            Self::ModelMetrics => failed("Prisma Client is not initialized"),
        }
    }
}

/// The answer to a query parameter of the wrong form.
pub(super) fn unprocessable(kind: &str, parameter: &str, message: &str) -> Response<Body> {
    json_reply(422, &json!({ "detail": [{ "type": kind, "loc": ["query", parameter], "msg": message }] }))
}

fn ready_details() -> Value {
    json!({
        "status": "healthy", "db": "Not connected", "cache": null, "litellm_version": VERSION,
        "success_callbacks": [], "use_aiohttp_transport": true, "log_level": "WARNING",
        "is_detailed_debug": false, "show_no_redis_warning": true, "show_env_credential_login_warning": true,
    })
}

fn open_api() -> Value {
    let paths: serde_json::Map<String, Value> =
        PATHS.iter().map(|(path, _)| ((*path).to_owned(), json!({ "get": {} }))).collect();
    json!({ "openapi": "3.1.0", "info": { "title": "LiteLLM API", "version": VERSION }, "paths": paths })
}
