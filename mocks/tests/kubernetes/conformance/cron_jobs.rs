//! CronJobs. A minute is a minute on a live cluster and shorter on the mock, so everything waits for what it wants to see.
//! No Job here makes a pod.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::ground::{Ground, eventually};

/// Three minutes, and some time for the controllers.
const MINUTES: Duration = Duration::from_secs(210);

/// A CronJob of every minute. With no completions its Jobs succeed at once; else they hang for ever.
fn every_minute(name: &str, policy: &str, completions: Option<u64>) -> Value {
    let mut job = json!({
        "parallelism": 0,
        "template": { "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "none", "image": "registry.invalid/none" }],
        } },
    });
    if let Some(completions) = completions {
        job["completions"] = completions.into();
    }
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": name },
        "spec": {
            "schedule": "* * * * *",
            "concurrencyPolicy": policy,
            "successfulJobsHistoryLimit": 1,
            "jobTemplate": { "metadata": { "labels": { "case": name } }, "spec": job },
        },
    })
}

async fn jobs_of(ground: &Ground, name: &str) -> Vec<Job> {
    ground.api::<Job>().list(&ListParams::default().labels(&format!("case={name}"))).await.unwrap().items
}

#[tokio::test]
async fn a_job_that_hangs_blocks_a_cron_job_that_forbids_two_and_not_one_that_allows_them() {
    let ground = Ground::find("cron-policy").await;
    let (forbids, allows) = (ground.name("forbid"), ground.name("allow"));
    for (name, policy) in [(&forbids, "Forbid"), (&allows, "Allow")] {
        ground.make("apis/batch/v1", "cronjobs", &every_minute(name, policy, None)).await;
    }
    eventually(MINUTES, "a second Job where it is allowed", async || {
        jobs_of(&ground, &allows).await.len() >= 2
    })
    .await;
    let about = format!("involvedObject.name={forbids},reason=JobAlreadyActive");
    eventually(MINUTES, "word of the Job that is in the way", async || {
        !ground.api::<Event>().list(&ListParams::default().fields(&about)).await.unwrap().items.is_empty()
    })
    .await;
    let jobs = jobs_of(&ground, &forbids).await;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let status = ground.api::<CronJob>().get(&forbids).await.unwrap().status.unwrap();
    assert_eq!(status.active.unwrap().len(), 1);
    assert!(status.last_successful_time.is_none());
    ground.leave::<CronJob>(&[&forbids, &allows]).await;
}

#[tokio::test]
async fn a_cron_job_notes_its_last_success_and_keeps_no_more_jobs_than_it_says() {
    let ground = Ground::find("cron-success").await;
    let name = ground.name("c");
    ground.make("apis/batch/v1", "cronjobs", &every_minute(&name, "Allow", Some(0))).await;
    let status = async || ground.api::<CronJob>().get(&name).await.unwrap().status.unwrap_or_default();
    eventually(MINUTES, "a success", async || status().await.last_successful_time.is_some()).await;
    let first = status().await.last_schedule_time;
    assert!(first.is_some());
    eventually(MINUTES, "another run", async || status().await.last_schedule_time > first).await;
    eventually(MINUTES, "one Job of history", async || jobs_of(&ground, &name).await.len() == 1).await;
    ground.leave::<CronJob>(&[&name]).await;
}
