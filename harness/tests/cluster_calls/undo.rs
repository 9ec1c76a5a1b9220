//! Objects that a run makes, and what becomes of them when somebody else is about.

use std::collections::BTreeMap;

use harness::cluster::access::{Access, CallError};
use harness::cluster::faults::policy::{Anchor, Policy, anchored, everything_but};
use harness::cluster::mutation::{Mutation, MutationError, ReadBack, Undone};
use harness::units::Period;
use serde_json::{Value, json};
use wiremock::{Request, ResponseTemplate};

use super::{Api, Shared, answer, refusal, shared};

/// Undoes all of these, the last first, each whatever became of the others; the results in the order of the undoing.
pub(crate) async fn undo_all<'m>(
    access: &Access,
    mutations: &'m [Mutation],
) -> Vec<(&'m Mutation, Result<Undone, CallError>)> {
    let mut results = Vec::with_capacity(mutations.len());
    for mutation in mutations.iter().rev() {
        results.push((mutation, mutation.undo(access).await));
    }
    results
}

const RUN: &str = "20261123T004551Z-0a1b2c";

fn fault() -> [Mutation; 2] {
    let selector = serde_json::from_value(json!({ "matchLabels": { "app": "litellm" } })).unwrap();
    let spec = everything_but(&selector, &["34.36.133.15".parse().unwrap()].into());
    let (anchor, policy): (Anchor, Policy) =
        anchored("ml", "blackhole-cloud", RUN, Period::from_secs(600), "x".into(), spec);
    [Mutation::Anchor(anchor), Mutation::Policy(Box::new(policy))]
}

/// Objects by path.
#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    made: u64,
    /// Answers to the making of objects that get lost.
    lost: usize,
    /// Deletions that meet a conflict.
    conflicts: usize,
    /// After which somebody else's object has the name.
    is_taken: bool,
}

impl Store {
    fn answer(&mut self, request: &Request) -> ResponseTemplate {
        let path = request.url.path().to_owned();
        match request.method.as_str() {
            "POST" => {
                let mut object: Value = serde_json::from_slice(&request.body).unwrap();
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    return refusal(409, "AlreadyExists", "it is there already");
                }
                self.made += 1;
                object["metadata"]["uid"] = json!(format!("uid-{}", self.made));
                object["metadata"]["resourceVersion"] = json!(self.made.to_string());
                self.objects.insert(path, object.clone());
                if self.lost > 0 {
                    self.lost -= 1;
                    return refusal(504, "Timeout", "the answer was lost");
                }
                answer(201, &object)
            }
            "DELETE" => {
                let Some(object) = self.objects.get_mut(&path) else {
                    return refusal(404, "NotFound", "none");
                };
                if self.conflicts > 0 {
                    self.conflicts -= 1;
                    if self.is_taken {
                        object["metadata"]["labels"]["failover-harness/run"] = json!("another");
                    }
                    return refusal(409, "Conflict", "the object has been modified");
                }
                let options: Value = serde_json::from_slice(&request.body).unwrap();
                if options["preconditions"]["uid"] != object["metadata"]["uid"] {
                    return refusal(409, "Conflict", "the uid differs");
                }
                answer(200, &self.objects.remove(&path).unwrap())
            }
            _ => {
                self.objects.get(&path).map_or(refusal(404, "NotFound", "none"), |object| answer(200, object))
            }
        }
    }
}

async fn serve(store: &Shared<Store>) -> Api {
    let store = store.clone();
    Api::start(move |request| store.lock().unwrap().answer(request)).await
}

#[tokio::test]
async fn a_policy_belongs_to_its_job_and_both_go_again() {
    let store = shared(Store::default());
    let api = serve(&store).await;
    let access = api.access().await;
    let [anchor, policy] = fault();
    assert_eq!(anchor.read_back(&access).await.unwrap(), ReadBack::Undone);
    let job = anchor.apply(&access).await.unwrap();
    policy.apply(&access).await.unwrap();
    let owner = store
        .lock()
        .unwrap()
        .objects
        .values()
        .find_map(|object| object["metadata"]["ownerReferences"][0]["uid"].as_str().map(str::to_owned));
    assert_eq!(owner, Some(job.uid));
    for mutation in fault() {
        assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Done, "{}", mutation.words());
    }
    let made = api.asked_with("POST").await;
    assert!(
        made.iter().all(|request| request.url.query().unwrap().contains("fieldManager=failover-harness"))
    );
    let mutations = fault();
    let undone: Vec<_> =
        undo_all(&access, &mutations).await.into_iter().map(|(_, undone)| undone.unwrap()).collect();
    assert_eq!(undone, [Undone::Now, Undone::Now]);
    let deleted = api.asked_with("DELETE").await;
    assert!(deleted[0].url.path().contains("networkpolicies"), "the last that was made goes first");
    let options: Value = serde_json::from_slice(&deleted[1].body).unwrap();
    assert_eq!(options["propagationPolicy"], "Background");
    assert!(store.lock().unwrap().objects.is_empty());
    let again: Vec<_> =
        undo_all(&access, &mutations).await.into_iter().map(|(_, undone)| undone.unwrap()).collect();
    assert_eq!(again, [Undone::Before, Undone::Before]);
}

#[tokio::test]
async fn a_policy_is_not_made_without_something_that_removes_it() {
    let api = serve(&shared(Store::default())).await;
    let [_, policy] = fault();
    let error = policy.apply(&api.access().await).await.unwrap_err();
    assert!(matches!(error, MutationError::Changed { .. }), "{error}");
    assert!(api.asked_with("POST").await.is_empty());
}

#[tokio::test]
async fn an_object_whose_making_was_not_answered_is_found_again() {
    let store = shared(Store { lost: 1, ..Store::default() });
    let api = serve(&store).await;
    let [anchor, _] = fault();
    let applied = anchor.apply(&api.access().await).await.unwrap();
    assert_eq!(applied.uid, "uid-1");
    // A second time it is there already, and ours.
    assert_eq!(anchor.apply(&api.access().await).await.unwrap().uid, "uid-1");
}

#[tokio::test]
async fn what_is_not_of_this_run_is_neither_taken_nor_deleted() {
    let store = shared(Store::default());
    let api = serve(&store).await;
    let access = api.access().await;
    let [anchor, _] = fault();
    anchor.apply(&access).await.unwrap();
    for object in store.lock().unwrap().objects.values_mut() {
        object["metadata"]["labels"]["failover-harness/run"] = json!("another");
    }
    assert!(matches!(anchor.apply(&access).await, Err(MutationError::Changed { .. })));
    assert!(matches!(anchor.undo(&access).await.unwrap(), Undone::LeftAlone { .. }));
    assert!(matches!(anchor.read_back(&access).await.unwrap(), ReadBack::Other { .. }));
    assert_eq!(store.lock().unwrap().objects.len(), 1);
    assert!(api.asked_with("DELETE").await.is_empty());
}

#[tokio::test]
async fn a_conflict_leaves_nothing_that_is_still_of_this_run() {
    for is_taken in [false, true] {
        let store = shared(Store { conflicts: 1, is_taken, ..Store::default() });
        let api = serve(&store).await;
        let access = api.access().await;
        let [anchor, _] = fault();
        anchor.apply(&access).await.unwrap();
        let error = anchor.undo(&access).await.unwrap_err();
        assert!(error.is_conflict(), "{error}");
        let again = anchor.undo(&access).await.unwrap();
        assert_eq!(matches!(again, Undone::LeftAlone { .. }), is_taken, "{again:?}");
        assert_eq!(store.lock().unwrap().objects.is_empty(), !is_taken);
    }
}

#[tokio::test]
async fn what_the_cluster_itself_would_refuse_is_known_before() {
    let api = Api::start(|request| match request.method.as_str() {
        "POST" => refusal(403, "Forbidden", "admission webhook said no"),
        _ => refusal(404, "NotFound", "none"),
    })
    .await;
    let access = api.access().await;
    for mutation in fault() {
        let error = mutation.rehearse(&access).await.unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains("webhook said no"), "{error}");
    }
    let asked = api.asked_with("POST").await;
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|request| request.url.query().unwrap().contains("dryRun=All")));
    // The Job is not there yet: the policy cannot belong to it.
    let policy: Value = serde_json::from_slice(&asked[1].body).unwrap();
    assert!(policy["metadata"].get("ownerReferences").is_none());
}

#[tokio::test]
async fn one_undo_that_fails_keeps_none_of_the_others_from_being_made() {
    let store = shared(Store::default());
    let inner = store.clone();
    let api = Api::start(move |request| {
        let policies = request.url.path().contains("networkpolicies");
        if policies && request.method.as_str() == "DELETE" {
            return refusal(500, "InternalError", "not now");
        }
        inner.lock().unwrap().answer(request)
    })
    .await;
    let access = api.access().await;
    for mutation in fault() {
        mutation.apply(&access).await.unwrap();
    }
    let mutations = fault();
    let results = undo_all(&access, &mutations).await;
    assert!(results[0].1.is_err());
    assert_eq!(results[1].1, Ok(Undone::Now));
}

#[test]
fn what_a_journal_holds_of_a_mutation_undoes_it_too() {
    for mutation in fault() {
        let text = serde_json::to_string(&mutation).unwrap();
        assert_eq!(serde_json::from_str::<Mutation>(&text).unwrap(), mutation);
    }
}
