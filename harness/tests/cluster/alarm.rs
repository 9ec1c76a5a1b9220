//! An undo that does not come through for so long that a person has to know of it.

use std::time::Duration;

use harness::cluster::alarm::AGAIN_AFTER;
use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::resources::EVENTS;
use serde_json::Value;
use tokio::time::Instant;

use crate::stack::{CLOUD_AND_GPU_DOWN, Stack, Staging};

const COMMAND: &str = "kubectl --kubeconfig kubeconfig --context mock -n ml scale deployment/vllm --current-replicas=0 --replicas=1";
const LOG: &str = "termination-log";
/// The alarm comes on time, on a busy machine too.
const TOLD_WITHIN: Duration = Duration::from_secs(25);

fn refused(verb: &str, resource: &str, times: Option<u32>) -> ChaosRule {
    let trouble = Trouble::Refused { code: 503, retry_after: None };
    ChaosRule { verb: verb.to_owned(), resource: resource.to_owned(), times, trouble }
}

fn events(stack: &Stack) -> Vec<Value> {
    let events = stack.household.cluster().store().list(&EVENTS, None).items;
    let stuck = events.iter().filter(|event| event["reason"] == "RestoreStuck");
    stuck.map(|event| event.as_ref().clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_stuck_is_told_with_its_command_until_it_is_undone() {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    // What the kubelet makes for a pod.
    std::fs::write(stack.path(LOG), "").unwrap();
    let arguments = ["run", "--env", "cluster.yaml", "--out", "out", file.to_str().unwrap()];
    let mut running = stack.command_with(&arguments, &[("HARNESS_TERMINATION_LOG", LOG)]);
    running.until_it_says("judging").await;
    stack.household.cluster().chaos().add(refused("patch", "deployments/scale", None));
    running.until_it_says("deployments/scale ml/vllm is not undone yet").await;
    let begun = Instant::now();
    assert_eq!((events(&stack), stack.file(LOG)), (Vec::new(), String::new()), "nobody is alarmed at once");
    running.until_it_says(&format!("to undo it: {COMMAND}")).await;
    let (least, after) = (AGAIN_AFTER - Duration::from_secs(3), begun.elapsed());
    assert!(after >= least && after <= AGAIN_AFTER + TOLD_WITHIN, "told after {after:?}");
    stack.eventually("an event of the Deployment", TOLD_WITHIN, |stack| !events(stack).is_empty()).await;
    let left = stack.file(LOG);
    stack.household.cluster().chaos().clear();
    let all = events(&stack);
    assert_eq!(all.len(), 1, "{all:?}");
    let (event, object) = (&all[0], &all[0]["involvedObject"]);
    assert_eq!((&event["type"], &event["metadata"]["namespace"]), (&"Warning".into(), &"ml".into()));
    assert_eq!((&object["kind"], &object["name"]), (&"Deployment".into(), &"vllm".into()));
    let message = event["message"].as_str().unwrap();
    assert!(message.ends_with(&format!("; to undo it: {COMMAND}")), "{message}");
    assert_eq!(left, message, "the pod leaves the same behind");

    let ended = running.end().await;
    assert_eq!(ended.result["restored"], true, "{}\n{:#}", ended.stderr, ended.result["reasons"]);
    assert_eq!(stack.file(LOG), "", "it is undone after all");
    let found = ended.result["findings"].to_string();
    assert!(found.contains("alarm: deployments/scale ml/vllm is not undone: "), "{found}");
    assert!(found.contains(COMMAND) && ended.report.contains(COMMAND), "{found}\n{}", ended.report);
    assert!(found.contains("the alarm about deployments/scale ml/vllm is over: it is undone"), "{found}");
    assert_eq!((stack.replicas("vllm"), events(&stack).len()), (1, 1));
    stack.assert_clean();
    stack.strike().await;
}
