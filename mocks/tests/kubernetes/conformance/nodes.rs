//! What needs a node, and on a live cluster an image with `sh` that it can pull: `FAILOVER_CONFORMANCE_IMAGE` names it.

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, DeleteParams, ListParams, LogParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::ground::{CONTROL, Ground, PATIENCE, eventually};

/// A container of a shell that runs a script.
fn shell(ground: &Ground, script: &str) -> Value {
    json!({ "name": "main", "image": ground.image(), "command": ["sh", "-c", script], "ports": [{ "containerPort": 8080 }] })
}

fn is_ready(pod: Option<&Pod>) -> bool {
    let conditions = pod.and_then(|pod| pod.status.as_ref()).and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}

#[tokio::test]
async fn a_command_has_its_channels_and_ends_with_its_code() {
    let ground = Ground::find("exec").await;
    let name = ground.name("p");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [shell(&ground, "echo begun; while :; do sleep 1; done")],
        },
    });
    ground.make("api/v1", "pods", &pod).await;
    ground.wait::<Pod>(&name, "a pod that is ready", is_ready).await;
    let run = async |words: &[&str]| -> (String, String, Status) {
        let parameters = AttachParams::default().stdout(true).stderr(true);
        let mut process = ground.api::<Pod>().exec(&name, words.to_vec(), &parameters).await.unwrap();
        let status = process.take_status().unwrap();
        let (mut stdout, mut stderr) = (process.stdout().unwrap(), process.stderr().unwrap());
        let (mut out, mut err) = (String::new(), String::new());
        let reads = async { tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)) };
        let both = async { tokio::join!(reads, status) };
        let ((read_out, read_err), status) =
            tokio::time::timeout(PATIENCE, both).await.expect("the command ends");
        read_out.unwrap();
        read_err.unwrap();
        (out, err, status.expect("every command ends with a status"))
    };
    let (out, err, status) = run(&["sh", "-c", "echo out; echo err >&2; exit 3"]).await;
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    assert_eq!(code.and_then(|cause| cause.message.as_deref()), Some("3"), "{causes:?}");
    let (.., status) = run(&["true"]).await;
    assert_eq!(status.status.as_deref(), Some("Success"));
    // That there is a log is all that is the same on every node.
    ground
        .api::<Pod>()
        .logs(&name, &LogParams { tail_lines: Some(1), ..LogParams::default() })
        .await
        .unwrap();
    let deleted = ground.api::<Pod>().delete(&name, &DeleteParams::background()).await.unwrap();
    assert!(deleted.left().is_some(), "a pod on a node has its grace period");
    ground.wait::<Pod>(&name, "the pod gone", |pod| pod.is_none()).await;
    ground.leave::<Pod>(&[]).await;
}

/// Whether an endpoint is ready, serving and terminating.
type State = (bool, bool, bool);

fn states(slice: &EndpointSlice) -> Vec<State> {
    let conditions = slice.endpoints.iter().map(|endpoint| endpoint.conditions.clone().unwrap_or_default());
    conditions
        .map(|one| {
            let is = |state: Option<bool>| state.unwrap_or(false);
            (is(one.ready), is(one.serving), is(one.terminating))
        })
        .collect()
}

#[tokio::test]
async fn a_pod_that_is_scaled_away_serves_on_until_it_is_gone() {
    let ground = Ground::find("scaled-away").await;
    let name = ground.name("d");
    let labels = json!({ "app": name });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "selector": labels, "ports": [{ "port": 8080 }] },
    });
    ground.make("api/v1", "services", &service).await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": {
                "terminationGracePeriodSeconds": 4,
                "containers": [shell(&ground, "trap '' TERM; while :; do sleep 1; done")],
            } },
        },
    });
    ground.make("apis/apps/v1", "deployments", &deployment).await;
    let params = WatchParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let mut events = ground.api::<EndpointSlice>().watch(&params, "0").await.unwrap().boxed();
    let mut until = async |what: &str, is_so: &dyn Fn(&[State]) -> bool| {
        let wait = async {
            loop {
                let event = events.next().await.expect("the watch goes on").unwrap();
                if let WatchEvent::Added(slice) | WatchEvent::Modified(slice) = event
                    && is_so(&states(&slice))
                {
                    return;
                }
            }
        };
        tokio::time::timeout(CONTROL, wait).await.unwrap_or_else(|_| panic!("never seen: {what}"));
    };
    until("an endpoint that is ready", &|all| all == [(true, true, false)]).await;
    let patch = json!({ "spec": { "replicas": 0 } });
    let path = format!("deployments/{name}/scale");
    assert_eq!(ground.patch("apis/apps/v1", &path, "merge", &patch).await.0, 200);
    until("an endpoint that serves while it ends", &|all| all == [(false, true, true)]).await;
    until("no endpoint", &<[_]>::is_empty).await;
    let left = ListParams::default().labels(&format!("app={name}"));
    eventually(CONTROL, "no pod", async || ground.api::<Pod>().list(&left).await.unwrap().items.is_empty())
        .await;
    drop(events);
    ground.api::<Service>().delete(&name, &DeleteParams::background()).await.unwrap();
    ground.leave::<k8s_openapi::api::apps::v1::Deployment>(&[&name]).await;
}
