//! Applications of Argo CD, some of which may not be read.

use std::collections::BTreeSet;

use harness::cluster::opponents::{Reading, judge, look};
use harness::environment::ObjectName;
use serde_json::{Value, json};

use crate::{Api, answer, refusal};

/// A cluster with Argo CD, where the Applications of `ml` may be read alone: one with these resources.
async fn only_ml(resources: Value) -> Api {
    let application = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
        "metadata": { "name": "other", "namespace": "ml" }, "spec": {}, "status": { "resources": resources },
    });
    Api::start(move |request| match request.url.path() {
        "/apis/apps/v1/namespaces/ml/deployments/vllm" => answer(
            200,
            &json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {
                    "name": "vllm", "namespace": "ml", "labels": { "app.kubernetes.io/instance": "models" },
                },
            }),
        ),
        "/apis/argoproj.io/v1alpha1" => answer(
            200,
            &json!({
                "apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "argoproj.io/v1alpha1",
                "resources": [{
                    "name": "applications", "singularName": "application", "namespaced": true,
                    "kind": "Application", "verbs": ["list"],
                }],
            }),
        ),
        "/apis/argoproj.io/v1alpha1/namespaces/ml/applications" => answer(
            200,
            &json!({
                "apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationList", "metadata": {},
                "items": [application],
            }),
        ),
        path if path.ends_with("/applications") => refusal(403, "Forbidden", "not you"),
        _ => refusal(404, "NotFound", "no such thing"),
    })
    .await
}

#[tokio::test]
async fn an_application_of_something_else_does_not_stand_for_those_that_may_not_be_read() {
    let of = |name: &str| json!([{ "kind": "Deployment", "namespace": "ml", "name": name }]);
    for (resources, is_known) in [(of("vllm"), true), (of("grafana"), false), (json!([]), false)] {
        let api = only_ml(resources.clone()).await;
        let seen = look(&api.access().await, &ObjectName::new("ml", "vllm")).await.unwrap();
        assert_eq!(matches!(seen.applications, Reading::Known(_)), is_known, "{resources}");
        let verdict = judge(&seen, &BTreeSet::new(), &BTreeSet::new());
        let is_open =
            verdict.refusals.iter().any(|refusal| refusal.reason.contains("may be kept by Argo CD"));
        assert_eq!(is_open, !is_known, "{resources}: {verdict:?}");
    }
}
