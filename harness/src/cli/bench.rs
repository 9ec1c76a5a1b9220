//! `harness bench`: what the harness itself is worth.

use super::args::BenchArguments;
use super::exit::ExitStatus;
use super::printer;
use crate::bench::{BenchError, Options, Size, Table};

pub(super) fn bench(arguments: &BenchArguments) -> ExitStatus {
    if let Some(run) = &arguments.job {
        return match crate::bench::job(run) {
            Ok(rows) => printer::data(&format!("{}\n", rows[0].value)),
            Err(error) => printer::usage_error(&error.to_string()),
        };
    }
    let size = if arguments.quick { Size::Quick } else { Size::Full(arguments.events.max(1)) };
    let options = Options { size, rows: arguments.row.clone() };
    let measured = super::on_runtime(async move { Ok(crate::bench::bench(&options).await) });
    let table: Table = match measured.map_err(BenchError::from).and_then(|table| table) {
        Ok(table) => table,
        Err(error) => return printer::usage_error(&format!("the bench could not go on: {error}")),
    };
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&table).unwrap_or_default();
        if let Err(error) = std::fs::write(path, text) {
            return printer::usage_error(&format!("cannot write {}: {error}", path.display()));
        }
    }
    printer::data(&table.markdown())
}

pub(super) fn part(part: &str, cpu: Option<usize>, given: &str) -> ExitStatus {
    match crate::bench::part(part, cpu, given) {
        Ok(()) => ExitStatus::Pass,
        Err(error) => printer::usage_error(&error.to_string()),
    }
}
