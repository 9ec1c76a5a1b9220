//! Environments that are about a Kubernetes cluster.

use std::collections::BTreeSet;
use std::fs;

use harness::environment::{
    Cni, EgressProxy, Environment, FaultKind, KeySource, Kind, LokiUser, Mechanism, ObjectName, Opponent,
    Profile, Reach,
};
use harness::input;
use harness::units::Period;

fn loaded(text: &str) -> Environment {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env.yaml");
    fs::write(&path, text).unwrap();
    input::load(&[], path.to_str()).unwrap_or_else(|problems| panic!("{problems}")).environment
}

const ROUTES: &str = "\
routes:
  agent: { model: cloud-kimi, fallbacks: [cloud-minimax, vllm-qwen, ollama-qwen] }
  coder: { model: cloud-qwen3-coder }
";

fn home() -> String {
    format!(
        "\
environment: home-cluster
kubernetes: {{ context: home, namespaces: [ml, apps] }}
gateway: {{ service: ml/litellm, port: 4001, pods: \"app=litellm\",
           key: {{ secret: apps/openclaw-secrets, field: LITELLM_MASTER_KEY }} }}
opponents: {{ pause: [argo-cd] }}
users: {{ postpone: 10m }}
components:
  cloud:  {{ aliases: [cloud-kimi, cloud-minimax, cloud-qwen3-coder], endpoint: \"https://ollama.com\",
            down: {{ blackhole: network-policy }} }}
  vllm:   {{ aliases: [vllm-qwen], deployment: ml/vllm, down: scale-to-zero, opponents: {{ pause: [keda] }} }}
  ollama: {{ aliases: [ollama-qwen], deployment: ml/ollama, service: ml/ollama-serve, port: 11434, down: isolate }}
{ROUTES}"
    )
}

#[test]
fn a_cluster_is_read() {
    let environment = loaded(&home());
    let cluster = environment.cluster().expect("a cluster");
    assert_eq!(cluster.reach, Reach::Context { context: "home".into(), kubeconfig: None });
    assert_eq!(cluster.namespaces, ["ml", "apps"]);
    assert_eq!(cluster.postpone, Some(Period::from_secs(600)));
    let gateway = &cluster.gateway;
    assert_eq!((gateway.port, gateway.pods.as_str()), (4001, "app=litellm"));
    assert_eq!(gateway.deployment, ObjectName::new("ml", "litellm"), "called as the Service");
    let secret = ObjectName::new("apps", "openclaw-secrets");
    assert_eq!(gateway.key, Some(KeySource::Secret { secret, field: "LITELLM_MASTER_KEY".into() }));
    let [cloud, vllm, ollama] = ["cloud", "vllm", "ollama"].map(|name| &environment.components[name]);
    assert_eq!(cloud.down, FaultKind::BlackholeBy(Mechanism::NetworkPolicy));
    assert_eq!(cloud.endpoint.as_deref(), Some("https://ollama.com"));
    assert_eq!(cloud.ready_within, Period::from_secs(30));
    assert_eq!((vllm.down, vllm.ready_within), (FaultKind::ScaleToZero, Period::from_secs(900)));
    assert_eq!(vllm.service, Some(ObjectName::new("ml", "vllm")), "called as the Deployment");
    assert_eq!((ollama.down, ollama.port), (FaultKind::Isolate, Some(11434)));
    assert_eq!(ollama.service, Some(ObjectName::new("ml", "ollama-serve")));
    assert_eq!(environment.pause("vllm"), BTreeSet::from([Opponent::ArgoCd, Opponent::Keda]));
    assert_eq!(environment.pause("ollama"), BTreeSet::from([Opponent::ArgoCd]));
}

#[test]
fn a_gate_before_an_endpoint_is_called_as_its_service() {
    let gated = home().replace("network-policy }", "egress-proxy }, proxy: { service: ml/egress-gate }");
    let gate = ObjectName::new("ml", "egress-gate");
    let expected = EgressProxy { service: gate.clone(), deployment: gate.clone(), control: 9099 };
    assert_eq!(loaded(&gated).components["cloud"].proxy, Some(expected));
    let other = gated.replace("egress-gate }", "egress-gate, deployment: ml/gate, control: 9100 }");
    let deployment = ObjectName::new("ml", "gate");
    let expected = EgressProxy { service: gate, deployment, control: 9100 };
    assert_eq!(loaded(&other).components["cloud"].proxy, Some(expected));
}

#[test]
fn a_cluster_from_inside_and_a_mock_one_need_no_context() {
    let inside = home().replace("context: home", "in_cluster: true");
    assert_eq!(loaded(&inside).cluster().unwrap().reach, Reach::InCluster);
    let mock = home()
        .replace("context: home, ", "")
        .replace("\nkubernetes", "\nembedded: { profile: fast, cni: cilium }\nkubernetes");
    let reach = Reach::Embedded { profile: Profile::Fast, cni: Cni::Cilium, context: "mock".into() };
    assert_eq!(loaded(&mock).cluster().unwrap().reach, reach);
}

#[test]
fn what_a_journal_holds_of_an_environment_reads_back() {
    let environment = loaded(&home());
    let text = serde_json::to_string(&environment).unwrap();
    assert_eq!(serde_json::from_str::<Environment>(&text).unwrap(), environment);
}

#[test]
fn an_environment_of_an_older_journal_reads_on() {
    let old = r#"{"name":"local","kind":{"embedded":{"profile":"fast"}},"gateway":{"url":null,"key_env":null},
        "components":{"cloud":{"aliases":["cloud-kimi"],"down":"blackhole","ready_within":"5s",
            "ceilings":{"requests":5000,"tokens":null,"cost_usd":null,"usd_per_million_tokens":null,"rate":null}}},
        "routes":{"agent":{"model":"cloud-kimi","fallbacks":[]}},
        "source":{"name":"built in: local.yaml","sha256":"00"}}"#;
    let environment: Environment = serde_json::from_str(old).unwrap();
    assert_eq!(environment.kind, Kind::Embedded { profile: Profile::Fast });
    let cloud = &environment.components["cloud"];
    assert_eq!((cloud.down, &cloud.deployment, cloud.pause.len()), (FaultKind::Blackhole, &None, 0));
    // What is new is not written where it says nothing, so that an older program reads on too.
    let written = serde_json::to_value(&environment).unwrap();
    let old: serde_json::Value = serde_json::from_str(old).unwrap();
    assert_eq!(written, old);
}

#[test]
fn a_loki_is_read_and_waits_as_long_as_it_may() {
    let with = |loki: &str| home().replace("users:", &format!("loki: {loki}\nusers:"));
    let plain = with("{ url: \"http://loki:3100\", query: '{app=\"litellm\"}' }");
    let found = loaded(&plain).cluster().unwrap().loki.clone().unwrap();
    assert_eq!((found.user, found.tenant, found.within), (LokiUser::Nobody, None, Period::from_secs(10)));
    let whole = with(
        "{ url: \"https://loki\", query: '{app=\"x\"}', tenant: home, user: me, password_env: LOKI_PASSWORD, within: 3s }",
    );
    let found = loaded(&whole).cluster().unwrap().loki.clone().unwrap();
    let user = LokiUser::Basic { user: "me".into(), password_env: "LOKI_PASSWORD".into() };
    assert_eq!((found.user, found.tenant.as_deref(), found.within.0.as_secs()), (user, Some("home"), 3));
}

#[test]
fn what_is_wrong_with_a_loki_has_its_place_and_shows_no_key() {
    let query = "query: '{app=\"x\"}'";
    for (loki, column, words) in [
        ("{ url: \"loki:3100\", Q }", 14, "this is not the URL of a Loki"),
        ("{ url: \"http://me:hunter2@loki\", Q }", 14, "the URL holds a user name or password"),
        ("{ url: \"http://l/loki/api/v1/push\", Q }", 14, "the URL of a Loki has no path of its API"),
        ("{ url: \"http://l\", query: litellm }", 33, "this is not a query for lines"),
        ("{ tenant: \"a b\", url: \"http://l\", Q }", 17, "this is not the name of a tenant"),
        (
            "{ token_env: hunter2, url: \"http://l\", Q }",
            20,
            "this is not the name of an environment variable",
        ),
        ("{ user: me, url: \"http://l\", Q }", 15, "a user without a password lets nobody in"),
        ("{ password_env: P, url: \"http://l\", Q }", 23, "a password without a user lets nobody in"),
        ("{ token_env: T, user: me, url: \"http://l\", Q }", 20, "it is asked with a token or as a user"),
        ("{ within: 1h, url: \"http://l\", Q }", 17, "is long to wait for a log"),
        ("{ within: 1s, url: \"http://l\" }", 7, "`query` is missing here"),
    ] {
        let loki = loki.replace('Q', query);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env.yaml");
        fs::write(&path, home().replace("users:", &format!("loki: {loki}\nusers:"))).unwrap();
        let said = input::load(&[], path.to_str()).expect_err(&loki).to_string();
        assert!(said.contains(&format!("env.yaml:6:{column}: ")) && said.contains(words), "{loki}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let local = "environment: x\nembedded: { profile: fast }\nloki: { url: \"http://l\", query: '{a=\"b\"}' }\n\
        components: { cloud: { aliases: [a], down: refuse } }\nroutes: { agent: { model: a } }\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env.yaml");
    fs::write(&path, local).unwrap();
    let said = input::load(&[], path.to_str()).expect_err("no cluster").to_string();
    assert!(said.contains("`loki` is about a cluster"), "{said}");
}
