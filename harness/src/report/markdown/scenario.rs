//! One section a mode: why, the faults, the figures, the story.

use super::super::escape::{markdown as text, plain};
use super::super::{figures, words};
use super::table::{Page, table};
use super::{events, route};
use crate::verdict::result::{
    CountStanding, Evidence, FaultResult, LogCount, ScenarioResult, TimelineEntry, UpstreamCount, Verdict,
};

/// Observations of one fault that the report shows; the rest stays in `result.json`.
const EVIDENCE_SHOWN: usize = 8;
/// Lines of the story that the report shows.
const STORY_SHOWN: usize = 80;

pub(super) fn write(page: &mut Page, scenario: &ScenarioResult) {
    page.heading(2, format!("Mode {}: {}", text(&scenario.name), words::loud(scenario.verdict)));
    if !plain(&scenario.title).is_empty() {
        page.paragraph(format!("{}.", text(scenario.title.trim_end_matches('.'))));
    }
    match scenario.verdict {
        Verdict::Pass => {}
        Verdict::Fail => page.paragraph("**Why it failed:**"),
        Verdict::Inconclusive => page.paragraph("**Why it could not be judged:**"),
    }
    page.list(scenario.reasons.iter().map(|r| text(r)));
    if !scenario.requirements.is_empty() {
        page.paragraph("**Requirements in this mode:**");
        page.list(scenario.requirements.iter().map(|r| {
            format!("{} {}: {}", text(&r.id), words::requirement_verdict(r.verdict), text(&r.detail))
        }));
    }
    events::write(page, scenario);
    faults(page, &scenario.faults);
    for route in &scenario.routes {
        route::write(page, scenario, route);
    }
    logs(page, &scenario.counts);
    upstreams(page, &scenario.upstream_counts);
    if !scenario.findings.is_empty() {
        page.heading(3, "Worth knowing");
        page.list(scenario.findings.iter().map(|f| text(f)));
    }
    story(page, &scenario.timeline);
}

fn faults(page: &mut Page, faults: &[FaultResult]) {
    if faults.is_empty() {
        return;
    }
    page.heading(3, "What was broken on purpose");
    let row = |fault: &FaultResult| {
        let moment =
            |bracket: Option<_>, none: &str| bracket.map_or_else(|| none.to_owned(), figures::moment);
        [
            text(&fault.component),
            fault_kind(fault),
            figures::moment(fault.injected_ms),
            moment(fault.effective_ms, "never seen"),
            match (&fault.seen_as, &fault.effective_ms) {
                (Some(words), _) => text(words),
                (None, Some(_)) => "not seen".to_owned(),
                (None, None) => "nothing".to_owned(),
            },
            if fault.held { "yes" } else { "**no**" }.to_owned(),
            moment(fault.healed_ms, "not in this mode"),
        ]
    };
    let rows: Vec<_> = faults.iter().map(row).collect();
    page.block(&table(
        [
            "Component",
            "Fault",
            "Asked for at",
            "In effect at",
            "A client then meets",
            "Stayed in effect",
            "Healed at",
        ],
        &rows,
    ));
    page.paragraph("Times count from the start of the run.");
    // Of many injections what was seen is in the story, and all of it in `result.json`.
    for fault in faults.iter().filter(|fault| fault.injection.is_none_or(|number| number == 1)) {
        evidence(page, fault);
    }
}

/// What logs of the gateway counted.
fn logs(page: &mut Page, counts: &[LogCount]) {
    if counts.is_empty() {
        return;
    }
    page.heading(3, "Counted in the gateway's log");
    page.paragraph("Its lines name no request, so these are counts over the mode, of everybody's calls.");
    let row = |count: &LogCount| {
        [
            text(&count.source),
            count.calls.to_string(),
            count.ours.to_string(),
            count.missing.to_string(),
            if count.answers.is_empty() {
                "not told".to_owned()
            } else {
                text(&figures::served_by(&count.answers))
            },
            text(&figures::served_by(&count.got)),
            count.trouble.as_deref().map_or_else(|| "-".to_owned(), text),
        ]
    };
    let rows: Vec<_> = counts.iter().map(row).collect();
    let header =
        ["Log", "Model calls", "Our own", "Never arrived", "Answers by model", "Got by clients", "Trouble"];
    page.block(&table(header, &rows));
}

/// What upstreams counted themselves.
fn upstreams(page: &mut Page, counts: &[UpstreamCount]) {
    if counts.is_empty() {
        return;
    }
    page.heading(3, "Counted at the upstreams");
    page.paragraph("Past the gateway, over the mode, of everybody's calls. A count names no reply; it can only contradict.");
    let row = |count: &UpstreamCount| {
        [
            text(&count.component),
            text(&count.source),
            count.calls.to_string(),
            count.answered.to_string(),
            count.got.to_string(),
            standing(count.standing).to_owned(),
            count.trouble.as_deref().map_or_else(|| "-".to_owned(), text),
        ]
    };
    let rows: Vec<_> = counts.iter().map(row).collect();
    let header = ["Component", "Source", "Model calls", "Answered", "Got by clients", "The two", "Trouble"];
    page.block(&table(header, &rows));
}

fn standing(standing: CountStanding) -> &'static str {
    match standing {
        CountStanding::Agrees => "agree",
        CountStanding::Beyond => "agree; it answered others, too, or again",
        CountStanding::Contradicts => "**contradict**",
        CountStanding::NotKnown => "cannot be compared",
        CountStanding::Silent => "it is silent",
    }
}

fn fault_kind(fault: &FaultResult) -> String {
    let meaning = words::fault_kind(&fault.kind).map_or(String::new(), |m| format!(" ({m})"));
    let since = if fault.inherited { ", carried over from the mode before" } else { "" };
    let number = fault.injection.map(|number| format!(", injection {number}")).unwrap_or_default();
    format!("{}{meaning}{since}{number}", text(&fault.kind))
}

fn evidence(page: &mut Page, fault: &FaultResult) {
    let component = text(&fault.component);
    if fault.evidence.is_empty() {
        page.paragraph(format!("Nobody observed the fault on {component}, so it is not proven."));
        return;
    }
    page.paragraph(format!("What was seen of {component}, past the gateway:"));
    let line = |seen: &Evidence| {
        format!("{}, {}: {}", figures::instant(seen.at_ms), text(&seen.source), text(&seen.saw))
    };
    let hidden = fault.evidence.len().saturating_sub(EVIDENCE_SHOWN);
    let more = (hidden > 0)
        .then(|| format!("and {} more, in `result.json`", figures::counted(hidden, "observation")));
    page.list(fault.evidence.iter().take(EVIDENCE_SHOWN).map(line).chain(more));
}

fn story(page: &mut Page, timeline: &[TimelineEntry]) {
    if timeline.is_empty() {
        return;
    }
    page.heading(3, "What happened, in time order");
    let told = timeline.iter().take(STORY_SHOWN);
    let rows: Vec<_> = told.map(|e| [figures::instant(e.at_ms), text(&e.what)]).collect();
    page.block(&table(["Since the start of the run", "What"], &rows));
    let hidden = timeline.len().saturating_sub(STORY_SHOWN);
    if hidden > 0 {
        page.paragraph(format!("{} more in `result.json`.", figures::counted(hidden, "line")));
    }
}
