use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::pause::{Kind, Switch};
use super::{Custom, Reading, Seen, Verdict, judge, owners};
use crate::cluster::access::{CallError, Failure, Target, Verb};
use crate::cluster::mutation::Kubectl;
use crate::environment::{ObjectName, Opponent};

fn seen(change: impl FnOnce(&mut Value)) -> Seen {
    let mut object = json!({
        "metadata": { "name": "vllm", "namespace": "ml", "uid": "u1", "labels": {}, "annotations": {} },
        "spec": { "replicas": 1, "selector": {}, "template": {} },
    });
    change(&mut object);
    Seen {
        name: ObjectName::new("ml", "vllm"),
        deployment: serde_json::from_value(object).unwrap(),
        namespace: Reading::Known(Vec::new()),
        autoscalers: Reading::Known(Vec::new()),
        scaled_objects: Reading::Known(Vec::new()),
        applications: Reading::Known(Vec::new()),
        kustomization: Reading::Known(Vec::new()),
        helm_release: Reading::Known(Vec::new()),
        sleep_infos: Reading::Known(Vec::new()),
    }
}

fn custom(kind: &Kind, namespace: &str, name: &str, rest: Value) -> Reading<Custom> {
    let mut object = json!({
        "apiVersion": "x/v1", "kind": kind.kind,
        "metadata": { "name": name, "namespace": namespace, "uid": "c1" },
    });
    for (key, value) in rest.as_object().unwrap() {
        if key == "annotations" {
            object["metadata"]["annotations"] = value.clone();
        } else {
            object[key] = value.clone();
        }
    }
    Reading::Known(vec![Custom { kind: kind.clone(), object: serde_json::from_value(object).unwrap() }])
}

fn judged(seen: &Seen, may_pause: &[Opponent]) -> Verdict {
    let namespaces = BTreeSet::from(["ml".to_owned(), "argocd".to_owned(), "flux-system".to_owned()]);
    judge(seen, &may_pause.iter().copied().collect(), &namespaces)
}

/// Refused, paused, warned.
fn counts(verdict: &Verdict) -> (usize, usize, usize) {
    (verdict.refusals.len(), verdict.pauses.len(), verdict.warnings.len())
}

fn forbidden<T>() -> Reading<T> {
    Reading::Unknown(CallError {
        verb: Verb::List,
        target: Target::new("scaledobjects", &ObjectName::new("ml", "x")),
        failure: Failure::Status { status: 403, reason: "Forbidden".into(), message: "no".into() },
    })
}

#[test]
fn nobody_found_is_nobody_refused() {
    assert_eq!(judged(&seen(|_| {}), &[]), Verdict::default());
}

fn with_autoscaler(name: &str, target: &str, least: Option<i32>) -> Seen {
    let mut seen = seen(|_| {});
    let object = json!({
        "metadata": { "name": name },
        "spec": {
            "maxReplicas": 3, "minReplicas": least, "scaleTargetRef": { "kind": "Deployment", "name": target },
        },
    });
    seen.autoscalers = Reading::Known(vec![serde_json::from_value(object).unwrap()]);
    seen
}

#[test]
fn an_autoscaler_is_refused_unless_it_is_allowed_and_sleeps_at_0() {
    assert_eq!(counts(&judged(&with_autoscaler("h", "other", None), &[])), (0, 0, 0));
    assert_eq!(counts(&judged(&with_autoscaler("h", "vllm", None), &[])), (1, 0, 0));
    assert_eq!(counts(&judged(&with_autoscaler("h", "vllm", Some(2)), &[Opponent::Hpa])), (0, 0, 1));
    assert_eq!(counts(&judged(&with_autoscaler("h", "vllm", Some(0)), &[Opponent::Hpa])), (1, 0, 0));
    let orphan = judged(&with_autoscaler("keda-hpa-vllm", "vllm", None), &[Opponent::Hpa, Opponent::Keda]);
    assert!(orphan.refusals[0].reason.contains("belongs to KEDA"), "{orphan:?}");
    let mut unknown = seen(|_| {});
    unknown.autoscalers = forbidden();
    assert!(judged(&unknown, &[Opponent::Hpa]).refusals[0].reason.contains("cannot be told"));
}

fn with_keda(annotations: Value) -> Seen {
    let mut seen = seen(|_| {});
    let rest = json!({ "annotations": annotations, "spec": { "scaleTargetRef": { "name": "vllm" } } });
    seen.scaled_objects = custom(&Kind::SCALED_OBJECT, "ml", "vllm-scaler", rest);
    seen
}

#[test]
fn keda_is_refused_paused_or_left_paused() {
    assert_eq!(counts(&judged(&with_keda(json!({})), &[])), (1, 0, 0));
    let verdict = judged(&with_keda(json!({})), &[Opponent::Keda]);
    assert_eq!(counts(&verdict), (0, 1, 0));
    let pause = &verdict.pauses[0];
    assert_eq!(
        (pause.object.clone(), pause.was.clone()),
        (ObjectName::new("ml", "vllm-scaler"), Value::Null)
    );
    assert_eq!(
        pause.undo_command(&Kubectl::new(None)),
        "kubectl -n ml annotate scaledobjects.keda.sh/vllm-scaler autoscaling.keda.sh/paused-"
    );
    for paused in [
        json!({ "autoscaling.keda.sh/paused": "true" }),
        json!({ "autoscaling.keda.sh/paused-replicas": "0" }),
    ] {
        assert_eq!(counts(&judged(&with_keda(paused), &[])), (0, 0, 1));
    }
    let elsewhere = with_keda(json!({ "autoscaling.keda.sh/paused-replicas": "2" }));
    assert_eq!(counts(&judged(&elsewhere, &[Opponent::Keda])), (1, 0, 0));
    let mut unknown = seen(|_| {});
    unknown.scaled_objects = forbidden();
    assert_eq!(counts(&judged(&unknown, &[Opponent::Keda])), (1, 0, 0));
}

fn with_argo(spec: Value, annotations: Value) -> Seen {
    let mut seen = seen(|object| {
        object["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] =
            json!("models:apps/Deployment:ml/vllm");
    });
    let rest = json!({ "annotations": annotations, "spec": spec });
    seen.applications = custom(&Kind::APPLICATION, "argocd", "models", rest);
    seen
}

#[test]
fn argo_cd_is_refused_where_it_heals_by_itself() {
    let heals = json!({ "syncPolicy": { "automated": { "selfHeal": true } } });
    assert_eq!(counts(&judged(&with_argo(heals.clone(), json!({})), &[])), (1, 0, 0));
    let verdict = judged(&with_argo(heals.clone(), json!({})), &[Opponent::ArgoCd]);
    assert_eq!(counts(&verdict), (0, 1, 0));
    assert_eq!(
        verdict.pauses[0].words(),
        "pause argo-cd: set annotation argocd.argoproj.io/skip-reconcile=true of Application argocd/models"
    );
    for calm in [
        json!({}),
        json!({ "syncPolicy": {} }),
        json!({ "syncPolicy": { "automated": {} } }),
        json!({ "syncPolicy": { "automated": { "selfHeal": true, "enabled": false } } }),
    ] {
        assert_eq!(counts(&judged(&with_argo(calm.clone(), json!({})), &[])), (0, 0, 1), "{calm}");
    }
    let skips = json!({ "argocd.argoproj.io/skip-reconcile": "true" });
    assert_eq!(counts(&judged(&with_argo(heals.clone(), skips), &[])), (0, 0, 1));
    // Outside the namespaces that may be touched it cannot be paused.
    let far = judge(
        &with_argo(heals, json!({})),
        &BTreeSet::from([Opponent::ArgoCd]),
        &BTreeSet::from(["ml".to_owned()]),
    );
    assert!(far.refusals[0].hint.contains("argocd"), "{far:?}");
}

#[test]
fn argo_cd_that_ignores_the_count_does_not_matter() {
    let ignoring = |one: Value| {
        let spec = json!({ "syncPolicy": { "automated": { "selfHeal": true } }, "ignoreDifferences": [one] });
        counts(&judged(&with_argo(spec, json!({})), &[]))
    };
    for covers in [
        json!({ "group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"] }),
        json!({ "group": "apps", "kind": "Deployment", "name": "vllm", "jqPathExpressions": [".spec.replicas"] }),
        json!({ "group": "*", "kind": "*", "jsonPointers": ["/metadata/labels", "/spec/replicas"] }),
    ] {
        assert_eq!(ignoring(covers.clone()), (0, 0, 1), "{covers}");
    }
    for other in [
        json!({ "group": "apps", "kind": "Deployment", "name": "ollama", "jsonPointers": ["/spec/replicas"] }),
        json!({ "group": "apps", "kind": "StatefulSet", "jsonPointers": ["/spec/replicas"] }),
        json!({ "group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/template"] }),
    ] {
        assert_eq!(ignoring(other.clone()), (1, 0, 0), "{other}");
    }
}

#[test]
fn argo_cd_that_cannot_be_looked_at_is_refused() {
    let mut sure = with_argo(json!({}), json!({}));
    sure.applications = forbidden();
    assert_eq!(counts(&judged(&sure, &[])), (1, 0, 0));
    sure.applications = Reading::Known(Vec::new());
    assert_eq!(counts(&judged(&sure, &[])), (1, 0, 0));
    // Helm sets the same label; that there are Applications at all has been asked before.
    let mut weak =
        seen(|object| object["metadata"]["labels"]["app.kubernetes.io/instance"] = json!("models"));
    weak.applications = forbidden();
    let refused = judged(&weak, &[]);
    assert_eq!(counts(&refused), (1, 0, 0));
    assert!(refused.refusals[0].reason.contains("which Helm sets, too"), "{refused:?}");
    weak.applications = Reading::Known(Vec::new());
    assert_eq!(counts(&judged(&weak, &[])), (0, 0, 0));
}

fn with_flux(fields: Value, spec: Value) -> Seen {
    let mut seen = seen(|object| {
        object["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = json!("models");
        object["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/namespace"] = json!("flux-system");
        object["metadata"]["managedFields"] = json!([{
            "manager": "kustomize-controller", "operation": "Apply", "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        }]);
    });
    seen.kustomization = custom(&Kind::KUSTOMIZATIONS[0], "flux-system", "models", json!({ "spec": spec }));
    seen
}

#[test]
fn flux_is_refused_suspended_or_harmless() {
    let keeps = json!({ "f:spec": { "f:replicas": {} } });
    assert_eq!(counts(&judged(&with_flux(keeps.clone(), json!({})), &[])), (1, 0, 0));
    let verdict = judged(&with_flux(keeps.clone(), json!({ "suspend": false })), &[Opponent::Flux]);
    assert_eq!(counts(&verdict), (0, 1, 0));
    assert_eq!((&verdict.pauses[0].switch, &verdict.pauses[0].was), (&Switch::Suspend, &json!(false)));
    assert_eq!(
        verdict.pauses[0].undo_command(&Kubectl::new(None)),
        "kubectl -n flux-system patch kustomizations.kustomize.toolkit.fluxcd.io/models --type=merge -p \
         '{\"spec\":{\"suspend\":false}}'"
    );
    assert_eq!(counts(&judged(&with_flux(keeps, json!({ "suspend": true })), &[])), (0, 0, 1));
    let leaves = json!({ "f:spec": { "f:template": {} } });
    assert_eq!(counts(&judged(&with_flux(leaves, json!({})), &[])), (0, 0, 1));
}

#[test]
fn flux_with_helm_matters_where_it_corrects_drift() {
    let with = |spec: Value, may: &[Opponent]| {
        let mut seen =
            seen(|object| object["metadata"]["labels"]["helm.toolkit.fluxcd.io/name"] = json!("vllm"));
        seen.helm_release = custom(&Kind::HELM_RELEASES[0], "ml", "vllm", json!({ "spec": spec }));
        counts(&judged(&seen, may))
    };
    assert_eq!(with(json!({}), &[]), (0, 0, 1));
    assert_eq!(with(json!({ "driftDetection": { "mode": "warn" } }), &[]), (0, 0, 1));
    assert_eq!(with(json!({ "driftDetection": { "mode": "enabled" } }), &[]), (1, 0, 0));
    assert_eq!(with(json!({ "driftDetection": { "mode": "enabled" } }), &[Opponent::Flux]), (0, 1, 0));
}

#[test]
fn operators_addons_and_idle_scalers() {
    let operator = seen(|object| {
        object["metadata"]["ownerReferences"] = json!([{ "apiVersion": "x/v1", "kind": "Model", "name": "qwen", "uid": "o", "controller": true }]);
    });
    assert!(judged(&operator, &[]).refusals[0].reason.contains("Model qwen"));
    let addon = seen(|object| {
        object["metadata"]["annotations"]["objectset.rio.cattle.io/owner-gvk"] =
            json!("k3s.cattle.io/v1, Kind=Addon");
    });
    assert_eq!(counts(&judged(&addon, &[])), (0, 0, 1));
    let sablier = seen(|object| object["metadata"]["labels"]["sablier.enable"] = json!("true"));
    assert_eq!(counts(&judged(&sablier, &[])), (1, 0, 0));
    let mut downscaler = seen(|_| {});
    downscaler.namespace = Reading::Known(vec!["downscaler/uptime".into()]);
    assert_eq!(counts(&judged(&downscaler, &[])), (1, 0, 0));
    downscaler.namespace = forbidden();
    assert!(judged(&downscaler, &[]).refusals[0].reason.contains("cannot be told"));
    let mut green = seen(|_| {});
    green.sleep_infos = custom(&Kind::SLEEP_INFO, "ml", "nights", json!({ "spec": {} }));
    assert_eq!(counts(&judged(&green, &[])), (1, 0, 0));
    let unknown = seen(|object| {
        object["metadata"]["managedFields"] = json!([{
            "manager": "model-operator", "operation": "Update", "fieldsV1": { "f:spec": { "f:replicas": {} } },
        }]);
    });
    assert!(judged(&unknown, &[]).refusals[0].reason.contains("model-operator"));
}

#[test]
fn the_writer_of_a_field_is_named() {
    let metadata = serde_json::from_value(json!({ "managedFields": [
        { "manager": "helm", "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
        { "manager": "kubectl", "operation": "Update", "subresource": "scale", "time": "2026-01-02T00:00:00Z",
          "fieldsV1": { "f:spec": { "f:replicas": {} } } },
        { "manager": "k3s", "operation": "Update", "subresource": "status", "time": "2026-01-03T00:00:00Z",
          "fieldsV1": { "f:status": {} } },
    ] }))
    .unwrap();
    let owners_of_count = owners::of(&metadata, &["spec", "replicas"]);
    assert_eq!(
        owners_of_count.iter().map(|owner| owner.manager.as_str()).collect::<Vec<_>>(),
        ["helm", "kubectl"]
    );
    let last = owners::last(&metadata).unwrap();
    assert_eq!((last.manager.as_str(), last.subresource.as_str()), ("kubectl", "scale"));
    assert_eq!(owners::last_of(&metadata, &["spec", "replicas"]), Some(last));
    assert_eq!(owners::of(&metadata, &["spec", "paused"]), []);
    assert_eq!(owners::last_of(&metadata, &["spec", "paused"]), None);
}

/// The API sorts them by what they do first, and by time only then.
#[test]
fn who_applied_later_is_the_last_writer_wherever_the_entry_stands() {
    let owns = json!({ "f:spec": { "f:replicas": {} } });
    let metadata = serde_json::from_value(json!({ "managedFields": [
        { "manager": "argocd-controller", "operation": "Apply", "time": "2026-01-05T00:00:00Z", "fieldsV1": owns },
        { "manager": "kubectl", "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1": owns },
    ] }))
    .unwrap();
    let last = owners::last_of(&metadata, &["spec", "replicas"]).unwrap();
    assert_eq!(last.manager, "argocd-controller");
}
