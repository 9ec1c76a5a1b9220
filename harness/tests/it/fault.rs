//! Faults that are none, and wrong keys that look like one: never a pass.

use serde_json::json;

use crate::place::{Place, fixture};
use crate::result::reasons;

#[test]
fn a_fault_that_does_nothing_is_inconclusive() {
    let place = Place::new();
    let environment = place.environment(&[("down: blackhole", "down: nothing")]);
    let ended = place.run(&[fixture("cloud-down-short.yaml")], &environment, &[]).expect(3);
    let result = place.run_dir().assert_sound();
    assert_eq!((&result["verdict"], &result["restored"]), (&json!("inconclusive"), &json!(true)));
    assert!(reasons(&result).contains("never seen in effect"), "{}", reasons(&result));
    assert!(ended.stdout.contains("never seen in effect"), "{}", ended.stdout);
}

/// The requests that a stall holds are answered by its heal; that is no sign that it did not hold.
#[test]
fn a_stall_can_be_proven_and_healed() {
    let place = Place::new();
    let environment = place.environment(&[("down: blackhole", "down: stall")]);
    let ended = place.run(&[fixture("cloud-stalled.yaml")], &environment, &[]).expect(0);
    let result = place.run_dir().assert_sound();
    assert_eq!(result["verdict"], "pass", "{ended:#?}");
    let fault = &result["scenarios"][0]["faults"][0];
    assert_eq!((&fault["kind"], &fault["held"]), (&json!("stall"), &json!(true)));
    assert_eq!(fault["evidence"][0]["source"], "http-witness");
}

#[test]
fn a_wrong_key_is_no_full_outage() {
    const KEY: &str = "sk-wrong-0123456789-canary";
    let place = Place::new();
    let environment =
        place.environment(&[("components:", "gateway: { key: { env: WRONG_KEY } }\ncomponents:")]);
    let mut command = place.run_command(&[fixture("full-outage.yaml")], &environment, &["-vv"]);
    command.env("WRONG_KEY", KEY);
    let ended = crate::child::run(command).expect(3);
    let result = place.run_dir().assert_sound();
    assert_eq!(result["verdict"], "inconclusive");
    assert_eq!(result["restored"], true);
    assert!(reasons(&result).contains("no steady state"), "{}", reasons(&result));
    assert!(!ended.said().contains(KEY), "the key is in the output");
    for (path, bytes) in place.run_dir().files() {
        let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
        assert!(!found, "the key is in {}", path.display());
    }
}

#[test]
fn a_key_variable_that_is_not_set_is_bad_usage() {
    let place = Place::new();
    let environment =
        place.environment(&[("components:", "gateway: { key: { env: NO_SUCH_KEY } }\ncomponents:")]);
    let ended = place.run(&[fixture("full-outage.yaml")], &environment, &[]).expect(2);
    assert!(ended.stderr.contains("$NO_SUCH_KEY"), "{}", ended.stderr);
    assert!(ended.stdout.is_empty() && place.run_dirs().is_empty());
}
