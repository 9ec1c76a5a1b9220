//! What the roles allow is what is asked for: no more, and no less.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use mocks::kubernetes::api::AuditEntry;
use mocks::kubernetes::cluster::Cluster;
use mocks::kubernetes::resources::{ROLE_BINDINGS, ROLES};
use mocks::kubernetes::store::ObjectKey;
use serde_json::Value;

use crate::apply::DRILL;
use crate::house::{CLOUD_AND_GPU_DOWN, House, lines, result};

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
        (&self.namespace, &self.group, &self.resource, &self.verb)
            == (&entry.namespace, &entry.group, &entry.resource, &entry.verb)
            && (self.name.is_empty() || self.name == entry.name)
    }
}

/// What an account may do by the roles that are deployed.
fn granted(cluster: &Cluster, account: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for binding in cluster.store().list(&ROLE_BINDINGS, None).items {
        let subjects = binding["subjects"].as_array().unwrap();
        let is_deployed = binding["metadata"]["labels"]["app.kubernetes.io/name"] == "failover-harness";
        if !is_deployed || !subjects.iter().any(|subject| subject["name"] == account) {
            continue;
        }
        let namespace = binding["metadata"]["namespace"].as_str().unwrap();
        let role = binding["roleRef"]["name"].as_str().unwrap();
        let role = cluster.store().get(&ObjectKey::new(&ROLES, namespace, role)).expect("the role is there");
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

/// Rights that this run has no occasion for.
const SPARED_OF_THE_DRILL: &[(&str, &str)] = &[];

#[tokio::test(flavor = "multi_thread")]
async fn the_nightly_run_in_its_pod_asks_for_what_its_roles_allow_and_for_no_more() {
    let house = House::start(Duration::from_secs(60)).await;
    house.deploy(CLOUD_AND_GPU_DOWN).await;
    house.run_now(DRILL, "tonight");
    let (complete, told) = house.end_of("tonight").await;
    assert!(complete, "{told}");
    let result = result(&house.newest_run());
    assert_eq!((&result["verdict"], &result["restored"]), (&"pass".into(), &true.into()), "{result:#}");
    assert_eq!(house.replicas("vllm"), 1);
    house.assert_clean();
    // The same account from outside: what shows the way before a run.
    for command in ["plan", "doctor"] {
        let output = house.harness(DRILL, &[command]).await;
        assert_eq!(output.status.code(), Some(0), "{command}: {}", lines(&output));
    }
    let asked = house.asked_by(DRILL);
    // Nodes have no namespace: what is optional is asked for, and done without.
    let mut refused = refused(&asked);
    refused.retain(|words| !words.contains("/nodes "));
    assert_eq!(refused, BTreeSet::new());
    let granted = granted(house.cluster(), DRILL);
    assert!(granted.len() > 20, "there is something to look at");
    let unused = unused(&granted, &asked, SPARED_OF_THE_DRILL);
    assert!(unused.is_empty(), "{}", unused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    house.strike().await;
}
