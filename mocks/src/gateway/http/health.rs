//! `/health`: a real chat of a few tokens with every deployment, all at once, past the router.

use std::time::Duration;

use futures::future::join_all;
use http::Response;
use rand::RngExt;
use serde_json::{Map, Value, json};

use super::query::Query;
use crate::gateway::Shared;
use crate::gateway::config::{Deployment, RequestOverrides};
use crate::gateway::drive::check_deployment;
use crate::gateway::failure::Failure;
use crate::gateway::provider;
use crate::gateway::responses::{Body, json_reply};

/// How long a check may take unless the deployment's `model_info` says otherwise.
const CHECK_LIMIT: Duration = Duration::from_secs(60);
/// Tokens that a check asks for.
const CHECK_TOKENS: u32 = 16;
/// What a check asks, one or the other.
const QUESTIONS: [&str; 2] = ["Hey how's it going?", "What's 1 + 1?"];
/// Longest error text.
const ERROR_CHARS: usize = 1000;

pub(super) async fn page(shared: &Shared, query: &Query) -> Response<Body> {
    let config = &shared.config;
    let named = query.some("model");
    let wanted: Vec<usize> = match (query.some("model_id"), named) {
        (Some(id), _) => {
            let found: Vec<usize> =
                config.deployments.iter().position(|deployment| deployment.id == id).into_iter().collect();
            if found.is_empty() {
                let error = format!("Model with ID {id} not found");
                return json_reply(404, &json!({ "detail": { "error": error } }));
            }
            found
        }
        (None, Some(name)) => {
            let members: Vec<usize> = config.members(config.router.aliased(name)).collect();
            let by_model =
                |(index, deployment): (usize, &Deployment)| (deployment.model == name).then_some(index);
            if members.is_empty() {
                config.deployments.iter().enumerate().filter_map(by_model).collect()
            } else {
                members
            }
        }
        // An empty name is a name that nothing has, though nobody counts it as one.
        (None, None) if query.get("model").is_some() => Vec::new(),
        (None, None) => (0..config.deployments.len()).collect(),
    };
    let targeted = named.is_some() || query.some("model_id").is_some();
    let checks =
        join_all(wanted.iter().map(|index| check(shared, &config.deployments[*index], *index))).await;
    let (mut healthy, mut unhealthy) = (Vec::new(), Vec::new());
    for (is_healthy, entry) in checks {
        if is_healthy { healthy.push(entry) } else { unhealthy.push(entry) }
    }
    let status = if targeted && healthy.is_empty() { 503 } else { 200 };
    let body = json!({
        "healthy_endpoints": &healthy, "unhealthy_endpoints": &unhealthy,
        "healthy_count": healthy.len(), "unhealthy_count": unhealthy.len(),
    });
    json_reply(status, &body)
}

/// One check: whether the deployment is healthy, and what the page says of it.
async fn check(shared: &Shared, deployment: &Deployment, index: usize) -> (bool, Value) {
    let question = {
        let mut chance = shared.chance.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        QUESTIONS[usize::from(chance.random::<bool>())]
    };
    let body = json!({ "messages": [{ "role": "user", "content": question }], "max_tokens": CHECK_TOKENS });
    let Value::Object(body) = body else { return (false, Value::Null) };
    let seconds = deployment.model_info.get("health_check_timeout").and_then(Value::as_f64);
    let limit = seconds
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map_or(CHECK_LIMIT, |limit| limit.min(CHECK_LIMIT * 60));
    let phase = shared.config.attempt_timeout(index, false, &RequestOverrides::default());
    let outcome = tokio::time::timeout(limit, check_deployment(shared, deployment, &body, phase)).await;
    let mut entry = Map::new();
    entry.insert("api_base".into(), deployment.api_base.as_str().into());
    entry.insert("model".into(), deployment.model.as_str().into());
    let status = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => {
            entry
                .insert("error".into(), failure.message.chars().take(ERROR_CHARS).collect::<String>().into());
            entry.insert("raw_request_typed_dict".into(), raw_request(deployment, &body));
            Some(status_of(&failure))
        }
        Err(_) => {
            entry.insert("error".into(), "Timeout exceeded".into());
            Some(408)
        }
    };
    entry.insert("model_id".into(), deployment.id.as_str().into());
    if let Some(status) = status {
        entry.insert("exception_status".into(), status.into());
    }
    (status.is_none(), Value::Object(entry))
}

fn status_of(failure: &Failure) -> u16 {
    failure.status_before_forcing.unwrap_or(failure.status)
}

/// The request as it went to the upstream, without its key.
fn raw_request(deployment: &Deployment, body: &Map<String, Value>) -> Value {
    let request = provider::request(deployment, body, false).ok();
    let url = request.as_ref().map(|request| request.uri.to_string());
    let body: Option<Value> = request.and_then(|request| serde_json::from_slice(&request.body).ok());
    json!({ "raw_request_api_base": url, "raw_request_body": body, "raw_request_headers": {}, "error": null })
}
