//! The cells that are always the same: every fault, kind of reply and provider under every configuration.

use std::time::Duration;

use mocks::gateway::config::Provider;
use serde_json::{Map, json};

use crate::cell::{Cell, Deployment, Settings};
use crate::fault::Fault;
use crate::run::REQUESTS;

/// The providers, as the faulty one of a chain.
pub(crate) const PROVIDERS: [Provider; 2] = [Provider::OllamaChat, Provider::HostedVllm];

/// The configuration in which counting windows and cooldowns end between requests.
const WINDOWS: &str = "windows";
/// Pauses before its five requests, milliseconds: the first failure's window ends before the second request, whose
/// window is still open at the third, which cools; the fourth meets the cooldown, and the fifth comes after it.
const PAUSES: [u64; REQUESTS] = [0, 3600, 300, 300, 3600];
/// Faults that do not wait, so that the pauses are all that passes.
const QUICK: [Fault; 6] = [
    Fault::status(500),
    Fault::status(429),
    Fault::status(401),
    Fault::status(404),
    Fault::Refuse,
    Fault::CutBefore,
];

/// The configurations. Those with retries have cooldowns that outlast a cell: with the 5 s of the default the jitter of
/// the sleeps would decide whether one has ended.
pub(crate) fn settings() -> Vec<Settings> {
    let named =
        |name: &str, router| Settings { name: name.into(), router, litellm: json!({}), group_size: 1 };
    vec![
        named("stock", json!({ "timeout": 1, "cooldown_time": 300 })),
        named("tuned", json!({ "timeout": 1.6, "num_retries": 0, "allowed_fails": 0, "max_fallbacks": 1 })),
        named(
            "tuned-nested",
            json!({ "timeout": 1.6, "num_retries": 0, "allowed_fails": 0, "cooldown_time": 60 }),
        ),
        named("allowed-fails-0", json!({ "timeout": 1, "allowed_fails": 0, "cooldown_time": 300 })),
        named(
            "retry-policy",
            json!({ "timeout": 1, "cooldown_time": 300, "retry_policy": { "TimeoutErrorRetries": 0,
            "InternalServerErrorRetries": 1, "RateLimitErrorRetries": 1, "AuthenticationErrorRetries": 1 } }),
        ),
        Settings { group_size: 2, ..named("two-deployments", json!({ "timeout": 1, "cooldown_time": 300 })) },
        named(
            "fails-policy",
            json!({ "timeout": 1, "num_retries": 0, "cooldown_time": 60, "max_fallbacks": 1,
            "allowed_fails_policy": { "TimeoutErrorAllowedFails": 1, "InternalServerErrorAllowedFails": 0,
            "RateLimitErrorAllowedFails": 1 } }),
        ),
        named(
            "one-allowed-fail",
            json!({ "timeout": 1, "num_retries": 1, "allowed_fails": 1, "cooldown_time": 300 }),
        ),
        named(
            WINDOWS,
            json!({ "timeout": 1, "num_retries": 0, "allowed_fails": 1, "cooldown_time": 3, "max_fallbacks": 1 }),
        ),
    ]
}

fn other(provider: Provider) -> Provider {
    match provider {
        Provider::OllamaChat => Provider::HostedVllm,
        Provider::HostedVllm => Provider::OllamaChat,
    }
}

/// How a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Chain {
    /// Two faulty groups, then a healthy one of the other provider.
    Relay,
    /// Two faulty groups and nothing else.
    Dead,
}

/// One cell of the matrix.
pub(crate) fn cell(
    settings: &Settings,
    fault: Fault,
    streaming: bool,
    provider: Provider,
    chain: Chain,
) -> Cell {
    let kind = if streaming { "stream" } else { "whole" };
    let end = match chain {
        Chain::Relay => "relay",
        Chain::Dead => "dead",
    };
    let mut deployments = Vec::new();
    for _ in 0..settings.group_size {
        deployments.push(Deployment::new("first", provider, fault));
    }
    deployments.push(Deployment::new("second", provider, fault));
    let mut targets = vec!["second".to_owned()];
    if chain == Chain::Relay {
        deployments.push(Deployment::new("third", other(provider), Fault::Healthy));
        targets.push("third".into());
    }
    if fault == Fault::Slow && settings.name == "stock" {
        // Here it is to be waited for.
        deployments.iter_mut().for_each(|d| drop(d.params.insert("timeout".into(), 5.into())));
    }
    let mut body = Map::new();
    if streaming && chain == Chain::Relay {
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    let retries = settings.router["num_retries"].as_u64().unwrap_or(2);
    Cell {
        name: format!("{}-{kind}-{}-{end}", fault.name(), provider.prefix()),
        deployments,
        fallbacks: vec![("first".into(), targets)],
        streaming,
        body,
        headers: Vec::new(),
        retries: u32::try_from(retries).expect("a small number"),
        pauses: if settings.name == WINDOWS { PAUSES.map(Duration::from_millis) } else { Default::default() },
    }
}

/// The faults of one configuration.
pub(crate) fn faults(settings: &Settings) -> Vec<Fault> {
    if settings.name == WINDOWS { QUICK.to_vec() } else { Fault::MATRIX.to_vec() }
}

/// All cells of one configuration.
pub(crate) fn all(settings: &Settings) -> Vec<Cell> {
    let mut faults = faults(settings);
    if settings.name == "tuned" {
        faults.extend(Fault::RARE);
    }
    let mut cells = Vec::new();
    for fault in faults {
        for streaming in [false, true].into_iter().filter(|streaming| fault.applies(*streaming)) {
            for provider in PROVIDERS {
                for chain in [Chain::Relay, Chain::Dead] {
                    cells.push(cell(settings, fault, streaming, provider, chain));
                }
            }
        }
    }
    cells
}
