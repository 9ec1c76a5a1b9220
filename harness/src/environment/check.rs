//! What must hold of an environment file beyond its shape.

use std::collections::BTreeMap;

use super::written::{CeilingsWritten, ComponentWritten, EnvironmentFile, GatewayWritten, RouteWritten};
use super::{Ceilings, Component, Environment, Gateway, Kind, Route};
use crate::input::at::{At, Entries, Text};
use crate::input::checker::Checker;
use crate::scenario::Source;
use crate::units::{Period, Rate};

/// Probes faster than this are a load test, which this is not.
const RATE_MAX: f64 = 1000.0;

/// The environment as written; meaningful only if `check` has found no problem.
pub(crate) fn environment(check: &mut Checker<'_>, file: &EnvironmentFile, source: Source) -> Environment {
    check.name("the name of an environment", &file.environment);
    let gateway = gateway(check, &file.gateway);
    let components = components(check, &file.components);
    let routes = routes(check, &file.routes, &components);
    Environment {
        name: file.environment.value.clone(),
        kind: Kind::Embedded { profile: file.embedded.profile },
        gateway,
        components,
        routes,
        source,
    }
}

fn gateway(check: &mut Checker<'_>, written: &GatewayWritten) -> Gateway {
    if let Some(url) = &written.url {
        match reqwest::Url::parse(&url.value) {
            Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => check.problem(
                url.place,
                "the URL holds a user name or password",
                "leave them out; name the variable that holds the key in `key: { env: NAME }`",
            ),
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {}
            _ => check.problem(
                url.place,
                "this is not the URL of a gateway",
                "write it like `http://127.0.0.1:4000`",
            ),
        }
    }
    if let Some(key) = &written.key {
        let name = &key.env.value;
        let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !letters {
            check.secret_problem(
                key.env.place,
                "this is not the name of an environment variable",
                "write the name of the variable that holds the key, like `LITELLM_MASTER_KEY`, never the key itself",
            );
        }
    }
    Gateway {
        url: written.url.as_ref().map(|url| url.value.clone()),
        key_env: written.key.as_ref().map(|key| key.env.value.clone()),
    }
}

fn components(
    check: &mut Checker<'_>,
    written: &At<Entries<ComponentWritten>>,
) -> BTreeMap<String, Component> {
    if written.value.0.is_empty() {
        check.problem(
            written.place,
            "there are no components",
            "name what can be up or down, with its aliases",
        );
    }
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut components = BTreeMap::new();
    for (name, component) in &written.value.0 {
        check.name("the name of a component", name);
        if component.aliases.value.is_empty() {
            check.problem(
                component.aliases.place,
                "a component serves at least one alias",
                "name its aliases",
            );
        }
        for alias in &component.aliases.value {
            if alias.value.is_empty() || alias.value.contains(|c: char| c.is_whitespace() || c.is_control()) {
                check.problem(alias.place, "an alias is one word", "write it as in the gateway's model list");
            }
            if let Some(owner) = owners.insert(&alias.value, &name.value) {
                let message = if owner == name.value {
                    format!("alias `{}` is written twice", alias.value)
                } else {
                    format!("alias `{}` already belongs to component `{owner}`", alias.value)
                };
                check.problem(alias.place, &message, "each alias belongs to one component only");
            }
        }
        let ready_within =
            check.period("ready_within", &component.ready_within).unwrap_or(Period::from_secs(30));
        let component = Component {
            aliases: component.aliases.value.iter().map(|alias| alias.value.clone()).collect(),
            down: component.down,
            ready_within,
            ceilings: ceilings(check, &component.ceilings),
        };
        components.insert(name.value.clone(), component);
    }
    components
}

fn ceilings(check: &mut Checker<'_>, written: &CeilingsWritten) -> Ceilings {
    if let (Some(cost), None) = (&written.cost_usd, &written.usd_per_million_tokens) {
        check.problem(
            cost.place,
            "a cost without a price cannot be kept",
            "add `usd_per_million_tokens: ...` to these ceilings",
        );
    }
    let mut whole = |number: &Option<At<Text<u64>>>| {
        let number = number.as_ref()?;
        let value = check.scalar(number)?;
        if value == 0 {
            check.problem(
                number.place,
                "a ceiling of zero allows nothing",
                "write how much is allowed, or leave it out",
            );
        }
        Some(value)
    };
    let (requests, tokens) = (whole(&written.requests), whole(&written.tokens));
    let mut dollars =
        |number: &Option<At<Text<f64>>>| number.as_ref().and_then(|number| check.scalar(number));
    let (cost_usd, usd_per_million_tokens) =
        (dollars(&written.cost_usd), dollars(&written.usd_per_million_tokens));
    let rate = written.rate.as_ref().and_then(|written| rate(check, written));
    Ceilings { requests, tokens, cost_usd, usd_per_million_tokens, rate }
}

/// Reads a rate that probes can be sent at.
pub(crate) fn rate(check: &mut Checker<'_>, written: &At<Text<Rate>>) -> Option<Rate> {
    let rate = check.scalar(written)?;
    if rate.per_second() > RATE_MAX {
        check.problem(written.place, "a rate above 1000/s is not for this program", "write at most `1000/s`");
        return None;
    }
    Some(rate)
}

fn routes(
    check: &mut Checker<'_>,
    written: &At<Entries<RouteWritten>>,
    components: &BTreeMap<String, Component>,
) -> BTreeMap<String, Route> {
    if written.value.0.is_empty() {
        check.problem(written.place, "there are no routes", "name what callers ask for, with its model");
    }
    let aliases: Vec<&str> =
        components.values().flat_map(|component| &component.aliases).map(String::as_str).collect();
    let mut routes = BTreeMap::new();
    for (name, route) in &written.value.0 {
        check.name("the name of a route", name);
        for alias in std::iter::once(&route.model).chain(&route.fallbacks) {
            if !aliases.contains(&alias.value.as_str()) {
                check.unknown("alias", alias, aliases.iter().copied());
            }
        }
        for own in route.fallbacks.iter().filter(|alias| alias.value == route.model.value) {
            check.problem(
                own.place,
                &format!("`{}` cannot be its own fallback", own.value),
                "name only the aliases that take over from `model`",
            );
        }
        check.no_repeats("fallback", route.fallbacks.iter().map(|alias| (alias.value.as_str(), alias.place)));
        let route = Route {
            model: route.model.value.clone(),
            fallbacks: route.fallbacks.iter().map(|alias| alias.value.clone()).collect(),
        };
        routes.insert(name.value.clone(), route);
    }
    routes
}
