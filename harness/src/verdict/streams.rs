//! What is expected of streams beside a whole answer: an early first token, and no long stall.

use crate::analysis::{Figures, StreamFigures, ms};
use crate::scenario::Requirement;

use super::checks::Checks;
use super::result::Streams;

const REQUIREMENTS: [Requirement; 1] = [Requirement::NFR125];

/// First tokens and stalls against their limits, where the scenario states any.
pub(super) fn check_streams(checks: &mut Checks, figures: &Figures) {
    let Some(expectation) = figures.expectation else { return };
    let route = &figures.planned.route;
    let (first, stall) = (expectation.first_token_within, expectation.max_stall);
    if first.is_none() && stall.is_none() {
        return;
    }
    let seen = figures.streams();
    if seen.begun == 0 {
        let text = format!("{route}: no stream gave a token, so nothing is shown of first tokens and stalls");
        checks.open(&REQUIREMENTS, text);
        return;
    }
    if let Some(limit) = first {
        let slowest = seconds(seen.latest_first_us);
        if seen.late > 0 {
            let text = format!(
                "{route}: {} streams gave their first token only after {limit}, or none; the last that came took {slowest}",
                seen.late
            );
            checks.fail(&REQUIREMENTS, text);
        } else if seen.late_unsure > 0 {
            let text = format!(
                "{route}: {} streams gave their first token after {limit}, but were sent late, or were cut before it came",
                seen.late_unsure
            );
            checks.open(&REQUIREMENTS, text);
        } else if seen.latest_first_us.is_none() {
            checks.open(
                &REQUIREMENTS,
                format!("{route}: no judged stream gave a token, so nothing is shown of first tokens"),
            );
        } else {
            checks.looked(
                &REQUIREMENTS,
                &format!("{route} first token of a stream {slowest} at the latest, of {limit}"),
            );
        }
    }
    if let Some(limit) = stall {
        let longest = seconds(seen.longest_stall_us);
        if seen.stalled > 0 {
            let text = format!(
                "{route}: {} of {} streams that had begun gave no further token for longer than {limit}, the longest for {longest}",
                seen.stalled, seen.begun
            );
            checks.fail(&REQUIREMENTS, text);
        } else if seen.untold > 0 {
            let text = format!(
                "{route}: of {} of {} streams it was not recorded how long they gave no further token",
                seen.untold, seen.begun
            );
            checks.open(&REQUIREMENTS, text);
        } else {
            checks.looked(&REQUIREMENTS, &format!("{route} longest stall of a stream {longest} of {limit}"));
        }
    }
}

fn seconds(us: Option<u64>) -> String {
    us.map_or_else(|| "an unknown time".to_owned(), |us| format!("{:.2} s", ms(us) / 1000.0))
}

/// What a result says of a route's streams; `None` where nothing was recorded, and nothing is expected.
pub(super) fn of(figures: &Figures) -> Option<Streams> {
    let seen = figures.streams();
    let limits =
        figures.expectation.map(|expectation| (expectation.first_token_within, expectation.max_stall));
    let (first, stall) = limits.unwrap_or_default();
    let is_told = seen.longest_stall_us.is_some() || !seen.broken.is_empty();
    (is_told || first.is_some() || stall.is_some()).then(|| {
        let StreamFigures { begun, latest_first_us, longest_stall_us, broken, .. } = seen;
        let tokens = broken.iter().map(|broken| u64::from(broken.tokens));
        Streams {
            begun,
            latest_first_token_ms: latest_first_us.map(ms),
            first_token_limit_ms: first.map(|limit| limit.as_ms()),
            longest_stall_ms: longest_stall_us.map(ms),
            stall_limit_ms: stall.map(|limit| limit.as_ms()),
            broken: broken.len() as u64,
            tokens_before_break: tokens.clone().min().zip(tokens.max()),
            broken_with_error_event: broken.iter().filter(|broken| broken.error_event).count() as u64,
            broken_with_terminator: broken.iter().filter(|broken| broken.terminated).count() as u64,
        }
    })
}
