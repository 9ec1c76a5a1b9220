//! What was found out before anything was measured.

use super::super::escape::markdown as text;
use super::table::{Page, table};
use crate::verdict::result::{ForeseenWait, GatewaySettings, MigrationLine, Outlook, RunResult, Standing};

/// What stands for a setting that the gateway does not tell.
const NOT_TOLD: &str = "not told";

pub(super) fn write(page: &mut Page, run: &RunResult) {
    if let Some(lines) = &run.migration {
        migration(page, lines);
    }
    if let Some(outlook) = &run.outlook {
        foreseen(page, outlook);
    }
}

fn migration(page: &mut Page, lines: &[MigrationLine]) {
    page.heading(2, "State of the migration");
    let count = |standing| lines.iter().filter(|line| line.standing == standing).count();
    page.paragraph(format!(
        "Whether openclaw has moved to LiteLLM, and nothing of Anthropic is left: {} facts hold, {} do not, {} are not \
         known. Only names were looked at; no value of a secret was kept.",
        count(Standing::Holds),
        count(Standing::Fails),
        count(Standing::NotKnown)
    ));
    let row = |line: &MigrationLine| {
        [
            text(&line.requirement),
            text(&line.fact),
            line.standing.word().to_owned(),
            text(&line.expected),
            text(&line.found),
            line.mend.as_deref().map_or_else(|| "-".to_owned(), text),
        ]
    };
    let rows: Vec<_> = lines.iter().map(row).collect();
    page.block(&table(["Id", "Fact", "Stands", "Expected", "Found", "What to do"], &rows));
}

fn foreseen(page: &mut Page, outlook: &Outlook) {
    page.heading(2, "What the gateway's own settings let expect");
    if let Some(why) = &outlook.not_known {
        page.paragraph(format!("Not known: {}.", text(why)));
    }
    if let Some(settings) = &outlook.settings {
        page.paragraph("Read from the gateway before anything was broken.");
        page.block(&table(["Setting", "In effect"], &in_effect(settings)));
    }
    if !outlook.warnings.is_empty() {
        page.list(outlook.warnings.iter().map(|warning| text(warning)));
    }
    if outlook.waits.is_empty() {
        return;
    }
    let row = |wait: &ForeseenWait| {
        let (least, most) = wait.wait_s;
        [
            text(&wait.route),
            text(&wait.down.join(", ")),
            wait.failing.words().to_owned(),
            if wait.streamed { "stream" } else { "any, or whole" }.to_owned(),
            wait.then.as_deref().map_or_else(|| "an error".to_owned(), text),
            if least == most { format!("{most:.2} s") } else { format!("{least:.2}-{most:.2} s") },
            text(&wait.formula),
        ]
    };
    let rows: Vec<_> = outlook.waits.iter().map(row).collect();
    page.block(&table(["Route", "Down", "Each", "Form", "Then", "Longest first wait", "Made up of"], &rows));
    page.paragraph(
        "*Longest first wait* is what a first request waits until the next model is asked, by the rules that were measured \
         on LiteLLM 1.106.2. What that model itself takes comes on top.",
    );
}

fn in_effect(settings: &GatewaySettings) -> Vec<[String; 2]> {
    let seconds =
        |value: Option<f64>| value.map_or_else(|| NOT_TOLD.to_owned(), |value| format!("{value} s"));
    let count = |value: Option<u64>| value.map_or_else(|| NOT_TOLD.to_owned(), |value| value.to_string());
    let mut rows = vec![
        ["timeout of a phase".to_owned(), seconds(settings.timeout_s)],
        [
            "timeout of streams".to_owned(),
            settings.stream_timeout_s.map_or_else(|| "the same".to_owned(), |value| format!("{value} s")),
        ],
        ["retries of each group".to_owned(), count(settings.num_retries)],
        ["allowed failures".to_owned(), count(settings.allowed_fails)],
        [
            "cooldown".to_owned(),
            if settings.cooldowns_disabled { "off".to_owned() } else { seconds(settings.cooldown_time_s) },
        ],
        ["depth of fallbacks".to_owned(), count(settings.max_fallbacks)],
    ];
    for (group, list) in &settings.fallbacks {
        rows.push([format!("fallbacks of {}", text(group)), text(&list.join(", "))]);
    }
    for own in &settings.deployments {
        let parts = [
            own.timeout_s.map(|value| format!("timeout {value} s")),
            own.stream_timeout_s.map(|value| format!("timeout of streams {value} s")),
            own.num_retries.map(|value| format!("retries {value}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            rows.push([format!("a deployment of {}", text(&own.group)), parts.join(", ")]);
        }
    }
    rows
}
