//! Those who set replicas besides us, and what their objects say to stop them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use mocks::kubernetes::controllers::Opponent;
use mocks::kubernetes::resources::{APPLICATIONS, KUSTOMIZATIONS, Resource, SCALED_OBJECTS};
use mocks::kubernetes::store::{ObjectKey, Writer};
use serde_json::{Value, json};

use tokio::time::timeout;

use crate::household::{Connect, Stage, options, start};

/// Three of the longest intervals of the fast timing: who has done nothing by then does nothing.
const INTERVALS: Duration = Duration::from_millis(900);

async fn with(opponent: Opponent) -> Stage {
    let mut options = options().await;
    options.stack.opponents = vec![opponent];
    start(options).await
}

async fn vllm(stage: &Stage) -> Deployment {
    stage.deployments().get("vllm").await.unwrap()
}

/// Scales to 0 and waits until somebody scales back. It must be this manager, where it writes the Deployment itself: a
/// scale from 0 names nobody.
async fn check_reverts(
    opponent: Opponent,
    manager: Option<&str>,
    resource: &'static Resource,
    name: &str,
    pause: Value,
) {
    let stage = with(opponent).await;
    stage.scale("vllm", 0).await;
    stage.eventually("replicas back", async || vllm(&stage).await.spec.unwrap().replicas == Some(1)).await;
    let fields = vllm(&stage).await.metadata.managed_fields.unwrap_or_default();
    let owns = fields.iter().any(|entry| {
        entry.manager.as_deref() == manager
            && entry.fields_v1.as_ref().is_some_and(|fields| fields.0["f:spec"]["f:replicas"].is_object())
    });
    assert_eq!(owns, manager.is_some(), "{manager:?}: {fields:?}");
    stage.eventually("vLLM back", async || stage.echoes("vllm", 8000).await).await;
    let key = ObjectKey::new(resource, "ml", name);
    let store = stage.household.cluster().store();
    store
        .update(&key, Writer::of_object("person"), |object| {
            for (field, value) in pause.as_object().unwrap() {
                match field.strip_prefix("annotation:") {
                    Some(annotation) => object["metadata"]["annotations"][annotation] = value.clone(),
                    None => object["spec"][field] = value.clone(),
                }
            }
            Ok(())
        })
        .unwrap();
    stage.scale("vllm", 0).await;
    stage.eventually("a refusal", async || stage.connect("vllm", 8000).await == Connect::Refused).await;
    let reverted =
        stage.eventually("a revert", async || vllm(&stage).await.spec.unwrap().replicas != Some(0));
    assert!(timeout(INTERVALS, reverted).await.is_err(), "it was paused");
    stage.shutdown().await;
}

#[tokio::test]
async fn keda_takes_zero_for_idle_unless_paused() {
    let pause = json!({ "annotation:autoscaling.keda.sh/paused-replicas": "0" });
    check_reverts(Opponent::Keda, None, &SCALED_OBJECTS, "vllm", pause).await;
}

#[tokio::test]
async fn argo_heals_unless_it_ignores_replicas() {
    let ignored = json!([{ "group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"] }]);
    let pause = json!({ "ignoreDifferences": ignored });
    check_reverts(Opponent::Argo, Some("argocd-controller"), &APPLICATIONS, "household", pause).await;
}

#[tokio::test]
async fn flux_applies_again_unless_suspended() {
    let pause = json!({ "suspend": true });
    check_reverts(Opponent::Flux, Some("kustomize-controller"), &KUSTOMIZATIONS, "household", pause).await;
}

#[tokio::test]
async fn an_autoscaler_leaves_zero_alone_and_says_so() {
    let stage = with(Opponent::Hpa).await;
    stage.scale("vllm", 0).await;
    let scalers = stage.api::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>();
    stage
        .eventually("scaling disabled", async || {
            let status = scalers.get("vllm").await.unwrap().status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            conditions
                .iter()
                .any(|told| told.reason.as_deref() == Some("ScalingDisabled") && told.status == "False")
        })
        .await;
    assert_eq!(vllm(&stage).await.spec.unwrap().replicas, Some(0));
    // Above its limit it acts.
    stage.scale("vllm", 5).await;
    stage.eventually("three pods", async || vllm(&stage).await.spec.unwrap().replicas == Some(3)).await;
    stage.shutdown().await;
}
