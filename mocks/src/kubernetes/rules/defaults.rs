//! Fields that the API server fills in.

use serde_json::{Map, Value, json};

use crate::kubernetes::resources::{
    CRON_JOBS, DEPLOYMENTS, ENDPOINT_SLICES, JOBS, NAMESPACES, NETWORK_POLICIES, PODS, REPLICA_SETS,
    Resource, SECRETS, SERVICES, STATEFUL_SETS,
};

fn fields_of<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut at = value;
    for step in path {
        at = at.get_mut(*step)?;
    }
    at.as_object_mut()
}

fn set(fields: &mut Map<String, Value>, defaults: Value) {
    let Value::Object(defaults) = defaults else { return };
    for (field, value) in defaults {
        match fields.get(&field) {
            None | Some(Value::Null) => drop(fields.insert(field, value)),
            Some(_) => {}
        }
    }
}

/// Fills in what every state of an object has.
pub(crate) fn fill(resource: &'static Resource, object: &mut Value) {
    let kind = |one: &'static Resource| resource == one;
    if kind(&PODS) {
        fill_pod(object, &["spec"]);
    } else if kind(&DEPLOYMENTS) {
        fill_deployment(object);
    } else if kind(&REPLICA_SETS) || kind(&STATEFUL_SETS) {
        if let Some(spec) = fields_of(object, &["spec"]) {
            set(spec, json!({ "replicas": 1 }));
        }
        fill_pod(object, &["spec", "template", "spec"]);
    } else if kind(&JOBS) {
        if let Some(spec) = fields_of(object, &["spec"]) {
            fill_job(spec);
        }
        fill_pod(object, &["spec", "template", "spec"]);
    } else if kind(&CRON_JOBS) {
        if let Some(spec) = fields_of(object, &["spec"]) {
            set(
                spec,
                json!({
                    "concurrencyPolicy": "Allow", "suspend": false, "successfulJobsHistoryLimit": 3,
                    "failedJobsHistoryLimit": 1,
                }),
            );
        }
        fill_pod(object, &["spec", "jobTemplate", "spec", "template", "spec"]);
    } else if kind(&SERVICES) {
        fill_service(object);
    } else if kind(&SECRETS) {
        fill_secret(object);
    } else if kind(&NETWORK_POLICIES) {
        fill_policy(object);
    } else if kind(&ENDPOINT_SLICES) {
        let ports = object["ports"].as_array_mut().into_iter().flatten();
        for port in ports.filter_map(Value::as_object_mut) {
            set(port, json!({ "name": "", "protocol": "TCP" }));
        }
    }
}

/// Fills in what only a new object gets.
pub(crate) fn fill_new(resource: &'static Resource, object: &mut Value) {
    if *resource == PODS {
        object["status"] = json!({ "phase": "Pending", "qosClass": "BestEffort" });
    } else if *resource == NAMESPACES {
        let name = object["metadata"]["name"].clone();
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        object["spec"] = json!({ "finalizers": ["kubernetes"] });
        object["status"] = json!({ "phase": "Active" });
    } else if *resource == JOBS {
        fill_job_selector(object);
    } else if [&DEPLOYMENTS, &STATEFUL_SETS, &CRON_JOBS].contains(&resource) {
        object["status"] = json!({});
    } else if *resource == REPLICA_SETS {
        object["status"] = json!({ "replicas": 0 });
    } else if *resource == SERVICES {
        object["status"] = json!({ "loadBalancer": {} });
    }
}

fn fill_deployment(object: &mut Value) {
    if let Some(spec) = fields_of(object, &["spec"]) {
        set(
            spec,
            json!({
                "progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10,
                "strategy": { "type": "RollingUpdate" },
            }),
        );
    }
    if let Some(strategy) = fields_of(object, &["spec", "strategy"]) {
        set(strategy, json!({ "type": "RollingUpdate" }));
        if strategy["type"] == "RollingUpdate" {
            set(strategy, json!({ "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } }));
        }
    }
    fill_pod(object, &["spec", "template", "spec"]);
}

fn fill_job(spec: &mut Map<String, Value>) {
    // A Job that says how many pods may run and not how many must succeed is done when one of them says so.
    if !spec.contains_key("parallelism") {
        set(spec, json!({ "completions": 1 }));
    }
    set(
        spec,
        json!({
            "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": false,
            "podReplacementPolicy": if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" },
            "manualSelector": false,
        }),
    );
    // Only said where somebody said it.
    if spec["manualSelector"] == false {
        spec.shift_remove("manualSelector");
    }
}

/// A Job's pods carry its uid, and it finds them by that.
fn fill_job_selector(object: &mut Value) {
    object["status"] = json!({});
    if object["spec"].get("selector").is_some() || !object["spec"]["template"].is_object() {
        return;
    }
    let (uid, name) = (object["metadata"]["uid"].clone(), object["metadata"]["name"].clone());
    object["spec"]["selector"] = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } });
    if !object["spec"]["template"]["metadata"].is_object() {
        object["spec"]["template"]["metadata"] = json!({});
    }
    let template = &mut object["spec"]["template"]["metadata"];
    if !template["labels"].is_object() {
        template["labels"] = json!({});
    }
    for (label, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        template["labels"][label] = value.clone();
    }
}

fn fill_pod(object: &mut Value, path: &[&str]) {
    let Some(spec) = fields_of(object, path) else { return };
    set(
        spec,
        json!({
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "securityContext": {}, "schedulerName": "default-scheduler",
        }),
    );
    if *path == ["spec"] {
        set(
            spec,
            json!({ "serviceAccountName": "default", "serviceAccount": "default", "enableServiceLinks": true }),
        );
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for container in containers.filter_map(Value::as_object_mut) {
            let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
            let is_latest =
                image.ends_with(":latest") || !image.rsplit('/').next().unwrap_or_default().contains(':');
            let policy = if is_latest { "Always" } else { "IfNotPresent" };
            set(
                container,
                json!({
                    "imagePullPolicy": policy, "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File", "resources": {},
                }),
            );
            let ports = container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
            for port in ports.filter_map(Value::as_object_mut) {
                set(port, json!({ "protocol": "TCP" }));
            }
        }
    }
}

fn fill_service(object: &mut Value) {
    let Some(spec) = fields_of(object, &["spec"]) else { return };
    set(
        spec,
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
        }),
    );
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
    for port in ports.filter_map(Value::as_object_mut) {
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        set(port, json!({ "protocol": "TCP", "targetPort": number }));
    }
}

/// What was given as text is kept as base64 only.
fn fill_secret(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    set(fields, json!({ "type": "Opaque" }));
    if let Some(Value::Object(texts)) = fields.shift_remove("stringData") {
        let data = fields.entry("data").or_insert_with(|| json!({}));
        for (name, text) in &texts {
            data[name] = super::base64(text.as_str().unwrap_or_default().as_bytes()).into();
        }
    }
}

fn fill_policy(object: &mut Value) {
    let Some(spec) = fields_of(object, &["spec"]) else { return };
    let types = if spec.contains_key("egress") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    set(spec, json!({ "podSelector": {}, "policyTypes": types }));
    for rules in ["ingress", "egress"] {
        let rules = spec.get_mut(rules).and_then(Value::as_array_mut).into_iter().flatten();
        let ports = rules.filter_map(|rule| rule.get_mut("ports")?.as_array_mut()).flatten();
        for port in ports.filter_map(Value::as_object_mut) {
            set(port, json!({ "protocol": "TCP" }));
        }
    }
}
