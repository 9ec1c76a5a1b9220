//! What the run itself makes of the probes it sees ending: enough to go on or not, never a verdict.

use crate::plan;
use crate::probe::LiveProbe;

fn is_good(ended: &Result<String, String>, wanted: Option<&str>) -> bool {
    match (ended, wanted) {
        (Ok(alias), Some(wanted)) => alias == wanted,
        (Err(class), None) => crate::analysis::is_honest_error(class),
        (Ok(_), None) | (Err(_), Some(_)) => false,
    }
}

pub(super) fn first_bad(probes: &[LiveProbe], wanted: Option<&str>) -> Option<String> {
    let mut ended = probes.iter().filter_map(|probe| probe.ended.as_ref());
    ended.find(|ended| !is_good(ended, wanted)).map(|ended| match ended {
        Ok(alias) => format!("answered by {alias}"),
        Err(class) => class.clone(),
    })
}

pub(super) fn good_count(probes: &[LiveProbe], wanted: Option<&str>) -> usize {
    let ended = probes.iter().filter_map(|probe| probe.ended.as_ref());
    ended.filter(|ended| is_good(ended, wanted)).count()
}

/// Whether the newest ended probes since heal are a steady run of `alias`: long enough, without a gap.
pub(super) fn is_steady(probes: &[LiveProbe], healed_us: u64, alias: &str) -> bool {
    let newest = probes.iter().rposition(|probe| probe.ended.is_some());
    let Some(newest) = newest else { return false };
    let run = probes[..=newest].iter().rev().take_while(|probe| {
        probe.intended_us >= healed_us
            && probe.ended.as_ref().is_some_and(|ended| is_good(ended, Some(alias)))
    });
    let starts: Vec<u64> = run.map(|probe| probe.intended_us).collect();
    let (Some(last), Some(first)) = (starts.first(), starts.last()) else { return false };
    starts.len() as u64 >= plan::STEADY_PROBES && (last - first) as f64 / 1000.0 >= plan::STEADY_MS
}
