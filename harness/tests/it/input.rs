//! Files that must fail, given to the program itself.

use std::path::PathBuf;

use crate::place::{Place, fixture};

/// Every file of the folder, with the arguments that name it.
fn must_fail() -> Vec<(PathBuf, Vec<String>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/input/fail");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let with_arguments = files.into_iter().map(|path| {
        let name = path.file_name().expect("name").to_str().expect("UTF-8").to_owned();
        let shown = path.to_str().expect("UTF-8").to_owned();
        let arguments = match name.split('-').next() {
            Some("env") => vec!["--env".to_owned(), shown],
            Some("litellm") => vec!["--litellm-config".to_owned(), shown],
            _ => vec![shown],
        };
        (path, arguments)
    });
    with_arguments.collect()
}

#[test]
fn what_must_fail_ends_with_exit_2_before_anything_is_made() {
    let place = Place::new();
    let files = must_fail();
    assert!(files.len() >= 45, "{} files", files.len());
    for (path, arguments) in &files {
        let shown = path.to_str().expect("UTF-8");
        for command in ["check", "run"] {
            let arguments: Vec<&str> =
                std::iter::once(command).chain(arguments.iter().map(String::as_str)).collect();
            let ended = place.harness(&arguments).expect(2);
            assert!(ended.stderr.contains(shown), "{arguments:?}: {}", ended.stderr);
            assert!(ended.stderr.contains("help: "), "{arguments:?}: {}", ended.stderr);
            assert_eq!(ended.stdout, "", "{arguments:?}");
        }
    }
    assert_eq!(std::fs::read_dir(place.path()).expect("directory").count(), 0, "nothing is made");
}

#[test]
fn problems_of_all_files_of_a_run_are_shown_at_once() {
    let place = Place::new();
    let broken = fixture("broken.yaml");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/input/fail");
    let environment = folder.join("env-fallbacks.yaml");
    let config = folder.join("litellm-numbers.yaml");
    let [broken, environment, config] =
        [&broken, &environment, &config].map(|path| path.to_str().expect("UTF-8"));
    for command in ["run", "check", "plan"] {
        let ended =
            place.harness(&[command, broken, "--env", environment, "--litellm-config", config]).expect(2);
        for part in ["env-fallbacks.yaml:6:43", "broken.yaml:3:1", "litellm-numbers.yaml:2:88", "! `timeout`"]
        {
            assert!(ended.stderr.contains(part), "{command} does not show {part}: {}", ended.stderr);
        }
    }
}

#[test]
fn a_litellm_config_is_checked_without_a_run() {
    let place = Place::new();
    let tuned = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../mocks/litellm/tuned.yaml");
    let tuned = tuned.to_str().expect("UTF-8");
    let ended = place.harness(&["check", "--litellm-config", tuned]).expect(0);
    assert!(ended.stdout.starts_with("5 scenarios fit"), "{}", ended.stdout);
    assert_eq!(ended.stderr, "");
}
