//! Differences as a list for a person: equal ones together, with the cells that show them.

use std::collections::BTreeMap;

use crate::run::Outcome;

/// Cells that are named for one difference; the rest is a number.
const NAMED: usize = 6;

/// All differences of `outcomes`; empty without any.
pub(crate) fn listing(outcomes: &[Outcome]) -> String {
    let mut groups: BTreeMap<(&str, Option<&str>, Option<&str>), Vec<String>> = BTreeMap::new();
    for outcome in outcomes {
        for difference in &outcome.differences {
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
