//! What must hold of a scenario file beyond its shape.

use std::collections::{BTreeMap, BTreeSet};

use super::written::{
    ComponentStateWritten, DOWN, ERRORS, ExpectationWritten, FORMS, MAX_TOKENS, RecoveryWritten,
    ScenarioFile, TIMEOUT, TrafficWritten, WITHIN,
};
use super::{Answer, ComponentState, Expectation, Forms, Recovery, Scenario, Source, Traffic, injections};
use crate::environment::{self, Names};
use crate::input::at::{At, Entries, Items, Key, Text};
use crate::input::checker::Checker;
use crate::input::problem::Place;
use crate::units::Period;

/// Longest text of a title, in characters.
const TITLE_CHARS_MAX: usize = 200;
/// A probe is one short chat.
const MAX_TOKENS_MAX: u64 = 4096;
/// The shortest run of good replies that counts as steady, and how many probes it needs.
const STEADY_FOR: Period = Period::from_secs(5);
const STEADY_PROBES: f64 = 10.0;

/// The scenario as written; `None` where something is wrong with it, which `check` has. Names are looked up
/// as far as those of the environment are known.
pub(crate) fn scenario(
    check: &mut Checker<'_>,
    file: &ScenarioFile,
    names: &Names,
    source: Source,
) -> Option<Scenario> {
    if let Some(name) = file.scenario.there() {
        check.name("the name of a scenario", name);
    }
    if let Some(text) = file.title.there() {
        title(check, text);
    }
    let requirements = file.requirements.there().map_or(&[][..], |requirements| &requirements.items);
    check.no_repeats(
        "requirement",
        requirements.iter().map(|written| (written.value.text.as_str(), written.place)),
    );
    let requirements = requirements.iter().filter_map(|written| check.value(written)).collect();
    let components = file.components.there().map(|written| components(check, written, names));
    let traffic = file.traffic.there().map(|written| traffic(check, written, names));
    let (components, traffic) = (components.unwrap_or_default(), traffic.unwrap_or_default());
    let mode = Mode {
        names,
        components: &components,
        probed: traffic.iter().map(|traffic| (traffic.route.as_str(), traffic)).collect(),
        routes: file.traffic.there().and_then(|traffic| routes_of(&traffic.value, names)),
        written: file,
    };
    let expect = mode.expectations(check);
    let recover = mode.recoveries(check);
    mode.warn_of_short_holds(check, &expect);
    let states: Vec<_> = components.iter().collect();
    let injections = injections::injections(check, &file.injections, &states, mode.is_nothing_down(), names);
    let scenario = Scenario {
        name: file.scenario.there()?.value.clone(),
        title: file.title.there()?.value.clone(),
        requirements,
        components,
        traffic,
        expect,
        recover,
        injections,
        source,
    };
    check.is_clean().then_some(scenario)
}

fn title(check: &mut Checker<'_>, title: &At<String>) {
    let text = &title.value;
    if text.trim().is_empty() || text.contains(char::is_control) || text.chars().count() > TITLE_CHARS_MAX {
        check.problem(title.place, "a title is one line of 1 to 200 characters", "say what this mode is");
    }
}

fn components(
    check: &mut Checker<'_>,
    written: &Entries<ComponentStateWritten>,
    names: &Names,
) -> BTreeMap<String, ComponentState> {
    let mut states = BTreeMap::new();
    for (name, state) in &written.0 {
        // That it stands on the wrong side has been said.
        if state.is_none() && name.value == DOWN {
            continue;
        }
        if let Some(known) = names.components().filter(|_| !names.may_have_component(&name.value)) {
            check.unknown("component", name, known);
        }
        let state = match state {
            None => continue,
            Some(ComponentStateWritten::Down) => ComponentState::Down,
            Some(ComponentStateWritten::Gone(aliases)) => gone(check, &name.value, &aliases.0, names),
        };
        states.insert(name.value.clone(), state);
    }
    states
}

fn gone(
    check: &mut Checker<'_>,
    component: &str,
    aliases: &At<Items<At<String>>>,
    names: &Names,
) -> ComponentState {
    let items = &aliases.value.items;
    if aliases.value.empty {
        check.problem(aliases.place, "`gone` names no alias", "name the aliases that are gone");
    }
    if let Some(own) = names.aliases_of(component) {
        for alias in items.iter().filter(|alias| !own.contains(&alias.value)) {
            let hint = check.hint("alias", &alias.value, own.iter().map(String::as_str));
            check.problem(
                alias.place,
                &format!("component `{component}` has no alias `{}`", alias.value),
                hint,
            );
        }
    }
    check.no_repeats("alias", items.iter().map(|alias| (alias.value.as_str(), alias.place)));
    ComponentState::Gone(items.iter().map(|alias| alias.value.clone()).collect())
}

fn traffic(check: &mut Checker<'_>, written: &At<Items<TrafficWritten>>, names: &Names) -> Vec<Traffic> {
    if written.value.empty {
        check.problem(
            written.place,
            "there is no traffic, nothing would be measured",
            "probe at least one route",
        );
    }
    let items = &written.value.items;
    let routes = || items.iter().filter_map(|entry| entry.route.there());
    for route in routes() {
        if let Some(known) = names.routes().filter(|_| !names.may_have_route(&route.value)) {
            check.unknown("route", route, known);
        }
    }
    check.no_repeats("traffic on route", routes().map(|route| (route.value.as_str(), route.place)));
    items.iter().filter_map(|entry| one_traffic(check, entry)).collect()
}

/// A period that may be left out.
fn period_or(
    check: &mut Checker<'_>,
    what: &str,
    written: &Key<At<Text<Period>>>,
    default: Period,
) -> Option<Period> {
    match written {
        Key::Absent => Some(default),
        Key::Broken => None,
        Key::There(written) => check.period(what, written),
    }
}

/// `None` where a value cannot be read.
fn one_traffic(check: &mut Checker<'_>, written: &TrafficWritten) -> Option<Traffic> {
    let rate = written.rate.there().and_then(|rate| environment::check::rate(check, rate));
    let hold = written.hold.there().and_then(|hold| check.period("for", hold));
    if let (Some(rate), Some(hold), Some(place)) = (rate, hold, written.rate.place())
        && rate.per_second() * hold.0.as_secs_f64() < 1.0
    {
        check.problem(
            place,
            &format!("at {rate} not one probe is sent in {hold}"),
            "raise `rate` or lengthen `for`",
        );
    }
    let stream = match &written.stream {
        Key::Absent => Some(FORMS),
        Key::Broken => None,
        Key::There(stream) => check.value(stream),
    };
    let timeout = period_or(check, "timeout", &written.timeout, TIMEOUT);
    let max_tokens = match &written.max_tokens {
        Key::Absent => Some(MAX_TOKENS),
        Key::Broken => None,
        Key::There(tokens) => check.value(tokens),
    };
    if max_tokens.is_some_and(|tokens| tokens == 0 || tokens > MAX_TOKENS_MAX) {
        check.problem(
            written.max_tokens.place().unwrap_or_default(),
            "`max_tokens` is out of range",
            "a probe is one short chat: write 1 to 4096",
        );
    }
    Some(Traffic {
        route: written.route.there()?.value.clone(),
        rate: rate?,
        hold: hold?,
        stream: stream?,
        max_tokens: u32::try_from(max_tokens?).ok()?,
        timeout: timeout?,
    })
}

/// The routes that have traffic; `None` where that is not certain, because an entry could not be read or names
/// a route that is not there.
fn routes_of<'w>(written: &'w Items<TrafficWritten>, names: &Names) -> Option<BTreeSet<&'w str>> {
    let known = |entry: &'w TrafficWritten| {
        entry.route.there().map(|route| route.value.as_str()).filter(|route| names.may_have_route(route))
    };
    written.items.iter().map(known).collect::<Option<_>>().filter(|_| written.complete && !written.empty)
}

/// What expectations are checked against.
struct Mode<'a> {
    names: &'a Names,
    components: &'a BTreeMap<String, ComponentState>,
    /// Traffic by route, as far as it could be read.
    probed: BTreeMap<&'a str, &'a Traffic>,
    routes: Option<BTreeSet<&'a str>>,
    written: &'a ScenarioFile,
}

impl Mode<'_> {
    fn expectations(&self, check: &mut Checker<'_>) -> BTreeMap<String, Expectation> {
        let mut expect = BTreeMap::new();
        for (route, written) in self.written.expect.there().into_iter().flat_map(|entries| &entries.0) {
            self.has_traffic(check, route, "an expectation");
            let expectation = written.as_ref().and_then(|written| self.expectation(check, route, written));
            if let Some(expectation) = expectation {
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
        let ExpectationWritten { served_by, error, within: within_written, errors, lost_in_flight, .. } =
            &written.value;
        let within = period_or(check, "within", within_written, WITHIN);
        let timeout = self.probed.get(route.value.as_str()).map(|traffic| traffic.timeout);
        if let (Some(within), Some(timeout)) = (within, timeout)
            && within > timeout
        {
            check.problem(
                within_written.place().unwrap_or(route.place),
                &format!("`within` {within} is longer than the probes' timeout {timeout}"),
                "no probe lives that long: shorten `within` or lengthen `timeout`",
            );
        }
        if let (Some(place), Some(At { value: true, .. })) = (errors.place(), error.there()) {
            check.problem(place, "`errors` has no meaning beside `error: true`", "leave `errors` out");
        }
        let answer = self.answer(check, route, written.place, served_by, error);
        let errors = match errors {
            Key::Absent => Some(ERRORS),
            Key::Broken => None,
            Key::There(errors) => check.value(errors),
        };
        let lost_in_flight = match lost_in_flight {
            Key::Absent => None,
            Key::Broken => return None,
            Key::There(lost) => Some(check.value(lost)?),
        };
        let (first_token_within, max_stall) = self.stream_limits(check, route, &written.value, within)?;
        Some(Expectation {
            answer: answer?,
            within: within?,
            errors: errors?,
            lost_in_flight,
            first_token_within,
            max_stall,
        })
    }

    /// Limits of streams; `None` where one cannot be read.
    fn stream_limits(
        &self,
        check: &mut Checker<'_>,
        route: &At<String>,
        written: &ExpectationWritten,
        within: Option<Period>,
    ) -> Option<(Option<Period>, Option<Period>)> {
        let traffic = self.probed.get(route.value.as_str());
        let mut limit = |key: &str, written_limit: &Key<At<Text<Period>>>, most: Option<(Period, &str)>| {
            let limit = match written_limit {
                Key::Absent => return Some(None),
                Key::Broken => return None,
                Key::There(limit) => check.period(key, limit)?,
            };
            let place = written_limit.place().unwrap_or(route.place);
            if matches!(written.error.there(), Some(At { value: true, .. })) {
                let message = format!("`{key}` has no meaning beside `error: true`");
                check.problem(place, &message, format!("leave `{key}` out"));
            } else if traffic.is_some_and(|traffic| traffic.stream == Forms::Whole) {
                let message =
                    format!("`{key}` is about streams, and `{}` is asked for whole replies", route.value);
                check.problem(place, &message, "write `stream: mixed` or `stream: streamed` in its traffic");
            } else if let Some((most, why)) = most.filter(|(most, _)| limit > *most) {
                let message = format!("`{key}` {limit} is longer than {why} {most}, which bounds it already");
                check.problem(place, &message, format!("shorten `{key}`, or leave it out"));
            }
            Some(Some(limit))
        };
        let timeout = traffic.map(|traffic| (traffic.timeout, "the probes' timeout"));
        let first = limit(
            "first_token_within",
            &written.first_token_within,
            within.map(|within| (within, "`within`")),
        );
        let stall = limit("max_stall", &written.max_stall, timeout);
        Some((first?, stall?))
    }

    fn answer(
        &self,
        check: &mut Checker<'_>,
        route: &At<String>,
        place: Place,
        served_by: &Key<At<String>>,
        error: &Key<At<bool>>,
    ) -> Option<Answer> {
        if let Some(error) = error.there().filter(|error| !error.value) {
            let hint =
                if served_by.is_absent() { "write `served_by: ALIAS` instead" } else { "leave it out" };
            check.problem(error.place, "`error: false` says nothing", hint);
            return None;
        }
        match (served_by, error) {
            (Key::There(alias), Key::Absent) => {
                if self.on_route(check, route, alias) {
                    self.is_up(check, alias);
                    self.warn_of_one_before(check, route, alias.place, Some(&alias.value));
                }
                Some(Answer::ServedBy(alias.value.clone()))
            }
            (Key::Absent, Key::There(error)) => {
                self.warn_of_one_before(check, route, error.place, None);
                Some(Answer::Error)
            }
            (Key::There(_), Key::There(error)) => {
                check.problem(
                    error.place,
                    "`served_by` and `error` exclude each other",
                    "keep `served_by` if somebody must answer, `error: true` if nobody may",
                );
                None
            }
            (Key::Absent, Key::Absent) => {
                check.problem(
                    place,
                    &format!("the expectation of `{}` does not say who answers", route.value),
                    "add `served_by: ALIAS` or `error: true`",
                );
                None
            }
            (Key::Broken, _) | (_, Key::Broken) => None,
        }
    }

    /// Where `components` is broken, what it says is not known.
    fn is_nothing_down(&self) -> bool {
        match &self.written.components {
            Key::Absent => true,
            Key::Broken => false,
            Key::There(entries) => entries.0.is_empty(),
        }
    }

    fn recoveries(&self, check: &mut Checker<'_>) -> BTreeMap<String, Recovery> {
        let mut recover = BTreeMap::new();
        let nothing_down = self.is_nothing_down();
        for (route, written) in self.written.recover.there().into_iter().flat_map(|entries| &entries.0) {
            if nothing_down {
                check.problem(
                    route.place,
                    "nothing is down in this scenario that could recover",
                    "leave `recover` out, or say in `components` what is down",
                );
            }
            self.has_traffic(check, route, "a recovery");
            let Some(RecoveryWritten { served_by, within }) = written else { continue };
            if let Some(alias) = served_by.there()
                && self.on_route(check, route, alias)
            {
                self.warn_of_fallback(check, route, alias);
            }
            let within = within.there().and_then(|within| check.period("within", within));
            if let (Some(within), Some(alias)) = (within, served_by.there()) {
                recover.insert(route.value.clone(), Recovery { served_by: alias.value.clone(), within });
            }
        }
        recover
    }

    /// Once all faults are healed, the route's own model answers; a fallback only where a later mode keeps that down.
    fn warn_of_fallback(&self, check: &mut Checker<'_>, route: &At<String>, alias: &At<String>) {
        let own = self.names.order(&route.value).and_then(|order| order.list().first());
        if let Some(own) = own.filter(|own| **own != alias.value) {
            check.warning(
                alias.place,
                &format!(
                    "with the faults healed `{own}` answers on `{}`, not `{}`",
                    route.value, alias.value
                ),
                format!("write `served_by: {own}`, unless the next mode keeps `{own}` from answering"),
            );
        }
    }

    /// Without probes nothing can be judged.
    fn has_traffic(&self, check: &mut Checker<'_>, route: &At<String>, what: &str) {
        if let Some(known) = self.names.routes().filter(|_| !self.names.may_have_route(&route.value)) {
            check.unknown("route", route, known);
        } else if self.routes.as_ref().is_some_and(|probed| !probed.contains(route.value.as_str())) {
            check.problem(
                route.place,
                &format!("{what} of `{}`, but no traffic probes that route", route.value),
                format!("add `- {{ route: {}, rate: 2/s, for: 12s }}` to `traffic`", route.value),
            );
        }
    }

    /// Whether the alias may be on the route, as far as is known.
    fn on_route(&self, check: &mut Checker<'_>, route: &At<String>, alias: &At<String>) -> bool {
        if let Some(known) = self.names.aliases().filter(|_| !self.names.may_have_alias(&alias.value)) {
            check.unknown("alias", alias, known.keys().map(String::as_str));
            return false;
        }
        let order = self.names.order(&route.value).filter(|order| !order.has(&alias.value));
        if let Some(order) = order {
            check.problem(
                alias.place,
                &format!("`{}` is not on the route `{}` of this environment", alias.value, route.value),
                format!("the route's order is: {}", order.list()[..order.list().len().min(20)].join(", ")),
            );
        }
        order.is_none()
    }

    /// Why an alias cannot answer, as far as is known.
    fn outage(&self, alias: &str) -> Option<String> {
        let owner = self.names.owner(alias)?;
        match self.components.get(owner)? {
            ComponentState::Down => Some(format!("its component `{owner}` is down")),
            ComponentState::Gone(gone) => {
                gone.iter().any(|own| own == alias).then(|| "it is gone".to_owned())
            }
        }
    }

    /// An expectation that the route's order contradicts can only fail, which is seldom what is meant.
    fn warn_of_one_before(
        &self,
        check: &mut Checker<'_>,
        route: &At<String>,
        place: Place,
        expected: Option<&str>,
    ) {
        let order = self.names.order(&route.value).filter(|_| check.is_clean());
        let up = |alias: &&String| self.names.owner(alias).is_some() && self.outage(alias).is_none();
        let Some(first) = order.and_then(|order| order.list().iter().find(up)) else { return };
        let doubt = match expected {
            Some(expected) if expected == first => return,
            Some(expected) => format!(
                "`{expected}` is expected, but `{first}` is up and comes before it on `{}`",
                route.value
            ),
            None => format!("an error is expected of `{}`, but `{first}` is up there", route.value),
        };
        check.warning(place, &doubt, format!("expect `served_by: {first}`, or take its component down too"));
    }

    fn is_up(&self, check: &mut Checker<'_>, alias: &At<String>) {
        let Some(problem) = self.outage(&alias.value) else { return };
        check.problem(
            alias.place,
            &format!("`{}` cannot answer: {problem} in this scenario", alias.value),
            "name an alias that is up in this mode, or write `error: true`",
        );
    }

    /// A failover that could not be judged steady makes the scenario inconclusive; better to say it now.
    fn warn_of_short_holds(&self, check: &mut Checker<'_>, expect: &BTreeMap<String, Expectation>) {
        for written in self.written.traffic.there().into_iter().flat_map(|traffic| &traffic.value.items) {
            let (Some(route), Some(place)) = (written.route.there(), written.hold.place()) else { continue };
            let route = &route.value;
            let Some(traffic) = self.probed.get(route.as_str()) else { continue };
            let (Some(expectation), false) = (expect.get(route), self.components.is_empty()) else {
                continue;
            };
            let own_model = self.names.order(route).and_then(|order| order.list().first());
            if matches!(&expectation.answer, Answer::ServedBy(alias) if Some(alias) == own_model) {
                continue;
            }
            let probes = traffic.rate.per_second() * traffic.hold.0.as_secs_f64();
            if traffic.hold < STEADY_FOR || probes < STEADY_PROBES {
                check.warning(
                    place,
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
