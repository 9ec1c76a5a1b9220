use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{FindError, FindOptions, find, first_version, version};

/// An executable script. Another process writes it: a descriptor open for writing here could be inherited by
/// whatever a test beside this one starts, and would then keep the script from being run.
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

#[test]
fn versions_are_read_from_either_answer() {
    assert_eq!(first_version("\nLiteLLM: Current Version = 1.106.2\n").as_deref(), Some("1.106.2"));
    assert_eq!(first_version("1.82.0rc1\n").as_deref(), Some("1.82.0rc1"));
    assert_eq!(first_version("Python 3.11, no package"), None);
}

#[tokio::test]
async fn the_executable_named_wins_over_the_path() {
    let directory = tempfile::tempdir().expect("directory");
    let named = script(directory.path(), "named", "#!/bin/sh\necho 'Current Version = 1.2.3'\n");
    script(directory.path(), "litellm", "#!/bin/sh\necho 'Current Version = 4.5.6'\n");
    let path = Some(OsString::from(directory.path()));
    let options = FindOptions { bin: Some(named.clone()), path: path.clone(), ..FindOptions::default() };
    let found = find(&options, &mut |_| {}).await.expect("named");
    assert_eq!((found.bin.as_path(), found.version.as_str()), (named.as_path(), "1.2.3"));
    let options = FindOptions { path, ..FindOptions::default() };
    let found = find(&options, &mut |_| {}).await.expect("on the path");
    assert_eq!(found.version, "4.5.6");
    assert!(!found.is_pinned());
}

#[tokio::test]
async fn nothing_to_find_is_said() {
    let directory = tempfile::tempdir().expect("directory");
    let options = FindOptions { path: Some(OsString::from(directory.path())), ..FindOptions::default() };
    assert!(matches!(find(&options, &mut |_| {}).await, Err(FindError::NotFound)));
    let options = FindOptions { bin: Some(directory.path().join("none")), ..FindOptions::default() };
    assert!(matches!(find(&options, &mut |_| {}).await, Err(FindError::NotExecutable(_))));
}

#[tokio::test]
async fn the_interpreter_in_the_first_line_is_asked() {
    let directory = tempfile::tempdir().expect("directory");
    let python = script(directory.path(), "python3", "#!/bin/sh\necho 7.8.9\n");
    let bin = script(directory.path(), "litellm", &format!("#!{}\nraise\n", python.display()));
    assert_eq!(version(&bin).await.expect("version"), "7.8.9");
}

#[tokio::test]
async fn an_executable_without_a_version_is_named() {
    let directory = tempfile::tempdir().expect("directory");
    let bin = script(directory.path(), "litellm", "#!/bin/sh\nexit 3\n");
    let error = version(&bin).await.expect_err("no version").to_string();
    assert!(error.contains("litellm: it ended with exit status: 3"), "{error}");
}
