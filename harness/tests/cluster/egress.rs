//! The cloud is cut off by the gate that the gateway reaches it through: a process of its own, at the address of its pod.

use std::time::Duration;

use harness::cluster::permissions::{needed, needed_to_restore};
use mocks::gate::GateMode;
use mocks::gateway::Secret;
use mocks::kubernetes::api::User;

use crate::evidence::without_exec;
use crate::gate::{Gate, staged};
use crate::stack::{CLOUD_DOWN, Staging, rules};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_before_the_cloud_falls_silent_and_passes_again() {
    let (stack, gate, _) = staged(Staging::default()).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let planned = stack.harness("plan", std::slice::from_ref(&file)).end().await.expect(0);
    assert!(planned.stdout.contains("let no byte through"), "{}", planned.stdout);
    assert!(planned.stdout.contains("port-forward pod/egress-gate-"), "{}", planned.stdout);
    assert_eq!(gate.standing().await.now, GateMode::Pass, "a plan changes nothing");
    let ended = stack.harness("run", &[file]).end().await.expect(0);
    let fault = &ended.result["scenarios"][0]["faults"][0];
    assert_eq!(fault["seen_as"], "no answer to a connect within the hang limit", "{fault}");
    assert_eq!(fault["held"], true, "{fault}");
    assert!(fault["evidence"].to_string().contains("exec-prober"), "{fault}");
    let standing = gate.standing().await;
    assert_eq!((standing.now, standing.run), (GateMode::Pass, None));
    assert_eq!(stack.mutations(), Vec::<String>::new(), "nothing of the cluster is changed");
    gate.end().await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_exec_the_gate_tells_of_its_fault_and_the_evidence_is_weak() {
    let (stack, gate, _) = staged(Staging { user: Some(without_exec()), ..Staging::default() }).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let running = stack.harness("run", &[file]);
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let seen = async {
        while !stack.journal().contains("each gate holds the fault") {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, seen).await.expect("the gate is asked");
    // Nobody can count the gateway's connections, so the mode could only be voided.
    running.signal(rustix::process::Signal::INT);
    let ended = running.end().await.expect(3);
    assert!(ended.report.contains("the evidence is weak"), "{}\n{}", ended.stderr, ended.report);
    assert_eq!(ended.result["restored"], true);
    let standing = gate.standing().await;
    assert_eq!((standing.now, standing.run), (GateMode::Pass, None));
    gate.end().await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_starts_anew_passes_and_voids_the_mode() {
    let (stack, gate, pod) = staged(Staging::default()).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    gate.end().await;
    let gate = Gate::start(&stack, pod).await;
    let ended = running.end().await.expect(3);
    let reasons = ended.reasons();
    assert!(reasons.contains("is as before: somebody undid it"), "{reasons}");
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"inconclusive".into(), &true.into()));
    gate.end().await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_another_run_is_refused_and_stays() {
    let (stack, gate, _) = staged(Staging::default()).await;
    let order = r#"{"run":"another","seconds":600,"to":"blackhole"}"#;
    assert_eq!(gate.ask("PUT", "/fault", order).await.0, 204);
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(3);
    assert!(ended.reasons().contains("set to blackhole by run another"), "{}", ended.reasons());
    assert_eq!(gate.standing().await.run.as_deref(), Some("another"));
    gate.end().await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_goes_past_the_gate_is_refused() {
    let (stack, gate, _) = staged(Staging::default()).await;
    // The name leads to the cloud itself: somebody forgot the way through the gate.
    stack.edit("http://egress-gate.ml:8443", "http://ollama.com:8443");
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let ended = stack.harness("run", &[file]).end().await.expect(3);
    assert!(ended.reasons().contains("which is not Service ml/egress-gate"), "{}", ended.reasons());
    assert_eq!(gate.standing().await.now, GateMode::Pass);
    gate.end().await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_ends_the_fault_of_a_run_that_was_killed() {
    let (stack, gate, _) = staged(Staging::default()).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    let standing = gate.standing().await;
    let run = standing.run.expect("the run's own fault");
    assert!(standing.expires_in_s.unwrap() > 0.0);
    running.kill().await;
    assert_eq!(gate.standing().await.now, GateMode::Blackhole, "nobody has ended it yet");
    // A run's own deadline is minutes away; the same run may ask for an earlier one.
    let order = format!(r#"{{"run":"{run}","seconds":2,"to":"blackhole"}}"#);
    assert_eq!(gate.ask("PUT", "/fault", &order).await.0, 204);
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let healed = async {
        while gate.standing().await.now != GateMode::Pass {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, healed).await.expect("it ends by itself");
    gate.end().await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweeper_ends_the_fault_of_a_gate_with_the_rights_that_it_asks_for() {
    const USER: &str = "minimal";
    let user = User { name: USER.to_owned(), token: Secret::new("token-of-the-minimal"), rules: Vec::new() };
    let (stack, gate, _) = staged(Staging { user: Some(user), ..Staging::default() }).await;
    let environment = stack.environment();
    let cluster = stack.household.cluster();
    assert!(cluster.set_rules(USER, rules(&needed(&environment))));
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    running.kill().await;
    assert_eq!(gate.standing().await.now, GateMode::Blackhole);
    assert!(cluster.set_rules(USER, rules(&needed_to_restore(&environment))));
    let swept = stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(0);
    let standing = gate.standing().await;
    assert_eq!((standing.now, standing.run), (GateMode::Pass, None), "{}", swept.stdout);
    let refused = cluster.audit().entries().into_iter().filter(|entry| entry.code == 403);
    let refused: Vec<_> = refused.map(|entry| (entry.verb, entry.resource)).collect();
    // Nodes are followed where that is allowed.
    assert!(refused.iter().all(|(_, resource)| resource == "nodes"), "{refused:?}");
    gate.end().await;
    stack.strike().await;
}
