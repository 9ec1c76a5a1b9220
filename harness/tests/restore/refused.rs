//! What keeps a run from beginning, and what there is to restore where nothing was changed.

use mocks::kubernetes::resources::CONFIG_MAPS;
use rustix::process::Signal;

use crate::records::{holder, holding, records, replicas};
use crate::stack::{CLOUD_DOWN, SWEPT, Stack, Staging};

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_runs_at_once_is_refused_and_names_the_first() {
    let stack = Stack::start(Staging::default()).await;
    let (first, file) = holding(&stack).await;
    let (id, mutations) = (holder(&stack), stack.mutations());
    let second = stack.harness("run", &[file]).end().await.expect(3);
    assert_eq!(second.result["ended"], "refused", "{}", second.stderr);
    assert!(second.reasons().contains(&id), "{id}: {}", second.reasons());
    assert!(second.reasons().contains("(run, on "), "{}", second.reasons());
    assert_eq!(stack.mutations(), mutations, "nothing was touched");
    first.signal(Signal::TERM);
    first.end().await.expect(3);
    assert_eq!(replicas(&stack, "vllm"), 1);
    assert_eq!(holder(&stack), "");
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_of_another_environment_is_no_dead_man_switch() {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let arguments = ["run", "--env", "cluster.yaml", file.to_str().unwrap(), "--out", "out"];
    stack.change(&CONFIG_MAPS, "ml", SWEPT, |object| {
        let text = object["data"]["environment.yaml"].as_str().unwrap().replace("ml/vllm", "ml/vllm-next");
        object["data"]["environment.yaml"] = text.into();
    });
    let refused = stack.command(&arguments).end().await.expect(3);
    let reasons = refused.reasons();
    assert!(reasons.contains("no dead-man switch is proven"), "{reasons}");
    assert!(reasons.contains("does not get deployments/scale vllm in ml"), "{reasons}");
    assert_eq!((stack.mutations().len(), records(&stack).len()), (0, 0), "nothing was touched");
    stack.change(&CONFIG_MAPS, "ml", SWEPT, |object| object["data"] = serde_json::json!({}));
    let refused = stack.command(&arguments).end().await.expect(3);
    assert!(refused.reasons().contains("environment that is not known"), "{}", refused.reasons());
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dead_man_switch_a_run_is_refused_unless_somebody_says_so() {
    let stack = Stack::start(Staging { sweeper: false, ..Staging::default() }).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let file = file.to_str().unwrap();
    let arguments = |command: &'static str| [command, "--env", "cluster.yaml", file];
    let refused = stack.command(&[&arguments("run")[..], &["--out", "out"]].concat()).end().await.expect(3);
    assert!(refused.reasons().contains("no dead-man switch is proven"), "{}", refused.reasons());
    assert_eq!((stack.mutations().len(), records(&stack).len()), (0, 0), "nothing was touched");
    let planned = stack.command(&arguments("plan")).end().await.expect(3);
    assert!(planned.stdout.contains("no dead-man switch is proven"), "{}", planned.stdout);
    let waived = [&arguments("run")[..], &["--out", "out", "--no-dead-man"]].concat();
    let ended = stack.command(&waived).end().await.expect(0);
    assert!(ended.report.contains("run with --no-dead-man"), "{}", ended.report);
    let record = &records(&stack)[0];
    assert_eq!((&record["phase"], &record["exit_code"]), (&"restored".into(), &0.into()));
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_run_has_left_anything_there_is_nothing_to_restore() {
    let stack = Stack::start(Staging::default()).await;
    let local = stack.command(&["restore"]).end().await.expect(0);
    assert!(local.stdout.contains("nothing to restore"), "{}", local.stdout);
    // Whoever means a cluster and does not name it is not told that all is well.
    let unnamed = stack.command(&["restore", "--take-over"]).end().await.expect(2);
    assert!(unnamed.stderr.contains("--env FILE"), "{}", unnamed.stderr);
    let restored = stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    assert!(restored.stdout.contains("no run has left anything"), "{}", restored.stdout);
    stack.lead_kubeconfig_to("http://127.0.0.1:9");
    let unknown = stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(4);
    assert!(unknown.stderr.contains("cannot be told"), "{}", unknown.stderr);
    stack.strike().await;
}
