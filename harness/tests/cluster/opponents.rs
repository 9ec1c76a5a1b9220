//! Whoever would fight a run: told to wait where the environment says so, and noticed where only the deed shows them.

use std::time::Duration;

use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::controllers::Opponent;
use mocks::kubernetes::resources::{
    APPLICATIONS, CrdGroup, HORIZONTAL_POD_AUTOSCALERS, KUSTOMIZATIONS, Resource, SCALED_OBJECTS,
};
use mocks::kubernetes::stack::add_opponent;
use mocks::kubernetes::store::ObjectKey;
use serde_json::Value;

use crate::stack::{CLOUD_AND_GPU_DOWN, Stack, Staging};

/// Where an opponent is told to wait.
pub(crate) struct Switch {
    pub(crate) resource: &'static Resource,
    pub(crate) name: &'static str,
    pub(crate) pointer: &'static str,
}

/// The run passes although the mock's opponents act within 300 ms, and the switch is as it was.
async fn paused(opponent: Opponent, word: &str, switch: Option<Switch>) {
    let stack = Stack::start(Staging { opponents: vec![opponent], ..Staging::default() }).await;
    stack.edit("components:\n", &format!("opponents: {{ pause: [{word}] }}\ncomponents:\n"));
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    assert_eq!(ended.result["restored"], true, "{word}");
    assert_eq!(stack.writers("deployments/scale", "vllm").len(), 2, "{word}: one scale down and one up");
    if let Some(Switch { resource, name, pointer }) = switch {
        let key = ObjectKey::new(resource, "ml", name);
        let object = stack.household.cluster().store().get(&key).unwrap();
        assert_eq!(object.pointer(pointer).unwrap_or(&Value::Null), &Value::Null, "{word} goes on");
        let written = format!("patch {} ml/{name}", resource.plural);
        let times = stack.mutations().iter().filter(|made| **made == written).count();
        assert_eq!(times, 2, "{word} was told to wait, and to go on: {:?}", stack.mutations());
    }
    assert_eq!(stack.replicas("vllm"), 1);
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opponent_that_may_be_paused_is_and_goes_on_afterwards() {
    let annotation = "/metadata/annotations/autoscaling.keda.sh~1paused";
    let keda = Switch { resource: &SCALED_OBJECTS, name: "vllm", pointer: annotation };
    let annotation = "/metadata/annotations/argocd.argoproj.io~1skip-reconcile";
    let argo = Switch { resource: &APPLICATIONS, name: "household", pointer: annotation };
    let flux = Switch { resource: &KUSTOMIZATIONS, name: "household", pointer: "/spec/suspend" };
    tokio::join!(
        paused(Opponent::Hpa, "hpa", None),
        paused(Opponent::Keda, "keda", Some(keda)),
        paused(Opponent::Argo, "argo-cd", Some(argo)),
        paused(Opponent::Flux, "flux", Some(flux)),
    );
}

/// The autoscaler stood aside while the count was 0, and wants another one as soon as the run has scaled back: that is
/// its own affair by then, everything else is as it was, and whoever came before the count was read back is named.
async fn goes_on_to_another_count(before_it_is_read_back: bool) {
    let stack = Stack::start(Staging { opponents: vec![Opponent::Hpa], ..Staging::default() }).await;
    stack.edit("components:\n", "opponents: { pause: [hpa] }\ncomponents:\n");
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    stack
        .change(&HORIZONTAL_POD_AUTOSCALERS, "ml", "vllm", |scaler| scaler["spec"]["minReplicas"] = 2.into());
    if before_it_is_read_back {
        // It acts within 300 ms.
        stack.household.cluster().chaos().add(ChaosRule {
            verb: "get".to_owned(),
            resource: "deployments/scale".to_owned(),
            times: None,
            trouble: Trouble::Latency(Duration::from_secs(2)),
        });
    }
    let ended = running.end().await.expect(0);
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"pass".into(), &true.into()));
    assert_eq!(
        stack.writers("deployments/scale", "vllm").len(),
        2,
        "one scale down and one up: nobody is fought"
    );
    assert_eq!(stack.replicas("vllm"), 2, "the autoscaler's own count is left to it");
    let told =
        "deployments/scale ml/vllm was undone, and has been changed by kube-controller-manager since: 2 pods";
    // Otherwise it may come before or after.
    assert!(ended.report.contains(told) || !before_it_is_read_back, "{}", ended.report);
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_paused_opponent_does_once_it_goes_on_is_its_own_and_told() {
    tokio::join!(goes_on_to_another_count(true), goes_on_to_another_count(false));
}

/// Nobody is in the way when the run begins; somebody is told to act while the fault is held.
async fn wakes(staging: Staging, asleep: impl Fn(&Stack), wake: impl Fn(&Stack), actor: &str) {
    let stack = Stack::start(staging).await;
    asleep(&stack);
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    wake(&stack);
    let ended = running.end().await.expect(3);
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"inconclusive".into(), &true.into()));
    let reasons = ended.reasons();
    assert!(reasons.contains("Deployment ml/vllm was scaled to 1 while it had to stay at 0"), "{reasons}");
    assert!(reasons.contains(&format!("(by {actor}")), "{actor}: {reasons}");
    assert_eq!(stack.writers("deployments/scale", "vllm"), ["failover-harness"], "nobody is fought");
    assert_eq!(stack.replicas("vllm"), 1);
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opponent_that_only_its_deed_shows_is_noticed_and_not_fought() {
    let heals = |stack: &Stack, heals: bool| {
        stack.change(&APPLICATIONS, "ml", "household", |object| {
            object["spec"]["syncPolicy"]["automated"]["selfHeal"] = heals.into();
        });
    };
    let suspends = |stack: &Stack, suspend: bool| {
        stack.change(&KUSTOMIZATIONS, "ml", "household", |object| object["spec"]["suspend"] = suspend.into());
    };
    let keda = |stack: &Stack| add_opponent(stack.household.cluster().store(), Opponent::Keda).unwrap();
    let installed = Staging { crds: vec![CrdGroup::Keda], ..Staging::default() };
    let with = |opponent| Staging { opponents: vec![opponent], ..Staging::default() };
    tokio::join!(
        wakes(installed, |_| {}, keda, "someone unknown"),
        wakes(
            with(Opponent::Argo),
            |stack| heals(stack, false),
            |stack| heals(stack, true),
            "argocd-controller"
        ),
        wakes(
            with(Opponent::Flux),
            |stack| suspends(stack, true),
            |stack| suspends(stack, false),
            "kustomize-controller"
        ),
    );
}
