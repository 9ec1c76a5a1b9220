//! Whether the fields that the mock looks into are maps, lists and texts where they should be. After this, everybody
//! may rely on it.

use serde_json::Value;

use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::resources::Resource;

/// Lists of maps in the specification of a pod.
const POD_LISTS: [&str; 6] =
    ["containers", "initContainers", "ephemeralContainers", "volumes", "tolerations", "imagePullSecrets"];

/// Refuses an object in which something is of the wrong type.
pub(crate) fn check(resource: &'static Resource, object: &Value) -> Result<(), Refusal> {
    wrong(resource, object).map_or(Ok(()), |field| {
        Err(Refusal::BadRequest(format!(
            "{kind} in version \"{}\" cannot be handled as a {kind}: json: cannot unmarshal into field {kind}.{field}",
            resource.version,
            kind = resource.kind
        )))
    })
}

/// The field that is of the wrong type.
fn wrong(resource: &'static Resource, object: &Value) -> Option<String> {
    let is_map = |value: &Value| value.is_null() || value.is_object();
    for field in ["metadata", "spec", "status", "involvedObject"] {
        if !is_map(&object[field]) {
            return Some(field.to_owned());
        }
    }
    for field in ["data", "stringData", "binaryData"] {
        if !is_map_of_texts(&object[field]) {
            return Some(field.to_owned());
        }
    }
    if let Some(field) = wrong_metadata(&object["metadata"]) {
        return Some(format!("metadata.{field}"));
    }
    if !is_map(&object["roleRef"]) {
        return Some("roleRef".to_owned());
    }
    if let Some(field) = ["rules", "subjects"].into_iter().find(|field| !is_list_of_maps(&object[*field])) {
        return Some(field.to_owned());
    }
    // What is in a custom resource is its own affair.
    if resource.crd.is_some() {
        return None;
    }
    if !is_list_of_maps(&object["status"]["conditions"]) {
        return Some("status.conditions".to_owned());
    }
    wrong_spec(&object["spec"]).map(|field| format!("spec.{field}"))
}

/// In a specification of any kind: of a pod, of what makes pods, of a service or a policy.
fn wrong_spec(spec: &Value) -> Option<String> {
    let is_map = |value: &Value| value.is_null() || value.is_object();
    for field in ["template", "jobTemplate", "selector", "strategy", "podSelector"] {
        if !is_map(&spec[field]) {
            return Some(field.to_owned());
        }
    }
    for field in POD_LISTS.iter().chain(&["ports", "egress", "ingress"]) {
        if !is_list_of_maps(&spec[*field]) {
            return Some((*field).to_owned());
        }
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            if ["ports", "env", "volumeMounts"].iter().any(|field| !is_list_of_maps(&container[*field])) {
                return Some(list.to_owned());
            }
        }
    }
    for (outer, inner) in [("template", &spec["template"]), ("jobTemplate", &spec["jobTemplate"])] {
        if !is_map(&inner["metadata"]) || !is_map(&inner["spec"]) {
            return Some(outer.to_owned());
        }
        if let Some(field) = wrong_metadata(&inner["metadata"]) {
            return Some(format!("{outer}.metadata.{field}"));
        }
        // A template holds a pod, or a job that holds one: no deeper.
        if let Some(field) = inner["spec"].is_object().then(|| wrong_spec(&inner["spec"])).flatten() {
            return Some(format!("{outer}.spec.{field}"));
        }
    }
    None
}

fn wrong_metadata(metadata: &Value) -> Option<&'static str> {
    if let Some(field) =
        ["labels", "annotations"].into_iter().find(|field| !is_map_of_texts(&metadata[*field]))
    {
        return Some(field);
    }
    for field in ["name", "namespace", "generateName", "uid", "resourceVersion"] {
        if !(metadata[field].is_null() || metadata[field].is_string()) {
            return Some(field);
        }
    }
    let finalizers = &metadata["finalizers"];
    if !(finalizers.is_null() || finalizers.as_array().is_some_and(|all| all.iter().all(Value::is_string))) {
        return Some("finalizers");
    }
    (!is_list_of_maps(&metadata["ownerReferences"])).then_some("ownerReferences")
}

fn is_map_of_texts(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(|all| all.values().all(Value::is_string))
}

fn is_list_of_maps(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(|all| all.iter().all(Value::is_object))
}
