//! Codes and reasons, selectors and pages, tables, reviews, discovery.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::discovery::Discovery;
use serde_json::{Value, json};

use crate::ground::{Ground, deployment, send};

const APPS: &str = "apis/apps/v1";

#[tokio::test]
async fn a_field_that_is_unknown_is_400_in_a_post_422_in_a_patch_and_500_in_an_apply() {
    let ground = Ground::find("strict").await;
    let name = ground.name("d");
    let mut object = deployment(&name, 1);
    object["spec"]["sleeps"] = true.into();
    let path = ground.path(APPS, "deployments?fieldValidation=Strict");
    let (code, refused) = ground.send("POST", &path, "application/json", &object).await;
    assert_eq!((code, &refused["reason"]), (400, &json!("BadRequest")), "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("unknown field \"spec.sleeps\""), "{refused}");
    ground.deployment(&name, 1).await;
    let at = format!("deployments/{name}?fieldValidation=Strict");
    let (code, refused) = ground.patch(APPS, &at, "merge", &json!({ "spec": { "sleeps": true } })).await;
    assert_eq!(code, 422, "{refused}");
    let (code, refused) = ground.patch(APPS, &at, "apply", &object).await;
    assert_eq!(code, 500, "{refused}");
    let path = ground.path(APPS, &format!("deployments/{name}?fieldValidation=Ignore"));
    let patch = json!({ "spec": { "sleeps": true } });
    let (code, found) = ground.send("PATCH", &path, "application/merge-patch+json", &patch).await;
    assert_eq!(code, 200, "{found}");
    assert!(found["spec"].get("sleeps").is_none(), "{found}");
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn a_lease_time_has_exactly_six_digits_of_a_second() {
    let ground = Ground::find("lease").await;
    let name = ground.name("l");
    let lease = |time: &str| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name },
            "spec": { "holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": time },
        })
    };
    let group = "apis/coordination.k8s.io/v1";
    for bad in ["2026-01-02T03:04:05.123Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456789Z"] {
        let (code, refused) = ground.post(group, "leases", &lease(bad)).await;
        assert_eq!((code, &refused["reason"]), (400, &json!("BadRequest")), "{bad}: {refused}");
    }
    let (code, made) = ground.post(group, "leases", &lease("2026-01-02T03:04:05.123456Z")).await;
    assert_eq!(code, 201, "{made}");
    let mut unversioned = lease("2026-01-02T03:04:06.123456Z");
    let path = ground.path(group, &format!("leases/{name}"));
    let (code, refused) = ground.send("PUT", &path, "application/json", &unversioned).await;
    assert_eq!(code, 422, "a lease is not replaced unconditionally: {refused}");
    unversioned["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let (code, put) = ground.send("PUT", &path, "application/json", &unversioned).await;
    assert_eq!(code, 200, "{put}");
    ground.leave::<Lease>(&[&name]).await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_422_with_causes() {
    let ground = Ground::find("invalid").await;
    let name = ground.name("x");
    let policy = |except: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": name },
            "spec": {
                "podSelector": { "matchLabels": { "app": "nobody" } }, "policyTypes": ["Egress"],
                "egress": [{ "to": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": [except] } }] }],
            },
        })
    };
    let group = "apis/networking.k8s.io/v1";
    let (code, refused) = ground.post(group, "networkpolicies", &policy("192.0.2.1/32")).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")), "{refused}");
    let causes = refused["details"]["causes"].as_array().unwrap();
    assert_eq!(causes[0]["field"], "spec.egress[0].to[0].ipBlock.except[0]", "{refused}");
    let (code, made) = ground.post(group, "networkpolicies", &policy("10.1.2.3/32")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["generation"], 1);
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
        "spec": {
            "parallelism": 0, "podReplacementPolicy": "TerminatingOrFailed",
            "podFailurePolicy": { "rules": [{ "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] }] },
            "template": { "spec": { "restartPolicy": "Never", "containers": [{ "name": "none", "image": "registry.invalid/none" }] } },
        },
    });
    let (code, refused) = ground.post("apis/batch/v1", "jobs", &job).await;
    assert_eq!(code, 422, "{refused}");
    job["spec"].as_object_mut().unwrap().shift_remove("podFailurePolicy");
    job["spec"]["template"]["spec"]["restartPolicy"] = "Always".into();
    let (code, refused) = ground.post("apis/batch/v1", "jobs", &job).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(refused["details"]["causes"][0]["reason"], "FieldValueNotSupported", "{refused}");
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    let (code, made) = ground.post("apis/batch/v1", "jobs", &job).await;
    assert_eq!(code, 201, "{made}");
    let uid = &made["metadata"]["uid"];
    assert_eq!(&made["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], uid, "{made}");
    let jobs = ground.api::<Job>();
    jobs.delete(&name, &kube::api::DeleteParams::background()).await.unwrap();
    ground.leave::<NetworkPolicy>(&[&name]).await;
}

#[tokio::test]
async fn what_is_nowhere_is_404_with_a_status_or_as_plain_text() {
    let ground = Ground::find("nowhere").await;
    let (code, refused) = ground.get(APPS, "deployments/none-of-this-name").await;
    assert_eq!((code, &refused["reason"]), (404, &json!("NotFound")));
    assert_eq!(refused["message"], "deployments.apps \"none-of-this-name\" not found");
    assert_eq!(
        refused["details"],
        json!({ "name": "none-of-this-name", "group": "apps", "kind": "deployments" })
    );
    let (code, page) = ground.get("apis/absent.failover.invalid/v1", "things").await;
    assert_eq!((code, page), (404, Value::from("404 page not found\n")));
    ground.leave::<Deployment>(&[]).await;
}

#[tokio::test]
async fn lists_are_selected_and_come_in_pages_of_one_state() {
    let ground = Ground::find("pages").await;
    let names: Vec<String> = (0..5).map(|at| ground.name(&format!("c{at}"))).collect();
    let case = ground.name("case");
    for (at, name) in names.iter().enumerate() {
        let parity = if at % 2 == 0 { "even" } else { "odd" };
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "labels": { "case": case, "parity": parity } },
        });
        assert_eq!(ground.post("api/v1", "configmaps", &object).await.0, 201);
    }
    let api = ground.api::<ConfigMap>();
    let selected = |labels: &str| ListParams::default().labels(&format!("case={case},{labels}"));
    for (labels, count) in
        [("parity=odd", 2), ("parity in (even)", 3), ("parity!=odd", 3), ("!parity", 0), ("parity", 5)]
    {
        assert_eq!(api.list(&selected(labels)).await.unwrap().items.len(), count, "{labels}");
    }
    let one = api.list(&ListParams::default().fields(&format!("metadata.name={}", names[0]))).await.unwrap();
    assert_eq!(one.items.len(), 1);
    let (code, _) = ground.get("api/v1", "configmaps?fieldSelector=data.a%3Db").await;
    assert_eq!(code, 400, "not every field can be selected by");
    let first = api.list(&selected("parity").limit(2)).await.unwrap();
    assert_eq!(first.items.len(), 2);
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": ground.name("c9"), "labels": { "case": case, "parity": "odd" } } });
    ground.post("api/v1", "configmaps", &object).await;
    let token = first.metadata.continue_.clone().unwrap();
    let rest = api.list(&selected("parity").limit(10).continue_token(&token)).await.unwrap();
    let rest: Vec<_> = rest.items.into_iter().map(|object| object.metadata.name.unwrap()).collect();
    assert_eq!(rest, names[2..], "what was made meanwhile is on no page");
    let (_, raw) = ground.get("api/v1", "configmaps").await;
    assert_eq!(raw["kind"], "ConfigMapList");
    assert!(raw["items"][0].get("kind").is_none(), "items do not say what they are");
    let all: Vec<String> = names.into_iter().chain([ground.name("c9")]).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    ground.leave::<ConfigMap>(&all).await;
}

#[tokio::test]
async fn objects_are_told_as_tables_and_as_metadata_alone() {
    let ground = Ground::find("tables").await;
    let name = ground.name("d");
    ground.deployment(&name, 1).await;
    let path = ground.path(APPS, &format!("deployments/{name}"));
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let (_, table) = send(&ground.client, "GET", &path, &accept, String::new()).await;
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let columns: Vec<_> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(
        columns,
        ["Name", "Ready", "Up-to-date", "Available", "Age", "Containers", "Images", "Selector"]
    );
    assert_eq!(table["rows"][0]["cells"][0], name.as_str());
    assert_eq!(table["rows"][0]["cells"][1], "0/1");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let metadata = ground.api::<Deployment>().get_metadata(&name).await.unwrap();
    assert_eq!(metadata.metadata.name.as_deref(), Some(name.as_str()));
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn a_review_of_access_tells_what_this_user_may_do() {
    let ground = Ground::find("review").await;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "namespace": ground.namespace, "verb": "get", "resource": "configmaps" } },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (code, told) = ground.send("POST", path, "application/json", &review).await;
    assert_eq!((code, &told["status"]["allowed"]), (201, &json!(true)), "{told}");
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": { "namespace": ground.namespace },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (code, told) = ground.send("POST", path, "application/json", &review).await;
    assert_eq!(code, 201, "{told}");
    assert!(!told["status"]["resourceRules"].as_array().unwrap().is_empty(), "{told}");
    assert!(told["status"]["incomplete"].is_boolean(), "{told}");
    ground.leave::<ConfigMap>(&[]).await;
}

#[tokio::test]
async fn discovery_names_the_kinds_in_both_forms() {
    let ground = Ground::find("discovery").await;
    for found in [
        Discovery::new(ground.client.clone()).run().await.unwrap(),
        Discovery::new(ground.client.clone()).run_aggregated().await.unwrap(),
    ] {
        let apps = found.get("apps").unwrap();
        let (resource, capabilities) = apps.recommended_kind("Deployment").unwrap();
        assert_eq!((resource.plural.as_str(), resource.version.as_str()), ("deployments", "v1"));
        assert!(capabilities.subresources.iter().any(|(below, _)| below.plural.ends_with("scale")));
        assert!(found.get("absent.failover.invalid").is_none());
    }
    let version = ground.client.apiserver_version().await.unwrap();
    assert_eq!(version.major, "1");
    ground.leave::<ConfigMap>(&[]).await;
}

#[tokio::test]
async fn patches_of_each_kind_do_what_their_kind_does() {
    let ground = Ground::find("patches").await;
    let name = ground.name("d");
    ground.deployment(&name, 1).await;
    let path = format!("deployments/{name}");
    let sidecar = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "side", "image": "registry.invalid/side:1" }] } } } });
    let (code, found) = ground.patch(APPS, &path, "strategic-merge", &sidecar).await;
    assert_eq!(code, 200, "{found}");
    assert_eq!(
        found["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(),
        2,
        "merged by name"
    );
    let (_, found) = ground.patch(APPS, &path, "merge", &sidecar).await;
    assert_eq!(found["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1, "replaced");
    let operations = json!([
        { "op": "test", "path": "/spec/replicas", "value": 1 }, { "op": "replace", "path": "/spec/replicas", "value": 2 },
    ]);
    let (code, found) = ground.patch(APPS, &path, "json", &operations).await;
    assert_eq!((code, &found["spec"]["replicas"]), (200, &json!(2)), "{found}");
    let (code, refused) = ground.patch(APPS, &path, "json", &operations).await;
    assert_eq!(code, 422, "{refused}");
    let (code, refused) = ground
        .patch(
            APPS,
            &path,
            "merge",
            &json!({ "spec": { "selector": { "matchLabels": { "app": "other" } } } }),
        )
        .await;
    assert_eq!(code, 422, "a selector stays: {refused}");
    ground.leave::<Deployment>(&[&name]).await;
}

#[tokio::test]
async fn an_ephemeral_container_comes_beside_those_that_are_there_and_stays() {
    let ground = Ground::find("ephemeral").await;
    let name = ground.name("p");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            "nodeSelector": { "failover.invalid/nowhere": "true" },
            "containers": [{ "name": "main", "image": "registry.invalid/none:1" }],
        },
    });
    ground.make("api/v1", "pods", &pod).await;
    let path = format!("pods/{name}/ephemeralcontainers");
    let with = |containers: Value| json!({ "spec": { "ephemeralContainers": containers } });
    let one =
        |name: &str, image: &str| json!({ "name": name, "image": format!("registry.invalid/{image}:1") });
    for container in ["first", "second"] {
        let patch = with(json!([one(container, "none")]));
        let (code, found) = ground.patch("api/v1", &path, "strategic-merge", &patch).await;
        assert_eq!(code, 200, "{found}");
    }
    let (_, found) = ground.get("api/v1", &format!("pods/{name}")).await;
    let all = found["spec"]["ephemeralContainers"].as_array().unwrap();
    assert_eq!(all.len(), 2, "{found}");
    assert!(["first", "second"].iter().all(|wanted| all.iter().any(|one| one["name"] == *wanted)), "{found}");
    let changed = with(json!([one("first", "other")]));
    for (kind, patch) in [("strategic-merge", changed), ("merge", with(json!([])))] {
        let (code, refused) = ground.patch("api/v1", &path, kind, &patch).await;
        assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")), "{refused}");
    }
    ground.leave::<k8s_openapi::api::core::v1::Pod>(&[&name]).await;
}
