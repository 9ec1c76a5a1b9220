//! `result.json`, for programs, and the schema that describes it.

use crate::verdict::result::RunResult;

/// The whole result as indented JSON with a newline at the end. Figures are written as they are held,
/// not rounded, so that they agree with the verdicts; a figure that is not finite is `null`.
#[must_use]
pub fn json(result: &RunResult) -> String {
    let mut text = serde_json::to_string_pretty(result).expect("a result holds only string keys");
    text.push('\n');
    text
}

/// The JSON Schema of `result.json`.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(RunResult).to_value()
}
