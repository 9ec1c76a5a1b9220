//! Single values of a LiteLLM file, as LiteLLM takes them.

use serde_json::Value;

use crate::gateway::config::{ENVIRONMENT_PREFIX, LoadedBy, TOKEN_REFERENCE};
use crate::input::at::At;
use crate::input::checker::Checker;
use crate::input::json;
use crate::input::problem::Place;
use crate::input::tree::{Content, Entry, Node};
use crate::units::Period;

/// More retries, hops or failures than this are a slip of the keyboard.
const COUNT_MAX: u64 = 1_000_000;
/// More seconds than this cannot be counted as a duration everywhere.
const SECONDS_MAX: f64 = 1e9;
/// Above this a number of seconds is rather one of milliseconds.
const SECONDS_HONEST: f64 = 86_400.0;

/// One file being checked.
pub(super) struct Reader<'r, 'a> {
    pub(super) check: &'r mut Checker<'a>,
    /// Environment variables.
    pub(super) lookup: &'r dyn Fn(&str) -> Option<String>,
    pub(super) loaded_by: LoadedBy,
}

/// Whether zero is a time like others, or LiteLLM takes it as "not set".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Fine,
    Unset,
}

/// A value, with what stands in its environment variable.
enum Given {
    Value(Value),
    /// From a variable: always text, and not to be shown.
    Variable(String),
}

impl Reader<'_, '_> {
    /// `None` where nothing is written or the variable is not set, which LiteLLM takes as the same.
    fn given(&mut self, node: &Node) -> Option<Given> {
        if matches!(node.content, Content::Broken) {
            return None;
        }
        let value = json::value(node);
        match &value {
            Value::Null => None,
            Value::String(text) => match text.strip_prefix(ENVIRONMENT_PREFIX) {
                Some(name) => self.variable(node, name).map(Given::Variable),
                None => Some(Given::Value(value)),
            },
            _ => Some(Given::Value(value)),
        }
    }

    fn variable(&mut self, node: &Node, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        if value.is_none() {
            self.check.warning(
                node.place,
                &format!("the variable `{name}` is not set: LiteLLM takes this as not written"),
                "set the variable, or write the value",
            );
        }
        value
    }

    /// Warns of variables that are not set, anywhere in a value that nothing else looks at.
    pub(super) fn variables(&mut self, node: &Node) {
        match &node.content {
            Content::Scalar(scalar) => {
                let reference = !scalar.text.starts_with(TOKEN_REFERENCE);
                if let Some(name) = scalar.text.strip_prefix(ENVIRONMENT_PREFIX).filter(|_| reference) {
                    self.variable(node, name);
                }
            }
            Content::List(items) => items.iter().for_each(|item| self.variables(item)),
            Content::Mapping(entries) => entries.iter().for_each(|entry| self.variables(&entry.value)),
            Content::Broken => {}
        }
    }

    /// Something that LiteLLM does and the mock gateway does not.
    pub(super) fn not_of_the_mock(&mut self, place: Place, message: &str, hint: &str) {
        match self.loaded_by {
            LoadedBy::Mock => self.check.problem(place, message, hint),
            LoadedBy::Any => self.check.warning(place, message, hint),
        }
    }

    /// A number of seconds.
    pub(super) fn seconds(&mut self, key: &str, node: &Node, zero: Zero) {
        let seconds = match self.given(node) {
            None => return,
            Some(Given::Value(Value::Number(number))) => number.as_f64(),
            Some(Given::Value(Value::String(text))) => {
                if let Ok(Period(period)) = text.parse::<Period>() {
                    self.check.problem(
                        node.place,
                        &format!("LiteLLM counts `{key}` in seconds, without a unit"),
                        format!("write `{key}: {}`", period.as_secs_f64()),
                    );
                    return;
                }
                text.parse().ok()
            }
            Some(Given::Variable(text)) => text.parse().ok(),
            Some(Given::Value(_)) => None,
        };
        let Some(seconds) = seconds.filter(|seconds: &f64| seconds.is_finite()) else {
            return self.wrong(node, &format!("`{key}` is a number of seconds"), "write it like `2.5`");
        };
        if seconds < 0.0 {
            self.check.problem(node.place, &format!("`{key}` cannot be negative"), "write it like `2.5`");
        } else if seconds == 0.0 && zero == Zero::Unset {
            let message = format!("LiteLLM takes `{key}: 0` as not written, and waits for 6000 s");
            self.check.problem(node.place, &message, "write how many seconds, or leave the key out");
        } else if seconds > SECONDS_MAX {
            self.check.problem(node.place, &format!("`{key}` is too long to count"), "write it in seconds");
        } else if seconds > SECONDS_HONEST {
            let message = format!("`{key}` is longer than a day: LiteLLM counts it in seconds");
            self.check.warning(node.place, &message, "write it in seconds, not in milliseconds");
        }
    }

    /// A small whole number.
    pub(super) fn count(&mut self, key: &str, node: &Node) {
        let hint = format!("write a whole number from 0 to {COUNT_MAX}");
        match self.given(node) {
            None => {}
            Some(Given::Value(Value::Number(number))) if number.as_u64().is_some_and(|n| n <= COUNT_MAX) => {}
            Some(Given::Value(Value::Number(_))) => self.check.problem(
                node.place,
                &format!("`{key}` is a whole number from 0 to {COUNT_MAX}"),
                hint,
            ),
            Some(Given::Variable(_)) => self.check.problem(
                node.place,
                &format!("`{key}` is a whole number, and a variable gives LiteLLM text"),
                hint,
            ),
            Some(Given::Value(_)) => self.wrong(node, &format!("`{key}` is a whole number"), &hint),
        }
    }

    /// A number that is not negative.
    pub(super) fn number(&mut self, key: &str, node: &Node) {
        let number = match self.given(node) {
            None => return,
            Some(Given::Value(Value::Number(number))) => number.as_f64(),
            Some(Given::Value(Value::String(text)) | Given::Variable(text)) => text.parse().ok(),
            Some(Given::Value(_)) => None,
        };
        if number.is_none_or(|number| !number.is_finite() || number < 0.0) {
            self.wrong(node, &format!("`{key}` is a number, zero or more"), "write it like `2.5`");
        }
    }

    /// A whole number of either sign.
    pub(super) fn integer(&mut self, key: &str, node: &Node) {
        let given = self.given(node);
        let good = |given: &Given| matches!(given, Given::Value(value) if value.as_i64().is_some());
        if given.is_some_and(|given| !good(&given)) {
            self.wrong(node, &format!("`{key}` is a whole number"), "write it like `1`");
        }
    }

    /// One of a list of words.
    pub(super) fn one_of(&mut self, key: &str, node: &Node, words: &[&str]) {
        let (text, shown) = match self.given(node) {
            None => return,
            Some(Given::Value(Value::String(text))) => {
                (text.clone(), format!("knows no `{key}` called `{text}`"))
            }
            Some(Given::Variable(text)) => {
                (text, format!("does not know the `{key}` that the variable holds"))
            }
            Some(Given::Value(_)) => return self.wrong(node, &format!("`{key}` is a name"), "write a name"),
        };
        if !words.contains(&text.as_str()) {
            let hint = self.check.hint("name", &text, words.iter().copied());
            self.check.problem(node.place, &format!("LiteLLM {shown}, and does not start"), hint);
        }
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &str, node: &Node) {
        let good = match self.given(node) {
            None | Some(Given::Value(Value::Bool(_))) => true,
            Some(Given::Variable(text)) => ["true", "false"].iter().any(|w| text.eq_ignore_ascii_case(w)),
            Some(Given::Value(_)) => false,
        };
        if !good {
            self.wrong(node, &format!("`{key}` is `true` or `false`"), "write `true` or `false`");
        }
    }

    /// Text that must stand in the file itself; says what else it is.
    pub(super) fn text(&mut self, key: &str, node: &Node) -> Option<At<String>> {
        match json::value(node) {
            Value::String(text) if text.starts_with(ENVIRONMENT_PREFIX) => {
                let message = format!("`{key}` must stand in the file itself, not in a variable");
                self.check.problem(node.place, &message, "write it out");
                None
            }
            Value::String(text) if !text.is_empty() => Some(At { value: text, place: node.place }),
            value @ (Value::Bool(_) | Value::Number(_)) => {
                let Content::Scalar(scalar) = &node.content else { return None };
                let as_what = if value.is_number() { "a number".to_owned() } else { value.to_string() };
                self.check.problem(
                    node.place,
                    &format!("`{key}` is text, and LiteLLM reads `{}` as {as_what}", scalar.text),
                    format!("put it in quotes: `\"{}\"`", scalar.text),
                );
                None
            }
            Value::String(_) => {
                self.check.problem(node.place, &format!("`{key}` is empty"), "write a name");
                None
            }
            _ => {
                self.wrong(node, &format!("`{key}` is a name"), "write a name");
                None
            }
        }
    }

    /// The entries of a mapping; none where nothing is written.
    pub(super) fn mapping<'n>(&mut self, key: &str, node: &'n Node) -> &'n [Entry] {
        if !node.is_null() && !matches!(node.content, Content::Mapping(_)) {
            self.wrong(node, &format!("`{key}` is a mapping"), "write `key: value` pairs");
        }
        node.entries()
    }

    /// The items of a list; `None` where it is none.
    pub(super) fn list<'n>(&mut self, key: &str, node: &'n Node, hint: &str) -> Option<&'n [Node]> {
        if let Content::List(items) = &node.content {
            return Some(items);
        }
        self.wrong(node, &format!("`{key}` is a list"), hint);
        None
    }

    /// The value is not shown in the message: it may be anything.
    pub(super) fn wrong(&mut self, node: &Node, what: &str, hint: &str) {
        let message = match (&node.content, json::value(node)) {
            (Content::Broken, _) => return,
            (_, Value::Null) => format!("{what}, and here it is empty"),
            (Content::Scalar(scalar), Value::Bool(value)) => {
                format!("{what}, and LiteLLM reads `{}` as {value}", scalar.text)
            }
            (_, Value::String(text)) if text.starts_with(ENVIRONMENT_PREFIX) => {
                format!("{what}, and what the variable holds is none")
            }
            (_, Value::String(_)) => format!("{what}, not text"),
            _ => format!("{what}, not {}", node.kind()),
        };
        self.check.problem(node.place, &message, hint);
    }
}

/// The known key that is misspelt here, if it is one: by a letter, in long words by two.
pub(super) fn misspelt<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if written.len() > 100 {
        return None;
    }
    let distance = |name: &&str| strsim::osa_distance(&written.to_lowercase(), name);
    let nearest = known.into_iter().min_by_key(|name| distance(name))?;
    let slips = match nearest.len() {
        0..=3 => 0,
        4..=7 => 1,
        _ => 2,
    };
    (distance(&nearest) <= slips).then_some(nearest)
}
