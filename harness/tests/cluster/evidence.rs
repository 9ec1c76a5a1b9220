//! What is seen, and what it is worth.

use mocks::gateway::Secret;
use mocks::kubernetes::api::{Rule, User};
use mocks::kubernetes::network::Cni;

use crate::stack::{CLOUD_AND_GPU_DOWN, CLOUD_DOWN, Stack, Staging};

pub(crate) fn requirement(ended: &crate::child::Ended, id: &str) -> String {
    let all = ended.result["scenarios"][0]["requirements"].as_array().unwrap();
    let found = all.iter().find(|one| one["id"] == id).unwrap();
    found["verdict"].as_str().unwrap().to_owned()
}

/// These verbs of these resources, in every namespace.
pub(crate) fn rule(resources: &[&str], verbs: &[&str]) -> Rule {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Rule {
        namespaces: Vec::new(),
        groups: texts(&["*"]),
        resources: texts(resources),
        names: Vec::new(),
        verbs: texts(verbs),
    }
}

/// May do all that a run needs, but for looking from inside the gateway's pods.
pub(crate) fn without_exec() -> User {
    User {
        name: "without-exec".to_owned(),
        token: Secret::new("token-of-one-without-exec"),
        rules: vec![
            rule(&["*"], &["get", "list", "watch"]),
            rule(
                &["networkpolicies", "jobs", "pods/portforward", "selfsubjectaccessreviews"],
                &["get", "create", "delete"],
            ),
            rule(&["deployments/scale"], &["get", "patch"]),
            rule(&["leases", "configmaps"], &["create", "update", "delete"]),
        ],
    }
}

/// The cloud is cut off, and nobody can look from where that is felt.
pub(crate) async fn cloud_down_that_nobody_sees() {
    let stack = Stack::start(Staging { user: Some(without_exec()), ..Staging::default() }).await;
    // No name that would be looked up from here.
    let cloud = stack.household.plane().network().host("ollama.com")[0];
    stack.edit("http://ollama.com", &format!("http://{cloud}"));
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(3);
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"inconclusive".into(), &true.into()));
    assert_eq!(requirement(&ended, "NFR123"), "inconclusive", "{}", ended.reasons());
    assert!(ended.reasons().contains("or nobody can count them"), "{}", ended.reasons());
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_exec_the_evidence_is_weak_and_the_time_is_left_open() {
    let stack = Stack::start(Staging { user: Some(without_exec()), ..Staging::default() }).await;
    let body = "\
requirements: [FR217, NFR123, NFR125]
components: { cloud: down, vllm: down }
traffic:
  - { route: agent, rate: 4/s, for: 6s, stream: mixed }
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

/// Where old connections fall silent, too: the probers of two pods on one machine see each other's held ones, and
/// would wait for those to be closed.
#[tokio::test(flavor = "multi_thread")]
async fn several_pods_of_the_gateway_are_judged_by_what_all_of_them_see() {
    let stack = Stack::start(Staging { cni: Cni::Cilium, gateway_replicas: 2, ..Staging::default() }).await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    assert_eq!(requirement(&ended, "NFR123"), "pass");
    let mode = &ended.result["scenarios"][0];
    assert!(mode["answered_by"]["known_by"] == "port-forward", "{mode}");
    let faults = mode["faults"].as_array().unwrap();
    for fault in faults {
        let sources = fault["evidence"].to_string();
        assert!(sources.contains("exec-prober"), "{fault}");
        assert_eq!(fault["held"], true, "{fault}");
    }
    stack.assert_clean();
    stack.strike().await;
}
