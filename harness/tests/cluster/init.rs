//! From a cluster to an environment file that fits it.

use std::time::Duration;

use mocks::kubernetes::resources::{CONFIG_MAPS, DEPLOYMENTS, SECRETS};
use mocks::kubernetes::store::Writer;
use serde_json::json;

use crate::stack::{Stack, Staging};

const CONFIG: &str = "\
model_list:
  - { model_name: cloud-kimi, litellm_params: { model: ollama_chat/kimi, api_base: os.environ/CLOUD_API_BASE, api_key: sk-of-the-cloud } }
  - { model_name: cloud-minimax, litellm_params: { model: ollama_chat/minimax, api_base: os.environ/CLOUD_API_BASE } }
  - { model_name: cloud-qwen3-coder, litellm_params: { model: ollama_chat/coder, api_base: os.environ/CLOUD_API_BASE } }
  - { model_name: vllm-qwen, litellm_params: { model: hosted_vllm/Qwen3, api_base: \"http://vllm:8000/v1\" } }
  - { model_name: ollama-qwen, litellm_params: { model: ollama_chat/phi, api_base: \"http://ollama.ml.svc:11434\" } }
router_settings: { fallbacks: [ cloud-kimi: [cloud-minimax, vllm-qwen, ollama-qwen] ] }
";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_drafted_from_a_cluster_fits_it() {
    let stack = Stack::start(Staging::default()).await;
    let store = stack.household.cluster().store();
    let kubectl = || Writer::of_object("kubectl");
    let map = json!({ "metadata": { "name": "litellm-config" }, "data": { "config.yaml": CONFIG } });
    store.create(&CONFIG_MAPS, "ml", map, kubectl()).unwrap();
    let secret = json!({ "metadata": { "name": "litellm" }, "stringData": { "LITELLM_MASTER_KEY": "sk-of-the-mock-cluster" } });
    store.create(&SECRETS, "ml", secret, kubectl()).unwrap();
    stack.change(&DEPLOYMENTS, "ml", "litellm", |object| {
        let pod = &mut object["spec"]["template"]["spec"];
        pod["volumes"] = json!([{ "name": "config", "configMap": { "name": "litellm-config" } }]);
        pod["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "litellm" } }]);
        pod["containers"][0]["env"] =
            json!([{ "name": "CLOUD_API_BASE", "value": "http://ollama.com:8443" }]);
    });
    stack.household.ready(Duration::from_secs(30)).await.unwrap();

    let arguments = ["init", "--context", "mock", "--kubeconfig", "kubeconfig", "--out", "drafted.yaml"];
    stack.command(&arguments).end().await.expect(0);
    let drafted = stack.file("drafted.yaml");
    assert!(drafted.contains("key: { secret: ml/litellm, field: LITELLM_MASTER_KEY }"), "{drafted}");
    assert!(!drafted.contains("sk-"), "a value of a Secret, or a key: {drafted}");
    let entries = stack.household.cluster().audit().entries();
    let ours = entries.iter().filter(|entry| entry.is_mutation()).count();
    assert_eq!(ours, 0, "not even a dry run: {entries:?}");

    stack.command(&["check", "--env", "drafted.yaml"]).end().await.expect(0);
    stack.command(&["doctor", "--env", "drafted.yaml"]).end().await.expect(0);

    let again = stack.command(&arguments).end().await.expect(2);
    assert!(again.stderr.contains("cannot write drafted.yaml"), "{}", again.stderr);
    assert_eq!(stack.file("drafted.yaml"), drafted, "what is there is left");

    let elsewhere = ["init", "--context", "mock", "--kubeconfig", "kubeconfig", "--namespace", "apps"];
    let ended = stack.command(&elsewhere).end().await.expect(0);
    assert!(ended.stdout.contains("nothing here looks like LiteLLM"), "{}", ended.stdout);
    stack.strike().await;
}
