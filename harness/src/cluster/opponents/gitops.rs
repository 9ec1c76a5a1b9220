//! Those who keep a Deployment as it is written in Git.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use serde_json::Value;

use super::pause::{Pause, Switch};
use super::{Custom, Judging, Reading, Verdict, owners};
use crate::environment::{ObjectName, Opponent};

const TRACKING: &str = "argocd.argoproj.io/tracking-id";
/// Helm sets it too, so that it says little by itself.
const INSTANCE: &str = "app.kubernetes.io/instance";
/// Where Argo CD is installed, unless somebody chose otherwise.
pub(super) const HOME: &str = "argocd";
pub(super) const SKIP: &str = "argocd.argoproj.io/skip-reconcile";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whether it is worth looking for an Application.
pub(super) fn may_be_argo(deployment: &Deployment) -> bool {
    is_argo(deployment) || deployment.labels().contains_key(INSTANCE)
}

/// Argo CD has written it, beyond doubt.
fn is_argo(deployment: &Deployment) -> bool {
    let written = deployment.managed_fields().iter().any(|entry| {
        matches!(entry.manager.as_deref(), Some("argocd-controller" | "argocd-application-controller"))
    });
    written || deployment.annotations().contains_key(TRACKING)
}

/// Whether the count is part of what a manager applies; `None` where that cannot be told.
fn applies_count(deployment: &Deployment, managers: &[&str]) -> Option<bool> {
    let entries = deployment.managed_fields();
    let is_one = |name: Option<&str>| name.is_some_and(|name| managers.contains(&name));
    if entries
        .iter()
        .any(|entry| is_one(entry.manager.as_deref()) && entry.operation.as_deref() == Some("Apply"))
    {
        let owners = owners::of(&deployment.metadata, &["spec", "replicas"]);
        return Some(owners.iter().any(|owner| managers.contains(&owner.manager.as_str())));
    }
    let applied: Value = serde_json::from_str(deployment.annotations().get(LAST_APPLIED)?).ok()?;
    Some(applied["spec"].get("replicas").is_some())
}

pub(super) fn argo_cd(judging: &Judging<'_>, verdict: &mut Verdict) {
    let (name, deployment) = (&judging.seen.name, &judging.seen.deployment);
    let sure = is_argo(deployment);
    let all = match &judging.seen.applications {
        Reading::Known(all) => all,
        Reading::Unknown(error) => {
            let by = if sure {
                "is kept by Argo CD".to_owned()
            } else {
                format!("may be kept by Argo CD (label {INSTANCE}, which Helm sets, too)")
            };
            return verdict.refuse(
                format!("Deployment {name} {by}, and whether that scales it back cannot be told: {error}"),
                "give the right to `list` `applications` of the group argoproj.io in the namespace where they are",
            );
        }
    };
    let mut found = false;
    for custom in all.iter().filter(|custom| is_application_of(custom, name, deployment)) {
        found = true;
        application(judging, verdict, custom);
    }
    if sure && !found {
        verdict.refuse(
            format!("Deployment {name} is kept by Argo CD, and its Application is not to be found"),
            "give the right to read the Applications where they are",
        );
    }
}

/// By what the Application itself lists, or by what the Deployment says of it.
pub(super) fn is_application_of(custom: &Custom, name: &ObjectName, deployment: &Deployment) -> bool {
    let lists = custom.object.data["status"]["resources"].as_array().is_some_and(|all| {
        all.iter().any(|one| {
            one["kind"] == "Deployment"
                && one["name"] == name.name.as_str()
                && one["namespace"] == name.namespace.as_str()
        })
    });
    let tracked = deployment.annotations().get(TRACKING).and_then(|id| id.split(':').next());
    let labelled = deployment.labels().get(INSTANCE).map(String::as_str).filter(|_| is_argo(deployment));
    // An Application outside Argo CD's own namespace is tracked as `namespace_name`.
    let own = custom.object.name_any();
    let long = format!("{}_{own}", custom.object.namespace().unwrap_or_default());
    lists || tracked.or(labelled).is_some_and(|known| known == own || known == long)
}

fn application(judging: &Judging<'_>, verdict: &mut Verdict, custom: &Custom) {
    let (name, spec) = (&judging.seen.name, &custom.object.data["spec"]);
    let title = custom.title();
    if custom.object.annotations().get(SKIP).is_some_and(|value| value == "true") {
        return verdict
            .warnings
            .push(format!("{title} of Argo CD skips reconciling already, and is left so"));
    }
    if ignores_count(spec, name) {
        return verdict.warnings.push(format!("{title} of Argo CD ignores the count of Deployment {name}"));
    }
    if applies_count(&judging.seen.deployment, &["argocd-controller"]) == Some(false) {
        return verdict
            .warnings
            .push(format!("{title} of Argo CD does not set the count of Deployment {name}"));
    }
    let automated = &spec["syncPolicy"]["automated"];
    let is_off = automated.is_null() || automated["enabled"] == Value::Bool(false);
    if is_off || automated["selfHeal"] != Value::Bool(true) {
        return verdict.warnings.push(format!(
            "{title} of Argo CD does not heal by itself; somebody's sync meanwhile would scale Deployment {name} back"
        ));
    }
    let reason =
        format!("{title} of Argo CD heals by itself: it scales Deployment {name} back within seconds");
    let switch = Switch::Annotation { key: SKIP.to_owned(), value: "true".to_owned() };
    verdict.settle(judging, Opponent::ArgoCd, reason, Some(Pause::of(Opponent::ArgoCd, custom, switch)));
}

/// Whether an Application's `ignoreDifferences` cover the count of a Deployment.
fn ignores_count(spec: &Value, name: &ObjectName) -> bool {
    spec["ignoreDifferences"].as_array().into_iter().flatten().any(|one| {
        let fits = |key: &str, value: &str| match one[key].as_str() {
            None | Some("" | "*") => true,
            Some(set) => set == value,
        };
        let names = |key: &str, texts: &[&str]| {
            one[key]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .any(|set| texts.contains(&set))
        };
        one["kind"].as_str().is_some_and(|kind| kind == "Deployment" || kind == "*")
            && fits("group", "apps")
            && fits("name", &name.name)
            && fits("namespace", &name.namespace)
            && (names("jsonPointers", &["/spec/replicas"]) || names("jqPathExpressions", &[".spec.replicas"]))
    })
}

pub(super) fn kustomize(judging: &Judging<'_>, verdict: &mut Verdict) {
    let (name, deployment) = (&judging.seen.name, &judging.seen.deployment);
    if !deployment.labels().contains_key("kustomize.toolkit.fluxcd.io/name") {
        return;
    }
    let off = "kustomize.toolkit.fluxcd.io/reconcile";
    if deployment.annotations().get(off).is_some_and(|value| value == "disabled") {
        return verdict.warnings.push(format!("Flux leaves Deployment {name} alone: {off} is disabled"));
    }
    if applies_count(deployment, &["kustomize-controller"]) == Some(false) {
        return verdict.warnings.push(format!("Flux does not set the count of Deployment {name}"));
    }
    match &judging.seen.kustomization {
        Reading::Unknown(error) => verdict.unknown("Flux", error),
        Reading::Known(all) => match all.first() {
            None => verdict.refuse(
                format!("Deployment {name} is kept by Flux, and its Kustomization is not to be found"),
                "suspend it by hand",
            ),
            Some(custom) => flux(judging, verdict, custom, "applies Deployment {} again at each interval"),
        },
    }
}

pub(super) fn helm(judging: &Judging<'_>, verdict: &mut Verdict) {
    let (name, deployment) = (&judging.seen.name, &judging.seen.deployment);
    if !deployment.labels().contains_key("helm.toolkit.fluxcd.io/name") {
        return;
    }
    match &judging.seen.helm_release {
        Reading::Unknown(error) => verdict.unknown("Flux", error),
        Reading::Known(all) => match all.first() {
            None => verdict.refuse(
                format!("Deployment {name} is kept by Flux, and its HelmRelease is not to be found"),
                "suspend it by hand",
            ),
            Some(custom) if custom.object.data["spec"]["driftDetection"]["mode"] == "enabled" => {
                flux(judging, verdict, custom, "corrects drift of Deployment {}");
            }
            Some(custom) => verdict.warnings.push(format!(
                "{} of Flux does not correct drift; an upgrade meanwhile would scale Deployment {name} back",
                custom.title()
            )),
        },
    }
}

fn flux(judging: &Judging<'_>, verdict: &mut Verdict, custom: &Custom, does: &str) {
    let title = custom.title();
    if custom.object.data["spec"]["suspend"] == Value::Bool(true) {
        return verdict.warnings.push(format!("{title} of Flux is suspended already, and is left so"));
    }
    let does = does.replace("{}", &judging.seen.name.to_string());
    let reason = format!("{title} of Flux {does}, with the count that it has in Git");
    verdict.settle(judging, Opponent::Flux, reason, Some(Pause::of(Opponent::Flux, custom, Switch::Suspend)));
}
