use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;
use serde_json::{Value, json};

use super::{not_done, place_of_environment, works};
use crate::environment::{Environment, Opponent};

fn sweeper(suspend: bool, last: Option<&str>) -> CronJob {
    serde_json::from_value(json!({
        "metadata": { "name": "sweeper", "namespace": "ml" },
        "spec": { "schedule": "* * * * *", "suspend": suspend, "jobTemplate": {} },
        "status": { "lastSuccessfulTime": last },
    }))
    .unwrap()
}

#[test]
fn only_a_sweeper_that_has_lately_done_its_work_is_relied_on() {
    let now: Timestamp = "2026-11-23T00:03:00Z".parse().unwrap();
    let why = |sweeper: CronJob| works(&sweeper, now).err().unwrap_or_default();
    assert_eq!(why(sweeper(false, Some("2026-11-23T00:00:01Z"))), "");
    assert!(why(sweeper(false, None)).contains("never succeeded"));
    assert!(why(sweeper(true, Some("2026-11-23T00:02:59Z"))).contains("suspended"));
    assert!(why(sweeper(false, Some("2026-11-23T00:00:00Z"))).contains("180 s ago"));
    assert!(why(sweeper(false, Some("2026-11-23T00:30:00Z"))).contains("the clocks differ"));
}

fn calling(args: &[&str], volume: Value) -> CronJob {
    let container = json!({
        "name": "harness", "args": args,
        "volumeMounts": [{ "name": "files", "mountPath": "/etc/harness/" }],
    });
    let volume = [json!({ "name": "files" }), volume].into_iter().fold(json!({}), |mut whole, part| {
        whole.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        whole
    });
    let pod = json!({ "containers": [{ "name": "sidecar" }, container], "volumes": [volume] });
    let job = json!({ "spec": { "template": { "spec": pod } } });
    serde_json::from_value(json!({ "spec": { "schedule": "* * * * *", "jobTemplate": job } })).unwrap()
}

#[test]
fn which_environment_a_sweeper_restores_in_is_read_from_its_pod() {
    let map = json!({ "configMap": { "name": "home-4f2k" } });
    let whole = |key: &str| Some(("home-4f2k".to_owned(), key.to_owned()));
    let of = |args: &[&str], volume: &Value| place_of_environment(&calling(args, volume.clone()));
    assert_eq!(of(&["restore", "--env=/etc/harness/home.yaml", "--abandoned"], &map), whole("home.yaml"));
    assert_eq!(of(&["restore", "--abandoned", "--env", "/etc/harness/home.yaml"], &map), whole("home.yaml"));
    let picked =
        json!({ "configMap": { "name": "home-4f2k", "items": [{ "key": "a", "path": "home.yaml" }] } });
    assert_eq!(of(&["restore", "--env=/etc/harness/home.yaml", "--abandoned"], &picked), whole("a"));
    assert_eq!(of(&["restore", "--env=/etc/harness/other.yaml", "--abandoned"], &picked), None);
    // Nothing of that restores what a run leaves, or says where.
    assert_eq!(of(&["restore", "--env=/etc/harness/home.yaml"], &map), None);
    assert_eq!(of(&["restore", "--abandoned"], &map), None);
    assert_eq!(of(&["restore", "--env=/etc/harnessed/home.yaml", "--abandoned"], &map), None);
    let secret = json!({ "secret": { "secretName": "home" } });
    assert_eq!(of(&["restore", "--env=/etc/harness/home.yaml", "--abandoned"], &secret), None);
}

fn environment(namespaces: &str, deployment: &str, cloud: &str) -> Environment {
    let text = format!(
        "environment: test-cluster\n\
         kubernetes: {{ in_cluster: true, namespaces: {namespaces} }}\n\
         gateway:\n  service: ml/litellm\n  port: 4000\n  pods: \"app=litellm\"\n  \
         key: {{ secret: ml/key, field: KEY }}\n\
         components:\n  \
         cloud: {{ aliases: [cloud-kimi], endpoint: \"https://ollama.com\", down: {{ blackhole: {cloud} }}, ready_within: 30s }}\n  \
         vllm: {{ aliases: [vllm-qwen], deployment: {deployment}, down: scale-to-zero, ready_within: 30s }}\n\
         routes:\n  agent: {{ model: cloud-kimi, fallbacks: [vllm-qwen] }}\n"
    );
    Environment::of_text("home.yaml", text).unwrap()
}

#[test]
fn a_sweeper_of_another_environment_proves_nothing_for_what_it_does_not_restore() {
    let ours = environment("[ml]", "ml/vllm", "network-policy");
    let lacks = |ours: &Environment, theirs: &Environment| not_done(ours, theirs).join(", ");
    assert_eq!(lacks(&ours, &ours), "");
    assert_eq!(lacks(&ours, &environment("[ml, gpu]", "ml/vllm", "network-policy")), "", "it may do more");
    let other = environment("[ml]", "ml/vllm-next", "network-policy");
    assert_eq!(
        lacks(&other, &ours),
        "get deployments/scale vllm-next in ml, patch deployments/scale vllm-next in ml"
    );
    let elsewhere = environment("[ml, gpu]", "gpu/vllm", "network-policy");
    assert!(lacks(&elsewhere, &ours).contains("patch deployments/scale vllm in gpu"));
    let filter = environment("[ml]", "ml/vllm", "netns-drop");
    assert!(lacks(&filter, &ours).contains("patch pods/ephemeralcontainers in ml"));
}

#[test]
fn a_sweeper_that_lets_nobody_go_on_proves_nothing_where_somebody_may_be_paused() {
    let pausing = |namespaces: &str, who: &[Opponent]| {
        let mut environment = environment(namespaces, "ml/vllm", "network-policy");
        environment.components.get_mut("vllm").unwrap().pause.extend(who);
        environment
    };
    let lacks = |ours: &Environment, theirs: &Environment| not_done(ours, theirs).join(", ");
    let (argo, flux, hpa) = (Opponent::ArgoCd, Opponent::Flux, Opponent::Hpa);
    let ours = pausing("[ml]", &[argo, flux, hpa]);
    assert_eq!(lacks(&ours, &ours), "");
    assert_eq!(lacks(&ours, &pausing("[ml]", &[flux])), "let argo-cd go on that keeps ml/vllm");
    assert_eq!(
        lacks(&ours, &pausing("[ml]", &[])),
        "let argo-cd go on that keeps ml/vllm, let flux go on that keeps ml/vllm",
        "who scales by load stands aside by itself"
    );
    assert_eq!(lacks(&pausing("[ml]", &[]), &ours), "", "it may do more");
    // Where Argo CD has its Applications.
    let elsewhere = pausing("[ml, argocd]", &[argo]);
    assert_eq!(lacks(&elsewhere, &pausing("[ml]", &[argo])), "let anybody go on in argocd");
    assert_eq!(lacks(&pausing("[ml, argocd]", &[]), &pausing("[ml]", &[])), "", "nobody is paused there");
}
