//! Verdicts, classes and ids in plain words, shared by every format for people.

use crate::verdict::result::{Ended, RequirementVerdict, RunResult, ScenarioResult, Verdict};

use super::escape::plain;
use super::figures::counted;

/// `pass`, `fail`, `inconclusive`.
pub(super) fn verdict(v: Verdict) -> &'static str {
    match v {
        Verdict::Pass => "pass",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Fail => "fail",
    }
}

/// `PASS`, `FAIL`, `INCONCLUSIVE`.
pub(super) fn loud(v: Verdict) -> &'static str {
    match v {
        Verdict::Pass => "PASS",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::Fail => "FAIL",
    }
}

/// As [`verdict`], or `not checked`.
pub(super) fn requirement_verdict(v: RequirementVerdict) -> &'static str {
    match v {
        RequirementVerdict::Pass => "pass",
        RequirementVerdict::Inconclusive => "inconclusive",
        RequirementVerdict::Fail => "fail",
        RequirementVerdict::NotChecked => "not checked",
    }
}

/// What a requirement that reports trace to asks for, in one sentence.
pub(super) fn requirement(id: &str) -> Option<&'static str> {
    Some(match id {
        "FR217" => {
            "When the cloud is down, the gateway falls back in order: cloud-minimax, vllm-qwen, ollama-qwen"
        }
        "FR222" => {
            "openclaw uses cloud-kimi through LiteLLM first, and nothing of Anthropic is left in the chain"
        }
        "FR223" => "Coder sub-agents run on cloud-qwen3-coder",
        "NFR123" => "Failover is active within 5 seconds",
        "NFR125" => "Every operating mode behaves as designed, down to the last local model",
        _ => return None,
    })
}

/// What a kind of fault does to a component.
pub(super) fn fault_kind(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "blackhole" => "packets vanish, nothing answers",
        "refuse" => "connections are refused at once",
        "stall" => "connections open, but no answer comes",
        "slow" => "answers come, but slowly",
        "gone" => "some of its models are missing",
        "scale-to-zero" => "no pod is left running",
        "isolate" => "its pods run on, but nobody reaches them",
        "http-429" => "it answers that it is over its rate limit",
        "http-500" | "http-502" | "http-503" | "http-504" => "it answers with a server error",
        _ => return None,
    })
}

/// What happened to a probe that counts as an error.
pub(super) fn error_class(class: &str) -> String {
    match class {
        "client-timeout" => "no answer within the client timeout".to_owned(),
        "censored" => "still without an answer when the run was cut short".to_owned(),
        "told-error" => "openclaw told the person that it failed".to_owned(),
        "connect-refused" => "the gateway refused the connection".to_owned(),
        "connect-timeout" | "connect-failed" => "no connection to the gateway".to_owned(),
        _ => match class.strip_prefix("http-") {
            Some(code) if code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()) => {
                format!("HTTP status {code}")
            }
            _ => plain(class),
        },
    }
}

/// What a group of probes that is not judged is for.
pub(super) fn phase(name: &str) -> Option<&'static str> {
    Some(match name {
        "baseline" => "before the fault, to know the normal state",
        "in-flight" | "in_flight" => "sent before the fault, not finished when it took effect",
        "drain" => "after the judged time, while the last judged probes end",
        "failback" | "fail-back" => "after the fault was healed",
        "control" => "asks the expected model directly, without failover",
        _ => return None,
    })
}

/// The verdict in one line: what came out, how the run ended, restored or not, what was not checked.
/// Plain text; the caller escapes it.
pub(super) fn headline(run: &RunResult) -> String {
    let alarm = if run.restored { "" } else { " and NOT RESTORED" };
    let mut parts = vec![format!("{}{alarm}: {}", loud(run.verdict), outcome(run))];
    parts.extend(ending(run.ended).map(str::to_owned));
    parts.push(restored(run).to_owned());
    let unchecked = requirement_ids(run, RequirementVerdict::NotChecked);
    if !unchecked.is_empty() {
        parts.push(format!("not checked: {}", unchecked.join(", ")));
    }
    parts.join("; ")
}

fn outcome(run: &RunResult) -> String {
    let modes = run.scenarios.len();
    let failed = names(run, Verdict::Fail);
    let open = names(run, Verdict::Inconclusive);
    let unmet = requirement_ids(run, RequirementVerdict::Fail);
    let unknown = requirement_ids(run, RequirementVerdict::Inconclusive);
    let mut said = Vec::new();
    if !failed.is_empty() {
        said.push(format!("{} of {} failed ({})", failed.len(), counted(modes, "mode"), failed.join(", ")));
    }
    if !open.is_empty() {
        let of = if failed.is_empty() { format!(" of {}", counted(modes, "mode")) } else { String::new() };
        said.push(format!("{}{of} could not be judged ({})", open.len(), open.join(", ")));
    }
    if !unmet.is_empty() {
        said.push(format!("not met: {}", unmet.join(", ")));
    } else if said.is_empty() && !unknown.is_empty() {
        said.push(format!("not established: {}", unknown.join(", ")));
    }
    match (said.is_empty(), modes) {
        (false, _) => said.join(", "),
        (true, 0) => "no mode was run".to_owned(),
        (true, 1) => "the one mode behaved as required".to_owned(),
        (true, n) => format!("all {n} modes behaved as required"),
    }
}

fn names(run: &RunResult, verdict: Verdict) -> Vec<String> {
    let matching = run.scenarios.iter().filter(|s: &&ScenarioResult| s.verdict == verdict);
    matching.map(|s| plain(&s.name)).collect()
}

fn requirement_ids(run: &RunResult, verdict: RequirementVerdict) -> Vec<String> {
    run.requirements.iter().filter(|r| r.verdict == verdict).map(|r| plain(&r.id)).collect()
}

/// How a run ended that did not complete.
pub(super) fn ending(ended: Ended) -> Option<&'static str> {
    match ended {
        Ended::Completed => None,
        Ended::Interrupted => Some("the run was interrupted before its end"),
        Ended::Refused => Some("the run was refused before anything was touched"),
        Ended::Aborted => Some("the harness had to stop before the end of the run"),
    }
}

fn restored(run: &RunResult) -> &'static str {
    match (run.restored, run.ended) {
        (true, Ended::Refused) => "nothing had to be restored",
        (true, _) => "everything is restored",
        (false, _) => "something is still changed",
    }
}

/// The exit code of `harness run` that goes with this result, and what it means.
pub(super) fn exit(run: &RunResult) -> (u8, &'static str) {
    if !run.restored {
        return (4, "something that the run changed could not be put back");
    }
    match (run.verdict, run.ended) {
        (Verdict::Fail, _) => (1, "a requirement failed"),
        (Verdict::Pass, Ended::Completed) => (0, "every verdict is pass"),
        _ => (3, "nothing failed, but something could not be established"),
    }
}
