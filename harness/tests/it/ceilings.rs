//! Ceilings: rates are lowered before the run, and traffic stops when one is reached.

use serde_json::json;

use crate::place::{Place, fixture};
use crate::result::{list, reasons};

#[test]
fn a_ceiling_lowers_the_rate_and_the_plan_says_so() {
    let place = Place::new();
    let environment = place.environment(&[("requests: 1000, rate: 8/s", "requests: 1000, rate: 2/s")]);
    let environment = environment.to_str().expect("UTF-8");
    let scenario = place.edited(
        "cloud-gpu-down.yaml",
        &fixture("cloud-down-short.yaml"),
        &[("{ cloud: down }", "{ cloud: down, vllm: down }"), ("vllm-qwen", "ollama-qwen")],
    );
    let ended = place.harness(&["plan", scenario.to_str().expect("UTF-8"), "--env", environment]).expect(0);
    assert!(
        ended.stdout.contains("agent is sent at 2/s instead of 8/s, by the ceilings of ollama"),
        "{ended:#?}"
    );
    assert!(ended.stdout.contains("probe   agent at 2/s"), "{ended:#?}");
}

#[test]
fn a_ceiling_that_is_reached_stops_the_traffic() {
    const CEILING: usize = 70;
    let place = Place::new();
    // Enough for the judged time at the planned rate, not for a recovery that never comes.
    let environment =
        place.environment(&[("requests: 2000, rate: 20/s", &format!("requests: {CEILING}, rate: 20/s"))]);
    let edits = [("served_by: cloud-kimi, within: 30s", "served_by: cloud-minimax, within: 30s")];
    let scenario = place.edited("cloud-down.yaml", &fixture("cloud-down-short.yaml"), &edits);
    let ended = place.run(&[scenario], &environment, &[]).expect(3);
    let run = place.run_dir();
    let result = run.assert_sound();
    assert_eq!((&result["verdict"], &result["restored"]), (&json!("inconclusive"), &json!(true)));
    assert!(reasons(&result).contains("the ceiling of vllm is reached"), "{}", reasons(&result));
    assert!(ended.stdout.contains("the ceiling of vllm"), "{}", ended.stdout);
    assert!(!run.events("probe-skipped").is_empty());
    // Every probe of the route may reach vLLM, the control probes ask it by name; warm-up asks by name too.
    let warm_up = run.events("warmed-up");
    let warm_up = warm_up.iter().flat_map(|event| list(&event["requests"]));
    let warm_up = warm_up.filter(|request| request["alias"] == "vllm-qwen").count();
    let probes = run.events("probe-ended");
    assert!(probes.iter().any(|probe| probe["purpose"] == "control"));
    let sent = probes.len() + warm_up;
    assert!((CEILING / 2..=CEILING).contains(&sent), "{sent} requests, {CEILING} allowed");
}
