//! Runs that are asked to end, and runs whose own restore fails.

use std::net::SocketAddr;
use std::time::Duration;

use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::resources::{DEPLOYMENTS, NETWORK_POLICIES, PODS};
use mocks::kubernetes::store::{Deletion, ObjectKey};
use rustix::process::Signal;

use crate::records::{GPU_DOWN, holder, holding, records, replicas, two_pods};
use crate::stack::{CLOUD_AND_GPU_DOWN, Stack};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_with_five_seconds_of_grace_restores_everything() {
    let stack = two_pods().await;
    let (running, _) = holding(&stack).await;
    running.signal(Signal::TERM);
    // The record says so, too: whoever reads it next need not wait for what was sent.
    let is_noted = || {
        let changes = records(&stack)[0]["changes"].clone();
        changes.as_array().unwrap().iter().all(|change| change["state"] == "undone")
    };
    let is_back = || {
        let store = stack.household.cluster().store();
        replicas(&stack, "vllm") == 2 && store.list(&NETWORK_POLICIES, None).items.is_empty() && is_noted()
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
async fn a_restore_that_fails_is_told_by_exit_code_and_report_and_erases_no_measurement() {
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
    // Somebody types what the report says.
    let typed =
        ended.report.split("Put it back with `harness ").nth(1).and_then(|rest| rest.split('`').next());
    let typed: Vec<&str> = typed.unwrap_or_else(|| panic!("{}", ended.report)).split(' ').collect();
    stack.command(&typed).end().await.expect(0);
    assert_eq!(replicas(&stack, "vllm"), 2);
    stack.strike().await;
}

/// Whether something is back.
type Look<'a> = &'a dyn Fn(&Stack) -> bool;

/// What the API does not answer from now on.
fn hangs(stack: &Stack, verb: &str, resource: &str) {
    stack.household.cluster().chaos().add(ChaosRule {
        verb: verb.to_owned(),
        resource: resource.to_owned(),
        times: None,
        trouble: Trouble::Hang,
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_target_is_restored_while_one_undo_hangs() {
    let vllm_is_back = |stack: &Stack| replicas(stack, "vllm") == 2;
    let cloud_is_back =
        |stack: &Stack| stack.household.cluster().store().list(&NETWORK_POLICIES, None).items.is_empty();
    let cases: [(&str, &str, [Look<'_>; 2]); 2] = [
        ("patch", "deployments/scale", [&cloud_is_back, &vllm_is_back]),
        ("delete", "networkpolicies", [&vllm_is_back, &cloud_is_back]),
    ];
    for (verb, resource, [other, stuck]) in cases {
        let stack = two_pods().await;
        let (running, _) = holding(&stack).await;
        hangs(&stack, verb, resource);
        running.signal(Signal::TERM);
        // One call that hangs takes 10 s.
        stack.eventually("the other target is restored", Duration::from_secs(8), other).await;
        assert!(!stuck(&stack), "{verb} {resource} hangs");
        stack.household.cluster().chaos().clear();
        let ended = running.end().await.expect(3);
        assert_eq!(ended.result["restored"], true);
        assert!(other(&stack) && stuck(&stack), "{verb} {resource}");
        stack.assert_clean();
        stack.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_write_that_comes_through_late_is_undone_by_the_run_itself() {
    let stack = two_pods().await;
    let file = stack.scenario("gaming", GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("baseline").await;
    stack.household.cluster().chaos().add(ChaosRule {
        verb: "patch".to_owned(),
        resource: "deployments/scale".to_owned(),
        // All that a change is tried.
        times: Some(5),
        trouble: Trouble::Cut,
    });
    running.until_it_says("can still come through").await;
    let phase = records(&stack)[0]["phase"].clone();
    assert_eq!((replicas(&stack, "vllm"), phase), (2, "armed".into()), "as before, and not for good");
    stack.change(&DEPLOYMENTS, "ml", "vllm", |object| object["spec"]["replicas"] = 0.into());
    let ended = running.end().await.expect(3);
    assert!(stack.journal().contains("came through late, and was undone"), "{}", ended.stderr);
    let record = &records(&stack)[0];
    assert_eq!((replicas(&stack, "vllm"), &record["phase"]), (2, &"restored".into()));
    assert_eq!((&ended.result["restored"], &record["changes"][0]["state"]), (&true.into(), &"undone".into()));
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_while_a_lost_write_may_land_leaves_it_to_the_sweeper() {
    let stack = two_pods().await;
    let file = stack.scenario("gaming", GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("baseline").await;
    stack.household.cluster().chaos().add(ChaosRule {
        verb: "patch".to_owned(),
        resource: "deployments/scale".to_owned(),
        times: Some(5),
        trouble: Trouble::Cut,
    });
    running.until_it_says("can still come through").await;
    running.signal(Signal::TERM);
    running.signal(Signal::KILL);
    running.end().await;
    assert_eq!(records(&stack)[0]["changes"][0]["state"], "intended", "it is not known yet");
    stack.change(&DEPLOYMENTS, "ml", "vllm", |object| object["spec"]["replicas"] = 0.into());
    stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(0);
    assert_eq!((replicas(&stack, "vllm"), &records(&stack)[0]["phase"]), (2, &"restored".into()));
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_restored_where_all_probes_fail_in_the_middle_of_a_fault() {
    let stack = two_pods().await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    // The gateway is gone for good, and with it whoever looks from its pods and the way that probes take.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    assert!(stack.household.plane().kubelet().set_backing("ml", "litellm", nobody));
    let store = stack.household.cluster().store();
    for pod in store.list(&PODS, Some("ml")).items {
        if pod["metadata"]["labels"]["app"] == "litellm" {
            let key = ObjectKey::new(&PODS, "ml", pod["metadata"]["name"].as_str().unwrap());
            store.delete(&key, &Deletion::default(), "kubectl").unwrap();
        }
    }
    let ended = running.end().await;
    assert_eq!(replicas(&stack, "vllm"), 2, "{}", ended.stderr);
    stack.assert_clean();
    let changes = records(&stack)[0]["changes"].clone();
    assert!(changes.as_array().unwrap().iter().all(|change| change["state"] == "undone"), "{changes:#}");
    // That the components serve again nobody could see, so it is not said.
    assert_eq!(ended.status.code(), Some(4), "{}", ended.reasons());
    assert!(ended.reasons().contains("does not serve again"), "{}", ended.reasons());
    let route = &ended.result["scenarios"][0]["routes"][0];
    assert!(route["requests"].as_u64() > Some(10), "the measurements are kept: {route:#}");
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_a_heal_fails_is_followed_by_one_more_round_and_no_third() {
    let stack = two_pods().await;
    let file = stack.scenario("gaming", GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    // By then it is the last word that something is forbidden.
    stack.household.cluster().chaos().add(ChaosRule {
        verb: "patch".to_owned(),
        resource: "deployments/scale".to_owned(),
        times: None,
        trouble: Trouble::Refused { code: 403, retry_after: None },
    });
    let heals = |stack: &Stack, what: &str| stack.journal().matches(what).count();
    let is_healing = |stack: &Stack| heals(stack, "heal-intended") == 1;
    stack.eventually("a heal begins", Duration::from_secs(60), is_healing).await;
    running.signal(Signal::TERM);
    let ended = running.end().await.expect(4);
    let rounds = (heals(&stack, "heal-intended"), heals(&stack, "heal-failed"));
    assert_eq!(rounds, (2, 2), "{}", ended.stderr);
    assert_eq!(records(&stack)[0]["phase"], "restoring");
    stack.household.cluster().chaos().clear();
    stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(0);
    assert_eq!((replicas(&stack, "vllm"), &records(&stack)[0]["phase"]), (2, &"restored".into()));
    stack.assert_clean();
    stack.strike().await;
}
