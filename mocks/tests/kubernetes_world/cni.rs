//! Policies, and how each enforcer makes them felt.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams};
use mocks::kubernetes::network::Cni;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::household::{CLOUD, CLOUD_PORT, Connect, Stage, echo, options, start, usual};

async fn with(cni: Cni) -> Stage {
    let mut options = options().await;
    options.cni = cni;
    start(options).await
}

fn blackhole(stage: &Stage) -> Value {
    let cloud = stage.address(CLOUD, CLOUD_PORT).unwrap().ip();
    json!({
        "metadata": { "name": "drill-blackhole" },
        "spec": {
            "podSelector": { "matchLabels": { "app": "litellm" } },
            "policyTypes": ["Egress"],
            "egress": [
                { "to": [{ "namespaceSelector": {} }] },
                { "to": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": [format!("{cloud}/32")] } }] },
            ],
        },
    })
}

async fn lift(stage: &Stage) {
    stage.api::<NetworkPolicy>().delete("drill-blackhole", &DeleteParams::default()).await.unwrap();
    stage.eventually("the cloud back", async || stage.echoes(CLOUD, CLOUD_PORT).await).await;
}

/// Takes the cloud away, checks what new and held connections see, and gives it back.
async fn check(cni: Cni, new: Connect, held_is_kept: bool) {
    let stage = with(cni).await;
    let mut held = TcpStream::connect(stage.address(CLOUD, CLOUD_PORT).unwrap()).await.unwrap();
    assert!(echo(&mut held).await);
    stage.create::<NetworkPolicy>(blackhole(&stage)).await;
    stage.eventually("the cloud gone", async || stage.connect(CLOUD, CLOUD_PORT).await == new).await;
    assert_eq!(echo(&mut held).await, held_is_kept);
    assert_eq!(stage.connect("vllm", 8000).await, Connect::Served, "backends are not concerned");
    lift(&stage).await;
    if held_is_kept {
        assert!(echo(&mut held).await);
    }
    stage.shutdown().await;
}

#[tokio::test]
async fn k3s_refuses_what_is_new_and_keeps_what_is_held() {
    check(Cni::K3s, Connect::Refused, true).await;
}

#[tokio::test]
async fn calico_drops_what_is_new_and_keeps_what_is_held() {
    check(Cni::Calico, Connect::Silent, true).await;
}

#[tokio::test]
async fn cilium_drops_what_is_new_and_what_is_held() {
    check(Cni::Cilium, Connect::Silent, false).await;
}

#[tokio::test]
async fn kindnet_drops_what_is_new_and_what_is_held_a_while_later() {
    let stage = with(Cni::Kindnet).await;
    let mut held = TcpStream::connect(stage.address(CLOUD, CLOUD_PORT).unwrap()).await.unwrap();
    assert!(echo(&mut held).await);
    stage.create::<NetworkPolicy>(blackhole(&stage)).await;
    stage
        .eventually("the cloud gone", async || stage.connect(CLOUD, CLOUD_PORT).await == Connect::Silent)
        .await;
    assert!(echo(&mut held).await, "it was there before");
    let held = tokio::sync::Mutex::new(held);
    stage.eventually("no answer", async || !echo(&mut *held.lock().await).await).await;
    assert_eq!(stage.connect("vllm", 8000).await, Connect::Served, "backends are not concerned");
    lift(&stage).await;
    stage.shutdown().await;
}

#[tokio::test]
async fn without_an_enforcer_a_policy_is_only_an_object() {
    let stage = with(Cni::None).await;
    stage.create::<NetworkPolicy>(blackhole(&stage)).await;
    // A marker that comes later through the same loops shows that the policy had its time.
    stage.scale("ollama", 0).await;
    stage.eventually("the marker", async || stage.connect("ollama", 11_434).await == Connect::Refused).await;
    assert_eq!(stage.connect(CLOUD, CLOUD_PORT).await, Connect::Served);
    stage.shutdown().await;
}

#[tokio::test]
async fn an_ingress_policy_isolates_a_backend() {
    let stage = usual().await;
    let policy = json!({
        "metadata": { "name": "drill-isolate" },
        "spec": { "podSelector": { "matchLabels": { "app": "vllm" } }, "policyTypes": ["Ingress"] },
    });
    stage.create::<NetworkPolicy>(policy).await;
    // At the Service as at the pod: what goes to a Service goes on as a packet to the pod.
    stage.eventually("vLLM isolated", async || stage.connect("vllm", 8000).await == Connect::Refused).await;
    assert_eq!(stage.connect("ollama", 11_434).await, Connect::Served);
    stage.api::<NetworkPolicy>().delete("drill-isolate", &DeleteParams::default()).await.unwrap();
    stage.eventually("vLLM back", async || stage.echoes("vllm", 8000).await).await;
    stage.shutdown().await;
}

#[tokio::test]
async fn a_new_address_of_the_cloud_is_not_covered() {
    let stage = usual().await;
    stage.create::<NetworkPolicy>(blackhole(&stage)).await;
    stage
        .eventually("the cloud gone", async || stage.connect(CLOUD, CLOUD_PORT).await == Connect::Refused)
        .await;
    stage.household.plane().network().move_host(CLOUD, 1).await.unwrap();
    assert_eq!(
        stage.connect(CLOUD, CLOUD_PORT).await,
        Connect::Served,
        "this is the leak that a drift makes"
    );
    stage.shutdown().await;
}

#[tokio::test]
async fn a_policy_of_a_deadline_job_goes_by_itself() {
    let stage = usual().await;
    let job = json!({
        "metadata": { "name": "drill-anchor" },
        "spec": {
            "parallelism": 0,
            "activeDeadlineSeconds": 2,
            "ttlSecondsAfterFinished": 0,
            "template": { "spec": {
                "restartPolicy": "Never",
                "containers": [{ "name": "none", "image": "registry.invalid/none" }],
            } },
        },
    });
    let job: Job = stage.create(job).await;
    let mut policy = blackhole(&stage);
    policy["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": "drill-anchor", "uid": job.metadata.uid.unwrap(),
    }]);
    stage.create::<NetworkPolicy>(policy).await;
    stage
        .eventually("the cloud gone", async || stage.connect(CLOUD, CLOUD_PORT).await == Connect::Refused)
        .await;
    stage.eventually("the cloud back", async || stage.echoes(CLOUD, CLOUD_PORT).await).await;
    stage
        .eventually("nothing left", async || {
            let policies = stage.api::<NetworkPolicy>().list(&Default::default()).await.unwrap().items;
            let jobs = stage.api::<Job>().list(&Default::default()).await.unwrap().items;
            policies.is_empty() && jobs.is_empty()
        })
        .await;
    stage.shutdown().await;
}

/// Runs `nft` in the gateway's pod; how it ended.
async fn filter(stage: &Stage, container: &str, rules: &str) -> (i32, String) {
    let pod = stage.pod("litellm").await;
    let added = json!({ "name": container, "image": "nft", "command": ["nft", rules] });
    let patch = Patch::Strategic(json!({ "spec": { "ephemeralContainers": [added] } }));
    stage.api::<Pod>().patch_ephemeral_containers(&pod, &PatchParams::default(), &patch).await.unwrap();
    let ended = async || {
        let status = stage.api::<Pod>().get(&pod).await.unwrap().status.unwrap();
        let mut statuses = status.ephemeral_container_statuses.into_iter().flatten();
        statuses.find(|status| status.name == container)?.state?.terminated
    };
    stage.eventually("its end", async || ended().await.is_some()).await;
    let ended = ended().await.unwrap();
    (ended.exit_code, ended.message.unwrap_or_default())
}

#[tokio::test]
async fn a_packet_filter_in_the_pod_drops_everything_until_its_timeout() {
    let stage = usual().await;
    let address = stage.address(CLOUD, CLOUD_PORT).unwrap();
    let mut held = TcpStream::connect(address).await.unwrap();
    assert!(echo(&mut held).await);
    let rules = format!("add element inet drill blk {{ {} timeout 2s }}", address.ip());
    assert_eq!(filter(&stage, "drill", &rules).await, (0, String::new()));
    assert_eq!(stage.connect(CLOUD, CLOUD_PORT).await, Connect::Silent);
    assert!(!echo(&mut held).await);
    stage.eventually("its end", async || stage.echoes(CLOUD, CLOUD_PORT).await).await;
    stage.shutdown().await;
}

#[tokio::test]
async fn a_packet_filter_is_gone_with_its_table_and_not_made_over_another() {
    let stage = usual().await;
    let ip = stage.address(CLOUD, CLOUD_PORT).unwrap().ip();
    let rules = format!("create table inet drill; add element inet drill blk {{ {ip} timeout 600s }}");
    assert_eq!(filter(&stage, "drop", &rules).await.0, 0);
    assert_eq!(stage.connect(CLOUD, CLOUD_PORT).await, Connect::Silent);
    let empty = "add table inet drill; delete table inet drill; add table inet drill";
    assert_eq!(filter(&stage, "lift", empty).await.0, 0);
    assert!(stage.echoes(CLOUD, CLOUD_PORT).await);
    let (code, told) = filter(&stage, "late", &rules).await;
    assert!(code == 1 && told.contains("File exists"), "{told}");
    assert!(stage.echoes(CLOUD, CLOUD_PORT).await);
    stage.shutdown().await;
}
