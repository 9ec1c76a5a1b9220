//! What a fault looks like to a client, by who enforces it; and what has no effect is no fault.

use std::time::Duration;

use mocks::kubernetes::controllers::Timing;
use mocks::kubernetes::network::Cni;
use mocks::kubernetes::resources::DEPLOYMENTS;

use crate::child::Ended;
use crate::evidence::cloud_down_that_nobody_sees;
use crate::stack::{CLOUD_DOWN, Stack, Staging};

const SILENT: &str = "no answer to a connect within the hang limit";

/// A run with the cloud cut off by a policy. Where old connections are kept they must be seen to drain.
async fn cloud_down(cni: Cni, seen_as: &str, are_kept: bool) {
    let stack = Stack::start(Staging { cni, ..Staging::default() }).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    let fault = &ended.result["scenarios"][0]["faults"][0];
    assert_eq!((&fault["seen_as"], &fault["held"]), (&seen_as.into(), &true.into()), "{cni:?}: {fault}");
    assert!(ended.report.contains(seen_as), "{cni:?}: {}", ended.report);
    let closed = fault["evidence"].to_string().contains("connections to cloud from before it are closed");
    assert!(closed || !are_kept, "{cni:?}: {fault}");
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_enforcer_gives_the_symptom_that_is_its_own() {
    tokio::join!(
        cloud_down(Cni::K3s, "connection refused", true),
        cloud_down(Cni::Calico, SILENT, true),
        cloud_down(Cni::Cilium, SILENT, false),
    );
}

fn assert_not_effective(stack: &Stack, ended: &Ended) {
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"inconclusive".into(), &true.into()));
    let reasons = ended.reasons();
    assert!(reasons.contains("was accepted but never seen in effect"), "{reasons}");
    let fault = &ended.result["scenarios"][0]["faults"][0];
    assert!(fault["effective_ms"].is_null() && fault["seen_as"].is_null(), "{fault}");
    stack.assert_clean();
}

async fn policy_that_nobody_enforces() {
    let stack = Stack::start(Staging { cni: Cni::None, ..Staging::default() }).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(3);
    assert_not_effective(&stack, &ended);
    stack.strike().await;
}

async fn pod_that_uses_all_of_its_grace_period() {
    let timing = Timing { exit_after: Duration::from_secs(3600), ..Timing::fast() };
    let stack = Stack::start(Staging { timing, ..Staging::default() }).await;
    stack.change(&DEPLOYMENTS, "ml", "vllm", |object| {
        object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 8.into();
    });
    stack.household.ready(Duration::from_secs(60)).await.unwrap();
    let body = CLOUD_DOWN.replace("cloud: down", "vllm: down").replace("vllm-qwen", "cloud-kimi");
    let file = stack.scenario("gpu-down", &body);
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    let fault = &ended.result["scenarios"][0]["faults"][0];
    let took = fault["effective_ms"][1].as_f64().unwrap() - fault["injected_ms"][0].as_f64().unwrap();
    assert!(took >= 7000.0, "it answers until the kubelet kills it: {fault}");
    assert_eq!(stack.replicas("vllm"), 1);
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_seen_to_take_effect_is_given_up_and_what_is_late_is_waited_for() {
    tokio::join!(
        policy_that_nobody_enforces(),
        pod_that_uses_all_of_its_grace_period(),
        cloud_down_that_nobody_sees(),
    );
}
