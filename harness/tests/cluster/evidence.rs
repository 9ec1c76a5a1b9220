//! What is seen, and what it is worth.

use std::time::Duration;

use mocks::gateway::Secret;
use mocks::kubernetes::api::{Rule, User};
use mocks::kubernetes::network::Cni;
use mocks::kubernetes::resources::{DEPLOYMENTS, PODS};
use mocks::kubernetes::store::{ObjectKey, Writer};

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

/// Without anybody in the gateway's pods all that is known of an isolated backend is the policy, which says nothing of
/// what the gateway still has open to it.
#[tokio::test(flavor = "multi_thread")]
async fn without_exec_an_isolated_backend_leaves_all_open() {
    let stack = Stack::start(Staging { user: Some(without_exec()), ..Staging::default() }).await;
    stack.edit("deployment: ml/vllm, down: scale-to-zero", "deployment: ml/vllm, down: isolate");
    let body =
        CLOUD_DOWN.replace("cloud: down", "vllm: down").replace("vllm-qwen, within", "cloud-kimi, within");
    let file = stack.scenario("gpu-down", &body);
    let ended = stack.harness("run", &[file]).end().await.expect(3);
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"inconclusive".into(), &true.into()));
    assert!(ended.report.contains("the evidence is weak"), "{}\n{}", ended.stderr, ended.report);
    let fault = &ended.result["scenarios"][0]["faults"][0];
    assert!(fault["evidence"].to_string().contains("objects"), "{fault}");
    assert!(fault["seen_as"].is_null(), "nobody felt it: {fault}");
    for id in ["FR217", "NFR123", "NFR125"] {
        assert_eq!(requirement(&ended, id), "inconclusive", "{}", ended.reasons());
    }
    stack.assert_clean();
    stack.strike().await;
}

/// Requests reach a pod of the gateway as soon as it is ready, and nobody looks from one that was not when probers were
/// started.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_gateway_that_is_ready_late_leaves_the_time_open() {
    let stack = Stack::start(Staging::default()).await;
    let plane = stack.household.plane();
    let pods = || stack.household.cluster().store().list(&PODS, Some("ml")).items;
    let known: Vec<String> = pods().iter().map(|pod| pod["metadata"]["name"].to_string()).collect();
    assert!(plane.kubelet().set_ready_after("ml", "litellm", Duration::from_secs(3600)));
    stack.change(&DEPLOYMENTS, "ml", "litellm", |object| object["spec"]["replicas"] = 2.into());
    let late = || {
        let is_late = |pod: &serde_json::Value| {
            let is_new = !known.contains(&pod["metadata"]["name"].to_string());
            is_new && pod["metadata"]["labels"]["app"] == "litellm" && pod["status"]["phase"] == "Running"
        };
        pods().into_iter().find(|pod| is_late(pod))
    };
    stack.eventually("another pod of the gateway", Duration::from_secs(30), |_| late().is_some()).await;
    let name = late().unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    let pod = ObjectKey::new(&PODS, "ml", &name);
    let ready = stack.household.cluster().store().update(&pod, Writer::of_status("kubelet"), |pod| {
        let conditions = pod["status"]["conditions"].as_array_mut().unwrap();
        conditions.iter_mut().for_each(|condition| condition["status"] = "True".into());
        Ok(())
    });
    ready.unwrap();
    let ended = running.end().await.expect(3);
    let why = format!("nobody looks from ml/{name}, which was not ready when the mode began");
    assert!(ended.reasons().contains(&why), "{}", ended.reasons());
    assert_eq!(requirement(&ended, "NFR123"), "inconclusive");
    assert_eq!(requirement(&ended, "FR217"), "pass", "what was answered is known: {}", ended.reasons());
    stack.assert_clean();
    stack.strike().await;
}
