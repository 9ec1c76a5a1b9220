//! What a plan says of a run in a cluster, without making it.

use crate::stack::{CLOUD_AND_GPU_DOWN, CLOUD_DOWN, Stack, Staging};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_order_undo_duration_and_resolution_and_changes_nothing() {
    let stack = Stack::start(Staging::default()).await;
    let brief = CLOUD_DOWN.replace("for: 6s", "for: 2s");
    let files = [stack.scenario("cloud-down", &brief), stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN)];
    let planned = stack.harness("plan", &files).end().await.expect(0).stdout;
    let mut rest = planned.as_str();
    for wanted in [
        "2 modes in the environment test-cluster, in this order",
        "1. cloud-down",
        "inject  blackhole of cloud (undo: let the gateway's pods reach cloud again)",
        "probe   agent at 4/s for 2s, a probe every 250 ms; vllm-qwen should answer",
        "heal    cloud, and wait until it serves and the routes are back",
        "2. cloud-gpu-down",
        "inject  scale-to-zero of vllm (undo: scale vllm back to the count that it had)",
        "inject  blackhole of cloud (undo: let the gateway's pods reach cloud again)",
        "probe   agent at 4/s for 6s, a probe every 250 ms; ollama-qwen should answer",
        "heal    cloud, and",
        "heal    vllm, and",
        // Two leads of 10 s, and 2 s and 6 s.
        "leads and judged times: 28s;",
        "where every wait takes as long as it may: ",
        // What cannot be resolved is told before it is run.
        "note: cloud-down: agent gets about 8 judged probes in 2s; ",
        // What the cluster would be asked.
        "scale Deployment ml/vllm from 1 pod to 0",
        " granted\n",
        "   granted  ml: get, patch deployments/scale vllm\n",
        "   granted  ml: get, list, watch pods\n",
    ] {
        let at = rest.find(wanted).unwrap_or_else(|| panic!("no {wanted:?} in its place: {planned}"));
        rest = &rest[at + wanted.len()..];
    }
    assert!(!planned.contains("as a Job"), "it runs outside the cluster: {planned}");
    assert_eq!(stack.mutations(), Vec::<String>::new());
    assert!(!stack.path("out").exists());
    stack.strike().await;
}

#[tokio::test]
async fn a_plan_for_a_mock_cluster_tells_what_a_run_would_change_in_it() {
    let dir = tempfile::TempDir::new().unwrap();
    let scenarios = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_harness"));
    command.arg("plan").arg("--env").arg(scenarios.join("environments/mock-cluster.yaml"));
    command.arg(scenarios.join("full-outage.yaml"));
    let planned = crate::child::Running::start(command, dir.path()).end().await.expect(0).stdout;
    for wanted in [
        "changes in the mock cluster that a run makes, in this order",
        "   cloud\n      make Job ml/drill-anchor-blackhole-cloud-run",
        "the pods of Deployment ml/litellm cannot reach ollama.com (as they resolve it)",
        "         undo: delete NetworkPolicy ml/drill-blackhole-cloud-run",
        "   vllm\n      scale Deployment ml/vllm from the count that it has to 0",
        "         undo: scale Deployment ml/vllm back to that count",
        "   ollama\n      scale Deployment ml/ollama",
    ] {
        assert!(planned.contains(wanted), "no {wanted:?}: {planned}");
    }
}
