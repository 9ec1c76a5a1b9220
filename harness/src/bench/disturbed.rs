//! B3: a harness that is itself disturbed. It may say that it cannot tell; it must not say what is not so.

use std::time::Duration;

use futures::future::join_all;
use mocks::truth::Shape;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::accuracy::verdicts;
use super::event::{Spec, Without, measure};
use super::score::{Scored, score};
use super::table::Row;
use super::truth::TruthServer;
use super::{BenchError, Folder, Size, in_part, other_core, said};

/// How long the client is frozen.
const FROZEN: Duration = Duration::from_secs(1);
/// Threads that take the cores.
const BURNERS: usize = 4;

/// An outage for a process of its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Given {
    shape: Shape,
    outage_ms: u64,
    cadence_ms: u64,
    phase: f64,
}

pub(super) async fn rows(size: Size) -> Result<Vec<Row>, BenchError> {
    let count = match size {
        Size::Quick => 4,
        Size::Full(events) => (events / 10).max(4),
    };
    let mut rows = Vec::new();
    let frozen = many(size, count, true).await?;
    rows.extend(verdicts("B3", "client stopped for 1 s", &frozen));
    let burners = (0..BURNERS).map(|_| async { in_part("burn", "", None).await });
    let burners = join_all(burners).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let stressed = many(size, count, false).await;
    for mut burner in burners {
        let _gone = burner.kill().await;
    }
    rows.extend(verdicts("B3", "four threads take the cores", &stressed?));
    let value = "not done: the clock of this machine is not the bench's to set; only names and headings are taken from it";
    rows.push(Row::new("B3", "wall clock stepped", value.to_owned(), "none wrong", None));
    Ok(rows)
}

/// So many outages, some at a time, each in a process of its own.
async fn many(size: Size, count: usize, freezes: bool) -> Result<Vec<Scored>, BenchError> {
    let mut all = Vec::new();
    let numbers: Vec<usize> = (0..count).collect();
    for batch in numbers.chunks(10) {
        let batch = join_all(batch.iter().map(|index| one(size, *index, freezes))).await;
        all.extend(batch.into_iter().collect::<Result<Vec<_>, _>>()?);
    }
    Ok(all)
}

async fn one(size: Size, index: usize, freezes: bool) -> Result<Scored, BenchError> {
    let shapes = [Shape::Fast503, Shape::HangRelease, Shape::Refuse, Shape::Swallow];
    // Near the limit, where there is time for it.
    let outages_ms = if size == Size::Quick { [1000, 500, 1500, 700] } else { [4500, 1000, 5500, 4900] };
    let given = Given {
        shape: shapes[index % shapes.len()],
        outage_ms: outages_ms[(index + index / 4) % 4],
        cadence_ms: 50,
        phase: (index % 7) as f64 / 7.0,
    };
    let given = serde_json::to_string(&given)
        .map_err(|error| BenchError::Part { part: "outage".to_owned(), why: error.to_string() })?;
    let child = in_part("outage", &given, None).await?;
    if freezes {
        // Before, in, and after the outage.
        let moment = Duration::from_millis(900 + 731 * (index as u64 % 10));
        tokio::time::sleep(moment).await;
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, Signal::STOP).map_err(std::io::Error::from)?;
            tokio::time::sleep(FROZEN).await;
            kill_process(pid, Signal::CONT).map_err(std::io::Error::from)?;
        }
    }
    said("outage", child).await
}

/// One outage in this process.
pub(super) fn part(given: &str) -> Result<(), BenchError> {
    let failed = |why: String| BenchError::Part { part: "outage".to_owned(), why };
    let given: Given = serde_json::from_str(given).map_err(|error| failed(error.to_string()))?;
    let spec = Spec {
        shape: given.shape,
        outage: Duration::from_millis(given.outage_ms),
        cadence: Duration::from_millis(given.cadence_ms),
        phase: given.phase,
        without: Without::Nothing,
    };
    let folder = Folder::new()?;
    let journal = folder.0.join("journal.jsonl");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let scored = runtime.block_on(async {
        let truth = TruthServer::start(other_core())?;
        score(&measure(spec, &truth, &journal).await?)
    })?;
    let text = serde_json::to_string(&scored).map_err(|error| failed(error.to_string()))?;
    std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes())?;
    Ok(())
}
