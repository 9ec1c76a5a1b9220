//! Gateways that are not there, and settings that the mock gateway does not imitate.

use std::path::Path;

use serde_json::json;

use crate::place::{Place, fixture};
use crate::result::reasons;

#[test]
fn a_gateway_that_is_not_there_refuses_the_run() {
    let place = Place::new();
    let environment =
        place.environment(&[("components:", "gateway: { url: \"http://127.0.0.1:1\" }\ncomponents:")]);
    let ended = place.run(&[fixture("cloud-down-short.yaml")], &environment, &[]).expect(3);
    let result = place.run_dir().assert_sound();
    assert_eq!((&result["ended"], &result["verdict"]), (&json!("refused"), &json!("inconclusive")));
    assert_eq!(result["restored"], true);
    assert!(reasons(&result).contains("http://127.0.0.1:1"), "{}", reasons(&result));
    assert!(ended.stdout.contains("refused"), "{}", ended.stdout);
    assert!(place.run_dir().events("fault-intended").is_empty());
}

#[test]
fn a_litellm_that_is_none_refuses_the_run() {
    let place = Place::new();
    let more = ["--gateway", "litellm", "--litellm-bin", "/bin/false"];
    place.run(&[fixture("cloud-down-short.yaml")], &fixture("environment.yaml"), &more).expect(3);
    let result = place.run_dir().assert_sound();
    assert_eq!(result["ended"], "refused");
    assert!(reasons(&result).contains("/bin/false"), "{}", reasons(&result));
}

#[test]
fn a_setting_that_the_mock_does_not_imitate_leaves_open_what_depends_on_it() {
    let place = Place::new();
    let tuned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mocks/litellm/tuned.yaml");
    let edits = [
        ("model_info: { id: cloud-qwen3-coder }", "  rpm: 100000\n    model_info: { id: cloud-qwen3-coder }"),
        ("router_settings:\n", "litellm_settings: { json_logs: true }\nrouter_settings:\n"),
    ];
    let config = place.edited("litellm.yaml", &tuned, &edits);
    let config = config.to_str().expect("UTF-8");
    let more = ["--litellm-config", config];
    let ended = place.run(&[fixture("normal.yaml")], &fixture("environment.yaml"), &more).expect(3);
    let result = place.run_dir().assert_sound();
    assert_eq!((&result["ended"], &result["verdict"]), (&json!("completed"), &json!("inconclusive")));
    let reasons = reasons(&result);
    assert!(reasons.contains("coder: the mock gateway does not imitate `model_list[2].litellm_params.rpm`"));
    assert!(!reasons.contains("agent:") && !reasons.contains("json_logs"), "{reasons}");
    for setting in ["model_list[2].litellm_params.rpm", "litellm_settings.json_logs"] {
        assert!(ended.stderr.contains(setting), "named at the start: {}", ended.stderr);
    }
}
