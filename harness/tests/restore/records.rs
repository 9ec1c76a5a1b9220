//! What the tests look at and bring about in the cluster.

use std::path::PathBuf;
use std::time::Duration;

use mocks::kubernetes::api::AuditEntry;
use mocks::kubernetes::resources::{CONFIG_MAPS, DEPLOYMENTS, LEASES};
use mocks::kubernetes::store::ObjectKey;
use rustix::process::Signal;
use serde_json::Value;

use crate::child::Running;
use crate::stack::{Stack, Staging};

/// The GPU is down for a long time, with little traffic: there is time for an accident.
pub(crate) const LONG: &str = "\
requirements: [FR217]
components: { cloud: down, vllm: down }
traffic:
  - { route: agent, rate: 2/s, for: 120s, stream: whole }
expect:
  agent: { served_by: ollama-qwen, within: 5s, errors: 0 }
";

/// Only vLLM is stopped.
pub(crate) const GPU_DOWN: &str = "\
requirements: [FR217]
components: { vllm: down }
traffic:
  - { route: agent, rate: 4/s, for: 2s, stream: mixed }
expect:
  agent: { served_by: cloud-kimi, errors: 0 }
";

/// A household whose vLLM has two pods: what comes back by chance has another count.
pub(crate) async fn two_pods() -> Stack {
    let stack = Stack::start(Staging::default()).await;
    // What the gateway still does for a run that has just ended looks like somebody else's to the next.
    stack.edit("components:\n", "users: { postpone: 1m }\ncomponents:\n");
    stack.change(&DEPLOYMENTS, "ml", "vllm", |object| object["spec"]["replicas"] = 2.into());
    stack.household.ready(Duration::from_secs(30)).await.unwrap();
    stack
}

/// A run that has taken cloud and vLLM down, and holds that.
pub(crate) async fn holding(stack: &Stack) -> (Running, PathBuf) {
    let file = stack.scenario("cloud-gpu-down", LONG);
    let mut running = stack.harness("run", std::slice::from_ref(&file));
    running.until_it_says("judging").await;
    assert_eq!(replicas(stack, "vllm"), 0, "it is down");
    (running, file)
}

/// The same, killed: nothing of it can tidy up.
pub(crate) async fn killed(stack: &Stack) -> PathBuf {
    let (running, file) = holding(stack).await;
    running.signal(Signal::KILL);
    assert_eq!(running.end().await.status.code(), None, "by a signal");
    file
}

/// What a Deployment of `ml` is to have; at 0 it says nothing.
pub(crate) fn replicas(stack: &Stack, name: &str) -> u64 {
    let key = ObjectKey::new(&DEPLOYMENTS, "ml", name);
    let object = stack.household.cluster().store().get(&key).unwrap();
    object["spec"]["replicas"].as_u64().unwrap_or(0)
}

/// All records, as they are.
pub(crate) fn records(stack: &Stack) -> Vec<Value> {
    let maps = stack.household.cluster().store().list(&CONFIG_MAPS, Some("ml")).items;
    let records = maps.iter().filter_map(|map| map["data"]["record.json"].as_str());
    records.map(|record| serde_json::from_str(record).unwrap()).collect()
}

/// Who holds the lock.
pub(crate) fn holder(stack: &Stack) -> String {
    let key = ObjectKey::new(&LEASES, "ml", "failover-harness");
    let lease = stack.household.cluster().store().get(&key).expect("there is a Lease");
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// Changes that came through since.
pub(crate) fn changes_since(stack: &Stack, entries: usize) -> Vec<AuditEntry> {
    let all = stack.household.cluster().audit().entries();
    all.into_iter().skip(entries).filter(|entry| entry.is_mutation() && entry.code < 300).collect()
}

/// How many requests there were so far.
pub(crate) fn asked(stack: &Stack) -> usize {
    stack.household.cluster().audit().entries().len()
}
