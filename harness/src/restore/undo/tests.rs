use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::Undoing;
use crate::cluster::access::Access;
use crate::cluster::faults::scale::Scale;
use crate::cluster::lease::Holder;
use crate::cluster::mutation::{Kubectl, Mutation};
use crate::cluster::record::{Found, Record};
use crate::environment::ObjectName;
use crate::restore::Restored;

const RUN: &str = "20261123T004551Z-0a1b2c";

/// What becomes of a count once it was scaled back.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// Somebody makes it 3.
    Changed,
    /// Somebody makes it 0, as it was.
    TakenDown,
    /// Somebody deletes the Deployment.
    Gone,
}

fn answer(request: &Request, replicas: &mut Option<i64>, then: Then) -> ResponseTemplate {
    let path = request.url.path();
    let body = || serde_json::from_slice::<Value>(&request.body).unwrap();
    let none = json!({ "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "none" });
    if path.contains("configmaps") && request.method.as_str() == "PUT" {
        return ResponseTemplate::new(200).set_body_json(body());
    }
    let metadata = json!({ "name": "vllm", "namespace": "ml", "uid": "u1", "resourceVersion": "7", "managedFields": [
        { "manager": "argocd-controller", "operation": "Apply", "time": "2026-01-02T00:00:00Z",
          "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
        { "manager": "helm", "operation": "Update", "time": "2026-01-01T00:00:00Z",
          "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
    ] });
    let Some(count) = *replicas else { return ResponseTemplate::new(404).set_body_json(none) };
    if path.ends_with("/scale") {
        let scale = |count| {
            json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
                "spec": { "replicas": count }, "status": { "replicas": count },
            })
        };
        if request.method.as_str() == "PATCH" {
            *replicas = match then {
                Then::Changed => Some(3),
                Then::TakenDown => Some(0),
                Then::Gone => None,
            };
            return ResponseTemplate::new(200).set_body_json(scale(2));
        }
        return ResponseTemplate::new(200).set_body_json(scale(count));
    }
    if path.contains("deployments") {
        return ResponseTemplate::new(200).set_body_json(json!({
            "kind": "Deployment", "apiVersion": "apps/v1", "metadata": metadata,
            "spec": { "replicas": count, "selector": {}, "template": {} }, "status": {},
        }));
    }
    // The record is as it was listed.
    ResponseTemplate::new(503)
}

async fn restored(then: Then) -> Restored {
    restored_from(0, then, |_, _| {}).await
}

/// The same from another count, and with another record or somebody else who undoes it.
async fn restored_from(count: i64, then: Then, with: impl FnOnce(&mut Record, &mut Undoing<'_>)) -> Restored {
    let server = MockServer::start().await;
    let replicas = Arc::new(Mutex::new(Some(count)));
    let answered = move |request: &Request| answer(request, &mut replicas.lock().unwrap(), then);
    Mock::given(any()).respond_with(answered).mount(&server).await;
    let access = Access::to_server(&server.uri()).await;
    let environment = crate::input::environment("local").unwrap();
    let now = Timestamp::now();
    let mut record = Record::new(RUN, "home", "attic", None, now, now);
    let deployment = ObjectName::new("ml", "vllm");
    let scale = Mutation::Scale(Scale { deployment, uid: "u1".into(), replicas: 2 });
    record.intend(&scale, &Kubectl::new(None)).unwrap();
    let by = Holder::here("run-9", "run");
    let mut undoing = Undoing::new(&access, &environment, Kubectl::new(None), &by, &|_| {});
    undoing.tries = Duration::from_secs(4);
    undoing.settles = Duration::from_secs(3);
    undoing.wait = Some(Duration::from_secs(2));
    with(&mut record, &mut undoing);
    let name = Record::name("ml", RUN);
    let found = Found { name, uid: "u1".into(), version: "7".into(), run: RUN.into(), record: Ok(record) };
    undoing.undo(&found).await
}

#[tokio::test]
async fn a_clock_that_was_ahead_keeps_nothing_open_for_whoever_holds_the_lock_and_has_waited() {
    let ahead = |record: &mut Record| record.changes[0].intended_at = Some("2999-01-01T00:00:00Z".to_owned());
    let unlocked = restored_from(2, Then::Changed, |record, _| ahead(record)).await;
    assert!(unlocked.notes.iter().any(|note| note.contains("may still come through")), "{unlocked:?}");
    assert!(unlocked.undone.is_empty(), "{unlocked:?}");
    let locked = restored_from(2, Then::Changed, |record, undoing| {
        ahead(record);
        undoing.alone = Some(|_| Duration::from_millis(100));
        undoing.wait = Some(Duration::ZERO);
    });
    let locked = locked.await;
    assert_eq!((locked.undone.len(), locked.notes.len()), (1, 0), "{locked:?}");
}

#[tokio::test]
async fn whoever_changes_what_was_just_scaled_back_is_named_and_it_is_theirs() {
    let restored = restored(Then::Changed).await;
    assert!(restored.is_complete(), "its pods are theirs, too: {restored:?}");
    let told = format!(
        "deployments/scale ml/vllm was undone, and has been changed by argocd-controller since: 3 pods (run {RUN})"
    );
    assert!(restored.notes.contains(&told), "{restored:?}");
}

#[tokio::test]
async fn what_was_just_scaled_back_and_is_taken_down_again_is_theirs() {
    let restored = restored(Then::TakenDown).await;
    assert!(restored.is_complete(), "nobody is fought: {restored:?}");
    let told = format!(
        "deployments/scale ml/vllm was undone, and has been changed by argocd-controller since: as the run had left it \
         (run {RUN})"
    );
    assert!(restored.notes.contains(&told), "{restored:?}");
}

#[tokio::test]
async fn a_deployment_that_is_gone_once_it_was_scaled_back_is_not_waited_for() {
    let restored = restored(Then::Gone).await;
    assert!(restored.is_complete(), "{restored:?}");
    let told = format!(
        "deployments/scale ml/vllm was undone, and is not as it was before any more: the Deployment is gone; by whom is \
         not known (run {RUN})"
    );
    assert!(restored.notes.contains(&told), "{restored:?}");
}
