//! Signals and the deadline: the run ends soon, and everything is restored.
//!
//! `HARNESS_TEST_SIGNALS` sets how many instants are tried with each signal, `HARNESS_TEST_SEED` which.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::json;

use crate::child::{Ended, Running};
use crate::place::{Place, fixture, read};
use crate::result::reasons;

/// From the signal to the end of the process.
const SOON: Duration = Duration::from_secs(5);
/// So many at once; they mostly sleep.
const AT_ONCE: usize = 6;
/// Carried by all processes of one run, so that those left behind are found.
const MARK: &str = "HARNESS_TEST_MARK";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Processes that still carry the mark.
fn left_behind(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}");
    let processes =
        std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok).map(|entry| entry.path());
    processes
        .filter(|process| {
            let environment = std::fs::read(process.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        })
        .map(|process| format!("{}: {}", process.display(), read_or_nothing(&process.join("cmdline"))))
        .collect()
}

fn read_or_nothing(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

struct Case {
    signal: Signal,
    name: &'static str,
    after: Duration,
    twice: bool,
}

#[track_caller]
fn assert_interrupted(place: &Place, ended: Ended, cause: &str) {
    let told = ended.expect(3);
    let run = place.run_dir();
    let result = run.assert_sound();
    assert_eq!((&result["ended"], &result["verdict"]), (&json!("interrupted"), &json!("inconclusive")));
    assert_eq!(result["restored"], true, "{}", reasons(&result));
    assert!(reasons(&result).contains(cause), "{}", reasons(&result));
    run.assert_healed();
    assert!(told.stdout.contains("INCONCLUSIVE"), "{}", told.stdout);
}

fn interrupt(case: &Case) {
    let place = Place::new();
    let mark = place.path().display().to_string();
    let mut command =
        place.run_command(&[fixture("cloud-down-short.yaml")], &fixture("environment.yaml"), &[]);
    command.env(MARK, &mark);
    let mut running = Running::start(command);
    running.until_it_says("cloud-down: baseline");
    assert!(
        running.runs_until(Instant::now() + case.after),
        "it ended before the signal at {:?}",
        case.after
    );
    running.signal(case.signal);
    if case.twice {
        running.signal(case.signal);
    }
    let ended = running.end_within(SOON);
    assert_interrupted(&place, ended, case.name);
    assert_eq!(left_behind(&mark), Vec::<String>::new());
}

#[test]
fn a_signal_at_any_instant_ends_the_run_restored() {
    let seed = setting("HARNESS_TEST_SEED", 7);
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut cases = Vec::new();
    for _ in 0..setting("HARNESS_TEST_SIGNALS", 3) {
        for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
            // Baseline, injection, hold, drain, heal, recovery: the whole run takes 15 s and more.
            let after = Duration::from_millis(chance.random_range(0..12_000));
            cases.push(Case { signal, name, after, twice: chance.random_range(0..3) == 0 });
        }
    }
    for some in cases.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|case| (case, scope.spawn(|| interrupt(case)))).collect();
            for (case, thread) in threads {
                let outcome = thread.join();
                assert!(outcome.is_ok(), "seed {seed}: {} after {:?}", case.name, case.after);
            }
        });
    }
}

/// Before the program has said anything: either it ends like any other program, having made nothing, or
/// as an interrupted run.
#[test]
fn a_signal_while_the_program_starts_leaves_nothing_half_done() {
    let mut chance = ChaCha8Rng::seed_from_u64(setting("HARNESS_TEST_SEED", 7));
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")].repeat(4) {
        let place = Place::new();
        let scenarios = [fixture("cloud-down-short.yaml")];
        let mut running = Running::start(place.run_command(&scenarios, &fixture("environment.yaml"), &[]));
        let after = Duration::from_millis(chance.random_range(0..150));
        assert!(running.runs_until(Instant::now() + after), "it ended by itself");
        running.signal(signal);
        let ended = running.end_within(SOON);
        if ended.signal == Some(signal.as_raw()) {
            assert!(place.run_dirs().is_empty(), "{name} after {after:?}: a run directory, but no handler");
        } else {
            assert_interrupted(&place, ended, name);
        }
    }
}

/// A LiteLLM that never gets ready.
fn endless_litellm(place: &Place) -> String {
    let script = "#!/bin/sh\n\
        if [ \"$1\" = --version ]; then echo 'LiteLLM: Current Version = 1.106.2'; exit; fi\n\
        echo $$ > \"$(dirname \"$0\")/pid\"\n\
        exec sleep 600\n";
    let path = place.write("litellm", script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_signal_while_litellm_starts_ends_it_too() {
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let place = Place::new();
        let mark = place.path().display().to_string();
        let bin = endless_litellm(&place);
        let more = ["--gateway", "litellm", "--litellm-bin", &bin];
        let scenarios = [fixture("cloud-down-short.yaml")];
        let mut command = place.run_command(&scenarios, &fixture("environment.yaml"), &more);
        command.env(MARK, &mark);
        let mut running = Running::start(command);
        let pid_file = place.path().join("pid");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !read_or_nothing(&pid_file).ends_with('\n') {
            assert!(running.runs_until(Instant::now() + Duration::from_millis(10)), "it ended by itself");
            assert!(Instant::now() < deadline, "LiteLLM was not started");
        }
        running.signal(signal);
        // LiteLLM gets 5 s to end by itself.
        let ended = running.end_within(2 * SOON);
        assert_interrupted(&place, ended, name);
        assert_eq!(left_behind(&mark), Vec::<String>::new());
        let command_line = Path::new("/proc").join(read(&pid_file).trim()).join("cmdline");
        assert!(!read_or_nothing(&command_line).contains("sleep"), "LiteLLM still runs");
    }
}

#[test]
fn the_deadline_ends_the_run_restored_before_it() {
    let place = Place::new();
    let ended = place.run(
        &[fixture("cloud-down.yaml"), fixture("normal.yaml")],
        &fixture("environment.yaml"),
        &["--deadline", "12s"],
    );
    assert!(ended.took < Duration::from_secs(13), "{:?}", ended.took);
    assert_interrupted(&place, ended, "deadline");
    // What was not reached is in the result all the same.
    assert_eq!(place.run_dir().result()["scenarios"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_deadline_inside_a_fault_heals_it() {
    let place = Place::new();
    let scenarios = [fixture("cloud-down.yaml")];
    let ended = place.run(&scenarios, &fixture("environment.yaml"), &["--deadline", "10s"]);
    assert!(ended.took < Duration::from_secs(11), "{:?}", ended.took);
    assert_interrupted(&place, ended, "deadline");
    assert_eq!(place.run_dir().events("fault-injected").len(), 1);
}
