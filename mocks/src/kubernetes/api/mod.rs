//! The API server: a listener, who may do what, and the way from a request to the store and back.

mod access;
mod audit;
mod chaos;
mod discovery;
mod listener;
mod objects;
mod patch;
mod request;
mod respond;
mod scale;
mod selector;
mod strict;
mod table;
mod token;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::Semaphore;

pub use self::access::{Rule, User};
pub use self::audit::{Audit, AuditEntry};
pub use self::chaos::{Chaos, ChaosRule, Trouble};

pub(crate) use self::access::{Access, account_token};
pub(crate) use self::listener::Listener;

use self::request::{Absent, Place, Query, Target};
use super::pod_io::{Body, Cut, PodIo, PodRequest};
use super::refusal::Refusal;
use super::resources::CrdGroup;
use super::store::{ObjectKey, Store};

/// The largest request body, as on the real server.
const REQUEST_BODY_MAX: usize = 3 * 1024 * 1024;
const REQUEST_BODY_WITHIN: Duration = Duration::from_secs(30);
/// Watches at the same time.
const WATCHES_MAX: usize = 512;

/// What answers requests.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) crds: Vec<CrdGroup>,
    pub(crate) access: Access,
    pub(crate) chaos: Chaos,
    pub(crate) audit: Audit,
    /// Nobody runs containers where it is none.
    pub(crate) pod_io: Option<Arc<dyn PodIo>>,
    watches: Arc<Semaphore>,
}

/// One request for objects, as far as everything about it is known.
struct Call {
    target: Target,
    query: Query,
    verb: &'static str,
    user: User,
    request: Request<Incoming>,
}

impl Api {
    pub(crate) fn new(
        store: Store,
        crds: Vec<CrdGroup>,
        users: Vec<User>,
        pod_io: Option<Arc<dyn PodIo>>,
    ) -> Self {
        Self {
            access: Access::new(users, store.clone()),
            store,
            crds,
            chaos: Chaos::default(),
            audit: Audit::default(),
            pod_io,
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
        }
    }

    /// Answers one request, or cuts its connection.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
        let query = Query::read(request.uri().query());
        match request::place(request.uri().path(), &self.crds) {
            Place::Objects(target) => self.answer_objects(target, query, request).await,
            Place::Review(kind) => {
                let answered = self.review(&kind, request).await;
                Ok(answered.unwrap_or_else(|refusal| respond::refused(&refusal)))
            }
            Place::Absent(absent) => {
                let refusal = self.absent(absent, &query, &request).err().unwrap_or(Refusal::NoSuchPage);
                Ok(respond::refused(&refusal))
            }
            Place::Other => {
                Ok(self.answer_other(&request).unwrap_or_else(|refusal| respond::refused(&refusal)))
            }
        }
    }

    fn answer_other(&self, request: &Request<Incoming>) -> Result<Response<Body>, Refusal> {
        if let Some(answer) = discovery::open(request) {
            return Ok(answer);
        }
        self.access.authenticate(request.headers())?;
        discovery::answer(request, &self.crds).ok_or(Refusal::NoSuchPage)
    }

    /// Refuses what a user may not do to objects of a kind that there is not: rights are looked at first.
    fn absent(&self, absent: Absent, query: &Query, request: &Request<Incoming>) -> Result<(), Refusal> {
        let user = self.access.authenticate(request.headers())?;
        let verb = match *request.method() {
            Method::GET | Method::HEAD if !absent.name.is_empty() => "get",
            Method::GET | Method::HEAD if query.is_true("watch") => "watch",
            Method::GET | Method::HEAD => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => return Err(Refusal::MethodNotAllowed),
        };
        let refused = user.check_absent(verb, &absent);
        self.audit.push(AuditEntry {
            at_us: self.store.clock().now_us(),
            user: user.name,
            verb: verb.to_owned(),
            group: absent.group,
            resource: absent.resource,
            namespace: absent.namespace,
            name: absent.name,
            manager: String::new(),
            dry_run: query.get("dryRun").is_some(),
            code: if refused.is_err() { 403 } else { 404 },
        });
        refused
    }

    async fn review(&self, kind: &str, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let user = self.access.authenticate(request.headers())?;
        if request.method() != Method::POST {
            return Err(Refusal::MethodNotAllowed);
        }
        let answered = user.review(kind, read_json(request).await?)?;
        let code = http::StatusCode::CREATED;
        self.audit.push(AuditEntry {
            at_us: self.store.clock().now_us(),
            user: user.name,
            verb: "create".to_owned(),
            group: "authorization.k8s.io".to_owned(),
            resource: kind.to_owned(),
            namespace: String::new(),
            name: String::new(),
            manager: String::new(),
            dry_run: false,
            code: code.as_u16(),
        });
        Ok(respond::json(code, &answered))
    }

    async fn answer_objects(
        self: Arc<Self>,
        target: Target,
        query: Query,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Cut> {
        let verb = match request::verb(request.method(), &target, &query) {
            Ok(verb) => verb,
            Err(refusal) => return Ok(respond::refused(&refusal)),
        };
        let mut entry = AuditEntry {
            at_us: 0,
            user: String::new(),
            verb: verb.to_owned(),
            group: target.resource.group.to_owned(),
            resource: target.rbac_resource(),
            namespace: target.namespace_or_empty().to_owned(),
            name: target.name.clone(),
            manager: objects::manager(&query, request.headers()),
            dry_run: query.get("dryRun").is_some(),
            code: 0,
        };
        let trouble = self.chaos.strike(verb, &target.rbac_resource());
        let mut events_max = None;
        let struck = match &trouble {
            Some(Trouble::Latency(time)) => {
                tokio::time::sleep(*time).await;
                None
            }
            // Ends when the client leaves or the cluster shuts down.
            Some(Trouble::Hang) => std::future::pending().await,
            Some(Trouble::Cut) => {
                entry.at_us = self.store.clock().now_us();
                self.audit.push(entry);
                return Err(Cut);
            }
            Some(Trouble::Refused { code, retry_after }) => {
                Some(respond::troubled(&target, *code, *retry_after))
            }
            Some(Trouble::CutMidLine { after }) => {
                events_max = Some(*after);
                None
            }
            Some(Trouble::LostAnswer) | None => None,
        };
        let answer = match (struck, self.access.authenticate(request.headers())) {
            (Some(answer), _) => answer,
            (None, Err(refusal)) => respond::refused(&refusal),
            (None, Ok(user)) => {
                entry.user.clone_from(&user.name);
                let call = Call { target, query, verb, user, request };
                let answered = self.carry_out(call, events_max).await;
                answered.unwrap_or_else(|refusal| respond::refused(&refusal))
            }
        };
        entry.at_us = self.store.clock().now_us();
        entry.code = if trouble == Some(Trouble::LostAnswer) { 0 } else { answer.status().as_u16() };
        self.audit.push(entry);
        if trouble == Some(Trouble::LostAnswer) { Err(Cut) } else { Ok(answer) }
    }

    async fn carry_out(&self, call: Call, events_max: Option<usize>) -> Result<Response<Body>, Refusal> {
        match call.target.subresource.as_str() {
            "exec" | "portforward" => {
                // Both are looked at, whatever method it comes with.
                call.user.check("get", &call.target)?;
                call.user.check("create", &call.target)?;
                return self.pod_request(call).await;
            }
            "log" => {
                call.user.check("get", &call.target)?;
                return self.pod_request(call).await;
            }
            _ => {
                // A list of one name is about that object.
                let mut target = call.target.clone();
                if target.name.is_empty() && call.verb != "create" {
                    target.name = selector::one_name(call.query.get("fieldSelector")).unwrap_or_default();
                }
                call.user.check(call.verb, &target)?;
            }
        }
        if call.target.subresource == "token" {
            return self.grant(call).await;
        }
        if call.verb == "watch" {
            let permit =
                Arc::clone(&self.watches).try_acquire_owned().map_err(|_| Refusal::TooManyRequests {
                    message: "too many watches, please try again later".to_owned(),
                    retry_after: 1,
                })?;
            return watch::open(&self.store, &call, events_max, permit);
        }
        objects::answer(&self.store, call).await
    }

    /// Gives the token of a service account to who may have it.
    async fn grant(&self, call: Call) -> Result<Response<Body>, Refusal> {
        if call.verb != "create" {
            return Err(Refusal::MethodNotAllowed);
        }
        let asked = read_json(call.request).await?;
        let granted = token::grant(&self.store, &call.target, &asked)?;
        Ok(respond::json(http::StatusCode::CREATED, &granted))
    }

    async fn pod_request(&self, call: Call) -> Result<Response<Body>, Refusal> {
        let Call { target, query, request, .. } = call;
        let key = ObjectKey::new(target.resource, target.namespace_or_empty(), &target.name);
        let missing = || Refusal::NotFound { resource: target.resource, name: target.name.clone() };
        let pod = self.store.get(&key).ok_or_else(missing)?;
        let is_placed = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
        if !is_placed && target.subresource != "log" {
            return Err(Refusal::BadRequest(format!("pod {} does not have a host assigned", target.name)));
        }
        let io = self.pod_io.as_ref().ok_or_else(|| {
            Refusal::Internal("error dialing backend: no kubelet runs in this cluster".to_owned())
        })?;
        let handed = PodRequest { pod, query: query.0, request };
        Ok(match target.subresource.as_str() {
            "exec" => io.exec(handed).await,
            "portforward" => io.port_forward(handed).await,
            _ => io.log(handed).await,
        })
    }
}

/// Reads a body, within bounds of size and time.
async fn read_body(request: Request<Incoming>) -> Result<bytes::Bytes, Refusal> {
    let collect = Limited::new(request.into_body(), REQUEST_BODY_MAX).collect();
    match tokio::time::timeout(REQUEST_BODY_WITHIN, collect).await {
        Err(_) => Err(Refusal::Timeout("Timeout: the request body did not arrive in time".to_owned())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge(REQUEST_BODY_MAX)),
        Ok(Err(_)) => Err(Refusal::BadRequest("the request body broke off".to_owned())),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// Reads a body that is JSON.
async fn read_json(request: Request<Incoming>) -> Result<Value, Refusal> {
    let kind = request.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.contains("protobuf") || kind.contains("cbor")) {
        return Err(Refusal::UnsupportedMediaType("application/json".to_owned()));
    }
    let body = read_body(request).await?;
    let value = serde_json::from_slice(&body).map_err(|error| {
        Refusal::BadRequest(format!("couldn't get version/kind; json parse error: {error}"))
    })?;
    if patch::is_too_deep(&value) {
        return Err(Refusal::BadRequest("the object is nested too deeply".to_owned()));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
