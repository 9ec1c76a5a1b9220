use serde_json::{Value, json};

use super::proxy::covers;
use super::{
    Fields, Refusal, Source, Sources, gateway_pods, gateway_template, sources, target, unknown_proxies,
};
use crate::cluster::mutation::Kubectl;
use crate::environment::ObjectName;

fn deployment(change: impl FnOnce(&mut Value)) -> super::Deployment {
    let mut object = json!({
        "metadata": {
            "name": "litellm", "namespace": "ml", "labels": { "failover-harness/target": "true" },
        },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "litellm" } },
            "template": {
                "metadata": { "labels": { "app": "litellm" } },
                "spec": { "containers": [{
                    "name": "litellm", "env": [],
                    "livenessProbe": { "httpGet": { "path": "/health/liveliness", "port": 4000 } },
                    "readinessProbe": { "httpGet": { "path": "/health/readiness", "port": 4000 } },
                }] },
            },
        },
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

fn name() -> ObjectName {
    ObjectName::new("ml", "litellm")
}

fn home() -> Kubectl {
    Kubectl::new(Some("home"))
}

fn reasons(refused: &[Refusal]) -> String {
    refused.iter().map(|refusal| refusal.reason.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_target_is_there_has_agreed_and_has_pods() {
    let refused = |change: fn(&mut Value)| reasons(&target(&name(), Some(&deployment(change)), &home()));
    assert_eq!(refused(|_| {}), "");
    assert!(reasons(&target(&name(), None, &home())).contains("no Deployment ml/litellm"));
    assert!(refused(|object| object["metadata"]["labels"] = json!({})).contains("lacks the label"));
    assert!(
        refused(|object| object["metadata"]["labels"]["failover-harness/target"] = json!("false"))
            .contains("lacks the label")
    );
    assert!(refused(|object| object["spec"]["replicas"] = json!(0)).contains("at 0 already"));
    assert!(refused(|object| object["spec"]["paused"] = json!(true)).contains("paused"));
    assert!(
        refused(|object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"))
            .contains("being deleted")
    );
}

#[test]
fn an_annotation_agrees_as_well_as_a_label() {
    let marked = deployment(|object| {
        object["metadata"]["labels"] = json!({});
        object["metadata"]["annotations"] = json!({ "failover-harness/target": "true" });
    });
    assert_eq!(target(&name(), Some(&marked), &home()), []);
}

fn template(change: impl FnOnce(&mut Value)) -> String {
    let of_pod = |object: &mut Value| change(&mut object["spec"]["template"]["spec"]);
    reasons(&gateway_template(&name(), &deployment(of_pod), "ollama.com", &Sources::new()))
}

#[test]
fn the_network_of_the_node_is_out_of_reach_of_policies() {
    assert_eq!(template(|_| {}), "");
    assert!(template(|pod| pod["hostNetwork"] = json!(true)).contains("network of their node"));
}

#[test]
fn a_proxy_would_be_cut_instead_of_the_endpoint() {
    let with = |env: Value| template(|pod| pod["containers"][0]["env"] = env);
    for env in [
        json!([{ "name": "HTTPS_PROXY", "value": "http://proxy:3128" }]),
        json!([{ "name": "https_proxy", "value": "http://proxy:3128" }]),
        json!([{ "name": "ALL_PROXY", "valueFrom": { "secretKeyRef": { "name": "x", "key": "y" } } }]),
        json!([{ "name": "HTTP_PROXY", "value": "http://p" }, { "name": "NO_PROXY", "value": ".svc,10.0.0.0/8" }]),
    ] {
        assert!(with(env.clone()).contains("through a proxy"), "{env}");
    }
    for env in [
        json!([{ "name": "HTTPS_PROXY", "value": "" }]),
        json!([{ "name": "HTTPS_PROXY", "value": "http://p" }, { "name": "no_proxy", "value": "x, ollama.com" }]),
        json!([{ "name": "PROXY_BASE_URL", "value": "http://p" }]),
    ] {
        assert_eq!(with(env.clone()), "", "{env}");
    }
    assert!(!with(json!([{ "name": "HTTPS_PROXY", "value": "http://me:hunter2@p" }])).contains("hunter2"));
}

/// What is refused, and what is not known, of a container whose variables come from these objects and from `env`.
fn taken(from: Value, env: Value, fields: &[(Source, Fields)]) -> (String, Vec<String>) {
    let of_pod = |object: &mut Value| {
        let container = &mut object["spec"]["template"]["spec"]["containers"][0];
        (container["envFrom"], container["env"]) = (from, env);
    };
    let deployment = deployment(of_pod);
    let known: Sources = fields.iter().cloned().collect();
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.clone()).unwrap();
    assert!(known.keys().all(|source| sources(&pod).contains(source)), "{:?}", sources(&pod));
    let refused = reasons(&gateway_template(&name(), &deployment, "ollama.com", &known));
    (refused, unknown_proxies(&name(), &pod, "ollama.com", &known))
}

#[test]
fn a_proxy_may_come_from_an_object_whose_fields_are_all_variables() {
    let map = |fields: &[(&str, &str)]| {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        (Source::ConfigMap("net".to_owned()), Fields::Values(fields.collect()))
    };
    let secret = |names: &[&str]| {
        (
            Source::Secret("keys".to_owned()),
            Fields::Names(names.iter().map(|name| (*name).to_owned()).collect()),
        )
    };
    let unread = (Source::Secret("keys".to_owned()), Fields::Unread);
    let from = json!([{ "configMapRef": { "name": "net" } }, { "secretRef": { "name": "keys" } }]);
    let of = |env: Value, fields: &[(Source, Fields)]| taken(from.clone(), env, fields);
    let proxy = ("HTTPS_PROXY", "http://me:hunter2@p");

    let (refused, _) = of(json!([]), &[map(&[proxy])]);
    assert!(refused.contains("the variable HTTPS_PROXY, from ConfigMap net"), "{refused}");
    assert!(!refused.contains("hunter2"), "{refused}");
    assert!(of(json!([]), &[secret(&["all_proxy"])]).0.contains("all_proxy, from Secret keys"));
    let prefixed = json!([{ "prefix": "HTTP_", "configMapRef": { "name": "net" } }]);
    assert!(taken(prefixed, json!([]), &[map(&[("PROXY", "http://p")])]).0.contains("HTTP_PROXY, from"));
    // A Secret's list of exceptions is not looked at.
    assert!(of(json!([]), &[map(&[proxy]), secret(&["NO_PROXY"])]).0.contains("through a proxy"));

    let none = (String::new(), Vec::new());
    assert_eq!(of(json!([]), &[map(&[("HTTPS_PROXY", ""), ("OTHER", "http://p")]), secret(&["KEY"])]), none);
    assert_eq!(of(json!([]), &[map(&[proxy, ("NO_PROXY", "ollama.com")])]), none);
    assert_eq!(
        of(json!([{ "name": "HTTPS_PROXY", "value": "" }]), &[map(&[proxy])]),
        none,
        "`env` is over it"
    );
    assert_eq!(of(json!([]), &[]), none, "objects that are not there");

    let (refused, unknown) = of(json!([]), &[map(&[]), unread.clone()]);
    assert_eq!(refused, "");
    assert!(unknown[0].contains("cannot be told") && unknown[0].contains("Secret keys"), "{unknown:?}");
    let excepted = json!([{ "name": "NO_PROXY", "value": "ollama.com" }]);
    assert_eq!(of(excepted, &[map(&[proxy]), unread.clone()]), none);
    let overridden = of(json!([]), &[map(&[("NO_PROXY", "ollama.com")]), unread]);
    assert_eq!((overridden.0.as_str(), overridden.1.len()), ("", 1), "the Secret may set it anew");
}

#[test]
fn entries_of_no_proxy_cover_hosts_and_what_is_below() {
    for entry in ["ollama.com", ".ollama.com", "*.ollama.com", "com", "*", "OLLAMA.com"] {
        assert!(covers(entry, "ollama.com"), "{entry}");
    }
    for entry in ["", "llama.com", "api.ollama.com", "10.0.0.0/8"] {
        assert!(!covers(entry, "ollama.com"), "{entry}");
    }
}

#[test]
fn a_probe_that_asks_the_models_would_restart_the_gateway() {
    let probe = |probe: Value| template(|pod| pod["containers"][0]["livenessProbe"] = probe);
    for wrong in [
        json!({ "httpGet": { "path": "/health", "port": 4000 } }),
        json!({ "httpGet": { "path": "/health/?x=1", "port": 4000 } }),
        json!({ "httpGet": { "path": "/litellm/health", "port": 4000 } }),
        json!({ "exec": { "command": ["sh", "-c", "curl -f 'http://localhost:4000/health' || exit 1"] } }),
    ] {
        assert!(probe(wrong.clone()).contains("asks every model"), "{wrong}");
    }
    for right in [
        json!({ "httpGet": { "path": "/health/liveliness", "port": 4000 } }),
        json!({ "httpGet": { "path": "/healthz", "port": 4000 } }),
        json!({ "tcpSocket": { "port": 4000 } }),
        json!({ "exec": { "command": ["curl", "http://localhost:4000/health/readiness"] } }),
    ] {
        assert_eq!(probe(right.clone()), "", "{right}");
    }
}

fn pods(labels: &[Value]) -> Vec<super::Pod> {
    let one = |(at, labels): (usize, &Value)| {
        let object = json!({ "metadata": { "name": format!("pod-{at}"), "labels": labels } });
        serde_json::from_value(object).unwrap()
    };
    labels.iter().enumerate().map(one).collect()
}

#[test]
fn the_named_pods_are_those_of_the_gateway() {
    let refused = |labels: &str, all: &[Value]| {
        reasons(&gateway_pods(&name(), &deployment(|_| {}), labels, &pods(all)))
    };
    let (gateway, canary, other) = (
        json!({ "app": "litellm" }),
        json!({ "app": "litellm", "track": "canary" }),
        json!({ "app": "vllm", "team": "ml" }),
    );
    assert_eq!(refused("app=litellm", &[gateway.clone(), canary.clone(), other.clone()]), "");
    assert!(
        refused("track=canary", &[gateway.clone(), canary])
            .contains("leaves out pods of Deployment ml/litellm: pod-0")
    );
    let both = json!({ "app": "litellm", "team": "ml" });
    assert!(refused("team=ml", &[both, other.clone()]).contains("not of Deployment ml/litellm: pod-1"));
    assert!(refused("app=litellm", &[other]).contains("no pod"));
    let mut over = pods(&[json!({ "app": "litellm", "old": "yes" }), gateway]);
    over[0].status = Some(serde_json::from_value(json!({ "phase": "Failed" })).unwrap());
    assert_eq!(gateway_pods(&name(), &deployment(|_| {}), "app=litellm", &over), []);
}

#[test]
fn what_a_person_is_to_type_names_the_context() {
    let unmarked = deployment(|object| object["metadata"]["labels"] = json!({}));
    let hints = |object| {
        target(&name(), Some(object), &home()).iter().map(|one| one.hint.clone()).collect::<Vec<_>>()
    };
    let label =
        "if it may be: kubectl --context home -n ml label deployment litellm failover-harness/target=true";
    assert_eq!(hints(&unmarked), [label]);
    let paused = deployment(|object| object["spec"]["paused"] = json!(true));
    assert_eq!(hints(&paused), ["kubectl --context home -n ml rollout resume deployment litellm"]);
}
