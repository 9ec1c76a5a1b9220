//! Packet filters in the gateway's pods, put there and taken away by containers that cannot be taken out again.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use harness::cluster::access::Access;
use harness::cluster::faults::{Prepared, Wanted, netns, prepare};
use harness::cluster::mutation::{Kubectl, Mutation, ReadBack, Undone};
use harness::cluster::{permissions, preview};
use harness::environment::{EgressProxy, Environment, FaultKind, Kind, Mechanism, ObjectName};
use harness::units::Period;
use k8s_openapi::api::core::v1::Pod;
use mocks::gate::GateMode;
use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::household::Household;
use mocks::kubernetes::resources::{DEPLOYMENTS, NAMESPACES, PODS, Resource};
use mocks::kubernetes::store::{Deletion, ObjectKey, Writer};
use serde_json::Value;

use super::household::{RUN, WITHIN, until};
use crate::undo::undo_all;

/// With all pods ready.
async fn start() -> (Household, Access) {
    let (household, access) = super::household::start(Vec::new()).await;
    household.ready(WITHIN).await.unwrap();
    (household, access)
}

fn environment() -> Environment {
    let mut environment =
        harness::input::load(&[], Some("../scenarios/environments/mock-cluster.yaml")).unwrap().environment;
    environment.components.get_mut("cloud").unwrap().down = FaultKind::BlackholeBy(Mechanism::NetnsDrop);
    environment
}

async fn prepared(
    access: &Access,
    environment: &Environment,
    targets: &[Ipv4Addr],
    seconds: u64,
) -> Prepared {
    let targets: BTreeSet<_> = targets.iter().copied().map(Into::into).collect();
    let wanted = Wanted { component: "cloud", run: RUN, deadline: Period::from_secs(seconds), targets };
    prepare(access, environment, &wanted).await.unwrap()
}

fn silent(household: &Household) -> bool {
    let modes = household.plane().network().host_modes("ollama.com");
    !modes.is_empty() && modes.iter().all(|(_, mode)| *mode == GateMode::Blackhole)
}

async fn gateway_pods(access: &Access) -> Vec<Pod> {
    access.list(Some("ml"), "app=litellm").await.unwrap()
}

fn containers(pod: &Pod) -> Vec<String> {
    let all = pod.spec.as_ref().unwrap().ephemeral_containers.iter().flatten();
    all.map(|container| container.name.clone()).collect()
}

fn change(
    household: &Household,
    resource: &'static Resource,
    key: (&str, &str),
    change: impl Fn(&mut Value),
) {
    let key = ObjectKey::new(resource, key.0, key.1);
    household
        .cluster()
        .store()
        .update(&key, Writer::of_object("kubectl"), |object| {
            change(object);
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pod_is_cut_off_and_let_free_again_and_again() {
    let (household, access) = start().await;
    let (environment, targets) = (environment(), household.plane().network().host("ollama.com"));
    for time in 1..=2 {
        let found = prepared(&access, &environment, &targets, 600).await;
        assert_eq!((found.refusals, found.mutations.len()), (vec![], 2));
        assert!(found.warnings.iter().any(|warning| warning.contains("stay listed")), "{:?}", found.warnings);
        let mutations = found.mutations;
        for mutation in &mutations {
            assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Undone);
            mutation.apply(&access).await.unwrap();
            assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Done);
            // What is there is not put there a second time.
            mutation.apply(&access).await.unwrap();
        }
        assert!(silent(&household));
        assert!(netns::in_force(&gateway_pods(&access).await, "cloud", RUN));
        // As a journal holds it.
        let text = serde_json::to_string(&mutations).unwrap();
        let mutations: Vec<Mutation> = serde_json::from_str(&text).unwrap();
        for (wanted, left) in [(Undone::Now, 2 * time), (Undone::Before, 2 * time)] {
            for (mutation, undone) in undo_all(&access, &mutations).await {
                assert_eq!(undone, Ok(wanted.clone()), "{}", mutation.words());
                assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Undone);
            }
            assert!(!silent(&household));
            for pod in gateway_pods(&access).await {
                assert_eq!(containers(&pod).len(), left, "{:?}", containers(&pod));
            }
        }
    }
    household.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_ends_it_and_a_pod_that_goes_takes_it_along() {
    let (household, access) = start().await;
    let targets = household.plane().network().host("ollama.com");
    let mutations = prepared(&access, &environment(), &targets, 1).await.mutations;
    for mutation in &mutations {
        mutation.apply(&access).await.unwrap();
    }
    until("the kernel has ended it", || async { !silent(&household) }).await;
    let name = |pod: &Pod| ObjectName::new("ml", pod.metadata.name.clone().unwrap());
    for pod in gateway_pods(&access).await {
        let uid = pod.metadata.uid.clone().unwrap();
        assert!(access.delete::<Pod>(&name(&pod), &uid).await.unwrap());
    }
    for mutation in &mutations {
        assert_eq!(mutation.undo(&access).await.unwrap(), Undone::Before);
        assert_eq!(mutation.read_back(&access).await.unwrap(), ReadBack::Undone);
    }
    household.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_adds_no_second_container() {
    let (household, access) = start().await;
    let targets = household.plane().network().host("ollama.com");
    let mutations = prepared(&access, &environment(), &targets, 600).await.mutations;
    household.cluster().chaos().add(ChaosRule {
        verb: "patch".into(),
        resource: "pods/ephemeralcontainers".into(),
        times: Some(1),
        trouble: Trouble::LostAnswer,
    });
    mutations[0].apply(&access).await.unwrap();
    assert!(silent(&household));
    assert_eq!(gateway_pods(&access).await.iter().map(|pod| containers(pod).len()).sum::<usize>(), 1);
    assert_eq!(mutations[0].undo(&access).await.unwrap(), Undone::Now);
    household.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_that_failed_is_made_by_another_container() {
    let (household, access) = start().await;
    let targets = household.plane().network().host("ollama.com");
    let mutations = prepared(&access, &environment(), &targets, 600).await.mutations;
    mutations[0].apply(&access).await.unwrap();
    assert_eq!(mutations[0].undo(&access).await.unwrap(), Undone::Now);
    let Mutation::NetnsDrop(drop) = &mutations[0] else { panic!("{:?}", mutations[0]) };
    let key = ObjectKey::new(&PODS, "ml", &drop.pod.name);
    let failed = household.cluster().store().update(&key, Writer::of_status("kubelet"), |pod| {
        pod["status"]["ephemeralContainerStatuses"][1]["state"]["terminated"]["exitCode"] = 1.into();
        Ok(())
    });
    failed.unwrap();
    assert_eq!(mutations[0].read_back(&access).await.unwrap(), ReadBack::Done);
    assert_eq!(mutations[0].undo(&access).await.unwrap(), Undone::Now);
    assert_eq!(mutations[0].read_back(&access).await.unwrap(), ReadBack::Undone);
    let pod: Pod = access.get(&drop.pod).await.unwrap();
    let names = containers(&pod);
    assert!(names.len() == 3 && names[2].starts_with("drill-cloud-lift-1-2-"), "{names:?}");
    household.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_be_had_is_told_and_cuts_nothing_off() {
    let (household, access) = start().await;
    let targets = household.plane().network().host("ollama.com");
    let mut environment = environment();
    let Kind::Kubernetes(cluster) = &mut environment.kind else { panic!("it is a cluster") };
    cluster.nft_image = "registry.invalid/nft:1".to_owned();
    let mutations = prepared(&access, &environment, &targets, 600).await.mutations;
    let error = mutations[0].apply(&access).await.unwrap_err().to_string();
    assert!(error.contains("ImagePullBackOff") && error.contains("registry.invalid/nft:1"), "{error}");
    assert!(!silent(&household));
    // It is still listed: that nothing comes of it later, nobody knows.
    assert!(matches!(mutations[0].read_back(&access).await.unwrap(), ReadBack::Other { .. }));
    // The undo needs the same image: a person is told what works instead.
    let failed = mutations[0].undo(&access).await.unwrap_err();
    let name = gateway_pods(&access).await[0].metadata.name.clone().unwrap();
    let instead = mutations[0].undo_command_instead(&failed, &Kubectl::new(None));
    assert_eq!(instead, Some(format!("kubectl -n ml delete pod {name} --ignore-not-found")));
    let (key, store) = (ObjectKey::new(&PODS, "ml", &name), household.cluster().store());
    store.delete(&key, &Deletion::now(), "kubectl-delete").unwrap();
    until("the pod is gone", async || store.get(&key).is_none()).await;
    assert_eq!(mutations[0].undo(&access).await.unwrap(), Undone::Before);
    assert_eq!(mutations[0].read_back(&access).await.unwrap(), ReadBack::Undone);
    household.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_or_must_not_be_cut_off_is_refused() {
    let (household, access) = start().await;
    let environment = environment();
    let refused = async |because: &str| {
        let refusals = prepared(&access, &environment, &[], 600).await.refusals;
        assert!(refusals.iter().any(|refusal| refusal.reason.contains(because)), "{because}: {refusals:?}");
    };
    for level in ["baseline", "restricted", "privileged"] {
        change(&household, &NAMESPACES, ("", "ml"), |namespace| {
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = level.into();
        });
        match level {
            "privileged" => assert_eq!(prepared(&access, &environment, &[], 600).await.refusals, []),
            level => refused(&format!("the Pod Security level {level}")).await,
        }
    }
    // Without addresses there is nothing to do.
    let mutations = prepared(&access, &environment, &[], 600).await.mutations;
    assert!(mutations[0].apply(&access).await.is_err());
    let name = gateway_pods(&access).await[0].metadata.name.clone().unwrap();
    let key = ObjectKey::new(&PODS, "ml", &name);
    household
        .cluster()
        .store()
        .update(&key, Writer::of_status("kubelet"), |pod| {
            for condition in pod["status"]["conditions"].as_array_mut().into_iter().flatten() {
                condition["status"] = "False".into();
            }
            Ok(())
        })
        .unwrap();
    refused("is not ready").await;
    change(&household, &DEPLOYMENTS, ("ml", "litellm"), |object| {
        object["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    });
    refused("the network of their node").await;
    household.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_asks_for_the_right_and_rehearses() {
    let (household, access) = start().await;
    let environment = environment();
    let before = household.cluster().audit().entries().len();
    let components = ["cloud".to_owned()];
    let preview =
        preview::look(&access, &environment, &components, Period::from_secs(600), true).await.unwrap();
    assert!(!preview.is_refused(), "{:?}", preview.refusals());
    let words = preview.describe(environment.cluster().unwrap(), "home");
    for part in [
        "run nft once in pod ml/litellm-",
        "(image docker.io/nicolaka/netshoot:v0.13): it sends nothing to ollama.com",
        "undo: run nft once more in pod",
        "--profile=netadmin --image=docker.io/nicolaka/netshoot:v0.13 -- nft 'add table inet drill-cloud-drop-1-run;",
        "note: each time cloud goes down and comes back",
        "note: a pod of the gateway that starts while cloud is down is not cut off",
    ] {
        assert!(words.contains(part), "{part} in\n{words}");
    }
    let asked = household.cluster().audit().entries().split_off(before);
    let ours = asked.iter().filter(|entry| entry.resource == "pods/ephemeralcontainers");
    assert!(ours.clone().count() == 2 && ours.clone().all(|entry| entry.dry_run), "{asked:?}");
    assert!(gateway_pods(&access).await.iter().all(|pod| containers(pod).is_empty()));
    household.shutdown().await;
}

#[test]
fn the_right_to_add_containers_is_asked_for_and_that_to_read_the_namespace_is_needed_only_to_scale() {
    let mut environment = environment();
    let reads_namespace = |environment: &Environment| -> Vec<bool> {
        let needs = permissions::needed(environment);
        let reads = needs.iter().filter(|need| need.resource == "namespaces");
        reads.map(|need| need.optional.is_none()).collect()
    };
    assert_eq!(reads_namespace(&environment), [true], "once, though asked for by two");
    environment.components.retain(|_, component| component.down != FaultKind::ScaleToZero);
    assert_eq!(reads_namespace(&environment), [false]);
    let needs = permissions::needed(&environment);
    let of = |resource: &str| needs.iter().find(|need| need.resource == resource).unwrap();
    let adds = of("pods/ephemeralcontainers");
    assert_eq!((adds.verb.as_str(), adds.namespace.as_deref(), &adds.optional), ("patch", Some("ml"), &None));
    let reads = of("namespaces");
    assert_eq!((reads.verb.as_str(), reads.name.as_deref()), ("get", Some("ml")));
    assert!(!needs.iter().any(|need| need.resource == "networkpolicies" && need.verb == "create"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_not_there_is_refused_and_asks_for_a_port_forward() {
    let (household, access) = start().await;
    let mut environment = environment();
    let cloud = environment.components.get_mut("cloud").unwrap();
    cloud.down = FaultKind::BlackholeBy(Mechanism::EgressProxy);
    let gate = ObjectName::new("ml", "egress-gate");
    cloud.proxy = Some(EgressProxy { service: gate.clone(), deployment: gate, control: 9099 });
    let found = prepared(&access, &environment, &[], 600).await;
    assert!(found.mutations.is_empty());
    let [refusal] = found.refusals.as_slice() else { panic!("{:?}", found.refusals) };
    assert_eq!(refusal.reason, "there is no Deployment ml/egress-gate");
    let needs = permissions::needed(&environment);
    let forwards = |verb: &str| {
        needs
            .iter()
            .any(|need| need.resource == "pods/portforward" && need.verb == verb && need.optional.is_none())
    };
    assert!(forwards("get") && forwards("create"));
    assert!(!needs.iter().any(|need| need.resource == "networkpolicies" && need.verb == "create"));
    household.shutdown().await;
}
