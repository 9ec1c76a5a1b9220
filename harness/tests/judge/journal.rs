//! A run as it goes when all is well, told to a journal; a test changes what it is about.

use std::collections::BTreeMap;
use std::path::Path;

use harness::environment::Environment;
use harness::input::load_from;
use harness::journal::{
    Claim, ClaimSource, Entry, Event, FORMAT, GatewayStarted, Outcome, ProbeRecord, Purpose, RunStarted,
    UpstreamCall,
};
use harness::plan::{Plan, PlannedRoute, State, Step, resolve};
use harness::scenario::Scenario;
use harness::units::Period;
use harness::verdict::result::{Ended, RunResult};

pub(crate) const SECOND: u64 = 1_000_000;

/// The shipped scenarios of these names (all five where none is named), in the shipped environment.
pub(crate) fn shipped(names: &[&str]) -> (Vec<Scenario>, Environment) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let loaded = load_from(&root, &[], None).unwrap();
    let wanted = |scenario: &Scenario| names.is_empty() || names.contains(&scenario.name.as_str());
    (loaded.scenarios.into_iter().filter(wanted).collect(), loaded.environment)
}

/// Which part of its mode a probe belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Lead,
    InFlight,
    Judged,
    Drain,
    Recovery,
}

/// Where a probe stands.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) scenario: String,
    /// Which injection of it, where there is more than one.
    pub(crate) injection: Option<u32>,
    pub(crate) route: String,
    pub(crate) part: Part,
    /// Seconds since the fault was surely in effect; since heal, in recovery.
    pub(crate) seconds: f64,
    /// Number within its part.
    pub(crate) nth: usize,
}

impl Slot {
    pub(crate) fn judged(&self, route: &str) -> bool {
        self.part == Part::Judged && self.route == route
    }
    pub(crate) fn recovering(&self, route: &str) -> bool {
        self.part == Part::Recovery && self.route == route
    }
}

/// One probe and what the upstreams wrote of it.
pub(crate) struct Told {
    pub(crate) record: ProbeRecord,
    pub(crate) calls: Vec<UpstreamCall>,
}

impl Told {
    pub(crate) fn served_by(&mut self, alias: &str) {
        self.record.outcome = Outcome::Ok;
        self.record.status = Some(200);
        self.record.claims = vec![Claim { source: ClaimSource::HeaderModelGroup, value: alias.into() }];
        self.calls = vec![self.call(alias, Some(200), 20_000)];
        let start = self.record.intended_us;
        self.record.headers_us = Some(start + 90_000);
        self.record.first_answer_us = Some(start + 100_000);
        self.record.first_content_us = Some(start + 100_000);
        self.record.ended_us = start + 150_000;
    }

    pub(crate) fn call(&self, alias: &str, status: Option<u16>, after_us: u64) -> UpstreamCall {
        UpstreamCall {
            component: "somewhere".into(),
            model: format!("m-{alias}"),
            probe: Some(self.record.id.clone()),
            purpose: None,
            received_us: self.record.intended_us + after_us,
            ended_us: Some(self.record.intended_us + after_us + 50_000),
            status,
        }
    }

    pub(crate) fn failed(&mut self, class: &str) {
        self.record.outcome = Outcome::Error(class.into());
        self.record.status = class.strip_prefix("http-").and_then(|status| status.parse().ok());
        self.record.claims.clear();
        self.record.first_content_us = None;
        self.record.first_answer_us = None;
        self.record.ended_us = self.record.intended_us + 150_000;
        self.calls.clear();
    }

    /// The first content comes so long after the intended start, the rest 50 ms later.
    pub(crate) fn after(&mut self, us: u64) {
        let start = self.record.intended_us;
        if self.record.outcome == Outcome::Ok {
            self.record.first_content_us = Some(start + us);
            self.record.first_answer_us = Some(start + us);
            self.record.ended_us = start + us + 50_000;
        } else {
            self.record.ended_us = start + us;
        }
    }

    pub(crate) fn unknown(&mut self) {
        self.record.claims.clear();
        self.calls.clear();
    }
}

type Edit = Box<dyn Fn(&Slot, &mut Told)>;

/// A run to be told.
pub(crate) struct Story {
    pub(crate) environment: Environment,
    pub(crate) plan: Plan,
    /// Width of the effective bracket.
    pub(crate) bracket_us: u64,
    /// How long recovery is watched.
    pub(crate) recovery_us: u64,
    edits: Vec<Edit>,
}

impl Story {
    pub(crate) fn of(names: &[&str]) -> Self {
        let (scenarios, environment) = shipped(names);
        Self::with(&scenarios, environment)
    }

    /// A run of one shipped scenario that was changed.
    pub(crate) fn changed(name: &str, change: impl Fn(&mut Scenario)) -> Self {
        let (mut scenarios, environment) = shipped(&[name]);
        scenarios.iter_mut().for_each(change);
        Self::with(&scenarios, environment)
    }

    pub(crate) fn with(scenarios: &[Scenario], environment: Environment) -> Self {
        let plan = resolve(scenarios, &environment, Period::from_secs(3), 7);
        Self { environment, plan, bracket_us: 12_000, recovery_us: 7 * SECOND, edits: Vec::new() }
    }

    pub(crate) fn edit(mut self, edit: impl Fn(&Slot, &mut Told) + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    pub(crate) fn judge(&self) -> RunResult {
        self.tell().judge()
    }

    pub(crate) fn tell(&self) -> Lines {
        let mut lines = Lines::default();
        let aliases = self.environment.components.values().flat_map(|component| &component.aliases);
        lines.push(
            0,
            Event::RunStarted(Box::new(RunStarted {
                format: FORMAT,
                program: "0.0.0".into(),
                run_id: "r".into(),
                started_at: "2026-01-02T03:04:05.000Z".into(),
                gateway_kind: "mock".into(),
                gateway_config: "by hand".into(),
                upstream_models: aliases.map(|alias| (format!("m-{alias}"), alias.clone())).collect(),
                environment: self.environment.clone(),
                plan: self.plan.clone(),
                made_with: vec![],
            })),
        );
        let (unsupported, adapted) = (vec![], vec![]);
        lines.push(
            10,
            Event::GatewayStarted(GatewayStarted {
                version: "1".into(),
                unsupported,
                adapted,
                names: Default::default(),
                bases: Default::default(),
                timeouts: Default::default(),
            }),
        );
        let mut world = World::default();
        let mut now = 100_000;
        for step in &self.plan.steps {
            now = self.mode(step, now, &mut lines, &mut world) + 10_000;
        }
        lines.push(now, Event::RestoreEnded { restored: true, left: vec![] });
        let finished_at = "2026-01-02T03:09:05.000Z".into();
        lines.push(now + 1, Event::RunEnded { ended: Ended::Completed, finished_at });
        lines.sorted()
    }

    fn mode(&self, step: &Step, start: u64, lines: &mut Lines, world: &mut World) -> u64 {
        let scenario = step.scenario.name.clone();
        let injection = step.injection;
        lines.push(start, Event::ScenarioStarted { scenario: scenario.clone(), injection, phase_us: None });
        for component in &step.inherited {
            let (fault, _) = world.down[component];
            lines.push(start + 1, Event::FaultInherited { scenario: scenario.clone(), fault });
        }
        for fault in &step.inject {
            lines.push(start + 2, saw(&fault.component, true, start, start + 1, None));
        }
        let mut now = start + 3 * SECOND + 33_000;
        let (mut lo, mut hi) = (now, now);
        for fault in &step.inject {
            let id = world.faults;
            world.faults += 1;
            let component = fault.component.clone();
            lines.push(
                now,
                Event::FaultIntended {
                    fault: id,
                    scenario: scenario.clone(),
                    component: component.clone(),
                    kind: fault.kind.word().into(),
                    undo: "undo".into(),
                },
            );
            let called_us = now + 10;
            let accepted_us = called_us + 500;
            lines.push(accepted_us, Event::FaultInjected { fault: id, called_us, accepted_us });
            lo = called_us + 1000;
            hi = lo + self.bracket_us;
            lines.push(hi, saw(&component, false, hi - 1000, hi, Some(lo)));
            world.down.insert(component, (id, hi));
            now = hi + 10;
        }
        lines.push(now, Event::HoldStarted { scenario: scenario.clone(), from_us: hi });
        let times = Times { start, lo, hi, heal: u64::MAX, served: u64::MAX };
        let judged_until = hi + u64::try_from(step.hold().as_micros()).unwrap();
        let judged = self.probes(step, &times, judged_until);
        let hold_ended =
            judged.iter().map(|told| told.record.ended_us).max().unwrap_or(0).max(judged_until) + 10;
        lines.push(hold_ended, Event::HoldEnded { scenario: scenario.clone() });
        let heal = hold_ended + 100;
        let served = heal + 50_000;
        let end = if step.heal.is_empty() { hold_ended + 20 } else { served + self.recovery_us };
        for (component, (_, counted_to)) in &mut world.down {
            let to = if step.heal.contains(component) { heal } else { end };
            while *counted_to < to {
                let (from_us, to_us) = (*counted_to, (*counted_to + SECOND).min(to));
                let component = component.clone();
                lines.push(
                    to_us,
                    Event::WitnessCounted { component, from_us, to_us: to_us - 1, up: 0, down: 50 },
                );
                *counted_to = to_us;
            }
        }
        for component in &step.heal {
            let (fault, _) = world.down.remove(component).unwrap();
            lines.push(heal, Event::HealIntended { fault });
            let (called_us, accepted_us) = (heal, heal + 100);
            lines.push(accepted_us, Event::FaultHealed { fault, called_us, accepted_us, read_back: true });
            lines.push(served, Event::FaultGone { fault, last_down_us: heal, served_us: served });
        }
        let times = if step.heal.is_empty() { times } else { Times { heal, served, ..times } };
        for told in self.probes(step, &times, end - 200_000) {
            lines.push(told.record.ended_us, Event::ProbeEnded(Box::new(told.record)));
            for call in told.calls {
                lines.push(call.ended_us.unwrap(), Event::UpstreamCalled(call));
            }
        }
        let last = lines.0.iter().map(|(at, _)| *at).max().unwrap().max(end);
        lines.push(last, Event::ScenarioEnded { scenario });
        last
    }

    fn probes(&self, step: &Step, times: &Times, until: u64) -> Vec<Told> {
        let mut all = Vec::new();
        for (place, route) in step.routes.iter().enumerate() {
            let interval = u64::try_from(route.rate.interval().as_micros()).unwrap();
            let mut nth = BTreeMap::new();
            let mut at = times.start + 50_000 + 17_000 * place as u64;
            for number in 0.. {
                if at > until {
                    break;
                }
                let (part, since) = times.part(at, route);
                let counter = nth.entry(part as u8).or_insert(0);
                let slot = Slot {
                    scenario: step.scenario.name.clone(),
                    injection: step.injection,
                    route: route.route.clone(),
                    part,
                    seconds: (at as f64 - since as f64) / 1e6,
                    nth: *counter,
                };
                *counter += 1;
                all.push(self.probe(step, route, &slot, at, number));
                at += interval;
            }
        }
        all
    }

    fn probe(&self, step: &Step, route: &PlannedRoute, slot: &Slot, at: u64, number: u64) -> Told {
        let mut told = Told {
            record: ProbeRecord {
                id: format!("{}.{}-{}-{number}", slot.scenario, slot.injection.unwrap_or(0), slot.route),
                scenario: slot.scenario.clone(),
                route: slot.route.clone(),
                purpose: Purpose::Traffic,
                model: route.model.clone(),
                streamed: number % 2 == 1,
                fresh: number % 4 < 2,
                intended_us: at,
                sent_us: at + 200,
                headers_us: None,
                first_content_us: None,
                first_answer_us: None,
                ended_us: at,
                status: None,
                outcome: Outcome::Ok,
                claims: vec![],
                detail: None,
                longest_gap_us: None,
                broke: None,
            },
            calls: vec![],
        };
        let healed = State::of(&step.scenario).without(&step.heal);
        let server = match slot.part {
            Part::Lead => route.before.clone(),
            Part::InFlight | Part::Judged | Part::Drain => route.after.clone(),
            Part::Recovery => healed.server(&self.environment.routes[&route.route], &self.environment),
        };
        match server {
            Some(alias) => told.served_by(&alias),
            None => told.failed("http-500"),
        }
        for edit in &self.edits {
            edit(slot, &mut told);
        }
        told
    }
}

#[derive(Default)]
struct World {
    faults: u32,
    /// Number of the fault, and up to when it was counted as seen down.
    down: BTreeMap<String, (u32, u64)>,
}

#[derive(Clone, Copy)]
struct Times {
    start: u64,
    lo: u64,
    hi: u64,
    heal: u64,
    served: u64,
}

impl Times {
    fn part(&self, at: u64, route: &PlannedRoute) -> (Part, u64) {
        let until = self.hi + u64::try_from(route.hold.0.as_micros()).unwrap();
        if at >= self.heal {
            // Between heal and the first completion nothing is expected; told as recovered.
            (Part::Recovery, self.served)
        } else if at > until {
            (Part::Drain, self.hi)
        } else if at >= self.hi {
            (Part::Judged, self.hi)
        } else if at + 150_000 >= self.lo {
            (Part::InFlight, self.hi)
        } else {
            (Part::Lead, self.hi)
        }
    }
}

fn saw(component: &str, up: bool, sent_us: u64, done_us: u64, previous_sent_us: Option<u64>) -> Event {
    let saw = if up { "connected" } else { "refused" };
    Event::WitnessSaw {
        component: component.into(),
        source: "tcp-witness".into(),
        up,
        sent_us,
        done_us,
        saw: saw.into(),
        previous_sent_us,
    }
}

/// The lines of a journal, by time of writing.
#[derive(Clone, Default)]
pub(crate) struct Lines(pub(crate) Vec<(u64, Event)>);

impl Lines {
    pub(crate) fn push(&mut self, at_us: u64, event: Event) {
        self.0.push((at_us, event));
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.0.sort_by_key(|(at, _)| *at);
        self
    }

    pub(crate) fn with(mut self, at_us: u64, event: Event) -> Self {
        self.push(at_us, event);
        self.sorted()
    }

    /// As if it had been in a cluster.
    pub(crate) fn in_cluster(&mut self) {
        for (_, event) in &mut self.0 {
            if let Event::RunStarted(start) = event {
                let cluster =
                    harness::input::load(&[], Some("../scenarios/environments/home-cluster.yaml")).unwrap();
                start.environment.kind = cluster.environment.kind;
            }
        }
    }

    /// The witness sees the component up, or down, at this instant.
    pub(crate) fn look(self, component: &str, up: bool, at_us: u64) -> Self {
        self.with(at_us, saw(component, up, at_us - 1000, at_us, Some(at_us - 11_000)))
    }

    pub(crate) fn without(mut self, dropped: impl Fn(&Event) -> bool) -> Self {
        self.0.retain(|(_, event)| !dropped(event));
        self
    }

    /// The journal of a run that ended at this instant, with what came last.
    pub(crate) fn cut(mut self, at_us: u64, last: Vec<Event>) -> Self {
        self.0.retain(|(at, _)| *at <= at_us);
        self.0.extend(last.into_iter().map(|event| (at_us, event)));
        self
    }

    /// When this was first written.
    pub(crate) fn when(&self, wanted: impl Fn(&Event) -> bool) -> u64 {
        self.0.iter().find(|(_, event)| wanted(event)).unwrap().0
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        let lines = self.0.iter().enumerate();
        lines
            .map(|(seq, (at_us, event))| Entry { seq: seq as u64, at_us: *at_us, event: event.clone() })
            .collect()
    }

    pub(crate) fn judge(&self) -> RunResult {
        harness::verdict::judge(&harness::analysis::gather(&self.entries()).unwrap())
    }
}

impl std::fmt::Debug for Lines {
    /// What came of it; the lines themselves would bury it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lines: {:?}", self.0.len(), self.judge().reasons)
    }
}
