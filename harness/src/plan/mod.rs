//! The plan: the order of modes, what each transition changes and undoes, who should answer before and
//! after, and at what rate probes are sent. Pure: scenarios, environment and a seed in, plan out.

mod budget;
mod order;
mod state;

use serde::{Deserialize, Serialize};

use crate::environment::{Component, Environment, FaultKind, Mechanism};
use crate::scenario::{Answer, ComponentState, Forms, Recovery, Scenario};
use crate::units::{Period, Rate};

pub use budget::{Budget, PROMPT_TOKENS, prompt_tokens};
pub use state::State;
pub(crate) use state::component_of;

/// Probes that a judged window must hold before anything is said about it; also the least length of a
/// steady run (measurement: design section 7).
pub const STEADY_PROBES: u64 = 10;
/// The least duration of a steady run.
pub const STEADY_MS: f64 = 5000.0;
/// Within this a judged route must be back after a heal where its scenario states nothing.
pub const RECOVERY_WITHIN: Period = Period(std::time::Duration::from_secs(60));

/// What a run will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Every draw of chance in the run comes from it.
    pub seed: u64,
    /// Traffic before each injection, so that a baseline exists.
    pub lead: Period,
    /// The modes, in order.
    pub steps: Vec<Step>,
    /// What a person should know before: lowered rates, what cannot be established.
    pub notes: Vec<String>,
}

/// One mode in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The scenario as written.
    pub scenario: Scenario,
    /// Which of its injections this is, from 1; `None` where it has but one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection: Option<u32>,
    /// Components whose fault is carried over from the mode before.
    pub inherited: Vec<String>,
    /// Faults to inject, in order: what serves the judged route goes last.
    pub inject: Vec<PlannedFault>,
    /// Components to heal when the mode is over.
    pub heal: Vec<String>,
    /// The traffic, one entry a route.
    pub routes: Vec<PlannedRoute>,
}

/// A fault to inject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFault {
    /// Component that it hits.
    pub component: String,
    /// How.
    pub kind: PlannedKind,
}

/// What is done to a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlannedKind {
    /// All of it, in the environment's way.
    Down(FaultKind),
    /// Only these aliases answer 404.
    Gone(Vec<String>),
}

impl PlannedKind {
    /// The word used in journal and reports.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Down(kind) => kind.word(),
            Self::Gone(_) => "gone",
        }
    }
}

/// The traffic of one route in one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRoute {
    /// Route name.
    pub route: String,
    /// Alias asked for.
    pub model: String,
    /// Rate after the ceilings.
    pub rate: Rate,
    /// How long it is judged.
    pub hold: Period,
    /// Which kinds of request.
    pub stream: Forms,
    /// `max_tokens` of each probe.
    pub max_tokens: u32,
    /// Client timeout of each probe.
    pub timeout: Period,
    /// Who should answer before the fault; `None` is an error.
    pub before: Option<String>,
    /// Who should answer in the mode, by the chain and the components' states; `None` is an error.
    pub after: Option<String>,
    /// Whether the mode's own faults make another one answer than before (or an error).
    pub fails_over: bool,
    /// What must be true after the mode's heal: as the scenario states, or else that the route's own model
    /// serves again. `None` where no heal follows, or one after which that cannot be.
    pub recover: Option<Recovery>,
}

impl Step {
    /// How long the mode is judged: the longest of its routes.
    #[must_use]
    pub fn hold(&self) -> std::time::Duration {
        self.routes.iter().map(|route| route.hold.0).max().unwrap_or_default()
    }

    /// Components that may answer on the routes of this mode and that none of its faults hits.
    pub fn keeps_up<'a>(&'a self, environment: &'a Environment) -> impl Iterator<Item = &'a String> {
        let is_hit = |name: &String| {
            self.inherited.contains(name) || self.inject.iter().any(|fault| fault.component == *name)
        };
        let may_answer = |component: &Component| {
            let chains = self.routes.iter().filter_map(|route| environment.routes.get(&route.route));
            let mut aliases = chains.flat_map(|route| std::iter::once(&route.model).chain(&route.fallbacks));
            aliases.any(|alias| component.aliases.contains(alias))
        };
        let kept = environment.components.iter().filter(move |(name, own)| !is_hit(name) && may_answer(own));
        kept.map(|(name, _)| name)
    }

    /// The longest client timeout of its routes.
    #[must_use]
    pub fn timeout(&self) -> std::time::Duration {
        self.routes.iter().map(|route| route.timeout.0).max().unwrap_or_default()
    }
}

/// Resolve scenarios into a plan.
#[must_use]
pub fn resolve(scenarios: &[Scenario], environment: &Environment, lead: Period, seed: u64) -> Plan {
    let mut steps = Vec::new();
    let mut before = State::all_up();
    let order = order::best(scenarios, environment);
    for (place, &index) in order.iter().enumerate() {
        let scenario = &scenarios[index];
        let wanted = State::of(scenario);
        let mut inject: Vec<PlannedFault> = scenario
            .components
            .iter()
            .filter(|(name, _)| !before.is_faulted(name))
            .map(|(name, state)| planned_fault(name, state, environment))
            .collect();
        // Failover counts from the effect of the fault that moves the route, so that one comes last.
        let serving = serving_component(scenario, environment, &before);
        inject.sort_by_key(|fault| Some(&fault.component) == serving.as_ref());
        let inherited =
            scenario.components.keys().filter(|name| before.is_faulted(name)).cloned().collect::<Vec<_>>();
        let next = order.get(place + 1).map(|&next| &scenarios[next]);
        let heal = order::heals_after(scenario, next, environment);
        let change = Change { before: &before, wanted: &wanted, injects: !inject.is_empty(), heal: &heal };
        let routes = planned_routes(scenario, environment, &change);
        before = wanted.without(&heal);
        let step = Step { scenario: scenario.clone(), injection: None, inherited, inject, heal, routes };
        if scenario.is_repeated() {
            // Each begins and ends with all up, so they are all alike.
            let numbered = |number| Step { injection: Some(number), ..step.clone() };
            steps.extend((1..=scenario.injections).map(numbered));
        } else {
            steps.push(step);
        }
    }
    let mut plan = Plan { seed, lead, steps, notes: Vec::new() };
    budget::lower_rates(&mut plan, environment);
    plan
}

fn planned_fault(name: &str, state: &ComponentState, environment: &Environment) -> PlannedFault {
    let kind = match state {
        ComponentState::Down => PlannedKind::Down(
            environment.components.get(name).map_or(FaultKind::Nothing, |component| component.down),
        ),
        ComponentState::Gone(aliases) => PlannedKind::Gone(aliases.clone()),
    };
    PlannedFault { component: name.to_owned(), kind }
}

/// The component that serves the first judged route that the mode's own faults take away from it.
fn serving_component(scenario: &Scenario, environment: &Environment, before: &State) -> Option<String> {
    scenario
        .traffic
        .iter()
        .filter(|traffic| scenario.expect.contains_key(&traffic.route))
        .filter_map(|traffic| environment.routes.get(&traffic.route))
        .filter_map(|route| before.server(route, environment))
        .filter(|alias| !State::of(scenario).serves(alias, environment))
        .find_map(|alias| state::component_of(&alias, environment).map(str::to_owned))
}

/// What a mode changes.
struct Change<'a> {
    before: &'a State,
    wanted: &'a State,
    injects: bool,
    heal: &'a [String],
}

impl Change<'_> {
    fn recovery(
        &self,
        scenario: &Scenario,
        name: &str,
        model: &str,
        environment: &Environment,
    ) -> Option<Recovery> {
        if self.heal.is_empty() || !scenario.expect.contains_key(name) {
            return None;
        }
        let usual = || Recovery { served_by: model.to_owned(), within: RECOVERY_WITHIN };
        let recovery = scenario.recover.get(name).cloned().unwrap_or_else(usual);
        self.wanted.without(self.heal).serves(&recovery.served_by, environment).then_some(recovery)
    }
}

fn planned_routes(scenario: &Scenario, environment: &Environment, change: &Change) -> Vec<PlannedRoute> {
    let mut routes = Vec::new();
    for traffic in &scenario.traffic {
        let Some(route) = environment.routes.get(&traffic.route) else { continue };
        let judged_as = scenario.expect.get(&traffic.route).map(|expectation| &expectation.answer);
        // Where the expected alias is the route's own model nothing fails over, whatever goes down.
        let own = matches!(judged_as, Some(Answer::ServedBy(alias)) if *alias == route.model);
        routes.push(PlannedRoute {
            route: traffic.route.clone(),
            model: route.model.clone(),
            rate: traffic.rate,
            hold: traffic.hold,
            stream: traffic.stream,
            max_tokens: traffic.max_tokens,
            timeout: traffic.timeout,
            before: change.before.server(route, environment),
            after: change.wanted.server(route, environment),
            fails_over: change.injects && judged_as.is_some() && !own,
            recover: change.recovery(scenario, &traffic.route, &route.model, environment),
        });
    }
    routes
}

/// What a mutation is undone by, in words.
#[must_use]
pub fn undo_words(kind: &PlannedKind, component: &str) -> String {
    match kind {
        PlannedKind::Down(FaultKind::ScaleToZero) => {
            format!("scale {component} back to the count that it had")
        }
        PlannedKind::Down(FaultKind::Isolate) => format!("let the pods of {component} be reached again"),
        PlannedKind::Down(FaultKind::BlackholeBy(Mechanism::EgressProxy)) => {
            format!("set the proxy before {component} to pass")
        }
        PlannedKind::Down(FaultKind::BlackholeBy(_)) => {
            format!("let the gateway's pods reach {component} again")
        }
        PlannedKind::Down(_) => format!("set the gate before {component} to pass"),
        PlannedKind::Gone(aliases) => format!("let {component} know {} again", aliases.join(", ")),
    }
}

/// How long the plan demands at least: leads and judged times, without waiting for recovery.
#[must_use]
pub fn demanded(plan: &Plan) -> std::time::Duration {
    plan.steps.iter().map(|step| plan.lead.0 + step.hold()).sum()
}
