//! The real kubectl against the mock. `FAILOVER_TEST_KUBECTL` names the program; without it, `kubectl` of the path.
//! `FAILOVER_TEST_APPLY_KUBECTL` names a newer one for what an old one cannot do.

use std::process::{Output, Stdio};
use std::time::Duration;

use mocks::kubernetes::cluster::Cluster;
use mocks::kubernetes::resources::{DEPLOYMENTS, EVENTS, NODES, PODS, REPLICA_SETS, SECRETS, SERVICES};
use mocks::kubernetes::store::{ObjectKey, Writer};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::ground::{deployment, mock};

const PATIENCE: Duration = Duration::from_secs(60);

/// The minor version of kubectl that first describes a kind in the version that is served here: older ones ask for one
/// that has been taken away since, or for an older one that the mock has not. Of the others any does.
const DESCRIBED_SINCE: [(&str, u32); 3] =
    [("CronJob", 21), ("HorizontalPodAutoscaler", 23), ("EndpointSlice", 21)];

fn usual() -> String {
    std::env::var("FAILOVER_TEST_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned())
}

struct Kubectl {
    cluster: Cluster,
    home: TempDir,
}

impl Kubectl {
    async fn new() -> Self {
        let cluster = mock().await;
        let home = TempDir::new().unwrap();
        std::fs::write(home.path().join("config"), cluster.kubectl_config().unwrap().to_string()).unwrap();
        Self { cluster, home }
    }

    async fn output(&self, arguments: &str, input: &str) -> Output {
        self.output_of(&usual(), arguments, input).await
    }

    async fn output_of(&self, program: &str, arguments: &str, input: &str) -> Output {
        let mut child = Command::new(program)
            .args(arguments.split_whitespace())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("config"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{program} cannot be started ({error}); install Debian's kubernetes-client or any kubectl"
                )
            });
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("kubectl ends").unwrap()
    }

    /// What a command that succeeds prints.
    async fn run(&self, arguments: &str) -> String {
        self.run_with(arguments, "").await
    }

    async fn run_with(&self, arguments: &str, input: &str) -> String {
        let output = self.output(arguments, input).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `kubectl describe` prints of one of these; `None` where there is no kubectl that can.
    async fn describe(&self, kind: &str, what: &str) -> Option<String> {
        let since =
            DESCRIBED_SINCE.iter().find(|(described, _)| *described == kind).map_or(0, |(_, since)| *since);
        let programs = [Some(usual()), std::env::var("FAILOVER_TEST_APPLY_KUBECTL").ok()];
        for program in programs.into_iter().flatten() {
            if since == 0 || self.minor_version(&program).await >= since {
                let output = self.output_of(&program, &format!("describe {what}"), "").await;
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{program} describe {what}: {errors}");
                return Some(String::from_utf8(output.stdout).unwrap());
            }
        }
        None
    }

    async fn minor_version(&self, program: &str) -> u32 {
        let output = self.output_of(program, "version --client -o json", "").await;
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        // Some builds say `20+`.
        told["clientVersion"]["minor"].as_str().unwrap().trim_end_matches('+').parse().unwrap()
    }

    /// What a command that fails prints to stderr.
    async fn fail(&self, arguments: &str, input: &str) -> String {
        let output = self.output(arguments, input).await;
        assert!(!output.status.success(), "kubectl {arguments} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A line of a table, without the spaces between its cells.
fn row(table: &str, at: usize) -> Vec<&str> {
    table.lines().nth(at).unwrap_or_else(|| panic!("{at}: {table}")).split_whitespace().collect()
}

fn furnish(cluster: &Cluster) {
    let store = cluster.store();
    let writer = Writer::of_object("test");
    let pod = json!({
        "metadata": { "name": "vllm-1", "labels": { "app": "vllm" } },
        "spec": { "nodeName": "gpu", "containers": [{ "name": "main", "image": "vllm:1" }] },
    });
    let pod = store.create(&PODS, "ml", pod, writer).unwrap();
    let status = json!({
        "phase": "Running", "podIP": "127.1.2.3", "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": [{
            "name": "main", "image": "vllm:1", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } },
        }],
    });
    let key = ObjectKey::new(&PODS, "ml", "vllm-1");
    let set = |object: &mut serde_json::Value| {
        object["status"] = status;
        Ok(())
    };
    store.update(&key, Writer::of_status("kubelet"), set).unwrap();
    let event = json!({
        "metadata": { "generateName": "vllm-1." },
        "involvedObject": { "kind": "Pod", "namespace": "ml", "name": "vllm-1", "uid": pod["metadata"]["uid"] },
        "reason": "Started", "message": "Started container main", "type": "Normal", "count": 1,
        "source": { "component": "kubelet" },
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
    });
    store.create(&EVENTS, "ml", event, writer).unwrap();
    let service = json!({
        "metadata": { "name": "vllm" },
        "spec": { "clusterIP": "127.1.2.4", "selector": { "app": "vllm" }, "ports": [{ "port": 8000 }] },
    });
    store.create(&SERVICES, "ml", service, writer).unwrap();
    let secret = json!({ "metadata": { "name": "keys" }, "stringData": { "KEY": "value" } });
    store.create(&SECRETS, "ml", secret, writer).unwrap();
    store.create(&NODES, "", json!({ "metadata": { "name": "gpu" } }), writer).unwrap();
    let labels = json!({ "app": "vllm" });
    let set = json!({
        "metadata": { "name": "vllm-abc" },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "main", "image": "vllm:1" }] } },
        },
    });
    store.create(&REPLICA_SETS, "ml", set, writer).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_and_describe_show_what_is_there() {
    let kubectl = Kubectl::new().await;
    furnish(&kubectl.cluster);
    kubectl.run_with("apply -n ml -f -", &deployment("vllm", 1).to_string()).await;
    let table = kubectl.run("get pods -n ml").await;
    assert_eq!(row(&table, 0), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(row(&table, 1)[..4], ["vllm-1", "1/1", "Running", "0"]);
    let wide = kubectl.run("get po -A -o wide -l app=vllm").await;
    assert!(wide.contains("127.1.2.3") && wide.contains("gpu"), "{wide}");
    assert_eq!(row(&kubectl.run("get deploy -n ml").await, 1)[..2], ["vllm", "0/1"]);
    let all = kubectl.run("get all -n ml").await;
    for name in ["pod/vllm-1", "service/vllm", "deployment.apps/vllm", "replicaset.apps/vllm-abc"] {
        assert!(all.contains(name), "{all}");
    }
    let yaml = kubectl.run("get deployment vllm -n ml -o yaml").await;
    assert!(yaml.starts_with("apiVersion: apps/v1\nkind: Deployment\n"), "{yaml}");
    assert_eq!(kubectl.run("get secret keys -n ml -o jsonpath={.data.KEY}").await, "dmFsdWU=");
    assert!(kubectl.run("get events -n ml").await.contains("Started container main"));
    for (what, expected) in [
        ("pod vllm-1", "Started container main"),
        ("deployment vllm", "registry.invalid/none:1"),
        ("service vllm", "127.1.2.4"),
        ("secret keys", "KEY:"),
        ("replicaset vllm-abc", "Replicas:"),
    ] {
        let told = kubectl.run(&format!("describe {what} -n ml")).await;
        assert!(told.contains(expected), "{what}: {told}");
    }
    assert!(kubectl.run("describe node gpu").await.contains("vllm-1"), "a node tells its pods");
    let absent = kubectl.fail("get pod none -n ml", "").await;
    assert_eq!(absent.trim(), "Error from server (NotFound): pods \"none\" not found");
    let absent = kubectl.fail("get scaledobjects -n ml", "").await;
    assert!(absent.contains("the server doesn't have a resource type \"scaledobjects\""), "{absent}");
    kubectl.cluster.shutdown().await;
}

/// What runs make, read and look for, beside workloads.
fn belongings() -> [serde_json::Value; 7] {
    let container = json!({ "name": "main", "image": "harness:1" });
    let pods = json!({ "spec": { "restartPolicy": "Never", "containers": [container] } });
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "vllm" });
    [
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "drill" },
            "spec": { "podSelector": { "matchLabels": { "app": "litellm" } }, "policyTypes": ["Egress"] },
        }),
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "anchor" },
            "spec": { "suspend": true, "activeDeadlineSeconds": 60, "template": pods },
        }),
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "sweeper" },
            "spec": { "schedule": "* * * * *", "jobTemplate": { "spec": { "template": pods } } },
        }),
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "lock" },
            "spec": { "holderIdentity": "run-1", "leaseDurationSeconds": 15 },
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "record" },
            "data": { "restore.txt": "kubectl scale" },
        }),
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "fighter" },
            "spec": { "scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2 },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": { "name": "vllm-x" },
            "addressType": "IPv4", "endpoints": [{ "addresses": ["127.1.2.3"] }], "ports": [{ "port": 8000 }],
        }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_run_makes_or_reads_can_be_made_got_described_and_deleted() {
    let kubectl = Kubectl::new().await;
    for object in belongings() {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let what = format!("{} {name} -n ml", kind.to_lowercase());
        let made = kubectl.run_with("apply -n ml -f -", &object.to_string()).await;
        assert!(made.trim().ends_with("created"), "{made}");
        let table = kubectl.run(&format!("get {what}")).await;
        assert_eq!((row(&table, 0)[0], row(&table, 1)[0]), ("NAME", name), "{table}");
        let yaml = kubectl.run(&format!("get {what} -o yaml")).await;
        assert!(
            yaml.contains(&format!("kind: {kind}\n")) && yaml.contains(&format!("name: {name}\n")),
            "{yaml}"
        );
        if let Some(told) = kubectl.describe(kind, &what).await {
            assert_eq!(row(&told, 0), ["Name:", name], "{told}");
        }
        let deleted = kubectl.run(&format!("delete {what}")).await;
        assert!(deleted.contains(&format!("\"{name}\" deleted")), "{deleted}");
        assert_eq!(kubectl.run(&format!("get {} -n ml -o name", kind.to_lowercase())).await, "");
    }
    kubectl.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_scale_wait_and_delete_do_what_they_say() {
    let kubectl = Kubectl::new().await;
    let text = deployment("vllm", 2).to_string();
    assert_eq!(kubectl.run_with("apply -n ml -f -", &text).await.trim(), "deployment.apps/vllm created");
    assert_eq!(kubectl.run_with("apply -n ml -f -", &text).await.trim(), "deployment.apps/vllm unchanged");
    let changed = deployment("vllm", 3).to_string();
    assert_eq!(
        kubectl.run_with("apply -n ml -f -", &changed).await.trim(),
        "deployment.apps/vllm configured"
    );
    let scaled = kubectl.run("scale deployment vllm -n ml --replicas=0").await;
    assert_eq!(scaled.trim(), "deployment.apps/vllm scaled");
    let key = ObjectKey::new(&DEPLOYMENTS, "ml", "vllm");
    let replicas = || kubectl.cluster.store().get(&key).unwrap()["spec"]["replicas"].clone();
    assert_eq!(replicas(), 0);
    let scaled = kubectl.run("scale deployment vllm -n ml --current-replicas=0 --replicas=1").await;
    assert_eq!(scaled.trim(), "deployment.apps/vllm scaled");
    assert_eq!(replicas(), 1);
    kubectl.fail("scale deployment vllm -n ml --current-replicas=5 --replicas=0", "").await;
    kubectl.run("patch deployment vllm -n ml -p {\"spec\":{\"replicas\":4}}").await;
    assert_eq!(replicas(), 4);
    kubectl.run("annotate deployment vllm -n ml a=b").await;
    kubectl.run("label deployment vllm -n ml failover-harness/target=true").await;

    let status = |object: &mut serde_json::Value| {
        object["status"] = json!({ "conditions": [{ "type": "Available", "status": "True" }] });
        Ok(())
    };
    let waiting = kubectl.run("wait deployment/vllm -n ml --for=condition=Available --timeout=30s");
    let write =
        async { kubectl.cluster.store().update(&key, Writer::of_status("controller"), status).unwrap() };
    let (waited, _) = tokio::join!(waiting, write);
    assert_eq!(waited.trim(), "deployment.apps/vllm condition met");

    let deleted = kubectl.run("delete deployment vllm -n ml").await;
    assert!(deleted.starts_with("deployment.apps \"vllm\" deleted"), "{deleted}");
    assert!(kubectl.cluster.store().get(&key).is_none());
    kubectl.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_is_waited_for_until_the_finalizer_goes() {
    let kubectl = Kubectl::new().await;
    let mut object = deployment("vllm", 1);
    object["metadata"]["finalizers"] = json!(["failover.invalid/held"]);
    kubectl.run_with("create -n ml -f -", &object.to_string()).await;
    let key = ObjectKey::new(&DEPLOYMENTS, "ml", "vllm");
    let store = kubectl.cluster.store();
    let mut changes = store.subscribe(store.version()).unwrap();
    let free = async {
        // The deletion comes first.
        changes.next().await.unwrap();
        let free = |object: &mut serde_json::Value| {
            object["metadata"]["finalizers"] = json!([]);
            Ok(())
        };
        store.update(&key, Writer::of_object("owner"), free).unwrap();
    };
    let (deleted, ()) = tokio::join!(kubectl.run("delete deployment vllm -n ml --timeout=30s"), free);
    assert!(deleted.contains("deleted"), "{deleted}");
    assert!(store.get(&key).is_none());
    kubectl.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_side_apply_tells_conflicts_and_all_goes_at_once() {
    let kubectl = Kubectl::new().await;
    kubectl.run_with("create -n ml -f -", &deployment("vllm", 1).to_string()).await;
    let other = deployment("vllm", 2).to_string();
    let refused = kubectl.fail("apply -n ml --server-side --field-manager=other -f -", &other).await;
    assert!(refused.contains("conflict") && refused.contains(".spec.replicas"), "{refused}");
    let forced = "apply -n ml --server-side --field-manager=other --force-conflicts -f -";
    assert_eq!(kubectl.run_with(forced, &other).await.trim(), "deployment.apps/vllm serverside-applied");
    let config = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "made" } });
    kubectl.run_with("create -n ml -f -", &config.to_string()).await;
    kubectl.run("delete deployment,configmap --all -n ml").await;
    assert_eq!(kubectl.run("get deployment,configmap -n ml -o name").await, "");
    kubectl.cluster.shutdown().await;
}
