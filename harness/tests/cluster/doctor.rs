//! Whether an environment is fit for a run.

use std::time::Duration;

use mocks::gateway::Secret;
use mocks::kubernetes::api::User;
use mocks::kubernetes::resources::{DEPLOYMENTS, PODS, SECRETS};

use crate::child::Ended;
use crate::evidence::rule;
use crate::stack::{Stack, Staging};

impl Ended {
    /// A line of a list of checks says this of that.
    fn assert_said(&self, standing: &str, what: &str) {
        let said = |line: &str| line.starts_with(&format!("{standing} ")) && line.contains(what);
        assert!(self.stdout.lines().any(said), "no {standing} {what}:\n{}", self.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_environment_is_fit_and_is_left_as_it_was() {
    let stack = Stack::start(Staging::default()).await;
    let ended = stack.harness("doctor", &[]).end().await.expect(0);
    let subjects = ["API", "permissions", "gateway", "key", "models", "evidence", "lock", "dead-man switch"];
    for subject in subjects {
        ended.assert_said("ok", &format!("{subject}: "));
    }
    for component in ["cloud", "vllm", "ollama"] {
        ended.assert_said("ok", &format!("component {component}: it can be taken down"));
        ended.assert_said("ok", &format!("component {component}: the gateway's pods reach it"));
    }
    ended.assert_said("ok", "users: nobody used the gateway for 10 s");
    assert!(ended.stdout.ends_with("the environment test-cluster is fit for a run\n"), "{}", ended.stdout);
    assert_eq!(stack.mutations(), Vec::<String>::new());
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_is_said_with_what_to_do() {
    let stack = Stack::start(Staging::default()).await;
    stack.change(&DEPLOYMENTS, "ml", "vllm", |object| {
        object["metadata"]["labels"] = serde_json::json!({ "app": "vllm" });
    });
    stack.edit("aliases: [ollama-qwen]", "aliases: [ollama-qwen, ollama-other]");
    let ended = stack.harness("doctor", &[]).end().await.expect(3);
    ended.assert_said("problem", "component vllm: Deployment ml/vllm is not marked as a target");
    assert!(
        ended
            .stdout
            .contains("kubectl --context mock -n ml label deployment vllm failover-harness/target=true"),
        "{}",
        ended.stdout
    );
    ended.assert_said("problem", "models: the gateway does not have ollama-other");
    ended.assert_said("ok", "component ollama: it can be taken down");

    stack.change(&SECRETS, "apps", "openclaw-secrets", |object| {
        // "sk-of-nobody"
        object["data"]["LITELLM_MASTER_KEY"] = "c2stb2Ytbm9ib2R5".into();
    });
    let ended = stack.harness("doctor", &[]).end().await.expect(3);
    ended.assert_said("problem", "key: the gateway does not take it");
    assert!(!ended.stdout.contains("sk-of-nobody"), "{}", ended.stdout);

    stack.edit("field: LITELLM_MASTER_KEY", "field: OTHER");
    let ended = stack.harness("doctor", &[]).end().await.expect(3);
    ended.assert_said("problem", "key: cannot get secrets apps/openclaw-secrets");
    ended.assert_said("unknown", "models, evidence, users");

    stack.edit("context: mock", "context: other");
    let ended = stack.harness("doctor", &[]).end().await.expect(3);
    ended.assert_said("problem", "API: the kubeconfig kubeconfig has no context other; it has: mock");
    assert_eq!(stack.mutations(), Vec::<String>::new());
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_are_a_patch_of_the_role() {
    let user = User {
        name: "reader".to_owned(),
        token: Secret::new("token-of-a-reader"),
        rules: vec![
            rule(&["*"], &["get", "list", "watch"]),
            rule(&["selfsubjectaccessreviews", "pods/portforward"], &["create"]),
        ],
    };
    let stack = Stack::start(Staging { user: Some(user), ..Staging::default() }).await;
    let ended = stack.harness("doctor", &[]).end().await.expect(3);
    ended.assert_said("problem", "this user may not patch deployments/scale in ml");
    let rule = r#"resources: ["deployments/scale"], resourceNames: ["vllm"], verbs: ["patch"]"#;
    assert!(ended.stdout.contains(rule), "{}", ended.stdout);
    ended.assert_said("problem", "evidence: ");
    ended.assert_said("ok", "models: ");
    assert!(!ended.stdout.contains("token-of-a-reader") && !ended.stderr.contains("token-of-a-reader"));
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_is_unknown() {
    let stack = Stack::start(Staging::default()).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    stack.lead_kubeconfig_to(&closed);
    let ended = stack.harness("doctor", &[]).end().await.expect(3);
    ended.assert_said("unknown", "API: ");
    ended.assert_said("unknown", "all else: ");
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_on_the_gateway_are_seen_in_its_log() {
    let stack = Stack::start(Staging::default()).await;
    let pods = stack.household.cluster().store().list(&PODS, Some("ml")).items;
    let pod = pods.iter().find(|pod| pod["metadata"]["labels"]["app"] == "litellm").unwrap();
    let line = "INFO:     10.9.9.9:51234 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK";
    let plane = stack.household.plane();
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let calls = async {
        loop {
            ticks.tick().await;
            plane.kubelet().log_line(pod, "litellm", line);
        }
    };
    let ended = tokio::select! {
        ended = stack.harness("doctor", &[]).end() => ended.expect(3),
        () = calls => unreachable!("others go on calling"),
    };
    ended.assert_said("problem", "users: at least");
    assert!(ended.stdout.contains("users: { postpone: 30m }"), "{}", ended.stdout);
    stack.strike().await;
}
