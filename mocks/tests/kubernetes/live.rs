//! The way to a live cluster, for which a mock cluster stands here.

use std::path::Path;
use std::time::Duration;

use kube::api::{Api, ListParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use mocks::kubernetes::resources::{ALL, EVENTS};
use tempfile::TempDir;
use tokio::process::Command;

use crate::ground::{CONTROL, Mock, client_of_mock, eventually};

/// All tests take no longer.
const WITHIN: Duration = Duration::from_secs(400);

#[tokio::test]
async fn the_conformance_tests_need_no_more_of_a_cluster_than_a_kubeconfig() {
    let mock = Mock::start().await;
    let home = TempDir::new().unwrap();
    let path = home.path().join("config");
    let mut kubeconfig = mock.cluster.kubeconfig();
    kubeconfig["current-context"] = "of-another-cluster".into();
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    let namespace = "apps";
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["conformance::", "--test-threads", "8"])
        .env("FAILOVER_CONFORMANCE_KUBECONFIG", &path)
        .env("FAILOVER_CONFORMANCE_CONTEXT", "mock")
        .env("FAILOVER_CONFORMANCE_NAMESPACE", namespace)
        .env("FAILOVER_CONFORMANCE_IMAGE", "mock:1")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(WITHIN, run).await.expect("the tests end").unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.matches(" ... ok").count() >= 40, "{told}");
    let entries = mock.cluster.audit().entries();
    let asked = entries.iter().filter(|entry| entry.namespace == namespace).count();
    assert!(asked > 100, "of this cluster they asked {asked} things");
    // What the tests have made goes with them, in the end.
    let client = client_of_mock(&mock.cluster).await;
    for resource in ALL.iter().filter(|resource| resource.namespaced && resource.crd.is_none()) {
        if **resource == EVENTS {
            continue;
        }
        let kind = GroupVersionKind::gvk(resource.group, resource.version, resource.kind);
        let kind = ApiResource::from_gvk_with_plural(&kind, resource.plural);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
        eventually(CONTROL, &format!("no {}", resource.plural), async || {
            api.list(&ListParams::default()).await.unwrap().items.is_empty()
        })
        .await;
    }
    mock.shutdown().await;
}

#[tokio::test]
async fn the_script_says_in_one_line_what_it_was_not_told() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/conformance");
    let here = file!();
    for (arguments, expected) in [
        (vec![], "missing: --kubeconfig --context --namespace"),
        (vec!["--kubeconfig", here, "--namespace", "x"], "missing: --context"),
        (
            vec!["--kubeconfig", "none", "--context", "x", "--namespace", "x"],
            "none is no file that can be read",
        ),
        (vec!["--context", "--namespace", "x"], "--context needs a value"),
        (vec!["--namespace"], "--namespace needs a value"),
        (vec!["--all"], "unknown argument: --all"),
    ] {
        let run = Command::new(&script).args(&arguments).kill_on_drop(true).output();
        let output = tokio::time::timeout(CONTROL, run).await.expect("it ends").unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(told, format!("scripts/conformance: {expected} (--help tells more)\n"), "{arguments:?}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
