//! The cloud is cut off by the gate that the gateway reaches it through: a process of its own, at the address of its pod.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use harness::cluster::permissions::{needed, needed_to_restore};
use mocks::fault::Standing;
use mocks::gate::GateMode;
use mocks::gateway::Secret;
use mocks::kubernetes::api::User;
use mocks::kubernetes::kubelet::Workload;
use mocks::kubernetes::resources::{DEPLOYMENTS, SERVICES};
use mocks::kubernetes::store::Writer;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::evidence::without_exec;
use crate::stack::{CLOUD_DOWN, Stack, Staging, rules};

const PORT: u16 = 8443;
const LIMIT: Duration = Duration::from_secs(60);

/// A `harness gate` that runs.
pub(crate) struct Gate {
    child: Child,
    control: SocketAddr,
}

impl Gate {
    /// Listens at the pod's address, before the cloud.
    async fn start(stack: &Stack, pod: Ipv4Addr) -> Self {
        let cloud = stack.household.plane().network().host("ollama.com")[0];
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.args(["gate", "--listen", &format!("{pod}:{PORT}"), "--to", &format!("{cloud}:{PORT}")]);
        command.args(["--control", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(said["listen"], format!("{pod}:{PORT}"));
        let control: SocketAddr = said["control"].as_str().unwrap().parse().unwrap();
        assert!(stack.household.plane().kubelet().set_backing("ml", "egress-gate", control));
        Self { child, control }
    }

    /// One request to its control.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.control).await.unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n");
        stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    pub(crate) async fn standing(&self) -> Standing<GateMode> {
        serde_json::from_str(&self.ask("GET", "/fault", "").await.1).unwrap()
    }

    pub(crate) async fn end(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A cluster whose gateway reaches the cloud through a gate of its own Deployment.
pub(crate) async fn staged(staging: Staging) -> (Stack, Gate, Ipv4Addr) {
    let mut stack = Stack::start(staging).await;
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    stack.household.plane().kubelet().add_workload(Workload {
        namespace: "ml".into(),
        deployment: "egress-gate".into(),
        backing: nobody,
        ready_after: None,
    });
    let store = stack.household.cluster().store();
    // Only the control's port is the mock's to listen at: the gate itself listens at the other.
    let container = json!({
        "name": "gate", "image": "harness", "ports": [{ "name": "control", "containerPort": 9099 }],
    });
    let labels = json!({ "app": "egress-gate" });
    let deployment = json!({
        "metadata": { "name": "egress-gate", "labels": { "failover-harness/target": "true" } },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } },
        },
    });
    // Without an address of its own, its name means its pods: nothing of the mock is in between.
    let service = json!({
        "metadata": { "name": "egress-gate" },
        "spec": { "clusterIP": "None", "selector": labels, "ports": [{ "port": PORT }] },
    });
    store.create(&DEPLOYMENTS, "ml", deployment, Writer::of_object("kubectl")).unwrap();
    store.create(&SERVICES, "ml", service, Writer::of_object("kubectl")).unwrap();
    stack.household.ready(LIMIT).await.unwrap();
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let resolved = async {
        loop {
            if let Some(ip) = stack.household.plane().resolve("ml", "egress-gate").first() {
                return *ip;
            }
            looks.tick().await;
        }
    };
    let pod = tokio::time::timeout(LIMIT, resolved).await.expect("the gate's pod is ready");
    let gate = Gate::start(&stack, pod).await;
    stack.edit("http://ollama.com:8443", "http://egress-gate.ml:8443");
    stack.edit(
        "{ blackhole: network-policy }",
        "{ blackhole: egress-proxy }\n    proxy: { service: ml/egress-gate }",
    );
    stack.lead_cloud_to(SocketAddr::from((pod, PORT))).await;
    (stack, gate, pod)
}

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
