//! Models of agents in `openclaw.json`: the default ones, and those that an agent has of its own.

use serde_json::Value;

use super::openclaw::OpenclawConfig;
use super::words::{shown, told, variables};
use super::{Finding, PROVIDER};

/// The agent that a turn reaches where it names none.
const MAIN: &str = "main";

/// What `model` says: a text is a primary alone.
pub(super) enum Model<'c> {
    /// It is not there.
    Absent,
    /// It is there, and nothing that openclaw takes.
    Strange,
    /// A model, and who takes over; `None` where nobody is named.
    Named(&'c str, Option<Vec<&'c str>>),
}

impl<'c> Model<'c> {
    pub(super) fn of(value: &'c Value) -> Self {
        match value {
            Value::Null => Self::Absent,
            Value::String(primary) => Self::Named(primary, None),
            Value::Object(both) => {
                let Some(primary) = both.get("primary").and_then(Value::as_str) else { return Self::Strange };
                let Some(listed) = both.get("fallbacks") else { return Self::Named(primary, None) };
                let listed = listed.as_array().map(|all| all.iter().map(Value::as_str).collect());
                match listed {
                    Some(Some(fallbacks)) => Self::Named(primary, Some(fallbacks)),
                    _ => Self::Strange,
                }
            }
            _ => Self::Strange,
        }
    }

    pub(super) fn is_primary(&self, wanted: &str) -> Finding {
        match self {
            Self::Absent => Finding::Fails("it is not set".to_owned()),
            Self::Strange => Finding::Fails("it is neither a text nor a mapping with `primary`".to_owned()),
            Self::Named(primary, _) => is(primary, wanted),
        }
    }

    pub(super) fn has_fallbacks(&self, wanted: &[String]) -> Finding {
        let listed = match self {
            Self::Absent | Self::Named(_, None) if wanted.is_empty() => {
                return Finding::Holds("none".to_owned());
            }
            Self::Absent => return Finding::Fails("it is not set".to_owned()),
            Self::Strange => return Finding::Fails("it is no list of models".to_owned()),
            Self::Named(_, None) => {
                return Finding::Fails(
                    "none: `model` is a text, or has no `fallbacks`, which is a primary alone".to_owned(),
                );
            }
            Self::Named(_, Some(listed)) => listed,
        };
        if listed.iter().eq(wanted.iter()) {
            return Finding::Holds("these, in this order".to_owned());
        }
        if let Some(name) = listed.iter().find_map(|name| variables(name).first().copied()) {
            return Finding::NotKnown(format!("one of them is `${{{name}}}`, whose value is not read"));
        }
        let names: Vec<String> = listed.iter().map(|name| shown(name)).collect();
        Finding::Fails(if names.is_empty() { "an empty list".to_owned() } else { told(&names) })
    }
}

fn is(name: &str, wanted: &str) -> Finding {
    if name == wanted {
        return Finding::Holds(format!("`{name}`"));
    }
    match variables(name).first() {
        Some(variable) => Finding::NotKnown(format!("`${{{variable}}}`, whose value is not read")),
        None => Finding::Fails(format!("`{}`", shown(name))),
    }
}

/// Agents by their id: `agents.entries`, or the list of earlier versions.
fn entries(config: &OpenclawConfig) -> Vec<(String, &Value)> {
    let keyed = config.agents()["entries"].as_object().into_iter().flatten();
    let listed =
        config.agents()["list"].as_array().into_iter().flatten().enumerate().map(|(index, agent)| {
            (agent["id"].as_str().map_or_else(|| format!("number {}", index + 1), shown), agent)
        });
    keyed.map(|(id, agent)| (shown(id), agent)).chain(listed).collect()
}

/// Whom coders ask: by default, and in agents that say so themselves.
pub(super) fn coders(config: &OpenclawConfig, wanted: &str) -> Finding {
    let default = Model::of(&config.defaults()["subagents"]["model"]).is_primary(wanted);
    if !matches!(default, Finding::Holds(_)) {
        return default;
    }
    for (id, agent) in entries(config) {
        let own = Model::of(&agent["subagents"]["model"]);
        if matches!(own, Model::Absent) {
            continue;
        }
        match own.is_primary(wanted) {
            Finding::Holds(_) => {}
            Finding::Fails(found) => {
                return Finding::Fails(format!(
                    "the sub-agents of agent {id} have one of their own: {found}"
                ));
            }
            Finding::NotKnown(found) => {
                return Finding::NotKnown(format!("the sub-agents of agent {id} have {found}"));
            }
        }
    }
    default
}

/// Agents that do not have the default models.
pub(super) fn own_models(config: &OpenclawConfig, primary: Option<&str>) -> Finding {
    let declared = config.declared();
    let (mut wrong, mut open, mut right) = (Vec::new(), Vec::new(), Vec::new());
    for (id, agent) in entries(config) {
        let (name, fallbacks) = match Model::of(&agent["model"]) {
            Model::Absent => continue,
            Model::Strange => {
                wrong.push(format!("agent {id} has a model that openclaw does not take"));
                continue;
            }
            Model::Named(name, fallbacks) => (name, fallbacks),
        };
        let is_main = id == MAIN || agent["default"] == true;
        let through = |name: &&str| {
            name.strip_prefix(PROVIDER)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|alias| declared.contains(alias))
        };
        let all = || std::iter::once(&name).chain(fallbacks.iter().flatten());
        if all().any(|name| !variables(name).is_empty()) {
            open.push(format!("agent {id} has a variable in its models, whose value is not read"));
        } else if let Some(other) = all().find(|name| !through(name)) {
            wrong.push(format!("agent {id} has `{}`", shown(other)));
        } else if is_main && primary.is_some_and(|primary| primary != name) {
            wrong.push(format!("agent {id} is the main one and has `{}`", shown(name)));
        } else if fallbacks.is_none() {
            right.push(format!("agent {id} has `{}` and no fallbacks", shown(name)));
        } else {
            right.push(format!("agent {id} has `{}`", shown(name)));
        }
    }
    if !wrong.is_empty() {
        Finding::Fails(told(&wrong))
    } else if !open.is_empty() {
        Finding::NotKnown(told(&open))
    } else if right.is_empty() {
        config.unless_elsewhere("none".to_owned())
    } else {
        Finding::Holds(told(&right))
    }
}

/// A model that only a variable names may be anybody's.
pub(super) fn unless_hidden(config: &OpenclawConfig, found: Finding) -> Finding {
    fn hidden(value: &Value, at: &str, models: &mut Vec<String>) {
        match value {
            Value::String(text) if !variables(text).is_empty() => models.push(shown(at)),
            Value::Array(items) => items.iter().for_each(|item| hidden(item, at, models)),
            Value::Object(entries) => entries.iter().for_each(|(key, entry)| hidden(entry, key, models)),
            _ => {}
        }
    }
    let mut names = Vec::new();
    hidden(config.agents(), "agents", &mut names);
    // Other texts below `agents` take variables, too: folders, prompts.
    let of_models = ["model", "primary", "fallbacks", "imageModel", "utilityModel"].map(str::to_owned);
    names.retain(|name| of_models.contains(name));
    if names.is_empty() {
        return found;
    }
    Finding::NotKnown(format!("a variable names a model ({}), and its value is not read", told(&names)))
}
