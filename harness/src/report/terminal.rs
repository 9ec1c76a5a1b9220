//! The last thing a person sees in the terminal: a table, the verdict, the reasons.

use tabled::builder::Builder;
use tabled::settings::object::Cell;
use tabled::settings::peaker::Priority;
use tabled::settings::{Color, Modify, Style, Width};

use super::escape::plain;
use super::{figures, words};
use crate::verdict::result::{Failover, RouteResult, RunResult, ScenarioResult, Verdict};

/// How the terminal wants its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalStyle {
    /// Colours and drawn lines; without it only ASCII lines and no escape codes.
    pub color: bool,
    /// Columns to stay within; fewer than 60 are taken as 60.
    pub width: usize,
}

const VERDICT_COLUMN: usize = 0;
const LEAST_WIDTH: usize = 60;
const HEADER: [&str; 6] =
    ["Mode verdict", "Mode and route", "Expected", "Answered by", "Errors", "Worst failover"];

/// The table of modes and routes, the verdict in one line and the reasons, each line ending in a
/// newline. Where the files are is for the caller to add.
#[must_use]
pub fn terminal(result: &RunResult, style: TerminalStyle) -> String {
    let width = style.width.max(LEAST_WIDTH);
    let mut out = String::new();
    if !result.scenarios.is_empty() {
        out.push_str(&table(result, style.color, width));
        out.push_str("\n\n");
    }
    push_wrapped(&mut out, "", &words::headline(result), width, style.color.then_some(paint(result.verdict)));
    for reason in &result.reasons {
        push_wrapped(&mut out, "  - ", &plain(reason), width, None);
    }
    for warning in result.outlook.iter().flat_map(|outlook| &outlook.warnings) {
        push_wrapped(&mut out, "  by its settings: ", &plain(warning), width, None);
    }
    for finding in &result.findings {
        push_wrapped(&mut out, "  note: ", &plain(finding), width, None);
    }
    out
}

fn table(result: &RunResult, color: bool, width: usize) -> String {
    let mut builder = Builder::default();
    builder.push_record(HEADER);
    let mut verdicts = Vec::new();
    for scenario in &result.scenarios {
        for row in rows(scenario) {
            builder.push_record(row);
            verdicts.push(scenario.verdict);
        }
    }
    let mut table = builder.build();
    if color {
        table.with(Style::rounded());
        for (row, verdict) in verdicts.into_iter().enumerate() {
            let (front, back) = paint(verdict);
            let cell = Cell::new(row + 1, VERDICT_COLUMN);
            table.with(Modify::new(cell).with(Color::new(front, back)));
        }
    } else {
        table.with(Style::psql());
    }
    table.with(Width::wrap(width).keep_words(true).priority(Priority::max(true)));
    let rendered = table.to_string();
    rendered.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn rows(scenario: &ScenarioResult) -> Vec<[String; 6]> {
    let name = plain(&scenario.name);
    let verdict = words::loud(scenario.verdict).to_owned();
    if scenario.routes.is_empty() {
        let none = || "-".to_owned();
        return vec![[verdict, name, none(), none(), none(), none()]];
    }
    let row = |route: &RouteResult| {
        let expected = match route.expected.as_deref() {
            Some("error") => "an error".to_owned(),
            Some(alias) => plain(alias),
            None => "not judged".to_owned(),
        };
        let errors = route.errors.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
        [
            verdict.clone(),
            format!("{name} {}", plain(&route.route)),
            expected,
            plain(&figures::served_by(&route.served_by)),
            errors.to_string(),
            route.failover.as_ref().map_or_else(|| "-".to_owned(), worst_failover),
        ]
    };
    scenario.routes.iter().map(row).collect()
}

/// The worst wait against its limit: `3.85 s of 5 s`, `never (limit 5 s)`.
pub(super) fn worst_failover(failover: &Failover) -> String {
    let limit = figures::limit(failover.limit_ms);
    match failover.worst_ms {
        Some(ms) if !failover.censored => format!("{} of {limit}", figures::against(ms, failover.limit_ms)),
        _ if failover.censored => format!("never (limit {limit})"),
        _ => format!("not known (limit {limit})"),
    }
}

/// Escape codes that switch a verdict's colour on and off.
fn paint(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Pass => ("\u{1b}[32m", "\u{1b}[39m"),
        Verdict::Inconclusive => ("\u{1b}[33m", "\u{1b}[39m"),
        Verdict::Fail => ("\u{1b}[31m", "\u{1b}[39m"),
    }
}

/// Adds `text` in lines of at most `width` characters (longer words stay whole), later lines indented
/// as far as `lead` is long.
fn push_wrapped(
    out: &mut String,
    lead: &str,
    text: &str,
    width: usize,
    paint: Option<(&'static str, &'static str)>,
) {
    let (front, back) = paint.unwrap_or_default();
    let indent = " ".repeat(lead.len());
    let mut line = lead.to_owned();
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            out.push_str(&format!("{front}{line}{back}\n"));
            line = indent.clone();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(&format!("{front}{line}{back}\n"));
}
