//! Who would fight a run is found before anything is changed.

use mocks::kubernetes::controllers::Opponent;
use mocks::kubernetes::resources::DEPLOYMENTS;

use crate::stack::{CLOUD_AND_GPU_DOWN, CLOUD_DOWN, Stack, Staging};

async fn refused(stack: &Stack, body: &str, because: &str) {
    let file = stack.scenario("cloud-gpu-down", body);
    let ended = stack.harness("run", std::slice::from_ref(&file)).end().await.expect(3);
    assert_eq!(ended.result["ended"], "refused", "{}", ended.stderr);
    assert!(ended.reasons().contains(because), "{because}: {}", ended.reasons());
    assert_eq!(stack.mutations(), Vec::<String>::new(), "nothing was touched");
    let planned = stack.harness("plan", &[file]).end().await.expect(3);
    assert!(planned.stdout.contains(because), "{because}: {}", planned.stdout);
    assert_eq!(stack.mutations(), Vec::<String>::new(), "a plan changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn opponents_are_found_and_refused() {
    for (opponent, because) in [
        (Opponent::Hpa, "HorizontalPodAutoscaler"),
        (Opponent::Keda, "ScaledObject"),
        (Opponent::Argo, "Argo CD"),
        (Opponent::Flux, "Flux"),
    ] {
        let stack = Stack::start(Staging { opponents: vec![opponent], ..Staging::default() }).await;
        refused(&stack, CLOUD_AND_GPU_DOWN, because).await;
        stack.strike().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_nobody_marked_is_refused() {
    let stack = Stack::start(Staging::default()).await;
    stack.change(&DEPLOYMENTS, "ml", "vllm", |object| {
        object["metadata"]["labels"] = serde_json::json!({ "app": "vllm" });
    });
    refused(&stack, CLOUD_AND_GPU_DOWN, "is not marked as a target").await;
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_behind_a_proxy_is_refused() {
    let stack = Stack::start(Staging::default()).await;
    stack.change(&DEPLOYMENTS, "ml", "litellm", |object| {
        object["spec"]["template"]["spec"]["containers"][0]["env"] =
            serde_json::json!([{ "name": "HTTPS_PROXY", "value": "http://proxy:3128" }]);
    });
    stack.household.ready(std::time::Duration::from_secs(30)).await.unwrap();
    refused(&stack, CLOUD_DOWN, "through a proxy").await;
    stack.strike().await;
}
