//! A backend that is scaled away and back.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use mocks::gate::GateMode;
use mocks::kubernetes::stack::WorldProcesses;
use mocks::profile::Profile;
use mocks::time::Epoch;
use mocks::world::{World, WorldOptions};

use crate::household::{Connect, Stage, echo, options, start};

/// `(ready, serving, terminating)` of the endpoints of vLLM.
async fn endpoints(stage: &Stage) -> Vec<(bool, bool, bool)> {
    let list = ListParams::default().labels("kubernetes.io/service-name=vllm");
    let slices = stage.api::<EndpointSlice>().list(&list).await.unwrap().items;
    let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
    let told = endpoints.filter_map(|endpoint| endpoint.conditions).map(|told| {
        (told.ready.unwrap_or(true), told.serving.unwrap_or(true), told.terminating.unwrap_or(false))
    });
    told.collect()
}

#[tokio::test]
async fn a_pod_that_ends_serves_until_its_process_is_gone() {
    let mut options = options().await;
    options.timing.exit_after = Duration::from_millis(600);
    let stage = start(options).await;
    let address = stage.address("vllm", 8000).unwrap();
    let mut held = tokio::net::TcpStream::connect(address).await.unwrap();
    assert!(echo(&mut held).await);
    assert_eq!(endpoints(&stage).await, [(true, true, false)]);
    stage.scale("vllm", 0).await;
    stage
        .eventually("an endpoint that ends and serves", async || {
            endpoints(&stage).await == [(false, true, true)]
        })
        .await;
    assert_eq!(stage.connect("vllm", 8000).await, Connect::Served, "new connections go to what still serves");
    stage.eventually("the pod gone", async || stage.pods("vllm").await.is_empty()).await;
    stage.eventually("a refusal", async || stage.connect("vllm", 8000).await == Connect::Refused).await;
    assert!(!echo(&mut held).await, "the process is gone, and its connections with it");
    stage.eventually("no endpoints", async || endpoints(&stage).await.is_empty()).await;
    let deployment = stage.deployments().get("vllm").await.unwrap();
    assert_eq!(deployment.spec.unwrap().replicas, Some(0));
    stage
        .eventually("a status of nothing", async || {
            let deployment = stage.deployments().get("vllm").await.unwrap();
            let status = deployment.status.unwrap();
            status.observed_generation == deployment.metadata.generation && status.replicas.is_none()
        })
        .await;
    stage.scale("vllm", 1).await;
    stage.eventually("vLLM back", async || stage.echoes("vllm", 8000).await).await;
    let changes = stage.household.plane().kubelet().process_changes();
    let of_vllm: Vec<_> =
        changes.iter().filter(|change| change.deployment == "vllm").map(|change| change.started).collect();
    assert_eq!(of_vllm, [true, false, true]);
    stage.shutdown().await;
}

#[tokio::test]
async fn the_mock_world_restarts_what_is_scaled_away() {
    let epoch = Epoch::starting_now();
    let world = Arc::new(World::start(WorldOptions::five_aliases(epoch, 7, Profile::fast())).await.unwrap());
    let mut options = options().await;
    // The echo server stays behind the pods, so that the test can see them serve.
    options.processes = Arc::new(WorldProcesses::new(Arc::clone(&world)));
    let stage = start(options).await;
    let mode = |component: &str| world.gate(component).unwrap().mode();
    assert_eq!((mode("vllm"), mode("ollama")), (GateMode::Pass, GateMode::Pass));
    stage.scale("vllm", 0).await;
    stage.eventually("the component gone", async || mode("vllm") == GateMode::Refuse).await;
    assert_eq!(mode("ollama"), GateMode::Pass);
    stage.scale("vllm", 1).await;
    stage.eventually("the component back", async || mode("vllm") == GateMode::Pass).await;
    stage.shutdown().await;
    world.shutdown().await;
}

#[tokio::test]
async fn a_replaced_pod_is_never_missed_where_there_are_two() {
    let mut options = options().await;
    options.stack.gateway_replicas = 2;
    let stage = start(options).await;
    stage
        .eventually("two pods", async || {
            let pods = stage.pods("litellm").await;
            pods.len() == 2
                && stage.deployments().get("litellm").await.unwrap().status.unwrap().ready_replicas == Some(2)
        })
        .await;
    let pod = stage.pod("litellm").await;
    stage
        .api::<k8s_openapi::api::core::v1::Pod>()
        .delete(&pod, &kube::api::DeleteParams::default())
        .await
        .unwrap();
    stage
        .eventually("another pod in its place", async || {
            assert_eq!(stage.connect("litellm", 4000).await, Connect::Served);
            let pods = stage.pods("litellm").await;
            pods.len() == 2 && pods.iter().all(|other| other.metadata.name.as_ref() != Some(&pod))
        })
        .await;
    stage.shutdown().await;
}
