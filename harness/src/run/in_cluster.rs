//! The stage of a run in a cluster: looked at first, refused where it is not fit, and left as it was found.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::at_gateway::AtGateway;
use super::at_upstreams::{AtUpstreams, Printing};
use super::conductor::Means;
use super::from_pods::FromPods;
use super::mock_cluster::{MockCluster, MockClusterOptions};
use super::stage::{Stage, panic_words};
use super::target::{Cluster as ClusterTarget, ClusterParts, Target};
use crate::cluster::access::Access;
use crate::cluster::gateway::Gateway;
use crate::cluster::loki::LokiReader;
use crate::cluster::others::{self, Others};
use crate::cluster::permissions;
use crate::cluster::places::{places, service_of};
use crate::cluster::preview;
use crate::cluster::prober::ProberOptions;
use crate::cluster::watch::{Kind, Watching};
use crate::environment::{Cluster, Environment, Reach};
use crate::gateway::config::LocalConfig;
use crate::gateway::local::Gateway as OwnGateway;
use crate::journal::{Event, GatewayStarted};
use crate::plan::{Budget, demanded};
use crate::probe::Prober;
use crate::units::Period;
use crate::verdict::result::Ended;

/// Everything that is watched is known by then.
pub(super) const KNOWN_WITHIN: Duration = Duration::from_secs(20);
/// The same where everything is made for the run.
const USERS_SEEN_IN_MOCK: Duration = Duration::from_secs(1);

/// A mock cluster, its world, and the gateway in front.
struct Embedded {
    cluster: MockCluster,
    gateway: OwnGateway,
}

impl Stage<'_> {
    pub(super) async fn play_in_cluster(&self, cluster: &Cluster, draft: Option<&LocalConfig>) -> Ended {
        let (Reach::Embedded { profile, cni, .. }, Some(draft)) = (&cluster.reach, draft) else {
            return self.play_with_access(cluster, None, None).await;
        };
        let world = match self.start_world(draft).await {
            Ok(world) => Arc::new(world),
            Err(error) => return self.refuse(&format!("the mock world did not start: {error}")),
        };
        let environment = &self.options.environment;
        let options = MockClusterOptions {
            environment,
            profile: *profile,
            cni: *cni,
            world: Arc::clone(&world),
            key: &self.keys.master,
            clock: self.journal.clock(),
            seed: self.plan.seed,
            wait: true,
        };
        let ended = match MockCluster::start(options).await {
            Err(error) => self.refuse(&format!("the mock cluster did not start: {error}")),
            Ok(mock) => match self.start_gateway(&mock.urls(environment)).await {
                Err(ended) => {
                    mock.shutdown().await;
                    ended
                }
                Ok(gateway) => self.play_in_mock(cluster, draft, Embedded { cluster: mock, gateway }).await,
            },
        };
        world.shutdown().await;
        ended
    }

    async fn play_in_mock(&self, cluster: &Cluster, draft: &LocalConfig, embedded: Embedded) -> Ended {
        let Embedded { cluster: mock, mut gateway } = embedded;
        let ended = if mock.lead_to(&mut gateway) {
            self.play_with_access(cluster, Some(&mock.kubeconfig()), Some(draft)).await
        } else {
            self.refuse(&format!("the gateway is not on this machine: {}", gateway.url))
        };
        self.stop_gateway(gateway).await;
        for change in mock.processes() {
            self.journal.append(change);
        }
        mock.shutdown().await;
        ended
    }

    async fn play_with_access(
        &self,
        cluster: &Cluster,
        kubeconfig: Option<&serde_json::Value>,
        draft: Option<&LocalConfig>,
    ) -> Ended {
        self.under_lock(cluster, kubeconfig, async |access| {
            Box::pin(self.play_locked(cluster, access, draft)).await
        })
        .await
    }

    /// Everything that is done under the lock.
    async fn play_locked(&self, cluster: &Cluster, access: &Access, draft: Option<&LocalConfig>) -> Ended {
        let stopped = self.options.stop.token();
        let environment = &self.options.environment;
        if let Err(ended) = self.restore_earlier(access, cluster).await {
            return ended;
        }
        let deadline = preview::deadline(demanded(&self.plan), environment);
        let looked = tokio::select! {
            () = stopped.cancelled() => return self.interrupted(),
            looked = self.look(access, deadline) => looked,
        };
        if let Err(why) = looked {
            return self.refuse(&why);
        }
        let found = tokio::select! {
            () = stopped.cancelled() => return self.interrupted(),
            found = Gateway::find(access, cluster, &self.keys.master, self.journal.clock()) => found,
        };
        let gateway = match found {
            Ok(gateway) => gateway,
            Err(why) => return self.refuse(&why.to_string()),
        };
        for text in &gateway.notes {
            self.found(text.clone());
        }
        if draft.is_none() {
            self.journal.append(Event::GatewayStarted(GatewayStarted {
                version: gateway.version.clone(),
                unsupported: Vec::new(),
                adapted: Vec::new(),
                names: gateway.names.clone(),
                bases: BTreeMap::new(),
                timeouts: BTreeMap::new(),
            }));
        }
        self.ask_gateway(&gateway.url, &gateway.key).await;
        self.look_at_migration(access, &gateway).await;
        let overhead = tokio::select! {
            () = stopped.cancelled() => None,
            overhead = gateway.overhead(access) => overhead,
        };
        if let Some(text) = overhead {
            self.found(text);
        }
        let ended = tokio::select! {
            () = stopped.cancelled() => Err(self.interrupted()),
            waited = self.wait_for_users(access, cluster, &gateway) => waited,
        };
        let ended = match ended {
            Ok(()) => Box::pin(self.conduct_in_cluster(access, cluster, &gateway, draft, deadline)).await,
            Err(ended) => ended,
        };
        if let Some(text) = gateway.close().await {
            self.found(text);
        }
        ended
    }

    pub(super) fn found(&self, text: String) {
        self.journal.append(Event::Found { text });
    }

    /// Everything that would keep a run from being made, read without changing anything.
    async fn look(&self, access: &Access, deadline: Period) -> Result<(), String> {
        let faults = self.plan.steps.iter().flat_map(|step| &step.inject);
        let components: Vec<String> = faults.map(|fault| fault.component.clone()).collect();
        let waived = self.options.no_dead_man;
        let found = preview::look(access, &self.options.environment, &components, deadline, waived).await;
        let found = found.map_err(|error| error.to_string())?;
        if !found.dead_man.is_missing() {
            self.found(found.dead_man.words());
        }
        for loss in permissions::losses(&found.answers) {
            self.found(loss.to_owned());
        }
        let warnings: BTreeSet<&String> =
            found.faults.iter().flat_map(|(_, prepared)| &prepared.warnings).collect();
        for warning in warnings {
            self.found(warning.clone());
        }
        if found.is_refused() { Err(found.refusal()) } else { Ok(()) }
    }

    /// Real users first: waits until nobody uses the gateway, as long as the environment allows.
    async fn wait_for_users(
        &self,
        access: &Access,
        cluster: &Cluster,
        gateway: &Gateway,
    ) -> Result<(), Ended> {
        let seen_in = if self.options.environment.is_local() { USERS_SEEN_IN_MOCK } else { others::SEEN_IN };
        let until = tokio::time::Instant::now() + cluster.postpone.map_or(Duration::ZERO, |bound| bound.0);
        loop {
            match others::look(access, gateway, seen_in).await {
                seen @ Others::Calls { .. } if tokio::time::Instant::now() >= until => {
                    return Err(self.refuse(&format!(
                        "the gateway is in use: {}; {}",
                        seen.words(),
                        others::IN_USE_HINT
                    )));
                }
                seen @ Others::Calls { .. } => self.watcher.progress(&format!("waiting: {}", seen.words())),
                Others::None => return Ok(()),
                seen @ (Others::Connected(_) | Others::Unknown(_)) => {
                    self.found(seen.words());
                    return Ok(());
                }
            }
        }
    }

    async fn conduct_in_cluster(
        &self,
        access: &Access,
        cluster: &Cluster,
        gateway: &Gateway,
        draft: Option<&LocalConfig>,
        deadline: Period,
    ) -> Ended {
        let environment = &self.options.environment;
        let places = match places(access, environment).await {
            Ok(places) => places,
            Err(why) => return self.refuse(&why),
        };
        let budgets = match draft {
            Some(draft) => self.warm_up(&gateway.url, &gateway.key, draft).await,
            // Nobody pays for requests that only warm a gateway which is in use anyhow.
            None => Budget::all(environment),
        };
        let prober = match Prober::new(&gateway.url, gateway.key.clone(), self.journal.clock()) {
            Ok(prober) => prober,
            Err(error) => return self.refuse(&error.to_string()),
        };
        let watching = Watching::start(
            access,
            &self.run_id,
            &namespaces(cluster, environment),
            true,
            self.journal.clock(),
        );
        if let Err(why) = self.settle(&watching).await {
            watching.stop().await;
            return self.refuse(&why);
        }
        // Since it was looked at, others may have been waited for.
        let still = match preview::relied(access, environment, cluster, self.options.no_dead_man).await {
            Ok(relied) => relied.refusal().map(|refusal| refusal.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let armed = match still {
            Some(why) => Err(self.refuse(&why)),
            None => self.arm(access, cluster, deadline).await,
        };
        let record = match armed {
            Ok(record) => record,
            Err(ended) => {
                watching.stop().await;
                return ended;
            }
        };
        let from_pods = FromPods {
            namespace: cluster.gateway.deployment.namespace.clone(),
            selector: gateway.selector.clone(),
            container: gateway.container.clone(),
            targets: places.looked_at.clone(),
            options: ProberOptions::new(gateway.pod_port, deadline.0),
        };
        let probers = from_pods.start(access, &gateway.pods, &watching, &self.journal).await;
        let namespace = &cluster.gateway.deployment.namespace;
        watching.with(|watch| {
            watch.expect_gateway(namespace, &gateway.selector);
            watch.expect_service(&cluster.gateway.service);
            let proxies = environment.components.values().filter_map(|component| component.proxy.as_ref());
            let proxies = proxies.map(|proxy| proxy.service.clone());
            for service in environment.components.values().filter_map(service_of).chain(proxies) {
                watch.expect_service(&service);
            }
        });
        let watching = Arc::new(watching);
        let (end, drifts) = (CancellationToken::new(), Arc::clone(&watching));
        let telling = tokio::spawn(tell_drifts(drifts, Arc::clone(&self.journal), end.clone()));
        let loki = match &cluster.loki {
            None => None,
            Some(loki) => match LokiReader::open(loki) {
                Ok(reader) => Some(reader),
                // A source that cannot be asked is silent.
                Err(why) => {
                    self.found(format!("loki is not asked: {why}"));
                    None
                }
            },
        };
        let at_gateway =
            AtGateway::start(access, gateway, probers.as_ref().ok(), &prober, loki, &self.journal);
        let printing = Printing::of(environment, &places);
        let at_upstreams = AtUpstreams::start(access, printing, &watching, &prober, &self.journal);
        let target = ClusterTarget::new(ClusterParts {
            access: access.clone(),
            environment: environment.clone(),
            run: self.run_id.clone(),
            deadline,
            journal: Arc::clone(&self.journal),
            record,
            probers,
            from_pods,
            gateway_pods: gateway.pods.clone(),
            watching,
            gateway: prober.clone(),
            ids: gateway.ids.clone(),
            at_gateway,
            at_upstreams,
            pods: places.pods,
        });
        let watcher = Arc::clone(&self.watcher);
        let means = Means { target: Target::Cluster(Box::new(target)), prober, budgets, watcher };
        let (ended, target) = Box::pin(self.conduct(means)).await;
        end.cancel();
        // What was not told since then voids the run; what was changed is undone by now.
        let told = AssertUnwindSafe(async {
            if let Err(error) = telling.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        });
        let told = told.catch_unwind().await;
        let closed = AssertUnwindSafe(target.close()).catch_unwind().await;
        match told.and(closed) {
            Ok(()) => ended,
            Err(panic) => self.abort(&format!("panic: {}", panic_words(&*panic))),
        }
    }

    /// Waits until all that must be watched is known.
    async fn settle(&self, watching: &Watching) -> Result<(), String> {
        if watching.settle(KNOWN_WITHIN).await.is_ok() {
            return Ok(());
        }
        let blind: Vec<(Kind, String)> = watching.with(|watch| {
            let words = |(kind, namespace, why): (Kind, &str, &str)| {
                (kind, format!("{} objects in {namespace}: {why}", kind.word()))
            };
            watch.blind().map(words).collect()
        });
        let (needed, spared): (Vec<_>, Vec<_>) =
            blind.into_iter().partition(|(kind, _)| !matches!(kind, Kind::Event | Kind::Node));
        for (_, words) in spared {
            self.found(format!("not watched: {words}"));
        }
        let needed: Vec<String> = needed.into_iter().map(|(_, words)| words).collect();
        if needed.is_empty() { Ok(()) } else { Err(format!("cannot watch {}", needed.join("; "))) }
    }
}

/// Where gateway and backends are.
fn namespaces(cluster: &Cluster, environment: &Environment) -> BTreeSet<String> {
    let components = environment.components.values();
    let backends = components.flat_map(|component| {
        let proxy = component.proxy.iter().flat_map(|proxy| [&proxy.service, &proxy.deployment]);
        component.deployment.iter().chain(&component.service).chain(proxy)
    });
    let gateway = [&cluster.gateway.service, &cluster.gateway.deployment];
    gateway.into_iter().chain(backends).map(|object| object.namespace.clone()).collect()
}

/// Every drift becomes a line of the journal as soon as it is known.
async fn tell_drifts(watching: Arc<Watching>, journal: Arc<crate::journal::Journal>, end: CancellationToken) {
    let mut told = 0;
    loop {
        let more = watching.wait_until(Duration::from_secs(3600), |watch| watch.drifts().len() > told);
        tokio::select! {
            () = end.cancelled() => return,
            _ = more => {}
        }
        let drifts = watching.with(|watch| watch.drifts()[told..].to_vec());
        told += drifts.len();
        for drift in drifts {
            journal.append(Event::Drifted { seen_us: drift.at_us, what: drift.to_string() });
        }
    }
}
