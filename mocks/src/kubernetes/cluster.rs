//! The mock cluster: everything about it in one place.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde_json::{Value, json};

use super::api::{Access, Api, Audit, Chaos, Listener, Rule, User, account_token};
use super::clock::Clock;
use super::pod_io::PodIo;
use super::resources::{CrdGroup, NAMESPACES};
use super::store::{Store, Writer};
use crate::gateway::Secret;
use crate::time::Epoch;

/// The name of the context, the cluster and the user of the kubeconfig.
pub const CONTEXT: &str = "mock";
/// The user that may do everything.
pub const ADMIN: &str = "mock-admin";

/// What cluster to start.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// All chance comes from it.
    pub seed: u64,
    /// The zero of the run's clock.
    pub epoch: Epoch,
    /// Namespaces that are there from the start; `default` and `kube-system` always are.
    pub namespaces: Vec<String>,
    /// Groups of custom resources that it has.
    pub crds: Vec<CrdGroup>,
    /// Users beside the one that may do everything.
    pub users: Vec<User>,
    /// Whether a second port takes every request without a token for one of the user that may do everything. kubectl
    /// needs it: it sends no token over plain HTTP.
    pub open_port: bool,
}

impl ClusterOptions {
    /// A cluster with these namespaces and no custom resources.
    #[must_use]
    pub fn new(epoch: Epoch, seed: u64, namespaces: &[&str]) -> Self {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        Self { seed, epoch, namespaces, crds: Vec::new(), users: Vec::new(), open_port: false }
    }
}

/// A mock cluster that runs until it is shut down or dropped.
pub struct Cluster {
    store: Store,
    api: Arc<Api>,
    listener: Listener,
    open: Option<Listener>,
    admin: User,
    users: Vec<User>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cluster").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts an API server on a free port of 127.0.0.1. `pod_io` answers exec, port-forward and log; where it is
    /// none these are refused.
    ///
    /// # Errors
    ///
    /// No port can be had.
    pub async fn start(
        options: ClusterOptions,
        pod_io: impl FnOnce(&Store) -> Option<Arc<dyn PodIo>>,
    ) -> io::Result<Self> {
        let store = Store::new(options.seed, Clock::new(options.epoch));
        let always = ["default".to_owned(), "kube-system".to_owned()];
        for name in always.iter().chain(&options.namespaces) {
            let namespace = json!({ "metadata": { "name": name } });
            let made = store.create(&NAMESPACES, "", namespace, Writer::of_object("kube-apiserver"));
            // A namespace that is named twice is one.
            if let Err(refusal) = made
                && refusal.code() != http::StatusCode::CONFLICT
            {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, refusal));
            }
        }
        let admin = User {
            name: ADMIN.to_owned(),
            // A token guards nothing here but against a client that sends none.
            token: Secret::new(format!("mock-admin-{:016x}", options.seed)),
            rules: vec![Rule::everything()],
        };
        let mut users = options.users;
        users.push(admin.clone());
        let pod_io = pod_io(&store);
        let api = Arc::new(Api::new(store.clone(), options.crds, users.clone(), pod_io));
        let listener = Listener::start(Arc::clone(&api), None).await?;
        let open = match options.open_port {
            true => Some(Listener::start(Arc::clone(&api), Some(admin.token.clone())).await?),
            false => None,
        };
        Ok(Self { store, api, listener, open, admin, users })
    }

    /// The URL of the API server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// All objects.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What goes wrong on purpose.
    #[must_use]
    pub fn chaos(&self) -> &Chaos {
        &self.api.chaos
    }

    /// Who asked for what.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.api.audit
    }

    /// Gives a user other rules from now on. False where there is no such user.
    pub fn set_rules(&self, user: &str, rules: Vec<Rule>) -> bool {
        self.access().set_rules(user, rules)
    }

    fn access(&self) -> &Access {
        &self.api.access
    }

    /// A kubeconfig for the user that may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> Value {
        self.kubeconfig_of(&self.admin)
    }

    /// A kubeconfig for kubectl, where the cluster has an open port.
    #[must_use]
    pub fn kubectl_config(&self) -> Option<Value> {
        let open = self.open.as_ref()?;
        let mut config = self.kubeconfig();
        config["clusters"][0]["cluster"]["server"] = format!("http://{}", open.address()).into();
        config["users"][0]["user"] = json!({});
        Some(config)
    }

    /// A kubeconfig for one of the users.
    #[must_use]
    pub fn kubeconfig_for(&self, user: &str) -> Option<Value> {
        self.users.iter().find(|known| known.name == user).map(|user| self.kubeconfig_of(user))
    }

    /// A kubeconfig for a service account, which may do what the roles in the store allow it at each moment; none where
    /// there is no such account.
    #[must_use]
    pub fn kubeconfig_of_account(&self, namespace: &str, name: &str) -> Option<Value> {
        Some(kubeconfig(&self.url(), &account_token(&self.store, namespace, name)?))
    }

    fn kubeconfig_of(&self, user: &User) -> Value {
        kubeconfig(&self.url(), &user.token)
    }

    /// Ends the API server and everything that it runs, and waits for it.
    pub async fn shutdown(&self) {
        self.listener.shutdown().await;
        if let Some(open) = &self.open {
            open.shutdown().await;
        }
    }
}

/// A kubeconfig for whoever has this token.
pub(crate) fn kubeconfig(url: &str, token: &Secret) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": CONTEXT, "cluster": { "server": url } }],
        "users": [{ "name": CONTEXT, "user": { "token": token.expose() } }],
        "contexts": [{ "name": CONTEXT, "context": { "cluster": CONTEXT, "user": CONTEXT, "namespace": "default" } }],
        "current-context": CONTEXT,
    })
}
