//! Reads scenario and environment files: which are meant, what they say, and everything that is wrong
//! with them.

pub(crate) mod at;
pub(crate) mod checker;
mod files;
pub(crate) mod problem;
mod schema;
pub(crate) mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use problem::{Problem, Problems, Style};
pub use schema::{FileKind, schema};

use self::checker::Checker;
use crate::environment::written::EnvironmentFile;
use crate::environment::{self, Environment};
use crate::scenario::written::ScenarioFile;
use crate::scenario::{self, Scenario};

/// Files without problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Where the scenarios run.
    pub environment: Environment,
    /// In the order of the files.
    pub scenarios: Vec<Scenario>,
    /// What a person should know and may ignore.
    pub warnings: Vec<Problem>,
}

/// Reads the files that a command line names, relative to the working directory.
///
/// Without paths: the directory `scenarios` if there is one, else the built-in five. A directory means
/// its own `*.yaml` and `*.yml` files. The environment is a file (it has a path separator or ends in
/// `.yaml` or `.yml`) or a name in `scenarios/environments/`; `local`, the default, is also built in.
///
/// # Errors
/// All problems of all files at once.
pub fn load(paths: &[PathBuf], environment: Option<&str>) -> Result<Loaded, Problems> {
    load_from(Path::new(""), paths, environment)
}

/// [`load`], relative to `root`.
///
/// # Errors
/// All problems of all files at once.
pub fn load_from(root: &Path, paths: &[PathBuf], environment: Option<&str>) -> Result<Loaded, Problems> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let environment =
        match files::environment(root, environment).map_err(Problems::from).and_then(read_environment) {
            Ok(environment) => Some(environment),
            Err(found) => {
                problems.extend(found.0);
                None
            }
        };
    let (documents, unreadable) = files::scenarios(root, paths);
    problems.extend(unreadable);
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for document in documents {
        let file = &document.source.name;
        let written: ScenarioFile = match yaml::parse(file, &document.text) {
            Ok(written) => written,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let mut check = Checker::new(file, &document.text);
        let scenario =
            scenario::check::scenario(&mut check, &written, environment.as_ref(), document.source.clone());
        if let Some(other) = names.insert(scenario.name.clone(), file.clone()) {
            check.problem(
                written.scenario.place,
                &format!("scenario `{}` is already in {other}", scenario.name),
                "give each scenario a name of its own",
            );
        }
        scenarios.push(scenario);
        let (found, doubts) = check.finish();
        problems.extend(found);
        warnings.extend(doubts);
    }
    match environment {
        Some(environment) if problems.is_empty() => Ok(Loaded { environment, scenarios, warnings }),
        _ => Err(Problems(problems)),
    }
}

fn read_environment(document: files::Document) -> Result<Environment, Problems> {
    let written: EnvironmentFile = yaml::parse(&document.source.name, &document.text)?;
    let mut check = Checker::new(&document.source.name, &document.text);
    let environment = environment::check::environment(&mut check, &written, document.source.clone());
    let (problems, _) = check.finish();
    if problems.is_empty() { Ok(environment) } else { Err(Problems(problems)) }
}

/// Names of the scenarios that are part of the program, in the order in which they are read.
pub fn builtin() -> impl Iterator<Item = &'static str> {
    files::SCENARIOS.iter().map(|file| file.name)
}

/// Reads a YAML file of another program (a LiteLLM configuration) as JSON, with the limits and
/// diagnostics of our own files; also gives its text.
///
/// # Errors
/// What keeps it from being read.
pub fn read_yaml_value(path: &Path) -> Result<(serde_json::Value, String), Problem> {
    let document = files::read(path)?;
    let value = yaml::parse(&document.source.name, &document.text)?;
    Ok((value, document.text))
}

/// Reads YAML text of another program as JSON, with the limits and diagnostics of our own files.
///
/// # Errors
/// What is wrong with it, with its position.
pub fn parse_yaml_value(name: &str, text: &str) -> Result<serde_json::Value, Problem> {
    yaml::parse(name, text)
}
