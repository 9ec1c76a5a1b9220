//! What the tests share: an openclaw, its options, and conditions to wait for.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::client::find::{FindOptions, Found, find};
use harness::client::process::StartOptions;
use harness::client::{Agents, OPENCLAW_VERSION, Retries};
use harness::environment::Environment;
use harness::gateway::secret::Secret;
use tokio::sync::OnceCell;

/// openclaw starts in 8 to 25 s on a machine of its own.
pub(crate) const START_WITHIN: Duration = Duration::from_secs(180);

/// The openclaw under test.
pub(crate) async fn openclaw() -> Found {
    static FOUND: OnceCell<Found> = OnceCell::const_new();
    let find_it = || async {
        let bin = std::env::var_os("HARNESS_TEST_OPENCLAW").map(PathBuf::from);
        let options = FindOptions { install: bin.is_none(), bin, ..FindOptions::default() };
        let found = find(&options, &mut |_| {}).await.expect("an openclaw to test with");
        assert_eq!(found.version, OPENCLAW_VERSION);
        found
    };
    FOUND.get_or_init(find_it).await.clone()
}

/// What makes a program that was found the one that a run uses: nothing where it is the one in the cache.
pub(crate) fn arguments() -> Vec<OsString> {
    match std::env::var_os("HARNESS_TEST_OPENCLAW") {
        Some(bin) => vec!["--openclaw-bin".into(), bin],
        None => vec!["--install-openclaw".into()],
    }
}

/// The shipped environment.
pub(crate) fn environment() -> Environment {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (environment, scenario) =
        (root.join("scenarios/environments/openclaw.yaml"), root.join("scenarios/openclaw"));
    let loaded = harness::input::load(&[scenario], environment.to_str()).expect("what is shipped is right");
    loaded.environment
}

pub(crate) fn options<'a>(
    found: &'a Found,
    agents: &'a Agents,
    gateway: &'a str,
    key: &'a Secret,
    run_dir: &'a Path,
) -> StartOptions<'a> {
    StartOptions {
        found,
        agents,
        retries: Retries::Bounded,
        gateway_url: gateway,
        gateway_key: key,
        telegram: None,
        run_dir,
        guard: [env!("CARGO_BIN_EXE_harness"), "supervise", "--"].map(OsString::from).to_vec(),
        ready_within: START_WITHIN,
    }
}

/// Waits until `condition` gives a value; fails after `within`.
pub(crate) async fn wait_for<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let poll = async {
        loop {
            ticks.tick().await;
            if let Some(value) = condition() {
                return value;
            }
        }
    };
    match tokio::time::timeout(within, poll).await {
        Ok(value) => value,
        Err(_) => panic!("not within {within:?}: {what}"),
    }
}

/// Processes that live in this folder, by a variable of their environment that names it: also those that have left their
/// process group.
pub(crate) fn living_in(folder: &Path) -> Vec<u32> {
    let needle = folder.to_str().expect("a path");
    let of = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        String::from_utf8_lossy(&environment)
            .split('\0')
            .any(|variable| variable.starts_with("OPENCLAW_STATE_DIR=") && variable.contains(needle))
            .then_some(pid)
    };
    fs::read_dir("/proc").expect("processes").filter_map(Result::ok).filter_map(of).collect()
}

/// All files under a folder, as text.
pub(crate) fn files_of(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("folder").filter_map(Result::ok) {
        let path = entry.path();
        let kind = entry.file_type().expect("type");
        if kind.is_dir() {
            found.extend(files_of(&path));
        } else if kind.is_file() {
            let text = String::from_utf8_lossy(&fs::read(&path).expect("read")).into_owned();
            found.push((path, text));
        }
    }
    found
}
