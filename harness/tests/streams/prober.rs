//! What the prober sees from inside the gateway's pod.

use std::time::Duration;

use harness::cluster::prober::{Fate, ProberError, Symptom};
use harness::journal::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use mocks::gateway::Secret;
use mocks::kubernetes::api::{Rule, User};
use mocks::kubernetes::network::Cni;

use super::stage::{CLOUD, LIMIT, Stage, Staging, access, policy_name, see, wait};

/// A policy under this CNI: what new connections meet, and what became of the held one.
async fn under(cni: Cni) -> (Option<Symptom>, Fate) {
    let stage = Stage::set(Staging { cni, ..Staging::default() }).await;
    let prober = stage.prober(&stage.access).await.unwrap();
    // A held connection that is clearly older than the policy, also with the clock's error.
    let before = see(&prober, |seen| {
        let held = &seen.targets["cloud"].held;
        held.born_us.zip(held.answered_sent_us).is_some_and(|(born, sent)| sent > born + 300_000)
    })
    .await;
    let called_us = stage.clock().now_us();
    let policy = stage.blackhole(&before.targets["cloud"].addresses).await;
    wait(prober.observed("cloud").unwrap(), |seen| seen.up == Some(false)).await;
    let down_us = stage.clock().now_us();
    let seen = see(&prober, |seen| seen.targets["cloud"].held.fate(down_us) != Fate::Unknown).await;
    let (symptom, fate) = (seen.targets["cloud"].symptom.clone(), seen.targets["cloud"].held.fate(down_us));
    assert_eq!(prober.observed("vllm").unwrap().borrow().up, Some(true), "other ways stay open");
    assert!(
        stage
            .access
            .delete::<NetworkPolicy>(&policy_name(), policy.metadata.uid.as_ref().unwrap())
            .await
            .unwrap()
    );
    wait(prober.observed("cloud").unwrap(), |seen| seen.up == Some(true)).await;
    prober.stop().await;
    let down: Vec<_> = stage
        .entries()
        .into_iter()
        .filter_map(|entry| match entry.event {
            Event::WitnessSaw { component, up: false, done_us, previous_sent_us, .. }
                if component == "cloud" =>
            {
                Some((previous_sent_us, done_us))
            }
            _ => None,
        })
        .collect();
    let [(Some(last_up), first_down)] = down[..] else { panic!("{down:?}") };
    assert!(last_up < first_down && first_down > called_us && first_down <= down_us + 400_000, "{down:?}");
    stage.strike().await;
    (symptom, fate)
}

#[tokio::test]
async fn each_enforcer_has_its_own_symptom() {
    assert_eq!(under(Cni::K3s).await, (Some(Symptom::Refused), Fate::Kept));
    assert_eq!(under(Cni::Calico).await, (Some(Symptom::Silent), Fate::Kept));
    assert_eq!(under(Cni::Cilium).await, (Some(Symptom::Silent), Fate::Silent));
}

#[tokio::test]
async fn a_policy_that_nobody_enforces_leaves_the_cloud_up() {
    let stage = Stage::set(Staging { cni: Cni::None, ..Staging::default() }).await;
    let prober = stage.prober(&stage.access).await.unwrap();
    let before = see(&prober, |seen| seen.targets["cloud"].answers > 0).await;
    stage.blackhole(&before.targets["cloud"].addresses).await;
    let after_us = stage.clock().now_us() + 1_000_000;
    let seen = wait(prober.observed("cloud").unwrap(), |seen| seen.last_sent_us > after_us).await;
    assert_eq!((seen.up, seen.last_down_sent_us), (Some(true), None));
    prober.stop().await;
    stage.strike().await;
}

#[tokio::test]
async fn every_replica_has_to_see_a_fault() {
    let stage = Stage::set(Staging { replicas: 2, ..Staging::default() }).await;
    let pods = stage.gateway_pods(2).await;
    let fleet = stage.fleet(&pods).await;
    fleet.wait_for("cloud", true, LIMIT).await.unwrap();
    let cloud = see(fleet.lead(), |seen| seen.targets["cloud"].answers > 0).await;
    stage.blackhole(&cloud.targets["cloud"].addresses).await;
    fleet.wait_for("cloud", false, LIMIT).await.unwrap();
    assert_eq!(fleet.unlike("cloud", true), pods);
    let cut_off = fleet.not_up("cloud");
    assert!(
        cut_off.iter().all(|(_, seen)| seen.up == Some(false) && seen.saw == "connection refused"),
        "{cut_off:?}"
    );
    wait(fleet.observed("cloud").unwrap(), |seen| seen.up == Some(false)).await;
    assert_eq!(fleet.wait_for("cloud", true, Duration::from_millis(300)).await, Err(pods));
    assert_eq!(fleet.not_up("vllm"), []);
    fleet.stop().await;
    let changes = stage.entries().into_iter().filter_map(|entry| match entry.event {
        Event::WitnessSaw { component, up, .. } if component == "cloud" => Some(up),
        _ => None,
    });
    assert_eq!(changes.collect::<Vec<_>>(), [true, false], "they tell it together");
    stage.strike().await;
}

#[tokio::test]
async fn an_exec_that_is_forbidden_is_told_in_words() {
    let rules = vec![
        Rule::new("ml", "", "pods", &["get", "list", "watch"]),
        // Neither verb is enough alone.
        Rule::new("ml", "", "pods/exec", &["get"]),
    ];
    let user = User { name: "shy".to_owned(), token: Secret::new("shy"), rules };
    let stage = Stage::set(Staging { users: vec![user], ..Staging::default() }).await;
    let shy = access(&stage.household.cluster().kubeconfig_for("shy").unwrap()).await;
    let Err(ProberError::NotStarted(why)) = stage.prober(&shy).await else { panic!("it was started") };
    assert!(why.contains("403") && why.contains("pods/exec ml/litellm-"), "{why}");
    stage.strike().await;
}

#[tokio::test]
async fn a_name_that_moves_and_a_pod_that_goes_are_seen() {
    let stage = Stage::set(Staging::default()).await;
    let prober = stage.prober(&stage.access).await.unwrap();
    let before = see(&prober, |seen| seen.targets["cloud"].answers > 0).await;
    let moved = stage.household.plane().network().move_host(CLOUD, 1).await.unwrap();
    let moved = moved.into_iter().map(std::net::IpAddr::from).collect();
    let after = see(&prober, |seen| seen.targets["cloud"].addresses == moved).await;
    assert!(before.targets["cloud"].addresses.is_disjoint(&moved));
    assert_eq!(after.targets["cloud"].ever.len(), 2);
    let pod = stage.gateway_pods(1).await.remove(0);
    let uid = {
        let pod: k8s_openapi::api::core::v1::Pod = stage.access.get(&pod).await.unwrap();
        pod.metadata.uid.unwrap()
    };
    stage.access.delete::<k8s_openapi::api::core::v1::Pod>(&pod, &uid).await.unwrap();
    let ended =
        tokio::time::timeout(Duration::from_secs(60), see(&prober, |seen| seen.ended.is_some())).await;
    let why = ended.expect("it is given up").ended.unwrap();
    assert!(why.contains("404") || why.contains("container not found"), "{why}");
    assert_eq!(prober.observed("cloud").unwrap().borrow().up, None, "unknown, not down");
    prober.stop().await;
    stage.strike().await;
}
