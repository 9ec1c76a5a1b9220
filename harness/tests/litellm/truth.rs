//! Who served, by what a reply says of itself, against what the upstreams wrote down.
//!
//! Random faults at random moments, so that replies come from every hop, whole and streamed, after refusals,
//! resets, timeouts and silences that end in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use harness::attribution::balance::{Replied, balance};
use harness::attribution::{Attribution, Names, Source, Stand, attribute};
use harness::gateway::config::{LocalConfig, Upstream, localize};
use harness::gateway::litellm::process::{LiteLlm, LogLevel, READY_WITHIN, StartOptions};
use harness::gateway::litellm::warm_up::warm_up;
use harness::gateway::secret::Secret;
use harness::journal::{Clock, Outcome, ProbeRecord, Purpose, UpstreamCall};
use harness::probe::{Prober, Request};
use mocks::gate::GateMode;
use mocks::gateway::{Gateway, GatewayOptions};
use mocks::profile::Profile;
use mocks::record;
use mocks::time::Epoch;
use mocks::world::{World, WorldOptions};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::world::{litellm, own_guard};

/// Alias, component, model as LiteLLM names it.
pub(crate) const ALIASES: [(&str, &str, &str); 5] = [
    ("cloud-kimi", "cloud", "ollama_chat/kimi-k2.5"),
    ("cloud-minimax", "cloud", "ollama_chat/minimax-m2.5"),
    ("cloud-qwen3-coder", "cloud", "ollama_chat/qwen3-coder:480b"),
    ("vllm-qwen", "vllm", "hosted_vllm/Qwen3"),
    ("ollama-qwen", "ollama", "ollama_chat/phi4-mini"),
];
/// Probes under way at once.
const CONCURRENCY: usize = 24;
/// A fault changes this often.
const CHANGE_EVERY: Duration = Duration::from_millis(40);
const CLIENT_TIMEOUT: Duration = Duration::from_secs(6);

/// `HARNESS_TEST_PROBES`, or as many as a test run has time for.
fn probes(default: u64) -> u64 {
    std::env::var("HARNESS_TEST_PROBES").map_or(default, |count| count.parse().expect("a number of probes"))
}

#[expect(clippy::print_stdout, reason = "a run that fails can be repeated")]
fn seed() -> u64 {
    let seed = std::env::var("HARNESS_TEST_SEED").map_or(20_260_101, |seed| seed.parse().expect("a seed"));
    println!("HARNESS_TEST_SEED={seed}");
    seed
}

pub(crate) async fn world(clock: Clock, seed: u64) -> Arc<World> {
    let options = WorldOptions::five_aliases(Epoch::from_instant(clock.zero()), seed, Profile::fast());
    Arc::new(World::start(options).await.expect("a mock world"))
}

/// Short timeouts and cooldowns, and a chain for every group but the last, so that much happens in little time.
fn chaos_config(world: &World) -> LocalConfig {
    let settings = json!({
        "num_retries": 0, "allowed_fails": 1, "cooldown_time": 0.5,
        "fallbacks": [
            { "cloud-kimi": ["cloud-minimax", "vllm-qwen", "ollama-qwen"] },
            { "cloud-qwen3-coder": ["vllm-qwen", "cloud-kimi"] },
            { "vllm-qwen": ["ollama-qwen"] },
        ] });
    configured(world, 0.3, &settings)
}

/// All aliases with this timeout, at the world's components.
pub(crate) fn configured(world: &World, timeout: f64, router_settings: &serde_json::Value) -> LocalConfig {
    let models: Vec<_> = ALIASES
        .iter()
        .map(|(alias, _, model)| {
            json!({ "model_name": alias, "litellm_params": { "model": model, "timeout": timeout },
                    "model_info": { "id": format!("id-of-{alias}") } })
        })
        .collect();
    let source = json!({ "model_list": models, "router_settings": router_settings });
    let upstreams: BTreeMap<String, Upstream> = ALIASES
        .iter()
        .map(|(alias, component, _)| {
            let base_url = world.base_url(component).expect("a component of the world");
            ((*alias).to_owned(), Upstream { component: (*component).to_owned(), base_url })
        })
        .collect();
    localize(&source, &upstreams).expect("a good config")
}

/// Takes components and models away and gives them back, until told to stop; leaves all of them there.
async fn break_things(world: Arc<World>, mut chance: ChaCha8Rng, stop: CancellationToken) {
    let mut changes = tokio::time::interval(CHANGE_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = changes.tick() => {}
        }
        let component = ["cloud", "cloud", "vllm", "ollama"][chance.random_range(0..4)];
        let mode = match chance.random_range(0..10) {
            0 | 1 => GateMode::Refuse,
            2 | 3 => GateMode::Stall,
            4 => GateMode::Blackhole,
            _ => GateMode::Pass,
        };
        world.set(component, mode).await.expect("a gate that can be set");
        let gone = if chance.random_bool(0.3) { vec!["kimi-k2.5".to_owned()] } else { Vec::new() };
        world.set_gone("cloud", gone).expect("a model of the cloud");
    }
    for component in ["cloud", "vllm", "ollama"] {
        world.set(component, GateMode::Pass).await.expect("a gate that can be set");
    }
}

/// Sends the probes, half of them streamed, to random aliases.
async fn ask(prober: &Prober, clock: Clock, count: u64, mut chance: impl Rng) -> Vec<ProbeRecord> {
    let requests: Vec<Request> = (0..count)
        .map(|number| Request {
            id: format!("truth-{number}"),
            scenario: "truth".into(),
            route: "any".into(),
            purpose: Purpose::Traffic,
            model: ALIASES[chance.random_range(0..4)].0.into(),
            streamed: number % 2 == 0,
            fresh: number % 4 < 2,
            max_tokens: chance.random_range(1..20),
            timeout: CLIENT_TIMEOUT,
            intended_us: clock.now_us(),
        })
        .collect();
    let sent = requests.into_iter().map(|request| {
        let prober = prober.clone();
        async move { prober.send(&request).await }
    });
    futures::stream::iter(sent).buffer_unordered(CONCURRENCY).collect().await
}

pub(crate) fn calls_by_probe(world: &World) -> BTreeMap<String, Vec<UpstreamCall>> {
    let mut calls: BTreeMap<String, Vec<UpstreamCall>> = BTreeMap::new();
    for call in upstream_calls(world) {
        let Some(probe) = call.probe.clone() else { continue };
        calls.entry(probe).or_default().push(call);
    }
    calls
}

/// The requests for chats in the upstreams' records.
fn upstream_calls(world: &World) -> Vec<UpstreamCall> {
    let records = world.recorder().all().into_iter();
    let chats =
        records.filter(|record| ["/api/chat", "/v1/chat/completions"].contains(&record.path.as_str()));
    chats
        .map(|record| UpstreamCall {
            component: record.component,
            model: record.alias_model.unwrap_or_default(),
            probe: record.probe,
            purpose: record.purpose,
            received_us: record.received_us,
            ended_us: record.ended_us,
            status: match record.outcome {
                record::Outcome::Answered { status } => Some(status),
                record::Outcome::ClientLeft | record::Outcome::Open => None,
            },
        })
        .collect()
}

/// The alias of the last call that an upstream answered, as the upstreams' own records have it and without a word of
/// the attribution's code.
fn last_server(calls: &[&UpstreamCall]) -> Option<&'static str> {
    let answered = calls.iter().filter(|call| call.status == Some(200));
    alias_of(answered.max_by_key(|call| call.received_us)?)
}

/// The alias whose model a call is to.
pub(crate) fn alias_of(call: &UpstreamCall) -> Option<&'static str> {
    let serves = |(_, component, name): &&(&str, &str, &str)| {
        *component == call.component && name.split_once('/').is_some_and(|(_, model)| model == call.model)
    };
    ALIASES.iter().find(serves).map(|(alias, ..)| *alias)
}

/// Every complete reply: what it says of itself names the alias whose upstream answered it. An error that
/// names a server (a stream that broke) names one that was called.
#[expect(clippy::print_stdout, reason = "what was compared is for a person to see")]
fn compare(records: &[ProbeRecord], world: &World) {
    let names = names(world);
    let calls = calls_by_probe(world);
    let (mut hopped, mut named_by_errors, mut differ) = (0_u64, 0_u64, Vec::new());
    let mut servers: BTreeMap<String, u64> = BTreeMap::new();
    let mut errors: BTreeMap<String, u64> = BTreeMap::new();
    let mut table: BTreeMap<(Source, Stand), u64> = BTreeMap::new();
    let mut attributed: Vec<(&ProbeRecord, Attribution)> = Vec::new();
    let mut alone = 0_u64;
    for record in records {
        let own: Vec<&UpstreamCall> = calls.get(&record.id).into_iter().flatten().collect();
        if let Outcome::Error(class) = &record.outcome {
            *errors.entry(class.clone()).or_default() += 1;
            let told = attribute(record, &[], &names).alias;
            named_by_errors += u64::from(told.is_some());
            if told.is_some() && !own.iter().any(|call| alias_of(call) == told.as_deref()) {
                differ.push(format!("{record:?}\n  told {told:?}\n  calls {own:?}"));
            }
            continue;
        }
        let in_time: Vec<&UpstreamCall> =
            own.iter().copied().filter(|call| call.received_us <= record.ended_us).collect();
        let silent = ProbeRecord { claims: Vec::new(), ..record.clone() };
        let truth = attribute(&silent, &in_time, &names);
        let told = attribute(record, &[], &names);
        let alias = told.alias.clone().unwrap_or_else(|| "nobody".into());
        hopped += u64::from(alias != record.model);
        *servers.entry(alias).or_default() += 1;
        let together = attribute(record, &in_time, &names);
        alone += u64::from(!told.conflicts.is_empty());
        for (source, stand) in &together.stands {
            *table.entry((*source, *stand)).or_default() += 1;
        }
        attributed.push((record, together.clone()));
        let served = last_server(&in_time);
        let is_served = |alias: &Option<String>| served.is_some() && alias.as_deref() == served;
        if !is_served(&truth.alias) || !is_served(&told.alias) || !together.conflicts.is_empty() {
            differ.push(format!(
                "{record:?}\n  served {served:?}\n  told {told:?}\n  truth {truth:?}\n  together {together:?}\n  calls {own:?}"
            ));
        }
    }
    let ok = servers.values().sum::<u64>();
    println!(
        "{} probes: {ok} replies, {hopped} of them by a fallback; servers {servers:?}; errors {errors:?}, \
         {named_by_errors} of them name a server",
        records.len()
    );
    println!("source | right | silent | unusable | wrong");
    for source in Source::ALL {
        let count = |stand| table.get(&(source, stand)).copied().unwrap_or(0);
        let [right, silent, unusable, wrong] =
            [Stand::Agreed, Stand::Silent, Stand::Unusable, Stand::Conflicted].map(count);
        println!("{} | {right} | {silent} | {unusable} | {wrong}", source.word());
    }
    println!("{alone} replies on which the sources disagree where nobody reads the journals");
    balances(records, &attributed, world, &names);
    assert!(differ.is_empty(), "{} of {ok} differ:\n{}", differ.len(), differ.join("\n"));
    let all: BTreeSet<&str> = ALIASES.iter().map(|(alias, ..)| *alias).collect();
    assert_eq!(servers.keys().map(String::as_str).collect::<BTreeSet<_>>(), all, "every alias served");
    assert!(ok * 3 > records.len() as u64, "many probes are answered: {ok}");
    assert!(hopped * 10 > ok, "many replies come from a fallback: {hopped}");
    for streamed in [false, true] {
        let broken = |record: &&ProbeRecord| record.streamed == streamed && record.outcome != Outcome::Ok;
        assert!(records.iter().any(|record| broken(&record)), "some fail too (streamed: {streamed})");
    }
}

/// All that may stand for an alias in a reply.
fn names(world: &World) -> Names {
    let mut names = Names::default();
    for (alias, component, name) in ALIASES {
        let model = name.split_once('/').map_or(name, |(_, model)| model);
        for name in [model.to_owned(), format!("id-of-{alias}")] {
            names.by_upstream_model.insert(name, alias.to_owned());
        }
        names.components.insert(alias.to_owned(), component.to_owned());
        names.add_base(&world.base_url(component).expect("a component of the world"), component);
    }
    names
}

/// What the upstreams served is what clients got, and the rest has a cause.
#[expect(clippy::print_stdout, reason = "what was compared is for a person to see")]
fn balances(
    records: &[ProbeRecord],
    attributed: &[(&ProbeRecord, Attribution)],
    world: &World,
    names: &Names,
) {
    let nobody = Attribution::default();
    let replied = |record, attribution| Replied { record, attribution, last_us: 0 };
    let mut probes: BTreeMap<&str, Replied<'_>> =
        records.iter().map(|record| (record.id.as_str(), replied(record, &nobody))).collect();
    probes.extend(attributed.iter().map(|(record, told)| (record.id.as_str(), replied(*record, told))));
    let calls = upstream_calls(world);
    for (alias, own) in balance(&probes, calls.iter(), names, &[], false) {
        println!("{alias}: {own:?}");
        assert_eq!((own.missing, own.unexplained.len()), (0, 0), "{alias}");
    }
}

async fn chaos(url: &str, key: &Secret, clock: Clock, world: &Arc<World>, count: u64, seed: u64) {
    let prober = Prober::new(url, key.clone(), clock).expect("a client");
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let stop = CancellationToken::new();
    let breaking = tokio::spawn(break_things(
        Arc::clone(world),
        ChaCha8Rng::seed_from_u64(chance.random()),
        stop.clone(),
    ));
    let records = ask(&prober, clock, count, chance).await;
    stop.cancel();
    breaking.await.expect("the faults ended in order");
    compare(&records, world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_of_the_mock_gateway_names_its_server() {
    let (clock, seed) = (Clock::starting_now(), seed());
    let world = world(clock, seed).await;
    let config = chaos_config(&world);
    let key = Secret::random();
    let mut value = config.value.clone();
    // Names the variable of the key, which is given apart.
    value["general_settings"] = json!({});
    let master_key = Some(mocks::gateway::Secret::new(key.expose()));
    let options = GatewayOptions { config: value, seed, master_key, port: 0 };
    let gateway = Gateway::start(options).await.expect("the mock gateway");
    chaos(&gateway.url(), &key, clock, &world, probes(2000).max(2000), seed).await;
    gateway.shutdown().await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_of_litellm_names_its_server() {
    let (clock, seed) = (Clock::starting_now(), seed());
    let world = world(clock, seed).await;
    let config = chaos_config(&world);
    let key = Secret::random();
    let bin = litellm().await;
    let run_dir = tempfile::tempdir().expect("directory");
    let litellm = start(&bin, &config, &key, run_dir.path()).await;
    let aliases: Vec<String> = ALIASES.iter().map(|(alias, ..)| (*alias).to_owned()).collect();
    warm_up(&litellm.url(), &key, &aliases).await;
    chaos(&litellm.url(), &key, clock, &world, probes(500), seed).await;
    litellm.stop().await.expect("stopped");
    world.shutdown().await;
}

pub(crate) async fn start(bin: &Path, config: &LocalConfig, key: &Secret, run_dir: &Path) -> LiteLlm {
    let options = StartOptions {
        bin,
        config,
        key,
        run_dir,
        guard: own_guard(),
        ready_within: READY_WITHIN,
        log_level: LogLevel::Normal,
    };
    LiteLlm::start(options).await.expect("start")
}
