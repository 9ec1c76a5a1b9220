//! What no fault of a mode hits: it has to stay up while the mode is judged.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};

use super::seen::PodSeen;
use crate::environment::ObjectName;

/// Pods of one backend that are remembered.
const PODS_MAX: usize = 1000;

/// A backend, with the pods that keep it up: those that serve, and while none does, those that did last. What never
/// served ends nothing, and neither does what others have taken over from.
#[derive(Debug)]
pub(super) struct KeptUp {
    pub(super) deployment: ObjectName,
    pub(super) namespace: String,
    pub(super) selector: Selector,
    /// By uid.
    pods: BTreeMap<String, Served>,
}

/// A pod as it was when it was last seen to serve.
#[derive(Debug)]
struct Served {
    restarts: i32,
    node: Option<String>,
}

impl KeptUp {
    pub(super) fn new(
        deployment: &ObjectName,
        namespace: &str,
        selector: &Selector,
        pods: &BTreeMap<ObjectName, PodSeen>,
    ) -> Self {
        let mut kept = Self {
            deployment: deployment.clone(),
            namespace: namespace.to_owned(),
            selector: selector.clone(),
            pods: BTreeMap::new(),
        };
        kept.settle(pods);
        kept
    }

    /// These are all pods as they are now.
    pub(super) fn settle(&mut self, pods: &BTreeMap<ObjectName, PodSeen>) {
        let serve = pods.iter().filter(|(name, pod)| pod.serves() && self.selects(name, pod)).take(PODS_MAX);
        let serve = serve
            .map(|(_, pod)| (pod.uid.clone(), Served { restarts: pod.restarts, node: pod.node.clone() }));
        let serve: BTreeMap<String, Served> = serve.collect();
        if !serve.is_empty() {
            self.pods = serve;
        }
    }

    /// Whether it was this pod that kept it up.
    pub(super) fn is_of(&self, name: &ObjectName, pod: &PodSeen) -> bool {
        self.selects(name, pod) && self.pods.contains_key(&pod.uid)
    }

    /// Whether all that keep it up are on this node.
    pub(super) fn is_all_on(&self, node: &str) -> bool {
        !self.pods.is_empty() && self.pods.values().all(|pod| pod.node.as_deref() == Some(node))
    }

    fn selects(&self, name: &ObjectName, pod: &PodSeen) -> bool {
        name.namespace == self.namespace && self.selector.matches(&pod.labels)
    }

    /// Whether a container of it was started again since.
    pub(super) fn is_restarted(&self, pod: &PodSeen) -> bool {
        self.pods.get(&pod.uid).is_some_and(|served| pod.restarts > served.restarts)
    }
}
