//! A real LiteLLM from start to end, and starts that fail.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::gateway::config::LocalConfig;
use harness::gateway::litellm::LITELLM_VERSION;
use harness::gateway::litellm::process::{LiteLlm, LogLevel, StartError, StartOptions};
use harness::gateway::litellm::warm_up::warm_up;
use harness::gateway::secret::Secret;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::world::{PERSONS_KEY, config, litellm, playing, runs, upstream, wait_for};

const START_WITHIN: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(10);
const NOWHERE: &str = "http://127.0.0.1:1";

fn options<'a>(
    bin: &'a Path,
    config: &'a LocalConfig,
    key: &'a Secret,
    run_dir: &'a Path,
) -> StartOptions<'a> {
    StartOptions {
        bin,
        config,
        key,
        run_dir,
        guard: playing("play_guard"),
        ready_within: START_WITHIN,
        log_level: LogLevel::Info,
    }
}

/// The part of a harness that is killed.
pub(crate) async fn start_and_wait_forever(bin: &OsStr, run_dir: &OsStr) {
    let (config, key) = (config(NOWHERE, json!({})), Secret::random());
    let run_dir = Path::new(run_dir);
    let litellm = LiteLlm::start(options(Path::new(bin), &config, &key, run_dir)).await.expect("start");
    fs::write(run_dir.join("pid.part"), litellm.pid().to_string()).expect("write");
    fs::rename(run_dir.join("pid.part"), run_dir.join("pid")).expect("rename");
    std::future::pending::<()>().await;
}

fn files_of(directory: &Path) -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| {
        let text = String::from_utf8_lossy(&fs::read(&path).expect("read")).into_owned();
        (path, text)
    };
    fs::read_dir(directory).expect("run directory").map(|entry| read(entry.expect("entry").path())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn litellm_starts_answers_and_is_gone_after_stop() {
    let bin = litellm().await;
    let upstream = upstream().await;
    let run_dir = tempfile::tempdir().expect("directory");
    let fallbacks = json!({ "fallbacks": [{ "cloud-kimi": ["vllm-qwen"] }], "num_retries": 0 });
    let (config, key) = (config(&upstream.uri(), fallbacks), Secret::random());
    let litellm = LiteLlm::start(options(&bin, &config, &key, run_dir.path())).await.expect("start");
    assert_eq!(litellm.version(), LITELLM_VERSION);
    assert!(litellm.is_alive() && runs(litellm.pid()));

    let aliases = ["cloud-kimi".to_owned(), "vllm-qwen".to_owned()];
    let warmed = warm_up(&litellm.url(), &key, &aliases).await;
    let kinds: Vec<_> = warmed.iter().map(|one| (one.alias.as_str(), one.stream)).collect();
    assert_eq!(
        kinds,
        [("cloud-kimi", false), ("cloud-kimi", true), ("vllm-qwen", false), ("vllm-qwen", true)]
    );
    // The upstream streams in the first dialect only; asking is what matters for the other.
    assert!(warmed[..3].iter().all(harness::gateway::litellm::warm_up::WarmUp::is_ok), "{warmed:?}");
    let refused = warm_up(&litellm.url(), &Secret::new("sk-wrong"), &aliases[..1]).await;
    assert!(refused.iter().all(|one| !one.is_ok()), "{refused:?}");

    let (pid, ended) = (litellm.pid(), litellm.ended());
    litellm.stop().await.expect("stopped");
    assert!(!runs(pid));
    tokio::time::timeout(SOON, ended).await.expect("its end is told");
    for (path, text) in files_of(run_dir.path()) {
        assert!(!text.contains(key.expose()), "the key is in {}", path.display());
        assert!(!text.contains(PERSONS_KEY), "the person's key is in {}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn litellm_ends_when_the_harness_is_killed() {
    let bin = litellm().await;
    let run_dir = tempfile::tempdir().expect("directory");
    let command = playing("play_harness");
    let mut harness = Command::new(&command[0])
        .args(&command[1..])
        .args([bin.as_os_str(), run_dir.path().as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("harness");
    let pid_file = run_dir.path().join("pid");
    let pid: u32 = wait_for("LiteLLM's start", START_WITHIN, || {
        assert_eq!(harness.try_wait().expect("wait"), None, "the harness ended early");
        fs::read_to_string(&pid_file).ok()
    })
    .await
    .parse()
    .expect("a number");
    assert!(runs(pid));
    harness.kill().expect("SIGKILL");
    harness.wait().expect("wait");
    wait_for("LiteLLM's end", SOON, || (!runs(pid)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_and_dying_are_noticed() {
    let bin = litellm().await;
    let run_dir = tempfile::tempdir().expect("directory");
    let (config, key) = (config(NOWHERE, json!({})), Secret::random());
    let litellm = LiteLlm::start(options(&bin, &config, &key, run_dir.path())).await.expect("start");
    let (pid, ended) = (litellm.pid(), litellm.ended());
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a number"), Signal::KILL).expect("SIGKILL");
    let how = tokio::time::timeout(SOON, ended).await.expect("its death is told");
    assert!(how.contains("137"), "{how}");
    assert!(!litellm.is_alive());
    litellm.stop().await.expect("nothing left to stop");

    let litellm = LiteLlm::start(options(&bin, &config, &key, run_dir.path())).await.expect("start again");
    let pid = litellm.pid();
    drop(litellm);
    wait_for("LiteLLM's end", SOON, || (!runs(pid)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_litellm_rejects_gives_the_end_of_its_log() {
    let bin = litellm().await;
    let run_dir = tempfile::tempdir().expect("directory");
    let (config, key) = (
        config(NOWHERE, json!({ "num_retries": { "not": "a number" }, "routing_strategy": "none-such" })),
        Secret::random(),
    );
    match LiteLlm::start(options(&bin, &config, &key, run_dir.path())).await {
        Err(StartError::Ended { log, ended }) => {
            assert!(log.contains("none-such") || log.contains("Traceback"), "{ended}: {log}");
        }
        other => panic!("{other:?}"),
    }
}

/// A script in place of LiteLLM, written by another process so that nothing here holds it open for writing.
fn script(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("litellm");
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("install");
    let text = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo 1.2.3 && exit\n{text}\n");
    install.stdin.take().expect("piped").write_all(text.as_bytes()).expect("text");
    assert!(install.wait().expect("wait").success());
    path
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_stopped() {
    let run_dir = tempfile::tempdir().expect("directory");
    let bin =
        script(run_dir.path(), "echo $$ >pid; echo loading $LITELLM_MASTER_KEY; exec tail -f /dev/null");
    let (config, key) = (config(NOWHERE, json!({})), Secret::random());
    let ready_within = Duration::from_secs(1);
    let start =
        LiteLlm::start(StartOptions { ready_within, ..options(&bin, &config, &key, run_dir.path()) }).await;
    match start {
        Err(StartError::NotReady { log, within_s: 1, last_seen }) => {
            assert_eq!(log, "loading ***");
            assert!(last_seen.contains("refused"), "{last_seen}");
        }
        other => panic!("{other:?}"),
    }
    let pid = fs::read_to_string(run_dir.path().join("pid")).expect("pid").trim().parse().expect("a number");
    assert!(!runs(pid));
}

#[tokio::test]
async fn a_port_that_was_taken_meanwhile_is_replaced() {
    let run_dir = tempfile::tempdir().expect("directory");
    let bin = script(
        run_dir.path(),
        "echo $6 >>ports; echo 'error while attempting to bind: address already in use'; exit 1",
    );
    let (config, key) = (config(NOWHERE, json!({})), Secret::random());
    let start = LiteLlm::start(options(&bin, &config, &key, run_dir.path())).await;
    assert!(matches!(start, Err(StartError::Ended { .. })), "{start:?}");
    let ports = fs::read_to_string(run_dir.path().join("ports")).expect("ports");
    assert_eq!(ports.lines().filter(|port| port.parse::<u16>().is_ok()).count(), 3, "{ports}");
}

#[tokio::test]
async fn litellm_sees_no_variable_but_those_named() {
    // What LiteLLM is to see of this process's own variables, and what a shell or the harness sets anew.
    let passed = ["HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "USER"];
    let set = ["NO_PROXY", "no_proxy", "PWD", "OLDPWD", "SHLVL", "_"];
    let ours: Vec<_> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| !passed.contains(&name.as_str()) && !set.contains(&name.as_str()))
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .filter(|name| {
            !["PROXY", "DATABASE", "REDIS", "LITELLM", "PYTHON", "HF_"].iter().any(|part| name.contains(part))
        })
        .collect();
    let (referenced, others) = ours.split_first().expect("this process has some variable of its own");
    let run_dir = tempfile::tempdir().expect("directory");
    let bin = script(run_dir.path(), "env | cut -d= -f1 | sort >names; exit 1");
    let settings = json!({ "timeout": format!("os.environ/{referenced}"), "tag": "os.environ/HTTP_PROXY" });
    let (config, key) = (config(NOWHERE, settings), Secret::random());
    let start = LiteLlm::start(options(&bin, &config, &key, run_dir.path())).await;
    assert!(matches!(start, Err(StartError::Ended { .. })), "{start:?}");
    let names = fs::read_to_string(run_dir.path().join("names")).expect("names");
    let names: Vec<_> = names.lines().collect();
    assert!(names.contains(&"LITELLM_MASTER_KEY") && names.contains(&referenced.as_str()), "{names:?}");
    assert!(!names.contains(&"HTTP_PROXY"));
    assert_eq!(others.iter().find(|name| names.contains(&name.as_str())), None);
}

#[tokio::test]
async fn a_guard_that_dies_early_leaves_nothing_behind() {
    let run_dir = tempfile::tempdir().expect("directory");
    let bin = script(run_dir.path(), "exec tail -f /dev/null >/dev/null");
    let (config, key) = (config(NOWHERE, json!({})), Secret::random());
    // Starts its command as the guard does, in a group of its own, and is gone without having stopped it.
    let dying = "setsid \"$@\" & echo $! >pid; until kill -0 -$! 2>/dev/null; do :; done; \
                 echo \"guarded process $!\"; exit 101";
    let guard = ["sh", "-c", dying, "sh"].map(OsString::from).to_vec();
    let start = LiteLlm::start(StartOptions { guard, ..options(&bin, &config, &key, run_dir.path()) }).await;
    assert!(matches!(start, Err(StartError::Ended { .. })), "{start:?}");
    let pid = fs::read_to_string(run_dir.path().join("pid")).expect("pid").trim().parse().expect("a number");
    assert!(!runs(pid), "its command still runs");
}

#[tokio::test]
async fn a_guard_that_cannot_start_is_named() {
    let run_dir = tempfile::tempdir().expect("directory");
    let bin = script(run_dir.path(), "exit 1");
    let (config, key) = (config(NOWHERE, json!({})), Secret::random());
    let guard = vec![OsString::from("/nonexistent/guard")];
    let start = LiteLlm::start(StartOptions { guard, ..options(&bin, &config, &key, run_dir.path()) }).await;
    let error = start.expect_err("no guard").to_string();
    assert!(error.starts_with("cannot start the guard /nonexistent/guard"), "{error}");
}
