use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::{ActiveFault, Driver, Patience};
use crate::cluster::access::{Access, MayWrite, NoWrite};
use crate::cluster::faults::scale::Scale;
use crate::cluster::mutation::{Kubectl, Mutation};
use crate::cluster::record::{Keeper, Record, State};
use crate::environment::{FaultKind, ObjectName};
use crate::journal::{Clock, Journal};
use crate::plan::{PlannedFault, PlannedKind};
use crate::run::target::Healed;
use crate::units::Period;

const RUN: &str = "20261123T004551Z-0a1b2c";

/// A cluster with one Deployment and one record.
struct World {
    replicas: i64,
    version: u64,
    record: Value,
    /// Whoever is told to scale up says yes, and does not.
    deaf: bool,
    /// Whoever is told to scale down says nothing, and does not yet.
    silent: bool,
    /// What is asked of the count is not answered for long.
    hangs: bool,
    /// Whoever asks for the count is refused for a while.
    refuses: bool,
    /// Nobody has such a Deployment any more.
    gone: bool,
    /// Whoever changes a count of that name may not.
    forbids: &'static str,
    /// What was sent and not answered comes through when somebody raises an alarm.
    lands_on_alarm: bool,
    /// How often a record was written.
    written: usize,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn with<T>(&self, then: impl FnOnce(&mut World) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn state(&self) -> State {
        let map: ConfigMap = serde_json::from_value(self.with(|world| world.record.clone())).unwrap();
        Record::read(&map).unwrap().unwrap().changes[0].state
    }
}

impl World {
    fn scale(&self, replicas: i64) -> Value {
        json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {
                "name": "vllm", "namespace": "ml", "uid": "u1", "resourceVersion": self.version.to_string(),
            },
            "spec": { "replicas": replicas }, "status": { "replicas": replicas },
        })
    }

    fn answer(&mut self, request: &Request) -> Value {
        let body = || serde_json::from_slice::<Value>(&request.body).unwrap();
        let is_record = request.url.path().contains("configmaps");
        self.version += 1;
        match request.method.as_str() {
            // An alarm.
            "POST" if !is_record => {
                if std::mem::take(&mut self.lands_on_alarm) {
                    self.replicas = 0;
                }
                body()
            }
            "POST" | "PUT" => {
                self.written += 1;
                self.record = body();
                self.record["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.record.clone()
            }
            "GET" if is_record => json!({
                "kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": [self.record],
            }),
            "PATCH" => {
                let replicas = body()["spec"]["replicas"].as_i64().unwrap();
                if replicas == 0 || !self.deaf {
                    self.replicas = replicas;
                }
                self.scale(self.replicas)
            }
            "GET" if !request.url.path().ends_with("/scale") => json!({
                "kind": "Deployment", "apiVersion": "apps/v1",
                // The one who applied came last.
                "metadata": { "name": "vllm", "namespace": "ml", "uid": "u1", "managedFields": [
                    { "manager": "somebody", "operation": "Apply", "fieldsType": "FieldsV1",
                      "time": "2026-01-02T00:00:00Z", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
                    { "manager": "helm", "operation": "Update", "fieldsType": "FieldsV1",
                      "time": "2026-01-01T00:00:00Z", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
                ] },
                "spec": { "selector": {}, "template": {} },
            }),
            _ => self.scale(self.replicas),
        }
    }
}

impl Respond for Shared {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        self.with(|world| {
            let is_scale = request.url.path().ends_with("/scale");
            if is_scale && world.silent && request.method.as_str() == "PATCH" {
                return ResponseTemplate::new(504);
            }
            if is_scale && !world.forbids.is_empty() && request.url.path().contains(world.forbids) {
                return ResponseTemplate::new(403);
            }
            if is_scale && world.refuses {
                return ResponseTemplate::new(503);
            }
            if world.gone && request.url.path().contains("deployments") {
                return ResponseTemplate::new(404).set_body_json(json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
                    "message": "not found",
                }));
            }
            let answer = ResponseTemplate::new(200).set_body_json(world.answer(request));
            if is_scale && world.hangs { answer.set_delay(Duration::from_secs(60)) } else { answer }
        })
    }
}

async fn start() -> (MockServer, Shared, Driver) {
    let world = Shared(Arc::new(Mutex::new(World {
        replicas: 2,
        version: 7,
        record: Value::Null,
        deaf: false,
        silent: false,
        hangs: false,
        refuses: false,
        gone: false,
        forbids: "",
        lands_on_alarm: false,
        written: 0,
    })));
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(world.clone()).mount(&server).await;
    let access = Access::to_server(&server.uri()).await;
    let now = Timestamp::now();
    let record = Record::new(RUN, "home", "attic", None, now, now);
    let kubectl = Kubectl::new(None);
    let keeper =
        Keeper::create(&access, "ml", kubectl.clone(), Period::from_secs(600), record).await.unwrap();
    let journal = Arc::new(Journal::of_nothing(Clock::starting_now()));
    let mut driver = Driver::in_cluster(access, kubectl, journal, Arc::new(keeper));
    driver.patience = Patience {
        undo_within: Duration::from_secs(4),
        lands_within: Duration::from_millis(500),
        read_back_within: Duration::from_millis(50),
        again_after: Duration::from_millis(10),
        ..Patience::HERE
    };
    (server, world, driver)
}

fn fault() -> ActiveFault {
    let kind = PlannedKind::Down(FaultKind::ScaleToZero);
    ActiveFault { id: 0, fault: PlannedFault { component: "vllm".into(), kind } }
}

fn to_zero() -> Mutation {
    to_zero_of("vllm")
}

fn to_zero_of(name: &str) -> Mutation {
    Mutation::Scale(Scale { deployment: ObjectName::new("ml", name), uid: "u1".into(), replicas: 2 })
}

/// What was told while it settled.
async fn settled(driver: &Driver, meanwhile: impl Fn() + Sync) -> Vec<String> {
    let told = Mutex::new(Vec::new());
    let tell = |line: &str| {
        told.lock().unwrap().push(line.to_owned());
        meanwhile();
    };
    assert_eq!(driver.settle(&tell).await, BTreeMap::new());
    told.into_inner().unwrap()
}

#[tokio::test]
async fn a_write_that_comes_through_late_is_undone_before_the_record_is_closed() {
    let (_server, world, driver) = start().await;
    world.with(|world| world.silent = true);
    driver.make(&fault(), &to_zero()).await.unwrap_err();
    world.with(|world| world.silent = false);
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)), "it reads as before");
    assert_eq!(driver.is_healed("vllm").await, Ok(true));
    driver.remember(&[(7, State::LeftAlone)]);
    driver.write_down().await;
    assert!(world.state().is_open(), "not yet for good: {:?}", world.state());
    let told = settled(&driver, || world.with(|world| world.replicas = 0)).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("deployments/scale ml/vllm can still come through"), "{told:?}");
    assert_eq!((world.with(|world| world.replicas), world.state()), (2, State::Undone));
}

#[tokio::test]
async fn what_was_never_answered_is_undone_for_good_once_it_can_no_longer_come_through() {
    let (_server, world, driver) = start().await;
    world.with(|world| world.silent = true);
    driver.make(&fault(), &to_zero()).await.unwrap_err();
    let given_up = tokio::time::Instant::now();
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    assert_eq!(settled(&driver, || {}).await.len(), 1);
    assert!(given_up.elapsed() >= driver.patience.lands_within);
    assert_eq!((world.with(|world| world.replicas), world.state()), (2, State::Undone));
}

/// Another component may have loaded for minutes before anybody looks again.
#[tokio::test]
async fn what_came_through_is_undone_however_late_somebody_looks_again() {
    let (_server, world, mut driver) = start().await;
    driver.patience.lands_within = Duration::from_secs(60);
    world.with(|world| world.silent = true);
    driver.make(&fault(), &to_zero()).await.unwrap_err();
    world.with(|world| world.silent = false);
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    assert_eq!(driver.is_healed("vllm").await, Ok(true), "it reads as before");
    // It comes through, and then nobody looks until its time is over.
    world.with(|world| world.replicas = 0);
    driver.patience.lands_within = Duration::ZERO;
    assert_eq!(settled(&driver, || {}).await, Vec::<String>::new(), "nothing is waited for");
    assert_eq!((world.with(|world| world.replicas), world.state()), (2, State::Undone));
}

/// Nothing that was sent before can come through after an undo that was written: what somebody takes down then is theirs.
#[tokio::test]
async fn what_came_through_late_and_was_given_back_is_not_given_back_again() {
    let (_server, world, mut driver) = start().await;
    driver.patience.lands_within = Duration::from_secs(60);
    world.with(|world| world.silent = true);
    driver.make(&fault(), &to_zero()).await.unwrap_err();
    world.with(|world| world.silent = false);
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    world.with(|world| world.replicas = 0);
    assert_eq!(driver.settle(&|_| {}).await, BTreeMap::new());
    assert_eq!(world.with(|world| world.replicas), 2, "it came late");
    world.with(|world| world.replicas = 0);
    assert_eq!(driver.settle(&|_| {}).await, BTreeMap::new());
    assert_eq!(driver.is_restored("vllm").await, Ok(true));
    assert_eq!(world.with(|world| world.replicas), 0, "nobody is fought");
}

#[tokio::test]
async fn what_comes_through_while_somebody_else_is_waited_for_is_undone_at_once() {
    let (_server, world, mut driver) = start().await;
    driver.patience.lands_within = Duration::from_secs(60);
    world.with(|world| world.silent = true);
    driver.make(&fault(), &to_zero()).await.unwrap_err();
    world.with(|world| world.silent = false);
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    world.with(|world| world.replicas = 0);
    let is_back = async {
        while world.with(|world| world.replicas) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        never = driver.look_again() => match never {},
        back = tokio::time::timeout(Duration::from_secs(20), is_back) => back.expect("it is undone"),
    }
    assert!(world.state().is_open(), "more may come: {:?}", world.state());
}

#[tokio::test]
async fn one_that_cannot_be_undone_keeps_nobody_from_watching_the_others() {
    let (_server, world, driver) = start().await;
    world.with(|world| world.silent = true);
    driver.make(&fault(), &to_zero_of("stuck")).await.unwrap_err();
    driver.make(&fault(), &to_zero_of("late")).await.unwrap_err();
    world.with(|world| world.silent = false);
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    // What was sent to the other one comes through only once this one has failed for good.
    world.with(|world| (world.forbids, world.lands_on_alarm) = ("/stuck/", true));
    let failed = driver.settle(&|_| {}).await;
    let [(stuck, error)] = Vec::from_iter(&failed)[..] else { panic!("{failed:?}") };
    assert!(error.contains("ml/stuck may still come through") && !driver.is_settled(*stuck), "{error}");
    assert_eq!(world.with(|world| (world.lands_on_alarm, world.replicas)), (false, 2));
}

/// The API was away for longer than an undo is tried.
/// Six writes that nobody has answered, and six notes that they are somebody else's now.
#[tokio::test]
async fn what_is_left_alone_is_written_down_together_however_much_it_is() {
    let (_server, world, driver) = start().await;
    world.with(|world| world.silent = true);
    for name in ["a", "b", "c", "d", "e", "f"] {
        assert!(driver.make(&fault(), &to_zero_of(name)).await.is_err());
    }
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    let before = world.with(|world| {
        world.replicas = 3;
        world.written
    });
    assert_eq!(settled(&driver, || {}).await.len(), 1);
    assert_eq!(world.state(), State::LeftAlone);
    let notes = world.with(|world| world.written) - before;
    assert!((1..=2).contains(&notes), "{notes}");
}

#[tokio::test]
async fn what_could_not_be_undone_in_its_time_is_tried_once_more_at_the_end() {
    let (_server, world, mut driver) = start().await;
    driver.make(&fault(), &to_zero()).await.unwrap();
    world.with(|world| world.refuses = true);
    driver.patience.undo_within = Duration::from_millis(100);
    assert!(driver.heal(&fault()).await.is_err());
    assert_eq!(driver.is_restored("vllm").await.unwrap_err(), driver.is_healed("vllm").await.unwrap_err());
    world.with(|world| world.refuses = false);
    assert_eq!(driver.is_healed("vllm").await, Ok(false));
    assert_eq!(driver.is_restored("vllm").await, Ok(true));
    assert_eq!((world.with(|world| world.replicas), world.state()), (2, State::Undone));
}

#[tokio::test]
async fn what_was_answered_is_not_waited_for() {
    let (_server, world, driver) = start().await;
    driver.make(&fault(), &to_zero()).await.unwrap();
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    assert_eq!(settled(&driver, || {}).await, Vec::<String>::new());
    assert_eq!(driver.is_healed("vllm").await, Ok(true));
    assert_eq!(world.state(), State::Undone);
}

#[tokio::test]
async fn no_try_of_an_undo_takes_longer_than_what_is_left_of_its_time() {
    let (_server, world, mut driver) = start().await;
    driver.make(&fault(), &to_zero()).await.unwrap();
    world.with(|world| world.hangs = true);
    driver.patience.undo_within = Duration::from_millis(200);
    driver.patience.last_try = Duration::from_millis(50);
    // A call alone would take 10 s.
    let healed = tokio::time::timeout(Duration::from_secs(8), driver.heal(&fault())).await;
    let Err(why) = healed.expect("it ends") else { panic!("it is undone") };
    assert!(why.contains("it took more than"), "{why}");
    assert!(world.state().is_open());
}

/// A run's deadline is computed from this bound.
#[tokio::test]
async fn all_changes_of_a_component_are_read_again_at_once() {
    let (_server, world, mut driver) = start().await;
    driver.patience.read_again_within = Duration::from_secs(2);
    for name in ["a", "b", "c", "d"] {
        world.with(|world| world.replicas = 2);
        driver.make(&fault(), &to_zero_of(name)).await.unwrap();
    }
    assert_eq!(driver.what_has_changed("vllm").await, Vec::<String>::new());
    world.with(|world| world.refuses = true);
    let begun = tokio::time::Instant::now();
    let changed = driver.what_has_changed("vllm").await;
    let took = begun.elapsed();
    assert_eq!(changed.iter().filter(|what| what.contains("cannot be read back")).count(), 4, "{changed:?}");
    let within = driver.patience.read_again_within;
    assert!(took >= within && took < within * 3, "{took:?}");
}

/// What the driver writes down from now on.
struct Kept {
    dir: tempfile::TempDir,
    journal: Arc<Journal>,
}

impl Kept {
    fn of(driver: &mut Driver) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal.jsonl");
        let journal = Arc::new(Journal::create(&file, Clock::starting_now()).unwrap());
        driver.journal = Arc::clone(&journal);
        Self { dir, journal }
    }

    fn read(&self) -> String {
        let text = crate::journal::Event::Found { text: "so far".into() };
        self.journal.append_durably(text).unwrap();
        std::fs::read_to_string(self.dir.path().join("journal.jsonl")).unwrap()
    }
}

#[tokio::test]
async fn what_somebody_changes_before_it_is_read_back_is_theirs_and_told() {
    let (_server, world, mut driver) = start().await;
    let kept = Kept::of(&mut driver);
    driver.make(&fault(), &to_zero()).await.unwrap();
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    world.with(|world| world.replicas = 3);
    assert_eq!(driver.is_healed("vllm").await, Ok(true));
    assert_eq!((world.with(|world| world.replicas), world.state()), (3, State::Undone));
    let told = "deployments/scale ml/vllm was undone, and has been changed by somebody since: 3 pods";
    let journal = kept.read();
    assert!(journal.contains(told), "{journal}");
}

/// It was scaled back, and could not be read for a while; then somebody takes it down.
#[tokio::test]
async fn what_was_given_back_is_not_given_back_again() {
    let (_server, world, mut driver) = start().await;
    let kept = Kept::of(&mut driver);
    driver.make(&fault(), &to_zero()).await.unwrap();
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    world.with(|world| world.refuses = true);
    assert!(driver.is_healed("vllm").await.is_err());
    world.with(|world| (world.refuses, world.replicas) = (false, 0));
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    assert_eq!(driver.is_restored("vllm").await, Ok(true));
    assert_eq!((world.with(|world| world.replicas), world.state()), (0, State::Undone));
    let told = "was undone, and has been changed by somebody since: as it was during the fault";
    let journal = kept.read();
    assert!(journal.contains(told), "{journal}");
}

/// A later mode changes it again: until its record says so, that is refused.
#[tokio::test]
async fn what_could_not_be_read_back_is_read_again_between_modes() {
    let (_server, world, driver) = start().await;
    driver.make(&fault(), &to_zero()).await.unwrap();
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    world.with(|world| world.refuses = true);
    assert!(driver.is_healed("vllm").await.is_err());
    world.with(|world| world.refuses = false);
    assert_eq!(settled(&driver, || {}).await, Vec::<String>::new(), "nor is anything waited for");
    assert_eq!(world.state(), State::Undone);
}

/// An undo that fails for as long as it is tried.
async fn healed_in_vain(driver: &mut Driver, world: &Shared) {
    driver.patience.undo_within = Duration::from_millis(50);
    world.with(|world| world.refuses = true);
    let Err(why) = driver.heal(&fault()).await else { panic!("it is undone") };
    assert!(why.contains("to undo it: kubectl -n ml scale deployment/vllm"), "{why}");
    world.with(|world| world.refuses = false);
}

#[tokio::test]
async fn what_somebody_changes_that_could_not_be_undone_is_left_to_them_and_not_called_undone() {
    let (_server, world, mut driver) = start().await;
    let kept = Kept::of(&mut driver);
    driver.make(&fault(), &to_zero()).await.unwrap();
    healed_in_vain(&mut driver, &world).await;
    world.with(|world| world.replicas = 3);
    assert_eq!(driver.is_healed("vllm").await, Ok(true));
    assert_eq!((world.with(|world| world.replicas), world.state()), (3, State::LeftAlone));
    let journal = kept.read();
    let told =
        "deployments/scale ml/vllm was not undone here, and is left as somebody has changed it: 3 pods";
    assert!(journal.contains(told) && !journal.contains("was undone"), "{journal}");
    assert!(journal.contains("ml/vllm is over: somebody else has changed it"), "{journal}");
}

#[tokio::test]
async fn nobody_is_named_who_changed_what_is_gone() {
    for was_undone in [true, false] {
        let (_server, world, mut driver) = start().await;
        let kept = Kept::of(&mut driver);
        driver.make(&fault(), &to_zero()).await.unwrap();
        if was_undone {
            assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
        } else {
            healed_in_vain(&mut driver, &world).await;
        }
        world.with(|world| world.gone = true);
        assert_eq!(driver.is_healed("vllm").await, Ok(true));
        let (words, state) = if was_undone {
            ("was undone, and is not as it was before any more", State::Undone)
        } else {
            ("was not undone here, and is left as it is now", State::LeftAlone)
        };
        let told = format!("deployments/scale ml/vllm {words}: the Deployment is gone; by whom is not known");
        let journal = kept.read();
        assert!(journal.contains(&told), "{journal}");
        assert_eq!(world.state(), state);
    }
}

#[tokio::test]
async fn an_alarm_is_over_once_what_it_was_about_is_seen_undone_by_somebody_else() {
    let (_server, world, mut driver) = start().await;
    let kept = Kept::of(&mut driver);
    driver.make(&fault(), &to_zero()).await.unwrap();
    healed_in_vain(&mut driver, &world).await;
    assert!(kept.read().contains("alarm: deployments/scale ml/vllm is not undone: "), "it was told");
    // A person types the line; here it is only read.
    world.with(|world| world.replicas = 2);
    assert_eq!(driver.is_healed("vllm").await, Ok(true));
    let journal = kept.read();
    assert!(journal.contains("the alarm about deployments/scale ml/vllm is over: it is undone"), "{journal}");
    assert!(!driver.alarm.end(&to_zero()), "nothing is stuck any more");
}

/// Nobody may write any more.
struct Lost;

impl MayWrite for Lost {
    fn may_write(&self) -> BoxFuture<'_, Result<Duration, NoWrite>> {
        async { Err(NoWrite { why: "the lock is lost".into(), is_lost: true }) }.boxed()
    }

    fn left(&self) -> Option<Duration> {
        None
    }
}

#[tokio::test]
async fn an_alarm_is_over_where_whoever_took_the_lock_has_undone_what_it_was_about() {
    let (_server, world, mut driver) = start().await;
    let kept = Kept::of(&mut driver);
    driver.patience.read_back_within = Duration::from_secs(4);
    driver.make(&fault(), &to_zero()).await.unwrap();
    healed_in_vain(&mut driver, &world).await;
    let cluster = driver.cluster.as_mut().unwrap();
    cluster.access = cluster.access.clone().guarded(Arc::new(Lost));
    let fault = fault();
    let others = async {
        let asked = || kept.read().contains("alarm: ");
        assert!(asked());
        world.with(|world| world.replicas = 2);
    };
    let (healed, ()) = tokio::join!(driver.heal(&fault), others);
    assert!(matches!(healed, Ok(Healed::Undone)));
    let journal = kept.read();
    assert!(journal.contains("the alarm about deployments/scale ml/vllm is over: it is undone"), "{journal}");
}

#[tokio::test]
async fn what_is_stuck_is_in_the_journal_once_however_much_else_is_and_however_often_it_is_tried() {
    let (_server, world, mut driver) = start().await;
    let kept = Kept::of(&mut driver);
    for name in ["a", "b", "c", "d"] {
        let scale = Scale { deployment: ObjectName::new("ml", name), uid: "u1".into(), replicas: 2 };
        world.with(|world| world.replicas = 2);
        driver.make(&fault(), &Mutation::Scale(scale)).await.unwrap();
    }
    driver.patience.undo_within = Duration::from_millis(50);
    world.with(|world| world.refuses = true);
    for _ in 0..2 {
        assert!(driver.heal(&fault()).await.is_err());
    }
    let journal = kept.read();
    for name in ["a", "b", "c", "d"] {
        let about = format!("alarm: deployments/scale ml/{name} is not undone: ");
        assert_eq!(journal.matches(&about).count(), 1, "{journal}");
    }
}

#[tokio::test]
async fn the_record_says_undone_only_once_it_reads_back_so() {
    let (_server, world, mut driver) = start().await;
    driver.make(&fault(), &to_zero()).await.unwrap();
    world.with(|world| world.deaf = true);
    driver.patience.undo_within = Duration::from_millis(50);
    let Err(why) = driver.heal(&fault()).await else { panic!("it was answered, and is not kept") };
    assert!(why.contains("the API keeps 0 pods"), "{why}");
    assert_eq!(driver.is_healed("vllm").await, Ok(false));
    // Whatever the record has of it is open, and a write of anything else keeps it so.
    driver.remember(&[(7, State::LeftAlone)]);
    driver.write_down().await;
    assert!(world.state().is_open(), "{:?}", world.state());

    world.with(|world| world.deaf = false);
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    assert_eq!(driver.is_healed("vllm").await, Ok(true));
    assert_eq!(world.state(), State::Undone);
    assert_eq!(world.with(|world| world.replicas), 2);
}
