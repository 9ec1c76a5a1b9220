//! Those who count pods: autoscalers, idle scalers, operators.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt as _;
use serde_json::Value;

use super::pause::{Pause, Switch};
use super::{Custom, Judging, Reading, Verdict, owners};
use crate::environment::Opponent;

/// Labels and annotations of an autoscaler that KEDA made.
const KEDA_LABEL: &str = "scaledobject.keda.sh/name";
/// What stops KEDA and leaves the count as it is.
pub(super) const KEDA_PAUSED: &str = "autoscaling.keda.sh/paused";
const KEDA_PAUSED_AT: &str = "autoscaling.keda.sh/paused-replicas";

/// An absent kind means a Deployment.
fn means(reference: &Value, name: &str) -> bool {
    let kind = reference["kind"].as_str().unwrap_or("Deployment");
    kind == "Deployment" && reference["name"].as_str() == Some(name)
}

pub(super) fn keda(judging: &Judging<'_>, verdict: &mut Verdict) {
    let name = &judging.seen.name.name;
    let all = match &judging.seen.scaled_objects {
        Reading::Known(all) => all,
        Reading::Unknown(error) => return verdict.unknown("a ScaledObject of KEDA", error),
    };
    for custom in all.iter().filter(|custom| means(&custom.object.data["spec"]["scaleTargetRef"], name)) {
        let annotations = custom.object.annotations();
        let is = |key: &str, value: &str| annotations.get(key).is_some_and(|set| set == value);
        let title = format!("ScaledObject {}/{}", judging.seen.name.namespace, custom.object.name_any());
        if is(KEDA_PAUSED, "true") || is(KEDA_PAUSED_AT, "0") {
            verdict.warnings.push(format!("{title} of KEDA is paused already, and is left so"));
            continue;
        }
        if let Some(count) = annotations.get(KEDA_PAUSED_AT) {
            verdict.refuse(
                format!("{title} of KEDA is paused at {count} pods, and would scale it back to that"),
                format!("remove its annotation {KEDA_PAUSED_AT}"),
            );
            continue;
        }
        let reason = format!("{title} of KEDA scales it back up within half a minute");
        let switch = Switch::Annotation { key: KEDA_PAUSED.to_owned(), value: "true".to_owned() };
        verdict.settle(judging, Opponent::Keda, reason, Some(Pause::of(Opponent::Keda, custom, switch)));
    }
}

pub(super) fn autoscalers(judging: &Judging<'_>, verdict: &mut Verdict) {
    let name = &judging.seen.name.name;
    let all = match &judging.seen.autoscalers {
        Reading::Known(all) => all,
        Reading::Unknown(error) => return verdict.unknown("a HorizontalPodAutoscaler", error),
    };
    let targets = |scaler: &&HorizontalPodAutoscaler| {
        scaler.spec.as_ref().is_some_and(|spec| {
            spec.scale_target_ref.kind == "Deployment" && spec.scale_target_ref.name == *name
        })
    };
    for scaler in all.iter().filter(targets) {
        let title = format!("HorizontalPodAutoscaler {}/{}", judging.seen.name.namespace, scaler.name_any());
        let of_keda = scaler.labels().contains_key(KEDA_LABEL) || scaler.name_any().starts_with("keda-hpa-");
        if of_keda {
            // Its ScaledObject has been judged, if it was found.
            if !judging
                .seen
                .scaled_objects
                .known()
                .iter()
                .any(|custom| means(&custom.object.data["spec"]["scaleTargetRef"], name))
            {
                verdict.refuse(
                    format!("{title} belongs to KEDA, whose ScaledObject is not to be found"),
                    "delete what KEDA has left behind, or pause it by hand",
                );
            }
            continue;
        }
        let least = scaler.spec.as_ref().and_then(|spec| spec.min_replicas).unwrap_or(1);
        if least < 1 {
            verdict.refuse(
                format!("{title} has minReplicas 0 and stays awake at 0 pods: it scales it back up"),
                "set its minReplicas to 1 or more: then it stands aside while the count is 0",
            );
            continue;
        }
        let reason = format!(
            "{title} counts its pods; with minReplicas {least} it stands aside while the count is 0, and takes over \
             again afterwards"
        );
        verdict.settle(judging, Opponent::Hpa, reason, None);
    }
}

pub(super) fn idle_scalers(judging: &Judging<'_>, verdict: &mut Verdict) {
    let seen = judging.seen;
    match &seen.sleep_infos {
        Reading::Known(all) => {
            for custom in all {
                verdict.refuse(
                    format!(
                        "SleepInfo {}/{} of kube-green scales the Deployments of the namespace by the clock",
                        seen.name.namespace,
                        custom.object.name_any()
                    ),
                    "exclude the Deployment in it, or suspend it by hand",
                );
            }
        }
        Reading::Unknown(_) => verdict.warnings.push(format!(
            "whether kube-green scales the Deployments of {} by the clock cannot be told: its SleepInfos may not be read",
            seen.name.namespace
        )),
    }
    let (labels, annotations) = (seen.deployment.labels(), seen.deployment.annotations());
    if labels.get("sablier.enable").is_some_and(|value| value == "true") {
        verdict.refuse(
            format!("Deployment {} is scaled on request by Sablier (label sablier.enable)", seen.name),
            "take the label off while the fault is made",
        );
    }
    if let Reading::Unknown(error) = &seen.namespace {
        verdict.unknown("a downscaler that goes by the namespace's annotations", error);
    }
    let all = annotations.keys().chain(seen.namespace.known()).chain(labels.keys());
    if let Some(key) = all.into_iter().find(|key| key.starts_with("downscaler/")) {
        verdict.refuse(
            format!("Deployment {} is scaled by the clock by a downscaler ({key})", seen.name),
            "exclude it from the downscaler: annotation downscaler/exclude on it is not enough to be sure of",
        );
    }
}

/// Who owns the Deployment or its count, where nobody above has been found for it.
pub(super) fn owners(judging: &Judging<'_>, verdict: &mut Verdict) {
    let seen = judging.seen;
    let metadata = &seen.deployment.metadata;
    for owner in metadata.owner_references.iter().flatten().filter(|owner| owner.controller == Some(true)) {
        verdict.refuse(
            format!(
                "Deployment {} belongs to {} {}, whose operator keeps its count",
                seen.name, owner.kind, owner.name
            ),
            "take it down by `isolate` here",
        );
    }
    let addon = "objectset.rio.cattle.io/owner-gvk";
    if seen.deployment.annotations().get(addon).is_some_and(|gvk| gvk.contains("Kind=Addon")) {
        verdict.warnings.push(format!(
            "Deployment {} is an AddOn of k3s, which sets its count again when the server starts or the file changes",
            seen.name
        ));
    }
    let known = ["argocd", "kustomize-controller", "helm-controller", "keda", "kube-controller-manager"];
    for owner in owners::of(metadata, &["spec", "replicas"]) {
        let is_controller = owner.manager.ends_with("-controller") || owner.manager.ends_with("-operator");
        if is_controller && !known.iter().any(|known| owner.manager.contains(known)) {
            verdict.refuse(
                format!("the count of Deployment {} is kept by {}", seen.name, owner.manager),
                "take it down by `isolate` here, or stop that controller by hand",
            );
        }
    }
}

/// Whether KEDA has resumed, where it says so at all.
pub(super) fn still_paused(custom: &Custom) -> bool {
    let conditions = custom.object.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Paused" && one["status"] == "True")
}
