//! LiteLLM files: what is right is read as LiteLLM reads it, and nothing that the gateways refuse gets as far as them.

use std::fs;
use std::path::Path;

use harness::environment::Names;
use harness::gateway::config::LoadedBy;
use harness::gateway::local::{CheckedConfig, ConfigSource};
use harness::input::{self, Problem, Style};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The names of the local environment.
fn local() -> Names {
    input::check(&[], None).names
}

fn checked(text: &str, loaded_by: LoadedBy) -> CheckedConfig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    fs::write(&path, text).unwrap();
    ConfigSource::check(Some(&path), Some(&local()), loaded_by)
}

const MODELS: &str = "\
model_list:
  - { model_name: cloud-kimi, litellm_params: { model: ollama_chat/kimi-k2.5 } }
  - { model_name: cloud-minimax, litellm_params: { model: ollama_chat/minimax-m2.5 } }
  - { model_name: cloud-qwen3-coder, litellm_params: { model: ollama_chat/qwen3-coder } }
  - { model_name: vllm-qwen, litellm_params: { model: hosted_vllm/Qwen3 } }
  - { model_name: ollama-qwen, litellm_params: { model: ollama_chat/phi4-mini } }
";

/// What LiteLLM makes of some YAML, with all lines but the first indented.
pub(super) fn value_of_section(yaml: &str) -> Value {
    let config = checked(&format!("{MODELS}x-section:\n  {yaml}\n"), LoadedBy::Mock);
    config.source.unwrap_or_else(|| panic!("{}", config.findings)).value["x-section"].take()
}

#[test]
fn shipped_configurations_have_no_problem() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mocks/litellm");
    for path in [None, Some(folder.join("tuned.yaml")), Some(folder.join("stock.yaml"))] {
        let config = ConfigSource::check(path.as_deref(), Some(&local()), LoadedBy::Mock);
        assert!(config.findings.0.is_empty(), "{}", config.findings);
        assert!(config.source.is_some());
    }
}

#[test]
fn scalars_are_what_they_are_to_litellm() {
    // As PyYAML, which LiteLLM reads its file with, gives them.
    let words: Value = serde_json::from_str(
        r#"[["yes", true], ["No", false], ["ON", true], ["off", false], ["y", "y"], ["true", true], ["TRUE", true],
        ["tRue", "tRue"], ["~", null], ["Null", null], ["nULL", "nULL"], ["1", 1], ["-1", -1], ["+1", 1], ["01", 1],
        ["010", 8], ["-010", -8], ["08", "08"], ["0o10", "0o10"], ["0x1F", 31], ["0b101", 5], ["-0x1f", -31],
        ["1_000", 1000], ["_1", "_1"], ["1__0", 10], ["1e3", "1e3"], ["1.5e3", "1.5e3"], ["1.5e+3", 1500.0],
        ["1.5E-3", 0.0015], ["1.", 1.0], [".5", 0.5], ["-.5", "-.5"], ["+.5", "+.5"], [".", "."], ["-.", "-."],
        ["+1.5", 1.5], [".inf", ".inf"], [".nan", ".nan"], ["12:30", 750], ["1:2:3", 3723], ["-1:30", -90],
        ["0:30", "0:30"], ["12:60", "12:60"], ["12:5", 725], ["190:20:30.15", 685230.15], ["0:30.5", 30.5],
        ["1:2.5", 62.5], ["09:30", "09:30"], ["9:08", 548], ["1,000", "1,000"], ["12a", "12a"], ["1.2.3", "1.2.3"],
        ["1e+3", "1e+3"], ["0", 0], ["-0", 0], ["00", 0], ["0_", 0], ["0b", "0b"], ["0x", "0x"], ["1_", 1],
        ["0.0", 0.0], ["1_0.5", 10.5], ["+0x10", 16], ["0b102", "0b102"], ["-0b11", -3], ["1:60:1", "1:60:1"],
        ["007", 7], ["0.1e+400", "0.1e+400"], ["'yes'", "yes"], ["\"1\"", "1"], ["!!str 1", "1"]]"#,
    )
    .unwrap();
    for pair in words.as_array().unwrap() {
        let (word, expected) = (pair[0].as_str().unwrap(), &pair[1]);
        assert_eq!(&value_of_section(&format!("a: {word}"))["a"], expected, "{word}");
    }
}

#[test]
fn anchors_and_merge_keys_are_written_out() {
    let text = "\
x-defaults: &defaults { model: ollama_chat/a, timeout: 2, num_retries: 0 }
model_list:
  - model_name: cloud-kimi
    litellm_params: { <<: *defaults, timeout: 3 }
  - model_name: cloud-minimax
    litellm_params:
      <<: [*defaults, { timeout: 9, weight: 1 }]
      model: ollama_chat/b
  - { model_name: cloud-qwen3-coder, litellm_params: *defaults }
  - { model_name: vllm-qwen, litellm_params: { model: hosted_vllm/c } }
  - { model_name: ollama-qwen, litellm_params: { model: ollama_chat/d } }
";
    let config = checked(text, LoadedBy::Mock);
    assert!(config.findings.0.is_empty(), "{}", config.findings);
    let value = config.source.unwrap().value;
    assert_eq!(
        value["model_list"][0]["litellm_params"],
        json!({ "timeout": 3, "model": "ollama_chat/a", "num_retries": 0 })
    );
    assert_eq!(
        value["model_list"][1]["litellm_params"],
        json!({ "model": "ollama_chat/b", "timeout": 2, "num_retries": 0, "weight": 1 })
    );
    assert_eq!(value["model_list"][2]["litellm_params"]["timeout"], 2);
}

#[test]
fn json_crlf_and_a_byte_order_mark_are_read() {
    let yaml = checked(MODELS, LoadedBy::Mock).source.unwrap().value;
    let json = format!("{yaml:#}").replace("  ", "\t");
    for text in
        [json.clone(), json.replace('\n', "\r\n"), format!("\u{feff}{}", MODELS.replace('\n', "\r\n"))]
    {
        let config = checked(&text, LoadedBy::Mock);
        assert!(config.findings.0.is_empty(), "{}", config.findings);
        assert_eq!(config.source.unwrap().value, yaml);
    }
}

#[test]
fn what_only_the_mock_lacks_is_a_warning_for_others() {
    let text = MODELS.replace("hosted_vllm/", "openai/");
    assert!(checked(&text, LoadedBy::Mock).source.is_none());
    let config = checked(&text, LoadedBy::Any);
    assert!(config.source.is_some());
    assert!(matches!(config.findings.0.as_slice(), [warning] if warning.is_warning()), "{}", config.findings);
}

#[test]
fn callbacks_are_not_fallbacks_misspelt() {
    let config =
        checked(&format!("{MODELS}litellm_settings: {{ callbacks: [prometheus] }}\n"), LoadedBy::Mock);
    assert!(config.findings.0.is_empty(), "{}", config.findings);
}

#[test]
fn a_deployment_can_be_a_fallback_by_its_id() {
    let text = MODELS.replace("hosted_vllm/Qwen3 }", "hosted_vllm/Qwen3 }, model_info: { id: gpu-1 }");
    let text = format!("{text}litellm_settings: {{ fallbacks: [{{ cloud-kimi: [gpu-1] }}] }}\n");
    let config = checked(&text, LoadedBy::Mock);
    assert!(config.findings.0.is_empty(), "{}", config.findings);
}

#[test]
fn a_fallback_can_be_a_model_or_a_request() {
    let with =
        |target: &str| format!("{MODELS}router_settings: {{ fallbacks: [{{ cloud-kimi: [{target}] }}] }}\n");
    for target in ["hosted_vllm/Qwen3", "\"ollama_chat/phi4-mini\""] {
        let config = checked(&with(target), LoadedBy::Mock);
        assert!(config.findings.0.is_empty(), "{}", config.findings);
    }
    for target in [
        "{ model: vllm-qwen }",
        "{ model: cloud-kimi, messages: [{ role: user, content: shorter }] }",
        "{ temperature: 0 }",
    ] {
        let config = checked(&with(target), LoadedBy::Any);
        let only_warns = matches!(config.findings.0.as_slice(), [warning] if warning.is_warning());
        assert!(config.source.is_some() && only_warns, "{target}: {}", config.findings);
        let config = checked(&with(target), LoadedBy::Mock);
        let refused = matches!(config.findings.0.as_slice(), [problem] if !problem.is_warning());
        assert!(config.source.is_none() && refused, "{target}: {}", config.findings);
    }
    let findings = checked(&with("{ model: nobody, messages: [] }"), LoadedBy::Any).findings;
    assert!(findings.to_string().contains("unknown group `nobody`"), "{findings}");
}

#[test]
fn every_strategy_of_litellm_is_taken() {
    for strategy in ["simple-shuffle", "lar1", "least-busy", "provider-budget-routing", "null"] {
        let text = format!("{MODELS}router_settings: {{ routing_strategy: {strategy} }}\n");
        let config = checked(&text, LoadedBy::Any);
        assert!(config.findings.0.is_empty(), "{}", config.findings);
    }
}

#[test]
fn settings_are_read_where_litellm_reads_them() {
    let text = "litellm_settings: { allowed_fails: 1, max_fallbacks: 2, num_retries: 0 }\n\
        general_settings: { master_key: os.environ/PATH, background_health_checks: false, plugins: [] }\n";
    let config = checked(&format!("{MODELS}{text}"), LoadedBy::Any);
    assert!(config.findings.0.is_empty(), "{}", config.findings);
}

#[test]
fn deployments_may_differ_in_their_upstream_alone() {
    let twin = "  - { model_name: vllm-qwen, litellm_params: { model: hosted_vllm/Qwen3, api_base: \"http://b\" } }\n";
    let config = checked(&format!("{MODELS}{twin}"), LoadedBy::Mock);
    assert!(config.findings.0.is_empty(), "{}", config.findings);
}

#[test]
fn an_id_can_be_a_whole_number() {
    let text = MODELS.replace("hosted_vllm/Qwen3 }", "hosted_vllm/Qwen3 }, model_info: { id: 7 }");
    let text = format!("{text}router_settings: {{ fallbacks: [{{ cloud-kimi: [\"7\"] }}] }}\n");
    let config = checked(&text, LoadedBy::Mock);
    assert!(config.findings.0.is_empty(), "{}", config.findings);
}

#[test]
fn groups_are_looked_up_wherever_they_are_named() {
    let text = format!(
        "{MODELS}router_settings:\n  model_group_alias: {{ a: nobody, b: {{ model: nobody, hidden: true }}, c: cloud-kimi }}\n  \
         model_group_retry_policy: {{ nobody: {{ TimeoutErrorRetries: 1 }}, vllm-qwen: {{ TimeoutErrorRetries: 1 }} }}\n"
    );
    let findings = checked(&text, LoadedBy::Any).findings;
    let unknown = findings.0.iter().filter(|problem| problem.message == "unknown group `nobody`").count();
    assert_eq!((unknown, findings.0.len()), (3, 3), "{findings}");
}

#[test]
fn a_star_is_every_group_before_a_list_and_the_name_of_one_in_it() {
    let with = |list: &str| format!("{MODELS}router_settings: {{ fallbacks: [{{ {list} }}] }}\n");
    let config = checked(&with("'*': [vllm-qwen]"), LoadedBy::Mock);
    assert!(config.findings.0.is_empty(), "{}", config.findings);
    let findings = checked(&with("cloud-kimi: ['*']"), LoadedBy::Mock).findings;
    assert_eq!(findings.0.len(), 1, "{findings}");
    assert_eq!(findings.0[0].message, "unknown group `*`", "{findings}");
}

#[test]
fn fallbacks_without_a_circle_are_right() {
    let chains = "
router_settings:
  fallbacks:
    - cloud-kimi: [cloud-minimax, vllm-qwen, ollama-qwen]
    - cloud-minimax: [vllm-qwen, ollama-qwen]
    - vllm-qwen: [ollama-qwen]
    - \"*\": [ollama-qwen]
  default_fallbacks: [vllm-qwen]
";
    let config = checked(&format!("{MODELS}{chains}"), LoadedBy::Mock);
    assert!(config.findings.0.is_empty(), "{}", config.findings);
    let text =
        format!("{MODELS}{}", chains.replace("- vllm-qwen: [ollama-qwen]", "- vllm-qwen: [cloud-kimi]"));
    let findings = checked(&text, LoadedBy::Mock).findings;
    let circles = findings.0.iter().filter(|problem| problem.message.contains("circle")).count();
    assert_eq!((circles, findings.0.len()), (1, 1), "one way back, one problem: {findings}");
}

#[test]
fn without_an_environment_only_the_file_itself_is_checked() {
    let text = "model_list: [{ model_name: any, litellm_params: { model: ollama_chat/a } }]\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    fs::write(&path, text).unwrap();
    assert_eq!(ConfigSource::read(&path).unwrap().value["model_list"][0]["model_name"], "any");
    fs::write(&path, text.replace("ollama_chat/a", "7")).unwrap();
    assert_eq!(ConfigSource::read(&path).unwrap_err().0[0].line, Some(1));
}

#[test]
fn secrets_are_shown_in_no_message_and_with_no_problem_of_their_own() {
    for secret in [
        "general_settings: { master_key: 01234567 }",
        "environment_variables: { A: 12:34:56 }",
        "environment_variables:\n  A: 01234567\n  A: hunter2",
        "environment_variables:\n  A: !hunter2",
        "environment_variables:\n  A: !ENV hunter2",
        "general_settings:\n  database_password: *hunter2",
        "general_settings:\n  database_password: ,hunter2",
        "general_settings:\n  database_password: }hunter2",
    ] {
        let findings = checked(&format!("{MODELS}{secret}\n"), LoadedBy::Mock).findings;
        let shown = format!("{findings:?}{}", findings.render(Style::Plain));
        for part in ["hunter2", "01234567", "342391", "12:34:56", "45296"] {
            assert!(!shown.contains(part), "{part} of {secret} in {shown}");
        }
    }
}

#[test]
fn secrets_are_shown_with_no_problem_of_their_line() {
    let text = "\
model_list:
  - { model_name: cloud-kimi, litellm_params: { timeout: -1, api_key: hunter2, model: 5 } }
  - { litellm_params: { extra_headers: { x: [hunter2] }, model: nowhere/x } }
general_settings: { database_url: 'postgres://u:hunter2@h/d', max_parallel_requests: hunter2, master_key: hunter2 }
environment_variables: { A: hunter2, B: hunter2 }
";
    let findings = checked(text, LoadedBy::Mock).findings;
    assert!(findings.0.len() >= 4, "{findings}");
    for shown in [findings.render(Style::Plain), findings.to_string(), format!("{findings:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

/// A value as somebody may write it, right or wrong.
fn any_value() -> impl Strategy<Value = String> {
    let scalar = prop::sample::select(vec![
        "0",
        "1",
        "3",
        "-1",
        "1.5",
        "2.5",
        "1001",
        "100000",
        "1e3",
        "1.0e+10",
        ".inf",
        "5s",
        "300ms",
        "true",
        "no",
        "on",
        "~",
        "''",
        "'7'",
        "abc",
        "ollama_chat/x",
        "openai/x",
        "/",
        "x/",
        "cloud-kimi",
        "vllm-qwen",
        "gone",
        "os.environ/PATH",
        "os.environ/NO_SUCH_VARIABLE",
        "'*'",
    ]);
    let scalar = scalar.prop_map(str::to_owned);
    scalar.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map(
                prop::sample::select(vec![
                    "cloud-kimi",
                    "vllm-qwen",
                    "TimeoutErrorRetries",
                    "RateLimitErrorAllowedFails",
                    "DefaultRetries",
                    "x",
                ]),
                inner,
                0..3
            )
            .prop_map(|entries| {
                let pairs: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{ {} }}", pairs.join(", "))
            }),
        ]
    })
}

fn has_no_place(problem: &Problem) -> bool {
    problem.line.is_none() || problem.message.contains("the mock gateway cannot use this")
}

proptest! {
    /// What the mock gateway refuses has been said in the words of this check, at its place.
    #[test]
    fn nothing_is_left_for_the_gateway_to_refuse(
        settings in prop::collection::btree_map(
            prop::sample::select(vec![
                "num_retries", "timeout", "stream_timeout", "retry_after", "allowed_fails", "cooldown_time",
                "max_fallbacks", "disable_cooldowns", "retry_policy", "allowed_fails_policy",
                "model_group_retry_policy", "fallbacks", "default_fallbacks", "enable_weighted_failover",
            ]),
            any_value(),
            0..3,
        ),
        params in prop::collection::btree_map(
            prop::sample::select(vec![
                "timeout", "stream_timeout", "request_timeout", "num_retries", "max_retries", "weight", "order",
                "cooldown_time", "custom_llm_provider", "api_base", "api_key", "model",
            ]),
            any_value(),
            0..3,
        ),
        info in prop::collection::btree_map(
            prop::sample::select(vec!["id", "allowed_fails", "allowed_fails_policy", "cooldown_time"]),
            any_value(),
            0..2,
        ),
        litellm in prop::collection::btree_map(
            prop::sample::select(vec![
                "num_retries", "request_timeout", "fallbacks", "default_fallbacks", "drop_params",
            ]),
            any_value(),
            0..2,
        ),
        chain in prop::option::of(any_value()),
    ) {
        let pairs = |entries: &std::collections::BTreeMap<&str, String>| {
            entries.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
        };
        let model = if params.contains_key("model") { "" } else { "model: ollama_chat/kimi, " };
        let mut router = settings.clone();
        if let Some(chain) = chain {
            router.insert("fallbacks", format!("[{{ cloud-kimi: {chain} }}]"));
        }
        let entry = format!(
            "{{ model_name: cloud-kimi, litellm_params: {{ {model}{} }}, model_info: {{ {} }} }}",
            pairs(&params), pairs(&info)
        );
        let text = format!(
            "{}router_settings: {{ {} }}\nlitellm_settings: {{ {} }}\n",
            MODELS.replace("{ model_name: cloud-kimi, litellm_params: { model: ollama_chat/kimi-k2.5 } }", &entry),
            pairs(&router), pairs(&litellm),
        );
        let findings = checked(&text, LoadedBy::Mock).findings;
        prop_assert!(!findings.0.iter().any(has_no_place), "{}\n{}", text, findings);
    }
}
