//! Whole runs: turns over each way into openclaw, against the mock gateway.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::journal::{Event, FILE_NAME, GatewayCall, Outcome};
use harness::verdict::result::{RouteResult, RunResult, Verdict};

use crate::world::{arguments, files_of, living_in, openclaw};

const SCENARIO: &str = "scenario: short\ntitle: A few turns\nrequirements: [NFR125]\ntraffic:\n  \
    - { route: person, rate: 0.3/s, for: 20s, stream: mixed }\n  \
    - { route: chat, rate: 0.15/s, for: 20s, stream: whole }\n  \
    - { route: child, rate: 0.15/s, for: 20s, stream: whole }\nexpect:\n  \
    person: { served_by: cloud-kimi, within: 28s, errors: 0 }\n  \
    chat: { served_by: cloud-kimi, within: 28s, errors: 0 }\n  \
    child: { served_by: cloud-qwen3-coder, within: 28s, errors: 0 }\n";

const OUTAGE: &str = "scenario: short-outage\ntitle: Nobody is left\nrequirements: [NFR125]\n\
    components: { cloud: down, vllm: down, ollama: down }\ntraffic:\n  \
    - { route: person, rate: 0.3/s, for: 20s, stream: mixed }\n  \
    - { route: chat, rate: 0.15/s, for: 20s, stream: whole }\n  \
    - { route: child, rate: 0.15/s, for: 20s, stream: whole }\nexpect:\n  \
    person: { error: true, within: 28s }\n  chat: { error: true, within: 28s }\n  child: { error: true, within: 28s }\n";

struct Run {
    output: Output,
    dir: PathBuf,
    result: RunResult,
    calls: Vec<GatewayCall>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

async fn run(place: &Path, scenario: &str, more: &[&str]) -> Run {
    openclaw().await;
    let file = place.join("scenario.yaml");
    fs::write(&file, scenario).expect("write");
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command
        .current_dir(root())
        .arg("run")
        .arg(&file)
        .args(["--env", "openclaw", "--client", "openclaw", "--quiet", "--out"])
        .arg(place.join("out"))
        .args(arguments())
        .args(more);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("run");
    let dir =
        fs::canonicalize(place.join("out/latest")).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let result = fs::read_to_string(dir.join("result.json")).expect("result");
    let result = serde_json::from_str(&result).expect("a result");
    let entries = harness::journal::read(&dir.join(FILE_NAME)).expect("a journal");
    let calls = entries.into_iter().filter_map(|entry| match entry.event {
        Event::GatewayCalled(call) => Some(call),
        _ => None,
    });
    Run { output, calls: calls.collect(), dir, result }
}

fn route<'r>(run: &'r Run, name: &str) -> &'r RouteResult {
    run.result.scenarios[0].routes.iter().find(|route| route.route == name).expect("the route")
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_over_each_way_are_answered_and_attributed() {
    let place = tempfile::tempdir().expect("directory");
    let run = run(place.path(), SCENARIO, &[]).await;
    // Too few probes for a verdict, which takes ten; nothing may speak against one.
    assert_ne!(run.result.verdict, Verdict::Fail, "{:?}\n{:?}", run.result.reasons, run.output);
    assert!(living_in(&run.dir).is_empty(), "openclaw is gone with the run");
    for (name, alias) in [("person", "cloud-kimi"), ("chat", "cloud-kimi"), ("child", "cloud-qwen3-coder")] {
        let route = route(&run, name);
        assert!(route.requests > 1 && route.served_by.get(alias) == Some(&route.requests), "{route:?}");
        let turns = route.turns.as_ref().expect("turns");
        assert_eq!((turns.requests, turns.most, turns.several, turns.none), (route.requests, 1, 0, 0));
        assert_eq!(turns.known_by.get("journal of the upstream"), Some(&route.ok), "{turns:?}");
        let person = route.latency_ms.p50.expect("a person's time");
        assert!(turns.gateway_ms.p50.is_some_and(|own| own <= person), "{turns:?} of {person}");
        assert_eq!(route.attribution_conflicts, 0);
    }
    // The gateway's own claim is there for each, beside the upstreams' journals.
    let probed = run.calls.iter().filter(|call| call.probe.is_some());
    assert!(
        probed.clone().all(|call| call.status == Some(200) && !call.claims.is_empty()),
        "{:?}",
        run.calls
    );
    assert!(run.calls.iter().any(|call| call.model == "cloud-qwen3-coder"));
    let report = fs::read_to_string(run.dir.join("report.md")).expect("report");
    assert!(report.contains("The layers did not compound"), "{report}");
    // What a token looks like: in no file of the run.
    for (path, text) in files_of(&run.dir) {
        let key = text.match_indices("sk-").find(|(at, _)| {
            text[at + 3..].chars().take(32).filter(char::is_ascii_alphanumeric).count() == 32
        });
        assert_eq!(key, None, "a key is in {}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_full_outage_bounded_retries_tell_the_person_in_time() {
    let place = tempfile::tempdir().expect("directory");
    let run = run(place.path(), OUTAGE, &["--openclaw-retries", "bounded"]).await;
    for name in ["person", "chat", "child"] {
        let route = route(&run, name);
        assert_eq!(route.ok, 0, "{route:?}");
        assert!(
            route.errors.keys().all(|class| class == "told-error" || class.starts_with("http-")),
            "{route:?}"
        );
        let turns = route.turns.as_ref().expect("turns");
        assert_eq!((turns.retries.as_str(), turns.several, turns.most), ("bounded", 0, 1), "{turns:?}");
    }
    let entries = harness::journal::read(&run.dir.join(FILE_NAME)).expect("a journal");
    let told = |entry: &&harness::journal::Entry| match &entry.event {
        Event::ProbeEnded(probe) => matches!(&probe.outcome, Outcome::Error(class) if class == "told-error"),
        _ => false,
    };
    assert!(
        entries.iter().filter(told).count() > 1,
        "a stream that had begun, a chat and a child have no status"
    );
}

#[test]
fn routes_through_openclaw_need_it_and_it_needs_them() {
    let refused = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        let output = command.current_dir(root()).arg("run").args(arguments).output().expect("run");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused(&["scenarios/openclaw", "--env", "openclaw"]);
    assert!(said.contains("--client openclaw"), "{said}");
    let said = refused(&["scenarios/normal.yaml", "--env", "local", "--client", "openclaw"]);
    assert!(said.contains("via: openclaw"), "{said}");
    let said = refused(&["scenarios/normal.yaml", "--install-openclaw"]);
    assert!(said.contains("--client"), "{said}");
}
