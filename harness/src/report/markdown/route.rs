//! One route of one mode: the counts, the figures, failover, fail-back and the worst probes.

use std::collections::BTreeMap;

use super::super::escape::markdown as text;
use super::super::{figures, words};
use super::events;
use super::table::{Page, table};
use crate::verdict::result::{
    Bracket, Conflict, Failback, Failover, FaultResult, Hop, PhaseCounts, Quantiles, RouteResult,
    ScenarioResult, SourceStanding, Streams, Turns, Verdict, WorstProbe,
};

pub(super) fn write(page: &mut Page, scenario: &ScenarioResult, route: &RouteResult) {
    page.heading(3, format!("Route {} in {}", text(&route.route), text(&scenario.name)));
    page.paragraph(counts(route));
    sources(page, route);
    percentiles(page, route);
    if let Some(streams) = &route.streams {
        self::streams(page, streams);
    }
    if let Some(turns) = &route.turns {
        self::turns(page, route, turns);
    }
    if let Some(failover) = &route.failover {
        self::failover(page, scenario, route, failover);
    }
    if let Some(failback) = &route.failback {
        self::failback(page, route, failback);
    }
    worst(page, route);
    unjudged(page, &route.unjudged);
}

fn counts(route: &RouteResult) -> String {
    let model = text(&route.model);
    let must = match route.expected.as_deref() {
        Some("error") => "By design the caller must get an error, and soon.".to_owned(),
        Some(alias) if alias == route.model => format!("{} itself must answer.", text(alias)),
        Some(alias) => format!("{} must answer.", text(alias)),
        None => "This route is not judged in this mode.".to_owned(),
    };
    let mut said = format!(
        "The caller asks for {model}. {must} {} sent, {} complete answers",
        probes(route.requests, "judged "),
        route.ok
    );
    if route.ok > 0 {
        said.push_str(&format!(" (by {})", text(&figures::served_by(&route.served_by))));
    }
    let errors = figures::errors_in_words(&route.errors);
    match (errors.is_empty(), route.expected.as_deref()) {
        (true, _) => said.push_str(", no errors."),
        (false, Some("error")) => said.push_str(&format!(". Errors, as designed: {}.", text(&errors))),
        (false, _) => said.push_str(&format!(". Errors: {}.", text(&errors))),
    }
    if route.skipped > 0 {
        said.push_str(&format!(" Of {} planned probes {} were never sent.", route.planned, route.skipped));
    }
    if route.late > 0 {
        said.push_str(&format!(" {} went out later than planned.", probes(route.late, "")));
    }
    if route.attribution_conflicts > 0 {
        said.push_str(&format!(
            " On {} the sources disagree about who answered.",
            probes(route.attribution_conflicts, "")
        ));
    }
    said
}

/// Who answered, by which source.
fn sources(page: &mut Page, route: &RouteResult) {
    if !route.sources.is_empty() {
        let row = |source: &SourceStanding| {
            let counts = [source.decided, source.agreed, source.silent, source.unusable, source.conflicted];
            let [a, b, c, d, e] = counts.map(|count| count.to_string());
            [text(&source.source), a, b, c, d, e]
        };
        let rows: Vec<_> = route.sources.iter().map(row).collect();
        page.paragraph("Who answered, and which source says so; the strongest that names a model decides:");
        let header = ["Source", "Decided", "Agreed", "Silent", "Unusable", "Conflicted"];
        page.block(&table(header, &rows));
    }
    let conflict = |conflict: &Conflict| {
        let said: Vec<_> = conflict.said.iter().map(|said| text(said)).collect();
        format!(
            "{}: {} by {}, but {}",
            text(&conflict.probe),
            text(&conflict.alias),
            text(&conflict.by),
            said.join(", ")
        )
    };
    page.list(route.conflicts.iter().map(conflict));
}

fn numbered(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

fn probes(n: u64, which: &str) -> String {
    if n == 1 { format!("1 {which}probe") } else { format!("{n} {which}probes") }
}

fn percentiles(page: &mut Page, route: &RouteResult) {
    let mut rows = Vec::new();
    // Where an error is expected, a table of answers that must not come would only say "never".
    if route.expected.as_deref() != Some("error") || route.ok > 0 {
        rows.push(quantile_row("First content", &route.ttft_ms));
        rows.push(quantile_row("Whole answer", &route.latency_ms));
    }
    rows.extend(route.error_reply_ms.as_ref().map(|q| quantile_row("Whole error reply", q)));
    rows.extend(route.control_ms.as_ref().map(|q| quantile_row("Model asked directly (control)", q)));
    rows.retain(|row| row[1] != "0");
    if !rows.is_empty() {
        page.block(&table(["Time until", "Probes", "Never came", "min", "p50", "p90", "p99", "max"], &rows));
    }
}

/// What clients got of streams.
fn streams(page: &mut Page, streams: &Streams) {
    let of =
        |limit: Option<f64>| limit.map(|ms| format!(" (limit {})", figures::limit(ms))).unwrap_or_default();
    let took = |ms: Option<f64>| ms.map_or_else(|| "not known".to_owned(), figures::duration);
    let mut said = format!(
        "**Streams**: {} gave a token. Latest first token of a judged one: {}{}. Longest time without a further token: {}{}.",
        streams.begun,
        took(streams.latest_first_token_ms),
        of(streams.first_token_limit_ms),
        took(streams.longest_stall_ms),
        of(streams.stall_limit_ms)
    );
    if let Some((fewest, most)) = streams.tokens_before_break {
        said.push_str(&format!(
            " {} began and broke off, after {fewest} to {most} chunks with a token: {} with an error event, {} with a \
             terminator all the same.",
            streams.broken, streams.broken_with_error_event, streams.broken_with_terminator
        ));
    }
    page.paragraph(said);
}

/// The person's time beside the gateway's, and the requests that one turn became.
fn turns(page: &mut Page, route: &RouteResult, turns: &Turns) {
    let way = match turns.via.as_str() {
        "telegram" => "in a Telegram chat with openclaw",
        "openclaw-subagent" => "as sub-agents of openclaw, judged on the child",
        _ => "at openclaw's own API",
    };
    page.paragraph(format!(
        "**Through openclaw** {} (retries: {}), {way}. {} became {} to the gateway, {} at most of one:",
        text(&turns.version),
        text(&turns.retries),
        numbered(route.requests, "turn"),
        numbered(turns.requests, "request"),
        turns.most,
    ));
    let mut rows = vec![
        quantile_row("The person: whole answer", &route.latency_ms),
        quantile_row("The gateway: the request that was answered", &turns.gateway_ms),
        quantile_row("openclaw: until its first request", &turns.before_ms),
    ];
    rows.extend(route.error_reply_ms.as_ref().map(|q| quantile_row("The person: whole error reply", q)));
    // What came on no turn needs no line of its own.
    rows.retain(|row| row[1] != row[2]);
    page.block(&table(["Time", "Turns", "Never came", "min", "p50", "p90", "p99", "max"], &rows));
    let known = turns.known_by.iter().map(|(source, count)| format!("{} by the {}", count, text(source)));
    let known: Vec<String> = known.collect();
    if !known.is_empty() {
        page.paragraph(format!("Who served is known of {}.", known.join(", of ")));
    }
    page.list(turns.words.iter().map(|words| text(words)));
}

fn quantile_row(name: &str, q: &Quantiles) -> [String; 8] {
    let figure = |ms: Option<f64>| match ms {
        Some(ms) => figures::duration(ms),
        None if q.infinite > 0 => "never".to_owned(),
        None => "-".to_owned(),
    };
    [
        name.to_owned(),
        q.count.to_string(),
        q.infinite.to_string(),
        figure(q.min),
        figure(q.p50),
        figure(q.p90),
        figure(q.p99),
        figure(q.max),
    ]
}

fn failover(page: &mut Page, scenario: &ScenarioResult, route: &RouteResult, failover: &Failover) {
    let limit = figures::limit(failover.limit_ms);
    let error = route.expected.as_deref() == Some("error");
    let reply = if error { "error reply" } else { "answer" };
    let good = if error { "every error reply is in time" } else { "every answer is good" };
    page.paragraph(format!("**Failover**, judged in two ways, each with a limit of {limit}:"));
    let duration = |ms: Option<f64>, none: &str| ms.map_or_else(|| none.to_owned(), figures::duration);
    let span = |b: Option<Bracket>| b.map_or_else(|| "never".to_owned(), figures::span);
    let worst = match failover.worst_ms {
        Some(ms) if !failover.censored => figures::against(ms, failover.limit_ms),
        _ if failover.censored => "never: a probe that had to be answered was not".to_owned(),
        _ => "not known".to_owned(),
    };
    let nothing = if failover.censored { "never" } else { "not known" };
    let mut rows = vec![
        verdict_row("Every request: the longest that any had to wait", worst, failover.request_verdict),
        verdict_row(
            &format!("The service: from the fault until {good}"),
            span(failover.steady_after_ms),
            failover.service_verdict,
        ),
        row(
            &format!("Longest wait for the end of an {reply}"),
            duration(failover.worst_last_byte_ms, nothing),
        ),
        row(&format!("From the fault to the first expected {reply}"), span(failover.first_expected_after_ms)),
        row(
            &format!("Longest gap without a good {reply}, beyond the usual gap"),
            duration(failover.unavailable_gap_ms, "no end seen"),
        ),
        row(
            "Total time in which a new request would have gone wrong or waited too long",
            figures::duration(failover.unavailable_starts_ms),
        ),
        row(
            "Answers already under way when the fault hit",
            format!("{} finished, {} broken off", failover.in_flight.served, failover.in_flight.lost),
        ),
    ];
    if let Some(own) = route.control_ms.as_ref().and_then(|q| q.p50) {
        rows.push(row(
            "Of a wait, the model's own time (median of the control probes)",
            figures::duration(own),
        ));
        if let Some(worst) = failover.worst_ms.filter(|_| !failover.censored) {
            let cost = figures::duration((worst - own).max(0.0));
            rows.push(row("Of the longest wait, what the failover cost beyond that", cost));
        }
    }
    let widths =
        scenario.faults.iter().filter(|fault| !fault.inherited).filter_map(FaultResult::effect_width_ms);
    if let Some(width) = widths.max_by(f64::total_cmp) {
        rows.push(row("When the fault began is known to within", figures::duration(width)));
    }
    rows.push(row("How often the fault was injected", events::injections(failover)));
    page.block(&table(["Failover", "Figure", "Verdict"], &rows));
    events::bounds(page, route, failover);
}

fn failback(page: &mut Page, route: &RouteResult, failback: &Failback) {
    page.paragraph(format!("**Coming back** to {} after the fault was healed:", text(&route.model)));
    let span = |b: Option<Bracket>, none: &str| b.map_or_else(|| none.to_owned(), figures::span);
    let mut steady =
        row("From the heal to steady answers by it", span(failback.steady_after_ms, "not reached"));
    steady[2] = match (failback.verdict, failback.limit_ms) {
        (Some(verdict), Some(ms)) => format!("{}, limit {}", words::verdict(verdict), figures::limit(ms)),
        (Some(verdict), None) => words::verdict(verdict).to_owned(),
        (None, _) => "no limit set".to_owned(),
    };
    let rows = [
        row("From the heal to its first answer", span(failback.first_after_ms, "never")),
        steady,
        row("Errors after the heal", failback.errors.to_string()),
        row("Changes of the answering model beyond the one wanted", failback.flaps.to_string()),
    ];
    page.block(&table(["Coming back", "Figure", "Verdict"], &rows));
}

fn row(what: &str, figure: String) -> [String; 3] {
    [what.to_owned(), figure, "-".to_owned()]
}

fn verdict_row(what: &str, figure: String, verdict: Verdict) -> [String; 3] {
    [what.to_owned(), figure, words::verdict(verdict).to_owned()]
}

fn worst(page: &mut Page, route: &RouteResult) {
    if route.worst.is_empty() {
        return;
    }
    page.paragraph(
        "**Where the time of the slowest judged probes went**, by the models that the gateway asked, in order:",
    );
    page.list(route.worst.iter().map(|probe| {
        let hops: Vec<_> = probe.hops.iter().map(hop).collect();
        let path =
            if hops.is_empty() { "no record of the models asked".to_owned() } else { hops.join(" -> ") };
        format!(
            "{}, started at {}: {}. {path}",
            text(&probe.probe),
            figures::instant(probe.at_ms),
            text(&waited(route, probe)),
        )
    }));
}

/// How long the caller waited for what, as plain text.
fn waited(route: &RouteResult, probe: &WorstProbe) -> String {
    let answered = route.served_by.contains_key(&probe.outcome);
    let outcome = words::error_class(&probe.outcome);
    match probe.first_content_ms.map(figures::duration) {
        Some(after) if answered => format!("{after} to the first content, answered by {}", probe.outcome),
        Some(after) if route.expected.as_deref() == Some("error") => {
            format!("{after} to the whole error reply, {outcome}")
        }
        Some(after) => format!("{after} to the first content, but then {outcome}"),
        None => format!("nothing came, {outcome}"),
    }
}

fn hop(hop: &Hop) -> String {
    let took = hop.took_ms.map_or_else(|| "no end seen".to_owned(), figures::duration);
    let who = if hop.alias.is_empty() { String::new() } else { format!("{} ", text(&hop.alias)) };
    format!("{who}{} ({took})", text(&hop.outcome))
}

fn unjudged(page: &mut Page, phases: &BTreeMap<String, PhaseCounts>) {
    let row = |(name, counts): (&String, &PhaseCounts)| {
        let meaning = words::phase(name).map_or(String::new(), |m| format!(": {m}"));
        [
            format!("{}{meaning}", text(name)),
            counts.requests.to_string(),
            counts.ok.to_string(),
            text(&figures::served_by(&counts.served_by)),
            text(&figures::errors(&counts.errors)),
        ]
    };
    let rows: Vec<_> = phases.iter().filter(|(_, counts)| counts.requests > 0).map(row).collect();
    if !rows.is_empty() {
        page.paragraph("Probes around the judged time. They help to understand and are not judged:");
        page.block(&table(["Phase", "Sent", "Answered", "Answered by", "Errors"], &rows));
    }
}
