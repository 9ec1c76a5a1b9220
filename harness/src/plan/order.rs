//! The order of modes: slow components stop as rarely as possible, while every failover starts from a
//! primary that serves.

use std::collections::BTreeMap;

use crate::environment::Environment;
use crate::scenario::{Answer, Scenario};

use super::state::{State, component_of};

/// Up to this many scenarios every order is looked at (by dynamic programming over subsets).
const EXHAUSTIVE_MAX: usize = 12;

/// What stopping components costs, in milliseconds of readiness; ties are broken by the order of ranks.
type Cost = (u64, Vec<usize>);

/// Indices into `scenarios` in the order in which they should run.
///
/// A scenario set larger than [`EXHAUSTIVE_MAX`] runs by rank: fewest and cheapest faults first.
pub(super) fn best(scenarios: &[Scenario], environment: &Environment) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..scenarios.len()).collect();
    ranked.sort_by_key(|&index| {
        let scenario = &scenarios[index];
        (stop_cost(scenario.components.keys(), environment), scenario.components.len(), scenario.name.clone())
    });
    if scenarios.len() > EXHAUSTIVE_MAX {
        return ranked;
    }
    let edge = |from: Option<usize>, to: usize| {
        let to = &scenarios[ranked[to]];
        let kept = from.map_or_else(State::all_up, |from| {
            let from = &scenarios[ranked[from]];
            State::of(from).without(&heals_after(from, Some(to), environment))
        });
        stop_cost(to.components.keys().filter(|name| !kept.is_faulted(name)), environment)
    };
    cheapest_path(ranked.len(), &edge).into_iter().map(|rank| ranked[rank]).collect()
}

/// Held-Karp over subsets; costs compare first, then the sequence of ranks, so the result is unique.
fn cheapest_path(count: usize, edge: &dyn Fn(Option<usize>, usize) -> u64) -> Vec<usize> {
    let mut paths: BTreeMap<(usize, usize), Cost> = BTreeMap::new();
    for node in 0..count {
        paths.insert((1 << node, node), (edge(None, node), vec![node]));
    }
    for set in 1..(1_usize << count) {
        for last in 0..count {
            let Some((cost, path)) = paths.get(&(set, last)).cloned() else { continue };
            for next in (0..count).filter(|next| set & (1 << next) == 0) {
                let mut longer = path.clone();
                longer.push(next);
                let candidate = (cost.saturating_add(edge(Some(last), next)), longer);
                let slot = paths.entry((set | 1 << next, next)).or_insert_with(|| candidate.clone());
                if candidate < *slot {
                    *slot = candidate;
                }
            }
        }
    }
    let full = (1_usize << count) - 1;
    let ends = (0..count).filter_map(|last| paths.get(&(full, last)));
    ends.min().map(|(_, path)| path.clone()).unwrap_or_default()
}

/// A stop costs what the restart takes.
fn stop_cost<'a>(components: impl Iterator<Item = &'a String>, environment: &Environment) -> u64 {
    components
        .filter_map(|name| environment.components.get(name))
        .map(|component| u64::try_from(component.ready_within.0.as_millis()).unwrap_or(u64::MAX).max(1))
        .fold(0, u64::saturating_add)
}

/// Which components are healed after a scenario's mode, given the one that follows. What is injected more than once begins
/// and ends with all up, each time.
pub(super) fn heals_after(
    scenario: &Scenario,
    next: Option<&Scenario>,
    environment: &Environment,
) -> Vec<String> {
    let next = next.filter(|next| !scenario.is_repeated() && !next.is_repeated());
    heals_between(&State::of(scenario), next, environment)
}

/// Which components are healed after a mode, given the mode that follows (all, if none does).
///
/// Besides what the next mode needs up, the primary's component is healed where the next mode's
/// failover would otherwise not start from a primary that serves.
fn heals_between(state: &State, next: Option<&Scenario>, environment: &Environment) -> Vec<String> {
    let Some(next) = next else {
        return state.faulted().map(|(name, _)| name.clone()).collect();
    };
    let wanted = State::of(next);
    let differs =
        |name: &str, how| wanted.faulted().find(|(other, _)| *other == name).map(|(_, how)| how) != Some(how);
    let mut healed: Vec<String> =
        state.faulted().filter(|(name, how)| differs(name, how)).map(|(name, _)| name.clone()).collect();
    for traffic in &next.traffic {
        let Some(route) = environment.routes.get(&traffic.route) else { continue };
        let Some(expectation) = next.expect.get(&traffic.route) else { continue };
        let kept = state.without(&healed);
        let starts_from_primary = kept.serves(&route.model, environment);
        let needs_primary = match &expectation.answer {
            Answer::ServedBy(alias) => *alias != route.model,
            // An error may follow from any state that still changes; with nothing left to inject it
            // would only be the old state, looked at twice.
            Answer::Error => next.components.keys().all(|name| kept.is_faulted(name)),
        };
        if needs_primary && !starts_from_primary {
            let primary = component_of(&route.model, environment).map(str::to_owned);
            healed.extend(primary.filter(|primary| kept.is_faulted(primary)));
        }
    }
    healed.sort();
    healed.dedup();
    healed
}
