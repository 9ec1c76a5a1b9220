//! B1, B2, B4 and B9: outages of known length through the code that measures every run.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use mocks::truth::Shape;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::event::{Spec, Without, measure};
use super::score::{Scored, score};
use super::table::Row;
use super::truth::TruthServer;
use super::{BenchError, Size};
use crate::verdict::result::Verdict;

/// Lengths of outages, in milliseconds.
const OUTAGES: [u64; 6] = [4900, 5100, 1000, 200, 5000, 8000];
/// Times between two probes, in milliseconds.
const CADENCES: [u64; 3] = [50, 10, 200];
/// Outages at a time.
const AT_ONCE: usize = 20;

/// The outages of B1 and B2.
fn outages(size: Size, chance: &mut ChaCha8Rng) -> Vec<Spec> {
    let shapes = Shape::ALL.len() - 1;
    let count = match size {
        Size::Quick => 2 * shapes,
        Size::Full(events) => events,
    };
    let spec = |index: usize| {
        // In a quick run each shape meets two lengths and two cadences; a full one has all of all.
        let (outage, cadence) = match size {
            Size::Quick => ((index + index / shapes) % 5, (index + index / shapes) % 3),
            Size::Full(_) => ((index / shapes) % 6, (index / shapes / 6) % 3),
        };
        Spec {
            shape: Shape::ALL[index % shapes],
            outage: Duration::from_millis(OUTAGES[outage]),
            cadence: Duration::from_millis(CADENCES[cadence]),
            phase: chance.random_range(0.0..1.0),
            without: Without::Nothing,
        }
    };
    (0..count).map(spec).collect()
}

/// The rows B1, B2, B4 and B9.
pub(super) async fn rows(size: Size, truth: &TruthServer, folder: &Path) -> Result<Vec<Row>, BenchError> {
    let mut chance = ChaCha8Rng::seed_from_u64(7);
    let mut specs = outages(size, &mut chance);
    let recovering = specs.len();
    let never = match size {
        Size::Quick => 2,
        Size::Full(events) => events / 20,
    };
    for index in 0..2 * never {
        let (shape, without) = match index % 2 {
            0 => (Shape::NeverRecovers, Without::Nothing),
            // The run ends while probes are open.
            _ => (Shape::Swallow, Without::End),
        };
        let cadence = Duration::from_millis(CADENCES[index / 2 % 3]);
        let phase = chance.random_range(0.0..1.0);
        specs.push(Spec { shape, outage: Duration::from_secs(6), cadence, phase, without });
    }
    let censored = specs.len();
    for without in [Without::Effect, Without::Probes, Without::Baseline, Without::Modes] {
        let cadence = Duration::from_millis(50);
        specs.push(Spec {
            shape: Shape::Fast503,
            outage: Duration::from_secs(1),
            cadence,
            phase: 0.5,
            without,
        });
    }
    let at_once = if size == Size::Quick { specs.len() } else { AT_ONCE };
    let one = |(index, spec): (usize, Spec)| async move {
        let journal = folder.join(format!("{index}.jsonl"));
        let measured = measure(spec, truth, &journal).await?;
        let scored = score(&measured);
        std::fs::remove_file(&journal)?;
        Ok::<_, BenchError>((index, scored?))
    };
    let all = futures::stream::iter(specs.into_iter().enumerate()).map(one).buffer_unordered(at_once);
    let mut scored = all.collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    scored.sort_by_key(|(index, _)| *index);
    let scored: Vec<Scored> = scored.into_iter().map(|(_, scored)| scored).collect();
    let mut rows = accuracy(&scored[..recovering]);
    rows.extend(verdicts("B2", "verdicts", &scored[..recovering]));
    rows.push(never_recovers(&scored[recovering..censored]));
    rows.push(no_data(&scored[censored..], folder));
    Ok(rows)
}

fn accuracy(all: &[Scored]) -> Vec<Row> {
    let mut rows = Vec::new();
    for cadence in CADENCES {
        let own: Vec<&Scored> = all.iter().filter(|one| one.cadence_ms == cadence as f64).collect();
        let sd_max = cadence as f64 / 6.0_f64.sqrt() + 2.0;
        for (what, errors) in [
            ("steady", own.iter().filter_map(|one| one.steady_error()).collect::<Vec<f64>>()),
            ("not good", own.iter().filter_map(|one| one.bad_error()).collect()),
        ] {
            let Some(spread) = Spread::of(&errors) else { continue };
            let value = format!(
                "bias {:+.2} ms, sd {:.2} ms, max {:.1} ms, n {}",
                spread.bias,
                spread.sd,
                spread.max,
                errors.len()
            );
            // By chance alone the mean of few lies further off.
            let chance = 3.0 * spread.sd / (errors.len() as f64).sqrt();
            let holds = spread.bias.abs() <= 2.0_f64.max(if errors.len() < 100 { chance } else { 0.0 })
                && spread.sd <= sd_max;
            let target = format!("bias 2 ms, sd {sd_max:.1} ms");
            rows.push(Row::new(
                "B1",
                &format!("{what}, probe every {cadence} ms"),
                value,
                &target,
                Some(holds),
            ));
        }
    }
    let share = |slack: f64| {
        let known: Vec<bool> = all.iter().filter_map(|one| one.is_inside(slack)).collect();
        (known.iter().filter(|inside| **inside).count(), known.len())
    };
    let ((strictly, n), (inside, _)) = (share(0.0), share(super::score::ON_ITS_WAY_US as f64 / 1000.0));
    let missing = all.iter().filter(|one| one.steady.is_none()).count();
    let percent = |count: usize| 100.0 * count as f64 / n.max(1) as f64;
    let value = format!(
        "{:.2} % of {n} ({:.2} % without the 2 ms that a request is on its way); {missing} without a bracket",
        percent(inside),
        percent(strictly)
    );
    let holds = percent(inside) >= 99.5 && missing * 200 <= all.len();
    rows.push(Row::new("B1", "truth inside the bracket", value, "99.5 %", Some(holds)));
    rows
}

/// Mean, standard deviation and the largest of some errors.
struct Spread {
    bias: f64,
    sd: f64,
    max: f64,
}

impl Spread {
    fn of(errors: &[f64]) -> Option<Self> {
        let n = errors.len() as f64;
        let bias = errors.iter().sum::<f64>() / n;
        let variance = errors.iter().map(|error| (error - bias).powi(2)).sum::<f64>() / (n - 1.0);
        let max = errors.iter().map(|error| error.abs()).fold(0.0, f64::max);
        (errors.len() > 1).then_some(Self { bias, sd: variance.sqrt(), max })
    }
}

/// What the readings say against what was so.
pub(super) fn verdicts(row: &str, what: &str, all: &[Scored]) -> Vec<Row> {
    let count = |reading: &dyn Fn(&Scored) -> Option<Verdict>, verdict: Option<Verdict>| {
        all.iter().filter(|one| reading(one) == verdict).count()
    };
    let line = |reading: &dyn Fn(&Scored) -> Option<Verdict>| {
        format!(
            "{} pass, {} fail, {} inconclusive, {} not judged",
            count(reading, Some(Verdict::Pass)),
            count(reading, Some(Verdict::Fail)),
            count(reading, Some(Verdict::Inconclusive)),
            count(reading, None)
        )
    };
    let wrong: Vec<String> = all.iter().filter_map(Scored::wrong).collect();
    let value = format!(
        "service: {}; request: {}; wrong {}{}",
        line(&|one| one.service),
        line(&|one| one.request),
        wrong.len(),
        if wrong.is_empty() {
            String::new()
        } else {
            format!(" ({})", wrong[..wrong.len().min(super::score::WRONG_SHOWN)].join("; "))
        }
    );
    let mut rows = vec![Row::new(row, what, value, "none wrong", Some(wrong.is_empty()))];
    if row == "B2" {
        let open: Vec<&Scored> = all.iter().filter(|one| one.is_needlessly_open()).collect();
        let first = open.first().map(|one| {
            let why = one.reasons.first().map(String::as_str).unwrap_or_default();
            format!(" (the first: {} every {} ms: {why})", one.shape.word(), one.cadence_ms)
        });
        let value = format!("{} of {}{}", open.len(), all.len(), first.unwrap_or_default());
        let target = "none further than d + 5 ms from the limit";
        rows.push(Row::new(row, "inconclusive", value, target, Some(open.is_empty())));
    }
    rows
}

fn never_recovers(all: &[Scored]) -> Row {
    let (cut, whole): (Vec<&Scored>, Vec<&Scored>) =
        all.iter().partition(|one| one.shape != Shape::NeverRecovers);
    let failed = whole.iter().filter(|one| one.verdict == Verdict::Fail).count();
    let passed = cut.iter().filter(|one| one.exit == 0).count();
    let accounted = all.iter().filter(|one| one.is_accounted()).count();
    let probes: u64 = all.iter().map(|one| one.accounted).sum();
    let value = format!(
        "{failed} of {} fail; of {} cut inside the outage {passed} pass; {accounted} of {} have all probes accounted for ({probes} probes)",
        whole.len(),
        cut.len(),
        all.len()
    );
    let holds = failed == whole.len() && passed == 0 && accounted == all.len();
    let holds = (!whole.is_empty() && !cut.is_empty()).then_some(holds);
    Row::new("B4", "never recovers", value, "all fail, planned = accounted", holds)
}

fn no_data(all: &[Scored], folder: &Path) -> Row {
    let exits: Vec<String> = all.iter().map(|one| one.exit.to_string()).collect();
    let empty = folder.join("empty.jsonl");
    let is_refused = std::fs::write(&empty, "").is_ok() && crate::journal::read(&empty).is_err();
    let value = format!(
        "without effect, probes, baseline, modes: exit {}; an empty journal is {}",
        exits.join(", "),
        if is_refused { "refused" } else { "taken" }
    );
    let holds = all.iter().all(|one| one.exit == 3) && !all.is_empty() && is_refused;
    Row::new("B9", "no data", value, "exit 3, never 0", Some(holds))
}
