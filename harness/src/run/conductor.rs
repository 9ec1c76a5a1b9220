//! The conductor: takes the stack through the plan, mode by mode, and writes down what happens.
//!
//! It decides nothing about pass or fail. Each mutation is journaled (on disk) before it is made, and
//! is undone on every way out: [`Conductor::restore`] knows all that was ever intended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use super::stop::Stop;
use super::target::Embedded;
use crate::environment::Environment;
use crate::journal::{Event, Journal, JournalError, Purpose};
use crate::plan::{self, Budget, Plan, PlannedFault, Step};
use crate::probe::{Live, LiveProbe, Prober, Request, Traffic, TrafficOptions};
use crate::witness::{Witness, serves_completion, wait_until};

/// How long a fault may take to show up at the witness after it was accepted.
const EFFECTIVE_WITHIN: Duration = Duration::from_secs(5);
/// How long the baseline may take, beyond the lead, to show enough good replies.
const BASELINE_WITHIN: Duration = Duration::from_secs(10);
/// Good replies that a baseline needs on each judged route.
pub(crate) const BASELINE_PROBES: usize = 3;
/// Between two completions asked for while a healed component starts.
const COMPLETION_EVERY: Duration = Duration::from_millis(50);
/// A completion asked for as evidence takes at most this long.
const COMPLETION_LIMIT: Duration = Duration::from_secs(5);
/// Control probes of each mode.
const CONTROL_PROBES: u64 = 3;
/// First probe this long after the traffic starts, so that no first probe is late.
const HEAD_START_US: u64 = 50_000;

/// Why a run does not go on.
#[derive(Debug)]
pub(super) enum Cut {
    /// [`Stop`] fired.
    Stopped,
    /// The journal cannot be written: without evidence there is no point in going on.
    Journal(JournalError),
    /// The system refused something that the run cannot do without.
    System(std::io::Error),
}

impl From<JournalError> for Cut {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// A mutation that was intended, and so may have been made.
struct ActiveFault {
    id: u32,
    fault: PlannedFault,
}

/// Everything a run needs.
pub(super) struct Conductor {
    pub(super) journal: Arc<Journal>,
    pub(super) plan: Plan,
    pub(super) environment: Environment,
    pub(super) target: Embedded,
    pub(super) prober: Prober,
    pub(super) client: reqwest::Client,
    pub(super) stop: Stop,
    budgets: Arc<Mutex<BTreeMap<String, Budget>>>,
    witnesses: BTreeMap<String, Witness>,
    active: Vec<ActiveFault>,
    faults: u32,
    journaled_calls: std::collections::BTreeSet<u64>,
    chance: ChaCha8Rng,
    left: Vec<String>,
}

impl Conductor {
    pub(super) fn new(
        journal: Arc<Journal>,
        plan: Plan,
        environment: Environment,
        target: Embedded,
        prober: Prober,
        client: reqwest::Client,
        stop: Stop,
    ) -> Self {
        let budgets = Arc::new(Mutex::new(Budget::all(&environment)));
        let chance = ChaCha8Rng::seed_from_u64(plan.seed);
        Self {
            journal,
            plan,
            environment,
            target,
            prober,
            client,
            stop,
            budgets,
            witnesses: BTreeMap::new(),
            active: Vec::new(),
            faults: 0,
            journaled_calls: std::collections::BTreeSet::new(),
            chance,
            left: Vec::new(),
        }
    }

    /// What is left of the ceilings, where not all of it.
    pub(super) fn spend_at_most(&mut self, budgets: BTreeMap<String, Budget>) {
        self.budgets = Arc::new(Mutex::new(budgets));
    }

    /// All modes, in order.
    pub(super) async fn run(&mut self) -> Result<(), Cut> {
        for step in self.plan.steps.clone() {
            self.step(&step).await?;
            self.journal_calls(false);
        }
        Ok(())
    }

    /// Undo everything that is not undone, whatever happened before; true when all of it is seen undone.
    pub(super) async fn restore(&mut self) -> (bool, Vec<String>) {
        let components = self.active.iter().map(|active| active.fault.component.clone()).collect::<Vec<_>>();
        self.heal(&components).await;
        for (_, witness) in std::mem::take(&mut self.witnesses) {
            witness.stop().await;
        }
        for component in self.environment.components.keys() {
            if !self.target.is_healed(component) {
                self.left.push(format!("{component} is not as it was before the run"));
            }
        }
        self.left.dedup();
        (self.left.is_empty(), self.left.clone())
    }

    /// Copy the upstreams' own journals into ours; `all` also those requests that are still open.
    pub(super) fn journal_calls(&mut self, all: bool) {
        for (seq, call) in self.target.calls() {
            if (all || call.ended_us.is_some()) && self.journaled_calls.insert(seq) {
                self.journal.append(Event::UpstreamCalled(call));
            }
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), Cut> {
        self.go_on()?;
        let scenario = step.scenario.name.clone();
        self.journal.append(Event::ScenarioStarted { scenario: scenario.clone() });
        for component in &step.inherited {
            if let Some(active) = self.active.iter().find(|active| active.fault.component == *component) {
                self.journal.append(Event::FaultInherited { scenario: scenario.clone(), fault: active.id });
            }
        }
        for fault in &step.inject {
            self.witness(fault);
        }
        let traffic = self.start_traffic(step)?;
        let outcome = self.mode(step, &traffic).await;
        if outcome.is_err() {
            // Undo first; what is still open in the traffic can wait those milliseconds.
            let components =
                self.active.iter().map(|active| active.fault.component.clone()).collect::<Vec<_>>();
            self.heal(&components).await;
        }
        traffic.finish(self.stop.token()).await;
        outcome?;
        self.journal.append(Event::ScenarioEnded { scenario });
        self.go_on()
    }

    /// One mode from its baseline to its recovery, under traffic.
    async fn mode(&mut self, step: &Step, traffic: &Traffic) -> Result<(), Cut> {
        let mut live = traffic.live();
        if step.inject.is_empty() || self.enter(step, &mut live).await? {
            self.hold(step, &mut live).await?;
        }
        if !step.heal.is_empty() {
            let healed_us = self.heal(&step.heal).await;
            self.await_recovery(step, &mut live, healed_us).await?;
        }
        Ok(())
    }

    /// Baseline, then the faults; false where the mode could not be entered.
    async fn enter(&mut self, step: &Step, live: &mut watch::Receiver<Live>) -> Result<bool, Cut> {
        self.sleep(self.plan.lead.0).await?;
        if let Some(saw) = self.baseline_flaw(step, live).await? {
            self.journal.append(Event::BaselineBroken { scenario: step.scenario.name.clone(), saw });
            return Ok(false);
        }
        // A random phase against the probes' cadence: otherwise every injection would fall on the same
        // side of a probe.
        let interval = step.routes.iter().map(|route| route.rate.interval()).max().unwrap_or_default();
        let phase = interval.mul_f64(self.chance.random_range(0.0..1.0));
        self.sleep(phase.min(Duration::from_secs(2))).await?;
        for fault in &step.inject {
            if !self.inject(&step.scenario.name, fault).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What speaks against a steady state before the faults; `None` where it holds.
    async fn baseline_flaw(
        &self,
        step: &Step,
        live: &mut watch::Receiver<Live>,
    ) -> Result<Option<String>, Cut> {
        for fault in &step.inject {
            let Some(witness) = self.witnesses.get(&fault.component) else { continue };
            let mut observed = witness.observed();
            let seen = wait_until(&mut observed, EFFECTIVE_WITHIN, |observed| observed.up.is_some());
            match self.unless_stopped(seen).await? {
                Some(observed) if observed.up == Some(true) => {}
                Some(observed) => {
                    return Ok(Some(format!(
                        "{} is down before any fault: {}",
                        fault.component, observed.saw
                    )));
                }
                None => return Ok(Some(format!("the witness of {} sees nothing", fault.component))),
            }
        }
        let judged = step.routes.iter().filter(|route| step.scenario.expect.contains_key(&route.route));
        for route in judged {
            let before = route.before.as_deref();
            let enough = live.wait_for(|live| {
                let probes = live.probes.get(&route.route).map_or(&[][..], Vec::as_slice);
                first_bad(probes, before).is_some() || good_count(probes, before) >= BASELINE_PROBES
            });
            let settled = tokio::time::timeout(BASELINE_WITHIN, enough);
            let settled = self.unless_stopped(async { settled.await.is_ok_and(|seen| seen.is_ok()) }).await?;
            let live = live.borrow();
            let probes = live.probes.get(&route.route).map_or(&[][..], Vec::as_slice);
            let wanted = before.unwrap_or("an error");
            if let Some(bad) = first_bad(probes, before) {
                return Ok(Some(format!(
                    "{} should have been answered by {wanted}, but: {bad}",
                    route.route
                )));
            }
            if !settled {
                return Ok(Some(format!(
                    "{} had {} replies by {wanted}; {BASELINE_PROBES} are needed",
                    route.route,
                    good_count(probes, before)
                )));
            }
        }
        Ok(None)
    }

    /// Make one fault and wait until the witness sees it; false where it never did.
    async fn inject(&mut self, scenario: &str, fault: &PlannedFault) -> Result<bool, Cut> {
        let id = self.faults;
        self.faults += 1;
        self.journal.append_durably(Event::FaultIntended {
            fault: id,
            scenario: scenario.to_owned(),
            component: fault.component.clone(),
            kind: fault.kind.word().to_owned(),
            undo: plan::undo_words(&fault.kind, &fault.component),
        })?;
        self.active.push(ActiveFault { id, fault: fault.clone() });
        let called_us = self.journal.clock().now_us();
        if let Err(error) = self.target.inject(fault).await {
            self.journal.append(Event::InjectionFailed { fault: id, error });
            return Ok(false);
        }
        let accepted_us = self.journal.clock().now_us();
        self.journal.append(Event::FaultInjected { fault: id, called_us, accepted_us });
        let Some(witness) = self.witnesses.get(&fault.component) else { return Ok(false) };
        let mut observed = witness.observed();
        let down = wait_until(&mut observed, EFFECTIVE_WITHIN, |observed| {
            observed.down_since_us.is_some_and(|since| since >= called_us)
        });
        if self.unless_stopped(down).await?.is_none() {
            let waited_ms = u64::try_from(EFFECTIVE_WITHIN.as_millis()).unwrap_or(u64::MAX);
            self.journal.append(Event::FaultNotEffective { fault: id, waited_ms });
            return Ok(false);
        }
        Ok(true)
    }

    /// The judged time: only observes.
    async fn hold(&mut self, step: &Step, live: &mut watch::Receiver<Live>) -> Result<(), Cut> {
        let now_us = self.journal.clock().now_us();
        let effective = step.inject.iter().filter_map(|fault| self.witnesses.get(&fault.component));
        let from_us = effective.filter_map(|witness| witness.observed().borrow().down_since_us).max();
        let from_us = from_us.unwrap_or(now_us);
        let scenario = step.scenario.name.clone();
        self.journal.append(Event::HoldStarted { scenario: scenario.clone(), from_us });
        let judged_until_us = from_us + u64::try_from(step.hold().as_micros()).unwrap_or(u64::MAX);
        let left = self
            .journal
            .clock()
            .instant(judged_until_us)
            .saturating_duration_since(std::time::Instant::now());
        self.sleep(left).await?;
        let ended = live.wait_for(|live| live.all_ended_up_to(judged_until_us));
        // Each probe has its own timeout, so this ends; the bound is for a probe that does not.
        let ended = tokio::time::timeout(step.timeout() + Duration::from_secs(5), ended);
        let ((), _) = tokio::join!(self.control(step), self.unless_stopped(async { ended.await.is_ok() }));
        self.go_on()?;
        self.journal.append(Event::HoldEnded { scenario });
        Ok(())
    }

    /// Ask who should answer, by name, so that its own time can be told from the failover's.
    async fn control(&self, step: &Step) {
        let Some((route, alias)) = step
            .routes
            .iter()
            .filter(|route| route.fails_over)
            .find_map(|route| Some((route, route.after.clone()?)))
        else {
            return;
        };
        for index in 0..CONTROL_PROBES {
            if !self.spend(&alias, plan::PROMPT_TOKENS + u64::from(route.max_tokens)) {
                return;
            }
            let request = Request {
                id: format!("control-{}-{index}", self.journal.clock().now_us()),
                scenario: step.scenario.name.clone(),
                route: route.route.clone(),
                purpose: Purpose::Control,
                model: alias.clone(),
                streamed: index % 2 == 1,
                fresh: false,
                max_tokens: route.max_tokens,
                timeout: route.timeout.0,
                intended_us: self.journal.clock().now_us(),
            };
            let sent = async { Some(self.prober.send(&request, || ()).await) };
            match self.unless_stopped(sent).await {
                Ok(Some(record)) => self.journal.append(Event::ProbeEnded(Box::new(record))),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Take one request to `alias` from its component's budget; false where that does not allow it.
    fn spend(&self, alias: &str, tokens: u64) -> bool {
        let mut budgets = self.budgets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let component = plan::component_of(alias, &self.environment);
        component.and_then(|component| budgets.get_mut(component)).is_none_or(|budget| budget.spend(tokens))
    }

    /// Undo the faults of these components, each whatever becomes of the others, and wait until each
    /// serves again; says when the last of them was seen to.
    async fn heal(&mut self, components: &[String]) -> u64 {
        let (healing, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.active)
            .into_iter()
            .partition(|active| components.contains(&active.fault.component));
        self.active = kept;
        let mut called = Vec::new();
        for active in healing.into_iter().rev() {
            self.journal.append(Event::HealIntended { fault: active.id });
            let called_us = self.journal.clock().now_us();
            match self.target.heal(&active.fault).await {
                Ok(()) => {
                    let accepted_us = self.journal.clock().now_us();
                    let read_back = self.target.is_healed(&active.fault.component);
                    self.journal.append(Event::FaultHealed {
                        fault: active.id,
                        called_us,
                        accepted_us,
                        read_back,
                    });
                    called.push((active, called_us));
                }
                Err(error) => {
                    self.left.push(format!("{} could not be healed: {error}", active.fault.component));
                    self.journal.append(Event::HealFailed { fault: active.id, error });
                }
            }
        }
        let served =
            futures::future::join_all(called.iter().map(|(active, called)| self.confirm(active, *called)));
        let mut latest_us = self.journal.clock().now_us();
        for ((active, _), served) in called.iter().zip(served.await) {
            match served {
                Ok(served_us) => latest_us = latest_us.max(served_us),
                Err(saw) => self.left.push(format!("{} does not serve again: {saw}", active.fault.component)),
            }
        }
        for component in components {
            if let Some(witness) = self.witnesses.remove(component) {
                witness.stop().await;
            }
        }
        latest_us
    }

    /// Wait until a healed component serves a completion.
    async fn confirm(&self, active: &ActiveFault, called_us: u64) -> Result<u64, String> {
        let component = &active.fault.component;
        let alias = match &active.fault.kind {
            plan::PlannedKind::Gone(aliases) => aliases.first().map(String::as_str),
            plan::PlannedKind::Down(_) => None,
        };
        let Some(request) = self.target.completion(component, alias) else {
            return Err("it has no model to ask for".to_owned());
        };
        let limit =
            self.environment.components.get(component).map_or(EFFECTIVE_WITHIN, |known| known.ready_within.0);
        let deadline = tokio::time::Instant::now() + limit;
        let mut last_down_us = called_us;
        loop {
            let sent_us = self.journal.clock().now_us();
            match serves_completion(&self.client, &request, COMPLETION_LIMIT.min(limit)).await {
                Ok(()) => {
                    let served_us = self.journal.clock().now_us();
                    self.journal.append(Event::FaultGone { fault: active.id, last_down_us, served_us });
                    return Ok(served_us);
                }
                Err(saw) if tokio::time::Instant::now() >= deadline => {
                    self.journal.append(Event::NotServing { fault: active.id, saw: saw.clone() });
                    return Err(saw);
                }
                Err(_) => last_down_us = sent_us,
            }
            tokio::time::sleep(COMPLETION_EVERY).await;
        }
    }

    /// Watch the routes come back to their primaries, as long as their expectations allow.
    async fn await_recovery(
        &self,
        step: &Step,
        live: &mut watch::Receiver<Live>,
        healed_us: u64,
    ) -> Result<(), Cut> {
        let wanted: Vec<(String, String)> = step
            .routes
            .iter()
            .filter_map(|route| {
                let recovery = step.scenario.recover.get(&route.route)?;
                Some((route.route.clone(), recovery.served_by.clone()))
            })
            .collect();
        let limit = step.scenario.recover.values().map(|recovery| recovery.within.0).max();
        let Some(limit) = limit else { return Ok(()) };
        let steady = live.wait_for(|live| {
            wanted.iter().all(|(route, alias)| {
                is_steady(live.probes.get(route).map_or(&[][..], Vec::as_slice), healed_us, alias)
            })
        });
        // A moment longer than the limit, so that a miss is seen as one.
        let steady = tokio::time::timeout(limit + Duration::from_secs(1), steady);
        self.unless_stopped(async { steady.await.is_ok() }).await?;
        Ok(())
    }

    fn start_traffic(&self, step: &Step) -> Result<Traffic, Cut> {
        let start_us = self.journal.clock().now_us() + HEAD_START_US;
        // Routes are offset against each other, so that their probes do not start at the same instant.
        let offset = |place: usize| start_us + 17_000 * place as u64;
        Traffic::start(TrafficOptions {
            scenario: step.scenario.name.clone(),
            routes: step.routes.clone(),
            prober: self.prober.clone(),
            journal: Arc::clone(&self.journal),
            budgets: Arc::clone(&self.budgets),
            touches: step.routes.iter().map(|route| self.touches(&route.route)).collect(),
            first_us: (0..step.routes.len()).map(offset).collect(),
        })
        .map_err(Cut::System)
    }

    /// Components that a probe of this route may reach.
    fn touches(&self, route: &str) -> Vec<String> {
        let Some(chain) = self.environment.routes.get(route) else { return Vec::new() };
        let serves = |aliases: &Vec<String>| {
            aliases.iter().any(|alias| *alias == chain.model || chain.fallbacks.contains(alias))
        };
        let touched = self.environment.components.iter().filter(|(_, component)| serves(&component.aliases));
        touched.map(|(name, _)| name.clone()).collect()
    }

    fn witness(&mut self, fault: &PlannedFault) {
        if let Some(target) = self.target.witness(fault) {
            let witness =
                Witness::start(&fault.component, target, self.client.clone(), Arc::clone(&self.journal));
            self.witnesses.insert(fault.component.clone(), witness);
        }
    }

    fn go_on(&self) -> Result<(), Cut> {
        if let Some(error) = self.journal.error() {
            return Err(Cut::Journal(error));
        }
        if self.stop.token().is_cancelled() { Err(Cut::Stopped) } else { Ok(()) }
    }

    async fn sleep(&self, duration: Duration) -> Result<(), Cut> {
        self.unless_stopped(tokio::time::sleep(duration)).await
    }

    async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, Cut> {
        tokio::select! {
            biased;
            () = self.stop.token().cancelled() => Err(Cut::Stopped),
            value = future => Ok(value),
        }
    }
}

fn is_good(ended: &Result<String, String>, wanted: Option<&str>) -> bool {
    match (ended, wanted) {
        (Ok(alias), Some(wanted)) => alias == wanted,
        (Err(class), None) => crate::analysis::is_honest_error(class),
        (Ok(_), None) | (Err(_), Some(_)) => false,
    }
}

fn first_bad(probes: &[LiveProbe], wanted: Option<&str>) -> Option<String> {
    let mut ended = probes.iter().filter_map(|probe| probe.ended.as_ref());
    ended.find(|ended| !is_good(ended, wanted)).map(|ended| match ended {
        Ok(alias) => format!("answered by {alias}"),
        Err(class) => class.clone(),
    })
}

fn good_count(probes: &[LiveProbe], wanted: Option<&str>) -> usize {
    let ended = probes.iter().filter_map(|probe| probe.ended.as_ref());
    ended.filter(|ended| is_good(ended, wanted)).count()
}

/// Whether the newest ended probes since heal are a steady run of `alias`: long enough, without a gap.
fn is_steady(probes: &[LiveProbe], healed_us: u64, alias: &str) -> bool {
    let newest = probes.iter().rposition(|probe| probe.ended.is_some());
    let Some(newest) = newest else { return false };
    let run = probes[..=newest].iter().rev().take_while(|probe| {
        probe.intended_us >= healed_us
            && probe.ended.as_ref().is_some_and(|ended| is_good(ended, Some(alias)))
    });
    let starts: Vec<u64> = run.map(|probe| probe.intended_us).collect();
    let (Some(last), Some(first)) = (starts.first(), starts.last()) else { return false };
    starts.len() as u64 >= plan::STEADY_PROBES && (last - first) as f64 / 1000.0 >= plan::STEADY_MS
}
