//! What becomes of a run whose pod is taken away.

use std::path::PathBuf;

use serde_json::Value;

use crate::apply::DRILL;
use crate::house::{CLOUD_AND_GPU_DOWN, House, SWEEP_EVERY, all_restored, result};

/// Runs that made a fault.
fn faulted(runs: &[PathBuf]) -> usize {
    let journal = |run: &PathBuf| std::fs::read_to_string(run.join("journal.jsonl")).unwrap();
    runs.iter().filter(|run| journal(run).contains("\"fault-intended\"")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_killed_is_replaced_by_one_that_restores_and_runs_nothing_again() {
    let house = House::start(SWEEP_EVERY).await;
    house.deploy(CLOUD_AND_GPU_DOWN).await;
    house.until_swept().await;
    house.run_now(DRILL, "tonight");
    house.until_faulted(&["vllm"]).await;
    house.kill_pods("tonight");
    let (complete, told) = house.end_of("tonight").await;
    assert!(!complete, "nobody knows the verdict of the run that was killed: {told}");
    assert!(told.contains("the Job of this pod has run already"), "{told}");
    assert_eq!(house.replicas("vllm"), 1);
    assert!(all_restored(house.cluster()));
    house.assert_clean();
    assert_eq!(faulted(&house.runs()), 1, "only the first pod ran");
    house.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_evicted_restores_in_its_grace_period() {
    let house = House::start(SWEEP_EVERY).await;
    house.deploy(CLOUD_AND_GPU_DOWN).await;
    house.until_swept().await;
    house.run_now(DRILL, "tonight");
    house.until_faulted(&["vllm"]).await;
    house.evict_pods("tonight");
    let (complete, told) = house.end_of("tonight").await;
    assert!(!complete, "{told}");
    let all = house.runs();
    assert_eq!(faulted(&all), 1, "only the first pod ran");
    let first: Value = result(&all[0]);
    assert_eq!((&first["restored"], &first["ended"]), (&true.into(), &"interrupted".into()), "{first:#}");
    assert!(first["reasons"].to_string().contains("SIGTERM"), "{first:#}");
    assert_eq!(house.replicas("vllm"), 1);
    assert!(all_restored(house.cluster()));
    house.assert_clean();
    house.strike().await;
}
