//! openclaw from start to end, and a harness that is killed.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::client::Agents;
use harness::client::process::{LOOPBACK_ONLY, OpenClaw, StartError, StartOptions};
use harness::gateway::secret::Secret;

use crate::world::{START_WITHIN, environment, files_of, living_in, openclaw, options, wait_for};

const NOWHERE: &str = "http://127.0.0.1:1";
const SOON: Duration = Duration::from_secs(15);

fn agents() -> Agents {
    Agents::of(&environment()).expect("routes through openclaw")
}

/// The part of a harness that is killed.
pub(crate) async fn start_and_wait_forever(run_dir: &OsStr) {
    let (found, agents, key) = (openclaw().await, agents(), Secret::random());
    let run_dir = Path::new(run_dir);
    let openclaw = OpenClaw::start(options(&found, &agents, NOWHERE, &key, run_dir)).await.expect("start");
    fs::write(run_dir.join("pid.part"), openclaw.pid().to_string()).expect("write");
    fs::rename(run_dir.join("pid.part"), run_dir.join("pid")).expect("rename");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_starts_keeps_its_keys_and_is_gone_after_stop() {
    let (found, agents, key) = (openclaw().await, agents(), Secret::random());
    let run_dir = tempfile::tempdir().expect("directory");
    let openclaw =
        OpenClaw::start(options(&found, &agents, NOWHERE, &key, run_dir.path())).await.expect("start");
    assert!(openclaw.is_alive());
    assert!(!living_in(run_dir.path()).is_empty());
    // Nobody answers it, so the turn fails; with bounded retries at once.
    let (status, _) = openclaw.warm_up().await;
    assert!(matches!(status, Some(408 | 500..600)), "{status:?}");
    let tokens = [openclaw.token().clone(), openclaw.hooks_token().clone(), key];
    openclaw.stop().await.expect("stopped");
    wait_for("the end of all of it", SOON, || living_in(run_dir.path()).is_empty().then_some(())).await;
    for (path, text) in files_of(run_dir.path()) {
        for token in &tokens {
            assert!(!text.contains(token.expose()), "a key is in {}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openclaw_ends_when_the_harness_is_killed() {
    openclaw().await;
    let run_dir = tempfile::tempdir().expect("directory");
    let this = std::env::current_exe().expect("this binary");
    let mut harness = Command::new(this)
        .args(["play_harness", "--exact", "--nocapture", "--"])
        .arg(run_dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("harness");
    wait_for("openclaw's start", START_WITHIN, || {
        assert_eq!(harness.try_wait().expect("wait"), None, "the harness ended early");
        fs::read_to_string(run_dir.path().join("pid")).ok()
    })
    .await;
    assert!(!living_in(run_dir.path()).is_empty());
    harness.kill().expect("SIGKILL");
    harness.wait().expect("wait");
    wait_for("the end of all of it", SOON, || living_in(run_dir.path()).is_empty().then_some(())).await;
}

#[tokio::test]
async fn nothing_beyond_this_machine_is_there_for_it() {
    let (found, directory) = (openclaw().await, tempfile::tempdir().expect("directory"));
    let file = directory.path().join("with a blank.cjs");
    fs::write(&file, LOOPBACK_ONLY).expect("write");
    let server = wiremock::MockServer::start().await;
    // Also what asks a name server, and what waits for no answer: the last is heard of here.
    let code = "for (const url of process.argv.slice(1)) \
          console.log(await fetch(url).then((answer) => answer.status, (error) => error.cause.code)); \
        const said = (asked) => asked.then(() => 'ok', (error) => error.code); \
        const { promises, Resolver } = await import('node:dns'); \
        const { createSocket } = await import('node:dgram'); \
        const { promisify } = await import('node:util'); \
        console.log(await said(promises.resolve('example.org'))); \
        console.log(await said(promisify((name, done) => new Resolver().resolve4(name, done))('example.org'))); \
        for (const address of ['192.0.2.1', '127.0.0.1']) { \
          const socket = createSocket('udp4'); \
          console.log(await said(promisify((to, done) => socket.send('x', 9, to, done))(address))); \
          socket.close(); }";
    let output = Command::new("node")
        .env("PATH", &found.path)
        .env("NODE_OPTIONS", format!("--require \"{}\"", file.display()))
        .args([
            "--input-type=module",
            "-e",
            code,
            "--",
            &server.uri(),
            "http://192.0.2.1",
            "https://example.org",
        ])
        .output()
        .expect("node");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        ["404", "ENOTFOUND", "ENOTFOUND", "ENOTFOUND", "ENOTFOUND", "ENOTFOUND", "ok"],
        "{output:?}"
    );
}

#[tokio::test]
async fn a_start_that_fails_quotes_the_log_without_a_key() {
    let directory = tempfile::tempdir().expect("directory");
    let script = "echo loading $LITELLM_MASTER_KEY $OPENCLAW_GATEWAY_TOKEN $OPENCLAW_HOOKS_TOKEN $TELEGRAM_BOT_TOKEN; exit 3";
    let mut found = openclaw().await;
    found.command = ["sh", "-c", script].map(Into::into).to_vec();
    let (agents, key) = (agents(), Secret::random());
    let bot = Secret::random();
    let told = StartOptions {
        telegram: Some((NOWHERE, &bot)),
        ..options(&found, &agents, NOWHERE, &key, directory.path())
    };
    match OpenClaw::start(told).await.expect_err("it ends") {
        StartError::Ended { ended, log } => {
            assert_eq!(log, "loading *** *** *** ***");
            assert!(ended.contains('3'), "{ended}");
        }
        error => panic!("{error}"),
    }
    found.command = ["sh", "-c", "exec tail -f /dev/null"].map(Into::into).to_vec();
    let bounded = StartOptions {
        ready_within: Duration::from_secs(1),
        ..options(&found, &agents, NOWHERE, &key, directory.path())
    };
    let error = OpenClaw::start(bounded).await.expect_err("it is never ready").to_string();
    assert!(error.contains("not ready within 1 s"), "{error}");
    wait_for("its end", SOON, || living_in(directory.path()).is_empty().then_some(())).await;
}
