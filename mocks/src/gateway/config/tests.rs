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
    assert_eq!(config.deployments[0].api_base, "http://127.0.0.1:1");
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

#[test]
fn what_is_ignored_is_said() {
    let config = GatewayConfig::from_value(&json!({
        "model_list": [{ "model_name": "a", "surprise": 1, "model_info": { "mode": "chat" },
            "litellm_params": { "model": "hosted_vllm/a", "api_base": "http://h/v1", "rpm": 3 } }],
        "router_settings": { "routing_strategy": "least-busy", "enable_weighted_failover": true,
            "retry_policy": { "TimeoutErrorRetries": 1, "NoSuchErrorRetries": 2 } },
        "environment_variables": {},
        "general_settings": { "database_url": "x" },
    }))
    .unwrap();
    let mut unsupported = config.unsupported.clone();
    unsupported.sort();
    assert_eq!(
        unsupported,
        [
            "environment_variables",
            "general_settings.database_url",
            "model_list[0].litellm_params.rpm",
            "model_list[0].surprise",
            "router_settings.enable_weighted_failover",
            "router_settings.retry_policy.NoSuchErrorRetries",
            "router_settings.routing_strategy",
        ]
    );
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
    assert!(error(json!({ "api_base": "https://ollama.com" }), json!({})).contains("TLS"));
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
