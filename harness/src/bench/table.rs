//! The table: what was measured, against what it must be.

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `B1`, ...
    pub row: String,
    /// What is measured.
    pub measure: String,
    /// What was found.
    pub value: String,
    /// What it must be.
    pub target: String,
    /// Whether it is so; `None` where there is nothing that it must be.
    pub holds: Option<bool>,
}

impl Row {
    pub(super) fn new(row: &str, measure: &str, value: String, target: &str, holds: Option<bool>) -> Self {
        let (row, measure, target) = (row.to_owned(), measure.to_owned(), target.to_owned());
        Self { row, measure, value, target, holds }
    }
}

/// All of it, with where it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Machine, kernel, cores.
    pub host: String,
    /// Build and size of the bench.
    pub build: String,
    /// Load of the machine before and after.
    pub load: (String, String),
    /// How long it took, in seconds.
    pub took_s: f64,
    /// The lines.
    pub rows: Vec<Row>,
}

impl Table {
    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# Bench\n\n{}; {}; load before {}, after {}; took {:.0} s\n\n",
            self.host, self.build, self.load.0, self.load.1, self.took_s
        );
        text.push_str("| Row | Measured | Found | Must be | Holds |\n|---|---|---|---|---|\n");
        for row in &self.rows {
            let holds = match row.holds {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "-",
            };
            let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
            let cells = [&row.row, &row.measure, &row.value, &row.target].map(|text| cell(text));
            text.push_str(&format!("| {} | {holds} |\n", cells.join(" | ")));
        }
        text
    }
}
