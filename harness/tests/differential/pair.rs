//! A real LiteLLM and the mock gateway side by side: the same configuration, the same kind of upstreams.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use harness::gateway::config::LocalConfig;
use harness::gateway::litellm::process::{LiteLlm, LogLevel, READY_WITHIN, StartOptions};
use harness::gateway::secret::Secret;
use mocks::gateway::{Gateway, GatewayOptions, Secret as MockSecret};
use serde_json::{Value, json};

use crate::ask::{Ask, Reply, client};
use crate::cell::{Cell, Settings};
use crate::facts::Labels;
use crate::upstream::{Script, Upstream};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Real,
    Mock,
}

/// What one cell has at one gateway.
#[derive(Debug)]
struct World {
    /// By deployment.
    upstreams: Vec<Upstream>,
    labels: Labels,
}

/// Two gateways and their upstreams.
#[derive(Debug)]
pub(crate) struct Pair {
    real: LiteLlm,
    mock: Gateway,
    key: Secret,
    client: reqwest::Client,
    /// By cell and side.
    worlds: BTreeMap<String, [World; 2]>,
    _run_dir: tempfile::TempDir,
}

/// The guard of a LiteLLM: the harness itself. (This test binary could not be it: after a minute the test framework
/// writes to its standard output that a test is still running, which nobody reads, and ends.)
fn guard() -> Vec<OsString> {
    vec![env!("CARGO_BIN_EXE_harness").into(), "supervise".into(), "--".into()]
}

impl Pair {
    /// Starts both with the chains of all `cells`.
    pub(crate) async fn start(bin: &Path, settings: &Settings, cells: &[Cell], seed: u64) -> Self {
        Self::start_unlike(bin, settings, settings, cells, seed).await
    }

    /// The same with settings of its own for the mock one: what this suite must notice.
    pub(crate) async fn start_unlike(
        bin: &Path,
        settings: &Settings,
        mock_settings: &Settings,
        cells: &[Cell],
        seed: u64,
    ) -> Self {
        let mut worlds = BTreeMap::new();
        for cell in cells {
            worlds.insert(cell.name.clone(), [world(cell).await, world(cell).await]);
        }
        let key = Secret::random();
        let config = |settings: &Settings, side: usize| {
            let mut models = Vec::new();
            let mut lists = Vec::new();
            for cell in cells {
                let deployments = cell.deployments.iter().zip(&worlds[&cell.name][side].upstreams);
                let bases: Vec<String> =
                    deployments.map(|(d, upstream)| upstream.api_base(d.provider)).collect();
                models.extend(cell.model_list(&bases));
                lists.extend(cell.fallback_lists());
            }
            let mut router = settings.router.clone();
            router["fallbacks"] = lists.into();
            json!({ "model_list": models, "router_settings": router, "litellm_settings": settings.litellm })
        };
        let (real, mock, run_dir) =
            start(bin, config(settings, 0), config(mock_settings, 1), &key, seed).await;
        Self { real, mock, key, client: client(), worlds, _run_dir: run_dir }
    }

    /// Keys of the configuration that the mock gateway does not act upon.
    pub(crate) fn unsupported(&self) -> Vec<&str> {
        self.mock.unsupported().iter().map(|key| key.path.as_str()).collect()
    }

    /// Sends one request to one of them.
    pub(crate) async fn ask(&self, side: Side, ask: &Ask) -> Reply {
        let url = match side {
            Side::Real => self.real.url(),
            Side::Mock => self.mock.url(),
        };
        ask.send(&self.client, &url, &self.key).await
    }

    /// Chat requests that the upstreams of a cell's deployments have seen at one gateway.
    pub(crate) fn attempts(&self, side: Side, cell: &Cell) -> Vec<u32> {
        self.world(side, cell).upstreams.iter().map(Upstream::attempts).collect()
    }

    /// What names stand for in one gateway's replies to a cell.
    pub(crate) fn labels(&self, side: Side, cell: &Cell) -> &Labels {
        &self.world(side, cell).labels
    }

    fn world(&self, side: Side, cell: &Cell) -> &World {
        let worlds = &self.worlds[&cell.name];
        match side {
            Side::Real => &worlds[0],
            Side::Mock => &worlds[1],
        }
    }

    /// Stops both.
    pub(crate) async fn stop(self) {
        self.mock.shutdown().await;
        self.real.stop().await.expect("LiteLLM is gone");
    }
}

async fn world(cell: &Cell) -> World {
    let mut upstreams = Vec::new();
    for (index, deployment) in cell.deployments.iter().enumerate() {
        let script =
            Script { provider: deployment.provider, fault: deployment.fault, marker: cell.marker(index) };
        upstreams.push(Upstream::start(script).await.expect("an upstream"));
    }
    let ports: Vec<u16> = upstreams.iter().map(Upstream::port).collect();
    World { labels: cell.labels(&ports), upstreams }
}

/// Starts a real LiteLLM and the mock gateway, each on its configuration, with one key. The directory is LiteLLM's.
pub(crate) async fn start(
    bin: &Path,
    for_real: Value,
    for_mock: Value,
    key: &Secret,
    seed: u64,
) -> (LiteLlm, Gateway, tempfile::TempDir) {
    let master_key = Some(MockSecret::new(key.expose().to_owned()));
    let options = GatewayOptions { config: for_mock, seed, master_key, port: 0 };
    let mock = Gateway::start(options).await.expect("the mock gateway");
    let run_dir = tempfile::tempdir().expect("directory");
    let config = for_litellm(for_real);
    let options = StartOptions {
        bin,
        config: &config,
        key,
        run_dir: run_dir.path(),
        guard: guard(),
        ready_within: READY_WITHIN * 2,
        log_level: LogLevel::Normal,
    };
    let real = LiteLlm::start(options).await.expect("LiteLLM");
    (real, mock, run_dir)
}

fn for_litellm(mut config: Value) -> LocalConfig {
    config["general_settings"]["master_key"] = "os.environ/LITELLM_MASTER_KEY".into();
    let mut upstream_models: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in config["model_list"].as_array().expect("a list") {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let model = text(&entry["litellm_params"]["model"]);
        upstream_models.entry(text(&entry["model_name"])).or_default().push(model);
    }
    LocalConfig { value: config, warnings: Vec::new(), upstream_models, sha256_of_source: String::new() }
}
