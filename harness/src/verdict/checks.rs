//! What is checked on one route, and what each check says.

use std::collections::BTreeSet;

use crate::analysis::{Figures, GATEWAY_NOT_ASKED, Goodness, Mode, Probe, RunFacts, is_honest_error, ms};
use crate::plan::{STEADY_PROBES, component_of};
use crate::scenario::{Answer, Expectation, Requirement};

use super::result::{Bracket, CountStanding, Failback, Failover, InFlight, UpstreamCount, Verdict};
use super::streams::check_streams;

/// One thing that does not hold, or could not be established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Objection {
    /// Which requirements it speaks against.
    pub(super) requirements: Vec<Requirement>,
    /// In words.
    pub(super) text: String,
}

/// All that was looked at in one scenario.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks {
    /// Why the experiment says nothing.
    pub(super) void: Vec<String>,
    /// Seen not to hold.
    pub(super) failed: Vec<Objection>,
    /// Not established.
    pub(super) open: Vec<Objection>,
    /// Requirements that some check looked at, with what was seen where it holds.
    pub(super) looked_at: Vec<(Requirement, String)>,
}

impl Checks {
    pub(super) fn fail(&mut self, requirements: &[Requirement], text: String) {
        self.failed.push(Objection { requirements: requirements.to_vec(), text });
    }
    pub(super) fn open(&mut self, requirements: &[Requirement], text: String) {
        self.open.push(Objection { requirements: requirements.to_vec(), text });
    }
    pub(super) fn looked(&mut self, requirements: &[Requirement], text: &str) {
        self.looked_at.extend(requirements.iter().map(|requirement| (*requirement, text.to_owned())));
    }

    /// Whether this requirement holds cannot be told: what failed of it alone is left open, too.
    pub(super) fn leave_open(&mut self, requirement: Requirement, why: String) {
        let (left, failed) =
            self.failed.drain(..).partition(|objection| objection.requirements == [requirement]);
        self.failed = failed;
        let left: Vec<Objection> = left;
        self.open.extend(
            left.into_iter()
                .map(|objection| Objection { text: format!("{} (left open)", objection.text), ..objection }),
        );
        self.open(&[requirement], why);
    }

    /// Takes over what was seen of one route.
    pub(super) fn add(&mut self, route: Self) {
        self.void.extend(route.void);
        self.failed.extend(route.failed);
        self.open.extend(route.open);
        self.looked_at.extend(route.looked_at);
    }

    /// What was seen, good or bad, says nothing: every requirement it speaks of is left open.
    pub(super) fn doubt(&mut self, why: String) {
        let objections = self.failed.drain(..).chain(self.open.drain(..));
        let seen = self.looked_at.drain(..).map(|(requirement, _)| requirement);
        let requirements: BTreeSet<Requirement> =
            objections.flat_map(|objection| objection.requirements).chain(seen).collect();
        if !requirements.is_empty() {
            self.open.push(Objection { requirements: requirements.into_iter().collect(), text: why });
        }
    }

    /// Fail beats inconclusive beats pass; void is inconclusive.
    pub(super) fn verdict(&self) -> Verdict {
        if !self.void.is_empty() {
            Verdict::Inconclusive
        } else if !self.failed.is_empty() {
            Verdict::Fail
        } else if !self.open.is_empty() {
            Verdict::Inconclusive
        } else {
            Verdict::Pass
        }
    }
}

/// Which requirements a route's served-by and errors speak about in this mode.
pub(super) fn served_requirements(figures: &Figures) -> Vec<Requirement> {
    let mut requirements = vec![Requirement::NFR125];
    if let Some(Answer::ServedBy(alias)) = figures.expectation.map(|expectation| &expectation.answer) {
        if *alias != figures.planned.model {
            // An expectation that is not what the order of the chain gives says nothing for FR217 when it
            // is missed; `check_order` speaks when it is met.
            if figures.planned.after.as_ref() == Some(alias) {
                requirements.push(Requirement::FR217);
            }
        } else if alias == CODER_MODEL {
            requirements.push(Requirement::FR223);
        }
    }
    requirements
}

/// FR223: what coder sub-agents run on.
const CODER_MODEL: &str = "cloud-qwen3-coder";

/// Everything about one route but time and recovery.
pub(super) fn check_served(checks: &mut Checks, figures: &Figures) {
    let Some(expectation) = figures.expectation else { return };
    check_sampling(checks, figures);
    check_sources(checks, figures);
    let requirements = served_requirements(figures);
    match &expectation.answer {
        Answer::ServedBy(alias) => check_served_by(checks, figures, alias, expectation.errors, &requirements),
        Answer::Error => check_error(checks, figures, &requirements),
    }
    check_streams(checks, figures);
    if !figures.planned.fails_over {
        check_limit(checks, figures, expectation);
    }
}

/// Where nothing fails over no reading of NFR123 looks at the time; the expectation's limit holds all the
/// same.
fn check_limit(checks: &mut Checks, figures: &Figures, expectation: &Expectation) {
    let error_expected = expectation.answer == Answer::Error;
    let limit_us = expectation.within.0.as_micros();
    let over = |probe: &&&Probe| {
        let answered = figures.answered_after_us(probe, error_expected);
        answered.is_some_and(|answered| u128::from(answered) > limit_us)
    };
    let over: Vec<_> = figures.judged.iter().filter(over).map(|probe| figures.goodness(probe)).collect();
    let (route, within) = (&figures.planned.route, expectation.within);
    let slow = over.iter().filter(|goodness| **goodness == Goodness::Bad).count();
    if slow > 0 {
        let text =
            format!("{route}: {slow} of {} probes were answered only after {within}", figures.judged.len());
        checks.fail(&[Requirement::NFR125], text);
    } else if !over.is_empty() {
        let text = format!(
            "{route}: {} probes were answered after {within}, but were sent late or by an unknown server",
            over.len()
        );
        checks.open(&[Requirement::NFR125], text);
    }
}

/// Whether enough was asked, all the time, to say anything.
fn check_sampling(checks: &mut Checks, figures: &Figures) {
    let route = &figures.planned.route;
    let mut requirements = served_requirements(figures);
    if figures.planned.fails_over {
        // What was not asked might have been the slow one.
        requirements.push(Requirement::NFR123);
    }
    let requests = figures.judged.len() as u64;
    if requests < STEADY_PROBES {
        checks.open(&requirements, format!("{route}: {requests} judged probes; {STEADY_PROBES} are needed"));
    }
    if let (skipped @ 1.., reason) = &figures.skipped {
        let reason = reason.as_deref().unwrap_or("no reason");
        checks.open(&requirements, format!("{route}: {skipped} planned probes were not sent: {reason}"));
    }
    let stretch_max_us = (4.0 * figures.planned.rate.interval().as_micros() as f64).max(1e6);
    if figures.unsampled_us as f64 > stretch_max_us {
        checks.open(
            &requirements,
            format!(
                "{route}: no probe was sent for {:.1} s of the judged time",
                ms(figures.unsampled_us) / 1000.0
            ),
        );
    }
    if let Some(censored) = figures.errors.get("censored") {
        checks
            .open(&requirements, format!("{route}: {censored} probes were still open when the run was cut"));
    }
}

/// Whether it is known who served.
fn check_sources(checks: &mut Checks, figures: &Figures) {
    let (route, requirements) = (&figures.planned.route, served_requirements(figures));
    if let Some(unknown) = figures.served_by.get("unknown") {
        checks.open(
            &requirements,
            format!("{route}: no source says who served {unknown} of {} replies", figures.ok),
        );
    }
    if let Some(probe) = figures.conflicts.first() {
        checks.open(
            &requirements,
            format!(
                "{route}: sources disagree on who served {} replies; the first is {}: {}",
                figures.conflicts.len(),
                probe.record.id,
                probe.attribution.conflicts.join(", ")
            ),
        );
    }
    if let Some(probe) = figures.unshown.first() {
        checks.open(
            &requirements,
            format!(
                "{route}: the journals of the upstreams do not show {} of {} replies; the first is {}, said to be of {}",
                figures.unshown.len(),
                figures.ok,
                probe.record.id,
                probe.attribution.alias.as_deref().unwrap_or("unknown"),
            ),
        );
    }
}

/// Whether upstreams themselves counted as many answers as this route and the others got from them.
pub(super) fn check_counts(checks: &mut Checks, run: &RunFacts, mode: &Mode, figures: &Figures) {
    for count in mode.upstream_counts.iter().filter(|count| count.standing == CountStanding::Contradicts) {
        let is_own =
            |alias: &String| component_of(alias, &run.start.environment) == Some(count.component.as_str());
        if !figures.served_by.keys().any(is_own) {
            continue;
        }
        let mut requirements = served_requirements(figures);
        if figures.planned.fails_over {
            requirements.push(Requirement::NFR123);
        }
        let UpstreamCount { component, source, answered, got, .. } = count;
        checks.open(
            &requirements,
            format!(
                "{}: the {source} of {component} shows {answered} answers in this mode, but {got} replies are said to be of it: who served what is not certain",
                figures.planned.route
            ),
        );
    }
}

fn check_served_by(
    checks: &mut Checks,
    figures: &Figures,
    alias: &str,
    errors_allowed: u64,
    requirements: &[Requirement],
) {
    let route = &figures.planned.route;
    let requests = figures.judged.len();
    let objections = checks.failed.len();
    let is_other = |server: &str| server != alias && server != "unknown";
    let others: Vec<String> = figures
        .served_by
        .iter()
        .filter(|(server, _)| is_other(server))
        .map(|(server, count)| format!("{server} ({count})"))
        .collect();
    if !others.is_empty() {
        checks.fail(
            requirements,
            format!(
                "{route}: expected {alias}, but of {requests} probes {} were served by another: {}",
                figures
                    .served_by
                    .iter()
                    .filter(|(server, _)| is_other(server))
                    .map(|(_, count)| count)
                    .sum::<u64>(),
                others.join(", ")
            ),
        );
    }
    let censored = figures.errors.get("censored").copied().unwrap_or(0);
    let errors = figures.errors.values().sum::<u64>() - censored;
    if errors > errors_allowed {
        let classes = figures.errors.iter().filter(|(class, _)| *class != "censored");
        let classes: Vec<String> = classes.map(|(class, count)| format!("{class} ({count})")).collect();
        let allowance = if errors_allowed == 0 { String::new() } else { format!("; {errors_allowed} may") };
        checks.fail(
            requirements,
            format!("{route}: {errors} of {requests} probes failed: {}{allowance}", classes.join(", ")),
        );
    }
    if checks.failed.len() == objections {
        checks.looked(requirements, &format!("{route} was served by {alias}"));
    }
}

fn check_error(checks: &mut Checks, figures: &Figures, requirements: &[Requirement]) {
    let route = &figures.planned.route;
    let requests = figures.judged.len();
    if figures.ok > 0 {
        let servers: Vec<String> =
            figures.served_by.iter().map(|(server, count)| format!("{server} ({count})")).collect();
        checks.fail(
            requirements,
            format!(
                "{route}: expected an error, but {} of {requests} probes were served by {}",
                figures.ok,
                servers.join(", ")
            ),
        );
    }
    if let Some(count) = figures.errors.get(GATEWAY_NOT_ASKED) {
        checks.open(
            requirements,
            format!("{route}: {count} of {requests} turns ended in an error of openclaw's own: no request of them reached the gateway"),
        );
    }
    let dishonest: Vec<String> = figures
        .errors
        .iter()
        .filter(|(class, _)| {
            !is_honest_error(class) && !["censored", GATEWAY_NOT_ASKED].contains(&class.as_str())
        })
        .map(|(class, count)| format!("{class} ({count})"))
        .collect();
    if !dishonest.is_empty() {
        checks.fail(
            requirements,
            format!(
                "{route}: expected a complete HTTP error (408, 429 or 5xx), but of {requests} probes some ended in {}",
                dishonest.join(", ")
            ),
        );
    }
    checks.looked(requirements, &format!("{route} was answered with an honest error"));
}

/// Both readings of NFR123.
pub(super) fn check_failover(checks: &mut Checks, mode: &Mode, figures: &Figures) -> Option<Failover> {
    let expectation = figures.expectation?;
    let seen = figures.failover.as_ref()?;
    let route = &figures.planned.route;
    let limit_s = expectation.within;
    let (request_verdict, service_verdict) = (request_reading(seen), service_reading(seen));
    let nfr123 = [Requirement::NFR123];
    match request_verdict {
        Verdict::Fail => {
            let late = super::story::why_late(mode, figures);
            let text = format!("{route}: request reading of NFR123 fails: {} of {} probes were not answered as they must be within {limit_s}{late}", seen.bad, seen.judged);
            checks.fail(&nfr123, text);
        }
        Verdict::Inconclusive => checks.open(
            &nfr123,
            format!("{route}: request reading of NFR123: {} of {} probes cannot be judged (late sending, unknown server, or cut short)", seen.unsure, seen.judged),
        ),
        Verdict::Pass => {}
    }
    match service_verdict {
        Verdict::Fail => {
            let when = seen.steady_at_best_after_ms.map_or_else(
                || "there was no steady run of good replies at all".to_owned(),
                |(lo, _)| format!("good replies were steady only {:.2} s after the fault", lo / 1000.0),
            );
            checks.fail(
                &nfr123,
                format!("{route}: service reading of NFR123 fails: {when}; the limit is {limit_s}"),
            );
        }
        Verdict::Inconclusive => {
            let why = seen.steady_after_ms.map_or_else(
                || format!("no run of good replies at least 5 s and {STEADY_PROBES} probes long was seen"),
                |(lo, hi)| {
                    let earliest = seen.steady_at_best_after_ms.map_or(lo, |(best, _)| best.min(lo));
                    format!(
                        "steady after {:.2}-{:.2} s stands on both sides of the limit",
                        earliest / 1000.0,
                        hi / 1000.0
                    )
                },
            );
            checks.open(&nfr123, format!("{route}: service reading of NFR123: {why}"));
        }
        Verdict::Pass => {}
    }
    if let Some(bound) = expectation.lost_in_flight
        && seen.in_flight_lost > bound
    {
        let text = format!("{route}: {} answers broke off in the middle; {bound} may", seen.in_flight_lost);
        checks.fail(&[Requirement::NFR125], text);
    }
    let worst =
        seen.worst_us.map_or_else(|| "no answer".to_owned(), |worst| format!("{:.2} s", ms(worst) / 1000.0));
    checks.looked(&nfr123, &format!("{route} worst {worst} against {limit_s}"));
    Some(Failover {
        limit_ms: ms(seen.limit_us),
        injections: 1,
        worst_ms: seen.worst_us.map(ms),
        censored: seen.worst_us.is_none(),
        worst_last_byte_ms: seen.worst_last_byte_us.map(ms),
        steady_after_ms: seen.steady_after_ms.map(bracket),
        first_expected_after_ms: seen.first_expected_after_ms.map(bracket),
        unavailable_gap_ms: seen.gap_ms,
        unavailable_starts_ms: seen.bad_starts_ms,
        in_flight: InFlight { served: seen.in_flight_served, lost: seen.in_flight_lost },
        request_verdict,
        service_verdict,
        support: None,
    })
}

pub(super) fn bracket((lo, hi): (f64, f64)) -> Bracket {
    Bracket(lo, Some(hi))
}

fn request_reading(seen: &crate::analysis::FailoverFigures) -> Verdict {
    if seen.bad > 0 {
        Verdict::Fail
    } else if seen.unsure > 0 || seen.judged == 0 || seen.worst_us.is_none_or(|worst| worst > seen.limit_us) {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    }
}

fn service_reading(seen: &crate::analysis::FailoverFigures) -> Verdict {
    let limit_ms = ms(seen.limit_us);
    // Late only where it is late even if all that is unsure were good.
    match (seen.steady_after_ms, seen.steady_at_best_after_ms) {
        (Some((_, hi)), _) if hi <= limit_ms => Verdict::Pass,
        (_, Some((lo, _))) if lo > limit_ms => Verdict::Fail,
        (_, None) if seen.bad_after_limit => Verdict::Fail,
        (_, Some(_) | None) => Verdict::Inconclusive,
    }
}

/// Recovery after this mode's heal.
pub(super) fn check_failback(checks: &mut Checks, mode: &Mode, figures: &Figures) -> Option<Failback> {
    let route = &figures.planned.route;
    let recovery = figures.planned.recover.as_ref();
    let Some(seen) = &figures.failback else {
        if recovery.is_some() {
            checks.open(&[Requirement::NFR125], format!("{route}: recovery was not seen"));
        }
        return None;
    };
    if recovery.is_some() {
        for drift in mode.drifts_after.iter().chain(&mode.way_broke_after) {
            checks.open(
                &[Requirement::NFR125],
                format!("{route}: disturbed while it came back: {}", drift.what),
            );
        }
    }
    let limit_ms = recovery.map(|recovery| recovery.within.as_ms());
    // What somebody has disturbed fails nobody.
    let is_disturbed = !mode.drifts_after.is_empty() || !mode.way_broke_after.is_empty();
    let verdict = limit_ms.map(|limit| match (seen.steady_after_ms, seen.steady_at_best_after_ms) {
        (Some((_, hi)), _) if hi <= limit => Verdict::Pass,
        _ if is_disturbed => Verdict::Inconclusive,
        (_, Some((lo, _))) if lo > limit => Verdict::Fail,
        (_, None) if seen.bad_after_limit => Verdict::Fail,
        (_, Some(_) | None) => Verdict::Inconclusive,
    });
    if let (Some(recovery), Some(verdict)) = (recovery, verdict) {
        let primary = &recovery.served_by;
        let within = recovery.within;
        match verdict {
            Verdict::Pass => {
                checks.looked(&[Requirement::NFR125], &format!("{route} came back to {primary}"))
            }
            Verdict::Fail => checks.fail(
                &[Requirement::NFR125],
                format!("{route}: {primary} did not serve steadily within {within} after heal"),
            ),
            Verdict::Inconclusive => checks.open(
                &[Requirement::NFR125],
                format!(
                    "{route}: whether {primary} serves steadily within {within} after heal was not seen{}",
                    not_sent_after_heal(mode, route)
                ),
            ),
        }
    }
    Some(Failback {
        first_after_ms: seen.first_after_ms.map(bracket),
        steady_after_ms: seen.steady_after_ms.map(bracket),
        errors: seen.errors,
        flaps: seen.flaps,
        limit_ms,
        verdict,
    })
}

/// Why there were no probes to see it by, where some were held back.
fn not_sent_after_heal(mode: &Mode, route: &str) -> String {
    let healed_us = mode.heal_called_us.unwrap_or(u64::MAX);
    let mut after = mode.skipped.iter().filter(|(of, at, _)| of == route && *at >= healed_us);
    match after.next() {
        Some((_, _, reason)) => format!(": {} planned probes were not sent: {reason}", after.count() + 1),
        None => String::new(),
    }
}

/// FR217 is about the order, too: the first alias of the chain that is up answers, and no source shows a
/// later alias asked before an earlier one.
pub(super) fn check_order(checks: &mut Checks, figures: &Figures, chain: &[String]) {
    let Some(Answer::ServedBy(expected)) = figures.expectation.map(|expectation| &expectation.answer) else {
        return;
    };
    if *expected == figures.planned.model {
        return;
    }
    let route = &figures.planned.route;
    if let Some(next) = figures.planned.after.as_ref().filter(|next| *next != expected)
        && figures.served_by.contains_key(expected)
    {
        let text =
            format!("{route}: {expected} answered although {next} is up and comes before it in the order");
        checks.fail(&[Requirement::FR217], text);
    }
    let place = |alias: &Option<String>| chain.iter().position(|own| Some(own) == alias.as_ref());
    let broken = figures.judged.iter().find(|probe| {
        // Each request of a turn begins the order anew.
        probe.by_request().iter().any(|calls| {
            let places: Vec<usize> = calls.iter().filter_map(|(_, alias)| place(alias)).collect();
            places.windows(2).any(|pair| pair[0] > pair[1])
        })
    });
    if let Some(probe) = broken {
        let asked: Vec<&str> = probe.calls_in_time().filter_map(|(_, alias)| alias.as_deref()).collect();
        let text = format!("{route}: {} was sent to {} in this order", probe.record.id, asked.join(", "));
        checks.fail(&[Requirement::FR217], text);
    }
}
