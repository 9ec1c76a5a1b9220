use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::super::LITELLM_VERSION;
use super::{InstallError, install};

/// A `python3` that makes environments whose pip runs `pip` (shell text), and counts what it does in `count`.
const PYTHON: &str = r#"#!/bin/sh
here=$(dirname "$0")
case "$1 $2" in
"-c "*) echo 3.99 ;;
"-m venv")
    echo venv >>"$here/count"
    mkdir -p "$3/bin"
    printf '#!/bin/sh\n%s\n' 'exec sh '"$here"'/pip "$0" "$@"' >"$3/bin/python"
    chmod 755 "$3/bin/python"
    ;;
esac
"#;

/// A pip that installs: a `litellm` which tells the pinned version.
const GOOD_PIP: &str = r#"
bin=$(dirname "$1")
echo pip >>"$here/count"
echo "Collecting $7 $8 $9"
printf '#!/bin/sh\necho VERSION\n' >"$bin/litellm"
chmod 755 "$bin/litellm"
"#;

struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new(pip: &str) -> Self {
        let fixture = Self { directory: tempfile::tempdir().expect("directory") };
        // Another process writes it, see the tests of `find`.
        let mut written = Command::new("install")
            .args(["-m", "755", "/dev/stdin"])
            .arg(fixture.path().join("python3"))
            .stdin(Stdio::piped())
            .spawn()
            .expect("install");
        written.stdin.take().expect("piped").write_all(PYTHON.as_bytes()).expect("text");
        assert!(written.wait().expect("wait").success());
        fixture.set_pip(pip);
        fixture
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn set_pip(&self, pip: &str) {
        let here = format!("here='{}'\n", self.path().display());
        fs::write(self.path().join("pip"), here + &pip.replace("VERSION", LITELLM_VERSION)).expect("pip");
    }

    /// The scripts' directory in front of the usual one, where `sh` and the like are.
    fn search_path(&self) -> OsString {
        std::env::join_paths([self.path(), Path::new("/nonexistent")]).expect("path")
    }

    fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    async fn install(&self, progress: &mut (dyn FnMut(&str) + Send)) -> Result<PathBuf, InstallError> {
        install(&self.search_path(), Some(&self.cache()), LITELLM_VERSION, progress).await
    }

    /// What was done, one word a step.
    fn steps(&self) -> String {
        fs::read_to_string(self.path().join("count")).unwrap_or_default().replace('\n', " ")
    }
}

#[tokio::test]
async fn an_installation_is_made_once_and_found_again() {
    let fixture = Fixture::new(GOOD_PIP);
    let mut lines = Vec::new();
    let bin = fixture.install(&mut |line| lines.push(line.to_owned())).await.expect("installed");
    assert_eq!(bin, fixture.cache().join(format!("litellm-{LITELLM_VERSION}-py3.99/bin/litellm")));
    assert!(
        lines.iter().any(|line| line.contains(&format!("litellm[proxy]=={LITELLM_VERSION}"))),
        "{lines:?}"
    );
    assert!(lines[0].starts_with("installing LiteLLM"), "{lines:?}");
    let again = fixture.install(&mut |line| panic!("{line}")).await.expect("found");
    assert_eq!((again, fixture.steps().as_str()), (bin, "venv pip "));
}

#[tokio::test]
async fn a_failing_pip_is_quoted_and_the_next_installation_repairs() {
    let fixture = Fixture::new("echo one; echo 'ERROR: no network' >&2; exit 3");
    let error = fixture.install(&mut |_| {}).await.expect_err("pip fails").to_string();
    assert!(
        error.starts_with("`pip install litellm[proxy]==") && error.contains("exit status: 3"),
        "{error}"
    );
    assert!(error.contains("ERROR: no network"), "{error}");
    fixture.set_pip(GOOD_PIP);
    let mut lines = Vec::new();
    fixture.install(&mut |line| lines.push(line.to_owned())).await.expect("repaired");
    assert_eq!(lines[0], "removing an unfinished installation");
}

#[tokio::test]
async fn an_installation_whose_program_has_gone_is_repaired() {
    let fixture = Fixture::new(GOOD_PIP);
    let bin = fixture.install(&mut |_| {}).await.expect("installed");
    fs::remove_file(&bin).expect("remove");
    assert_eq!(fixture.install(&mut |_| {}).await.expect("repaired"), bin);
    assert_eq!(fixture.steps(), "venv pip venv pip ");
}

#[tokio::test]
async fn an_abandoned_installation_is_repaired() {
    let fixture = Fixture::new("echo waiting; exec tail -f /dev/null");
    let reached = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&reached);
    let mut progress = move |line: &str| {
        if line == "waiting" {
            told.notify_one();
        }
    };
    tokio::select! {
        result = fixture.install(&mut progress) => panic!("{result:?}"),
        () = reached.notified() => {}
    }
    fixture.set_pip(GOOD_PIP);
    let repaired = async { fixture.install(&mut |_| {}).await };
    tokio::time::timeout(Duration::from_secs(20), repaired)
        .await
        .expect("the lock is free again")
        .expect("repaired");
}

#[tokio::test]
async fn of_two_at_once_one_installs_and_the_other_waits() {
    // The first pip goes on only once somebody waits for its lock.
    let fixture = Fixture::new(&format!("while ! test -e \"$here/waits\"; do sleep 0.02; done{GOOD_PIP}"));
    let waits = fixture.path().join("waits");
    let waiting = Mutex::new(0);
    let note = |line: &str| {
        if line.starts_with("waiting for another") {
            *waiting.lock().expect("lock") += 1;
            fs::write(&waits, "").expect("write");
        }
    };
    let (mut first, mut second) = (note, note);
    let both = async { tokio::join!(fixture.install(&mut first), fixture.install(&mut second)) };
    let (one, other) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("both end");
    assert_eq!(one.expect("one"), other.expect("other"));
    assert_eq!((fixture.steps().as_str(), *waiting.lock().expect("lock")), ("venv pip ", 1));
}

#[tokio::test]
async fn a_missing_python_is_said() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().as_os_str();
    let error =
        install(path, Some(directory.path()), LITELLM_VERSION, &mut |_| {}).await.expect_err("no python");
    assert_eq!(error.to_string(), "no `python3` on PATH, which LiteLLM needs");
}

#[tokio::test]
async fn another_version_is_installed_beside_and_what_is_none_is_refused() {
    let pip = GOOD_PIP.replace("VERSION", "1.2.3rc1");
    let fixture = Fixture::new(&pip);
    let install = async |wanted: &str| {
        install(&fixture.search_path(), Some(&fixture.cache()), wanted, &mut |_| {}).await
    };
    let bin = install("1.2.3rc1").await.expect("installed");
    assert!(bin.starts_with(fixture.cache().join("litellm-1.2.3rc1-py3.99")), "{}", bin.display());
    for wanted in ["", "latest", "../1.2", "1 2", "--index-url=x", "1.2;x"] {
        let error = install(wanted).await.expect_err(wanted);
        assert!(matches!(error, InstallError::NoVersion { .. }), "{wanted}: {error}");
    }
}
