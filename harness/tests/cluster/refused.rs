//! Who would fight a run is found before anything is changed.

use harness::cluster::permissions::{Need, needed};
use mocks::gateway::Secret;
use mocks::kubernetes::api::User;
use mocks::kubernetes::controllers::Opponent;
use mocks::kubernetes::resources::{
    APPLICATIONS, CONFIG_MAPS, CrdGroup, DEPLOYMENTS, HELM_RELEASES, NAMESPACES, SECRETS, SLEEP_INFOS,
};
use mocks::kubernetes::store::{ObjectKey, Writer};
use serde_json::json;

use crate::stack::{CLOUD_AND_GPU_DOWN, CLOUD_DOWN, Stack, Staging, rules};

async fn refused(stack: &Stack, body: &str, because: &str) {
    let file = stack.scenario("cloud-gpu-down", body);
    let ended = stack.harness("run", std::slice::from_ref(&file)).end().await.expect(3);
    assert_eq!(ended.result["ended"], "refused", "{}", ended.stderr);
    assert!(ended.reasons().contains(because), "{because}: {}", ended.reasons());
    assert_eq!(stack.mutations(), Vec::<String>::new(), "nothing was touched");
    let planned = stack.harness("plan", &[file]).end().await.expect(3);
    assert!(planned.stdout.contains(because), "{because}: {}", planned.stdout);
    assert_eq!(stack.mutations(), Vec::<String>::new(), "a plan changes nothing");
}

async fn opponent(opponent: Opponent, because: &str) {
    let stack = Stack::start(Staging { opponents: vec![opponent], ..Staging::default() }).await;
    refused(&stack, CLOUD_AND_GPU_DOWN, because).await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opponents_are_found_and_refused() {
    tokio::join!(
        opponent(Opponent::Hpa, "HorizontalPodAutoscaler ml/vllm counts its pods"),
        opponent(Opponent::Keda, "ScaledObject ml/vllm"),
        opponent(Opponent::Argo, "Argo CD"),
        opponent(Opponent::Flux, "Kustomization ml/household of Flux applies Deployment ml/vllm again"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_keeps_a_count_is_found_on_its_deployment() {
    let crds = vec![CrdGroup::Flux, CrdGroup::KubeGreen];
    let stack = Stack::start(Staging { crds, ..Staging::default() }).await;
    let vllm = ObjectKey::new(&DEPLOYMENTS, "ml", "vllm");
    let store = stack.household.cluster().store();
    let before = store.get(&vllm).unwrap();
    let spec = json!({ "interval": "10m", "driftDetection": { "mode": "enabled" } });
    let release = json!({ "metadata": { "name": "vllm" }, "spec": spec });
    let release = store.create(&HELM_RELEASES, "ml", release, Writer::of_object("helm")).unwrap();
    let of =
        |name: &str| json!({ "helm.toolkit.fluxcd.io/name": name, "helm.toolkit.fluxcd.io/namespace": "ml" });
    // Some controller's object: what it is matters to nobody here.
    let owner = json!([{
        "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "name": "vllm",
        "uid": release["metadata"]["uid"], "controller": true,
    }]);
    let marks = [
        ("labels", "its HelmRelease is not to be found", of("none")),
        ("labels", "HelmRelease ml/vllm of Flux corrects drift", of("vllm")),
        ("labels", "scaled on request by Sablier", json!({ "sablier.enable": "true" })),
        (
            "annotations",
            "scaled by the clock by a downscaler",
            json!({ "downscaler/uptime": "Mon-Fri 07:30-20:30 UTC" }),
        ),
        ("ownerReferences", "belongs to HelmRelease vllm, whose operator keeps its count", owner),
    ];
    for (field, because, value) in marks {
        stack.change(&DEPLOYMENTS, "ml", "vllm", |object| {
            object["metadata"]["labels"].clone_from(&before["metadata"]["labels"]);
            for emptied in ["annotations", "ownerReferences"] {
                object["metadata"].as_object_mut().unwrap().remove(emptied);
            }
            let place = &mut object["metadata"][field];
            match (place.as_object_mut(), value.as_object()) {
                (Some(there), Some(more)) => there.extend(more.clone()),
                _ => *place = value.clone(),
            }
        });
        refused(&stack, CLOUD_AND_GPU_DOWN, because).await;
    }
    stack.strike().await;
}

/// A user who may do what a run in this environment needs, and nothing else; all but what `lacks` says.
fn lacking(stack: &Stack, lacks: impl Fn(&Need) -> bool) {
    let mut needs = needed(&stack.environment());
    needs.retain(|need| !lacks(need));
    assert!(stack.household.cluster().set_rules("drill", rules(&needs)));
}

fn drill() -> Option<User> {
    Some(User { name: "drill".to_owned(), token: Secret::new("token-of-the-drill"), rules: Vec::new() })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_of_a_namespace_is_not_known_and_refused() {
    let stack = Stack::start(Staging { user: drill(), ..Staging::default() }).await;
    lacking(&stack, |need| need.resource == "namespaces");
    let unknown =
        "whether a downscaler that goes by the namespace's annotations would scale it back cannot be told";
    refused(&stack, CLOUD_AND_GPU_DOWN, unknown).await;
    refused(&stack, CLOUD_AND_GPU_DOWN, "this user may not get namespaces in ml").await;
    let planned = stack.harness("plan", &[stack.path("cloud-gpu-down.yaml")]).end().await.expect(3);
    assert!(planned.stdout.contains("   missing  ml: get namespaces ml\n"), "{}", planned.stdout);
    stack.change(&NAMESPACES, "", "ml", |object| {
        object["metadata"]["annotations"] = json!({ "downscaler/uptime": "Mon-Fri 07:30-20:30 UTC" });
    });
    lacking(&stack, |_| false);
    refused(&stack, CLOUD_AND_GPU_DOWN, "scaled by the clock by a downscaler (downscaler/uptime)").await;
    stack.strike().await;
}

fn list_of_applications(namespace: &str) -> Need {
    Need {
        namespace: Some(namespace.to_owned()),
        group: "argoproj.io".to_owned(),
        resource: "applications".to_owned(),
        name: None,
        verb: "list".to_owned(),
        optional: None,
    }
}

/// A Deployment with the label that both Argo CD and Helm set, and a user who may not read Applications.
async fn labelled(crds: Vec<CrdGroup>) -> Stack {
    let stack = Stack::start(Staging { crds, user: drill(), ..Staging::default() }).await;
    stack.change(&DEPLOYMENTS, "ml", "vllm", |object| {
        object["metadata"]["labels"]["app.kubernetes.io/instance"] = "models".into();
    });
    lacking(&stack, |_| false);
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_cd_that_may_not_be_looked_at_is_refused_only_where_there_is_one() {
    let there = labelled(vec![CrdGroup::Argo]).await;
    let unknown = "Deployment ml/vllm may be kept by Argo CD (label";
    refused(&there, CLOUD_AND_GPU_DOWN, unknown).await;
    // That there are none in a namespace of the targets says nothing of those that are elsewhere.
    let mut needs = needed(&there.environment());
    needs.push(list_of_applications("ml"));
    assert!(there.household.cluster().set_rules("drill", rules(&needs)));
    refused(&there, CLOUD_AND_GPU_DOWN, unknown).await;
    // Nor does one there that keeps something else.
    let other = json!({ "metadata": { "name": "other" }, "spec": {}, "status": { "resources": [] } });
    let store = there.household.cluster().store();
    store.create(&APPLICATIONS, "ml", other, Writer::of_object("kubectl")).unwrap();
    refused(&there, CLOUD_AND_GPU_DOWN, unknown).await;
    needs.push(list_of_applications("argocd"));
    assert!(there.household.cluster().set_rules("drill", rules(&needs)));
    let file = there.path("cloud-gpu-down.yaml");
    let planned = there.harness("plan", &[file]).end().await.expect(0);
    assert!(!planned.stdout.contains("Argo CD"), "{}", planned.stdout);
    there.strike().await;
    let not_there = labelled(Vec::new()).await;
    let file = not_there.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let planned = not_there.harness("plan", &[file]).end().await.expect(0);
    assert!(!planned.stdout.contains("Argo CD"), "a release of Helm: {}", planned.stdout);
    not_there.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_sleeps_by_the_clock_is_refused() {
    let stack = Stack::start(Staging { crds: vec![CrdGroup::KubeGreen], ..Staging::default() }).await;
    let spec = json!({ "weekdays": "1-5", "sleepAt": "20:00", "wakeUpAt": "08:00", "timeZone": "Etc/UTC" });
    let sleep = json!({ "metadata": { "name": "nights" }, "spec": spec });
    let store = stack.household.cluster().store();
    store.create(&SLEEP_INFOS, "ml", sleep, Writer::of_object("kubectl")).unwrap();
    refused(&stack, CLOUD_AND_GPU_DOWN, "SleepInfo ml/nights of kube-green").await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_nobody_marked_is_refused() {
    let stack = Stack::start(Staging::default()).await;
    stack.change(&DEPLOYMENTS, "ml", "vllm", |object| {
        object["metadata"]["labels"] = serde_json::json!({ "app": "vllm" });
    });
    refused(&stack, CLOUD_AND_GPU_DOWN, "is not marked as a target").await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_behind_a_proxy_is_refused() {
    let stack = Stack::start(Staging::default()).await;
    stack.change(&DEPLOYMENTS, "ml", "litellm", |object| {
        object["spec"]["template"]["spec"]["containers"][0]["env"] =
            serde_json::json!([{ "name": "HTTPS_PROXY", "value": "http://proxy:3128" }]);
    });
    stack.household.ready(std::time::Duration::from_secs(30)).await.unwrap();
    refused(&stack, CLOUD_DOWN, "through a proxy").await;
    stack.strike().await;
}

/// The gateway takes its variables from whole objects.
async fn with_environment_from(staging: Staging) -> Stack {
    let stack = Stack::start(staging).await;
    let store = stack.household.cluster().store();
    let map = json!({ "metadata": { "name": "net" }, "data": { "PROXY": "http://proxy:3128" } });
    store.create(&CONFIG_MAPS, "ml", map, Writer::of_object("kubectl")).unwrap();
    let secret = json!({ "metadata": { "name": "keys" }, "data": { "ALL_PROXY": "aHVudGVyMg==" } });
    store.create(&SECRETS, "ml", secret, Writer::of_object("kubectl")).unwrap();
    stack
}

async fn takes(stack: &Stack, from: serde_json::Value) {
    stack.change(&DEPLOYMENTS, "ml", "litellm", |object| {
        object["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([from]);
    });
    stack.household.ready(std::time::Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_comes_from_a_whole_object_is_refused_too() {
    let stack = with_environment_from(Staging::default()).await;
    takes(&stack, json!({ "prefix": "HTTPS_", "configMapRef": { "name": "net" } })).await;
    refused(&stack, CLOUD_DOWN, "has the variable HTTPS_PROXY, from ConfigMap net").await;
    takes(&stack, json!({ "secretRef": { "name": "keys" } })).await;
    refused(&stack, CLOUD_DOWN, "has the variable ALL_PROXY, from Secret keys").await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_may_not_be_read_leaves_open_whether_there_is_a_proxy() {
    let mut user = crate::evidence::without_exec();
    // All that there is but Secrets, of which it reads that of the key.
    user.rules.remove(0);
    let but_secrets =
        ["services", "pods", "pods/log", "endpoints", "configmaps", "events", "nodes", "namespaces"];
    let others =
        ["deployments", "deployments/scale", "replicasets", "endpointslices", "networkpolicies", "jobs"];
    let more = ["cronjobs", "leases", "horizontalpodautoscalers", "scaledobjects", "sleepinfos"];
    let readable: Vec<&str> = but_secrets.into_iter().chain(others).chain(more).collect();
    user.rules.push(crate::evidence::rule(&readable, &["get", "list", "watch"]));
    let key = crate::evidence::rule(&["secrets"], &["get"]);
    user.rules.push(mocks::kubernetes::api::Rule { names: vec!["openclaw-secrets".to_owned()], ..key });
    let stack = with_environment_from(Staging { user: Some(user), ..Staging::default() }).await;
    takes(&stack, json!({ "secretRef": { "name": "keys" } })).await;
    let open = "whether the gateway reaches ollama.com through a proxy cannot be told: container litellm of Deployment \
                ml/litellm takes variables from Secret keys, which this user may not read";
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let planned = stack.harness("plan", &[file]).end().await.expect(0);
    assert!(planned.stdout.contains(open), "{}", planned.stdout);
    let looked = stack.harness("doctor", &[]).end().await;
    assert!(looked.stdout.contains(open), "{}", looked.stdout);
    stack.strike().await;
}
