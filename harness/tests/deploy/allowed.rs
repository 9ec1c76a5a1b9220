//! What the roles allow is what is asked for: no more, and no less.

use std::collections::BTreeSet;
use std::fmt;

use mocks::kubernetes::api::AuditEntry;
use mocks::kubernetes::cluster::Cluster;
use mocks::kubernetes::resources::{
    CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, CRON_JOBS, NETWORK_POLICIES, ROLE_BINDINGS, ROLES,
};
use mocks::kubernetes::store::ObjectKey;
use serde_json::Value;

use crate::apply::{DRILL, SWEEPER};
use crate::house::{
    ALL_DOWN, CLOUD_AND_GPU_DOWN, House, SWEEP_EVERY, all_restored, lines, replicas_of, result,
};

/// Each look at the gateway's users takes ten seconds.
const LOOKS_MAX: usize = 6;

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    namespace: String,
    group: String,
    resource: String,
    /// Empty where it is meant for all.
    name: String,
    verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{} {} in {:?}", self.verb, self.group, self.resource, self.name, self.namespace)
    }
}

impl Right {
    fn is_used_by(&self, entry: &AuditEntry) -> bool {
        // A namespace lies in itself.
        let place = if entry.resource == "namespaces" { &entry.name } else { &entry.namespace };
        (&self.namespace, &self.group, &self.resource, &self.verb)
            == (place, &entry.group, &entry.resource, &entry.verb)
            && (self.name.is_empty() || self.name == entry.name)
    }
}

/// What an account may do by the roles that are deployed, or by one of them.
fn granted(cluster: &Cluster, account: &str, only: Option<&str>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    let bindings = [&ROLE_BINDINGS, &CLUSTER_ROLE_BINDINGS];
    for binding in bindings.into_iter().flat_map(|resource| cluster.store().list(resource, None).items) {
        let subjects = binding["subjects"].as_array().unwrap();
        let is_deployed = binding["metadata"]["labels"]["app.kubernetes.io/name"] == "failover-harness";
        if !is_deployed || !subjects.iter().any(|subject| subject["name"] == account) {
            continue;
        }
        let namespace = binding["metadata"]["namespace"].as_str().unwrap_or_default();
        let role = binding["roleRef"]["name"].as_str().unwrap();
        if only.is_some_and(|only| only != role) {
            continue;
        }
        let kind = if binding["roleRef"]["kind"] == "ClusterRole" { &CLUSTER_ROLES } else { &ROLES };
        let role = cluster.store().get(&ObjectKey::new(kind, namespace, role)).expect("the role is there");
        for rule in role["rules"].as_array().unwrap() {
            let texts = |field: &str| -> Vec<String> {
                let texts = rule[field].as_array().into_iter().flatten();
                texts.filter_map(Value::as_str).map(str::to_owned).collect()
            };
            let names = texts("resourceNames");
            let names = if names.is_empty() { vec![String::new()] } else { names };
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    for verb in texts("verbs") {
                        rights.extend(names.iter().map(|name| Right {
                            namespace: namespace.to_owned(),
                            group: group.clone(),
                            resource: resource.clone(),
                            name: name.clone(),
                            verb: verb.clone(),
                        }));
                    }
                }
            }
        }
    }
    rights
}

/// Rights that no entry has used, but for those with a reason.
fn unused<'r>(
    rights: &'r BTreeSet<Right>,
    entries: &[AuditEntry],
    spared: &[(&str, &str)],
) -> Vec<&'r Right> {
    let is_spared = |right: &Right| spared.contains(&(right.verb.as_str(), right.resource.as_str()));
    let used = |right: &&Right| !entries.iter().any(|entry| right.is_used_by(entry)) && !is_spared(right);
    rights.iter().filter(used).collect()
}

/// What was refused for want of a right.
fn refused(entries: &[AuditEntry]) -> BTreeSet<String> {
    let refused = entries.iter().filter(|entry| entry.code == 403);
    refused
        .map(|entry| {
            format!("{} {}/{} {}/{}", entry.verb, entry.group, entry.resource, entry.namespace, entry.name)
        })
        .collect()
}

/// Rights that this run has no occasion for, each as verb and resource.
const SPARED_OF_THE_DRILL: &[(&str, &str)] = &[
    // The mock checks it with `get`, as servers since 1.35 do, and writes down one verb a request.
    ("create", "pods/exec"),
    // Only where something cannot be undone.
    ("create", "events"),
    // The eleventh run deletes the record of the first.
    ("delete", "configmaps"),
    // Where it is not known whether a record was written.
    ("get", "configmaps"),
    // Only where an earlier run has left something.
    ("list", "jobs"),
];
const SPARED_OF_THE_SWEEPER: &[(&str, &str)] = &[
    ("create", "events"),
    // Where somebody has deleted the Lease of a run.
    ("create", "leases"),
];

fn assert_all_used(house: &House, account: &str, spared: &[(&str, &str)]) {
    let asked = house.asked_by(account);
    // Nodes have no namespace: what is optional is asked for, and done without.
    let mut refused = refused(&asked);
    refused.retain(|words| !words.contains("/nodes "));
    assert_eq!(refused, BTreeSet::new(), "{account} was refused");
    let granted = granted(house.cluster(), account, None);
    assert!(granted.len() > 10, "there is something to look at");
    assert_none_unused(account, &granted, &asked, spared);
}

fn assert_none_unused(
    account: &str,
    granted: &BTreeSet<Right>,
    asked: &[AuditEntry],
    spared: &[(&str, &str)],
) {
    let words: Vec<_> = unused(granted, asked, spared).iter().map(ToString::to_string).collect();
    assert!(words.is_empty(), "{account} may and does not:\n{}", words.join("\n"));
}

/// All that one role allows an account is used, and nothing was refused to it.
pub(crate) fn assert_role_used(house: &House, account: &str, role: &str, spared: &[(&str, &str)]) {
    let mut asked = house.asked_by(account);
    assert_eq!(refused(&asked), BTreeSet::new(), "{account} was refused");
    // That is how it reaches the gateway from outside.
    asked.retain(|entry| entry.resource != "pods/portforward" || !entry.name.starts_with("litellm-"));
    let granted = granted(house.cluster(), account, Some(role));
    assert!(!granted.is_empty(), "{account} has the role {role}");
    assert_none_unused(account, &granted, &asked, spared);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nightly_run_in_its_pod_asks_for_what_its_roles_allow_and_for_no_more() {
    let house = House::start(SWEEP_EVERY).await;
    house.deploy(CLOUD_AND_GPU_DOWN).await;
    house.until_swept().await;
    house.run_now(DRILL, "tonight");
    let (_, told) = house.end_of("tonight").await;
    let result = result(house.runs().first().unwrap_or_else(|| panic!("{told}")));
    // On a busy machine it may be inconclusive; what it asked for is the same.
    assert_eq!((&result["ended"], &result["restored"]), (&"completed".into(), &true.into()), "{result:#}");
    assert_eq!(house.replicas("vllm"), 1);
    house.assert_clean();
    // The same account from outside: what shows the way before a run.
    let planned = house.harness(DRILL, &["plan"]).await;
    assert_eq!(planned.status.code(), Some(0), "{}", lines(&planned));
    // The gateway may still be answering what the run has asked for.
    let mut said = String::new();
    for _ in 0..LOOKS_MAX {
        let output = house.harness(DRILL, &["doctor"]).await;
        said = lines(&output);
        if output.status.code() == Some(0) {
            break;
        }
        assert!(said.contains("went through the gateway"), "{said}");
    }
    assert!(said.contains("users: nobody used the gateway"), "{said}");
    assert_all_used(&house, DRILL, SPARED_OF_THE_DRILL);
    house.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweeper_undoes_what_a_run_has_left_whose_job_is_gone() {
    let house = House::start(SWEEP_EVERY).await;
    house.deploy(ALL_DOWN).await;
    house.until_swept().await;
    house.run_now(DRILL, "tonight");
    house.until_faulted(&["vllm", "ollama"]).await;
    // The node is lost, and somebody deletes the Job: no pod comes after it.
    house.lose_job("tonight");
    let store = house.cluster().store();
    house
        .until("all is scaled back and nothing is left", |cluster| {
            let store = cluster.store();
            let is_back = ["vllm", "ollama"].iter().all(|name| replicas_of(store, name) == 1);
            let policies = store.list(&NETWORK_POLICIES, Some("ml")).items;
            (is_back && policies.is_empty()).then_some(())
        })
        .await;
    house.until("the record is closed", |cluster| all_restored(cluster).then_some(())).await;
    house.assert_clean();
    let swept = store.get(&ObjectKey::new(&CRON_JOBS, "ml", SWEEPER)).unwrap();
    assert!(swept["status"]["lastSuccessfulTime"].is_string());
    assert_all_used(&house, SWEEPER, SPARED_OF_THE_SWEEPER);
    house.strike().await;
}
