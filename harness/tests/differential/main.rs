//! The mock gateway beside a real LiteLLM: the same configuration, the same kind of upstreams, request by request.
//!
//! `scripts/differential` is the way to run it by hand. `HARNESS_TEST_LITELLM` names a LiteLLM to use; without it the
//! pinned version, or that in `DIFFERENTIAL_VERSION`, is installed in the cache. The other variables are in
//! [`plan::Plan`].

mod alone;
mod ask;
mod cell;
mod compare;
mod drawn;
mod facts;
mod fault;
mod known;
mod listing;
mod matrix;
mod pair;
mod plan;
mod run;
mod surface;
mod table;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use harness::gateway::litellm::find::{FindOptions, Found, find};
use mocks::gateway::config::Provider;
use serde_json::json;
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

use crate::fault::Fault;
use crate::known::{KNOWN, take_known};
use crate::listing::{listing, transcript, unconfirmed};
use crate::matrix::Chain;
use crate::plan::Plan;
use crate::table::Summary;

/// Pairs of gateways that run at the same time: mostly they wait, but while a LiteLLM starts it takes a whole core.
const PAIRS: usize = 4;
/// Slots for the cells of one pair: see `BUSY_SLOTS`.
const SLOTS: usize = 16;

/// The LiteLLM to compare with.
async fn litellm() -> Found {
    static FOUND: OnceCell<Found> = OnceCell::const_new();
    let find_it = || async {
        let version = std::env::var("DIFFERENTIAL_VERSION").ok().filter(|version| !version.is_empty());
        let bin = std::env::var_os("HARNESS_TEST_LITELLM").map(PathBuf::from).filter(|_| version.is_none());
        let options = FindOptions { install: bin.is_none(), bin, version, ..FindOptions::default() };
        find(&options, &mut tell).await.expect("a LiteLLM to compare with")
    };
    FOUND.get_or_init(find_it).await.clone()
}

#[expect(clippy::print_stdout, reason = "progress for whoever waits for an installation")]
fn tell(line: &str) {
    println!("{line}");
}

/// How many pairs may run at the same time, in all tests of this binary together.
fn pairs() -> Arc<Semaphore> {
    static PAIRS_LEFT: std::sync::OnceLock<Arc<Semaphore>> = std::sync::OnceLock::new();
    Arc::clone(PAIRS_LEFT.get_or_init(|| Arc::new(Semaphore::new(PAIRS))))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_cannot_be_told_from_litellm() {
    let plan = Plan::from_environment();
    assert!(plan.unmatched().is_empty(), "no cell's name holds {:?}", plan.unmatched());
    let found = litellm().await;
    let started = Instant::now();
    let mut running = JoinSet::new();
    for (number, (settings, cells)) in plan.groups().into_iter().enumerate() {
        let (bin, seed) = (found.bin.clone(), plan.seed);
        running.spawn(async move {
            let _pair = pairs().acquire_owned().await.expect("never closed");
            let started = Instant::now();
            let outcomes = run::run(&bin, &settings, cells, SLOTS, seed).await;
            println!("{}: {} cells in {} s", settings.name, outcomes.len(), started.elapsed().as_secs());
            (number, settings, outcomes)
        });
    }
    let mut groups = running.join_all().await;
    groups.sort_by_key(|(number, _, _)| *number);
    let settings: Vec<_> = groups.iter().map(|(_, settings, _)| settings.clone()).collect();
    let mut outcomes: Vec<_> = groups.into_iter().flat_map(|(_, _, outcomes)| outcomes).collect();
    assert!(!outcomes.is_empty(), "nothing was compared");
    let met = take_known(&mut outcomes);
    if plan.show {
        outcomes.iter().for_each(|outcome| println!("{}", transcript(outcome)));
    }
    let summary = Summary {
        version: &found.version,
        seed: plan.seed,
        settings: &settings,
        outcomes: &outcomes,
        met: &met,
    };
    println!("{} ({} s)", summary.headline(), started.elapsed().as_secs());
    let unconfirmed = unconfirmed(&outcomes);
    if !unconfirmed.is_empty() {
        println!("In one run and not in another:\n{unconfirmed}");
    }
    if plan.write {
        table::write(&summary);
    }
    let list = listing(&outcomes);
    assert!(list.is_empty(), "the mock gateway differs from LiteLLM {}:\n{list}", found.version);
    if plan.full && plan.only.is_empty() {
        for (known, met) in KNOWN.iter().zip(met) {
            assert!(met > 0 || known.by_chance, "nothing differs any more in: {}", known.what);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_mock_is_noticed() {
    if !Plan::from_environment().only.is_empty() {
        return;
    }
    let found = litellm().await;
    let _pair = pairs().acquire_owned().await.expect("never closed");
    let mut settings = matrix::settings().swap_remove(1);
    settings.router["num_retries"] = json!(1);
    let right = settings.clone();
    settings.router["num_retries"] = json!(2);
    let cell = matrix::cell(&right, Fault::status(503), false, Provider::OllamaChat, Chain::Relay);
    let pair = pair::Pair::start_unlike(&found.bin, &right, &settings, std::slice::from_ref(&cell), 1).await;
    let outcome = run::one(&pair, "wrong".into(), cell.clone()).await;
    let alive = ask::Ask::get("/health/liveliness");
    let facts = async |side| facts::facts(&pair.ask(side, &alive).await, pair.labels(side, &cell));
    let (real, mock) = tokio::join!(facts(pair::Side::Real), facts(pair::Side::Mock));
    assert_eq!(real, mock, "what has nothing to do with retries is the same");
    pair.stop().await;
    // With one retry less the real one makes an attempt less at the second group; the first is cooled at once.
    let apart: Vec<_> = outcome.differences.iter().filter(|d| d.fact == "attempts at second").collect();
    let first = apart.first().unwrap_or_else(|| panic!("{:?}", outcome.differences));
    assert_eq!((first.real.as_deref(), first.mock.as_deref()), (Some("2"), Some("3")));
}
