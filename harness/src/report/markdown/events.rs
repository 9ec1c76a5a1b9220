//! A scenario whose faults were injected more than once: one line an injection, and what all of them show.

use super::super::escape::markdown as text;
use super::super::{figures, words};
use super::table::{Page, table};
use crate::verdict::result::{
    EventResult, EventRoute, Failover, Measure, QuantileBound, RouteResult, ScenarioResult, Verdict,
};

/// Each injection by itself.
pub(super) fn write(page: &mut Page, scenario: &ScenarioResult) {
    if scenario.events.is_empty() {
        return;
    }
    let counted = scenario.events.iter().filter(|event| event.counts).count();
    page.heading(3, "Each injection");
    page.paragraph(format!(
        "The faults were injected {} times, each time from a steady state; {counted} could be judged. Figures of routes \
         are over those, and those of a failover are the worst event's.",
        scenario.events.len()
    ));
    let rows: Vec<_> = scenario.events.iter().flat_map(rows).collect();
    let header = ["Injection", "Verdict", "Route", "Longest wait", "Steady after", "Back after", "Why"];
    page.block(&table(header, &rows));
}

fn rows(event: &EventResult) -> Vec<[String; 7]> {
    let verdict = if event.counts { words::verdict(event.verdict) } else { "does not count" };
    let why = event.reasons.first().map_or_else(|| "-".to_owned(), |reason| text(reason));
    let row = |route: &EventRoute| {
        let failover = route.failover.as_ref();
        let back = route.failback.as_ref().and_then(|failback| failback.steady_after_ms);
        [
            event.injection.to_string(),
            verdict.to_owned(),
            text(&route.route),
            failover.map_or_else(|| "-".to_owned(), super::super::terminal::worst_failover),
            failover.map_or_else(
                || "-".to_owned(),
                |failover| failover.steady_after_ms.map_or_else(|| "never".to_owned(), figures::span),
            ),
            back.map_or_else(|| "-".to_owned(), figures::span),
            why.clone(),
        ]
    };
    event.routes.iter().filter(|route| route.failover.is_some() || !event.counts).map(row).collect()
}

/// How many independent injections stand behind the figures, and what they support.
pub(super) fn injections(failover: &Failover) -> String {
    let well = failover.request_verdict == Verdict::Pass && failover.service_verdict == Verdict::Pass;
    match (&failover.support, failover.injections) {
        (_, 0) => "none could be judged: the figures show what was seen, and support nothing".to_owned(),
        (Some(support), n) => {
            let worst = if support.well == n { "" } else { "; the figures are those of the worst" };
            format!(
                "{} of {n} went well: at {} % confidence at least {} % of such outages do{worst}",
                support.well, support.confidence_percent, support.at_least_percent
            )
        }
        (None, 1) if well => format!(
            "once: shows that it can happen so, not how often (1 of 1 is at least {} % of such outages at 95 % confidence)",
            figures::supported_percent(1)
        ),
        (None, 1) => "once: shows that it can happen so, not how often".to_owned(),
        (None, n) => format!("{n} times; the figures are those of the worst"),
    }
}

/// What may be said of quantiles over all outages of this kind.
pub(super) fn bounds(page: &mut Page, route: &RouteResult, failover: &Failover) {
    let Some(support) = &failover.support else { return };
    page.paragraph(format!(
        "What {} show of all such outages on {}, at {} % confidence (order statistics, one value an outage):",
        figures::counted(usize::try_from(failover.injections).unwrap_or(usize::MAX), "injection"),
        text(&route.route),
        support.confidence_percent
    ));
    let row = |bound: &QuantileBound| {
        let what = match bound.of {
            Measure::Worst => "Longest wait of a request",
            Measure::Steady => "From the fault until service is steady",
        };
        let at_most = match (bound.at_most_ms, bound.needed) {
            (Some(ms), _) => format!("at most {}", figures::duration(ms)),
            (None, Some(needed)) => format!("n too small: {needed} injections would do"),
            (None, None) => "no bound: one that decides it never ended".to_owned(),
        };
        [what.to_owned(), format!("{} %", bound.percent), at_most]
    };
    let rows: Vec<_> = support.bounds.iter().map(row).collect();
    page.block(&table(["Figure of an outage", "In so many outages", "Takes"], &rows));
}
