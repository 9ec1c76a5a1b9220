//! Differences as a list for a person: equal ones together, with the cells that show them.

use std::collections::BTreeMap;

use crate::compare::Difference;
use crate::run::Outcome;
use crate::table::counts;

/// Cells that are named for one difference; the rest is a number.
const NAMED: usize = 6;

/// A fact, and what the real one and the mock one say of it.
type Key<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// All differences of `outcomes`; empty without any.
pub(crate) fn listing(outcomes: &[Outcome]) -> String {
    list(outcomes, |outcome| outcome.differences.iter().collect())
}

/// What differed in one run of a cell and not in another, latencies aside: those are noise.
pub(crate) fn unconfirmed(outcomes: &[Outcome]) -> String {
    list(outcomes, |outcome| outcome.unconfirmed.iter().filter(|d| !d.fact.starts_with("latency")).collect())
}

fn list(outcomes: &[Outcome], of: impl Fn(&Outcome) -> Vec<&Difference>) -> String {
    let mut groups: BTreeMap<Key<'_>, Vec<String>> = BTreeMap::new();
    for outcome in outcomes {
        for difference in of(outcome) {
            let key = (difference.fact.as_str(), difference.real.as_deref(), difference.mock.as_deref());
            let place = format!("{}/{} #{}", outcome.settings, outcome.cell.name, difference.request);
            groups.entry(key).or_default().push(place);
        }
    }
    let mut text = String::new();
    for ((fact, real, mock), places) in groups {
        let more = places.len().saturating_sub(NAMED);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named: Vec<&str> = places.iter().take(NAMED).map(String::as_str).collect();
        text.push_str(&format!(
            "{fact}\n    real: {}\n    mock: {}\n    in: {}{rest}\n",
            real.unwrap_or("(absent)"),
            mock.unwrap_or("(absent)"),
            named.join(", "),
        ));
    }
    text
}

/// What happened in a cell, request by request, at both gateways.
pub(crate) fn transcript(outcome: &Outcome) -> String {
    let cell = &outcome.cell;
    let mut text = format!("{}/{}\n", outcome.settings, cell.name);
    for deployment in &cell.deployments {
        let (params, info) = (serde_json::json!(deployment.params), serde_json::json!(deployment.info));
        text.push_str(&format!(
            "  {} {} {} {params} {info}\n",
            deployment.role,
            deployment.provider.prefix(),
            deployment.fault.name()
        ));
    }
    let body = serde_json::json!(cell.body);
    let (lists, headers) = (&cell.fallbacks, &cell.headers);
    text.push_str(&format!(
        "  stream {}, body {body}, headers {headers:?}, fallbacks {lists:?}\n",
        cell.streaming
    ));
    for (index, exchange) in outcome.exchanges.iter().enumerate() {
        let sides =
            [("real", &exchange.real, exchange.real_took), ("mock", &exchange.mock, exchange.mock_took)];
        for (side, facts, took) in sides {
            let fact = |name: &str| facts.get(name).map_or("-", String::as_str);
            text.push_str(&format!(
                "  #{} {side} {} by {} fallbacks {} attempts {} {:.2} s {} {} cooled {}\n",
                index + 1,
                fact("status"),
                fact("header x-litellm-model-group"),
                fact("header x-litellm-attempted-fallbacks"),
                counts(outcome, facts),
                took.as_secs_f64(),
                fact("events"),
                fact("body /error/message"),
                fact("header retry-after"),
            ));
        }
    }
    for difference in &outcome.differences {
        let said = |side: &Option<String>| side.clone().unwrap_or_else(|| "(absent)".into());
        text.push_str(&format!(
            "  differs #{} {}\n      real: {}\n      mock: {}\n",
            difference.request,
            difference.fact,
            said(&difference.real),
            said(&difference.mock)
        ));
    }
    text
}
