use serde_json::json;

use super::*;

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

fn config(params: Value, router: Value, litellm: Value) -> Result<GatewayConfig, ConfigError> {
    let mut all = json!({ "model": "ollama_chat/a", "api_base": "http://127.0.0.1:1/" });
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    GatewayConfig::from_value(&json!({
        "model_list": [{ "model_name": "a", "litellm_params": all }],
        "router_settings": router, "litellm_settings": litellm,
    }))
}

#[test]
fn defaults_are_those_of_litellm() {
    let config = config(json!({}), json!({}), json!({})).unwrap();
    assert_eq!(config.attempt_timeout(0, false, &RequestOverrides::default()), seconds(6000.0));
    assert_eq!(config.router.num_retries, 2);
    assert_eq!(config.router.allowed_fails, 3);
    assert_eq!(config.router.max_fallbacks, 5);
    assert_eq!(config.router.cooldown_time, seconds(5.0));
    assert_eq!(config.deployments[0].api_base, "http://127.0.0.1:1/");
    assert!(config.unsupported.is_empty());
}

#[test]
fn timeouts_follow_the_order_of_places() {
    let check = |params: Value, router: Value, litellm: Value, whole: f64, stream: f64| {
        let config = config(params.clone(), router.clone(), litellm.clone()).unwrap();
        let request = RequestOverrides::default();
        let got = (config.attempt_timeout(0, false, &request), config.attempt_timeout(0, true, &request));
        assert_eq!(got, (seconds(whole), seconds(stream)), "{params} {router} {litellm}");
    };
    let none = || json!({});
    check(json!({ "timeout": 1.75 }), none(), none(), 1.75, 1.75);
    check(json!({ "timeout": 2 }), json!({ "timeout": 9, "stream_timeout": 7 }), none(), 2.0, 7.0);
    check(json!({ "stream_timeout": 1 }), json!({ "stream_timeout": 7 }), none(), 6000.0, 1.0);
    check(none(), json!({ "timeout": 3 }), json!({ "request_timeout": 1.5 }), 1.5, 1.5);
    check(none(), none(), json!({ "request_timeout": 1.5 }), 1.5, 1.5);
    check(json!({ "timeout": 4 }), none(), json!({ "request_timeout": 1.5 }), 4.0, 4.0);
    check(json!({ "timeout": 4 }), json!({ "timeout": 3 }), json!({ "request_timeout": 1.5 }), 4.0, 1.5);
    check(json!({ "request_timeout": 4 }), json!({ "timeout": 3 }), none(), 4.0, 4.0);

    let config = config(json!({ "timeout": 4 }), none(), none()).unwrap();
    let request = RequestOverrides { timeout: Some(seconds(0.5)), ..RequestOverrides::default() };
    assert_eq!(config.attempt_timeout(0, false, &request), seconds(0.5));
}

#[test]
fn router_settings_beat_litellm_settings_without_merging() {
    let lists = json!([{ "a": ["a"] }]);
    let config = config(
        json!({}),
        json!({ "num_retries": 0, "fallbacks": lists }),
        json!({ "num_retries": 7, "default_fallbacks": ["a"] }),
    )
    .unwrap();
    assert_eq!(config.router.num_retries, 0);
    assert_eq!(config.router.fallbacks.len(), 1);
    assert_eq!(config.router.fallbacks[0].group, "a");
}

/// Path and bearing of each unsupported key, in order of path.
fn unsupported(config: &GatewayConfig) -> Vec<(&str, BearsOn)> {
    let mut all: Vec<(&str, BearsOn)> =
        config.unsupported.iter().map(|key| (key.path.as_str(), key.bears_on.clone())).collect();
    all.sort_by_key(|(path, _)| *path);
    all
}

#[test]
fn what_is_ignored_is_said_with_what_it_bears_on() {
    let config = GatewayConfig::from_value(&json!({
        "model_list": [{ "model_name": "a", "surprise": 1, "model_info": { "mode": "chat" },
            "litellm_params": { "model": "hosted_vllm/a", "api_base": "http://h/v1", "rpm": 3,
                "input_cost_per_token": 0.1, "max_retries": 2 } }],
        "router_settings": { "routing_strategy": "least-busy", "auto_router_capability_limit": 1, "no_such_argument": 1, "set_verbose": true,
            "retry_policy": { "TimeoutErrorRetries": 1, "NoSuchErrorRetries": 2 } },
        "litellm_settings": { "callbacks": ["prometheus", "langfuse"], "json_logs": true, "no_such": 1,
            "cache": true },
        "environment_variables": { "X": "y" },
        "mcp_servers": {},
        "general_settings": { "database_url": "x", "alerting": ["slack"], "ui_access_mode": "all",
            "disable_spend_logs": true },
    }))
    .unwrap();
    let group = || BearsOn::Groups(vec!["a".into()]);
    assert_eq!(
        unsupported(&config),
        [
            ("environment_variables", BearsOn::Everything),
            ("general_settings.alerting", BearsOn::Nothing),
            ("general_settings.database_url", BearsOn::Everything),
            ("general_settings.disable_spend_logs", BearsOn::Nothing),
            ("general_settings.ui_access_mode", BearsOn::Nothing),
            ("litellm_settings.cache", BearsOn::Everything),
            ("litellm_settings.callbacks", BearsOn::Nothing),
            ("litellm_settings.json_logs", BearsOn::Nothing),
            ("litellm_settings.no_such", BearsOn::Everything),
            ("mcp_servers", BearsOn::Nothing),
            ("model_list[0].litellm_params.input_cost_per_token", BearsOn::Nothing),
            ("model_list[0].litellm_params.max_retries", group()),
            ("model_list[0].litellm_params.rpm", group()),
            ("model_list[0].surprise", group()),
            // LiteLLM ignores these three itself.
            ("router_settings.auto_router_capability_limit", BearsOn::Nothing),
            ("router_settings.no_such_argument", BearsOn::Nothing),
            ("router_settings.retry_policy.NoSuchErrorRetries", BearsOn::Nothing),
            ("router_settings.routing_strategy", BearsOn::Everything),
            ("router_settings.set_verbose", BearsOn::Nothing),
        ]
    );
}

#[test]
fn a_callback_that_may_be_a_hook_bears_on_everything() {
    let bearing = |callbacks: Value| {
        let config = config(json!({}), json!({}), json!({ "callbacks": callbacks })).unwrap();
        config.unsupported.into_iter().map(|key| key.bears_on).collect::<Vec<_>>()
    };
    assert_eq!(bearing(json!(["otel"])), [BearsOn::Nothing]);
    assert_eq!(bearing(json!("otel")), [BearsOn::Nothing]);
    assert_eq!(bearing(json!(["otel", "my_hooks.instance"])), [BearsOn::Everything]);
    assert_eq!(bearing(json!(["detect_prompt_injection"])), [BearsOn::Everything]);
}

#[test]
fn a_key_at_its_default_is_no_setting() {
    let router =
        json!({ "routing_strategy": "simple-shuffle", "enable_pre_call_checks": false, "plugins": null });
    let config = config(json!({ "rpm": null }), router, json!({ "cache": false, "callbacks": [] })).unwrap();
    assert_eq!(unsupported(&config), []);
}

#[test]
fn bearings_are_written_in_words() {
    let groups =
        serde_json::to_value(Unsupported::new("p".into(), BearsOn::Groups(vec!["a".into()]))).unwrap();
    assert_eq!(groups, json!({ "path": "p", "bears_on": { "groups": ["a"] } }));
    assert_eq!(serde_json::to_value(BearsOn::Nothing).unwrap(), json!("nothing"));
}

#[test]
fn errors_carry_the_path() {
    let error = |params: Value, router: Value| config(params, router, json!({})).unwrap_err().to_string();
    assert!(
        error(json!({ "timeout": "soon" }), json!({})).starts_with("model_list[0].litellm_params.timeout")
    );
    assert!(error(json!({ "timeout": -1 }), json!({})).contains("not negative"));
    assert!(error(json!({ "model": "openai/gpt" }), json!({})).contains("`openai/gpt`"));
    assert!(error(json!({ "api_base": null }), json!({})).ends_with("api_base is missing"));
    assert!(error(json!({ "api_base": "os.environ/X" }), json!({})).contains("resolved"));
    assert!(error(json!({ "api_base": "ollama.com" }), json!({})).contains("https:// URL"));
    assert!(error(json!({}), json!({ "fallbacks": [{ "a": ["b"] }] })).contains("unknown group `b`"));
    assert!(error(json!({}), json!({ "num_retries": 1.5 })).contains("whole number"));
    assert_eq!(
        GatewayConfig::from_value(&json!({})).unwrap_err(),
        ConfigError::Missing { path: "model_list".into() }
    );
}

#[test]
fn keys_are_never_shown() {
    let shown = format!("{:?}", config(json!({ "api_key": "sk-upstream" }), json!({}), json!({})).unwrap());
    assert!(shown.contains("***") && !shown.contains("sk-upstream"), "{shown}");
}
