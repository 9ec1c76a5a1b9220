//! Looking from the gateway's pods: in each of them, and in those that take their places.

use std::sync::Arc;

use kube::core::Selector;

use crate::cluster::access::Access;
use crate::cluster::prober::{Fleet, ProberOptions, Target};
use crate::cluster::watch::{Watching, ready_pods};
use crate::environment::ObjectName;
use crate::journal::{Event, Journal};

/// How it is looked from there.
pub(super) struct FromPods {
    /// Where the gateway's pods are.
    pub(super) namespace: String,
    /// Their labels.
    pub(super) selector: Selector,
    /// The container in them, where it is known.
    pub(super) container: Option<String>,
    /// At what.
    pub(super) targets: Vec<Target>,
    /// How often.
    pub(super) options: ProberOptions,
}

impl FromPods {
    /// Starts in these pods, and has the addresses that they resolve watched.
    ///
    /// # Errors
    /// In words, why nobody looks; the journal is told, too.
    pub(super) async fn start(
        &self,
        access: &Access,
        pods: &[ObjectName],
        watching: &Watching,
        journal: &Arc<Journal>,
    ) -> Result<Fleet, String> {
        let container = self.container.as_deref();
        let started = Fleet::start(access, pods, container, &self.targets, &self.options, journal).await;
        match started {
            Ok(fleet) => {
                for (_, prober) in fleet.members() {
                    watching.mind_addresses(prober.seen());
                }
                Ok(fleet)
            }
            Err(error) => {
                let why = error.to_string();
                journal.append(Event::Found { text: format!("the evidence is weak: {why}") });
                Err(why)
            }
        }
    }

    /// The gateway's pods, where they are others than these and can be looked from.
    pub(super) async fn replaced(&self, access: &Access, known: &[ObjectName]) -> Option<Vec<ObjectName>> {
        let ready = ready_pods(access, &self.namespace, &self.selector).await.ok()?;
        (!ready.is_empty() && ready != known).then_some(ready)
    }
}
