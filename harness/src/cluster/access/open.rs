//! From an environment to clients.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http_body_util::Limited;
use hyper_util::client::proxy::matcher::Matcher;
use kube::Config;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::util::MapResponseLayer;

use super::call::chain;
use super::{ANSWER_BYTES_MAX, Access, CALL_LIMIT, Clients};
use crate::environment::{Cluster, Reach};

/// A server on a home network answers a connect far sooner.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no client. None of these shows a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Not in a pod, or its service account is not mounted.
    #[error("the cluster cannot be reached from inside: {reason}")]
    NotInCluster {
        /// In words.
        reason: String,
    },
    /// The kubeconfig cannot be read.
    #[error("the kubeconfig {file} cannot be read: {reason}")]
    Kubeconfig {
        /// Which.
        file: String,
        /// In words.
        reason: String,
    },
    /// The kubeconfig has no such context.
    #[error("the kubeconfig {file} has no context {context}; it has: {known}")]
    NoContext {
        /// Which.
        file: String,
        /// As the environment names it.
        context: String,
        /// Those that there are.
        known: String,
    },
    /// The context cannot be used.
    #[error("the context {context} cannot be used: {reason}")]
    Unusable {
        /// As the environment names it.
        context: String,
        /// In words.
        reason: String,
    },
    /// Whoever answers there could be anybody.
    #[error(
        "the context {context} of the kubeconfig {file} skips the check of its server: take \
         insecure-skip-tls-verify out of its cluster {cluster}, and give it certificate-authority-data"
    )]
    Unverified {
        /// Which.
        file: String,
        /// As the environment names it.
        context: String,
        /// The cluster of the context.
        cluster: String,
    },
    /// Credentials and answers would be open to whoever is between.
    #[error(
        "the context {context} of the kubeconfig {file} goes to its server without TLS: give its cluster {cluster} an \
         https:// server and certificate-authority-data; only a server on this machine may do without"
    )]
    Unencrypted {
        /// Which.
        file: String,
        /// As the environment names it.
        context: String,
        /// The cluster of the context.
        cluster: String,
    },
    /// What is sent without TLS would leave this machine by way of a proxy.
    #[error(
        "the context {context} of the kubeconfig {file} goes to its server without TLS, and through a proxy: take \
         proxy-url out of its cluster {cluster}, or give it an https:// server and certificate-authority-data"
    )]
    UnencryptedByProxy {
        /// Which.
        file: String,
        /// As the environment names it.
        context: String,
        /// The cluster of the context.
        cluster: String,
    },
    /// The mock cluster of the environment has not been started.
    #[error("the mock cluster of this environment is not running")]
    NotStarted,
}

impl Access {
    /// The API of an environment's cluster. `embedded` is the kubeconfig of the mock cluster, for an environment that
    /// has one.
    ///
    /// # Errors
    /// Where there is nothing to connect with. Nothing is asked of the cluster yet.
    pub async fn open(cluster: &Cluster, embedded: Option<&serde_json::Value>) -> Result<Self, AccessError> {
        let source = match &cluster.reach {
            Reach::InCluster => Source::InCluster,
            Reach::Context { context, kubeconfig } => {
                Source::File { file: kubeconfig.clone(), context: context.clone() }
            }
            Reach::Embedded { context, .. } => {
                let value = embedded.ok_or(AccessError::NotStarted)?.clone();
                Source::Memory { value, context: context.clone() }
            }
        };
        let home = Some(cluster.gateway.deployment.namespace.as_str().into());
        Ok(Self { home, ..Self::of(source, &cluster.namespaces).await? })
    }

    /// A context of a kubeconfig (by default of `KUBECONFIG`, else `~/.kube/config`), to read and nothing else: there
    /// is no namespace in which anything may be changed.
    ///
    /// # Errors
    /// Where there is nothing to connect with. Nothing is asked of the cluster yet.
    pub async fn to_read(context: &str, kubeconfig: Option<PathBuf>) -> Result<Self, AccessError> {
        Self::of(Source::File { file: kubeconfig, context: context.to_owned() }, &[]).await
    }

    /// A context of a kubeconfig in hand.
    ///
    /// # Errors
    /// Where there is nothing to connect with.
    pub async fn with_kubeconfig(
        kubeconfig: &serde_json::Value,
        context: &str,
        namespaces: &[String],
    ) -> Result<Self, AccessError> {
        let source = Source::Memory { value: kubeconfig.clone(), context: context.to_owned() };
        Self::of(source, namespaces).await
    }

    /// A server of a test, with changes in the namespace `ml`.
    #[cfg(test)]
    pub(crate) async fn to_server(url: &str) -> Self {
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "mock",
            "clusters": [{ "name": "c", "cluster": { "server": url } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "mock", "context": { "cluster": "c", "user": "u" } }],
        });
        Self::with_kubeconfig(&kubeconfig, "mock", &["ml".to_owned()])
            .await
            .expect("a kubeconfig that can be used")
    }

    /// Reads the credentials again, for all clones; not where somebody has done so since `generation` was used.
    pub(super) async fn renew(&self, generation: u64) -> Result<(), AccessError> {
        if self.clients().generation != generation {
            return Ok(());
        }
        let renewed = clients(self.source.config().await?, &self.name, generation + 1).await?;
        let mut known = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if known.generation == generation {
            *known = renewed;
        }
        Ok(())
    }

    async fn of(source: Source, namespaces: &[String]) -> Result<Self, AccessError> {
        let name = source.name();
        let clients = clients(source.config().await?, name, 0).await?;
        Ok(Self {
            clients: Arc::new(RwLock::new(clients)),
            namespaces: Arc::new(namespaces.iter().cloned().collect()),
            home: None,
            name: name.into(),
            source: Arc::new(source),
            limit: CALL_LIMIT,
            guard: None,
        })
    }
}

/// Where clients get what they connect with. It may hold credentials, so it is never shown.
pub(super) enum Source {
    /// The service account of the pod.
    InCluster,
    /// A context of a file, by default of `KUBECONFIG`, else `~/.kube/config`.
    File {
        /// Which.
        file: Option<PathBuf>,
        /// Its context.
        context: String,
    },
    /// A context of a kubeconfig in hand.
    Memory {
        /// What it holds.
        value: serde_json::Value,
        /// Its context.
        context: String,
    },
}

impl Source {
    pub(super) fn is_in_cluster(&self) -> bool {
        matches!(self, Self::InCluster)
    }

    fn name(&self) -> &str {
        match self {
            Self::InCluster => "in-cluster",
            Self::File { context, .. } | Self::Memory { context, .. } => context,
        }
    }

    /// As it says now.
    async fn config(&self) -> Result<Config, AccessError> {
        let mut config = match self {
            Self::InCluster => {
                Config::incluster().map_err(|error| AccessError::NotInCluster { reason: chain(&error) })?
            }
            Self::File { file, context } => {
                let (kubeconfig, file) = read(file.clone()).await?;
                of_context(kubeconfig, &file, context).await?
            }
            Self::Memory { value, context } => {
                let file = "in memory";
                // What it says is not shown: it holds keys.
                let kubeconfig =
                    serde_json::from_value(value.clone()).map_err(|_| AccessError::Kubeconfig {
                        file: file.to_owned(),
                        reason: "it is no kubeconfig".to_owned(),
                    })?;
                of_context(kubeconfig, file, context).await?
            }
        };
        // By default a 503 that stays takes five minutes to surface, and a repeated POST finds its own object.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_LIMIT);
        // Each call has its own limit; a write to a socket has none but this.
        config.write_timeout = Some(CALL_LIMIT);
        Ok(config)
    }
}

async fn of_context(kubeconfig: Kubeconfig, file: &str, context: &str) -> Result<Config, AccessError> {
    let named = kubeconfig.contexts.iter().find(|named| named.name == context);
    let Some(named) = named else {
        let known: Vec<&str> = kubeconfig.contexts.iter().map(|named| named.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(AccessError::NoContext {
            file: file.to_owned(),
            context: context.to_owned(),
            known: super::call::shown(&known),
        });
    };
    let cluster = named.context.as_ref().map(|context| context.cluster.clone());
    let is_unverified = kubeconfig.clusters.iter().any(|named| {
        Some(&named.name) == cluster.as_ref()
            && named.cluster.as_ref().is_some_and(|cluster| cluster.insecure_skip_tls_verify == Some(true))
    });
    if is_unverified {
        return Err(AccessError::Unverified {
            file: file.to_owned(),
            context: context.to_owned(),
            cluster: super::call::shown(&cluster.unwrap_or_default()),
        });
    }
    let own_proxy = kubeconfig.clusters.iter().any(|named| {
        Some(&named.name) == cluster.as_ref()
            && named.cluster.as_ref().is_some_and(|cluster| cluster.proxy_url.is_some())
    });
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| AccessError::Unusable { context: context.to_owned(), reason: chain(&error) })?;
    let is_encrypted = config.cluster_url.scheme() == Some(&http::uri::Scheme::HTTPS);
    if !is_encrypted && !is_loopback(&config) {
        return Err(AccessError::Unencrypted {
            file: file.to_owned(),
            context: context.to_owned(),
            cluster: super::call::shown(&cluster.unwrap_or_default()),
        });
    }
    // Loopback is then that of the proxy's machine, if it is heard at all on the way there.
    if !is_encrypted && own_proxy {
        return Err(AccessError::UnencryptedByProxy {
            file: file.to_owned(),
            context: context.to_owned(),
            cluster: super::call::shown(&cluster.unwrap_or_default()),
        });
    }
    // kube takes a proxy from the environment whatever NO_PROXY says of the server.
    if !own_proxy && (is_loopback(&config) || Matcher::from_env().intercept(&config.cluster_url).is_none()) {
        config.proxy_url = None;
    }
    Ok(config)
}

/// The client for plain calls and the one for streams.
async fn clients(config: Config, name: &str, generation: u64) -> Result<Clients, AccessError> {
    crate::http::install_tls();
    let unusable = |reason| AccessError::Unusable { context: name.to_owned(), reason };
    let (mut streams, mut calls) = (config.clone(), config);
    streams.read_timeout = None;
    calls.read_timeout = Some(CALL_LIMIT);
    calls.reset_reader_on_write = true;
    // A kubeconfig may name a program that gives credentials, which runs here and takes its time.
    let build = tokio::task::spawn_blocking(move || {
        let bounded = MapResponseLayer::new(|answer: http::Response<_>| {
            answer.map(|body| Limited::new(body, ANSWER_BYTES_MAX))
        });
        let plain = ClientBuilder::try_from(calls)?.with_layer(&bounded).build();
        let streaming = ClientBuilder::try_from(streams)?.build();
        Ok::<_, kube::Error>(Clients { plain, streaming, generation })
    });
    match tokio::time::timeout(CALL_LIMIT, build).await {
        Ok(Ok(Ok(clients))) => Ok(clients),
        Ok(Ok(Err(error))) => Err(unusable(without_secrets(&error))),
        Ok(Err(_)) => Err(unusable("its credentials cannot be set up".to_owned())),
        Err(_) => Err(unusable(format!("its credentials were not there within {} s", CALL_LIMIT.as_secs()))),
    }
}

/// The URL of a proxy may hold a password, and a parser shows the line of a key that it does not understand.
fn without_secrets(error: &kube::Error) -> String {
    match error {
        kube::Error::ProxyProtocolUnsupported { .. } | kube::Error::ProxyProtocolDisabled { .. } => {
            "its proxy is neither http:// nor https://".to_owned()
        }
        kube::Error::RustlsTls(_) => "its certificates, or its key, cannot be used".to_owned(),
        error => chain(error),
    }
}

fn is_loopback(config: &Config) -> bool {
    let host = config.cluster_url.host().unwrap_or_default();
    host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A kubeconfig, and what to call it.
async fn read(file: Option<PathBuf>) -> Result<(Kubeconfig, String), AccessError> {
    let name = file
        .as_ref()
        .map_or_else(|| "of KUBECONFIG or ~/.kube/config".to_owned(), |file| file.display().to_string());
    let read = tokio::task::spawn_blocking(move || match file {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    });
    let failed = |reason: String| AccessError::Kubeconfig { file: name.clone(), reason };
    match read.await {
        Ok(Ok(kubeconfig)) => Ok((kubeconfig, name)),
        // A parser shows the line that it does not understand, which may be a key.
        Ok(Err(kube::config::KubeconfigError::Parse(_))) => Err(failed("it is no kubeconfig".to_owned())),
        Ok(Err(error)) => Err(failed(chain(&error))),
        Err(_) => Err(failed("reading broke off".to_owned())),
    }
}
