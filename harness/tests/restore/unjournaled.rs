//! Runs that cannot have a journal, after one that was killed: they run nothing, and restore all the same.

use mocks::kubernetes::api::{ChaosRule, Trouble};
use tokio::process::Command;

use crate::child::{Ended, Running};
use crate::records::{GPU_DOWN, holder, killed, records, replicas, two_pods};
use crate::stack::Stack;

/// Files can be made, and nothing can be written to them.
const FULL: &str = "ulimit -f 0; trap '' XFSZ; exec \"$@\"";

/// A run whose disk is full.
fn on_full_disk(stack: &Stack, file: &str, job: &str) -> Running {
    let mut command = Command::new("sh");
    command.args(["-c", FULL, "sh", env!("CARGO_BIN_EXE_harness"), "run"]);
    command.args(["--env", "cluster.yaml", "--out", "out", file]).env("HARNESS_JOB_UID", job);
    stack.start_command(command)
}

fn assert_restored(stack: &Stack, ended: &Ended) {
    let undone = "undone: scale Deployment ml/vllm back to 2";
    assert!(ended.stderr.contains(undone), "{}", ended.stderr);
    assert!(ended.stderr.contains("so nothing was run"), "{}", ended.stderr);
    assert_eq!((replicas(stack, "vllm"), holder(stack).as_str()), (2, ""));
    assert_eq!(records(stack)[0]["phase"], "restored");
    stack.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_has_left_is_undone_by_the_next_that_cannot_have_a_journal() {
    let stack = two_pods().await;
    let file = killed(&stack).await;
    let file = file.to_str().unwrap();
    // Something is where the directory of runs should be.
    std::fs::write(stack.path("taken"), "").unwrap();
    let run = ["run", "--env", "cluster.yaml", "--out", "taken", file];
    let ended = stack.command(&run).end().await.expect(3);
    assert!(ended.stderr.contains("cannot make the run directory taken/"), "{}", ended.stderr);
    assert_restored(&stack, &ended);
    let ended = stack.command(&run).end().await.expect(3);
    assert!(ended.stderr.contains("of what earlier runs have left: nothing"), "{}", ended.stderr);
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_a_run_restores_or_says_what_is_left() {
    let stack = two_pods().await;
    let file = killed(&stack).await;
    let file = file.to_str().unwrap();
    stack.household.cluster().chaos().add(ChaosRule {
        verb: "patch".to_owned(),
        resource: "deployments/scale".to_owned(),
        times: None,
        trouble: Trouble::Refused { code: 403, retry_after: None },
    });
    let ended = on_full_disk(&stack, file, "job-1").end().await.expect(4);
    assert!(ended.stderr.contains("cannot write the journal out/"), "{}", ended.stderr);
    assert!(ended.stderr.contains("scale deployment/vllm"), "{}", ended.stderr);
    assert_eq!(replicas(&stack, "vllm"), 0);
    stack.household.cluster().chaos().clear();
    let ended = on_full_disk(&stack, file, "job-1").end().await.expect(3);
    assert_restored(&stack, &ended);
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_job_ends_with_what_is_recorded_also_without_a_journal() {
    let stack = two_pods().await;
    let file = stack.scenario("gpu-down", &GPU_DOWN.replace("cloud-kimi", "ollama-qwen"));
    let file = file.to_str().unwrap();
    let run = ["run", "--env", "cluster.yaml", "--out", "out", file];
    stack.command_with(&run, &[("HARNESS_JOB_UID", "job-1")]).end().await.expect(1);
    let ended = on_full_disk(&stack, file, "job-1").end().await.expect(1);
    assert!(ended.stderr.contains("ended with exit code 1"), "{}", ended.stderr);
    assert_eq!(ended.result["verdict"], "fail", "the newest report is that of the run");
    stack.strike().await;
}
