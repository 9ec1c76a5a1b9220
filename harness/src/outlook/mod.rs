//! What a gateway's own settings let expect, before anything is broken. Pure: pages in, waits and warnings out.
//!
//! The rules are those that were measured on LiteLLM 1.106.2: each group that fails costs its attempts and the pauses
//! between them, one group after another, and nothing bounds the sum.

mod cost;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use self::cost::{Cost, cost};
pub use self::read::read;
use crate::environment::Environment;
use crate::verdict::result::{Failing, ForeseenWait, GatewaySettings, Outlook};

/// What NFR123 allows, in seconds.
const LIMIT_S: f64 = 5.0;
/// What the gateway itself takes for a request at most, where it was measured.
const GATEWAY_S: f64 = 0.12;
/// The kernel gives a connection up after this, where nothing else does: two tries.
const KERNEL_S: f64 = 270.0;
/// A library's default that is taken for "not set".
const ALLOWED_FAILS_UNSET: u64 = 3;

/// What these settings let expect of the routes of an environment.
#[must_use]
pub fn outlook(settings: Result<GatewaySettings, String>, environment: &Environment) -> Outlook {
    let settings = match settings {
        Ok(settings) => settings,
        Err(why) => return Outlook { not_known: Some(why), ..Outlook::default() },
    };
    let (mut waits, mut warnings) = (Vec::new(), Vec::new());
    for (name, route) in &environment.routes {
        let chain = chain(&settings, &route.model);
        agrees(name, &route.fallbacks, &chain[1..], &mut warnings);
        missing(name, &chain, &settings, &mut warnings);
        for down in prefixes(&chain, environment) {
            for failing in [Failing::AtOnce, Failing::Blackhole, Failing::Hang] {
                waits.extend(forms(&settings, environment, name, &chain, &down, failing));
            }
        }
    }
    same_once(&mut waits);
    warnings.extend(broken(&waits));
    warnings.extend(habits(&settings));
    Outlook { settings: Some(settings), not_known: None, waits, warnings }
}

/// A group and those that take over for it, in the order in which they are tried.
fn chain(settings: &GatewaySettings, model: &str) -> Vec<String> {
    let listed = settings.fallbacks.get(model).or_else(|| settings.fallbacks.get("*"));
    let mut chain = vec![model.to_owned()];
    // Whoever was tried is not tried again.
    for group in listed.into_iter().flatten() {
        if !chain.contains(group) {
            chain.push(group.clone());
        }
    }
    chain
}

/// The component that serves an alias.
fn serves<'e>(environment: &'e Environment, alias: &str) -> Option<&'e str> {
    let mut components = environment.components.iter();
    let found = components.find(|(_, component)| component.aliases.iter().any(|own| own == alias));
    found.map(|(name, _)| name.as_str())
}

/// The components of a chain that are down one after the other: the first, the first two, and so on.
fn prefixes(chain: &[String], environment: &Environment) -> Vec<BTreeSet<String>> {
    let mut down = BTreeSet::new();
    let mut all = Vec::new();
    for component in chain.iter().filter_map(|alias| serves(environment, alias)) {
        if down.insert(component.to_owned()) {
            all.push(down.clone());
        }
    }
    all
}

/// The wait of streams and that of whole replies; one where they are the same, none where a setting is not known.
fn forms(
    settings: &GatewaySettings,
    environment: &Environment,
    route: &str,
    chain: &[String],
    down: &BTreeSet<String>,
    failing: Failing,
) -> Vec<ForeseenWait> {
    let is_down =
        |alias: &&String| serves(environment, alias).is_some_and(|component| down.contains(component));
    let groups: Vec<&String> = chain.iter().take_while(is_down).collect();
    let then = chain.get(groups.len()).cloned();
    let of_form = |streamed: bool| {
        let costs: Option<Vec<Cost>> = groups
            .iter()
            .enumerate()
            .map(|(index, group)| cost(settings, group, index == 0, failing, streamed))
            .collect();
        let costs = costs?;
        let sum = |end: fn(&Cost) -> f64| costs.iter().map(end).sum::<f64>();
        Some(ForeseenWait {
            route: route.to_owned(),
            down: down.iter().cloned().collect(),
            failing,
            streamed,
            then: then.clone(),
            wait_s: (sum(|cost| cost.least_s), sum(|cost| cost.most_s)),
            limit_s: LIMIT_S,
            formula: costs.iter().map(|cost| cost.formula.as_str()).collect::<Vec<_>>().join("; "),
        })
    };
    [true, false].into_iter().filter_map(of_form).collect()
}

/// What is the same in both forms, or however the component fails, is told once: of whole replies, and of the plainer way.
fn same_once(waits: &mut Vec<ForeseenWait>) {
    let all = waits.clone();
    waits.retain(|wait| {
        let same = |other: &ForeseenWait| {
            (&other.route, &other.down, &other.formula) == (&wait.route, &wait.down, &wait.formula)
        };
        let other_form =
            all.iter().any(|other| same(other) && other.failing == wait.failing && !other.streamed);
        let plainer = all.iter().any(|other| {
            same(other) && other.failing == Failing::Blackhole && other.streamed == wait.streamed
        });
        !(wait.streamed && other_form || wait.failing == Failing::Hang && plainer)
    });
}

/// Where the wait alone is longer than what is allowed.
fn broken(waits: &[ForeseenWait]) -> Vec<String> {
    let late = waits.iter().filter(|wait| wait.wait_s.1 + GATEWAY_S > wait.limit_s);
    late.map(|wait| {
        let says = if wait.wait_s.0 > wait.limit_s { "cannot hold" } else { "does not always hold" };
        let then = match &wait.then {
            Some(alias) => format!("before {alias} is asked"),
            None => "before the error is given".to_owned(),
        };
        let form = if wait.streamed { " of a stream" } else { "" };
        let each = if wait.down.len() > 1 { "each of " } else { "" };
        format!(
            "NFR123 {says} for the route {} where {each}{} {}: a request{form} waits {} {then}, and {} s are allowed ({})",
            wait.route,
            wait.down.join(" and "),
            wait.failing.words(),
            bracket(wait.wait_s),
            wait.limit_s,
            wait.formula
        )
    })
    .collect()
}

/// What the settings do on every request of an outage, not only on the first.
fn habits(settings: &GatewaySettings) -> Vec<String> {
    let mut told = Vec::new();
    let cools = !settings.cooldowns_disabled && settings.cooldown_time_s.is_some_and(|time| time > 0.0);
    let never = !cools || settings.allowed_fails == Some(ALLOWED_FAILS_UNSET);
    if never {
        let why = if cools { "`allowed_fails: 3` is the same as none" } else { "cooldowns are off" };
        told.push(format!(
            "every request of an outage waits as long as the first one: {why}, so a group with one deployment is not left \
             alone when it fails (but after a 401 or 404)"
        ));
    }
    let several = settings.fallbacks.values().any(|list| list.len() > 1);
    if several && !never && settings.max_fallbacks != Some(1) {
        let now = settings.max_fallbacks.map_or("not told".to_owned(), |depth| depth.to_string());
        told.push(format!(
            "a fallback that fails while a later one answers is never left alone (`max_fallbacks` is {now}): every request \
             of an outage waits for it; with `max_fallbacks: 1` only the first ones do"
        ));
    }
    if let Some(timeout) = settings.timeout_s.filter(|timeout| *timeout <= LIMIT_S) {
        told.push(format!(
            "the timeout of {timeout} s holds for whole replies, too: a model that is well and takes longer for a whole \
             reply is given up"
        ));
    }
    if settings.retries_by_class {
        told.push(
            "retries differ by the class of the error (`retry_policy`): waits are not foretold".to_owned(),
        );
    }
    told
}

/// The gateway falls back otherwise than the environment says.
fn agrees(route: &str, expected: &[String], listed: &[String], warnings: &mut Vec<String>) {
    if expected != listed {
        let names = |list: &[String]| if list.is_empty() { "nobody".to_owned() } else { list.join(", ") };
        warnings.push(format!(
            "FR217 cannot hold for the route {route}: the gateway falls back to {}, and the environment says {}",
            names(listed),
            names(expected)
        ));
    }
}

/// The gateway does not have what a route asks for.
fn missing(route: &str, chain: &[String], settings: &GatewaySettings, warnings: &mut Vec<String>) {
    let missing: Vec<&str> =
        chain.iter().filter(|alias| !settings.models.contains(alias)).map(String::as_str).collect();
    if !missing.is_empty() {
        warnings
            .push(format!("the gateway does not have {}, which the route {route} needs", missing.join(", ")));
    }
}

/// `4 s`, `7-11.5 s`.
pub(crate) fn bracket((least, most): (f64, f64)) -> String {
    if least == most { format!("{} s", short(least)) } else { format!("{}-{} s", short(least), short(most)) }
}

/// With at most two digits after the point.
fn short(seconds: f64) -> String {
    let text = format!("{seconds:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
