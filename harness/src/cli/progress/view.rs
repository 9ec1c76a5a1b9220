//! What a run shows of itself while it goes on: a fold over the journal's lines. It judges nothing, and what is not
//! recorded is not shown.

use std::collections::{BTreeMap, VecDeque};

use crate::attribution::by_header;
use crate::journal::{Entry, Event, Outcome, ProbeRecord, Purpose, RunStarted};
use crate::plan::Step;
use crate::scenario::Answer;
use crate::units::Period;

/// Probes per second are those of the newest stretch of this length.
const RATE_OVER_US: u64 = 2_000_000;
/// A route without a good reply for so long is said to be silent.
const SILENT_US: u64 = 1_500_000;
/// So many changes of who serves a route get a line of their own in one mode.
const CHANGES_MAX: u32 = 5;

/// The earliest and the latest moment at which something was so, on the run's clock.
type Span = (u64, u64);

/// All that is known of a run by now.
#[derive(Debug, Default)]
pub(super) struct View {
    now_us: u64,
    modes: Vec<Mode>,
    current: Option<usize>,
    parts: BTreeMap<String, Part>,
}

#[derive(Debug)]
struct Mode {
    step: Step,
    state: &'static str,
    /// Which of its injections goes on, where it has several.
    injection: Option<u32>,
    judged_from_us: Option<u64>,
    /// From here on the worst counts: when the mode's first fault was called, or when it was judged without one.
    worst_from_us: Option<u64>,
    routes: BTreeMap<String, Route>,
}

#[derive(Debug, Default)]
struct Route {
    ended: VecDeque<u64>,
    ok: u64,
    errors: u64,
    worst_us: u64,
    server: Option<String>,
    last_good_us: Option<u64>,
    changes: u32,
}

/// A component.
#[derive(Debug, Default)]
struct Part {
    /// The last look at it: up or down, who looked, what was seen.
    look: Option<(bool, String, String)>,
    /// By pod of the gateway, whether it is reached from there.
    pods: BTreeMap<String, Option<bool>>,
    weak: bool,
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Fault {
    id: u32,
    kind: String,
    called_us: Option<u64>,
    effective: Option<Span>,
    heal_called_us: Option<u64>,
    healed: Option<Span>,
    trouble: Option<&'static str>,
    /// Whether a line of its own has told that it is in effect.
    is_told: bool,
}

impl View {
    /// Takes the next line of the journal. What it is worth a line of its own is returned, for places that show lines only.
    pub(super) fn take(&mut self, entry: &Entry) -> Vec<String> {
        self.now_us = self.now_us.max(entry.at_us);
        match &entry.event {
            Event::RunStarted(start) => self.start(start),
            Event::ProbeEnded(record) => return self.probe(record).into_iter().collect(),
            Event::ScenarioStarted { scenario, injection, .. } => {
                self.current = self.modes.iter().position(|mode| mode.step.scenario.name == *scenario);
                self.with_mode(scenario, |mode| mode.injection = *injection);
                return self.state(scenario, "baseline");
            }
            Event::BaselineBroken { scenario, .. } => return self.state(scenario, "baseline broken"),
            Event::HoldStarted { scenario, from_us } => {
                self.with_mode(scenario, |mode| {
                    mode.judged_from_us = Some(*from_us);
                    mode.worst_from_us.get_or_insert(*from_us);
                });
                return self.state(scenario, "judging");
            }
            Event::HoldEnded { scenario } => return self.state(scenario, "leaving"),
            Event::ScenarioEnded { scenario } => return self.state(scenario, "measured"),
            event => return self.component(event),
        }
        Vec::new()
    }

    fn start(&mut self, start: &RunStarted) {
        let mode = |step: &Step| Mode {
            step: step.clone(),
            state: "waiting",
            injection: None,
            judged_from_us: None,
            worst_from_us: None,
            routes: step.routes.iter().map(|planned| (planned.route.clone(), Route::default())).collect(),
        };
        // Each injection is a step of its own, and all of a scenario have one line.
        let first = |step: &&Step| step.injection.is_none_or(|number| number == 1);
        self.modes = start.plan.steps.iter().filter(first).map(mode).collect();
        let names = start.environment.components.keys();
        self.parts = names.map(|name| (name.clone(), Part::default())).collect();
    }

    fn with_mode(&mut self, scenario: &str, change: impl FnOnce(&mut Mode)) {
        if let Some(mode) = self.modes.iter_mut().find(|mode| mode.step.scenario.name == scenario) {
            change(mode);
        }
    }

    fn state(&mut self, scenario: &str, state: &'static str) -> Vec<String> {
        let mut words = state.to_owned();
        self.with_mode(scenario, |mode| {
            mode.state = state;
            words = mode.numbered(state);
        });
        vec![format!("{scenario}: {words}")]
    }

    fn probe(&mut self, record: &ProbeRecord) -> Option<String> {
        let mode = self.modes.iter_mut().find(|mode| mode.step.scenario.name == record.scenario)?;
        let route = mode.routes.get_mut(&record.route).filter(|_| record.purpose == Purpose::Traffic)?;
        route.ended.push_back(record.ended_us);
        while route.ended.front().is_some_and(|ended_us| ended_us + RATE_OVER_US < self.now_us) {
            route.ended.pop_front();
        }
        let is_error = match &record.outcome {
            Outcome::Ok => false,
            Outcome::Error(_) => true,
            Outcome::Censored(_) => return None,
        };
        // An error is as late as its end; a reply as its first content.
        let shown_us = record.first_content_us.filter(|_| !is_error).unwrap_or(record.ended_us);
        if mode.worst_from_us.is_some_and(|from_us| record.ended_us >= from_us) {
            route.worst_us = route.worst_us.max(shown_us.saturating_sub(record.intended_us));
        }
        if let Outcome::Error(class) = &record.outcome {
            route.errors += 1;
            route.server = Some(class.clone());
            return None;
        }
        route.ok += 1;
        let before = route.last_good_us.replace(record.ended_us);
        let server = by_header(record).unwrap_or_else(|| "unknown".to_owned());
        let was = route.server.replace(server.clone());
        let is_change = before.is_some() && was.as_ref() != Some(&server);
        route.changes += u32::from(is_change);
        let told = is_change && route.changes <= CHANGES_MAX;
        told.then(|| {
            let took = seconds(shown_us.saturating_sub(record.intended_us));
            format!("{}: {} is answered by {server}, after {took}", record.scenario, record.route)
        })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "only some events are about a component")]
    fn component(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::FaultIntended { fault, component, kind, .. } => {
                let part = self.parts.entry(component.clone()).or_default();
                part.fault = Some(Fault {
                    id: *fault,
                    kind: kind.clone(),
                    called_us: None,
                    effective: None,
                    heal_called_us: None,
                    healed: None,
                    trouble: None,
                    is_told: false,
                });
            }
            Event::FaultInjected { fault, called_us, .. } => {
                if let Some(mode) = self.current.and_then(|current| self.modes.get_mut(current)) {
                    mode.worst_from_us.get_or_insert(*called_us);
                }
                self.with_fault(*fault, |own| own.called_us = Some(*called_us));
                // A look may have shown it before the call returned.
                return self.effects();
            }
            Event::InjectionFailed { fault, .. } => self.trouble(*fault, "could not be made"),
            Event::FaultNotEffective { fault, .. } => self.trouble(*fault, "not seen in effect"),
            Event::HealFailed { fault, .. } => self.trouble(*fault, "COULD NOT BE UNDONE"),
            Event::NotServing { fault, .. } => self.trouble(*fault, "undone, but it does not serve"),
            Event::HealLeftAlone { fault, .. } => self.trouble(*fault, "left to whoever changed it"),
            Event::ConnectionsGone { fault, last_seen_us, gone_us, .. }
            | Event::PodsGone { fault, last_seen_us, gone_us, .. } => {
                self.with_fault(*fault, |own| {
                    own.effective = own.effective.map(|(lo, hi)| (lo.max(*last_seen_us), hi.max(*gone_us)));
                });
            }
            Event::FaultHealed { fault, called_us, .. } => {
                self.with_fault(*fault, |own| own.heal_called_us = Some(*called_us));
            }
            Event::FaultGone { fault, last_down_us, served_us } => {
                let mut told = Vec::new();
                for (name, part) in &mut self.parts {
                    if let Some(own) = part.fault.as_mut().filter(|own| own.id == *fault) {
                        own.healed = Some((*last_down_us, *served_us));
                        told.push(format!("{name}: serves again, {}", span((*last_down_us, *served_us))));
                    }
                }
                return told;
            }
            Event::WitnessSaw { component, source, up, saw, sent_us, done_us, previous_sent_us } => {
                let part = self.parts.entry(component.clone()).or_default();
                part.look = Some((*up, source.clone(), saw.clone()));
                if let Some(fault) = part.fault.as_mut().filter(|fault| fault.effective.is_none() && !up) {
                    let (lo, hi) = (previous_sent_us.unwrap_or(*sent_us), *done_us);
                    if fault.called_us.is_none_or(|called| called <= hi) {
                        fault.effective = Some((lo, hi));
                    }
                }
                return self.effects();
            }
            Event::SeenFromPod { component, pod, reached, .. } => {
                self.parts.entry(component.clone()).or_default().pods.insert(pod.clone(), *reached);
            }
            Event::EvidenceWeak { component, .. } => {
                self.parts.entry(component.clone()).or_default().weak = true;
            }
            _ => {}
        }
        Vec::new()
    }

    fn with_fault(&mut self, id: u32, change: impl FnOnce(&mut Fault)) {
        let faults = self.parts.values_mut().filter_map(|part| part.fault.as_mut());
        if let Some(fault) = faults.into_iter().find(|fault| fault.id == id) {
            change(fault);
        }
    }

    fn trouble(&mut self, id: u32, words: &'static str) {
        self.with_fault(id, |fault| fault.trouble = Some(words));
    }

    /// Cuts brackets off at their calls, and tells of those that have just closed.
    fn effects(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for (name, part) in &mut self.parts {
            let Some(fault) = &mut part.fault else { continue };
            if let (Some(called), Some((lo, hi))) = (fault.called_us, fault.effective)
                && lo < called
            {
                fault.effective = Some((called.min(hi), hi));
            }
            if let (Some(_), Some(effective), None) = (fault.called_us, fault.effective, fault.trouble)
                && !std::mem::replace(&mut fault.is_told, true)
            {
                told.push(format!("{name}: {} in effect, {}", fault.kind, span(effective)));
            }
        }
        told
    }

    /// One line a mode, in the order of the plan.
    pub(super) fn modes(&self) -> impl Iterator<Item = (&str, String)> {
        self.modes.iter().map(|mode| {
            let mut words = mode.numbered(mode.state);
            if let Some(from_us) = mode.judged_from_us.filter(|_| mode.state == "judging") {
                let hold_us = mode.step.routes.iter().map(|planned| us(planned.hold)).max();
                let gone_us = self.now_us.saturating_sub(from_us);
                words = format!("{words}, {} of {}", seconds(gone_us), seconds(hold_us.unwrap_or(0)));
            } else if mode.state == "measured" {
                words = mode.summary();
            }
            (mode.step.scenario.name.as_str(), words)
        })
    }

    /// Of the mode that goes on: a line for each component, and for each route.
    pub(super) fn details(&self) -> Vec<String> {
        let Some(mode) = self.current.and_then(|current| self.modes.get(current)) else { return Vec::new() };
        let parts = self.parts.iter().map(|(name, part)| format!("{name:<12} {}", part.words()));
        let routes = mode.routes.iter().map(|(name, route)| {
            let expected = mode.step.scenario.expect.get(name);
            let wants_reply = expected.is_none_or(|expected| matches!(expected.answer, Answer::ServedBy(_)));
            let limit = expected.map(|expected| seconds(us(expected.within)));
            format!("{name:<12} {}", route.words(self.now_us, limit.as_deref(), wants_reply))
        });
        parts.chain(routes).collect()
    }
}

impl Mode {
    fn numbered(&self, state: &str) -> String {
        match self.injection {
            Some(number) => format!("{state}, injection {number} of {}", self.step.scenario.injections),
            None => state.to_owned(),
        }
    }

    fn summary(&self) -> String {
        let (mut ok, mut errors, mut worst_us) = (0, 0, 0);
        for route in self.routes.values() {
            ok += route.ok;
            errors += route.errors;
            worst_us = worst_us.max(route.worst_us);
        }
        format!("measured: {ok} ok, {errors} errors, worst {}", seconds(worst_us))
    }
}

impl Route {
    /// `limit` is what the worst is held against; `wants_reply`: an error is not what is expected.
    fn words(&self, now_us: u64, limit: Option<&str>, wants_reply: bool) -> String {
        let newest =
            self.ended.iter().rev().take_while(|ended_us| **ended_us + RATE_OVER_US > now_us).count();
        let rate = newest as f64 * 1e6 / RATE_OVER_US as f64;
        let limit = limit.map(|limit| format!(" (limit {limit})")).unwrap_or_default();
        let mut words = format!(
            "{rate:>5.1}/s  now {}  {} ok  {} errors  worst {}{limit}",
            self.server.as_deref().unwrap_or("nobody"),
            self.ok,
            self.errors,
            seconds(self.worst_us)
        );
        let silent_us = self.last_good_us.map_or(0, |last_us| now_us.saturating_sub(last_us));
        if wants_reply && silent_us > SILENT_US {
            words.push_str(&format!("  no good reply for {}", seconds(silent_us)));
        }
        words
    }
}

impl Part {
    fn words(&self) -> String {
        let look = match (&self.look, self.reached()) {
            (Some((up, source, saw)), _) => {
                format!("{} ({source}: {saw})", if *up { "up" } else { "down" })
            }
            (None, Some((reached, of))) => format!("reached from {reached} of {of} pods"),
            (None, None) if self.weak => "objects only, nobody looks at it".to_owned(),
            (None, None) => "not looked at".to_owned(),
        };
        match &self.fault {
            Some(fault) => format!("{look}  {}", fault.words()),
            None => look,
        }
    }

    fn reached(&self) -> Option<(usize, usize)> {
        let reached = self.pods.values().filter(|reached| **reached == Some(true)).count();
        (!self.pods.is_empty()).then_some((reached, self.pods.len()))
    }
}

impl Fault {
    fn words(&self) -> String {
        let kind = &self.kind;
        if let Some(trouble) = self.trouble {
            return format!("{kind}: {trouble}");
        }
        match (self.effective, self.heal_called_us, self.healed) {
            (_, _, Some(healed)) => format!("{kind} over, serves again {}", span(healed)),
            (_, Some(called), None) => format!("{kind} undone at {}, not seen to serve yet", seconds(called)),
            (Some(effective), None, None) if self.called_us.is_some() => {
                format!("{kind} in effect {}", span(effective))
            }
            (_, None, None) => match self.called_us {
                Some(called) => format!("{kind} called at {}, effect not seen yet", seconds(called)),
                None => format!("{kind} is being made"),
            },
        }
    }
}

fn us(period: Period) -> u64 {
    u64::try_from(period.0.as_micros()).unwrap_or(u64::MAX)
}

fn seconds(us: u64) -> String {
    format!("{:.2} s", us as f64 / 1e6)
}

/// A bracket on the run's clock, with its width.
fn span((lo, hi): Span) -> String {
    let (from, to, wide) = (lo as f64 / 1e6, hi as f64 / 1e6, hi.saturating_sub(lo) as f64 / 1e3);
    format!("[{from:.3}, {to:.3}] s ({wide:.0} ms wide)")
}

#[cfg(test)]
mod tests;
