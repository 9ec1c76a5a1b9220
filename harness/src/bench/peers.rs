//! Other tools on the same server: what they say of an outage whose truth is known.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use mocks::truth::{Does, PRIMARY, Script, Step};
use serde_json::Value;

use super::load::{Given, figure, send};
use super::table::Row;
use super::truth::{Backend, Happened, TruthServer};
use super::{BenchError, Size, first_core, other_core};
use crate::analysis::quantiles;

/// Requests a second of the comparison.
const RATE: u64 = 100;

/// A load to compare costs at.
pub(super) struct Load {
    pub(super) url: String,
    pub(super) rate: f64,
    pub(super) seconds: f64,
}

/// What a tool says: milliseconds, `None` where it gives no figure.
struct Said {
    tool: &'static str,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
    /// What else it says.
    note: String,
}

pub(super) async fn rows(size: Size, folder: &Path) -> Result<Vec<Row>, BenchError> {
    let (seconds, stall, patience) = if size == Size::Quick { (4, 1, 3) } else { (8, 2, 10) };
    let truth = TruthServer::start(other_core())?;
    let mut rows = Vec::new();
    for returns in [true, false] {
        let (from_us, to_us) = (seconds * 250_000, seconds * 250_000 + stall * 1_000_000);
        let does = if returns { Does::Hold } else { Does::Swallow };
        let mut steps = vec![Step { after_us: from_us, does }];
        if returns {
            steps.push(Step { after_us: to_us, does: Does::Serve(PRIMARY.to_owned()) });
        }
        let script = Script { chunks: 1, chunk_gap_us: 0, steps, takes_down: false };
        let interval_us = 1_000_000 / RATE;
        let starts = (0..seconds * RATE).map(|index| index * interval_us);
        let waits: Vec<Option<u64>> = starts
            .map(|start| match (start >= from_us, returns) {
                (false, _) => Some(0),
                (true, true) => Some(to_us.saturating_sub(start)),
                (true, false) => None,
            })
            .collect();
        let finite: Vec<u64> = waits.iter().flatten().copied().collect();
        let never = (waits.len() - finite.len()) as u64;
        let exact = quantiles(finite, never);
        let what = if returns { format!("{stall} s stall at {RATE}/s") } else { "never returns".to_owned() };
        let value = format!(
            "p50 {}, p90 {}, p99 {}, max {}; {never} of {} never answered",
            figure(exact.p50),
            figure(exact.p90),
            figure(exact.p99),
            figure(exact.max),
            waits.len()
        );
        rows.push(Row::new("peers", &format!("{what}: truth"), value, "-", None));
        let mut errors: Vec<(f64, &str)> = Vec::new();
        for tool in ["harness", "oha", "hey", "wrk"] {
            let backend = truth.open(script.clone()).await?;
            let said = match tool {
                "harness" => Some(own(&backend, seconds, patience, folder).await?),
                _ => peer(tool, &backend, seconds, patience).await?,
            };
            backend.end(&mut Happened::default()).await?;
            let Some(said) = said else {
                rows.push(Row::new(
                    "peers",
                    &format!("{what}: {tool}"),
                    "not installed".to_owned(),
                    "-",
                    None,
                ));
                continue;
            };
            let ratio = said.p99.zip(exact.p99).map(|(said, exact)| said / exact);
            // Who says nothing at all is neither right nor wrong.
            let is_silent = said.max.is_none() && tool != "harness";
            let holds = match (ratio, exact.p99) {
                _ if is_silent => None,
                (Some(ratio), _) => Some((ratio - 1.0).abs() <= 0.05),
                // Never is never: a figure in its place is wrong.
                (None, exact) => Some(exact.is_none() && said.p99.is_none()),
            };
            if let Some(ratio) = ratio {
                errors.push(((ratio - 1.0).abs(), said.tool));
            }
            let figures = match is_silent {
                true => "no figures".to_owned(),
                false => format!(
                    "p50 {}, p90 {}, p99 {}, max {}",
                    figure(said.p50),
                    figure(said.p90),
                    figure(said.p99),
                    figure(said.max)
                ),
            };
            let value = format!(
                "{figures}{}{}",
                ratio.map(|ratio| format!("; p99 is {ratio:.2} of the truth")).unwrap_or_default(),
                said.note
            );
            rows.push(Row::new("peers", &format!("{what}: {tool}"), value, "p99 of the truth", holds));
        }
        if let Some((_, best)) = errors.iter().min_by(|a, b| a.0.total_cmp(&b.0)) {
            rows.push(Row::new(
                "peers",
                &format!("{what}: closest to the truth"),
                (*best).to_owned(),
                "-",
                None,
            ));
        }
    }
    Ok(rows)
}

async fn own(backend: &Backend<'_>, seconds: u64, patience: u64, folder: &Path) -> Result<Said, BenchError> {
    let given = Given {
        url: backend.url(),
        rate: RATE as f64,
        seconds: seconds as f64,
        streamed: false,
        timeout_ms: patience * 1000,
        journal: folder.join("own.jsonl"),
    };
    backend.start()?;
    let sent = send(&given).await?;
    let infinite = sent.latency.infinite;
    Ok(Said {
        tool: "harness",
        p50: sent.latency.p50,
        p90: sent.latency.p90,
        p99: sent.latency.p99,
        max: sent.latency.max,
        note: format!("; {infinite} of {} not answered, all told", sent.ended),
    })
}

async fn peer(
    tool: &'static str,
    backend: &Backend<'_>,
    seconds: u64,
    patience: u64,
) -> Result<Option<Said>, BenchError> {
    let (url, time) = (format!("{}/v1/chat/completions", backend.url()), format!("{seconds}s"));
    let rate = RATE.to_string();
    let (waits, waits_s, waits_longer) =
        (patience.to_string(), format!("{patience}s"), format!("{}s", 3 * patience));
    let arguments: Vec<&str> = match tool {
        "oha" => vec![
            "--no-tui",
            "-z",
            &time,
            "-c",
            "1000",
            "-q",
            &rate,
            "-t",
            &waits_s,
            "--latency-correction",
            "--wait-ongoing-requests-after-deadline",
            "--output-format",
            "json",
            &url,
        ],
        "hey" => vec!["-z", &time, "-c", &rate, "-q", "1", "-t", &waits, "-o", "csv", &url],
        _ => vec!["-t1", "-c10", "-d", &time, "--timeout", &waits_longer, "--latency", &url],
    };
    backend.start()?;
    let Some(out) = run(tool, &arguments, Duration::from_secs(seconds + 30)).await? else { return Ok(None) };
    if !out.status.success() {
        let note = format!("; it ended with {}", out.status);
        return Ok(Some(Said { tool, p50: None, p90: None, p99: None, max: None, note }));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    Ok(Some(match tool {
        "oha" => of_oha(&text),
        "hey" => of_hey(&text),
        _ => of_wrk(&text),
    }))
}

/// Run a tool on the first core; `None` where it is not there.
async fn run(tool: &str, arguments: &[&str], within: Duration) -> Result<Option<Output>, BenchError> {
    let mut command = tokio::process::Command::new(tool);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if let Some(core) = first_core()
        && let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
    {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        rustix::thread::sched_setaffinity(Some(pid), &set).map_err(std::io::Error::from)?;
    }
    match tokio::time::timeout(within, child.wait_with_output()).await {
        Ok(out) => Ok(Some(out?)),
        Err(_) => Err(BenchError::Part { part: tool.to_owned(), why: "does not end".to_owned() }),
    }
}

fn of_oha(text: &str) -> Said {
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    let of = |name: &str| said["latencyPercentiles"][name].as_f64().map(|seconds| seconds * 1000.0);
    let success = said["summary"]["successRate"].as_f64().unwrap_or(0.0) * 100.0;
    Said {
        tool: "oha",
        p50: of("p50"),
        p90: of("p90"),
        p99: of("p99"),
        max: said["summary"]["slowest"].as_f64().map(|seconds| seconds * 1000.0),
        note: format!("; success {success:.1} %"),
    }
}

/// Its raw file is better than its summary.
fn of_hey(text: &str) -> Said {
    let times = text.lines().skip(1).filter_map(|line| line.split(',').next()?.parse::<f64>().ok());
    let times: Vec<u64> = times.map(|seconds| (seconds * 1e6) as u64).collect();
    let count = times.len();
    let all = quantiles(times, 0);
    let note = format!("; {count} replies, failures left out");
    Said { tool: "hey", p50: all.p50, p90: all.p90, p99: all.p99, max: all.max, note }
}

fn of_wrk(text: &str) -> Said {
    let ms = |word: &str| {
        let unit = word.find(|c: char| c.is_alphabetic())?;
        let number: f64 = word[..unit].parse().ok()?;
        Some(match &word[unit..] {
            "us" => number / 1000.0,
            "ms" => number,
            "s" => number * 1000.0,
            _ => return None,
        })
    };
    let after = |name: &str, nth: usize| {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(name))?;
        ms(line.split_whitespace().nth(nth)?)
    };
    let note = "; closed loop, 10 connections".to_owned();
    Said {
        tool: "wrk",
        p50: after("50%", 1),
        p90: after("90%", 1),
        p99: after("99%", 1),
        max: after("Latency ", 3),
        note,
    }
}

/// User and system time that oha spends on a request, microseconds; `None` where it is not installed.
pub(super) async fn oha_cost(load: &Load) -> Result<Option<f64>, BenchError> {
    let (url, time) = (format!("{}/v1/chat/completions", load.url), format!("{}s", load.seconds));
    let rate = format!("{:.0}", load.rate);
    let body = r#"{"model":"primary","messages":[{"role":"user","content":"Say who you are, in a few words."}],"max_tokens":16,"stream":false}"#;
    let arguments = [
        "--no-tui",
        "-z",
        &time,
        "-c",
        "50",
        "-q",
        &rate,
        "--latency-correction",
        "-m",
        "POST",
        "-H",
        "content-type: application/json",
        "-d",
        body,
        "--output-format",
        "json",
        &url,
    ];
    let before = children_ticks();
    let limit = Duration::from_secs_f64(load.seconds + 30.0);
    let Some(out) = run("oha", &arguments, limit).await? else { return Ok(None) };
    let ticks = children_ticks().saturating_sub(before);
    let said: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let requests: u64 = said["statusCodeDistribution"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, n)| n.as_u64())
        .sum();
    // A tick is 10 ms on every Linux that this runs on.
    Ok((requests > 0).then(|| ticks as f64 * 10_000.0 / requests as f64))
}

/// User and system time of children that have ended, in ticks.
fn children_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name is in brackets and may hold spaces.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let number =
        |nth: usize| rest.split_whitespace().nth(nth).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    number(13) + number(14)
}
