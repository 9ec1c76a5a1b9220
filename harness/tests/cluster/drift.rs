//! What somebody else does while a fault is held.

use harness::cluster::access::Access;
use harness::environment::ObjectName;
use k8s_openapi::api::core::v1::Pod;

use crate::stack::{CLOUD_AND_GPU_DOWN, CLOUD_DOWN, Stack, Staging};

async fn somebody(stack: &Stack) -> Access {
    let namespaces = ["ml".to_owned(), "apps".to_owned()];
    Access::with_kubeconfig(&stack.household.cluster().kubeconfig(), "mock", &namespaces).await.unwrap()
}

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
    let changes = stack.household.plane().kubelet().process_changes();
    let vllm: Vec<bool> =
        changes.iter().filter(|change| change.deployment == "vllm").map(|change| change.started).collect();
    assert_eq!(vllm, [true, false, true], "one stop and one start");
    assert_eq!((stack.replicas("vllm"), stack.replicas("ollama")), (1, 1));
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_scales_back_is_named_and_not_fought() {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    let access = somebody(&stack).await;
    let vllm = ObjectName::new("ml", "vllm");
    let scale = access.scale(&vllm).await.unwrap();
    access.set_scale(&vllm, 1, scale.metadata.resource_version.as_deref().unwrap()).await.unwrap();
    let ended = running.end().await.expect(3);
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"inconclusive".into(), &true.into()));
    let reasons = ended.reasons();
    assert!(reasons.contains("Deployment ml/vllm was scaled to 1 while it had to stay at 0"), "{reasons}");
    let scalings = stack.mutations();
    let to_vllm = scalings.iter().filter(|made| *made == "patch deployments/scale ml/vllm").count();
    assert_eq!(to_vllm, 2, "down by the run, up by somebody: {scalings:?}");
    assert_eq!(stack.replicas("vllm"), 1);
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_gateway_that_is_replaced_voids_the_mode() {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    let access = somebody(&stack).await;
    let pods: Vec<Pod> = access.list(Some("ml"), "app=litellm").await.unwrap();
    let (name, uid) = (pods[0].metadata.name.clone().unwrap(), pods[0].metadata.uid.clone().unwrap());
    access.delete::<Pod>(&ObjectName::new("ml", name), &uid).await.unwrap();
    let ended = running.end().await.expect(3);
    let reasons = ended.reasons();
    assert!(reasons.contains("its memory of cooldowns is lost"), "{reasons}");
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_voids_the_mode() {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    stack.household.plane().network().move_host("ollama.com", 1).await.unwrap();
    let ended = running.end().await.expect(3);
    let reasons = ended.reasons();
    assert!(reasons.contains("which the fault does not cover"), "{reasons}");
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_the_middle_leaves_the_cluster_as_it_was() {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    running.interrupt();
    let ended = running.end().await.expect(3);
    assert_eq!((&ended.result["ended"], &ended.result["restored"]), (&"interrupted".into(), &true.into()));
    assert_eq!((stack.replicas("vllm"), stack.replicas("ollama")), (1, 1));
    stack.assert_clean();
    stack.strike().await;
}
