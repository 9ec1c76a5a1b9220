//! All cells of one configuration at the same time, each five times at both gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::ask::Ask;
use crate::cell::{Cell, Deployment, Settings};
use crate::compare::{Difference, differences, same_latency, same_total};
use crate::facts::{Facts, facts};
use crate::fault::Fault;
use crate::known::differs_otherwise;
use crate::pair::{Pair, Side};

/// Requests to each cell.
pub(crate) const REQUESTS: usize = 5;
/// Requests whose latency is compared.
const TIMED: [usize; 3] = [1, 2, 5];
/// Cells of one pair: LiteLLM keeps its counters and cooldowns in a cache of 200 entries and forgets the oldest beyond
/// that, which a stack of a few deployments never comes to.
const BATCH: usize = 16;
/// Between the starts of two cells.
const STAGGER: Duration = Duration::from_millis(100);
/// What a cell takes of the slots when all its requests are answered at once, and LiteLLM is kept busy.
const BUSY_SLOTS: u32 = 8;
/// Slots for cells that are repeated because they differed, the first and the second time, and how long the pair rests
/// before: LiteLLM pauses once, for up to half a second, not long after its start, and always in the same of a few cells.
const REPEATS: [(usize, Duration); 2] = [(8, Duration::ZERO), (8, Duration::from_secs(8))];

/// One request at both gateways.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) real: Facts,
    pub(crate) mock: Facts,
    pub(crate) real_took: Duration,
    pub(crate) mock_took: Duration,
}

/// What came of a cell.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) settings: String,
    pub(crate) cell: Cell,
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) differences: Vec<Difference>,
    /// It differed when it ran among others, and was run again.
    pub(crate) repeated: bool,
    /// Differences that one of its runs showed and another did not: noise, or a bug that comes and goes.
    pub(crate) unconfirmed: Vec<Difference>,
}

/// Runs `cells` under `settings`, in `slots` slots, and those that differ once more in a fresh pair.
pub(crate) async fn run(
    bin: &Path,
    settings: &Settings,
    cells: Vec<Cell>,
    slots: usize,
    seed: u64,
) -> Vec<Outcome> {
    let mut all = Vec::new();
    for batch in cells.chunks(BATCH) {
        let mut outcomes = run_once(bin, settings, batch.to_vec(), (slots, Duration::ZERO), seed).await;
        for pace in REPEATS {
            repeat(bin, settings, &mut outcomes, pace, seed).await;
        }
        all.extend(outcomes);
    }
    all
}

/// Runs those that differ once more in a fresh pair; only what differs again counts.
async fn repeat(
    bin: &Path,
    settings: &Settings,
    outcomes: &mut [Outcome],
    pace: (usize, Duration),
    seed: u64,
) {
    let apart: Vec<Cell> = outcomes.iter().filter(|o| differs_otherwise(o)).map(|o| o.cell.clone()).collect();
    if apart.is_empty() {
        return;
    }
    for mut again in run_once(bin, settings, apart, pace, seed).await {
        let first = outcomes.iter_mut().find(|first| first.cell.name == again.cell.name);
        let first = first.expect("it ran before");
        again.repeated = true;
        again.unconfirmed = std::mem::take(&mut first.unconfirmed);
        // The same fact, in whichever request and with whatever value: chance differs between runs.
        let facts = |all: &[Difference]| all.iter().map(|d| d.fact.clone()).collect::<BTreeSet<String>>();
        let (before, now) = (facts(&first.differences), facts(&again.differences));
        let gone = std::mem::take(&mut first.differences).into_iter().filter(|d| !now.contains(&d.fact));
        again.unconfirmed.extend(gone);
        let new = again.differences.extract_if(.., |difference| !before.contains(&difference.fact));
        again.unconfirmed.extend(new);
        *first = again;
    }
}

async fn run_once(
    bin: &Path,
    settings: &Settings,
    cells: Vec<Cell>,
    (slots, rest): (usize, Duration),
    seed: u64,
) -> Vec<Outcome> {
    let warm = warm_cells();
    let all: Vec<Cell> = warm.iter().chain(&cells).cloned().collect();
    let pair = Arc::new(Pair::start(bin, settings, &all, seed).await);
    assert!(pair.unsupported().is_empty(), "the mock does not act upon {:?}", pair.unsupported());
    warm_up(&pair, &warm).await;
    if !rest.is_zero() {
        // Nothing to wait for but time.
        let _ = tokio::time::timeout(rest, std::future::pending::<()>()).await;
        warm_up(&pair, &warm).await;
    }
    let slots = Arc::new(Semaphore::new(slots));
    let mut starts = tokio::time::interval(STAGGER);
    let mut running = JoinSet::new();
    for (index, cell) in cells.into_iter().enumerate() {
        let weight = if cell.is_busy() { BUSY_SLOTS } else { 1 };
        let slot = Arc::clone(&slots).acquire_many_owned(weight).await.expect("never closed");
        starts.tick().await;
        let (pair, settings) = (Arc::clone(&pair), settings.name.clone());
        running.spawn(async move {
            let outcome = one(&pair, settings, cell).await;
            drop(slot);
            (index, outcome)
        });
    }
    let mut outcomes = running.join_all().await;
    outcomes.sort_by_key(|(index, _)| *index);
    Arc::into_inner(pair).expect("all cells have ended").stop().await;
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// LiteLLM imports code on the first request of each kind, also of each kind of failure.
fn warm_cells() -> Vec<Cell> {
    use mocks::gateway::config::Provider::{HostedVllm, OllamaChat};
    let mut cells = Vec::new();
    for provider in [OllamaChat, HostedVllm] {
        for streaming in [false, true] {
            let chain = [Fault::status(401), Fault::Healthy];
            let roles = ["first", "second"];
            let deployments =
                roles.iter().zip(chain).map(|(role, fault)| Deployment::new(role, provider, fault)).collect();
            cells.push(Cell {
                name: format!("warm-{}-{streaming}", provider.prefix()),
                deployments,
                fallbacks: vec![("first".into(), vec!["second".into()])],
                streaming,
                body: serde_json::Map::new(),
                headers: Vec::new(),
                retries: 0,
                pauses: [Duration::ZERO; REQUESTS],
            });
        }
    }
    cells
}

async fn warm_up(pair: &Pair, cells: &[Cell]) {
    for cell in cells {
        // Also a chain that fails, and a refusal: 401 cools at once, or with the counters that are set, soon.
        // Without retries, whatever the configuration says of them: their sleeps would be all that is warmed up.
        let mut once = serde_json::Map::new();
        once.insert("num_retries".into(), 0.into());
        let mut alone = once.clone();
        alone.insert("disable_fallbacks".into(), true.into());
        pair.ask(Side::Real, &Ask::chat_with(&cell.group("first"), cell.streaming, &once)).await;
        for _ in 0..5 {
            pair.ask(Side::Real, &Ask::chat_with(&cell.group("first"), cell.streaming, &alone)).await;
        }
        // The way past a group that is cooled by now.
        pair.ask(Side::Real, &Ask::chat_with(&cell.group("first"), cell.streaming, &once)).await;
        pair.ask(Side::Real, &Ask::chat(&cell.group("second"), cell.streaming)).await;
    }
}

/// One cell at both gateways.
pub(crate) async fn one(pair: &Pair, settings: String, cell: Cell) -> Outcome {
    let (real, mock) = tokio::join!(series(pair, Side::Real, &cell), series(pair, Side::Mock, &cell));
    let mut exchanges = Vec::new();
    let mut apart = Vec::new();
    let (mut real_total, mut mock_total, mut all_sleeps) = (Duration::ZERO, Duration::ZERO, 0);
    for (index, (real, mock)) in real.into_iter().zip(mock).enumerate() {
        let request = index + 1;
        apart.extend(differences(request, &real.facts, &mock.facts));
        let sleeps = real.sleeps.max(mock.sleeps);
        (real_total, mock_total) = (real_total + real.took, mock_total + mock.took);
        all_sleeps += sleeps;
        if TIMED.contains(&request) && !same_latency(real.took, mock.took, sleeps) {
            apart.push(Difference {
                request,
                fact: "latency".into(),
                real: Some(format!("{:.2} s", real.took.as_secs_f64())),
                mock: Some(format!("{:.2} s (up to {sleeps} sleeps)", mock.took.as_secs_f64())),
            });
        }
        exchanges.push(Exchange {
            real: real.facts,
            mock: mock.facts,
            real_took: real.took,
            mock_took: mock.took,
        });
    }
    let requests = u32::try_from(exchanges.len()).expect("a small number");
    if all_sleeps > 0 && !same_total(real_total, mock_total, requests, all_sleeps) {
        apart.push(Difference {
            request: exchanges.len(),
            fact: "latency of all".into(),
            real: Some(format!("{:.2} s", real_total.as_secs_f64())),
            mock: Some(format!("{:.2} s (up to {all_sleeps} sleeps)", mock_total.as_secs_f64())),
        });
    }
    Outcome { settings, cell, exchanges, differences: apart, repeated: false, unconfirmed: Vec::new() }
}

/// One request at one gateway.
struct Made {
    facts: Facts,
    took: Duration,
    sleeps: u32,
}

async fn series(pair: &Pair, side: Side, cell: &Cell) -> Vec<Made> {
    let ask = cell.ask();
    let mut made = Vec::new();
    for pause in cell.pauses {
        // Nothing to wait for but time.
        let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
        let before = pair.attempts(side, cell);
        let reply = pair.ask(side, &ask).await;
        let attempts: Vec<u32> =
            pair.attempts(side, cell).iter().zip(before).map(|(after, before)| after - before).collect();
        let mut facts = facts(&reply, pair.labels(side, cell));
        let mut counts: BTreeMap<String, Option<u32>> = BTreeMap::new();
        for (index, (deployment, attempts)) in cell.deployments.iter().zip(&attempts).enumerate() {
            let count = counts.entry(cell.counted_as(index)).or_insert(Some(0));
            *count = count.filter(|_| !deployment.fault.is_uncounted()).map(|count| count + attempts);
        }
        for (name, count) in counts {
            let count = count.map_or("?".to_owned(), |count| count.to_string());
            facts.insert(format!("attempts at {name}"), count);
        }
        made.push(Made { facts, took: reply.took, sleeps: sleeps(cell, &attempts) });
    }
    made
}

/// The most sleeps that these attempts can have had: one after each failed one, where there are retries at all.
fn sleeps(cell: &Cell, attempts: &[u32]) -> u32 {
    if cell.retries == 0 {
        return 0;
    }
    let of_one = |(deployment, attempts): (&Deployment, &u32)| match deployment.fault {
        Fault::Healthy => 0,
        fault if fault.is_uncounted() => cell.retries + 1,
        // Each attempt is sent twice.
        Fault::Reset => attempts.div_ceil(2),
        _ => *attempts,
    };
    cell.deployments.iter().zip(attempts).map(of_one).sum()
}
