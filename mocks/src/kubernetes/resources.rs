//! The kinds of objects that the mock cluster knows.

use std::fmt;

/// Custom resources that only some clusters have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CrdGroup {
    /// `keda.sh`: ScaledObjects.
    Keda,
    /// `argoproj.io`: Applications.
    Argo,
    /// `kustomize.toolkit.fluxcd.io` and `helm.toolkit.fluxcd.io`.
    Flux,
    /// `kube-green.com`: SleepInfos. They are only objects here: nobody acts on them.
    KubeGreen,
}

/// One kind of objects. There is one static of each, and they are compared by their names.
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The one version that is served.
    pub version: &'static str,
    /// The name in paths, for example `deployments`.
    pub plural: &'static str,
    /// The name of one, for example `deployment`.
    pub singular: &'static str,
    /// The name in objects, for example `Deployment`.
    pub kind: &'static str,
    /// Short names for people.
    pub short: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// What stands below an object's path, for example `status`.
    pub subresources: &'static [&'static str],
    /// The option that switches it on; none for what every cluster has.
    pub crd: Option<CrdGroup>,
    /// Whether `kubectl get all` shows it.
    pub in_all: bool,
}

impl Resource {
    const fn new(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
        kind: &'static str,
    ) -> Self {
        Self {
            group,
            version,
            plural,
            singular: "",
            kind,
            short: &[],
            namespaced: true,
            subresources: &[],
            crd: None,
            in_all: false,
        }
    }

    const fn named(mut self, singular: &'static str, short: &'static [&'static str]) -> Self {
        self.singular = singular;
        self.short = short;
        self
    }

    const fn of_cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn with(mut self, subresources: &'static [&'static str]) -> Self {
        self.subresources = subresources;
        self
    }

    const fn in_all(mut self) -> Self {
        self.in_all = true;
        self
    }

    const fn of(mut self, crd: CrdGroup) -> Self {
        self.crd = Some(crd);
        self.subresources = &["status"];
        self
    }

    /// `apiVersion` of its objects: `apps/v1`, or `v1` for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether its objects have this subresource.
    #[must_use]
    pub fn has(&self, subresource: &str) -> bool {
        self.subresources.contains(&subresource)
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        (self.group, self.plural) == (other.group, other.plural)
    }
}

impl Eq for Resource {}

impl PartialOrd for Resource {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Resource {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.group, self.plural).cmp(&(other.group, other.plural))
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.api_version(), self.plural)
    }
}

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $resource:expr;)*) => {
        $($(#[$doc])* pub static $name: Resource = $resource;)*
        /// Every kind, in the order of discovery.
        pub static ALL: &[&Resource] = &[$(&$name),*];
    };
}

const STATUS: &[&str] = &["status"];
const SCALED: &[&str] = &["scale", "status"];

resources! {
    /// Key-value data.
    CONFIG_MAPS = Resource::new("", "v1", "configmaps", "ConfigMap").named("configmap", &["cm"]);
    /// What happened to objects, for people.
    EVENTS = Resource::new("", "v1", "events", "Event").named("event", &["ev"]);
    /// Namespaces.
    NAMESPACES = Resource::new("", "v1", "namespaces", "Namespace").named("namespace", &["ns"]).of_cluster().with(STATUS);
    /// Machines.
    NODES = Resource::new("", "v1", "nodes", "Node").named("node", &["no"]).of_cluster().with(STATUS);
    /// Storage that is asked for.
    PERSISTENT_VOLUME_CLAIMS = Resource::new("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
        .named("persistentvolumeclaim", &["pvc"]).with(STATUS);
    /// Pods.
    PODS = Resource::new("", "v1", "pods", "Pod").named("pod", &["po"]).in_all()
        .with(&["ephemeralcontainers", "exec", "log", "portforward", "status"]);
    /// Key-value data that is not shown.
    SECRETS = Resource::new("", "v1", "secrets", "Secret").named("secret", &[]);
    /// Whom pods are, towards the API.
    SERVICE_ACCOUNTS = Resource::new("", "v1", "serviceaccounts", "ServiceAccount").named("serviceaccount", &["sa"])
        .with(&["token"]);
    /// Stable addresses before pods.
    SERVICES = Resource::new("", "v1", "services", "Service").named("service", &["svc"]).in_all().with(STATUS);
    /// Deployments.
    DEPLOYMENTS = Resource::new("apps", "v1", "deployments", "Deployment").named("deployment", &["deploy"]).in_all().with(SCALED);
    /// What deployments make pods with.
    REPLICA_SETS = Resource::new("apps", "v1", "replicasets", "ReplicaSet").named("replicaset", &["rs"]).in_all().with(SCALED);
    /// Stateful sets.
    STATEFUL_SETS = Resource::new("apps", "v1", "statefulsets", "StatefulSet").named("statefulset", &["sts"]).in_all().with(SCALED);
    /// Autoscalers.
    HORIZONTAL_POD_AUTOSCALERS =
        Resource::new("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
            .named("horizontalpodautoscaler", &["hpa"]).in_all().with(STATUS);
    /// Jobs by the clock.
    CRON_JOBS = Resource::new("batch", "v1", "cronjobs", "CronJob").named("cronjob", &["cj"]).in_all().with(STATUS);
    /// Jobs.
    JOBS = Resource::new("batch", "v1", "jobs", "Job").named("job", &[]).in_all().with(STATUS);
    /// Leases.
    LEASES = Resource::new("coordination.k8s.io", "v1", "leases", "Lease").named("lease", &[]);
    /// Where a service's pods are.
    ENDPOINT_SLICES = Resource::new("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice").named("endpointslice", &[]);
    /// Who may talk to whom.
    NETWORK_POLICIES = Resource::new("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy").named("networkpolicy", &["netpol"]);
    /// Who has which role everywhere.
    CLUSTER_ROLE_BINDINGS = Resource::new("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding")
        .named("clusterrolebinding", &[]).of_cluster();
    /// What may be done anywhere, or to what has no namespace.
    CLUSTER_ROLES = Resource::new("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole")
        .named("clusterrole", &[]).of_cluster();
    /// Who has which role.
    ROLE_BINDINGS = Resource::new("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding").named("rolebinding", &[]);
    /// What may be done.
    ROLES = Resource::new("rbac.authorization.k8s.io", "v1", "roles", "Role").named("role", &[]);
    /// Argo CD's applications.
    APPLICATIONS = Resource::new("argoproj.io", "v1alpha1", "applications", "Application")
        .named("application", &["app", "apps"]).of(CrdGroup::Argo);
    /// Flux's Helm releases.
    HELM_RELEASES = Resource::new("helm.toolkit.fluxcd.io", "v2", "helmreleases", "HelmRelease")
        .named("helmrelease", &["hr"]).of(CrdGroup::Flux);
    /// When kube-green stops the workloads of a namespace.
    SLEEP_INFOS = Resource::new("kube-green.com", "v1alpha1", "sleepinfos", "SleepInfo")
        .named("sleepinfo", &[]).of(CrdGroup::KubeGreen);
    /// KEDA's autoscaling of one workload.
    SCALED_OBJECTS = Resource::new("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
        .named("scaledobject", &["so"]).of(CrdGroup::Keda);
    /// Flux's kustomizations.
    KUSTOMIZATIONS = Resource::new("kustomize.toolkit.fluxcd.io", "v1", "kustomizations", "Kustomization")
        .named("kustomization", &["ks"]).of(CrdGroup::Flux);
}

/// The kind that a path names.
#[must_use]
pub fn by_path(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    let is_it = |resource: &&&Resource| {
        (resource.group, resource.version, resource.plural) == (group, version, plural)
    };
    ALL.iter().find(is_it).copied()
}

/// The kind that an object names.
#[must_use]
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    ALL.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version).copied()
}
