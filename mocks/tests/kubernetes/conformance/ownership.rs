//! Scale, apply, and who owns what. All of it was measured on a real API server.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::ground::{Ground, deployment, owners};

const APPS: &str = "apis/apps/v1";
const REPLICAS: &str = "/f:spec/f:replicas";

#[tokio::test]
async fn scaling_to_zero_leaves_the_count_without_an_owner_and_scaling_back_records_none() {
    let ground = Ground::find("scale-owners").await;
    let name = ground.name("d");
    let made = ground.deployment(&name, 1).await;
    assert_eq!(owners(&made, REPLICAS), ["conformance/Update/"]);
    for kind in ["merge", "strategic-merge"] {
        let scale = format!("deployments/{name}/scale");
        ground.patch(APPS, &scale, kind, &json!({ "spec": { "replicas": 1 } })).await;
        let (code, scaled) = ground.patch(APPS, &scale, kind, &json!({ "spec": { "replicas": 2 } })).await;
        assert_eq!(code, 200, "{scaled}");
        let (_, found) = ground.get(APPS, &format!("deployments/{name}")).await;
        if kind == "merge" {
            assert_eq!(owners(&found, REPLICAS), ["conformance/Update/scale"]);
        }
        let (code, scaled) = ground.patch(APPS, &scale, kind, &json!({ "spec": { "replicas": 0 } })).await;
        assert_eq!(code, 200, "{scaled}");
        assert_eq!(scaled["spec"], json!({}), "a count of 0 is left out");
        let (_, found) = ground.get(APPS, &format!("deployments/{name}")).await;
        assert_eq!(found["spec"]["replicas"], 0);
        assert!(owners(&found, REPLICAS).is_empty(), "{found}");
        ground.patch(APPS, &scale, kind, &json!({ "spec": { "replicas": 3 } })).await;
        let (_, found) = ground.get(APPS, &format!("deployments/{name}")).await;
        assert_eq!(found["spec"]["replicas"], 3);
        assert!(owners(&found, REPLICAS).is_empty(), "{found}");
    }
    // The Deployment itself records who writes it, to 0 as well.
    let patch = json!({ "spec": { "replicas": 0 } });
    let (_, found) = ground.patch(APPS, &format!("deployments/{name}"), "merge", &patch).await;
    assert_eq!(owners(&found, REPLICAS), ["conformance/Update/"]);
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn a_scale_stands_for_its_parent() {
    let ground = Ground::find("scale-parent").await;
    let name = ground.name("d");
    let made = ground.deployment(&name, 2).await;
    let api = ground.api::<Deployment>();
    let scale = api.get_scale(&name).await.unwrap();
    assert_eq!(scale.metadata.uid.as_deref(), made["metadata"]["uid"].as_str());
    assert_eq!(scale.spec.as_ref().unwrap().replicas, Some(2));
    assert_eq!(scale.status.unwrap().selector, Some(format!("app={name}")));
    let (_, raw) = ground.get(APPS, &format!("deployments/{name}/scale")).await;
    assert_eq!((&raw["kind"], &raw["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    // By a whole Scale too.
    let put = loop {
        let mut whole = api.get_scale(&name).await.unwrap();
        whole.spec.as_mut().unwrap().replicas = Some(4);
        match api.replace_scale(&name, &kube::api::PostParams::default(), &whole).await {
            // The controller wrote into the status meanwhile.
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            other => break other.unwrap(),
        }
    };
    assert_eq!(put.spec.unwrap().replicas, Some(4));
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn a_scale_with_a_stale_version_is_a_conflict_even_after_a_mere_annotation_or_status() {
    let ground = Ground::find("scale-stale").await;
    let name = ground.name("d");
    ground.deployment(&name, 1).await;
    let api = ground.api::<Deployment>();
    let to_zero =
        |version: &str| json!({ "metadata": { "resourceVersion": version }, "spec": { "replicas": 0 } });
    for (below, change) in [
        ("", json!({ "metadata": { "annotations": { "a": "b" } } })),
        ("/status", json!({ "status": { "collisionCount": 1 } })),
    ] {
        let before = api.get_scale(&name).await.unwrap().metadata.resource_version.unwrap();
        let (code, changed) =
            ground.patch(APPS, &format!("deployments/{name}{below}"), "merge", &change).await;
        assert_eq!(code, 200, "{changed}");
        let stale = api.patch_scale(&name, &PatchParams::default(), &Patch::Merge(to_zero(&before))).await;
        let Err(kube::Error::Api(status)) = stale else { panic!("{stale:?}") };
        assert!(status.is_conflict(), "{status:?}");
        assert!(status.message.contains("the object has been modified"), "{status:?}");
    }
    // Nothing but this test writes to a paused Deployment once its controller has looked at it.
    let fresh = loop {
        let version = api.get_scale(&name).await.unwrap().metadata.resource_version.unwrap();
        match api.patch_scale(&name, &PatchParams::default(), &Patch::Merge(to_zero(&version))).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            other => break other.unwrap(),
        }
    };
    assert_eq!(fresh.spec.unwrap().replicas, None);
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn an_apply_takes_back_a_count_that_nobody_owns_without_a_conflict() {
    let ground = Ground::find("apply-after").await;
    let name = ground.name("d");
    let path = format!("deployments/{name}?fieldManager=argocd-controller");
    let (code, made) = ground.patch(APPS, &path, "apply", &deployment(&name, 3)).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(owners(&made, REPLICAS), ["argocd-controller/Apply/"]);
    let scale = format!("deployments/{name}/scale");
    ground.patch(APPS, &scale, "merge", &json!({ "spec": { "replicas": 0 } })).await;
    let (code, applied) = ground.patch(APPS, &path, "apply", &deployment(&name, 3)).await;
    assert_eq!(code, 200, "{applied}");
    assert_eq!(applied["spec"]["replicas"], 3);
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn an_apply_over_another_owner_is_a_conflict_that_names_them_unless_forced() {
    let ground = Ground::find("apply-conflict").await;
    let name = ground.name("d");
    ground.deployment(&name, 1).await;
    let path = format!("deployments/{name}?fieldManager=other");
    let (code, refused) = ground.patch(APPS, &path, "apply", &deployment(&name, 2)).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")), "{refused}");
    let causes = refused["details"]["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "{refused}");
    assert_eq!(causes[0]["reason"], "FieldManagerConflict");
    assert_eq!(causes[0]["field"], ".spec.replicas");
    assert!(causes[0]["message"].as_str().unwrap().contains("conflict with \"conformance\""), "{refused}");
    let (code, applied) =
        ground.patch(APPS, &format!("{path}&force=true"), "apply", &deployment(&name, 2)).await;
    assert_eq!(code, 200, "{applied}");
    assert_eq!(owners(&applied, REPLICAS), ["other/Apply/"]);
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn the_last_owner_that_lets_go_of_the_count_resets_it_to_one() {
    let ground = Ground::find("apply-release").await;
    let name = ground.name("d");
    let path = format!("deployments/{name}?fieldManager=other");
    ground.patch(APPS, &path, "apply", &deployment(&name, 4)).await;
    let mut without = deployment(&name, 4);
    without["spec"].as_object_mut().unwrap().shift_remove("replicas");
    let (code, applied) = ground.patch(APPS, &path, "apply", &without).await;
    assert_eq!(code, 200, "{applied}");
    assert_eq!(applied["spec"]["replicas"], 1);
    assert!(owners(&applied, REPLICAS).is_empty());
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn an_apply_needs_a_manager_and_force_needs_an_apply() {
    let ground = Ground::find("apply-params").await;
    let name = ground.name("d");
    let path = ground.path(APPS, &format!("deployments/{name}"));
    let kind = "application/apply-patch+yaml";
    let (code, refused) = ground.send("PATCH", &path, kind, &deployment(&name, 1)).await;
    assert_eq!(code, 422, "{refused}");
    let forced = format!("{path}?force=true");
    let (code, refused) = ground.send("PATCH", &forced, "application/merge-patch+json", &json!({})).await;
    assert_eq!(code, 422, "{refused}");
    let (code, refused) = ground.send("PATCH", &path, "text/plain", &json!({})).await;
    assert_eq!((code, &refused["reason"]), (415, &json!("UnsupportedMediaType")), "{refused}");
    ground.leave::<Deployment>(&[&name]).await;
}
