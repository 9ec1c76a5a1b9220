//! What becomes of objects whose owners go, and what other controllers say of what they see.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::ground::Ground;

fn map(name: &str, owner: Option<&Value>) -> Value {
    let mut map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
    if let Some(owner) = owner {
        map["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "blockOwnerDeletion": true,
            "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        }]);
    }
    map
}

#[tokio::test]
async fn what_belongs_to_what_is_gone_goes_too_even_if_it_comes_late() {
    let ground = Ground::find("collected").await;
    let (owner, owned, late) = (ground.name("owner"), ground.name("owned"), ground.name("late"));
    let made = ground.make("api/v1", "configmaps", &map(&owner, None)).await;
    ground.make("api/v1", "configmaps", &map(&owned, Some(&made))).await;
    ground.api::<ConfigMap>().delete(&owner, &DeleteParams::background()).await.unwrap();
    ground.wait::<ConfigMap>(&owned, "the owned one gone", |map| map.is_none()).await;
    ground.make("api/v1", "configmaps", &map(&late, Some(&made))).await;
    ground.wait::<ConfigMap>(&late, "the late one gone", |map| map.is_none()).await;
    ground.leave::<ConfigMap>(&[&owner, &owned, &late]).await;
}

#[tokio::test]
async fn an_orphan_stays_and_loses_its_owner() {
    let ground = Ground::find("orphaned").await;
    let (owner, owned) = (ground.name("owner"), ground.name("owned"));
    let made = ground.make("api/v1", "configmaps", &map(&owner, None)).await;
    ground.make("api/v1", "configmaps", &map(&owned, Some(&made))).await;
    ground.api::<ConfigMap>().delete(&owner, &DeleteParams::orphan()).await.unwrap();
    ground.wait::<ConfigMap>(&owner, "the owner gone", |map| map.is_none()).await;
    let left = ground.api::<ConfigMap>().get(&owned).await.unwrap();
    assert!(left.metadata.owner_references.unwrap_or_default().is_empty());
    ground.leave::<ConfigMap>(&[&owned]).await;
}

#[tokio::test]
async fn an_owner_in_the_foreground_goes_after_what_it_owns() {
    let ground = Ground::find("foreground").await;
    let (owner, owned) = (ground.name("owner"), ground.name("owned"));
    let made = ground.make("api/v1", "configmaps", &map(&owner, None)).await;
    let mut held = map(&owned, Some(&made));
    held["metadata"]["finalizers"] = json!(["failover.invalid/held"]);
    ground.make("api/v1", "configmaps", &held).await;
    ground.api::<ConfigMap>().delete(&owner, &DeleteParams::foreground()).await.unwrap();
    let is_ending = |map: Option<&ConfigMap>| map.is_none_or(|map| map.metadata.deletion_timestamp.is_some());
    let ending = ground.wait(&owned, "the owned one asked to go", is_ending).await;
    assert!(ending.is_some(), "a finalizer holds it");
    let waiting = ground.api::<ConfigMap>().get(&owner).await.unwrap().metadata;
    assert_eq!(waiting.finalizers, Some(vec!["foregroundDeletion".to_owned()]));
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    ground.api::<ConfigMap>().patch(&owned, &PatchParams::default(), &free).await.unwrap();
    ground.wait::<ConfigMap>(&owner, "the owner gone", |map| map.is_none()).await;
    ground.leave::<ConfigMap>(&[&owner, &owned]).await;
}

#[tokio::test]
async fn the_controller_of_a_deployment_says_how_far_it_has_come() {
    let ground = Ground::find("observed").await;
    let name = ground.name("d");
    ground.deployment(&name, 2).await;
    let has_seen = |generation: i64| {
        move |deployment: Option<&Deployment>| {
            let status = deployment.and_then(|deployment| deployment.status.as_ref());
            status.is_some_and(|status| status.observed_generation == Some(generation))
        }
    };
    ground.wait(&name, "a look at the Deployment", has_seen(1)).await;
    let (_, scaled) = ground
        .patch(
            "apis/apps/v1",
            &format!("deployments/{name}/scale"),
            "merge",
            &json!({ "spec": { "replicas": 0 } }),
        )
        .await;
    assert_eq!(scaled["spec"], json!({}), "{scaled}");
    let seen = ground.wait(&name, "a look at the change", has_seen(2)).await.unwrap();
    assert!(seen.status.unwrap().replicas.unwrap_or(0) == 0, "it is paused and has made no pods");
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn an_autoscaler_leaves_zero_alone_and_says_so() {
    let ground = Ground::find("autoscaler").await;
    let name = ground.name("d");
    ground.deployment(&name, 0).await;
    let scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": name },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "minReplicas": 1, "maxReplicas": 2,
            "metrics": [{
                "type": "Resource",
                "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 } },
            }],
        },
    });
    ground.make("apis/autoscaling/v2", "horizontalpodautoscalers", &scaler).await;
    let is_off = |scaler: Option<&HorizontalPodAutoscaler>| {
        let status = scaler.and_then(|scaler| scaler.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|condition| {
            condition.type_ == "ScalingActive"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("ScalingDisabled")
        })
    };
    ground.wait(&name, "an autoscaler that is off", is_off).await;
    assert_eq!(ground.api::<Deployment>().get(&name).await.unwrap().spec.unwrap().replicas, Some(0));
    ground.api::<HorizontalPodAutoscaler>().delete(&name, &DeleteParams::background()).await.unwrap();
    ground.leave::<Deployment>(&[&name]).await;
}
