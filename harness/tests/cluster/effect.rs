//! What a fault looks like to a client, by who enforces it; and what has no effect is no fault.

use std::time::Duration;

use mocks::kubernetes::controllers::Timing;
use mocks::kubernetes::network::Cni;
use mocks::kubernetes::resources::DEPLOYMENTS;

use crate::child::Ended;
use crate::evidence::cloud_down_that_nobody_sees;
use crate::stack::{CLOUD_AND_GPU_DOWN, CLOUD_DOWN, Stack, Staging};

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

/// The gateway keeps its connections for longer than the enforcer does: until that has cut them the cloud answers on
/// them, and only from then on is the fault in effect. What hangs on one then is given up, and the connection with it.
#[tokio::test(flavor = "multi_thread")]
async fn old_connections_that_are_cut_late_move_the_instant_of_the_fault() {
    let stack = Stack::start(Staging { cni: Cni::Kindnet, ..Staging::default() }).await;
    stack.keep_idle(Duration::from_secs(120));
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    let fault = &ended.result["scenarios"][0]["faults"][0];
    assert_eq!((&fault["seen_as"], &fault["held"]), (&SILENT.into(), &true.into()), "{fault}");
    let evidence = fault["evidence"].as_array().unwrap();
    assert!(evidence.iter().any(|seen| seen["source"] == "connections"), "{fault}");
    let late = Timing::fast().look_again_after.as_secs_f64() * 1000.0;
    let took = fault["effective_ms"][1].as_f64().unwrap() - fault["injected_ms"][0].as_f64().unwrap();
    assert!(took >= late, "they were answered until then: {fault}");
    stack.assert_clean();
    stack.strike().await;
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

/// Whatever inherits a fault that was never seen says nothing either: nobody knows whether it is in effect by then.
async fn policy_that_nobody_enforces_in_two_modes() {
    let stack = Stack::start(Staging { cni: Cni::None, ..Staging::default() }).await;
    stack.edit("deployment: ml/vllm, down: scale-to-zero", "deployment: ml/vllm, down: isolate");
    let gpu_down =
        CLOUD_DOWN.replace("cloud: down", "vllm: down").replace("vllm-qwen, within", "cloud-kimi, within");
    let files = [stack.scenario("gpu-down", &gpu_down), stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN)];
    let ended = stack.harness("run", &files).end().await.expect(3);
    let modes = ended.result["scenarios"].as_array().unwrap();
    let mode = |name: &str| modes.iter().find(|mode| mode["name"] == name).unwrap();
    let (first, second) = (mode("gpu-down"), mode("cloud-gpu-down"));
    assert!(first["reasons"].to_string().contains("never seen in effect"), "{first}");
    let faults = second["faults"].as_array().unwrap();
    let vllm = faults.iter().find(|fault| fault["component"] == "vllm").unwrap();
    assert_eq!(vllm["inherited"], true, "{second}");
    let why = "vllm was taken down for an earlier mode, which could not show";
    assert!(second["reasons"].to_string().contains(why), "{second}");
    for mode in modes {
        assert_eq!(mode["verdict"], "inconclusive", "{mode}");
    }
    assert_eq!(ended.result["restored"], true);
    stack.assert_clean();
    stack.strike().await;
}

/// The cloud's name is gone from the DNS just when nobody enforces the policy: that is not the fault.
async fn name_that_is_away_instead() {
    let stack = Stack::start(Staging { cni: Cni::None, ..Staging::default() }).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let running = stack.harness("run", &[file]);
    let is_made = |stack: &Stack| {
        let made = stack.mutations();
        made.iter().any(|made| made.starts_with("create networkpolicies "))
    };
    stack.eventually("the policy", Duration::from_secs(120), is_made).await;
    stack.household.plane().network().move_host("ollama.com", 0).await.unwrap();
    let ended = running.end().await.expect(3);
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
        policy_that_nobody_enforces_in_two_modes(),
        name_that_is_away_instead(),
        pod_that_uses_all_of_its_grace_period(),
        cloud_down_that_nobody_sees(),
    );
}
