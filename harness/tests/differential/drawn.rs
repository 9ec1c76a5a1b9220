//! Configurations and cells drawn from a seed: whatever the hand-made matrix did not think of.
//!
//! Chance stays out of their outcomes: the members of a group are alike unless `order` sets them apart, and a
//! cooldown is either far longer than a cell or off, so that no sleep's jitter decides whether it has ended.

use std::time::Duration;

use mocks::gateway::config::Provider;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::cell::{Cell, Deployment, Settings};
use crate::fault::Fault;
use crate::matrix::PROVIDERS;
use crate::run::REQUESTS;

/// Cells that share a configuration.
const CELLS_EACH: usize = 12;
/// Longer than any cell takes.
const LONG_COOLDOWN_S: u32 = 600;
const ROLES: [&str; 4] = ["first", "second", "third", "fourth"];
const CLASSES: [&str; 7] = [
    "TimeoutError",
    "InternalServerError",
    "RateLimitError",
    "AuthenticationError",
    "BadRequestError",
    "NotFoundError",
    "ServiceUnavailableError",
];

/// `cells` cells under as many configurations as they need.
pub(crate) fn draw(seed: u64, cells: usize) -> Vec<(Settings, Vec<Cell>)> {
    let mut groups = Vec::new();
    let mut left = cells;
    for number in 0.. {
        if left == 0 {
            break;
        }
        // A stream of its own for each, so that more cells do not change those before.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        let settings = settings(&mut rng, format!("drawn-{seed}-{number}"));
        let count = left.min(CELLS_EACH);
        left -= count;
        groups.push((settings.clone(), (0..count).map(|index| cell(&mut rng, &settings, index)).collect()));
    }
    groups
}

fn maybe<T>(
    rng: &mut impl Rng,
    chance: f64,
    value: impl FnOnce(&mut dyn FnMut(u32) -> u32) -> T,
) -> Option<T> {
    rng.random_bool(chance).then(|| value(&mut |below| rng.random_range(0..below)))
}

/// A tenth-second timeout from 0.6 s to 1.5 s.
fn timeout(draw: &mut dyn FnMut(u32) -> u32) -> Value {
    json!(f64::from(6 + draw(10)) / 10.0)
}

fn policy(rng: &mut impl Rng, suffix: &str, below: u32) -> Value {
    let mut policy = Map::new();
    for class in CLASSES {
        if rng.random_bool(0.4) {
            policy.insert(format!("{class}{suffix}"), rng.random_range(0..below).into());
        }
    }
    policy.into()
}

fn settings(rng: &mut impl Rng, name: String) -> Settings {
    let mut router = Map::new();
    let mut litellm = Map::new();
    let mut set = |key: &str, value: Option<Value>| drop(value.map(|value| router.insert(key.into(), value)));
    set("timeout", maybe(rng, 1.0, timeout));
    set("stream_timeout", maybe(rng, 0.4, timeout));
    set("num_retries", maybe(rng, 0.8, |draw| draw(3).into()));
    set("allowed_fails", maybe(rng, 0.6, |draw| draw(5).into()));
    set("cooldown_time", Some(LONG_COOLDOWN_S.into()));
    set("max_fallbacks", maybe(rng, 0.5, |draw| draw(4).into()));
    set("retry_after", maybe(rng, 0.3, |draw| (1 + draw(2)).into()));
    set("disable_cooldowns", maybe(rng, 0.1, |_| true.into()));
    if rng.random_bool(0.3) {
        set("retry_policy", Some(policy(rng, "Retries", 3)));
    }
    if rng.random_bool(0.3) {
        set("allowed_fails_policy", Some(policy(rng, "AllowedFails", 3)));
    }
    if let Some(value) = maybe(rng, 0.3, timeout) {
        litellm.insert("request_timeout".into(), value);
    }
    if let Some(value) = maybe(rng, 0.3, |draw| draw(3)) {
        litellm.insert("num_retries".into(), value.into());
    }
    Settings { name, router: router.into(), litellm: litellm.into(), group_size: 1 }
}

fn fault(rng: &mut impl Rng, streaming: bool) -> Fault {
    loop {
        let fault = if rng.random_bool(0.8) { Fault::MATRIX.choose(rng) } else { Fault::RARE.choose(rng) };
        if let Some(fault) = fault.filter(|fault| fault.applies(streaming)) {
            return *fault;
        }
    }
}

fn cell(rng: &mut impl Rng, settings: &Settings, index: usize) -> Cell {
    let streaming = rng.random_bool(0.5);
    let groups = rng.random_range(2..=ROLES.len());
    let mut deployments = Vec::new();
    for role in &ROLES[..groups] {
        group(rng, role, streaming, &mut deployments);
    }
    let mut fallbacks = vec![("first".to_owned(), targets(rng, groups, 0))];
    if groups > 2 && rng.random_bool(0.4) {
        fallbacks.push(("second".into(), targets(rng, groups, 1)));
    }
    let mut cell = Cell {
        name: format!("cell-{index}"),
        deployments,
        fallbacks,
        streaming,
        body: Map::new(),
        headers: Vec::new(),
        retries: 0,
        pauses: [Duration::ZERO; REQUESTS],
    };
    overrides(rng, &mut cell, groups);
    let mentioned = [&settings.router, &settings.litellm, &cell.body.clone().into()];
    let mut retries: u64 = 2;
    for value in mentioned.iter().filter_map(|settings| settings["num_retries"].as_u64()) {
        retries = retries.max(value);
    }
    cell.retries = u32::try_from(retries).expect("a small number");
    cell
}

fn group(rng: &mut impl Rng, role: &str, streaming: bool, deployments: &mut Vec<Deployment>) {
    let provider: Provider = *PROVIDERS.choose(rng).expect("two");
    let broken = rng.random_bool(if role == "first" { 0.95 } else { 0.6 });
    let fault_of_it = if broken { fault(rng, streaming) } else { Fault::Healthy };
    let mut one = Deployment::new(role, provider, fault_of_it);
    let mut set =
        |key: &str, value: Option<Value>| drop(value.map(|value| one.params.insert(key.into(), value)));
    set("timeout", maybe(rng, 0.3, timeout));
    set("stream_timeout", maybe(rng, 0.2, timeout));
    set("request_timeout", maybe(rng, 0.1, timeout));
    set("num_retries", maybe(rng, 0.2, |draw| draw(3).into()));
    if let Some(value) = maybe(rng, 0.2, |draw| draw(3)) {
        one.info.insert("allowed_fails".into(), value.into());
    }
    if rng.random_bool(0.15) {
        one.info.insert("allowed_fails_policy".into(), policy(rng, "AllowedFails", 3));
    }
    let members = if rng.random_bool(0.25) { 2 } else { 1 };
    let ordered = members > 1 && rng.random_bool(0.6);
    for member in 0..members {
        let mut this = one.clone();
        if ordered {
            this.params.insert("order".into(), (member + 1).into());
            if member > 0 {
                this.fault = if rng.random_bool(0.5) { Fault::Healthy } else { fault(rng, streaming) };
            }
        }
        deployments.push(this);
    }
}

/// Some of the other groups, in any order.
fn targets(rng: &mut impl Rng, groups: usize, own: usize) -> Vec<String> {
    let others = ROLES[..groups].iter().enumerate().filter(|(index, _)| *index != own && *index != 0);
    let mut others: Vec<String> = others.map(|(_, role)| (*role).to_owned()).collect();
    others.shuffle(rng);
    let kept = rng.random_range(1..=others.len());
    others.truncate(kept);
    others
}

fn overrides(rng: &mut impl Rng, cell: &mut Cell, groups: usize) {
    let mut body = Map::new();
    let mut set = |key: &str, value: Option<Value>| drop(value.map(|value| body.insert(key.into(), value)));
    set("num_retries", maybe(rng, 0.15, |draw| draw(3).into()));
    set("timeout", maybe(rng, 0.1, timeout));
    set("stream_timeout", maybe(rng, 0.1, timeout));
    set("disable_fallbacks", maybe(rng, 0.1, |_| true.into()));
    if rng.random_bool(0.15) {
        let targets: Vec<String> =
            targets(rng, groups, 0).iter().map(|role| format!("{}.{role}", cell.name)).collect();
        let value = if rng.random_bool(0.5) {
            json!(targets)
        } else {
            let mut entry = Map::new();
            entry.insert(cell.group("first"), json!(targets));
            json!([entry])
        };
        set("fallbacks", Some(value));
    }
    if cell.streaming && rng.random_bool(0.4) {
        set("stream_options", Some(json!({ "include_usage": true })));
    }
    if let Some(value) = maybe(rng, 0.1, timeout) {
        cell.headers.push(("x-litellm-timeout".into(), value.to_string()));
    }
    if let Some(value) = maybe(rng, 0.1, |draw| draw(3)) {
        cell.headers.push(("x-litellm-num-retries".into(), value.to_string()));
    }
    cell.body = body;
}
