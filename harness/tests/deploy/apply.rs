//! The manifests, as kubectl builds and applies them. `FAILOVER_TEST_APPLY_KUBECTL` names one that is new enough; without
//! it, `FAILOVER_TEST_KUBECTL`, or else `kubectl` of the path.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mocks::kubernetes::cluster::{Cluster, ClusterOptions};
use mocks::kubernetes::resources::{CRON_JOBS, Resource};
use mocks::kubernetes::store::ObjectKey;
use mocks::time::Epoch;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const EXAMPLE: &str = "deploy/overlays/example";
pub(crate) const DRILL: &str = "failover-harness-drill";
pub(crate) const SWEEPER: &str = "failover-harness-sweeper";

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `kubectl ARGUMENTS`, towards this cluster.
async fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Output {
    let home = TempDir::new().unwrap();
    let config = home.path().join("config");
    std::fs::write(&config, cluster.kubectl_config().unwrap().to_string()).unwrap();
    let named =
        ["FAILOVER_TEST_APPLY_KUBECTL", "FAILOVER_TEST_KUBECTL"].into_iter().find_map(std::env::var_os);
    let program = named.unwrap_or_else(|| "kubectl".into());
    let child = Command::new(&program)
        .args(arguments)
        .current_dir(root())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .env("KUBECONFIG", &config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
    tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("kubectl ends in time").unwrap()
}

/// A command that succeeds; what it prints.
pub(crate) async fn must(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = kubectl(cluster, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `kubectl apply -k FOLDER`, with every field known; what it says was made.
pub(crate) async fn apply(cluster: &Cluster, folder: &str) -> Vec<String> {
    let output = kubectl(cluster, &["apply", "--validate=strict", "-k", folder]).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{folder}: {errors}");
    assert!(!errors.to_lowercase().contains("warning"), "{folder}: {errors}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A cluster with nothing in it but the namespaces, and an overlay.
pub(crate) async fn with(folder: &str) -> Cluster {
    let cluster = empty().await;
    apply(&cluster, folder).await;
    cluster
}

pub(crate) async fn empty() -> Cluster {
    let options =
        ClusterOptions { open_port: true, ..ClusterOptions::new(Epoch::starting_now(), 1, &["ml", "apps"]) };
    Cluster::start(options, |_| None).await.unwrap()
}

pub(crate) fn object(cluster: &Cluster, resource: &'static Resource, name: &str) -> Arc<Value> {
    cluster
        .store()
        .get(&ObjectKey::new(resource, "ml", name))
        .unwrap_or_else(|| panic!("{resource:?} {name}"))
}

/// The specifications of the Job and of the pod that a CronJob makes.
pub(crate) fn job_and_pod(cluster: &Cluster, name: &str) -> (Value, Value) {
    let cron_job = object(cluster, &CRON_JOBS, name);
    let job = cron_job["spec"]["jobTemplate"]["spec"].clone();
    let pod = job["template"]["spec"].clone();
    (job, pod)
}
