//! Which components are up, and so who serves a route.

use std::collections::BTreeMap;

use crate::environment::{Environment, Route};
use crate::scenario::{ComponentState, Scenario};

/// The state of all components; one that is not named is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    faulted: BTreeMap<String, ComponentState>,
}

impl State {
    /// Everything is up.
    #[must_use]
    pub fn all_up() -> Self {
        Self::default()
    }

    /// As a scenario wants it.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        Self { faulted: scenario.components.clone() }
    }

    /// With some components healed.
    #[must_use]
    pub fn without(&self, healed: &[String]) -> Self {
        let faulted = self.faulted.iter().filter(|(name, _)| !healed.contains(name));
        Self { faulted: faulted.map(|(name, state)| (name.clone(), state.clone())).collect() }
    }

    /// Whether something is wrong with this component.
    #[must_use]
    pub fn is_faulted(&self, component: &str) -> bool {
        self.faulted.contains_key(component)
    }

    /// The faulted components and how.
    pub fn faulted(&self) -> impl Iterator<Item = (&String, &ComponentState)> {
        self.faulted.iter()
    }

    /// Whether an alias can answer.
    #[must_use]
    pub fn serves(&self, alias: &str, environment: &Environment) -> bool {
        let Some(component) = component_of(alias, environment) else { return false };
        match self.faulted.get(component) {
            None => true,
            Some(ComponentState::Down) => false,
            Some(ComponentState::Gone(aliases)) => !aliases.iter().any(|gone| gone == alias),
        }
    }

    /// The first alias of a route's chain that can answer; `None`: nobody.
    #[must_use]
    pub fn server(&self, route: &Route, environment: &Environment) -> Option<String> {
        std::iter::once(&route.model)
            .chain(&route.fallbacks)
            .find(|alias| self.serves(alias, environment))
            .cloned()
    }
}

/// The component that serves an alias.
#[must_use]
pub(crate) fn component_of<'a>(alias: &str, environment: &'a Environment) -> Option<&'a str> {
    let serves =
        |component: &&String| environment.components[*component].aliases.iter().any(|own| own == alias);
    environment.components.keys().find(serves).map(String::as_str)
}
