//! exec and logs with the real kubectl. `FAILOVER_TEST_KUBECTL` names the program; without it, `kubectl` of the path.

use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::household::{Stage, WITHIN, options, start};

async fn kubectl(stage: &Stage, home: &TempDir, words: &[&str], input: &str) -> Output {
    let config = home.path().join("config");
    std::fs::write(&config, stage.household.cluster().kubectl_config().unwrap().to_string()).unwrap();
    let program = std::env::var("FAILOVER_TEST_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let mut child = Command::new(&program)
        .args(["--namespace", "ml"])
        .args(words)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .env("KUBECONFIG", &config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program} cannot be started ({error}); install any kubectl"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    timeout(WITHIN, child.wait_with_output()).await.expect("kubectl ends in time").unwrap()
}

#[tokio::test]
async fn kubectl_runs_commands_and_reads_logs() {
    let mut options = options().await;
    options.cluster.open_port = true;
    let stage = start(options).await;
    let home = TempDir::new().unwrap();
    let script = "cat; echo err >&2; exit 3";
    let ran =
        kubectl(&stage, &home, &["exec", "-i", "deploy/litellm", "--", "sh", "-c", script], "in\n").await;
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "in\n", "{errors}");
    assert!(errors.contains("err\n") && errors.contains("exit code 3"), "{errors}");
    assert_eq!(ran.status.code(), Some(3), "{errors}");
    let ran = kubectl(&stage, &home, &["exec", "deploy/vllm", "--", "hostname-of-nobody"], "").await;
    assert!(!ran.status.success());
    let ran = kubectl(&stage, &home, &["logs", "deploy/vllm", "--tail", "1"], "").await;
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "Application startup complete\n");
    stage.shutdown().await;
}
