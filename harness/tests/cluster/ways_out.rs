//! Every way out of a run while vLLM is at 0 and a policy stands: both are undone, whatever ends the run.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::gateway::local::{Choice, ConfigSource};
use harness::journal::{Entry, Event};
use harness::run::{RunOptions, Stop, Watcher};
use harness::verdict::result::{Ended as Ending, Verdict};
use mocks::gate::GateMode;
use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::resources::{CONFIG_MAPS, JOBS, NETWORK_POLICIES};
use rustix::process::{Resource, Rlimit, Signal};
use serde_json::Value;
use tokio::process::Command;

use crate::child::{Ended, Running};
use crate::stack::{CLOUD_AND_GPU_DOWN, CLOUD_DOWN, Stack, Staging};

/// What a container runtime leaves between SIGTERM and SIGKILL where it is told little.
const GRACE: Duration = Duration::from_secs(5);

/// A cluster and a scenario whose hold nobody waits for.
async fn staged() -> (Stack, PathBuf) {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-gpu-down", &CLOUD_AND_GPU_DOWN.replace("for: 6s", "for: 60s"));
    (stack, file)
}

async fn until_held(stack: &Stack, running: &mut Running) {
    running.until_it_says("judging").await;
    assert_eq!(stack.replicas("vllm"), 0);
    assert_eq!(stack.household.cluster().store().list(&NETWORK_POLICIES, None).items.len(), 1);
}

fn is_restored(stack: &Stack) -> bool {
    let store = stack.household.cluster().store();
    let left = [&JOBS, &NETWORK_POLICIES].iter().any(|kind| !store.list(kind, None).items.is_empty());
    !left && stack.replicas("vllm") == 1
}

fn assert_restored(stack: &Stack, ended: &Ended) {
    assert_eq!((&ended.result["verdict"], &ended.result["restored"]), (&"inconclusive".into(), &true.into()));
    assert!(is_restored(stack));
}

async fn signalled(signal: Signal) {
    let (stack, file) = staged().await;
    let mut running = stack.harness("run", &[file]);
    until_held(&stack, &mut running).await;
    running.signal(signal);
    // What a person waits for comes first, what they read later.
    stack.eventually("all restored within the grace", GRACE, is_restored).await;
    let ended = running.end().await.expect(3);
    assert_eq!(ended.result["ended"], "interrupted", "{signal:?}");
    assert_restored(&stack, &ended);
    stack.strike().await;
}

/// What the API is slow at, so that a signal falls into it.
fn slow(verb: &str, resource: &str) -> ChaosRule {
    ChaosRule {
        verb: verb.to_owned(),
        resource: resource.to_owned(),
        times: None,
        trouble: Trouble::Latency(Duration::from_secs(3)),
    }
}

/// A signal while the first of two changes is under way: it comes through, the second is not begun.
async fn signalled_in_between(signal: Signal) {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-down", CLOUD_DOWN);
    stack.household.cluster().chaos().add(slow("create", "jobs"));
    let running = stack.harness("run", &[file]);
    let is_begun = |stack: &Stack| stack.journal().contains("mutation-intended");
    stack.eventually("the first change is intended", crate::child::LIMIT, is_begun).await;
    running.signal(signal);
    let ended = running.end().await.expect(3);
    assert_eq!(ended.result["ended"], "interrupted", "{signal:?}");
    assert_restored(&stack, &ended);
    let made = stack.mutations();
    assert!(made.iter().any(|one| one.starts_with("create jobs")), "{made:?}");
    assert!(!made.iter().any(|one| one.starts_with("create networkpolicies")), "{made:?}");
    stack.strike().await;
}

/// A signal while the undo of the mode itself is under way: it is not begun again, and nothing is left out.
async fn signalled_while_it_heals(signal: Signal) {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-gpu-down", &CLOUD_AND_GPU_DOWN.replace("for: 6s", "for: 3s"));
    let mut running = stack.harness("run", &[file]);
    until_held(&stack, &mut running).await;
    stack.household.cluster().chaos().add(slow("patch", "deployments/scale"));
    let heals = |stack: &Stack| stack.journal().contains("heal-intended");
    stack.eventually("it heals", crate::child::LIMIT, heals).await;
    assert_eq!(stack.replicas("vllm"), 0, "{signal:?}: its undo is under way");
    running.signal(signal);
    let ended = running.end().await.expect(3);
    assert_eq!(ended.result["ended"], "interrupted", "{signal:?}");
    assert_restored(&stack, &ended);
    assert_eq!(stack.writers("deployments/scale", "vllm").len(), 2, "{signal:?}: down once, and up once");
    let deleted = stack.mutations().iter().filter(|one| one.starts_with("delete networkpolicies")).count();
    assert_eq!(deleted, 1, "{signal:?}: {:?}", stack.mutations());
    stack.strike().await;
}

async fn deadline() {
    let (stack, file) = staged().await;
    let file = file.to_str().unwrap();
    let arguments = ["run", "--env", "cluster.yaml", "--out", "out", "--deadline", "80s", file];
    let mut running = stack.command(&arguments);
    until_held(&stack, &mut running).await;
    let ended = running.end().await.expect(3);
    assert_eq!(ended.result["ended"], "interrupted");
    assert!(ended.reasons().contains("deadline"), "{}", ended.reasons());
    assert_restored(&stack, &ended);
    stack.strike().await;
}

/// The file size limit stands for a full disk.
async fn journal_that_cannot_grow() {
    let (stack, file) = staged().await;
    let harness = env!("CARGO_BIN_EXE_harness");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' XFSZ; exec \"$@\"",
        "sh",
        harness,
        "run",
        "--env",
        "cluster.yaml",
        "--out",
        "out",
    ]);
    command.arg(file);
    let mut running = stack.start_command(command);
    until_held(&stack, &mut running).await;
    let size = stack.file("out/latest/journal.jsonl").len() as u64;
    let full = Rlimit { current: Some(size), maximum: None };
    rustix::process::prlimit(Some(running.pid()), Resource::Fsize, full).unwrap();
    let ended = running.end().await.expect(3);
    assert!(ended.stderr.contains("cannot write the journal"), "{}", ended.stderr);
    assert!(ended.stderr.contains("everything was undone"), "{}", ended.stderr);
    assert!(is_restored(&stack));
    // A pod of the same Job would end with the same, and nobody is called for nothing.
    let maps = stack.household.cluster().store().list(&CONFIG_MAPS, Some("ml")).items;
    let record = maps.iter().find_map(|map| map["data"]["record.json"].as_str()).expect("there is a record");
    let record: Value = serde_json::from_str(record).unwrap();
    assert_eq!((&record["phase"], &record["exit_code"]), (&"restored".into(), &3.into()), "{record:#}");
    stack.strike().await;
}

/// Panics once, in the task that tells it of such an event.
struct Clumsy {
    falls_over: fn(&Event) -> bool,
    fallen: AtomicBool,
    held: tokio::sync::Notify,
}

impl Clumsy {
    fn new(falls_over: fn(&Event) -> bool) -> Arc<Self> {
        Arc::new(Self { falls_over, fallen: AtomicBool::new(false), held: tokio::sync::Notify::new() })
    }
}

impl Watcher for Clumsy {
    fn entry(&self, entry: &Entry) {
        if matches!(entry.event, Event::HoldStarted { .. }) {
            self.held.notify_one();
        }
        if (self.falls_over)(&entry.event) && !self.fallen.swap(true, Ordering::SeqCst) {
            panic!("clumsy watcher");
        }
    }

    fn progress(&self, _line: &str) {}
}

async fn panicked(stack: &Stack, file: PathBuf, watcher: Arc<Clumsy>) {
    stack.edit("kubeconfig: kubeconfig", &format!("kubeconfig: {}", stack.path("kubeconfig").display()));
    let loaded = harness::input::load(&[file], stack.path("cluster.yaml").to_str()).unwrap();
    let options = RunOptions {
        environment: loaded.environment,
        scenarios: loaded.scenarios,
        gateway: Choice::Mock,
        client: None,
        config: ConfigSource::tuned().unwrap(),
        out: stack.path("out"),
        deadline: None,
        no_dead_man: false,
        stop: Stop::default(),
    };
    // Large, and not alone on the stack of its test.
    let result = Box::pin(harness::run::run(options, watcher)).await.unwrap().result;
    assert_eq!((result.ended, result.verdict), (Ending::Aborted, Verdict::Inconclusive));
    assert!(result.restored, "{:?}", result.reasons);
    assert!(result.reasons.iter().any(|reason| reason.contains("clumsy watcher")), "{:?}", result.reasons);
    assert_eq!(stack.writers("deployments/scale", "vllm").len(), 2, "both faults were made");
    assert!(is_restored(stack));
}

async fn panic_of_the_conductor() {
    let (stack, file) = staged().await;
    panicked(&stack, file, Clumsy::new(|event| matches!(event, Event::HoldStarted { .. }))).await;
    stack.strike().await;
}

/// Nobody would hear of what others change any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_who_tells_of_drift_ends_the_run_restored() {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let watcher = Clumsy::new(|event| matches!(event, Event::Drifted { .. }));
    let disturb = async {
        watcher.held.notified().await;
        stack.kubectl(&["-n", "ml", "delete", "pod", "-l", "app=litellm", "--wait=false"]).await;
    };
    tokio::join!(panicked(&stack, file, Arc::clone(&watcher)), disturb);
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadline_panic_and_full_disk_end_the_run_restored() {
    tokio::join!(deadline(), panic_of_the_conductor(), journal_that_cannot_grow());
}

/// Nobody is left to undo anything: the control plane takes the policy away when its time is over, and a person finds in
/// the journal what brings vLLM back.
async fn killed() {
    let (stack, file) = staged().await;
    let mut running = stack.harness("run", &[file]);
    until_held(&stack, &mut running).await;
    running.signal(Signal::KILL);
    let ended = running.end().await;
    assert_eq!(ended.status.signal(), Some(9));
    let network = stack.household.plane().network();
    let cut = || network.host_modes("ollama.com").iter().any(|(_, mode)| *mode != GateMode::Pass);
    assert!(cut() && stack.replicas("vllm") == 0, "nothing was undone on the way out");
    let intended: Vec<_> = ended.journal.iter().map(|line| &line["event"]["mutation-intended"]).collect();
    let undo = |object: &str| {
        let is_it = |one: &&&Value| one["object"].as_str().is_some_and(|name| name.starts_with(object));
        let found = intended.iter().find(is_it).unwrap_or_else(|| panic!("no {object}: {intended:?}"));
        found["undo"].as_str().unwrap()
    };
    let jobs = stack.household.cluster().store().list(&JOBS, None).items;
    let seconds = jobs[0]["spec"]["activeDeadlineSeconds"].as_u64().unwrap();
    stack.household.cluster().store().clock().put_forward(Duration::from_secs(seconds));
    stack
        .eventually("the policy gone", GRACE, |stack| {
            let store = stack.household.cluster().store();
            store.list(&NETWORK_POLICIES, None).items.is_empty() && store.list(&JOBS, None).items.is_empty()
        })
        .await;
    stack.eventually("the cloud back", GRACE, |_| !cut()).await;
    assert_eq!(stack.replicas("vllm"), 0, "nobody in the cluster knows the count");
    stack.type_in(undo("deployments/scale ml/vllm")).await;
    assert_eq!(stack.replicas("vllm"), 1);
    stack.household.ready(GRACE).await.unwrap();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_run_restored_within_seconds_and_a_kill_leaves_what_a_person_can_undo() {
    tokio::join!(signalled(Signal::INT), signalled(Signal::TERM), signalled(Signal::HUP), killed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_something_is_changed_ends_the_run_restored() {
    tokio::join!(
        signalled_in_between(Signal::INT),
        signalled_in_between(Signal::TERM),
        signalled_in_between(Signal::HUP),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_something_is_undone_ends_the_run_restored() {
    tokio::join!(
        signalled_while_it_heals(Signal::INT),
        signalled_while_it_heals(Signal::TERM),
        signalled_while_it_heals(Signal::HUP),
    );
}

/// Says when a run is where it is to be cut short, having made trouble there.
struct Until {
    is_there: Box<dyn Fn(&Event) -> bool + Send + Sync>,
    is_told: fn(&str) -> bool,
    there: tokio::sync::Notify,
}

impl Watcher for Until {
    fn entry(&self, entry: &Entry) {
        if (self.is_there)(&entry.event) {
            self.there.notify_one();
        }
    }

    fn progress(&self, line: &str) {
        if (self.is_told)(line) {
            self.there.notify_one();
        }
    }
}

/// Cuts a run short once it is there and `then` is over: what is held is undone within the grace, whatever else there is
/// to wait for.
async fn cut_short(stack: &Stack, files: Vec<PathBuf>, until: Until, then: impl AsyncFn(&Stack)) {
    stack.edit("kubeconfig: kubeconfig", &format!("kubeconfig: {}", stack.path("kubeconfig").display()));
    let loaded = harness::input::load(&files, stack.path("cluster.yaml").to_str()).unwrap();
    let (until, stop) = (Arc::new(until), Stop::default());
    let options = RunOptions {
        environment: loaded.environment,
        scenarios: loaded.scenarios,
        gateway: Choice::Mock,
        client: None,
        config: ConfigSource::tuned().unwrap(),
        out: stack.path("out"),
        deadline: None,
        no_dead_man: false,
        stop: stop.clone(),
    };
    let watcher: Arc<dyn Watcher> = until.clone();
    let running = Box::pin(harness::run::run(options, watcher));
    let cut = async {
        until.there.notified().await;
        then(stack).await;
        assert!(!is_restored(stack), "something is held");
        stop.fire("the test");
        stack.eventually("all restored within the grace", GRACE, is_restored).await;
    };
    // What the run looks at and writes when all is restored is not waited for here.
    tokio::select! {
        ended = running => panic!("it has ended before: {:?}", ended.map(|ended| ended.result.reasons)),
        () = cut => {}
    }
}

/// Longer than the grace, and less than what a call may take.
fn late(verb: &str, resource: &str) -> ChaosRule {
    ChaosRule {
        times: Some(1),
        trouble: Trouble::Latency(GRACE + Duration::from_secs(4)),
        ..slow(verb, resource)
    }
}

/// The API is slow at the end of a mode, when all that was changed is read once more.
async fn cut_while_it_reads() {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-down", &CLOUD_DOWN.replace("for: 6s", "for: 3s"));
    let chaos = stack.household.cluster().chaos().clone();
    let is_there = move |event: &Event| {
        let is_held = matches!(event, Event::HoldStarted { .. });
        if is_held {
            chaos.add(late("get", "networkpolicies"));
        }
        is_held
    };
    let until = Until { is_there: Box::new(is_there), is_told: |_| false, there: Default::default() };
    // While it is held the Job is read with it, and at no other time.
    let reads = |stack: &Stack| {
        let entries = stack.household.cluster().audit().entries();
        entries.iter().filter(|entry| entry.verb == "get" && entry.resource == "jobs").count()
    };
    let then = async |stack: &Stack| {
        let before = reads(stack);
        stack.eventually("it reads", crate::child::LIMIT, |stack| reads(stack) > before).await;
    };
    cut_short(&stack, vec![file], until, then).await;
    assert!(!stack.journal().contains("hold-ended"), "{}", stack.journal());
    stack.strike().await;
}

/// A mode begins with a fault of the one before.
async fn cut_while_a_mode_begins() {
    let stack = Stack::start(Staging::default()).await;
    let gpu_down = gpu_down();
    let files =
        vec![stack.scenario("gpu-down", &gpu_down), stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN)];
    let chaos = stack.household.cluster().chaos().clone();
    let begun = AtomicBool::new(false);
    let is_there = move |event: &Event| {
        let is_second = matches!(event, Event::ScenarioStarted { .. }) && begun.swap(true, Ordering::SeqCst);
        if is_second {
            chaos.add(late("list", "pods"));
        }
        is_second
    };
    let until = Until { is_there: Box::new(is_there), is_told: |_| false, there: Default::default() };
    cut_short(&stack, files, until, async |_| {}).await;
    stack.strike().await;
}

/// A mode has undone its own fault and reads it back, and the one of the mode before is held for the next.
async fn cut_while_it_reads_back() {
    let stack = Stack::start(Staging::default()).await;
    let files = vec![
        stack.scenario("gpu-down", &gpu_down()),
        stack.scenario("cloud-gpu-down", &CLOUD_AND_GPU_DOWN.replace("for: 6s", "for: 2s")),
        stack.scenario("local-down", &local_down()),
    ];
    let chaos = stack.household.cluster().chaos().clone();
    let is_there = move |event: &Event| {
        let heals = matches!(event, Event::HealIntended { .. });
        if heals {
            chaos.add(slow("delete", "jobs"));
        }
        heals
    };
    let until = Until { is_there: Box::new(is_there), is_told: |_| false, there: Default::default() };
    let is_none = |stack: &Stack, kind| stack.household.cluster().store().list(kind, None).items.is_empty();
    let then = async |stack: &Stack| {
        let is_gone = |stack: &Stack| is_none(stack, &NETWORK_POLICIES);
        stack.eventually("the policy gone", crate::child::LIMIT, is_gone).await;
        stack.household.cluster().chaos().add(late("get", "networkpolicies"));
        stack.eventually("the Job gone", crate::child::LIMIT, |stack| is_none(stack, &JOBS)).await;
    };
    cut_short(&stack, files, until, then).await;
    stack.strike().await;
}

/// Between two modes, while a write that was not answered may still come through.
async fn cut_while_it_settles() {
    let stack = Stack::start(Staging::default()).await;
    let files = vec![
        stack.scenario("gpu-down", &gpu_down()),
        stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN),
        stack.scenario("local-down", &local_down()),
    ];
    let chaos = stack.household.cluster().chaos().clone();
    let begun = AtomicBool::new(false);
    let is_there = move |event: &Event| {
        if matches!(event, Event::ScenarioStarted { .. }) && begun.swap(true, Ordering::SeqCst) {
            for (verb, resource) in [("create", "jobs"), ("patch", "deployments/scale")] {
                let trouble = Trouble::Refused { code: 504, retry_after: None };
                chaos.add(ChaosRule { trouble, ..slow(verb, resource) });
            }
        }
        false
    };
    let until = Until {
        is_there: Box::new(is_there),
        is_told: |line| line.starts_with("waiting until nothing that was sent"),
        there: Default::default(),
    };
    let then = async |stack: &Stack| stack.household.cluster().chaos().clear();
    cut_short(&stack, files, until, then).await;
    stack.strike().await;
}

fn gpu_down() -> String {
    let body =
        CLOUD_DOWN.replace("cloud: down", "vllm: down").replace("vllm-qwen, within", "cloud-kimi, within");
    body.replace("for: 6s", "for: 2s")
}

fn local_down() -> String {
    CLOUD_AND_GPU_DOWN.replace("cloud: down", "ollama: down").replace("ollama-qwen", "cloud-kimi")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cuts_a_run_short_waits_for_nothing_that_only_reads_or_waits() {
    tokio::join!(
        cut_while_it_reads(),
        cut_while_it_reads_back(),
        cut_while_a_mode_begins(),
        cut_while_it_settles(),
    );
}
