//! The committed JSON Schemas are those of the types, and say the same about files as the program.

use std::fs;
use std::path::{Path, PathBuf};

use harness::input::{self, FileKind};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn committed_schemas_are_fresh() {
    for (kind, file) in [(FileKind::Scenario, "scenario"), (FileKind::Environment, "environment")] {
        let path = root().join(format!("schemas/{file}.schema.json"));
        let fresh = format!("{}\n", serde_json::to_string_pretty(&input::schema(kind)).unwrap());
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::write(&path, &fresh).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == fresh,
            "schemas/{file}.schema.json is stale: run this test with UPDATE_SCHEMAS=1"
        );
    }
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// The file as JSON, read as a section that means nothing to LiteLLM.
fn value_of(path: &Path) -> Value {
    let lines = fs::read_to_string(path).unwrap().replace('\n', "\n  ");
    super::litellm::value_of_section(&lines)
}

#[test]
fn shipped_files_fit_the_schemas_and_name_them() {
    for (folder, kind, schema) in [
        ("scenarios", FileKind::Scenario, "../schemas/scenario.schema.json"),
        ("scenarios/extra", FileKind::Scenario, "../../schemas/scenario.schema.json"),
        ("scenarios/environments", FileKind::Environment, "../../schemas/environment.schema.json"),
    ] {
        let validator = jsonschema::validator_for(&input::schema(kind)).unwrap();
        let files = yaml_files(folder);
        assert!(!files.is_empty());
        for path in files {
            let errors: Vec<String> = validator
                .iter_errors(&value_of(&path))
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert_eq!(errors, [""; 0], "{}", path.display());
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                text.starts_with(&format!("# yaml-language-server: $schema={schema}\n")),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn schemas_refuse_what_has_the_wrong_shape() {
    let scenario = jsonschema::validator_for(&input::schema(FileKind::Scenario)).unwrap();
    let environment = jsonschema::validator_for(&input::schema(FileKind::Environment)).unwrap();
    for name in [
        "unknown-key",
        "unknown-key-inside",
        "missing-key",
        "wrong-shape",
        "unknown-state",
        "state-with-value",
        "bad-values",
        "no-traffic",
        "answer-both-and-none",
        "error-false",
        "null-value",
        "all-at-once",
        "empty-values",
        "misspelt-keys",
        "missing-keys",
        "numbers-as-text",
        "yaml-surprises",
        "expected-from-broken-components",
        "list-only",
        "injections",
    ] {
        let path = super::fail_file(&format!("{name}.yaml"));
        assert!(!scenario.is_valid(&value_of(&path)), "{name}");
    }
    for name in [
        "env-kubernetes",
        "env-missing-embedded",
        "env-cluster-faults",
        "env-cluster-key-in-file",
        "env-cluster-key-half",
        "env-cluster-key-both",
        "env-cluster-gateway-url",
        "env-cluster-names",
        "env-cluster-no-namespaces",
        "env-unknown-fault",
        "env-many",
        "env-empty-parts",
        "env-key-in-file",
        "env-key-elsewhere",
        "env-key-lower-case",
        "env-all-at-once",
    ] {
        let path = super::fail_file(&format!("{name}.yaml"));
        assert!(!environment.is_valid(&value_of(&path)), "{name}");
    }
}
