//! What runs: the environment of containers, by names, and the age of the pod.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::words::{is_anthropic, shown, told};
use super::{Expected, Fact, Finding, KEY_VARIABLE, URL_VARIABLE};
use crate::verdict::result::MigrationLine;

/// What a URL is to LiteLLM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// LiteLLM itself.
    Root,
    /// Its API, `/v1`.
    Api,
    /// Something else.
    Elsewhere,
}

/// The environment of a container; no value of it was ever here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSeen {
    /// By name, whether there is anything in it.
    pub variables: BTreeMap<String, bool>,
    /// What the variables that were asked about are to LiteLLM.
    pub leads: BTreeMap<String, Leads>,
    /// Names in openclaw's own `.env`, as far as they were asked about.
    pub in_env_file: BTreeSet<String>,
    /// Files with profiles of earlier versions that name Anthropic.
    pub profile_files: Vec<String>,
}

impl ContainerSeen {
    /// A variable is set, and not to nothing.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.variables.get(name).copied().unwrap_or_default()
    }

    fn anthropic(&self) -> Vec<String> {
        let set = self.variables.keys().filter(|name| is_anthropic(name)).map(|name| shown(name));
        let file = self.in_env_file.iter().filter(|name| is_anthropic(name));
        set.chain(file.map(|name| format!("{} in openclaw's .env", shown(name)))).collect()
    }
}

/// The age of openclaw's container, beside that of what it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSeen {
    /// Its name.
    pub pod: String,
    /// When its container was started, to the second.
    pub started: Option<Timestamp>,
    /// When the Secret was changed last, to the second.
    pub changed: Option<Timestamp>,
}

/// Profiles and providers that openclaw itself tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles {
    anthropic: BTreeSet<String>,
}

impl Profiles {
    /// By the answers of `openclaw models auth list --json` and `openclaw models status --json`. `None` where one of
    /// them is not what it is known to be.
    #[must_use]
    pub fn of(list: &Value, status: &Value) -> Option<Self> {
        let providers = status["auth"]["providers"].as_array()?;
        let mut profiles = Self::default();
        if !list.is_object() && !list.is_array() {
            return None;
        }
        profiles.collect(list);
        for provider in providers {
            let name = match provider {
                Value::String(name) => Some(name.as_str()),
                other => ["provider", "id", "name"].iter().find_map(|key| other[*key].as_str()),
            };
            profiles.note(name?);
        }
        Some(profiles)
    }

    fn note(&mut self, name: &str) {
        if is_anthropic(name) {
            self.anthropic.insert(shown(name));
        }
    }

    fn collect(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.note(text),
            Value::Array(items) => items.iter().for_each(|item| self.collect(item)),
            Value::Object(entries) => {
                for (key, entry) in entries {
                    self.note(key);
                    self.collect(entry);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// What openclaw's container has, or why that is not known. `needed`: the variables that its configuration names.
#[must_use]
pub fn container(
    read: Result<&ContainerSeen, &str>,
    pod: Result<&PodSeen, &str>,
    profiles: Result<&Profiles, &str>,
    needed: Result<&BTreeSet<String>, &str>,
    expected: &Expected,
) -> Vec<MigrationLine> {
    let restart =
        "restart openclaw: an environment that comes from a Secret is read once, when the container starts";
    let in_secret = |what: &str| format!("{what} in the Secret, then {restart}");
    vec![
        Fact::fr222("openclaw's pod", "started after the Secret was changed", restart).of(pod, age),
        Fact::fr222(
            "Anthropic in openclaw's environment",
            "no variable",
            in_secret("take it out of the Deployment, or"),
        )
        .of(read, |seen| none(&seen.anthropic())),
        Fact::fr222(
            format!("{KEY_VARIABLE} in openclaw's environment"),
            "set",
            in_secret("set it"),
        )
        .of(read, |seen| match (seen.has(KEY_VARIABLE), seen.variables.contains_key(KEY_VARIABLE)) {
            (true, _) => Finding::Holds("set".to_owned()),
            (false, true) => Finding::Fails("set to nothing".to_owned()),
            (false, false) => Finding::Fails("not set".to_owned()),
        }),
        Fact::fr222(
            format!("{URL_VARIABLE} in openclaw's environment"),
            "the URL of LiteLLM",
            in_secret("correct it"),
        )
        .of(read, |seen| url(seen.has(URL_VARIABLE), seen.leads.get(URL_VARIABLE).copied(), expected)),
        Fact::fr222(
            "variables that openclaw.json names",
            "each of them set: an unset one is valid to openclaw, and its name is then taken for the value",
            in_secret("set what is missing"),
        )
        .of(read, |seen| match needed {
            Err(why) => Finding::NotKnown(why.to_owned()),
            Ok(needed) => set(seen, needed),
        }),
        Fact::fr222(
            "profiles that openclaw has stored",
            "none of Anthropic",
            "remove it in the pod with `openclaw models auth`, and take the variable or file away that it comes from",
        )
        .of(read, |seen| match profiles {
            _ if !seen.profile_files.is_empty() => Finding::Fails(told(&seen.profile_files)),
            Err(why) => Finding::NotKnown(why.to_owned()),
            Ok(profiles) => none(&profiles.anthropic.iter().cloned().collect::<Vec<_>>()),
        }),
    ]
}

/// What LiteLLM's container has, or why that is not known.
#[must_use]
pub fn gateway_environment(read: Result<&ContainerSeen, &str>) -> MigrationLine {
    let mend = "take it out of LiteLLM's Deployment and of what its environment comes from, then restart it";
    Fact::fr222("Anthropic in LiteLLM's environment", "no variable", mend)
        .of(read, |seen| none(&seen.anthropic()))
}

pub(super) fn none(names: &[String]) -> Finding {
    if names.is_empty() { Finding::Holds("none".to_owned()) } else { Finding::Fails(told(names)) }
}

/// Whether a URL that is there leads to LiteLLM.
pub(super) fn url(there: bool, leads: Option<Leads>, expected: &Expected) -> Finding {
    if !there {
        return Finding::Fails("not set".to_owned());
    }
    match leads {
        _ if expected.urls.is_empty() => {
            Finding::NotKnown("it is set; where LiteLLM is is not known here".to_owned())
        }
        None => Finding::NotKnown("it is set, and where it leads was not asked".to_owned()),
        Some(Leads::Root | Leads::Api) => Finding::Holds("it leads to LiteLLM".to_owned()),
        Some(Leads::Elsewhere) => Finding::Fails("it leads somewhere else".to_owned()),
    }
}

fn set(seen: &ContainerSeen, needed: &BTreeSet<String>) -> Finding {
    let unset = |name: &&String| !seen.has(name);
    let (file, missing): (Vec<&String>, Vec<&String>) =
        needed.iter().filter(unset).partition(|name| seen.in_env_file.contains(*name));
    let names = |list: &[&String]| told(&list.iter().map(|name| shown(name)).collect::<Vec<_>>());
    if !missing.is_empty() {
        return Finding::Fails(format!("not set, or set to nothing: {}", names(&missing)));
    }
    if !file.is_empty() {
        return Finding::NotKnown(format!("only openclaw's own .env has {}", names(&file)));
    }
    Finding::Holds(format!("all {}", needed.len()))
}

fn age(seen: &PodSeen) -> Finding {
    let PodSeen { pod, started, changed } = seen;
    let (Some(started), Some(changed)) = (started, changed) else {
        let what =
            if started.is_none() { "when its container started" } else { "when the Secret was changed" };
        return Finding::NotKnown(format!("the cluster does not say {what}"));
    };
    let pod = shown(pod);
    match started.cmp(changed) {
        std::cmp::Ordering::Greater => {
            Finding::Holds(format!("{pod} was started at {started}, later than {changed}"))
        }
        std::cmp::Ordering::Less => Finding::Fails(format!(
            "{pod} was started at {started}, before the Secret was changed at {changed}: it has what was in it before"
        )),
        std::cmp::Ordering::Equal => {
            Finding::NotKnown(format!("{pod} was started in the same second in which the Secret was changed"))
        }
    }
}
