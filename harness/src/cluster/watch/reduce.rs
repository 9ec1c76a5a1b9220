//! From what is seen and what we did ourselves to drift: pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use kube::core::{Selector, SelectorExt};

use super::drift::{Drift, What};
use super::kept_up::KeptUp;
use super::seen::{Actor, DeploymentSeen, Kind, PodSeen, PolicySeen, Seen, ServiceSeen, SliceSeen};
use crate::environment::ObjectName;

/// Why nothing is known of a kind at first.
pub(super) const NOT_YET: &str = "not listed yet";
/// Objects that are remembered of a kind; a home cluster has far fewer.
const OBJECTS_MAX: usize = 20_000;
/// Drifts that are told of a mode.
const DRIFTS_MAX: usize = 200;
/// What the cluster told last, over all objects.
const TOLD_MAX: usize = 256;
/// What is told of one object with its drift.
const TOLD_EACH: usize = 3;

/// The cluster as it was seen last, and what it must stay like. An expectation holds from when it is stated until
/// it is forgotten; each drift is told once in a mode.
#[derive(Debug)]
pub struct Reducer {
    run: String,
    deployments: BTreeMap<ObjectName, DeploymentSeen>,
    pods: BTreeMap<ObjectName, PodSeen>,
    slices: BTreeMap<ObjectName, SliceSeen>,
    services: BTreeMap<ObjectName, ServiceSeen>,
    policies: BTreeMap<ObjectName, PolicySeen>,
    nodes: BTreeMap<String, bool>,
    told: VecDeque<(String, String)>,
    /// Kinds in namespaces of which everything is known, or why not.
    known: BTreeMap<(Kind, String), Result<(), String>>,
    expected: Expected,
    drifts: Vec<Drift>,
    /// Those from here on are of this mode.
    of_mode: usize,
}

#[derive(Debug, Default)]
struct Expected {
    counts: BTreeMap<ObjectName, Count>,
    empty: BTreeMap<String, Empty>,
    /// What has to stay up, by component.
    up: BTreeMap<String, KeptUp>,
    policies: BTreeMap<ObjectName, (String, Option<i64>)>,
    gateway: Option<GatewayPods>,
    /// Pods that nobody may reach, by component.
    isolated: BTreeMap<String, Guarded>,
    services: BTreeMap<ObjectName, (String, String)>,
    nodes: BTreeSet<String>,
    addresses: BTreeMap<String, BTreeSet<IpAddr>>,
}

#[derive(Debug)]
struct Count {
    was: i32,
    now: i32,
    /// The new count was seen, so that the old one is no echo of before.
    settled: bool,
}

#[derive(Debug)]
struct Empty {
    namespace: String,
    selector: Selector,
    /// Pods that were there at the start: on their way out.
    leaving: BTreeSet<String>,
}

#[derive(Debug)]
struct GatewayPods {
    /// Restarts, by uid.
    pods: BTreeMap<String, i32>,
    around: Guarded,
}

/// Pods around which the policies must stay as they are.
#[derive(Debug)]
struct Guarded {
    namespace: String,
    selector: Selector,
    /// Policies that were there at the start, by name, as they were, and whether they selected these pods.
    policies: BTreeMap<ObjectName, (String, i64, bool)>,
}

/// Whether a backend is there, by the API's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Pods with its labels of which a container may run.
    pub pods: usize,
    /// Of those, so many are terminating.
    pub terminating: usize,
    /// Endpoints that are given connections.
    pub ready: usize,
    /// Endpoints that answer, also while they terminate.
    pub serving: usize,
    /// What is not known, so that none of the figures shows an absence.
    pub unknown: Option<String>,
}

impl Presence {
    /// No pod is left, and no endpoint that anything could be sent to.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.unknown.is_none() && self.pods == 0 && self.ready == 0 && self.serving == 0
    }

    /// As evidence, for a person.
    #[must_use]
    pub fn words(&self) -> String {
        if let Some(unknown) = &self.unknown {
            return unknown.clone();
        }
        let Self { pods, terminating, ready, serving, .. } = self;
        if self.is_down() {
            return "no pod is left, no endpoint is ready or serving".to_owned();
        }
        format!("{pods} pods ({terminating} terminating), {ready} endpoints ready, {serving} serving")
    }
}

impl Reducer {
    /// Nothing is known, nothing expected. Policies with the label of `run` are our own.
    #[must_use]
    pub fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            deployments: BTreeMap::new(),
            pods: BTreeMap::new(),
            slices: BTreeMap::new(),
            services: BTreeMap::new(),
            policies: BTreeMap::new(),
            nodes: BTreeMap::new(),
            told: VecDeque::new(),
            known: BTreeMap::new(),
            expected: Expected::default(),
            drifts: Vec::new(),
            of_mode: 0,
        }
    }

    /// Every drift so far, in order of time.
    #[must_use]
    pub fn drifts(&self) -> &[Drift] {
        &self.drifts
    }

    /// Kinds in namespaces of which not everything is known now, with why.
    pub fn blind(&self) -> impl Iterator<Item = (Kind, &str, &str)> {
        let unknown = self.known.iter().filter_map(|(key, known)| Some((key, known.as_ref().err()?)));
        unknown.map(|((kind, namespace), why)| (*kind, namespace.as_str(), why.as_str()))
    }

    /// This kind is going to be watched there: nothing of it is known before the first list.
    pub fn will_watch(&mut self, kind: Kind, namespace: &str) {
        self.known.insert((kind, namespace.to_owned()), Err(NOT_YET.to_owned()));
    }

    /// A count is changed by us: both are right until the new one was seen, then only that. To be stated before the
    /// change is made.
    pub fn expect_count(&mut self, deployment: &ObjectName, was: i32, now: i32) {
        self.expected.counts.insert(deployment.clone(), Count { was, now, settled: was == now });
    }

    /// The count of a Deployment is somebody else's affair again.
    pub fn forget_count(&mut self, deployment: &ObjectName) {
        self.expected.counts.remove(deployment);
    }

    /// From now on no pod of this component may appear; those that are there are on their way out.
    pub fn expect_no_pods(&mut self, component: &str, namespace: &str, selector: &Selector) {
        let leaving = self.selected(namespace, selector).map(|(_, pod)| pod.uid.clone()).collect();
        let empty = Empty { namespace: namespace.to_owned(), selector: selector.clone(), leaving };
        self.expected.empty.insert(component.to_owned(), empty);
    }

    /// Pods of this component may appear again.
    pub fn forget_no_pods(&mut self, component: &str) {
        self.expected.empty.remove(component);
    }

    /// Our policy must stay as we made it.
    pub fn expect_policy(&mut self, policy: &ObjectName, uid: &str) {
        let seen = self.policies.get(policy).filter(|seen| seen.uid == uid).map(|seen| seen.generation);
        self.expected.policies.insert(policy.clone(), (uid.to_owned(), seen));
    }

    /// Our policy is about to be deleted by us.
    pub fn forget_policy(&mut self, policy: &ObjectName) {
        self.expected.policies.remove(policy);
    }

    /// A mode begins: what was found before is not told of it, and what is only to stay as it is (the gateway, the
    /// Services) is to stay as it is now. What was changed by us and is not undone is expected as before.
    pub fn begin_mode(&mut self) {
        self.of_mode = self.drifts.len();
        self.forget_up();
        if let Some(gateway) = self.expected.gateway.take() {
            self.expected.nodes.clear();
            self.expect_gateway(&gateway.around.namespace, &gateway.around.selector);
        }
        let services: Vec<ObjectName> = self.expected.services.keys().cloned().collect();
        services.iter().for_each(|service| self.expect_service(service));
    }

    /// From now on this component has to stay up; gives what speaks against that already, as far as it is known: what is
    /// not listed again yet is told by that list.
    pub fn expect_up(
        &mut self,
        at_us: u64,
        component: &str,
        deployment: &ObjectName,
        (namespace, selector): (&str, &Selector),
    ) -> Vec<Drift> {
        let kept = KeptUp::new(deployment, namespace, selector, &self.pods);
        let is_known =
            matches!(self.known.get(&(Kind::Deployment, deployment.namespace.clone())), Some(Ok(())));
        let scaled = self.deployments.get(deployment).filter(|seen| is_known && seen.replicas == 0);
        let object = format!("Deployment {deployment}");
        let found = scaled.map(|seen| Found::new(What::ScaledToZero, object, seen.actor.clone()));
        self.expected.up.insert(component.to_owned(), kept);
        self.tell(at_us, found.into_iter().collect())
    }

    /// Nothing has to stay up any more.
    pub fn forget_up(&mut self) {
        self.expected.up.clear();
    }

    /// Whether all pods that keep something up are on this node. They may not be ready any more because of it.
    fn keeps_up(&self, node: &str) -> bool {
        self.expected.up.values().any(|kept| kept.is_all_on(node))
    }

    /// What becomes of what has to stay up when this pod has changed, or is gone.
    fn lost_with(&self, name: &ObjectName, pod: &PodSeen, is_gone: bool) -> Vec<Found> {
        let mut found = Vec::new();
        for kept in self.expected.up.values().filter(|kept| kept.is_of(name, pod)) {
            let mut others =
                self.selected(&kept.namespace, &kept.selector).filter(|(other, _)| *other != name);
            let what = if others.any(|(_, other)| other.serves()) {
                None
            } else if is_gone || pod.terminating || !pod.runs {
                Some(What::LastPodGone)
            } else {
                kept.is_restarted(pod).then_some(What::LastPodRestarted)
            };
            found.extend(what.map(|what| Found::new(what, format!("Pod {name}"), pod.actor.clone())));
        }
        found
    }

    /// From now on nobody may reach the pods of this component: no policy around them may be made, changed or deleted.
    pub fn expect_isolated(&mut self, component: &str, namespace: &str, selector: &Selector) {
        let guarded = self.guarded(namespace, selector);
        self.expected.isolated.insert(component.to_owned(), guarded);
    }

    /// The pods of this component may be reached again.
    pub fn forget_isolated(&mut self, component: &str) {
        self.expected.isolated.remove(component);
    }

    fn guarded(&self, namespace: &str, selector: &Selector) -> Guarded {
        let policies = self.policies.iter().filter(|(name, _)| name.namespace == namespace);
        // Our own, of a fault that is inherited, are expected each by itself, and go when it is healed.
        let policies = policies.filter(|(_, seen)| seen.run.as_ref() != Some(&self.run));
        let policies = policies.map(|(name, seen)| {
            let selects = self.selects(seen, namespace, selector);
            (name.clone(), (seen.uid.clone(), seen.generation, selects))
        });
        Guarded { namespace: namespace.to_owned(), selector: selector.clone(), policies: policies.collect() }
    }

    /// Whether a policy selects one of these pods.
    fn selects(&self, policy: &PolicySeen, namespace: &str, selector: &Selector) -> bool {
        let is_selected = |pod: &PodSeen| policy.selector.as_ref().is_none_or(|one| one.matches(&pod.labels));
        self.selected(namespace, selector).any(|(_, pod)| is_selected(pod))
    }

    /// Pods of these labels that run.
    #[must_use]
    pub fn running(&self, namespace: &str, selector: &Selector) -> Vec<ObjectName> {
        let running = self.selected(namespace, selector).filter(|(_, pod)| !pod.terminating && pod.runs);
        running.map(|(name, _)| name.clone()).collect()
    }

    /// The gateway's pods, their nodes and the policies around them must stay as they are now; gives their names.
    pub fn expect_gateway(&mut self, namespace: &str, selector: &Selector) -> Vec<ObjectName> {
        let mut names = Vec::new();
        let mut pods = BTreeMap::new();
        let mut nodes = Vec::new();
        for (name, pod) in self.selected(namespace, selector).filter(|(_, pod)| !pod.terminating && pod.runs)
        {
            names.push(name.clone());
            pods.insert(pod.uid.clone(), pod.restarts);
            nodes.extend(pod.node.clone());
        }
        self.expected.nodes.extend(nodes);
        self.expected.gateway = Some(GatewayPods { pods, around: self.guarded(namespace, selector) });
        names
    }

    /// A Service must stay as it is now.
    pub fn expect_service(&mut self, service: &ObjectName) {
        if let Some(seen) = self.services.get(service) {
            self.expected.services.insert(service.clone(), (seen.uid.clone(), seen.spec.clone()));
        }
    }

    /// The target's name must have no other addresses than these.
    pub fn expect_addresses(&mut self, target: &str, addresses: &BTreeSet<IpAddr>) {
        self.expected.addresses.insert(target.to_owned(), addresses.clone());
    }

    /// Whatever addresses the target's name has.
    pub fn forget_addresses(&mut self, target: &str) {
        self.expected.addresses.remove(target);
    }

    /// Whether a backend is there, by its pods and by the endpoints of its Service.
    #[must_use]
    pub fn presence(&self, namespace: &str, selector: &Selector, service: Option<&ObjectName>) -> Presence {
        let mut presence = Presence { pods: 0, terminating: 0, ready: 0, serving: 0, unknown: None };
        for (_, pod) in self.selected(namespace, selector).filter(|(_, pod)| pod.runs) {
            presence.pods += 1;
            presence.terminating += usize::from(pod.terminating);
        }
        for slice in self.slices.values().filter(|slice| Some(&slice.service) == service) {
            presence.ready += slice.ready;
            presence.serving += slice.serving;
        }
        let needed =
            [Some((Kind::Pod, namespace)), service.map(|one| (Kind::EndpointSlice, one.namespace.as_str()))];
        let unknown = needed.into_iter().flatten().find_map(|(kind, namespace)| {
            match self.known.get(&(kind, namespace.to_owned())) {
                Some(Ok(())) => None,
                Some(Err(why)) => {
                    Some(format!("{} objects in {namespace} are not known: {why}", kind.word()))
                }
                None => Some(format!("{} objects in {namespace} are not watched", kind.word())),
            }
        });
        presence.unknown = unknown;
        presence
    }

    /// The longest time that one of these pods may take to end; `None` where none tells.
    #[must_use]
    pub fn grace(&self, namespace: &str, selector: &Selector) -> Option<Duration> {
        let told = self.selected(namespace, selector).filter_map(|(_, pod)| pod.grace_s);
        told.max().map(|grace_s| Duration::from_secs(u64::try_from(grace_s).unwrap_or_default()))
    }

    /// Pods that a selector selects, by name.
    pub fn selected<'a>(
        &'a self,
        namespace: &'a str,
        selector: &'a Selector,
    ) -> impl Iterator<Item = (&'a ObjectName, &'a PodSeen)> {
        let pods = self.pods.iter().filter(move |(name, _)| name.namespace == namespace);
        pods.filter(move |(_, pod)| selector.matches(&pod.labels))
    }

    /// Take in what was seen now; the drifts that it is.
    pub fn take(&mut self, at_us: u64, seen: Seen) -> Vec<Drift> {
        let found = match seen {
            Seen::Deployment(name, seen) => self.take_deployment(name, seen),
            Seen::Pod(name, seen) => self.take_pods(&[(name, seen)], &[]),
            Seen::Slice(name, seen) => {
                insert(&mut self.slices, name, seen);
                Vec::new()
            }
            Seen::Service(name, seen) => self.take_service(name, seen),
            Seen::Policy(name, seen) => self.take_policy(name, seen),
            Seen::Node(name, ready) => {
                let drift = !ready && (self.expected.nodes.contains(&name) || self.keeps_up(&name));
                insert(&mut self.nodes, name.clone(), ready);
                found_if(drift, What::NodeNotReady, format!("Node {name}"), None)
            }
            Seen::Told { about, what } => {
                if self.told.len() == TOLD_MAX {
                    self.told.pop_front();
                }
                self.told.push_back((about, what));
                Vec::new()
            }
            Seen::Gone(kind, name) => self.take_gone(kind, &name),
            Seen::Listed(kind, namespace, names) => {
                let gone = self.names(kind, &namespace).into_iter().filter(|name| !names.contains(name));
                let found =
                    gone.collect::<Vec<_>>().iter().flat_map(|name| self.take_gone(kind, name)).collect();
                self.known.insert((kind, namespace), Ok(()));
                found
            }
            Seen::PodsListed(namespace, pods) => {
                let listed: BTreeSet<&ObjectName> = pods.iter().map(|(name, _)| name).collect();
                let mut gone = self.names(Kind::Pod, &namespace);
                gone.retain(|name| !listed.contains(name));
                let found = self.take_pods(&pods, &gone);
                self.known.insert((Kind::Pod, namespace), Ok(()));
                found
            }
            Seen::Lost(kind, namespace, why) => {
                self.known.insert((kind, namespace), Err(why));
                Vec::new()
            }
            Seen::Resolved { target, ever, more } => {
                let Some(known) = self.expected.addresses.get(&target) else { return Vec::new() };
                let moved = ever.difference(known).map(|to| What::AddressMoved { to: to.to_string() });
                // Whoever has more than are looked at is not cut off in the first place, so these are new.
                let beyond = more.then_some(What::MoreAddresses);
                moved.chain(beyond).map(|what| Found::new(what, target.clone(), None)).collect()
            }
        };
        self.tell(at_us, found)
    }

    fn tell(&mut self, at_us: u64, found: Vec<Found>) -> Vec<Drift> {
        let mut news = Vec::new();
        for Found { what, object, actor } in found {
            let of_mode = &self.drifts[self.of_mode..];
            let is_told = of_mode.iter().any(|known| known.what == what && known.object == object);
            if is_told || of_mode.len() >= DRIFTS_MAX {
                continue;
            }
            let about = self.told.iter().rev().filter(|(about, _)| *about == object);
            let mut told: Vec<String> = about.take(TOLD_EACH).map(|(_, what)| what.clone()).collect();
            told.reverse();
            let drift = Drift { at_us, what, object, actor, told };
            self.drifts.push(drift.clone());
            news.push(drift);
        }
        news
    }

    fn names(&self, kind: Kind, namespace: &str) -> Vec<ObjectName> {
        fn of<T>(objects: &BTreeMap<ObjectName, T>, namespace: &str) -> Vec<ObjectName> {
            objects.keys().filter(|name| name.namespace == namespace).cloned().collect()
        }
        match kind {
            Kind::Deployment => of(&self.deployments, namespace),
            Kind::Pod => of(&self.pods, namespace),
            Kind::EndpointSlice => of(&self.slices, namespace),
            Kind::Service => of(&self.services, namespace),
            Kind::NetworkPolicy => of(&self.policies, namespace),
            Kind::Node => self.nodes.keys().map(|name| ObjectName::new("", name.clone())).collect(),
            Kind::Event => Vec::new(),
        }
    }

    fn take_deployment(&mut self, name: ObjectName, seen: DeploymentSeen) -> Vec<Found> {
        let before = self.deployments.get(&name);
        let is_other = before.is_some_and(|before| before.uid != seen.uid);
        let mut found = Vec::new();
        if let Some(count) = self.expected.counts.get_mut(&name) {
            count.settled |= seen.replicas == count.now;
            let is_right = seen.replicas == count.now || (!count.settled && seen.replicas == count.was);
            if is_other {
                found.push(Found::new(
                    What::DeploymentGone,
                    format!("Deployment {name}"),
                    seen.changer.clone(),
                ));
            }
            if !is_right {
                let what = What::Scaled { expected: count.now, found: seen.replicas };
                found.push(Found::new(what, format!("Deployment {name}"), seen.actor.clone()));
            }
        }
        if self.expected.up.values().any(|kept| kept.deployment == name) && seen.replicas == 0 {
            found.push(Found::new(What::ScaledToZero, format!("Deployment {name}"), seen.actor.clone()));
        }
        insert(&mut self.deployments, name, seen);
        found
    }

    /// Pods that were seen together. What the loss of one means depends on the others, so all are as they are now before
    /// any is judged.
    fn take_pods(&mut self, seen: &[(ObjectName, PodSeen)], gone: &[ObjectName]) -> Vec<Found> {
        let gone: Vec<_> = gone.iter().filter_map(|name| Some((name, self.pods.remove(name)?))).collect();
        for (name, pod) in seen {
            insert(&mut self.pods, name.clone(), pod.clone());
        }
        let mut found = Vec::new();
        for (name, pod) in seen {
            found.extend(self.pod_changed(name, pod));
            found.extend(self.lost_with(name, pod, false));
        }
        for (name, pod) in gone {
            found.extend(self.lost_with(name, &pod, true));
            let gateway = self.expected.gateway.as_ref();
            let drift = gateway.is_some_and(|gateway| gateway.pods.contains_key(&pod.uid));
            found.extend(found_if(drift, What::GatewayPodGone, format!("Pod {name}"), pod.actor));
        }
        self.expected.up.values_mut().for_each(|kept| kept.settle(&self.pods));
        found
    }

    fn pod_changed(&self, name: &ObjectName, seen: &PodSeen) -> Vec<Found> {
        let mut found = Vec::new();
        let object = || format!("Pod {name}");
        let is_new_here = |empty: &Empty| {
            name.namespace == empty.namespace
                && empty.selector.matches(&seen.labels)
                && !empty.leaving.contains(&seen.uid)
                && seen.runs
        };
        if self.expected.empty.values().any(is_new_here) {
            found.push(Found::new(What::PodAppeared, object(), seen.actor.clone()));
        }
        if let Some(gateway) = &self.expected.gateway
            && name.namespace == gateway.around.namespace
            && gateway.around.selector.matches(&seen.labels)
        {
            let what = match gateway.pods.get(&seen.uid) {
                Some(_) if seen.terminating => Some(What::GatewayPodGone),
                Some(restarts) if seen.restarts > *restarts => Some(What::GatewayPodRestarted),
                Some(_) => None,
                None => (!seen.terminating && seen.runs).then_some(What::GatewayPodAppeared),
            };
            found.extend(what.map(|what| Found::new(what, object(), seen.actor.clone())));
        }
        found
    }

    fn take_service(&mut self, name: ObjectName, seen: ServiceSeen) -> Vec<Found> {
        let expected = self.expected.services.get(&name);
        let differs = expected.is_some_and(|(uid, spec)| (uid, spec) != (&seen.uid, &seen.spec));
        let found = found_if(differs, What::ServiceChanged, format!("Service {name}"), seen.actor.clone());
        insert(&mut self.services, name, seen);
        found
    }

    fn take_policy(&mut self, name: ObjectName, seen: PolicySeen) -> Vec<Found> {
        let mut found = Vec::new();
        let object = format!("NetworkPolicy {name}");
        if let Some((uid, generation)) = self.expected.policies.get_mut(&name) {
            let first = *generation.get_or_insert(seen.generation);
            if seen.terminating && seen.uid == *uid {
                found.push(Found::new(What::PolicyGone, object, seen.actor.clone()));
            } else if seen.uid != *uid || seen.generation != first {
                found.push(Found::new(What::PolicyChanged, object, seen.actor.clone()));
            }
        } else if seen.run.as_ref() != Some(&self.run) {
            let differs = |guarded: &&Guarded| {
                let before = guarded.policies.get(&name);
                name.namespace == guarded.namespace
                    && before
                        .is_none_or(|(uid, generation, _)| (uid, *generation) != (&seen.uid, seen.generation))
                    && (before.is_some_and(|(.., selected)| *selected)
                        || self.selects(&seen, &guarded.namespace, &guarded.selector))
            };
            let (gateway, isolated) = (&self.expected.gateway, &self.expected.isolated);
            if gateway.iter().map(|gateway| &gateway.around).any(|around| differs(&around)) {
                found.push(Found::new(What::PolicyAppeared, object.clone(), seen.actor.clone()));
            }
            if isolated.values().any(|guarded| differs(&guarded)) {
                found.push(Found::new(What::WayIn, object, seen.actor.clone()));
            }
        }
        insert(&mut self.policies, name, seen);
        found
    }

    fn take_gone(&mut self, kind: Kind, name: &ObjectName) -> Vec<Found> {
        match kind {
            Kind::Deployment => {
                let actor = self.deployments.remove(name).and_then(|seen| seen.changer);
                let drift = self.expected.counts.contains_key(name)
                    || self.expected.up.values().any(|kept| kept.deployment == *name);
                found_if(drift, What::DeploymentGone, format!("Deployment {name}"), actor)
            }
            Kind::Pod => self.take_pods(&[], std::slice::from_ref(name)),
            Kind::EndpointSlice => {
                self.slices.remove(name);
                Vec::new()
            }
            Kind::Service => {
                let actor = self.services.remove(name).and_then(|seen| seen.actor);
                let drift = self.expected.services.contains_key(name);
                found_if(drift, What::ServiceChanged, format!("Service {name}"), actor)
            }
            Kind::NetworkPolicy => {
                let actor = self.policies.remove(name).and_then(|seen| seen.actor);
                let selected =
                    |guarded: &Guarded| guarded.policies.get(name).is_some_and(|(.., selected)| *selected);
                let gateway = self.expected.gateway.iter().map(|gateway| &gateway.around);
                let what = if self.expected.policies.contains_key(name) {
                    Some(What::PolicyGone)
                } else if gateway.chain(self.expected.isolated.values()).any(selected) {
                    Some(What::OtherPolicyGone)
                } else {
                    None
                };
                what.into_iter()
                    .map(|what| Found::new(what, format!("NetworkPolicy {name}"), actor.clone()))
                    .collect()
            }
            Kind::Node => {
                self.nodes.remove(&name.name);
                let drift = self.expected.nodes.contains(&name.name) || self.keeps_up(&name.name);
                found_if(drift, What::NodeGone, format!("Node {}", name.name), None)
            }
            Kind::Event => Vec::new(),
        }
    }
}

struct Found {
    what: What,
    object: String,
    actor: Option<Actor>,
}

impl Found {
    fn new(what: What, object: String, actor: Option<Actor>) -> Self {
        Self { what, object, actor }
    }
}

fn found_if(drift: bool, what: What, object: String, actor: Option<Actor>) -> Vec<Found> {
    if drift { vec![Found::new(what, object, actor)] } else { Vec::new() }
}

fn insert<K: Ord, T>(objects: &mut BTreeMap<K, T>, name: K, seen: T) {
    if objects.len() < OBJECTS_MAX || objects.contains_key(&name) {
        objects.insert(name, seen);
    }
}
