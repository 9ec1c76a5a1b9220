//! A panic in the middle of a fault: everything is undone all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::gateway::local::{Choice, ConfigSource};
use harness::journal::{Entry, Event};
use harness::run::{RunOptions, Stop, Watcher};
use harness::verdict::result::{Ended, Verdict};

use crate::place::{Place, fixture};
use crate::result::RunDir;

/// Panics once, in the conductor's own task, when the mode is entered.
struct Clumsy {
    fallen: AtomicBool,
}

impl Watcher for Clumsy {
    fn entry(&self, entry: &Entry) {
        let hold = matches!(entry.event, Event::HoldStarted { .. });
        if hold && !self.fallen.swap(true, Ordering::SeqCst) {
            panic!("clumsy watcher");
        }
    }

    fn progress(&self, _line: &str) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_a_fault_is_held_ends_restored() {
    let place = Place::new();
    let environment = fixture("environment.yaml");
    let scenarios = [fixture("cloud-down-short.yaml")];
    let loaded = harness::input::load(&scenarios, environment.to_str()).expect("the fixtures are right");
    let options = RunOptions {
        environment: loaded.environment,
        scenarios: loaded.scenarios,
        gateway: Choice::Mock,
        client: None,
        config: ConfigSource::tuned().expect("the built-in configuration is right"),
        out: place.path().join("out"),
        deadline: None,
        no_dead_man: false,
        stop: Stop::default(),
    };
    let watcher = Arc::new(Clumsy { fallen: AtomicBool::new(false) });
    let finished = harness::run::run(options, watcher).await.expect("a result");
    let result = finished.result;
    assert_eq!((result.ended, result.verdict), (Ended::Aborted, Verdict::Inconclusive));
    assert!(result.restored, "{:?}", result.reasons);
    assert!(result.reasons.iter().any(|reason| reason.contains("clumsy watcher")), "{:?}", result.reasons);
    RunDir { path: finished.dir }.assert_healed();
}
