//! Who would scale a Deployment back, found before anything is changed.
//!
//! [`look`] reads, [`judge`] decides. A kind that the cluster does not have is absent; one that may not be read is not
//! known, and a run refuses where that matters.

mod gitops;
pub mod owners;
pub mod pause;
mod scalers;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DynamicObject;

use self::pause::{Kind, Pause};
use super::access::{Access, CallError};
use super::refusals::Refusal;
use crate::environment::{ObjectName, Opponent};

/// What could be read of a kind.
#[derive(Clone, Debug)]
pub enum Reading<T> {
    /// All of them; none where the cluster has no such kind.
    Known(Vec<T>),
    /// They may not be read.
    Unknown(CallError),
}

impl<T> Reading<T> {
    fn of(answer: Result<Vec<T>, CallError>) -> Result<Self, CallError> {
        match answer {
            Ok(all) => Ok(Self::Known(all)),
            Err(error) if error.is_not_found() => Ok(Self::Known(Vec::new())),
            Err(error) if error.is_forbidden() => Ok(Self::Unknown(error)),
            Err(error) => Err(error),
        }
    }

    fn known(&self) -> &[T] {
        match self {
            Self::Known(all) => all,
            Self::Unknown(_) => &[],
        }
    }
}

/// A custom object with its kind.
#[derive(Clone, Debug)]
pub struct Custom {
    /// What it is.
    pub kind: Kind,
    /// The object.
    pub object: DynamicObject,
}

/// All that tells who would scale a Deployment.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The Deployment's name.
    pub name: ObjectName,
    /// The Deployment.
    pub deployment: Deployment,
    /// Keys of its namespace's annotations.
    pub namespace: Reading<String>,
    /// HorizontalPodAutoscalers of the namespace.
    pub autoscalers: Reading<HorizontalPodAutoscaler>,
    /// KEDA's ScaledObjects of the namespace.
    pub scaled_objects: Reading<Custom>,
    /// Argo CD's Applications, wherever they may be read; unknown only where the cluster has that kind.
    pub applications: Reading<Custom>,
    /// Flux's Kustomization of the Deployment.
    pub kustomization: Reading<Custom>,
    /// Flux's HelmRelease of the Deployment.
    pub helm_release: Reading<Custom>,
    /// kube-green's SleepInfos of the namespace.
    pub sleep_infos: Reading<Custom>,
}

/// What is to be done about those who would fight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Who keeps the fault from being made.
    pub refusals: Vec<Refusal>,
    /// Who is told to wait, before the fault.
    pub pauses: Vec<Pause>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Verdict {
    fn refuse(&mut self, reason: impl Into<String>, hint: impl Into<String>) {
        self.refusals.push(Refusal::new(reason, hint));
    }

    /// For what would fight, unless the environment says that it may be paused; `pause` then says how.
    fn settle(&mut self, judging: &Judging<'_>, who: Opponent, reason: String, pause: Option<Pause>) {
        if !judging.may_pause.contains(&who) {
            let hint = format!(
                "if it may be paused during the fault: `opponents: {{ pause: [{}] }}` in the environment file",
                who.word()
            );
            self.refuse(reason, hint);
            return;
        }
        let Some(pause) = pause else { return self.warnings.push(reason) };
        if judging.namespaces.contains(&pause.object.namespace) {
            self.pauses.push(pause);
        } else {
            let hint = format!(
                "add {} to `kubernetes.namespaces` of the environment file, or pause it by hand",
                pause.object.namespace
            );
            self.refuse(format!("{reason}; it lies outside the namespaces that may be touched"), hint);
        }
    }

    fn unknown(&mut self, who: &str, error: &CallError) {
        self.refuse(
            format!("whether {who} would scale it back cannot be told: {error}"),
            "give the right to read them; the missing rights are listed as a patch of the Role",
        );
    }
}

struct Judging<'j> {
    seen: &'j Seen,
    may_pause: &'j BTreeSet<Opponent>,
    namespaces: &'j BTreeSet<String>,
}

/// Who would fight a scale to 0, and what is done about each.
#[must_use]
pub fn judge(seen: &Seen, may_pause: &BTreeSet<Opponent>, namespaces: &BTreeSet<String>) -> Verdict {
    let judging = Judging { seen, may_pause, namespaces };
    let mut verdict = Verdict::default();
    scalers::keda(&judging, &mut verdict);
    scalers::autoscalers(&judging, &mut verdict);
    scalers::idle_scalers(&judging, &mut verdict);
    gitops::argo_cd(&judging, &mut verdict);
    gitops::kustomize(&judging, &mut verdict);
    gitops::helm(&judging, &mut verdict);
    scalers::owners(&judging, &mut verdict);
    verdict
}

/// Reads all that tells who would scale a Deployment.
///
/// # Errors
/// Where the Deployment cannot be read, or the API does not answer.
pub async fn look(access: &Access, name: &ObjectName) -> Result<Seen, CallError> {
    let deployment: Deployment = access.get(name).await?;
    let namespace = Some(name.namespace.as_str());
    let labels = deployment.metadata.labels.clone().unwrap_or_default();
    let by_flux = |group: &str| {
        let name = labels.get(&format!("{group}/name"))?;
        Some(ObjectName::new(labels.get(&format!("{group}/namespace"))?, name))
    };
    let kustomization = by_flux("kustomize.toolkit.fluxcd.io");
    let helm_release = by_flux("helm.toolkit.fluxcd.io");
    let applications = if gitops::may_be_argo(&deployment) {
        applications(access, name, &deployment).await?
    } else {
        Reading::Known(Vec::new())
    };
    Ok(Seen {
        name: name.clone(),
        namespace: annotations(access, &name.namespace).await?,
        autoscalers: Reading::of(access.list(namespace, "").await)?,
        scaled_objects: listed(access, &[Kind::SCALED_OBJECT], namespace).await?,
        applications,
        kustomization: one(access, &Kind::KUSTOMIZATIONS, kustomization).await?,
        helm_release: one(access, &Kind::HELM_RELEASES, helm_release).await?,
        sleep_infos: listed(access, &[Kind::SLEEP_INFO], namespace).await?,
        deployment,
    })
}

async fn annotations(access: &Access, namespace: &str) -> Result<Reading<String>, CallError> {
    let object = access.whole::<Namespace>(namespace).await;
    let keys =
        |object: Namespace| object.metadata.annotations.unwrap_or_default().into_keys().collect::<Vec<_>>();
    Reading::of(object.map(keys))
}

/// Those of a kind, in the first of its versions that the cluster has.
async fn listed(
    access: &Access,
    versions: &[Kind],
    namespace: Option<&str>,
) -> Result<Reading<Custom>, CallError> {
    for kind in versions {
        let answer = access.list_of::<DynamicObject>(&kind.resource(), namespace, "").await;
        let all = match answer {
            Err(error) if error.is_not_found() => continue,
            answer => answer
                .map(|all| all.into_iter().map(|object| Custom { kind: kind.clone(), object }).collect()),
        };
        return Reading::of(all);
    }
    Ok(Reading::Known(Vec::new()))
}

/// Those of the whole cluster, or else of the namespaces in which they may be read, provided that Argo CD has them there;
/// none where the cluster has no such kind, which whoever may not read them is told only by asking for the kind.
async fn applications(
    access: &Access,
    name: &ObjectName,
    deployment: &Deployment,
) -> Result<Reading<Custom>, CallError> {
    let whole = listed(access, &[Kind::APPLICATION], None).await?;
    let Reading::Unknown(error) = whole else { return Ok(whole) };
    let mut all = Vec::new();
    let mut is_home_read = false;
    let others = access.namespaces().iter().map(String::as_str).filter(|name| *name != gitops::HOME);
    for namespace in others.chain([gitops::HOME]) {
        if let Reading::Known(some) = listed(access, &[Kind::APPLICATION], Some(namespace)).await? {
            is_home_read |= namespace == gitops::HOME;
            all.extend(some);
        }
    }
    // Where its own namespace may not be read, those of others say nothing of the one that keeps the Deployment.
    if is_home_read || all.iter().any(|custom| gitops::is_application_of(custom, name, deployment)) {
        return Ok(Reading::Known(all));
    }
    let kind = Kind::APPLICATION;
    let version = format!("{}/{}", kind.group, kind.version);
    match access.serves(&version, &kind.plural).await {
        Ok(true) => Ok(Reading::Unknown(error)),
        Ok(false) => Ok(Reading::Known(Vec::new())),
        Err(unclear) if unclear.is_forbidden() => Ok(Reading::Unknown(error)),
        Err(unclear) => Err(unclear),
    }
}

async fn one(
    access: &Access,
    versions: &[Kind],
    name: Option<ObjectName>,
) -> Result<Reading<Custom>, CallError> {
    let Some(name) = name else { return Ok(Reading::Known(Vec::new())) };
    for kind in versions {
        match access.get_of::<DynamicObject>(&kind.resource(), &name).await {
            Ok(object) => return Ok(Reading::Known(vec![Custom { kind: kind.clone(), object }])),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Reading::of(Err(error)),
        }
    }
    Ok(Reading::Known(Vec::new()))
}

#[cfg(test)]
mod tests;
