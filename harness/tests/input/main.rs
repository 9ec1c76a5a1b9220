//! Scenario and environment files: what is shipped loads, what is wrong is explained, nothing hostile hurts.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod bounded;
mod cluster;
mod draft;
mod fail;
mod hostile;
mod laws;
mod litellm;
mod load;
mod schemas;
mod shape;
mod units;

use std::path::{Path, PathBuf};

/// Files of these tests, relative to the package.
fn fail_file(name: &str) -> PathBuf {
    Path::new("tests/input/fail").join(name)
}

/// A scenario that is right, with other lines behind its traffic.
fn scenario(name: &str, rest: &str) -> String {
    format!("scenario: {name}\ntitle: A title\ntraffic:\n  - {{ route: agent, rate: 8/s, for: 12s }}\n{rest}")
}
