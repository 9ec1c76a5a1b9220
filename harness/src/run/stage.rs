//! The stage of a local run: the mock world, the gateway before it, and the conductor in between, each
//! stopped again whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use mocks::control::Control;
use mocks::gateway::config::{BearsOn, Unsupported};
use mocks::profile::TimingKind;
use mocks::time::Epoch;
use mocks::upstream::{ComponentOptions, Dialect};
use mocks::world::{World, WorldOptions};

use super::conductor::{Conductor, Cut, Means};
use super::target::{Embedded, EmbeddedComponent, EmbeddedParts, Target};
use super::{RunError, RunOptions, Watcher};
use crate::cluster::preview;
use crate::cluster::record::Keeper;
use crate::environment::{Environment, Kind, Profile, Reach};
use crate::gateway::config::LocalConfig;
use crate::gateway::known::Known;
use crate::gateway::litellm::warm_up::{MAX_TOKENS, REQUESTS_EACH, WarmUpStatus, warm_up};
use crate::gateway::local::{Choice, Gateway, against, speaks_ollama};
use crate::gateway::reach::reachable;
use crate::gateway::secret::Secret;
use crate::journal::{AttemptTimeouts, Clock, Event, GatewayStarted, Journal, Unimitated, WarmUp};
use crate::plan::{self, Budget, Plan};
use crate::probe::Prober;
use crate::verdict::result::Ended;

/// How long a gateway that is started for a mock cluster keeps connections that nobody uses: LiteLLM's own 120 s would
/// only make runs longer.
const KEEP_IDLE: Duration = Duration::from_secs(10);
/// What one warm-up request may cost.
const WARM_UP_TOKENS: u64 = plan::PROMPT_TOKENS + MAX_TOKENS;

/// Everything between the first and the last line of the journal.
pub(super) struct Stage<'a> {
    pub(super) journal: Arc<Journal>,
    pub(super) options: &'a RunOptions,
    pub(super) plan: Plan,
    /// The gateway's configuration, where the run starts one.
    pub(super) draft: Option<LocalConfig>,
    pub(super) keys: Keys,
    pub(super) run_id: String,
    pub(super) dir: PathBuf,
    pub(super) watcher: Arc<dyn Watcher>,
    /// What could not be undone, once that is known.
    pub(super) left: OnceLock<Vec<String>>,
    /// What the program ends with, where the result does not say.
    pub(super) exit_code: OnceLock<u8>,
    /// The run's record in the cluster, once it is armed.
    pub(super) record: OnceLock<Arc<Keeper>>,
}

impl Stage<'_> {
    pub(super) async fn play(&self) -> Ended {
        match (self.options.environment.cluster(), &self.draft) {
            (Some(cluster), draft) => self.play_in_cluster(cluster, draft.as_ref()).await,
            (None, Some(draft)) => self.play_embedded(draft).await,
            (None, None) => self.refuse("there is no configuration for a gateway"),
        }
    }

    async fn play_embedded(&self, draft: &LocalConfig) -> Ended {
        let world = match self.start_world(draft).await {
            Ok(world) => Arc::new(world),
            Err(error) => return self.refuse(&format!("the mock world did not start: {error}")),
        };
        let urls = self.options.environment.components.keys();
        let urls = urls.filter_map(|name| Some((name.clone(), world.base_url(name)?))).collect();
        let ended = match self.start_gateway(&urls).await {
            Ok(gateway) => {
                let ended = Box::pin(self.conduct_embedded(&world, &gateway, draft)).await;
                self.stop_gateway(gateway).await;
                ended
            }
            Err(ended) => ended,
        };
        world.shutdown().await;
        ended
    }

    /// A gateway before components that listen at these URLs.
    ///
    /// # Errors
    /// How the run ended without one.
    pub(super) async fn start_gateway(&self, urls: &BTreeMap<String, String>) -> Result<Gateway, Ended> {
        let environment = &self.options.environment;
        let config = match against(&self.options.config, environment, urls) {
            Ok(config) => {
                // A policy leaves old connections alone: a run waits until the gateway has closed them.
                LocalConfig { keep_idle: environment.cluster().map(|_| KEEP_IDLE), ..config }
            }
            Err(error) => return Err(self.refuse(&error.to_string())),
        };
        let mut progress = |line: &str| self.watcher.progress(line);
        let start = Gateway::start(
            &self.options.gateway,
            &config,
            &self.keys.master,
            &self.dir,
            self.plan.seed,
            &mut progress,
        );
        let gateway = tokio::select! {
            // Dropping the start kills what it has started.
            () = self.options.stop.token().cancelled() => return Err(self.interrupted()),
            started = start => match started {
                Ok(gateway) => gateway,
                Err(error) => return Err(self.refuse(&error.to_string())),
            },
        };
        let unsupported = unimitated(&gateway.unsupported, &config, environment);
        for setting in &unsupported {
            progress(&setting.told());
        }
        // Of one that somebody else has started nothing is known.
        let is_own = !matches!(self.options.gateway, Choice::Running(_));
        let known = if is_own { Known::of(&config) } else { Known::default() };
        self.journal.append(Event::GatewayStarted(GatewayStarted {
            version: gateway.version.clone(),
            unsupported,
            adapted: config.warnings.clone(),
            names: known.ids,
            bases: urls
                .iter()
                .filter(|_| is_own)
                .map(|(component, url)| (url.clone(), component.clone()))
                .collect(),
            timeouts: known
                .timeouts
                .into_iter()
                .map(|(alias, (whole_ms, stream_ms))| (alias, AttemptTimeouts { whole_ms, stream_ms }))
                .collect(),
        }));
        Ok(gateway)
    }

    pub(super) async fn stop_gateway(&self, gateway: Gateway) {
        if let Some(text) = gateway.ended_by_itself() {
            self.journal.append(Event::Found { text });
        }
        if let Err(error) = gateway.stop().await {
            self.journal.append(Event::Found { text: error.to_string() });
        }
    }

    async fn conduct_embedded(&self, world: &Arc<World>, gateway: &Gateway, draft: &LocalConfig) -> Ended {
        self.ask_gateway(&gateway.url, &self.keys.probes).await;
        let budgets = tokio::select! {
            () = self.options.stop.token().cancelled() => return self.interrupted(),
            left = self.warm_up(&gateway.url, &self.keys.probes, draft) => left,
        };
        let prober = match Prober::new(&gateway.url, self.keys.probes.clone(), self.journal.clock()) {
            Ok(prober) => prober,
            Err(error) => return self.refuse(&error.to_string()),
        };
        let (prober, conversation) = match self.start_conversation(prober, gateway).await {
            Ok(started) => started,
            Err(ended) => return ended,
        };
        let ended = self.conduct_with(world, prober, budgets, draft).await;
        if let Some(conversation) = conversation {
            self.stop_conversation(conversation).await;
        }
        ended
    }

    async fn conduct_with(
        &self,
        world: &Arc<World>,
        prober: Prober,
        budgets: BTreeMap<String, Budget>,
        draft: &LocalConfig,
    ) -> Ended {
        let client = match crate::http::loopback_client().pool_max_idle_per_host(0).build() {
            Ok(client) => client,
            Err(error) => return self.refuse(&format!("no HTTP client for the witness: {error}")),
        };
        let control = match Control::start(Arc::clone(world), 0).await {
            Ok(control) => control,
            Err(error) => return self.refuse(&format!("no control API of the mock world: {error}")),
        };
        let environment = &self.options.environment;
        let target = Target::Embedded(Box::new(Embedded::new(EmbeddedParts {
            world: Arc::clone(world),
            control: control.address(),
            components: components(draft, environment),
            client,
            run: self.run_id.clone(),
            deadline: preview::deadline(plan::demanded(&self.plan), environment),
            journal: Arc::clone(&self.journal),
        })));
        let ended =
            self.conduct(Means { target, prober, budgets, watcher: Arc::clone(&self.watcher) }).await.0;
        control.shutdown().await;
        ended
    }

    /// The conductor with all of its ways out; what was changed is undone, or named as left, when this returns.
    pub(super) async fn conduct(&self, means: Means) -> (Ended, Target) {
        let mut conductor = Conductor::new(
            Arc::clone(&self.journal),
            self.plan.clone(),
            self.options.environment.clone(),
            self.options.stop.clone(),
            means,
        );
        let outcome = AssertUnwindSafe(Box::pin(conductor.run())).catch_unwind().await;
        let (restored, left) = match AssertUnwindSafe(conductor.restore()).catch_unwind().await {
            Ok(restored) => restored,
            Err(panic) => {
                let words =
                    format!("whether everything was undone is not known: panic: {}", panic_words(&*panic));
                (false, vec![words])
            }
        };
        let _ = self.left.set(left.clone());
        self.journal.append(Event::RestoreEnded { restored, left });
        conductor.journal_calls(true);
        let ended = match outcome {
            Ok(Ok(())) => Ended::Completed,
            Ok(Err(Cut::Stopped)) => self.interrupted(),
            Ok(Err(Cut::Journal(error))) => self.abort(&error.to_string()),
            Ok(Err(Cut::System(error))) => self.abort(&error.to_string()),
            Err(panic) => self.abort(&format!("panic: {}", panic_words(&*panic))),
        };
        (ended, conductor.target)
    }

    /// Loads the gateway's lazy parts: each route's own model, and one alias of each further protocol. A
    /// model that loads on its first call stays cold, as it would be in an outage. Counts against the
    /// ceilings like everything else that is sent; what is left of them is returned.
    pub(super) async fn warm_up(
        &self,
        url: &str,
        key: &Secret,
        draft: &LocalConfig,
    ) -> BTreeMap<String, Budget> {
        let environment = &self.options.environment;
        let mut protocols = BTreeSet::new();
        let mut aliases: Vec<String> = environment.routes.values().map(|route| route.model.clone()).collect();
        protocols.extend(aliases.iter().map(|alias| speaks_ollama(draft, alias)));
        for alias in environment.components.values().flat_map(|component| &component.aliases) {
            if protocols.insert(speaks_ollama(draft, alias)) {
                aliases.push(alias.clone());
            }
        }
        let mut budgets = Budget::all(environment);
        aliases.retain(|alias| {
            let component = plan::component_of(alias, environment);
            let Some(budget) = component.and_then(|component| budgets.get_mut(component)) else {
                return true;
            };
            (0..REQUESTS_EACH).all(|_| budget.spend(WARM_UP_TOKENS))
        });
        let requests = warm_up(url, key, &aliases).await;
        let requests = requests.into_iter().map(|request| WarmUp {
            alias: request.alias,
            streamed: request.stream,
            status: match request.status {
                WarmUpStatus::Answered(status) => Some(status),
                WarmUpStatus::TimedOut | WarmUpStatus::Failed(_) => None,
            },
            took_ms: request.ms as f64,
        });
        self.journal.append(Event::WarmedUp { requests: requests.collect() });
        budgets
    }

    pub(super) async fn start_world(&self, draft: &LocalConfig) -> std::io::Result<World> {
        let environment = &self.options.environment;
        World::start(world_options(draft, environment, self.journal.clock(), self.plan.seed)).await
    }

    pub(super) fn refuse(&self, reason: &str) -> Ended {
        self.journal.append(Event::Refused { reason: reason.to_owned() });
        Ended::Refused
    }

    pub(super) fn abort(&self, cause: &str) -> Ended {
        self.journal.append(Event::Aborted { cause: cause.to_owned() });
        Ended::Aborted
    }

    pub(super) fn interrupted(&self) -> Ended {
        let cause = self.options.stop.cause().unwrap_or("an unknown cause").to_owned();
        self.journal.append(Event::Interrupted { cause });
        Ended::Interrupted
    }
}

/// What the mock gateway leaves out of a configuration, by the routes that it would bear on.
fn unimitated(settings: &[Unsupported], config: &LocalConfig, environment: &Environment) -> Vec<Unimitated> {
    let reaches = |model: &str, groups: &[String]| {
        let reached = reachable(&config.value, model);
        groups.iter().any(|group| reached.contains(group))
    };
    let routes = |groups: &[String]| {
        let routes = environment.routes.iter().filter(|(_, route)| reaches(&route.model, groups));
        routes.map(|(name, _)| name.clone()).collect()
    };
    let told = settings.iter().map(|setting| Unimitated {
        setting: setting.path.clone(),
        routes: match &setting.bears_on {
            BearsOn::Everything => None,
            BearsOn::Groups(groups) => Some(routes(groups)),
            BearsOn::Nothing => Some(Vec::new()),
        },
    });
    told.collect()
}

/// The mock world of an environment, serving the models of a configuration.
pub(super) fn world_options(
    config: &LocalConfig,
    environment: &Environment,
    clock: Clock,
    seed: u64,
) -> WorldOptions {
    let profile = match &environment.kind {
        Kind::Embedded { profile } => *profile,
        Kind::Kubernetes(cluster) => match cluster.reach {
            Reach::Embedded { profile, .. } => profile,
            Reach::InCluster | Reach::Context { .. } => Profile::Realistic,
        },
    };
    let profile = match profile {
        Profile::Realistic => mocks::profile::Profile::realistic(),
        Profile::Fast => mocks::profile::Profile::fast(),
    };
    let members = components(config, environment).into_iter().map(|(name, component)| ComponentOptions {
        timing: match name.as_str() {
            "vllm" => TimingKind::Vllm,
            "ollama" => TimingKind::Ollama,
            _ => TimingKind::Cloud,
        },
        dialect: component.dialect,
        models: component.models.into_values().collect(),
        name,
    });
    WorldOptions { epoch: Epoch::from_instant(clock.zero()), seed, profile, components: members.collect() }
}

/// Before the world has ports; only the models are of interest then.
pub(super) fn placeholder_urls(environment: &Environment) -> BTreeMap<String, String> {
    environment.components.keys().map(|name| (name.clone(), "http://127.0.0.1:9".to_owned())).collect()
}

/// Who presents which key.
pub(super) struct Keys {
    /// What a gateway that the run starts asks for.
    pub(super) master: Secret,
    /// What probes present.
    pub(super) probes: Secret,
}

impl Keys {
    /// Made up for the run, unless the environment names the variable that holds the callers' key: then
    /// the gateway takes its own from `LITELLM_MASTER_KEY`, as everywhere, and the two may differ.
    pub(super) fn of(environment: &Environment) -> Result<Self, RunError> {
        let Some(variable) = &environment.gateway.key_env else {
            let key = Secret::random();
            return Ok(Self { master: key.clone(), probes: key });
        };
        let probes = Secret::of_variable(variable).ok_or_else(|| RunError::NoKey {
            environment: environment.name.clone(),
            variable: variable.clone(),
        })?;
        let master = Secret::of_variable("LITELLM_MASTER_KEY").unwrap_or_else(Secret::random);
        Ok(Self { master, probes })
    }
}

pub(super) fn upstream_models(config: &LocalConfig) -> BTreeMap<String, String> {
    let pairs = config.upstream_models.iter();
    pairs.flat_map(|(alias, models)| models.iter().map(|model| (model.clone(), alias.clone()))).collect()
}

fn components(config: &LocalConfig, environment: &Environment) -> BTreeMap<String, EmbeddedComponent> {
    let mut components = BTreeMap::new();
    for (name, component) in &environment.components {
        let models = component.aliases.iter().filter_map(|alias| {
            let model = config.upstream_models.get(alias)?.first()?;
            Some((alias.clone(), model.clone()))
        });
        let ollama = component.aliases.iter().any(|alias| speaks_ollama(config, alias));
        let dialect = if ollama { Dialect::Ollama } else { Dialect::OpenAi };
        components.insert(name.clone(), EmbeddedComponent { dialect, models: models.collect() });
    }
    components
}

pub(super) fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}
