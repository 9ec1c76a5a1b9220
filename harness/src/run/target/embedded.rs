//! The embedded world as a target of faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mocks::gate::GateMode;
use mocks::record::{Outcome, Record};
use mocks::upstream::Dialect;
use mocks::world::World;

use crate::environment::FaultKind;
use crate::journal::{Journal, UpstreamCall};
use crate::plan::{PlannedFault, PlannedKind};
use crate::witness::{CompletionRequest, Target, Witness, serves_completion};

/// One component of the embedded world.
#[derive(Clone, Debug)]
pub(in crate::run) struct EmbeddedComponent {
    /// Which protocol it speaks.
    pub(in crate::run) dialect: Dialect,
    /// Upstream model by alias; never empty.
    pub(in crate::run) models: BTreeMap<String, String>,
}

/// The mock world as seen by the run.
pub(in crate::run) struct Embedded {
    world: Arc<World>,
    components: BTreeMap<String, EmbeddedComponent>,
    client: reqwest::Client,
}

impl Embedded {
    /// A target over a running world; `client` asks its components directly.
    #[must_use]
    pub(in crate::run) fn new(
        world: Arc<World>,
        components: BTreeMap<String, EmbeddedComponent>,
        client: reqwest::Client,
    ) -> Self {
        Self { world, components, client }
    }

    /// Make the fault. Idempotent.
    ///
    /// # Errors
    /// In words, when it was not accepted.
    pub(super) async fn inject(&self, fault: &PlannedFault) -> Result<(), String> {
        match &fault.kind {
            PlannedKind::Down(FaultKind::Nothing) => Ok(()),
            PlannedKind::Down(kind) => self.set(&fault.component, gate_mode(*kind)).await,
            PlannedKind::Gone(aliases) => self.set_gone(&fault.component, aliases),
        }
    }

    /// Undo the fault. Idempotent.
    ///
    /// # Errors
    /// In words, when it was not accepted.
    pub(super) async fn heal(&self, fault: &PlannedFault) -> Result<(), String> {
        match &fault.kind {
            PlannedKind::Down(_) => self.set(&fault.component, GateMode::Pass).await,
            PlannedKind::Gone(_) => self.set_gone(&fault.component, &[]),
        }
    }

    /// Read back: is the component's setting what it was before any fault?
    #[must_use]
    pub(super) fn is_healed(&self, component: &str) -> bool {
        self.world.gate(component).is_some_and(|gate| gate.mode() == GateMode::Pass)
            && self.world.states().iter().all(|state| state.name != component || state.gone.is_empty())
    }

    /// Someone who looks at what this fault hits.
    #[must_use]
    pub(super) fn witness(&self, fault: &PlannedFault, journal: &Arc<Journal>) -> Option<Witness> {
        let target = self.looked_at(fault)?;
        Some(Witness::start(&fault.component, target, self.client.clone(), Arc::clone(journal)))
    }

    /// Asks a component for a completion, past the gateway.
    ///
    /// # Errors
    /// In words, what came instead.
    pub(super) async fn serves(
        &self,
        component: &str,
        alias: Option<&str>,
        limit: Duration,
    ) -> Result<(), String> {
        match self.completion(component, alias) {
            Some(request) => serves_completion(&self.client, &request, limit).await,
            None => Err("it has no model to ask for".to_owned()),
        }
    }

    /// What a witness of this fault looks at: the cheapest thing that tells up from down.
    fn looked_at(&self, fault: &PlannedFault) -> Option<Target> {
        match &fault.kind {
            PlannedKind::Down(FaultKind::Stall) => {
                self.completion(&fault.component, None).map(Target::Answers)
            }
            PlannedKind::Down(_) => self.world.gate(&fault.component).map(|gate| Target::Tcp(gate.address())),
            PlannedKind::Gone(aliases) => {
                self.completion(&fault.component, aliases.first().map(String::as_str)).map(Target::Answers)
            }
        }
    }

    /// How to ask a component for a completion, past the gateway.
    fn completion(&self, component: &str, alias: Option<&str>) -> Option<CompletionRequest> {
        let known = self.components.get(component)?;
        let model = match alias {
            Some(alias) => known.models.get(alias)?,
            None => known.models.values().next()?,
        };
        let base = self.world.base_url(component)?;
        let path = match known.dialect {
            Dialect::Ollama => "/api/chat",
            Dialect::OpenAi => "/v1/chat/completions",
        };
        Some(CompletionRequest { url: format!("{base}{path}"), model: model.clone() })
    }

    /// Requests for chats in the upstreams' own journals, from record `since` on; open ones as they stand.
    #[must_use]
    pub(super) fn calls(&self) -> Vec<(u64, UpstreamCall)> {
        let records = self.world.recorder().all();
        records.iter().filter(|record| is_chat(record)).map(|record| (record.seq, call(record))).collect()
    }

    async fn set(&self, component: &str, mode: GateMode) -> Result<(), String> {
        self.world.set(component, mode).await.map_err(|error| error.to_string())
    }

    fn set_gone(&self, component: &str, aliases: &[String]) -> Result<(), String> {
        let known = self.components.get(component).ok_or_else(|| format!("no component {component}"))?;
        let models = aliases.iter().filter_map(|alias| known.models.get(alias).cloned()).collect();
        self.world.set_gone(component, models).map_err(|error| error.to_string())
    }
}

fn gate_mode(kind: FaultKind) -> GateMode {
    match kind {
        FaultKind::Refuse | FaultKind::ScaleToZero => GateMode::Refuse,
        FaultKind::Blackhole | FaultKind::BlackholeBy(_) | FaultKind::Isolate => GateMode::Blackhole,
        FaultKind::Stall => GateMode::Stall,
        FaultKind::Nothing => GateMode::Pass,
    }
}

fn is_chat(record: &Record) -> bool {
    record.path == "/api/chat" || record.path == "/v1/chat/completions"
}

fn call(record: &Record) -> UpstreamCall {
    UpstreamCall {
        component: record.component.clone(),
        model: record.alias_model.clone().unwrap_or_default(),
        probe: record.probe.clone(),
        received_us: record.received_us,
        ended_us: record.ended_us,
        status: match record.outcome {
            Outcome::Answered { status } => Some(status),
            Outcome::ClientLeft | Outcome::Open => None,
        },
    }
}
