//! `local` and `mock-cluster` are two ways to the same mock world, and come to the same verdicts.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::child::Running;

const MODES: [&str; 5] = ["normal", "cloud-down", "gaming", "cloud-gpu-down", "full-outage"];

/// What a run says of each mode, without its figures: the verdict, that of each requirement, and who served each route.
type Said = BTreeMap<String, Vec<String>>;

/// Runs the five modes in an environment of the repository, with less time for each and the fast profile; what it says,
/// and its journal.
async fn said_in(environment: &str) -> (Said, Vec<Value>) {
    let dir = TempDir::new().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let shortened = |name: &str, edits: &[(&str, &str)]| {
        let mut text = std::fs::read_to_string(from.join(name)).unwrap();
        for (from, to) in edits {
            text = text.replace(from, to);
        }
        let file = dir.path().join(Path::new(name).file_name().unwrap());
        std::fs::write(&file, text).unwrap();
        file
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    let environment = shortened(environment, &[("profile: realistic", "profile: fast")]);
    command.args(["run", "--out", "out", "--env"]).arg(environment);
    for mode in MODES {
        command.arg(shortened(&format!("{mode}.yaml"), &[("for: 12s", "for: 7s"), ("for: 8s", "for: 6s")]));
    }
    let ended = Running::start(command, dir.path()).end().await.expect(0);
    let scenarios = ended.result["scenarios"].as_array().unwrap();
    let said = scenarios.iter().map(|scenario| (text(&scenario["name"]), said_of(scenario))).collect();
    (said, ended.journal)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn said_of(scenario: &Value) -> Vec<String> {
    let mut said = vec![text(&scenario["verdict"])];
    let requirements = scenario["requirements"].as_array().unwrap().iter();
    said.extend(requirements.map(|one| format!("{}: {}", text(&one["id"]), text(&one["verdict"]))));
    said.extend(scenario["routes"].as_array().unwrap().iter().map(|route| {
        let servers: Vec<_> = route["served_by"].as_object().unwrap().keys().collect();
        format!("{} is served by {servers:?}", text(&route["route"]))
    }));
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn local_and_mock_cluster_say_the_same_of_all_five_modes() {
    let ((local, _), (cluster, journal)) =
        tokio::join!(said_in("environments/local.yaml"), said_in("environments/mock-cluster.yaml"),);
    assert_eq!(local, cluster);
    let intended = |object: &str| {
        let intended = journal.iter().map(|entry| &entry["event"]["mutation-intended"]);
        intended.filter(|intended| intended["object"] == object).count()
    };
    // What the mock says of its own processes: started with the cluster, then one stop and one start.
    let processes = |deployment: &str| -> Vec<bool> {
        let changes = journal.iter().map(|entry| &entry["event"]["mock-process"]);
        let ours = changes.filter(|change| change["deployment"] == deployment);
        ours.map(|change| change["started"].as_bool().unwrap()).collect()
    };
    for name in ["vllm", "ollama"] {
        assert_eq!(intended(&format!("deployments/scale ml/{name}")), 1, "{name}");
        assert_eq!(processes(&format!("ml/{name}")), [true, false, true], "{name}");
    }
    assert_eq!(local.len(), MODES.len());
    let served = |mode: &str, who: &str| {
        let line = format!("agent is served by {who}");
        assert!(local[mode].contains(&line), "{mode}: {:?}", local[mode]);
    };
    served("cloud-down", "[\"vllm-qwen\"]");
    served("cloud-gpu-down", "[\"ollama-qwen\"]");
    served("full-outage", "[]");
}
