//! A cluster whose gateway reaches the cloud through a gate: a process of its own, at the address of its pod.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use mocks::fault::Standing;
use mocks::gate::GateMode;
use mocks::kubernetes::kubelet::Workload;
use mocks::kubernetes::resources::{DEPLOYMENTS, SERVICES};
use mocks::kubernetes::store::Writer;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::stack::{Stack, Staging};

/// Deployment and Service of the gate.
pub(crate) const GATE: &str = "egress-gate";
const PORT: u16 = 8443;
const LIMIT: Duration = Duration::from_secs(60);

/// A `harness gate` that runs.
pub(crate) struct Gate {
    child: Child,
    control: SocketAddr,
}

impl Gate {
    /// Listens at the pod's address, before the cloud.
    pub(crate) async fn start(stack: &Stack, pod: Ipv4Addr) -> Self {
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
        assert!(stack.household.plane().kubelet().set_backing("ml", GATE, control));
        Self { child, control }
    }

    /// One request to its control.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
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
        deployment: GATE.into(),
        backing: nobody,
        ready_after: None,
    });
    let store = stack.household.cluster().store();
    // Only the control's port is the mock's to listen at: the gate itself listens at the other.
    let container = json!({
        "name": "gate", "image": "harness", "ports": [{ "name": "control", "containerPort": 9099 }],
    });
    let labels = json!({ "app": GATE });
    let deployment = json!({
        "metadata": { "name": GATE, "labels": { "failover-harness/target": "true" } },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } },
        },
    });
    // Without an address of its own, its name means its pods: nothing of the mock is in between.
    let service = json!({
        "metadata": { "name": GATE },
        "spec": { "clusterIP": "None", "selector": labels, "ports": [{ "port": PORT }] },
    });
    store.create(&DEPLOYMENTS, "ml", deployment, Writer::of_object("kubectl")).unwrap();
    store.create(&SERVICES, "ml", service, Writer::of_object("kubectl")).unwrap();
    stack.household.ready(LIMIT).await.unwrap();
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let resolved = async {
        loop {
            if let Some(ip) = stack.household.plane().resolve("ml", GATE).first() {
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
