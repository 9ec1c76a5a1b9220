//! A Kubernetes cluster as a target of faults.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::core::Selector;

use super::driver::Driver;
use super::{ActiveFault, Healed, OldConnections};
use crate::attribution::by_header;
use crate::cluster::access::Access;
use crate::cluster::faults::{self, Wanted, netns};
use crate::cluster::mutation::{Kubectl, Mutation};
use crate::cluster::places::service_of;
use crate::cluster::prober::{Fleet, Pool, Prober as PodProber};
use crate::cluster::record::Keeper;
use crate::cluster::watch::Watching;
use crate::environment::{ClusterGateway, Environment, FaultKind, Mechanism};
use crate::journal::{ClaimSource, Event, Journal, Outcome, Purpose};
use crate::plan::{PlannedFault, PlannedKind};
use crate::probe::{Prober, Request};
use crate::units::Period;
use crate::witness::{Look, Objects, Target, Witness};

/// A fault of a cluster shows up by then: a pod may use all of its grace period before it is gone.
pub(in crate::run) const EFFECTIVE_WITHIN: Duration = Duration::from_secs(120);

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
    /// And then in the cluster.
    pub(in crate::run) record: Arc<Keeper>,
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
    driver: Driver,
}

impl Cluster {
    #[must_use]
    pub(in crate::run) fn new(parts: ClusterParts) -> Self {
        let kubectl = parts.environment.cluster().map_or_else(|| Kubectl::new(None), Kubectl::of);
        let (journal, record) = (Arc::clone(&parts.journal), Arc::clone(&parts.record));
        let driver = Driver::new(parts.access.clone(), kubectl, journal, record);
        Self { parts, driver }
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

    /// Makes it, and tells those who watch for drift that it is ours.
    async fn make(&self, active: &ActiveFault, mutation: Mutation) -> Result<(), String> {
        let component = &active.fault.component;
        if let Mutation::Scale(scale) = &mutation {
            self.parts.watching.with(|watch| {
                watch.expect_count(&scale.deployment, scale.replicas, 0);
                if let Some((namespace, selector)) = self.parts.pods.get(component) {
                    watch.expect_no_pods(component, namespace, selector);
                }
            });
        }
        let applied = self.driver.make(active, &mutation).await?;
        if let Mutation::Policy(policy) = &mutation {
            self.parts.watching.with(|watch| watch.expect_policy(&policy.policy, &applied.uid));
        }
        Ok(())
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
        self.forget(active);
        self.driver.heal(active).await
    }

    /// What is undone by us is no drift.
    fn forget(&self, active: &ActiveFault) {
        self.parts.watching.with(|watch| {
            watch.forget_addresses(&active.fault.component);
            watch.forget_no_pods(&active.fault.component);
            for mutation in self.driver.intended_for(active.id) {
                match mutation {
                    Mutation::Scale(scale) => watch.forget_count(&scale.deployment),
                    Mutation::Policy(policy) => watch.forget_policy(&policy.policy),
                    Mutation::Anchor(_) | Mutation::NetnsDrop(_) | Mutation::Pause(_) => {}
                }
            }
        });
    }

    pub(super) async fn is_healed(&self, component: &str) -> Result<bool, String> {
        self.driver.is_healed(component).await
    }

    pub(super) fn undo_commands(&self, component: &str) -> Vec<String> {
        self.driver.undo_commands(component)
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
        changed.extend(self.driver.what_has_changed(component).await);
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
