//! The comparison as tables of `docs/differential.md`.

use std::fmt::Write as _;
use std::path::Path;

use crate::cell::Settings;
use crate::facts::Facts;
use crate::known::KNOWN;
use crate::run::{Exchange, Outcome};

const START: &str = "<!-- generated: begin -->";
const END: &str = "<!-- generated: end -->";

/// What a run came to.
pub(crate) struct Summary<'a> {
    pub(crate) version: &'a str,
    pub(crate) seed: u64,
    pub(crate) settings: &'a [Settings],
    pub(crate) outcomes: &'a [Outcome],
    /// How often each known difference was met.
    pub(crate) met: &'a [usize],
}

impl Summary<'_> {
    /// One line.
    pub(crate) fn headline(&self) -> String {
        let apart = self.outcomes.iter().filter(|outcome| !outcome.differences.is_empty()).count();
        let repeated = self.outcomes.iter().filter(|outcome| outcome.repeated).count();
        let unconfirmed: usize = self.outcomes.iter().map(|outcome| outcome.unconfirmed.len()).sum();
        let requests: usize = self.outcomes.iter().map(|outcome| outcome.exchanges.len()).sum();
        format!(
            "LiteLLM {}, seed {}: {} cells, {requests} requests to each gateway, {} facts compared; {apart} cells \
             differ, {repeated} were repeated, {unconfirmed} facts differed in one run and not in another",
            self.version,
            self.seed,
            self.outcomes.len(),
            self.outcomes.iter().flat_map(|outcome| &outcome.exchanges).map(|e| e.real.len()).sum::<usize>(),
        )
    }
}

/// Writes the tables between their marks; what stands around them is kept.
pub(crate) fn write(summary: &Summary<'_>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differential.md");
    let text = std::fs::read_to_string(&path).expect("docs/differential.md");
    let (before, rest) = text.split_once(START).expect("a mark where the tables begin");
    let (_, after) = rest.split_once(END).expect("a mark where the tables end");
    let text = format!("{before}{START}\n\n{}\n{END}{after}", render(summary));
    std::fs::write(&path, text).expect("docs/differential.md");
}

fn render(summary: &Summary<'_>) -> String {
    let mut text = format!("{}.\n\n## Known differences\n\n", summary.headline());
    if KNOWN.is_empty() {
        text.push_str("None.\n");
    }
    for (known, met) in KNOWN.iter().zip(summary.met) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {} ({met} facts). {}", known.what, known.reason);
    }
    for settings in summary.settings {
        let outcomes = summary.outcomes.iter().filter(|outcome| outcome.settings == settings.name);
        let _ = write!(text, "\n## {}\n\n`{}`", settings.name, settings.router);
        if settings.litellm.as_object().is_some_and(|settings| !settings.is_empty()) {
            let _ = write!(text, ", `litellm_settings` `{}`", settings.litellm);
        }
        text.push_str(
            "\n\n| cell | status, by | attempts 1st, 2nd, 5th | LiteLLM 1st, 2nd, 5th, s | mock, s | |\n\
             |---|---|---|---|---|---|\n",
        );
        outcomes.for_each(|outcome| text.push_str(&row(outcome)));
    }
    text
}

fn row(outcome: &Outcome) -> String {
    let timed = [0, 1, 4].map(|index| &outcome.exchanges[index]);
    let took = |of: fn(&Exchange) -> f64| timed.map(|exchange| format!("{:.2}", of(exchange))).join(", ");
    let mut ends: Vec<String> = timed.iter().map(|exchange| end(&exchange.real)).collect();
    ends.dedup();
    let attempts = timed.map(|exchange| counts(outcome, &exchange.real));
    let verdict = if outcome.differences.is_empty() { "equal" } else { "**differs**" };
    format!(
        "| {} | {} | {} | {} | {} | {verdict} |\n",
        outcome.cell.title(),
        ends.join("; "),
        attempts.join(", "),
        took(|exchange| exchange.real_took.as_secs_f64()),
        took(|exchange| exchange.mock_took.as_secs_f64()),
    )
}

/// Attempts at each group, or at each `order` of one: `1+0+1`.
pub(crate) fn counts(outcome: &Outcome, facts: &Facts) -> String {
    let mut names: Vec<String> = Vec::new();
    for index in 0..outcome.cell.deployments.len() {
        let name = outcome.cell.counted_as(index);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let of = |name: &String| facts.get(&format!("attempts at {name}")).map_or("?", String::as_str);
    names.iter().map(of).collect::<Vec<_>>().join("+")
}

fn end(facts: &Facts) -> String {
    let status = facts["status"].as_str();
    let by = facts.get("header x-litellm-model-group").and_then(|group| group.rsplit('.').next());
    let broken = facts.keys().any(|name| name.starts_with("event ") && name.ends_with("/error/message"));
    let how = if broken { ", broken off" } else { "" };
    by.map_or(status.to_owned(), |by| format!("{status} {by}{how}"))
}
