//! The conductor: takes the stack through the plan, mode by mode, and writes down what happens.
//!
//! It decides nothing about pass or fail. Each mutation is journaled (on disk) before it is made, and
//! is undone on every way out: [`Conductor::restore`] knows all that was ever intended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use super::Watcher;
use super::stop::Stop;
use super::target::{ActiveFault, Target};
use crate::environment::Environment;
use crate::journal::{Event, Journal, JournalError, Purpose};
use crate::plan::{self, Budget, Plan, PlannedFault, Step};
use crate::probe::{Live, Prober, Request, Traffic, TrafficOptions};
use crate::witness::Witness;

/// Control probes of each mode.
pub(super) const CONTROL_PROBES: u32 = 3;
/// First probe this long after the traffic starts, so that no first probe is late.
const HEAD_START_US: u64 = 50_000;

/// No fault is held back longer than this.
pub(super) const PHASE_MAX: Duration = Duration::from_secs(2);

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

/// What a run acts and looks with.
pub(super) struct Means {
    /// Takes components down and up.
    pub(super) target: Target,
    /// Sends probes.
    pub(super) prober: Prober,
    /// What is left to ask of each component.
    pub(super) budgets: BTreeMap<String, Budget>,
    /// Is told what is waited for.
    pub(super) watcher: Arc<dyn Watcher>,
}

/// Everything a run needs.
pub(super) struct Conductor {
    pub(super) journal: Arc<Journal>,
    pub(super) plan: Plan,
    pub(super) environment: Environment,
    pub(super) target: Target,
    pub(super) prober: Prober,
    pub(super) stop: Stop,
    pub(super) watcher: Arc<dyn Watcher>,
    budgets: Arc<Mutex<BTreeMap<String, Budget>>>,
    pub(super) witnesses: BTreeMap<String, Witness>,
    pub(super) active: Vec<ActiveFault>,
    /// Those that were made and not proven: what inherits them says nothing either.
    unproven: BTreeSet<u32>,
    pub(super) faults: u32,
    journaled_calls: BTreeSet<u64>,
    /// From when old connections were gone, too.
    pub(super) effective_us: u64,
    pub(super) chance: ChaCha8Rng,
    /// Faults whose undo failed when it was tried last.
    pub(super) failed: BTreeMap<u32, String>,
    /// Faults that are undone and whose component did not serve again in its time, with what was seen last.
    pub(super) unserved: BTreeMap<u32, (ActiveFault, String)>,
    /// Components that somebody else has taken down once they were undone.
    pub(super) taken_down: BTreeSet<String>,
    pub(super) left: Vec<String>,
    /// The run has been cut short, and all was undone then that could be.
    is_cut: bool,
}

impl Conductor {
    pub(super) fn new(
        journal: Arc<Journal>,
        plan: Plan,
        environment: Environment,
        stop: Stop,
        means: Means,
    ) -> Self {
        let Means { target, prober, budgets, watcher } = means;
        let budgets = Arc::new(Mutex::new(budgets));
        let chance = ChaCha8Rng::seed_from_u64(plan.seed);
        Self {
            journal,
            plan,
            environment,
            target,
            prober,
            stop,
            watcher,
            budgets,
            witnesses: BTreeMap::new(),
            active: Vec::new(),
            unproven: BTreeSet::new(),
            faults: 0,
            journaled_calls: BTreeSet::new(),
            effective_us: 0,
            chance,
            failed: BTreeMap::new(),
            unserved: BTreeMap::new(),
            taken_down: BTreeSet::new(),
            left: Vec::new(),
            is_cut: false,
        }
    }

    /// All modes, in order.
    pub(super) async fn run(&mut self) -> Result<(), Cut> {
        for step in self.plan.steps.clone() {
            Box::pin(self.step(&step)).await?;
            self.journal_calls(false);
        }
        Ok(())
    }

    /// Undo everything that is not undone, whatever happened before; true when all of it is seen undone.
    pub(super) async fn restore(&mut self) -> (bool, Vec<String>) {
        // What was tried as long as it may be a moment ago is read back now, and tried once more where it is not undone: a
        // third round would not fit into the grace of a Job, and whoever comes next undoes it.
        let untried = self.active.iter().filter(|_| !self.is_cut);
        let components = untried.map(|active| active.fault.component.clone()).collect::<Vec<_>>();
        self.heal(&components).await;
        for (_, witness) in std::mem::take(&mut self.witnesses) {
            witness.stop().await;
        }
        let settled = self.settle().await;
        let (target, components) = (&self.target, self.environment.components.keys());
        let healed =
            components.map(|component| async move { (component, target.is_restored(component).await) });
        for (component, healed) in join_all(healed).await {
            match healed {
                // Whoever undid it: it is as before.
                Ok(true) => {
                    let ours = self.active.iter().filter(|active| active.fault.component == *component);
                    let ours: Vec<u32> = ours.map(|active| active.id).collect();
                    self.failed.retain(|fault, _| !ours.contains(fault));
                }
                Ok(false) => {
                    let commands = self.target.undo_commands(component);
                    self.left.push(format!("{component} is not as it was before the run{commands}"));
                }
                Err(error) => {
                    let commands = self.target.undo_commands(component);
                    self.left.push(format!(
                        "it cannot be told whether {component} is as it was before the run: {error}{commands}"
                    ));
                }
            }
        }
        self.left.extend(std::mem::take(&mut self.failed).into_values());
        // What has been read back since is for good.
        let unsettled = settled.into_iter().filter(|(change, _)| !self.target.is_settled(*change));
        self.left.extend(unsettled.map(|(_, words)| words));
        self.look_once_more().await;
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
        let phase = self.phase(step);
        self.journal.append(Event::ScenarioStarted {
            scenario: scenario.clone(),
            injection: step.injection,
            phase_us: phase.map(|phase| u64::try_from(phase.as_micros()).unwrap_or(u64::MAX)),
        });
        // Faults of the mode before may be held: whoever cuts the run short has them undone first.
        let cut = self.stop.token().clone();
        if cut.run_until_cancelled(self.target.mode_begins(&scenario)).await.is_none() {
            return Err(Cut::Stopped);
        }
        for component in &step.inherited {
            if let Some(active) = self.active.iter().find(|active| active.fault.component == *component) {
                self.journal.append(Event::FaultInherited { scenario: scenario.clone(), fault: active.id });
                if self.unproven.contains(&active.id) {
                    let why = format!(
                        "{component} was taken down for an earlier mode, which could not show that this reached the gateway on every way"
                    );
                    self.journal.append(Event::Voided { scenario: scenario.clone(), why });
                }
            }
        }
        for fault in &step.inject {
            self.witness(fault);
        }
        let traffic = self.start_traffic(step)?;
        let outcome = self.mode(step, phase.unwrap_or_default(), &traffic).await;
        if outcome.is_err() {
            self.target.forget_up();
            // Undo first; what is still open in the traffic can wait those milliseconds.
            let components =
                self.active.iter().map(|active| active.fault.component.clone()).collect::<Vec<_>>();
            self.heal(&components).await;
            self.is_cut = true;
        }
        traffic.finish(self.stop.token()).await;
        self.target.mode_ends(self.stop.token()).await;
        outcome?;
        // Without traffic, so that nobody pays for it; the next mode begins with what is known.
        // What is left is undone once more at the end, and a run that is cut short waits for the rest there: what is still
        // held comes first.
        for text in self.unless_stopped(self.settle()).await.unwrap_or_default().into_values() {
            self.journal.append(Event::Found { text });
        }
        self.journal.append(Event::ScenarioEnded { scenario });
        self.go_on()
    }

    /// How long the first fault of a mode is held back: a random part of the probes' cadence, since otherwise every
    /// injection would fall on the same side of a probe. Drawn in the order of the plan, so a seed always gives the same.
    fn phase(&mut self, step: &Step) -> Option<Duration> {
        if step.inject.is_empty() {
            return None;
        }
        let interval = step.routes.iter().map(|route| route.rate.interval()).max().unwrap_or_default();
        Some(interval.mul_f64(self.chance.random_range(0.0..1.0)).min(PHASE_MAX))
    }

    /// One mode from its baseline to its recovery, under traffic.
    async fn mode(&mut self, step: &Step, phase: Duration, traffic: &Traffic) -> Result<(), Cut> {
        let mut live = traffic.live();
        if step.inject.is_empty() {
            self.keep_up(step);
        }
        if step.inject.is_empty() || self.enter(step, phase, traffic, &mut live).await? {
            self.hold(step, &mut live).await?;
            // Whoever comes back from here on is down until it serves.
            self.target.forget_up();
        } else {
            self.target.forget_up();
            let made = |active: &&ActiveFault| step.inject.contains(&active.fault);
            self.unproven.extend(self.active.iter().filter(made).map(|active| active.id));
        }
        // Where nothing was made there is nothing to come back from.
        if self.active.iter().any(|active| step.heal.contains(&active.fault.component)) {
            let healed_us = self.heal(&step.heal).await;
            self.await_recovery(step, &mut live, healed_us).await?;
        }
        Ok(())
    }

    /// What no fault of this mode hits has to stay up from now on.
    pub(super) fn keep_up(&self, step: &Step) {
        let components: Vec<String> = step.keeps_up(&self.environment).cloned().collect();
        self.target.keep_up(&components);
    }

    /// The judged time: only observes.
    async fn hold(&mut self, step: &Step, live: &mut watch::Receiver<Live>) -> Result<(), Cut> {
        let now_us = self.journal.clock().now_us();
        let effective = step.inject.iter().filter_map(|fault| self.witnesses.get(&fault.component));
        let from_us = effective.filter_map(|witness| witness.observed().borrow().down_since_us).max();
        let from_us = from_us.map_or(now_us, |from_us| from_us.max(self.effective_us));
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
        // Each fault is read back once more: what watches can break, and what went on unseen voids the mode. A run that is
        // cut short does not wait for that: the mode is not measured to its end then.
        for component in step.inherited.iter().chain(step.inject.iter().map(|fault| &fault.component)) {
            for what in self.unless_stopped(self.target.what_has_changed(component)).await? {
                let seen_us = self.journal.clock().now_us();
                self.journal.append(Event::Drifted { seen_us, what });
            }
        }
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
            let sent = async { Some(self.prober.send(&request).await) };
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

    fn start_traffic(&self, step: &Step) -> Result<Traffic, Cut> {
        let start_us = self.journal.clock().now_us() + HEAD_START_US;
        // Routes are offset against each other, so that their probes do not start at the same instant.
        let offset = |place: usize| start_us + 17_000 * place as u64;
        Traffic::start(TrafficOptions {
            scenario: step.scenario.name.clone(),
            injection: step.injection,
            routes: step.routes.clone(),
            prober: self.prober.clone(),
            journal: Arc::clone(&self.journal),
            budgets: Arc::clone(&self.budgets),
            touches: step.routes.iter().map(|route| self.touches(&route.route)).collect(),
            prompt_tokens: step.routes.iter().map(|route| self.prompt_tokens(&route.route)).collect(),
            first_us: (0..step.routes.len()).map(offset).collect(),
            always_kept: false,
        })
        .map_err(Cut::System)
    }

    fn prompt_tokens(&self, route: &str) -> u64 {
        let via = self.environment.routes.get(route).map(|own| own.via).unwrap_or_default();
        plan::prompt_tokens(via)
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
        if let Some(witness) = self.target.witness(fault, &self.journal) {
            self.witnesses.insert(fault.component.clone(), witness);
        }
    }

    pub(super) fn go_on(&self) -> Result<(), Cut> {
        if let Some(error) = self.journal.error() {
            return Err(Cut::Journal(error));
        }
        if self.stop.token().is_cancelled() { Err(Cut::Stopped) } else { Ok(()) }
    }

    pub(super) async fn sleep(&self, duration: Duration) -> Result<(), Cut> {
        self.unless_stopped(tokio::time::sleep(duration)).await
    }

    pub(super) async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, Cut> {
        tokio::select! {
            biased;
            () = self.stop.token().cancelled() => Err(Cut::Stopped),
            value = future => Ok(value),
        }
    }
}
