//! What was measured on LiteLLM is what is foretold, and each warning comes with its setting only.

use serde_json::{Value, json};

use super::*;

/// The environment `local`, whose routes are those of the household.
fn environment() -> Environment {
    crate::input::environment("local").unwrap_or_else(|problems| panic!("{problems:?}"))
}

const CHAIN: [&str; 4] = ["cloud-kimi", "cloud-minimax", "vllm-qwen", "ollama-qwen"];

fn pages(settings: &Value) -> (Value, Value, Value) {
    let mut current = json!({
        "num_retries": 2, "timeout": 6000.0, "stream_timeout": null, "max_fallbacks": 5, "allowed_fails": 3,
        "cooldown_time": 5, "retry_after": 0, "retry_policy": null, "disable_cooldowns": null,
        "fallbacks": [{ "cloud-kimi": CHAIN[1..] }],
    });
    for (key, value) in settings.as_object().unwrap() {
        current[key] = value.clone();
    }
    let aliases = CHAIN.iter().chain(["cloud-qwen3-coder"].iter());
    let info: Vec<Value> = aliases
        .clone()
        .map(|alias| json!({ "model_name": alias, "litellm_params": { "model": "x/y" } }))
        .collect();
    let models: Vec<Value> = aliases.map(|alias| json!({ "id": alias })).collect();
    (json!({ "current_values": current }), json!({ "data": info }), json!({ "data": models }))
}

fn of(settings: Value) -> Outlook {
    let (router, info, models) = pages(&settings);
    outlook(read(&router, &info, &models), &environment())
}

fn wait(outlook: &Outlook, down: &[&str], failing: Failing) -> (f64, f64) {
    let found = outlook
        .waits
        .iter()
        .find(|wait| wait.route == "agent" && wait.down == down && wait.failing == failing);
    found.unwrap_or_else(|| panic!("{down:?} {failing:?}: {outlook:#?}")).wait_s
}

#[track_caller]
fn assert_near(found: (f64, f64), wanted: (f64, f64)) {
    assert!((found.0 - wanted.0).abs() < 0.01 && (found.1 - wanted.1).abs() < 0.01, "{found:?} {wanted:?}");
}

const TUNED: &str = r#"{ "num_retries": 0, "timeout": 2, "allowed_fails": 1, "cooldown_time": 30 }"#;

fn tuned() -> Value {
    serde_json::from_str(TUNED).unwrap()
}

#[test]
fn what_was_measured_is_within_what_is_foretold() {
    let stock = of(json!({}));
    // Seen: 8.97 to 10.21 s.
    assert_near(wait(&stock, &["cloud"], Failing::AtOnce), (7.0, 11.5));
    assert_near(wait(&stock, &["cloud"], Failing::Blackhole), (2.0 * (810.0 + 3.5), 2.0 * (810.0 + 5.75)));
    assert_near(wait(&stock, &["cloud"], Failing::Hang), (36_007.0, 36_011.5));
    let tuned_outlook = of(tuned());
    // Seen: 4.07 to 4.15 s.
    assert_near(wait(&tuned_outlook, &["cloud"], Failing::Blackhole), (4.0, 4.0));
    assert_near(wait(&tuned_outlook, &["cloud"], Failing::AtOnce), (0.0, 0.0));
    // Seen: 16.37 and 16.80 s.
    let settings = json!({ "num_retries": 2, "allowed_fails": 0, "timeout": 3 });
    assert_near(wait(&of(settings), &["cloud"], Failing::Blackhole), (15.5, 17.75));
    // Seen: 14.34 s for three groups.
    let settings = json!({ "num_retries": 1, "retry_after": 2 });
    assert_near(wait(&of(settings), &["cloud", "vllm"], Failing::AtOnce), (12.0, 16.5));
    // Seen: 4.51 and 4.52 s.
    assert_near(wait(&of(json!({ "num_retries": 1 })), &["cloud"], Failing::AtOnce), (3.0, 6.0));
}

#[test]
fn where_the_wait_is_too_long_it_is_said_with_the_formula() {
    let stock = of(json!({})).warnings.join("\n");
    for words in [
        "NFR123 cannot hold for the route agent where cloud fails at once: a request waits 7-11.5 s before vllm-qwen is asked",
        "cloud-kimi: 3 x 0 s + 3.5-5.75 s of pauses; cloud-minimax: 3 x 0 s + 3.5-5.75 s of pauses",
        "NFR123 cannot hold for the route agent where cloud takes requests and never answers",
        "`allowed_fails: 3` is the same as none",
    ] {
        assert!(stock.contains(words), "{words}: {stock}");
    }
    let tuned_warnings = of(tuned()).warnings;
    let late: Vec<&String> = tuned_warnings.iter().filter(|text| text.starts_with("NFR123")).collect();
    // Three and four hanging groups take six and eight seconds.
    assert_eq!(late.len(), 2, "{tuned_warnings:#?}");
    assert!(late.iter().all(|text| !text.contains("where cloud is")), "{late:#?}");
    assert!(tuned_warnings.iter().any(|text| text.contains("with `max_fallbacks: 1`")));
    assert!(tuned_warnings.iter().any(|text| text.contains("whole replies")));
    let bounded = of(json!({
        "num_retries": 0, "timeout": 1, "allowed_fails": 1, "cooldown_time": 30, "max_fallbacks": 1,
    }));
    assert!(!bounded.warnings.iter().any(|text| text.starts_with("NFR123")), "{:#?}", bounded.warnings);
    assert!(!bounded.warnings.iter().any(|text| text.contains("max_fallbacks")), "{:#?}", bounded.warnings);
    // One retry: three to six seconds, so it depends on chance.
    let warnings = of(json!({ "num_retries": 1, "timeout": 0.1 })).warnings;
    assert!(warnings[0].starts_with("NFR123 does not always hold for the route agent"), "{warnings:#?}");
}

#[test]
fn streams_are_told_apart_where_they_have_a_timeout_of_their_own() {
    let outlook = of(json!({ "num_retries": 0, "timeout": 20, "stream_timeout": 1 }));
    let of_form = |streamed| {
        let mut found = outlook.waits.iter().filter(|wait| {
            wait.route == "agent" && wait.down == ["cloud"] && wait.failing == Failing::Blackhole
        });
        found.find(|wait| wait.streamed == streamed).unwrap().wait_s
    };
    assert_near(of_form(true), (2.0, 2.0));
    assert_near(of_form(false), (40.0, 40.0));
    // A deployment's plain timeout is weaker than the stream timeout of the router.
    let (router, mut info, models) = pages(&json!({ "num_retries": 0, "stream_timeout": 1 }));
    for entry in info["data"].as_array_mut().unwrap() {
        entry["litellm_params"]["timeout"] = "7".into();
    }
    let outlook = super::outlook(read(&router, &info, &models), &environment());
    let found: Vec<(f64, f64)> = outlook
        .waits
        .iter()
        .filter(|wait| wait.route == "coder" && wait.failing == Failing::Blackhole)
        .map(|wait| wait.wait_s)
        .collect();
    assert_eq!(found, [(1.0, 1.0), (7.0, 7.0)]);
}

#[test]
fn what_the_gateway_does_not_tell_is_not_foretold() {
    let silent = outlook(Err("no page".into()), &environment());
    assert_eq!((silent.not_known.as_deref(), silent.waits.len()), (Some("no page"), 0));
    assert!(of(json!({ "num_retries": null })).waits.is_empty());
    let by_class = of(json!({ "retry_policy": { "DefaultRetries": 0 } }));
    assert!(by_class.waits.is_empty());
    assert!(by_class.warnings.iter().any(|text| text.contains("`retry_policy`")), "{:#?}", by_class.warnings);
    let timeless = of(json!({ "timeout": null }));
    assert!(timeless.waits.iter().all(|wait| wait.failing == Failing::AtOnce), "{timeless:#?}");
    for (router, info, models) in [
        (json!({}), json!({ "data": [] }), json!({ "data": [] })),
        (json!({ "current_values": {} }), json!({}), json!({ "data": [] })),
        (json!({ "current_values": {} }), json!({ "data": [] }), json!([])),
    ] {
        assert!(read(&router, &info, &models).is_err());
    }
}

#[test]
fn a_gateway_that_is_set_otherwise_than_the_environment_says_is_named() {
    let other = of(json!({ "fallbacks": [{ "cloud-kimi": ["vllm-qwen", "nobody"] }] })).warnings;
    assert!(other[0].starts_with("FR217 cannot hold for the route agent"), "{other:#?}");
    assert!(other.iter().any(|text| text.contains("does not have nobody")), "{other:#?}");
    let default = of(json!({ "fallbacks": [], "default_fallbacks": ["vllm-qwen"] })).warnings;
    assert!(default.iter().any(|text| text.contains("the route coder: the gateway falls back to vllm-qwen")));
}
