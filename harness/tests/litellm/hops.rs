//! Hops, by the upstreams' records, against what the gateway's own header counts: two and three hops, lists of fallbacks
//! that have lists of their own, and time that reached nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::attribution::hops::{End, Hop, hops};
use harness::gateway::config::LocalConfig;
use harness::gateway::secret::Secret;
use harness::journal::{AttemptTimeouts, ClaimSource, Clock, Outcome, ProbeRecord, Purpose};
use harness::probe::{Prober, Request};
use mocks::gate::GateMode;
use mocks::gateway::{Gateway, GatewayOptions};
use mocks::world::World;
use serde_json::json;

use crate::truth::{ALIASES, alias_of, calls_by_probe, configured, start, world};
use crate::world::litellm;

/// How long a hop waits that reaches nobody.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Models that are away, by component.
type Gone<'a> = &'a [(&'a str, &'a [&'a str])];

const CLOUD: [&str; 2] = ["kimi-k2.5", "minimax-m2.5"];

/// No cooldown, so that each request takes every hop; `vllm-qwen` has a list of its own.
fn config(world: &World) -> LocalConfig {
    let settings = json!({
        "num_retries": 0, "disable_cooldowns": true,
        "fallbacks": [
            { "cloud-kimi": ["cloud-minimax", "vllm-qwen", "ollama-qwen"] },
            { "cloud-qwen3-coder": ["vllm-qwen", "cloud-kimi"] },
            { "vllm-qwen": ["ollama-qwen"] },
        ] });
    configured(world, TIMEOUT.as_secs_f64(), &settings)
}

struct Asked<'a> {
    world: &'a World,
    prober: Prober,
    clock: Clock,
}

impl Asked<'_> {
    /// One request, and the hops that it took.
    async fn way(&self, model: &str, streamed: bool) -> (ProbeRecord, Vec<Hop>) {
        let now_us = self.clock.now_us();
        let request = Request {
            id: format!("way-{now_us}"),
            scenario: "hops".into(),
            route: "any".into(),
            purpose: Purpose::Traffic,
            model: model.into(),
            streamed,
            fresh: true,
            max_tokens: 4,
            timeout: Duration::from_secs(20),
            intended_us: now_us,
        };
        let record = self.prober.send(&request).await;
        let calls = calls_by_probe(self.world);
        let own = calls.get(&record.id).into_iter().flatten();
        let own: Vec<_> = own.map(|call| (call, alias_of(call))).collect();
        let chain = ["cloud-kimi", "cloud-minimax", "vllm-qwen", "ollama-qwen"].map(str::to_owned);
        let chain = if model == "cloud-kimi" { &chain[..] } else { &[] };
        let limit_ms = u64::try_from(TIMEOUT.as_millis()).expect("a second");
        let limits = AttemptTimeouts { whole_ms: limit_ms, stream_ms: limit_ms };
        let timeouts: BTreeMap<_, _> =
            ALIASES.iter().map(|(alias, ..)| ((*alias).to_owned(), limits)).collect();
        let way = hops(&record, &own, chain, &timeouts);
        (record, way)
    }

    /// Takes these models away, asks both ways, and gives them back.
    async fn expect(&self, gone: Gone<'_>, model: &str, wanted: &[(&str, u16)]) -> Vec<String> {
        let set = |component: &str, models: &[&str]| {
            let models = models.iter().map(|model| (*model).to_owned()).collect();
            self.world.set_gone(component, models).expect("models of the world");
        };
        gone.iter().for_each(|(component, models)| set(component, models));
        let mut counted = Vec::new();
        for streamed in [false, true] {
            let (record, way) = self.way(model, streamed).await;
            assert_eq!(record.outcome, Outcome::Ok, "{record:?}");
            let asked = way.iter().filter(|hop| !matches!(hop.end, End::Waited));
            let asked: Vec<_> = asked.map(|hop| (hop.aliases.join("+"), hop.end)).collect();
            let wanted: Vec<_> =
                wanted.iter().map(|(alias, status)| ((*alias).to_owned(), End::Answered(*status))).collect();
            assert_eq!(asked, wanted, "streamed: {streamed}, {record:?}");
            let header = record.claims.iter().find(|claim| claim.source == ClaimSource::HeaderFallbacks);
            counted.extend(header.map(|claim| claim.value.clone()));
        }
        gone.iter().for_each(|(component, _)| set(component, &[]));
        counted
    }
}

async fn ways(url: &str, key: &Secret, clock: Clock, world: &World) {
    let prober = Prober::new(url, key.clone(), clock).expect("a client");
    let asked = Asked { world, prober, clock };
    let none: Gone<'_> = &[];
    assert_eq!(asked.expect(none, "cloud-kimi", &[("cloud-kimi", 200)]).await, ["0", "0"]);
    let cloud: Gone<'_> = &[("cloud", &CLOUD)];
    let two = [("cloud-kimi", 404), ("cloud-minimax", 404), ("vllm-qwen", 200)];
    assert_eq!(asked.expect(cloud, "cloud-kimi", &two).await, ["1", "1"], "the header after two hops");
    let local: Gone<'_> = &[("cloud", &CLOUD), ("vllm", &["Qwen3"])];
    let three = [two[0], two[1], ("vllm-qwen", 404), ("ollama-qwen", 200)];
    assert_eq!(asked.expect(local, "cloud-kimi", &three).await, ["1", "1"], "the header after three hops");
    // The list of a fallback comes before the rest of the list that led to it.
    let coder = ["qwen3-coder:480b"];
    let nested: Gone<'_> = &[("cloud", &coder), ("vllm", &["Qwen3"])];
    let own = [("cloud-qwen3-coder", 404), ("vllm-qwen", 404), ("ollama-qwen", 200)];
    asked.expect(nested, "cloud-qwen3-coder", &own).await;
    let deeper: Gone<'_> = &[("cloud", &coder), ("vllm", &["Qwen3"]), ("ollama", &["phi4-mini"])];
    let rest = [own[0], own[1], ("ollama-qwen", 404), ("cloud-kimi", 200)];
    asked.expect(deeper, "cloud-qwen3-coder", &rest).await;

    world.set("cloud", GateMode::Stall).await.expect("a gate");
    for streamed in [false, true] {
        let (record, way) = asked.way("cloud-kimi", streamed).await;
        let ends: Vec<_> = way.iter().map(|hop| (hop.aliases.join("+"), hop.end)).collect();
        let wanted = [
            ("cloud-kimi", End::TimedOut),
            ("cloud-minimax", End::TimedOut),
            ("vllm-qwen", End::Answered(200)),
        ];
        assert_eq!(ends, wanted.map(|(alias, end)| (alias.to_owned(), end)), "{record:?} {way:?}");
        let waited = way.iter().take(2).map(|hop| hop.to_us.unwrap_or(0) - hop.from_us).sum::<u64>();
        assert!(u128::from(waited) >= 2 * TIMEOUT.as_micros(), "two timeouts: {way:?}");
    }
    world.set("cloud", GateMode::Pass).await.expect("a gate");
}

#[tokio::test(flavor = "multi_thread")]
async fn hops_of_the_mock_gateway_are_those_that_its_upstreams_saw() {
    let clock = Clock::starting_now();
    let world = world(clock, 1).await;
    let key = Secret::random();
    let mut value = config(&world).value;
    // Names the variable of the key, which is given apart.
    value["general_settings"] = json!({});
    let master_key = Some(mocks::gateway::Secret::new(key.expose()));
    let options = GatewayOptions { config: value, seed: 1, master_key, port: 0 };
    let gateway = Gateway::start(options).await.expect("the mock gateway");
    ways(&gateway.url(), &key, clock, &world).await;
    gateway.shutdown().await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hops_of_litellm_are_those_that_its_upstreams_saw() {
    let clock = Clock::starting_now();
    let world = world(clock, 1).await;
    let key = Secret::random();
    let bin = litellm().await;
    let run_dir = tempfile::tempdir().expect("directory");
    let litellm = start(&bin, &config(&world), &key, run_dir.path()).await;
    let aliases: Vec<String> = ALIASES.iter().map(|(alias, ..)| (*alias).to_owned()).collect();
    harness::gateway::litellm::warm_up::warm_up(&litellm.url(), &key, &aliases).await;
    ways(&litellm.url(), &key, clock, &world).await;
    litellm.stop().await.expect("stopped");
    world.shutdown().await;
}
