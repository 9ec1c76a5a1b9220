//! The closed set of things that a journal can say.

use serde::{Deserialize, Serialize};

use super::client::{ClientStarted, GatewayCall, TurnTranscribed};
use super::stream::BrokenStream;
use crate::environment::Environment;
use crate::plan::Plan;
use crate::verdict::result::{Ended, GatewaySettings, KnownBy, MigrationLine};

/// Version of the journal format; a reader refuses a newer one. 3 came with clusters, 4 with what else tells who served, with
/// what stands before the gateway, and with what is found out before anything is measured.
pub const FORMAT: u32 = 4;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// 0, 1, 2, ... without gaps.
    pub seq: u64,
    /// When the line was written, in microseconds since the run's zero.
    pub at_us: u64,
    /// What happened.
    pub event: Event,
}

/// What happened. Instants (`*_us`) are microseconds since the run's zero, on one monotonic clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Always the first line.
    RunStarted(Box<RunStarted>),
    /// The gateway answers.
    GatewayStarted(GatewayStarted),
    /// How the gateway itself says that it routes, asked before anything was measured.
    GatewayTold {
        /// As it told.
        settings: Option<Box<GatewaySettings>>,
        /// Why it did not, or not so that it was understood.
        why: Option<String>,
    },
    /// The state that the migration of openclaw has left, looked at before anything was changed.
    MigrationSeen {
        /// Its facts; names only, no value of a secret.
        lines: Vec<MigrationLine>,
    },
    /// What the gateway was asked before anything was measured, so that its lazy parts are loaded.
    WarmedUp {
        /// One entry a request.
        requests: Vec<WarmUp>,
    },
    /// Preflight said no; nothing was touched.
    Refused {
        /// Why.
        reason: String,
    },
    /// A mode begins: traffic starts, nothing is changed yet. Where its faults are injected more than once each injection
    /// begins with this and ends with its own [`Event::ScenarioEnded`]; what stands between belongs to it.
    ScenarioStarted {
        /// Its name.
        scenario: String,
        /// Which of its injections, from 1; `None` where it has but one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        injection: Option<u32>,
        /// How long the first fault is held back once the baseline is there, so that it falls anywhere between two probes.
        /// `None` where nothing is injected, and in older journals.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phase_us: Option<u64>,
    },
    /// The state before the fault was not as it must be; no fault is injected.
    BaselineBroken {
        /// Its name.
        scenario: String,
        /// What was seen instead.
        saw: String,
    },
    /// A fault of the mode before stays in effect in this mode.
    FaultInherited {
        /// Its name.
        scenario: String,
        /// Number of the fault.
        fault: u32,
    },
    /// A mutation will be made; on disk before it is.
    FaultIntended {
        /// Number of the fault, unique in the run.
        fault: u32,
        /// Scenario that needs it.
        scenario: String,
        /// Component that it hits.
        component: String,
        /// `blackhole`, ...
        kind: String,
        /// How to undo it, in words.
        undo: String,
    },
    /// The mutation was accepted.
    FaultInjected {
        /// Number of the fault.
        fault: u32,
        /// When it was called.
        called_us: u64,
        /// When it was accepted.
        accepted_us: u64,
    },
    /// The mutation was refused or failed.
    InjectionFailed {
        /// Number of the fault.
        fault: u32,
        /// Why.
        error: String,
    },
    /// The witness never saw the fault in effect within the bound.
    FaultNotEffective {
        /// Number of the fault.
        fault: u32,
        /// How long was waited.
        waited_ms: u64,
    },
    /// What the witness saw, on every change. In order of `sent_us`.
    WitnessSaw {
        /// Component looked at.
        component: String,
        /// Who looked: `tcp-witness`, `http-witness`, `completion-witness`.
        source: String,
        /// Up or down.
        up: bool,
        /// When it was asked.
        sent_us: u64,
        /// When the answer, or the lack of one, was known.
        done_us: u64,
        /// In words.
        saw: String,
        /// When the observation before this one was sent, if there was one.
        previous_sent_us: Option<u64>,
    },
    /// What a pod of the gateway sees of a component has changed: new connections from there get through, or several in a
    /// row did not, or nobody looks any more. Of those that have to stay up this is what tells.
    SeenFromPod {
        /// Component looked at.
        component: String,
        /// The pod, `NAMESPACE/NAME`.
        pod: String,
        /// Whether it is reached; `None`: not known from here on.
        reached: Option<bool>,
        /// When the first look was sent that showed it; of a loss, the last look before it.
        sent_us: u64,
        /// When the look was over by which it was known.
        done_us: u64,
        /// In words.
        saw: String,
    },
    /// How often the witness saw the same since the last such line.
    WitnessCounted {
        /// Component looked at.
        component: String,
        /// Sent time of the first observation counted.
        from_us: u64,
        /// Sent time of the last observation counted.
        to_us: u64,
        /// How often up.
        up: u64,
        /// How often down.
        down: u64,
    },
    /// Someone else changed what a fault relies on; the harness does not fight it.
    Drifted {
        /// When it was known here.
        seen_us: u64,
        /// What changed, in words, and by whom as far as that can be known.
        what: String,
    },
    /// The lock of a cluster is held; nobody else changes anything in it by this program.
    LockTaken {
        /// The Lease.
        lease: String,
        /// Who had left it without releasing it, if so.
        from: Option<String>,
    },
    /// The lock was not renewed in time, or somebody else has it.
    LockTroubled {
        /// In words.
        why: String,
        /// Somebody else has it: nothing is changed any more.
        lost: bool,
    },
    /// The lock is left to others.
    LockReleased {
        /// The Lease.
        lease: String,
    },
    /// What earlier runs had left was undone before anything else, as far as that was possible.
    EarlierRestored {
        /// What was undone, in words.
        undone: Vec<String>,
        /// What somebody has changed since, which was left to them.
        left_alone: Vec<String>,
        /// What is left, with what to do.
        left: Vec<String>,
    },
    /// The run's record in the cluster was written.
    RecordWritten {
        /// The ConfigMap.
        record: String,
        /// `armed`, `restoring` or `restored`.
        phase: String,
        /// Number of the change that will be made, where it was written for one.
        change: Option<u32>,
    },
    /// A change of an object of a cluster will be made; on disk before it is.
    MutationIntended {
        /// Number of the fault that it is a part of.
        fault: u32,
        /// The object, as people write it.
        object: String,
        /// What is done.
        what: String,
        /// What a person types to undo it.
        undo: String,
        /// The change with all that undoing it needs, for programs.
        mutation: serde_json::Value,
    },
    /// The gateway's connections from before the fault are gone, so that it is in effect for the gateway, too.
    ConnectionsGone {
        /// Number of the fault.
        fault: u32,
        /// When some were seen last.
        last_seen_us: u64,
        /// When it was known that none is left.
        gone_us: u64,
        /// In words.
        saw: String,
    },
    /// The last pod of a component that is scaled down is gone, later than new connections to it failed.
    PodsGone {
        /// Number of the fault.
        fault: u32,
        /// When the last request was sent that an established connection answered; 0 where none is known.
        last_seen_us: u64,
        /// When it was known that none is left.
        gone_us: u64,
        /// In words.
        saw: String,
    },
    /// Something that a mode relies on does not hold, so it says nothing.
    Voided {
        /// Its name.
        scenario: String,
        /// Why.
        why: String,
    },
    /// The harness's own way to the gateway broke.
    WayBroke {
        /// When.
        broke_us: u64,
        /// In words.
        why: String,
    },
    /// In a mock cluster of the run's own a process behind pods was started or stopped: what the mock says of itself,
    /// written down at the end.
    MockProcess {
        /// `namespace/name` of the Deployment.
        deployment: String,
        /// Whether it was started.
        started: bool,
        /// When.
        changed_us: u64,
    },
    /// Others used the gateway while a mode went on.
    OthersCalled {
        /// Its name.
        scenario: String,
        /// When it was known here.
        seen_us: u64,
        /// How much, and from where as far as is known.
        what: String,
    },
    /// Which pods of the gateway answered in a mode.
    PodsAnswered {
        /// Its name.
        scenario: String,
        /// How that is known.
        known_by: KnownBy,
        /// The pods, each with the model calls that its log shows, where that is how it is known.
        pods: std::collections::BTreeMap<String, Option<u64>>,
    },
    /// What a log counted at the gateway while a mode went on, whoever asked.
    LogCounted(LogCounted),
    /// What an upstream itself counted in a mode, past the gateway.
    UpstreamCounted(UpstreamCounted),
    /// A component is not seen by a direct witness: only objects say when it went and came.
    EvidenceWeak {
        /// Component.
        component: String,
        /// Why.
        why: String,
    },
    /// All faults of the mode are in effect: judging starts.
    HoldStarted {
        /// Its name.
        scenario: String,
        /// Start of the judged window.
        from_us: u64,
    },
    /// The judged time is over and each judged probe has ended (or was given up).
    HoldEnded {
        /// Its name.
        scenario: String,
    },
    /// A mutation will be undone.
    HealIntended {
        /// Number of the fault.
        fault: u32,
    },
    /// The undo was accepted and read back.
    FaultHealed {
        /// Number of the fault.
        fault: u32,
        /// When it was called.
        called_us: u64,
        /// When it was accepted.
        accepted_us: u64,
        /// Read back: the component's setting is what it was before.
        read_back: bool,
    },
    /// The undo failed.
    HealFailed {
        /// Number of the fault.
        fault: u32,
        /// Why.
        error: String,
    },
    /// The undo left alone what someone else has changed since; nothing is left to undo.
    HealLeftAlone {
        /// Number of the fault.
        fault: u32,
        /// What it found, and why it is not touched.
        why: String,
    },
    /// The component served a completion again.
    FaultGone {
        /// Number of the fault.
        fault: u32,
        /// When the last request was sent that was not served; or when the heal was called.
        last_down_us: u64,
        /// When the first completion was complete.
        served_us: u64,
    },
    /// The component was healed but did not serve a completion within its bound.
    NotServing {
        /// Number of the fault.
        fault: u32,
        /// What was seen last.
        saw: String,
    },
    /// A mode is over.
    ScenarioEnded {
        /// Its name.
        scenario: String,
    },
    /// A planned probe was not sent.
    ProbeSkipped {
        /// Scenario.
        scenario: String,
        /// Route.
        route: String,
        /// When it should have started.
        intended_us: u64,
        /// Why.
        reason: String,
    },
    /// A probe ended, one way or another.
    ProbeEnded(Box<ProbeRecord>),
    /// What an upstream's own journal says about one request that it received.
    UpstreamCalled(UpstreamCall),
    /// openclaw is ready; routes that go through it are asked there.
    ClientStarted(ClientStarted),
    /// One model call that openclaw made to the gateway, as the relay between them saw it; written at its end.
    GatewayCalled(GatewayCall),
    /// An answer to a probe as openclaw's own transcript has it, read once openclaw has stopped.
    TurnTranscribed(TurnTranscribed),
    /// Something worth knowing that is no failure.
    Found {
        /// In words.
        text: String,
    },
    /// A signal or the deadline cut the run short.
    Interrupted {
        /// `SIGINT`, `SIGTERM`, `deadline`, ...
        cause: String,
    },
    /// The harness itself could not go on.
    Aborted {
        /// Why.
        cause: String,
    },
    /// Everything that was changed was undone, or not.
    RestoreEnded {
        /// All of it, seen by evidence.
        restored: bool,
        /// What is left, in words, with what to do.
        left: Vec<String>,
    },
    /// Always the last line of a run that could write it.
    RunEnded {
        /// How.
        ended: Ended,
        /// RFC 3339, UTC.
        finished_at: String,
    },
}

/// The first line: all that the analysis needs to know about how the run was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunStarted {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the program.
    pub program: String,
    /// Unique.
    pub run_id: String,
    /// RFC 3339, UTC; the moment of `at_us` = 0.
    pub started_at: String,
    /// `mock`, `litellm` or `openai`.
    pub gateway_kind: String,
    /// Name and hash of the gateway's configuration.
    pub gateway_config: String,
    /// Alias by upstream model name, e.g. `kimi-k2.5` -> `cloud-kimi`: how upstream journals name aliases.
    pub upstream_models: std::collections::BTreeMap<String, String>,
    /// The environment as loaded.
    pub environment: Environment,
    /// What will be done.
    pub plan: Plan,
    /// For people: label and value, in order.
    pub made_with: Vec<(String, String)>,
}

/// The gateway under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayStarted {
    /// As it told; `unknown` where it did not.
    pub version: String,
    /// Configuration keys that the mock gateway does not imitate; what they would change is not known.
    pub unsupported: Vec<Unimitated>,
    /// What was changed in the configuration so that the run stays on this machine.
    pub adapted: Vec<String>,
    /// Alias by upstream model and by deployment id, as a gateway told that the run did not start.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub names: std::collections::BTreeMap<String, String>,
    /// Component by the URL at which the gateway reaches it, where the run has set that up.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub bases: std::collections::BTreeMap<String, String>,
    /// By alias, how long the gateway waits in one attempt, where its configuration is known.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub timeouts: std::collections::BTreeMap<String, AttemptTimeouts>,
}

/// How long a gateway waits in each phase of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptTimeouts {
    /// For a whole reply, in milliseconds.
    pub whole_ms: u64,
    /// For each gap of a stream, in milliseconds.
    pub stream_ms: u64,
}

/// What one log of the gateway counted in one mode. Its lines carry no call id, so it says how many and not which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogCounted {
    /// Name of the scenario.
    pub scenario: String,
    /// `gateway log` or `loki`.
    pub source: String,
    /// Model calls that it shows answered, with whatever status.
    pub calls: u64,
    /// Calls of ours that were answered meanwhile.
    pub ours: u64,
    /// Attempts that were answered, by model; empty where the log does not tell.
    pub answers: std::collections::BTreeMap<String, u64>,
    /// Why it says nothing, or not all.
    pub trouble: Option<String>,
}

/// What an upstream itself counted in a mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamCounted {
    /// Name of the scenario.
    pub scenario: String,
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
    /// All that was counted until the mode ended has come.
    pub complete: bool,
    /// Why it says nothing, or not all.
    pub trouble: Option<String>,
}

/// A setting that the mock gateway does not act upon, and whose answers it would change if it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "UnimitatedAsWritten")]
pub struct Unimitated {
    /// JSON path of the key.
    pub setting: String,
    /// The routes whose answers it bears on, possibly none; `None`: any answer.
    pub routes: Option<Vec<String>>,
}

/// Format 1 had the path alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum UnimitatedAsWritten {
    Path(String),
    Whole { setting: String, routes: Option<Vec<String>> },
}

impl From<UnimitatedAsWritten> for Unimitated {
    fn from(written: UnimitatedAsWritten) -> Self {
        match written {
            UnimitatedAsWritten::Path(setting) => Self { setting, routes: None },
            UnimitatedAsWritten::Whole { setting, routes } => Self { setting, routes },
        }
    }
}

impl Unimitated {
    /// Whether it may change what this route is answered.
    #[must_use]
    pub fn bears_on(&self, route: &str) -> bool {
        self.routes.as_ref().is_none_or(|routes| routes.iter().any(|own| own == route))
    }

    /// In words, for a person.
    #[must_use]
    pub fn told(&self) -> String {
        let bearing = match &self.routes {
            None => "it may change any answer".to_owned(),
            Some(routes) if routes.is_empty() => "it changes no answer of these routes".to_owned(),
            Some(routes) => format!("it may change the answers of {}", routes.join(", ")),
        };
        format!("the mock gateway does not imitate `{}`: {bearing}", self.setting)
    }
}

/// One request before the measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// Alias asked.
    pub alias: String,
    /// Whole or streamed.
    pub streamed: bool,
    /// HTTP status; `None` where there was none.
    pub status: Option<u16>,
    /// How long it took.
    pub took_ms: f64,
}

/// Why a probe was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Part of a route's schedule.
    Traffic,
    /// Asks the expected alias itself, after the failover is over.
    Control,
}

/// Why a probe has no outcome of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Censoring {
    /// The run was cut short while it was open.
    RunCut,
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A complete, valid reply, whoever sent it.
    Ok,
    /// Not so: the class, e.g. `client-timeout`, `http-500`.
    Error(String),
    /// Still open at the end: its latency is longer than what was waited.
    Censored(Censoring),
}

/// One probe. Instants that never came are `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRecord {
    /// Unique in the run; also in the prompt, the metadata and `x-litellm-call-id`.
    pub id: String,
    /// Scenario.
    pub scenario: String,
    /// Route.
    pub route: String,
    /// Why it was sent.
    pub purpose: Purpose,
    /// Alias asked for.
    pub model: String,
    /// Streamed or whole.
    pub streamed: bool,
    /// On a fresh connection or on a kept-alive one.
    pub fresh: bool,
    /// When the schedule says.
    pub intended_us: u64,
    /// When it was really sent.
    pub sent_us: u64,
    /// Response headers.
    pub headers_us: Option<u64>,
    /// First non-empty reasoning, content or tool token; last byte of a whole reply.
    pub first_content_us: Option<u64>,
    /// First non-empty token of the answer itself.
    pub first_answer_us: Option<u64>,
    /// Its end: last byte, error, or given up.
    pub ended_us: u64,
    /// HTTP status.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// What the reply says about who served it: raw, unjudged.
    pub claims: Vec<Claim>,
    /// What went wrong, in bounded words of the other side.
    pub detail: Option<String>,
    /// Of a stream that gave a token: the longest time in which no further one came, up to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_gap_us: Option<u64>,
    /// Of a stream that began and is no complete, valid reply: what the client got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broke: Option<BrokenStream>,
}

/// Where a claim about the server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimSource {
    /// `model` in the body or in a chunk.
    BodyModel,
    /// `x-litellm-model-api-base`.
    HeaderApiBase,
    /// `x-litellm-attempted-fallbacks`.
    HeaderFallbacks,
    /// `x-litellm-model-group`.
    HeaderModelGroup,
    /// `x-litellm-model-id`.
    HeaderModelId,
    /// `responseModel` of openclaw's own transcript.
    ResponseModel,
}

/// One raw value that says something about who served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Where it stood.
    pub source: ClaimSource,
    /// The value, bounded.
    pub value: String,
}

/// One request as an upstream's own journal has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamCall {
    /// Component.
    pub component: String,
    /// Upstream model name asked for.
    pub model: String,
    /// Probe that it was made for; `None` for witnesses and others.
    pub probe: Option<String>,
    /// What else it was made for, as its prompt says: `witness`, `warm-up`. From format 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// When it arrived.
    pub received_us: u64,
    /// When it ended; `None` where it was open to the last.
    pub ended_us: Option<u64>,
    /// HTTP status of a complete answer; `None` where the client left or it was open to the last.
    pub status: Option<u16>,
}
