//! What somebody else does to a cluster while a fault is held is noticed within a second.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::cluster::watch::{Drift, Kind, Reducer, Watching, What};
use harness::environment::ObjectName;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use mocks::gateway::Secret;
use mocks::kubernetes::api::{ChaosRule, Rule, Trouble, User};
use mocks::kubernetes::resources::{DEPLOYMENTS, NODES, PODS};
use mocks::kubernetes::store::{Deletion, ObjectKey, Writer};

use super::stage::{CLOUD, LIMIT, LOOK_EVERY, Stage, Staging, access, app, policy_name, see};

async fn watching(stage: &Stage) -> Watching {
    let watching = Watching::start(&stage.access, "r1", &ml(), true, stage.clock());
    watching.settle(LIMIT).await.unwrap();
    watching
}

fn ml() -> BTreeSet<String> {
    BTreeSet::from(["ml".to_owned()])
}

fn vllm() -> ObjectName {
    ObjectName::new("ml", "vllm")
}

async fn scale(stage: &Stage, replicas: i32) {
    let scale = stage.access.scale(&vllm()).await.unwrap();
    let version = scale.metadata.resource_version.unwrap();
    stage.access.set_scale(&vllm(), replicas, &version).await.unwrap();
}

/// The next drift of this kind, which must come within a second of now.
async fn drift(watching: &Watching, wanted: impl Fn(&What) -> bool) -> Drift {
    let begun = Instant::now();
    let find = |drifts: &[Drift]| drifts.iter().find(|drift| wanted(&drift.what)).cloned();
    let seen = watching.wait_until(LIMIT, |reducer| find(reducer.drifts()).is_some()).await;
    let drifts = watching.with(|reducer| reducer.drifts().to_vec());
    assert!(seen, "not noticed: {drifts:?}");
    assert!(begun.elapsed() < Duration::from_secs(1), "noticed after {:?}", begun.elapsed());
    find(&drifts).unwrap()
}

#[tokio::test]
async fn down_is_when_no_pod_and_no_endpoint_is_left_and_scaling_back_is_drift() {
    let stage = Stage::set(Staging::default()).await;
    let watching = watching(&stage).await;
    let (labels, service) = (app("vllm"), vllm());
    let up = |reducer: &Reducer| reducer.presence("ml", &labels, Some(&service));
    assert!(watching.wait_until(LIMIT, |reducer| up(reducer).ready == 1).await);
    watching.with(|reducer| reducer.expect_count(&vllm(), 1, 0));
    scale(&stage, 0).await;
    let down = watching.wait_until(LIMIT, |reducer| up(reducer).is_down()).await;
    assert!(down, "{}", watching.with(|reducer| up(reducer).words()));
    watching.with(|reducer| reducer.expect_no_pods("vllm", "ml", &labels));
    assert!(watching.with(|reducer| reducer.drifts().is_empty()), "our own change is none");
    // Somebody with kubectl.
    let key = ObjectKey::new(&DEPLOYMENTS, "ml", "vllm");
    let kubectl = stage.household.cluster().store().update(&key, Writer::of_object("kubectl"), |vllm| {
        vllm["spec"]["replicas"] = 1.into();
        Ok(())
    });
    kubectl.unwrap();
    let scaled = drift(&watching, |what| matches!(what, What::Scaled { expected: 0, found: 1 })).await;
    assert!(scaled.actor_words().unwrap().starts_with("kubectl"), "{scaled}");
    let appeared = drift(&watching, |what| *what == What::PodAppeared).await;
    assert!(appeared.object.starts_with("Pod ml/vllm-"), "{appeared}");
    watching.stop().await;
    stage.strike().await;
}

#[tokio::test]
async fn a_policy_a_gateway_pod_an_address_and_a_node_that_go_are_drift() {
    let stage = Stage::set(Staging::default()).await;
    let watching = watching(&stage).await;
    let prober = stage.prober(&stage.access).await.unwrap();
    watching.mind_addresses(prober.seen());
    let cloud = see(&prober, |seen| seen.targets["cloud"].answers > 0).await.targets["cloud"].clone();
    watching.with(|reducer| {
        reducer.expect_addresses("cloud", &cloud.addresses);
        assert_eq!(reducer.expect_gateway("ml", &app("litellm")).len(), 1);
    });
    let uid = stage.blackhole(&cloud.addresses).await.metadata.uid.unwrap();
    watching.with(|reducer| reducer.expect_policy(&policy_name(), &uid));
    assert!(watching.with(|reducer| reducer.drifts().is_empty()), "our own changes are none");

    stage.household.plane().network().move_host(CLOUD, 1).await.unwrap();
    let moved = drift(&watching, |what| matches!(what, What::AddressMoved { .. })).await;
    assert_eq!(moved.object, "cloud");

    stage.access.delete::<NetworkPolicy>(&policy_name(), &uid).await.unwrap();
    drift(&watching, |what| *what == What::PolicyGone).await;

    let pod = stage.gateway_pods(1).await.remove(0);
    let key = ObjectKey::new(&PODS, "ml", &pod.name);
    let restarted = stage.household.cluster().store().update(&key, Writer::of_status("kubelet"), |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"] = 1.into();
        Ok(())
    });
    restarted.unwrap();
    let restarted = drift(&watching, |what| *what == What::GatewayPodRestarted).await;
    assert_eq!(restarted.object, format!("Pod {pod}"));

    let known: Pod = stage.access.get(&pod).await.unwrap();
    stage.access.delete::<Pod>(&pod, &known.metadata.uid.unwrap()).await.unwrap();
    let gone = drift(&watching, |what| *what == What::GatewayPodGone).await;
    assert_eq!(gone.object, format!("Pod {pod}"));

    let node = known.spec.unwrap().node_name.unwrap();
    let key = ObjectKey::new(&NODES, "", &node);
    let not_ready = stage.household.cluster().store().update(&key, Writer::of_status("kubelet"), |node| {
        node["status"]["conditions"][0]["status"] = "False".into();
        Ok(())
    });
    not_ready.unwrap();
    let node_drift = drift(&watching, |what| *what == What::NodeNotReady).await;
    assert_eq!(node_drift.object, format!("Node {node}"));
    stage.household.cluster().store().delete(&key, &Deletion::now(), "kubectl").unwrap();
    let removed = drift(&watching, |what| *what == What::NodeGone).await;
    assert_eq!(removed.object, format!("Node {node}"));
    prober.stop().await;
    watching.stop().await;
    stage.strike().await;
}

#[tokio::test]
async fn what_has_to_stay_up_and_is_taken_down_is_drift_within_a_second() {
    let stage = Stage::set(Staging::default()).await;
    let watching = watching(&stage).await;
    let (labels, service) = (app("vllm"), vllm());
    let is_ready = |reducer: &Reducer| reducer.selected("ml", &labels).any(|(_, pod)| pod.serves());
    assert!(watching.wait_until(LIMIT, is_ready).await);
    watching.expect_up("vllm", &service, ("ml", &labels));
    assert!(watching.with(|reducer| reducer.drifts().is_empty()), "it is up");
    scale(&stage, 0).await;
    let scaled = drift(&watching, |what| *what == What::ScaledToZero).await;
    assert_eq!(scaled.object, "Deployment ml/vllm");
    let gone = drift(&watching, |what| *what == What::LastPodGone).await;
    assert!(gone.object.starts_with("Pod ml/vllm-"), "{gone}");
    watching.stop().await;
    stage.strike().await;
}

#[tokio::test]
async fn what_was_deleted_while_a_watch_was_broken_is_noticed() {
    let stage = Stage::set(Staging::default()).await;
    // The policy's making is told whole; in the middle of the next event the connection ends.
    let rule = |verb: &str, trouble| ChaosRule {
        verb: verb.to_owned(),
        resource: "networkpolicies".to_owned(),
        times: Some(1),
        trouble,
    };
    stage.household.cluster().chaos().add(rule("watch", Trouble::CutMidLine { after: 1 }));
    let watching = watching(&stage).await;
    let uid = stage.blackhole(&BTreeSet::new()).await.metadata.uid.unwrap();
    watching.with(|reducer| reducer.expect_policy(&policy_name(), &uid));
    stage.household.cluster().chaos().add(rule("list", Trouble::Refused { code: 503, retry_after: None }));
    stage.access.delete::<NetworkPolicy>(&policy_name(), &uid).await.unwrap();
    let gone = drift(&watching, |what| *what == What::PolicyGone).await;
    assert_eq!(gone.object, format!("NetworkPolicy {}", policy_name()));
    watching.settle(LIMIT).await.unwrap();
    // The mock writes down what it has answered, perhaps a moment later.
    let asked = || {
        let entries = stage.household.cluster().audit().entries();
        let ours = entries.iter().filter(|entry| entry.resource == "networkpolicies");
        ours.filter(|entry| entry.verb == "list" || entry.verb == "watch").count()
    };
    let mut looks = tokio::time::interval(LOOK_EVERY);
    // A list and a watch at first; what comes after a break is a watch from where it was, or a list.
    let asked_again = async {
        while asked() < 3 {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, asked_again).await.expect("the watch was broken");
    watching.stop().await;
    stage.strike().await;
}

#[tokio::test]
async fn what_may_not_be_watched_is_named() {
    let all = ["get", "list", "watch"];
    let rules = vec![
        Rule::new("ml", "", "pods", &all),
        Rule::new("ml", "apps", "deployments", &all),
        Rule::new("ml", "", "services", &all),
        Rule::new("ml", "networking.k8s.io", "networkpolicies", &all),
    ];
    let user = User { name: "shy".to_owned(), token: Secret::new("shy"), rules: rules.clone() };
    let stage = Stage::set(Staging { users: vec![user], ..Staging::default() }).await;
    let shy = access(&stage.household.cluster().kubeconfig_for("shy").unwrap()).await;
    let watching = Watching::start(&shy, "r1", &ml(), false, stage.clock());
    let blind = watching.settle(Duration::from_secs(2)).await.unwrap_err();
    assert!(
        blind.iter().any(|why| why.starts_with("EndpointSlice objects in ml:") && why.contains("403")),
        "{blind:?}"
    );
    assert!(!blind.iter().any(|why| why.starts_with("Pod objects in ml:")), "{blind:?}");
    let mut more = rules;
    more.push(Rule::new("ml", "discovery.k8s.io", "endpointslices", &all));
    assert!(stage.household.cluster().set_rules("shy", more));
    watching.settle(LIMIT).await.unwrap();
    let left: Vec<_> = watching.with(|reducer| reducer.blind().map(|(kind, ..)| kind).collect());
    assert_eq!(left, [Kind::Event], "it is done without");
    watching.stop().await;
    stage.strike().await;
}
