//! What is run in a pod, and what its containers tell of it.

use serde_json::{Value, json};

use super::{NetnsDrop, Ran, drop_name, in_force, lift_name, next_number, ran};
use crate::cluster::mutation::{Kubectl, ReadBack};
use crate::environment::ObjectName;
use crate::units::Period;

const RUN: &str = "20261123T004551Z-0a1b2c";

fn fault() -> NetnsDrop {
    NetnsDrop {
        pod: ObjectName::new("ml", "litellm-0"),
        uid: "u1".into(),
        run: RUN.into(),
        component: "cloud".into(),
        number: 1,
        image: "nft:1".into(),
        host: "ollama.com".into(),
        targets: ["34.36.133.15".parse().unwrap(), "2600:1901::1".parse().unwrap()].into(),
        deadline: Period::from_secs(600),
    }
}

/// A ready pod with these ephemeral containers and the states of some of them.
fn pod(containers: &[&str], states: &[(&str, Value)]) -> k8s_openapi::api::core::v1::Pod {
    let containers: Vec<Value> = containers.iter().map(|name| json!({ "name": name })).collect();
    let told = |(name, state): &(&str, Value)| json!({ "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state });
    let statuses: Vec<Value> = states.iter().map(told).collect();
    let pod = json!({
        "metadata": { "name": "litellm-0", "uid": "u1" },
        "spec": { "containers": [], "ephemeralContainers": containers },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "ephemeralContainerStatuses": statuses,
        },
    });
    serde_json::from_value(pod).unwrap()
}

fn ended(code: i32) -> Value {
    json!({ "terminated": { "exitCode": code, "message": "nft: not found\n" } })
}

#[test]
fn the_rules_are_one_transaction_that_the_kernel_ends() {
    let fault = fault();
    let table = "drill-cloud-drop-1-20261123t004551z-0a1b2c";
    assert_eq!(fault.drop_name(), table);
    assert_eq!(
        fault.drop_rules(),
        format!(
            "create table inet {table}; add set inet {table} blocked4 {{ type ipv4_addr; flags timeout; }}; add set \
             inet {table} blocked6 {{ type ipv6_addr; flags timeout; }}; add chain inet {table} out {{ type filter \
             hook output priority 0; policy accept; }}; add rule inet {table} out ip daddr @blocked4 drop; add rule \
             inet {table} out ip6 daddr @blocked6 drop; add element inet {table} blocked4 {{ 34.36.133.15 timeout \
             600s }}; add element inet {table} blocked6 {{ 2600:1901::1 timeout 600s }}"
        )
    );
    assert_eq!(
        fault.undo_command(&Kubectl::new(Some("home"))),
        format!(
            "kubectl --context home -n ml debug litellm-0 --profile=netadmin --image=nft:1 -- nft 'add table inet \
             {table}; delete table inet {table}; add table inet {table}'"
        )
    );
}

#[test]
fn a_container_has_no_more_rights_than_nft_needs() {
    let patch = fault().patch("c", "rules");
    let container = &patch["spec"]["ephemeralContainers"][0];
    assert_eq!(container["command"], json!(["nft", "rules"]));
    let security = &container["securityContext"];
    assert_eq!(security["capabilities"], json!({ "drop": ["ALL"], "add": ["NET_ADMIN"] }));
    assert_eq!((&security["runAsUser"], &security["runAsNonRoot"]), (&json!(0), &json!(false)));
    // The API knows each of its fields.
    let read: k8s_openapi::api::core::v1::EphemeralContainer =
        serde_json::from_value(container.clone()).unwrap();
    assert_eq!(&serde_json::to_value(read).unwrap(), container);
}

#[test]
fn names_hold_whatever_a_component_is_called() {
    let name = drop_name(&"x".repeat(80), RUN, 1);
    assert!(name.len() <= 63 && name.starts_with("drill-x") && name.ends_with(&RUN.to_lowercase()), "{name}");
    assert_ne!(drop_name("cloud", RUN, 1), drop_name("cloud", RUN, 2));
    assert_ne!(lift_name("cloud", RUN, 1, 1), lift_name("cloud", RUN, 1, 2));
}

#[test]
fn a_pod_is_cut_off_as_often_as_a_run_wants() {
    let (first, second) = (drop_name("cloud", RUN, 1), drop_name("cloud", RUN, 2));
    assert_eq!(next_number(&pod(&[], &[]), "cloud", RUN), 1);
    assert_eq!(next_number(&pod(&[&first], &[]), "cloud", RUN), 2);
    assert_eq!(next_number(&pod(&[&first, &second], &[]), "cloud", RUN), 3);
    assert_eq!(next_number(&pod(&[&first], &[]), "cloud", "another"), 1);
}

#[test]
fn what_has_become_of_a_container_is_told_by_its_status() {
    let state = |state: Value| ran(&pod(&["c"], &[("c", state)]), "c");
    assert_eq!(ran(&pod(&[], &[]), "c"), Ran::Never);
    assert!(matches!(ran(&pod(&["c"], &[]), "c"), Ran::NotYet(_, true)));
    assert_eq!(state(ended(0)), Ran::Well);
    assert_eq!(state(ended(127)), Ran::Badly("it ended with 127: nft: not found".into()));
    let waiting = |reason: &str| state(json!({ "waiting": { "reason": reason, "message": "x" } }));
    assert_eq!(waiting("ErrImagePull"), Ran::NotYet("ErrImagePull: x".into(), true));
    assert_eq!(waiting("ImagePullBackOff"), Ran::NotYet("ImagePullBackOff: x".into(), false));
    assert!(matches!(state(json!({ "running": {} })), Ran::NotYet(_, true)));
}

#[test]
fn it_is_undone_once_a_lift_has_run_well() {
    let (drop, lift) = (drop_name("cloud", RUN, 1), lift_name("cloud", RUN, 1, 1));
    let second = lift_name("cloud", RUN, 1, 2);
    for (containers, states, wanted, cut_off) in [
        (vec![], vec![], Some(ReadBack::Undone), false),
        (vec![&drop], vec![], None, false),
        (vec![&drop], vec![(&drop, 0)], Some(ReadBack::Done), true),
        (vec![&drop], vec![(&drop, 1)], Some(ReadBack::Undone), false),
        (vec![&drop, &lift], vec![(&drop, 0)], Some(ReadBack::Done), true),
        (vec![&drop, &lift], vec![(&drop, 0), (&lift, 1)], Some(ReadBack::Done), true),
        (vec![&drop, &lift], vec![(&drop, 0), (&lift, 0)], Some(ReadBack::Undone), false),
        (
            vec![&drop, &lift, &second],
            vec![(&drop, 0), (&lift, 1), (&second, 0)],
            Some(ReadBack::Undone),
            false,
        ),
        // The lift came first: the filter cannot come after it.
        (vec![&drop, &lift], vec![(&lift, 0)], Some(ReadBack::Undone), false),
    ] {
        let names: Vec<&str> = containers.iter().map(|name| name.as_str()).collect();
        let states: Vec<(&str, Value)> =
            states.iter().map(|(name, code)| (name.as_str(), ended(*code))).collect();
        let pod = pod(&names, &states);
        match (fault().read(&pod), wanted) {
            (read, Some(wanted)) => assert_eq!(read, wanted, "{states:?}"),
            (read, None) => assert!(matches!(read, ReadBack::Other { .. }), "{read:?}"),
        }
        assert_eq!(in_force(&[pod], "cloud", RUN), cut_off, "{states:?}");
    }
    assert!(!in_force(&[], "cloud", RUN));
}
