//! Other ways that a run goes: a backend that is isolated, a gateway of two pods, a gateway in use.

use std::time::Duration;

use mocks::kubernetes::resources::PODS;

use crate::stack::{CLOUD_AND_GPU_DOWN, CLOUD_DOWN, Stack, Staging};

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_can_be_isolated_and_runs_on() {
    let stack = Stack::start(Staging::default()).await;
    stack.edit("deployment: ml/vllm, down: scale-to-zero", "deployment: ml/vllm, down: isolate");
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    for fault in ended.result["scenarios"][0]["faults"].as_array().unwrap() {
        assert_eq!(
            (&fault["seen_as"], &fault["held"]),
            (&"connection refused".into(), &true.into()),
            "{fault}"
        );
    }
    let made = stack.mutations();
    let undone = made.iter().filter(|one| one.starts_with("delete networkpolicies ml/drill-isolate-vllm-"));
    assert_eq!(undone.count(), 1, "{made:?}");
    assert_eq!(stack.writers("deployments/scale", "vllm"), Vec::<String>::new());
    let changes = stack.household.plane().kubelet().process_changes();
    let vllm: Vec<bool> =
        changes.iter().filter(|change| change.deployment == "vllm").map(|change| change.started).collect();
    assert_eq!(vllm, [true], "its process was never stopped");
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pod_of_the_gateway_must_feel_the_fault() {
    let stack = Stack::start(Staging { gateway_replicas: 2, ..Staging::default() }).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    assert_eq!(ended.result["restored"], true);
    assert!(ended.report.contains("so the others are not measured"), "{}", ended.report);
    let execs = stack.household.cluster().audit().entries();
    let pods: std::collections::BTreeSet<_> =
        execs.iter().filter(|entry| entry.resource == "pods/exec").map(|entry| &entry.name).collect();
    assert_eq!(pods.len(), 2, "a prober in each: {pods:?}");
    stack.assert_clean();
    stack.strike().await;
}

/// Somebody else's request, as LiteLLM logs it.
fn others_call(stack: &Stack) {
    let pods = stack.household.cluster().store().list(&PODS, Some("ml")).items;
    let pod = pods.iter().find(|pod| pod["metadata"]["labels"]["app"] == "litellm").unwrap();
    let line = "INFO:     10.9.9.9:51234 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK";
    stack.household.plane().kubelet().log_line(pod, "litellm", line);
}

async fn calling(stack: &Stack) -> ! {
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        ticks.tick().await;
        others_call(stack);
    }
}

async fn users_that_stay() {
    let stack = Stack::start(Staging::default()).await;
    stack.edit("components:\n", "users: { postpone: 12s }\ncomponents:\n");
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let run = async {
        let mut running = stack.harness("run", &[file]);
        running.until_it_says("waiting: ").await;
        running.end().await.expect(3)
    };
    let ended = tokio::select! {
        ended = run => ended,
        _ = calling(&stack) => unreachable!("others go on calling"),
    };
    assert_eq!(ended.result["ended"], "refused");
    assert!(ended.reasons().contains("the gateway is in use: "), "{}", ended.reasons());
    assert!(ended.reasons().contains("right after another run it may still"), "{}", ended.reasons());
    assert_eq!(stack.mutations(), Vec::<String>::new());
    stack.strike().await;
}

async fn users_that_leave() {
    let stack = Stack::start(Staging::default()).await;
    stack.edit("components:\n", "users: { postpone: 60s }\ncomponents:\n");
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    tokio::select! {
        () = running.until_it_says("waiting: ") => {}
        _ = calling(&stack) => unreachable!("others go on calling"),
    }
    assert_eq!(stack.mutations(), Vec::<String>::new(), "nothing is changed while others use it");
    running.end().await.expect(0);
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_real_users_as_long_as_it_may() {
    tokio::join!(users_that_stay(), users_that_leave());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_long_to_start_is_waited_for_and_that_is_told() {
    let slow = Some(Duration::from_secs(13));
    let stack = Stack::start(Staging { vllm_ready_after: slow, ..Staging::default() }).await;
    let body = CLOUD_DOWN.replace("cloud: down", "vllm: down").replace("vllm-qwen", "cloud-kimi");
    let file = stack.scenario("gpu-down", &body);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("waiting for vllm, 10 s of at most 30 s: 1 pods (0 terminating)").await;
    let ended = running.end().await.expect(0);
    let healed = &ended.result["scenarios"][0]["faults"][0]["healed_ms"];
    let left = &ended.result["scenarios"][0]["faults"][0]["effective_ms"];
    assert!(healed[1].as_f64().unwrap() - left[1].as_f64().unwrap() >= 13_000.0, "{healed} {left}");
    stack.assert_clean();
    stack.strike().await;
}
