//! What the API server refuses to keep. Only rules that a client of this project can run into.

use serde_json::Value;

use crate::kubernetes::refusal::{Cause, Refusal};
use crate::kubernetes::resources::{
    CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, JOBS, NETWORK_POLICIES,
    PERSISTENT_VOLUME_CLAIMS, PODS, REPLICA_SETS, ROLE_BINDINGS, ROLES, Resource, SERVICES, STATEFUL_SETS,
};

/// Name, value and field of what is wrong.
struct Found(Vec<Cause>);

impl Found {
    fn invalid(&mut self, field: &str, value: &Value, why: &str) {
        let message = format!("Invalid value: {value}: {why}");
        self.0.push(Cause { reason: "FieldValueInvalid", message, field: field.to_owned() });
    }

    fn required(&mut self, field: &str) {
        let message = "Required value".to_owned();
        self.0.push(Cause { reason: "FieldValueRequired", message, field: field.to_owned() });
    }

    fn forbidden(&mut self, field: &str, why: &str) {
        let message = format!("Forbidden: {why}");
        self.0.push(Cause { reason: "FieldValueForbidden", message, field: field.to_owned() });
    }
}

/// Checks an object that is to be kept, against its state before where there is one.
pub(super) fn check(
    resource: &'static Resource,
    name: &str,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Refusal> {
    let mut found = Found(Vec::new());
    if old.is_none() {
        check_name(resource, name, &mut found);
    }
    check_labels(object, &mut found);
    let kind = |one: &'static Resource| resource == one;
    if kind(&PODS) {
        check_containers(&object["spec"], "spec", &mut found);
    } else if kind(&DEPLOYMENTS) || kind(&REPLICA_SETS) || kind(&STATEFUL_SETS) {
        check_workload(object, &mut found);
    } else if kind(&JOBS) {
        check_job(object, &mut found);
    } else if kind(&CRON_JOBS) {
        check_cron_job(object, &mut found);
    } else if kind(&NETWORK_POLICIES) {
        check_policy(&object["spec"], &mut found);
    } else if kind(&SERVICES) {
        check_service(object, &mut found);
    } else if kind(&ROLES) || kind(&CLUSTER_ROLES) {
        check_rules(object, &mut found);
    } else if kind(&ROLE_BINDINGS) || kind(&CLUSTER_ROLE_BINDINGS) {
        check_binding(object, &mut found);
    } else if kind(&PERSISTENT_VOLUME_CLAIMS) {
        check_claim(&object["spec"], &mut found);
    }
    if let Some(old) = old {
        check_unchanged(resource, old, object, &mut found);
    }
    if found.0.is_empty() {
        return Ok(());
    }
    Err(Refusal::Invalid { resource, name: name.to_owned(), causes: found.0 })
}

fn check_name(resource: &'static Resource, name: &str, found: &mut Found) {
    // Names of roles and their bindings are free, but for what would break a path.
    if [&ROLES, &ROLE_BINDINGS, &CLUSTER_ROLES, &CLUSTER_ROLE_BINDINGS].contains(&resource) {
        if name.contains(['/', '%']) || [".", ".."].contains(&name) {
            found.invalid("metadata.name", &name.into(), "may not contain '/' or '%'");
        }
        return;
    }
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_name = name.len() <= 253
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.first().copied().is_some_and(is_inner)
                && bytes.last().copied().is_some_and(is_inner)
                && bytes.iter().all(|byte| is_inner(*byte) || *byte == b'-')
        });
    if !is_name {
        let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                   and must start and end with an alphanumeric character";
        found.invalid("metadata.name", &name.into(), why);
    }
}

fn check_labels(object: &Value, found: &mut Found) {
    for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        let is_end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        if text.len() > 63 || !is_end(bytes.first()) || !is_end(bytes.last()) || !bytes.iter().all(is_inner) {
            found.invalid("metadata.labels", value, &format!("the value of {key:?} is no label value"));
        }
    }
}

fn check_containers(spec: &Value, path: &str, found: &mut Found) {
    let containers = spec["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        found.required(&format!("{path}.containers"));
    }
    for (index, container) in containers.iter().enumerate() {
        for field in ["name", "image"] {
            if container[field].as_str().unwrap_or_default().is_empty() {
                found.required(&format!("{path}.containers[{index}].{field}"));
            }
        }
    }
}

fn check_workload(object: &Value, found: &mut Found) {
    let spec = &object["spec"];
    if let Some(count) = spec["replicas"].as_i64()
        && count < 0
    {
        found.invalid("spec.replicas", &spec["replicas"], "must be greater than or equal to 0");
    }
    match spec["selector"]["matchLabels"].as_object() {
        _ if !spec["selector"].is_object() => found.required("spec.selector"),
        Some(wanted) => {
            let labels = &spec["template"]["metadata"]["labels"];
            if !wanted.iter().all(|(key, value)| labels.get(key) == Some(value)) {
                found.invalid(
                    "spec.template.metadata.labels",
                    labels,
                    "`selector` does not match template `labels`",
                );
            }
        }
        None => {}
    }
    check_containers(&spec["template"]["spec"], "spec.template.spec", found);
}

fn check_job(object: &Value, found: &mut Found) {
    let spec = &object["spec"];
    check_containers(&spec["template"]["spec"], "spec.template.spec", found);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    if !["Never", "OnFailure"].contains(&policy.as_str().unwrap_or_default()) {
        let message = format!("Unsupported value: {policy}: supported values: \"OnFailure\", \"Never\"");
        let field = "spec.template.spec.restartPolicy".to_owned();
        found.0.push(Cause { reason: "FieldValueNotSupported", message, field });
    }
    for field in
        ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"]
    {
        if spec[field].as_i64().is_some_and(|count| count < 0) {
            found.invalid(&format!("spec.{field}"), &spec[field], "must be greater than or equal to 0");
        }
    }
    if spec["podFailurePolicy"].is_object() && spec["podReplacementPolicy"] != "Failed" {
        let message =
            format!("Unsupported value: {}: supported values: \"Failed\"", spec["podReplacementPolicy"]);
        let field = "spec.podReplacementPolicy".to_owned();
        found.0.push(Cause { reason: "FieldValueNotSupported", message, field });
    }
}

fn check_cron_job(object: &Value, found: &mut Found) {
    let schedule = &object["spec"]["schedule"];
    let text = schedule.as_str().unwrap_or_default();
    if text.is_empty() {
        found.required("spec.schedule");
    } else if text.contains("TZ=") {
        found.invalid(
            "spec.schedule",
            schedule,
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        );
    } else if !text.starts_with('@') && text.split_whitespace().count() != 5 {
        found.invalid("spec.schedule", schedule, "expected exactly 5 fields");
    }
    check_containers(
        &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        "spec.jobTemplate.spec.template.spec",
        found,
    );
}

/// A network in CIDR form: address bits, how many of them count, and whether it is IPv4.
fn network(text: &str) -> Option<(u128, u32, bool)> {
    let (address, length) = text.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    match address.parse().ok()? {
        std::net::IpAddr::V4(address) => {
            (length <= 32).then(|| (u128::from(address.to_bits()) << 96, length, true))
        }
        std::net::IpAddr::V6(address) => (length <= 128).then(|| (address.to_bits(), length, false)),
    }
}

fn check_policy(spec: &Value, found: &mut Found) {
    for (rules, peers) in [("egress", "to"), ("ingress", "from")] {
        for (at, rule) in spec[rules].as_array().into_iter().flatten().enumerate() {
            for (peer_at, peer) in rule[peers].as_array().into_iter().flatten().enumerate() {
                if let Some(block) = peer.get("ipBlock") {
                    check_block(block, &format!("spec.{rules}[{at}].{peers}[{peer_at}].ipBlock"), found);
                }
            }
        }
    }
}

fn check_block(block: &Value, path: &str, found: &mut Found) {
    let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let outer = block["cidr"].as_str().and_then(network);
    if outer.is_none() {
        found.invalid(&format!("{path}.cidr"), &block["cidr"], why);
    }
    for (at, except) in block["except"].as_array().into_iter().flatten().enumerate() {
        let field = format!("{path}.except[{at}]");
        match (except.as_str().and_then(network), outer) {
            (None, _) => found.invalid(&field, except, why),
            (Some((inner, inner_length, inner_v4)), Some((outer, length, v4))) => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                if inner_v4 != v4 || inner_length <= length || inner & mask != outer & mask {
                    found.invalid(&field, except, "must be a strict subset of `cidr`");
                }
            }
            (Some(_), None) => {}
        }
    }
}

fn check_service(object: &Value, found: &mut Found) {
    let spec = &object["spec"];
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    if ports.is_empty() && spec["clusterIP"] != "None" && spec["type"] != "ExternalName" {
        found.required("spec.ports");
    }
    for (at, port) in ports.iter().enumerate() {
        if !port["port"].as_i64().is_some_and(|number| (1..=65_535).contains(&number)) {
            found.invalid(
                &format!("spec.ports[{at}].port"),
                &port["port"],
                "must be between 1 and 65535, inclusive",
            );
        }
    }
}

fn check_rules(object: &Value, found: &mut Found) {
    for (at, rule) in object["rules"].as_array().into_iter().flatten().enumerate() {
        let is_empty = |field: &str| rule[field].as_array().is_none_or(Vec::is_empty);
        if is_empty("verbs") {
            found.required(&format!("rules[{at}].verbs"));
        }
        if is_empty("nonResourceURLs") {
            for field in ["apiGroups", "resources"].into_iter().filter(|field| is_empty(field)) {
                found.required(&format!("rules[{at}].{field}"));
            }
        }
    }
}

fn check_binding(object: &Value, found: &mut Found) {
    let role = &object["roleRef"];
    if role["name"].as_str().unwrap_or_default().is_empty() {
        found.required("roleRef.name");
    }
    if !["Role", "ClusterRole"].contains(&role["kind"].as_str().unwrap_or_default()) {
        found.invalid("roleRef.kind", &role["kind"], "supported values: \"ClusterRole\", \"Role\"");
    }
    for (at, subject) in object["subjects"].as_array().into_iter().flatten().enumerate() {
        let is_missing = |field: &str| subject[field].as_str().unwrap_or_default().is_empty();
        if is_missing("name") {
            found.required(&format!("subjects[{at}].name"));
        }
        if subject["kind"] == "ServiceAccount" && is_missing("namespace") {
            found.required(&format!("subjects[{at}].namespace"));
        }
    }
}

fn check_claim(spec: &Value, found: &mut Found) {
    if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
        found.required("spec.accessModes");
    }
    if !spec["resources"]["requests"]["storage"].is_string() {
        found.required("spec.resources[storage]");
    }
}

fn check_unchanged(resource: &'static Resource, old: &Value, new: &Value, found: &mut Found) {
    let fixed: &[&str] =
        if *resource == DEPLOYMENTS || *resource == REPLICA_SETS || *resource == STATEFUL_SETS {
            &["/spec/selector"]
        } else if *resource == JOBS {
            &["/spec/selector", "/spec/template", "/spec/completions"]
        } else if [&ROLE_BINDINGS, &CLUSTER_ROLE_BINDINGS].contains(&resource) {
            &["/roleRef"]
        } else {
            &[]
        };
    for pointer in fixed.iter().filter(|pointer| old.pointer(pointer) != new.pointer(pointer)) {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        found.invalid(&field, new.pointer(pointer).unwrap_or(&Value::Null), "field is immutable");
    }
    if *resource == PODS {
        check_pod_unchanged(old, new, found);
    }
    if *resource == CONFIG_MAPS && old["immutable"] == true && old["data"] != new["data"] {
        found.forbidden("data", "field is immutable when `immutable` is set");
    }
}

/// Of a pod that is there little may change: images, its deadline, more tolerations, more ephemeral containers.
fn check_pod_unchanged(old: &Value, new: &Value, found: &mut Found) {
    let rest = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            container["image"] = Value::Null;
        }
        for field in
            ["activeDeadlineSeconds", "tolerations", "ephemeralContainers", "nodeName", "schedulingGates"]
        {
            spec.as_object_mut().and_then(|fields| fields.shift_remove(field));
        }
        spec
    };
    if rest(old) != rest(new) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,\
                   `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                   existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                   previously negative)";
        found.forbidden("spec", why);
    }
}

/// Ephemeral containers come through their own subresource and stay as they are.
pub(super) fn check_ephemeral(
    name: &str,
    new: &Value,
    old: &Value,
    subresource: &str,
) -> Result<(), Refusal> {
    let all = |pod: &Value| pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
    let (old, new) = (all(old), all(new));
    let path = "spec.ephemeralContainers";
    let mut found = Found(Vec::new());
    if subresource != "ephemeralcontainers" {
        if old != new {
            found.forbidden(path, "ephemeral containers can only be changed through their subresource");
        }
    } else if !old.iter().all(|container| new.contains(container)) {
        found.forbidden(path, "existing ephemeral containers may not be removed or changed");
    }
    if found.0.is_empty() {
        return Ok(());
    }
    Err(Refusal::Invalid { resource: &PODS, name: name.to_owned(), causes: found.0 })
}
