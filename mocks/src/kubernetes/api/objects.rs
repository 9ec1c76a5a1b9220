//! Reading and writing objects.

use std::sync::Arc;

use http::header::USER_AGENT;
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use super::patch::PatchKind;
use super::request::{Query, Target};
use super::selector::Selector;
use super::table::Form;
use super::{Call, read_body, read_json, respond, scale, strict};
use crate::kubernetes::pod_io::Body;
use crate::kubernetes::refusal::{Cause, Refusal};
use crate::kubernetes::resources::{LEASES, NAMESPACES, PODS, Resource, SERVICE_ACCOUNTS, SERVICES};
use crate::kubernetes::rules::{ownership, shape};
use crate::kubernetes::store::{Deleted, Deletion, ObjectKey, Propagation, Store, Writer};

/// Most objects of one page, however many are asked for.
const PAGE_MAX: usize = 10_000;

/// The field manager of a request: what it says, else what its user agent begins with.
pub(super) fn manager(query: &Query, headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let agent = agent.split('/').next().unwrap_or_default();
    let named = query.get("fieldManager").unwrap_or(if agent.is_empty() { "unknown" } else { agent });
    named.chars().take(128).collect()
}

/// Carries out everything but watches and what goes into pods.
pub(super) async fn answer(store: &Store, call: Call) -> Result<Response<Body>, Refusal> {
    let Call { target, query, verb, request, .. } = call;
    let form = Form::read(request.headers(), &query)?;
    let manager = manager(&query, request.headers());
    let write =
        Write { store, target: &target, query: &query, manager: &manager, commit: !is_dry_run(&query)? };
    match verb {
        "get" => {
            let found = store.get(&write.key()).ok_or_else(|| write.missing())?;
            Ok(respond::json(StatusCode::OK, &form.one(target.resource, &write.shown(&found), store)))
        }
        "list" => list(store, &target, &query, &form),
        "create" => write.create(read_object(target.resource, request).await?),
        "update" => write.replace(read_object(target.resource, request).await?),
        "patch" => {
            let kind = PatchKind::read(request.headers(), target.resource.crd.is_some())?;
            let patch = match kind {
                PatchKind::Apply => read_json(request).await.map_err(as_applied)?,
                _ => read_json(request).await?,
            };
            write.patch(kind, &patch)
        }
        "delete" => {
            let deletion = read_deletion(&query, read_body(request).await?.as_ref())?;
            let deleted = store.delete(&write.key(), &deletion, &manager)?;
            Ok(respond::json(StatusCode::OK, &told_deleted(target.resource, &deleted)))
        }
        // All that is left is deletecollection.
        _ => {
            let deletion = read_deletion(&query, read_body(request).await?.as_ref())?;
            delete_all(store, &target, &query, &deletion, &manager)
        }
    }
}

fn as_applied(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::BadRequest(text) => {
            Refusal::BadRequest(format!("error decoding YAML: only JSON is understood: {text}"))
        }
        other => other,
    }
}

fn is_dry_run(query: &Query) -> Result<bool, Refusal> {
    match query.get("dryRun") {
        None => Ok(false),
        Some("All") => Ok(true),
        Some(other) => Err(Refusal::Unprocessable(format!(
            "dryRun: Unsupported value: \"{other}\": supported values: \"All\""
        ))),
    }
}

async fn read_object(
    resource: &'static Resource,
    request: http::Request<hyper::body::Incoming>,
) -> Result<Value, Refusal> {
    let kind = request.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or("application/json").split(';').next().unwrap_or_default().trim();
    if kind != "application/json" {
        return Err(Refusal::UnsupportedMediaType("application/json".to_owned()));
    }
    let object = read_json(request).await?;
    if !object.is_object() {
        return Err(Refusal::BadRequest(format!("the body is no {}", resource.kind)));
    }
    Ok(object)
}

/// A write, with all that its request says about it.
struct Write<'a> {
    store: &'a Store,
    target: &'a Target,
    query: &'a Query,
    manager: &'a str,
    commit: bool,
}

impl Write<'_> {
    fn key(&self) -> ObjectKey {
        ObjectKey::new(self.target.resource, self.target.namespace_or_empty(), &self.target.name)
    }

    fn missing(&self) -> Refusal {
        Refusal::NotFound { resource: self.target.resource, name: self.target.name.clone() }
    }

    fn writer(&self, records: bool) -> Writer<'_> {
        Writer { manager: self.manager, subresource: &self.target.subresource, records }
    }

    fn is_scale(&self) -> bool {
        self.target.subresource == "scale"
    }

    /// What of the object this path shows.
    fn shown(&self, object: &Arc<Value>) -> Arc<Value> {
        if self.is_scale() { Arc::new(scale::of(object)) } else { Arc::clone(object) }
    }

    fn answer(&self, code: StatusCode, object: &Arc<Value>, warnings: &[String]) -> Response<Body> {
        let mut response = respond::json(code, &self.shown(object));
        respond::warn(&mut response, warnings);
        response
    }

    fn create(&self, mut object: Value) -> Result<Response<Body>, Refusal> {
        if !self.target.subresource.is_empty() {
            return Err(Refusal::MethodNotAllowed);
        }
        self.check_body(&object, false)?;
        if object["metadata"]["resourceVersion"].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(Refusal::Internal(
                "resourceVersion should not be set on objects to be created".to_owned(),
            ));
        }
        let warnings = strict::check(self.target.resource, &mut object, self.query.get("fieldValidation"))?;
        let namespace = self.target.namespace_or_empty();
        let created =
            self.store.create_if(self.target.resource, namespace, object, self.writer(true), self.commit)?;
        Ok(self.answer(StatusCode::CREATED, &created, &warnings))
    }

    /// The body must be of the kind and at the place that the path says.
    fn check_body(&self, object: &Value, is_named: bool) -> Result<(), Refusal> {
        let (api_version, kind) = if self.is_scale() {
            ("autoscaling/v1".to_owned(), "Scale")
        } else {
            (self.target.resource.api_version(), self.target.resource.kind)
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (given_version, given_kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let differs = |given: &str, real: &str| !given.is_empty() && given != real;
        if differs(&given_version, &api_version) || differs(&given_kind, kind) {
            return Err(Refusal::BadRequest(format!(
                "{kind} in version \"{}\" cannot be handled as a {kind}: the object provided is {given_kind} of {given_version}",
                self.target.resource.version
            )));
        }
        if differs(&text(&object["metadata"]["namespace"]), self.target.namespace_or_empty())
            && self.target.namespace.is_some()
        {
            let message =
                "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Refusal::BadRequest(message.to_owned()));
        }
        let name = text(&object["metadata"]["name"]);
        if is_named && name != self.target.name {
            return Err(Refusal::BadRequest(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                self.target.name
            )));
        }
        Ok(())
    }

    fn replace(&self, mut object: Value) -> Result<Response<Body>, Refusal> {
        self.check_body(&object, true)?;
        let resource = self.target.resource;
        let warnings = if self.is_scale() {
            Vec::new()
        } else {
            strict::check(resource, &mut object, self.query.get("fieldValidation"))?
        };
        let is_unversioned = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().is_empty();
        if *resource == LEASES && is_unversioned && self.store.get(&self.key()).is_none() {
            // A lease may be made by an update.
            return self.create(object);
        }
        if is_unversioned && (*resource == LEASES || resource.crd.is_some()) {
            let message = "Invalid value: 0: must be specified for an update".to_owned();
            let cause =
                Cause { reason: "FieldValueInvalid", message, field: "metadata.resourceVersion".to_owned() };
            return Err(Refusal::Invalid { resource, name: self.target.name.clone(), causes: vec![cause] });
        }
        let change = |old: &mut Value| {
            if self.is_scale() {
                return scale::put(resource, old, &object);
            }
            if self.target.subresource == "ephemeralcontainers" {
                old["spec"]["ephemeralContainers"] = object["spec"]["ephemeralContainers"].clone();
                return Ok(());
            }
            *old = object;
            Ok(())
        };
        let updated = self.store.update_if(&self.key(), self.writer(true), change, self.commit)?;
        Ok(self.answer(StatusCode::OK, &updated, &warnings))
    }

    fn patch(&self, kind: PatchKind, patch: &Value) -> Result<Response<Body>, Refusal> {
        if kind == PatchKind::Apply {
            return self.apply(patch);
        }
        if self.query.get("force").is_some() {
            let message = "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for \
                           non-apply patch";
            return Err(Refusal::Unprocessable(message.to_owned()));
        }
        let mut warnings = Vec::new();
        let change = |object: &mut Value| {
            if self.is_scale() {
                let mut of_scale = scale::of(object);
                kind.change(&mut of_scale, patch)?;
                return scale::put(self.target.resource, object, &of_scale);
            }
            kind.change(object, patch)?;
            self.check_body(object, true)?;
            // After a patch, what is unknown makes an invalid object and no bad request.
            let checked = strict::check(self.target.resource, object, self.query.get("fieldValidation"));
            warnings = checked.map_err(|refusal| match refusal {
                Refusal::BadRequest(text) => Refusal::Unprocessable(text),
                other => other,
            })?;
            Ok(())
        };
        let updated = self.store.update_if(&self.key(), self.writer(true), change, self.commit)?;
        Ok(self.answer(StatusCode::OK, &updated, &warnings))
    }

    fn apply(&self, applied: &Value) -> Result<Response<Body>, Refusal> {
        if self.query.get("fieldManager").is_none() {
            let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for \
                           apply patch";
            return Err(Refusal::Unprocessable(message.to_owned()));
        }
        if !applied.is_object() || !applied["apiVersion"].is_string() || !applied["kind"].is_string() {
            return Err(Refusal::BadRequest(
                "apiVersion and kind must be set in an applied object".to_owned(),
            ));
        }
        self.check_body(applied, applied["metadata"]["name"].is_string())?;
        if applied["metadata"]["managedFields"].as_array().is_some_and(|all| !all.is_empty()) {
            return Err(Refusal::BadRequest("metadata.managedFields must be nil".to_owned()));
        }
        let applied = self.wanted(applied)?;
        let force = self.query.is_true("force");
        let now = self.store.clock().now();
        let writer = self.writer(false);
        let change = |object: &mut Value| {
            for field in ["uid", "resourceVersion"] {
                if applied["metadata"][field].is_string() {
                    object["metadata"][field] = applied["metadata"][field].clone();
                }
            }
            ownership::apply(object, &applied, writer, force, now)
        };
        if self.store.get(&self.key()).is_some() || !self.target.subresource.is_empty() {
            let updated = self.store.update_if(&self.key(), writer, change, self.commit)?;
            return Ok(self.answer(StatusCode::OK, &updated, &[]));
        }
        let resource = self.target.resource;
        let mut object = json!({
            "apiVersion": resource.api_version(), "kind": resource.kind, "metadata": { "name": self.target.name },
        });
        change(&mut object)?;
        let namespace = self.target.namespace_or_empty();
        let created = self.store.create_if(resource, namespace, object, writer, self.commit)?;
        Ok(self.answer(StatusCode::CREATED, &created, &[]))
    }

    /// What is applied, as the object itself would say it.
    fn wanted(&self, applied: &Value) -> Result<Value, Refusal> {
        let resource = self.target.resource;
        if self.is_scale() {
            return Ok(json!({
                "apiVersion": resource.api_version(), "kind": resource.kind,
                "metadata": { "name": self.target.name }, "spec": { "replicas": applied["spec"]["replicas"] },
            }));
        }
        shape::check(resource, applied)?;
        if let Some(field) = strict::unknown(resource, applied).first() {
            return Err(Refusal::Internal(format!(
                "failed to create typed patch object ({}/{}; {}, Kind={}): .{field}: field not declared in schema",
                self.target.namespace_or_empty(),
                self.target.name,
                resource.api_version(),
                resource.kind
            )));
        }
        Ok(applied.clone())
    }
}

/// Reads how to delete, from the body and, where that says nothing, from the query.
fn read_deletion(query: &Query, body: &[u8]) -> Result<Deletion, Refusal> {
    let options: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(body)
            .map_err(|error| Refusal::BadRequest(format!("the body is no DeleteOptions: {error}")))?
    };
    let asked = query.number("gracePeriodSeconds")?.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    let grace_seconds = options["gracePeriodSeconds"].as_i64().or(asked);
    if grace_seconds.is_some_and(|seconds| seconds < 0) {
        return Err(Refusal::BadRequest("gracePeriodSeconds must be 0 or greater".to_owned()));
    }
    let propagation = match options["propagationPolicy"].as_str().or(query.get("propagationPolicy")) {
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Orphan") => Some(Propagation::Orphan),
        Some(other) => {
            return Err(Refusal::Unprocessable(format!(
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"{other}\": \
                 supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            )));
        }
        None => None,
    };
    let precondition = |field: &str| options["preconditions"][field].as_str().map(str::to_owned);
    let asks_dry = options["dryRun"].as_array().is_some_and(|all| !all.is_empty());
    Ok(Deletion {
        grace_seconds,
        propagation,
        uid: precondition("uid"),
        resource_version: precondition("resourceVersion"),
        dry_run: asks_dry || is_dry_run(query)?,
    })
}

/// Some kinds are told whole when they go, the others only by name.
fn told_deleted(resource: &'static Resource, deleted: &Deleted) -> Value {
    match deleted {
        Deleted::Gone(object) if ![&PODS, &SERVICES, &SERVICE_ACCOUNTS, &NAMESPACES].contains(&resource) => {
            let metadata = &object["metadata"];
            let name = metadata["name"].as_str().unwrap_or_default();
            respond::deleted(resource.group, resource.plural, name, &metadata["uid"])
        }
        Deleted::Gone(object) | Deleted::Pending(object) => Value::clone(object),
    }
}

fn delete_all(
    store: &Store,
    target: &Target,
    query: &Query,
    deletion: &Deletion,
    manager: &str,
) -> Result<Response<Body>, Refusal> {
    let selector =
        Selector::read_for(target.resource, query.get("labelSelector"), query.get("fieldSelector"))?;
    let listed = store.list(target.resource, target.namespace.as_deref());
    let mut gone = Vec::new();
    for object in listed.items.iter().filter(|object| selector.fits(object)) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let key = ObjectKey::new(target.resource, text("namespace"), text("name"));
        match store.delete(&key, deletion, manager) {
            Ok(Deleted::Gone(object) | Deleted::Pending(object)) => gone.push(object),
            // Somebody else was first.
            Err(Refusal::NotFound { .. }) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(respond::json(
        StatusCode::OK,
        &listing(target.resource, &gone, json!({ "resourceVersion": store.version().to_string() })),
    ))
}

/// A list object. Items of built-in kinds do not say what they are.
pub(super) fn listing(resource: &'static Resource, items: &[Arc<Value>], metadata: Value) -> Value {
    let item = |object: &Arc<Value>| {
        let mut object = Value::clone(object);
        if resource.crd.is_none()
            && let Some(fields) = object.as_object_mut()
        {
            fields.shift_remove("kind");
            fields.shift_remove("apiVersion");
        }
        object
    };
    json!({
        "kind": format!("{}List", resource.kind),
        "apiVersion": resource.api_version(),
        "metadata": metadata,
        "items": items.iter().map(item).collect::<Vec<_>>(),
    })
}

fn list(store: &Store, target: &Target, query: &Query, form: &Form) -> Result<Response<Body>, Refusal> {
    let selector =
        Selector::read_for(target.resource, query.get("labelSelector"), query.get("fieldSelector"))?;
    let namespace = target.namespace.as_deref();
    let asked = query.number("resourceVersion")?;
    let (version, after) = match query.get("continue") {
        Some(token) => {
            let (version, after) = read_continue(token)?;
            (Some(version), Some(after))
        }
        None if query.get("resourceVersionMatch") == Some("Exact") => (asked, None),
        None => (None, None),
    };
    let listed = match version {
        Some(version) => {
            store.list_at(target.resource, namespace, version).map_err(|refusal| match refusal {
                Refusal::Expired { .. } if after.is_some() => Refusal::ContinueExpired,
                other => other,
            })?
        }
        None => store.list(target.resource, namespace),
    };
    if query.get("continue").is_none() && asked.is_some_and(|asked| asked > listed.version) {
        return Err(Refusal::Timeout(format!(
            "Too large resource version: {}, current: {}",
            asked.unwrap_or(0),
            listed.version
        )));
    }
    let place = |object: &Value| {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        (text("namespace"), text("name"))
    };
    let mut left = listed.items;
    left.retain(|object| after.as_ref().is_none_or(|after| place(object) > *after) && selector.fits(object));
    let limit =
        query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let page = left.len().min(limit.unwrap_or(PAGE_MAX).min(PAGE_MAX));
    let rest = left.split_off(page);
    let mut metadata = json!({ "resourceVersion": listed.version.to_string() });
    if let (false, Some(last)) = (rest.is_empty(), left.last()) {
        metadata["continue"] = write_continue(listed.version, &place(last)).into();
        if selector.is_empty() {
            metadata["remainingItemCount"] = rest.len().into();
        }
    }
    Ok(respond::json(StatusCode::OK, &form.many(target.resource, &left, metadata, store)))
}

/// A continue token: opaque to clients.
fn write_continue(version: u64, last: &(String, String)) -> String {
    json!([version, last.0, last.1]).to_string().bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn read_continue(token: &str) -> Result<(u64, (String, String)), Refusal> {
    let refuse = || Refusal::BadRequest("continue key is not valid: it is none of this server's".to_owned());
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = token.as_bytes().chunks(2).map(byte).collect();
    let (version, namespace, name) =
        serde_json::from_slice(&bytes.ok_or_else(refuse)?).map_err(|_| refuse())?;
    Ok((version, (namespace, name)))
}
