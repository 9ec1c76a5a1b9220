//! A scenario file as people write it. The JSON Schema for editors comes from these types.

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::{Forms, Requirement};
use crate::input::at::{At, Entries, Scalar, Text};
use crate::input::yaml::Document;
use crate::units::{Period, Rate};

/// One operating mode of the stack: which components are down, the traffic that probes it, and what must be true.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Scenario")]
pub(crate) struct ScenarioFile {
    /// Name of the scenario, unique within a run: lower-case letters, digits, hyphens.
    #[schemars(regex(pattern = r"^[a-z0-9-]{1,63}$"))]
    pub(crate) scenario: At<String>,
    /// One line for people.
    #[schemars(length(min = 1, max = 200))]
    pub(crate) title: At<String>,
    /// Requirements that this scenario gives evidence for.
    #[serde(default)]
    pub(crate) requirements: Vec<At<Text<Requirement>>>,
    /// Components that are not fully up in this mode; all others stay up.
    #[serde(default)]
    pub(crate) components: Entries<At<ComponentStateWritten>>,
    /// Probe traffic, one entry a route.
    #[schemars(length(min = 1))]
    pub(crate) traffic: At<Vec<TrafficWritten>>,
    /// What must be true of a route while the mode holds; a route without an entry is measured, not judged.
    #[serde(default)]
    pub(crate) expect: Entries<At<ExpectationWritten>>,
    /// What must be true of a route after the faults are healed.
    #[serde(default)]
    pub(crate) recover: Entries<At<RecoveryWritten>>,
}

impl Document for ScenarioFile {
    const CHOICE_HINT: &'static str = "write `cloud: down`, or `cloud: { gone: [cloud-kimi] }`";
}

/// What is wrong with a component.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ComponentState")]
pub(crate) enum ComponentStateWritten {
    /// All of it, in the way that the environment says.
    Down,
    /// Only these aliases are gone (their upstream answers 404), the rest works.
    Gone(At<Vec<At<String>>>),
}

/// Probe traffic on one route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Traffic")]
pub(crate) struct TrafficWritten {
    /// Route of the environment.
    pub(crate) route: At<String>,
    /// Wished rate of probes; ceilings of the environment may lower it.
    pub(crate) rate: At<Text<Rate>>,
    /// How long the mode is judged, from the moment the fault is in effect.
    #[serde(rename = "for")]
    pub(crate) hold: At<Text<Period>>,
    /// Kinds of request: whole and streamed replies, or one of the two.
    #[serde(default = "mixed")]
    pub(crate) stream: At<Text<Forms>>,
    /// `max_tokens` of each probe.
    #[serde(default = "eight_tokens")]
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) max_tokens: At<Text<u64>>,
    /// Client timeout of each probe.
    #[serde(default = "half_a_minute")]
    pub(crate) timeout: At<Text<Period>>,
}

/// What must be true of one route: exactly one of `served_by` and `error: true`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Expectation", extend("oneOf" = [{ "required": ["served_by"] }, { "required": ["error"] }]))]
pub(crate) struct ExpectationWritten {
    /// The alias that answers.
    pub(crate) served_by: Option<At<String>>,
    /// Nobody answers: a complete HTTP answer 408, 429 or 5xx from the gateway.
    #[schemars(extend("const" = true))]
    pub(crate) error: Option<At<bool>>,
    /// Limit from a probe's intended start to its first content, or to the whole error reply.
    #[serde(default = "five_seconds")]
    pub(crate) within: At<Text<Period>>,
    /// How many judged probes may end in an error (default 0); not with `error: true`.
    pub(crate) errors: Option<At<Text<u64>>>,
    /// How many probes may be lost in the middle of an answer when the fault strikes; unbounded if left out.
    pub(crate) lost_in_flight: Option<At<Text<u64>>>,
}

/// What must be true of a route after the faults are healed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Recovery")]
pub(crate) struct RecoveryWritten {
    /// The alias that serves again.
    pub(crate) served_by: At<String>,
    /// Limit from heal to steady service.
    pub(crate) within: At<Text<Period>>,
}

fn mixed() -> At<Text<Forms>> {
    At::nowhere(Text::new("mixed"))
}

fn eight_tokens() -> At<Text<u64>> {
    At::nowhere(Text::new("8"))
}

fn half_a_minute() -> At<Text<Period>> {
    At::nowhere(Text::new("30s"))
}

fn five_seconds() -> At<Text<Period>> {
    At::nowhere(Text::new("5s"))
}

/// Reads one of a list of words.
fn one_of<T: Copy>(what: &str, text: &str, known: &[(&'static str, T)]) -> Result<T, (String, String)> {
    known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names = known.iter().map(|(name, _)| *name);
        (format!("unknown {what} `{text}`"), crate::input::checker::nearest_of(what, text, names))
    })
}

impl Scalar for Requirement {
    fn read(text: &str) -> Result<Self, (String, String)> {
        one_of("requirement", text, &Self::NAMES)
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "enum": Self::NAMES.map(|(name, _)| name) })
    }
}

impl Requirement {
    /// Every requirement with the id that people know it by.
    pub(crate) const NAMES: [(&'static str, Self); 5] = [
        ("FR217", Self::FR217),
        ("FR222", Self::FR222),
        ("FR223", Self::FR223),
        ("NFR123", Self::NFR123),
        ("NFR125", Self::NFR125),
    ];
}

const FORMS: [(&str, Forms); 3] =
    [("mixed", Forms::Mixed), ("whole", Forms::Whole), ("streamed", Forms::Streamed)];

impl Scalar for Forms {
    fn read(text: &str) -> Result<Self, (String, String)> {
        one_of("kind of stream", text, &FORMS)
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "enum": FORMS.map(|(name, _)| name) })
    }
}
