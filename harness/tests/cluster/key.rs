//! The gateway's master key in an environment variable.

use std::path::Path;

use mocks::kubernetes::resources::{CONFIG_MAPS, EVENTS, SECRETS};
use mocks::kubernetes::store::{Deletion, ObjectKey};

use crate::stack::{CLOUD_DOWN, KEY, Stack, Staging};

const VARIABLE: &str = "HARNESS_TEST_GATEWAY_KEY";

/// A cluster that holds the key nowhere, and an environment that takes it from the variable.
async fn staged() -> Stack {
    let stack = Stack::start(Staging::default()).await;
    let secret = "{ secret: apps/openclaw-secrets, field: LITELLM_MASTER_KEY }";
    stack.edit(secret, &format!("{{ env: {VARIABLE} }}"));
    let key = ObjectKey::new(&SECRETS, "apps", "openclaw-secrets");
    stack.household.cluster().store().delete(&key, &Deletion::default(), "kubectl").unwrap();
    stack
}

/// All files below a directory, links left out, that have this text in them.
fn files_with(text: &str, dir: &Path, looked_at: &mut usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(text, &entry.path(), looked_at));
        } else if kind.is_file() {
            *looked_at += 1;
            let bytes = std::fs::read(entry.path()).unwrap();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_variable_serves_and_is_written_nowhere() {
    let stack = staged().await;
    let set = [(VARIABLE, KEY)];
    // `end` looks for it in what is printed.
    let looked = stack.command_with(&["doctor", "--env", "cluster.yaml"], &set).end().await.expect(0);
    assert!(looked.stdout.contains("key: "), "{}", looked.stdout);
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let run = ["run", "-vv", "--env", "cluster.yaml", "--out", "out", file.to_str().unwrap()];
    let ended = stack.command_with(&run, &set).end().await.expect(0);
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"pass".into(), &true.into()));
    let mut looked_at = 0;
    let found = files_with(KEY, &stack.path("out"), &mut looked_at);
    assert_eq!(found, Vec::<String>::new());
    assert!(looked_at >= 4, "journal, result and reports: {looked_at}");
    let store = stack.household.cluster().store();
    for kind in [&CONFIG_MAPS, &EVENTS] {
        assert!(store.list(kind, None).items.iter().all(|object| !object.to_string().contains(KEY)));
    }
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_not_set_is_told_before_anything_is_asked() {
    let stack = staged().await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    let run = ["run", "--env", "cluster.yaml", "--out", "out", file.to_str().unwrap()];
    let asked = stack.household.cluster().audit().entries().len();
    for set in [&[][..], &[(VARIABLE, "")]] {
        let ended = stack.command_with(&run, set).end().await.expect(2);
        let told = format!(
            "error: the environment `test-cluster` takes the gateway's key from ${VARIABLE}, which is not set or empty\n"
        );
        assert_eq!((ended.stdout.as_str(), ended.stderr), ("", told), "{set:?}");
        assert!(!stack.path("out").exists(), "there is no run: {set:?}");
    }
    assert_eq!(stack.household.cluster().audit().entries().len(), asked, "nothing was asked of the cluster");
    for set in [&[][..], &[(VARIABLE, "")]] {
        let ended = stack.command_with(&["doctor", "--env", "cluster.yaml"], set).end().await.expect(3);
        let told = format!("the gateway's key is taken from ${VARIABLE}, which is not set or empty");
        let problem =
            ended.stdout.lines().find(|line| line.starts_with("problem ") && line.contains("key: "));
        assert!(problem.is_some_and(|line| line.contains(&told)), "{set:?}: {}", ended.stdout);
        let hint = format!("set ${VARIABLE} for this program");
        assert!(ended.stdout.contains(&hint), "{set:?}: {}", ended.stdout);
    }
    assert_eq!(stack.mutations(), Vec::<String>::new());
    stack.strike().await;
}
