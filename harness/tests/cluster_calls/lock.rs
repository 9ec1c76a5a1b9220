//! The lock against the mock API, with clocks that the tests move.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::cluster::access::Access;
use harness::cluster::lease::{
    self, Holder, Lock, LockError, LockOptions, Now, Taken, Terms, Times, Trouble, look, take,
};
use harness::environment::ObjectName;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use mocks::kubernetes::api::{AuditEntry, ChaosRule, Trouble as Chaos};
use mocks::kubernetes::cluster::{Cluster, ClusterOptions};
use mocks::kubernetes::resources::LEASES;
use mocks::kubernetes::store::{Deletion, ObjectKey, Writer};
use mocks::time::Epoch;
use tokio::sync::Notify;

/// Clocks that stand still unless they are moved.
#[derive(Clone)]
struct Clocks(Arc<Mutex<Now>>, Arc<Mutex<Option<u64>>>);

impl Clocks {
    fn new() -> Self {
        let now = Now { monotonic: Duration::ZERO, wall: Timestamp::now() };
        Self(Arc::new(Mutex::new(now)), Arc::default())
    }

    /// The program is stopped for so long once it has looked at them next.
    fn pass_after_a_look(&self, seconds: u64) {
        *self.1.lock().unwrap() = Some(seconds);
    }

    fn pass(&self, seconds: u64) {
        self.0.lock().unwrap().monotonic += Duration::from_secs(seconds);
        self.set_wall(i64::try_from(seconds).unwrap());
    }

    fn set_wall(&self, seconds: i64) {
        self.0.lock().unwrap().wall += SignedDuration::from_secs(seconds);
    }
}

impl Times for Clocks {
    fn now(&self) -> Now {
        let now = *self.0.lock().unwrap();
        if let Some(seconds) = self.1.lock().unwrap().take() {
            self.pass(seconds);
        }
        now
    }
}

/// The lock of one program, with its clocks and what it has heard.
struct Program {
    clocks: Clocks,
    heard: Arc<Mutex<Vec<Trouble>>>,
}

impl Program {
    fn new() -> Self {
        Self { clocks: Clocks::new(), heard: Arc::default() }
    }

    async fn take(
        &self,
        access: &Access,
        id: &str,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Taken, LockError> {
        let heard = Arc::clone(&self.heard);
        take(LockOptions {
            access,
            lease: lease::name("ml"),
            holder: Holder { id: id.to_owned(), machine: "attic".to_owned(), purpose: "run".to_owned() },
            // Renewed only where a test asks for it.
            terms: Terms { renewed_every: Duration::from_secs(3600), ..Terms::default() },
            times: Arc::new(self.clocks.clone()),
            by_force: false,
            patience: Duration::ZERO,
            troubled: Box::new(move |trouble| heard.lock().unwrap().push(trouble.clone())),
            progress,
        })
        .await
    }

    async fn lock(&self, access: &Access, id: &str) -> Lock {
        self.take(access, id, &|_| {}).await.unwrap().lock
    }

    fn heard(&self) -> Vec<Trouble> {
        self.heard.lock().unwrap().clone()
    }
}

async fn start() -> (Cluster, Access) {
    let options = ClusterOptions::new(Epoch::from_instant(Instant::now()), 1, &["ml"]);
    let cluster = Cluster::start(options, |_| None).await.unwrap();
    let access = Access::with_kubeconfig(&cluster.kubeconfig(), "mock", &["ml".to_owned()]).await.unwrap();
    (cluster, access)
}

fn writes(cluster: &Cluster) -> usize {
    let entries = cluster.audit().entries();
    entries.iter().filter(|entry| entry.is_mutation() && entry.code < 300).count()
}

fn fail(cluster: &Cluster, verb: &str, times: Option<u32>, trouble: Chaos) {
    let rule = ChaosRule { verb: verb.to_owned(), resource: "leases".to_owned(), times, trouble };
    cluster.chaos().add(rule);
}

#[tokio::test]
async fn a_lock_that_was_renewed_lately_is_not_asked_for_again() {
    let (cluster, access) = start().await;
    let program = Program::new();
    let lock = program.lock(&access, "run-1").await;
    let before = cluster.audit().entries().len();
    program.clocks.pass(9);
    let within = lock.guard().may_write().await.unwrap();
    assert_eq!(within, Duration::from_secs(6), "what takes longer is given up");
    assert_eq!(cluster.audit().entries().len(), before, "no question");
    program.clocks.pass(2);
    lock.guard().may_write().await.unwrap();
    assert_eq!(cluster.audit().entries().len(), before + 1, "renewed before the change");
    assert_eq!(program.heard(), []);
    lock.release().await.unwrap();
    assert_eq!(look(&access, &lease::name("ml")).await.unwrap(), None);
    let next = Program::new().take(&access, "run-2", &|_| {}).await.unwrap();
    assert_eq!(next.from, None, "it was released");
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_machine_that_slept_asks_first_and_its_run_is_told() {
    let (cluster, access) = start().await;
    let program = Program::new();
    let lock = program.lock(&access, "run-1").await;
    // The monotonic clock of a machine that sleeps stands still.
    program.clocks.set_wall(60);
    let before = writes(&cluster);
    lock.guard().may_write().await.unwrap();
    assert_eq!(writes(&cluster), before + 1, "nobody has taken it: it is renewed");
    let heard = program.heard();
    assert!(matches!(heard.as_slice(), [Trouble::Late(words)] if words.contains("60 s")), "{heard:?}");
    cluster.shutdown().await;
}

#[tokio::test]
async fn whoever_was_silent_for_too_long_loses_it_and_writes_nothing_any_more() {
    let (cluster, access) = start().await;
    let (paused, other) = (Program::new(), Program::new());
    let lock = paused.lock(&access, "run-1").await;
    let waiting = Arc::new(Notify::new());
    let told = Arc::clone(&waiting);
    let progress = move |_: &str| told.notify_one();
    let taking = other.take(&access, "run-2", &progress);
    let moving = async {
        waiting.notified().await;
        other.clocks.pass(16);
    };
    let (taken, ()) = tokio::join!(taking, moving);
    let taken = taken.unwrap();
    assert_eq!(taken.from.unwrap().holder, "run-1");
    paused.clocks.pass(20);
    let before = writes(&cluster);
    for _ in 0..2 {
        let no = lock.guard().may_write().await.unwrap_err();
        assert!(no.is_lost && no.why.contains("taken by run-2 (run, on attic)"), "{no}");
    }
    assert!(matches!(paused.heard().as_slice(), [Trouble::Lost(_)]), "{:?}", paused.heard());
    lock.release().await.unwrap();
    assert_eq!(writes(&cluster), before, "also not to release it");
    taken.lock.guard().may_write().await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test]
async fn whoever_is_stopped_after_it_was_allowed_to_write_asks_again_before_it_sends() {
    let (cluster, access) = start().await;
    let program = Program::new();
    let lock = program.lock(&access, "run-1").await;
    let guarded = access.clone().guarded(lock.guard());
    let event = |name: &str| {
        let mut event = Event::default();
        event.metadata.name = Some(name.to_owned());
        event.metadata.namespace = Some("ml".to_owned());
        event
    };
    // Nobody has taken the lock meanwhile: it is renewed, and then written.
    program.clocks.pass_after_a_look(60);
    guarded.create(&ObjectName::new("ml", "one"), &event("one")).await.unwrap();
    let made = |entry: &&AuditEntry| entry.is_mutation() && entry.code < 300;
    let entries = cluster.audit().entries();
    let kinds: Vec<&str> = entries.iter().filter(made).map(|entry| entry.resource.as_str()).collect();
    assert_eq!(kinds, ["leases", "leases", "events"]);
    // Somebody has.
    program.clocks.pass_after_a_look(60);
    let key = ObjectKey::new(&LEASES, "ml", "failover-harness");
    let taken = cluster.store().update(&key, Writer::of_object("somebody"), |object| {
        object["spec"]["holderIdentity"] = "run-2".into();
        Ok(())
    });
    taken.unwrap();
    let before = writes(&cluster);
    let error = guarded.create(&ObjectName::new("ml", "two"), &event("two")).await.unwrap_err();
    assert!(error.is_lock_lost(), "{error}");
    assert_eq!(writes(&cluster), before, "nothing was sent");
    cluster.shutdown().await;
}

#[tokio::test]
async fn whoever_lives_is_not_taken_for_dead() {
    let (cluster, access) = start().await;
    let (first, second) = (Program::new(), Program::new());
    let lock = first.lock(&access, "run-1").await;
    let waiting = Arc::new(Notify::new());
    let told = Arc::clone(&waiting);
    let progress = move |_: &str| told.notify_one();
    let taking = second.take(&access, "run-2", &progress);
    let renewing = async {
        waiting.notified().await;
        first.clocks.pass(11);
        lock.guard().may_write().await.unwrap();
        // Even if it is looked at only then.
        second.clocks.pass(16);
    };
    let (taken, ()) = tokio::join!(taking, renewing);
    let error = taken.err().unwrap();
    assert!(matches!(&error, LockError::Held { claim, .. } if claim.holder == "run-1"), "{error}");
    lock.guard().may_write().await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test]
async fn an_api_that_does_not_answer_is_a_doubt_and_no_loss() {
    let (cluster, access) = start().await;
    let program = Program::new();
    let lock = program.lock(&access, "run-1").await;
    fail(&cluster, "update", Some(1), Chaos::Refused { code: 503, retry_after: None });
    program.clocks.pass(11);
    let no = lock.guard().may_write().await.unwrap_err();
    assert!(!no.is_lost, "{no}");
    lock.guard().may_write().await.unwrap();
    assert_eq!(program.heard(), [], "it was renewed before its time was over");
    // Its answer is lost: the next one finds the version that it has written itself.
    fail(&cluster, "update", Some(1), Chaos::LostAnswer);
    program.clocks.pass(11);
    assert!(!lock.guard().may_write().await.unwrap_err().is_lost);
    lock.guard().may_write().await.unwrap();
    // Somebody has deleted it: nobody else has it.
    let key = ObjectKey::new(&LEASES, "ml", "failover-harness");
    cluster.store().delete(&key, &Deletion::default(), "kubectl").unwrap();
    program.clocks.pass(11);
    lock.guard().may_write().await.unwrap();
    assert_eq!(look(&access, &lease::name("ml")).await.unwrap().unwrap().holder, "run-1");
    cluster.shutdown().await;
}

#[tokio::test]
async fn of_two_who_take_it_at_once_one_has_it() {
    let (cluster, access) = start().await;
    let (one, other) = (Program::new(), Program::new());
    let waiting = Arc::new(Notify::new());
    let told = Arc::clone(&waiting);
    let progress = move |_: &str| told.notify_one();
    let (clocks, others) = (one.clocks.clone(), other.clocks.clone());
    let both = async {
        tokio::join!(one.take(&access, "run-1", &progress), other.take(&access, "run-2", &progress))
    };
    let moving = async {
        waiting.notified().await;
        // Whoever waits is not let in while the other one is about to renew: here it never does.
        clocks.pass(1);
        others.pass(1);
    };
    let within = tokio::time::timeout(Duration::from_secs(3), async { tokio::join!(both, moving) }).await;
    // The loser goes on watching; what counts is who has it.
    assert!(within.is_err(), "nobody is let in beside the other");
    assert!(look(&access, &lease::name("ml")).await.unwrap().is_some());
    let made = cluster.audit().entries();
    let made = made.iter().filter(|entry| entry.is_mutation() && entry.code < 300).count();
    assert_eq!(made, 1, "it was written once");
    cluster.shutdown().await;
}
