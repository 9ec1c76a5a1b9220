//! How often a scenario's faults are injected: as written, and what must hold of it.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::environment::Names;
use crate::input::at::{At, Key, Text};
use crate::input::checker::Checker;
use crate::input::problem::Place;
use crate::input::read::Read;
use crate::input::tree::{Content, Node};

use super::{ComponentState, Scenario};

/// The most that a scenario may ask for: 299 show that the 99 % quantile holds, and what undoes more changes does not fit into
/// the record of a run in a cluster.
const INJECTIONS_MAX: u64 = 300;

/// A number, or a number with what it may cost.
#[derive(Debug)]
pub(crate) struct InjectionsWritten {
    count: Key<At<Text<u64>>>,
    even_expensive: Key<At<bool>>,
}

impl Read for InjectionsWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        if !matches!(node.content, Content::Mapping(_)) {
            let count = At::read(node, check).map_or(Key::Broken, Key::There);
            return Some(Self { count, even_expensive: Key::Absent });
        }
        let keys = check.keys(node, &["count", "even_expensive"])?;
        Some(Self {
            count: keys.required(check, "count", "count: 20"),
            even_expensive: keys.optional(check, "even_expensive"),
        })
    }
}

impl JsonSchema for InjectionsWritten {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Injections".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let count = || json_schema!({ "type": "integer", "minimum": 1, "maximum": INJECTIONS_MAX });
        json_schema!({
            "anyOf": [
                count(),
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["count"],
                    "properties": {
                        "count": count(),
                        "even_expensive": {
                            "description": "Also where a Deployment is scaled to zero each time.",
                            "type": "boolean",
                            "default": false,
                        },
                    },
                },
            ],
        })
    }
}

/// How often, as far as that can be read; what speaks against it is said.
pub(super) fn injections(
    check: &mut Checker<'_>,
    written: &Key<At<InjectionsWritten>>,
    components: &[(&String, &ComponentState)],
    nothing_down: bool,
    names: &Names,
) -> u32 {
    let Some(At { value, place }) = written.there() else { return Scenario::ONCE };
    let Some(count) = value.count.there().and_then(|count| check.value(count)) else { return Scenario::ONCE };
    let (number, place) = (u32::try_from(count).unwrap_or(u32::MAX), value.count.place().unwrap_or(*place));
    if !(1..=INJECTIONS_MAX).contains(&count) {
        let hint = format!(
            "write 1 to {INJECTIONS_MAX}: 20 of 20 show that at least 86 % go well, 299 of 299 that 99 % do"
        );
        check.problem(place, "`injections` is out of range", hint);
        return Scenario::ONCE;
    }
    if number > Scenario::ONCE && nothing_down {
        check.problem(
            place,
            "nothing is down in this scenario that could be injected more than once",
            "leave `injections` out, or say in `components` what is down",
        );
    }
    if number > Scenario::ONCE && !value.even_expensive.there().is_some_and(|even| even.value) {
        refuse_expensive(check, place, number, components, names);
    }
    number
}

/// Pods that go and models that load cost minutes, and somebody their GPU, each time.
fn refuse_expensive(
    check: &mut Checker<'_>,
    place: Place,
    number: u32,
    components: &[(&String, &ComponentState)],
    names: &Names,
) {
    let down = components.iter().filter(|(_, state)| **state == ComponentState::Down);
    let expensive: Vec<&str> =
        down.map(|(name, _)| name.as_str()).filter(|name| names.is_scaled_to_zero(name)).collect();
    if let Some(first) = expensive.first() {
        check.problem(
            place,
            &format!("`{first}` would be scaled to zero {number} times, and load its model again each time"),
            format!(
                "repeat a fault that is over at once (a blackhole, a refusal), or say that it may cost that: \
                 `injections: {{ count: {number}, even_expensive: true }}`"
            ),
        );
    }
}
