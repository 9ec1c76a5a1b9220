//! A pod's status, as a kubelet writes it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kubernetes::clock::to_seconds;
use crate::kubernetes::controllers::objects::{set_condition, status_mut};

/// How a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// Its image is not to be had.
    Pulling,
    /// It runs and does not serve yet.
    Started,
    /// It serves.
    Ready,
    /// It has ended with this code.
    Ended(i32),
}

/// Writes that the pod has a node.
pub(super) fn scheduled(pod: &mut Value, now: Timestamp) {
    set_condition(pod, "PodScheduled", true, "", "", now);
}

/// Writes how all containers of a pod stand.
pub(super) fn write(pod: &mut Value, state: Container, started: &str, now: Timestamp) {
    let is_ready = state == Container::Ready;
    let containers: Vec<Value> = pod["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let statuses: Vec<_> = containers.iter().map(|container| one(container, state, started, now)).collect();
    let phase = match state {
        Container::Pulling => "Pending",
        Container::Started | Container::Ready => "Running",
        Container::Ended(0) => "Succeeded",
        Container::Ended(_) => "Failed",
    };
    let status = status_mut(pod);
    status["phase"] = phase.into();
    status["startTime"] = started.into();
    status["containerStatuses"] = statuses.into();
    let reason = match state {
        Container::Ready => "",
        Container::Ended(_) => "PodCompleted",
        Container::Pulling | Container::Started => "ContainersNotReady",
    };
    set_condition(pod, "Initialized", true, "", "", now);
    set_condition(pod, "ContainersReady", is_ready, reason, "", now);
    set_condition(pod, "Ready", is_ready, reason, "", now);
}

fn one(container: &Value, state: Container, started: &str, now: Timestamp) -> Value {
    let (is_running, is_ready) =
        (matches!(state, Container::Started | Container::Ready), state == Container::Ready);
    let image = container["image"].as_str().unwrap_or_default();
    let told = match state {
        Container::Pulling => {
            json!({ "waiting": { "reason": "ImagePullBackOff", "message": format!("Back-off pulling image \"{image}\"") } })
        }
        Container::Started | Container::Ready => json!({ "running": { "startedAt": started } }),
        Container::Ended(code) => json!({ "terminated": {
            "exitCode": code,
            "reason": if code == 0 { "Completed" } else { "Error" },
            "startedAt": started,
            "finishedAt": to_seconds(now),
        } }),
    };
    json!({
        "name": container["name"],
        "image": image,
        "imageID": if state == Container::Pulling { "" } else { image },
        "ready": is_ready,
        "started": is_running,
        "restartCount": 0,
        "state": told,
        "lastState": {},
    })
}
