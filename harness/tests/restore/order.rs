//! In which order it is undone what several runs have left.

use harness::cluster::faults::scale::Scale;
use harness::cluster::mutation::{Kubectl, Mutation};
use harness::cluster::record::Record;
use harness::environment::ObjectName;
use jiff::{Span, Timestamp};
use mocks::kubernetes::resources::{CONFIG_MAPS, DEPLOYMENTS};
use mocks::kubernetes::store::{ObjectKey, Writer};

use crate::records::{asked, changes_since, killed, records, replicas, two_pods};
use crate::stack::Stack;

/// Another run, which began so many hours later, has scaled this Deployment to 0 and left it so.
fn left_by(stack: &Stack, run: &str, hours_later: i64, deployment: &str) {
    stack.change(&DEPLOYMENTS, "ml", deployment, |object| object["spec"]["replicas"] = 0.into());
    let store = stack.household.cluster().store();
    let object = store.get(&ObjectKey::new(&DEPLOYMENTS, "ml", deployment)).unwrap();
    let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
    let began = Timestamp::now().checked_add(Span::new().hours(hours_later)).unwrap();
    let mut record = Record::new(run, "test-cluster", "attic", None, began, began);
    let scale = Scale { deployment: ObjectName::new("ml", deployment), uid, replicas: 1 };
    record.intend(&Mutation::Scale(scale), &Kubectl::new(None)).unwrap();
    let map = record.manifest(&Record::name("ml", run), None).unwrap();
    let map = serde_json::to_value(map).unwrap();
    store.create(&CONFIG_MAPS, "ml", map, Writer::of_object("failover-harness")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_run_is_undone_first_and_of_each_its_last_change() {
    let stack = two_pods().await;
    killed(&stack).await;
    // Neither names nor the order in which they were written down say who is newer.
    left_by(&stack, "z-earlier", -1, "ollama");
    left_by(&stack, "a-later", 1, "litellm");
    let before = asked(&stack);
    let restored = stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    let changes = changes_since(&stack, before);
    let undone: Vec<String> = changes
        .iter()
        .filter(|entry| !["leases", "configmaps"].contains(&entry.resource.as_str()))
        .map(|entry| match entry.resource.as_str() {
            "deployments/scale" => entry.name.clone(),
            resource => resource.to_owned(),
        })
        .collect();
    // The killed run has stopped vLLM, then made the Job, and then the policy that goes with it.
    assert_eq!(undone, ["litellm", "networkpolicies", "jobs", "vllm", "ollama"], "{}", restored.stdout);
    assert_eq!(
        (replicas(&stack, "vllm"), replicas(&stack, "ollama"), replicas(&stack, "litellm")),
        (2, 1, 1)
    );
    assert!(records(&stack).iter().all(|record| record["phase"] == "restored"));
    stack.assert_clean();
    stack.strike().await;
}
