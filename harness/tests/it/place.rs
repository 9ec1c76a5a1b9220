//! A directory of a test's own, and the files in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::child::{Ended, harness, run};
use crate::result::RunDir;

/// A fixture's path.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures").join(name)
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A temporary directory; the working directory of what is run in it.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().expect("temporary directory") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Write a file here.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("write");
        path
    }

    /// A copy of a file with `from` replaced by `to`; both must make a difference.
    pub(crate) fn edited(&self, name: &str, source: &Path, edits: &[(&str, &str)]) -> PathBuf {
        let mut text = read(source);
        for (from, to) in edits {
            assert!(text.contains(from), "{} has no {from:?}", source.display());
            text = text.replace(from, to);
        }
        self.write(name, &text)
    }

    /// The fixtures' environment with edits.
    pub(crate) fn environment(&self, edits: &[(&str, &str)]) -> PathBuf {
        self.edited("environment.yaml", &fixture("environment.yaml"), edits)
    }

    /// `harness run` of scenarios in an environment, with its reports under `out/` here.
    pub(crate) fn run_command(&self, scenarios: &[PathBuf], environment: &Path, more: &[&str]) -> Command {
        let mut arguments: Vec<OsString> = vec!["run".into()];
        arguments.extend(scenarios.iter().map(OsString::from));
        arguments.extend(["--env".into(), environment.into(), "--out".into(), "out".into()]);
        arguments.extend(more.iter().map(OsString::from));
        harness(self.path(), arguments)
    }

    /// The same, to its end.
    pub(crate) fn run(&self, scenarios: &[PathBuf], environment: &Path, more: &[&str]) -> Ended {
        run(self.run_command(scenarios, environment, more))
    }

    /// `harness ...` to its end.
    pub(crate) fn harness(&self, arguments: &[&str]) -> Ended {
        run(harness(self.path(), arguments))
    }

    /// The run directories under `out/`.
    pub(crate) fn run_dirs(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path().join("out")) else { return Vec::new() };
        let paths = entries.map(|entry| entry.expect("entry").path());
        paths.filter(|path| path.is_dir() && !path.is_symlink()).collect()
    }

    /// The only run directory.
    #[track_caller]
    pub(crate) fn run_dir(&self) -> RunDir {
        let dirs = self.run_dirs();
        assert_eq!(dirs.len(), 1, "{dirs:?}");
        RunDir { path: dirs[0].clone() }
    }
}
