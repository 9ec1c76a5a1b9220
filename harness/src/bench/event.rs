//! One outage, measured as a run measures it: the plan, the pacer, the prober, the witness and the journal are those of
//! every run. Only who takes the component down is another: the truth server, which says when it did.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mocks::truth::{OTHER, PRIMARY, SPARE, Script, Shape};
use tokio_util::sync::CancellationToken;

use super::BenchError;
use super::truth::{Happened, TruthServer, zero_of};
use crate::environment::{Ceilings, Component, Environment, FaultKind, Gateway, Kind, Profile, Route, Via};
use crate::gateway::secret::Secret;
use crate::journal::{Clock, Event, FORMAT, GatewayStarted, Journal, RunStarted};
use crate::plan::{self, Plan, Step};
use crate::probe::{Prober, Traffic, TrafficOptions};
use crate::scenario::{
    Answer, ComponentState, Expectation, Forms, Requirement, Scenario, Source, Traffic as Planned,
};
use crate::units::{Period, Rate};
use crate::verdict::result::Ended;
use crate::witness::{Target, Witness, wait_until};

/// The limit of NFR123.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Baseline before the fault.
const LEAD: Duration = Duration::from_millis(1200);
/// Client timeout of a probe: later than the slowest first token, so that this one is late and not lost.
const TIMEOUT: Duration = Duration::from_millis(6500);
/// Judged after the outage: a steady run, and what a coarse schedule needs to see it.
const AFTER: Duration = Duration::from_millis(6000);
const ROUTE: &str = "agent";
const SCENARIO: &str = "outage";
const WITNESS_WITHIN: Duration = Duration::from_secs(5);

/// What is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// All is.
    Nothing,
    /// The component never goes down, though the gateway fails.
    Effect,
    /// No probe is sent while it is judged.
    Probes,
    /// The baseline is broken.
    Baseline,
    /// The plan is never begun.
    Modes,
    /// The run is cut inside the outage.
    End,
}

/// An outage to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    /// How it fails.
    pub(super) shape: Shape,
    /// How long.
    pub(super) outage: Duration,
    /// Time between two probes.
    pub(super) cadence: Duration,
    /// Part of a cadence that the injection is moved by, 0 to 1.
    pub(super) phase: f64,
    /// What is missing.
    pub(super) without: Without,
}

/// A measured outage.
pub(super) struct Measured {
    /// What was measured.
    pub(super) spec: Spec,
    /// Its journal.
    pub(super) journal: PathBuf,
    /// What really happened, on the journal's clock.
    pub(super) happened: Happened,
    /// Probes that the schedule had planned by the time it was stopped.
    pub(super) planned: u64,
}

/// Take one component down and measure.
pub(super) async fn measure(spec: Spec, truth: &TruthServer, journal: &Path) -> Result<Measured, BenchError> {
    let outage_us = u64::try_from(spec.outage.as_micros()).unwrap_or(u64::MAX);
    let script = Script {
        chunks: 4,
        chunk_gap_us: 0,
        steps: spec.shape.steps(outage_us),
        takes_down: spec.without != Without::Effect,
    };
    let mut backend = truth.open(script).await?;
    let clock = Clock::starting_now();
    let zero = zero_of(clock);
    let written = Arc::new(Journal::create(journal, clock)?);
    let environment = environment();
    let plan = plan(&spec, &environment);
    let step = plan.steps.first().cloned().ok_or_else(|| BenchError::Truth("nothing is planned".into()))?;
    begin(&written, environment, plan);
    let mut happened = Happened::default();
    let mut planned = 0;
    if spec.without != Without::Modes {
        let mode = Mode { spec, step, written: &written, clock };
        planned = mode.go(&mut backend, &mut happened).await?;
    }
    backend.end(&mut happened).await?;
    // The backend is gone with its fault.
    let ended = if spec.without == Without::End { Ended::Interrupted } else { Ended::Completed };
    written.append(Event::RestoreEnded { restored: true, left: Vec::new() });
    written.append(Event::RunEnded { ended, finished_at: jiff::Timestamp::now().to_string() });
    if let Some(error) = written.error() {
        return Err(error.into());
    }
    let on_clock = |(from, to): (u64, u64)| (from.saturating_sub(zero), to.saturating_sub(zero));
    happened.down = happened.down.map(on_clock);
    happened.steps = happened.steps.into_iter().map(on_clock).collect();
    Ok(Measured { spec, journal: journal.to_owned(), happened, planned })
}

struct Mode<'j> {
    spec: Spec,
    step: Step,
    written: &'j Arc<Journal>,
    clock: Clock,
}

impl Mode<'_> {
    /// From the baseline to the end of the judged time; how many probes were planned.
    async fn go(
        &self,
        backend: &mut super::truth::Backend<'_>,
        happened: &mut Happened,
    ) -> Result<u64, BenchError> {
        let (written, scenario) = (self.written, SCENARIO.to_owned());
        written.append(Event::ScenarioStarted {
            scenario: scenario.clone(),
            injection: None,
            phase_us: None,
        });
        let client =
            crate::http::loopback_client().build().map_err(|error| BenchError::Http(error.to_string()))?;
        let address = (std::net::Ipv4Addr::LOCALHOST, backend.component).into();
        let witness = Witness::start(PRIMARY, Target::Tcp(address), client, Arc::clone(written));
        let prober = Prober::new(&backend.url(), Secret::random(), self.clock)
            .map_err(|error| BenchError::Http(error.to_string()))?;
        let first_us = self.clock.now_us() + 50_000;
        let traffic = Traffic::start(TrafficOptions {
            scenario: scenario.clone(),
            injection: None,
            routes: self.step.routes.clone(),
            prober,
            journal: Arc::clone(written),
            budgets: Arc::new(Mutex::new(BTreeMap::new())),
            touches: vec![Vec::new()],
            prompt_tokens: vec![0],
            first_us: vec![first_us],
            always_kept: false,
        })?;
        tokio::time::sleep(LEAD + self.spec.cadence.mul_f64(self.spec.phase)).await;
        let abandon = CancellationToken::new();
        if self.spec.without == Without::Probes {
            traffic.pause();
            // What was sent just before is answered while all is well.
            let sent_until_us = self.clock.now_us();
            let ended = traffic.live();
            let _in_time = tokio::time::timeout(TIMEOUT, wait_for_all(ended, sent_until_us)).await;
        }
        if self.spec.without == Without::Baseline {
            let saw = "none of it is good".to_owned();
            written.append(Event::BaselineBroken { scenario: scenario.clone(), saw });
        } else {
            self.fault(backend, happened, &witness).await?;
            self.hold(&witness, &traffic).await;
            if self.spec.without == Without::End {
                written.append(Event::Interrupted { cause: "SIGTERM".to_owned() });
                abandon.cancel();
            } else {
                written.append(Event::HoldEnded { scenario: scenario.clone() });
            }
        }
        let stopped_us = self.clock.now_us();
        traffic.finish(&abandon).await;
        witness.stop().await;
        written.append(Event::ScenarioEnded { scenario });
        let interval_us = u64::try_from(self.spec.cadence.as_micros()).unwrap_or(u64::MAX).max(1);
        Ok(stopped_us.saturating_sub(first_us) / interval_us + 1)
    }

    async fn fault(
        &self,
        backend: &mut super::truth::Backend<'_>,
        happened: &mut Happened,
        witness: &Witness,
    ) -> Result<(), BenchError> {
        self.written.append_durably(Event::FaultIntended {
            fault: 0,
            scenario: SCENARIO.to_owned(),
            component: PRIMARY.to_owned(),
            kind: "refuse".to_owned(),
            undo: "end the backend".to_owned(),
        })?;
        let called_us = self.clock.now_us();
        backend.go(happened).await?;
        let accepted_us = self.clock.now_us();
        self.written.append(Event::FaultInjected { fault: 0, called_us, accepted_us });
        let limit = if self.spec.without == Without::Effect { AFTER / 4 } else { WITNESS_WITHIN };
        if wait_until(&mut witness.observed(), limit, |seen| seen.down_since_us.is_some()).await.is_none() {
            let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            self.written.append(Event::FaultNotEffective { fault: 0, waited_ms });
        }
        Ok(())
    }

    async fn hold(&self, witness: &Witness, traffic: &Traffic) {
        let seen_us = witness.observed().borrow().down_since_us;
        let from_us = seen_us.unwrap_or_else(|| self.clock.now_us());
        self.written.append(Event::HoldStarted { scenario: SCENARIO.to_owned(), from_us });
        if self.spec.without == Without::End {
            tokio::time::sleep(self.spec.outage / 2).await;
            return;
        }
        let until_us = from_us + u64::try_from(self.step.hold().as_micros()).unwrap_or(u64::MAX);
        let left = self.clock.instant(until_us).saturating_duration_since(std::time::Instant::now());
        tokio::time::sleep(left).await;
        let mut live = traffic.live();
        let ended = live.wait_for(|live| live.all_ended_up_to(until_us));
        let _in_time = tokio::time::timeout(TIMEOUT + Duration::from_secs(5), ended).await;
    }
}

async fn wait_for_all(mut live: tokio::sync::watch::Receiver<crate::probe::Live>, until_us: u64) {
    let _stopped = live.wait_for(|live| live.all_ended_up_to(until_us)).await;
}

fn begin(written: &Journal, environment: Environment, plan: Plan) {
    written.append(Event::RunStarted(Box::new(RunStarted {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: "bench".to_owned(),
        started_at: jiff::Timestamp::now().to_string(),
        gateway_kind: "mock".to_owned(),
        gateway_config: "truth server".to_owned(),
        upstream_models: BTreeMap::new(),
        environment,
        plan,
        made_with: Vec::new(),
    })));
    written.append(Event::GatewayStarted(GatewayStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        unsupported: Vec::new(),
        adapted: Vec::new(),
        names: BTreeMap::new(),
        bases: BTreeMap::new(),
        timeouts: BTreeMap::new(),
    }));
}

fn source() -> Source {
    Source { name: "bench".to_owned(), sha256: String::new() }
}

/// Three components with an alias each, and one route.
pub(super) fn environment() -> Environment {
    let component = |alias: &str| Component {
        aliases: vec![alias.to_owned()],
        down: FaultKind::Refuse,
        ready_within: Period::from_secs(10),
        ceilings: Ceilings::default(),
        endpoint: None,
        deployment: None,
        service: None,
        port: None,
        proxy: None,
        pause: Default::default(),
    };
    let components = [PRIMARY, SPARE, OTHER].map(|name| (name.to_owned(), component(name)));
    let fallbacks = vec![SPARE.to_owned()];
    let route = Route { model: PRIMARY.to_owned(), fallbacks, via: Via::Gateway };
    Environment {
        name: "bench".to_owned(),
        kind: Kind::Embedded { profile: Profile::Fast },
        gateway: Gateway::default(),
        components: components.into(),
        routes: [(ROUTE.to_owned(), route)].into(),
        source: source(),
    }
}

fn plan(spec: &Spec, environment: &Environment) -> Plan {
    let rate = Rate::new(1.0 / spec.cadence.as_secs_f64());
    let forms = if spec.shape.is_of_streams() { Forms::Streamed } else { Forms::Mixed };
    let traffic = rate.map(|rate| Planned {
        route: ROUTE.to_owned(),
        rate,
        hold: Period(spec.outage + AFTER),
        stream: forms,
        max_tokens: 8,
        timeout: Period(TIMEOUT),
    });
    let expectation = Expectation {
        answer: Answer::ServedBy(SPARE.to_owned()),
        within: Period(LIMIT),
        errors: 0,
        lost_in_flight: None,
        first_token_within: None,
        max_stall: None,
    };
    let scenario = Scenario {
        name: SCENARIO.to_owned(),
        title: "An outage of known length".to_owned(),
        requirements: vec![Requirement::NFR123],
        components: [(PRIMARY.to_owned(), ComponentState::Down)].into(),
        traffic: traffic.into_iter().collect(),
        expect: [(ROUTE.to_owned(), expectation)].into(),
        recover: BTreeMap::new(),
        injections: Scenario::ONCE,
        source: source(),
    };
    let mut plan = plan::resolve(&[scenario], environment, Period(LEAD), 0);
    for step in &mut plan.steps {
        // It is never healed: the backend ends.
        step.heal.clear();
        step.routes.iter_mut().for_each(|route| route.recover = None);
    }
    plan
}
