//! A scenario file as people write it. The JSON Schema for editors comes from these types; what reads them
//! stands beside each, and a test holds the two together.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::injections::InjectionsWritten;
use super::{Forms, Requirement, Scenario};
use crate::input::at::{At, Entries, FromText, Items, Key, Text, one_of};
use crate::input::checker::{Checker, is_name, nearest_of};
use crate::input::read::Read;
use crate::input::tree::{Content, Node};
use crate::units::{Period, Rate};

/// What a probe's `stream`, `max_tokens` and `timeout` are where they are left out.
pub(super) const FORMS: Forms = Forms::Mixed;
pub(super) const MAX_TOKENS: u64 = 8;
pub(super) const TIMEOUT: Period = Period::from_secs(30);
/// What an expectation's `within` and `errors` are where they are left out.
pub(super) const WITHIN: Period = Period::from_secs(5);
pub(super) const ERRORS: u64 = 0;

/// One operating mode of the stack: which components are down, the traffic that probes it, and what must be true.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, title = "Scenario")]
pub(crate) struct ScenarioFile {
    /// Name of the scenario, unique within a run: lower-case letters, digits, hyphens.
    #[schemars(regex(pattern = r"^[a-z0-9-]{1,63}$"), extend("examples" = ["cloud-down"]))]
    pub(crate) scenario: Key<At<String>>,
    /// One line for people.
    #[schemars(length(min = 1, max = 200))]
    pub(crate) title: Key<At<String>>,
    /// Requirements that this scenario gives evidence for.
    #[schemars(default, extend("default" = []))]
    pub(crate) requirements: Key<Items<At<Text<Requirement>>>>,
    /// Components that are not fully up in this mode; all others stay up.
    #[schemars(default)]
    pub(crate) components: Key<Entries<ComponentStateWritten>>,
    /// Probe traffic, one entry a route.
    #[schemars(extend("minItems" = 1))]
    pub(crate) traffic: Key<At<Items<TrafficWritten>>>,
    /// What must be true of a route while the mode holds; a route without an entry is measured, not judged.
    #[schemars(default)]
    pub(crate) expect: Key<Entries<At<ExpectationWritten>>>,
    /// What must be true of a route after the faults are healed.
    #[schemars(default)]
    pub(crate) recover: Key<Entries<RecoveryWritten>>,
    /// How often the faults are injected, each time from a steady primary; what that shows of all outages is told.
    #[schemars(default, extend("default" = Scenario::ONCE))]
    pub(crate) injections: Key<At<InjectionsWritten>>,
}

impl Read for ScenarioFile {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let known =
            ["scenario", "title", "requirements", "components", "traffic", "expect", "recover", "injections"];
        if check.is_another_kind(node, &["scenario", "title", "traffic", "expect"]) {
            return None;
        }
        let keys = check.keys(node, &known)?;
        Some(Self {
            scenario: keys.required(check, "scenario", "scenario: cloud-down"),
            title: keys.required(check, "title", "title: Cloud unavailable"),
            requirements: keys.optional(check, "requirements"),
            components: keys.optional(check, "components"),
            traffic: keys.required(check, "traffic", "traffic: [{ route: agent, rate: 8/s, for: 12s }]"),
            expect: keys.optional(check, "expect"),
            recover: keys.optional(check, "recover"),
            injections: keys.optional(check, "injections"),
        })
    }
}

/// What is wrong with a component.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case", rename = "ComponentState")]
pub(crate) enum ComponentStateWritten {
    /// All of it, in the way that the environment says.
    Down,
    /// Only these aliases are gone (their upstream answers 404), the rest works.
    Gone(Gone),
}

/// Aliases that are gone.
#[derive(Debug)]
pub(crate) struct Gone(pub(crate) At<Items<At<String>>>);

impl JsonSchema for Gone {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "gone".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Items::<At<String>>::json_schema(generator);
        schema.insert("minItems".to_owned(), 1.into());
        schema
    }
}

/// The state that is also taken for a key.
pub(super) const DOWN: &str = "down";

/// The components named where the state of `down` should stand.
fn swapped<'n>(node: &'n Node) -> Option<Vec<&'n str>> {
    let items = match &node.content {
        Content::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let name = |item: &'n Node| {
        let Node { content: Content::Scalar(scalar), .. } = item else { return None };
        let is_one = is_name(&scalar.text) && scalar.text != DOWN && scalar.truth().is_none();
        is_one.then_some(scalar.text.as_str())
    };
    items.iter().map(name).collect::<Option<Vec<_>>>().filter(|names| (1..=10).contains(&names.len()))
}

const STATE_HINT: &str = "write `cloud: down`, or `cloud: { gone: [cloud-kimi] }`";

impl Read for ComponentStateWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        if check.subject() == format!("`{DOWN}`")
            && let Some(components) = swapped(node)
        {
            let hint = components.iter().map(|name| format!("`{name}: {DOWN}`")).collect::<Vec<_>>();
            check.problem(
                node.place,
                "this is the wrong way round: the component comes first, then its state",
                format!("write {}", hint.join(", ")),
            );
            return None;
        }
        let (word, value) = match (&node.content, node.entries()) {
            (Content::Mapping(_), [only]) => {
                (At { value: only.key.value.clone(), place: only.key.place }, Some(&only.value))
            }
            (Content::Mapping(_) | Content::List(_), _) => {
                check.wrong_kind(node, "`down`, or `gone` with its aliases", STATE_HINT);
                return None;
            }
            _ => {
                let value = check.scalar(node, "`down`, or `gone` with its aliases")?.text.clone();
                (At { value, place: node.place }, None)
            }
        };
        match (word.value.as_str(), value) {
            ("down", None) => Some(Self::Down),
            ("gone", Some(aliases)) => At::read(aliases, check).map(|aliases| Self::Gone(Gone(aliases))),
            ("down", Some(value)) => {
                check.problem(value.place, "`down` takes no value of its own", STATE_HINT);
                None
            }
            ("gone", None) => {
                check.problem(word.place, "`gone` names no alias", STATE_HINT);
                None
            }
            (other, _) => {
                let hint = format!("{}; {STATE_HINT}", nearest_of("state", other, ["down", "gone"]));
                check.problem(word.place, &format!("unknown state `{other}`"), hint);
                None
            }
        }
    }
}

/// Probe traffic on one route.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Traffic")]
pub(crate) struct TrafficWritten {
    /// Route of the environment.
    pub(crate) route: Key<At<String>>,
    /// Wished rate of probes; ceilings of the environment may lower it.
    pub(crate) rate: Key<At<Text<Rate>>>,
    /// How long the mode is judged, from the moment the fault is in effect.
    #[schemars(rename = "for")]
    pub(crate) hold: Key<At<Text<Period>>>,
    /// Kinds of request: whole and streamed replies, or one of the two.
    #[schemars(default, extend("default" = FORMS))]
    pub(crate) stream: Key<At<Text<Forms>>>,
    /// `max_tokens` of each probe.
    #[schemars(default, range(min = 1, max = 4096), extend("default" = MAX_TOKENS))]
    pub(crate) max_tokens: Key<At<Text<u64>>>,
    /// Client timeout of each probe.
    #[schemars(default, extend("default" = TIMEOUT))]
    pub(crate) timeout: Key<At<Text<Period>>>,
}

impl Read for TrafficWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, &["route", "rate", "for", "stream", "max_tokens", "timeout"])?;
        Some(Self {
            route: keys.required(check, "route", "route: agent"),
            rate: keys.required(check, "rate", "rate: 8/s"),
            hold: keys.required(check, "for", "for: 12s"),
            stream: keys.optional(check, "stream"),
            max_tokens: keys.optional(check, "max_tokens"),
            timeout: keys.optional(check, "timeout"),
        })
    }
}

/// What must be true of one route: exactly one of `served_by` and `error: true`.
#[derive(Debug, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    rename = "Expectation",
    extend("oneOf" = [
        { "required": ["served_by"] },
        {
            "required": ["error"],
            "not": { "anyOf": [
                { "required": ["errors"] }, { "required": ["first_token_within"] }, { "required": ["max_stall"] }
            ] }
        }
    ])
)]
pub(crate) struct ExpectationWritten {
    /// The alias that answers.
    #[schemars(default)]
    pub(crate) served_by: Key<At<String>>,
    /// Nobody answers: a complete HTTP answer 408, 429 or 5xx from the gateway.
    #[schemars(default, extend("const" = true))]
    pub(crate) error: Key<At<bool>>,
    /// Limit from a probe's intended start to its first content, or to the whole error reply.
    #[schemars(default, extend("default" = WITHIN))]
    pub(crate) within: Key<At<Text<Period>>>,
    /// How many judged probes may end in an error; not with `error: true`.
    #[schemars(default, extend("default" = ERRORS))]
    pub(crate) errors: Key<At<Text<u64>>>,
    /// How many probes may be lost in the middle of an answer when the fault strikes; unbounded if left out.
    #[schemars(default)]
    pub(crate) lost_in_flight: Key<At<Text<u64>>>,
    /// Limit from a streamed probe's intended start to its first token; not with `error: true`.
    #[schemars(default)]
    pub(crate) first_token_within: Key<At<Text<Period>>>,
    /// The longest time in which a stream that has begun may give no further token; not with `error: true`.
    #[schemars(default)]
    pub(crate) max_stall: Key<At<Text<Period>>>,
}

impl Read for ExpectationWritten {
    const KEYS: &'static [&'static str] =
        &["served_by", "error", "within", "errors", "lost_in_flight", "first_token_within", "max_stall"];
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, Self::KEYS)?;
        Some(Self {
            served_by: keys.optional(check, "served_by"),
            error: keys.optional(check, "error"),
            within: keys.optional(check, "within"),
            errors: keys.optional(check, "errors"),
            lost_in_flight: keys.optional(check, "lost_in_flight"),
            first_token_within: keys.optional(check, "first_token_within"),
            max_stall: keys.optional(check, "max_stall"),
        })
    }
}

/// What must be true of a route after the faults are healed.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Recovery")]
pub(crate) struct RecoveryWritten {
    /// The alias that serves again.
    pub(crate) served_by: Key<At<String>>,
    /// Limit from heal to steady service.
    pub(crate) within: Key<At<Text<Period>>>,
}

impl Read for RecoveryWritten {
    const KEYS: &'static [&'static str] = &["served_by", "within"];
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, Self::KEYS)?;
        Some(Self {
            served_by: keys.required(check, "served_by", "served_by: cloud-kimi"),
            within: keys.required(check, "within", "within: 60s"),
        })
    }
}

impl FromText for Requirement {
    fn read(text: &str) -> Result<Self, (String, String)> {
        one_of("requirement", text, &Self::NAMES)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
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

const FORM_WORDS: [(&str, Forms); 3] =
    [("mixed", Forms::Mixed), ("whole", Forms::Whole), ("streamed", Forms::Streamed)];

impl FromText for Forms {
    fn read(text: &str) -> Result<Self, (String, String)> {
        one_of("kind of stream", text, &FORM_WORDS)
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}
