//! What the optional Roles allow is what is asked for where they are deployed: no more, and no less.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Component;
use std::process::Stdio;
use std::time::Duration;

use mocks::kubernetes::kubelet::Workload;
use mocks::kubernetes::openclaw::Openclaw;
use mocks::kubernetes::resources::{CONFIG_MAPS, DEPLOYMENTS, PODS, SERVICES};
use mocks::kubernetes::store::{ObjectKey, Writer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::allowed::assert_role_used;
use crate::apply::{self, DRILL, EXAMPLE, SWEEPER};
use crate::house::{CLOUD_AND_GPU_DOWN, CLOUD_PORT, House, SWEEP_EVERY, environment, lines};

const LIMIT: Duration = Duration::from_secs(60);

/// The example with what is optional beside its base, as a person would name it in the overlay.
fn overlay() -> TempDir {
    let dir = TempDir::new_in(apply::root().join("target")).unwrap();
    let up = dir.path().strip_prefix(apply::root()).unwrap().components();
    let up: String = up.filter(|part| matches!(part, Component::Normal(_))).map(|_| "../").collect();
    let kustomization = |namespace: &str, resources: &[String]| {
        let resources: String = resources.iter().map(|resource| format!("  - {resource}\n")).collect();
        format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n{namespace}resources:\n{resources}"
        )
    };
    let optional = ["netns-drop", "egress-proxy", "nodes"];
    let mut in_ml = vec![format!("../{up}{EXAMPLE}/ml")];
    in_ml.extend(optional.map(|name| format!("../{up}deploy/optional/{name}")));
    std::fs::create_dir(dir.path().join("ml")).unwrap();
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    write("ml/kustomization.yaml", kustomization("namespace: ml\n", &in_ml));
    write("kustomization.yaml", kustomization("", &["ml".to_owned(), format!("{up}{EXAMPLE}/apps")]));
    dir
}

/// A house with that in it, whose cloud is taken down by this mechanism.
async fn house(mechanism: &str) -> House {
    let house = House::without_image(SWEEP_EVERY).await;
    let overlay = overlay();
    let folder = overlay.path().strip_prefix(apply::root()).unwrap();
    house.deploy_folder(folder.to_str().unwrap(), CLOUD_AND_GPU_DOWN).await;
    house.until_swept().await;
    let other = |text: &str| text.replace("network-policy", mechanism);
    house.write("environment.yaml", &other(&environment("context: mock")));
    // A run asks whether the sweeper restores in the same.
    let store = house.cluster().store();
    for map in store.list(&CONFIG_MAPS, Some("ml")).items {
        let name = map["metadata"]["name"].as_str().unwrap();
        if let Some(text) = map["data"]["environment.yaml"].as_str() {
            let told = store.update(
                &ObjectKey::new(&CONFIG_MAPS, "ml", name),
                Writer::of_object("kubectl"),
                |object| {
                    object["data"]["environment.yaml"] = json!(other(text));
                    Ok(())
                },
            );
            told.unwrap();
        }
    }
    house.write("short.yaml", CLOUD_AND_GPU_DOWN);
    house
}

/// The drill takes the cloud down and is killed; then the sweeper restores. Each from outside, as its account.
async fn drilled_and_swept(house: &House, is_made: impl AsyncFn() -> bool) {
    let mut drill = house.start_harness(DRILL, &["run", "short.yaml", "--out", "out"]);
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let made = async {
        while !is_made().await {
            if let Some(status) = drill.try_wait().unwrap() {
                panic!("it ended with {status}: {}", house.said());
            }
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), made).await.expect("the fault is made");
    drill.kill().await.unwrap();
    let swept = house.harness(SWEEPER, &["restore", "--abandoned"]).await;
    assert_eq!(swept.status.code(), Some(0), "{}", lines(&swept));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_for_a_packet_filter_is_used_and_suffices() {
    let house = house("netns-drop").await;
    let filtered = |house: &House| {
        let pods = house.cluster().store().list(&PODS, Some("ml")).items;
        let statuses = pods.iter().flat_map(|pod| {
            pod["status"]["ephemeralContainerStatuses"].as_array().cloned().unwrap_or_default()
        });
        statuses.count()
    };
    drilled_and_swept(&house, async || filtered(&house) == 1).await;
    house.until("the filter is lifted", |_| (filtered(&house) == 2).then_some(())).await;
    for account in [DRILL, SWEEPER] {
        assert_role_used(&house, account, "failover-harness-netns-drop", &[]);
    }
    assert_role_used(&house, DRILL, "failover-harness-nodes", &[]);
    house.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_for_openclaw_is_used_and_suffices() {
    let house = House::without_image(SWEEP_EVERY).await;
    let dir = TempDir::new_in(apply::root().join("target")).unwrap();
    let folder = dir.path().strip_prefix(apply::root()).unwrap();
    let up: String = folder.components().map(|_| "../").collect();
    let resources = format!("[{up}{EXAMPLE}, ./apps]");
    let kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    std::fs::create_dir(dir.path().join("apps")).unwrap();
    write("kustomization.yaml", format!("{kustomization}resources: {resources}\n"));
    let optional = format!("{kustomization}namespace: apps\nresources: [../{up}deploy/optional/openclaw]\n");
    write("apps/kustomization.yaml", optional);
    house.deploy_folder(folder.to_str().unwrap(), CLOUD_AND_GPU_DOWN).await;
    house.until_swept().await;
    let _openclaw = Openclaw::after(&house.household, "http://litellm.ml.svc:4000").await.unwrap();
    let section = "openclaw: { deployment: apps/openclaw, secret: apps/openclaw-secrets }\n";
    house.write("environment.yaml", &format!("{}\n{section}", environment("context: mock")));
    let runs = |house: &House| {
        let pods = house.cluster().store().list(&PODS, Some("apps")).items;
        pods.iter().any(|pod| pod["status"]["phase"] == "Running").then_some(())
    };
    house.until("openclaw runs", |_| runs(&house)).await;
    let doctor = house.harness(DRILL, &["doctor"]).await;
    let said = lines(&doctor);
    assert!(said.contains("FR222: every fact that was looked at holds"), "{said}");
    // One verb a request is written down: see what is spared of the drill.
    assert_role_used(&house, DRILL, "failover-harness-openclaw", &[("create", "pods/exec")]);
    house.strike().await;
}

/// A `harness gate` behind a Deployment and a Service of the cluster.
struct Gate {
    child: Child,
    control: SocketAddr,
}

impl Gate {
    async fn start(house: &House) -> Self {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let kubelet = house.household.plane().kubelet();
        kubelet.add_workload(Workload {
            namespace: "ml".into(),
            deployment: "egress-gate".into(),
            backing: nobody,
            ready_after: None,
        });
        let container = json!({
            "name": "gate", "image": "gate", "ports": [{ "name": "control", "containerPort": 9099 }],
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
        let service = json!({
            "metadata": { "name": "egress-gate" },
            "spec": { "clusterIP": "None", "selector": labels, "ports": [{ "port": CLOUD_PORT }] },
        });
        let store = house.cluster().store();
        store.create(&DEPLOYMENTS, "ml", deployment, Writer::of_object("kubectl")).unwrap();
        store.create(&SERVICES, "ml", service, Writer::of_object("kubectl")).unwrap();
        house.household.ready(LIMIT).await.unwrap();
        let plane = house.household.plane();
        let pod: Ipv4Addr = house
            .until("the gate's pod is ready", |_| plane.resolve("ml", "egress-gate").first().copied())
            .await;
        let cloud = plane.network().host("ollama.com")[0];
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        let listen = format!("{pod}:{CLOUD_PORT}");
        command.args(["gate", "--listen", &listen, "--to", &format!("{cloud}:{CLOUD_PORT}")]);
        command.args(["--control", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let control: SocketAddr = said["control"].as_str().unwrap().parse().unwrap();
        assert!(kubelet.set_backing("ml", "egress-gate", control));
        Self { child, control }
    }

    /// Whether it lets no byte through.
    async fn is_silent(&self) -> bool {
        let mut stream = TcpStream::connect(self.control).await.unwrap();
        let request = "GET /fault HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.contains("\"blackhole\"")
    }

    async fn end(mut self) {
        self.child.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_for_a_gate_is_used_and_suffices() {
    let house = house("egress-proxy }\n    proxy: { service: ml/egress-gate").await;
    let gate = Gate::start(&house).await;
    let text = std::fs::read_to_string(house.path("environment.yaml")).unwrap();
    house.write("environment.yaml", &text.replace("http://ollama.com", "http://egress-gate.ml"));
    drilled_and_swept(&house, async || gate.is_silent().await).await;
    assert!(!gate.is_silent().await, "the sweeper lets it pass");
    for account in [DRILL, SWEEPER] {
        // The mock checks it with `get`, as servers since 1.35 do, and writes down one verb a request.
        let spared = [("create", "pods/portforward")];
        assert_role_used(&house, account, "failover-harness-egress-proxy", &spared);
    }
    gate.end().await;
    house.strike().await;
}

/// What was left out of the overlay is what the accounts cannot do.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_role_for_a_packet_filter_a_run_is_refused() {
    let house = House::without_image(SWEEP_EVERY).await;
    house.deploy(CLOUD_AND_GPU_DOWN).await;
    house.until_swept().await;
    house.write("environment.yaml", &environment("context: mock").replace("network-policy", "netns-drop"));
    house.write("short.yaml", CLOUD_AND_GPU_DOWN);
    let refused = house.harness(DRILL, &["run", "short.yaml", "--out", "out"]).await;
    let told = lines(&refused);
    assert_eq!(refused.status.code(), Some(3), "{told}");
    assert!(told.contains("may not patch pods/ephemeralcontainers in ml"), "{told}");
    let maps = house.cluster().store().list(&CONFIG_MAPS, Some("ml")).items;
    assert!(maps.iter().all(|map| map["data"]["record.json"].is_null()), "nothing was begun");
    house.strike().await;
}
