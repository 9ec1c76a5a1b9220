//! A Kubernetes cluster as a target of faults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use kube::core::Selector;

use super::{ActiveFault, Healed, OldConnections};
use crate::attribution::by_header;
use crate::cluster::access::Access;
use crate::cluster::faults::{self, Wanted, netns};
use crate::cluster::mutation::{Kubectl, Mutation, MutationError, ReadBack, Undone};
use crate::cluster::places::service_of;
use crate::cluster::prober::{Fleet, Pool, Prober as PodProber};
use crate::cluster::watch::Watching;
use crate::environment::{ClusterGateway, Environment, FaultKind, Mechanism};
use crate::journal::{ClaimSource, Event, Journal, Outcome, Purpose};
use crate::plan::{PlannedFault, PlannedKind};
use crate::probe::{Prober, Request};
use crate::units::Period;
use crate::witness::{Look, Objects, Target, Witness};

/// A fault of a cluster shows up by then: a pod may use all of its grace period before it is gone.
pub(in crate::run) const EFFECTIVE_WITHIN: Duration = Duration::from_secs(120);
/// An undo that fails is tried again for so long; a person is told what to type after that.
pub(in crate::run) const UNDO_WITHIN: Duration = Duration::from_secs(60);
/// What was undone must read back so by then.
pub(in crate::run) const READ_BACK_WITHIN: Duration = Duration::from_secs(30);
/// Between two tries of an undo.
const UNDO_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a run acts and looks with in a cluster.
pub(in crate::run) struct ClusterParts {
    /// Its API.
    pub(in crate::run) access: Access,
    /// What is where.
    pub(in crate::run) environment: Environment,
    /// The run's id.
    pub(in crate::run) run: String,
    /// When the control plane undoes what it can, whatever becomes of this program.
    pub(in crate::run) deadline: Period,
    /// Mutations are on disk before they are made.
    pub(in crate::run) journal: Arc<Journal>,
    /// Looks from inside the gateway's pods; or why nobody does.
    pub(in crate::run) probers: Result<Fleet, String>,
    /// Follows what others do.
    pub(in crate::run) watching: Arc<Watching>,
    /// Asks the gateway.
    pub(in crate::run) gateway: Prober,
    /// Deployment ids of the gateway, by alias.
    pub(in crate::run) ids: BTreeMap<String, String>,
    /// Where the pods of a component are.
    pub(in crate::run) pods: BTreeMap<String, (String, Selector)>,
}

/// A cluster under test.
pub(in crate::run) struct Cluster {
    parts: ClusterParts,
    kubectl: Kubectl,
    made: Mutex<BTreeMap<u32, Made>>,
}

/// What was changed for one fault.
#[derive(Clone, Default)]
struct Made {
    component: String,
    mutations: Vec<(Mutation, State)>,
}

/// What is known of a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may have been made.
    Intended,
    /// It was made.
    Made,
    /// It was not: there is nothing of ours to undo.
    NotMade,
    /// Somebody else has changed it since, and it was left to them.
    LeftAlone,
}

impl Cluster {
    #[must_use]
    pub(in crate::run) fn new(parts: ClusterParts) -> Self {
        let kubectl = parts.environment.cluster().map_or_else(|| Kubectl::new(None), Kubectl::of);
        Self { parts, kubectl, made: Mutex::default() }
    }

    pub(super) async fn inject(&self, active: &ActiveFault) -> Result<(), String> {
        let component = &active.fault.component;
        let weak = match &self.parts.probers {
            Err(why) => Some(why.clone()),
            // Each pod feels it at a moment of its own, and only the first one's are in the journal.
            Ok(fleet) if fleet.members().count() > 1 => {
                Some("the gateway has several pods, and the times are those of the first".to_owned())
            }
            Ok(_) => None,
        };
        if let Some(why) = weak {
            self.parts.journal.append(Event::EvidenceWeak { component: component.clone(), why });
        }
        if let PlannedKind::Gone(_) = active.fault.kind {
            return Err("single models cannot be taken away in a cluster".to_owned());
        }
        if active.fault.kind == PlannedKind::Down(FaultKind::Nothing) {
            return Ok(());
        }
        let targets = self.targets(component).await?;
        let wanted = Wanted {
            component,
            run: &self.parts.run,
            deadline: self.parts.deadline,
            targets: targets.clone(),
        };
        let prepared = faults::prepare(&self.parts.access, &self.parts.environment, &wanted).await;
        let prepared = prepared.map_err(|error| error.to_string())?;
        if let Some(refusal) = prepared.refusals.first() {
            return Err(refusal.to_string());
        }
        if prepared.mutations.is_empty() {
            return Err("nothing here can take it down that way".to_owned());
        }
        if !targets.is_empty() {
            self.parts.watching.with(|watch| watch.expect_addresses(component, &targets));
        }
        for mutation in prepared.mutations {
            self.make(active, mutation).await?;
        }
        Ok(())
    }

    /// Writes down that it will be made, and makes it.
    async fn make(&self, active: &ActiveFault, mutation: Mutation) -> Result<(), String> {
        let intended = Event::MutationIntended {
            fault: active.id,
            object: mutation.object(),
            what: mutation.words(),
            undo: mutation.undo_command(&self.kubectl),
            mutation: serde_json::to_value(&mutation).map_err(|error| error.to_string())?,
        };
        self.parts.journal.append_durably(intended).map_err(|error| error.to_string())?;
        let component = &active.fault.component;
        {
            let mut made = self.made();
            let own = made.entry(active.id).or_default();
            own.component.clone_from(component);
            own.mutations.push((mutation.clone(), State::Intended));
        }
        if let Mutation::Scale(scale) = &mutation {
            self.parts.watching.with(|watch| {
                watch.expect_count(&scale.deployment, scale.replicas, 0);
                if let Some((namespace, selector)) = self.parts.pods.get(component) {
                    watch.expect_no_pods(component, namespace, selector);
                }
            });
        }
        let applied = match mutation.apply(&self.parts.access).await {
            Ok(applied) => applied,
            Err(error) => {
                // A definite no: whatever is found there later is somebody else's.
                let unknown = matches!(&error, MutationError::Call(call) if call.is_outcome_unknown());
                if !unknown {
                    self.note(active.id, &mutation, State::NotMade);
                }
                return Err(error.to_string());
            }
        };
        self.note(active.id, &mutation, State::Made);
        if let Mutation::Policy(policy) = &mutation {
            self.parts.watching.with(|watch| watch.expect_policy(&policy.policy, &applied.uid));
        }
        Ok(())
    }

    fn note(&self, fault: u32, mutation: &Mutation, state: State) {
        let mut made = self.made();
        let own = made.get_mut(&fault).map(|own| own.mutations.iter_mut()).into_iter().flatten();
        for (_, known) in own.filter(|(known, _)| known == mutation) {
            *known = state;
        }
    }

    /// What a blackhole is aimed at: the addresses that the gateway's pods resolve.
    async fn targets(&self, component: &str) -> Result<BTreeSet<IpAddr>, String> {
        let known = self.parts.environment.components.get(component);
        let Some(FaultKind::BlackholeBy(_)) = known.map(|known| known.down) else {
            return Ok(BTreeSet::new());
        };
        let seen = match &self.parts.probers {
            Ok(fleet) => {
                let of_pod = |prober: &PodProber| {
                    let seen = prober.seen();
                    let target = seen.borrow().targets.get(component).cloned();
                    target.map(|target| target.addresses).unwrap_or_default()
                };
                Some(fleet.members().flat_map(|(_, prober)| of_pod(prober)).collect::<BTreeSet<IpAddr>>())
            }
            // From here, as far as that is the same: the evidence is weak without a prober anyhow.
            Err(_) => {
                let endpoint = known.and_then(|known| known.endpoint.as_deref());
                let host = endpoint.and_then(faults::host_of).unwrap_or_default();
                let found = tokio::net::lookup_host((host.as_str(), 443)).await;
                found.ok().map(|found| found.map(|address| address.ip()).collect())
            }
        };
        seen.filter(|addresses| !addresses.is_empty())
            .ok_or_else(|| format!("the endpoint of {component} has no address in the gateway's pod"))
    }

    pub(super) async fn heal(&self, active: &ActiveFault) -> Result<Healed, String> {
        let made = self.made().get(&active.id).cloned().unwrap_or_default();
        self.forget(&made);
        let (mut left_alone, mut failed) = (Vec::new(), Vec::new());
        // The last first, each whatever becomes of the others.
        let ours = made.mutations.iter().rev().filter(|(_, state)| *state != State::NotMade);
        for (mutation, _) in ours {
            match self.undo(mutation).await {
                Ok(Undone::Now | Undone::Before) => {}
                Ok(Undone::LeftAlone { saw }) => {
                    self.note(active.id, mutation, State::LeftAlone);
                    left_alone.push(format!("{}: {saw}", mutation.object()));
                }
                Err(error) => {
                    failed.push(format!("{error}; to undo it: {}", mutation.undo_command(&self.kubectl)));
                }
            }
        }
        if !failed.is_empty() {
            return Err(failed.join("; "));
        }
        Ok(if left_alone.is_empty() { Healed::Undone } else { Healed::LeftAlone(left_alone.join("; ")) })
    }

    async fn undo(&self, mutation: &Mutation) -> Result<Undone, String> {
        let deadline = tokio::time::Instant::now() + UNDO_WITHIN;
        loop {
            match mutation.undo(&self.parts.access).await {
                Ok(undone) => return Ok(undone),
                Err(error) if error.is_forbidden() || tokio::time::Instant::now() >= deadline => {
                    return Err(error.to_string());
                }
                Err(error) => tracing::warn!("{} is not undone yet: {error}", mutation.object()),
            }
            tokio::time::sleep(UNDO_AGAIN_AFTER).await;
        }
    }

    /// What is undone by us is no drift.
    fn forget(&self, made: &Made) {
        self.parts.watching.with(|watch| {
            watch.forget_addresses(&made.component);
            watch.forget_no_pods(&made.component);
            for (mutation, _) in &made.mutations {
                match mutation {
                    Mutation::Scale(scale) => watch.forget_count(&scale.deployment),
                    Mutation::Policy(policy) => watch.forget_policy(&policy.policy),
                    Mutation::Anchor(_) | Mutation::NetnsDrop(_) | Mutation::Pause(_) => {}
                }
            }
        });
    }

    /// Mutations of a component that may be in effect.
    fn of(&self, component: &str) -> Vec<(Mutation, State)> {
        let made = self.made();
        let own = made.values().filter(|made| made.component == component);
        own.flat_map(|made| made.mutations.clone())
            .filter(|(_, state)| matches!(state, State::Intended | State::Made))
            .collect()
    }

    pub(super) async fn is_healed(&self, component: &str) -> Result<bool, String> {
        let deadline = tokio::time::Instant::now() + READ_BACK_WITHIN;
        for (mutation, _) in self.of(component) {
            loop {
                let read = mutation.read_back(&self.parts.access).await;
                if read == Ok(ReadBack::Undone) {
                    break;
                }
                if tokio::time::Instant::now() >= deadline {
                    return read.map(|_| false).map_err(|error| error.to_string());
                }
                // On its way out, not yet taken back by whoever was told to wait, or the API has a bad moment.
                tokio::time::sleep(UNDO_AGAIN_AFTER).await;
            }
        }
        Ok(true)
    }

    pub(super) fn undo_commands(&self, component: &str) -> Vec<String> {
        let ours = self.of(component).into_iter().rev();
        ours.map(|(mutation, _)| format!("; to undo it: {}", mutation.undo_command(&self.kubectl))).collect()
    }

    pub(super) async fn what_has_changed(&self, component: &str) -> Vec<String> {
        let mut changed: Vec<String> = self.parts.watching.with(|watch| {
            let needed = watch.blind().filter(|(kind, ..)| kind.is_needed());
            needed
                .map(|(kind, place, why)| {
                    format!("{} objects in {place} are not watched: {why}", kind.word())
                })
                .collect()
        });
        if let Ok(fleet) = &self.parts.probers {
            let unlike = fleet.unlike(component, false).into_iter();
            changed.extend(unlike.map(|pod| format!("{component} is not seen down from pod {pod}")));
        }
        for (mutation, _) in self.of(component) {
            match mutation.read_back(&self.parts.access).await {
                Ok(ReadBack::Done) => {}
                Ok(ReadBack::Undone) => {
                    changed.push(format!("{} is as before: somebody undid it", mutation.object()))
                }
                Ok(ReadBack::Other { saw }) => changed.push(format!("{}: {saw}", mutation.object())),
                Err(error) => changed.push(format!("{} cannot be read back: {error}", mutation.object())),
            }
        }
        changed
    }

    pub(super) fn witness(&self, fault: &PlannedFault, journal: &Arc<Journal>) -> Option<Witness> {
        if let Ok(fleet) = &self.parts.probers {
            return fleet.lead().observed(&fault.component).map(Witness::following);
        }
        let client = crate::http::loopback_client().build().ok()?;
        let target = Target::Objects(self.objects(fault)?);
        Some(Witness::start(&fault.component, target, client, Arc::clone(journal)))
    }

    /// What can be concluded without anybody in the gateway's pod.
    fn objects(&self, fault: &PlannedFault) -> Option<Objects> {
        let component = fault.component.clone();
        let known = self.parts.environment.components.get(&component)?;
        if fault.kind == PlannedKind::Down(FaultKind::ScaleToZero) {
            let (namespace, selector) = self.parts.pods.get(&component)?.clone();
            let (watching, service) = (Arc::clone(&self.parts.watching), service_of(known));
            return Some(Objects(Arc::new(move || {
                let presence = watching.with(|watch| watch.presence(&namespace, &selector, service.as_ref()));
                let look = Look { up: !presence.is_down(), saw: presence.words() };
                async move { look }.boxed()
            })));
        }
        let (access, run) = (self.parts.access.clone(), self.parts.run.clone());
        if fault.kind == PlannedKind::Down(FaultKind::BlackholeBy(Mechanism::NetnsDrop)) {
            return Some(filters(access, run, component, &self.parts.environment.cluster()?.gateway));
        }
        let namespace = match &known.deployment {
            Some(deployment) => deployment.namespace.clone(),
            None => self.parts.environment.cluster()?.gateway.deployment.namespace.clone(),
        };
        Some(Objects(Arc::new(move || {
            let (access, namespace, labels) =
                (access.clone(), namespace.clone(), format!("{}={run}", crate::cluster::RUN_LABEL));
            async move {
                type Policy = k8s_openapi::api::networking::v1::NetworkPolicy;
                match access.list::<Policy>(Some(&namespace), &labels).await {
                    Ok(found) if found.is_empty() => {
                        Look { up: true, saw: "no policy of this run".to_owned() }
                    }
                    Ok(_) => Look { up: false, saw: "the policy of this run is there".to_owned() },
                    Err(error) => Look { up: true, saw: error.to_string() },
                }
            }
            .boxed()
        })))
    }

    pub(super) fn effective_within(&self) -> Duration {
        EFFECTIVE_WITHIN
    }

    /// Asks the gateway for the deployment that stands for an alias, by its id: that goes past its memory of cooldowns,
    /// and the reply names the deployment.
    pub(super) async fn serves(
        &self,
        component: &str,
        alias: Option<&str>,
        limit: Duration,
    ) -> Result<(), String> {
        let aliases = self.parts.environment.components.get(component).map(|known| &known.aliases);
        let alias = alias.or_else(|| aliases?.first().map(String::as_str)).ok_or("it has no alias")?;
        let id = self.parts.ids.get(alias);
        let now_us = self.parts.journal.clock().now_us();
        let request = Request {
            id: format!("serves-{component}-{now_us}"),
            scenario: String::new(),
            route: String::new(),
            purpose: Purpose::Control,
            model: id.cloned().unwrap_or_else(|| alias.to_owned()),
            streamed: false,
            fresh: true,
            max_tokens: 1,
            timeout: limit,
            intended_us: now_us,
        };
        let record = self.parts.gateway.send(&request).await;
        match &record.outcome {
            Outcome::Ok => {
                let by_id = |claim: &&crate::journal::Claim| {
                    claim.source == ClaimSource::HeaderModelId && Some(&claim.value) == id
                };
                if record.claims.iter().any(|claim| by_id(&claim))
                    || by_header(&record).as_deref() == Some(alias)
                {
                    Ok(())
                } else {
                    Err(format!("another than {alias} answered"))
                }
            }
            Outcome::Error(class) => Err(class.clone()),
            Outcome::Censored(_) => Err("no answer".to_owned()),
        }
    }

    /// What has become of the connections of the gateway's pods to a component since a fault took effect; the worst of
    /// all pods, since each has connections of its own.
    pub(super) fn old_connections(&self, component: &str, effective_us: u64) -> OldConnections {
        let Ok(fleet) = &self.parts.probers else { return OldConnections::Unknown };
        if !fleet.unprobed().is_empty() || !fleet.unlike(component, false).is_empty() {
            return OldConnections::Unknown;
        }
        let (mut open, mut counted_us, mut dead) = (0, effective_us, false);
        for (_, prober) in fleet.members() {
            let seen = prober.seen();
            let seen = seen.borrow();
            let Some(target) = seen.targets.get(component) else { return OldConnections::Unknown };
            match target.pool(effective_us) {
                Pool::Drained => {}
                Pool::Dead(_) => dead = true,
                Pool::Open(count) => {
                    open += count;
                    counted_us = counted_us.max(target.sockets.as_ref().map_or(0, |(at_us, _)| *at_us));
                }
                Pool::Unknown => return OldConnections::Unknown,
            }
        }
        match (open, dead) {
            (1.., _) => OldConnections::Open { count: open, counted_us },
            (0, true) => OldConnections::Dead,
            (0, false) => OldConnections::Gone,
        }
    }

    /// Ends what looks; the cluster is left as it is.
    pub(in crate::run) async fn close(self) {
        if let Ok(fleet) = self.parts.probers {
            fleet.stop().await;
        }
        // The task that tells of drift has ended by now, and nobody else holds it.
        if let Some(watching) = Arc::into_inner(self.parts.watching) {
            watching.stop().await;
        }
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<u32, Made>> {
        // Whole after each step, also after one that panicked.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the gateway's pods tell of the packet filters in their network.
fn filters(access: Access, run: String, component: String, gateway: &ClusterGateway) -> Objects {
    let (namespace, labels) = (gateway.deployment.namespace.clone(), gateway.pods.clone());
    let shared = Arc::new((access, run, component, namespace, labels));
    Objects(Arc::new(move || {
        let shared = Arc::clone(&shared);
        async move {
            let (access, run, component, namespace, labels) = &*shared;
            match access.list::<k8s_openapi::api::core::v1::Pod>(Some(namespace), labels).await {
                Ok(pods) if netns::in_force(&pods, component, run) => Look {
                    up: false,
                    saw: "each pod of the gateway has put its packet filter there".to_owned(),
                },
                Ok(_) => Look { up: true, saw: "not each pod of the gateway has a packet filter".to_owned() },
                Err(error) => Look { up: true, saw: error.to_string() },
            }
        }
        .boxed()
    }))
}
