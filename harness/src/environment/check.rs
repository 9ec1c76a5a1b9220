//! What must hold of an environment file beyond its shape.

mod cluster;
mod openclaw;
mod ways;

use std::collections::BTreeMap;

use self::cluster::World;
use super::names::Names;
use super::written::{
    CeilingsWritten, ComponentWritten, EnvironmentFile, GatewayWritten, READY_WITHIN, READY_WITHIN_OF_PODS,
    RouteWritten,
};
use super::{Ceilings, Component, Environment, FaultKind, Gateway, Kind, Route, Via};
use crate::input::at::{At, Entries, Items, Key, Text};
use crate::input::checker::Checker;
use crate::scenario::Source;
use crate::units::Rate;

/// Probes faster than this are a load test, which this is not.
const RATE_MAX: f64 = 1000.0;

/// The environment as written; `None` where something is wrong with it, which `check` has.
pub(crate) fn environment(
    check: &mut Checker<'_>,
    file: &EnvironmentFile,
    source: Source,
) -> Option<Environment> {
    if let Some(name) = file.environment.there() {
        check.name("the name of an environment", name);
    }
    let world = World::of(file);
    let cluster = cluster::cluster(check, file, &world);
    let kind = match &world {
        World::Unknown => None,
        World::Embedded => file.embedded.there().and_then(|embedded| {
            Some(Kind::Embedded { profile: check.value(embedded.value.profile.there()?)? })
        }),
        World::Cluster { .. } => cluster.map(|cluster| Kind::Kubernetes(Box::new(cluster))),
    };
    let written = file.gateway.there().map(|written| &written.value);
    let gateway = written.map(|written| gateway(check, written, &world)).unwrap_or_default();
    let components = file.components.there().map(|listed| {
        cluster::no_sharing(check, listed, written);
        components(check, listed, &world)
    });
    let names = Names::of_file(file);
    let routes = file.routes.there().map(|written| routes(check, written, &names, &world));
    let environment = Environment {
        name: file.environment.there()?.value.clone(),
        kind: kind?,
        gateway,
        components: components?,
        routes: routes?,
        source,
    };
    check.is_clean().then_some(environment)
}

fn gateway(check: &mut Checker<'_>, written: &GatewayWritten, world: &World<'_>) -> Gateway {
    cluster::plain_gateway(check, written, world);
    if let Some(url) = written.url.there() {
        gateway_url(check, url);
    }
    let key = written.key.there().and_then(|key| key.env.there());
    if let Some(env) = key {
        let capitals = env.value.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if env.value.is_empty() || env.value.starts_with(|c: char| c.is_ascii_digit()) || !capitals {
            check.secret_problem(
                env.place,
                "this is not the name of an environment variable (capital letters, digits, underscores)",
                "write the name of the variable that holds the key, like `LITELLM_MASTER_KEY`, never the key itself",
            );
        }
    }
    Gateway {
        url: written.url.there().map(|url| url.value.clone()),
        key_env: key.map(|env| env.value.clone()),
    }
}

/// A gateway is named by where it listens, with the prefix that it may be served under; nothing else of a URL is used.
fn gateway_url(check: &mut Checker<'_>, url: &At<String>) {
    let parsed = reqwest::Url::parse(&url.value).ok();
    let parsed = parsed.filter(|parsed| matches!(parsed.scheme(), "http" | "https") && parsed.has_host());
    let Some(mut parsed) = parsed else {
        // Where it is none, what may be a secret in it has no place of its own.
        if url.value.contains(['?', '#', '@']) {
            check.hide(url.place);
        }
        return check.problem(
            url.place,
            "this is not the URL of a gateway",
            "write it like `http://127.0.0.1:4000`",
        );
    };
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return check.secret_problem(
            url.place,
            "the URL holds a user name or password",
            "leave them out; name the variable that holds the key in `key: { env: NAME }`",
        );
    }
    let parts: Vec<&str> = parsed.path().split('/').collect();
    let api = (0..parts.len()).find(|at| {
        let rest = &parts[*at..];
        rest.starts_with(&["v1"]) || rest.starts_with(&["chat", "completions"])
    });
    let path = parts[..api.unwrap_or(parts.len())].join("/");
    let more = parsed.query().is_some() || parsed.fragment().is_some();
    parsed.set_path(&path);
    parsed.set_query(None);
    parsed.set_fragment(None);
    let meant = parsed.as_str().trim_end_matches('/');
    if more {
        check.secret_problem(
            url.place,
            "the URL of a gateway has no part behind `?` or `#`",
            &format!("write `{meant}`; name the variable that holds a key in `key: {{ env: NAME }}`"),
        );
    } else if api.is_some() {
        let message = "this is the URL of an API, not that of the gateway";
        check.problem(url.place, message, format!("write `{meant}`: the paths of the API are added to it"));
    }
}

fn components(
    check: &mut Checker<'_>,
    written: &At<Entries<ComponentWritten>>,
    world: &World<'_>,
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
        let Some(component) = component else { continue };
        if let Some(aliases) = component.aliases.there() {
            own_aliases(check, name, aliases, &mut owners);
        }
        if let Some(component) = one_component(check, component, world) {
            components.insert(name.value.clone(), component);
        }
    }
    components
}

fn own_aliases<'w>(
    check: &mut Checker<'_>,
    name: &'w At<String>,
    aliases: &'w At<Items<At<String>>>,
    owners: &mut BTreeMap<&'w str, &'w str>,
) {
    if aliases.value.empty {
        check.problem(aliases.place, "a component serves at least one alias", "name its aliases");
    }
    for alias in &aliases.value.items {
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
}

/// `None` where a value cannot be read.
fn one_component(
    check: &mut Checker<'_>,
    written: &ComponentWritten,
    world: &World<'_>,
) -> Option<Component> {
    let found = cluster::whereabouts(check, written, world);
    let scaled = written.down.there().is_some_and(|down| down.value.0 == FaultKind::ScaleToZero);
    let ready_within = match &written.ready_within {
        Key::There(period) => check.period("ready_within", period),
        Key::Absent | Key::Broken => Some(if scaled { READY_WITHIN_OF_PODS } else { READY_WITHIN }),
    };
    let ceilings = written.ceilings.there().map(|written| ceilings(check, written)).unwrap_or_default();
    let aliases = &written.aliases.there()?.value;
    Some(Component {
        aliases: aliases.items.iter().map(|alias| alias.value.clone()).collect(),
        down: written.down.there()?.value.0,
        ready_within: ready_within?,
        ceilings,
        endpoint: found.endpoint,
        deployment: found.deployment,
        service: found.service,
        port: found.port,
        proxy: found.proxy,
        pause: found.pause,
    })
}

fn ceilings(check: &mut Checker<'_>, written: &CeilingsWritten) -> Ceilings {
    if let (Some(place), true) = (written.cost_usd.place(), written.usd_per_million_tokens.is_absent()) {
        check.problem(
            place,
            "a cost without a price cannot be kept",
            "add `usd_per_million_tokens: ...` to these ceilings",
        );
    }
    if let (Some(place), true) = (written.usd_per_million_tokens.place(), written.cost_usd.is_absent()) {
        check.warning(
            place,
            "a price without a cost limits nothing",
            "add `cost_usd: ...` to these ceilings, or leave the price out",
        );
    }
    let mut whole = |number: &Key<At<Text<u64>>>| {
        let number = number.there()?;
        let value = check.value(number)?;
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
    let mut dollars = |number: &Key<At<Text<f64>>>| check.value(number.there()?);
    let (cost_usd, usd_per_million_tokens) =
        (dollars(&written.cost_usd), dollars(&written.usd_per_million_tokens));
    let rate = written.rate.there().and_then(|written| rate(check, written));
    Ceilings { requests, tokens, cost_usd, usd_per_million_tokens, rate }
}

/// Reads a rate that probes can be sent at.
pub(crate) fn rate(check: &mut Checker<'_>, written: &At<Text<Rate>>) -> Option<Rate> {
    let rate = check.value(written)?;
    if rate.per_second() > RATE_MAX {
        check.problem(written.place, "a rate above 1000/s is not for this program", "write at most `1000/s`");
        return None;
    }
    Some(rate)
}

fn routes(
    check: &mut Checker<'_>,
    written: &At<Entries<RouteWritten>>,
    names: &Names,
    world: &World<'_>,
) -> BTreeMap<String, Route> {
    if written.value.0.is_empty() {
        check.problem(written.place, "there are no routes", "name what callers ask for, with its model");
    }
    let mut routes = BTreeMap::new();
    for (name, route) in &written.value.0 {
        check.name("the name of a route", name);
        if let Some(route) = route.as_ref().and_then(|route| one_route(check, route, names)) {
            routes.insert(name.value.clone(), route);
        }
    }
    ways::check(check, &written.value, world);
    routes
}

/// `None` where a value cannot be read.
fn one_route(check: &mut Checker<'_>, written: &RouteWritten, names: &Names) -> Option<Route> {
    let model = written.model.there();
    let fallbacks = written.fallbacks.there().map_or(&[][..], |fallbacks| &fallbacks.items);
    for alias in model.into_iter().chain(fallbacks) {
        if let Some(known) = names.aliases().filter(|_| !names.may_have_alias(&alias.value)) {
            check.unknown("alias", alias, known.keys().map(String::as_str));
        }
    }
    // Once: a second mention of the model is this mistake and no other.
    let own = |alias: &&At<String>| model.is_some_and(|model| model.value == alias.value);
    for alias in fallbacks.iter().filter(own) {
        check.problem(
            alias.place,
            &format!("`{}` cannot be its own fallback", alias.value),
            "name only the aliases that take over from `model`",
        );
    }
    let others = fallbacks.iter().filter(|alias| !own(alias));
    check.no_repeats("fallback", others.map(|alias| (alias.value.as_str(), alias.place)));
    Some(Route {
        model: model?.value.clone(),
        fallbacks: fallbacks.iter().map(|alias| alias.value.clone()).collect(),
        via: match &written.via {
            Key::Absent => Via::Gateway,
            Key::Broken => return None,
            Key::There(via) => check.value(via)?,
        },
    })
}
