//! The whole job: how long a run took beside what its scenario files demand.

use std::path::Path;

use super::BenchError;
use super::table::Row;
use crate::analysis;
use crate::journal;
use crate::plan;

/// Rows of a run that is over, from its journal.
///
/// # Errors
/// When there is no journal that can be read.
pub fn job(run: &Path) -> Result<Vec<Row>, BenchError> {
    let entries = journal::read(&run.join(journal::FILE_NAME))?;
    let facts = analysis::gather(&entries).ok_or_else(|| BenchError::Truth("no run in it".to_owned()))?;
    let demanded = plan::demanded(&facts.start.plan).as_secs_f64();
    let took = facts.last_us as f64 / 1e6;
    let in_modes: f64 = facts
        .modes
        .iter()
        .filter_map(|mode| Some((mode.ended_us?.saturating_sub(mode.started_us?)) as f64 / 1e6))
        .sum();
    let recovering: f64 = facts
        .modes
        .iter()
        .filter_map(|mode| Some((mode.ended_us?.saturating_sub(mode.heal_called_us?)) as f64 / 1e6))
        .sum();
    let overhead = 100.0 * (took - demanded - recovering) / demanded.max(f64::MIN_POSITIVE);
    let value = format!(
        "{took:.1} s for {demanded:.1} s of leads and judged time and {recovering:.1} s of watching {} recover: {overhead:+.1} %; {:.1} s outside of modes",
        facts.modes.iter().filter(|mode| mode.heal_called_us.is_some()).count(),
        took - in_modes
    );
    Ok(vec![Row::new(
        "job",
        &format!("{} modes", facts.modes.len()),
        value,
        "under 5 %",
        Some(overhead < 5.0),
    )])
}
