//! Generation, versions, names, deletion.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};

use crate::ground::Ground;

const APPS: &str = "apis/apps/v1";

fn config(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": "1" } })
}

#[tokio::test]
async fn the_generation_moves_with_specification_and_annotations_and_with_nothing_else() {
    let ground = Ground::find("generation").await;
    let name = ground.name("d");
    let made = ground.deployment(&name, 1).await;
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("deployments/{name}");
    for (patch, subresource, expected) in [
        (json!({ "spec": { "replicas": 2 } }), "", 2),
        (json!({ "spec": { "replicas": 2 } }), "", 2),
        (json!({ "metadata": { "labels": { "x": "y" } } }), "", 2),
        (json!({ "metadata": { "annotations": { "x": "y" } } }), "", 3),
        (json!({ "status": { "collisionCount": 1 } }), "/status", 3),
        (json!({ "status": { "collisionCount": 2 } }), "", 3),
    ] {
        let (code, found) = ground.patch(APPS, &format!("{path}{subresource}"), "merge", &patch).await;
        assert_eq!(code, 200, "{found}");
        assert_eq!(found["metadata"]["generation"], expected, "{patch}{subresource}");
    }
    let (_, found) = ground.get(APPS, &path).await;
    assert_ne!(found["status"]["collisionCount"], 2, "the object itself does not take a status");
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_version() {
    let ground = Ground::find("no-op").await;
    let name = ground.name("c");
    let (code, made) = ground.post("api/v1", "configmaps", &config(&name)).await;
    assert_eq!(code, 201, "{made}");
    let path = format!("configmaps/{name}");
    let (_, again) = ground.patch("api/v1", &path, "merge", &json!({ "data": { "a": "1" } })).await;
    assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let (_, changed) = ground.patch("api/v1", &path, "merge", &json!({ "data": { "a": "2" } })).await;
    assert_ne!(changed["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let version =
        |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(version(&changed) > version(&made));
    ground.leave::<ConfigMap>(&[&name]).await;
}

#[tokio::test]
async fn a_replacement_of_a_stale_version_is_a_conflict() {
    let ground = Ground::find("stale").await;
    let name = ground.name("c");
    let api = ground.api::<ConfigMap>();
    let made: ConfigMap = serde_json::from_value(config(&name)).unwrap();
    let made = api.create(&PostParams::default(), &made).await.unwrap();
    let patch = Patch::Merge(json!({ "data": { "b": "2" } }));
    api.patch(&name, &PatchParams::default(), &patch).await.unwrap();
    let refused = api.replace(&name, &PostParams::default(), &made).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert!(status.is_conflict(), "{status:?}");
    let mut unversioned = made.clone();
    unversioned.metadata.resource_version = None;
    let put = api.replace(&name, &PostParams::default(), &unversioned).await.unwrap();
    assert_eq!(put.metadata.uid, made.metadata.uid);
    assert_eq!(put.metadata.creation_timestamp, made.metadata.creation_timestamp);
    ground.leave::<ConfigMap>(&[&name]).await;
}

#[tokio::test]
async fn a_deletion_keeps_to_its_preconditions() {
    let ground = Ground::find("preconditions").await;
    let name = ground.name("c");
    let (_, made) = ground.post("api/v1", "configmaps", &config(&name)).await;
    let api = ground.api::<ConfigMap>();
    let with = |uid: &str, version: Option<&str>| {
        DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: version.map(str::to_owned),
        })
    };
    let uid = made["metadata"]["uid"].as_str().unwrap();
    for wrong in [with("00000000-0000-4000-8000-000000000000", None), with(uid, Some("1"))] {
        let refused = api.delete(&name, &wrong).await.unwrap_err();
        let kube::Error::Api(status) = refused else { panic!("{refused}") };
        assert!(status.is_conflict() && status.message.contains("Precondition failed"), "{status:?}");
    }
    let deleted = api.delete(&name, &with(uid, None)).await.unwrap();
    let status = deleted.right().expect("a ConfigMap is told by a Status");
    let details = status.details.unwrap();
    assert_eq!(
        (details.name, details.kind, details.uid),
        (name.clone(), "configmaps".to_owned(), uid.to_owned())
    );
    let gone = api.delete(&name, &with(uid, None)).await.unwrap_err();
    assert!(matches!(gone, kube::Error::Api(status) if status.is_not_found()));
    ground.leave::<ConfigMap>(&[]).await;
}

#[tokio::test]
async fn a_finalizer_holds_what_is_deleted() {
    let ground = Ground::find("finalizer").await;
    let name = ground.name("c");
    let mut object = config(&name);
    object["metadata"]["finalizers"] = json!(["failover.invalid/held"]);
    ground.post("api/v1", "configmaps", &object).await;
    let api = ground.api::<ConfigMap>();
    let deleted = api.delete(&name, &DeleteParams::background()).await.unwrap();
    let held = deleted.left().expect("an object that is held is told whole");
    assert!(held.metadata.deletion_timestamp.is_some());
    assert!(api.get(&name).await.is_ok());
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    api.patch(&name, &PatchParams::default(), &free).await.unwrap();
    assert!(api.get_opt(&name).await.unwrap().is_none());
    ground.leave::<ConfigMap>(&[]).await;
}

#[tokio::test]
async fn a_pod_without_a_node_goes_at_once() {
    let ground = Ground::find("unplaced").await;
    let name = ground.name("p");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            "nodeSelector": { "failover.invalid/nowhere": "true" },
            "containers": [{ "name": "main", "image": "registry.invalid/none:1" }],
        },
    });
    let (code, made) = ground.post("api/v1", "pods", &pod).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["spec"]["terminationGracePeriodSeconds"], 30);
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
    let api = ground.api::<Pod>();
    api.delete(&name, &DeleteParams::background()).await.unwrap();
    assert!(api.get_opt(&name).await.unwrap().is_none());
    ground.leave::<Pod>(&[]).await;
}

#[tokio::test]
async fn a_generated_name_begins_as_asked_and_a_dry_run_keeps_nothing() {
    let ground = Ground::find("names").await;
    let prefix = ground.name("g-");
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "generateName": prefix } });
    let (code, made) = ground.post("api/v1", "configmaps", &object).await;
    assert_eq!(code, 201, "{made}");
    let name = made["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with(&prefix) && name.len() == prefix.len() + 5, "{name}");
    let dry = ground.name("dry");
    let path = ground.path("api/v1", "configmaps?dryRun=All");
    let (code, made) = ground.send("POST", &path, "application/json", &config(&dry)).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(ground.get("api/v1", &format!("configmaps/{dry}")).await.0, 404);
    let (code, refused) = ground.post("api/v1", "configmaps", &config(&name)).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("AlreadyExists")), "{refused}");
    ground.leave::<ConfigMap>(&[&name]).await;
}
