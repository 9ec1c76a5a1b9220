//! The cloud is cut off by a packet filter in the gateway's pods.

use std::time::Duration;

use mocks::gate::GateMode;
use mocks::kubernetes::resources::{DEPLOYMENTS, PODS};
use mocks::kubernetes::store::{ObjectKey, Writer};

use crate::drift::GPU_DOWN;
use crate::stack::{CLOUD_DOWN, Stack, Staging};

fn ephemeral(stack: &Stack) -> Vec<String> {
    let pods = stack.household.cluster().store().list(&PODS, Some("ml")).items;
    let all = pods.iter().flat_map(|pod| pod["spec"]["ephemeralContainers"].as_array().into_iter().flatten());
    all.map(|container| container["name"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn passes(stack: &Stack) -> bool {
    let modes = stack.household.plane().network().host_modes("ollama.com");
    modes.iter().all(|(_, mode)| *mode == GateMode::Pass)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_filter_silences_the_cloud_and_is_lifted_each_time() {
    let stack = Stack::start(Staging::default()).await;
    stack.blackhole_by("netns-drop");
    // In between the cloud is up, as it is between two of the five modes.
    let files = [
        stack.scenario("a-cloud-down", CLOUD_DOWN),
        stack.scenario("b-gpu-down", GPU_DOWN),
        stack.scenario("c-cloud-down", CLOUD_DOWN),
    ];
    let planned = stack.harness("plan", &files).end().await.expect(0);
    assert!(planned.stdout.contains("run nft once in pod ml/litellm-"), "{}", planned.stdout);
    assert_eq!(stack.mutations(), Vec::<String>::new(), "a plan changes nothing");
    let ended = stack.harness("run", &files).end().await.expect(0);
    let fault = &ended.result["scenarios"][0]["faults"][0];
    // Silent although the network refuses what its policies forbid; established connections fell silent, too.
    assert_eq!(fault["seen_as"], "no answer to a connect within the hang limit", "{fault}");
    assert_eq!(fault["held"], true, "{fault}");
    assert!(ended.report.contains("two containers are added to each pod"), "{}", ended.report);
    let (mut made, containers) = (stack.mutations(), ephemeral(&stack));
    made.retain(|one| one.starts_with("patch pods/ephemeralcontainers ml/litellm-"));
    assert_eq!(made.len(), 4, "{:?}", stack.mutations());
    assert_eq!(containers.len(), 4, "{containers:?}");
    assert!(containers[0].starts_with("drill-cloud-drop-1-"), "{containers:?}");
    assert!(containers[1].starts_with("drill-cloud-lift-1-1-"), "{containers:?}");
    assert!(passes(&stack));
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_comes_later_is_not_covered_and_voids_the_mode() {
    let stack = Stack::start(Staging::default()).await;
    stack.blackhole_by("netns-drop");
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    let key = ObjectKey::new(&DEPLOYMENTS, "ml", "litellm");
    let store = stack.household.cluster().store();
    let scaled = store.update(&key, Writer::of_object("kubectl-scale"), |object| {
        object["spec"]["replicas"] = 2.into();
        Ok(())
    });
    scaled.unwrap();
    let ended = running.end().await.expect(3);
    assert!(ended.reasons().contains("joined the gateway"), "{}", ended.reasons());
    assert_eq!(ended.result["restored"], true);
    stack.household.ready(Duration::from_secs(30)).await.unwrap();
    assert!(passes(&stack));
    stack.strike().await;
}
