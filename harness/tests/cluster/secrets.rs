//! What is said nowhere: keys, Secrets of others, tokens, and what models are asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mocks::gateway::Secret;
use mocks::kubernetes::api::{ChaosRule, Rule, Trouble, User};
use mocks::kubernetes::openclaw::Openclaw;
use mocks::kubernetes::resources::{
    CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, EVENTS, JOBS, LEASES, NETWORK_POLICIES, SECRETS,
};
use mocks::kubernetes::store::Writer;
use rustix::process::Signal;
use serde_json::json;

use crate::child::Ended;
use crate::stack::{CLOUD_AND_GPU_DOWN, KEY, Stack, Staging};

const TOKEN: &str = "canary-token-of-the-account";
const CLOUD_KEY: &str = "canary-key-of-the-cloud";
const OTHER_FIELD: &str = "canary-of-another-field";
const PLAIN: &str = "canary-in-a-plain-variable";
const IN_CONFIG: &str = "canary-in-the-configuration";
const OF_ANTHROPIC: &str = "canary-token-of-anthropic";
const IN_OPENCLAW: &str = "canary-in-openclaws-configuration";
/// How what the probes ask begins.
const PROMPT: &str = "Say who you are";
const LOG: &str = "termination-log";

/// Each of these in each of the ways in which it may be written.
fn canaries(stack: &Stack) -> Vec<String> {
    let mut canaries: Vec<String> =
        [KEY, TOKEN, CLOUD_KEY, OTHER_FIELD, PLAIN, IN_CONFIG, OF_ANTHROPIC, IN_OPENCLAW, PROMPT]
            .map(str::to_owned)
            .into();
    // As the API gives them out.
    for secret in stack.household.cluster().store().list(&SECRETS, None).items {
        let values = secret["data"].as_object().unwrap().values();
        canaries.extend(values.map(|value| value.as_str().unwrap().trim_end_matches('=').to_owned()));
    }
    canaries
}

/// Where a text says what it must not.
fn told(canaries: &[String], place: &str, text: &str) -> Vec<String> {
    let said = canaries.iter().filter(|canary| text.contains(canary.as_str()));
    said.map(|canary| format!("{place} says {canary}")).collect()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    all.collect()
}

/// A configuration of openclaw that has a key wherever one can stand.
fn openclaws() -> String {
    let url = |host: &str| format!("https://u:{IN_OPENCLAW}@{host}/v1?key={IN_OPENCLAW}");
    let config = json!({
        "env": { "vars": { "SOME_TOKEN": format!("claude-{IN_OPENCLAW}") } },
        "gateway": { "auth": { "token": IN_OPENCLAW } },
        "models": { "providers": {
            "litellm": { "baseUrl": url("${LITELLM_HOST}"), "apiKey": IN_OPENCLAW, "models": [] },
            "other": { "baseUrl": url("api.anthropic.com"), "apiKey": format!("sk-ant-{IN_OPENCLAW}") },
        } },
    });
    config.to_string()
}

/// A cluster full of what must not be said.
async fn staged() -> Stack {
    let user = User { name: "reader".to_owned(), token: Secret::new(TOKEN), rules: vec![Rule::everything()] };
    let stack = Stack::start(Staging { user: Some(user), ..Staging::default() }).await;
    let store = stack.household.cluster().store();
    let kubectl = || Writer::of_object("kubectl");
    let secret = json!({ "metadata": { "name": "litellm" }, "stringData": { "CLOUD_API_KEY": CLOUD_KEY } });
    store.create(&SECRETS, "ml", secret, kubectl()).unwrap();
    let another = json!({ "metadata": { "name": "another" }, "stringData": { "OTHER": OTHER_FIELD } });
    let another = store.create(&SECRETS, "ml", another, kubectl()).unwrap();
    let openclaw = Openclaw::before(&stack.household, OF_ANTHROPIC).unwrap();
    openclaw.write_config(&openclaws()).unwrap();
    stack.edit(
        "components:\n",
        "openclaw: { deployment: apps/openclaw, secret: apps/openclaw-secrets }\ncomponents:\n",
    );
    stack.change(&SECRETS, "apps", "openclaw-secrets", |secret| {
        secret["data"]["OTHER"] = another["data"]["OTHER"].clone();
    });
    let model = |key: &str| {
        format!(
            "model_list:\n  - {{ model_name: cloud-kimi, litellm_params: {{ model: ollama_chat/kimi, api_base: \
             \"http://ollama.com:8443\", api_key: {key} }} }}\n"
        )
    };
    let map =
        json!({ "metadata": { "name": "litellm-config" }, "data": { "config.yaml": model(IN_CONFIG) } });
    store.create(&CONFIG_MAPS, "ml", map, kubectl()).unwrap();
    stack.change(&DEPLOYMENTS, "ml", "litellm", |object| {
        let pod = &mut object["spec"]["template"]["spec"];
        pod["volumes"] = json!([{ "name": "config", "configMap": { "name": "litellm-config" } }]);
        pod["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "litellm" } }]);
        pod["containers"][0]["env"] = json!([{ "name": "CLOUD_API_KEY", "value": PLAIN }]);
    });
    stack.household.ready(Duration::from_secs(60)).await.unwrap();
    stack
}

/// A run that is killed, and a restore that is stuck, and one that is not.
async fn left_and_restored(stack: &Stack, file: &str, told: &mut Vec<(String, String)>) {
    let variables = [("HARNESS_TERMINATION_LOG", LOG)];
    let mut running =
        stack.command_with(&["-vv", "run", "--env", "cluster.yaml", "--out", "out", file], &variables);
    running.until_it_says("judging").await;
    running.signal(Signal::KILL);
    said(told, "the run that was killed", &running.end().await);
    stack.household.cluster().chaos().add(ChaosRule {
        verb: "patch".to_owned(),
        resource: "deployments/scale".to_owned(),
        times: None,
        trouble: Trouble::Refused { code: 403, retry_after: None },
    });
    let restore = ["-vv", "restore", "--env", "cluster.yaml"];
    let stuck = stack.command_with(&restore, &variables).end().await.expect(4);
    said(told, "restore, stuck", &stuck);
    let message = stack.file(LOG);
    assert!(message.contains("is not undone"), "{message}");
    told.push(("the termination message".to_owned(), message));
    stack.household.cluster().chaos().clear();
    said(told, "restore", &stack.command_with(&restore, &variables).end().await.expect(0));
}

fn said(told: &mut Vec<(String, String)>, what: &str, ended: &Ended) {
    assert!(!ended.stdout.is_empty() || !ended.stderr.is_empty(), "{what} says something");
    told.push((format!("stdout of {what}"), ended.stdout.clone()));
    told.push((format!("stderr of {what}"), ended.stderr.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_written_or_printed_shows_a_secret_a_token_or_a_prompt() {
    let stack = staged().await;
    // What the run before asked for goes on in the gateway for a moment.
    stack.edit("components:\n", "users: { postpone: 1m }\ncomponents:\n");
    let mut all = Vec::new();
    std::fs::write(stack.path(LOG), "").unwrap();
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let file = file.to_str().unwrap();
    let init = ["-vv", "init", "--context", "mock", "--kubeconfig", "kubeconfig", "--out", "drafted.yaml"];
    std::fs::write(stack.path("openclaw.json"), openclaws()).unwrap();
    let commands: [&[&str]; 6] = [
        &init,
        &["-vv", "doctor", "--openclaw-config", "openclaw.json"],
        &["-vv", "doctor", "--env", "cluster.yaml"],
        &["-vv", "plan", "--env", "cluster.yaml", file],
        &["-vv", "run", "--env", "cluster.yaml", "--out", "out", file],
        &["-vv", "restore", "--env", "cluster.yaml", "--abandoned"],
    ];
    for command in commands {
        let ended = stack.command_with(command, &[("HARNESS_TERMINATION_LOG", LOG)]).end().await;
        // 1: the migration is not done.
        assert!(
            matches!(ended.status.code(), Some(0 | 1 | 3)),
            "{command:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        said(&mut all, &command.join(" "), &ended);
    }
    for command in [&["-vv", "report", "out/latest"][..], &["-vv", "list", "out"]] {
        let ended = stack.command_with(command, &[]).end().await.expect(0);
        said(&mut all, &command.join(" "), &ended);
    }
    left_and_restored(&stack, file, &mut all).await;

    let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let mut paths = files(&stack.path("out"));
    paths.push(stack.path("drafted.yaml"));
    for name in ["result.json", "junit.xml", "report.md", "journal.jsonl"] {
        assert!(paths.iter().any(|path| path.ends_with(name)), "{name} is looked at: {paths:?}");
    }
    all.extend(paths.iter().map(|path| (path.display().to_string(), text(path))));
    // What others have made is theirs.
    for resource in [&CONFIG_MAPS, &EVENTS, &LEASES, &NETWORK_POLICIES, &JOBS, &CRON_JOBS] {
        let objects = stack.household.cluster().store().list(resource, None).items;
        let ours = objects.iter().filter(|object| object["metadata"]["name"] != "litellm-config");
        all.extend(ours.map(|object| {
            (format!("{} {}", resource.plural, object["metadata"]["name"]), object.to_string())
        }));
    }
    for kind in ["configmaps \"failover-harness-", "events \"vllm.", "leases "] {
        assert!(all.iter().any(|(place, _)| place.starts_with(kind)), "{kind} is looked at");
    }
    for kind in ["stdout of -vv doctor --openclaw-config", "stdout of -vv doctor --env", "journal.jsonl"] {
        let read = all
            .iter()
            .any(|(place, told)| place.contains(kind) && told.contains("put together from several parts"));
        assert!(read, "{kind} tells of openclaw's configuration");
    }
    let canaries = canaries(&stack);
    let said: Vec<String> = all.iter().flat_map(|(place, text)| told(&canaries, place, text)).collect();
    assert!(said.is_empty(), "{said:#?}");
    // It would be found where it is.
    assert_eq!(told(&canaries, "a kubeconfig", &stack.file("kubeconfig")).len(), 1);
    assert!(include_str!("../../src/probe/client.rs").contains(PROMPT), "that is what is asked");
    stack.strike().await;
}
