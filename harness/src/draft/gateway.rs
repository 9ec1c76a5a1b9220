//! The gateway of a cluster: its Deployment, its Service, its key, its configuration.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Volume};
use serde_json::Value;

use super::config::{self, MasterKey};
use super::kind::Kind;
use super::{Found, leads_to, name_of, ports};
use crate::cluster::refusals::has_agreed;
use crate::environment::ObjectName;

/// The port of a LiteLLM.
const PORT: u16 = 4000;

/// A gateway.
#[derive(Clone)]
pub(super) struct Gateway {
    pub(super) deployment: ObjectName,
    /// Its owner has agreed that it is a target.
    pub(super) agreed: bool,
    /// Service and port.
    pub(super) service: Option<(ObjectName, u16)>,
    /// Further Services and ports that lead to it.
    pub(super) other_ways: Vec<String>,
    /// Labels that select its pods.
    pub(super) labels: BTreeMap<String, String>,
    /// They are not all that selects them.
    pub(super) more_selected: bool,
    pub(super) key: Key,
    /// What is behind its variables, as far as it is plain.
    pub(super) variables: BTreeMap<String, Variable>,
    pub(super) config: Option<Value>,
    /// Further Deployments that look like one.
    pub(super) others: Vec<ObjectName>,
}

/// A variable of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// It may be shown.
    Plain(String),
    /// A field of a Secret.
    Secret(ObjectName, String),
    /// Something else.
    Other,
}

/// Where the master key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Secret(ObjectName, String),
    /// In words, why it was not found in a Secret.
    NotFound(String),
}

/// Objects that a Deployment's variables and files come from.
#[derive(Default)]
pub(super) struct References {
    pub(super) config_maps: BTreeSet<ObjectName>,
    /// Only those of which every field is a variable: of others the field is named.
    pub(super) secrets: BTreeSet<ObjectName>,
}

pub(super) fn references(deployment: &Deployment) -> References {
    let namespace = name_of(&deployment.metadata).namespace;
    let mut references = References::default();
    let container = Kind::Gateway.container(deployment);
    for source in container.iter().flat_map(|one| one.env_from.iter().flatten()) {
        if let Some(map) = &source.config_map_ref {
            references.config_maps.insert(ObjectName::new(&namespace, &map.name));
        }
        if let Some(secret) = &source.secret_ref {
            references.secrets.insert(ObjectName::new(&namespace, &secret.name));
        }
    }
    for variable in container.iter().flat_map(|one| one.env.iter().flatten()) {
        let map = variable.value_from.as_ref().and_then(|from| from.config_map_key_ref.as_ref());
        references.config_maps.extend(map.map(|map| ObjectName::new(&namespace, &map.name)));
    }
    let mounted = volumes(deployment).flat_map(config_maps_of);
    references.config_maps.extend(mounted.map(|name| ObjectName::new(&namespace, name)));
    references
}

fn volumes(deployment: &Deployment) -> impl Iterator<Item = &Volume> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    pod.into_iter().flat_map(|pod| pod.volumes.iter().flatten())
}

fn config_maps_of(volume: &Volume) -> Vec<&str> {
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let projected = projected.filter_map(|source| source.config_map.as_ref()).map(|map| map.name.as_str());
    volume.config_map.iter().map(|map| map.name.as_str()).chain(projected).collect()
}

/// The gateway, if anything looks like one: one with a configuration before one without.
pub(super) fn find(found: &Found) -> Option<Gateway> {
    let like_one = found.deployments.iter().filter(|one| Kind::of(one) == Some(Kind::Gateway));
    let mut all: Vec<Gateway> = like_one.map(|deployment| of(found, deployment)).collect();
    all.sort_by_key(|gateway| {
        (gateway.config.is_none(), gateway.service.is_none(), gateway.deployment.clone())
    });
    let others = all.iter().skip(1).map(|gateway| gateway.deployment.clone()).collect();
    let first = all.into_iter().next()?;
    Some(Gateway { others, ..first })
}

fn of(found: &Found, deployment: &Deployment) -> Gateway {
    let name = name_of(&deployment.metadata);
    let variables = variables(found, deployment);
    let config = configuration(found, deployment);
    let selector = deployment.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default();
    let mut ways: Vec<(ObjectName, u16)> = Vec::new();
    for service in found.services.iter().filter(|service| leads_to(service, deployment)) {
        ways.extend(ports(service).into_iter().map(|port| (name_of(&service.metadata), port)));
    }
    ways.sort_by_key(|(service, port)| (*port != PORT, *service != name, service.clone()));
    let other_ways = ways.iter().skip(1).map(|(service, port)| format!("{service} port {port}")).collect();
    Gateway {
        agreed: has_agreed(deployment),
        service: ways.first().cloned(),
        other_ways,
        labels: selector.match_labels.unwrap_or_default(),
        more_selected: selector.match_expressions.is_some_and(|more| !more.is_empty()),
        key: key(config.as_ref(), &variables),
        variables,
        config,
        deployment: name,
        others: Vec::new(),
    }
}

fn key(config: Option<&Value>, variables: &BTreeMap<String, Variable>) -> Key {
    let MasterKey::Variable(variable) = config::master_key(config) else {
        return Key::NotFound(
            "it is written in the configuration itself, where everybody who reads that finds it".into(),
        );
    };
    match variables.get(&variable) {
        Some(Variable::Secret(secret, field)) => Key::Secret(secret.clone(), field.clone()),
        Some(_) => Key::NotFound(format!("the gateway's variable {variable} does not come from a Secret")),
        None => Key::NotFound(format!("the gateway has no variable {variable}")),
    }
}

/// The variables of the gateway's container, as Kubernetes sets them: those of `env` over those of `envFrom`.
fn variables(found: &Found, deployment: &Deployment) -> BTreeMap<String, Variable> {
    let namespace = name_of(&deployment.metadata).namespace;
    let Some(container) = Kind::Gateway.container(deployment) else { return BTreeMap::new() };
    let mut variables = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        variables.extend(all_of(found, &namespace, source));
    }
    for variable in container.env.iter().flatten() {
        variables.insert(variable.name.clone(), one_of(found, &namespace, variable));
    }
    variables
}

fn all_of(found: &Found, namespace: &str, source: &EnvFromSource) -> Vec<(String, Variable)> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    if let Some(map) = &source.config_map_ref {
        let data = data_of(found, &ObjectName::new(namespace, &map.name));
        all.extend(
            data.iter().map(|(key, value)| (format!("{prefix}{key}"), Variable::Plain(value.clone()))),
        );
    }
    if let Some(secret) = &source.secret_ref {
        let name = ObjectName::new(namespace, &secret.name);
        let fields = found.secret_fields.get(&name).into_iter().flatten();
        all.extend(fields.map(|key| (format!("{prefix}{key}"), Variable::Secret(name.clone(), key.clone()))));
    }
    all
}

fn one_of(found: &Found, namespace: &str, variable: &EnvVar) -> Variable {
    let from = variable.value_from.as_ref();
    if let Some(secret) = from.and_then(|from| from.secret_key_ref.as_ref()) {
        return Variable::Secret(ObjectName::new(namespace, &secret.name), secret.key.clone());
    }
    if let Some(map) = from.and_then(|from| from.config_map_key_ref.as_ref()) {
        let data = data_of(found, &ObjectName::new(namespace, &map.name));
        return data.get(&map.key).map_or(Variable::Other, |value| Variable::Plain(value.clone()));
    }
    variable.value.as_ref().map_or(Variable::Other, |value| Variable::Plain(value.clone()))
}

fn data_of(found: &Found, name: &ObjectName) -> BTreeMap<String, String> {
    let map = found.config_maps.iter().find(|map| name_of(&map.metadata) == *name);
    map.and_then(|map| map.data.clone()).unwrap_or_default()
}

/// The first file of its ConfigMaps that is a configuration.
fn configuration(found: &Found, deployment: &Deployment) -> Option<Value> {
    let namespace = name_of(&deployment.metadata).namespace;
    let maps = volumes(deployment).flat_map(config_maps_of);
    let data = maps.map(|name| data_of(found, &ObjectName::new(&namespace, name)));
    data.flat_map(BTreeMap::into_values).find_map(|text| config::parse(&text))
}
