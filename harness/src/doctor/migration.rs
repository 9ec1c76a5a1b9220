//! The state that the migration has left, told line by line.

use std::fmt::Write as _;

use crate::environment::Environment;
use crate::migration::{self, Expected, GatewayModels, OpenclawConfig};
use crate::verdict::result::{MigrationLine, Standing};

/// What no file of openclaw or LiteLLM tells.
const NOT_IN_FILES: &str = "not looked at: the Secret, the environment and the age of the containers, the profiles that \
     openclaw has stored. `harness doctor --env` of a cluster looks at them";

/// The lines of one migration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// In the order in which they are told.
    pub lines: Vec<MigrationLine>,
    /// Only files were looked at.
    pub of_files: bool,
}

impl Migration {
    /// The state that files tell, where nothing else is looked at.
    #[must_use]
    pub fn of_files(
        openclaw: Option<&OpenclawConfig>,
        litellm: Option<&GatewayModels>,
        environment: &Environment,
    ) -> Self {
        let expected = Expected::of(environment, None);
        let mut lines = Vec::new();
        if let Some(config) = openclaw {
            lines.extend(migration::config(Ok(config), &expected, None));
        }
        if let Some(models) = litellm {
            lines.extend(migration::gateway_models(Ok(models)));
        }
        Self { lines, of_files: true }
    }

    /// Some line stands so.
    #[must_use]
    pub fn has(&self, standing: Standing) -> bool {
        self.lines.iter().any(|line| line.standing == standing)
    }

    /// The list, and what it comes to.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = "migration state\n".to_owned();
        for line in &self.lines {
            let MigrationLine { requirement, fact, standing, expected, found, mend } = line;
            let found: String = found.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:<9} {requirement} {fact}: {found}", standing.word());
            if *standing != Standing::Holds {
                let _ = writeln!(text, "          expected: {expected}");
            }
            if let Some(mend) = mend {
                let _ = writeln!(text, "          mend: {mend}");
            }
        }
        text.push('\n');
        for requirement in ["FR222", "FR223"] {
            let own: Vec<&MigrationLine> =
                self.lines.iter().filter(|line| line.requirement == requirement).collect();
            if own.is_empty() {
                continue;
            }
            let count = |standing| own.iter().filter(|line| line.standing == standing).count();
            let (fails, open) = (count(Standing::Fails), count(Standing::NotKnown));
            let says = match (fails, open) {
                (0, 0) => "every fact that was looked at holds".to_owned(),
                (0, open) => format!("{open} of {} facts are not known", own.len()),
                (fails, 0) => format!("fails: {fails} of {} facts", own.len()),
                (fails, open) => format!("fails: {fails} of {} facts; {open} are not known", own.len()),
            };
            let _ = writeln!(text, "{requirement}: {says}");
        }
        if self.of_files {
            let _ = writeln!(text, "{NOT_IN_FILES}");
        }
        text
    }
}
