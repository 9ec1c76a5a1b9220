use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{Budget, CUT_WITHIN, LAST_TRIES, READ_BACK_WITHIN, SETTLED_WITHIN, earlier_within};
use crate::cluster::access::Access;
use crate::cluster::faults::scale::Scale;
use crate::cluster::lease::Holder;
use crate::cluster::mutation::{Kubectl, Mutation};
use crate::cluster::record::{Found, Record};
use crate::environment::ObjectName;
use crate::restore::{Restored, Undoing};

/// Much longer than any test waits.
const LONG: Duration = Duration::from_secs(300);
const RUNS: usize = 5;

/// What so many runs have left.
fn records() -> Vec<Found> {
    let of = |at: usize| {
        let (run, now) = (format!("run-{at}"), Timestamp::now());
        let mut record = Record::new(&run, "home", "attic", None, now, now);
        let deployment = ObjectName::new("ml", format!("vllm-{at}"));
        let scale = Mutation::Scale(Scale { deployment, uid: "u1".into(), replicas: 2 });
        record.intend(&scale, &Kubectl::new(None)).unwrap();
        let name = Record::name("ml", &run);
        Found { name, uid: "u1".into(), version: "7".into(), run, record: Ok(record) }
    };
    (0..RUNS).map(of).collect()
}

/// What becomes of them where the API accepts every call and answers none, and how long that took.
async fn undone(budget: Budget, cut: CancellationToken) -> (Restored, Duration) {
    undone_of(&records(), |_| ResponseTemplate::new(200).set_delay(LONG), budget, cut).await
}

/// The same of some records behind an API that answers so.
async fn undone_of(
    all: &[Found],
    respond: impl Fn(&Request) -> ResponseTemplate + Send + Sync + 'static,
    budget: Budget,
    cut: CancellationToken,
) -> (Restored, Duration) {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(respond).mount(&server).await;
    let access = Access::to_server(&server.uri()).await;
    let environment = crate::input::environment("local").unwrap();
    let by = Holder::here("run-9", "run");
    let mut undoing = Undoing::new(&access, &environment, Kubectl::new(None), &by, &|_| {});
    undoing.cut = cut;
    let begun = Instant::now();
    let open: Vec<&Found> = all.iter().collect();
    let restored = timeout(LONG, undoing.undo_in(budget, &open, "ml")).await.expect("it ends");
    (restored, begun.elapsed())
}

#[tokio::test]
async fn what_earlier_runs_have_left_takes_one_budget_however_many_they_were() {
    let budget = Budget {
        waits: Duration::from_millis(500),
        last_tries: Duration::from_millis(1500),
        after_cut: LONG,
    };
    let (restored, took) = undone(budget, CancellationToken::new()).await;
    assert!(took >= budget.waits + budget.last_tries, "nothing is given up before: {took:?}");
    // One call alone takes 10 s.
    assert!(took < Duration::from_secs(9), "{took:?}");
    assert_eq!(restored.left.len(), RUNS, "{restored:?}");
    for (at, words) in restored.left.iter().enumerate() {
        let command = format!("kubectl -n ml scale deployment/vllm-{at} --current-replicas=0 --replicas=2");
        assert!(words.contains(&format!("run-{at} ")) && words.contains(&command), "{words}");
    }
}

/// An API that knows counts of Deployments, and says nothing of one of them; which of them it was told to scale back.
fn all_but(stuck: &'static str) -> (impl Fn(&Request) -> ResponseTemplate, Arc<Mutex<BTreeSet<String>>>) {
    let scaled: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let known = Arc::clone(&scaled);
    let respond = move |request: &Request| {
        let Some(name) = request.url.path().strip_suffix("/scale").and_then(|path| path.rsplit('/').next())
        else {
            return ResponseTemplate::new(503);
        };
        if name == stuck {
            return ResponseTemplate::new(200).set_delay(LONG);
        }
        let mut known = known.lock().unwrap();
        if request.method.as_str() == "PATCH" {
            known.insert(name.to_owned());
        }
        let replicas = if known.contains(name) { 2 } else { 0 };
        ResponseTemplate::new(200).set_body_json(json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": { "name": name, "namespace": "ml", "uid": "u1", "resourceVersion": "7" },
            "spec": { "replicas": replicas }, "status": { "replicas": replicas },
        }))
    };
    (respond, scaled)
}

#[tokio::test]
async fn a_run_whose_undo_is_stuck_keeps_no_other_from_being_undone() {
    let budget = Budget {
        waits: Duration::from_millis(500),
        last_tries: Duration::from_millis(2500),
        after_cut: LONG,
    };
    let (respond, scaled) = all_but("vllm-0");
    let (restored, _) = undone_of(&records(), respond, budget, CancellationToken::new()).await;
    assert_eq!(scaled.lock().unwrap().len(), RUNS - 1, "{restored:?}");
    assert_eq!(restored.undone.len(), RUNS - 1, "{restored:?}");
    assert!(restored.left[0].contains("scale deployment/vllm-0"), "{restored:?}");
    for (at, words) in restored.left.iter().enumerate().skip(1) {
        assert!(words.contains(&format!("run-{at} ")) && words.contains("not looked at again"), "{words}");
    }
    assert_eq!(restored.left.len(), RUNS, "nobody has seen it: {restored:?}");
}

#[tokio::test]
async fn what_was_undone_is_said_where_the_time_ends_in_the_middle_of_a_record() {
    let now = Timestamp::now();
    let mut record = Record::new("run-0", "home", "attic", None, now, now);
    for name in ["vllm-0", "vllm-1"] {
        let deployment = ObjectName::new("ml", name);
        let scale = Mutation::Scale(Scale { deployment, uid: "u1".into(), replicas: 2 });
        record.intend(&scale, &Kubectl::new(None)).unwrap();
    }
    let name = Record::name("ml", "run-0");
    let all =
        [Found { name, uid: "u1".into(), version: "7".into(), run: "run-0".into(), record: Ok(record) }];
    let budget = Budget {
        waits: Duration::from_millis(500),
        last_tries: Duration::from_millis(1500),
        after_cut: LONG,
    };
    let (respond, _) = all_but("vllm-0");
    let (restored, _) = undone_of(&all, respond, budget, CancellationToken::new()).await;
    assert!(matches!(restored.undone.as_slice(), [words] if words.contains("ml/vllm-1")), "{restored:?}");
    let [left] = restored.left.as_slice() else { panic!("{restored:?}") };
    assert!(left.contains("--replicas=2") && left.contains("vllm-0") && !left.contains("vllm-1"), "{left}");
}

#[tokio::test]
async fn a_run_that_is_cut_short_leaves_the_others_to_whoever_comes_next() {
    let cut = CancellationToken::new();
    cut.cancel();
    let budget = Budget { waits: LONG, last_tries: LONG, after_cut: Duration::from_millis(1500) };
    let (restored, took) = undone(budget, cut).await;
    assert!((budget.after_cut..Duration::from_secs(9)).contains(&took), "{took:?}");
    assert_eq!(restored.left.len(), RUNS, "{restored:?}");
}

#[test]
fn one_run_alone_has_the_time_for_all_that_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.yaml");
    let text = "environment: test-cluster\n\
         kubernetes: { in_cluster: true, namespaces: [ml] }\n\
         gateway:\n  service: ml/litellm\n  port: 4000\n  pods: \"app=litellm\"\n  \
         key: { secret: ml/key, field: KEY }\n\
         components:\n  \
         cloud: { aliases: [cloud-kimi], endpoint: \"https://ollama.com\", down: { blackhole: network-policy }, ready_within: 30m }\n  \
         vllm: { aliases: [vllm-qwen], deployment: ml/vllm, down: scale-to-zero, ready_within: 7m }\n  \
         ollama: { aliases: [ollama-qwen], deployment: ml/ollama, down: scale-to-zero, ready_within: 2m }\n\
         routes:\n  agent: { model: cloud-kimi, fallbacks: [vllm-qwen, ollama-qwen] }\n";
    std::fs::write(&file, text).unwrap();
    let environment = crate::input::environment(file.to_str().unwrap()).unwrap();
    // Only what is scaled is waited for.
    let waits = SETTLED_WITHIN + READ_BACK_WITHIN + Duration::from_secs(7 * 60);
    assert_eq!(earlier_within(&environment), waits + LAST_TRIES);
    assert!(CUT_WITHIN < waits, "{CUT_WITHIN:?}");
}

/// Between the first try of all and the turn of its record somebody scales it down again.
#[tokio::test]
async fn what_the_first_try_has_given_back_is_not_given_back_again() {
    let patches: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&patches);
    let respond = move |request: &Request| {
        let Some(name) = request.url.path().strip_suffix("/scale").and_then(|path| path.rsplit('/').next())
        else {
            return ResponseTemplate::new(503);
        };
        let mut patches = patches.lock().unwrap();
        let is_patch = request.method.as_str() == "PATCH";
        if is_patch {
            patches.push(name.to_owned());
        }
        let is_up = is_patch || (name != "vllm-1" && patches.iter().any(|own| own == name));
        let replicas = if is_up { 2 } else { 0 };
        ResponseTemplate::new(200).set_body_json(json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": { "name": name, "namespace": "ml", "uid": "u1", "resourceVersion": "7" },
            "spec": { "replicas": replicas }, "status": { "replicas": replicas },
        }))
    };
    let budget =
        Budget { waits: Duration::from_secs(2), last_tries: Duration::from_secs(1), after_cut: LONG };
    let (restored, _) = undone_of(&records()[..2], respond, budget, CancellationToken::new()).await;
    let mut once = seen.lock().unwrap().clone();
    once.sort();
    assert_eq!(once, ["vllm-0", "vllm-1"], "each once: {restored:?}");
}
