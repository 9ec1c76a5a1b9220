//! Runs that are asked to end, and runs whose own restore fails.

use std::time::Duration;

use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::resources::NETWORK_POLICIES;
use rustix::process::Signal;

use crate::records::{holder, holding, records, replicas, two_pods};
use crate::stack::CLOUD_AND_GPU_DOWN;

#[tokio::test(flavor = "multi_thread")]
async fn five_seconds_after_sigterm_everything_is_restored() {
    let stack = two_pods().await;
    let (running, _) = holding(&stack).await;
    running.signal(Signal::TERM);
    let is_back = || {
        let store = stack.household.cluster().store();
        replicas(&stack, "vllm") == 2 && store.list(&NETWORK_POLICIES, None).items.is_empty()
    };
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let back = async {
        while !is_back() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), back).await.expect("restored before it is killed");
    running.signal(Signal::KILL);
    running.end().await;
    // Nothing is left to do, and nothing that was done is done again.
    let before = stack.mutations();
    let swept = stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(0);
    assert_eq!(replicas(&stack, "vllm"), 2, "{}", swept.stdout);
    assert!(!stack.mutations()[before.len()..].iter().any(|made| made.starts_with("patch")), "{before:?}");
    assert_eq!(records(&stack)[0]["phase"], "restored");
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_is_told_and_loses_no_measurement() {
    let stack = two_pods().await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    stack.household.cluster().chaos().add(ChaosRule {
        verb: "patch".to_owned(),
        resource: "deployments/scale".to_owned(),
        times: None,
        trouble: Trouble::Refused { code: 403, retry_after: None },
    });
    let ended = running.end().await.expect(4);
    assert_eq!(ended.result["restored"], false);
    let command = "kubectl --kubeconfig kubeconfig --context mock -n ml scale deployment/vllm --current-replicas=0 --replicas=2";
    assert!(ended.reasons().contains(command) && ended.report.contains(command), "{}", ended.reasons());
    let route = &ended.result["scenarios"][0]["routes"][0];
    assert!(route["requests"].as_u64() > Some(10) && route["failover"].is_object(), "{route:#}");
    let record = &records(&stack)[0];
    assert_eq!((&record["phase"], &record["exit_code"]), (&"restoring".into(), &4.into()));
    assert_eq!(holder(&stack), "", "whoever restores need not wait");
    stack.assert_clean();
    stack.household.cluster().chaos().clear();
    stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    assert_eq!(replicas(&stack, "vllm"), 2);
    stack.strike().await;
}
