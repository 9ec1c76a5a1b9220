//! `harness report`: old runs, judged and rendered again.

use super::args::ReportArguments;
use super::exit::ExitStatus;
use super::{printer, run};

pub(super) fn report(arguments: &ReportArguments, quiet: bool) -> ExitStatus {
    for dir in &arguments.runs {
        match crate::run::render(dir) {
            Ok(result) => run::show(&result, dir, quiet),
            Err(error) => return printer::usage_error(&error.to_string()),
        }
    }
    ExitStatus::Pass
}
