//! The reducer on made-up sights.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::Selector;
use proptest::prelude::*;

use super::seen::{Actor, DeploymentSeen, Kind, PodSeen, PolicySeen, Seen, ServiceSeen, SliceSeen};
use super::{Drift, Reducer, What};
use crate::environment::ObjectName;

fn name(name: &str) -> ObjectName {
    ObjectName::new("ml", name)
}

fn app(app: &str) -> Selector {
    Selector::from_iter([("app".to_owned(), app.to_owned())])
}

fn actor(manager: &str) -> Option<Actor> {
    let operation = "Update".to_owned();
    Some(Actor { manager: manager.to_owned(), operation, subresource: None, time: None })
}

fn deployment(replicas: i32, by: &str) -> Seen {
    let seen = DeploymentSeen { uid: "u".to_owned(), replicas, actor: actor(by), changer: actor(by) };
    Seen::Deployment(name("vllm"), seen)
}

fn a_pod(app: &str, uid: &str) -> PodSeen {
    PodSeen {
        uid: uid.to_owned(),
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        node: Some("one".to_owned()),
        terminating: false,
        runs: true,
        ready: true,
        restarts: 0,
        grace_s: Some(30),
        actor: actor("kube-controller-manager"),
    }
}

fn pod(app: &str, uid: &str) -> Seen {
    Seen::Pod(name(&format!("{app}-{uid}")), a_pod(app, uid))
}

fn policy(named: &str, uid: &str, generation: i64) -> Seen {
    let seen = PolicySeen {
        uid: uid.to_owned(),
        generation,
        selector: Some(app("litellm")),
        run: None,
        terminating: false,
        actor: actor("kubectl"),
    };
    Seen::Policy(name(named), seen)
}

fn gone(kind: Kind, named: &str) -> Seen {
    Seen::Gone(kind, name(named))
}

/// Which drifts a sight is, in words.
fn whats(drifts: &[Drift]) -> Vec<What> {
    drifts.iter().map(|drift| drift.what.clone()).collect()
}

fn take(reducer: &mut Reducer, seen: Seen) -> Vec<What> {
    whats(&reducer.take(1, seen))
}

#[test]
fn our_own_scaling_is_no_drift_and_somebody_elses_is() {
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, deployment(1, "helm"));
    reducer.expect_count(&name("vllm"), 1, 0);
    assert!(take(&mut reducer, deployment(1, "helm")).is_empty(), "an echo of before");
    assert!(take(&mut reducer, deployment(0, "failover-harness")).is_empty());
    let drifts = reducer.take(7, deployment(1, "kubectl"));
    assert_eq!(whats(&drifts), [What::Scaled { expected: 0, found: 1 }]);
    let words = drifts[0].to_string();
    assert_eq!(words, "Deployment ml/vllm was scaled to 1 while it had to stay at 0 (by kubectl (Update))");
    assert!(take(&mut reducer, deployment(1, "kubectl")).is_empty(), "each is told once");
    reducer.forget_count(&name("vllm"));
    assert!(take(&mut reducer, deployment(3, "kubectl")).is_empty());
    assert_eq!(reducer.drifts().len(), 1);
}

#[test]
fn another_count_is_drift_even_before_ours_was_seen() {
    let mut reducer = Reducer::new("r1");
    reducer.expect_count(&name("vllm"), 1, 0);
    assert_eq!(take(&mut reducer, deployment(2, "keda")), [What::Scaled { expected: 0, found: 2 }]);
    assert_eq!(take(&mut reducer, gone(Kind::Deployment, "vllm")), [What::DeploymentGone]);
}

#[test]
fn pods_on_their_way_out_are_no_drift_and_new_ones_are() {
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, pod("vllm", "a"));
    reducer.expect_no_pods("vllm", "ml", &app("vllm"));
    assert!(take(&mut reducer, pod("vllm", "a")).is_empty());
    assert!(take(&mut reducer, pod("ollama", "b")).is_empty());
    assert!(take(&mut reducer, gone(Kind::Pod, "vllm-a")).is_empty());
    assert_eq!(take(&mut reducer, pod("vllm", "c")), [What::PodAppeared]);
    reducer.forget_no_pods("vllm");
    assert!(take(&mut reducer, pod("vllm", "d")).is_empty());
}

#[test]
fn our_policy_must_stay_as_it_is() {
    for (change, what) in [
        (gone(Kind::NetworkPolicy, "drill"), What::PolicyGone),
        (policy("drill", "u1", 2), What::PolicyChanged),
        (policy("drill", "u2", 1), What::PolicyChanged),
        (Seen::Listed(Kind::NetworkPolicy, "ml".to_owned(), BTreeSet::new()), What::PolicyGone),
    ] {
        let mut reducer = Reducer::new("r1");
        reducer.expect_policy(&name("drill"), "u1");
        assert!(take(&mut reducer, policy("drill", "u1", 1)).is_empty());
        assert!(take(&mut reducer, policy("drill", "u1", 1)).is_empty());
        assert_eq!(take(&mut reducer, change), [what]);
    }
    let mut reducer = Reducer::new("r1");
    reducer.expect_policy(&name("drill"), "u1");
    take(&mut reducer, policy("drill", "u1", 1));
    reducer.forget_policy(&name("drill"));
    assert!(take(&mut reducer, gone(Kind::NetworkPolicy, "drill")).is_empty(), "we deleted it");
}

#[test]
fn a_gateway_pod_that_goes_restarts_or_joins_is_drift() {
    let start = || {
        let mut reducer = Reducer::new("r1");
        take(&mut reducer, pod("litellm", "a"));
        let pods = reducer.expect_gateway("ml", &app("litellm"));
        assert_eq!(pods, [name("litellm-a")]);
        assert!(take(&mut reducer, pod("litellm", "a")).is_empty());
        reducer
    };
    let changed = |change: fn(&mut PodSeen)| {
        let mut pod = a_pod("litellm", "a");
        change(&mut pod);
        Seen::Pod(name("litellm-a"), pod)
    };
    let terminating = changed(|pod| pod.terminating = true);
    let restarted = changed(|pod| pod.restarts = 1);
    assert_eq!(take(&mut start(), terminating), [What::GatewayPodGone]);
    assert_eq!(take(&mut start(), restarted), [What::GatewayPodRestarted]);
    assert_eq!(take(&mut start(), gone(Kind::Pod, "litellm-a")), [What::GatewayPodGone]);
    assert_eq!(take(&mut start(), pod("litellm", "b")), [What::GatewayPodAppeared]);
    let node_gone = Seen::Gone(Kind::Node, ObjectName::new("", "one"));
    assert_eq!(take(&mut start(), node_gone), [What::NodeGone]);
    assert_eq!(take(&mut start(), Seen::Node("one".to_owned(), false)), [What::NodeNotReady]);
    assert!(take(&mut start(), Seen::Node("two".to_owned(), false)).is_empty());
}

/// The Deployments were read, and vLLM's is all there is.
fn deployments_listed() -> Seen {
    Seen::Listed(Kind::Deployment, "ml".to_owned(), BTreeSet::from([name("vllm")]))
}

/// A pod of vLLM as it is after a change.
fn vllm_pod(uid: &str, change: impl FnOnce(&mut PodSeen)) -> (ObjectName, PodSeen) {
    let mut pod = a_pod("vllm", uid);
    change(&mut pod);
    (name(&format!("vllm-{uid}")), pod)
}

fn changed(uid: &str, change: impl FnOnce(&mut PodSeen)) -> Seen {
    let (name, pod) = vllm_pod(uid, change);
    Seen::Pod(name, pod)
}

/// vLLM has to stay up, with these pods.
fn kept_up(pods: &[&str]) -> Reducer {
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, deployment(1, "helm"));
    take(&mut reducer, deployments_listed());
    for uid in pods {
        take(&mut reducer, pod("vllm", uid));
    }
    assert!(reducer.expect_up(1, "vllm", &name("vllm"), ("ml", &app("vllm"))).is_empty());
    reducer
}

#[test]
fn what_has_to_stay_up_and_is_taken_down_is_drift() {
    let scaled = kept_up(&["a"]).take(7, deployment(0, "kubectl-patch"));
    assert_eq!(whats(&scaled), [What::ScaledToZero]);
    let words = scaled[0].to_string();
    assert!(words.starts_with("Deployment ml/vllm was scaled to 0 although it had to stay up"), "{words}");
    assert!(words.contains("by kubectl-patch"), "{words}");
    for (sight, what) in [
        (gone(Kind::Deployment, "vllm"), What::DeploymentGone),
        (gone(Kind::Pod, "vllm-a"), What::LastPodGone),
        (changed("a", |pod| pod.terminating = true), What::LastPodGone),
        (changed("a", |pod| pod.runs = false), What::LastPodGone),
        (changed("a", |pod| (pod.restarts, pod.ready) = (1, false)), What::LastPodRestarted),
        (Seen::Node("one".to_owned(), false), What::NodeNotReady),
        (Seen::Gone(Kind::Node, ObjectName::new("", "one")), What::NodeGone),
    ] {
        assert_eq!(take(&mut kept_up(&["a"]), sight), [what]);
    }
}

#[test]
fn what_stays_up_with_fewer_pods_or_need_not_stay_up_is_no_drift() {
    let harmless = |reducer: &mut Reducer, sight: Seen| assert_eq!(take(reducer, sight), []);
    harmless(&mut kept_up(&["a"]), deployment(3, "hpa"));
    harmless(&mut kept_up(&["a"]), pod("vllm", "a"));
    harmless(&mut kept_up(&["a", "b"]), gone(Kind::Pod, "vllm-a"));
    harmless(&mut kept_up(&["a"]), Seen::Node("two".to_owned(), false));
    harmless(&mut kept_up(&["a"]), gone(Kind::Pod, "ollama-a"));
    // One that is busy for a moment: whether it is reached the probers tell.
    let not_ready = Seen::Pod(name("vllm-a"), PodSeen { ready: false, ..a_pod("vllm", "a") });
    harmless(&mut kept_up(&["a"]), not_ready);
    // The last of two is the last.
    let mut reducer = kept_up(&["a", "b"]);
    harmless(&mut reducer, gone(Kind::Pod, "vllm-a"));
    assert_eq!(take(&mut reducer, gone(Kind::Pod, "vllm-b")), [What::LastPodGone]);
    // One that took the place of another keeps it up as that did.
    let mut reducer = kept_up(&["a"]);
    harmless(&mut reducer, pod("vllm", "new"));
    harmless(&mut reducer, gone(Kind::Pod, "vllm-a"));
    assert_eq!(take(&mut reducer, gone(Kind::Pod, "vllm-new")), [What::LastPodGone]);
    for forget in [Reducer::forget_up, Reducer::begin_mode] {
        let mut reducer = kept_up(&["a"]);
        forget(&mut reducer);
        harmless(&mut reducer, deployment(0, "kubectl"));
        harmless(&mut reducer, gone(Kind::Pod, "vllm-a"));
    }
}

#[test]
fn what_is_at_0_already_when_it_has_to_stay_up_is_drift_at_once() {
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, deployment(0, "kubectl-patch"));
    take(&mut reducer, deployments_listed());
    let drifts = reducer.expect_up(9, "vllm", &name("vllm"), ("ml", &app("vllm")));
    assert_eq!(whats(&drifts), [What::ScaledToZero]);
    assert_eq!(reducer.drifts(), &drifts[..]);
}

#[test]
fn a_count_that_may_not_be_so_any_more_is_no_drift_until_it_is_read_again() {
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, deployment(0, "kubectl-patch"));
    take(&mut reducer, deployments_listed());
    take(&mut reducer, Seen::Lost(Kind::Deployment, "ml".to_owned(), "the watch broke".to_owned()));
    assert_eq!(reducer.expect_up(9, "vllm", &name("vllm"), ("ml", &app("vllm"))), []);
    assert_eq!(take(&mut reducer, deployment(0, "kubectl-patch")), [What::ScaledToZero], "and it is");
}

#[test]
fn what_others_have_taken_over_from_ends_nothing() {
    let harmless = |reducer: &mut Reducer, sight: Seen| assert_eq!(take(reducer, sight), []);
    // Started again while the other served: later it is ready, and the other is not for a moment.
    let mut reducer = kept_up(&["a", "b"]);
    harmless(&mut reducer, changed("a", |pod| (pod.restarts, pod.ready) = (1, false)));
    harmless(&mut reducer, changed("a", |pod| pod.restarts = 1));
    harmless(&mut reducer, changed("b", |pod| pod.ready = false));
    harmless(&mut reducer, changed("a", |pod| (pod.restarts, pod.grace_s) = (1, Some(31))));
    assert_eq!(take(&mut reducer, changed("a", |pod| pod.restarts = 2)), [What::LastPodRestarted]);
    // One that never came back kept nothing up when the other was not ready.
    let mut reducer = kept_up(&["a", "b"]);
    for sight in [
        changed("a", |pod| (pod.restarts, pod.ready) = (1, false)),
        changed("b", |pod| pod.ready = false),
        changed("a", |pod| (pod.restarts, pod.ready) = (2, false)),
        changed("a", |pod| pod.terminating = true),
        gone(Kind::Pod, "vllm-a"),
    ] {
        harmless(&mut reducer, sight);
    }
    assert_eq!(take(&mut reducer, gone(Kind::Pod, "vllm-b")), [What::LastPodGone], "the last that served");
    // Without another, one that serves again was away all the same.
    assert_eq!(take(&mut kept_up(&["a"]), changed("a", |pod| pod.restarts = 1)), [What::LastPodRestarted]);
}

/// A list comes in the order of names: which pod is judged first says nothing.
#[test]
fn pods_that_were_listed_are_judged_together() {
    let lost = |reducer: &mut Reducer| {
        take(reducer, Seen::Lost(Kind::Pod, "ml".to_owned(), "the watch broke".to_owned()));
    };
    let listed = |pods: Vec<(ObjectName, PodSeen)>| Seen::PodsListed("ml".to_owned(), pods);
    let same = |_: &mut PodSeen| {};
    // Meanwhile another took over.
    let mut reducer = kept_up(&["a"]);
    lost(&mut reducer);
    let taken_over = vec![vllm_pod("a", |pod| pod.terminating = true), vllm_pod("b", same)];
    assert_eq!(take(&mut reducer, listed(taken_over)), []);
    assert_eq!(reducer.blind().count(), 0, "and all is known");
    // Meanwhile the other one was ready again.
    let mut reducer = kept_up(&["a", "b"]);
    take(&mut reducer, changed("b", |pod| pod.ready = false));
    lost(&mut reducer);
    let restarted = vec![vllm_pod("a", |pod| pod.restarts = 1), vllm_pod("b", same)];
    assert_eq!(take(&mut reducer, listed(restarted)), []);
    // What is lost is told.
    for (pods, what) in [
        (vec![vllm_pod("c", |pod| pod.ready = false)], What::LastPodGone),
        (vec![vllm_pod("a", |pod| pod.terminating = true)], What::LastPodGone),
        (vec![vllm_pod("a", |pod| (pod.restarts, pod.ready) = (1, false))], What::LastPodRestarted),
    ] {
        let mut reducer = kept_up(&["a"]);
        lost(&mut reducer);
        assert_eq!(take(&mut reducer, listed(pods)), [what]);
    }
}

/// Pods and nodes are watched apart: either may be told first.
#[test]
fn a_node_that_goes_is_drift_whichever_watch_tells_it_first() {
    let not_ready = || changed("a", |pod| pod.ready = false);
    for node in [Seen::Node("one".to_owned(), false), Seen::Gone(Kind::Node, ObjectName::new("", "one"))] {
        let mut reducer = kept_up(&["a"]);
        assert_eq!(take(&mut reducer, not_ready()), []);
        assert_eq!(take(&mut reducer, node.clone()).len(), 1, "{node:?}");
        let mut reducer = kept_up(&["a"]);
        take(&mut reducer, changed("b", |pod| pod.node = Some("two".to_owned())));
        assert_eq!(take(&mut reducer, node.clone()), [], "another serves elsewhere");
        assert_eq!(take(&mut reducer, not_ready()), []);
        assert_eq!(take(&mut reducer, node), []);
        assert_eq!(take(&mut reducer, Seen::Node("two".to_owned(), false)), [What::NodeNotReady]);
    }
}

/// The managed fields of a pod name who made it.
#[test]
fn nobody_is_said_to_have_restarted_a_pod() {
    let words = |reducer: &mut Reducer, seen: Seen| reducer.take(1, seen)[0].to_string();
    let restarted = changed("a", |pod| (pod.restarts, pod.ready) = (1, false));
    assert_eq!(
        words(&mut kept_up(&["a"]), restarted),
        "Pod ml/vllm-a was restarted, and no other pod is ready of what had to stay up (by someone unknown)"
    );
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, pod("litellm", "a"));
    reducer.expect_gateway("ml", &app("litellm"));
    let restarted = Seen::Pod(name("litellm-a"), PodSeen { restarts: 1, ..a_pod("litellm", "a") });
    assert_eq!(
        words(&mut reducer, restarted),
        "Pod ml/litellm-a was restarted: its memory of cooldowns is lost (by someone unknown)"
    );
}

#[test]
fn a_mode_begins_with_the_gateway_as_it_is_and_hears_of_what_happens_again() {
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, pod("litellm", "a"));
    reducer.expect_gateway("ml", &app("litellm"));
    take(&mut reducer, gone(Kind::Pod, "litellm-a"));
    assert_eq!(take(&mut reducer, pod("litellm", "b")), [What::GatewayPodAppeared]);
    assert!(take(&mut reducer, pod("litellm", "b")).is_empty(), "told once in a mode");
    reducer.begin_mode();
    assert!(take(&mut reducer, pod("litellm", "b")).is_empty(), "it is the gateway now");
    assert_eq!(take(&mut reducer, gone(Kind::Pod, "litellm-b")), [What::GatewayPodGone]);
    assert_eq!(take(&mut reducer, pod("litellm", "c")), [What::GatewayPodAppeared]);
    reducer.begin_mode();
    let restarted = Seen::Pod(name("litellm-c"), PodSeen { restarts: 1, ..a_pod("litellm", "c") });
    assert_eq!(take(&mut reducer, restarted), [What::GatewayPodRestarted]);
    assert_eq!(reducer.drifts().len(), 5, "none is lost");
}

#[test]
fn what_a_fault_relies_on_is_expected_in_the_next_mode_too() {
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, deployment(0, "failover-harness"));
    reducer.expect_count(&name("vllm"), 1, 0);
    let scaled = [What::Scaled { expected: 0, found: 1 }];
    take(&mut reducer, deployment(0, "failover-harness"));
    assert_eq!(take(&mut reducer, deployment(1, "kubectl")), scaled);
    reducer.begin_mode();
    assert_eq!(take(&mut reducer, deployment(1, "kubectl")), scaled, "it is still not as it must be");
    let service = |spec: &str| {
        Seen::Service(name("vllm"), ServiceSeen { uid: "u".to_owned(), spec: spec.to_owned(), actor: None })
    };
    take(&mut reducer, service("a"));
    reducer.expect_service(&name("vllm"));
    assert_eq!(take(&mut reducer, service("b")), [What::ServiceChanged]);
    reducer.begin_mode();
    assert!(take(&mut reducer, service("b")).is_empty());
    assert_eq!(take(&mut reducer, service("a")), [What::ServiceChanged]);
}

#[test]
fn a_policy_that_lets_somebody_into_an_isolated_backend_is_drift() {
    let for_vllm = |named: &str, generation| match policy(named, "u2", generation) {
        Seen::Policy(name, seen) => Seen::Policy(name, PolicySeen { selector: Some(app("vllm")), ..seen }),
        other => other,
    };
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, pod("vllm", "a"));
    take(&mut reducer, for_vllm("old", 1));
    assert!(take(&mut reducer, for_vllm("before", 1)).is_empty());
    reducer.expect_isolated("vllm", "ml", &app("vllm"));
    assert!(take(&mut reducer, for_vllm("old", 1)).is_empty());
    assert!(take(&mut reducer, policy("elsewhere", "u3", 1)).is_empty(), "it selects other pods");
    assert_eq!(take(&mut reducer, for_vllm("allow-me", 1)), [What::WayIn]);
    assert_eq!(take(&mut reducer, for_vllm("old", 2)), [What::WayIn]);
    assert_eq!(take(&mut reducer, gone(Kind::NetworkPolicy, "before")), [What::OtherPolicyGone]);
    reducer.begin_mode();
    assert_eq!(take(&mut reducer, for_vllm("allow-me", 1)), [What::WayIn], "in the next mode, too");
    reducer.forget_isolated("vllm");
    assert!(take(&mut reducer, for_vllm("another", 1)).is_empty());
}

#[test]
fn a_policy_that_lets_go_of_the_gateway_is_drift() {
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, pod("litellm", "a"));
    take(&mut reducer, policy("old", "u", 1));
    reducer.expect_gateway("ml", &app("litellm"));
    let elsewhere = match policy("old", "u", 2) {
        Seen::Policy(name, seen) => Seen::Policy(name, PolicySeen { selector: Some(app("vllm")), ..seen }),
        other => other,
    };
    assert_eq!(take(&mut reducer, elsewhere), [What::PolicyAppeared]);
    assert_eq!(take(&mut reducer, gone(Kind::NetworkPolicy, "old")), [What::OtherPolicyGone]);
}

#[test]
fn a_policy_that_is_put_beside_ours_is_drift() {
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, pod("litellm", "a"));
    take(&mut reducer, policy("old", "u", 1));
    reducer.expect_gateway("ml", &app("litellm"));
    assert!(take(&mut reducer, policy("old", "u", 1)).is_empty());
    let ours = match policy("drill", "u1", 1) {
        Seen::Policy(name, seen) => Seen::Policy(name, PolicySeen { run: Some("r1".to_owned()), ..seen }),
        other => other,
    };
    assert!(take(&mut reducer, ours).is_empty(), "ours is seen before its making is answered");
    let elsewhere = match policy("other", "u2", 1) {
        Seen::Policy(name, seen) => Seen::Policy(name, PolicySeen { selector: Some(app("vllm")), ..seen }),
        other => other,
    };
    assert!(take(&mut reducer, elsewhere).is_empty(), "it selects other pods");
    assert_eq!(take(&mut reducer, policy("allow-all", "u3", 1)), [What::PolicyAppeared]);
    assert_eq!(take(&mut reducer, policy("old", "u", 2)), [What::PolicyAppeared]);
}

#[test]
fn services_and_addresses_must_stay() {
    let service = |spec: &str| {
        let seen = ServiceSeen { uid: "u".to_owned(), spec: spec.to_owned(), actor: None };
        Seen::Service(name("vllm"), seen)
    };
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, service("a"));
    reducer.expect_service(&name("vllm"));
    assert!(take(&mut reducer, service("a")).is_empty());
    assert_eq!(take(&mut reducer, service("b")), [What::ServiceChanged]);
    let seen = |addresses: &[&str], more| Seen::Resolved {
        target: "cloud".to_owned(),
        ever: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        more,
    };
    let resolved = |addresses: &[&str]| seen(addresses, false);
    let known = BTreeSet::from(["1.2.3.4".parse().unwrap(), "1.2.3.5".parse().unwrap()]);
    assert!(take(&mut reducer, resolved(&["9.9.9.9"])).is_empty(), "nothing is expected yet");
    reducer.expect_addresses("cloud", &known);
    assert!(take(&mut reducer, resolved(&["1.2.3.5"])).is_empty());
    assert!(take(&mut reducer, resolved(&[])).is_empty());
    let moved = What::AddressMoved { to: "5.6.7.8".to_owned() };
    assert_eq!(take(&mut reducer, resolved(&["1.2.3.5", "5.6.7.8"])), [moved]);
}

/// Only eight addresses of a name are looked at: a ninth is seen by its being there alone.
#[test]
fn an_address_beyond_those_that_are_looked_at_is_drift() {
    let known: BTreeSet<std::net::IpAddr> = (1..=8).map(|last| [1, 2, 3, last].into()).collect();
    let resolved = |more| Seen::Resolved { target: "cloud".to_owned(), ever: known.clone(), more };
    let mut reducer = Reducer::new("r1");
    assert!(take(&mut reducer, resolved(true)).is_empty(), "nothing is expected yet");
    reducer.expect_addresses("cloud", &known);
    assert!(take(&mut reducer, resolved(false)).is_empty());
    assert_eq!(take(&mut reducer, resolved(true)), [What::MoreAddresses]);
    assert!(take(&mut reducer, resolved(true)).is_empty(), "it is told once");
    reducer.forget_addresses("cloud");
    reducer.begin_mode();
    assert!(take(&mut reducer, resolved(true)).is_empty());
}

#[test]
fn a_backend_is_down_when_no_pod_and_no_endpoint_is_left() {
    let mut reducer = Reducer::new("r1");
    let service = name("vllm");
    let down = |reducer: &Reducer| reducer.presence("ml", &app("vllm"), Some(&service));
    assert!(!down(&reducer).is_down(), "nothing is known");
    for kind in [Kind::Pod, Kind::EndpointSlice] {
        reducer.will_watch(kind, "ml");
    }
    assert!(down(&reducer).words().contains("not listed yet"));
    for kind in [Kind::Pod, Kind::EndpointSlice] {
        take(&mut reducer, Seen::Listed(kind, "ml".to_owned(), BTreeSet::new()));
    }
    assert!(down(&reducer).is_down());
    let slice =
        |ready, serving| Seen::Slice(name("s"), SliceSeen { service: service.clone(), ready, serving });
    let leaving = PodSeen { terminating: true, ..a_pod("vllm", "a") };
    take(&mut reducer, Seen::Pod(name("p"), leaving.clone()));
    take(&mut reducer, slice(0, 1));
    assert_eq!(down(&reducer).words(), "1 pods (1 terminating), 0 endpoints ready, 1 serving");
    take(&mut reducer, Seen::Pod(name("p"), PodSeen { runs: false, ..leaving }));
    assert!(!down(&reducer).is_down(), "its endpoint is still given connections");
    take(&mut reducer, slice(0, 0));
    assert!(down(&reducer).is_down(), "a pod whose containers have ended serves nothing");
    take(&mut reducer, Seen::Lost(Kind::Pod, "ml".to_owned(), "403".to_owned()));
    assert!(!down(&reducer).is_down(), "what is not known is not gone");
    assert_eq!(reducer.blind().count(), 1);
}

#[test]
fn the_longest_grace_period_of_its_pods_is_what_a_backend_may_take() {
    let mut reducer = Reducer::new("r1");
    assert_eq!(reducer.grace("ml", &app("vllm")), None);
    for (uid, grace_s) in [("a", Some(30)), ("b", Some(600)), ("c", None)] {
        take(&mut reducer, Seen::Pod(name(uid), PodSeen { grace_s, ..a_pod("vllm", uid) }));
    }
    take(&mut reducer, Seen::Pod(name("d"), PodSeen { grace_s: Some(900), ..a_pod("ollama", "d") }));
    assert_eq!(reducer.grace("ml", &app("vllm")), Some(std::time::Duration::from_secs(600)));
}

#[test]
fn what_the_cluster_told_stands_beside_the_drift() {
    let mut reducer = Reducer::new("r1");
    take(&mut reducer, pod("litellm", "a"));
    reducer.expect_gateway("ml", &app("litellm"));
    for n in 0..5 {
        let about = "Pod ml/litellm-a".to_owned();
        take(&mut reducer, Seen::Told { about, what: format!("Evicted: {n}") });
    }
    let drifts = reducer.take(9, gone(Kind::Pod, "litellm-a"));
    assert_eq!(drifts[0].told, ["Evicted: 2", "Evicted: 3", "Evicted: 4"]);
    assert!(drifts[0].to_string().contains("last changed by kube-controller-manager"));
}

fn any_seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        (0..3).prop_map(|replicas| deployment(replicas, "x")),
        ("[ab]", prop::sample::select(vec!["vllm", "litellm"])).prop_map(|(uid, app)| pod(app, &uid)),
        ("[ab]", 1_i64..3).prop_map(|(uid, generation)| policy("drill", &uid, generation)),
        any::<bool>().prop_map(|ready| Seen::Node("one".to_owned(), ready)),
        prop::sample::select(vec!["vllm-a", "litellm-a", "drill", "vllm"]).prop_flat_map(|named| {
            let kinds = vec![Kind::Deployment, Kind::Pod, Kind::NetworkPolicy, Kind::Service];
            prop::sample::select(kinds).prop_map(move |kind| gone(kind, named))
        }),
        prop::sample::select(vec![Kind::Pod, Kind::NetworkPolicy, Kind::Deployment])
            .prop_map(|kind| Seen::Listed(kind, "ml".to_owned(), BTreeSet::new())),
    ]
}

proptest! {
    /// Where nothing is expected, nothing is drift.
    #[test]
    fn nothing_is_drift_without_an_expectation(sights in prop::collection::vec(any_seen(), 0..60)) {
        let mut reducer = Reducer::new("r1");
        for seen in sights {
            prop_assert!(reducer.take(0, seen).is_empty());
        }
    }

    /// Each drift is told once, in order of time, and one that is told stays told.
    #[test]
    fn each_drift_is_told_once(sights in prop::collection::vec(any_seen(), 0..60)) {
        let mut reducer = Reducer::new("r1");
        reducer.expect_count(&name("vllm"), 1, 0);
        reducer.expect_no_pods("vllm", "ml", &app("vllm"));
        reducer.expect_policy(&name("drill"), "a");
        reducer.expect_gateway("ml", &app("litellm"));
        let mut told = Vec::new();
        for (at_us, seen) in (0..).zip(sights) {
            told.extend(reducer.take(at_us, seen));
        }
        prop_assert_eq!(reducer.drifts(), &told[..]);
        for (index, drift) in told.iter().enumerate() {
            let same = |other: &Drift| other.what == drift.what && other.object == drift.object;
            prop_assert!(!told[..index].iter().any(same));
        }
        prop_assert!(told.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
    }

    /// What a list does not name is as gone as what a watch says is deleted.
    #[test]
    fn a_list_says_the_same_as_deletions(sights in prop::collection::vec(any_seen(), 0..30)) {
        let run = |end: Vec<Seen>| {
            let mut reducer = Reducer::new("r1");
            reducer.expect_policy(&name("drill"), "a");
            for seen in sights.iter().cloned().chain(end) {
                reducer.take(0, seen);
            }
            whats(reducer.drifts())
        };
        let listed = run(vec![Seen::Listed(Kind::NetworkPolicy, "ml".to_owned(), BTreeSet::new())]);
        // A policy that was never seen is not missed by a list, as it may not have been made yet.
        let was_seen = sights.iter().rev().find_map(|seen| match seen {
            Seen::Policy(..) => Some(true),
            Seen::Gone(Kind::NetworkPolicy, gone) if *gone == name("drill") => Some(false),
            Seen::Listed(Kind::NetworkPolicy, ..) => Some(false),
            _ => None,
        });
        let deleted = run(if was_seen == Some(true) { vec![gone(Kind::NetworkPolicy, "drill")] } else { vec![] });
        prop_assert_eq!(listed, deleted);
    }
}
