//! Pods of Jobs that are real processes.

use std::path::Path;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::household::{Stage, options, start, usual};

/// A Job whose image is a shell with this script.
fn job(name: &str, script: &str, more: &Value) -> Value {
    let mut pod = json!({
        "restartPolicy": "Never",
        "containers": [{
            "name": "main", "image": "registry:5000/shell:1.2", "command": ["/in/the/image"], "args": ["-c", script],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "env": [{
                "name": "JOB",
                "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['batch.kubernetes.io/job-name']" } },
            }],
            "volumeMounts": [
                { "name": "texts", "mountPath": "/etc/texts" }, { "name": "claim", "mountPath": "/out" },
            ],
        }],
        "volumes": [
            { "name": "texts", "configMap": { "name": "texts" } },
            { "name": "claim", "persistentVolumeClaim": { "claimName": "claim" } },
        ],
    });
    for (field, value) in more.as_object().unwrap() {
        pod[field] = value.clone();
    }
    json!({ "metadata": { "name": name }, "spec": { "backoffLimit": 0, "template": { "spec": pod } } })
}

async fn furnish(stage: &Stage) {
    stage.household.run_image("registry:5000/shell", Path::new("/bin/sh"));
    stage
        .create::<ConfigMap>(json!({ "metadata": { "name": "texts" }, "data": { "a": "from a map" } }))
        .await;
    let storage =
        json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    stage.create::<PersistentVolumeClaim>(json!({ "metadata": { "name": "claim" }, "spec": storage })).await;
}

/// The only pod of a Job, once its container has ended: exit code and message.
async fn ended(stage: &Stage, name: &str) -> (i32, String) {
    let list = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
    let found = std::cell::RefCell::new((0, String::new()));
    stage
        .eventually("the container ends", async || {
            let pods = stage.api::<Pod>().list(&list).await.unwrap().items;
            let status = pods.first().and_then(|pod| pod.status.clone()).unwrap_or_default();
            let statuses = status.container_statuses.unwrap_or_default();
            let state = statuses.first().and_then(|status| status.state.clone()?.terminated);
            if let Some(state) = &state {
                *found.borrow_mut() = (state.exit_code, state.message.clone().unwrap_or_default());
            }
            state.is_some()
        })
        .await;
    found.into_inner()
}

#[tokio::test]
async fn a_pod_of_a_job_runs_the_program_of_its_image() {
    let stage = usual().await;
    furnish(&stage).await;
    // Paths are replaced where an argument is one.
    let script = "cat \"$1/a\"; echo; echo $JOB; test -s $KUBECONFIG && echo kept > $2/file; exit 3";
    let mut object = job("reads", script, &json!({}));
    let arguments = object["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut().unwrap();
    arguments.extend([json!("shell"), json!("/etc/texts"), json!("/out")]);
    stage.create::<Job>(object).await;
    let (code, message) = ended(&stage, "reads").await;
    assert_eq!(code, 3, "{message}");
    assert!(message.contains("from a map\nreads"), "{message}");
    let file = stage.household.plane().kubelet().claim_folder("ml", "claim").join("file");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "kept\n");
    stage
        .eventually("the Job has failed", async || {
            let status = stage.api::<Job>().get("reads").await.unwrap().status.unwrap_or_default();
            status.conditions.unwrap_or_default().iter().any(|condition| condition.type_ == "Failed")
        })
        .await;
    stage.shutdown().await;
}

#[tokio::test]
async fn a_program_is_asked_to_end_and_is_killed_after_its_grace_period() {
    let stage = usual().await;
    furnish(&stage).await;
    let logs = |pod: &Pod| {
        let pod = serde_json::to_value(pod).unwrap();
        stage.household.plane().kubelet().log_of(&pod, "main")
    };
    // One ends when it is asked to, and one does not listen.
    for (name, script) in [
        ("polite", "trap 'echo bye; touch $0/polite; exit 0' TERM; echo up; while :; do sleep 0.05; done"),
        ("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done"),
    ] {
        let mut object = job(name, script, &json!({ "terminationGracePeriodSeconds": 1 }));
        let arguments = object["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut().unwrap();
        arguments.push(json!("/out"));
        stage.create::<Job>(object).await;
        let list = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
        let up = async || {
            let pods = stage.api::<Pod>().list(&list).await.unwrap().items;
            pods.first().is_some_and(|pod| logs(pod).contains(&"up".to_owned()))
        };
        stage.eventually("it is up", up).await;
        stage.api::<Job>().delete(name, &DeleteParams::background()).await.unwrap();
        let gone = async || stage.api::<Pod>().list(&list).await.unwrap().items.is_empty();
        stage.eventually("its pod is gone", gone).await;
    }
    let folder = stage.household.plane().kubelet().claim_folder("ml", "claim");
    assert!(folder.join("polite").exists(), "it was asked first");
    stage.shutdown().await;
}

#[tokio::test]
async fn a_program_waits_for_its_volumes() {
    let stage = usual().await;
    stage.household.run_image("registry:5000/shell", Path::new("/bin/sh"));
    stage.create::<Job>(job("early", "true", &json!({}))).await;
    furnish(&stage).await;
    assert_eq!(ended(&stage, "early").await.0, 0);
    stage.shutdown().await;
}

#[tokio::test]
async fn minutes_can_be_shorter() {
    let mut options = options().await;
    options.timing.minute = std::time::Duration::from_secs(1);
    let stage = start(options).await;
    let pod = json!({ "restartPolicy": "Never", "containers": [{ "name": "sweep", "image": "sweep:1" }] });
    let cron_job = json!({
        "metadata": { "name": "sweeper" },
        "spec": {
            "schedule": "* * * * *", "successfulJobsHistoryLimit": 1,
            "jobTemplate": { "spec": { "template": { "spec": pod } } },
        },
    });
    stage.create::<CronJob>(cron_job).await;
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    stage
        .eventually("three Jobs", async || {
            let jobs = stage.api::<Job>().list(&ListParams::default()).await.unwrap().items;
            seen.borrow_mut().extend(jobs.into_iter().filter_map(|job| job.metadata.name));
            seen.borrow().len() >= 3
        })
        .await;
    stage.shutdown().await;
}
