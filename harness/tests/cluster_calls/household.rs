//! The driver against the whole mock cluster: controllers that do what they are told, and opponents that do not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::undo::undo_all;
use harness::cluster::access::Access;
use harness::cluster::faults::{Prepared, Wanted, prepare};
use harness::cluster::mutation::{Mutation, ReadBack, Undone};
use harness::environment::{Environment, ObjectName, Opponent as Named};
use harness::units::Period;
use k8s_openapi::api::core::v1::Pod;
use mocks::kubernetes::cluster::ClusterOptions;
use mocks::kubernetes::controllers::{Opponent, Timing};
use mocks::kubernetes::household::{Household, HouseholdOptions};
use mocks::kubernetes::kubelet::Unheard;
use mocks::kubernetes::network::Cni;
use mocks::kubernetes::stack::StackOptions;
use mocks::time::Epoch;
use tokio::net::TcpListener;

/// A bound on waits that are expected to end.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);
pub(crate) const RUN: &str = "20261123T004551Z-0a1b2c";

/// A server that accepts and says nothing. It ends with the runtime of the test.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    address
}

pub(crate) async fn start(opponents: Vec<Opponent>) -> (Household, Access) {
    let options = HouseholdOptions {
        cluster: ClusterOptions::new(Epoch::starting_now(), 7, &["ml", "apps"]),
        cni: Cni::K3s,
        timing: Timing::fast(),
        stack: StackOptions {
            cloud: silent().await,
            cloud_host: "ollama.com".to_owned(),
            cloud_port: 18_443,
            vllm: silent().await,
            ollama: silent().await,
            gateway: silent().await,
            master_key: mocks::gateway::Secret::new("sk-mock"),
            gateway_replicas: 2,
            vllm_ready_after: None,
            opponents,
        },
        processes: Arc::new(Unheard),
    };
    let household = Household::start(options).await.unwrap();
    let namespaces = ["ml".to_owned(), "apps".to_owned()];
    let access =
        Access::with_kubeconfig(&household.cluster().kubeconfig(), "mock", &namespaces).await.unwrap();
    until("the gateway has pods", || async { pods(&access, "app=litellm").await == 2 }).await;
    until("vllm has a pod", || async { pods(&access, "app=vllm").await == 1 }).await;
    (household, access)
}

async fn pods(access: &Access, labels: &str) -> usize {
    access.list::<Pod>(Some("ml"), labels).await.unwrap().len()
}

/// Waits for a condition that is looked at again and again.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let looking = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !is_so().await {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(WITHIN, looking).await.is_ok(), "not within {WITHIN:?}: {what}");
}

fn environment(pause: &[Named]) -> Environment {
    let mut environment =
        harness::input::load(&[], Some("../scenarios/environments/mock-cluster.yaml")).unwrap().environment;
    environment.components.get_mut("vllm").unwrap().pause = pause.iter().copied().collect();
    environment
}

async fn prepared(access: &Access, environment: &Environment, component: &str, deadline: u64) -> Prepared {
    let targets = BTreeSet::from(["34.36.133.15".parse().unwrap()]);
    let wanted = Wanted { component, run: RUN, deadline: Period::from_secs(deadline), targets };
    prepare(access, environment, &wanted).await.unwrap()
}

async fn replicas(access: &Access) -> i32 {
    let scale = access.scale(&ObjectName::new("ml", "vllm")).await.unwrap();
    scale.spec.and_then(|spec| spec.replicas).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_content_is_a_fit_target_and_its_pods_go_and_come() {
    let (household, access) = start(Vec::new()).await;
    let environment = environment(&[]);
    for component in ["cloud", "vllm", "ollama"] {
        let found = prepared(&access, &environment, component, 600).await;
        assert_eq!((found.refusals, found.warnings), (vec![], Vec::<String>::new()), "{component}");
    }
    let mutations = prepared(&access, &environment, "vllm", 600).await.mutations;
    mutations[0].apply(&access).await.unwrap();
    until("no pod is left", || async { pods(&access, "app=vllm").await == 0 }).await;
    assert_eq!(mutations[0].read_back(&access).await.unwrap(), ReadBack::Done);
    assert_eq!(mutations[0].undo(&access).await.unwrap(), Undone::Now);
    until("a pod is back", || async { pods(&access, "app=vllm").await == 1 }).await;
    household.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_goes_by_itself_when_its_time_is_over() {
    let (household, access) = start(Vec::new()).await;
    let mutations = prepared(&access, &environment(&[]), "cloud", 1).await.mutations;
    for mutation in &mutations {
        mutation.apply(&access).await.unwrap();
    }
    for mutation in &mutations {
        until(&format!("gone: {}", mutation.object()), || async {
            mutation.read_back(&access).await.unwrap() == ReadBack::Undone
        })
        .await;
    }
    for (mutation, undone) in undo_all(&access, &mutations).await {
        assert_eq!(undone, Ok(Undone::Before), "{}", mutation.words());
    }
    household.shutdown().await;
}

/// Refused as long as nothing is said about it, and quiet while it is paused.
async fn fights(opponent: Opponent, named: Named, pauses: bool) {
    let (household, access) = start(vec![opponent]).await;
    let refused = prepared(&access, &environment(&[]), "vllm", 600).await.refusals;
    assert!(!refused.is_empty(), "{opponent:?} is found");
    assert!(refused.iter().all(|refusal| refusal.hint.contains(named.word())), "{refused:?}");
    let found = prepared(&access, &environment(&[named]), "vllm", 600).await;
    assert_eq!(found.refusals, []);
    let is_pause = |mutation: &&Mutation| matches!(mutation, Mutation::Pause(_));
    assert_eq!(found.mutations.iter().filter(is_pause).count(), usize::from(pauses));
    let before = replicas(&access).await;
    assert!(before > 0);
    for mutation in &found.mutations {
        mutation.apply(&access).await.unwrap();
    }
    until("no pod is left", || async { pods(&access, "app=vllm").await == 0 }).await;
    // Far longer than each of them takes in this cluster to scale it back.
    let watched = tokio::time::Instant::now();
    until("a while has passed", || async {
        assert_eq!(replicas(&access).await, 0, "{opponent:?} fought");
        watched.elapsed() > Duration::from_secs(1)
    })
    .await;
    for (mutation, undone) in undo_all(&access, &found.mutations).await {
        assert_eq!(undone, Ok(Undone::Now), "{}", mutation.words());
        until("undone", || async { mutation.read_back(&access).await.unwrap() == ReadBack::Undone }).await;
    }
    assert_eq!(replicas(&access).await, before);
    household.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_that_is_allowed_stands_aside() {
    fights(Opponent::Hpa, Named::Hpa, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keda_is_refused_or_paused() {
    fights(Opponent::Keda, Named::Keda, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn argo_cd_is_refused_or_paused() {
    fights(Opponent::Argo, Named::ArgoCd, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flux_is_refused_or_paused() {
    fights(Opponent::Flux, Named::Flux, true).await;
}
