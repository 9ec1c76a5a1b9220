//! Gathering: the journal's lines sorted into what belongs together.

use std::collections::{BTreeMap, BTreeSet};

use crate::attribution::{Attribution, Names, balance::Balance, window::only_one};
use crate::environment::Environment;
use crate::journal::{
    Claim, ClaimSource, ClientStarted, Entry, Event, GatewayCall, GatewayStarted, LogCounted, Outcome,
    ProbeRecord, Purpose, RunStarted, TurnTranscribed, UpstreamCall, UpstreamCounted,
};
use crate::plan::Step;
use crate::verdict::result::{Ended, GatewaySettings, KnownBy, LogCount, MigrationLine, UpstreamCount};

use super::sources::{add_gateway, balances, explain, log_count, names};
use super::upstreams::upstream_count;
use super::{FaultFacts, GATEWAY_NOT_ASKED, Look, is_honest_error, ms};

/// A run, as far as its journal goes.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// The first line.
    pub start: RunStarted,
    /// The gateway, if it came up.
    pub gateway: Option<GatewayStarted>,
    /// openclaw, if it came up before the gateway.
    pub client: Option<ClientStarted>,
    /// One entry a planned mode, in order.
    pub modes: Vec<Mode>,
    /// Whether something that an earlier run had left was undone.
    pub earlier_undone: bool,
    /// Why it was refused before anything was touched.
    pub refused: Option<String>,
    /// The signal or deadline that cut it short.
    pub interrupted: Option<String>,
    /// Why the harness itself could not go on.
    pub aborted: Option<String>,
    /// Whether all was restored, and what is left.
    pub restored: Option<(bool, Vec<String>)>,
    /// How it ended, and when (RFC 3339).
    pub ended: Option<(Ended, String)>,
    /// Time of the last line.
    pub last_us: u64,
    /// Findings of the run itself.
    pub found: Vec<String>,
    /// How the gateway said that it routes, or why that is not known; `None` where it was not asked.
    pub told: Option<Result<GatewaySettings, String>>,
    /// The state of the migration; `None` where nobody looked.
    pub migration: Option<Vec<MigrationLine>>,
    /// What a person types to undo changes of a cluster that were not seen undone, by fault.
    pub undo_commands: BTreeMap<u32, Vec<String>>,
    /// Upstreams keep journals of their own, which the run could read.
    pub has_journals: bool,
    /// By alias, what its upstream served against what clients got; empty where upstreams keep no journal.
    pub balance: BTreeMap<String, Balance>,
}

/// One mode.
#[derive(Clone, Debug)]
pub struct Mode {
    /// As planned.
    pub step: Step,
    /// When its traffic started; `None`: not reached.
    pub started_us: Option<u64>,
    /// Why no fault was injected.
    pub baseline_broken: Option<String>,
    /// Why it says nothing, as was known at once.
    pub voided: Vec<String>,
    /// What others changed while it went on.
    pub drifts: Vec<Drift>,
    /// What others changed while it came back.
    pub drifts_after: Vec<Drift>,
    /// What had to stay up and was not reached from a pod of the gateway while the mode was judged, one entry a component.
    pub not_kept_up: Vec<Drift>,
    /// When and how the harness's own way to the gateway broke, before anything was healed.
    pub way_broke: Vec<Drift>,
    /// The same while it came back.
    pub way_broke_after: Vec<Drift>,
    /// What was seen of others who used the gateway, the most at the end.
    pub others: Vec<Drift>,
    /// Which pods of the gateway answered, and how that is known.
    pub answered_by: Option<(KnownBy, BTreeMap<String, Option<u64>>)>,
    /// All faults in effect in this mode, inherited ones first.
    pub faults: Vec<FaultFacts>,
    /// Start of the judged window.
    pub hold_from_us: Option<u64>,
    /// When each judged probe had ended.
    pub hold_ended_us: Option<u64>,
    /// When the first heal of this mode was called.
    pub heal_called_us: Option<u64>,
    /// When it was over.
    pub ended_us: Option<u64>,
    /// All probes, by intended start.
    pub probes: Vec<Probe>,
    /// Planned and not sent: route, intended start, reason.
    pub skipped: Vec<(String, u64, String)>,
    /// What logs of the gateway counted while it went on.
    pub counts: Vec<LogCount>,
    /// What upstreams counted while it went on.
    pub upstream_counts: Vec<UpstreamCount>,
    /// What upstreams served while it went on and nobody is known to have asked for: alias, how many.
    pub unexplained: Vec<(String, u64)>,
    /// The component behind each route's own model.
    pub primary_components: BTreeMap<String, String>,
}

/// One probe with what the sources say about it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// As journaled.
    pub record: ProbeRecord,
    /// Who served it; empty unless it is a complete reply.
    pub attribution: Attribution,
    /// Upstreams keep journals, and those do not show the answer that it is said to be.
    pub is_unshown: bool,
    /// The upstreams' own records of it, in time order, with the alias where known.
    pub calls: Vec<(UpstreamCall, Option<String>)>,
    /// Where it went through openclaw: what that asked of the gateway for it, in time order.
    pub turn: Vec<GatewayCall>,
    /// Those carry no mark of it; it was the only turn in flight.
    pub is_by_window: bool,
    /// openclaw's own transcript has its answer.
    pub is_transcribed: bool,
}

impl Probe {
    /// Upstream calls made for it while its client still waited; the gateway may go on after that, and a
    /// silent connection may deliver a request only after the heal.
    pub fn calls_in_time(&self) -> impl DoubleEndedIterator<Item = &(UpstreamCall, Option<String>)> {
        self.calls.iter().filter(|(call, _)| call.received_us <= self.record.ended_us)
    }

    /// The same, apart by the requests that openclaw made of it; all together where it went to the gateway itself.
    #[must_use]
    pub fn by_request(&self) -> Vec<Vec<&(UpstreamCall, Option<String>)>> {
        let mut requests = vec![Vec::new(); self.turn.len().max(1)];
        for call in self.calls_in_time() {
            let begun = self.turn.iter().filter(|request| request.received_us <= call.0.received_us).count();
            requests[begun.saturating_sub(1)].push(call);
        }
        requests
    }
}

/// What someone else changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// When it was known.
    pub seen_us: u64,
    /// What changed, and by whom as far as is known.
    pub what: String,
}

/// Sort a journal's entries. `None` when the first is not a run's start.
#[must_use]
pub fn gather(entries: &[Entry]) -> Option<RunFacts> {
    let Event::RunStarted(start) = &entries.first()?.event else { return None };
    let modes = start.plan.steps.iter().map(|step| Mode {
        step: step.clone(),
        started_us: None,
        baseline_broken: None,
        voided: Vec::new(),
        drifts: Vec::new(),
        drifts_after: Vec::new(),
        not_kept_up: Vec::new(),
        way_broke: Vec::new(),
        way_broke_after: Vec::new(),
        others: Vec::new(),
        answered_by: None,
        faults: Vec::new(),
        hold_from_us: None,
        hold_ended_us: None,
        heal_called_us: None,
        ended_us: None,
        probes: Vec::new(),
        skipped: Vec::new(),
        counts: Vec::new(),
        upstream_counts: Vec::new(),
        unexplained: Vec::new(),
        primary_components: primary_components(&start.environment),
    });
    let mut gatherer = Gatherer {
        run: RunFacts {
            start: (**start).clone(),
            gateway: None,
            client: None,
            modes: modes.collect(),
            earlier_undone: false,
            refused: None,
            interrupted: None,
            aborted: None,
            restored: None,
            ended: None,
            last_us: entries.last().map_or(0, |entry| entry.at_us),
            found: Vec::new(),
            told: None,
            migration: None,
            undo_commands: BTreeMap::new(),
            has_journals: false,
            balance: BTreeMap::new(),
        },
        names: names(start),
        faults: BTreeMap::new(),
        current: BTreeMap::new(),
        home: BTreeMap::new(),
        calls: Vec::new(),
        counted: Vec::new(),
        upstreams_counted: Vec::new(),
        turns: BTreeMap::new(),
        unmarked: Vec::new(),
        transcribed: BTreeMap::new(),
        drifts: Vec::new(),
        breaks: Vec::new(),
        reach: BTreeMap::new(),
    };
    for entry in entries {
        gatherer.take(entry.at_us, &entry.event);
    }
    Some(gatherer.finish())
}

fn primary_components(environment: &Environment) -> BTreeMap<String, String> {
    let serves = |model: &String| {
        environment
            .components
            .iter()
            .find(|(_, component)| component.aliases.contains(model))
            .map(|(name, _)| name)
    };
    let routes = environment.routes.iter();
    routes.filter_map(|(name, route)| Some((name.clone(), serves(&route.model)?.clone()))).collect()
}

struct Gatherer {
    run: RunFacts,
    names: Names,
    faults: BTreeMap<u32, FaultFacts>,
    /// By scenario the mode that goes on, or went on last: its injections are modes of their own.
    current: BTreeMap<String, usize>,
    /// In which modes each fault is, with whether it is inherited there.
    home: BTreeMap<u32, Vec<(usize, bool)>>,
    calls: Vec<UpstreamCall>,
    /// With the mode in which it was counted.
    counted: Vec<(usize, LogCounted)>,
    upstreams_counted: Vec<(usize, UpstreamCounted)>,
    turns: BTreeMap<String, Vec<GatewayCall>>,
    /// What openclaw asked without a mark of any probe.
    unmarked: Vec<GatewayCall>,
    /// By probe, the last answer in openclaw's own transcript.
    transcribed: BTreeMap<String, TurnTranscribed>,
    drifts: Vec<Drift>,
    /// When and how the way to the gateway broke.
    breaks: Vec<Drift>,
    /// What each pod of the gateway saw of each component, on every change.
    reach: Reach,
}

impl Gatherer {
    fn place(&self, scenario: &str) -> Option<usize> {
        let first = || self.run.modes.iter().position(|mode| mode.step.scenario.name == scenario);
        self.current.get(scenario).copied().or_else(first)
    }

    fn mode(&mut self, scenario: &str) -> Option<&mut Mode> {
        let place = self.place(scenario)?;
        self.run.modes.get_mut(place)
    }

    fn start(&mut self, scenario: &str, injection: Option<u32>, at_us: u64) {
        let is_it = |mode: &Mode| mode.step.scenario.name == scenario && mode.step.injection == injection;
        if let Some(place) = self.run.modes.iter().position(is_it) {
            self.current.insert(scenario.to_owned(), place);
            self.run.modes[place].started_us = Some(at_us);
        }
    }

    fn take(&mut self, at_us: u64, event: &Event) {
        match event {
            Event::RunStarted(_)
            | Event::WarmedUp { .. }
            | Event::HealIntended { .. }
            | Event::LockReleased { .. }
            | Event::RecordWritten { .. } => {}
            Event::LockTaken { lease, from } => {
                let held = from.as_ref().map(|from| format!("the lock {lease} was left behind by {from}"));
                self.run.found.extend(held);
            }
            Event::LockTroubled { why, .. } => self.run.found.push(why.clone()),
            Event::EarlierRestored { undone, left_alone, .. } => {
                self.run.earlier_undone |= !undone.is_empty();
                let undone = undone.iter().map(|words| format!("undone for an earlier run: {words}"));
                let left = left_alone.iter().map(|words| {
                    format!("of an earlier run, left alone, since somebody has changed it: {words}")
                });
                self.run.found.extend(undone.chain(left));
            }
            Event::MutationIntended { fault, undo, .. } => {
                // The last is undone first.
                self.run.undo_commands.entry(*fault).or_default().insert(0, undo.clone());
            }
            Event::GatewayStarted(gateway) => {
                add_gateway(&mut self.names, gateway);
                self.run.gateway = Some(gateway.clone());
            }
            Event::GatewayTold { settings, why } => {
                let why = || why.clone().unwrap_or_else(|| "it did not say".to_owned());
                self.run.told = Some(settings.as_deref().cloned().ok_or_else(why));
            }
            Event::MigrationSeen { lines } => self.run.migration = Some(lines.clone()),
            Event::Refused { reason } => self.run.refused = Some(reason.clone()),
            Event::Interrupted { cause } => self.run.interrupted = Some(cause.clone()),
            Event::Aborted { cause } => self.run.aborted = Some(cause.clone()),
            Event::RestoreEnded { restored, left } => self.run.restored = Some((*restored, left.clone())),
            Event::RunEnded { ended, finished_at } => self.run.ended = Some((*ended, finished_at.clone())),
            Event::Found { text } => self.run.found.push(text.clone()),
            Event::ScenarioStarted { scenario, injection, .. } => self.start(scenario, *injection, at_us),
            Event::ScenarioEnded { scenario } => self.with(scenario, |mode| mode.ended_us = Some(at_us)),
            Event::BaselineBroken { scenario, saw } => {
                self.with(scenario, |mode| mode.baseline_broken = Some(saw.clone()));
            }
            Event::Voided { scenario, why } => {
                self.with(scenario, |mode| mode.voided.push(why.clone()));
            }
            Event::Drifted { seen_us, what } => {
                self.drifts.push(Drift { seen_us: *seen_us, what: what.clone() });
            }
            Event::SeenFromPod { component, pod, reached, sent_us, saw, .. } => {
                let pods = self.reach.entry(component.clone()).or_default();
                pods.entry(pod.clone()).or_default().push((*sent_us, *reached, saw.clone()));
            }
            Event::WayBroke { broke_us, why } => {
                self.breaks.push(Drift { seen_us: *broke_us, what: why.clone() });
            }
            // For whoever looks at a mock afterwards.
            Event::MockProcess { .. } => {}
            Event::OthersCalled { scenario, seen_us, what } => {
                let seen = Drift { seen_us: *seen_us, what: what.clone() };
                self.with(scenario, |mode| mode.others.push(seen));
            }
            Event::LogCounted(counted) => {
                self.counted.extend(self.place(&counted.scenario).map(|place| (place, counted.clone())));
            }
            Event::UpstreamCounted(counted) => {
                let counted = self.place(&counted.scenario).map(|place| (place, counted.clone()));
                self.upstreams_counted.extend(counted);
            }
            Event::PodsAnswered { scenario, known_by, pods } => {
                self.with(scenario, |mode| mode.answered_by = Some((*known_by, pods.clone())));
            }
            Event::HoldStarted { scenario, from_us } => {
                self.with(scenario, |mode| mode.hold_from_us = Some(*from_us));
            }
            Event::HoldEnded { scenario } => self.with(scenario, |mode| mode.hold_ended_us = Some(at_us)),
            Event::ProbeSkipped { scenario, route, intended_us, reason } => {
                let skipped = (route.clone(), *intended_us, reason.clone());
                self.with(scenario, |mode| mode.skipped.push(skipped));
            }
            Event::ProbeEnded(record) => {
                let probe = Probe {
                    record: (**record).clone(),
                    attribution: Attribution::default(),
                    is_unshown: false,
                    calls: Vec::new(),
                    turn: Vec::new(),
                    is_by_window: false,
                    is_transcribed: false,
                };
                self.with(&record.scenario, |mode| mode.probes.push(probe));
            }
            Event::UpstreamCalled(call) => self.calls.push(call.clone()),
            Event::ClientStarted(client) => self.run.client = Some(client.clone()),
            Event::GatewayCalled(call) => match &call.probe {
                Some(probe) => self.turns.entry(probe.clone()).or_default().push(call.clone()),
                None => self.unmarked.push(call.clone()),
            },
            Event::TurnTranscribed(turn) => {
                self.transcribed.insert(turn.probe.clone(), turn.clone());
            }
            Event::FaultIntended { .. }
            | Event::FaultInherited { .. }
            | Event::FaultInjected { .. }
            | Event::InjectionFailed { .. }
            | Event::FaultNotEffective { .. }
            | Event::FaultHealed { .. }
            | Event::HealFailed { .. }
            | Event::HealLeftAlone { .. }
            | Event::ConnectionsGone { .. }
            | Event::PodsGone { .. }
            | Event::EvidenceWeak { .. }
            | Event::FaultGone { .. }
            | Event::NotServing { .. }
            | Event::WitnessSaw { .. }
            | Event::WitnessCounted { .. } => self.take_fault(event),
        }
    }

    fn with(&mut self, scenario: &str, change: impl FnOnce(&mut Mode)) {
        if let Some(mode) = self.mode(scenario) {
            change(mode);
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller passes the events about faults only")]
    fn take_fault(&mut self, event: &Event) {
        match event {
            Event::FaultIntended { fault, scenario, component, kind, .. } => {
                let facts = FaultFacts {
                    id: *fault,
                    component: component.clone(),
                    kind: kind.clone(),
                    ..FaultFacts::default()
                };
                self.faults.insert(*fault, facts);
                let home = self.place(scenario).map(|place| (place, false));
                self.home.entry(*fault).or_default().extend(home);
            }
            Event::FaultInherited { scenario, fault } => {
                let home = self.place(scenario).map(|place| (place, true));
                self.home.entry(*fault).or_default().extend(home);
            }
            Event::FaultInjected { fault, called_us, accepted_us } => {
                self.fault(*fault, |facts| facts.injected = Some((*called_us, *accepted_us)));
            }
            Event::InjectionFailed { fault, error } => {
                self.fault(*fault, |facts| facts.flaw = Some(format!("could not be injected: {error}")));
            }
            Event::FaultNotEffective { fault, waited_ms } => {
                let flaw = format!("was accepted but never seen in effect in {waited_ms} ms");
                self.fault(*fault, |facts| facts.flaw = Some(flaw));
            }
            Event::FaultHealed { fault, called_us, read_back, .. } => {
                if *read_back {
                    self.run.undo_commands.remove(fault);
                }
                self.fault(*fault, |facts| {
                    facts.heal_called_us = Some(*called_us);
                    if !read_back {
                        facts.flaw = Some("was healed, but reads back changed".into());
                    }
                });
            }
            Event::HealFailed { fault, error } => {
                self.fault(*fault, |facts| facts.flaw = Some(format!("could not be healed: {error}")));
            }
            Event::ConnectionsGone { fault, last_seen_us, gone_us, saw } => {
                self.fault(*fault, |facts| {
                    facts.connections_gone = Some(((*last_seen_us, *gone_us), saw.clone()));
                });
            }
            Event::PodsGone { fault, last_seen_us, gone_us, saw } => {
                self.fault(*fault, |facts| {
                    facts.pods_gone = Some(((*last_seen_us, *gone_us), saw.clone()));
                });
            }
            Event::HealLeftAlone { fault, why } => {
                self.fault(*fault, |facts| facts.left_alone = Some(why.clone()));
            }
            Event::EvidenceWeak { component, why } => {
                for facts in open_faults(&mut self.faults, component) {
                    facts.weak = Some(why.clone());
                }
            }
            Event::FaultGone { fault, last_down_us, served_us } => {
                self.fault(*fault, |facts| facts.healed = Some((*last_down_us, *served_us)));
            }
            Event::NotServing { fault, saw } => {
                self.fault(*fault, |facts| {
                    facts.flaw = Some(format!("was healed, but it does not serve: {saw}"))
                });
            }
            Event::WitnessSaw { component, source, up, sent_us, done_us, saw, previous_sent_us } => {
                for facts in open_faults(&mut self.faults, component) {
                    facts.looks.push(Look {
                        sent_us: *sent_us,
                        done_us: *done_us,
                        previous_sent_us: *previous_sent_us,
                        source: source.clone(),
                        up: *up,
                        saw: saw.clone(),
                    });
                }
            }
            Event::WitnessCounted { component, from_us, to_us, up, down } => {
                for facts in open_faults(&mut self.faults, component) {
                    facts.counts.push((*from_us, *to_us, *up, *down));
                }
            }
            other => unreachable!("not about a fault: {other:?}"),
        }
    }

    fn fault(&mut self, id: u32, change: impl FnOnce(&mut FaultFacts)) {
        if let Some(facts) = self.faults.get_mut(&id) {
            change(facts);
        }
    }

    fn finish(mut self) -> RunFacts {
        for facts in self.faults.values_mut() {
            facts.effective = facts.bracket();
            facts.first_effect_us = facts.first_effect();
        }
        let by_window = self.by_window();
        self.calls.sort_by_key(|call| call.received_us);
        let mut calls: BTreeMap<&str, Vec<UpstreamCall>> = BTreeMap::new();
        for call in &self.calls {
            if let Some(probe) = &call.probe {
                calls.entry(probe).or_default().push(call.clone());
            }
        }
        for turn in self.turns.values_mut() {
            turn.sort_by_key(|call| call.received_us);
        }
        for (place, mode) in self.run.modes.iter_mut().enumerate() {
            for (id, homes) in &self.home {
                if let Some((_, inherited)) = homes.iter().find(|(home, _)| *home == place)
                    && let Some(facts) = self.faults.get(id)
                {
                    mode.faults.push(FaultFacts { inherited: *inherited, ..facts.clone() });
                }
            }
            mode.faults.sort_by_key(|fault| (!fault.inherited, fault.id));
            let (from, to) = (mode.started_us.unwrap_or(u64::MAX), mode.ended_us.unwrap_or(u64::MAX));
            let heals = mode.faults.iter().filter_map(|fault| fault.heal_called_us);
            mode.heal_called_us = heals.filter(|healed| (from..=to).contains(healed)).min();
            let until = mode.heal_called_us.unwrap_or(to);
            let of_mode = |all: &[Drift]| -> (Vec<Drift>, Vec<Drift>) {
                let here = all.iter().filter(|drift| (from..to).contains(&drift.seen_us));
                here.cloned().partition(|drift| drift.seen_us < until)
            };
            (mode.drifts, mode.drifts_after) = of_mode(&self.drifts);
            (mode.way_broke, mode.way_broke_after) = of_mode(&self.breaks);
            mode.not_kept_up = not_kept_up(mode, &self.run.start.environment, &self.reach, self.run.last_us);
            mode.probes.sort_by_key(|probe| (probe.record.intended_us, probe.record.id.clone()));
            for probe in &mut mode.probes {
                probe.turn = self.turns.remove(&probe.record.id).unwrap_or_default();
                probe.is_by_window = by_window.contains(&probe.record.id);
                if let Some(last) = probe.turn.last().filter(|_| probe.is_by_window) {
                    probe.record.claims.extend(last.claims.clone());
                }
                let transcribed = self.transcribed.remove(&probe.record.id);
                probe.is_transcribed = transcribed.is_some();
                let named = transcribed.and_then(|turn| turn.response_model);
                let claim = named.map(|value| Claim { source: ClaimSource::ResponseModel, value });
                probe.record.claims.extend(claim);
                let own = calls.get(probe.record.id.as_str()).map_or(&[][..], Vec::as_slice);
                explain(probe, own, &self.names);
                let route = self.run.start.environment.routes.get(&probe.record.route);
                if probe.record.purpose == Purpose::Traffic
                    && route.is_some_and(|route| !route.via.is_gateway())
                {
                    excuse(probe);
                }
            }
            let counted = self.counted.iter().filter(|(home, _)| *home == place);
            mode.counts = counted.map(|(_, counted)| log_count(counted, &mode.probes, &self.names)).collect();
            let counted = self.upstreams_counted.iter().filter(|(home, _)| *home == place);
            mode.upstream_counts =
                counted.map(|(_, counted)| upstream_count(counted, &mode.probes, &self.names)).collect();
        }
        self.run.has_journals = !self.calls.is_empty();
        let own: Vec<_> = self.unmarked.iter().map(|call| (call.received_us, call.ended_us)).collect();
        let RunFacts { start, modes, .. } = &mut self.run;
        self.run.balance = balances(start.format, modes, &self.calls, &own, &self.names);
        self.run
    }
}

impl Gatherer {
    /// Gives requests without a mark to the only turn that was in flight. Those turns. Where any request has its mark, those
    /// without are openclaw's own: it also tells its agent what has become of others.
    fn by_window(&mut self) -> BTreeSet<String> {
        let mut given = BTreeSet::new();
        if !self.turns.is_empty() {
            return given;
        }
        let routes = &self.run.start.environment.routes;
        let probes = self.run.modes.iter().flat_map(|mode| &mode.probes).map(|probe| &probe.record);
        let through = |probe: &&ProbeRecord| {
            let route = routes.get(&probe.route).filter(|route| !route.via.is_gateway());
            probe.purpose == Purpose::Traffic && route.is_some()
        };
        let turns: Vec<_> = probes
            .filter(through)
            .map(|probe| (probe.id.clone(), probe.intended_us, probe.ended_us))
            .collect();
        for call in std::mem::take(&mut self.unmarked) {
            let all = turns.iter().map(|(id, from_us, to_us)| (id, *from_us, *to_us));
            match only_one(all, call.received_us) {
                Some(id) => {
                    self.turns.entry(id.clone()).or_default().push(call);
                    given.insert(id.clone());
                }
                None => self.unmarked.push(call),
            }
        }
        given
    }
}

/// What a turn ended with that openclaw told an error of, where the gateway has refused a request of it.
const GATEWAY_REFUSED: &str = "gateway-refused";

/// openclaw tells of an error also where the gateway takes its key or its request for wrong; an outage is no reason for
/// that, and an error that hides it is not an honest one. Nor is one of its own, with which it has not asked the gateway.
fn excuse(probe: &mut Probe) {
    let wrong = |status: u16| (400..500).contains(&status) && status != 408 && status != 429;
    let class = match () {
        () if probe.turn.is_empty() => GATEWAY_NOT_ASKED,
        () if probe.turn.iter().filter_map(|call| call.status).any(wrong) => GATEWAY_REFUSED,
        () => return,
    };
    if matches!(&probe.record.outcome, Outcome::Error(told) if is_honest_error(told)) {
        probe.record.outcome = Outcome::Error(class.to_owned());
    }
}

/// By component and pod: when the first look was sent that showed it, whether it was reached, and in words.
type Reach = BTreeMap<String, BTreeMap<String, Vec<(u64, Option<bool>, String)>>>;

/// What no fault of the mode hits and a pod of the gateway did not reach while the mode was judged: from when a probe may
/// have met the last of its own faults.
fn not_kept_up(mode: &Mode, environment: &Environment, reach: &Reach, last_us: u64) -> Vec<Drift> {
    let own = mode.faults.iter().filter(|fault| !fault.inherited);
    let effects = own.filter_map(|fault| fault.first_effect_us.or(fault.injected.map(|(called, _)| called)));
    let Some(from) = effects.max().into_iter().chain(mode.hold_from_us).min() else { return Vec::new() };
    let until = mode.hold_ended_us.or(mode.heal_called_us).or(mode.ended_us).unwrap_or(last_us);
    let mut lost = Vec::new();
    for component in mode.step.keeps_up(environment) {
        let mut pods: Vec<(u64, &str, &str)> = Vec::new();
        for (pod, seen) in reach.get(component).into_iter().flatten() {
            let ends = seen.iter().skip(1).map(|(sent_us, ..)| *sent_us).chain([u64::MAX]);
            let spans = seen.iter().zip(ends).filter(|((_, reached, _), _)| *reached == Some(false));
            let mut here = spans.filter(|((sent_us, ..), end_us)| *sent_us < until && *end_us > from);
            pods.extend(here.next().map(|((sent_us, _, saw), _)| (*sent_us, pod.as_str(), saw.as_str())));
        }
        pods.sort_unstable();
        let Some((seen_us, _, saw)) = pods.first().copied() else { continue };
        let names: Vec<&str> = pods.iter().map(|(_, pod, _)| *pod).collect();
        let what = format!(
            "{component} was not reached by new connections from {}, since {:.3} s: {saw}",
            names.join(", "),
            ms(seen_us) / 1000.0
        );
        lost.push(Drift { seen_us: seen_us.max(mode.started_us.unwrap_or(0)), what });
    }
    lost
}

/// The newest fault of this component, if it is not gone yet: what is seen after it is not of an earlier one.
fn open_faults<'a>(
    faults: &'a mut BTreeMap<u32, FaultFacts>,
    component: &'a str,
) -> impl Iterator<Item = &'a mut FaultFacts> {
    let newest = faults.values_mut().rfind(|facts| facts.component == component);
    newest.into_iter().filter(|facts| facts.healed.is_none())
}
