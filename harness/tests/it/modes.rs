//! Modes that behave, and what a whole run leaves behind.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::json;

use crate::child::Ended;
use crate::place::{Place, fixture, read};
use crate::result::{RunDir, list, number, text};

/// One good run of two modes, shared by the tests that only look at it.
static GOOD: LazyLock<(Place, Ended)> = LazyLock::new(|| {
    let place = Place::new();
    let scenarios = [fixture("cloud-down.yaml"), fixture("normal.yaml")];
    let ended = place.run(&scenarios, &fixture("environment.yaml"), &[]);
    (place, ended)
});

#[test]
fn modes_that_behave_pass() {
    let (place, ended) = &*GOOD;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let result = place.run_dir().assert_sound();
    assert_eq!(result["verdict"], "pass");
    assert_eq!(result["environment"], "test");
    // The steady state comes first, whatever the order on the command line.
    let names: Vec<&str> = list(&result["scenarios"]).iter().map(|mode| text(&mode["name"])).collect();
    assert_eq!(names, ["normal", "cloud-down"]);

    let cloud_down = &result["scenarios"][1];
    let route = |name: &str| {
        let routes = list(&cloud_down["routes"]);
        routes.iter().find(|route| route["route"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    let agent = route("agent");
    assert_eq!(agent["served_by"], json!({ "vllm-qwen": number(&agent["requests"]) }));
    assert!(number(&agent["requests"]) >= 70, "8/s for 10 s: {agent}");
    assert_eq!(agent["failover"]["request_verdict"], "pass");
    assert_eq!(agent["failover"]["service_verdict"], "pass");
    let coder = route("coder");
    assert_eq!((&coder["ok"], &coder["served_by"]), (&json!(0), &json!({})));

    let faults = list(&cloud_down["faults"]);
    assert_eq!(faults.len(), 1);
    assert_eq!((&faults[0]["component"], &faults[0]["kind"]), (&json!("cloud"), &json!("blackhole")));
    assert!(list(&faults[0]["evidence"]).iter().any(|seen| seen["source"] == "tcp-witness"), "{faults:?}");
    assert!(list(&result["scenarios"][0]["faults"]).is_empty());
    assert!(ended.stdout.contains("PASS") && ended.stderr.contains("report.md"), "{ended:#?}");
}

#[test]
fn a_run_directory_holds_journal_result_reports_and_histograms() {
    let (place, _) = &*GOOD;
    let run = place.run_dir();
    for name in ["journal.jsonl", "result.json", "report.md", "junit.xml"] {
        assert!(!read(&run.file(name)).is_empty(), "{name}");
    }
    for name in ["normal.agent", "normal.coder", "cloud-down.agent", "cloud-down.coder"] {
        assert!(read(&run.file(&format!("histograms/{name}.hlog"))).contains("HIST"), "{name}");
    }
    let latest = std::fs::read_link(place.path().join("out/latest")).expect("latest is a link");
    assert_eq!(Some(latest.as_os_str()), run.path.file_name());
    run.assert_healed();
    for (number, entry) in run.journal().iter().enumerate() {
        assert_eq!(entry["seq"], number);
    }
}

#[test]
fn a_report_of_the_journal_alone_is_the_same_to_the_byte() {
    let (place, ended) = &*GOOD;
    let run = place.run_dir();
    let elsewhere = Place::new();
    let copy = elsewhere.path().join("copy");
    std::fs::create_dir(&copy).expect("directory");
    std::fs::copy(run.file("journal.jsonl"), copy.join("journal.jsonl")).expect("copy");
    let told = elsewhere.harness(&["report", "copy"]).expect(0);
    let relative = |run: &RunDir| -> Vec<(PathBuf, Vec<u8>)> {
        let files = run.files().into_iter();
        files.map(|(path, bytes)| (path.strip_prefix(&run.path).expect("inside").to_owned(), bytes)).collect()
    };
    let (was, is) = (relative(&run), relative(&RunDir { path: copy }));
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&was), names(&is));
    for ((name, was), (_, is)) in was.iter().zip(&is) {
        assert!(was == is, "{} differs", name.display());
    }
    assert_eq!(told.stdout, ended.stdout);
}

#[test]
fn a_run_is_listed() {
    let (place, _) = &*GOOD;
    let listed = place.harness(&["list", "out"]).expect(0);
    let id = text(&place.run_dir().result()["run_id"]).to_owned();
    let lines: Vec<&str> = listed.stdout.lines().filter(|line| line.contains(&id)).collect();
    assert_eq!(lines.len(), 1, "{}", listed.stdout);
    assert!(lines[0].contains("pass") && lines[0].contains("2 of 2"), "{}", lines[0]);
}

#[test]
fn a_wrong_expectation_fails_and_names_who_served() {
    let wrong = |components: &str, expected: &str| {
        let place = Place::new();
        let edits = [("{ vllm: down }", components), ("served_by: cloud-kimi", expected)];
        let scenario = place.edited("gaming.yaml", &fixture("gaming.yaml"), &edits);
        let run = place.run_command(&[scenario], &fixture("environment.yaml"), &[]);
        (place, crate::child::Running::start(run))
    };
    let runs = [
        wrong("{ vllm: down }", "served_by: cloud-minimax"),
        wrong("{ ollama: down }", "served_by: vllm-qwen"),
        wrong("{}", "served_by: vllm-qwen"),
    ];
    for (place, running) in runs {
        let ended = running.end().expect(1);
        let result = place.run_dir().assert_sound();
        assert_eq!((&result["verdict"], &result["ended"]), (&json!("fail"), &json!("completed")));
        assert_eq!(result["restored"], true);
        let agent = &result["scenarios"][0]["routes"][0];
        assert_eq!(agent["served_by"], json!({ "cloud-kimi": number(&agent["requests"]) }));
        for told in [place.run_dir().report(), ended.stdout.clone(), crate::result::reasons(&result)] {
            assert!(told.contains("cloud-kimi"), "does not say who served: {told}");
        }
        assert!(read(&place.run_dir().file("junit.xml")).contains("<failure"));
    }
}

#[test]
fn the_journal_can_be_followed_on_stdout_while_the_run_goes_on() {
    let place = Place::new();
    let ended = place.run(&[fixture("normal.yaml")], &fixture("environment.yaml"), &["--events", "-"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.stdout, read(&place.run_dir().file("journal.jsonl")), "the journal and nothing else");
    assert!(ended.stderr.contains("normal: judging") && ended.stderr.contains("PASS"), "{ended:#?}");
}

#[test]
fn a_terminal_shows_the_mode_its_components_and_who_answers() {
    let place = Place::new();
    let (scenario, environment) = (fixture("normal.yaml"), fixture("environment.yaml"));
    let run = format!(
        "{} run {} --env {} --out out",
        env!("CARGO_BIN_EXE_harness"),
        scenario.display(),
        environment.display()
    );
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &run, "typescript"]).current_dir(place.path());
    let ended = crate::child::run(terminal);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    for shown in ["normal           judging, ", "agent", "now cloud-kimi", "(limit ", "measured: ", "PASS"] {
        assert!(ended.stdout.contains(shown), "{shown}: {ended:#?}");
    }
}
