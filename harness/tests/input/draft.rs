//! The environment file that is drafted from the objects of a cluster: what is found is right, and what is not found is
//! left to a person so that `check` refuses it.

use std::collections::{BTreeMap, BTreeSet};

use harness::draft::{Found, draft};
use harness::environment::{Environment, ObjectName};
use harness::input;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "\
model_list:
  - { model_name: cloud-kimi, litellm_params: { model: ollama_chat/kimi-k2.5, api_base: os.environ/CLOUD, api_key: sk-of-the-cloud } }
  - { model_name: cloud-minimax, litellm_params: { model: ollama_chat/minimax, api_base: os.environ/CLOUD } }
  - { model_name: cloud-qwen3-coder, litellm_params: { model: ollama_chat/qwen3-coder, api_base: \"https://user:hunter2@ollama.com/api\" } }
  - { model_name: vllm-qwen, litellm_params: { model: hosted_vllm/Qwen3, api_base: \"http://vllm.ml.svc.cluster.local:8000/v1\" } }
  - { model_name: ollama-qwen, litellm_params: { model: ollama_chat/phi, api_base: \"http://ollama-api:11434\" } }
router_settings: { fallbacks: [ cloud-kimi: [cloud-minimax, vllm-qwen, ollama-qwen] ] }
general_settings: { master_key: os.environ/LITELLM_MASTER_KEY }
";

const DRAFTED: &str = r#"environment: home
kubernetes: { context: home, namespaces: [ml] }

gateway:
  service: ml/litellm
  port: 4000
  pods: "app=litellm"
  key: { secret: ml/litellm-keys, field: master }

components:
  cloud:
    aliases: [cloud-kimi, cloud-minimax, cloud-qwen3-coder]
    endpoint: "https://ollama.com"
    down: { blackhole: network-policy }
    # DECIDE: what one run may ask of it, where it costs something
    ceilings: { requests: 2000, tokens: 200000, rate: 20/s }
  vllm:
    aliases: [vllm-qwen]
    # DECIDE: Deployment ml/vllm is not marked as a target. If it may be one: kubectl --context home -n ml label deployment vllm failover-harness/target=true
    deployment: ml/vllm
    down: scale-to-zero
    # DECIDE: how long it may take from its start to its first completion
    ready_within: 15m
  ollama:
    aliases: [ollama-qwen]
    deployment: ml/ollama
    service: ml/ollama-api
    port: 11434
    down: scale-to-zero
    # DECIDE: how long it may take from its start to its first completion
    ready_within: 5m

routes:
  agent: { model: cloud-kimi, fallbacks: [cloud-minimax, vllm-qwen, ollama-qwen] }
  coder: { model: cloud-qwen3-coder }
"#;

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of the API")
}

fn deployment(name: &str, image: &str, marked: bool, pod: Value) -> Value {
    let labels = if marked { json!({ "failover-harness/target": "true" }) } else { json!({}) };
    let mut object = json!({
        "metadata": { "namespace": "ml", "name": name, "labels": labels },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": pod },
        },
    });
    let container = &mut object["spec"]["template"]["spec"]["containers"][0];
    container["name"] = name.into();
    container["image"] = image.into();
    object
}

fn service(name: &str, app: &str, ports: &[u16]) -> Value {
    let ports: Vec<Value> =
        ports.iter().map(|port| json!({ "name": format!("p{port}"), "port": port })).collect();
    json!({
        "metadata": { "namespace": "ml", "name": name },
        "spec": { "selector": { "app": app }, "ports": ports, "clusterIP": "10.43.0.7" },
    })
}

fn gateway(env: Value) -> Value {
    let pod = json!({
        "containers": [{ "env": env }],
        "volumes": [{ "name": "config", "configMap": { "name": "litellm-config" } }],
    });
    deployment("litellm", "ghcr.io/berriai/litellm:v1.106.2@sha256:00", true, pod)
}

fn key() -> Value {
    json!([
        { "name": "LITELLM_MASTER_KEY", "valueFrom": { "secretKeyRef": { "name": "litellm-keys", "key": "master" } } },
        { "name": "CLOUD", "value": "https://ollama.com" },
    ])
}

/// A household in which everything can be found.
fn home() -> Found {
    let one = || json!({ "containers": [{}] });
    Found {
        context: "home".to_owned(),
        deployments: vec![
            object(gateway(key())),
            object(deployment("vllm", "vllm/vllm-openai:v0.11.0", false, one())),
            object(deployment("ollama", "registry:5000/ollama/ollama", true, one())),
            object(deployment("chat", "ghcr.io/open-webui/open-webui:ollama", false, one())),
        ],
        services: vec![
            object(service("litellm", "litellm", &[4000])),
            object(service("vllm", "vllm", &[8000])),
            object(service("ollama-api", "ollama", &[11_434, 9090])),
        ],
        config_maps: vec![object(json!({
            "metadata": { "namespace": "ml", "name": "litellm-config" },
            "data": { "README": "not: [a config", "config.yaml": CONFIG },
        }))],
        ..Found::default()
    }
}

fn with_config(config: &str) -> Found {
    let mut found = home();
    let data = BTreeMap::from([("config.yaml".to_owned(), config.to_owned())]);
    found.config_maps[0].data = Some(data);
    found
}

fn checked(text: &str) -> Result<Environment, String> {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("drafted.yaml");
    std::fs::write(&path, text).expect("a file");
    let loaded = input::load(&[], path.to_str());
    loaded.map(|loaded| loaded.environment).map_err(|problems| problems.to_string())
}

#[test]
fn where_everything_is_found_the_draft_is_right_and_shows_no_secret() {
    let text = draft(&home());
    let body: Vec<&str> = text.lines().skip_while(|line| line.starts_with('#')).collect();
    assert_eq!(body.join("\n") + "\n", DRAFTED);
    checked(&text).expect("check takes it");
    for secret in ["sk-of-the-cloud", "hunter2", "user:"] {
        assert!(!text.contains(secret), "{text}");
    }
}

/// A change of the household, what its draft says then, and whether `check` still takes it.
fn case(change: impl Fn(&mut Found), says: &[&str], is_taken: bool) {
    let mut found = home();
    change(&mut found);
    let text = draft(&found);
    for wanted in says {
        assert!(text.contains(wanted), "no {wanted:?}:\n{text}");
    }
    let checked = checked(&text);
    assert_eq!(checked.is_ok(), is_taken, "{checked:?}\n{text}");
}

#[test]
fn a_key_is_found_in_variables_of_all_kinds_and_never_shown() {
    let set = |env: Value| move |found: &mut Found| found.deployments[0] = object(gateway(env.clone()));
    let all = |found: &mut Found| {
        let mut whole = gateway(json!([{ "name": "CLOUD", "value": "https://ollama.com" }]));
        whole["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{ "prefix": "LITELLM_", "secretRef": { "name": "keys" } }]);
        found.deployments[0] = object(whole);
        let fields = BTreeSet::from(["MASTER_KEY".to_owned(), "OTHER".to_owned()]);
        found.secret_fields.insert(ObjectName::new("ml", "keys"), fields);
    };
    case(all, &["key: { secret: ml/keys, field: MASTER_KEY }"], true);
    let plain = json!([{ "name": "LITELLM_MASTER_KEY", "value": "sk-plain" }, { "name": "CLOUD", "value": "https://ollama.com" }]);
    let says =
        ["key: { env: LITELLM_MASTER_KEY }", "DECIDE: where the master key is: the gateway's variable"];
    case(set(plain.clone()), &says, true);
    let mut found = home();
    found.deployments[0] = object(gateway(plain));
    assert!(!draft(&found).contains("sk-plain"));
    case(
        set(json!([{ "name": "CLOUD", "value": "https://ollama.com" }])),
        &["has no variable LITELLM_MASTER_KEY"],
        true,
    );
    let text = draft(&with_config(&CONFIG.replace("os.environ/LITELLM_MASTER_KEY", "sk-written")));
    assert!(
        text.contains("it is written in the configuration itself") && !text.contains("sk-written"),
        "{text}"
    );
}

#[test]
fn what_is_not_found_is_left_to_a_person() {
    case(|found| found.deployments.clear(), &["nothing here looks like LiteLLM", "NAMESPACE/SERVICE"], false);
    case(|found| found.config_maps.clear(), &["no ConfigMap of the gateway holds", "aliases: []"], false);
    case(
        |found| drop(found.services.remove(1)),
        &[
            "which component serves vllm-qwen: there is no Service ml/vllm",
            "Deployment ml/vllm looks like a backend",
        ],
        false,
    );
    case(|found| drop(found.services.remove(0)), &["no Service leads to Deployment ml/litellm"], false);
    case(
        |found| found.unread.push("cannot get configmaps ml/x: 403\nForbidden".to_owned()),
        &[
            "# DECIDE: this could not be read, so what follows may lack something: cannot get configmaps ml/x: 403 Forbidden",
        ],
        true,
    );
    case(
        |found| {
            found.deployments[0].metadata.labels = None;
            found.deployments[2].spec.as_mut().unwrap().replicas = Some(0);
        },
        &["label deployment litellm failover-harness/target=true", "it is at 0 pods"],
        true,
    );
    case(
        |found| {
            let mut more = service("proxy", "litellm", &[80]);
            more["spec"]["clusterIP"] = Value::Null;
            found.services.push(object(more));
        },
        &["which way callers take; there are also ml/proxy port 80", "service: ml/litellm\n"],
        true,
    );
}

#[test]
fn a_gateway_is_known_by_its_name_and_port_where_its_image_is_anybodys() {
    let named = |name: &str, port: u16| {
        let pod = json!({ "containers": [{ "ports": [{ "containerPort": port }] }] });
        let mut found = Found { context: "home".to_owned(), ..Found::default() };
        found.deployments.push(object(deployment(name, "registry/own:1", true, pod)));
        !draft(&found).contains("nothing here looks like LiteLLM")
    };
    assert!(named("litellm", 4000) && named("my-litellm", 4000));
    assert!(!named("litellm-postgres", 5432) && !named("gateway", 4000));
}

#[test]
fn aliases_that_are_nowhere_and_routes_that_are_many() {
    let config = "\
model_list:
  - { model_name: a, litellm_params: { model: openai/a } }
  - { model_name: b, litellm_params: { model: openai/b, api_base: \"https://one.example:8443/v1\" } }
  - { model_name: b, litellm_params: { model: openai/b, api_base: \"https://two.example/v1\" } }
  - { model_name: 'c c', litellm_params: { model: openai/b, api_base: \"https://two.example/v1\" } }
  - { model_name: \"yes\", litellm_params: { model: openai/b, api_base: \"https://two.example/v1\" } }
  - { model_name: d, litellm_params: { model: openai/b, api_base: \"sk-not-a-url\" } }
  - { model_name: e, litellm_params: { model: openai/b, api_base: \"http://10.43.0.7:8000/v1\" } }
  - { model_name: f, litellm_params: { model: openai/b, api_base: \"http://127.0.0.1:8000/v1\" } }
litellm_settings: { default_fallbacks: [b] }
";
    let text = draft(&with_config(config));
    for wanted in [
        "serves a: the configuration does not say where it is",
        "serves b: it has models in several places, of which only cloud is named",
        "serves \"c c\": it is a pattern, or no one word",
        "serves d: its `api_base` is no URL",
        "endpoint: \"https://one.example:8443\"",
        "serves f: it is in the gateway's own pod (127.0.0.1)",
        "  cloud-2:\n    # DECIDE: the scenarios that are built in",
        "aliases: [\"yes\"]",
        "  agent: { model: a, fallbacks: [b] }",
        "the scenarios that are built in ask for the routes `agent` and `coder`",
    ] {
        assert!(text.contains(wanted), "no {wanted:?}:\n{text}");
    }
    assert!(!text.contains("sk-not-a-url"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_configuration_panics(text in "(model_list:\\n)?[ -~\\n]{0,200}", alias in "\\PC{0,20}", base in "\\PC{0,30}") {
        let _ = draft(&with_config(&text));
        let config = json!({ "model_list": [{ "model_name": alias, "litellm_params": { "api_base": base } }] });
        let _ = draft(&with_config(&config.to_string()));
    }

    /// What stands in a cluster cannot add a line to the file.
    #[test]
    fn names_stay_where_they_are(context in "\\PC{1,20}|[a-z\\n:#'\"\\\\{}]{1,12}", alias in "[a-z\\n:#'\"\\\\{},\\[\\]]{1,12}") {
        let mut found = with_config(&CONFIG.replace("model_name: cloud-kimi", &format!("model_name: {}", json!(alias))));
        found.context = context;
        let text = draft(&found);
        let usual = |line: &str| {
            let line = line.trim_start();
            line.is_empty() || line.starts_with('#')
                || line.split_once(':').is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b)))
        };
        prop_assert!(text.lines().all(usual), "{text}");
    }
}
