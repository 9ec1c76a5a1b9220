//! Every file in `fail/` is refused with exactly the words of its snapshot.

use std::path::Path;

use harness::gateway::config::LoadedBy;
use harness::gateway::local::ConfigSource;
use harness::input::{self, Style};

/// Problems of a file as shown without a terminal; `env-*.yaml` are environments, `litellm-*.yaml` are configurations
/// of LiteLLM that the mock gateway is to load in the local environment.
fn rendered(path: &Path, name: &str) -> String {
    if name.starts_with("litellm-") {
        let config = ConfigSource::check(Some(path), Some(&input::check(&[], None).names), LoadedBy::Mock);
        assert!(config.source.is_none(), "{name}: {}", config.findings);
        return config.findings.render(Style::Plain);
    }
    let result = if name.starts_with("env-") {
        input::load(&[], Some(path.to_str().unwrap()))
    } else {
        input::load(&[path.to_owned()], None)
    };
    result.expect_err(name).render(Style::Plain)
}

#[test]
fn every_file_is_refused_in_these_words() {
    let mut count = 0;
    for entry in std::fs::read_dir(super::fail_file("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let shown = rendered(&path, name);
        let settings = {
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path("fail");
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings
        };
        settings.bind(|| insta::assert_snapshot!(name, shown));
        assert!(shown.contains("help:"), "{name} says what to do:\n{shown}");
        assert!(!shown.contains('\u{1b}'), "{name} cannot drive a terminal:\n{shown}");
        count += 1;
    }
    assert!(count >= 20, "only {count} files that must fail");
}

#[test]
fn a_problem_names_file_line_and_column_in_one_line() {
    let problems = input::load(&[super::fail_file("served-by-down.yaml")], None).unwrap_err();
    let [problem] = problems.0.as_slice() else { panic!("one problem, got {problems}") };
    assert_eq!((problem.line, problem.column), (Some(7), Some(23)));
    assert_eq!(problem.source_line.as_deref(), Some("  agent: { served_by: cloud-minimax, within: 5s }"));
    assert!(problem.to_string().starts_with("tests/input/fail/served-by-down.yaml:7:23: "), "{problem}");
}

#[test]
fn secrets_are_never_shown() {
    for (file, secret) in [
        ("env-key-in-file.yaml", "sk-this"),
        ("env-password-in-url.yaml", "hunter2"),
        ("env-secret-as-name.yaml", "hunter2"),
        ("env-key-elsewhere.yaml", "hunter2"),
        ("env-key-lower-case.yaml", "hunter2"),
        ("env-key-twice.yaml", "hunter2"),
        ("env-key-as-tag.yaml", "hunter2"),
        ("env-cluster-key-in-file.yaml", "hunter2"),
        ("env-cluster-key-as-field.yaml", "hunter2"),
        ("env-cluster-password-in-endpoint.yaml", "hunter2"),
    ] {
        let path = super::fail_file(file);
        let problems = input::load(&[], path.to_str()).unwrap_err();
        assert!(!problems.render(Style::Plain).contains(secret), "{file}");
        assert!(!problems.to_string().contains(secret), "{file}");
        assert!(!format!("{problems:?}").contains(secret), "{file}");
    }
}

/// A file that is no YAML is shown as text, where nothing knows its keys by their places.
#[test]
fn secrets_are_not_shown_in_a_file_that_is_no_yaml_either() {
    for line in [
        "gateway: { key: { env: %CANARY } }",
        "gateway: { key: { env: CANARY-lower } } ]",
        "api_key: [CANARY",
        "api_key: {CANARY ]",
        "FOO_PASS: CANARY ]: }",
        "extra_headers: { X-Auth: CANARY ] }",
        "SMTP_PASSWORD: 'CANARY' ]",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env.yaml");
        std::fs::write(&path, format!("environment: x\n{line}\n")).unwrap();
        let problems = input::load(&[], path.to_str()).unwrap_err();
        assert!(
            !problems.render(Style::Plain).contains("CANARY"),
            "{line}: {}",
            problems.render(Style::Plain)
        );
        assert!(!format!("{problems:?}").contains("CANARY"), "{line}");
    }
}

#[test]
fn problems_of_all_files_are_told_at_once() {
    let scenarios =
        [super::fail_file("unknown-key.yaml"), super::fail_file("rates.yaml"), "no/such.yaml".into()];
    let problems = input::load(&scenarios, super::fail_file("env-many.yaml").to_str()).unwrap_err();
    for file in ["unknown-key.yaml", "rates.yaml", "no/such.yaml", "env-many.yaml"] {
        assert!(problems.0.iter().any(|problem| problem.file.ends_with(file)), "{file} in {problems}");
    }
}

#[test]
fn a_terminal_is_shown_the_same() {
    let problems = input::load(&[super::fail_file("served-by-down.yaml")], None).unwrap_err();
    let shown = problems.render(Style::Terminal);
    for part in [
        "served-by-down.yaml:7:23",
        "cannot answer: its component",
        "agent: { served_by: cloud-minimax",
        "help",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}
