//! Who may do what, as a service account sees it whose Role changes.

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, AttachParams, DeleteParams};
use kube::{Client, Error};
use serde_json::{Value, json};

use crate::ground::{CONTROL, Ground, PATIENCE, eventually, send};

const APPS: &str = "apis/apps/v1";
const RBAC: &str = "apis/rbac.authorization.k8s.io/v1";

/// A service account whose Role, Binding and own name are one.
struct Account<'a> {
    ground: &'a Ground,
    name: String,
    client: Client,
}

impl<'a> Account<'a> {
    /// One that may do nothing.
    async fn make(ground: &'a Ground) -> Self {
        let name = ground.name("account");
        let meta = json!({ "name": name });
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta });
        ground.make("api/v1", "serviceaccounts", &account).await;
        let group = "rbac.authorization.k8s.io";
        let role =
            json!({ "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": meta, "rules": [] });
        ground.make(RBAC, "roles", &role).await;
        let binding = json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": meta,
            "roleRef": { "apiGroup": group, "kind": "Role", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": ground.namespace }],
        });
        ground.make(RBAC, "rolebindings", &binding).await;
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "expirationSeconds": 600 },
        });
        let path = ground.path("api/v1", &format!("serviceaccounts/{name}/token"));
        let (code, granted) = ground.send("POST", &path, "application/json", &request).await;
        assert_eq!(code, 201, "a token was refused: {}", granted["message"]);
        let client = ground.client_with(granted["status"]["token"].as_str().expect("a token"));
        Self { ground, name, client }
    }

    /// Gives it these rules alone, and waits until the server goes by them: until it allows `now` and not `before`.
    /// Both are verb, group, resource with subresource, and name.
    async fn may(&self, rules: &Value, now: Option<[&str; 4]>, before: Option<[&str; 4]>) {
        let (code, told) = self
            .ground
            .patch(RBAC, &format!("roles/{}", self.name), "merge", &json!({ "rules": rules }))
            .await;
        assert_eq!(code, 200, "{told}");
        eventually(CONTROL, "the new rules in force", async || {
            let allows = async |asked: Option<[&str; 4]>, wanted: bool| match asked {
                Some(asked) => self.is_allowed(asked).await == wanted,
                None => true,
            };
            allows(now, true).await && allows(before, false).await
        })
        .await;
    }

    async fn is_allowed(&self, [verb, group, resource, name]: [&str; 4]) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "namespace": self.ground.namespace, "verb": verb, "group": group,
                "resource": resource, "subresource": subresource, "name": name,
            } },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let json_body = [("content-type", "application/json")];
        let (code, told) = send(&self.client, "POST", path, &json_body, review.to_string()).await;
        assert_eq!(code, 201, "{told}");
        told["status"]["allowed"] == true
    }

    async fn patch(&self, path: &str, patch: &Value) -> (u16, Value) {
        let merge = [("content-type", "application/merge-patch+json")];
        send(&self.client, "PATCH", &self.ground.path(APPS, path), &merge, patch.to_string()).await
    }

    /// The status of an exec over a websocket, as the harness opens one.
    async fn exec(&self, pod: &str) -> u16 {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.ground.namespace);
        let parameters = AttachParams::default().stderr(false);
        let opened = tokio::time::timeout(PATIENCE, pods.exec(pod, ["true"], &parameters)).await;
        match opened.expect("an answer in time") {
            Ok(_) => panic!("a command runs in a pod that runs nowhere"),
            Err(Error::Api(status)) => status.code,
            Err(error) => panic!("{error}"),
        }
    }

    async fn leave(self) {
        let Self { ground, name, .. } = self;
        let gone = DeleteParams::background();
        ground.api::<RoleBinding>().delete(&name, &gone).await.unwrap();
        ground.api::<Role>().delete(&name, &gone).await.unwrap();
        ground.api::<ServiceAccount>().delete(&name, &gone).await.unwrap();
    }
}

#[tokio::test]
async fn exec_over_a_websocket_needs_get_and_create() {
    let ground = Ground::find("exec-verbs").await;
    let pod = ground.name("p");
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": pod },
        "spec": {
            "nodeSelector": { "failover.invalid/nowhere": "true" },
            "containers": [{ "name": "main", "image": "registry.invalid/none:1" }],
        },
    });
    ground.make("api/v1", "pods", &object).await;
    let account = Account::make(&ground).await;
    let rules = |verbs: &[&str]| json!([{ "apiGroups": [""], "resources": ["pods/exec"], "verbs": verbs }]);
    let (get, create) = (["get", "", "pods/exec", &pod], ["create", "", "pods/exec", &pod]);
    assert_eq!(account.exec(&pod).await, 403);
    account.may(&rules(&["create"]), Some(create), None).await;
    assert_eq!(account.exec(&pod).await, 403, "the upgrade is a GET");
    account.may(&rules(&["get"]), Some(get), Some(create)).await;
    let version = ground.client.apiserver_version().await.unwrap();
    let minor: u64 = version.minor.trim_end_matches('+').parse().unwrap();
    // Older servers look at one verb alone, and then see that the pod has no node.
    assert_eq!(account.exec(&pod).await == 403, minor >= 35, "of 1.{minor}");
    account.may(&rules(&["get", "create"]), Some(create), None).await;
    assert_eq!(account.exec(&pod).await, 400, "allowed, but there is no node");
    assert_eq!(account.exec(&ground.name("none")).await, 404);
    account.leave().await;
    ground.leave::<Pod>(&[&pod]).await;
}

#[tokio::test]
async fn an_account_may_scale_what_is_named_and_do_nothing_else_to_it() {
    let ground = Ground::find("scale-rights").await;
    let (name, other) = (ground.name("d"), ground.name("other"));
    ground.deployment(&name, 1).await;
    ground.deployment(&other, 1).await;
    let account = Account::make(&ground).await;
    let rules = json!([{
        "apiGroups": ["apps"], "resources": ["deployments/scale"], "resourceNames": [name], "verbs": ["get", "patch"],
    }]);
    account.may(&rules, Some(["patch", "apps", "deployments/scale", &name]), None).await;
    for asked in [
        ["patch", "apps", "deployments", &name],
        ["patch", "apps", "deployments/scale", &other],
        ["update", "apps", "deployments/scale", &name],
    ] {
        assert!(!account.is_allowed(asked).await, "{asked:?}");
    }
    let patch = json!({ "spec": { "replicas": 0 } });
    let (code, scaled) = account.patch(&format!("deployments/{name}/scale"), &patch).await;
    assert_eq!((code, &scaled["spec"]), (200, &json!({})), "{scaled}");
    for path in [format!("deployments/{name}"), format!("deployments/{other}/scale")] {
        let (code, refused) = account.patch(&path, &patch).await;
        assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")), "{path}: {refused}");
    }
    account.leave().await;
    ground.leave::<k8s_openapi::api::apps::v1::Deployment>(&[&name, &other]).await;
}

#[tokio::test]
async fn who_may_see_nothing_is_forbidden_to_look_and_who_is_nobody_is_unauthorized() {
    let ground = Ground::find("no-rights").await;
    let account = Account::make(&ground).await;
    // Of a group that is not there as well: rights come first.
    for (group, plural) in [("api/v1", "configmaps"), ("apis/absent.failover.invalid/v1", "things")] {
        let path = ground.path(group, plural);
        let (code, refused) = send(&account.client, "GET", &path, &[], String::new()).await;
        assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")), "{path}: {refused}");
    }
    let nobody = ground.client_with("nobody");
    let (code, refused) =
        send(&nobody, "GET", &ground.path("api/v1", "configmaps"), &[], String::new()).await;
    assert_eq!((code, &refused["reason"]), (401, &json!("Unauthorized")), "{refused}");
    account.leave().await;
    ground.leave::<ServiceAccount>(&[]).await;
}
