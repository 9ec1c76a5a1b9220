//! Leaving a mode: every fault undone, each whatever becomes of the others, seen to be gone, and the
//! routes watched until they are back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;

use super::conductor::{Conductor, Cut};
use super::live::is_steady;
use super::stop::RESTORE_RESERVE;
use super::target::{ActiveFault, Healed, Reached};
use crate::journal::Event;
use crate::plan::{self, PlannedRoute, Step};
use crate::probe::Live;
use crate::scenario::Recovery;

/// What the last reply of a steady run may take.
const REPLY_ALLOWANCE: Duration = Duration::from_secs(3);
/// A completion asked for as evidence takes at most this long.
pub(super) const COMPLETION_LIMIT: Duration = Duration::from_secs(5);
/// New connections to a component that has answered succeed by then, with every enforcer that is known.
pub(super) const REACHED_WITHIN: Duration = Duration::from_secs(30);
/// A prober whose stream broke looks again by then, if it ever will.
const SEEN_AGAIN_WITHIN: Duration = Duration::from_secs(10);
/// Whoever waits is told now and again what for.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often is asked whether somebody else keeps down what is waited for.
const ASK_WHO_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at new connections.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What came of undoing one fault.
struct Healing {
    /// Why it is not undone.
    failed: Option<String>,
    /// It reads back as undone.
    read_back: bool,
    /// What was seen last of a component that does not serve again, although all is undone.
    unserved: Option<String>,
    /// Somebody else has taken it down since.
    taken_down: bool,
    /// When its component was seen to serve again, or nobody waited any more.
    at_us: u64,
}

/// Why a healed component was not seen to serve.
enum NotSeen {
    /// The run was cut short, and it takes longer than that.
    Cut,
    /// Somebody else has taken it down since: theirs, in words, and nothing to wait for.
    TakenDown(String),
    /// It should have by then; what was seen last.
    NotServing(String),
}

impl Conductor {
    /// Undo the faults of these components, all at once and each whatever becomes of the others, and wait until each
    /// serves again; says when the last of them was seen to.
    pub(super) async fn heal(&mut self, components: &[String]) -> u64 {
        let is_meant = |active: &&ActiveFault| components.contains(&active.fault.component);
        let healing: Vec<ActiveFault> = self.active.iter().rev().filter(is_meant).cloned().collect();
        let this = &*self;
        let others_held = self.active.len() > healing.len();
        // One that is stuck keeps no other from being undone, nor from being seen to serve.
        let ends = join_all(healing.iter().map(|active| this.heal_one(active, others_held)));
        // One that loads for minutes does not keep what comes through late from being undone.
        let ends = tokio::select! {
            ends = ends => ends,
            never = self.target.look_again() => match never {},
        };
        let mut latest_us = 0;
        for (active, end) in healing.iter().zip(ends) {
            latest_us = latest_us.max(end.at_us);
            match end.failed {
                Some(words) => drop(self.failed.insert(active.id, words)),
                None => drop(self.failed.remove(&active.id)),
            }
            // Undone only when it reads back so: until then `restore` does it again.
            if end.read_back {
                self.active.retain(|other| other.id != active.id);
            }
            if end.taken_down {
                self.taken_down.insert(active.fault.component.clone());
            } else {
                self.taken_down.remove(&active.fault.component);
            }
            if let Some(saw) = end.unserved {
                self.unserved.insert(active.id, (active.clone(), saw));
            }
        }
        for component in components {
            if let Some(witness) = self.witnesses.remove(component) {
                witness.stop().await;
            }
        }
        if healing.is_empty() { self.journal.clock().now_us() } else { latest_us }
    }

    /// Undo one fault, read it back, and wait until its component serves again: both in a run that is cut short not
    /// while others are held, which are to be undone then.
    async fn heal_one(&self, active: &ActiveFault, others_held: bool) -> Healing {
        let component = &active.fault.component;
        self.journal.append(Event::HealIntended { fault: active.id });
        let called_us = self.journal.clock().now_us();
        let healed = match self.target.heal(active).await {
            Ok(healed) => healed,
            Err(error) => {
                let failed = Some(format!("{component} could not be healed: {error}"));
                self.journal.append(Event::HealFailed { fault: active.id, error });
                return self.not_healed(failed);
            }
        };
        if let Healed::LeftAlone(why) = healed {
            self.journal.append(Event::HealLeftAlone { fault: active.id, why });
        }
        let accepted_us = self.journal.clock().now_us();
        let read = self.unless_others_wait(others_held, self.target.is_healed(component)).await;
        // With the others it is undone once more, and read back then.
        let Some(read) = read else { return self.not_healed(None) };
        let read_back = read.unwrap_or(false);
        self.journal.append(Event::FaultHealed { fault: active.id, called_us, accepted_us, read_back });
        let confirmed = self.unless_others_wait(others_held, self.confirm(active, called_us)).await;
        let confirmed = confirmed.unwrap_or(Err(NotSeen::Cut));
        let mut taken_down = false;
        let (served_us, unserved) = match confirmed {
            Ok(served_us) => (Some(served_us), None),
            Err(NotSeen::TakenDown(why)) => {
                self.journal.append(Event::HealLeftAlone { fault: active.id, why });
                taken_down = true;
                (None, None)
            }
            Err(NotSeen::Cut) => {
                let text = format!(
                    "{component} was undone, and whether it serves again was not waited for: the run was cut short"
                );
                self.journal.append(Event::Found { text });
                (None, None)
            }
            Err(NotSeen::NotServing(saw)) => (None, Some(saw)),
        };
        let at_us = served_us.unwrap_or_else(|| self.journal.clock().now_us());
        Healing { failed: None, read_back, unserved, taken_down, at_us }
    }

    /// What is healed once more.
    fn not_healed(&self, failed: Option<String>) -> Healing {
        let at_us = self.journal.clock().now_us();
        Healing { failed, read_back: false, unserved: None, taken_down: false, at_us }
    }

    /// Waits for it, but in a run that is cut short not while others are held.
    async fn unless_others_wait<T>(&self, others_held: bool, wait: impl Future<Output = T>) -> Option<T> {
        if others_held { self.unless_stopped(wait).await.ok() } else { Some(wait.await) }
    }

    /// Waits until nothing that was undone can still come through; what does and cannot be undone, in words.
    pub(super) async fn settle(&self) -> BTreeMap<u32, String> {
        let watcher = Arc::clone(&self.watcher);
        self.target.settle(&move |line: &str| watcher.progress(line)).await
    }

    /// At the end of a run: what did not serve again in its time may do so by now, and then it is not left behind; nor is
    /// what somebody else has taken down since. Its mode has said what it has to say of the first.
    pub(super) async fn look_once_more(&mut self) {
        for (active, saw) in std::mem::take(&mut self.unserved).into_values() {
            let component = &active.fault.component;
            let served = self.target.serves(component, alias_of(&active), COMPLETION_LIMIT).await;
            if served.is_ok() && !matches!(self.target.reached(component), Reached::CutOff(_)) {
                let text =
                    format!("{component} serves again at the end of the run, later than it should have");
                self.journal.append(Event::Found { text });
            } else if let Some(why) = self.target.taken_down(&active).await {
                self.journal.append(Event::HealLeftAlone { fault: active.id, why });
            } else {
                let look = self.target.look_command(component);
                let look = look.map_or(String::new(), |line| format!("; to see why: {line}"));
                self.left.push(format!("{component} does not serve again: {saw}{look}"));
            }
        }
    }

    /// Wait until a healed component serves a completion, unless somebody else has taken it down since.
    async fn confirm(&self, active: &ActiveFault, called_us: u64) -> Result<u64, NotSeen> {
        let component = &active.fault.component;
        let alias = alias_of(active);
        let known = self.environment.components.get(component);
        let limit = known.map_or(COMPLETION_LIMIT, |known| known.ready_within.0);
        let mut deadline = tokio::time::Instant::now() + limit;
        let (mut last_down_us, mut cut) = (called_us, false);
        let begun = tokio::time::Instant::now();
        let (mut told, mut asked) = (begun, None::<tokio::time::Instant>);
        loop {
            // A run that is cut short, also while it waits here, waits no longer than the reserve that it has for this.
            if self.stop.token().is_cancelled() && !cut {
                cut = true;
                deadline = deadline.min(tokio::time::Instant::now() + RESTORE_RESERVE);
            }
            let sent_us = self.journal.clock().now_us();
            match self.target.serves(component, alias, COMPLETION_LIMIT.min(limit)).await {
                Ok(()) => {
                    if let Err(saw) = self.reached(component).await {
                        self.unless_taken_down(active).await?;
                        self.journal.append(Event::NotServing { fault: active.id, saw: saw.clone() });
                        return Err(NotSeen::NotServing(saw));
                    }
                    let served_us = self.journal.clock().now_us();
                    self.journal.append(Event::FaultGone { fault: active.id, last_down_us, served_us });
                    return Ok(served_us);
                }
                Err(saw) if tokio::time::Instant::now() >= deadline => {
                    self.unless_taken_down(active).await?;
                    self.journal.append(Event::NotServing { fault: active.id, saw: saw.clone() });
                    // What starts for minutes cannot be waited for by a run that has to end: it reads back as undone.
                    let starts = cut && limit > RESTORE_RESERVE && !self.environment.is_local();
                    return Err(if starts { NotSeen::Cut } else { NotSeen::NotServing(saw) });
                }
                Err(saw) => {
                    last_down_us = sent_us;
                    if asked.is_none_or(|asked| asked.elapsed() >= ASK_WHO_EVERY) {
                        self.unless_taken_down(active).await?;
                        asked = Some(tokio::time::Instant::now());
                    }
                    if told.elapsed() >= TELL_EVERY {
                        told = tokio::time::Instant::now();
                        self.watcher.progress(&format!(
                            "waiting for {component}, {} s of at most {} s: {}",
                            begun.elapsed().as_secs(),
                            limit.as_secs(),
                            self.target.presence(component).unwrap_or(saw)
                        ));
                    }
                }
            }
            tokio::time::sleep(self.target.ask_every()).await;
        }
    }

    /// Nobody waits for what somebody else keeps down once ours is undone.
    async fn unless_taken_down(&self, active: &ActiveFault) -> Result<(), NotSeen> {
        self.target.taken_down(active).await.map_or(Ok(()), |why| Err(NotSeen::TakenDown(why)))
    }

    /// The negative control: what saw the component go must see it back by new connections, too, since a completion may
    /// have come on one from before. Where nobody can tell any more, that is said.
    async fn reached(&self, component: &str) -> Result<(), String> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.target.reached(component) {
                Reached::All => return Ok(()),
                Reached::CutOff(seen) if begun.elapsed() >= REACHED_WITHIN => {
                    let seen = seen.join("; ");
                    return Err(format!("it answered, but new connections to it still fail from {seen}"));
                }
                Reached::Unknown(seen) if seen.is_empty() || begun.elapsed() >= SEEN_AGAIN_WITHIN => {
                    let from =
                        if seen.is_empty() { String::new() } else { format!(" ({})", seen.join("; ")) };
                    let text = format!(
                        "{component} answers again; whether new connections from the gateway's pods reach it was not seen{from}"
                    );
                    self.journal.append(Event::Found { text });
                    return Ok(());
                }
                Reached::CutOff(_) | Reached::Unknown(_) => {}
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// Watch the routes come back to their primaries, as long as their expectations allow: those that nobody else keeps
    /// down.
    pub(super) async fn await_recovery(
        &self,
        step: &Step,
        live: &mut watch::Receiver<Live>,
        healed_us: u64,
    ) -> Result<(), Cut> {
        let routes = step.routes.iter();
        let wanted: Vec<(&PlannedRoute, &Recovery)> =
            routes.filter_map(|route| Some((route, route.recover.as_ref()?))).collect();
        let is_taken_down = |recovery: &Recovery| {
            let component = plan::component_of(&recovery.served_by, &self.environment);
            component.is_some_and(|component| self.taken_down.contains(component))
        };
        let wanted: Vec<_> = wanted.into_iter().filter(|(_, recovery)| !is_taken_down(recovery)).collect();
        // A run that starts at the very end of the limit still has to show that it is steady.
        let watched = wanted.iter().map(|(route, recovery)| recovery.within.0 + steady_takes(route)).max();
        let Some(limit) = watched else { return Ok(()) };
        let steady = live.wait_for(|live| {
            wanted.iter().all(|(route, recovery)| {
                let probes = live.probes.get(&route.route).map_or(&[][..], Vec::as_slice);
                is_steady(probes, healed_us, &recovery.served_by)
            })
        });
        let steady = tokio::time::timeout(limit, steady);
        self.unless_stopped(async { steady.await.is_ok() }).await?;
        Ok(())
    }
}

/// Who is asked whether a fault is gone; any alias of the component where there is none.
fn alias_of(active: &ActiveFault) -> Option<&str> {
    match &active.fault.kind {
        plan::PlannedKind::Gone(aliases) => aliases.first().map(String::as_str),
        plan::PlannedKind::Down(_) => None,
    }
}

/// How long it takes to see that a run is steady: its probes, and one reply.
pub(super) fn steady_takes(route: &PlannedRoute) -> Duration {
    let probes = route.rate.interval().mul_f64(plan::STEADY_PROBES as f64);
    probes.max(Duration::from_secs_f64(plan::STEADY_MS / 1000.0)) + REPLY_ALLOWANCE
}
