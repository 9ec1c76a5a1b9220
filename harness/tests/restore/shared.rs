//! Two gateways with a backend in common: who restores for one of them leaves alone what a run of the other has made.

use mocks::kubernetes::resources::{JOBS, NETWORK_POLICIES};
use rustix::process::Signal;

use crate::records::{GPU_DOWN, two_pods};
use crate::stack::Stack;

fn made(stack: &Stack) -> usize {
    let store = stack.household.cluster().store();
    [&JOBS, &NETWORK_POLICIES].iter().map(|kind| store.list(kind, Some("ml")).items.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_another_gateway_keeps_its_policy_while_somebody_restores_here() {
    let stack = two_pods().await;
    stack.edit("deployment: ml/vllm, down: scale-to-zero", "deployment: ml/vllm, down: isolate");
    let environment = stack.file("cluster.yaml").replace("ml/litellm", "apps/litellm");
    std::fs::write(stack.path("other.yaml"), environment).unwrap();
    let file = stack.scenario("gaming", &GPU_DOWN.replace("for: 2s", "for: 120s"));
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    assert_eq!(made(&stack), 2, "a policy, and the Job that it belongs to");
    for arguments in
        [&["restore", "--env", "other.yaml"][..], &["restore", "--env", "other.yaml", "--abandoned"]]
    {
        let restored = stack.command(arguments).end().await.expect(0);
        assert!(
            restored.stdout.contains("is left to whoever restores in namespace ml"),
            "{}\n{}",
            restored.stdout,
            restored.stderr
        );
        assert!(restored.stdout.contains("no run has left anything"), "{}", restored.stdout);
        assert_eq!(made(&stack), 2, "{arguments:?}");
    }
    running.signal(Signal::TERM);
    let ended = running.end().await.expect(3);
    assert_eq!(ended.result["restored"], true);
    assert!(!ended.reasons().contains("policy"), "{}", ended.reasons());
    stack.assert_clean();
    stack.strike().await;
}
