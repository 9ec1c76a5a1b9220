//! B5, B6 and B7: how fast the probe engine can be, and what a probe costs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mocks::truth::{PRIMARY, Script};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::peers::{Load, oha_cost};
use super::table::Row;
use super::truth::TruthServer;
use super::{BenchError, Size, in_part, other_core, said};
use crate::analysis::quantiles;
use crate::gateway::secret::Secret;
use crate::journal::{Clock, Event, Journal, Outcome};
use crate::plan::PlannedRoute;
use crate::probe::{Prober, Traffic, TrafficOptions};
use crate::scenario::Forms;
use crate::units::{Period, Rate};
use crate::verdict::result::Quantiles;

/// Content chunks of a stream, and the time between two.
const CHUNKS: usize = 16;
const CHUNK_GAP_US: u64 = 5_000;
/// Most that the slowest probe of a hundred may be sent late.
const LATE_MAX_MS: f64 = 5.0;
/// Records of B7, and what it is stated for.
const RECORDS: f64 = 10e6;

/// What to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Given {
    pub(super) url: String,
    pub(super) rate: f64,
    pub(super) seconds: f64,
    pub(super) streamed: bool,
    pub(super) timeout_ms: u64,
    pub(super) journal: PathBuf,
}

/// What became of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) ended: u64,
    pub(super) ok: u64,
    pub(super) skipped: u64,
    /// Actual less intended start.
    pub(super) late: Quantiles,
    /// Intended start to the last byte; errors and what is open are infinite.
    pub(super) latency: Quantiles,
    /// User and system time of a probe, microseconds.
    pub(super) cpu_us: f64,
    /// Bytes of a probe in the journal.
    pub(super) journal_bytes: f64,
    /// Growth of the resident memory for a probe, bytes.
    pub(super) resident_bytes: f64,
}

impl Sent {
    fn holds(&self) -> bool {
        self.skipped == 0 && self.ok == self.ended && self.late.p99.is_some_and(|late| late <= LATE_MAX_MS)
    }
}

pub(super) async fn rows(size: Size, folder: &Path) -> Result<Vec<Row>, BenchError> {
    let (plain, streams, seconds): (&[f64], &[f64], f64) = match size {
        Size::Quick => (&[500.0, 1000.0], &[100.0], 2.0),
        Size::Full(_) => (
            &[1000.0, 2000.0, 4000.0, 5000.0, 6000.0, 8000.0, 10_000.0, 12_000.0, 16_000.0, 20_000.0],
            &[100.0, 250.0, 500.0, 750.0, 1000.0, 1250.0, 1500.0, 2000.0],
            5.0,
        ),
    };
    let truth = TruthServer::start(other_core())?;
    let script = Script { chunks: CHUNKS, chunk_gap_us: CHUNK_GAP_US, steps: Vec::new(), takes_down: false };
    let backend = truth.open(script).await?;
    let mut rows = Vec::new();
    let mut cost = None;
    for (rates, streamed, goal) in [(plain, false, 5000.0), (streams, true, 1000.0)] {
        let (mut best, mut first_bad) = (None, None);
        for &rate in rates {
            let given = Given {
                url: backend.url(),
                rate,
                seconds,
                streamed,
                timeout_ms: 5000,
                journal: folder.join("load.jsonl"),
            };
            let sent = send(&given).await?;
            if !streamed && rate == 1000.0 {
                cost = Some(sent.clone());
            }
            if sent.holds() {
                best = Some((rate, sent));
            } else {
                first_bad = Some((rate, sent));
                break;
            }
        }
        let told = |(rate, sent): &(f64, Sent)| {
            format!(
                "{rate:.0}/s: late p99 {:.2} ms, max {:.1} ms, {} skipped, {} of {} answered, {:.0} us of CPU a probe",
                sent.late.p99.unwrap_or(f64::INFINITY),
                sent.late.max.unwrap_or(f64::INFINITY),
                sent.skipped,
                sent.ok,
                sent.ended,
                sent.cpu_us
            )
        };
        let best_rate = best.as_ref().map_or(0.0, |(rate, _)| *rate);
        let best = best.as_ref().map_or_else(|| "none of the rates".to_owned(), told);
        let beyond = first_bad.as_ref().map(|bad| format!("; not {}", told(bad))).unwrap_or_default();
        let what = if streamed { "streams of 16 chunks, one core" } else { "plain probes, one core" };
        // A quick run does not look for the limit.
        let holds = (size != Size::Quick).then_some(best_rate >= goal);
        let target = format!("{goal:.0}/s, late p99 5 ms");
        rows.push(Row::new("B5", what, format!("{best}{beyond}"), &target, holds));
    }
    if let Some(sent) = cost {
        rows.extend(costs(&sent, &Load { url: backend.url(), rate: 1000.0, seconds }).await?);
    }
    Ok(rows)
}

async fn costs(sent: &Sent, load: &Load) -> Result<Vec<Row>, BenchError> {
    let own = format!("{:.0} us of CPU a probe at {:.0}/s", sent.cpu_us, load.rate);
    let (value, holds) = match oha_cost(load).await? {
        Some(oha_us) => {
            let ratio = sent.cpu_us / oha_us;
            let winner = if ratio > 1.0 { "oha wins" } else { "the harness wins" };
            (
                format!("{own}; oha with correction {oha_us:.0} us; ratio {ratio:.2}: {winner}"),
                Some(ratio <= 2.0),
            )
        }
        None => (format!("{own}; oha is not installed"), None),
    };
    let cpu = Row::new("B6", "CPU, user and system", value, "at most 2.0 times oha", holds);
    let (disk, memory) = (sent.journal_bytes * RECORDS / 1e6, sent.resident_bytes.max(0.0) * RECORDS / 1e6);
    let value = format!(
        "{:.0} bytes a record in the journal, so {disk:.0} MB for 10 million; resident memory grows by {:.0} bytes a probe, so {memory:.0} MB (both from {} probes)",
        sent.journal_bytes, sent.resident_bytes, sent.ended
    );
    let holds = Some(disk <= 400.0 && memory <= 32.0);
    Ok(vec![cpu, Row::new("B7", "memory and disk", value, "400 MB on disk, 32 MB of memory", holds)])
}

/// Send at a fixed rate from a process of its own.
pub(super) async fn send(given: &Given) -> Result<Sent, BenchError> {
    let text = serde_json::to_string(given)
        .map_err(|error| BenchError::Part { part: "load".to_owned(), why: error.to_string() })?;
    said("load", in_part("load", &text, None).await?).await
}

/// Send from this process, and say what became of it.
pub(super) fn part(given: &str) -> Result<(), BenchError> {
    let failed = |why: String| BenchError::Part { part: "load".to_owned(), why };
    let given: Given = serde_json::from_str(given).map_err(|error| failed(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let sent = runtime.block_on(send_here(&given))?;
    let text = serde_json::to_string(&sent).map_err(|error| failed(error.to_string()))?;
    std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes())?;
    Ok(())
}

#[derive(Default)]
struct Seen {
    late_us: Vec<u64>,
    latency_us: Vec<u64>,
    ended: u64,
    skipped: u64,
}

async fn send_here(given: &Given) -> Result<Sent, BenchError> {
    let clock = Clock::starting_now();
    let mut journal = Journal::create(&given.journal, clock)?;
    // Room for all of it beforehand, so that only the harness's own memory grows.
    let room = (given.rate * given.seconds * 1.1) as usize + 16;
    let seen = Arc::new(Mutex::new(Seen {
        late_us: Vec::with_capacity(room),
        latency_us: Vec::with_capacity(room),
        ..Seen::default()
    }));
    let observed = Arc::clone(&seen);
    journal.observe(move |entry| {
        let mut seen = observed.lock().unwrap_or_else(PoisonError::into_inner);
        match &entry.event {
            Event::ProbeEnded(record) => {
                seen.ended += 1;
                seen.late_us.push(record.sent_us.saturating_sub(record.intended_us));
                if record.outcome == Outcome::Ok {
                    seen.latency_us.push(record.ended_us.saturating_sub(record.intended_us));
                }
            }
            Event::ProbeSkipped { .. } => seen.skipped += 1,
            _ => {}
        }
    });
    let journal = Arc::new(journal);
    let prober = Prober::new(&given.url, Secret::random(), clock)
        .map_err(|error| BenchError::Http(error.to_string()))?;
    let rate = Rate::new(given.rate).ok_or_else(|| BenchError::Http("a rate of nothing".to_owned()))?;
    let route = PlannedRoute {
        route: "agent".to_owned(),
        model: PRIMARY.to_owned(),
        rate,
        hold: Period(Duration::from_secs_f64(given.seconds)),
        stream: if given.streamed { Forms::Streamed } else { Forms::Whole },
        max_tokens: 16,
        timeout: Period(Duration::from_millis(given.timeout_ms)),
        before: None,
        after: None,
        fails_over: false,
        recover: None,
    };
    let (cpu_before, resident_before) = (cpu_us(), resident());
    let traffic = Traffic::start(TrafficOptions {
        scenario: "load".to_owned(),
        injection: None,
        routes: vec![route],
        prober,
        journal: Arc::clone(&journal),
        budgets: Arc::new(Mutex::new(BTreeMap::new())),
        touches: vec![Vec::new()],
        prompt_tokens: vec![0],
        first_us: vec![clock.now_us() + 50_000],
        always_kept: true,
    })?;
    tokio::time::sleep(Duration::from_secs_f64(given.seconds)).await;
    traffic.finish(&CancellationToken::new()).await;
    let (cpu, resident) = (cpu_us() - cpu_before, resident().saturating_sub(resident_before));
    if let Some(error) = journal.error() {
        return Err(error.into());
    }
    let bytes = std::fs::metadata(&given.journal)?.len();
    std::fs::remove_file(&given.journal)?;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let each = |total: u64| total as f64 / seen.ended.max(1) as f64;
    let ok = seen.latency_us.len() as u64;
    Ok(Sent {
        ended: seen.ended,
        ok,
        skipped: seen.skipped,
        late: quantiles(seen.late_us.clone(), 0),
        latency: quantiles(seen.latency_us.clone(), seen.ended - ok),
        cpu_us: each(cpu),
        journal_bytes: each(bytes),
        resident_bytes: each(resident),
    })
}

/// User and system time of this process.
fn cpu_us() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(spent.tv_sec), u64::try_from(spent.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000 + nanos.unwrap_or(0) / 1000
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// For tables: milliseconds, or that it never came.
pub(super) fn figure(figure: Option<f64>) -> String {
    figure.map_or_else(|| "never".to_owned(), |figure| format!("{figure:.1} ms"))
}
