//! Reads scenario and environment files: which are meant, what they say, and everything that is wrong
//! with them. What reads the files of LiteLLM stands on the same ground.

pub(crate) mod at;
pub(crate) mod checker;
pub(crate) mod compose;
mod files;
pub(crate) mod json;
pub(crate) mod problem;
pub(crate) mod read;
mod schema;
pub(crate) mod secret;
pub(crate) mod tree;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use files::Document;
pub use problem::{Problem, Problems, Style};
pub use schema::{FileKind, schema};

use self::checker::Checker;
use self::read::Read;
use crate::environment::written::EnvironmentFile;
use crate::environment::{self, Environment, Names};
use crate::scenario::written::ScenarioFile;
use crate::scenario::{self, Scenario};

/// Nobody reads more at once, whatever the number of files.
const PROBLEMS_MAX: usize = 1000;

const EMPTY: &str = "see docs/scenario-format.md for what belongs here";

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

/// Files as far as they could be read, with everything that is wrong with them.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Where the scenarios run; `None` where something is wrong with its file.
    pub environment: Option<Environment>,
    /// What other files may refer to, as far as it is known.
    pub names: Names,
    /// Those with which nothing is wrong.
    pub scenarios: Vec<Scenario>,
    /// Problems and warnings, in the order of files and lines.
    pub findings: Problems,
}

impl Checked {
    /// The files.
    ///
    /// # Errors
    /// All problems and warnings, if there is a problem.
    pub fn loaded(self) -> Result<Loaded, Problems> {
        match self.environment {
            Some(environment) if self.findings.0.iter().all(Problem::is_warning) => {
                Ok(Loaded { environment, scenarios: self.scenarios, warnings: self.findings.0 })
            }
            _ => Err(self.findings),
        }
    }
}

/// Reads the files that a command line names, relative to the working directory.
///
/// Without paths: the directory `scenarios` (in the environment `openclaw` its folder `openclaw`) if there is one, else the
/// built-in five. A directory means its own `*.yaml` and `*.yml` files. The environment is a file (it has a path separator
/// or ends in `.yaml` or `.yml`) or a name in `scenarios/environments/`; `local`, the default, and `openclaw` are also built
/// in.
///
/// # Errors
/// All problems of all files at once, and the warnings with them.
pub fn load(paths: &[PathBuf], environment: Option<&str>) -> Result<Loaded, Problems> {
    load_from(Path::new(""), paths, environment)
}

/// [`load`], relative to `root`.
///
/// # Errors
/// All problems of all files at once, and the warnings with them.
pub fn load_from(root: &Path, paths: &[PathBuf], environment: Option<&str>) -> Result<Loaded, Problems> {
    check_from(root, paths, environment).loaded()
}

/// [`load`] for whoever has more files to check than these.
#[must_use]
pub fn check(paths: &[PathBuf], environment: Option<&str>) -> Checked {
    check_from(Path::new(""), paths, environment)
}

/// One environment by itself, named as for [`load`].
///
/// # Errors
/// All that is wrong with its file.
pub fn environment(wanted: &str) -> Result<Environment, Problems> {
    let mut findings = Findings::default();
    let read = read_environment(&mut findings, Path::new(""), Some(wanted), &mut Names::default());
    read.ok_or_else(|| findings.all())
}

/// One environment from a text that was read elsewhere, under this name.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn environment_of(name: &str, text: String) -> Result<Environment, Problems> {
    let mut findings = Findings::default();
    let read = environment_in(&mut findings, files::given(name, text), &mut Names::default());
    read.ok_or_else(|| findings.all())
}

/// The values of a YAML text of another program; `None` where it is not YAML, or longer than anybody writes.
pub(crate) fn foreign(text: &str) -> Option<serde_json::Value> {
    if text.len() > files::MAX_BYTES {
        return None;
    }
    let mut check = Checker::new("text", text);
    let root = compose::parse(&mut check, EMPTY)?;
    Some(json::value(&root))
}

fn read_environment(
    findings: &mut Findings,
    root: &Path,
    wanted: Option<&str>,
    names: &mut Names,
) -> Option<Environment> {
    environment_in(findings, files::environment(root, wanted), names)
}

fn environment_in(
    findings: &mut Findings,
    document: Result<Document, Problem>,
    names: &mut Names,
) -> Option<Environment> {
    findings.of(document, |check, document| {
        let file = EnvironmentFile::read(&compose::parse(check, EMPTY)?, check)?;
        *names = Names::of_file(&file);
        environment::check::environment(check, &file, document.source.clone())
    })
}

fn check_from(root: &Path, paths: &[PathBuf], environment: Option<&str>) -> Checked {
    let mut findings = Findings::default();
    let mut names = Names::default();
    let (wanted, problems) = files::scenarios(root, paths, environment);
    let environment = read_environment(&mut findings, root, environment, &mut names);
    findings.add(problems);
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let nothing_known = Names::default();
    for file in wanted {
        // A scenario of ours is right in itself. Whether it fits can wait until the environment is right too:
        // a person repairs that first, and would have to look for its problems among the others.
        let waits = environment.is_none() && matches!(file, files::Wanted::BuiltIn(_));
        let names = if waits { &nothing_known } else { &names };
        scenarios.extend(findings.of(file.read(), |check, document| {
            let file = ScenarioFile::read(&compose::parse(check, EMPTY)?, check)?;
            if let Some(name) = file.scenario.there()
                && let Some(other) = taken.insert(name.value.clone(), document.source.name.clone())
            {
                check.problem(
                    name.place,
                    &format!("scenario `{}` is already in {other}", name.value),
                    "give each scenario a name of its own",
                );
            }
            scenario::check::scenario(check, &file, names, document.source.clone())
        }));
    }
    Checked { environment, names, scenarios, findings: findings.all() }
}

/// What was found in all files so far.
#[derive(Default)]
struct Findings {
    kept: Vec<Problem>,
    /// Found when there were already [`PROBLEMS_MAX`].
    more: usize,
}

impl Findings {
    fn add(&mut self, found: Vec<Problem>) {
        let room = PROBLEMS_MAX.saturating_sub(self.kept.len());
        self.more += found.len().saturating_sub(room);
        self.kept.extend(found.into_iter().take(room));
    }

    /// What `read` makes of a file, with the findings added to these.
    fn of<T>(
        &mut self,
        document: Result<Document, Problem>,
        read: impl FnOnce(&mut Checker<'_>, &Document) -> Option<T>,
    ) -> Option<T> {
        match document {
            Ok(document) => {
                let mut check = Checker::new(&document.source.name, &document.text);
                let value = read(&mut check, &document);
                self.add(check.finish());
                value
            }
            Err(problem) => {
                self.add(vec![problem]);
                None
            }
        }
    }

    fn all(mut self) -> Problems {
        if self.more > 0 {
            let message = format!("{} more problems in these files", self.more);
            self.kept.push(Problem::of_file("all files", message, "repair those above first"));
        }
        Problems(self.kept)
    }
}

/// Reads a file that is not one of ours.
pub(crate) fn read_document(path: &Path) -> Result<Document, Problem> {
    files::read(path)
}

/// Names of the scenarios that are part of the program, in the order in which they are read.
pub fn builtin() -> impl Iterator<Item = &'static str> {
    files::SCENARIOS.iter().map(|file| file.name)
}
