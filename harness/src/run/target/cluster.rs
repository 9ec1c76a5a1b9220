//! A Kubernetes cluster as a target of faults.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use kube::core::Selector;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::driver::Driver;
use super::{ActiveFault, Healed, OldConnections, PodsGone, Reached};
use crate::attribution::by_header;
use crate::cluster::access::{Access, CALL_LIMIT};
use crate::cluster::faults::{self, Wanted, netns};
use crate::cluster::mutation::{Kubectl, Mutation};
use crate::cluster::places::service_of;
use crate::cluster::prober::{Fleet, Pool, TargetSeen};
use crate::cluster::record::Keeper;
use crate::cluster::watch::Watching;
use crate::environment::{ClusterGateway, Environment, FaultKind, Mechanism, ObjectName};
use crate::journal::{ClaimSource, Event, Journal, Outcome, Purpose};
use crate::plan::{PlannedFault, PlannedKind};
use crate::probe::{Prober, Request};
use crate::run::at_gateway::AtGateway;
use crate::run::at_upstreams::AtUpstreams;
use crate::run::from_pods::FromPods;
use crate::units::Period;
use crate::witness::{Look, Objects, Observed, Target, Witness};

const BY_GATE: FaultKind = FaultKind::BlackholeBy(Mechanism::EgressProxy);
/// A pod that is deleted uses its grace period, and is gone so long after it on a node that has much to do.
const GONE_MARGIN: Duration = Duration::from_secs(30);
/// Where the API does not tell the grace period of a pod.
const GRACE_USUAL: Duration = Duration::from_secs(30);
/// Within this time every enforcer that is known acts on a policy: kindnet on established connections last, after 30 s.
const ENFORCED_WITHIN: Duration = Duration::from_secs(45);
/// A packet filter is in force when it is made; three looks in a row must see it.
const FILTERED_WITHIN: Duration = Duration::from_secs(15);

/// A prober that was kept from looking looks again by then.
pub(in crate::run) const SEEN_AGAIN_WITHIN: Duration = Duration::from_secs(3);

/// Why what was meant to be changed was not.
const CUT: &str = "the run was cut short before that was changed";

/// What only reads is not waited for once the run is cut short.
async fn unless_cut<T>(cut: &CancellationToken, work: impl Future<Output = T>) -> Result<T, String> {
    cut.run_until_cancelled(work).await.ok_or_else(|| CUT.to_owned())
}

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
    /// How such probers are started.
    pub(in crate::run) from_pods: FromPods,
    /// The pods that they look from.
    pub(in crate::run) gateway_pods: Vec<ObjectName>,
    /// Follows what others do.
    pub(in crate::run) watching: Arc<Watching>,
    /// Asks the gateway.
    pub(in crate::run) gateway: Prober,
    /// Deployment ids of the gateway, by alias.
    pub(in crate::run) ids: BTreeMap<String, String>,
    /// Follows what goes on at the gateway.
    pub(in crate::run) at_gateway: AtGateway,
    /// Follows what upstreams print.
    pub(in crate::run) at_upstreams: AtUpstreams,
    /// Where the pods of a component are.
    pub(in crate::run) pods: BTreeMap<String, (String, Selector)>,
}

/// A cluster under test.
pub(in crate::run) struct Cluster {
    parts: ClusterParts,
    driver: Arc<Driver>,
    /// Components of which old connections were found dead: since when the fault was in effect, and when that was
    /// found.
    dead: Mutex<BTreeMap<String, (u64, u64)>>,
}

impl Cluster {
    #[must_use]
    pub(in crate::run) fn new(parts: ClusterParts) -> Self {
        let kubectl = parts.environment.cluster().map_or_else(|| Kubectl::new(None), Kubectl::of);
        let (journal, record) = (Arc::clone(&parts.journal), Arc::clone(&parts.record));
        let driver = Driver::in_cluster(parts.access.clone(), kubectl, journal, record);
        Self { parts, driver: Arc::new(driver), dead: Mutex::default() }
    }

    pub(super) async fn mode_begins(&mut self, scenario: &str) {
        self.look_from_new_pods().await;
        self.parts.watching.with(crate::cluster::watch::Reducer::begin_mode);
        self.parts.at_gateway.begin(scenario);
        let from = self.parts.gateway_pods.first().cloned().zip(self.parts.from_pods.container.clone());
        self.parts.at_upstreams.begin(scenario, from).await;
    }

    /// Whoever takes these down, or their pods, changes what is measured. Whether they are reached the probers tell.
    pub(super) fn keep_up(&self, components: &[String]) {
        for component in components {
            let known = self.parts.environment.components.get(component);
            let deployment = known.and_then(|known| known.deployment.as_ref());
            if let (Some(deployment), Some((namespace, selector))) =
                (deployment, self.parts.pods.get(component))
            {
                self.parts.watching.expect_up(component, deployment, (namespace, selector));
            }
        }
    }

    pub(super) fn forget_up(&self) {
        self.parts.watching.with(crate::cluster::watch::Reducer::forget_up);
    }

    /// Where pods of the gateway were replaced, the next mode is looked at from those that took their places.
    async fn look_from_new_pods(&mut self) {
        let parts = &mut self.parts;
        let Some(pods) = parts.from_pods.replaced(&parts.access, &parts.gateway_pods).await else { return };
        let names: Vec<String> = pods.iter().map(ToString::to_string).collect();
        let text = format!("the gateway has other pods than in the mode before: {}", names.join(", "));
        parts.journal.append(Event::Found { text });
        // Those of before look on meanwhile: a fault that is held needs evidence without a gap.
        if let Ok(before) = &parts.probers {
            before.hand_over(&parts.journal);
        }
        let started = parts.from_pods.start(&parts.access, &pods, &parts.watching, &parts.journal).await;
        if let Ok(before) = std::mem::replace(&mut parts.probers, started) {
            before.stop().await;
        }
        let (container, probers) = (parts.from_pods.container.as_deref(), parts.probers.as_ref().ok());
        parts.at_gateway.follow(&parts.access, &pods, container, probers);
        parts.gateway_pods = pods;
    }

    pub(super) async fn mode_ends(&self, cut: &CancellationToken) {
        tokio::join!(self.parts.at_gateway.end(cut), self.parts.at_upstreams.end(cut));
    }

    /// Pods of the gateway that run and were not ready when probers were started: requests reach them as soon as they
    /// are.
    fn unseen(&self, fleet: &Fleet) -> Option<String> {
        let parts = &self.parts;
        let mut running =
            parts.watching.with(|watch| watch.running(&parts.from_pods.namespace, &parts.from_pods.selector));
        running.retain(|pod| !fleet.members().any(|(member, _)| member == pod));
        let names: Vec<String> = running.iter().map(ToString::to_string).collect();
        (!names.is_empty()).then(|| {
            format!("nobody looks from {}, which was not ready when the mode began", names.join(", "))
        })
    }

    /// Makes the changes of a fault, and begins none once the run is cut short.
    pub(super) async fn inject(&self, active: &ActiveFault, cut: &CancellationToken) -> Result<(), String> {
        let component = &active.fault.component;
        let weak = match &self.parts.probers {
            Err(why) => Some(why.clone()),
            Ok(fleet) if !fleet.unprobed().is_empty() => Some(format!(
                "{} pods of the gateway have no prober, and each feels it at a moment of its own",
                fleet.unprobed().len()
            )),
            Ok(fleet) => self.unseen(fleet),
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
        let targets = unless_cut(cut, self.targets(component)).await??;
        let wanted = Wanted {
            component,
            run: &self.parts.run,
            deadline: self.parts.deadline,
            targets: targets.clone(),
        };
        let prepared =
            unless_cut(cut, faults::prepare(&self.parts.access, &self.parts.environment, &wanted)).await?;
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
        self.expect_isolated(&active.fault);
        for mutation in prepared.mutations {
            if cut.is_cancelled() {
                return Err(CUT.to_owned());
            }
            self.make(active, mutation).await?;
        }
        Ok(())
    }

    /// While a backend is isolated no other policy may let anybody in.
    fn expect_isolated(&self, fault: &PlannedFault) {
        if fault.kind == PlannedKind::Down(FaultKind::Isolate)
            && let Some((namespace, selector)) = self.parts.pods.get(&fault.component)
        {
            self.parts.watching.with(|watch| watch.expect_isolated(&fault.component, namespace, selector));
        }
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
                let seen: Vec<TargetSeen> =
                    fleet.members().filter_map(|(_, one)| one.target(component)).collect();
                Some(blackhole_targets(component, &seen)?)
            }
            // Only the gateway's pods are led through the gate: what its name means here says nothing.
            Err(_) if known.is_some_and(|known| known.down == BY_GATE) => return Ok(BTreeSet::new()),
            // From here, as far as that is the same: the evidence is weak without a prober anyhow.
            Err(_) => {
                let endpoint = known.and_then(|known| known.endpoint.as_deref());
                let host = endpoint.and_then(faults::host_of).unwrap_or_default();
                let found = timeout(CALL_LIMIT, tokio::net::lookup_host((host.as_str(), 443))).await;
                found.ok().and_then(Result::ok).map(|found| found.map(|address| address.ip()).collect())
            }
        };
        seen.filter(|addresses| !addresses.is_empty())
            .ok_or_else(|| format!("the endpoint of {component} has no address in the gateway's pod"))
    }

    pub(super) async fn heal(&self, active: &ActiveFault) -> Result<Healed, String> {
        self.forget(active);
        self.driver.heal(active).await
    }

    pub(super) async fn taken_down(&self, active: &ActiveFault) -> Option<String> {
        self.driver.taken_down(active).await
    }

    /// What is undone by us is no drift.
    fn forget(&self, active: &ActiveFault) {
        self.parts.watching.with(|watch| {
            watch.forget_addresses(&active.fault.component);
            watch.forget_no_pods(&active.fault.component);
            watch.forget_isolated(&active.fault.component);
            for mutation in self.driver.intended_for(active.id) {
                match mutation {
                    Mutation::Scale(scale) => watch.forget_count(&scale.deployment),
                    Mutation::Policy(policy) => watch.forget_policy(&policy.policy),
                    Mutation::Anchor(_) | Mutation::NetnsDrop(_) | Mutation::Pause(_) | Mutation::Gate(_) => {
                    }
                }
            }
        });
    }

    pub(super) async fn settle(&self, tell: &(dyn Fn(&str) + Sync)) -> BTreeMap<u32, String> {
        self.driver.settle(tell).await
    }

    pub(super) fn is_settled(&self, change: u32) -> bool {
        self.driver.is_settled(change)
    }

    pub(super) async fn look_again(&self) -> Infallible {
        self.driver.look_again().await
    }

    pub(super) async fn is_healed(&self, component: &str) -> Result<bool, String> {
        self.driver.is_healed(component).await
    }

    pub(super) async fn is_restored(&self, component: &str) -> Result<bool, String> {
        self.driver.is_restored(component).await
    }

    pub(super) fn undo_commands(&self, component: &str) -> String {
        self.driver.undo_commands(component)
    }

    /// What a person types to see why a component does not serve: what became of its pods, or for one without pods what
    /// the gateway says of it.
    pub(super) fn look_command(&self, component: &str) -> Option<String> {
        let known = self.parts.environment.components.get(component)?;
        let (object, verb) = match &known.deployment {
            Some(backend) => (backend, "describe"),
            None => (&self.parts.environment.cluster()?.gateway.deployment, "logs --tail=50"),
        };
        let words = format_args!("{verb} deployment/{}", object.name);
        Some(self.driver.kubectl().line(&object.namespace, words))
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
            // A prober that had no time for a moment sees it again at once; one that sees it up goes on doing so.
            let unlike = fleet.wait_for(component, false, SEEN_AGAIN_WITHIN).await.err().unwrap_or_default();
            changed.extend(
                unlike.iter().map(|pod| format!("{component} is not seen down from pod {pod} at the end")),
            );
        }
        let dead = self.dead().get(component).copied();
        if let (Ok(fleet), Some((effective_us, dead_us))) = (&self.parts.probers, dead) {
            let revived = fleet.members().filter(|(_, prober)| {
                prober
                    .target(component)
                    .is_some_and(|target| target.held.is_answered_after(effective_us, dead_us))
            });
            changed.extend(revived.map(|(pod, _)| {
                format!(
                    "what is asked on connections to {component} from before is answered again in pod {pod}"
                )
            }));
        }
        changed.extend(self.driver.what_has_changed(component).await);
        changed
    }

    pub(super) fn witness(&self, fault: &PlannedFault, journal: &Arc<Journal>) -> Option<Witness> {
        if let Ok(fleet) = &self.parts.probers {
            return fleet.observed(&fault.component).map(Witness::following);
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
        if fault.kind == PlannedKind::Down(BY_GATE) {
            return Some(gates(Arc::clone(&self.driver), component));
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

    /// What its pods and endpoints are.
    pub(super) fn presence(&self, component: &str) -> Option<String> {
        let (namespace, selector) = self.parts.pods.get(component)?;
        let service = self.parts.environment.components.get(component).and_then(service_of);
        let seen = |watch: &mut crate::cluster::watch::Reducer| {
            watch.presence(namespace, selector, service.as_ref()).words()
        };
        Some(self.parts.watching.with(seen))
    }

    /// Waits until no pod of a backend that is scaled down is left: until then it may answer on connections from
    /// before. `None` where that is not how it is taken down, or is what its witness looks at anyhow.
    pub(super) async fn pods_gone(
        &self,
        fault: &PlannedFault,
        limit: Duration,
    ) -> Option<Result<PodsGone, String>> {
        if fault.kind != PlannedKind::Down(FaultKind::ScaleToZero) {
            return None;
        }
        let fleet = self.parts.probers.as_ref().ok()?;
        let (namespace, selector) = self.parts.pods.get(&fault.component)?;
        let service = service_of(self.parts.environment.components.get(&fault.component)?);
        let mut saw = String::new();
        let gone = self.parts.watching.wait_until(limit, |watch| {
            let presence = watch.presence(namespace, selector, service.as_ref());
            saw = presence.words();
            presence.is_down()
        });
        if !gone.await {
            return Some(Err(saw));
        }
        let gone_us = self.parts.journal.clock().now_us();
        let answered = |target: TargetSeen| target.held.answered_sent_us;
        let answered = fleet.members().filter_map(|(_, prober)| answered(prober.target(&fault.component)?));
        Some(Ok(PodsGone { last_answered_us: answered.max(), gone_us, saw }))
    }

    /// Whether every pod of the gateway reaches a component by new connections.
    pub(super) fn reached(&self, component: &str) -> Reached {
        let Ok(fleet) = &self.parts.probers else { return Reached::Unknown(Vec::new()) };
        let (cut_off, unknown): (Vec<_>, Vec<_>) =
            fleet.not_up(component).into_iter().partition(|(_, seen)| seen.up == Some(false));
        let words = |seen: Vec<(ObjectName, Observed)>| {
            seen.into_iter().map(|(pod, seen)| format!("pod {pod}: {}", seen.saw)).collect::<Vec<_>>()
        };
        match (cut_off.is_empty(), unknown.is_empty()) {
            (false, _) => Reached::CutOff(words(cut_off)),
            (true, false) => Reached::Unknown(words(unknown)),
            (true, true) => Reached::All,
        }
    }

    /// How long a fault may take to show up; to be asked before it is made, while its pods are there.
    pub(super) fn effective_within(&self, fault: &PlannedFault) -> Duration {
        match &fault.kind {
            PlannedKind::Down(FaultKind::ScaleToZero) => {
                let pods = self.parts.pods.get(&fault.component);
                let grace = pods.and_then(|(namespace, selector)| {
                    self.parts.watching.with(|watch| watch.grace(namespace, selector))
                });
                grace.unwrap_or(GRACE_USUAL).saturating_add(GONE_MARGIN)
            }
            PlannedKind::Down(FaultKind::BlackholeBy(Mechanism::NetnsDrop)) => FILTERED_WITHIN,
            PlannedKind::Down(_) | PlannedKind::Gone(_) => ENFORCED_WITHIN,
        }
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
        let mut last_answered_us = None;
        for (_, prober) in fleet.members() {
            let seen = prober.seen();
            let seen = seen.borrow();
            let Some(target) = seen.targets.get(component) else { return OldConnections::Unknown };
            match target.pool(effective_us) {
                Pool::Drained => {}
                Pool::Dead(_) => {
                    dead = true;
                    last_answered_us = last_answered_us.max(target.held.answered_sent_us);
                }
                Pool::Open(count) => {
                    open += count;
                    counted_us = counted_us.max(target.sockets.as_ref().map_or(0, |(at_us, _)| *at_us));
                }
                Pool::Unknown => return OldConnections::Unknown,
            }
        }
        if open == 0 && dead {
            let now_us = self.parts.journal.clock().now_us();
            // Of this fault, not of one before.
            let mut dead = self.dead();
            let known = dead.get(component).filter(|(of_us, _)| *of_us == effective_us);
            let found_us = known.map_or(now_us, |(_, found_us)| *found_us);
            dead.insert(component.to_owned(), (effective_us, found_us));
        } else {
            self.dead().remove(component);
        }
        match (open, dead) {
            (1.., _) => OldConnections::Open { count: open, counted_us },
            (0, true) => OldConnections::Dead { last_answered_us },
            (0, false) => OldConnections::Gone,
        }
    }

    /// Ends what looks; the cluster is left as it is.
    pub(in crate::run) async fn close(self) {
        self.parts.at_gateway.stop().await;
        self.parts.at_upstreams.stop().await;
        if let Ok(fleet) = self.parts.probers {
            fleet.stop().await;
        }
        // The task that tells of drift has ended by now, and nobody else holds it.
        if let Some(watching) = Arc::into_inner(self.parts.watching) {
            watching.stop().await;
        }
    }

    fn dead(&self) -> MutexGuard<'_, BTreeMap<String, (u64, u64)>> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a blackhole must cover: every address that a pod of the gateway has ever resolved, since it may still keep one
/// from before.
fn blackhole_targets(component: &str, seen: &[TargetSeen]) -> Result<BTreeSet<IpAddr>, String> {
    if seen.iter().any(|target| target.more) {
        return Err(format!(
            "the endpoint of {component} has more addresses than are known, so nothing would cut it off for sure"
        ));
    }
    Ok(seen.iter().flat_map(|target| target.ever.iter().copied()).collect())
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

/// What the gates that were told to hold a fault say of it.
fn gates(driver: Arc<Driver>, component: String) -> Objects {
    Objects(Arc::new(move || {
        let (driver, component) = (Arc::clone(&driver), component.clone());
        async move {
            if !driver.has_made(&component) {
                return Look { up: true, saw: "no gate was told anything".to_owned() };
            }
            match driver.what_has_changed(&component).await {
                changed if changed.is_empty() => Look {
                    up: false,
                    saw: "each gate holds the fault; who goes through it nobody sees".to_owned(),
                },
                changed => Look { up: true, saw: changed.join("; ") },
            }
        }
        .boxed()
    }))
}

#[cfg(test)]
mod tests {
    use super::blackhole_targets;
    use crate::cluster::prober::TargetSeen;

    #[test]
    fn a_blackhole_covers_all_that_any_pod_ever_resolved_and_is_not_made_where_that_is_not_known() {
        let seen = |now: &str, ever: &[&str], more| TargetSeen {
            addresses: [now.parse().unwrap()].into(),
            ever: ever.iter().map(|text| text.parse().unwrap()).collect(),
            more,
            ..TargetSeen::default()
        };
        let pods = [seen("1.1.1.1", &["1.1.1.1", "1.1.1.2"], false), seen("1.1.1.3", &["1.1.1.3"], false)];
        let targets = blackhole_targets("cloud", &pods).unwrap();
        assert_eq!(targets, ["1.1.1.1", "1.1.1.2", "1.1.1.3"].map(|text| text.parse().unwrap()).into());
        let error = blackhole_targets("cloud", &[seen("1.1.1.1", &["1.1.1.1"], true)]).unwrap_err();
        assert!(error.contains("more addresses than are known"), "{error}");
    }
}
