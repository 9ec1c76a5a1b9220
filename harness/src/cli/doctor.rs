//! `harness doctor`: whether an environment is fit for a run, and the migration done.

use std::path::Path;

use super::args::DoctorArguments;
use super::exit::ExitStatus;
use super::printer;
use crate::doctor::{Examination, Migration};
use crate::environment::Environment;
use crate::input::{self, Problem, Problems};
use crate::migration::{GatewayModels, OpenclawConfig};
use crate::verdict::result::Standing;

pub(super) fn doctor(arguments: &DoctorArguments) -> ExitStatus {
    let environment = match input::environment(&arguments.env) {
        Ok(environment) => environment,
        Err(problems) => return printer::problems(&problems),
    };
    if arguments.openclaw_config.is_some() || arguments.litellm_config.is_some() {
        return match of_files(arguments, &environment) {
            Ok(migration) => {
                printer::data(&migration.describe());
                status(true, &migration)
            }
            Err(problems) => printer::problems(&problems),
        };
    }
    match super::on_runtime(async { Ok(crate::doctor::examine(&environment).await) }) {
        Ok(examination) => {
            printer::data(&examination.describe(&environment.name));
            of_examination(&examination)
        }
        Err(error) => {
            printer::tell(&format!("error: cannot start: {error}"));
            ExitStatus::Inconclusive
        }
    }
}

fn of_examination(examination: &Examination) -> ExitStatus {
    status(examination.is_fit(), &examination.migration)
}

fn status(is_fit: bool, migration: &Migration) -> ExitStatus {
    if migration.has(Standing::Fails) {
        ExitStatus::Fail
    } else if !is_fit || migration.has(Standing::NotKnown) {
        ExitStatus::Inconclusive
    } else {
        ExitStatus::Pass
    }
}

/// What the files say; all problems of both at once.
fn of_files(arguments: &DoctorArguments, environment: &Environment) -> Result<Migration, Problems> {
    let openclaw = arguments.openclaw_config.as_deref().map(openclaw);
    let litellm = arguments.litellm_config.as_deref().map(litellm);
    let (openclaw, litellm) = match (openclaw.transpose(), litellm.transpose()) {
        (Ok(openclaw), Ok(litellm)) => (openclaw, litellm),
        (one, other) => {
            let problems = [one.err(), other.err()].into_iter().flatten();
            return Err(Problems(problems.collect()));
        }
    };
    Ok(Migration::of_files(openclaw.as_ref(), litellm.as_ref(), environment))
}

fn openclaw(path: &Path) -> Result<OpenclawConfig, Problem> {
    let document = input::read_document(path)?;
    OpenclawConfig::read(&document.text).map_err(|error| {
        let hint = "name the openclaw.json of the openclaw pod: `openclaw config file` tells where it is";
        Problem::of_file(&document.source.name, error.to_string(), hint)
    })
}

fn litellm(path: &Path) -> Result<GatewayModels, Problem> {
    let document = input::read_document(path)?;
    let models = input::foreign(&document.text).as_ref().and_then(GatewayModels::of_file);
    models.ok_or_else(|| {
        let message = "this is no YAML with a `model_list`";
        Problem::of_file(&document.source.name, message, "name the config.yaml that LiteLLM is started with")
    })
}
