use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ConfigError, LocalConfig, Upstream, localize, resolve_environment};

fn upstreams() -> BTreeMap<String, Upstream> {
    let at = |component: &str, port: u16| Upstream {
        component: component.into(),
        base_url: format!("http://127.0.0.1:{port}"),
    };
    BTreeMap::from([("cloud-kimi".into(), at("cloud", 4001)), ("vllm-qwen".into(), at("vllm", 4002))])
}

fn source() -> Value {
    json!({
        "model_list": [
            { "model_name": "cloud-kimi",
              "litellm_params": { "model": "ollama_chat/kimi-k2.5", "api_base": "https://ollama.com",
                                  "api_key": "os.environ/OLLAMA_API_KEY", "timeout": 2, "max_tokens": 9 },
              "model_info": { "id": "kimi" } },
            { "model_name": "vllm-qwen",
              "litellm_params": { "model": "hosted_vllm/Qwen/Qwen3", "api_base": "http://vllm.ml:8000/v1",
                                  "api_key": "sk-upstream-literal" } },
        ],
        "router_settings": { "fallbacks": [{ "cloud-kimi": ["vllm-qwen"] }], "timeout": "os.environ/ROUTER_TIMEOUT" },
        "general_settings": { "master_key": "sk-literal-master" },
    })
}

fn localized(source: &Value) -> LocalConfig {
    localize(source, &upstreams()).expect("a good config")
}

#[test]
fn models_are_pointed_at_the_mock_world_and_routing_stays() {
    let config = localized(&source());
    let expected = json!({
        "model_list": [
            { "model_name": "cloud-kimi", "model_info": { "id": "kimi" },
              "litellm_params": { "model": "ollama_chat/kimi-k2.5", "timeout": 2, "max_tokens": 9,
                                  "api_base": "http://127.0.0.1:4001", "api_key": "not-a-key" } },
            { "model_name": "vllm-qwen",
              "litellm_params": { "model": "hosted_vllm/Qwen/Qwen3", "api_base": "http://127.0.0.1:4002/v1",
                                  "api_key": "not-a-key" } },
        ],
        "router_settings": { "fallbacks": [{ "cloud-kimi": ["vllm-qwen"] }], "timeout": "os.environ/ROUTER_TIMEOUT" },
        "general_settings": { "master_key": "os.environ/LITELLM_MASTER_KEY" },
    });
    assert_eq!(config.value, expected);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.upstream_models["cloud-kimi"], ["kimi-k2.5"]);
    assert_eq!(config.upstream_models["vllm-qwen"], ["Qwen/Qwen3"]);
    assert_eq!(config.sha256_of_source.len(), 64);
    assert_eq!(config.environment_variables().into_iter().collect::<Vec<_>>(), ["ROUTER_TIMEOUT"]);
}

#[test]
fn what_leaves_loopback_is_removed_and_named() {
    let mut source = source();
    source["environment_variables"] = json!({ "DATABASE_URL": "postgres://u:hunter2@db/x" });
    source["litellm_settings"] = json!({
        "callbacks": ["langfuse"], "success_callback": ["s3"], "cache": true,
        "cache_params": { "type": "redis", "host": "redis.ml" }, "num_retries": 1,
        "upstream_hint": { "deep": ["https://example.com/hook"] }, "also_the_key": "Bearer sk-literal-master",
        "set_verbose": true,
    });
    source["router_settings"]["redis_password"] = "hunter2".into();
    source["general_settings"]["database_url"] = "postgres://u:hunter2@db/x".into();
    source["general_settings"]["alerting"] = json!(["slack"]);
    source["model_list"][0]["litellm_params"]["extra_headers"] = json!({ "Authorization": "hunter2" });
    let config = localized(&source);
    let paths: Vec<_> =
        config.warnings.iter().map(|line| line.split(':').next().unwrap_or_default()).collect();
    assert_eq!(
        paths,
        [
            "environment_variables",
            "model_list[0].litellm_params.extra_headers",
            "router_settings.redis_password",
            "litellm_settings.callbacks",
            "litellm_settings.success_callback",
            "litellm_settings.cache",
            "litellm_settings.cache_params",
            "litellm_settings.upstream_hint",
            "litellm_settings.also_the_key",
            "litellm_settings.set_verbose",
            "general_settings.database_url",
            "general_settings.alerting",
        ]
    );
    let written = format!("{}{:?}", config.value, config.warnings);
    for secret in
        ["hunter2", "sk-literal-master", "sk-upstream-literal", "example.com", "ollama.com", "vllm.ml"]
    {
        assert!(!written.contains(secret), "{secret} in {written}");
    }
    assert_eq!(config.value["litellm_settings"], json!({ "num_retries": 1 }));
}

#[test]
fn aliases_that_merely_sound_like_services_stay() {
    let mut source = source();
    source["router_settings"]["model_group_alias"] = json!({ "redis-expert": "vllm-qwen" });
    let config = localized(&source);
    assert_eq!(config.value["router_settings"]["model_group_alias"]["redis-expert"], "vllm-qwen");
}

#[test]
fn a_cache_inside_the_process_stays() {
    let mut source = source();
    source["litellm_settings"] = json!({ "cache": true, "cache_params": { "type": "local" } });
    assert_eq!(localized(&source).value["litellm_settings"], source["litellm_settings"]);
}

#[test]
fn a_group_of_several_deployments_lists_each_model() {
    let mut source = source();
    let mut second = source["model_list"][0].clone();
    second["litellm_params"]["model"] = "ollama_chat/kimi-k2.6".into();
    source["model_list"].as_array_mut().expect("list").push(second);
    assert_eq!(localized(&source).upstream_models["cloud-kimi"], ["kimi-k2.5", "kimi-k2.6"]);
}

#[test]
fn deployments_that_only_their_upstream_tells_apart_get_ids() {
    let mut source = source();
    let mut others = [source["model_list"][1].clone(), source["model_list"][1].clone()];
    others[0]["litellm_params"]["api_base"] = "https://other.example".into();
    others[1]["litellm_params"]["api_key"] = "os.environ/OTHER_KEY".into();
    source["model_list"].as_array_mut().expect("list").extend(others);
    let local = localized(&source).value;
    let ids: Vec<_> =
        local["model_list"].as_array().expect("list").iter().map(|e| &e["model_info"]["id"]).collect();
    let last = ids.len() - 2;
    assert_eq!(ids[..last], [&json!("kimi"), &Value::Null]);
    assert_eq!(ids[last..], [&json!("vllm-qwen#2"), &json!("vllm-qwen#3")]);
    assert_eq!(localized(&source).value, local, "the same each time");
}

#[test]
fn aliases_must_match_the_environment_both_ways() {
    let mut extra = source();
    extra["model_list"][1]["model_name"] = "gpt".into();
    assert_eq!(
        localize(&extra, &upstreams()).expect_err("unserved").to_string(),
        "the LiteLLM config has the alias `gpt` (model_list), which no component of the environment serves"
    );
    let mut short = source();
    short["model_list"].as_array_mut().expect("list").pop();
    assert_eq!(
        localize(&short, &upstreams()).expect_err("missing"),
        ConfigError::MissingAlias { alias: "vllm-qwen".into(), component: "vllm".into() }
    );
}

#[test]
fn what_cannot_be_run_locally_is_an_error() {
    let mut foreign = source();
    foreign["model_list"][0]["litellm_params"]["model"] = "bedrock/kimi".into();
    assert!(matches!(localize(&foreign, &upstreams()), Err(ConfigError::UnknownProvider { .. })));
    let mut included = source();
    included["include"] = json!(["models.yaml"]);
    assert_eq!(localize(&included, &upstreams()), Err(ConfigError::Include));
    let mut remote = upstreams();
    remote.insert(
        "vllm-qwen".into(),
        Upstream { component: "vllm".into(), base_url: "http://10.0.0.1:1".into() },
    );
    assert!(matches!(localize(&source(), &remote), Err(ConfigError::NotLoopback { .. })));
    for (bad, path) in [
        (json!([]), "(whole file)"),
        (json!({ "model_list": {} }), "model_list"),
        (json!({ "model_list": [1] }), "model_list[0]"),
        (json!({ "model_list": [{ "model_name": "cloud-kimi" }] }), "model_list[0].litellm_params"),
    ] {
        match localize(&bad, &upstreams()) {
            Err(ConfigError::Malformed { path: at, .. }) => assert_eq!(at, path),
            other => panic!("{bad}: {other:?}"),
        }
    }
}

#[test]
fn environment_references_resolve_by_lookup() {
    let lookup = |name: &str| match name {
        "T" => Some("2.5".to_owned()),
        "ON" => Some("True".to_owned()),
        _ => None,
    };
    let value =
        json!({ "a": ["os.environ/T", 1], "b": { "c": "os.environ/ON", "d": "os.environ/NO", "e": "T" } });
    assert_eq!(
        resolve_environment(&value, &lookup),
        json!({ "a": ["2.5", 1], "b": { "c": true, "d": null, "e": "T" } })
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z:/. ]{0,12}".prop_map(Value::from),
        Just(Value::from("https://example.com")),
        Just(Value::from("x sk-literal-master")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,10}", inner, 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever else stands in the file: no panic, no key, no address elsewhere, and a second pass changes nothing.
    #[test]
    fn the_local_config_is_clean_and_stable(extra in any_json(), section in 0..4_usize) {
        let mut source = source();
        match section {
            0 => source["litellm_settings"] = json!({ "x": extra }),
            1 => source["router_settings"]["x"] = extra,
            2 => source["model_list"][0]["litellm_params"]["x"] = extra,
            _ => source["model_list"][1]["model_info"] = extra,
        }
        let config = localized(&source);
        let text = config.value.to_string();
        prop_assert!(!text.contains("example.com") && !text.contains("sk-literal-master"));
        let again = localized(&config.value);
        prop_assert_eq!(again.value, config.value);
    }
}
