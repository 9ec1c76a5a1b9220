//! What is seen, and what it is worth.

use mocks::gateway::Secret;
use mocks::kubernetes::api::{Rule, User};
use mocks::kubernetes::network::Cni;

use crate::stack::{CLOUD_DOWN, Stack, Staging};

fn requirement(ended: &crate::stack::Ended, id: &str) -> String {
    let all = ended.result["scenarios"][0]["requirements"].as_array().unwrap();
    let found = all.iter().find(|one| one["id"] == id).unwrap();
    found["verdict"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_nobody_enforces_is_no_fault() {
    let stack = Stack::start(Staging { cni: Cni::None, ..Staging::default() }).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    // It is accepted at once and would be waited for in vain.
    running.until_it_says("baseline").await;
    stack.until_policy().await;
    running.interrupt();
    let ended = running.end().await.expect(3);
    assert_eq!(ended.result["restored"], true);
    assert!(
        ended.result["scenarios"][0]["faults"][0]["effective_ms"].is_null(),
        "{}",
        ended.result["scenarios"]
    );
    stack.assert_clean();
    stack.strike().await;
}

/// Calico, where old connections are kept, is tried by the prober's own tests: the mock holds a port closed without an
/// answer by connections of its own, which nobody can tell from the gateway's on one machine.
#[tokio::test(flavor = "multi_thread")]
async fn where_packets_vanish_that_is_what_is_named() {
    let stack = Stack::start(Staging { cni: Cni::Cilium, ..Staging::default() }).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    let seen = ended.result["scenarios"][0]["faults"][0]["seen_as"].as_str().unwrap().to_owned();
    assert_eq!(seen, SILENT, "refused is what k3s shows");
    assert!(ended.report.contains(&seen), "{}", ended.report);
    stack.strike().await;
}

const SILENT: &str = "no answer to a connect within the hang limit";

#[tokio::test(flavor = "multi_thread")]
async fn without_exec_the_evidence_is_weak_and_the_time_is_left_open() {
    let all = |resources: &[&str], verbs: &[&str]| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Rule {
            namespaces: Vec::new(),
            groups: texts(&["*"]),
            resources: texts(resources),
            names: Vec::new(),
            verbs: texts(verbs),
        }
    };
    let user = User {
        name: "without-exec".to_owned(),
        token: Secret::new("token-of-one-without-exec"),
        rules: vec![
            all(&["*"], &["get", "list", "watch"]),
            all(
                &["networkpolicies", "jobs", "pods/portforward", "selfsubjectaccessreviews"],
                &["get", "create", "delete"],
            ),
            all(&["deployments/scale"], &["get", "patch"]),
            all(&["leases", "configmaps"], &["create", "update", "delete"]),
        ],
    };
    let stack = Stack::start(Staging { user: Some(user), ..Staging::default() }).await;
    let body = "\
requirements: [FR217, NFR123, NFR125]
components: { cloud: down, vllm: down }
traffic:
  - { route: agent, rate: 8/s, for: 6s, stream: mixed }
expect:
  agent: { served_by: ollama-qwen, within: 5s, errors: 0 }
";
    let file = stack.scenario("cloud-gpu-down", &body.replace("cloud: down, ", ""));
    // vLLM alone goes, so the primary serves on: what is judged is that nothing changes.
    let text = std::fs::read_to_string(&file).unwrap().replace("ollama-qwen, within", "cloud-kimi, within");
    std::fs::write(&file, text).unwrap();
    let ended = stack.harness("run", &[file]).end().await;
    assert!(ended.report.contains("the evidence is weak"), "{}\n{}", ended.stderr, ended.report);
    let fault = &ended.result["scenarios"][0]["faults"][0];
    assert!(fault["evidence"].to_string().contains("objects"), "{fault}");
    assert_eq!(requirement(&ended, "NFR125"), "pass", "{}", ended.reasons());
    assert_eq!(stack.replicas("vllm"), 1);
    stack.assert_clean();
    stack.strike().await;
}
