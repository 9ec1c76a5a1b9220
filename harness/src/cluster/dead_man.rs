//! The dead-man switch: a CronJob that restores what a run has left when nobody else is there to do it. A run relies on
//! it only where it has lately done its work, and where the environment that it reads has all that the run may change.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec};
use kube::ResourceExt as _;

use super::access::{Access, CallError};
use super::permissions::{Need, needed_to_restore};
use crate::environment::{Environment, FaultKind, ObjectName, Opponent};

/// By what the sweeper is found.
pub const LABELS: &str = "app.kubernetes.io/name=failover-harness,app.kubernetes.io/component=sweeper";
/// Its last success is no older; it runs each minute.
pub const FRESH: Duration = Duration::from_secs(180);
/// No more of what is missing is named.
const NAMED_MAX: usize = 3;

/// Whether somebody restores when this program is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadMan {
    /// A sweeper did its work so long ago.
    Works {
        /// Namespace and name.
        sweeper: String,
        /// How long ago.
        ago: Duration,
    },
    /// Nobody does, or that is not proven.
    Missing(String),
}

impl DeadMan {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Works { sweeper, ago } => {
                format!("the sweeper {sweeper} did its work {} s ago", ago.as_secs())
            }
            Self::Missing(why) => format!("no dead-man switch is proven: {why}"),
        }
    }
}

/// What to do where there is none.
pub const HINT: &str =
    "deploy the sweeper CronJob with this environment and wait for its first success, or give --no-dead-man";

/// Looks for a sweeper of this environment in the gateway's namespace.
///
/// # Errors
/// Where CronJobs, or the ConfigMap with a sweeper's environment, cannot be read.
pub async fn look(
    access: &Access,
    environment: &Environment,
    namespace: &str,
    now: Timestamp,
) -> Result<DeadMan, CallError> {
    let sweepers: Vec<CronJob> = access.list(Some(namespace), LABELS).await?;
    let mut why = format!("there is no CronJob with the labels {LABELS} in {namespace}");
    for sweeper in &sweepers {
        let name = ObjectName::new(namespace, sweeper.name_any());
        let missing = match works(sweeper, now) {
            Ok(ago) => match lacks(access, environment, namespace, sweeper).await? {
                None => return Ok(DeadMan::Works { sweeper: name.to_string(), ago }),
                Some(lacks) => lacks,
            },
            Err(why) => why,
        };
        why = format!("the CronJob {name} {missing}");
    }
    Ok(DeadMan::Missing(why))
}

/// How long ago it did its work, or why nobody relies on it.
fn works(sweeper: &CronJob, now: Timestamp) -> Result<Duration, String> {
    let is_suspended = sweeper.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let last = sweeper.status.as_ref().and_then(|status| status.last_successful_time.as_ref());
    match last.map(|last| now.duration_since(last.0)) {
        _ if is_suspended => Err("is suspended".to_owned()),
        _ if sweeper.metadata.deletion_timestamp.is_some() => Err("is being deleted".to_owned()),
        None => Err("has never succeeded".to_owned()),
        Some(ago) if ago.unsigned_abs() >= FRESH => Err(format!(
            "succeeded last {} s {}",
            ago.unsigned_abs().as_secs(),
            if ago.is_negative() { "ahead: the clocks differ" } else { "ago" }
        )),
        Some(ago) => Ok(ago.unsigned_abs()),
    }
}

/// What keeps it from undoing what a run in this environment leaves: where it may do that, its success has shown of the
/// environment that it reads itself.
async fn lacks(
    access: &Access,
    environment: &Environment,
    namespace: &str,
    sweeper: &CronJob,
) -> Result<Option<String>, CallError> {
    let Some((map, key)) = place_of_environment(sweeper) else {
        return Ok(Some(
            "restores in an environment that is not known: it does not call `harness restore --abandoned` with one from a \
             ConfigMap"
                .to_owned(),
        ));
    };
    let name = ObjectName::new(namespace, map);
    let unknown = |why: &str| {
        Ok(Some(format!("restores in an environment that is not known: {key} of ConfigMap {name} {why}")))
    };
    let found = match access.find::<ConfigMap>(&name).await {
        Err(error) if error.is_forbidden() => return unknown("may not be read"),
        found => found?,
    };
    let Some(text) = found.and_then(|map| map.data?.remove(&key)) else { return unknown("is not there") };
    let Ok(theirs) = Environment::of_text(&key, text) else { return unknown("is no environment") };
    let missing = not_done(environment, &theirs);
    let words: Vec<&str> = missing.iter().take(NAMED_MAX).map(String::as_str).collect();
    let more = if missing.len() > NAMED_MAX { ", and more" } else { "" };
    let words = format!(
        "restores in another environment ({key} of ConfigMap {name}), and does not {}{more}",
        words.join(", ")
    );
    Ok((!missing.is_empty()).then_some(words))
}

/// What a run in an environment may leave, and whoever restores in the other one does not undo, in words.
fn not_done(environment: &Environment, theirs: &Environment) -> Vec<String> {
    missing(environment, theirs).iter().map(words_of).chain(held_up(environment, theirs)).collect()
}

/// Whoever a run may tell to wait, and nobody lets go on who restores in the other environment: what that takes is not among
/// the rights that a sweep asks about, since only the cluster tells where they are.
fn held_up(environment: &Environment, theirs: &Environment) -> Vec<String> {
    const BY_NAME: [Opponent; 2] = [Opponent::ArgoCd, Opponent::Flux];
    let mut words = Vec::new();
    for (name, component) in &environment.components {
        let (FaultKind::ScaleToZero, Some(target)) = (component.down, &component.deployment) else {
            continue;
        };
        let same = theirs.components.iter().filter(|(_, their)| their.deployment.as_ref() == Some(target));
        let known: BTreeSet<Opponent> = same.flat_map(|(name, _)| theirs.pause(name)).collect();
        let ours = environment.pause(name);
        let held = BY_NAME.iter().filter(|who| ours.contains(*who) && !known.contains(*who));
        words.extend(held.map(|who| format!("let {} go on that keeps {target}", who.word())));
    }
    let pauses = |name: &String| BY_NAME.iter().any(|who| environment.pause(name).contains(who));
    if environment.components.keys().any(pauses) {
        let reached = |place: &&String| theirs.cluster().is_some_and(|own| own.namespaces.contains(*place));
        let places = environment.cluster().map(|own| &own.namespaces).into_iter().flatten();
        let beyond = places.filter(|place| !reached(place));
        words.extend(beyond.map(|place| format!("let anybody go on in {place}")));
    }
    words
}

/// What restoring in an environment takes, and whoever restores in the other one does not do.
fn missing(environment: &Environment, theirs: &Environment) -> Vec<Need> {
    let done: BTreeSet<Need> = needed_to_restore(theirs).into_iter().collect();
    // A change outside of those is refused before it is sent.
    let reaches = |need: &Need| {
        let place = need.namespace.as_ref();
        place.is_none_or(|place| theirs.cluster().is_some_and(|cluster| cluster.namespaces.contains(place)))
    };
    let mut needs = needed_to_restore(environment);
    needs.retain(|need| need.optional.is_none() && !(done.contains(need) && reaches(need)));
    needs
}

fn words_of(need: &Need) -> String {
    let name = need.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
    let place = need.namespace.as_ref().map_or(String::new(), |place| format!(" in {place}"));
    format!("{} {}{name}{place}", need.verb, need.resource)
}

/// The ConfigMap and its key from which a sweeper reads its environment.
fn place_of_environment(sweeper: &CronJob) -> Option<(String, String)> {
    let job = sweeper.spec.as_ref()?.job_template.spec.as_ref()?;
    let pod = job.template.spec.as_ref()?;
    pod.containers.iter().find_map(|container| of_container(pod, container))
}

fn of_container(pod: &PodSpec, container: &Container) -> Option<(String, String)> {
    let words: Vec<&str> =
        [&container.command, &container.args].into_iter().flatten().flatten().map(String::as_str).collect();
    if !words.contains(&"restore") || !words.contains(&"--abandoned") {
        return None;
    }
    let path = words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--env=") {
        None if *word == "--env" => words.get(at + 1).copied(),
        path => path,
    })?;
    let mounts = container
        .volume_mounts
        .iter()
        .flatten()
        .filter(|mount| mount.sub_path.is_none() && mount.sub_path_expr.is_none());
    let inside = mounts.filter_map(|mount| {
        let rest = path.strip_prefix(mount.mount_path.trim_end_matches('/'))?.strip_prefix('/')?;
        Some((mount, rest))
    });
    // The deepest.
    let (mount, file) = inside.min_by_key(|(_, rest)| rest.len())?;
    let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mount.name)?;
    let map = volume.config_map.as_ref()?;
    let key = match map.items.as_deref() {
        Some(items) if !items.is_empty() => items.iter().find(|item| item.path == file)?.key.clone(),
        _ => file.to_owned(),
    };
    Some((map.name.clone(), key))
}

#[cfg(test)]
mod tests;
