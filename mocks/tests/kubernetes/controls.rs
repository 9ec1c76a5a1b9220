//! What needs the mock's own controls: users, trouble on purpose, the record of requests, custom resources.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use http::Response;
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, Error};
use mocks::gateway::Secret;
use mocks::kubernetes::api::{ChaosRule, Rule, Trouble, User};
use mocks::kubernetes::cluster::{Cluster, ClusterOptions};
use mocks::kubernetes::pod_io::{Body, PodIo, PodRequest};
use mocks::kubernetes::resources::{
    CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, CONFIG_MAPS, CrdGroup, PODS, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS,
};
use mocks::kubernetes::store::{Deletion, ObjectKey, Writer};
use mocks::time::Epoch;
use serde_json::{Value, json};

use crate::ground::{PATIENCE, client_of, client_of_mock, deployment, mock, send};

const WRITER: Writer<'static> = Writer { manager: "test", subresource: "", records: true };

/// Says of every request that it arrived.
#[derive(Default)]
struct Arrivals(AtomicUsize);

impl Arrivals {
    fn arrive(&self, word: &'static str) -> BoxFuture<'static, Response<Body>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let body = Full::new(word.into()).map_err(|never| match never {}).boxed_unsync();
        Box::pin(std::future::ready(Response::new(body)))
    }
}

impl PodIo for Arrivals {
    fn exec(&self, _: PodRequest) -> BoxFuture<'static, Response<Body>> {
        self.arrive("exec")
    }

    fn port_forward(&self, _: PodRequest) -> BoxFuture<'static, Response<Body>> {
        self.arrive("portforward")
    }

    fn log(&self, request: PodRequest) -> BoxFuture<'static, Response<Body>> {
        assert_eq!(request.pod["metadata"]["name"], "p");
        assert!(request.query.iter().any(|(name, value)| name == "tailLines" && value == "3"));
        self.arrive("log")
    }
}

async fn with_user(rules: Vec<Rule>) -> (Cluster, Client, Arc<Arrivals>) {
    let mut options = ClusterOptions::new(Epoch::starting_now(), 1, &["ml"]);
    options.users = vec![User { name: "drill".to_owned(), token: Secret::new("drill-token"), rules }];
    let arrivals = Arc::new(Arrivals::default());
    let io = Arc::clone(&arrivals);
    let cluster = Cluster::start(options, |_| Some(io as Arc<dyn PodIo>)).await.unwrap();
    let kubeconfig = serde_json::from_value(cluster.kubeconfig_for("drill").unwrap()).unwrap();
    let client = client_of(kubeconfig, Some("mock".to_owned())).await;
    (cluster, client, arrivals)
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "nodeName": "n", "containers": [{ "name": "main", "image": "x:1" }] },
    })
}

fn trouble(verb: &str, resource: &str, times: Option<u32>, trouble: Trouble) -> ChaosRule {
    ChaosRule { verb: verb.to_owned(), resource: resource.to_owned(), times, trouble }
}

async fn end(cluster: &Cluster) {
    tokio::time::timeout(PATIENCE, cluster.shutdown()).await.expect("the cluster ends");
}

fn code(error: &Error) -> u16 {
    let Error::Api(status) = error else { panic!("{error}") };
    status.code
}

#[tokio::test]
async fn a_user_may_do_what_the_rules_say_and_is_told_what_not() {
    let mut named = Rule::new("ml", "apps", "deployments/scale", &["get", "patch"]);
    named.names = vec!["vllm".to_owned()];
    let (cluster, client, _) = with_user(vec![named, Rule::new("ml", "", "configmaps", &["list"])]).await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "ml");
    assert_eq!(code(&deployments.get_scale("vllm").await.unwrap_err()), 404, "allowed, but not there");
    let refused = deployments.get_scale("ollama").await.unwrap_err();
    let Error::Api(status) = &refused else { panic!("{refused}") };
    assert!(status.is_forbidden(), "{status:?}");
    assert_eq!(
        status.message,
        "deployments.apps \"ollama\" is forbidden: User \"drill\" cannot get resource \"deployments/scale\" in API \
         group \"apps\" in the namespace \"ml\""
    );
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), "ml");
    assert!(configs.list(&ListParams::default()).await.is_ok());
    assert_eq!(
        code(&Api::<ConfigMap>::all(client.clone()).list(&ListParams::default()).await.unwrap_err()),
        403
    );
    let review = |resource: Value| {
        let spec = json!({ "resourceAttributes": resource });
        json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec })
    };
    for (verb, name, allowed) in
        [("patch", "vllm", true), ("patch", "other", false), ("update", "vllm", false)]
    {
        let asked = json!({
            "namespace": "ml", "verb": verb, "group": "apps", "resource": "deployments", "subresource": "scale", "name": name,
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let body = review(asked).to_string();
        let (_, told) = send(&client, "POST", path, &[("content-type", "application/json")], body).await;
        assert_eq!(told["status"]["allowed"], allowed, "{verb} {name}");
    }
    let reviews = cluster.audit().entries();
    let reviews =
        reviews.iter().filter(|entry| entry.resource == "selfsubjectaccessreviews" && !entry.is_mutation());
    assert_eq!(reviews.count(), 3);
    assert!(cluster.set_rules("drill", vec![Rule::everything()]));
    assert_eq!(code(&deployments.get_scale("ollama").await.unwrap_err()), 404);
    end(&cluster).await;
}

#[tokio::test]
async fn a_token_that_is_nobodys_is_401_everywhere() {
    let cluster = mock().await;
    let mut config = cluster.kubeconfig();
    config["users"][0]["user"]["token"] = "wrong".into();
    let client = client_of(serde_json::from_value(config).unwrap(), None).await;
    for path in ["/api/v1/namespaces/ml/pods", "/apis", "/nowhere"] {
        let (code, refused) = send(&client, "GET", path, &[], String::new()).await;
        assert_eq!((code, &refused["reason"]), (401, &json!("Unauthorized")), "{path}");
    }
    end(&cluster).await;
}

#[tokio::test]
async fn exec_needs_both_verbs_and_a_pod_before_anybody_upgrades() {
    let exec = |verbs: &[&str]| Rule::new("ml", "", "pods/exec", verbs);
    let (cluster, client, arrivals) = with_user(vec![exec(&["get"])]).await;
    cluster.store().create(&PODS, "ml", pod("p"), WRITER).unwrap();
    let path = |name: &str| format!("/api/v1/namespaces/ml/pods/{name}/exec?command=true");
    let code = async |name: &str| send(&client, "GET", &path(name), &[], String::new()).await.0;
    assert_eq!(code("p").await, 403);
    cluster.set_rules("drill", vec![exec(&["create"])]);
    assert_eq!(code("p").await, 403);
    cluster.set_rules("drill", vec![exec(&["get", "create"])]);
    assert_eq!(code("none").await, 404);
    assert_eq!(arrivals.0.load(Ordering::SeqCst), 0);
    assert_eq!(code("p").await, 200);
    assert_eq!(arrivals.0.load(Ordering::SeqCst), 1);
    cluster.set_rules("drill", vec![Rule::new("ml", "", "pods/log", &["get"])]);
    let pods: Api<Pod> = Api::namespaced(client.clone(), "ml");
    let params = LogParams { tail_lines: Some(3), ..LogParams::default() };
    assert_eq!(pods.logs("p", &params).await.unwrap(), "log");
    end(&cluster).await;
}

#[tokio::test]
async fn trouble_comes_as_ordered_and_ends() {
    let cluster = mock().await;
    let client = client_of_mock(&cluster).await;
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), "ml");
    for (status, retry_after) in
        [(401, None), (403, None), (409, None), (429, Some(7)), (503, None), (500, None), (504, None)]
    {
        cluster.chaos().add(trouble(
            "list",
            "configmaps",
            Some(1),
            Trouble::Refused { code: status, retry_after },
        ));
        assert_eq!(code(&configs.list(&ListParams::default()).await.unwrap_err()), status);
    }
    cluster.chaos().add(trouble("list", "", Some(1), Trouble::Cut));
    let cut = configs.list(&ListParams::default()).await.unwrap_err();
    assert!(!matches!(cut, Error::Api(_)), "{cut}");
    cluster.chaos().add(trouble("", "configmaps", None, Trouble::Hang));
    let hung = tokio::time::timeout(Duration::from_millis(300), configs.list(&ListParams::default())).await;
    assert!(hung.is_err());
    cluster.chaos().clear();
    cluster.chaos().add(trouble("list", "", None, Trouble::Latency(Duration::from_millis(50))));
    let begun = std::time::Instant::now();
    configs.list(&ListParams::default()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(50));
    end(&cluster).await;
}

#[tokio::test]
async fn an_answer_that_is_lost_was_carried_out() {
    let cluster = mock().await;
    let configs: Api<ConfigMap> = Api::namespaced(client_of_mock(&cluster).await, "ml");
    let object: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "journal" } })).unwrap();
    cluster.chaos().add(trouble("create", "configmaps", Some(1), Trouble::LostAnswer));
    let lost = configs.create(&PostParams::default(), &object).await.unwrap_err();
    assert!(!matches!(lost, Error::Api(_)), "{lost}");
    assert_eq!(code(&configs.create(&PostParams::default(), &object).await.unwrap_err()), 409);
    let told: Vec<_> =
        cluster.audit().entries().iter().map(|entry| (entry.is_mutation(), entry.code)).collect();
    assert_eq!(told, [(true, 0), (true, 409)]);
    end(&cluster).await;
}

#[tokio::test]
async fn a_watch_can_be_cut_in_the_middle_of_a_line() {
    let cluster = mock().await;
    for name in ["a", "b", "c"] {
        cluster.store().create(&CONFIG_MAPS, "ml", json!({ "metadata": { "name": name } }), WRITER).unwrap();
    }
    let configs: Api<ConfigMap> = Api::namespaced(client_of_mock(&cluster).await, "ml");
    cluster.chaos().add(trouble("watch", "", Some(1), Trouble::CutMidLine { after: 2 }));
    let mut events = configs.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let mut next = async || tokio::time::timeout(PATIENCE, events.next()).await.expect("an event in time");
    assert!(matches!(next().await, Some(Ok(WatchEvent::Added(_)))));
    assert!(matches!(next().await, Some(Ok(WatchEvent::Added(_)))));
    // However kube tells it, the third never arrives whole.
    assert!(!matches!(next().await, Some(Ok(_))));
    end(&cluster).await;
}

#[tokio::test]
async fn a_watch_says_how_far_it_came_before_it_ends() {
    let cluster = mock().await;
    let configs: Api<ConfigMap> = Api::namespaced(client_of_mock(&cluster).await, "ml");
    let version = cluster.store().version();
    let params = WatchParams::default().timeout(3);
    let mut events = configs.watch(&params, &version.to_string()).await.unwrap().boxed();
    // Something that this watch does not tell moves it on all the same.
    cluster.store().create(&PODS, "ml", pod("p"), WRITER).unwrap();
    let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("an event in time");
    let Some(Ok(WatchEvent::Bookmark(bookmark))) = event else { panic!("{event:?}") };
    assert_eq!(bookmark.metadata.resource_version, (version + 1).to_string());
    assert!(tokio::time::timeout(PATIENCE, events.next()).await.expect("it ends").is_none());
    end(&cluster).await;
}

#[tokio::test]
async fn a_forgotten_history_ends_watches_from_before_it() {
    let cluster = mock().await;
    let configs: Api<ConfigMap> = Api::namespaced(client_of_mock(&cluster).await, "ml");
    let version = configs.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let first = configs.list(&ListParams::default().limit(1)).await.unwrap();
    assert!(first.metadata.continue_.is_none(), "nothing is there");
    for name in ["a", "b"] {
        cluster.store().create(&CONFIG_MAPS, "ml", json!({ "metadata": { "name": name } }), WRITER).unwrap();
    }
    let first = configs.list(&ListParams::default().limit(1)).await.unwrap();
    cluster.store().create(&CONFIG_MAPS, "ml", json!({ "metadata": { "name": "c" } }), WRITER).unwrap();
    cluster.store().compact();
    let mut events = configs.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap();
    assert!(matches!(event, Some(Ok(WatchEvent::Error(status))) if status.code == 410));
    let token = first.metadata.continue_.unwrap();
    let refused = configs.list(&ListParams::default().continue_token(&token)).await.unwrap_err();
    assert_eq!(code(&refused), 410);
    end(&cluster).await;
}

#[tokio::test]
async fn custom_resources_are_there_only_where_they_are_switched_on() {
    let cluster = mock().await;
    let client = client_of_mock(&cluster).await;
    let path = "/apis/keda.sh/v1alpha1/namespaces/ml/scaledobjects";
    let (code, page) = send(&client, "GET", path, &[], String::new()).await;
    assert_eq!((code, page), (404, Value::from("404 page not found\n")));
    end(&cluster).await;
    let mut options = ClusterOptions::new(Epoch::starting_now(), 1, &["ml"]);
    options.crds = vec![CrdGroup::Keda];
    let cluster = Cluster::start(options, |_| None).await.unwrap();
    let client = client_of_mock(&cluster).await;
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": { "name": "s" },
        "spec": { "scaleTargetRef": { "name": "vllm" } },
    });
    let json_body = [("content-type", "application/json")];
    let (code, made) = send(&client, "POST", path, &json_body, object.to_string()).await;
    assert_eq!((code, &made["metadata"]["generation"]), (201, &json!(1)), "{made}");
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let (code, _) = send(&client, "PATCH", &format!("{path}/s"), &strategic, "{}".to_owned()).await;
    assert_eq!(code, 415, "custom resources have no strategic merge");
    let (_, listed) = send(&client, "GET", path, &[], String::new()).await;
    assert_eq!(listed["items"][0]["kind"], "ScaledObject");
    let (code, _) = send(&client, "GET", "/apis/argoproj.io/v1alpha1/applications", &[], String::new()).await;
    assert_eq!(code, 404);
    end(&cluster).await;
}

#[tokio::test]
async fn a_placed_pod_stays_for_its_grace_period_and_the_audit_knows_who_asked() {
    let cluster = mock().await;
    cluster.store().create(&PODS, "ml", pod("p"), WRITER).unwrap();
    let pods: Api<Pod> = Api::namespaced(client_of_mock(&cluster).await, "ml");
    let deleted = pods.delete("p", &DeleteParams::background()).await.unwrap();
    let pending = deleted.left().expect("the pod itself");
    assert_eq!(pending.metadata.deletion_grace_period_seconds, Some(30));
    let again = pods.delete("p", &DeleteParams::background().grace_period(5)).await.unwrap();
    assert_eq!(again.left().unwrap().metadata.deletion_grace_period_seconds, Some(5));
    cluster.store().delete(&ObjectKey::new(&PODS, "ml", "p"), &Deletion::now(), "kubelet").unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
    let entries = cluster.audit().entries();
    let told: Vec<_> =
        entries.iter().map(|entry| format!("{} {} {}", entry.user, entry.verb, entry.name)).collect();
    assert_eq!(told, ["mock-admin delete p", "mock-admin delete p", "mock-admin get p"]);
    end(&cluster).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_what_is_no_json_too() {
    let cluster = mock().await;
    let client = client_of_mock(&cluster).await;
    let path = "/api/v1/namespaces/ml/configmaps";
    let json_body = [("content-type", "application/json")];
    let large =
        json!({ "metadata": { "name": "c" }, "data": { "a": "x".repeat(2 * 1024 * 1024) } }).to_string();
    let (code, refused) = send(&client, "POST", path, &json_body, large).await;
    assert_eq!((code, &refused["message"]), (500, &json!("etcdserver: request is too large")));
    let (code, _) = send(&client, "POST", path, &json_body, "{".to_owned()).await;
    assert_eq!(code, 400);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(send(&client, "POST", path, &json_body, deep).await.0, 400);
    let (code, refused) = send(&client, "POST", path, &json_body, "[]".to_owned()).await;
    assert_eq!(code, 400, "{refused}");
    let missing = "/api/v1/namespaces/none/configmaps";
    let object = json!({ "metadata": { "name": "c" } }).to_string();
    let (code, refused) = send(&client, "POST", missing, &json_body, object).await;
    assert_eq!((code, &refused["message"]), (404, &json!("namespaces \"none\" not found")));
    // A body over the limit; the server may answer before it has read all of it.
    let body = vec![b' '; 4 * 1024 * 1024];
    let answer =
        reqwest::Client::builder().no_proxy().build().unwrap().post(format!("{}{path}", cluster.url()));
    let token = cluster.kubeconfig()["users"][0]["user"]["token"].as_str().unwrap().to_owned();
    let answer = answer.bearer_auth(token).header("content-type", "application/json").body(body).send().await;
    if let Ok(answer) = answer {
        assert_eq!(answer.status().as_u16(), 413);
    }
    end(&cluster).await;
}

#[tokio::test]
async fn shutting_down_ends_watches_and_requests_that_hang() {
    let cluster = mock().await;
    let client = client_of_mock(&cluster).await;
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), "ml");
    let mut events = configs.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    cluster.chaos().add(trouble("get", "", None, Trouble::Hang));
    let hanging = tokio::spawn({
        let configs = configs.clone();
        async move { configs.get("c").await }
    });
    let deployments: Api<Deployment> = Api::namespaced(client, "ml");
    let object: Deployment = serde_json::from_value(deployment("d", 0)).unwrap();
    deployments.create(&PostParams::default(), &object).await.unwrap();
    end(&cluster).await;
    assert!(tokio::time::timeout(PATIENCE, hanging).await.unwrap().unwrap().is_err());
    let rest = tokio::time::timeout(PATIENCE, async { while let Some(Ok(_)) = events.next().await {} }).await;
    assert!(rest.is_ok());
}

#[tokio::test]
async fn an_account_may_do_what_its_roles_allow_at_the_moment() {
    let cluster =
        Cluster::start(ClusterOptions::new(Epoch::starting_now(), 1, &["ml"]), |_| None).await.unwrap();
    let (store, writer) = (cluster.store(), Writer::of_object("test"));
    assert!(cluster.kubeconfig_of_account("ml", "sweeper").is_none(), "there is no such account yet");
    store.create(&SERVICE_ACCOUNTS, "ml", json!({ "metadata": { "name": "sweeper" } }), writer).unwrap();
    let kubeconfig = serde_json::from_value(cluster.kubeconfig_of_account("ml", "sweeper").unwrap()).unwrap();
    let client = client_of(kubeconfig, Some("mock".to_owned())).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "ml");
    let list = ListParams::default();
    assert_eq!(code(&maps.list(&list).await.unwrap_err()), 403, "nothing is bound");
    let meta = |name: &str| json!({ "name": name });
    let rule = |group: &str, resource: &str| json!([{ "apiGroups": [group], "resources": [resource], "verbs": ["list"] }]);
    let role = json!({ "metadata": meta("r"), "rules": rule("", "configmaps") });
    store.create(&ROLES, "ml", role, writer).unwrap();
    let binding = |kind: &str, role: &str| {
        json!({
            "metadata": meta(role),
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": "sweeper", "namespace": "ml" }],
        })
    };
    store.create(&ROLE_BINDINGS, "ml", binding("Role", "r"), writer).unwrap();
    assert!(maps.list(&list).await.is_ok());
    let of_default: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    assert_eq!(code(&of_default.list(&list).await.unwrap_err()), 403, "a Role is of its namespace");
    let role = json!({ "metadata": meta("nodes"), "rules": rule("", "nodes") });
    store.create(&CLUSTER_ROLES, "", role, writer).unwrap();
    store.create(&CLUSTER_ROLE_BINDINGS, "", binding("ClusterRole", "nodes"), writer).unwrap();
    assert!(Api::<Node>::all(client.clone()).list(&list).await.is_ok());
    let gone = Deletion::now();
    store.delete(&ObjectKey::new(&ROLES, "ml", "r"), &gone, "test").unwrap();
    assert_eq!(code(&maps.list(&list).await.unwrap_err()), 403);
    store.delete(&ObjectKey::new(&SERVICE_ACCOUNTS, "ml", "sweeper"), &gone, "test").unwrap();
    assert_eq!(code(&maps.list(&list).await.unwrap_err()), 401, "the token ends with the account");
    end(&cluster).await;
}

#[tokio::test]
async fn who_may_not_see_a_kind_is_not_told_that_there_is_none() {
    let rules = vec![Rule::new("ml", "kube-green.com", "sleepinfos", &["list"])];
    let (cluster, client, _) = with_user(rules).await;
    let resource = |group: &str, kind: &str, plural: &str| {
        let kind = kube::core::GroupVersionKind::gvk(group, "v1alpha1", kind);
        kube::core::ApiResource::from_gvk_with_plural(&kind, plural)
    };
    for (group, kind, plural, wanted) in [
        ("kube-green.com", "SleepInfo", "sleepinfos", 404),
        ("keda.sh", "ScaledObject", "scaledobjects", 403),
    ] {
        let api: Api<kube::core::DynamicObject> =
            Api::namespaced_with(client.clone(), "ml", &resource(group, kind, plural));
        assert_eq!(code(&api.list(&ListParams::default()).await.unwrap_err()), wanted, "{group}");
    }
    let seen: Vec<u16> = cluster.audit().entries().iter().map(|entry| entry.code).collect();
    assert_eq!(seen, [404, 403]);
    end(&cluster).await;
}
