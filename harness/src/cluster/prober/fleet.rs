//! A prober in each pod of the gateway. Every replica has connections of its own, and a policy may reach one later than
//! another: a fault is in effect once it is so for all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::joint::Joint;
use super::{Prober, ProberError, ProberOptions, Target, Told, in_pod};
use crate::cluster::access::Access;
use crate::environment::ObjectName;
use crate::journal::{Event, Journal};
use crate::witness::Observed;

/// Pods that have a prober; a home gateway has one or two replicas.
pub const FLEET_MAX: usize = 8;

/// One prober a pod. The journal is told what all of them see together.
pub struct Fleet {
    joint: Option<Arc<Joint>>,
    members: Vec<(ObjectName, Prober)>,
    /// Pods without a prober, beyond [`FLEET_MAX`].
    unprobed: Vec<ObjectName>,
}

impl Fleet {
    /// Start in each of these pods; all or none.
    ///
    /// # Errors
    /// When it cannot be started in one of them, or there is none.
    pub async fn start(
        access: &Access,
        pods: &[ObjectName],
        container: Option<&str>,
        targets: &[Target],
        options: &ProberOptions,
        journal: &Arc<Journal>,
    ) -> Result<Self, ProberError> {
        let (probed, unprobed) = pods.split_at(pods.len().min(FLEET_MAX));
        let components = targets.iter().map(|target| target.component.as_str());
        let joint = (probed.len() > 1).then(|| Arc::new(Joint::new(probed.len(), components, journal)));
        let starts = probed.iter().enumerate().map(|(index, pod)| {
            let name = pod.to_string();
            let told = match &joint {
                None => Told::Journal { pod: Some(name) },
                Some(joint) => Told::Joint { joint: Arc::clone(joint), number: index, pod: name },
            };
            let open = in_pod(access, pod, container);
            let started =
                Prober::start_as(open, targets.to_vec(), options.clone(), Arc::clone(journal), told);
            async move { started.await.map(|prober| (pod.clone(), prober)) }
        });
        let members = futures::future::try_join_all(starts).await?;
        if members.is_empty() {
            return Err(ProberError::NotStarted("the gateway has no pod".to_owned()));
        }
        Ok(Self { joint, members, unprobed: unprobed.to_vec() })
    }

    /// The prober of the first pod.
    #[must_use]
    pub fn lead(&self) -> &Prober {
        &self.members[0].1
    }

    /// What all pods see of a component: down once none reaches it, up again once one does.
    #[must_use]
    pub fn observed(&self, component: &str) -> Option<watch::Receiver<Observed>> {
        match &self.joint {
            Some(joint) => joint.observed(component),
            None => self.lead().observed(component),
        }
    }

    /// How each pod that does not see a component up sees it: down, with how, or not at all.
    #[must_use]
    pub fn not_up(&self, component: &str) -> Vec<(ObjectName, Observed)> {
        let seen = self.members().map(|(pod, prober)| {
            let observed = prober.observed(component).map(|observed| observed.borrow().clone());
            (pod.clone(), observed.unwrap_or_default())
        });
        seen.filter(|(_, observed)| observed.up != Some(true)).collect()
    }

    /// Every prober, with its pod.
    pub fn members(&self) -> impl Iterator<Item = (&ObjectName, &Prober)> {
        self.members.iter().map(|(pod, prober)| (pod, prober))
    }

    /// Pods of the gateway that nobody looks from.
    #[must_use]
    pub fn unprobed(&self) -> &[ObjectName] {
        &self.unprobed
    }

    /// Pods that do not see a component up (or down) now: they see the contrary, or nothing.
    #[must_use]
    pub fn unlike(&self, component: &str, up: bool) -> Vec<ObjectName> {
        let differs = |prober: &Prober| {
            prober.observed(component).is_none_or(|observed| observed.borrow().up != Some(up))
        };
        self.members().filter(|(_, prober)| differs(prober)).map(|(pod, _)| pod.clone()).collect()
    }

    /// Wait until every pod sees a component up (or down).
    ///
    /// # Errors
    /// When `limit` is over: the pods that do not.
    pub async fn wait_for(&self, component: &str, up: bool, limit: Duration) -> Result<(), Vec<ObjectName>> {
        let waits = self.members.iter().filter_map(|(_, prober)| prober.observed(component)).map(
            |mut observed: watch::Receiver<Observed>| async move {
                observed.wait_for(|observed| observed.up == Some(up)).await.is_ok()
            },
        );
        // Whoever was right for a moment and is not any more is named here, too.
        let _ = tokio::time::timeout(limit, futures::future::join_all(waits)).await;
        let unlike = self.unlike(component, up);
        if unlike.is_empty() { Ok(()) } else { Err(unlike) }
    }

    /// Others look from the same pods from now on, and this one until it is stopped. What each pod sees for itself is theirs
    /// to tell, and not known until they do.
    pub fn hand_over(&self, journal: &Journal) {
        let now_us = journal.clock().now_us();
        for (pod, prober) in self.members() {
            for component in prober.hand_over() {
                journal.append(Event::SeenFromPod {
                    component: component.clone(),
                    pod: pod.to_string(),
                    reached: None,
                    sent_us: now_us,
                    done_us: now_us,
                    saw: "probers are started anew".to_owned(),
                });
            }
        }
    }

    /// Stop all, each whatever becomes of the others.
    pub async fn stop(self) {
        futures::future::join_all(self.members.into_iter().map(|(_, prober)| prober.stop())).await;
    }
}
