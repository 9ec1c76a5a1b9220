//! The mock world on its own, for people and other programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use mocks::control::Control;
use mocks::telegram::BotApi;
use mocks::world::World;

use super::Stop;
use super::mock_cluster::{MockCluster, MockClusterOptions};
use super::stage::{Keys, placeholder_urls, world_options};
use crate::environment::{Cni, Environment, Kind, Profile, Reach, Via};
use crate::gateway::local::{Choice, ConfigSource, Gateway, against};
use crate::gateway::secret::Secret;
use crate::journal::Clock;

/// What to serve.
pub struct ServeOptions {
    /// Whose components.
    pub environment: Environment,
    /// Which gateway stands before them.
    pub gateway: Choice,
    /// Its configuration.
    pub config: ConfigSource,
    /// Ends it.
    pub stop: Stop,
}

/// Where everything is.
pub struct Serving {
    /// The gateway, without `/v1`.
    pub gateway: String,
    /// Its master key, made up for this world.
    pub key: Secret,
    /// The gates before the upstreams, by component.
    pub upstreams: BTreeMap<String, String>,
    /// The control API of gates and records.
    pub control: String,
    /// How the mock cluster around them is reached; `None` where this machine cannot have one.
    pub kubeconfig: Option<serde_json::Value>,
    /// The root of the mock Bot API and the token of its bot, where a route of the environment is a Telegram chat.
    pub telegram: Option<(String, Secret)>,
}

/// Serve until stopped; `ready` is told where.
///
/// # Errors
/// In words, when something does not start.
pub async fn serve(options: ServeOptions, ready: impl FnOnce(&Serving)) -> Result<(), String> {
    let draft = against(&options.config, &options.environment, &placeholder_urls(&options.environment));
    let draft = draft.map_err(|error| format!("{}: {error}", options.config.name))?;
    let keys = Keys::of(&options.environment).map_err(|error| error.to_string())?;
    let seed = 0;
    let world = World::start(world_options(&draft, &options.environment, Clock::starting_now(), seed)).await;
    let world = Arc::new(world.map_err(|error| format!("the mock world did not start: {error}"))?);
    let served = serve_world(&options, &keys, &world, seed, ready).await;
    world.shutdown().await;
    served
}

async fn serve_world(
    options: &ServeOptions,
    keys: &Keys,
    world: &Arc<World>,
    seed: u64,
    ready: impl FnOnce(&Serving),
) -> Result<(), String> {
    let environment = &options.environment;
    let cluster = start_cluster(environment, world, &keys.master, seed).await;
    let cluster = match (cluster, environment.cluster()) {
        (Ok(cluster), _) => Some(cluster),
        (Err(error), Some(_)) => return Err(format!("the mock cluster did not start: {error}")),
        (Err(error), None) => {
            tracing::warn!("there is no mock cluster around the mock world here: {error}");
            None
        }
    };
    let served = serve_gateway(options, keys, world, cluster.as_ref(), seed, ready).await;
    if let Some(cluster) = cluster {
        cluster.shutdown().await;
    }
    served
}

async fn serve_gateway(
    options: &ServeOptions,
    keys: &Keys,
    world: &Arc<World>,
    cluster: Option<&MockCluster>,
    seed: u64,
    ready: impl FnOnce(&Serving),
) -> Result<(), String> {
    let environment = &options.environment;
    let names = environment.components.keys();
    let upstreams: BTreeMap<String, String> =
        names.filter_map(|name| Some((name.clone(), world.base_url(name)?))).collect();
    // In an environment that is a cluster the gateway reaches them as a pod of it.
    let urls = match (cluster, environment.cluster()) {
        (Some(cluster), Some(_)) => cluster.urls(environment),
        _ => upstreams.clone(),
    };
    let config = against(&options.config, environment, &urls).map_err(|error| error.to_string())?;
    let here = std::env::temp_dir();
    let mut silent = |_: &str| ();
    let gateway = Gateway::start(&options.gateway, &config, &keys.master, &here, seed, &mut silent);
    let mut gateway = gateway.await.map_err(|error| error.to_string())?;
    if let Some(cluster) = cluster {
        // One of another machine is not in the cluster.
        cluster.lead_to(&mut gateway);
    }
    for setting in &gateway.unsupported {
        tracing::warn!("the mock gateway does not imitate `{}`", setting.path);
    }
    let telegram = match serve_telegram(environment).await {
        Ok(telegram) => telegram,
        Err(error) => {
            let stopped = gateway.stop().await.map_err(|error| error.to_string());
            return stopped.and(Err(format!("the mock Bot API did not start: {error}")));
        }
    };
    let served = match Control::start(Arc::clone(world), 0).await {
        Ok(control) => {
            ready(&Serving {
                gateway: gateway.url.clone(),
                key: keys.master.clone(),
                upstreams,
                control: control.url(),
                kubeconfig: cluster.and_then(MockCluster::kubectl_config),
                telegram: telegram.as_ref().map(|(api, token)| (api.url(), token.clone())),
            });
            options.stop.token().cancelled().await;
            control.shutdown().await;
            Ok(())
        }
        Err(error) => Err(format!("no control API: {error}")),
    };
    if let Some((api, _)) = telegram {
        api.shutdown().await;
    }
    let stopped = gateway.stop().await.map_err(|error| error.to_string());
    served.and(stopped)
}

/// A bot for the chats of an environment, if it has any.
async fn serve_telegram(environment: &Environment) -> std::io::Result<Option<(BotApi, Secret)>> {
    if !environment.routes.values().any(|route| route.via == Via::Telegram) {
        return Ok(None);
    }
    let token = Secret::new(format!("1:{}", Secret::random().expose()));
    Ok(Some((BotApi::start(0, token.expose()).await?, token)))
}

/// The mock cluster of an environment, or the stock one around the world of another.
async fn start_cluster(
    environment: &Environment,
    world: &Arc<World>,
    key: &Secret,
    seed: u64,
) -> std::io::Result<MockCluster> {
    let reach = environment.cluster().map(|cluster| &cluster.reach);
    let (profile, cni) = match (reach, &environment.kind) {
        (Some(Reach::Embedded { profile, cni, .. }), _) => (*profile, *cni),
        (_, Kind::Embedded { profile }) => (*profile, Cni::default()),
        _ => (Profile::Realistic, Cni::default()),
    };
    let (world, clock) = (Arc::clone(world), Clock::starting_now());
    // A world that is no cluster itself serves at once; the pods around it become ready by themselves.
    let wait = environment.cluster().is_some();
    MockCluster::start(MockClusterOptions { environment, profile, cni, world, key, clock, seed, wait }).await
}
