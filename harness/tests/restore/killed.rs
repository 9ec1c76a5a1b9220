//! kill -9 while a fault is held.

use std::time::Duration;

use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::resources::{CONFIG_MAPS, DEPLOYMENTS, EVENTS, LEASES};
use mocks::kubernetes::store::{Deletion, ObjectKey};

use crate::records::{asked, changes_since, holder, killed, records, replicas, two_pods};
use crate::stack::CLOUD_AND_GPU_DOWN;

#[tokio::test(flavor = "multi_thread")]
async fn another_process_brings_back_the_true_count_and_repeating_it_changes_nothing() {
    let stack = two_pods().await;
    killed(&stack).await;
    assert_eq!(records(&stack)[0]["phase"], "armed");
    let restored = stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    assert!(restored.stderr.contains("waiting to see whether"), "{}", restored.stderr);
    assert!(restored.stdout.contains("scale Deployment ml/vllm back to 2 pods"), "{}", restored.stdout);
    assert_eq!(replicas(&stack, "vllm"), 2);
    stack.assert_clean();
    let record = &records(&stack)[0];
    assert_eq!(record["phase"], "restored", "{record:#}");
    assert!(record["restored_by"].as_str().unwrap().starts_with("restore-"), "{record:#}");
    assert_eq!(holder(&stack), "", "the lock is left to others");
    let before = asked(&stack);
    let again = stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    assert!(again.stdout.contains("no run has left anything"), "{}", again.stdout);
    assert_eq!(changes_since(&stack, before), [], "nothing to do, nothing written");
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_restores_the_true_count_first_and_then_runs() {
    let stack = two_pods().await;
    killed(&stack).await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    let told = ended.result["findings"].to_string();
    assert!(told.contains("undone for an earlier run: scale Deployment ml/vllm back to 2 pods"), "{told}");
    assert!(told.contains("was left behind by"), "{told}");
    assert_eq!(replicas(&stack, "vllm"), 2);
    let phases: Vec<_> = records(&stack).iter().map(|record| record["phase"].clone()).collect();
    assert_eq!(phases, ["restored", "restored"]);
    assert!(records(&stack).iter().any(|record| record["exit_code"] == 0));
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_run_begins_while_the_record_of_another_stays_open() {
    let stack = two_pods().await;
    let file = killed(&stack).await;
    stack.household.cluster().chaos().add(ChaosRule {
        verb: "update".to_owned(),
        resource: "configmaps".to_owned(),
        times: None,
        trouble: Trouble::Refused { code: 500, retry_after: None },
    });
    let ended = stack.harness("run", std::slice::from_ref(&file)).end().await.expect(3);
    assert!(ended.reasons().contains("is still open"), "{}", ended.reasons());
    assert_eq!(replicas(&stack, "vllm"), 2, "it is undone all the same");
    stack.household.cluster().chaos().clear();
    stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    assert_eq!(records(&stack)[0]["phase"], "restored");
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_has_scaled_meanwhile_is_left_alone_and_named() {
    let stack = two_pods().await;
    killed(&stack).await;
    stack.change(&DEPLOYMENTS, "ml", "vllm", |object| object["spec"]["replicas"] = 3.into());
    let restored = stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    let (words, count) = (&restored.stdout, replicas(&stack, "vllm"));
    assert!(words.contains("left alone") && words.contains("ml/vllm") && words.contains("3 pods"), "{words}");
    assert_eq!(count, 3);
    assert_eq!(records(&stack)[0]["phase"], "restored");
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_undo_that_fails_keeps_no_other_from_being_made() {
    let stack = two_pods().await;
    let file = killed(&stack).await;
    stack.household.cluster().chaos().add(ChaosRule {
        verb: "patch".to_owned(),
        resource: "deployments/scale".to_owned(),
        times: None,
        trouble: Trouble::Refused { code: 403, retry_after: None },
    });
    let command = "kubectl --kubeconfig kubeconfig --context mock -n ml scale deployment/vllm --current-replicas=0 --replicas=2";
    let restored = stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(4);
    assert!(restored.stdout.contains(command), "{}", restored.stdout);
    assert!(restored.stderr.contains(command), "the alarm says so, too: {}", restored.stderr);
    let events = stack.household.cluster().store().list(&EVENTS, Some("ml")).items;
    let stuck: Vec<_> = events.iter().filter(|event| event["reason"] == "RestoreStuck").collect();
    assert_eq!(stuck.len(), 1, "{events:?}");
    assert_eq!((&stuck[0]["involvedObject"]["name"], &stuck[0]["type"]), (&"vllm".into(), &"Warning".into()));
    stack.assert_clean();
    assert_eq!((replicas(&stack, "vllm"), &records(&stack)[0]["phase"]), (0, &"restoring".into()));
    // A run does not begin on top of that.
    let ended = stack.harness("run", &[file]).end().await.expect(4);
    assert_eq!((&ended.result["ended"], &ended.result["restored"]), (&"refused".into(), &false.into()));
    assert!(ended.reasons().contains(command), "{}", ended.reasons());
    stack.household.cluster().chaos().clear();
    stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    assert_eq!(replicas(&stack, "vllm"), 2);
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_back_is_on_record_before_its_pods_are_waited_for() {
    let stack = two_pods().await;
    killed(&stack).await;
    assert!(stack.household.plane().kubelet().set_ready_after("ml", "vllm", Duration::from_secs(3600)));
    let mut restoring = stack.command(&["restore", "--env", "cluster.yaml"]);
    restoring.until_it_says("until Deployment ml/vllm is available").await;
    restoring.kill().await;
    let record = &records(&stack)[0];
    assert_eq!(record["phase"], "restoring", "{record:#}");
    let states = record["changes"].as_array().unwrap().iter().map(|change| &change["state"]);
    assert!(states.into_iter().all(|state| state == "undone"), "{record:#}");
    // Whoever typed it has found that the GPU is broken.
    stack.change(&DEPLOYMENTS, "ml", "vllm", |object| object["spec"]["replicas"] = 0.into());
    stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    assert_eq!((replicas(&stack, "vllm"), &records(&stack)[0]["phase"]), (0, &"restored".into()));
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweeper_restores_without_waiting_and_several_at_once_do_no_harm() {
    let stack = two_pods().await;
    killed(&stack).await;
    let sweep = || stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]);
    let (one, other) = (sweep(), sweep());
    let (one, other) = tokio::join!(one.end(), other.end());
    let (one, other) = (one.expect(0), other.expect(0));
    assert!(!one.stderr.contains("until Deployment"), "{}", one.stderr);
    assert!(!other.stderr.contains("until Deployment"), "{}", other.stderr);
    assert_eq!((replicas(&stack, "vllm"), &records(&stack)[0]["phase"]), (2, &"restored".into()));
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_run_without_a_record_are_removed_and_named() {
    let stack = two_pods().await;
    killed(&stack).await;
    // Somebody has tidied up too well.
    let store = stack.household.cluster().store();
    for map in store.list(&CONFIG_MAPS, Some("ml")).items {
        let name = map["metadata"]["name"].as_str().unwrap();
        let key = ObjectKey::new(&CONFIG_MAPS, "ml", name);
        store.delete(&key, &Deletion::default(), "kubectl").unwrap();
    }
    store
        .delete(&ObjectKey::new(&LEASES, "ml", "failover-harness"), &Deletion::default(), "kubectl")
        .unwrap();
    let restored = stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(0);
    assert!(
        restored.stdout.contains("delete networkpolicy ml/drill-blackhole-cloud-"),
        "{}",
        restored.stdout
    );
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_job_does_not_run_twice_and_ends_with_what_is_recorded() {
    let stack = two_pods().await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let arguments =
        ["run", "--env", "cluster.yaml", "--out", "out", file.to_str().unwrap()].map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let of_job = |uid: &'static str| stack.command_with(&arguments, &[("HARNESS_JOB_UID", uid)]);
    of_job("job-1").end().await.expect(0);
    let mutations = stack.mutations();
    let again = of_job("job-1").end().await.expect(0);
    assert!(again.stdout.contains("ended with exit code 0"), "{}\n{}", again.stdout, again.stderr);
    assert_eq!(again.result["ended"], "completed", "the newest report is that of the run");
    assert_eq!(stack.mutations(), mutations, "it has changed nothing");
    // One that was killed has no verdict.
    let mut killed = of_job("job-2");
    killed.until_it_says("judging").await;
    killed.signal(rustix::process::Signal::KILL);
    killed.end().await;
    let replaced = of_job("job-2").end().await.expect(3);
    assert_eq!(replaced.result["ended"], "refused");
    assert_eq!(replicas(&stack, "vllm"), 2, "and it is restored");
    stack.assert_clean();
    stack.strike().await;
}
