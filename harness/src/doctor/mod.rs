//! Whether an environment is fit for a run, found without changing anything.
//!
//! Every check says what was found and, where that is not well, what to do. Nothing here decides about a stack's
//! failover: that takes a run.

mod cluster;
mod local;
mod migration;

use std::fmt::Write as _;

pub use self::migration::Migration;
use crate::environment::{Environment, Reach};

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As it must be.
    Ok,
    /// Worth knowing; a run goes on with it.
    Note,
    /// A run would be refused, or could not pass.
    Problem,
    /// It cannot be told, so a run may be refused.
    Unknown,
}

impl Standing {
    /// The word in the list.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub subject: String,
    /// How it stands.
    pub standing: Standing,
    /// What was found.
    pub found: String,
    /// What to do about it; may have several lines.
    pub hint: Option<String>,
}

/// All checks of one environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examination {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
    /// The state of the migration; without lines where the environment has no openclaw.
    pub migration: Migration,
}

impl Examination {
    fn add(&mut self, subject: &str, standing: Standing, found: impl Into<String>, hint: Option<String>) {
        self.checks.push(Check { subject: subject.to_owned(), standing, found: found.into(), hint });
    }

    fn ok(&mut self, subject: &str, found: impl Into<String>) {
        self.add(subject, Standing::Ok, found, None);
    }

    fn note(&mut self, subject: &str, found: impl Into<String>) {
        self.add(subject, Standing::Note, found, None);
    }

    fn problem(&mut self, subject: &str, found: impl Into<String>, hint: impl Into<String>) {
        self.add(subject, Standing::Problem, found, Some(hint.into()));
    }

    fn unknown(&mut self, subject: &str, found: impl Into<String>, hint: impl Into<String>) {
        self.add(subject, Standing::Unknown, found, Some(hint.into()));
    }

    /// Nothing keeps a run from being made, and everything that it needs is known.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        self.checks.iter().all(|check| matches!(check.standing, Standing::Ok | Standing::Note))
    }

    /// The list, and what it comes to.
    #[must_use]
    pub fn describe(&self, environment: &str) -> String {
        let mut text = String::new();
        for Check { subject, standing, found, hint } in &self.checks {
            // What pods and servers say is in some of this: one line, and nothing that drives a terminal.
            let found: String = found.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:<8} {subject}: {found}", standing.word());
            for line in hint.iter().flat_map(|hint| hint.lines()) {
                let _ = writeln!(text, "         {line}");
            }
        }
        let count = |standing| self.checks.iter().filter(|check| check.standing == standing).count();
        let end = if self.is_fit() {
            "is fit for a run".to_owned()
        } else {
            let (problems, unknown) = (count(Standing::Problem), count(Standing::Unknown));
            format!(
                "is not known to be fit for a run: {problems} of its checks show a problem, {unknown} cannot be told"
            )
        };
        if !self.migration.lines.is_empty() {
            let _ = write!(text, "\n{}", self.migration.describe());
        }
        let _ = writeln!(text, "\nthe environment {environment} {end}");
        text
    }
}

/// Looks at everything that a run in this environment depends on.
pub async fn examine(environment: &Environment) -> Examination {
    let mut examination = Examination::default();
    match environment.cluster() {
        None => local::examine(&mut examination, environment).await,
        Some(cluster) if matches!(cluster.reach, Reach::Embedded { .. }) => examination.ok(
            "cluster",
            "a mock cluster that a run makes in its own process; there is nothing yet to look at",
        ),
        Some(cluster) => cluster::examine(&mut examination, environment, cluster).await,
    }
    examination
}

#[cfg(test)]
mod tests {
    use super::Examination;

    #[test]
    fn what_is_worth_knowing_leaves_it_fit_and_what_is_unknown_does_not() {
        let mut examination = Examination::default();
        examination.ok("API", "it answers");
        examination.note("users", "not\nknown");
        assert!(examination.is_fit());
        assert_eq!(
            examination.describe("home"),
            "ok       API: it answers\nnote     users: not known\n\nthe environment home is fit for a run\n"
        );
        examination.unknown("gateway", "no answer", "start it\nor wait");
        assert!(!examination.is_fit());
        assert!(
            examination
                .describe("home")
                .contains("unknown  gateway: no answer\n         start it\n         or wait\n")
        );
        let mut examination = Examination::default();
        examination.problem("key", "refused", "correct it");
        assert!(!examination.is_fit());
        assert!(examination.describe("home").ends_with(
            "the environment home is not known to be fit for a run: 1 of its checks show a problem, 0 cannot be told\n"
        ));
    }
}
