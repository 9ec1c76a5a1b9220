//! EndpointSlices: which pods are behind a Service, and in what state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::objects::{is_ending, is_true, key_of, meta, name_hash, owner_reference};
use super::reconcile::Reconcile;
use crate::kubernetes::network::selector;
use crate::kubernetes::resources::{ENDPOINT_SLICES, PODS, Resource, SERVICES};
use crate::kubernetes::store::{Deletion, ObjectKey, Store, Writer};

const MANAGER: &str = "kube-controller-manager";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// The controller of EndpointSlices.
#[derive(Debug)]
pub(crate) struct EndpointSlices {
    pub(crate) store: Store,
}

impl Reconcile for EndpointSlices {
    fn kinds(&self) -> Vec<&'static Resource> {
        vec![&SERVICES, &PODS, &ENDPOINT_SLICES]
    }

    async fn reconcile(&mut self) -> Option<Duration> {
        for service in self.store.list(&SERVICES, None).items {
            if service["spec"]["selector"].as_object().is_some_and(|labels| !labels.is_empty()) {
                self.write(&service);
            }
        }
        None
    }
}

impl EndpointSlices {
    /// Writes one slice for each set of ports that pods of the Service have, and removes the others.
    fn write(&self, service: &Value) {
        let namespace = meta(service, "namespace");
        let wanted = json!({ "matchLabels": service["spec"]["selector"] });
        let pods = self.store.list(&PODS, Some(namespace)).items;
        let mut slices: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| selector::matches(&wanted, pod)) {
            if let Some(endpoint) = endpoint(pod) {
                let ports = ports_of(service, pod);
                slices.entry(ports.to_string()).or_insert_with(|| (ports, Vec::new())).1.push(endpoint);
            }
        }
        let mut kept = Vec::new();
        // Without pods, an empty slice says so.
        if slices.is_empty() {
            slices.insert("none".to_owned(), (json!([]), Vec::new()));
        }
        // The first one keeps its name while pods come and go.
        for (number, (ports, endpoints)) in slices.into_values().enumerate() {
            let hash = name_hash(&format!("{} {number}", meta(service, "uid")), 5);
            let key =
                ObjectKey::new(&ENDPOINT_SLICES, namespace, &format!("{}-{hash}", meta(service, "name")));
            self.write_slice(service, &key, &ports, &endpoints);
            kept.push(key.name);
        }
        for slice in self.store.list(&ENDPOINT_SLICES, Some(namespace)).items {
            let labels = &slice["metadata"]["labels"];
            let is_ours = labels[SERVICE_NAME] == meta(service, "name") && labels[MANAGED_BY] == CONTROLLER;
            if is_ours && !kept.iter().any(|name| name == meta(&slice, "name")) {
                let _gone = self.store.delete(&key_of(&ENDPOINT_SLICES, &slice), &Deletion::now(), MANAGER);
            }
        }
    }

    fn write_slice(&self, service: &Value, key: &ObjectKey, ports: &Value, endpoints: &[Value]) {
        let writer = Writer::of_object(MANAGER);
        let set = |slice: &mut Value| {
            slice["endpoints"] = endpoints.into();
            slice["ports"] = ports.clone();
            Ok(())
        };
        if self.store.get(key).is_some() {
            let _written = self.store.update(key, writer, set);
            return;
        }
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "labels": { SERVICE_NAME: meta(service, "name"), MANAGED_BY: CONTROLLER },
                "ownerReferences": [owner_reference(&SERVICES, service)],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports,
        });
        let _written = self.store.create(&ENDPOINT_SLICES, &key.namespace, slice, writer);
    }
}

/// The endpoint that a pod is; none while it has no address or after its end.
fn endpoint(pod: &Arc<Value>) -> Option<Value> {
    let ip = pod["status"]["podIP"].as_str().filter(|ip| !ip.is_empty())?;
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let (serving, terminating) = (is_true(pod, "Ready"), is_ending(pod));
    Some(json!({
        "addresses": [ip],
        "conditions": { "ready": serving && !terminating, "serving": serving, "terminating": terminating },
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {
            "kind": "Pod",
            "namespace": meta(pod, "namespace"),
            "name": meta(pod, "name"),
            "uid": meta(pod, "uid"),
        },
    }))
}

/// The ports of a Service as they are in this pod; a named one that the pod does not have is left out.
fn ports_of(service: &Value, pod: &Value) -> Value {
    let entries = service["spec"]["ports"].as_array().into_iter().flatten();
    let resolved = entries.filter_map(|entry| {
        let number = match &entry["targetPort"] {
            Value::Null => entry["port"].as_u64(),
            Value::String(name) => container_port(pod, name),
            number => number.as_u64(),
        };
        Some(json!({
            "name": entry["name"].as_str().unwrap_or_default(),
            "port": number?,
            "protocol": entry["protocol"].as_str().unwrap_or("TCP"),
        }))
    });
    resolved.collect()
}

fn container_port(pod: &Value, name: &str) -> Option<u64> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    ports.find(|port| port["name"].as_str() == Some(name)).and_then(|port| port["containerPort"].as_u64())
}
