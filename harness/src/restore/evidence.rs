//! That what was undone is in effect: pods are there again.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use tokio::time::{Instant, sleep};

use super::undo::{Seen, Undoing};
use crate::cluster::faults::scale::Scale;
use crate::cluster::mutation::Mutation;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Where no component tells how long it takes.
const READY_WITHIN: Duration = Duration::from_secs(300);

impl Undoing<'_> {
    /// Waits until a change that reads back as undone is in effect again.
    pub(super) async fn shows(&self, mutation: &Mutation) -> Seen {
        match mutation {
            Mutation::Scale(scale) => self.is_available(scale).await,
            // Reading back has shown that they are gone, or as they were.
            Mutation::Anchor(_)
            | Mutation::Policy(_)
            | Mutation::NetnsDrop(_)
            | Mutation::Pause(_)
            | Mutation::Gate(_) => Seen::Yes,
        }
    }

    /// Whether it may be long until what was undone is in effect, and somebody waits for that.
    pub(super) fn takes_time(&self, mutation: &Mutation) -> bool {
        matches!(mutation, Mutation::Scale(_)) && self.wait.is_none_or(|wait| !wait.is_zero())
    }

    async fn is_available(&self, scale: &Scale) -> Seen {
        let deployment = &scale.deployment;
        let ready_within = || {
            let all = self.environment.components.values();
            let own = all.filter(|component| component.deployment.as_ref() == Some(deployment));
            own.map(|component| component.ready_within.0).max().unwrap_or(READY_WITHIN)
        };
        let wait = self.wait.unwrap_or_else(ready_within);
        if wait.is_zero() {
            return Seen::Yes;
        }
        let time_for_all = self.at_most(wait);
        let is_cut_short = time_for_all < wait;
        let deadline = Instant::now() + time_for_all;
        let mut told = false;
        loop {
            let why = match self.access.get::<Deployment>(deployment).await {
                Ok(object) if !is_status_of_it(&object) => "its status is from before".to_owned(),
                Ok(object) => {
                    let wanted = object.spec.and_then(|spec| spec.replicas).unwrap_or(1).min(scale.replicas);
                    let there = object.status.and_then(|status| status.available_replicas).unwrap_or(0);
                    if there >= wanted {
                        return Seen::Yes;
                    }
                    format!("{there} of {wanted} pods are available")
                }
                Err(error) => error.to_string(),
            };
            let not_waited_for = || {
                Seen::NotWaitedFor(format!(
                    "Deployment {deployment} is scaled back; whether its pods come back was not waited for: {why}"
                ))
            };
            if Instant::now() >= deadline && is_cut_short {
                return not_waited_for();
            }
            if Instant::now() >= deadline {
                let look = format_args!("get pods,events --sort-by=.metadata.creationTimestamp").to_string();
                return Seen::No(format!(
                    "Deployment {deployment} is scaled back, but after {} s {why}; look: {}",
                    wait.as_secs(),
                    self.kubectl.line(&deployment.namespace, look)
                ));
            }
            if !told {
                (self.progress)(&format!(
                    "waiting up to {} s until Deployment {deployment} is available",
                    time_for_all.as_secs()
                ));
                told = true;
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = self.cut.cancelled() => return not_waited_for(),
            }
        }
    }
}

/// Whether the status of a Deployment is of what it is told now; before its controller has looked, it tells of the pods
/// that there were.
fn is_status_of_it(deployment: &Deployment) -> bool {
    let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
    deployment.metadata.generation.is_none_or(|told| observed.is_some_and(|observed| observed >= told))
}
