//! What must hold of a scenario file beyond its shape.

use std::collections::BTreeMap;

use super::written::{
    ComponentStateWritten, ExpectationWritten, RecoveryWritten, ScenarioFile, TrafficWritten,
};
use super::{Answer, ComponentState, Expectation, Forms, Recovery, Scenario, Source, Traffic};
use crate::environment::{self, Environment};
use crate::input::at::At;
use crate::input::checker::{Checker, nearest_of};
use crate::input::problem::Place;
use crate::units::Period;

/// Longest text of a title, in characters.
const TITLE_CHARS_MAX: usize = 200;
/// A probe is one short chat.
const MAX_TOKENS_MAX: u64 = 4096;
/// The shortest run of good replies that counts as steady, and how many probes it needs.
const STEADY_FOR: Period = Period::from_secs(5);
const STEADY_PROBES: f64 = 10.0;

/// The scenario as written; meaningful only if `check` has found no problem. Without an environment
/// (its file has problems of its own) names are not looked up.
pub(crate) fn scenario(
    check: &mut Checker<'_>,
    file: &ScenarioFile,
    world: Option<&Environment>,
    source: Source,
) -> Scenario {
    check.name("the name of a scenario", &file.scenario);
    title(check, &file.title);
    let requirements = file.requirements.iter().filter_map(|written| check.scalar(written)).collect();
    check.no_repeats(
        "requirement",
        file.requirements.iter().map(|written| (written.value.text.as_str(), written.place)),
    );
    let components = components(check, file, world);
    let traffic = traffic(check, file, world);
    let mode = Mode { world, components: &components, traffic: &traffic, written: file };
    let expect = mode.expectations(check);
    let recover = mode.recoveries(check);
    mode.warn_of_short_holds(check, &expect);
    Scenario {
        name: file.scenario.value.clone(),
        title: file.title.value.clone(),
        requirements,
        components,
        traffic,
        expect,
        recover,
        source,
    }
}

fn title(check: &mut Checker<'_>, title: &At<String>) {
    let text = &title.value;
    if text.trim().is_empty() || text.contains(char::is_control) || text.chars().count() > TITLE_CHARS_MAX {
        check.problem(title.place, "a title is one line of 1 to 200 characters", "say what this mode is");
    }
}

fn components(
    check: &mut Checker<'_>,
    file: &ScenarioFile,
    world: Option<&Environment>,
) -> BTreeMap<String, ComponentState> {
    let mut states = BTreeMap::new();
    for (name, state) in &file.components.0 {
        let known = world.and_then(|world| world.components.get(&name.value));
        if let (Some(world), None) = (world, known) {
            check.unknown("component", name, world.components.keys().map(String::as_str));
        }
        let state = match &state.value {
            ComponentStateWritten::Down => ComponentState::Down,
            ComponentStateWritten::Gone(aliases) => {
                if aliases.value.is_empty() {
                    check.problem(aliases.place, "`gone` names no alias", "name the aliases that are gone");
                }
                for alias in aliases
                    .value
                    .iter()
                    .filter(|alias| known.is_some_and(|component| !component.aliases.contains(&alias.value)))
                {
                    let own = known.iter().flat_map(|component| &component.aliases).map(String::as_str);
                    check.problem(
                        alias.place,
                        &format!("component `{}` has no alias `{}`", name.value, alias.value),
                        nearest_of("alias", &alias.value, own),
                    );
                }
                check.no_repeats(
                    "alias",
                    aliases.value.iter().map(|alias| (alias.value.as_str(), alias.place)),
                );
                ComponentState::Gone(aliases.value.iter().map(|alias| alias.value.clone()).collect())
            }
        };
        states.insert(name.value.clone(), state);
    }
    states
}

fn traffic(check: &mut Checker<'_>, file: &ScenarioFile, world: Option<&Environment>) -> Vec<Traffic> {
    let written = &file.traffic.value;
    if written.is_empty() {
        check.problem(
            file.traffic.place,
            "there is no traffic, nothing would be measured",
            "probe at least one route",
        );
    }
    if let Some(world) = world {
        for entry in written.iter().filter(|entry| !world.routes.contains_key(&entry.route.value)) {
            check.unknown("route", &entry.route, world.routes.keys().map(String::as_str));
        }
    }
    check.no_repeats(
        "traffic on route",
        written.iter().map(|entry| (entry.route.value.as_str(), entry.route.place)),
    );
    written.iter().filter_map(|entry| one_traffic(check, entry)).collect()
}

/// `None` where a value cannot be read.
fn one_traffic(check: &mut Checker<'_>, written: &TrafficWritten) -> Option<Traffic> {
    let rate = environment::check::rate(check, &written.rate);
    let hold = check.period("for", &written.hold);
    if let (Some(rate), Some(hold)) = (rate, hold)
        && rate.per_second() * hold.0.as_secs_f64() < 1.0
    {
        check.problem(
            written.rate.place,
            &format!("at {rate} not one probe is sent in {hold}"),
            "raise `rate` or lengthen `for`",
        );
    }
    let stream: Option<Forms> = check.scalar(&written.stream);
    let timeout = check.period("timeout", &written.timeout);
    let max_tokens = check.scalar(&written.max_tokens);
    if max_tokens.is_some_and(|tokens| tokens == 0 || tokens > MAX_TOKENS_MAX) {
        check.problem(
            written.max_tokens.place,
            "`max_tokens` is out of range",
            "a probe is one short chat: write 1 to 4096",
        );
    }
    Some(Traffic {
        route: written.route.value.clone(),
        rate: rate?,
        hold: hold?,
        stream: stream?,
        max_tokens: u32::try_from(max_tokens?).ok()?,
        timeout: timeout?,
    })
}

/// What expectations are checked against.
struct Mode<'a> {
    world: Option<&'a Environment>,
    components: &'a BTreeMap<String, ComponentState>,
    traffic: &'a [Traffic],
    written: &'a ScenarioFile,
}

impl Mode<'_> {
    fn expectations(&self, check: &mut Checker<'_>) -> BTreeMap<String, Expectation> {
        let mut expect = BTreeMap::new();
        for (route, written) in &self.written.expect.0 {
            self.has_traffic(check, route, "an expectation");
            if let Some(expectation) = self.expectation(check, route, written) {
                expect.insert(route.value.clone(), expectation);
            }
        }
        expect
    }

    /// `None` where a value cannot be read.
    fn expectation(
        &self,
        check: &mut Checker<'_>,
        route: &At<String>,
        written: &At<ExpectationWritten>,
    ) -> Option<Expectation> {
        let ExpectationWritten { served_by, error, within: within_written, errors, lost_in_flight } =
            &written.value;
        let within = check.period("within", within_written);
        let timeout =
            self.traffic.iter().find(|traffic| traffic.route == route.value).map(|traffic| traffic.timeout);
        if let (Some(within), Some(timeout)) = (within, timeout)
            && within > timeout
        {
            let place = if within_written.place.line > 0 { within_written.place } else { route.place };
            check.problem(
                place,
                &format!("`within` {within} is longer than the probes' timeout {timeout}"),
                "no probe lives that long: shorten `within` or lengthen `timeout`",
            );
        }
        if let (Some(errors), Some(_)) = (errors, error) {
            check.problem(errors.place, "`errors` has no meaning beside `error: true`", "leave `errors` out");
        }
        let answer = self.answer(check, route, written.place, served_by.as_ref(), error.as_ref());
        let errors = errors.as_ref().map_or(Some(0), |errors| check.scalar(errors));
        let lost_in_flight = match lost_in_flight {
            Some(written) => Some(check.scalar(written)?),
            None => None,
        };
        Some(Expectation { answer: answer?, within: within?, errors: errors?, lost_in_flight })
    }

    fn answer(
        &self,
        check: &mut Checker<'_>,
        route: &At<String>,
        place: Place,
        served_by: Option<&At<String>>,
        error: Option<&At<bool>>,
    ) -> Option<Answer> {
        if let Some(error) = error.filter(|error| !error.value) {
            check.problem(error.place, "`error: false` says nothing", "write `served_by: ALIAS` instead");
        }
        match (served_by, error) {
            (Some(alias), None) => {
                self.on_route(check, route, alias);
                self.is_up(check, alias);
                Some(Answer::ServedBy(alias.value.clone()))
            }
            (None, Some(_)) => Some(Answer::Error),
            (Some(_), Some(error)) => {
                check.problem(
                    error.place,
                    "`served_by` and `error` exclude each other",
                    "keep `served_by` if somebody must answer, `error: true` if nobody may",
                );
                None
            }
            (None, None) => {
                check.problem(
                    if place.line > 0 { place } else { route.place },
                    &format!("the expectation of `{}` does not say who answers", route.value),
                    "add `served_by: ALIAS` or `error: true`",
                );
                None
            }
        }
    }

    fn recoveries(&self, check: &mut Checker<'_>) -> BTreeMap<String, Recovery> {
        let mut recover = BTreeMap::new();
        for (route, written) in &self.written.recover.0 {
            let RecoveryWritten { served_by, within } = &written.value;
            if self.components.is_empty() {
                check.problem(
                    route.place,
                    "nothing is down in this scenario that could recover",
                    "leave `recover` out, or say in `components` what is down",
                );
            }
            self.has_traffic(check, route, "a recovery");
            self.on_route(check, route, served_by);
            if let Some(within) = check.period("within", within) {
                recover.insert(route.value.clone(), Recovery { served_by: served_by.value.clone(), within });
            }
        }
        recover
    }

    /// Without probes nothing can be judged.
    fn has_traffic(&self, check: &mut Checker<'_>, route: &At<String>, what: &str) {
        let written = &self.written.traffic.value;
        if written.iter().any(|entry| entry.route.value == route.value) {
            return;
        }
        if let Some(world) = self.world.filter(|world| !world.routes.contains_key(&route.value)) {
            check.unknown("route", route, world.routes.keys().map(String::as_str));
            return;
        }
        check.problem(
            route.place,
            &format!("{what} of `{}`, but no traffic probes that route", route.value),
            format!("add `- {{ route: {}, rate: 2/s, for: 12s }}` to `traffic`", route.value),
        );
    }

    fn on_route(&self, check: &mut Checker<'_>, route: &At<String>, alias: &At<String>) {
        let Some(world) = self.world else { return };
        if !world.components.values().any(|component| component.aliases.contains(&alias.value)) {
            let known =
                world.components.values().flat_map(|component| &component.aliases).map(String::as_str);
            check.unknown("alias", alias, known);
            return;
        }
        let Some(on_route) = world.routes.get(&route.value) else { return };
        if on_route.model != alias.value && !on_route.fallbacks.contains(&alias.value) {
            let order: Vec<&str> =
                std::iter::once(&on_route.model).chain(&on_route.fallbacks).map(String::as_str).collect();
            check.problem(
                alias.place,
                &format!("`{}` is not on the route `{}` of this environment", alias.value, route.value),
                format!("the route's order is: {}", order.join(", ")),
            );
        }
    }

    fn is_up(&self, check: &mut Checker<'_>, alias: &At<String>) {
        let Some(world) = self.world else { return };
        let owner = world.components.iter().find(|(_, component)| component.aliases.contains(&alias.value));
        let Some((owner, _)) = owner else { return };
        let problem = match self.components.get(owner) {
            Some(ComponentState::Down) => format!("its component `{owner}` is down"),
            Some(ComponentState::Gone(gone)) if gone.contains(&alias.value) => "it is gone".to_owned(),
            _ => return,
        };
        check.problem(
            alias.place,
            &format!("`{}` cannot answer: {problem} in this scenario", alias.value),
            "name an alias that is up in this mode, or write `error: true`",
        );
    }

    /// A failover that could not be judged steady makes the scenario inconclusive; better to say it now.
    fn warn_of_short_holds(&self, check: &mut Checker<'_>, expect: &BTreeMap<String, Expectation>) {
        for written in &self.written.traffic.value {
            let route = &written.route.value;
            let Some(traffic) = self.traffic.iter().find(|traffic| traffic.route == *route) else { continue };
            let (Some(expectation), false) = (expect.get(route), self.components.is_empty()) else {
                continue;
            };
            let own_model = self.world.and_then(|world| world.routes.get(route)).map(|route| &route.model);
            if matches!(&expectation.answer, Answer::ServedBy(alias) if Some(alias) == own_model) {
                continue;
            }
            let probes = traffic.rate.per_second() * traffic.hold.0.as_secs_f64();
            if traffic.hold < STEADY_FOR || probes < STEADY_PROBES {
                check.warning(
                    written.hold.place,
                    &format!(
                        "cannot establish steady failover on `{route}` with {probes:.0} probes in {}",
                        traffic.hold
                    ),
                    "it takes good replies for 5s and from 10 probes: lengthen `for` or raise `rate`",
                );
            }
        }
    }
}
