//! What restoring says of what it finds, behind an API of one answer for each path.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::undo::Seen;
use super::{Restored, Undoing};
use crate::cluster::access::Access;
use crate::cluster::faults::scale::Scale;
use crate::cluster::lease::Holder;
use crate::cluster::mutation::{Kubectl, Mutation};
use crate::cluster::record::{Change, Record};
use crate::environment::{Environment, ObjectName};

const RUN: &str = "20261123T004551Z-0a1b2c";
const ENVIRONMENT: &str = "environment: test-cluster\n\
     kubernetes: { in_cluster: true, namespaces: [ml] }\n\
     gateway:\n  service: ml/litellm\n  port: 4000\n  pods: \"app=litellm\"\n  \
     key: { secret: ml/key, field: KEY }\n\
     components:\n  \
     cloud: { aliases: [cloud-kimi], endpoint: \"https://ollama.com\", down: { blackhole: network-policy }, ready_within: 30s }\n  \
     vllm: { aliases: [vllm-qwen], deployment: ml/vllm, down: scale-to-zero, ready_within: 30s }\n\
     routes:\n  agent: { model: cloud-kimi, fallbacks: [vllm-qwen] }\n";

fn environment() -> Environment {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.yaml");
    std::fs::write(&file, ENVIRONMENT).unwrap();
    crate::input::environment(file.to_str().unwrap()).unwrap()
}

async fn api(respond: impl Fn(&Request) -> ResponseTemplate + Send + Sync + 'static) -> (MockServer, Access) {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(respond).mount(&server).await;
    let access = Access::to_server(&server.uri()).await;
    (server, access)
}

fn ok(body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn to_zero(name: &str) -> Scale {
    Scale { deployment: ObjectName::new("ml", name), uid: "u1".into(), replicas: 2 }
}

fn scale_of(name: &str) -> Value {
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": { "name": name, "namespace": "ml", "uid": "u1", "resourceVersion": "7" },
        "spec": { "replicas": 2 }, "status": { "replicas": 2 },
    })
}

/// Told to have two pods, and what its controller says of it.
fn deployment(generation: i64, observed: i64, available: i32) -> Value {
    json!({
        "kind": "Deployment", "apiVersion": "apps/v1",
        "metadata": { "name": "vllm", "namespace": "ml", "uid": "u1", "generation": generation },
        "spec": { "replicas": 2, "selector": {}, "template": {} },
        "status": { "observedGeneration": observed, "availableReplicas": available, "replicas": available },
    })
}

/// What becomes of `then` with what restores.
async fn with<T>(access: &Access, then: impl AsyncFnOnce(&mut Undoing<'_>) -> T) -> T {
    let environment = environment();
    let by = Holder::here("run-9", "run");
    let mut undoing = Undoing::new(access, &environment, Kubectl::new(None), &by, &|_| {});
    then(&mut undoing).await
}

async fn shown(answer: Value, wait: Duration, until: Option<Instant>) -> Seen {
    let (_server, access) = api(move |_| ok(&answer)).await;
    with(&access, async |undoing: &mut Undoing<'_>| {
        (undoing.wait, undoing.until) = (Some(wait), until);
        undoing.shows(&Mutation::Scale(to_zero("vllm"))).await
    })
    .await
}

#[tokio::test]
async fn what_nobody_had_the_time_to_wait_for_is_not_said_to_be_missing() {
    let long = Duration::from_secs(300);
    let over = Some(Instant::now());
    let seen = shown(deployment(5, 5, 0), long, over).await;
    assert!(matches!(&seen, Seen::NotWaitedFor(words) if words.contains("0 of 2 pods")), "{}", words(&seen));
    assert!(matches!(shown(deployment(5, 5, 2), long, over).await, Seen::Yes));
    let seen = shown(deployment(5, 5, 0), Duration::from_millis(1), None).await;
    assert!(matches!(&seen, Seen::No(words) if words.contains("0 of 2 pods")), "{}", words(&seen));
}

#[tokio::test]
async fn what_a_deployment_had_before_it_was_scaled_back_is_not_taken_for_its_pods() {
    let seen = shown(deployment(5, 4, 2), Duration::from_millis(1), None).await;
    assert!(matches!(&seen, Seen::No(words) if words.contains("from before")), "{}", words(&seen));
}

fn words(seen: &Seen) -> &str {
    match seen {
        Seen::Yes => "yes",
        Seen::No(words) | Seen::NotWaitedFor(words) => words,
    }
}

/// The first takes longer to be available than reading back may take, and the second meets one bad moment.
#[tokio::test]
async fn one_that_is_slow_to_be_there_leaves_the_others_their_time_to_be_read_back() {
    let (looks, reads) = (AtomicU32::new(0), AtomicU32::new(0));
    let (_server, access) = api(move |request| match request.url.path() {
        path if path.ends_with("/slow/scale") => ok(&scale_of("slow")),
        path if path.ends_with("/other/scale") => match reads.fetch_add(1, Ordering::Relaxed) {
            0 => ResponseTemplate::new(503),
            _ => ok(&scale_of("other")),
        },
        path if path.ends_with("/slow") => {
            let available = if looks.fetch_add(1, Ordering::Relaxed) < 4 { 0 } else { 2 };
            ok(&deployment(5, 5, available))
        }
        _ => ok(&deployment(5, 5, 2)),
    })
    .await;
    let now = Timestamp::now();
    let mut record = Record::new(RUN, "home", "attic", None, now, now);
    for name in ["slow", "other"] {
        record.intend(&Mutation::Scale(to_zero(name)), &Kubectl::new(None)).unwrap();
    }
    let changes: Vec<Change> = record.changes.clone();
    let (undone, unseen) = with(&access, async |undoing: &mut Undoing<'_>| {
        undoing.tries = Duration::from_millis(1500);
        undoing.read_all_back(&changes, RUN, &mut record, &mut Restored::default()).await
    })
    .await;
    assert_eq!((undone.len(), unseen), (2, vec![]));
    assert!(record.to_undo().next().is_none());
}

/// What is found of objects that no record speaks of, where listing them is answered so, in order.
async fn orphans(answers: &[u16]) -> (Restored, u32) {
    let asked = Arc::new(AtomicU32::new(0));
    let (answers, count) = (Mutex::new(answers.to_vec()), Arc::clone(&asked));
    let (_server, access) = api(move |request| {
        if !request.url.path().ends_with("/networkpolicies") {
            return ok(&json!({ "kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": [] }));
        }
        count.fetch_add(1, Ordering::Relaxed);
        let mut answers = answers.lock().unwrap();
        match if answers.len() > 1 { answers.remove(0) } else { answers[0] } {
            200 => ok(&json!({
                "kind": "NetworkPolicyList", "apiVersion": "networking.k8s.io/v1", "metadata": {}, "items": [],
            })),
            status => ResponseTemplate::new(status),
        }
    })
    .await;
    let restored = with(&access, async |undoing: &mut Undoing<'_>| {
        undoing.asks = Duration::from_millis(1500);
        undoing.orphans("ml").await
    })
    .await;
    (restored, asked.load(Ordering::Relaxed))
}

#[tokio::test]
async fn where_objects_of_earlier_runs_cannot_be_listed_that_is_no_success() {
    let (restored, asked) = orphans(&[403]).await;
    assert_eq!((restored.unknown.len(), asked), (1, 1), "{restored:?}");
    assert!(restored.unknown[0].contains("networkpolicy of an earlier run"), "{restored:?}");
    assert!(!restored.is_complete() && !restored.is_nothing());
    let (restored, asked) = orphans(&[503]).await;
    assert!(asked > 1 && restored.unknown.len() == 1, "{asked}: {restored:?}");
    // One bad moment says nothing.
    let (restored, asked) = orphans(&[503, 200]).await;
    assert!(asked == 2 && restored.is_nothing(), "{asked}: {restored:?}");
}

/// A policy of a run that nothing else is known of, whose deletion first meets a conflict; after that its name may be that
/// of another one.
async fn deleted_after_a_conflict(is_another: bool) -> (Restored, u32) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let list = |kind: &str, items: Vec<Value>| ok(&json!({ "kind": kind, "metadata": {}, "items": items }));
    let policy = |uid: &str| {
        json!({ "metadata": {
            "name": format!("drill-blackhole-cloud-{}", RUN.to_lowercase()), "namespace": "ml", "uid": uid,
            "labels": { "failover-harness/run": RUN },
        } })
    };
    let (_server, access) = api(move |request| match request.url.path() {
        _ if request.method.as_str() == "DELETE" => match count.fetch_add(1, Ordering::Relaxed) {
            0 => ResponseTemplate::new(409),
            _ => ok(&policy("u1")),
        },
        path if path.ends_with("/networkpolicies") => list("NetworkPolicyList", vec![policy("u1")]),
        path if path.contains("/networkpolicies/") => ok(&policy(if is_another { "u2" } else { "u1" })),
        path if path.ends_with("/jobs") => list("JobList", Vec::new()),
        path if path.ends_with("/configmaps") => list("ConfigMapList", Vec::new()),
        _ => ResponseTemplate::new(404),
    })
    .await;
    let restored = with(&access, async |undoing: &mut Undoing<'_>| undoing.orphans("ml").await).await;
    (restored, asked.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_conflict_does_not_say_that_an_object_is_another_one() {
    let (restored, asked) = deleted_after_a_conflict(false).await;
    assert_eq!((restored.undone.len(), asked), (1, 2), "{restored:?}");
    let (restored, asked) = deleted_after_a_conflict(true).await;
    assert!(restored.is_nothing() && asked == 1, "{asked}: {restored:?}");
}

/// A policy with the label of a run that nothing is known of here, and this one of where that run is at home.
async fn at_home_in(home: Option<&str>) -> (Restored, u32) {
    let deleted = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&deleted);
    let mut labels = json!({ "failover-harness/run": RUN });
    if let Some(home) = home {
        labels["failover-harness/home"] = home.into();
    }
    let name = format!("drill-isolate-vllm-{}", RUN.to_lowercase());
    let policy = json!({ "metadata": { "name": name, "namespace": "ml", "uid": "u1", "labels": labels } });
    let list = |kind: &str, items: Vec<Value>| ok(&json!({ "kind": kind, "metadata": {}, "items": items }));
    let (_server, access) = api(move |request| match request.url.path() {
        _ if request.method.as_str() == "DELETE" => {
            count.fetch_add(1, Ordering::Relaxed);
            ok(&policy)
        }
        path if path.ends_with("/networkpolicies") => list("NetworkPolicyList", vec![policy.clone()]),
        path if path.ends_with("/jobs") => list("JobList", Vec::new()),
        path if path.ends_with("/configmaps") => list("ConfigMapList", Vec::new()),
        _ => ResponseTemplate::new(404),
    })
    .await;
    let restored = with(&access, async |undoing: &mut Undoing<'_>| undoing.orphans("ml").await).await;
    (restored, deleted.load(Ordering::Relaxed))
}

#[tokio::test]
async fn what_the_run_of_another_gateway_has_made_is_left_to_whoever_restores_there() {
    let (restored, deleted) = at_home_in(Some("elsewhere")).await;
    assert!(restored.is_nothing() && deleted == 0, "{deleted}: {restored:?}");
    let [note] = restored.notes.as_slice() else { panic!("{restored:?}") };
    assert!(note.contains(RUN) && note.contains("namespace elsewhere"), "{note}");
    // One that is at home here is as dead as one of a version that did not say.
    for home in [Some("ml"), None] {
        let (restored, deleted) = at_home_in(home).await;
        assert_eq!(
            (restored.undone.len(), restored.notes.len(), deleted),
            (1, 0, 1),
            "{home:?}: {restored:?}"
        );
    }
}
