//! The components and routes of a draft.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use super::config::{self, Model, Route};
use super::gateway::{Gateway, Variable};
use super::kind::Kind;
use super::{Found, leads_to, name_of, ports};
use crate::cluster::refusals::has_agreed;
use crate::environment::ObjectName;
use crate::gateway::config::ENVIRONMENT_PREFIX;

/// Something that can be up or down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) place: Place,
}

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Deployment {
        name: ObjectName,
        kind: Option<Kind>,
        /// Its owner has agreed that it is a target.
        agreed: bool,
        service: Option<ObjectName>,
        /// Where the Service has several.
        port: Option<u16>,
    },
    /// Outside of the cluster, scheme, host and port.
    Endpoint(String),
}

/// All that is behind the gateway.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) components: Vec<Part>,
    /// By name.
    pub(super) routes: Vec<(String, Route)>,
    /// Aliases that are nowhere, and why.
    pub(super) unplaced: Vec<(String, String)>,
    /// Deployments that look like a backend, and to which no model leads.
    pub(super) unused: Vec<ObjectName>,
    /// There is no configuration to tell the aliases from.
    pub(super) without_config: bool,
}

pub(super) fn find(found: &Found, gateway: Option<&Gateway>) -> Parts {
    let mut parts = Parts::default();
    match gateway.and_then(|gateway| Some((gateway, gateway.config.as_ref()?))) {
        None => {
            parts.without_config = true;
            for deployment in backends(found) {
                let place = place_of(found, deployment, None, None);
                let name = part_name(&parts, &place);
                parts.components.push(Part { name, aliases: Vec::new(), place });
            }
        }
        Some((gateway, config)) => of_config(&mut parts, found, gateway, config),
    }
    parts
}

fn of_config(parts: &mut Parts, found: &Found, gateway: &Gateway, config: &Value) {
    for model in config::models(config) {
        match place(found, gateway, &model) {
            Ok(place) => put(parts, model.alias, place),
            Err(why) => {
                let known = (model.alias, why);
                if !parts.unplaced.contains(&known) {
                    parts.unplaced.push(known);
                }
            }
        }
    }
    let used: BTreeSet<ObjectName> =
        parts.components.iter().filter_map(|part| part.place.deployment()).collect();
    let unused = backends(found).map(|deployment| name_of(&deployment.metadata));
    parts.unused = unused.filter(|name| !used.contains(name)).collect();
    for route in config::routes(config) {
        let taken = |name: &str| parts.routes.iter().any(|(known, _)| known == name);
        let usual = if route.model.contains("coder") {
            Some("coder")
        } else if route.fallbacks.is_empty() {
            None
        } else {
            Some("agent")
        };
        let name = match usual.filter(|name| !taken(name)) {
            Some(name) => name.to_owned(),
            None => free(&slug(&route.model), taken),
        };
        parts.routes.push((name, route));
    }
}

fn backends(found: &Found) -> impl Iterator<Item = &Deployment> {
    found.deployments.iter().filter(|one| matches!(Kind::of(one), Some(Kind::Vllm | Kind::Ollama)))
}

/// An alias belongs to one component; where a group has models in several places the first is told.
fn put(parts: &mut Parts, alias: String, place: Place) {
    let of_alias = parts.components.iter().find(|part| part.aliases.contains(&alias));
    if let Some(part) = of_alias {
        if !part.place.is(&place) {
            let why = format!("it has models in several places, of which only {} is named", part.name);
            parts.unplaced.push((alias, why));
        }
        return;
    }
    if let Some(part) = parts.components.iter_mut().find(|part| part.place.is(&place)) {
        return part.aliases.push(alias);
    }
    let name = part_name(parts, &place);
    parts.components.push(Part { name, aliases: vec![alias], place });
}

impl Place {
    fn deployment(&self) -> Option<ObjectName> {
        match self {
            Self::Deployment { name, .. } => Some(name.clone()),
            Self::Endpoint(_) => None,
        }
    }

    /// They go away together.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Deployment { name, .. }, Self::Deployment { name: other, .. }) => name == other,
            (Self::Endpoint(one), Self::Endpoint(other)) => one == other,
            _ => false,
        }
    }
}

fn part_name(parts: &Parts, place: &Place) -> String {
    let taken = |name: &str| parts.components.iter().any(|part| part.name == name);
    match place {
        Place::Endpoint(_) => free("cloud", taken),
        Place::Deployment { name, kind, .. } => match kind {
            Some(kind) if !taken(kind.word()) => kind.word().to_owned(),
            _ => free(&slug(&name.name), taken),
        },
    }
}

/// The name, or with the first number that makes it free.
fn free(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

/// A name as environment files take it.
pub(super) fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let slug: String = text.chars().take(60).map(plain).collect();
    let slug = slug.trim_matches('-');
    if slug.is_empty() { "unnamed".to_owned() } else { slug.to_owned() }
}

/// Where a model is, or why that cannot be told.
fn place(found: &Found, gateway: &Gateway, model: &Model) -> Result<Place, String> {
    if model.alias.is_empty()
        || model.alias.contains(|c: char| c == '*' || c.is_whitespace() || c.is_control())
    {
        return Err("it is a pattern, or no one word".to_owned());
    }
    let written =
        model.api_base.as_deref().ok_or("the configuration does not say where it is (`api_base`)")?;
    let base = resolve(&gateway.variables, written)?;
    let url = reqwest::Url::parse(&base).ok();
    // What is no URL may be anything, a key too: it is not shown.
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or("its `api_base` is no URL")?;
    let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
    let Some((namespace, name)) = service_name(found, &gateway.deployment.namespace, &host) else {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        if host == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
            return Err(format!("it is in the gateway's own pod ({host}), which is not taken down apart"));
        }
        if !host.contains(['.', ':']) {
            return Err(format!(
                "{host}, where it is, is neither a Service that was found nor outside the cluster"
            ));
        }
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        return Ok(Place::Endpoint(format!("{}://{host}{port}", url.scheme())));
    };
    let service = ObjectName::new(namespace, name);
    let known = found.services.iter().find(|one| name_of(&one.metadata) == service);
    let known =
        known.ok_or_else(|| format!("there is no Service {service} in the namespaces that were read"))?;
    let behind = found.deployments.iter().find(|deployment| leads_to(known, deployment));
    let behind = behind.ok_or_else(|| format!("Service {service} leads to no Deployment"))?;
    Ok(place_of(found, behind, Some(known), url.port_or_known_default()))
}

fn resolve(variables: &BTreeMap<String, Variable>, written: &str) -> Result<String, String> {
    let Some(variable) = written.strip_prefix(ENVIRONMENT_PREFIX) else { return Ok(written.to_owned()) };
    match variables.get(variable) {
        Some(Variable::Plain(value)) => Ok(value.clone()),
        Some(Variable::Secret(..)) => Err(format!("where it is is kept in a Secret (variable {variable})")),
        Some(Variable::Other) | None => Err(format!("the gateway's variable {variable} is not known")),
    }
}

/// The Service that a host is the name or the address of, as pods of a namespace resolve it.
fn service_name(found: &Found, namespace: &str, host: &str) -> Option<(String, String)> {
    let by_address = found
        .services
        .iter()
        .find(|service| service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some(host));
    if let Some(service) = by_address {
        let name = name_of(&service.metadata);
        return Some((name.namespace, name.name));
    }
    let is_there = |namespace: &str, name: &str| {
        found.services.iter().any(|service| name_of(&service.metadata) == ObjectName::new(namespace, name))
    };
    let parts: Vec<&str> = host.split('.').collect();
    match parts.as_slice() {
        [name] if is_there(namespace, name) => Some((namespace.to_owned(), (*name).to_owned())),
        [name, of] if is_there(of, name) => Some(((*of).to_owned(), (*name).to_owned())),
        [name, of, "svc", ..] => Some(((*of).to_owned(), (*name).to_owned())),
        _ => None,
    }
}

fn place_of(found: &Found, deployment: &Deployment, service: Option<&Service>, port: Option<u16>) -> Place {
    let name = name_of(&deployment.metadata);
    let mut leading = found.services.iter().filter(|service| leads_to(service, deployment));
    let service = service.or_else(|| leading.next());
    let several = service.is_some_and(|service| ports(service).len() > 1);
    Place::Deployment {
        kind: Kind::of(deployment).filter(|kind| *kind != Kind::Gateway),
        agreed: has_agreed(deployment),
        service: service.map(|service| name_of(&service.metadata)),
        port: port.filter(|_| several),
        name,
    }
}
