//! Whether the gateway's containers are told to reach a host through a proxy: a fault would cut the wrong way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, PodSpec};

use super::{Refusal, containers};
use crate::environment::ObjectName;

const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
const EXCEPTIONS: &str = "NO_PROXY";

/// An object of which every field is a variable of a container (`envFrom`), in the namespace of its pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// By its name.
    ConfigMap(String),
    /// By its name.
    Secret(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMap(name) => write!(formatter, "ConfigMap {name}"),
            Self::Secret(name) => write!(formatter, "Secret {name}"),
        }
    }
}

/// What is known of such an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// A ConfigMap's.
    Values(BTreeMap<String, String>),
    /// Their names alone: of a Secret nothing else is kept.
    Names(BTreeSet<String>),
    /// It may not be read.
    Unread,
}

/// What the containers of a pod take variables from, as far as it is there.
pub type Sources = BTreeMap<Source, Fields>;

/// All that a pod's containers take variables from.
#[must_use]
pub fn sources(pod: &PodSpec) -> BTreeSet<Source> {
    containers(pod).flat_map(|container| container.env_from.iter().flatten()).filter_map(source_of).collect()
}

fn source_of(from: &EnvFromSource) -> Option<Source> {
    let map = from.config_map_ref.as_ref().map(|map| Source::ConfigMap(map.name.clone()));
    map.or_else(|| from.secret_ref.as_ref().map(|secret| Source::Secret(secret.name.clone())))
}

/// What a variable is set to.
enum Value<'s> {
    Text(&'s str),
    /// To something that is not looked at.
    Hidden,
}

/// The variables of a container as Kubernetes sets them, later ones over earlier ones and `env` over `envFrom`; each
/// with the object that it comes from.
fn variables<'s>(
    container: &'s Container,
    sources: &'s Sources,
) -> BTreeMap<String, (Value<'s>, Option<&'s Source>)> {
    let mut variables = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let Some((source, fields)) = source_of(from).and_then(|source| sources.get_key_value(&source)) else {
            continue;
        };
        let named = |field: &str| format!("{}{field}", from.prefix.as_deref().unwrap_or_default());
        match fields {
            Fields::Values(values) => variables.extend(
                values
                    .iter()
                    .map(|(field, value)| (named(field), (Value::Text(value.as_str()), Some(source)))),
            ),
            Fields::Names(names) => {
                variables.extend(names.iter().map(|field| (named(field), (Value::Hidden, Some(source)))));
            }
            Fields::Unread => {}
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(_) => Value::Hidden,
            None => Value::Text(variable.value.as_deref().unwrap_or_default()),
        };
        variables.insert(variable.name.clone(), (value, None));
    }
    variables
}

/// Whether one of these lists of exceptions is for a host.
fn is_excepted<'v>(lists: impl Iterator<Item = &'v Value<'v>>, host: &str) -> bool {
    let texts = lists.filter_map(|value| match value {
        Value::Text(text) => Some(*text),
        Value::Hidden => None,
    });
    texts.flat_map(|list| list.split(',')).any(|entry| covers(entry.trim(), host))
}

/// Containers with a variable that sends requests for `host` through a proxy.
pub(super) fn refusals(name: &ObjectName, pod: &PodSpec, host: &str, sources: &Sources) -> Vec<Refusal> {
    let mut refused = Vec::new();
    for container in containers(pod) {
        let variables = variables(container, sources);
        let exceptions = variables.iter().filter(|(name, _)| name.eq_ignore_ascii_case(EXCEPTIONS));
        if is_excepted(exceptions.map(|(_, (value, _))| value), host) {
            continue;
        }
        for (variable, (value, source)) in &variables {
            let is_proxy = PROXIES.iter().any(|name| variable.eq_ignore_ascii_case(name));
            let is_set = !matches!(value, Value::Text(text) if text.trim().is_empty());
            if is_proxy && is_set {
                let from = source.map(|source| format!(", from {source}")).unwrap_or_default();
                refused.push(Refusal::new(
                    format!(
                        "the gateway reaches {host} through a proxy: container {} of Deployment {name} has the \
                         variable {variable}{from}",
                        container.name
                    ),
                    format!("add {host} to NO_PROXY of the gateway"),
                ));
            }
        }
    }
    refused
}

/// Objects that may hold such a variable and may not be read, in words. A NO_PROXY in the container itself holds,
/// whatever is in them.
#[must_use]
pub fn unknown_proxies(name: &ObjectName, pod: &PodSpec, host: &str, sources: &Sources) -> Vec<String> {
    let mut words = Vec::new();
    for container in containers(pod) {
        let none = Sources::new();
        let own = variables(container, &none);
        let exceptions = own.iter().filter(|(name, _)| name.eq_ignore_ascii_case(EXCEPTIONS));
        if is_excepted(exceptions.map(|(_, (value, _))| value), host) {
            continue;
        }
        let taken = container.env_from.iter().flatten().filter_map(source_of);
        let unread = taken.filter(|source| sources.get(source) == Some(&Fields::Unread));
        words.extend(unread.map(|source| {
            format!(
                "whether the gateway reaches {host} through a proxy cannot be told: container {} of Deployment {name} \
                 takes variables from {source}, which this user may not read",
                container.name
            )
        }));
    }
    words
}

/// Whether an entry of NO_PROXY is for a host.
pub(super) fn covers(entry: &str, host: &str) -> bool {
    let (entry, host) = (entry.trim_start_matches("*.").trim_start_matches('.'), host.to_ascii_lowercase());
    let entry = entry.to_ascii_lowercase();
    entry == "*" || (!entry.is_empty() && (host == entry || host.ends_with(&format!(".{entry}"))))
}
