//! A cluster to try things on.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, DeleteParams};
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Client, Config, Resource};
use mocks::kubernetes::cluster::{Cluster, ClusterOptions};
use mocks::kubernetes::controllers::Timing;
use mocks::kubernetes::kubelet::Unheard;
use mocks::kubernetes::network::{Cni, Network};
use mocks::kubernetes::plane::{Plane, PlaneOptions};
use mocks::kubernetes::pod_io::PodIo;
use mocks::kubernetes::stack;
use mocks::time::Epoch;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Nothing that is asked of a cluster takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing that a controller does takes longer, apart from the times that objects give and what goes by the minute.
pub(crate) const CONTROL: Duration = Duration::from_secs(60);
const MANAGER: &str = "conformance";

/// A client and a namespace, on the mock or on a live cluster.
pub(crate) struct Ground {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// Before every name, so that parallel cases and runs do not meet.
    prefix: String,
    config: Config,
    mock: Option<Mock>,
}

/// A mock cluster with its control loops and one node, but without the stock content.
pub(crate) struct Mock {
    pub(crate) cluster: Cluster,
    plane: Plane,
}

impl Mock {
    pub(crate) async fn start() -> Self {
        let timing = Timing { minute: Duration::from_secs(1), ..Timing::fast() };
        let network = Arc::new(Network::claim(Cni::K3s, stack::callers()).unwrap());
        let mut plane = None;
        let options = ClusterOptions::new(Epoch::starting_now(), 7, &["ml", "apps"]);
        let cluster = Cluster::start(options, |store| {
            let options = PlaneOptions { timing, workloads: Vec::new(), processes: Arc::new(Unheard) };
            let plane = plane.insert(Plane::start(store, network, options).unwrap());
            Some(Arc::new(plane.kubelet().clone()) as Arc<dyn PodIo>)
        });
        let cluster = cluster.await.unwrap();
        Self { cluster, plane: plane.expect("a cluster asks for a kubelet when it starts") }
    }

    pub(crate) async fn shutdown(self) {
        let both = async {
            self.cluster.shutdown().await;
            self.plane.shutdown().await;
        };
        tokio::time::timeout(PATIENCE, both).await.expect("the cluster ends");
    }
}

async fn config_of(kubeconfig: Kubeconfig, context: Option<String>) -> Config {
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    config.default_retry = false;
    config
}

/// A client for this kubeconfig that never retries by itself.
pub(crate) async fn client_of(kubeconfig: Kubeconfig, context: Option<String>) -> Client {
    Client::try_from(config_of(kubeconfig, context).await).unwrap()
}

/// A client for the user that may do everything on this mock cluster.
pub(crate) async fn client_of_mock(cluster: &Cluster) -> Client {
    client_of(serde_json::from_value(cluster.kubeconfig()).unwrap(), None).await
}

/// A mock cluster with the namespaces `ml` and `apps`, in which nothing runs.
pub(crate) async fn mock() -> Cluster {
    let mut options = ClusterOptions::new(Epoch::starting_now(), 7, &["ml", "apps"]);
    options.open_port = true;
    Cluster::start(options, |_| None).await.unwrap()
}

impl Ground {
    /// The ground for one case, whose name is `case`.
    pub(crate) async fn find(case: &str) -> Self {
        let variable = |name: &str| std::env::var(format!("FAILOVER_CONFORMANCE_{name}")).ok();
        let Some(path) = variable("KUBECONFIG") else {
            let mock = Mock::start().await;
            let kubeconfig = serde_json::from_value(mock.cluster.kubeconfig()).unwrap();
            let config = config_of(kubeconfig, None).await;
            let client = Client::try_from(config.clone()).unwrap();
            let (namespace, prefix) = ("ml".to_owned(), case.to_owned());
            return Self { client, namespace, prefix, config, mock: Some(mock) };
        };
        let context = variable("CONTEXT")
            .expect("FAILOVER_CONFORMANCE_CONTEXT names the context, never the current one");
        let namespace =
            variable("NAMESPACE").expect("FAILOVER_CONFORMANCE_NAMESPACE names a namespace to try things in");
        // An error means that another case of this process has installed it.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let config = config_of(Kubeconfig::read_from(path).unwrap(), Some(context)).await;
        let client = Client::try_from(config.clone()).unwrap();
        let prefix = format!("{case}-{:x}", std::process::id());
        Self { client, namespace, prefix, config, mock: None }
    }

    /// An image with `sh` for pods that run.
    pub(crate) fn image(&self) -> String {
        let image = std::env::var("FAILOVER_CONFORMANCE_IMAGE");
        match &self.mock {
            Some(_) => "mock:1".to_owned(),
            None => {
                image.expect("FAILOVER_CONFORMANCE_IMAGE names an image with sh that the cluster can pull")
            }
        }
    }

    /// A client of this cluster for whoever has the token.
    pub(crate) fn client_with(&self, token: &str) -> Client {
        let mut config = self.config.clone();
        config.auth_info = serde_json::from_value::<AuthInfo>(json!({ "token": token })).unwrap();
        Client::try_from(config).unwrap()
    }

    /// A name that no other case uses.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One request, as it stands; gives the status and the body, which is text where it is no JSON.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> (u16, Value) {
        send(&self.client, method, path, &[("content-type", content_type)], body.to_string()).await
    }

    /// The path of objects of this namespace, for example `apis/apps/v1`, `deployments/x`.
    pub(crate) fn path(&self, group_version: &str, rest: &str) -> String {
        format!("/{group_version}/namespaces/{}/{rest}", self.namespace)
    }

    pub(crate) async fn post(&self, group_version: &str, plural: &str, object: &Value) -> (u16, Value) {
        let path = self.path(group_version, &format!("{plural}?fieldManager={MANAGER}"));
        self.send("POST", &path, "application/json", object).await
    }

    pub(crate) async fn patch(
        &self,
        group_version: &str,
        rest: &str,
        kind: &str,
        patch: &Value,
    ) -> (u16, Value) {
        let separator = if rest.contains('?') { '&' } else { '?' };
        let manager = if rest.contains("fieldManager=") { "" } else { "fieldManager=conformance" };
        let path = self.path(group_version, &format!("{rest}{separator}{manager}"));
        let ending = if kind == "apply" { "yaml" } else { "json" };
        self.send("PATCH", &path, &format!("application/{kind}-patch+{ending}"), patch).await
    }

    pub(crate) async fn get(&self, group_version: &str, rest: &str) -> (u16, Value) {
        send(&self.client, "GET", &self.path(group_version, rest), &[], String::new()).await
    }

    /// Makes an object that must be taken.
    pub(crate) async fn make(&self, group_version: &str, plural: &str, object: &Value) -> Value {
        let (code, made) = self.post(group_version, plural, object).await;
        assert_eq!(code, 201, "{made}");
        made
    }

    /// Waits until an object is as it should be, or is gone; gives what it is then.
    pub(crate) async fn wait<K>(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(Option<&K>) -> bool,
    ) -> Option<K>
    where
        K: Resource<Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
        K::DynamicType: Default,
    {
        let wait = await_condition(self.api::<K>(), name, is_so);
        let seen = tokio::time::timeout(CONTROL, wait).await;
        seen.unwrap_or_else(|_| panic!("never seen: {what}")).unwrap()
    }

    /// Makes a Deployment that makes no pods: it is paused from the start.
    pub(crate) async fn deployment(&self, name: &str, replicas: i64) -> Value {
        let (code, made) = self.post("apis/apps/v1", "deployments", &deployment(name, replicas)).await;
        assert_eq!(code, 201, "{made}");
        made
    }

    /// Deletes what the case has made, then ends the mock.
    pub(crate) async fn leave<K>(self, names: &[&str])
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        for name in names {
            match self.api::<K>().delete(name, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
        if let Some(mock) = self.mock {
            mock.shutdown().await;
        }
    }
}

/// Looks again and again until it is so.
pub(crate) async fn eventually(within: Duration, what: &str, mut check: impl AsyncFnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let wait = async {
        loop {
            ticks.tick().await;
            if check().await {
                return;
            }
        }
    };
    tokio::time::timeout(within, wait).await.unwrap_or_else(|_| panic!("never seen: {what}"));
}

pub(crate) async fn send(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> (u16, Value) {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.into_bytes())).unwrap();
    let answer =
        tokio::time::timeout(PATIENCE, client.send(request)).await.expect("an answer in time").unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
    (code, serde_json::from_slice(&body).unwrap_or_else(|_| text()))
}

/// A Deployment that is paused from the start, so that no controller makes pods of it.
pub(crate) fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "labels": { "case": name } },
        "spec": {
            "paused": true,
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "registry.invalid/none:1" }] },
            },
        },
    })
}

/// The managers that own a field, each with its subresource.
pub(crate) fn owners(object: &Value, pointer: &str) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let owning = entries.iter().filter(|entry| entry["fieldsV1"].pointer(pointer).is_some());
    let told = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        format!("{}/{}/{}", text("manager"), text("operation"), text("subresource"))
    };
    owning.map(told).collect()
}
