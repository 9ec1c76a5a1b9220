//! A run is killed, and a person undoes what it has left with kubectl: by each line of the text that its record holds.

use std::time::Duration;

use mocks::gate::GateMode;
use mocks::kubernetes::controllers::Opponent;
use mocks::kubernetes::resources::{CONFIG_MAPS, KUSTOMIZATIONS, NETWORK_POLICIES, SCALED_OBJECTS};
use mocks::kubernetes::store::ObjectKey;
use rustix::process::Signal;

use crate::gate;
use crate::netns::passes;
use crate::opponents::Switch;
use crate::stack::{CLOUD_AND_GPU_DOWN, CLOUD_DOWN, Stack, Staging};

const LIMIT: Duration = Duration::from_secs(120);

/// Faults are in force, and nobody is left to undo them.
async fn killed(stack: &Stack, scenario: &str, in_force: impl Fn(&Stack) -> bool) {
    let file = stack.scenario("down", scenario);
    let running = stack.harness("run", &[file]);
    stack.eventually("the faults in force", LIMIT, in_force).await;
    running.signal(Signal::KILL);
    assert_eq!(running.end().await.status.code(), None, "by a signal");
}

/// The text, as a person gets it. Nothing of it but its commands does anything.
async fn commands(stack: &Stack) -> Vec<String> {
    let maps = stack.household.cluster().store().list(&CONFIG_MAPS, Some("ml")).items;
    let is_record =
        |labels: &serde_json::Value| labels["app.kubernetes.io/component"].as_str() == Some("record");
    let record = maps.iter().find(|map| is_record(&map["metadata"]["labels"])).expect("there is a record");
    let name = record["metadata"]["name"].as_str().unwrap();
    let begins = "kubectl --kubeconfig kubeconfig --context mock -n ml ";
    let get = format!(r"{begins}get configmap {name} -o jsonpath='{{.data.restore\.txt}}'");
    let text = stack.type_in(&get).await;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    assert!(lines.iter().all(|line| line.starts_with(begins)), "{text}");
    lines
}

/// Types them all. Each of these words is in one of them, in this order, and there is nothing else.
async fn type_all(stack: &Stack, words: &[&str]) {
    let lines = commands(stack).await;
    assert_eq!(lines.len(), words.len(), "{lines:#?}");
    for (line, word) in lines.iter().zip(words) {
        assert!(line.contains(word), "{word}: {lines:#?}");
        stack.type_in(line).await;
    }
}

async fn scaled_and_cut(opponent: Opponent, word: &str, switch: Switch, resumes: &str) {
    let stack = Stack::start(Staging { opponents: vec![opponent], ..Staging::default() }).await;
    stack.edit("components:\n", &format!("opponents: {{ pause: [{word}] }}\ncomponents:\n"));
    killed(&stack, CLOUD_AND_GPU_DOWN, |stack| !passes(stack) && stack.replicas("vllm") == 0).await;
    let key = ObjectKey::new(switch.resource, "ml", switch.name);
    let waits = |stack: &Stack| {
        let object = stack.household.cluster().store().get(&key).unwrap();
        object.pointer(switch.pointer).is_some_and(|value| !value.is_null() && *value != false)
    };
    assert!(waits(&stack), "{word} was told to wait");
    let typed = ["delete networkpolicy drill-", "delete job drill-", "scale deployment/vllm", resumes];
    type_all(&stack, &typed).await;
    assert!(!waits(&stack), "{word} goes on");
    assert_eq!(stack.replicas("vllm"), 1, "{word}");
    stack.eventually("the cloud back", LIMIT, passes).await;
    stack.assert_clean();
    stack.household.ready(LIMIT).await.unwrap();
    stack.strike().await;
}

/// Two NetworkPolicies of which one isolates, and a packet filter.
async fn isolated_and_filtered() {
    let stack = Stack::start(Staging::default()).await;
    stack.blackhole_by("netns-drop");
    stack.edit("deployment: ml/vllm, down: scale-to-zero", "deployment: ml/vllm, down: isolate");
    let isolates = |stack: &Stack| {
        !stack.household.cluster().store().list(&NETWORK_POLICIES, Some("ml")).items.is_empty()
    };
    killed(&stack, CLOUD_AND_GPU_DOWN, |stack| isolates(stack) && !passes(stack)).await;
    let typed = ["debug litellm-", "delete networkpolicy drill-", "delete job drill-"];
    type_all(&stack, &typed).await;
    stack.eventually("the cloud back", LIMIT, passes).await;
    stack.assert_clean();
    assert_eq!(stack.replicas("vllm"), 1);
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_that_a_killed_run_leaves_is_typed_and_nothing_is_left() {
    let annotation = "/metadata/annotations/autoscaling.keda.sh~1paused";
    let keda = Switch { resource: &SCALED_OBJECTS, name: "vllm", pointer: annotation };
    let flux = Switch { resource: &KUSTOMIZATIONS, name: "household", pointer: "/spec/suspend" };
    tokio::join!(
        scaled_and_cut(Opponent::Keda, "keda", keda, "annotate scaledobjects.keda.sh/vllm"),
        scaled_and_cut(Opponent::Flux, "flux", flux, "patch kustomizations.kustomize.toolkit.fluxcd.io/"),
        isolated_and_filtered(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_for_a_gate_makes_it_pass() {
    let (stack, gate, _) = gate::staged(Staging::default()).await;
    let file = stack.scenario("down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    running.kill().await;
    assert_eq!(gate.standing().await.now, GateMode::Blackhole);
    let lines = commands(&stack).await;
    let [line] = lines.as_slice() else { panic!("one line: {lines:#?}") };
    assert!(line.contains("port-forward pod/egress-gate-"), "{line}");
    // Somebody else may listen at the port here.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let line = line.replace(" 9099:9099", &format!(" {free}:9099")).replace(":9099/", &format!(":{free}/"));
    stack.type_in(&line).await;
    let standing = gate.standing().await;
    assert_eq!((standing.now, standing.run), (GateMode::Pass, None));
    gate.end().await;
    stack.strike().await;
}
