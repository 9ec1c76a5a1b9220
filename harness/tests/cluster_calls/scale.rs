//! Scaling to 0 and back, against a Deployment that others change too.

use harness::cluster::access::{Access, MayWrite, NoWrite};
use harness::cluster::faults::scale::Scale;
use harness::cluster::mutation::{Mutation, MutationError, ReadBack, Undone};
use harness::environment::ObjectName;
use serde_json::{Value, json};
use wiremock::{Request, ResponseTemplate};

use super::{Api, Shared, answer, refusal, shared};

/// A Deployment's scale, and what is wrong with its server.
struct Fake {
    replicas: i64,
    version: u64,
    uid: &'static str,
    /// Before the next write is looked at somebody changes the status, and the count where there is one.
    meddling: Vec<Option<i64>>,
    /// Answers to writes that get lost after the write.
    lost: usize,
    /// Writes that are not answered, and not made either, as far as anybody can see.
    unanswered: usize,
}

impl Fake {
    fn shared() -> Shared<Self> {
        shared(Self { replicas: 2, version: 7, uid: "u1", meddling: Vec::new(), lost: 0, unanswered: 0 })
    }

    fn object(&self) -> Value {
        // As the API does: a count of 0 is left out.
        let spec = if self.replicas == 0 { json!({}) } else { json!({ "replicas": self.replicas }) };
        json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {
                "name": "vllm", "namespace": "ml", "uid": self.uid, "resourceVersion": self.version.to_string(),
            },
            "spec": spec, "status": { "replicas": self.replicas },
        })
    }

    fn answer(&mut self, request: &Request) -> ResponseTemplate {
        if request.method.as_str() == "GET" {
            return answer(200, &self.object());
        }
        if self.unanswered > 0 {
            self.unanswered -= 1;
            return refusal(504, "Timeout", "nobody knows");
        }
        if let Some(count) = self.meddling.pop() {
            self.replicas = count.unwrap_or(self.replicas);
            self.version += 1;
        }
        let patch: Value = serde_json::from_slice(&request.body).unwrap();
        let version = self.version.to_string();
        if patch["metadata"]["resourceVersion"] != version.as_str() {
            return refusal(409, "Conflict", "the object has been modified");
        }
        self.replicas = patch["spec"]["replicas"].as_i64().unwrap();
        self.version += 1;
        if self.lost > 0 {
            self.lost -= 1;
            return refusal(504, "Timeout", "the answer was lost");
        }
        answer(200, &self.object())
    }
}

async fn serve(fake: &Shared<Fake>) -> (Api, Access) {
    let fake = fake.clone();
    let api = Api::start(move |request| fake.lock().unwrap().answer(request)).await;
    let access = api.access().await;
    (api, access)
}

/// Allows so many changes and none after that.
pub(crate) struct Allows(pub(crate) std::sync::atomic::AtomicUsize);

impl MayWrite for Allows {
    fn may_write(&self) -> futures::future::BoxFuture<'_, Result<std::time::Duration, NoWrite>> {
        use std::sync::atomic::Ordering::Relaxed;
        let left = self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        let no = NoWrite { why: "the lock was taken by another run".to_owned(), is_lost: true };
        Box::pin(async move { left.map(|_| std::time::Duration::from_secs(5)).map_err(|_| no) })
    }

    fn left(&self) -> Option<std::time::Duration> {
        Some(std::time::Duration::from_secs(5))
    }
}

#[tokio::test]
async fn a_conflict_is_no_leave_to_write_again_once_the_lock_is_lost() {
    let fake = Fake::shared();
    fake.lock().unwrap().meddling = vec![None];
    let (api, access) = serve(&fake).await;
    let access = access.guarded(std::sync::Arc::new(Allows(1.into())));
    let error = to_zero().apply(&access).await.unwrap_err();
    let MutationError::Call(call) = &error else { panic!("{error}") };
    assert!(call.is_lock_lost() && !call.is_outcome_unknown(), "{error}");
    assert_eq!(api.asked_with("PATCH").await.len(), 1, "only the first, which met a conflict");
    assert_eq!(fake.lock().unwrap().replicas, 2);
    let error = to_zero().undo(&access).await;
    assert_eq!(error, Ok(Undone::Before), "reading is allowed");
}

fn to_zero() -> Mutation {
    Mutation::Scale(Scale { deployment: ObjectName::new("ml", "vllm"), uid: "u1".into(), replicas: 2 })
}

#[tokio::test]
async fn a_count_goes_to_0_and_back_with_what_was_read_as_precondition() {
    let fake = Fake::shared();
    let (api, access) = serve(&fake).await;
    assert_eq!(to_zero().read_back(&access).await.unwrap(), ReadBack::Undone);
    let applied = to_zero().apply(&access).await.unwrap();
    assert_eq!((applied.uid.as_str(), applied.resource_version.as_str()), ("u1", "8"));
    assert_eq!(to_zero().read_back(&access).await.unwrap(), ReadBack::Done);
    assert_eq!(to_zero().undo(&access).await.unwrap(), Undone::Now);
    assert_eq!(to_zero().undo(&access).await.unwrap(), Undone::Before, "an undo can be repeated");
    assert_eq!(to_zero().read_back(&access).await.unwrap(), ReadBack::Undone);
    let writes = api.asked_with("PATCH").await;
    let [down, up] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!(down.url.path(), "/apis/apps/v1/namespaces/ml/deployments/vllm/scale");
    assert!(down.url.query().unwrap().contains("fieldManager=failover-harness"), "{}", down.url);
    assert_eq!(down.headers["content-type"], "application/merge-patch+json");
    let body = |request: &Request| serde_json::from_slice::<Value>(&request.body).unwrap();
    assert_eq!(body(down), json!({ "metadata": { "resourceVersion": "7" }, "spec": { "replicas": 0 } }));
    assert_eq!(body(up), json!({ "metadata": { "resourceVersion": "8" }, "spec": { "replicas": 2 } }));
}

#[tokio::test]
async fn a_status_that_changes_meanwhile_is_no_reason_to_give_up() {
    let fake = Fake::shared();
    fake.lock().unwrap().meddling = vec![None, None];
    let (api, access) = serve(&fake).await;
    to_zero().apply(&access).await.unwrap();
    assert_eq!(fake.lock().unwrap().replicas, 0);
    assert_eq!(api.asked_with("PATCH").await.len(), 3);
}

#[tokio::test]
async fn a_count_that_somebody_changes_meanwhile_is_left_as_it_is() {
    let fake = Fake::shared();
    fake.lock().unwrap().meddling = vec![Some(5)];
    let (api, access) = serve(&fake).await;
    let error = to_zero().apply(&access).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "deployments/scale ml/vllm has changed since it was looked at: expected 2 pods, found 5 pods"
    );
    assert_eq!(fake.lock().unwrap().replicas, 5);
    assert_eq!(api.asked_with("PATCH").await.len(), 1);
    let left = to_zero().undo(&access).await.unwrap();
    assert_eq!(left, Undone::LeftAlone { saw: "5 pods".into() });
    assert_eq!(api.asked_with("PATCH").await.len(), 1, "an undo leaves it alone as well");
}

#[tokio::test]
async fn conflicts_without_end_are_an_error() {
    let fake = Fake::shared();
    fake.lock().unwrap().meddling = vec![None; 100];
    let (api, access) = serve(&fake).await;
    let error = to_zero().apply(&access).await.unwrap_err();
    assert!(matches!(&error, MutationError::Call(call) if call.is_conflict()), "{error}");
    assert_eq!(api.asked_with("PATCH").await.len(), 5);
    assert_eq!(fake.lock().unwrap().replicas, 2);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_looked_up_and_not_made_twice() {
    let fake = Fake::shared();
    fake.lock().unwrap().lost = 1;
    let (api, access) = serve(&fake).await;
    to_zero().apply(&access).await.unwrap();
    assert_eq!(api.asked_with("PATCH").await.len(), 1);
    fake.lock().unwrap().lost = 1;
    assert_eq!(to_zero().undo(&access).await.unwrap(), Undone::Now);
    assert_eq!(api.asked_with("PATCH").await.len(), 2);
    assert_eq!(fake.lock().unwrap().replicas, 2);
}

#[tokio::test]
async fn a_write_that_lands_under_its_own_repetition_is_ours() {
    let fake = Fake::shared();
    fake.lock().unwrap().unanswered = 1;
    // The first write comes through just before the second, which meets a conflict.
    fake.lock().unwrap().meddling = vec![Some(0)];
    let (api, access) = serve(&fake).await;
    to_zero().apply(&access).await.unwrap();
    assert_eq!(api.asked_with("PATCH").await.len(), 2);
    assert_eq!(to_zero().undo(&access).await, Ok(Undone::Now));
    assert_eq!(fake.lock().unwrap().replicas, 2);
}

#[tokio::test]
async fn after_a_write_without_an_answer_no_error_is_a_definite_no() {
    // The lock is lost before the repetition.
    let fake = Fake::shared();
    fake.lock().unwrap().unanswered = 1;
    let (_api, access) = serve(&fake).await;
    let guarded = access.guarded(std::sync::Arc::new(Allows(1.into())));
    let error = to_zero().apply(&guarded).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    let words = error.to_string();
    let part = "an earlier write to deployments/scale ml/vllm was not answered, and may have been made";
    assert!(words.contains(part) && words.contains("the lock was taken"), "{words}");

    // Conflicts without end, and somebody else's count.
    for meddling in [vec![None; 100], vec![Some(5)]] {
        let fake = Fake::shared();
        fake.lock().unwrap().unanswered = 1;
        fake.lock().unwrap().meddling = meddling;
        let (_api, access) = serve(&fake).await;
        let error = to_zero().apply(&access).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
    }
}

#[tokio::test]
async fn another_deployment_of_the_same_name_is_not_ours() {
    let fake = Fake::shared();
    fake.lock().unwrap().uid = "u2";
    let (api, access) = serve(&fake).await;
    assert!(matches!(to_zero().apply(&access).await, Err(MutationError::Changed { .. })));
    fake.lock().unwrap().replicas = 0;
    let left = to_zero().undo(&access).await.unwrap();
    assert!(matches!(left, Undone::LeftAlone { .. }), "{left:?}");
    assert!(api.asked_with("PATCH").await.is_empty());
}

#[tokio::test]
async fn a_deployment_that_is_gone_has_nothing_to_undo() {
    let api = Api::start(|_| refusal(404, "NotFound", "deployments.apps \"vllm\" not found")).await;
    let left = to_zero().undo(&api.access().await).await.unwrap();
    assert_eq!(left, Undone::LeftAlone { saw: "the Deployment is gone".into() });
}

#[tokio::test]
async fn an_undo_that_is_forbidden_says_so() {
    let fake = Fake::shared();
    fake.lock().unwrap().replicas = 0;
    let inner = fake.clone();
    let api = Api::start(move |request| match request.method.as_str() {
        "PATCH" => refusal(403, "Forbidden", "may not patch deployments/scale"),
        _ => inner.lock().unwrap().answer(request),
    })
    .await;
    let error = to_zero().undo(&api.access().await).await.unwrap_err();
    assert!(error.is_forbidden(), "{error}");
    assert_eq!(api.asked_with("PATCH").await.len(), 1);
}
