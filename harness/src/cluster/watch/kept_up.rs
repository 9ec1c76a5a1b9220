//! What no fault of a mode hits: it has to stay up while the mode is judged.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};

use super::seen::PodSeen;
use crate::environment::ObjectName;

/// Pods of one backend that are remembered.
const PODS_MAX: usize = 1000;

/// A backend, with the pods that keep it up.
#[derive(Debug)]
pub(super) struct KeptUp {
    pub(super) deployment: ObjectName,
    pub(super) namespace: String,
    pub(super) selector: Selector,
    /// Restarts by uid of the pods that served then, or have served since, as of when they were first seen to. What never
    /// served ends nothing.
    pods: BTreeMap<String, i32>,
}

impl KeptUp {
    pub(super) fn new<'a>(
        deployment: &ObjectName,
        namespace: &str,
        selector: &Selector,
        pods: impl Iterator<Item = (&'a ObjectName, &'a PodSeen)>,
    ) -> Self {
        let served = pods.filter(|(_, pod)| pod.serves());
        Self {
            deployment: deployment.clone(),
            namespace: namespace.to_owned(),
            selector: selector.clone(),
            pods: served.map(|(_, pod)| (pod.uid.clone(), pod.restarts)).collect(),
        }
    }

    /// A pod that serves by now keeps it up from now on.
    pub(super) fn join(&mut self, name: &ObjectName, pod: &PodSeen) {
        if self.selects(name, pod) && pod.serves() && self.pods.len() < PODS_MAX {
            self.pods.entry(pod.uid.clone()).or_insert(pod.restarts);
        }
    }

    /// Whether it was this pod that kept it up.
    pub(super) fn is_of(&self, name: &ObjectName, pod: &PodSeen) -> bool {
        self.selects(name, pod) && self.pods.contains_key(&pod.uid)
    }

    fn selects(&self, name: &ObjectName, pod: &PodSeen) -> bool {
        name.namespace == self.namespace && self.selector.matches(&pod.labels)
    }

    /// Whether a container of it was started again since.
    pub(super) fn is_restarted(&self, pod: &PodSeen) -> bool {
        self.pods.get(&pod.uid).is_some_and(|restarts| pod.restarts > *restarts)
    }
}
