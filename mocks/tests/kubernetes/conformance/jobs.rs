//! Jobs that are dead-man's switches: their deadline, their time to live, and what they own. All of it was measured on a
//! real control plane, or read in its sources, and none of it needs a node.

use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::ground::{CONTROL, Ground, PATIENCE, eventually};

const BATCH: &str = "apis/batch/v1";
const NETWORKING: &str = "apis/networking.k8s.io/v1";

/// A Job that runs no pod and ends by its deadline alone.
fn anchor(name: &str, deadline: u64) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
        "spec": {
            "parallelism": 0,
            "activeDeadlineSeconds": deadline,
            "template": { "spec": {
                "restartPolicy": "Never",
                "containers": [{ "name": "none", "image": "registry.invalid/none" }],
            } },
        },
    })
}

/// Makes a policy that selects no pod and belongs to a Job.
async fn owned_policy(ground: &Ground, name: &str, job: &Value) {
    let owner = json!({
        "apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"],
    });
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name, "ownerReferences": [owner] },
        "spec": { "podSelector": { "matchLabels": { "app": name } }, "policyTypes": ["Egress"], "egress": [] },
    });
    ground.make(NETWORKING, "networkpolicies", &policy).await;
}

fn has(job: &Job, kind: &str, reason: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| {
        condition.type_ == kind
            && condition.status == "True"
            && (reason.is_empty() || condition.reason.as_deref() == Some(reason))
    })
}

async fn pods_of(ground: &Ground, job: &str) -> Vec<Pod> {
    let labels = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    ground.api::<Pod>().list(&labels).await.unwrap().items
}

#[tokio::test]
async fn a_policy_of_a_job_without_pods_is_gone_at_the_deadline_of_the_job() {
    let ground = Ground::find("anchor").await;
    let name = ground.name("j");
    let mut job = anchor(&name, 5);
    job["spec"]["ttlSecondsAfterFinished"] = 0.into();
    let begun = Instant::now();
    let made = ground.make(BATCH, "jobs", &job).await;
    assert!(made["spec"].get("completions").is_none(), "nobody asked for any: {made}");
    owned_policy(&ground, &name, &made).await;
    let started = ground
        .wait::<Job>(&name, "a Job that runs", |job| {
            job.is_none_or(|job| job.status.as_ref().is_some_and(|status| status.start_time.is_some()))
        })
        .await;
    assert!(started.is_some(), "the Job is gone before its deadline");
    assert!(ground.api::<NetworkPolicy>().get_opt(&name).await.unwrap().is_some());
    assert!(pods_of(&ground, &name).await.is_empty());
    ground.wait::<NetworkPolicy>(&name, "the policy gone", |policy| policy.is_none()).await;
    let taken = begun.elapsed();
    // The start is told in whole seconds: 9.6 s for a deadline of 10 s were seen.
    assert!(taken >= Duration::from_secs(4), "{taken:?}");
    assert!(taken <= Duration::from_secs(5) + PATIENCE, "{taken:?}");
    ground.wait::<Job>(&name, "the Job gone", |job| job.is_none()).await;
    ground.leave::<Job>(&[&name]).await;
}

#[tokio::test]
async fn a_deadline_can_be_moved_and_what_has_failed_lives_as_long_as_it_says() {
    let ground = Ground::find("deadline").await;
    let name = ground.name("j");
    let made = ground.make(BATCH, "jobs", &anchor(&name, 3600)).await;
    owned_policy(&ground, &name, &made).await;
    let path = format!("jobs/{name}");
    let (code, moved) =
        ground.patch(BATCH, &path, "merge", &json!({ "spec": { "activeDeadlineSeconds": 1 } })).await;
    assert_eq!(code, 200, "{moved}");
    let failed = |job: Option<&Job>| job.is_none_or(|job| has(job, "Failed", "DeadlineExceeded"));
    ground.wait(&name, "a Job that is late", failed).await.expect("it has no time to live");
    // What belongs to a Job stays while the Job does.
    assert!(ground.api::<NetworkPolicy>().get_opt(&name).await.unwrap().is_some());
    let (code, told) =
        ground.patch(BATCH, &path, "merge", &json!({ "spec": { "ttlSecondsAfterFinished": 1 } })).await;
    assert_eq!(code, 200, "{told}");
    ground.wait::<NetworkPolicy>(&name, "the policy gone", |policy| policy.is_none()).await;
    ground.wait::<Job>(&name, "the Job gone", |job| job.is_none()).await;
    ground.leave::<Job>(&[&name]).await;
}

#[tokio::test]
async fn a_job_whose_pod_is_on_a_node_that_is_gone_does_not_fail_and_keeps_the_policy() {
    let ground = Ground::find("dead-node").await;
    let name = ground.name("j");
    let mut job = anchor(&name, 2);
    job["spec"]["parallelism"] = 1.into();
    job["spec"]["ttlSecondsAfterFinished"] = 0.into();
    job["spec"]["template"]["spec"]["nodeName"] = "none.failover.invalid".into();
    let made = ground.make(BATCH, "jobs", &job).await;
    owned_policy(&ground, &name, &made).await;
    let is_late = |job: Option<&Job>| job.is_none_or(|job| has(job, "FailureTarget", "DeadlineExceeded"));
    let late = ground.wait(&name, "a Job that is late", is_late).await.expect("the pod holds it");
    assert!(!has(&late, "Failed", ""), "{:?}", late.status);
    // Nobody is there to end the pod, and so it goes on after the first look.
    eventually(CONTROL, "a pod that is asked to end", async || {
        let pods = pods_of(&ground, &name).await;
        assert_eq!(pods.len(), 1, "{pods:?}");
        pods[0].metadata.deletion_grace_period_seconds == Some(30)
    })
    .await;
    let job = ground.api::<Job>().get(&name).await.unwrap();
    assert!(!has(&job, "Failed", ""), "{:?}", job.status);
    assert!(ground.api::<NetworkPolicy>().get_opt(&name).await.unwrap().is_some());
    // As somebody does who knows that the node is gone for good.
    for pod in pods_of(&ground, &name).await {
        let pod = pod.metadata.name.unwrap();
        ground.api::<Pod>().delete(&pod, &DeleteParams::background().grace_period(0)).await.unwrap();
    }
    ground.wait::<NetworkPolicy>(&name, "the policy gone", |policy| policy.is_none()).await;
    ground.wait::<Job>(&name, "the Job gone", |job| job.is_none()).await;
    ground.leave::<Job>(&[&name]).await;
}

#[tokio::test]
async fn a_job_that_wants_no_success_has_it_at_once() {
    let ground = Ground::find("complete").await;
    let name = ground.name("j");
    let mut job = anchor(&name, 3600);
    job["spec"]["completions"] = 0.into();
    ground.make(BATCH, "jobs", &job).await;
    let is_done = |job: Option<&Job>| job.is_none_or(|job| has(job, "Complete", ""));
    let job = ground.wait(&name, "a Job that is done", is_done).await.expect("it has no time to live");
    assert!(job.status.unwrap().completion_time.is_some());
    ground.leave::<Job>(&[&name]).await;
}
