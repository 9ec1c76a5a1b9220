//! Rollouts, CronJobs and what belongs to nobody.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::household::{Connect, usual};

#[tokio::test]
async fn a_restarted_rollout_serves_all_the_time() {
    let stage = usual().await;
    let before = stage.pod("litellm").await;
    let template = json!({ "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": "now" } } });
    let patch = Patch::Strategic(json!({ "spec": { "template": template } }));
    stage.deployments().patch("litellm", &PatchParams::default(), &patch).await.unwrap();
    stage
        .eventually("a new pod alone", async || {
            assert_eq!(stage.connect("litellm", 4000).await, Connect::Served);
            let pods = stage.pods("litellm").await;
            pods.len() == 1 && pods[0].metadata.name.as_ref() != Some(&before)
        })
        .await;
    let sets = stage.api::<ReplicaSet>().list(&ListParams::default().labels("app=litellm")).await.unwrap();
    assert_eq!(sets.items.len(), 2);
    stage.shutdown().await;
}

#[tokio::test]
async fn a_cron_job_runs_by_the_clock_and_notes_its_success() {
    let stage = usual().await;
    let pod = json!({ "restartPolicy": "Never", "containers": [{ "name": "sweep", "image": "sweep:1" }] });
    let cron_job = json!({
        "metadata": { "name": "sweeper" },
        "spec": {
            "schedule": "* * * * *",
            "jobTemplate": { "spec": { "template": { "spec": pod } } },
        },
    });
    stage.create::<CronJob>(cron_job).await;
    for round in 1..=2 {
        stage.household.cluster().store().clock().put_forward(Duration::from_secs(60));
        stage
            .eventually("a success", async || {
                let status = stage.api::<CronJob>().get("sweeper").await.unwrap().status.unwrap_or_default();
                let jobs = stage.api::<Job>().list(&ListParams::default()).await.unwrap().items;
                let is_done =
                    |job: &Job| job.status.as_ref().is_some_and(|status| status.succeeded == Some(1));
                status.last_successful_time.is_some() && jobs.len() >= round && jobs.iter().all(is_done)
            })
            .await;
    }
    stage.shutdown().await;
}

#[tokio::test]
async fn what_belongs_to_what_is_gone_goes_too() {
    let stage = usual().await;
    let map = |name: &str| json!({ "metadata": { "name": name } });
    let owner: ConfigMap = stage.create(map("owner")).await;
    let mut owned = map("owned");
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid.unwrap(),
    }]);
    stage.create::<ConfigMap>(owned.clone()).await;
    owned["metadata"]["name"] = "orphaned".into();
    let maps = stage.api::<ConfigMap>();
    maps.delete("owner", &DeleteParams::background()).await.unwrap();
    stage.eventually("the owned one gone", async || maps.get_opt("owned").await.unwrap().is_none()).await;
    // An owner that never was is gone as well.
    stage.create::<ConfigMap>(owned).await;
    stage.eventually("the late one gone", async || maps.get_opt("orphaned").await.unwrap().is_none()).await;
    stage.shutdown().await;
}

#[tokio::test]
async fn a_deployment_goes_with_all_that_it_made() {
    let stage = usual().await;
    stage.deployments().delete("vllm", &DeleteParams::background()).await.unwrap();
    stage.eventually("no pods", async || stage.pods("vllm").await.is_empty()).await;
    stage.eventually("a refusal", async || stage.connect("vllm", 8000).await == Connect::Refused).await;
    stage.shutdown().await;
}
