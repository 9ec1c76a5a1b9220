//! A first environment file for a cluster, from the objects in it.
//!
//! [`read`] reads and changes nothing, not even as a rehearsal; [`draft`] decides and writes, without I/O. Of Secrets
//! only the names of fields are kept, and of a gateway's configuration only aliases, fallbacks and where models are.
//!
//! What could not be found is left so that `harness check` refuses the file, with a comment that says what to decide.

mod config;
mod gateway;
mod kind;
mod parts;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use self::kind::Kind;
use crate::cluster::access::{Access, CallError};
use crate::environment::ObjectName;

/// What a draft is made of.
#[derive(Clone, Default)]
pub struct Found {
    /// The context of the kubeconfig.
    pub context: String,
    /// The kubeconfig, where one was named.
    pub kubeconfig: Option<PathBuf>,
    /// All Deployments of the namespaces that were looked at.
    pub deployments: Vec<Deployment>,
    /// All Services of these.
    pub services: Vec<Service>,
    /// Those that Deployments of gateways name.
    pub config_maps: Vec<ConfigMap>,
    /// The names of the fields of Secrets that are variables of a gateway as a whole. Never their values.
    pub secret_fields: BTreeMap<ObjectName, BTreeSet<String>>,
    /// What could not be read of all that, in words.
    pub unread: Vec<String>,
}

/// Reads what a draft is made of, in these namespaces, or in all where none is named.
///
/// # Errors
/// Where Deployments or Services cannot be read.
pub async fn read(access: &Access, namespaces: &[String]) -> Result<Found, CallError> {
    let mut found = Found { context: access.name().to_owned(), ..Found::default() };
    let places: Vec<Option<&str>> = match namespaces {
        [] => vec![None],
        named => named.iter().map(|namespace| Some(namespace.as_str())).collect(),
    };
    for place in places {
        found.deployments.extend(access.list::<Deployment>(place, "").await?);
        found.services.extend(access.list::<Service>(place, "").await?);
    }
    let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for deployment in found.deployments.iter().filter(|one| Kind::of(one) == Some(Kind::Gateway)) {
        let named = gateway::references(deployment);
        maps.extend(named.config_maps);
        secrets.extend(named.secrets);
    }
    for name in maps {
        match access.find::<ConfigMap>(&name).await {
            Ok(map) => found.config_maps.extend(map),
            Err(error) => found.unread.push(error.to_string()),
        }
    }
    for name in secrets {
        match access.find::<Secret>(&name).await {
            Ok(secret) => {
                let data = secret.and_then(|secret| secret.data).unwrap_or_default();
                found.secret_fields.insert(name, data.into_keys().collect());
            }
            Err(error) => found.unread.push(error.to_string()),
        }
    }
    Ok(found)
}

/// The environment file.
#[must_use]
pub fn draft(found: &Found) -> String {
    let gateway = gateway::find(found);
    let parts = parts::find(found, gateway.as_ref());
    text::write(found, gateway.as_ref(), &parts)
}

/// The name of an object that was read.
fn name_of(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// The labels of a Deployment's pods.
fn pod_labels(deployment: &Deployment) -> BTreeMap<String, String> {
    let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default()
}

/// Whether a Service leads to the pods of a Deployment.
fn leads_to(service: &Service, deployment: &Deployment) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let labels = pod_labels(deployment);
    service.metadata.namespace == deployment.metadata.namespace
        && !selector.is_empty()
        && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The ports of a Service.
fn ports(service: &Service) -> Vec<u16> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    ports.iter().filter_map(|port| u16::try_from(port.port).ok()).collect()
}
