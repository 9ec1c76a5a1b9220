//! SIGKILL in the middle, and what can still be said about the run.

use rustix::process::Signal;
use serde_json::json;

use crate::child::Running;
use crate::place::{Place, fixture, read};
use crate::result::{RunDir, reasons};

/// A run that was killed while its fault was in effect.
fn killed() -> (Place, RunDir) {
    let place = Place::new();
    let command = place.run_command(&[fixture("cloud-down-short.yaml")], &fixture("environment.yaml"), &[]);
    let mut running = Running::start(command);
    running.until_it_says("cloud-down: judging");
    running.signal(Signal::KILL);
    let ended = running.end();
    assert_eq!(ended.signal, Some(Signal::KILL.as_raw()));
    let run = place.run_dir();
    assert!(!run.file("result.json").exists());
    (place, run)
}

fn assert_cut(place: &Place, run: &RunDir) {
    let told = place.harness(&["report", run.path.to_str().expect("UTF-8")]).expect(0);
    let result = run.assert_sound();
    assert_eq!((&result["ended"], &result["verdict"]), (&json!("aborted"), &json!("inconclusive")));
    assert_eq!(result["restored"], false);
    let reasons = reasons(&result);
    assert!(reasons.contains("not restored"), "{reasons}");
    assert!(reasons.contains("its journal has no end"), "{reasons}");
    assert!(told.stdout.contains("INCONCLUSIVE"), "{}", told.stdout);
}

#[test]
fn a_killed_run_is_reported_from_what_it_wrote() {
    let (place, run) = killed();
    let journal = run.file("journal.jsonl");
    assert_cut(&place, &run);

    let whole = read(&journal);
    let half = &whole.lines().last().expect("a line")[..20];
    std::fs::write(&journal, format!("{whole}{half}")).expect("write");
    assert_cut(&place, &run);
    assert!(read(&journal).ends_with(half), "a report leaves the journal alone");

    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let middle = lines.len() / 2;
    std::fs::write(&journal, [&lines[..middle], &lines[middle + 1..]].concat().concat()).expect("write");
    let ended = place.harness(&["report", run.path.to_str().expect("UTF-8")]).expect(2);
    // Line numbers count from 1, so the line that moved up has the number of the one that is gone.
    let position = format!("journal.jsonl:{}:", middle + 1);
    assert!(ended.stderr.contains(&position), "{position} in {}", ended.stderr);
    assert!(ended.stdout.is_empty(), "{}", ended.stdout);

    std::fs::write(&journal, "").expect("write");
    let ended = place.harness(&["report", run.path.to_str().expect("UTF-8")]).expect(2);
    assert!(ended.stderr.contains("journal.jsonl"), "{}", ended.stderr);
}
