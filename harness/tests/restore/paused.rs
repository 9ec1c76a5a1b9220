//! Runs that lose their lock: they are stopped for longer than it lasts, or it is taken from them.

use std::time::Duration;

use mocks::kubernetes::api::{AuditEntry, ChaosRule, Trouble};
use mocks::kubernetes::resources::{CONFIG_MAPS, LEASES};
use mocks::kubernetes::store::Writer;
use rustix::process::Signal;
use serde_json::Value;

use crate::child::Running;
use crate::records::{LONG, asked, changes_since, holding, records, replicas, two_pods};
use crate::stack::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_run_that_wakes_up_after_a_sweep_writes_nothing() {
    let stack = two_pods().await;
    let (running, _) = holding(&stack).await;
    running.signal(Signal::STOP);
    let sweep = stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(0);
    assert!(sweep.stdout.contains("scale Deployment ml/vllm back to 2 pods"), "{}", sweep.stdout);
    let before = asked(&stack);
    running.signal(Signal::CONT);
    let ended = running.end().await.expect(3);
    assert_eq!(changes_since(&stack, before), [], "nothing came through");
    assert_eq!((&ended.result["ended"], &ended.result["restored"]), (&"interrupted".into(), &true.into()));
    let reasons = ended.reasons();
    assert!(reasons.contains("the lock ml/failover-harness was taken by somebody else"), "{reasons}");
    assert_eq!((replicas(&stack, "vllm"), &records(&stack)[0]["phase"]), (2, &"restored".into()));
    stack.assert_clean();
    stack.strike().await;
}

/// What the API is asked of counts it answers late, so that a run is stopped while it waits for that.
fn counts_are_read_late(stack: &Stack) {
    stack.household.cluster().chaos().add(ChaosRule {
        verb: "get".to_owned(),
        resource: "deployments/scale".to_owned(),
        times: None,
        trouble: Trouble::Latency(Duration::from_secs(4)),
    });
}

/// It is stopped, others sweep, and it goes on: it writes nothing, nor tries to, and ends by itself.
async fn stopped_and_swept(stack: &Stack, running: Running) {
    running.signal(Signal::STOP);
    stack.household.cluster().chaos().clear();
    stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await;
    assert_eq!(replicas(stack, "vllm"), 2);
    let before = asked(stack);
    running.signal(Signal::CONT);
    let ended = running.end().await.expect(3);
    let entries = stack.household.cluster().audit().entries().into_iter().skip(before);
    let sent: Vec<AuditEntry> =
        entries.filter(|entry| entry.is_mutation() && entry.resource != "leases").collect();
    assert_eq!(sent, [], "nothing is even tried");
    assert_eq!(changes_since(stack, before), [], "nothing came through");
    assert_eq!((&ended.result["ended"], &ended.result["restored"]), (&"interrupted".into(), &true.into()));
    let result = ended.result.to_string();
    assert!(result.contains("the lock ml/failover-harness was taken by somebody else"), "{result}");
    assert_eq!(replicas(stack, "vllm"), 2);
    stack.assert_clean();
}

/// How often anybody has scaled vLLM.
fn scaled(stack: &Stack) -> usize {
    stack.mutations().iter().filter(|made| *made == "patch deployments/scale ml/vllm").count()
}

/// It has written down that it will scale vLLM, and reads the count that it is about to change.
async fn stopped_while_it_enters() {
    let stack = two_pods().await;
    counts_are_read_late(&stack);
    let running = stack.harness("run", &[stack.scenario("cloud-gpu-down", LONG)]);
    let is_intended = |stack: &Stack| {
        let changes = records(stack).into_iter().filter_map(|record| record["changes"].as_array().cloned());
        changes.flatten().any(|change| change["object"] == "deployments/scale ml/vllm")
    };
    stack.eventually("its intent is in the cluster", crate::child::LIMIT, is_intended).await;
    assert_eq!(replicas(&stack, "vllm"), 2, "the count is not written yet");
    stopped_and_swept(&stack, running).await;
    assert_eq!(scaled(&stack), 0, "nobody has ever scaled it");
    stack.strike().await;
}

/// It undoes what it has changed, and reads the count that it is about to give back.
async fn stopped_while_it_restores() {
    let stack = two_pods().await;
    let running = stack.harness("run", &[stack.scenario("cloud-gpu-down", &LONG.replace("120s", "4s"))]);
    let says = |words: &'static str| move |stack: &Stack| stack.journal().contains(words);
    stack.eventually("it is held", crate::child::LIMIT, says("\"hold-started\"")).await;
    counts_are_read_late(&stack);
    stack.eventually("it undoes", crate::child::LIMIT, says("\"heal-intended\"")).await;
    assert_eq!(replicas(&stack, "vllm"), 0, "the count is not given back yet");
    stopped_and_swept(&stack, running).await;
    assert_eq!(scaled(&stack), 2, "down by the run, and up by the sweep");
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_paused_while_it_changes_or_undoes_writes_nothing_once_it_has_lost_its_lock() {
    tokio::join!(stopped_while_it_enters(), stopped_while_it_restores());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_when_it_wakes_up_is_told_with_the_command() {
    let stack = two_pods().await;
    let (running, _) = holding(&stack).await;
    running.signal(Signal::STOP);
    // Whoever has the lock now has not restored anything.
    stack.change(&LEASES, "ml", "failover-harness", |lease| {
        lease["spec"]["holderIdentity"] = "somebody".into();
    });
    let before = asked(&stack);
    running.signal(Signal::CONT);
    let ended = running.end().await.expect(4);
    assert_eq!(changes_since(&stack, before), [], "nothing came through");
    let command = "kubectl --kubeconfig kubeconfig --context mock -n ml scale deployment/vllm --current-replicas=0 --replicas=2";
    assert!(ended.reasons().contains(command), "{}", ended.reasons());
    assert!(ended.reasons().contains("somebody"), "{}", ended.reasons());
    assert_eq!(replicas(&stack, "vllm"), 0);
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_paused_and_still_has_its_lock_restores_and_ends() {
    let stack = two_pods().await;
    let (running, _) = holding(&stack).await;
    running.signal(Signal::STOP);
    let paused = std::time::Instant::now();
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(200));
    while paused.elapsed() < std::time::Duration::from_secs(17) {
        ticks.tick().await;
    }
    running.signal(Signal::CONT);
    let ended = running.end().await.expect(3);
    assert!(ended.reasons().contains("was not renewed for"), "{}", ended.reasons());
    assert_eq!(ended.result["restored"], true);
    assert_eq!((replicas(&stack, "vllm"), &records(&stack)[0]["phase"]), (2, &"restored".into()));
    assert_eq!(records(&stack)[0]["exit_code"], 3);
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_run_is_left_alone_unless_its_lock_is_taken() {
    let stack = two_pods().await;
    let (running, _) = holding(&stack).await;
    let sweep = stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(0);
    assert!(sweep.stdout.contains("lives"), "{}", sweep.stdout);
    let refused = stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(4);
    assert!(refused.stdout.contains("lives, and undoes its changes itself"), "{}", refused.stdout);
    assert_eq!(replicas(&stack, "vllm"), 0);
    let taken = stack.command(&["restore", "--env", "cluster.yaml", "--take-over"]).end().await.expect(0);
    assert!(taken.stdout.contains("scale Deployment ml/vllm back to 2 pods"), "{}", taken.stdout);
    let ended = running.end().await.expect(3);
    assert_eq!((&ended.result["ended"], &ended.result["restored"]), (&"interrupted".into(), &true.into()));
    assert!(ended.reasons().contains("was taken by"), "{}", ended.reasons());
    assert_eq!(replicas(&stack, "vllm"), 2);
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_past_its_deadline_is_restored_by_the_sweeper_though_it_lives() {
    let stack = two_pods().await;
    let (running, _) = holding(&stack).await;
    let name = records(&stack)[0]["run"].as_str().unwrap().to_ascii_lowercase();
    stack.change(&CONFIG_MAPS, "ml", &format!("failover-harness-{name}"), |map| {
        let mut record: Value = serde_json::from_str(map["data"]["record.json"].as_str().unwrap()).unwrap();
        record["deadline"] = "2026-01-01T00:00:00Z".into();
        map["data"]["record.json"] = record.to_string().into();
    });
    let sweep = stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(0);
    assert!(sweep.stdout.contains("scale Deployment ml/vllm back to 2 pods"), "{}", sweep.stdout);
    let ended = running.end().await.expect(3);
    assert_eq!((&ended.result["ended"], &ended.result["restored"]), (&"interrupted".into(), &true.into()));
    assert_eq!((replicas(&stack, "vllm"), &records(&stack)[0]["phase"]), (2, &"restored".into()));
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_has_left_is_left_to_the_run_that_has_the_lock() {
    let stack = two_pods().await;
    let (running, _) = holding(&stack).await;
    // The record of another run, which says the same.
    let own = stack.household.cluster().store().list(&CONFIG_MAPS, Some("ml")).items;
    let own = own.into_iter().find(|map| map["data"]["record.json"].is_string()).unwrap();
    let run = own["metadata"]["labels"]["failover-harness/run"].as_str().unwrap().to_owned();
    let mut other: Value = serde_json::from_str(&own.to_string().replace(&run, "earlier")).unwrap();
    other["metadata"] = serde_json::json!({
        "name": "failover-harness-earlier", "namespace": "ml", "labels": other["metadata"]["labels"],
    });
    let store = stack.household.cluster().store();
    store.create(&CONFIG_MAPS, "ml", other, Writer::of_object("kubectl")).unwrap();
    let before = asked(&stack);
    let sweep = stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(0);
    assert!(sweep.stdout.contains("note: the run earlier is left to"), "{}", sweep.stdout);
    let refused = stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(4);
    assert!(refused.stdout.contains("not restored: the run earlier is left to"), "{}", refused.stdout);
    let changes = changes_since(&stack, before);
    let others: Vec<_> = changes.iter().filter(|entry| entry.resource != "leases").collect();
    assert_eq!(others.len(), 0, "{others:?}");
    assert_eq!(replicas(&stack, "vllm"), 0, "the run holds its fault");
    running.signal(Signal::TERM);
    running.end().await.expect(3);
    stack.strike().await;
}
