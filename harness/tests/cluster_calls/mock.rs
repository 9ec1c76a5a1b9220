//! The driver against the mock cluster, whose API server is a real one as far as these calls go.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::undo::undo_all;
use harness::cluster::access::Access;
use harness::cluster::faults::{Prepared, Wanted, prepare};
use harness::cluster::mutation::{Mutation, ReadBack, Undone};
use harness::cluster::preview::{self, Preview};
use harness::environment::{Environment, ObjectName, Opponent};
use harness::units::Period;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use mocks::kubernetes::api::{ChaosRule, Rule, Trouble, User};
use mocks::kubernetes::cluster::{Cluster, ClusterOptions};
use mocks::kubernetes::resources::{CrdGroup, by_path};
use mocks::time::Epoch;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const RUN: &str = "20261123T004551Z-0a1b2c";

async fn start(users: Vec<User>) -> Cluster {
    let mut options = ClusterOptions::new(Epoch::from_instant(Instant::now()), 1, &["ml", "apps"]);
    options.crds = vec![CrdGroup::Keda, CrdGroup::Argo, CrdGroup::Flux];
    options.users = users;
    let cluster = Cluster::start(options, |_| None).await.unwrap();
    let access = access(&cluster).await;
    for name in ["litellm", "vllm", "ollama"] {
        make::<Deployment>(&access, &ObjectName::new("ml", name), deployment(name)).await;
    }
    let pod = json!({
        "metadata": { "name": "litellm-0", "namespace": "ml", "labels": { "app": "litellm" } },
        "spec": { "containers": [{ "name": "litellm", "image": "litellm" }] },
    });
    make::<Pod>(&access, &ObjectName::new("ml", "litellm-0"), pod).await;
    cluster
}

async fn access(cluster: &Cluster) -> Access {
    access_of(&cluster.kubeconfig()).await
}

async fn access_of(kubeconfig: &Value) -> Access {
    Access::with_kubeconfig(kubeconfig, "mock", &["ml".to_owned(), "apps".to_owned()]).await.unwrap()
}

fn deployment(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "ml", "labels": { "failover-harness/target": "true" } },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": name, "image": name }] },
            },
        },
    })
}

async fn make<K>(access: &Access, name: &ObjectName, object: Value) -> K
where
    K: Resource + Serialize + DeserializeOwned,
    K::DynamicType: Default,
{
    access.create::<K>(name, &serde_json::from_value(object).unwrap()).await.unwrap()
}

fn environment() -> Environment {
    harness::input::load(&[], Some("tests/cluster_calls/home.yaml")).unwrap().environment
}

async fn prepared(access: &Access, environment: &Environment, component: &str) -> Prepared {
    let targets = BTreeSet::from(["34.36.133.15".parse().unwrap(), "2600:1901::1".parse().unwrap()]);
    let wanted = Wanted { component, run: RUN, deadline: Period::from_secs(600), targets };
    prepare(access, environment, &wanted).await.unwrap()
}

async fn replicas(access: &Access, name: &str) -> i32 {
    let deployment: Deployment = access.get(&ObjectName::new("ml", name)).await.unwrap();
    deployment.spec.unwrap().replicas.unwrap_or(0)
}

async fn looked(access: &Access, environment: &Environment) -> Preview {
    let components = ["cloud", "vllm", "ollama"].map(str::to_owned);
    preview::look(access, environment, &components, Period::from_secs(600), true).await.unwrap()
}

#[tokio::test]
async fn each_fault_is_made_and_undone() {
    let cluster = start(Vec::new()).await;
    let access = access(&cluster).await;
    let mut environment = environment();
    environment.components.get_mut("ollama").unwrap().down = harness::environment::FaultKind::Isolate;
    let mut mutations = Vec::new();
    for component in ["cloud", "vllm", "ollama"] {
        let prepared = prepared(&access, &environment, component).await;
        assert_eq!((prepared.refusals, prepared.warnings), (vec![], Vec::<String>::new()), "{component}");
        mutations.extend(prepared.mutations);
    }
    assert_eq!(mutations.len(), 5);
    for mutation in &mutations {
        assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Undone, "{}", mutation.words());
        mutation.apply(&access).await.unwrap();
        assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Done, "{}", mutation.words());
    }
    assert_eq!(replicas(&access, "vllm").await, 0);
    let policies: Vec<NetworkPolicy> = access.list(Some("ml"), "failover-harness/run").await.unwrap();
    assert_eq!(policies.len(), 2);
    // A fault of a run is none of its own obstacles.
    assert_eq!(prepared(&access, &environment, "cloud").await.refusals, []);
    for (mutation, undone) in undo_all(&access, &mutations).await {
        assert_eq!(undone, Ok(Undone::Now), "{}", mutation.words());
        assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Undone, "{}", mutation.words());
    }
    assert_eq!(replicas(&access, "vllm").await, 1);
    let managers: BTreeSet<String> = cluster
        .audit()
        .entries()
        .into_iter()
        .filter(|entry| entry.is_mutation() && entry.verb != "delete")
        .map(|entry| entry.manager)
        .collect();
    assert_eq!(managers, BTreeSet::from(["failover-harness".to_owned()]));
    cluster.shutdown().await;
}

#[tokio::test]
async fn somebody_who_scales_back_is_left_alone() {
    let cluster = start(Vec::new()).await;
    let access = access(&cluster).await;
    let prepared = prepared(&access, &environment(), "vllm").await;
    let [scale] = prepared.mutations.as_slice() else { panic!("{prepared:?}") };
    scale.apply(&access).await.unwrap();
    let name = ObjectName::new("ml", "vllm");
    let read = access.scale(&name).await.unwrap();
    access.set_scale(&name, 3, read.metadata.resource_version.as_deref().unwrap()).await.unwrap();
    assert_eq!(scale.read_back(&access).await.unwrap(), ReadBack::Other { saw: "3 pods".into() });
    assert_eq!(scale.undo(&access).await.unwrap(), Undone::LeftAlone { saw: "3 pods".into() });
    assert_eq!(replicas(&access, "vllm").await, 3);
    cluster.shutdown().await;
}

#[tokio::test]
async fn answers_that_are_lost_change_nothing_about_the_outcome() {
    let cluster = start(Vec::new()).await;
    let access = access(&cluster).await.with_limit(Duration::from_secs(5));
    let environment = environment();
    let mut mutations = prepared(&access, &environment, "cloud").await.mutations;
    mutations.extend(prepared(&access, &environment, "vllm").await.mutations);
    for (verb, resource) in
        [("create", "jobs"), ("create", "networkpolicies"), ("patch", "deployments/scale")]
    {
        cluster.chaos().add(ChaosRule {
            verb: verb.into(),
            resource: resource.into(),
            times: Some(1),
            trouble: Trouble::LostAnswer,
        });
    }
    for mutation in &mutations {
        mutation.apply(&access).await.unwrap();
        assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Done);
    }
    for (mutation, undone) in undo_all(&access, &mutations).await {
        assert!(undone.is_ok(), "{}: {undone:?}", mutation.words());
    }
    assert_eq!(replicas(&access, "vllm").await, 1);
    let jobs = access.list::<k8s_openapi::api::batch::v1::Job>(Some("ml"), "").await.unwrap();
    assert_eq!(jobs.len(), 0);
    cluster.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_read_after_an_answer_was_lost_may_have_been_made_and_is_undone() {
    let cluster = start(Vec::new()).await;
    let access = access(&cluster).await.with_limit(Duration::from_secs(5));
    let environment = environment();
    let mut mutations = prepared(&access, &environment, "vllm").await.mutations;
    mutations.extend(prepared(&access, &environment, "cloud").await.mutations);
    let [scale, job, policy] = mutations.as_slice() else { panic!("{mutations:?}") };
    let whats = [
        (scale, "patch", "deployments/scale"),
        (job, "create", "jobs"),
        (policy, "create", "networkpolicies"),
    ];
    for (mutation, verb, resource) in whats {
        let trouble = |verb: &str, times, trouble| ChaosRule {
            verb: verb.into(),
            resource: resource.into(),
            times,
            trouble,
        };
        cluster.chaos().add(trouble(verb, Some(1), Trouble::LostAnswer));
        // What is read first is answered.
        let read_before = u32::from(resource == "deployments/scale");
        let refused = Trouble::Refused { code: 429, retry_after: None };
        cluster.chaos().add_after(read_before, trouble("get", None, refused));
        let error = mutation.apply(&access).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{resource}: {error}");
        assert!(error.to_string().contains("may have been made"), "{error}");
        cluster.chaos().clear();
        assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Done, "{resource}");
    }
    for (mutation, undone) in undo_all(&access, &mutations).await {
        assert_eq!(undone, Ok(Undone::Now), "{}", mutation.words());
    }
    assert_eq!(replicas(&access, "vllm").await, 1);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_preview_names_every_change_and_makes_none() {
    let cluster = start(Vec::new()).await;
    let before = cluster.audit().entries().len();
    let environment = environment();
    let preview = looked(&access(&cluster).await, &environment).await;
    assert!(!preview.is_refused(), "{:?}", preview.refusals());
    assert!(preview.may_do_everything);
    let words = preview.describe(environment.cluster().unwrap(), "home");
    for part in [
        "make Job ml/drill-anchor-blackhole-cloud-run, which runs no pod",
        "the pods of Deployment ml/litellm cannot reach ollama.com",
        "scale Deployment ml/vllm from 1 pod to 0",
        "undo: scale Deployment ml/vllm back to 1 pod",
        "by hand: kubectl --context home -n ml scale deployment/vllm --current-replicas=0 --replicas=1",
        "this user may do everything",
    ] {
        assert!(words.contains(part), "{part} in\n{words}");
    }
    let asked = cluster.audit().entries().split_off(before);
    assert!(!asked.is_empty() && asked.iter().all(|entry| !entry.is_mutation()), "{asked:?}");
    // What the cluster itself checks is asked about without being made.
    let rehearsed = |resource| asked.iter().any(|entry| entry.dry_run && entry.resource == resource);
    assert!(["jobs", "networkpolicies", "deployments/scale"].into_iter().all(rehearsed), "{asked:?}");
    cluster.shutdown().await;
}

fn poor() -> User {
    let rule = |group, resource, verbs| Rule::new("ml", group, resource, verbs);
    User {
        name: "poor".into(),
        token: mocks::gateway::Secret::new("poor-token"),
        rules: vec![
            rule("apps", "deployments", &["get", "list", "watch"]),
            rule("apps", "deployments/scale", &["get"]),
            rule("", "pods", &["get", "list", "watch"]),
            rule("networking.k8s.io", "networkpolicies", &["get", "list", "watch"]),
            rule("autoscaling", "horizontalpodautoscalers", &["list"]),
        ],
    }
}

#[tokio::test]
async fn what_a_user_may_not_do_is_a_refusal_and_a_patch_of_the_role() {
    let cluster = start(vec![poor()]).await;
    let environment = environment();
    let access = access_of(&cluster.kubeconfig_for("poor").unwrap()).await;
    let preview = looked(&access, &environment).await;
    assert!(preview.is_refused() && !preview.may_do_everything);
    let words = preview.describe(environment.cluster().unwrap(), "home");
    for part in [
        "# kubectl --context home -n ml patch role ROLE --type=json --patch-file=FILE",
        "value: { apiGroups: [\"networking.k8s.io\"], resources: [\"networkpolicies\"], verbs: [\"create\", \"delete\"] }",
        "resources: [\"deployments/scale\"], resourceNames: [\"vllm\"], verbs: [\"patch\"]",
        "this user may not patch deployments/scale in ml",
        "whether a ScaledObject of KEDA would scale it back cannot be told",
        "the evidence is weak",
    ] {
        assert!(words.contains(part), "{part} in\n{words}");
    }
    cluster.shutdown().await;
}

#[tokio::test]
async fn opponents_are_refused_or_paused_and_resumed() {
    let cluster = start(Vec::new()).await;
    let access = access(&cluster).await;
    let mut environment = environment();
    let scaler = json!({
        "metadata": { "name": "vllm", "namespace": "ml" },
        "spec": {
            "maxReplicas": 3, "minReplicas": 1,
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm" },
        },
    });
    make::<HorizontalPodAutoscaler>(&access, &ObjectName::new("ml", "vllm"), scaler).await;
    let scaled = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "name": "scaler", "namespace": "ml" },
        "spec": { "scaleTargetRef": { "name": "vllm" } },
    });
    let of_keda = by_path("keda.sh", "v1alpha1", "scaledobjects").unwrap();
    cluster
        .store()
        .create(of_keda, "ml", scaled, mocks::kubernetes::store::Writer::of_object("helm"))
        .unwrap();
    let refused = prepared(&access, &environment, "vllm").await.refusals;
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!(prepared(&access, &environment, "ollama").await.refusals, [], "nobody counts its pods");

    let pause = &mut environment.components.get_mut("vllm").unwrap().pause;
    pause.extend([Opponent::Hpa, Opponent::Keda]);
    let prepared = prepared(&access, &environment, "vllm").await;
    assert_eq!((prepared.refusals.len(), prepared.warnings.len()), (0, 1), "{:?}", prepared.warnings);
    let [Mutation::Pause(_), Mutation::Scale(_)] = prepared.mutations.as_slice() else {
        panic!("paused before it is scaled: {:?}", prepared.mutations)
    };
    for mutation in &prepared.mutations {
        mutation.apply(&access).await.unwrap();
        assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Done, "{}", mutation.words());
    }
    let paused = |cluster: &Cluster| {
        let key = mocks::kubernetes::store::ObjectKey::new(of_keda, "ml", "scaler");
        cluster.store().get(&key).unwrap()["metadata"]["annotations"]["autoscaling.keda.sh/paused"].clone()
    };
    assert_eq!(paused(&cluster), "true");
    for (mutation, undone) in undo_all(&access, &prepared.mutations).await {
        assert_eq!(undone, Ok(Undone::Now), "{}", mutation.words());
    }
    assert_eq!(paused(&cluster), Value::Null);
    cluster.shutdown().await;
}

#[test]
fn a_fault_is_ended_after_what_a_run_needs_and_never_later_than_a_day() {
    let environment = environment();
    // Twice what is demanded, the slowest start (15 min), and five minutes.
    assert_eq!(preview::deadline(Duration::from_secs(100), &environment), Period::from_secs(1400));
    assert_eq!(preview::deadline(Duration::MAX, &environment), Period::from_secs(24 * 3600));
    assert!(!Preview::default().is_refused());
}

/// The whole program, with a kubeconfig in a file.
async fn plan(cluster: &Cluster) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("kubeconfig");
    std::fs::write(&config, cluster.kubeconfig().to_string()).unwrap();
    let text = std::fs::read_to_string("tests/cluster_calls/home.yaml").unwrap();
    let text =
        text.replace("context: home", &format!("context: mock, kubeconfig: {:?}", config.to_str().unwrap()));
    let file = folder.path().join("home.yaml");
    std::fs::write(&file, text).unwrap();
    let ended = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command
            .args(["plan", "--no-dead-man", "--env"])
            .arg(file)
            .current_dir(folder.path())
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    let words = [ended.stdout, ended.stderr].concat();
    (ended.status.code().unwrap(), String::from_utf8(words).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_plans_and_says_whether_a_run_would_be_refused() {
    let cluster = start(Vec::new()).await;
    let before = cluster.audit().entries().len();
    let (code, words) = plan(&cluster).await;
    assert_eq!(code, 0, "{words}");
    assert!(words.contains("scale Deployment ml/ollama from 1 pod to 0"), "{words}");
    let scaler = json!({
        "metadata": { "name": "vllm", "namespace": "ml" },
        "spec": {
            "maxReplicas": 3, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm" },
        },
    });
    let asked = cluster.audit().entries().split_off(before);
    assert!(asked.iter().all(|entry| !entry.is_mutation()), "{asked:?}");
    make::<HorizontalPodAutoscaler>(&access(&cluster).await, &ObjectName::new("ml", "vllm"), scaler).await;
    let (code, words) = plan(&cluster).await;
    assert_eq!(code, 3, "{words}");
    assert!(words.contains("a run would be refused"), "{words}");
    cluster.shutdown().await;
    let (code, words) = plan(&cluster).await;
    assert_eq!(code, 3, "{words}");
    assert!(words.contains("error: cannot"), "{words}");
}
