//! What a client learns of the server before it asks for objects: version, groups, kinds, and as much OpenAPI as
//! kubectl needs to leave validation to the server.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::respond;
use crate::kubernetes::pod_io::Body;
use crate::kubernetes::resources::{ALL, CrdGroup, Resource};

/// The version that the mock's behaviour was measured on.
const MINOR: &str = "36";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Pages that need no token.
pub(super) fn open<B>(request: &Request<B>) -> Option<Response<Body>> {
    match request.uri().path() {
        "/healthz" | "/livez" | "/readyz" => {
            Some(respond::complete(StatusCode::OK, "text/plain; charset=utf-8", "ok"))
        }
        "/version" => Some(respond::json(StatusCode::OK, &version())),
        _ => None,
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": MINOR, "gitVersion": format!("v1.{MINOR}.0+mock"), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
}

/// Discovery; none for what is nowhere.
pub(super) fn answer<B>(request: &Request<B>, crds: &[CrdGroup]) -> Option<Response<Body>> {
    let path = request.uri().path().trim_end_matches('/');
    let steps: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wants_all = accept.contains("as=APIGroupDiscoveryList") && accept.contains("v=v2;");
    let found = match steps.as_slice() {
        ["api"] if wants_all => return Some(aggregated(crds, true)),
        ["apis"] if wants_all => return Some(aggregated(crds, false)),
        ["api"] => json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        ["apis"] => {
            let groups: Vec<Value> =
                groups(crds).into_iter().map(|(group, version)| api_group(group, version)).collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        }
        ["api", "v1"] => resource_list("", "v1", crds)?,
        ["apis", group] => {
            let (group, version) = groups(crds).into_iter().find(|(known, _)| known == group)?;
            let mut found = api_group(group, version);
            found["kind"] = "APIGroup".into();
            found["apiVersion"] = "v1".into();
            found
        }
        ["apis", group, version] => resource_list(group, version, crds)?,
        ["openapi", "v2"] => {
            // A document without a single definition: whoever validates by it has nothing to object to.
            let mut response = respond::complete(StatusCode::OK, "application/json", Bytes::new());
            response.headers_mut().insert("content-type", HeaderValue::from_static(OPENAPI_V2));
            return Some(response);
        }
        ["openapi", "v3"] => openapi_index(crds),
        ["openapi", "v3", "api", "v1"] => openapi("", "v1", crds),
        ["openapi", "v3", "apis", group, version] => openapi(group, version, crds),
        _ => return None,
    };
    Some(respond::json(StatusCode::OK, &found))
}

fn present<'a>(crds: &'a [CrdGroup]) -> impl Iterator<Item = &'static Resource> + 'a {
    ALL.iter().copied().filter(|resource| resource.crd.is_none_or(|crd| crds.contains(&crd)))
}

/// The groups but the core group, with their versions, in the order of discovery.
fn groups(crds: &[CrdGroup]) -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<(&str, &str)> = Vec::new();
    for resource in present(crds).filter(|resource| !resource.group.is_empty()) {
        let group = (resource.group, resource.version);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups.push(("authorization.k8s.io", "v1"));
    groups
}

fn api_group(group: &str, version: &str) -> Value {
    let version = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn verbs_of(subresource: &str) -> &'static [&'static str] {
    match subresource {
        "exec" | "portforward" => &["create", "get"],
        "log" => &["get"],
        "token" => &["create"],
        _ => &["get", "patch", "update"],
    }
}

/// Group, version and kind of what a subresource speaks.
fn kind_of(resource: &Resource, subresource: &str) -> (&'static str, &'static str, &'static str) {
    match subresource {
        "scale" => ("autoscaling", "v1", "Scale"),
        "exec" => ("", "v1", "PodExecOptions"),
        "portforward" => ("", "v1", "PodPortForwardOptions"),
        "token" => ("authentication.k8s.io", "v1", "TokenRequest"),
        _ => (resource.group, resource.version, resource.kind),
    }
}

fn resource_list(group: &str, version: &str, crds: &[CrdGroup]) -> Option<Value> {
    let mut all: Vec<Value> = Vec::new();
    for resource in present(crds).filter(|resource| (resource.group, resource.version) == (group, version)) {
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": VERBS,
        });
        if !resource.short.is_empty() {
            entry["shortNames"] = resource.short.into();
        }
        if resource.in_all {
            entry["categories"] = json!(["all"]);
        }
        all.push(entry);
        for subresource in resource.subresources {
            let (group, version, kind) = kind_of(resource, subresource);
            let mut entry = json!({
                "name": format!("{}/{subresource}", resource.plural), "singularName": "",
                "namespaced": resource.namespaced,
            });
            if ["scale", "token"].contains(subresource) {
                entry["group"] = group.into();
                entry["version"] = version.into();
            }
            entry["kind"] = kind.into();
            entry["verbs"] = verbs_of(subresource).into();
            all.push(entry);
        }
    }
    if (group, version) == ("authorization.k8s.io", "v1") {
        for (name, kind) in REVIEWS {
            all.push(json!({ "name": name, "singularName": "", "namespaced": false, "kind": kind, "verbs": ["create"] }));
        }
    }
    if all.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": all }))
}

const REVIEWS: [(&str, &str); 2] = [
    ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
];

fn aggregated(crds: &[CrdGroup], core: bool) -> Response<Body> {
    let all = if core { vec![("", "v1")] } else { groups(crds) };
    let items: Vec<Value> =
        all.into_iter().map(|(group, version)| aggregated_group(group, version, crds)).collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    let mut response = respond::json(StatusCode::OK, &body);
    response.headers_mut().insert("content-type", HeaderValue::from_static(AGGREGATED));
    response
}

fn aggregated_group(group: &str, version: &str, crds: &[CrdGroup]) -> Value {
    let of_group = present(crds).filter(|resource| (resource.group, resource.version) == (group, version));
    let mut resources: Vec<Value> = of_group.map(aggregated_resource).collect();
    if group == "authorization.k8s.io" {
        resources.extend(REVIEWS.iter().map(|(name, kind)| {
            let kind = json!({ "group": group, "version": "v1", "kind": kind });
            json!({ "resource": name, "responseKind": kind, "scope": "Cluster", "singularResource": "", "verbs": ["create"] })
        }));
    }
    let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
    json!({
        "metadata": metadata,
        "versions": [{ "version": version, "resources": resources, "freshness": "Current" }],
    })
}

fn aggregated_resource(resource: &'static Resource) -> Value {
    let kind = |(group, version, kind): (&str, &str, &str)| json!({ "group": group, "version": version, "kind": kind });
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind((resource.group, resource.version, resource.kind)),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": VERBS,
    });
    if !resource.short.is_empty() {
        entry["shortNames"] = resource.short.into();
    }
    if resource.in_all {
        entry["categories"] = json!(["all"]);
    }
    let below = resource.subresources.iter().map(|subresource| {
        json!({
            "subresource": subresource, "responseKind": kind(kind_of(resource, subresource)),
            "verbs": verbs_of(subresource),
        })
    });
    let below: Vec<Value> = below.collect();
    if !below.is_empty() {
        entry["subresources"] = below.into();
    }
    entry
}

fn openapi_index(crds: &[CrdGroup]) -> Value {
    let mut paths = json!({ "api/v1": { "serverRelativeURL": "/openapi/v3/api/v1?hash=mock" } });
    for (group, version) in groups(crds) {
        let path = format!("apis/{group}/{version}");
        paths[&path] = json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash=mock") });
    }
    json!({ "paths": paths })
}

/// Says of each kind that a patch takes `fieldValidation` and `fieldManager`, and no more.
fn openapi(group: &str, version: &str, crds: &[CrdGroup]) -> Value {
    let prefix =
        if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let mut paths = json!({});
    for resource in present(crds).filter(|resource| (resource.group, resource.version) == (group, version)) {
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let parameter = |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string" } });
        paths[format!("{prefix}{scope}/{}/{{name}}", resource.plural)] = json!({ "patch": {
            "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation"), parameter("force")],
            "responses": {},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": { "group": group, "version": version, "kind": resource.kind },
        } });
    }
    json!({ "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": "v1.36.0" }, "paths": paths, "components": { "schemas": {} } })
}
