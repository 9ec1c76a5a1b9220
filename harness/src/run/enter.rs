//! Entering a mode: a steady baseline first, then the faults, each seen in effect before the next.

use std::time::Duration;

use tokio::sync::watch;

use super::conductor::{Conductor, Cut};
use super::leave::TELL_EVERY;
use super::live::{first_bad, good_count};
use super::target::{ActiveFault, OldConnections, PodsGone};
use crate::journal::Event;
use crate::plan::{self, PlannedFault, PlannedRoute, Step};
use crate::probe::{Live, Traffic};
use crate::witness::wait_until;

/// How long a witness may take for its first look.
pub(super) const FIRST_LOOK_WITHIN: Duration = Duration::from_secs(5);
/// By then it has shown whether an established connection is still answered.
const FATE_KNOWN_WITHIN: Duration = Duration::from_secs(4);
/// A gateway closes connections that nobody uses by then: LiteLLM after 120 s, unless it is told otherwise.
pub(super) const DRAINED_WITHIN: Duration = Duration::from_secs(150);
/// Between two looks at what is known of old connections.
const COUNTED_EVERY: Duration = Duration::from_millis(50);
/// How long the baseline may take, beyond the lead, to show enough good replies.
const BASELINE_WITHIN: Duration = Duration::from_secs(10);
/// The same where probes are rare, at most.
const BASELINE_WITHIN_MAX: Duration = Duration::from_secs(60);
/// Good replies that a baseline needs on each judged route.
const BASELINE_PROBES: usize = 3;

/// How long the baseline of a route may take, beyond the lead: as long as twice the replies that it needs are apart.
pub(super) fn baseline_within(route: &PlannedRoute) -> Duration {
    let probes = route.rate.interval().saturating_mul(2 * BASELINE_PROBES as u32);
    BASELINE_WITHIN.max(probes.min(BASELINE_WITHIN_MAX))
}

impl Conductor {
    /// Baseline, then the faults; false where the mode could not be entered.
    pub(super) async fn enter(
        &mut self,
        step: &Step,
        phase: Duration,
        traffic: &Traffic,
        live: &mut watch::Receiver<Live>,
    ) -> Result<bool, Cut> {
        self.sleep(self.plan.lead.0).await?;
        if let Some(saw) = self.baseline_flaw(step, live).await? {
            self.journal.append(Event::BaselineBroken { scenario: step.scenario.name.clone(), saw });
            return Ok(false);
        }
        self.sleep(phase).await?;
        for fault in &step.inject {
            // Who has to answer changes with the last of them, and figures count from its effect.
            if Some(fault) == step.inject.last() {
                self.keep_up(step);
            }
            if !self.inject(&step.scenario.name, fault, traffic).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What speaks against a steady state before the faults; `None` where it holds.
    async fn baseline_flaw(
        &self,
        step: &Step,
        live: &mut watch::Receiver<Live>,
    ) -> Result<Option<String>, Cut> {
        for fault in &step.inject {
            let Some(witness) = self.witnesses.get(&fault.component) else { continue };
            let mut observed = witness.observed();
            let seen = wait_until(&mut observed, FIRST_LOOK_WITHIN, |observed| observed.up.is_some());
            match self.unless_stopped(seen).await? {
                Some(observed) if observed.up == Some(true) => {}
                Some(observed) => {
                    return Ok(Some(format!(
                        "{} is down before any fault: {}",
                        fault.component, observed.saw
                    )));
                }
                None => {
                    let saw = witness.observed().borrow().saw.clone();
                    let saw = if saw.is_empty() { "nothing".to_owned() } else { format!("nothing: {saw}") };
                    return Ok(Some(format!("the witness of {} sees {saw}", fault.component)));
                }
            }
        }
        let judged = step.routes.iter().filter(|route| step.scenario.expect.contains_key(&route.route));
        for route in judged {
            // How a route fails that nobody serves is judged in the mode where that begins; nothing done here changes it.
            let Some(wanted) = route.before.as_deref() else { continue };
            let before = Some(wanted);
            let enough = live.wait_for(|live| {
                let probes = live.probes.get(&route.route).map_or(&[][..], Vec::as_slice);
                first_bad(probes, before).is_some() || good_count(probes, before) >= BASELINE_PROBES
            });
            let settled = tokio::time::timeout(baseline_within(route), enough);
            let settled = self.unless_stopped(async { settled.await.is_ok_and(|seen| seen.is_ok()) }).await?;
            let live = live.borrow();
            let probes = live.probes.get(&route.route).map_or(&[][..], Vec::as_slice);
            if let Some(bad) = first_bad(probes, before) {
                return Ok(Some(format!(
                    "{} should have been answered by {wanted}, but: {bad}",
                    route.route
                )));
            }
            if !settled {
                return Ok(Some(format!(
                    "{} had {} replies by {wanted}; {BASELINE_PROBES} are needed",
                    route.route,
                    good_count(probes, before)
                )));
            }
        }
        Ok(None)
    }

    /// Make one fault and wait until the witness sees it; false where it never did.
    async fn inject(&mut self, scenario: &str, fault: &PlannedFault, traffic: &Traffic) -> Result<bool, Cut> {
        let id = self.faults;
        self.faults += 1;
        self.journal.append_durably(Event::FaultIntended {
            fault: id,
            scenario: scenario.to_owned(),
            component: fault.component.clone(),
            kind: fault.kind.word().to_owned(),
            undo: plan::undo_words(&fault.kind, &fault.component),
        })?;
        let active = ActiveFault { id, fault: fault.clone() };
        self.active.push(active.clone());
        let limit = self.target.effective_within(fault);
        let called_us = self.journal.clock().now_us();
        if let Err(error) = self.target.inject(&active, self.stop.token()).await {
            self.journal.append(Event::InjectionFailed { fault: id, error });
            self.go_on()?;
            return Ok(false);
        }
        let accepted_us = self.journal.clock().now_us();
        self.journal.append(Event::FaultInjected { fault: id, called_us, accepted_us });
        let Some(witness) = self.witnesses.get(&fault.component) else { return Ok(false) };
        let mut observed = witness.observed();
        let down = wait_until(&mut observed, limit, |observed| {
            observed.down_since_us.is_some_and(|since| since >= called_us)
        });
        let gone = self.target.pods_gone(fault, limit);
        let (seen, gone) = self.unless_stopped(async { tokio::join!(down, gone) }).await?;
        let not_effective = || {
            let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            self.journal.append(Event::FaultNotEffective { fault: id, waited_ms });
        };
        let Some(seen) = seen else {
            not_effective();
            return Ok(false);
        };
        let mut effective_us = seen.down_since_us.unwrap_or(called_us);
        match gone {
            Some(Ok(gone)) if gone.gone_us > effective_us => {
                let last_seen_us = gone.last_answered_us.unwrap_or(0);
                effective_us = gone.gone_us;
                let PodsGone { gone_us, saw, .. } = gone;
                self.journal.append(Event::PodsGone { fault: id, last_seen_us, gone_us, saw });
            }
            Some(Err(_)) => {
                not_effective();
                return Ok(false);
            }
            Some(Ok(_)) | None => {}
        }
        match self.old_connections_gone(&active, effective_us, traffic).await? {
            Ok(gone_us) => {
                self.effective_us = self.effective_us.max(gone_us);
                Ok(true)
            }
            Err(why) => {
                self.journal.append(Event::Voided { scenario: scenario.to_owned(), why });
                Ok(false)
            }
        }
    }

    /// Waits until no connection from before the fault carries requests any more, without traffic if it must be; says
    /// from when that was so, or why it is not.
    async fn old_connections_gone(
        &self,
        active: &ActiveFault,
        effective_us: u64,
        traffic: &Traffic,
    ) -> Result<Result<u64, String>, Cut> {
        let fault = &active.fault;
        let begun = tokio::time::Instant::now();
        let mut told = begun;
        let (mut last_seen_us, mut most, mut paused) = (effective_us, 0, false);
        loop {
            match self.target.old_connections(fault, effective_us) {
                None => break,
                // They were gone when they were first counted: nothing is known of any.
                Some(OldConnections::Gone) if most == 0 && !paused => break,
                Some(OldConnections::Gone) => {
                    let saw = format!(
                        "the gateway's connections to {} from before it are closed, {most} at first",
                        fault.component
                    );
                    return Ok(Ok(self.gone_by_now(active, traffic, last_seen_us, saw)));
                }
                Some(OldConnections::Dead { last_answered_us }) => {
                    let saw = format!(
                        "what is asked on connections to {} from before it is not answered",
                        fault.component
                    );
                    let late = last_answered_us.filter(|answered_us| *answered_us >= effective_us);
                    if late.is_some() || paused {
                        // They outlived the new ones for a while, or probes were held back since.
                        let last_seen_us = late.unwrap_or(effective_us);
                        return Ok(Ok(self.gone_by_now(active, traffic, last_seen_us, saw)));
                    }
                    // Evidence alone: it moves no instant.
                    let (fault, gone_us) = (active.id, effective_us);
                    self.journal.append(Event::ConnectionsGone { fault, last_seen_us: 0, gone_us, saw });
                    break;
                }
                Some(OldConnections::Open { count, counted_us }) => {
                    (last_seen_us, most) = (counted_us, most.max(count));
                }
                Some(OldConnections::Unknown) => {}
            }
            if begun.elapsed() >= DRAINED_WITHIN {
                traffic.resume();
                return Ok(Err(format!(
                    "{} is cut off for new connections only: after {} s without traffic the gateway still has connections from before, or nobody can count them",
                    fault.component,
                    DRAINED_WITHIN.as_secs()
                )));
            }
            if told.elapsed() >= TELL_EVERY {
                told = tokio::time::Instant::now();
                self.watcher.progress(&format!(
                    "waiting without traffic until the gateway has closed its connections to {}, {} s of at most {} s",
                    fault.component,
                    begun.elapsed().as_secs(),
                    DRAINED_WITHIN.as_secs()
                ));
            }
            if begun.elapsed() >= FATE_KNOWN_WITHIN {
                // Only a connection that nobody uses is closed by the gateway.
                traffic.pause();
                paused = true;
            }
            self.sleep(COUNTED_EVERY).await?;
        }
        traffic.resume();
        Ok(Ok(effective_us))
    }

    /// Only from now on is the fault in effect for the gateway; when that is.
    fn gone_by_now(&self, active: &ActiveFault, traffic: &Traffic, last_seen_us: u64, saw: String) -> u64 {
        traffic.resume();
        let gone_us = self.journal.clock().now_us();
        self.journal.append(Event::ConnectionsGone { fault: active.id, last_seen_us, gone_us, saw });
        gone_us
    }
}
