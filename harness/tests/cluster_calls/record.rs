//! The record of a run against the mock API, which fails, loses answers, and has other users.

use std::time::Instant;

use harness::cluster::access::Access;
use harness::cluster::faults::scale::Scale;
use harness::cluster::mutation::{Kubectl, Mutation};
use harness::cluster::record::{self, KEPT, Keeper, Record, RecordError, State};
use harness::environment::ObjectName;
use harness::units::Period;
use jiff::Timestamp;
use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::cluster::{Cluster, ClusterOptions};
use mocks::kubernetes::resources::CONFIG_MAPS;
use mocks::kubernetes::store::{ObjectKey, Writer};
use mocks::time::Epoch;
use serde_json::Value;

async fn start() -> (Cluster, Access) {
    let options = ClusterOptions::new(Epoch::from_instant(Instant::now()), 1, &["ml"]);
    let cluster = Cluster::start(options, |_| None).await.unwrap();
    let access = Access::with_kubeconfig(&cluster.kubeconfig(), "mock", &["ml".to_owned()]).await.unwrap();
    (cluster, access)
}

fn scale(name: &str, replicas: i32) -> Mutation {
    Mutation::Scale(Scale { deployment: ObjectName::new("ml", name), uid: "u1".into(), replicas })
}

async fn keeper(access: &Access, run: &str) -> Result<Keeper, RecordError> {
    let now = Timestamp::now();
    let record = Record::new(run, "home", "attic", None, now, now);
    Keeper::create(access, "ml", Kubectl::new(None), Period::from_secs(600), record).await
}

async fn only(access: &Access) -> Record {
    record::list(access, "ml").await.unwrap()[0].record.clone().unwrap()
}

fn trouble(cluster: &Cluster, verb: &str, times: Option<u32>, trouble: Trouble) {
    let rule = ChaosRule { verb: verb.to_owned(), resource: "configmaps".to_owned(), times, trouble };
    cluster.chaos().add(rule);
}

/// Somebody with kubectl.
fn change(cluster: &Cluster, run: &str, change: impl Fn(&mut Value)) {
    let name = Record::name("ml", run);
    let key = ObjectKey::new(&CONFIG_MAPS, &name.namespace, &name.name);
    let changed = cluster.store().update(&key, Writer::of_object("kubectl"), |map| {
        change(map);
        Ok(())
    });
    changed.unwrap();
}

#[tokio::test]
async fn an_intent_is_in_the_cluster_before_it_is_allowed_and_what_became_of_it_after() {
    let (cluster, access) = start().await;
    let keeper = keeper(&access, "run-1").await.unwrap();
    assert_eq!(keeper.intend(&scale("vllm", 2)).await, Ok(0));
    let written = only(&access).await;
    assert_eq!(
        (&written.changes[0].mutation, written.changes[0].state),
        (&scale("vllm", 2), State::Intended)
    );
    keeper.note(&[(0, State::NotMade)]).await.unwrap();
    assert_eq!(only(&access).await.changes[0].state, State::NotMade);
    assert_eq!(keeper.intend(&scale("vllm", 2)).await, Ok(1));
    keeper.note(&[(1, State::Undone)]).await.unwrap();
    keeper.close(true, 0).await.unwrap();
    let written = only(&access).await;
    assert!(!written.is_open() && written.exit_code == Some(0), "{written:?}");
    cluster.shutdown().await;
}

#[tokio::test]
async fn an_open_original_of_any_run_is_never_overwritten() {
    let (cluster, access) = start().await;
    let (first, second) = (keeper(&access, "run-1").await.unwrap(), keeper(&access, "run-2").await.unwrap());
    first.intend(&scale("vllm", 2)).await.unwrap();
    for keeper in [&first, &second] {
        let refused = keeper.intend(&scale("vllm", 0)).await.unwrap_err();
        assert!(matches!(&refused, RecordError::Open(open) if open.run == "run-1"), "{refused}");
    }
    assert_eq!(second.intend(&scale("ollama", 1)).await, Ok(0));
    first.note(&[(0, State::Undone)]).await.unwrap();
    assert_eq!(second.intend(&scale("vllm", 2)).await, Ok(1));
    cluster.shutdown().await;
}

#[tokio::test]
async fn lost_answers_and_labels_of_others_are_no_obstacle_and_another_content_is() {
    let (cluster, access) = start().await;
    trouble(&cluster, "create", Some(1), Trouble::LostAnswer);
    let keeper = keeper(&access, "run-1").await.unwrap();
    trouble(&cluster, "update", Some(1), Trouble::LostAnswer);
    assert_eq!(keeper.intend(&scale("vllm", 2)).await, Ok(0));
    change(&cluster, "run-1", |map| map["metadata"]["labels"]["note"] = "mine".into());
    assert_eq!(keeper.intend(&scale("ollama", 1)).await, Ok(1));
    let written = only(&access).await;
    assert_eq!(written.changes.len(), 2);
    change(&cluster, "run-1", |map| {
        let json = map["data"]["record.json"].as_str().unwrap().replace("\"armed\"", "\"restoring\"");
        map["data"]["record.json"] = json.into();
    });
    let refused = keeper.intend(&scale("other", 1)).await.unwrap_err();
    assert!(matches!(refused, RecordError::Changed(_)), "{refused}");
    cluster.shutdown().await;
}

#[tokio::test]
async fn what_is_not_written_is_not_allowed() {
    let (cluster, access) = start().await;
    let keeper = keeper(&access, "run-1").await.unwrap();
    trouble(&cluster, "update", None, Trouble::Refused { code: 503, retry_after: None });
    let refused = keeper.intend(&scale("vllm", 2)).await.unwrap_err();
    assert!(matches!(refused, RecordError::Call(_)), "{refused}");
    cluster.chaos().clear();
    assert_eq!(only(&access).await.changes, []);
    // What was not made does not stand in the way of the next one.
    assert_eq!(keeper.intend(&scale("vllm", 2)).await, Ok(1));
    let written = only(&access).await;
    assert_eq!(
        written.changes.iter().map(|change| change.state).collect::<Vec<_>>(),
        [State::NotMade, State::Intended]
    );
    // Nobody knows what a record says that cannot be read.
    change(&cluster, "run-1", |map| map["data"]["record.json"] = "{".into());
    let other = self::keeper(&access, "run-2").await.unwrap();
    let refused = other.intend(&scale("ollama", 1)).await.unwrap_err();
    assert!(refused.to_string().contains("is not known"), "{refused}");
    cluster.shutdown().await;
}

#[tokio::test]
async fn what_was_written_unheard_before_the_api_went_away_is_no_change_of_somebody_else() {
    let (cluster, access) = start().await;
    let keeper = keeper(&access, "run-1").await.unwrap();
    keeper.intend(&scale("vllm", 2)).await.unwrap();
    trouble(&cluster, "update", Some(1), Trouble::LostAnswer);
    let away = |verb: &str, times| {
        trouble(&cluster, verb, times, Trouble::Refused { code: 503, retry_after: None });
    };
    away("update", None);
    away("get", None);
    let unheard = keeper.note(&[(0, State::Undone)]).await.unwrap_err();
    assert!(matches!(unheard, RecordError::Call(_)), "{unheard}");
    // Longer than a heal waits, and still away when the run ends.
    cluster.chaos().clear();
    assert_eq!(only(&access).await.changes[0].state, State::Undone, "it was written");
    away("update", Some(8));
    away("get", Some(8));
    keeper.close(true, 0).await.unwrap();
    let written = only(&access).await;
    assert!(!written.is_open() && written.exit_code == Some(0), "{written:?}");
    // What somebody else writes is still not written over.
    change(&cluster, "run-1", |map| {
        let json = map["data"]["record.json"].as_str().unwrap().replace("\"restored\"", "\"armed\"");
        map["data"]["record.json"] = json.into();
    });
    let refused = keeper.close(false, 4).await.unwrap_err();
    assert!(matches!(refused, RecordError::Changed(_)), "{refused}");
    cluster.shutdown().await;
}

/// Whoever waits for it may be cut short.
#[tokio::test]
async fn what_was_written_while_nobody_waited_any_more_is_no_change_of_somebody_else() {
    let (cluster, access) = start().await;
    let keeper = keeper(&access, "run-1").await.unwrap();
    keeper.intend(&scale("vllm", 2)).await.unwrap();
    trouble(&cluster, "update", Some(1), Trouble::LostAnswer);
    trouble(&cluster, "get", Some(1), Trouble::Hang);
    let is_written = async {
        while only(&access).await.changes[0].state != State::Undone {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        noted = keeper.note(&[(0, State::Undone)]) => panic!("it hangs: {noted:?}"),
        () = is_written => {}
    }
    cluster.chaos().clear();
    keeper.close(true, 0).await.unwrap();
    let written = only(&access).await;
    assert!(!written.is_open() && written.exit_code == Some(0), "{written:?}");
    cluster.shutdown().await;
}

/// An API that hangs would hold each of them for as long as a write may take.
#[tokio::test]
async fn notes_that_come_at_once_are_written_together() {
    let (cluster, access) = start().await;
    let keeper = keeper(&access, "run-1").await.unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        keeper.intend(&scale(name, 2)).await.unwrap();
    }
    let writes = || cluster.audit().entries().iter().filter(|entry| entry.verb == "update").count();
    let before = writes();
    let notes = (0..6).map(|seq| {
        let keeper = &keeper;
        async move { keeper.note(&[(seq, State::LeftAlone)]).await }
    });
    let noted = futures::future::join_all(notes).await;
    assert!(noted.iter().all(Result::is_ok), "{noted:?}");
    assert!(only(&access).await.changes.iter().all(|change| change.state == State::LeftAlone));
    assert!(writes() - before <= 2, "{}", writes() - before);
    // One that was not written is written with the next.
    trouble(&cluster, "update", None, Trouble::Refused { code: 503, retry_after: None });
    assert!(keeper.note(&[(0, State::Undone)]).await.is_err());
    cluster.chaos().clear();
    keeper.note(&[]).await.unwrap();
    assert_eq!(only(&access).await.changes[0].state, State::Undone);
    cluster.shutdown().await;
}

#[tokio::test]
async fn only_the_last_closed_records_are_kept() {
    let (cluster, access) = start().await;
    for number in 0..KEPT + 3 {
        let keeper = keeper(&access, &format!("run-{number:02}")).await.unwrap();
        if number > 0 {
            keeper.close(true, 0).await.unwrap();
        }
    }
    record::prune(&access, "ml").await.unwrap();
    let left: Vec<String> =
        record::list(&access, "ml").await.unwrap().into_iter().map(|found| found.run).collect();
    assert_eq!(left.len(), KEPT + 1, "{left:?}");
    assert_eq!(left.last().map(String::as_str), Some("run-00"), "what is open stays, however old it is");
    assert_eq!(left.first().map(String::as_str), Some("run-12"));
    cluster.shutdown().await;
}
