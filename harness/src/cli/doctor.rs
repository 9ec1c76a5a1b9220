//! `harness doctor`: whether an environment is fit for a run.

use super::exit::ExitStatus;
use super::printer;

pub(super) fn doctor(env: &str) -> ExitStatus {
    let environment = match crate::input::environment(env) {
        Ok(environment) => environment,
        Err(problems) => return printer::problems(&problems),
    };
    match super::on_runtime(async { Ok(crate::doctor::examine(&environment).await) }) {
        Ok(examination) => {
            printer::data(&examination.describe(&environment.name));
            if examination.is_fit() { ExitStatus::Pass } else { ExitStatus::Inconclusive }
        }
        Err(error) => {
            printer::tell(&format!("error: cannot start: {error}"));
            ExitStatus::Inconclusive
        }
    }
}
