//! The judged run: what `result.json` holds and every report format is rendered from.
//!
//! Field names are a published contract (`harness/result/v1`). Instants (`*_ms`) are milliseconds on
//! one monotonic clock since the run started; `*_after_ms` are durations; a bracket is `[lo, hi]`,
//! `[lo, null]` where its end was not seen.

mod events;
mod preflight;
mod streams;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::events::{EventResult, EventRoute, Measure, QuantileBound, Support};
pub use self::preflight::{
    DeploymentSettings, Failing, ForeseenWait, GatewaySettings, MigrationLine, Outlook, Standing,
};

pub use self::streams::Streams;

/// `[lo, hi]` in milliseconds; `hi` is `None` where the end was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bracket(pub f64, pub Option<f64>);

/// What the evidence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Shown to hold.
    Pass,
    /// Something could not be established.
    Inconclusive,
    /// Shown not to hold.
    Fail,
}

/// A verdict, or nobody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RequirementVerdict {
    /// Shown to hold.
    Pass,
    /// Something could not be established.
    Inconclusive,
    /// Shown not to hold.
    Fail,
    /// This run did not look; does not move the run's verdict.
    NotChecked,
}

/// How the run itself ended, which says nothing about the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Every planned scenario was run to its end.
    Completed,
    /// A signal or the deadline cut it short.
    Interrupted,
    /// Preflight or lock said no; nothing was touched.
    Refused,
    /// The harness itself could not go on.
    Aborted,
}

/// A whole judged run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunResult {
    /// Always `harness/result/v1`.
    pub schema: String,
    /// Unique; also the name of the run directory.
    pub run_id: String,
    /// Name of the environment.
    pub environment: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// How the run itself ended.
    pub ended: Ended,
    /// The gateway under test.
    pub gateway: GatewayIdentity,
    /// Fail beats inconclusive beats pass, over scenarios and run-level requirements.
    pub verdict: Verdict,
    /// Everything that was changed is as it was, seen by evidence.
    pub restored: bool,
    /// What a person types first where something is not restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_with: Option<String>,
    /// Why the verdict is not pass, most important first; empty on pass.
    pub reasons: Vec<String>,
    /// Over all scenarios, always all five.
    pub requirements: Vec<RunRequirement>,
    /// Every planned scenario, in the order in which they ran.
    pub scenarios: Vec<ScenarioResult>,
    /// What the gateway's own settings let expect; `null` where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<Outlook>,
    /// The state that openclaw's migration has left (FR222, FR223); `null` where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Vec<MigrationLine>>,
    /// Things worth knowing that are no failure.
    pub findings: Vec<String>,
    /// How the run was made, for people: label and value, in order.
    pub made_with: Vec<(String, String)>,
    /// What upstreams served against what clients got, over the whole run; empty where nobody counted.
    #[serde(default)]
    pub balance: Vec<Balance>,
}

impl RunResult {
    /// What a program that made this run ends with: 4 where something is left, else 1 for fail, 3 for inconclusive, 0
    /// for pass.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.restored, self.verdict) {
            (false, _) => 4,
            (true, Verdict::Fail) => 1,
            (true, Verdict::Inconclusive) => 3,
            (true, Verdict::Pass) => 0,
        }
    }
}

/// The gateway under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GatewayIdentity {
    /// `mock`, `litellm` or `openai`.
    pub kind: String,
    /// As it told; `unknown` where it did not.
    pub version: String,
    /// Which configuration it ran with (a name and a hash).
    pub config: String,
}

/// A requirement over the whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRequirement {
    /// `FR217`, ...
    pub id: String,
    /// Over all scenarios that look at it.
    pub verdict: RequirementVerdict,
    /// Which scenarios looked at it.
    pub scenarios: Vec<String>,
    /// The evidence, in words.
    pub detail: String,
}

/// A requirement in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioRequirement {
    /// `FR217`, ...
    pub id: String,
    /// In this scenario.
    pub verdict: RequirementVerdict,
    /// The evidence, in words.
    pub detail: String,
}

/// One judged scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioResult {
    /// Name of the scenario.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Void experiment -> inconclusive; else failure -> fail; else anything open -> inconclusive.
    pub verdict: Verdict,
    /// Why it is not pass; empty on pass.
    pub reasons: Vec<String>,
    /// The requirements that the scenario file names.
    pub requirements: Vec<ScenarioRequirement>,
    /// Every fault in effect in this mode.
    pub faults: Vec<FaultResult>,
    /// Every route with traffic.
    pub routes: Vec<RouteResult>,
    /// What happened, in time order.
    pub timeline: Vec<TimelineEntry>,
    /// Things worth knowing that are no failure.
    pub findings: Vec<String>,
    /// Which pods of a gateway in a cluster answered; `null` where that is not known, or it is in none.
    #[serde(default)]
    pub answered_by: Option<AnsweredBy>,
    /// What logs of the gateway counted while it went on, whoever asked.
    #[serde(default)]
    pub counts: Vec<LogCount>,
    /// What upstreams themselves counted while it went on, past the gateway.
    #[serde(default)]
    pub upstream_counts: Vec<UpstreamCount>,
    /// One entry an injection, where its faults are injected more than once: figures of routes are then over those that
    /// count, and those of a failover the worst event's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventResult>,
}

/// What an upstream counted in a scenario, beside what clients got from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpstreamCount {
    /// The component.
    pub component: String,
    /// `access log` or `counters`.
    pub source: String,
    /// Model calls that it shows, with whatever status and whoever made them.
    pub calls: u64,
    /// Of those, answered with 200.
    pub answered: u64,
    /// Requests that we sent through the gateway meanwhile, to whatever model.
    pub ours: u64,
    /// Complete replies of the same time that are attributed to it.
    pub got: u64,
    /// How the two stand to each other.
    pub standing: CountStanding,
    /// Why it says nothing, or not all.
    pub trouble: Option<String>,
}

/// How the answers that an upstream counted stand to those that clients got from it; the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CountStanding {
    /// It answered at least as often, and no oftener than we asked.
    Agrees,
    /// It answered oftener than we asked: others use it, or the gateway asks it again.
    Beyond,
    /// It shows nothing.
    Silent,
    /// It shows fewer, and perhaps not all.
    NotKnown,
    /// All that it counted is known, and it answered less often: somebody else gave some of these replies.
    Contradicts,
}

/// What one log of the gateway counted in a scenario, beside what clients got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogCount {
    /// `gateway log` or `loki`.
    pub source: String,
    /// Model calls that it shows answered, whoever made them.
    pub calls: u64,
    /// Our own that were answered meanwhile.
    pub ours: u64,
    /// Of those, at least so many never arrived in it.
    pub missing: u64,
    /// Attempts that it shows answered, by alias; empty where it does not tell models.
    pub answers: BTreeMap<String, u64>,
    /// Complete replies in the same time, by alias.
    pub got: BTreeMap<String, u64>,
    /// Why it says nothing, or not all.
    pub trouble: Option<String>,
}

/// Which pods of a gateway answered in a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnsweredBy {
    /// How that is known.
    pub known_by: KnownBy,
    /// By name. With `access-log` each with the model calls that its log shows, whoever made them: a reply does not
    /// name its pod.
    pub pods: BTreeMap<String, Option<u64>>,
}

/// How it is known which pods of a gateway answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KnownBy {
    /// It has no other.
    OnlyPod,
    /// A port-forward led to them and to no other.
    PortForward,
    /// Their logs, which show how many calls each answered, and not which.
    AccessLog,
}

/// One line of a scenario's story.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEntry {
    /// When, since the run started.
    pub at_ms: f64,
    /// What, in words.
    pub what: String,
}

/// One fault in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultResult {
    /// `cloud`, ...
    pub component: String,
    /// `blackhole`, ...
    pub kind: String,
    /// Carried over from the mode before.
    pub inherited: bool,
    /// Which injection of its scenario it belongs to, from 1; absent where there is but one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injection: Option<u32>,
    /// RFC 3339, UTC.
    pub injected_at: String,
    /// Mutation called, accepted.
    pub injected_ms: Bracket,
    /// Last evidence of up, first evidence of down; `null` where it was never seen in effect.
    pub effective_ms: Option<Bracket>,
    /// Last evidence of down, first completion served; `null` while not healed in this scenario.
    pub healed_ms: Option<Bracket>,
    /// In effect without a break from `effective_ms` to heal (or the mode's end).
    pub held: bool,
    /// What a client of the component met first, in words: it decides what the failover time means.
    #[serde(default)]
    pub seen_as: Option<String>,
    /// Observations made apart from the probes.
    pub evidence: Vec<Evidence>,
}

impl FaultResult {
    /// How exactly its beginning is known; `None` where it was not seen.
    #[must_use]
    pub fn effect_width_ms(&self) -> Option<f64> {
        let Bracket(lo, hi) = self.effective_ms?;
        hi.map(|hi| (hi - lo).max(0.0))
    }
}

/// One observation that a fault is or is not in effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// When.
    pub at_ms: f64,
    /// Who looked, e.g. `tcp-witness`.
    pub source: String,
    /// What it saw, in words.
    pub saw: String,
}

/// One route's figures in one scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RouteResult {
    /// `agent`, ...
    pub route: String,
    /// The alias that the caller asks for.
    pub model: String,
    /// The alias that must answer, `error`, or `null` where the route is not judged.
    pub expected: Option<String>,
    /// Judged probes sent.
    pub requests: u64,
    /// Complete, valid replies, whoever sent them.
    pub ok: u64,
    /// By class, e.g. `client-timeout`, `http-500`.
    pub errors: BTreeMap<String, u64>,
    /// Sent + skipped.
    pub planned: u64,
    /// Planned and never sent.
    pub skipped: u64,
    /// Sent later than the lateness limit.
    pub late: u64,
    /// By alias; `unknown` where no source named one. Adds up to `ok`.
    pub served_by: BTreeMap<String, u64>,
    /// Judged probes on which two sources disagree.
    pub attribution_conflicts: u64,
    /// The first of those, with the raw values.
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
    /// How each source stands to who served the complete replies, strongest first.
    #[serde(default)]
    pub sources: Vec<SourceStanding>,
    /// Intended start to last byte, errors at infinity.
    pub latency_ms: Quantiles,
    /// Intended start to first content, errors at infinity.
    pub ttft_ms: Quantiles,
    /// Where the expected answer is an error: intended start to the whole error reply.
    pub error_reply_ms: Option<Quantiles>,
    /// Baseline, in-flight, drain, fail-back and control probes, which are not judged.
    pub unjudged: BTreeMap<String, PhaseCounts>,
    /// `null` where nothing had to fail over.
    pub failover: Option<Failover>,
    /// `null` where the mode is not followed by a heal.
    pub failback: Option<Failback>,
    /// What asking the expected alias itself costs in the same mode (control probes), first content.
    pub control_ms: Option<Quantiles>,
    /// The worst judged probes, slowest first, for the story; at most five.
    pub worst: Vec<WorstProbe>,
    /// What became of them on their way through openclaw; absent where the route enters at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<Turns>,
    /// What clients got of its streams; absent where nothing was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Streams>,
}

/// Judged probes that were turns of a person with openclaw, beside what the gateway saw of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Turns {
    /// Where they entered: `openclaw`, `openclaw-subagent`, `telegram`.
    pub via: String,
    /// openclaw's version; `unknown` where it never came up.
    pub version: String,
    /// How openclaw retries: `stock` or `bounded`.
    pub retries: String,
    /// Requests to the gateway that they became.
    pub requests: u64,
    /// The most of one turn.
    pub most: u64,
    /// Turns that became more than one.
    pub several: u64,
    /// Turns of which none reached the gateway.
    pub none: u64,
    /// The gateway's own time: of the request that was answered, from its arrival to its last byte; a turn without one is
    /// at infinity.
    pub gateway_ms: Quantiles,
    /// From the start of a turn to its first request at the gateway.
    pub before_ms: Quantiles,
    /// Complete turns by what says who served them.
    pub known_by: BTreeMap<String, u64>,
    /// Whether the two layers compounded, and which setting bounds that.
    pub words: Vec<String>,
}

/// A reply on which sources disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conflict {
    /// Probe id.
    pub probe: String,
    /// The alias that the strongest source names.
    pub alias: String,
    /// That source.
    pub by: String,
    /// Sources that name another, each with its raw value.
    pub said: Vec<String>,
}

/// How often a source agreed with who served in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceStanding {
    /// Which source.
    pub source: String,
    /// Replies on which it was the strongest that named an alias.
    pub decided: u64,
    /// Replies on which it named whoever served, those that it decided included.
    pub agreed: u64,
    /// Replies on which it said nothing.
    pub silent: u64,
    /// Replies on which it named nobody known, or was known to be wrong.
    pub unusable: u64,
    /// Replies on which it named another.
    pub conflicted: u64,
}

/// What one source counted at an alias over the run, against what clients got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Balance {
    /// Alias.
    pub alias: String,
    /// Who counted.
    pub source: String,
    /// Answers that it counted.
    pub served: u64,
    /// Complete replies that clients of routes got from it.
    pub got: u64,
    /// Of those, so many that the source does not show.
    pub missing: u64,
    /// What was served beyond that, by cause.
    pub explained: BTreeMap<String, u64>,
    /// What nobody is known to have asked for.
    pub unexplained: u64,
}

/// Counts of probes of a phase that is not judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseCounts {
    /// Sent.
    pub requests: u64,
    /// Complete, valid replies.
    pub ok: u64,
    /// By alias.
    pub served_by: BTreeMap<String, u64>,
    /// By class.
    pub errors: BTreeMap<String, u64>,
}

/// A probe worth telling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorstProbe {
    /// Probe id.
    pub probe: String,
    /// Intended start.
    pub at_ms: f64,
    /// Intended start to first content (or to the whole error reply); `null` where it never came.
    pub first_content_ms: Option<f64>,
    /// Served by, or the error class.
    pub outcome: String,
    /// Where its time went, in order, as far as the upstreams' journals tell.
    pub hops: Vec<Hop>,
}

/// One step on a probe's way through the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hop {
    /// Alias; several, separated by commas, where their times cannot be told apart; empty where nobody was asked.
    pub alias: String,
    /// When it began.
    pub at_ms: f64,
    /// How long it took; `null` where it never ended.
    pub took_ms: Option<f64>,
    /// How it ended, in words.
    pub outcome: String,
}

/// Quantiles over every sent probe; those that fall into the infinite mass are `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantiles {
    /// Probes counted, errors included.
    pub count: u64,
    /// How many of them are at infinity (errors).
    pub infinite: u64,
    /// Least.
    pub min: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 90 %.
    pub p90: Option<f64>,
    /// 99 %.
    pub p99: Option<f64>,
    /// Greatest.
    pub max: Option<f64>,
}

/// Failover of one route, judged in both readings of NFR123.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failover {
    /// The limit.
    pub limit_ms: f64,
    /// Independent injections behind these figures, all of which were judged.
    pub injections: u64,
    /// Worst first content over judged probes and in-flight probes without content; `null` if censored.
    pub worst_ms: Option<f64>,
    /// A probe that had to be answered never was.
    pub censored: bool,
    /// Worst last byte of the same probes; `null` if censored.
    pub worst_last_byte_ms: Option<f64>,
    /// Effective to the start of the first unbroken run of good replies; `null` where there is none.
    pub steady_after_ms: Option<Bracket>,
    /// Effective to the first expected reply; `null` where there is none.
    pub first_expected_after_ms: Option<Bracket>,
    /// Gap between good completions around the fault, less the usual gap.
    pub unavailable_gap_ms: Option<f64>,
    /// Total time in which a newly started probe would not have been good.
    pub unavailable_starts_ms: f64,
    /// Probes that had content when the fault took effect.
    pub in_flight: InFlight,
    /// Every judged probe is good.
    pub request_verdict: Verdict,
    /// Steady service within the limit.
    pub service_verdict: Verdict,
    /// What these injections show of all such outages; absent where there was but one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support: Option<Support>,
}

/// Probes in the middle of an answer when the fault took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InFlight {
    /// Completed.
    pub served: u64,
    /// Broken off.
    pub lost: u64,
}

/// Fail-back of one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failback {
    /// Healed to the first reply by the primary; `null` where none came.
    pub first_after_ms: Option<Bracket>,
    /// Healed to steady service by the primary; `null` where it was not reached.
    pub steady_after_ms: Option<Bracket>,
    /// Errors after heal.
    pub errors: u64,
    /// Changes of the serving alias beyond one.
    pub flaps: u64,
    /// Limit to steady; `null` where the scenario states none.
    pub limit_ms: Option<f64>,
    /// Whether it held; `null` where the scenario states no expectation.
    pub verdict: Option<Verdict>,
}

/// The answered probes of one route in one scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSamples {
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the route.
    pub route: String,
    /// Start of the judged time, in milliseconds since the run started.
    pub start_ms: u64,
    /// Intended start to last byte of every judged probe that was answered, in microseconds, any order.
    pub samples_us: Vec<u64>,
    /// Judged probes that ended in an error and so have no latency.
    pub errors: u64,
}
