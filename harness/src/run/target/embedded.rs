//! The embedded world as a target of faults. They are made through its control API, by the same driver as those of a
//! cluster; only looking at it is done from inside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mocks::gate::GateMode;
use mocks::record::{Outcome, Record};
use mocks::upstream::Dialect;
use mocks::world::World;

use super::ActiveFault;
use super::driver::Driver;
use crate::cluster::faults::gate::{ControlAt, Gate, Setting};
use crate::cluster::mutation::Mutation;
use crate::environment::FaultKind;
use crate::journal::{Journal, UpstreamCall};
use crate::plan::{PlannedFault, PlannedKind};
use crate::units::Period;
use crate::witness::{CompletionRequest, Target, Witness, serves_completion};

/// One component of the embedded world.
#[derive(Clone, Debug)]
pub(in crate::run) struct EmbeddedComponent {
    /// Which protocol it speaks.
    pub(in crate::run) dialect: Dialect,
    /// Upstream model by alias; never empty.
    pub(in crate::run) models: BTreeMap<String, String>,
}

/// What a run acts and looks with in the embedded world.
pub(in crate::run) struct EmbeddedParts {
    /// Looked at from inside.
    pub(in crate::run) world: Arc<World>,
    /// Changed from here.
    pub(in crate::run) control: SocketAddr,
    /// What is in it.
    pub(in crate::run) components: BTreeMap<String, EmbeddedComponent>,
    /// Asks its components directly.
    pub(in crate::run) client: reqwest::Client,
    /// The run's id.
    pub(in crate::run) run: String,
    /// When its gates end a fault by themselves.
    pub(in crate::run) deadline: Period,
    /// Mutations are on disk before they are made.
    pub(in crate::run) journal: Arc<Journal>,
}

/// The mock world as seen by the run.
pub(in crate::run) struct Embedded {
    parts: EmbeddedParts,
    driver: Driver,
}

impl Embedded {
    #[must_use]
    pub(in crate::run) fn new(parts: EmbeddedParts) -> Self {
        let driver = Driver::here(Arc::clone(&parts.journal));
        Self { parts, driver }
    }

    pub(super) fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Make the fault. Idempotent.
    ///
    /// # Errors
    /// In words, when it was not accepted.
    pub(super) async fn inject(&self, active: &ActiveFault) -> Result<(), String> {
        let component = &active.fault.component;
        let (way, to) = match &active.fault.kind {
            PlannedKind::Down(FaultKind::Nothing) => return Ok(()),
            PlannedKind::Down(kind) => ("gates", Setting::Mode(gate_mode(*kind))),
            PlannedKind::Gone(aliases) => ("gone", Setting::Gone(self.models(component, aliases)?)),
        };
        let gate = Gate {
            before: component.clone(),
            at: ControlAt::Here(self.parts.control),
            path: format!("/{way}/{component}/fault"),
            run: self.parts.run.clone(),
            seconds: self.parts.deadline.0.as_secs().max(1),
            to,
        };
        self.driver.make(active, &Mutation::Gate(Box::new(gate))).await.map(drop)
    }

    /// Someone who looks at what this fault hits.
    #[must_use]
    pub(super) fn witness(&self, fault: &PlannedFault, journal: &Arc<Journal>) -> Option<Witness> {
        let target = self.looked_at(fault)?;
        Some(Witness::start(&fault.component, target, self.parts.client.clone(), Arc::clone(journal)))
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
            Some(request) => serves_completion(&self.parts.client, &request, limit).await,
            None => Err("it has no model to ask for".to_owned()),
        }
    }

    /// What a witness of this fault looks at: the cheapest thing that tells up from down.
    fn looked_at(&self, fault: &PlannedFault) -> Option<Target> {
        match &fault.kind {
            PlannedKind::Down(FaultKind::Stall) => {
                self.completion(&fault.component, None).map(Target::Answers)
            }
            PlannedKind::Down(_) => {
                self.parts.world.gate(&fault.component).map(|gate| Target::Tcp(gate.address()))
            }
            PlannedKind::Gone(aliases) => {
                self.completion(&fault.component, aliases.first().map(String::as_str)).map(Target::Answers)
            }
        }
    }

    /// How to ask a component for a completion, past the gateway.
    fn completion(&self, component: &str, alias: Option<&str>) -> Option<CompletionRequest> {
        let known = self.parts.components.get(component)?;
        let model = match alias {
            Some(alias) => known.models.get(alias)?,
            None => known.models.values().next()?,
        };
        let base = self.parts.world.base_url(component)?;
        let path = match known.dialect {
            Dialect::Ollama => "/api/chat",
            Dialect::OpenAi => "/v1/chat/completions",
        };
        Some(CompletionRequest { url: format!("{base}{path}"), model: model.clone() })
    }

    /// Requests for chats in the upstreams' own journals, from record `since` on; open ones as they stand.
    #[must_use]
    pub(super) fn calls(&self) -> Vec<(u64, UpstreamCall)> {
        let records = self.parts.world.recorder().all();
        records.iter().filter(|record| is_chat(record)).map(|record| (record.seq, call(record))).collect()
    }

    /// The models of these aliases.
    fn models(&self, component: &str, aliases: &[String]) -> Result<Vec<String>, String> {
        let known =
            self.parts.components.get(component).ok_or_else(|| format!("no component {component}"))?;
        Ok(aliases.iter().filter_map(|alias| known.models.get(alias).cloned()).collect())
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
        purpose: record.purpose.clone(),
        received_us: record.received_us,
        ended_us: record.ended_us,
        status: match record.outcome {
            Outcome::Answered { status } => Some(status),
            Outcome::ClientLeft | Outcome::Open => None,
        },
    }
}
