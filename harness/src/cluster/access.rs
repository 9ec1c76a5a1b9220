//! Clients of a cluster's API: an explicit context, no hidden retries, every call bounded.

mod call;
mod guard;
mod open;
mod outline;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{Pod, Secret as ClusterSecret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, ObjectList, Request};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) use self::call::shown;
pub use self::call::{CallError, Failure, Target, Verb};
pub use self::guard::{MayWrite, NoWrite};
pub use self::open::AccessError;
use self::open::Source;
pub use self::outline::SecretOutline;
use super::FIELD_MANAGER;
use super::mutation::Kubectl;
use crate::environment::ObjectName;
use crate::gateway::secret::Secret;

/// How long a call to the API may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);
/// No answer that is read whole is longer.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How often it is asked whether a change may be made, where this program is stopped before it can send it.
const ASKED_AT_MOST: usize = 3;
/// Objects in one page of a list.
const PAGE: u32 = 500;
/// No list has more pages: a home cluster is far below, and memory is bounded.
const PAGES_MAX: usize = 40;

/// The API of one cluster, as one user, for some namespaces. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    /// Shared by all clones: credentials that are read again are so for all.
    clients: Arc<RwLock<Clients>>,
    namespaces: Arc<BTreeSet<String>>,
    /// Where lock and records are, where that is known.
    home: Option<Arc<str>>,
    source: Arc<Source>,
    name: Arc<str>,
    limit: Duration,
    /// Asked before each change.
    guard: Option<Arc<dyn MayWrite>>,
}

#[derive(Clone)]
struct Clients {
    /// For calls that are answered at once.
    plain: Client,
    /// For exec, port-forward, logs and watches, which go on for as long as somebody wants.
    streaming: Client,
    /// How often the credentials were read.
    generation: u64,
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Access").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Access {
    /// What people call the cluster: its context, or `in-cluster`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How lines for `kubectl` begin that a person types for this cluster.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new((!self.source.is_in_cluster()).then(|| self.name()))
    }

    fn clients(&self) -> Clients {
        // Replaced whole.
        self.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The namespaces that may be touched.
    #[must_use]
    pub fn namespaces(&self) -> &BTreeSet<String> {
        &self.namespaces
    }

    /// The namespace that lock and records are in: that of the gateway. None where no environment says so.
    #[must_use]
    pub fn home(&self) -> Option<&str> {
        self.home.as_deref()
    }

    /// How long a call may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// The same with another bound for each call.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same, with somebody who is asked before each single change whether it may be made.
    #[must_use]
    pub fn guarded(mut self, guard: Arc<dyn MayWrite>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// The API of one kind for streams (exec, port-forward, logs, watches), which no time bounds: whoever reads
    /// bounds each step, the first with [`Self::bounded`].
    #[must_use]
    pub fn streaming<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.streaming_client(), namespace)
    }

    /// The client for streams of objects without a namespace.
    #[must_use]
    pub fn streaming_client(&self) -> Client {
        self.clients().streaming
    }

    /// Waits for a call at most as long as any may take, and gives its error our words. A change outside the
    /// namespaces, and one that the guard does not allow, is refused before it is sent.
    ///
    /// # Errors
    /// What kept it from being answered well.
    pub async fn bounded<T>(
        &self,
        verb: Verb,
        target: Target,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, CallError> {
        let limit = self.time_for(verb, &target).await?;
        let failure = match tokio::time::timeout(limit, call).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Failure::of(error),
            Err(_) => Failure::TimedOut(limit),
        };
        Err(CallError { verb, target, failure })
    }

    /// By when a call that is sent now must have been answered. A change outside the namespaces, and one that the guard does
    /// not allow, may not be sent.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) async fn time_for(&self, verb: Verb, target: &Target) -> Result<Duration, CallError> {
        let refused = |failure| CallError { verb, target: target.clone(), failure };
        if verb.changes() && !target.namespace().is_some_and(|namespace| self.namespaces.contains(namespace))
        {
            return Err(refused(Failure::NotAllowed));
        }
        match &self.guard {
            Some(guard) if verb.changes() => {
                let left = allowed(guard.as_ref()).await.map_err(|no| refused(Failure::NoLock(no)))?;
                Ok(self.limit.min(left))
            }
            _ => Ok(self.limit),
        }
    }

    /// Sends a request and reads its answer. kube's own way of doing so logs answers that it cannot read, which may
    /// be Secrets. One that was not done because the credentials are no longer good is sent once more with new ones.
    async fn request<T: DeserializeOwned>(
        &self,
        verb: Verb,
        target: Target,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, CallError> {
        let text = match request {
            Ok(request) => self.text(verb, &target, request).await?,
            Err(error) => {
                let failure = Failure::of(kube::Error::BuildRequest(error));
                return Err(CallError { verb, target, failure });
            }
        };
        serde_json::from_str(&text).map_err(|error| CallError {
            verb,
            target,
            failure: Failure::Unreadable(format!("line {}, column {}", error.line(), error.column())),
        })
    }

    async fn text(
        &self,
        verb: Verb,
        target: &Target,
        request: http::Request<Vec<u8>>,
    ) -> Result<String, CallError> {
        let clients = self.clients();
        let asked = clients.plain.request_text(request.clone());
        let error = match self.bounded(verb, target.clone(), asked).await {
            Err(error) if error.is_unauthenticated() => error,
            answer => return answer,
        };
        if self.renew(clients.generation).await.is_err() {
            return Err(error);
        }
        self.bounded(verb, target.clone(), self.clients().plain.request_text(request)).await
    }

    /// One object.
    ///
    /// # Errors
    /// Where it cannot be read, or is not there.
    pub async fn get<K>(&self, name: &ObjectName) -> Result<K, CallError>
    where
        K: Resource + DeserializeOwned,
        K::DynamicType: Default,
    {
        self.get_of(&K::DynamicType::default(), name).await
    }

    /// [`Self::get`] of a kind that is known by its name only.
    ///
    /// # Errors
    /// Where it cannot be read, or is not there.
    pub async fn get_of<K>(&self, kind: &K::DynamicType, name: &ObjectName) -> Result<K, CallError>
    where
        K: Resource + DeserializeOwned,
    {
        let request = requests::<K>(kind, Some(&name.namespace)).get(&name.name, &Default::default());
        self.request(Verb::Get, Target::of::<K>(kind, name), request).await
    }

    /// One object of the whole cluster, without a namespace.
    ///
    /// # Errors
    /// Where it cannot be read, or is not there.
    pub async fn whole<K>(&self, name: &str) -> Result<K, CallError>
    where
        K: Resource + DeserializeOwned,
        K::DynamicType: Default,
    {
        let kind = K::DynamicType::default();
        let request = requests::<K>(&kind, None).get(name, &Default::default());
        self.request(Verb::Get, Target::whole::<K>(&kind, name), request).await
    }

    /// One object, or `None` where it is not there.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub async fn find<K>(&self, name: &ObjectName) -> Result<Option<K>, CallError>
    where
        K: Resource + DeserializeOwned,
        K::DynamicType: Default,
    {
        found(self.get(name).await)
    }

    /// The objects of a namespace (`None`: of the whole cluster) with these labels, all where `labels` is empty.
    ///
    /// # Errors
    /// Where they cannot be read, or are more than anybody reads.
    pub async fn list<K>(&self, namespace: Option<&str>, labels: &str) -> Result<Vec<K>, CallError>
    where
        K: Resource + DeserializeOwned + Clone,
        K::DynamicType: Default,
    {
        self.list_of(&K::DynamicType::default(), namespace, labels).await
    }

    /// [`Self::list`] of a kind that is known by its name only.
    ///
    /// # Errors
    /// Where they cannot be read, or are more than anybody reads.
    pub async fn list_of<K>(
        &self,
        kind: &K::DynamicType,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<K>, CallError>
    where
        K: Resource + DeserializeOwned + Clone,
    {
        let target = Target::all::<K>(kind, namespace);
        let requests = requests::<K>(kind, namespace);
        let mut parameters = ListParams::default().limit(PAGE).labels(labels);
        if labels.is_empty() {
            parameters.label_selector = None;
        }
        let mut objects = Vec::new();
        for _ in 0..PAGES_MAX {
            let page: ObjectList<K> =
                self.request(Verb::List, target.clone(), requests.list(&parameters)).await?;
            objects.extend(page.items);
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => parameters = parameters.continue_token(&next),
                None => return Ok(objects),
            }
        }
        Err(CallError { verb: Verb::List, target, failure: Failure::TooMany(objects.len()) })
    }

    /// Whether the cluster has a kind at all: a version of a group, with these objects in it. Everybody may ask that.
    ///
    /// # Errors
    /// Where that is not answered.
    pub async fn serves(&self, version: &str, plural: &str) -> Result<bool, CallError> {
        let target = Target::outside(format!("what {version} has"));
        let request = Request::new(format!("/apis/{version}")).list(&ListParams::default());
        let answer = found(self.request::<APIResourceList>(Verb::Get, target, request).await)?;
        Ok(answer.is_some_and(|all| all.resources.iter().any(|one| one.name == plural)))
    }

    /// Makes an object.
    ///
    /// # Errors
    /// Where it was not made, or that is not known ([`CallError::is_outcome_unknown`]).
    pub async fn create<K>(&self, name: &ObjectName, object: &K) -> Result<K, CallError>
    where
        K: Resource + Serialize + DeserializeOwned,
        K::DynamicType: Default,
    {
        self.post(name, object, false).await
    }

    /// Asks whether an object would be made, with all that the cluster checks; nothing is kept.
    ///
    /// # Errors
    /// Where it would not be made, or that cannot be told.
    pub async fn rehearse_create<K>(&self, name: &ObjectName, object: &K) -> Result<K, CallError>
    where
        K: Resource + Serialize + DeserializeOwned,
        K::DynamicType: Default,
    {
        self.post(name, object, true).await
    }

    async fn post<K>(&self, name: &ObjectName, object: &K, dry_run: bool) -> Result<K, CallError>
    where
        K: Resource + Serialize + DeserializeOwned,
        K::DynamicType: Default,
    {
        let kind = K::DynamicType::default();
        let target = Target::of::<K>(&kind, name);
        let data = encoded(Verb::Create, &target, object)?;
        let request = requests::<K>(&kind, Some(&name.namespace)).create(&written(dry_run), data);
        self.request(Verb::Create, target, request).await
    }

    /// Replaces an object that was read: it is refused (409) where the object has changed since, by the
    /// `resourceVersion` that it holds.
    ///
    /// # Errors
    /// Where it was not replaced, or that is not known.
    pub async fn replace<K>(&self, name: &ObjectName, object: &K) -> Result<K, CallError>
    where
        K: Resource + Serialize + DeserializeOwned,
        K::DynamicType: Default,
    {
        let kind = K::DynamicType::default();
        let target = Target::of::<K>(&kind, name);
        let data = encoded(Verb::Update, &target, object)?;
        let request = requests::<K>(&kind, Some(&name.namespace)).replace(&name.name, &written(false), data);
        self.request(Verb::Update, target, request).await
    }

    /// Deletes an object, and in the background what it owns, if it is still the one with this uid. True where it was
    /// there.
    ///
    /// # Errors
    /// Where that is not known, or another object has taken its name (409).
    pub async fn delete<K>(&self, name: &ObjectName, uid: &str) -> Result<bool, CallError>
    where
        K: Resource,
        K::DynamicType: Default,
    {
        let kind = K::DynamicType::default();
        let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let request = requests::<K>(&kind, Some(&name.namespace))
            .delete(&name.name, &DeleteParams::background().preconditions(only));
        // The object, or a status: both say that it is going.
        let gone: Result<serde_json::Value, _> =
            self.request(Verb::Delete, Target::of::<K>(&kind, name), request).await;
        Ok(found(gone)?.is_some())
    }

    /// Changes parts of an object by a merge patch, which should hold the `resourceVersion` that was read.
    ///
    /// # Errors
    /// Where it was not changed, or that is not known.
    pub async fn merge<K>(
        &self,
        kind: &K::DynamicType,
        name: &ObjectName,
        patch: &serde_json::Value,
    ) -> Result<K, CallError>
    where
        K: Resource + DeserializeOwned,
    {
        let request = requests::<K>(kind, Some(&name.namespace)).patch(
            &name.name,
            &field_manager(),
            &Patch::Merge(patch),
        );
        self.request(Verb::Patch, Target::of::<K>(kind, name), request).await
    }

    /// The scale of a Deployment, without the right to read or change anything else of it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn scale(&self, deployment: &ObjectName) -> Result<Scale, CallError> {
        let request = deployments(deployment).get_subresource("scale", &deployment.name);
        self.request(Verb::Get, Target::scale(deployment), request).await
    }

    /// Changes the count of a Deployment's scale, if it is still at this `resourceVersion`.
    ///
    /// # Errors
    /// Where it was not changed (409: something else was), or that is not known.
    pub async fn set_scale(
        &self,
        deployment: &ObjectName,
        replicas: i32,
        resource_version: &str,
    ) -> Result<Scale, CallError> {
        self.patch_scale(deployment, replicas, resource_version, false).await
    }

    /// Asks whether [`Self::set_scale`] would be done, with all that the cluster checks; nothing is kept.
    ///
    /// # Errors
    /// Where it would not be done, or that cannot be told.
    pub async fn rehearse_scale(
        &self,
        deployment: &ObjectName,
        replicas: i32,
        resource_version: &str,
    ) -> Result<Scale, CallError> {
        self.patch_scale(deployment, replicas, resource_version, true).await
    }

    async fn patch_scale(
        &self,
        deployment: &ObjectName,
        replicas: i32,
        resource_version: &str,
        dry_run: bool,
    ) -> Result<Scale, CallError> {
        let patch = serde_json::json!({
            "metadata": { "resourceVersion": resource_version }, "spec": { "replicas": replicas }
        });
        let request = deployments(deployment).patch_subresource(
            "scale",
            &deployment.name,
            &PatchParams { dry_run, ..field_manager() },
            &Patch::Merge(&patch),
        );
        self.request(Verb::Patch, Target::scale(deployment), request).await
    }

    /// Adds ephemeral containers to a pod, by a strategic merge patch; nobody can take them out again.
    ///
    /// # Errors
    /// Where they were not added, or that is not known.
    pub async fn add_containers(
        &self,
        pod: &ObjectName,
        patch: &serde_json::Value,
    ) -> Result<Pod, CallError> {
        self.patch_containers(pod, patch, false).await
    }

    /// Asks whether [`Self::add_containers`] would be done, with all that the cluster checks; nothing is kept.
    ///
    /// # Errors
    /// Where it would not be done, or that cannot be told.
    pub async fn rehearse_containers(
        &self,
        pod: &ObjectName,
        patch: &serde_json::Value,
    ) -> Result<Pod, CallError> {
        self.patch_containers(pod, patch, true).await
    }

    async fn patch_containers(
        &self,
        pod: &ObjectName,
        patch: &serde_json::Value,
        dry_run: bool,
    ) -> Result<Pod, CallError> {
        let request = requests::<Pod>(&(), Some(&pod.namespace)).patch_subresource(
            "ephemeralcontainers",
            &pod.name,
            &PatchParams { dry_run, ..field_manager() },
            &Patch::Strategic(patch),
        );
        self.request(Verb::Patch, Target::new("pods/ephemeralcontainers", pod), request).await
    }

    /// Asks whether this user may do something.
    ///
    /// # Errors
    /// Where that is not answered.
    pub async fn review(
        &self,
        review: &SelfSubjectAccessReview,
    ) -> Result<SelfSubjectAccessReview, CallError> {
        let target = Target::all::<SelfSubjectAccessReview>(&(), None);
        let data = serde_json::to_vec(review).map_err(|error| CallError {
            verb: Verb::Review,
            target: target.clone(),
            failure: Failure::Unreadable(error.to_string()),
        })?;
        let request = requests::<SelfSubjectAccessReview>(&(), None).create(&PostParams::default(), data);
        self.request(Verb::Review, target, request).await
    }

    /// One field of a Secret, as text.
    ///
    /// # Errors
    /// Where it cannot be read, is not there, or is no text.
    pub async fn secret(&self, name: &ObjectName, field: &str) -> Result<Secret, CallError> {
        let secret: ClusterSecret = self.get(name).await?;
        let value = secret.data.unwrap_or_default().remove(field);
        let text = value.and_then(|value| String::from_utf8(value.0).ok());
        // A line feed at the end comes from files that people made Secrets of.
        text.map(|text| Secret::new(text.trim_end_matches(['\r', '\n']))).ok_or_else(|| CallError {
            verb: Verb::Get,
            target: Target::of::<ClusterSecret>(&(), name),
            failure: Failure::Unreadable(format!("there is no text in its field {field}")),
        })
    }
}

/// By when a change must have been answered that is sent now. Nothing is waited for between the last look at the clocks
/// and the sending: whoever was stopped since it was allowed asks again.
async fn allowed(guard: &dyn MayWrite) -> Result<Duration, NoWrite> {
    for _ in 0..ASKED_AT_MOST {
        guard.may_write().await?;
        if let Some(left) = guard.left() {
            return Ok(left);
        }
    }
    let why = "each time it was allowed, this program was stopped before it could write".to_owned();
    Err(NoWrite { why, is_lost: false })
}

fn requests<K: Resource>(kind: &K::DynamicType, namespace: Option<&str>) -> Request {
    Request::new(K::url_path(kind, namespace))
}

fn deployments(name: &ObjectName) -> Request {
    requests::<k8s_openapi::api::apps::v1::Deployment>(&(), Some(&name.namespace))
}

/// Who writes, and whether anything is kept of it.
fn written(dry_run: bool) -> PostParams {
    PostParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()) }
}

/// An object as it is sent.
fn encoded<K: Serialize>(verb: Verb, target: &Target, object: &K) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(object).map_err(|error| CallError {
        verb,
        target: target.clone(),
        failure: Failure::Unreadable(error.to_string()),
    })
}

fn field_manager() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// What is there, where "there is none" is an answer.
pub(crate) fn found<T>(answer: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
