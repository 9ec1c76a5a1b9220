//! Where the components of an environment are: what is looked at, and which pods are theirs.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Service};
use kube::core::Selector;

use super::access::Access;
use super::prober::Target as Looked;
use crate::environment::{Component, Environment, FaultKind, ObjectName};

/// Where the components are in the cluster.
pub struct Places {
    /// Namespace and labels of their pods.
    pub pods: BTreeMap<String, (String, Selector)>,
    /// The container in them that serves.
    pub containers: BTreeMap<String, String>,
    /// What is looked at from inside the gateway's pod.
    pub looked_at: Vec<Looked>,
}

/// Finds them.
///
/// # Errors
/// In words, what is not there or cannot be read.
pub async fn places(access: &Access, environment: &Environment) -> Result<Places, String> {
    let (mut pods, mut containers, mut looked_at) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (name, component) in &environment.components {
        if let Some(endpoint) = &component.endpoint {
            looked_at.push(Looked::endpoint(name, endpoint).map_err(|error| error.to_string())?);
        } else if let Some(service) = service_of(component) {
            let port = match component.port {
                Some(port) => port,
                None => only_port(access, &service).await?,
            };
            let name_may_go = component.down == FaultKind::ScaleToZero;
            looked_at.push(Looked { name_may_go, ..Looked::service(name, &service, port) });
        }
        if let Some(deployment) = &component.deployment {
            let object: Deployment = access.get(deployment).await.map_err(|error| error.to_string())?;
            let spec = object.spec.unwrap_or_default();
            if let Some(container) = serving(spec.template.spec.map(|spec| spec.containers)) {
                containers.insert(name.clone(), container);
            }
            let selector = Selector::try_from(spec.selector)
                .map_err(|_| format!("the selector of Deployment {deployment} cannot be read"))?;
            pods.insert(name.clone(), (deployment.namespace.clone(), selector));
        }
    }
    Ok(Places { pods, containers, looked_at })
}

/// The first container that has a port; the first where none names any.
fn serving(containers: Option<Vec<Container>>) -> Option<String> {
    let containers = containers?;
    let has_port = |container: &&Container| container.ports.iter().flatten().next().is_some();
    containers.iter().find(has_port).or(containers.first()).map(|container| container.name.clone())
}

async fn only_port(access: &Access, service: &ObjectName) -> Result<u16, String> {
    let object: Service = access.get(service).await.map_err(|error| error.to_string())?;
    let ports = object.spec.and_then(|spec| spec.ports).unwrap_or_default();
    match ports.as_slice() {
        [one] => u16::try_from(one.port).map_err(|_| format!("Service {service} names no port")),
        others => Err(format!(
            "Service {service} has {} ports; name the one that the gateway uses by `port:` in the environment file",
            others.len()
        )),
    }
}

/// The Service of a component: as named, else of the Deployment's name.
#[must_use]
pub fn service_of(component: &Component) -> Option<ObjectName> {
    component.service.clone().or_else(|| component.deployment.clone())
}
