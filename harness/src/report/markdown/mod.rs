//! `report.md`, for a person who was not there: what came out, why, and what to do now.
//!
//! It reads well on GitHub and GitLab and in a plain editor. Everything that comes from outside goes
//! through [`super::escape`]; tables are made in one place, [`table`].

mod balance;
mod events;
mod preflight;
mod route;
mod scenario;
mod table;

use super::escape::{command, markdown as text};
use super::terminal::worst_failover;
use super::{figures, words};
use crate::verdict::result::{RouteResult, RunRequirement, RunResult, ScenarioResult};
use table::{Page, table};

/// The whole report as Markdown, ending in a newline.
#[must_use]
pub fn markdown(result: &RunResult) -> String {
    let mut page = Page::default();
    page.line(format!("# {}", text(&words::headline(result))));
    page.paragraph(introduction(result));
    to_do(&mut page, result);
    if !result.reasons.is_empty() {
        page.paragraph("**Why, most important first:**");
        page.list(result.reasons.iter().map(|r| text(r)));
    }
    modes(&mut page, result);
    requirements(&mut page, result);
    preflight::write(&mut page, result);
    if !result.findings.is_empty() {
        page.heading(2, "Findings");
        page.paragraph("Worth knowing. None of these changed a verdict.");
        page.list(result.findings.iter().map(|f| text(f)));
    }
    for scenario in &result.scenarios {
        scenario::write(&mut page, scenario);
    }
    balance::write(&mut page, &result.balance);
    how_made(&mut page, result);
    page.heading(2, "Words used here");
    page.list(GLOSSARY.iter().map(|(word, meaning)| format!("**{word}**: {meaning}")));
    page.finish()
}

const GLOSSARY: [(&str, &str); 12] = [
    (
        "Mode",
        "a state of the whole stack, such as \"the cloud is down\", together with who must answer then.",
    ),
    (
        "Route",
        "what a caller asks for. `agent` is the main assistant, `coder` the sub-agents that write code.",
    ),
    (
        "Probe",
        "one short chat request sent through the gateway. Probes are sent on a fixed schedule that does not wait for answers.",
    ),
    (
        "Judged probe",
        "a probe sent while the fault was proven to be in effect. Only these move a verdict, together with the requests that were still waiting when the fault hit.",
    ),
    (
        "Good",
        "the answer is complete, comes from the expected model, and its first words arrive within the limit. Where an error is expected by design: a complete error reply within the limit.",
    ),
    (
        "In effect",
        "proven by someone who looks at the component directly, past the gateway; the probes themselves are never the proof.",
    ),
    (
        "A range such as 3.71-3.93 s",
        "the true value lies between the two: nothing was observed in between. Verdicts use the worse end.",
    ),
    (
        "p50, p90, p99",
        "half, 90 % and 99 % of the probes were at least this fast. A probe without an answer counts as infinitely slow, shown as *never*.",
    ),
    (
        "First content",
        "when the first words of the answer arrived. For an answer sent in one piece, its end.",
    ),
    ("Steady", "the start of the first unbroken run of good replies, at least 5 s and 10 probes long."),
    (
        "Control probe",
        "asks the expected model directly, past the failover. It shows how much of a wait is the model's own time.",
    ),
    ("Inconclusive", "the run cannot say. It is neither a pass nor a failure of the stack."),
];

fn introduction(run: &RunResult) -> String {
    let took = match (run.started_at.parse::<jiff::Timestamp>(), run.finished_at.parse::<jiff::Timestamp>()) {
        (Ok(start), Ok(end)) => {
            format!(" It took {}.", figures::elapsed(end.as_second().saturating_sub(start.as_second())))
        }
        _ => String::new(),
    };
    format!(
        "Run {} in environment {}, from {} to {}.{took} Gateway: {}, version {}, configuration {}.",
        text(&run.run_id),
        text(&run.environment),
        text(&run.started_at),
        text(&run.finished_at),
        text(&run.gateway.kind),
        text(&run.gateway.version),
        text(&run.gateway.config),
    )
}

fn to_do(page: &mut Page, run: &RunResult) {
    let Some(restore) = &run.restore_with else { return };
    let file = if restore.ends_with(" FILE") {
        ", where FILE is that of this environment with a context of the cluster; without the program, the lines to type are \
         among the reasons above"
    } else {
        ""
    };
    page.paragraph(format!(
        "**Do this first:** something that this run changed is still changed. Put it back with {}{file}. It is safe to run \
         more than once, and it leaves alone what someone else has changed since.",
        command(restore)
    ));
}

fn modes(page: &mut Page, run: &RunResult) {
    page.heading(2, "The modes, in the order in which they ran");
    if run.scenarios.is_empty() {
        page.paragraph("No mode was run.");
        return;
    }
    let header = [
        "Mode",
        "Route",
        "Expected",
        "Answered by",
        "Probes",
        "Errors",
        "Worst failover",
        "Verdict of the mode",
    ];
    let rows: Vec<_> = run.scenarios.iter().flat_map(mode_rows).collect();
    page.block(&table(header, &rows));
    page.paragraph(
        "*Worst failover* is the longest that any request waited for its first words (or for the error, where \
         an error is expected) while the fault was in effect, against the limit. `-` where nothing had to \
         fail over.",
    );
}

fn mode_rows(scenario: &ScenarioResult) -> Vec<[String; 8]> {
    let name = text(&scenario.name);
    let verdict = words::verdict(scenario.verdict).to_owned();
    if scenario.routes.is_empty() {
        let none = || "-".to_owned();
        return vec![[name, none(), none(), none(), none(), none(), none(), verdict]];
    }
    let row = |route: &RouteResult| {
        [
            name.clone(),
            text(&route.route),
            expected(route),
            text(&figures::served_by(&route.served_by)),
            route.requests.to_string(),
            text(&figures::errors(&route.errors)),
            route.failover.as_ref().map_or_else(|| "-".to_owned(), worst_failover),
            verdict.clone(),
        ]
    };
    scenario.routes.iter().map(row).collect()
}

/// Who must answer, for a table cell.
fn expected(route: &RouteResult) -> String {
    match route.expected.as_deref() {
        Some("error") => "an error".to_owned(),
        Some(alias) => text(alias),
        None => "not judged".to_owned(),
    }
}

fn requirements(page: &mut Page, run: &RunResult) {
    page.heading(2, "Requirements");
    if run.requirements.is_empty() {
        page.paragraph("This run traces to no requirement.");
        return;
    }
    let row = |requirement: &RunRequirement| {
        let modes: Vec<_> = requirement.scenarios.iter().map(|s| text(s)).collect();
        [
            text(&requirement.id),
            words::requirement(&requirement.id).unwrap_or("-").to_owned(),
            words::requirement_verdict(requirement.verdict).to_owned(),
            if modes.is_empty() { "-".to_owned() } else { modes.join(", ") },
            text(&requirement.detail),
        ]
    };
    let rows: Vec<_> = run.requirements.iter().map(row).collect();
    page.block(&table(["Id", "What it asks for", "Verdict", "Modes that looked at it", "Evidence"], &rows));
    page.paragraph("*Not checked* means that this run did not look. It says nothing either way.");
}

fn how_made(page: &mut Page, run: &RunResult) {
    page.heading(2, "How this run was made");
    if run.made_with.is_empty() {
        page.paragraph("Nothing is recorded.");
    } else {
        let rows: Vec<_> = run.made_with.iter().map(|(label, value)| [text(label), text(value)]).collect();
        page.block(&table(["What", "Value"], &rows));
    }
    let (code, meaning) = words::exit(run);
    page.paragraph(format!(
        "The result stands for exit code **{code}**: {meaning}. (0 = every verdict is pass, 1 = a requirement \
         failed, 3 = something could not be established, 4 = something could not be put back.)"
    ));
    page.paragraph(
        "Every figure with all its digits is in `result.json`; every single event is in `journal.jsonl`.",
    );
}
