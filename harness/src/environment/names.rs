//! The names of an environment that other files refer to, as far as its file could be read: a broken
//! environment must not make every name in every other file look wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::written::{ComponentWritten, EnvironmentFile, RouteWritten};
use super::{Environment, FaultKind};
use crate::input::at::{At, Entries, Items, Key};

/// Names of an environment; what could not be read is not known, which is not the same as not being there.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Component -> its aliases.
    components: Option<BTreeMap<String, Option<BTreeSet<String>>>>,
    /// Route -> its aliases in the order in which they take over.
    routes: Option<BTreeMap<String, Option<Order>>>,
    /// Alias -> the first component that serves it.
    owners: BTreeMap<String, String>,
    /// The aliases of every component are known.
    complete: bool,
    /// Components whose Deployment is scaled to zero where they are taken down.
    scaled_to_zero: BTreeSet<String>,
}

impl Names {
    pub(crate) fn of_file(file: &EnvironmentFile) -> Self {
        let components = by_name(&file.components, |component: &ComponentWritten| {
            listed(&component.aliases.there()?.value).map(BTreeSet::from_iter)
        });
        let entries = file.components.there().map_or(&[][..], |components| &components.value.0);
        let is_scaled = |written: &ComponentWritten| {
            written.down.there().is_some_and(|down| down.value.0 == FaultKind::ScaleToZero)
        };
        let scaled = entries.iter().filter(|(_, written)| written.as_ref().is_some_and(is_scaled));
        let scaled_to_zero = scaled.map(|(name, _)| name.value.clone()).collect();
        Self { scaled_to_zero, ..Self::new(components, by_name(&file.routes, order)) }
    }

    /// The names of an environment that was read whole.
    #[must_use]
    pub fn of(environment: &Environment) -> Self {
        let components = environment
            .components
            .iter()
            .map(|(name, own)| (name.clone(), Some(own.aliases.iter().cloned().collect())));
        let routes = environment.routes.iter().map(|(name, own)| {
            (name.clone(), Some(Order::new([std::slice::from_ref(&own.model), &own.fallbacks].concat())))
        });
        let scaled = environment.components.iter().filter(|(_, own)| own.down == FaultKind::ScaleToZero);
        let scaled_to_zero = scaled.map(|(name, _)| name.clone()).collect();
        Self { scaled_to_zero, ..Self::new(Some(components.collect()), Some(routes.collect())) }
    }

    fn new(
        components: Option<BTreeMap<String, Option<BTreeSet<String>>>>,
        routes: Option<BTreeMap<String, Option<Order>>>,
    ) -> Self {
        let mut owners = BTreeMap::new();
        for (component, aliases) in components.iter().flatten() {
            for alias in aliases.iter().flatten() {
                owners.entry(alias.clone()).or_insert_with(|| component.clone());
            }
        }
        let complete = components.as_ref().is_some_and(|all| all.values().all(Option::is_some));
        Self { components, routes, owners, complete, scaled_to_zero: BTreeSet::new() }
    }

    /// True where taking a component down is known to scale its Deployment to zero.
    pub(crate) fn is_scaled_to_zero(&self, component: &str) -> bool {
        self.scaled_to_zero.contains(component)
    }

    /// All components, if they are known.
    pub(crate) fn components(&self) -> Option<impl Iterator<Item = &str>> {
        Some(self.components.as_ref()?.keys().map(String::as_str))
    }

    /// False where a component is known not to be there.
    pub(crate) fn may_have_component(&self, name: &str) -> bool {
        self.components.as_ref().is_none_or(|all| all.contains_key(name))
    }

    /// All routes, if they are known.
    pub(crate) fn routes(&self) -> Option<impl Iterator<Item = &str>> {
        Some(self.routes.as_ref()?.keys().map(String::as_str))
    }

    /// False where a route is known not to be there.
    pub(crate) fn may_have_route(&self, name: &str) -> bool {
        self.routes.as_ref().is_none_or(|all| all.contains_key(name))
    }

    /// All aliases with the component that serves each, if they are known.
    pub(crate) fn aliases(&self) -> Option<&BTreeMap<String, String>> {
        self.complete.then_some(&self.owners)
    }

    /// False where an alias is known not to be there.
    pub(crate) fn may_have_alias(&self, alias: &str) -> bool {
        !self.complete || self.owners.contains_key(alias)
    }

    /// The aliases of a component, if they are known.
    pub(crate) fn aliases_of(&self, component: &str) -> Option<&BTreeSet<String>> {
        self.components.as_ref()?.get(component)?.as_ref()
    }

    /// Which component serves an alias, as far as is known.
    pub(crate) fn owner(&self, alias: &str) -> Option<&str> {
        self.owners.get(alias).map(String::as_str)
    }

    /// The aliases that answer on a route, in order, if they are known.
    pub(crate) fn order(&self, route: &str) -> Option<&Order> {
        self.routes.as_ref()?.get(route)?.as_ref()
    }
}

/// The aliases of a route in the order in which they take over.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    list: Vec<String>,
    all: BTreeSet<String>,
}

impl Order {
    fn new(list: Vec<String>) -> Self {
        Self { all: list.iter().cloned().collect(), list }
    }

    pub(crate) fn list(&self) -> &[String] {
        &self.list
    }

    pub(crate) fn has(&self, alias: &str) -> bool {
        self.all.contains(alias)
    }
}

fn by_name<V, N>(
    written: &Key<At<Entries<V>>>,
    names: impl Fn(&V) -> Option<N>,
) -> Option<BTreeMap<String, Option<N>>> {
    let entries = &written.there()?.value.0;
    // That there are none has been said.
    (!entries.is_empty()).then_some(())?;
    Some(entries.iter().map(|(name, value)| (name.value.clone(), value.as_ref().and_then(&names))).collect())
}

fn order(route: &RouteWritten) -> Option<Order> {
    let model = route.model.there()?.value.clone();
    let fallbacks = match &route.fallbacks {
        Key::Absent => Vec::new(),
        Key::Broken => return None,
        Key::There(fallbacks) => listed(fallbacks)?,
    };
    Some(Order::new([vec![model], fallbacks].concat()))
}

fn listed(names: &Items<At<String>>) -> Option<Vec<String>> {
    names.complete.then(|| names.items.iter().map(|name| name.value.clone()).collect())
}
