//! Ceilings: what one run may ask of a component, so that a CPU model or a paid cloud is not overrun.
//!
//! They count what the harness sends. A gateway that retries multiplies it; the harness cannot see that
//! beforehand and says so in the docs.

use std::collections::{BTreeMap, BTreeSet};

use crate::environment::{Ceilings, Environment, Via};
use crate::units::Rate;

use super::{Plan, PlannedRoute, STEADY_MS, STEADY_PROBES, Step, state::component_of};

/// Tokens of a probe's prompt, rounded up; the completion is bounded by `max_tokens`.
pub const PROMPT_TOKENS: u64 = 48;

/// Tokens of the prompt that openclaw makes of a turn, rounded up: about 60 kB.
const TURN_TOKENS: u64 = 16_000;

/// Tokens of what is asked on a route.
#[must_use]
pub fn prompt_tokens(via: Via) -> u64 {
    if via.is_gateway() { PROMPT_TOKENS } else { TURN_TOKENS }
}

/// How long coming back usually takes, in seconds: a cooldown and a steady run.
const USUAL_RECOVERY_S: f64 = 15.0;

/// Lower the plan's rates until the worst case stays within the environment's ceilings, and note it.
pub(super) fn lower_rates(plan: &mut Plan, environment: &Environment) {
    for (name, component) in &environment.components {
        if let Some(ceiling) = component.ceilings.rate {
            lower_rate_of(plan, environment, name, ceiling);
        }
        let factor = worst_case_factor(plan, environment, name, &component.ceilings);
        if factor < 1.0 {
            for step in &mut plan.steps {
                for route in step.routes.iter_mut().filter(|route| asks(route, name, environment)) {
                    let lowered = Rate::new(route.rate.per_second() * factor).unwrap_or(route.rate);
                    set_rate(&mut plan.notes, &step.scenario.name, route, lowered, name);
                }
            }
        }
    }
    for step in &plan.steps {
        note_resolution(&mut plan.notes, step);
    }
    // Of injections that are all alike once.
    let mut told = BTreeSet::new();
    plan.notes.retain(|note| told.insert(note.clone()));
}

fn lower_rate_of(plan: &mut Plan, environment: &Environment, component: &str, ceiling: Rate) {
    for step in &mut plan.steps {
        for route in &mut step.routes {
            let served = [route.before.as_ref(), route.after.as_ref()];
            let hits =
                served.into_iter().flatten().any(|alias| component_of(alias, environment) == Some(component));
            if hits && route.rate.per_second() > ceiling.per_second() {
                set_rate(&mut plan.notes, &step.scenario.name, route, ceiling, component);
            }
        }
    }
}

fn set_rate(notes: &mut Vec<String>, scenario: &str, route: &mut PlannedRoute, rate: Rate, component: &str) {
    notes.push(format!(
        "{scenario}: {} is sent at {rate} instead of {}, by the ceilings of {component}: one probe every {:.0} ms",
        route.route,
        route.rate,
        rate.interval().as_secs_f64() * 1000.0
    ));
    route.rate = rate;
}

/// A mode with too few probes to establish a steady run is named before it is run.
fn note_resolution(notes: &mut Vec<String>, step: &Step) {
    for route in step.routes.iter().filter(|route| step.scenario.expect.contains_key(&route.route)) {
        let probes = route.rate.per_second() * route.hold.0.as_secs_f64();
        if probes < STEADY_PROBES as f64 || (route.fails_over && route.hold.as_ms() < STEADY_MS) {
            notes.push(format!(
                "{}: {} gets about {probes:.0} judged probes in {}; {STEADY_PROBES} probes over at least {:.0} s are needed, so this can only be inconclusive",
                step.scenario.name, route.route, route.hold, STEADY_MS / 1000.0
            ));
        }
    }
}

/// Whether a route's probes can reach a component at all.
fn asks(route: &PlannedRoute, component: &str, environment: &Environment) -> bool {
    environment.routes.get(&route.route).is_some_and(|chain| {
        std::iter::once(&chain.model)
            .chain(&chain.fallbacks)
            .any(|alias| component_of(alias, environment) == Some(component))
    })
}

/// By how much rates must go down so that a component's totals hold; 1 where they do.
fn worst_case_factor(plan: &Plan, environment: &Environment, component: &str, ceilings: &Ceilings) -> f64 {
    let (mut requests, mut tokens) = (0.0, 0.0);
    for step in &plan.steps {
        for route in step.routes.iter().filter(|route| asks(route, component, environment)) {
            let probes = planned_probes(plan, step, route);
            requests += probes;
            let via = environment.routes.get(&route.route).map(|own| own.via).unwrap_or_default();
            tokens += probes * (prompt_tokens(via) + u64::from(route.max_tokens)) as f64;
        }
    }
    let limit = Budget::of(ceilings);
    let share = |limit: Option<u64>, wanted: f64| match limit {
        Some(limit) if wanted > limit as f64 => limit as f64 / wanted,
        _ => 1.0,
    };
    share(limit.requests, requests).min(share(limit.tokens, tokens))
}

/// Lead, judged time, the wait for the last judged probe, and recovery where a heal follows. The usual
/// case, not the longest: the run-time budget stops what exceeds it.
fn planned_probes(plan: &Plan, step: &Step, route: &PlannedRoute) -> f64 {
    let recovery = if step.heal.is_empty() { 0.0 } else { USUAL_RECOVERY_S };
    let seconds = plan.lead.0.as_secs_f64() + step.hold().as_secs_f64() + 5.0 + recovery;
    (seconds * route.rate.per_second()).ceil()
}

/// What is left to ask of one component in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    requests: Option<u64>,
    tokens: Option<u64>,
}

impl Budget {
    /// The full budget of a run.
    #[must_use]
    pub fn of(ceilings: &Ceilings) -> Self {
        let by_cost = match (ceilings.cost_usd, ceilings.usd_per_million_tokens) {
            (Some(cost), Some(price)) if price > 0.0 => Some((cost / price * 1e6) as u64),
            _ => None,
        };
        let tokens = match (ceilings.tokens, by_cost) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { requests: ceilings.requests, tokens }
    }

    /// The budgets of all components of an environment.
    #[must_use]
    pub fn all(environment: &Environment) -> BTreeMap<String, Self> {
        environment
            .components
            .iter()
            .map(|(name, component)| (name.clone(), Self::of(&component.ceilings)))
            .collect()
    }

    /// Whether one more request with this many tokens fits.
    #[must_use]
    pub fn allows(&self, tokens: u64) -> bool {
        self.requests.is_none_or(|left| left >= 1) && self.tokens.is_none_or(|left| left >= tokens)
    }

    /// Take one request if it fits; whether it did.
    pub fn spend(&mut self, tokens: u64) -> bool {
        let fits = self.allows(tokens);
        if fits {
            self.take(tokens);
        }
        fits
    }

    /// Take one request.
    pub fn take(&mut self, tokens: u64) {
        self.requests = self.requests.map(|left| left.saturating_sub(1));
        self.tokens = self.tokens.map(|left| left.saturating_sub(tokens));
    }
}
