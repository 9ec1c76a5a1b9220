//! Calls in general.

use std::time::Duration;

use harness::cluster::access::{Access, AccessError, Failure, Target, Verb};
use harness::cluster::faults::gate::{ControlAt, Gate, Setting};
use harness::cluster::mutation::Mutation;
use harness::cluster::permissions;
use harness::environment::ObjectName;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use mocks::gate::GateMode;
use serde_json::json;
use wiremock::ResponseTemplate;

use super::scale::Allows;
use super::{Api, answer, refusal, shared};

fn vllm() -> ObjectName {
    ObjectName::new("ml", "vllm")
}

#[tokio::test]
async fn a_refusal_surfaces_at_once_in_words_and_is_not_repeated() {
    let api = Api::start(|_| refusal(503, "ServiceUnavailable", "the \u{1b}[31mserver\r\nis busy")).await;
    let error = api.access().await.get::<Deployment>(&vllm()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot get deployments ml/vllm: 503 ServiceUnavailable: the  [31mserver  is busy"
    );
    assert!(error.is_outcome_unknown());
    assert_eq!(api.asked().await, ["GET /apis/apps/v1/namespaces/ml/deployments/vllm"]);
}

#[tokio::test]
async fn silence_ends_in_time() {
    let api = Api::start(|_| ResponseTemplate::new(200).set_delay(Duration::from_secs(60))).await;
    let access = api.access().await.with_limit(Duration::from_millis(200));
    let started = std::time::Instant::now();
    let error = access.get::<Deployment>(&vllm()).await.unwrap_err();
    assert_eq!(error.failure, Failure::TimedOut(Duration::from_millis(200)));
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(error.to_string().ends_with("no answer within 0.2 s"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure_of_the_transport() {
    let kubeconfig = {
        let api = Api::start(|_| ResponseTemplate::new(200)).await;
        let mut kubeconfig = api.kubeconfig();
        // A port that nobody listens on: it was somebody's and is free again.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        kubeconfig["clusters"][0]["cluster"]["server"] = json!(format!("http://127.0.0.1:{port}"));
        kubeconfig
    };
    let access = Access::with_kubeconfig(&kubeconfig, "mock", &["ml".to_owned()]).await.unwrap();
    let error = access.get::<Deployment>(&vllm()).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Transport(_)), "{error}");
    assert!(error.to_string().to_lowercase().contains("connect"), "{error}");
    assert!(!format!("{error:?} {access:?}").contains("hunter2"));
}

#[tokio::test]
async fn nothing_is_changed_outside_the_namespaces() {
    let api = Api::start(|_| answer(200, &json!({}))).await;
    let access = api.access().await;
    let elsewhere = ObjectName::new("kube-system", "coredns");
    let error = access.set_scale(&elsewhere, 0, "1").await.unwrap_err();
    assert_eq!(error.failure, Failure::NotAllowed);
    let error = access.delete::<ConfigMap>(&elsewhere, "u").await.unwrap_err();
    assert_eq!(error.failure, Failure::NotAllowed);
    let error = access.create(&elsewhere, &ConfigMap::default()).await.unwrap_err();
    assert_eq!(error.failure, Failure::NotAllowed);
    let error = access
        .bounded(Verb::Patch, Target::whole::<k8s_openapi::api::core::v1::Node>(&(), "n"), async { Ok(()) })
        .await
        .unwrap_err();
    assert_eq!(error.failure, Failure::NotAllowed, "what has no namespace is outside of all");
    assert_eq!(api.asked().await, [""; 0]);
}

#[tokio::test]
async fn lists_are_read_page_by_page_and_not_without_end() {
    let api = Api::start(|request| {
        let last = request.url.query().is_some_and(|query| query.contains("continue=two"));
        let next = if last { "" } else { "two" };
        let pod = json!({ "metadata": { "name": if last { "b" } else { "a" } } });
        answer(200, &json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "continue": next }, "items": [pod] }))
    })
    .await;
    let pods: Vec<Pod> = api.access().await.list(Some("ml"), "app=vllm").await.unwrap();
    assert_eq!(pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect::<Vec<_>>(), ["a", "b"]);
    let asked = api.asked().await;
    assert_eq!(asked[0], "GET /api/v1/namespaces/ml/pods?labelSelector=app%3Dvllm&limit=500");
    assert!(asked[1].contains("continue=two") && asked.len() == 2, "{asked:?}");

    let endless =
        Api::start(|_| answer(200, &json!({ "metadata": { "continue": "more" }, "items": [] }))).await;
    let error = endless.access().await.list::<Pod>(Some("ml"), "").await.unwrap_err();
    assert!(matches!(error.failure, Failure::TooMany(_)), "{error}");
    assert!(endless.asked().await.len() <= 40);
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_whole() {
    let api = Api::start(|_| ResponseTemplate::new(200).set_body_bytes(vec![b' '; 33 * 1024 * 1024])).await;
    let access = api.access().await.with_limit(Duration::from_secs(60));
    let error = access.get::<Deployment>(&vllm()).await.unwrap_err();
    assert!(matches!(&error.failure, Failure::Transport(words) if words.contains("limit")), "{error}");
}

#[tokio::test]
async fn what_cannot_be_read_is_not_shown() {
    let api =
        Api::start(|_| ResponseTemplate::new(200).set_body_string("{\"data\": {\"key\": \"hunter2")).await;
    let error = api.access().await.get::<Secret>(&ObjectName::new("apps", "keys")).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Unreadable(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_key_is_read_from_one_field_and_never_printed() {
    let api =
        Api::start(|_| answer(200, &json!({ "data": { "KEY": "c2staHVudGVyMgo=", "OTHER": "/w==" } }))).await;
    let access = api.access().await;
    let name = ObjectName::new("apps", "keys");
    let key = access.secret(&name, "KEY").await.unwrap();
    assert_eq!((key.expose(), format!("{key:?}").as_str()), ("sk-hunter2", "***"));
    for (field, words) in [("NONE", "no text in its field NONE"), ("OTHER", "no text in its field OTHER")] {
        let error = access.secret(&name, field).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn only_the_context_that_is_named_is_used() {
    let api = Api::start(|_| ResponseTemplate::new(404)).await;
    let error = Access::with_kubeconfig(&api.kubeconfig(), "home", &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "the kubeconfig in memory has no context home; it has: wrong, mock");
    let unusable = Access::with_kubeconfig(&api.kubeconfig(), "wrong", &[]).await.unwrap_err();
    assert!(matches!(unusable, AccessError::Unusable { .. }), "{unusable}");
    let none = Access::with_kubeconfig(&json!(["hunter2"]), "home", &[]).await.unwrap_err();
    assert!(!none.to_string().contains("hunter2"), "{none}");
    let access = api.access().await;
    assert!(access.find::<Deployment>(&vllm()).await.unwrap().is_none());
}

#[tokio::test]
async fn each_verb_is_asked_for() {
    let api = Api::start(|request| {
        let mut review: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let asked = &review["spec"]["resourceAttributes"];
        let allowed = asked["verb"] != "patch";
        review["status"] = json!({ "allowed": allowed });
        answer(201, &review)
    })
    .await;
    let environment = harness::input::load(&[], Some("tests/cluster_calls/home.yaml")).unwrap().environment;
    let needs = permissions::needed(&environment);
    let has =
        |resource: &str, verb: &str| needs.iter().any(|need| need.resource == resource && need.verb == verb);
    assert!(has("pods/exec", "get") && has("pods/exec", "create"), "either alone is refused");
    assert!(has("deployments/scale", "patch") && !has("deployments", "patch"), "no more than the count");
    assert!(has("jobs", "create") && has("networkpolicies", "delete") && has("secrets", "get"));
    assert!(has("pods/portforward", "create") && !has("pods/ephemeralcontainers", "patch"));
    let answers = permissions::ask(&api.access().await, needs).await.unwrap();
    let missing: Vec<String> = permissions::missing(&answers)
        .map(|need| format!("{} {} {}", need.verb, need.resource, need.name.as_deref().unwrap_or("*")))
        .collect();
    assert_eq!(missing, ["patch deployments/scale ollama", "patch deployments/scale vllm"]);
    let paths = api.asked().await;
    assert!(paths.iter().all(|path| path == "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"));
}

#[tokio::test]
async fn credentials_that_are_no_longer_good_are_read_again() {
    let asked_by = shared(Vec::new());
    let heard = std::sync::Arc::clone(&asked_by);
    let api = Api::start(move |request| {
        let by = request.headers["authorization"].to_str().unwrap().to_owned();
        heard.lock().unwrap().push(format!("{} {by}", request.method));
        if by == "Bearer new" {
            answer(200, &json!({ "metadata": { "name": "vllm" }, "spec": { "replicas": 1 } }))
        } else {
            refusal(401, "Unauthorized", "Unauthorized")
        }
    })
    .await;
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("kubeconfig");
    let write = |token: &str| {
        let mut kubeconfig = api.kubeconfig();
        kubeconfig["users"][0]["user"]["token"] = json!(token);
        std::fs::write(&file, kubeconfig.to_string()).unwrap();
    };
    write("old");
    let mut environment =
        harness::input::load(&[], Some("tests/cluster_calls/home.yaml")).unwrap().environment;
    let harness::environment::Kind::Kubernetes(cluster) = &mut environment.kind else { panic!("a cluster") };
    cluster.reach =
        harness::environment::Reach::Context { context: "mock".to_owned(), kubeconfig: Some(file.clone()) };
    let access = Access::open(cluster, None).await.unwrap();
    let error = access.set_scale(&vllm(), 1, "7").await.unwrap_err();
    assert!(error.is_unauthenticated(), "{error}");
    assert_eq!(*asked_by.lock().unwrap(), ["PATCH Bearer old"; 2], "it was read again, and is as it was");
    // Rotated: whoever holds a clone undoes what it has changed.
    let undoes = access.clone();
    write("new");
    undoes.set_scale(&vllm(), 1, "7").await.unwrap();
    access.get::<Deployment>(&vllm()).await.unwrap();
    let asked: Vec<String> = asked_by.lock().unwrap().split_off(2);
    assert_eq!(asked, ["PATCH Bearer old", "PATCH Bearer new", "GET Bearer new"]);
    // A file that cannot be read is not said instead of what the server said.
    write("old");
    let stale = Access::open(cluster, None).await.unwrap();
    std::fs::write(&file, "hunter2: [").unwrap();
    let error = stale.get::<Deployment>(&vllm()).await.unwrap_err();
    assert!(error.is_unauthenticated() && !error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn what_a_program_for_credentials_prints_is_never_shown() {
    const CANARY: &str = "canary-4711";
    // What it does the first time and later: its token has ended when it is used.
    let credential = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":"#;
    let ended =
        format!(r#"{credential}{{"token":"{CANARY}","expirationTimestamp":"2020-01-01T00:00:00Z"}}}}"#);
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("asked");
    let then_fails = format!(
        "test -e {mark} && {{ echo {CANARY}; echo {CANARY} >&2; exit 3; }}; touch {mark}; echo '{ended}'",
        mark = mark.display()
    );
    for (script, told) in [
        (format!("echo {CANARY}; echo {CANARY} >&2; exit 3"), "exit status: 3"),
        (format!("echo {CANARY}"), "ExecCredential"),
        (format!("printf %s '{credential}{{\"token\":\"{CANARY}\\n\"}}}}'"), "credentials"),
        (then_fails, "exit status: 3"),
    ] {
        let api = Api::start(|_| answer(200, &json!({}))).await;
        let mut kubeconfig = api.kubeconfig();
        kubeconfig["users"][0]["user"] = json!({ "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
            "interactiveMode": "Never",
        } });
        let words = match Access::with_kubeconfig(&kubeconfig, "mock", &["ml".to_owned()]).await {
            Err(error) => format!("{error} {error:?}"),
            Ok(access) => {
                let error = access.get::<Deployment>(&vllm()).await.err();
                let words = error.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{words} {error:?} {access:?}")
            }
        };
        assert!(words.contains(told), "{script}: {words}");
        assert!(!words.contains(CANARY), "{script}: {words}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_verified_is_not_asked() {
    let api = Api::start(|_| answer(200, &json!({}))).await;
    let mut kubeconfig = api.kubeconfig();
    for (cluster, flag, is_taken) in [("c", true, false), ("c", false, true), ("other", true, true)] {
        let server = kubeconfig["clusters"][0]["cluster"]["server"].clone();
        kubeconfig["clusters"].as_array_mut().unwrap().truncate(1);
        kubeconfig["clusters"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "name": "other", "cluster": { "server": server } }));
        let of = usize::from(cluster == "other");
        kubeconfig["clusters"][of]["cluster"]["insecure-skip-tls-verify"] = flag.into();
        let opened = Access::with_kubeconfig(&kubeconfig, "mock", &[]).await.map(|_| ());
        match &opened {
            Err(error) => {
                let words = error.to_string();
                assert!(words.contains("take insecure-skip-tls-verify out of its cluster c"), "{words}");
                assert!(!is_taken, "{words}");
            }
            Ok(()) => assert!(is_taken, "{cluster}"),
        }
    }
    assert_eq!(api.asked().await, [""; 0]);
}

#[tokio::test]
async fn credentials_go_to_no_server_without_tls_but_one_on_this_machine() {
    const TOKEN: &str = "canary-4712";
    let kubeconfig = |server: &str| {
        json!({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{ "name": "c", "cluster": { "server": server } }],
            "users": [{ "name": "u", "user": { "token": TOKEN } }],
            "contexts": [{ "name": "mock", "context": { "cluster": "c", "user": "u" } }],
        })
    };
    for (server, is_taken) in [
        ("http://10.0.0.5:8080", false),
        ("http://localhost.example:8080", false),
        ("http://home", false),
        ("https://10.0.0.5:6443", true),
        ("http://127.0.0.1:8080", true),
        ("http://[::1]:8080", true),
        ("http://localhost:8080", true),
    ] {
        let opened = Access::with_kubeconfig(&kubeconfig(server), "mock", &[]).await.map(|_| ());
        match &opened {
            Err(error) => {
                let words = error.to_string();
                assert!(words.contains("without TLS") && words.contains("its cluster c"), "{words}");
                assert!(!is_taken && !words.contains(TOKEN), "{server}: {words}");
            }
            Ok(()) => assert!(is_taken, "{server}"),
        }
    }
}

/// Loopback is then somebody else's, and everybody on the way there hears.
#[tokio::test]
async fn nothing_without_tls_goes_through_the_proxy_of_a_kubeconfig() {
    const SECRETS: [&str; 2] = ["canary-4712", "canary-4713"];
    let kubeconfig = |server: &str, proxy: &str| {
        json!({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{ "name": "c", "cluster": { "server": server, "proxy-url": proxy } }],
            "users": [{ "name": "u", "user": { "token": SECRETS[0] } }],
            "contexts": [{ "name": "mock", "context": { "cluster": "c", "user": "u" } }],
        })
    };
    let proxy = format!("http://someone:{}@10.0.0.9:3128", SECRETS[1]);
    for (server, proxy, is_taken) in [
        ("http://127.0.0.1:8080", proxy.as_str(), false),
        ("http://localhost:8080", "http://127.0.0.1:3128", false),
        ("https://10.0.0.5:6443", &proxy, true),
        ("https://127.0.0.1:6443", &proxy, true),
    ] {
        let opened = Access::with_kubeconfig(&kubeconfig(server, proxy), "mock", &[]).await.map(|_| ());
        match &opened {
            Err(error) => {
                let words = error.to_string();
                assert!(words.contains("without TLS, and through a proxy: take proxy-url out"), "{words}");
                assert!(words.contains("its cluster c"), "{words}");
                assert!(
                    !is_taken && SECRETS.iter().all(|secret| !words.contains(secret)),
                    "{server}: {words}"
                );
            }
            Ok(()) => assert!(is_taken, "{server}"),
        }
    }
}

#[tokio::test]
async fn how_a_gate_stands_may_be_asked_without_the_lock_and_nothing_else() {
    let pod = json!({
        "metadata": { "name": "egress-gate-1", "namespace": "ml", "uid": "u1" },
        "spec": { "containers": [{ "name": "gate" }] },
    });
    let api = Api::start(move |request| {
        if request.url.path().ends_with("/portforward") {
            refusal(500, "InternalError", "no way to the pod")
        } else {
            answer(200, &pod)
        }
    })
    .await;
    let access = api.access().await.guarded(std::sync::Arc::new(Allows(0.into())));
    let gate = Mutation::Gate(Box::new(Gate {
        before: "cloud".into(),
        at: ControlAt::Pod { pod: ObjectName::new("ml", "egress-gate-1"), uid: "u1".into(), port: 9099 },
        path: "/fault".into(),
        run: "20261123T004551Z-0a1b2c".into(),
        seconds: 900,
        to: Setting::Mode(GateMode::Blackhole),
    }));
    let error = gate.read_back(&access).await.unwrap_err();
    assert!(!error.is_lock_lost(), "{error}");
    let forwards = |asked: Vec<String>| asked.iter().filter(|line| line.contains("/portforward")).count();
    assert_eq!(forwards(api.asked().await), 1);
    assert!(gate.undo(&access).await.unwrap_err().is_lock_lost());
    assert_eq!(forwards(api.asked().await), 1, "it was not sent");
}
