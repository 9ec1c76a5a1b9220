//! What somebody else does while a fault is held.

use std::time::{Duration, Instant};

use mocks::kubernetes::plane::NODE;
use mocks::kubernetes::resources::{NODES, PODS};
use mocks::kubernetes::store::{ObjectKey, Writer};

use crate::stack::{CLOUD_AND_GPU_DOWN, CLOUD_DOWN, Stack, Staging};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_nobody_disturbs_passes_and_leaves_nothing() {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    assert_eq!(ended.result["gateway"]["kind"], "litellm");
    let faults = ended.result["scenarios"][0]["faults"].as_array().unwrap().clone();
    let kinds: Vec<_> = faults.iter().map(|fault| fault["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 2);
    assert!(kinds.contains(&"scale-to-zero") && kinds.contains(&"blackhole"), "{kinds:?}");
    for fault in &faults {
        assert_eq!(
            fault["seen_as"], "connection refused",
            "k3s rejects, and so does a Service without endpoints"
        );
        assert_eq!(fault["held"], true);
        assert!(fault["evidence"].to_string().contains("exec-prober"), "{fault}");
    }
    assert!(
        ended.report.contains("the sweeper ml/failover-harness-sweeper did its work"),
        "{}",
        ended.report
    );
    assert!(ended.report.contains("that the same takes inside the pod are not counted"), "{}", ended.report);
    assert!(stack.calls_printed() > 20, "the gateway prints what it answers: {}", stack.calls_printed());
    for told in ["others use the gateway", "calls of others", "others are connected"] {
        assert!(!ended.report.contains(told), "none but ours, and that is known: {}", ended.report);
    }
    let changes = stack.household.plane().kubelet().process_changes();
    let vllm: Vec<bool> =
        changes.iter().filter(|change| change.deployment == "vllm").map(|change| change.started).collect();
    assert_eq!(vllm, [true, false, true], "one stop and one start");
    assert_eq!((stack.replicas("vllm"), stack.replicas("ollama")), (1, 1));
    stack.assert_clean();
    stack.strike().await;
}

/// Somebody brings vLLM back with kubectl while it is held down.
async fn brought_back(kubectl: &[&str], resource: &str, actor: &str) {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    let before = stack.mutations().len();
    stack.kubectl(kubectl).await;
    let ended = running.end().await.expect(3);
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"inconclusive".into(), &true.into()));
    let (reasons, later) = (ended.reasons(), stack.mutations().split_off(before));
    assert!(reasons.contains("Deployment ml/vllm was scaled to 1 while it had to stay at 0"), "{reasons}");
    assert!(reasons.contains(&format!("(by {actor}")), "{actor}: {reasons}");
    assert_eq!(later[0], format!("patch {resource} ml/vllm"), "kubectl was heard");
    assert!(later[1..].iter().all(|made| made.starts_with("delete ")), "nobody is fought: {later:?}");
    assert_eq!(stack.replicas("vllm"), 1);
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_scales_back_is_named_and_not_fought() {
    let scale = ["-n", "ml", "scale", "deployment", "vllm", "--replicas=1"];
    let patch = ["-n", "ml", "patch", "deployment", "vllm", "-p", r#"{"spec":{"replicas":1}}"#];
    tokio::join!(
        // The cluster records nobody for a scale up from 0.
        brought_back(&scale, "deployments/scale", "someone unknown"),
        brought_back(&patch, "deployments", "kubectl-patch (Update"),
    );
}

/// Something else changes while the cloud is cut off: the mode says nothing, and all is put back.
async fn disturbed(disturb: impl AsyncFnOnce(&Stack), drift: &str) -> String {
    disturbed_in(CLOUD_DOWN, disturb, drift).await
}

async fn disturbed_in(scenario: &str, disturb: impl AsyncFnOnce(&Stack), drift: &str) -> String {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-down", scenario);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    disturb(&stack).await;
    let ended = running.end().await.expect(3);
    let reasons = ended.reasons();
    assert_eq!(ended.result["verdict"], "inconclusive", "{drift}: {reasons}");
    assert_eq!(ended.result["restored"], true, "{drift}: {reasons}");
    assert!(reasons.contains(drift), "{drift}: {reasons}");
    stack.assert_clean();
    stack.strike().await;
    reasons
}

/// Only vLLM is stopped, and the primary serves on.
pub(crate) const GPU_DOWN: &str = "\
requirements: [NFR125]
components: { vllm: down }
traffic:
  - { route: agent, rate: 8/s, for: 6s, stream: mixed }
expect:
  agent: { served_by: cloud-kimi, within: 5s, errors: 0 }
";

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_scales_once_it_was_restored_is_theirs() {
    let stack = Stack::start(Staging::default()).await;
    let files = [stack.scenario("a-gpu-down", GPU_DOWN), stack.scenario("b-cloud-down", CLOUD_DOWN)];
    let mut running = stack.harness("run", &files);
    running.until_it_says("b-cloud-down: baseline").await;
    stack.kubectl(&["-n", "ml", "scale", "deployment", "vllm", "--replicas=2"]).await;
    let ended = running.end().await.expect(0);
    assert_eq!(ended.result["restored"], true);
    assert_eq!(stack.replicas("vllm"), 2);
    stack.assert_clean();
    stack.strike().await;
}

/// It loads for longer than anybody waits, and meanwhile a person scales it to 0 again.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_takes_down_right_after_the_undo_is_theirs_and_not_waited_for() {
    let stack =
        Stack::start(Staging { vllm_ready_after: Some(Duration::from_secs(12)), ..Staging::default() }).await;
    stack.edit(
        "down: scale-to-zero, ready_within: 30s }\n  ollama",
        "down: scale-to-zero, ready_within: 10m }\n  ollama",
    );
    let file = stack.scenario("gpu-down", GPU_DOWN);
    let running = stack.harness("run", &[file]);
    let is_healed = |stack: &Stack| stack.journal().contains("\"fault-healed\"");
    stack.eventually("it is scaled back", crate::child::LIMIT, is_healed).await;
    stack.kubectl(&["-n", "ml", "patch", "deployment", "vllm", "-p", r#"{"spec":{"replicas":0}}"#]).await;
    let told = Instant::now();
    let ended = running.end().await.expect(3);
    assert!(told.elapsed() < Duration::from_secs(60), "nobody waits for it: {:?}", told.elapsed());
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"inconclusive".into(), &true.into()));
    let reasons = ended.reasons();
    for words in [
        "scale-to-zero of vllm was undone",
        "somebody else has it now",
        "ml/vllm was undone, and has been changed by kubectl-patch since: 0 pods",
    ] {
        assert!(reasons.contains(words), "{words}: {reasons}");
    }
    assert!(!stack.journal().contains("\"not-serving\""));
    assert_eq!(stack.replicas("vllm"), 0, "it is theirs");
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_replaced_in_one_mode_is_looked_at_anew_in_the_next() {
    let stack = Stack::start(Staging::default()).await;
    let files = [stack.scenario("a-cloud-down", CLOUD_DOWN), stack.scenario("b-gpu-down", GPU_DOWN)];
    let mut running = stack.harness("run", &files);
    running.until_it_says("judging").await;
    let pods = stack.household.cluster().store().list(&PODS, Some("ml")).items;
    let gateway = pods.iter().find(|pod| pod["metadata"]["labels"]["app"] == "litellm").unwrap();
    let name = gateway["metadata"]["name"].as_str().unwrap().to_owned();
    stack.kubectl(&["-n", "ml", "delete", "pod", &name, "--wait=false"]).await;
    let ended = running.end().await.expect(3);
    let mode = |name: &str| {
        let all = ended.result["scenarios"].as_array().unwrap();
        all.iter().find(|mode| mode["name"] == name).unwrap().clone()
    };
    let first = mode("a-cloud-down");
    assert!(first["reasons"].to_string().contains("its memory of cooldowns is lost"), "{first}");
    let second = mode("b-gpu-down");
    assert_eq!(second["verdict"], "pass", "{}", second["reasons"]);
    assert!(second["faults"][0]["evidence"].to_string().contains("exec-prober"), "{second}");
    let pods = second["answered_by"]["pods"].as_object().unwrap();
    assert!(!pods.contains_key(&format!("ml/{name}")), "{pods:?}");
    stack.assert_clean();
    stack.strike().await;
}

/// One that was there before is looked from again, too: the end of who looked first is not the last word on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_pod_that_another_joins_is_looked_from_on_in_the_next_mode() {
    let stack = Stack::start(Staging::default()).await;
    let files = [stack.scenario("a-cloud-down", CLOUD_DOWN), stack.scenario("b-gpu-down", GPU_DOWN)];
    let mut running = stack.harness("run", &files);
    running.until_it_says("judging").await;
    stack.kubectl(&["-n", "ml", "scale", "deployment", "litellm", "--replicas=2"]).await;
    let ended = running.end().await.expect(3);
    assert!(ended.reasons().contains("joined the gateway"), "{}", ended.reasons());
    let journal = stack.journal();
    let events =
        journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone());
    let of_b = |event: &serde_json::Value, kind: &str| event[kind]["scenario"] == "b-gpu-down";
    let events = events.take_while(|event| !of_b(event, "hold-ended"));
    // The last word on each pod while the second mode was judged.
    let mut reached = std::collections::BTreeMap::new();
    for seen in events.map(|event| event["seen-from-pod"].clone()).filter(|seen| seen["component"] == "cloud")
    {
        reached.insert(seen["pod"].to_string(), seen["reached"].clone());
    }
    assert_eq!(reached.len(), 2, "{reached:?}");
    assert!(reached.values().all(|reached| *reached == true), "{reached:?}");
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_change_while_a_fault_is_held_voids_the_mode() {
    let ask = ["-n", "ml", "delete", "pod", "-l", "app=litellm", "--wait=false"];
    let replaced = async |stack: &Stack| stack.kubectl(&ask).await;
    let moved = async |stack: &Stack| {
        stack.household.plane().network().move_host("ollama.com", 1).await.unwrap();
    };
    let lifted = async |stack: &Stack| stack.kubectl(&["-n", "ml", "delete", "networkpolicy", "--all"]).await;
    tokio::join!(
        disturbed(replaced, "its memory of cooldowns is lost"),
        disturbed(moved, "which the fault does not cover"),
        disturbed(lifted, "was deleted while it was needed"),
    );
}

/// The gateway goes on to who is next, as it should: no failure of it. Whoever scales by the subresource is recorded
/// nowhere, since a count of 0 is left out of who owns what.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_had_to_stay_up_and_was_taken_down_voids_the_mode() {
    let scale = async |stack: &Stack| {
        stack.kubectl(&["-n", "ml", "scale", "deployment", "vllm", "--replicas=0"]).await;
    };
    let apply = async |stack: &Stack| {
        let patch = r#"{"spec":{"replicas":0}}"#;
        stack.kubectl(&["-n", "ml", "patch", "deployment", "vllm", "-p", patch]).await;
    };
    let delete = async |stack: &Stack| {
        stack.kubectl(&["-n", "ml", "delete", "pod", "-l", "app=vllm", "--wait=false"]).await;
    };
    let unreached = "what had to stay up did not: vllm was not reached by new connections from ml/litellm-";
    let scaled = "Deployment ml/vllm was scaled to 0 although it had to stay up";
    let (reasons, _, deleted) = tokio::join!(
        disturbed(scale, scaled),
        disturbed(apply, "(by kubectl-patch (Update"),
        disturbed(delete, "no other pod is ready of what had to stay up"),
    );
    assert!(reasons.contains(unreached), "{reasons}");
    assert!(deleted.contains("(by unknown; last changed by"), "{deleted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_nobody_answers_for_while_a_fault_is_held_void_the_mode() {
    let away = async |stack: &Stack| stack.household.plane().network().lose_names();
    // A name may be away for 7 s before that is more than a lost question.
    let longer = CLOUD_DOWN.replace("for: 6s", "for: 12s");
    let drift = "what had to stay up did not: vllm was not reached by new connections from ml/litellm-";
    disturbed_in(&longer, away, drift).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_while_a_fault_is_held_voids_the_mode() {
    let not_ready = async |stack: &Stack| {
        let key = ObjectKey::new(&NODES, "", NODE);
        let store = stack.household.cluster().store();
        let changed = store.update(&key, Writer::of_status("node-controller"), |node| {
            node["status"]["conditions"][0]["status"] = "Unknown".into();
            Ok(())
        });
        changed.unwrap();
    };
    let removed = async |stack: &Stack| stack.kubectl(&["delete", "node", NODE]).await;
    tokio::join!(
        disturbed(not_ready, "Node mock-node is not ready"),
        disturbed(removed, "Node mock-node was removed"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn others_who_come_while_it_is_measured_leave_the_time_open() {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    stack.gateway_prints("INFO:     10.42.0.9:40000 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK");
    let ended = running.end().await.expect(3);
    let mode = &ended.result["scenarios"][0];
    assert!(mode["reasons"].to_string().contains("from 10.42.0.9 (1) while the time was measured"), "{mode}");
    assert_eq!(crate::evidence::requirement(&ended, "NFR123"), "inconclusive");
    assert_eq!(crate::evidence::requirement(&ended, "NFR125"), "pass", "{}", ended.reasons());
    assert!(mode["timeline"].to_string().contains("10.42.0.9"), "{mode}");
    let answered_by = &mode["answered_by"];
    assert_eq!(answered_by["known_by"], "port-forward", "{mode}");
    let pods: Vec<&String> = answered_by["pods"].as_object().unwrap().keys().collect();
    assert!(matches!(&pods[..], [pod] if pod.starts_with("ml/litellm-")), "{pods:?}");
    stack.assert_clean();
    stack.strike().await;
}
