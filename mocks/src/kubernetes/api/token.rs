//! TokenRequest: how somebody who may gets the token of a service account.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::access::account_token;
use super::request::Target;
use crate::kubernetes::clock::to_seconds;
use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::store::Store;

/// A token is asked for at least this long, as on the real server.
const SECONDS_MIN: i64 = 600;
const SECONDS_USUAL: i64 = 3600;
const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// The answer, with the token in it. Whatever it says of its end, the token ends with the account.
pub(super) fn grant(store: &Store, target: &Target, asked: &Value) -> Result<Value, Refusal> {
    let (namespace, name) = (target.namespace_or_empty(), target.name.as_str());
    let missing = || Refusal::NotFound { resource: target.resource, name: name.to_owned() };
    let token = account_token(store, namespace, name).ok_or_else(missing)?;
    if !asked.is_object() {
        return Err(Refusal::BadRequest("the body is no TokenRequest".to_owned()));
    }
    let seconds = asked["spec"]["expirationSeconds"].as_i64().unwrap_or(SECONDS_USUAL);
    if seconds < SECONDS_MIN {
        return Err(Refusal::Unprocessable(format!(
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: {seconds}: may \
             not specify a duration less than 10 minutes"
        )));
    }
    let now = store.clock().now();
    let end = now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    let audiences = asked["spec"]["audiences"].as_array().filter(|all| !all.is_empty());
    let audiences = audiences.cloned().unwrap_or_else(|| vec![AUDIENCE.into()]);
    Ok(json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": { "name": name, "namespace": namespace, "creationTimestamp": to_seconds(now) },
        "spec": { "audiences": audiences, "expirationSeconds": seconds },
        "status": { "token": token.expose(), "expirationTimestamp": to_seconds(end) },
    }))
}
