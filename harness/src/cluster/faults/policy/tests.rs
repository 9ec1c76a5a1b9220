use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Anchor, Policy, anchored, cuts_nothing, everything_but, unfit};
use crate::units::Period;

fn fault(targets: &[&str]) -> (Anchor, Policy) {
    let selector = serde_json::from_value(json!({ "matchLabels": { "app": "litellm" } })).unwrap();
    let targets: BTreeSet<_> = targets.iter().map(|ip| ip.parse().unwrap()).collect();
    let spec = everything_but(&selector, &targets);
    anchored("ml", "blackhole-cloud", "20261123T004551Z-0a1b2c", Period::from_secs(600), "x".into(), spec)
}

#[test]
fn the_job_runs_no_pod_and_ends_in_time() {
    let (anchor, _) = fault(&["34.36.133.15"]);
    let job = serde_json::to_value(anchor.manifest(Some("ml"))).unwrap();
    assert_eq!(job["metadata"]["name"], "drill-anchor-blackhole-cloud-20261123t004551z-0a1b2c");
    assert_eq!(job["metadata"]["labels"]["failover-harness/run"], "20261123T004551Z-0a1b2c");
    assert_eq!(job["metadata"]["labels"]["failover-harness/home"], "ml");
    let spec = &job["spec"];
    assert_eq!((&spec["parallelism"], &spec["activeDeadlineSeconds"]), (&json!(0), &json!(600)));
    assert_eq!((&spec["ttlSecondsAfterFinished"], spec.get("suspend")), (&json!(0), None));
    assert!(spec.get("podFailurePolicy").is_none());
}

#[test]
fn the_policy_belongs_to_the_job_and_spares_the_rest() {
    let (_, policy) = fault(&["34.36.133.15", "2600:1901::1", "1.2.3.4"]);
    let object = serde_json::to_value(policy.manifest("job-uid", Some("ml"))).unwrap();
    let owner = &object["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("Job"), &json!("job-uid")));
    assert!(owner.get("blockOwnerDeletion").is_none());
    let labels = json!({ "failover-harness/run": "20261123T004551Z-0a1b2c", "failover-harness/home": "ml" });
    assert_eq!(object["metadata"]["labels"], labels);
    assert_eq!(
        object["spec"],
        json!({
            "podSelector": { "matchLabels": { "app": "litellm" } },
            "policyTypes": ["Egress"],
            "egress": [
                { "to": [{ "namespaceSelector": {} }] },
                { "to": [
                    { "ipBlock": { "cidr": "0.0.0.0/0", "except": ["1.2.3.4/32", "34.36.133.15/32"] } },
                    { "ipBlock": { "cidr": "::/0", "except": ["2600:1901::1/128"] } },
                ] },
            ],
        })
    );
}

#[test]
fn a_policy_without_addresses_would_cut_nothing() {
    assert!(cuts_nothing(&fault(&[]).1.spec));
    assert!(!cuts_nothing(&fault(&["1.2.3.4"]).1.spec));
    assert!(!cuts_nothing(&fault(&["::1"]).1.spec));
    // `isolate` has no addresses, and cuts all.
    let selector = serde_json::from_value(json!({})).unwrap();
    assert!(!cuts_nothing(&crate::cluster::faults::isolate::nobody_in(&selector)));
}

#[test]
fn a_job_that_does_not_keep_time_is_no_anchor() {
    let (anchor, _) = fault(&["1.2.3.4"]);
    let why = |change: fn(&mut Value)| {
        let mut job = serde_json::to_value(anchor.manifest(Some("ml"))).unwrap();
        change(&mut job);
        unfit(&serde_json::from_value(job).unwrap())
    };
    assert_eq!(why(|_| {}), None);
    assert!(why(|job| job["spec"]["suspend"] = json!(true)).is_some());
    assert!(why(|job| _ = job["spec"].as_object_mut().unwrap().remove("activeDeadlineSeconds")).is_some());
    assert!(why(|job| job["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")).is_some());
    assert!(
        why(|job| job["status"] = json!({ "conditions": [{ "type": "Failed", "status": "True" }] }))
            .is_some()
    );
    assert!(
        why(|job| job["status"] = json!({ "conditions": [{ "type": "Failed", "status": "False" }] }))
            .is_none()
    );
}

#[test]
fn what_differs_from_what_was_made_is_named() {
    let (_, policy) = fault(&["1.2.3.4"]);
    let why = |change: fn(&mut Value)| {
        let mut object = serde_json::to_value(policy.manifest("uid", None)).unwrap();
        change(&mut object);
        policy.differs(&serde_json::from_value(object).unwrap())
    };
    assert_eq!(why(|_| {}), None);
    assert!(why(|object| object["metadata"]["labels"] = json!({})).unwrap().contains("label"));
    assert!(why(|object| object["spec"]["egress"] = json!([{}])).unwrap().contains("rules"));
    assert!(why(|object| object["metadata"]["ownerReferences"] = json!([])).unwrap().contains("in time"));
}
