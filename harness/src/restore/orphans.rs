//! Objects that carry the label of a run which nothing is known of any more.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{Restored, Undoing, open_records, patiently, runs};
use crate::cluster::access::{CallError, found};
use crate::cluster::faults;
use crate::cluster::lease;
use crate::cluster::permissions;
use crate::cluster::{HOME_LABEL, RUN_LABEL};
use crate::environment::ObjectName;

/// One object, and the run whose label it carries.
struct Labelled {
    name: ObjectName,
    uid: String,
    run: String,
    /// Where the lock and the record of that run are; older versions did not say.
    home: Option<String>,
}

impl Labelled {
    fn left_to_others(&self, kind: &str) -> String {
        let (name, run, home) = (&self.name, &self.run, self.home.as_deref().unwrap_or_default());
        format!(
            "{kind} {name} of {run} is left to whoever restores in namespace {home}, where that run is known"
        )
    }
}

impl Undoing<'_> {
    /// Removes what carries the label of a run that neither has an open record nor holds the lock. What was made by runs of
    /// another gateway in the same namespace is left alone: their lock and records are elsewhere.
    pub async fn orphans(&self, namespace: &str) -> Restored {
        let mut restored = Restored::default();
        // What belongs to a Job goes with it, so the policies are first.
        self.orphans_of::<NetworkPolicy>(namespace, "networkpolicy", &mut restored).await;
        self.orphans_of::<Job>(namespace, "job", &mut restored).await;
        restored
    }

    async fn orphans_of<K>(&self, namespace: &str, kind: &str, restored: &mut Restored)
    where
        K: Resource + DeserializeOwned + Clone,
        K::DynamicType: Default,
    {
        let mut found = Vec::new();
        let until = Instant::now() + self.at_most(self.asks);
        let places =
            self.environment.cluster().map(|cluster| permissions::made_in(self.environment, cluster));
        for place in places.into_iter().flatten() {
            let asks = until.saturating_duration_since(Instant::now());
            match patiently(asks, async || self.labelled::<K>(place, namespace).await).await {
                Ok((ours, others)) => {
                    found.extend(ours);
                    restored.notes.extend(others.iter().map(|one| one.left_to_others(kind)));
                }
                // Also where they may not be listed: whoever made them may have been somebody else.
                Err(error) => {
                    restored.unknown.push(format!("whether a {kind} of an earlier run is left: {error}"));
                }
            }
        }
        for one in found {
            let name = &one.name;
            match patiently(self.at_most(self.asks), async || self.remove::<K>(&one).await).await {
                Ok(true) => {
                    restored
                        .undone
                        .push(format!("delete {kind} {name}, of which no record is open (run {})", one.run));
                }
                // It went by itself, or another one has its name.
                Ok(false) => {}
                Err(error) => {
                    let line = format_args!("delete {kind} {} --ignore-not-found", name.name).to_string();
                    let command = self.kubectl.line(&name.namespace, line);
                    restored.left.push(format!(
                        "{kind} {name} of {} is left: {error}; to delete it: {command}",
                        one.run
                    ));
                }
            }
        }
    }

    /// Whether it was there. What meets a conflict (409) may still be it.
    async fn remove<K>(&self, one: &Labelled) -> Result<bool, CallError>
    where
        K: Resource + DeserializeOwned,
        K::DynamicType: Default,
    {
        match self.access.delete::<K>(&one.name, &one.uid).await {
            Err(error) if error.is_conflict() => {
                let there = found(self.access.get::<K>(&one.name).await)?;
                let is_it = there.is_some_and(|there| there.meta().uid.as_ref() == Some(&one.uid));
                if is_it { Err(error) } else { Ok(false) }
            }
            answer => answer,
        }
    }

    /// What is nobody's, and what only others can tell whose it is. Who holds the lock and which records are open is asked
    /// after the objects were listed: a run has both before it makes any.
    async fn labelled<K>(
        &self,
        place: &str,
        namespace: &str,
    ) -> Result<(Vec<Labelled>, Vec<Labelled>), CallError>
    where
        K: Resource + DeserializeOwned + Clone,
        K::DynamicType: Default,
    {
        let objects = self.access.list::<K>(Some(place), RUN_LABEL).await?;
        let ours = objects.into_iter().filter(|object| {
            faults::is_object_name(&object.name_any()) && object.meta().deletion_timestamp.is_none()
        });
        let labelled = ours.map(|object| Labelled {
            name: ObjectName::new(place, object.name_any()),
            uid: object.uid().unwrap_or_default(),
            run: object.labels().get(RUN_LABEL).cloned().unwrap_or_default(),
            home: object.labels().get(HOME_LABEL).cloned(),
        });
        let is_at_home = |one: &Labelled| one.home.as_ref().is_none_or(|home| home == namespace);
        let (mut found, others): (Vec<_>, Vec<_>) = labelled.partition(is_at_home);
        if found.is_empty() {
            return Ok((found, others));
        }
        let claim = lease::look(self.access, &lease::name(namespace)).await?;
        let known = runs(&open_records(self.access, namespace).await?, claim.as_ref());
        found.retain(|one| !known.contains(&one.run));
        Ok((found, others))
    }
}
