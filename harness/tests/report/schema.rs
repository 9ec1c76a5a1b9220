//! The committed schema is the one of the types, and real results fit it.

use harness::report;

use crate::fixture;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/result.schema.json");

fn rendered() -> String {
    let mut text = serde_json::to_string_pretty(&report::schema()).expect("a schema holds only string keys");
    text.push('\n');
    text
}

#[test]
fn the_committed_schema_is_fresh() {
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(COMMITTED, rendered()).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == rendered(),
        "schemas/result.schema.json is stale: run this test with UPDATE_SCHEMAS=1 and commit the change"
    );
}

#[test]
fn results_fit_the_schema_and_a_broken_one_does_not() {
    let validator = jsonschema::validator_for(&report::schema()).unwrap();
    for (name, run) in fixture::all() {
        let value: serde_json::Value = serde_json::from_str(&report::json(&run)).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    let mut broken = serde_json::to_value(fixture::all_pass()).unwrap();
    broken["verdict"] = "perhaps".into();
    assert!(!validator.is_valid(&broken));
}
