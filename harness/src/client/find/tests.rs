use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{FindError, FindOptions, find};
use crate::client::{NODE_VERSION, OPENCLAW_VERSION};

/// An executable script, written by another process: see the tests of LiteLLM's `find`.
fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("install");
    install.stdin.take().expect("piped").write_all(text.as_bytes()).expect("text");
    assert!(install.wait().expect("wait").success());
    path
}

/// An `npm` that installs into its `--prefix` what answers as openclaw does, and counts what it was asked for.
const NPM: &str = r#"#!/bin/sh
here=$(dirname "$0")
directory=$7
package=$8
echo "$package" >>"$here/count"
mkdir -p "$directory/node_modules/node/bin" "$directory/node_modules/openclaw"
printf '#!/bin/sh\nexec sh "$@"\n' >"$directory/node_modules/node/bin/node"
chmod 755 "$directory/node_modules/node/bin/node"
echo 'echo "OpenClaw VERSION (abc)"' >"$directory/node_modules/openclaw/openclaw.mjs"
"#;

fn with_npm(directory: &Path, npm: &str) -> FindOptions {
    script(directory, "npm", npm);
    let path = std::env::join_paths([directory, Path::new("/usr/bin"), Path::new("/bin")]).expect("path");
    FindOptions { install: true, path: Some(path), cache_dir: Some(directory.join("cache")), bin: None }
}

#[tokio::test]
async fn openclaw_is_installed_once_with_its_node_and_found_again() {
    let directory = tempfile::tempdir().expect("directory");
    let options = with_npm(directory.path(), &NPM.replace("VERSION", OPENCLAW_VERSION));
    let mut lines = Vec::new();
    let found = find(&options, &mut |line| lines.push(line.to_owned())).await.expect("installed");
    assert_eq!(found.version, OPENCLAW_VERSION);
    let folder = directory.path().join(format!("cache/openclaw-{OPENCLAW_VERSION}-node{NODE_VERSION}"));
    assert_eq!(found.command[0], folder.join("node_modules/node/bin/node").into_os_string());
    assert!(lines[0].starts_with("installing node@"), "{lines:?}");
    let again = find(&options, &mut |line| panic!("{line}")).await.expect("found");
    let asked = std::fs::read_to_string(directory.path().join("count")).expect("count");
    assert_eq!(again, found);
    assert_eq!(asked, format!("node@{NODE_VERSION}\nopenclaw@{OPENCLAW_VERSION}\n"));
}

#[tokio::test]
async fn what_is_missing_is_said_with_what_to_do() {
    let directory = tempfile::tempdir().expect("directory");
    let path = Some(OsString::from(directory.path()));
    let options = FindOptions { path: path.clone(), ..FindOptions::default() };
    let error = find(&options, &mut |_| {}).await.expect_err("nothing there").to_string();
    assert!(error.contains("--openclaw-bin") && error.contains("--install-openclaw"), "{error}");
    let cache_dir = Some(directory.path().join("cache"));
    let options = FindOptions { install: true, path: path.clone(), cache_dir, ..FindOptions::default() };
    let error = find(&options, &mut |_| {}).await.expect_err("no npm");
    assert!(matches!(error, FindError::NoNpm), "{error}");
    let bin = Some(directory.path().join("none"));
    let options = FindOptions { bin, path, ..FindOptions::default() };
    assert!(matches!(find(&options, &mut |_| {}).await, Err(FindError::NotExecutable(_))));
}

#[tokio::test]
async fn a_failing_npm_and_a_node_that_is_too_old_are_quoted() {
    let directory = tempfile::tempdir().expect("directory");
    let options = with_npm(directory.path(), "#!/bin/sh\necho 'npm error network' >&2\nexit 7\n");
    let error = find(&options, &mut |_| {}).await.expect_err("npm fails").to_string();
    assert!(error.contains("`npm install node@") && error.contains("npm error network"), "{error}");
    let old = "#!/bin/sh\necho 'openclaw: Node 20.20.2: use 24.16+' >&2\nexit 1\n";
    let bin = Some(script(directory.path(), "openclaw", old));
    let error = find(&FindOptions { bin, ..FindOptions::default() }, &mut |_| {}).await;
    let error = error.expect_err("too old").to_string();
    assert!(error.contains("exit status: 1: openclaw: Node 20.20.2: use 24.16+"), "{error}");
}
