//! Fields that a kind does not have, and texts that are not what their fields want. The real server knows every field;
//! here the outer ones of each kind, and those of pods and their containers, are known.

use serde_json::Value;

use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::resources::{
    CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, ENDPOINT_SLICES, EVENTS, JOBS,
    LEASES, NAMESPACES, NETWORK_POLICIES, NODES, PERSISTENT_VOLUME_CLAIMS, PODS, ROLE_BINDINGS, ROLES,
    Resource, SECRETS, SERVICE_ACCOUNTS, SERVICES,
};

const METADATA: &str = "annotations creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers \
                        generateName generation labels managedFields name namespace ownerReferences resourceVersion \
                        selfLink uid";
const POD: &str = "activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig dnsPolicy \
                   enableServiceLinks ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers hostname \
                   hostnameOverride imagePullSecrets initContainers nodeName nodeSelector os overhead \
                   preemptionPolicy priority priorityClassName readinessGates resourceClaims resources restartPolicy \
                   runtimeClassName schedulerName schedulingGates securityContext serviceAccount serviceAccountName \
                   setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations \
                   topologySpreadConstraints volumes workloadRef";
const CONTAINER: &str = "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports \
                         readinessProbe resizePolicy resources restartPolicy restartPolicyRules securityContext \
                         startupProbe stdin stdinOnce targetContainerName terminationMessagePath \
                         terminationMessagePolicy tty volumeDevices volumeMounts workingDir";
const DEPLOYMENT: &str = "minReadySeconds paused progressDeadlineSeconds replicas revisionHistoryLimit selector \
                          strategy template";
const JOB: &str = "activeDeadlineSeconds backoffLimit backoffLimitPerIndex completionMode completions managedBy \
                   manualSelector maxFailedIndexes parallelism podFailurePolicy podReplacementPolicy selector \
                   successPolicy suspend template ttlSecondsAfterFinished";
const CRON_JOB: &str = "concurrencyPolicy failedJobsHistoryLimit jobTemplate schedule startingDeadlineSeconds \
                        successfulJobsHistoryLimit suspend timeZone";
const POLICY: &str = "egress ingress podSelector policyTypes";
const SERVICE: &str = "allocateLoadBalancerNodePorts clusterIP clusterIPs externalIPs externalName \
                       externalTrafficPolicy healthCheckNodePort internalTrafficPolicy ipFamilies ipFamilyPolicy \
                       loadBalancerClass loadBalancerIP loadBalancerSourceRanges ports publishNotReadyAddresses \
                       selector sessionAffinity sessionAffinityConfig trafficDistribution type";
const LEASE: &str =
    "acquireTime holderIdentity leaseDurationSeconds leaseTransitions preferredHolder renewTime strategy";
const CLAIM: &str = "accessModes dataSource dataSourceRef resources selector storageClassName volumeAttributesClassName \
                     volumeMode volumeName";
const RULE: &str = "apiGroups nonResourceURLs resourceNames resources verbs";

fn names<'a>(object: &'a Value, known: &str, path: &str, found: &mut Vec<String>) -> Option<&'a Value> {
    for field in object.as_object()?.keys() {
        if !known.split_whitespace().any(|name| name == field) {
            found.push(if path.is_empty() { field.clone() } else { format!("{path}.{field}") });
        }
    }
    Some(object)
}

/// The paths of the fields that are unknown.
pub(super) fn unknown(resource: &'static Resource, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let kind = |one: &'static Resource| resource == one;
    names(&object["metadata"], METADATA, "metadata", &mut found);
    let outer = if kind(&CONFIG_MAPS) {
        "binaryData data immutable"
    } else if kind(&SECRETS) {
        "data immutable stringData type"
    } else if kind(&ENDPOINT_SLICES) {
        "addressType endpoints ports"
    } else if kind(&SERVICE_ACCOUNTS) {
        "automountServiceAccountToken imagePullSecrets secrets"
    } else if kind(&ROLES) {
        "rules"
    } else if kind(&CLUSTER_ROLES) {
        "aggregationRule rules"
    } else if kind(&ROLE_BINDINGS) || kind(&CLUSTER_ROLE_BINDINGS) {
        "roleRef subjects"
    } else if [
        &DEPLOYMENTS,
        &PODS,
        &JOBS,
        &CRON_JOBS,
        &SERVICES,
        &NAMESPACES,
        &NODES,
        &PERSISTENT_VOLUME_CLAIMS,
    ]
    .contains(&resource)
    {
        "spec status"
    } else if [&NETWORK_POLICIES, &LEASES].contains(&resource) {
        "spec"
    } else {
        return found;
    };
    names(object, &format!("apiVersion kind metadata {outer}"), "", &mut found);
    let spec = &object["spec"];
    if kind(&PODS) {
        pod(spec, "spec", &mut found);
    } else if kind(&DEPLOYMENTS) {
        names(spec, DEPLOYMENT, "spec", &mut found);
        template(&spec["template"], "spec.template", &mut found);
    } else if kind(&JOBS) {
        names(spec, JOB, "spec", &mut found);
        template(&spec["template"], "spec.template", &mut found);
    } else if kind(&CRON_JOBS) {
        names(spec, CRON_JOB, "spec", &mut found);
        names(&spec["jobTemplate"], "metadata spec", "spec.jobTemplate", &mut found);
        names(&spec["jobTemplate"]["spec"], JOB, "spec.jobTemplate.spec", &mut found);
        template(&spec["jobTemplate"]["spec"]["template"], "spec.jobTemplate.spec.template", &mut found);
    } else if kind(&NETWORK_POLICIES) {
        names(spec, POLICY, "spec", &mut found);
    } else if kind(&SERVICES) {
        names(spec, SERVICE, "spec", &mut found);
    } else if kind(&LEASES) {
        names(spec, LEASE, "spec", &mut found);
    } else if kind(&PERSISTENT_VOLUME_CLAIMS) {
        names(spec, CLAIM, "spec", &mut found);
    }
    for (at, rule) in object["rules"].as_array().into_iter().flatten().enumerate() {
        names(rule, RULE, &format!("rules[{at}]"), &mut found);
    }
    names(&object["roleRef"], "apiGroup kind name", "roleRef", &mut found);
    for (at, subject) in object["subjects"].as_array().into_iter().flatten().enumerate() {
        names(subject, "apiGroup kind name namespace", &format!("subjects[{at}]"), &mut found);
    }
    found
}

fn template(template: &Value, path: &str, found: &mut Vec<String>) {
    names(template, "metadata spec", path, found);
    pod(&template["spec"], &format!("{path}.spec"), found);
}

fn pod(spec: &Value, path: &str, found: &mut Vec<String>) {
    names(spec, POD, path, found);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (at, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            names(container, CONTAINER, &format!("{path}.{list}[{at}]"), found);
        }
    }
}

/// Refuses or drops what is unknown, as `fieldValidation` says; without it, dropped with a warning. Gives the warnings.
pub(super) fn check(
    resource: &'static Resource,
    object: &mut Value,
    validation: Option<&str>,
) -> Result<Vec<String>, Refusal> {
    check_times(resource, object)?;
    let found: Vec<String> = unknown(resource, object);
    let told: Vec<String> = found.iter().map(|field| format!("unknown field \"{field}\"")).collect();
    match validation {
        Some("Strict") if !found.is_empty() => {
            return Err(Refusal::BadRequest(format!(
                "{kind} in version \"{}\" cannot be handled as a {kind}: strict decoding error: {}",
                resource.version,
                told.join(", "),
                kind = resource.kind,
            )));
        }
        None | Some("Strict" | "Warn" | "Ignore") => {}
        Some(other) => {
            return Err(Refusal::Unprocessable(format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
            )));
        }
    }
    for field in &found {
        drop_field(object, field);
    }
    Ok(if validation == Some("Ignore") { Vec::new() } else { told })
}

/// Takes out the field at a path such as `spec.containers[0].bad`.
fn drop_field(object: &mut Value, path: &str) {
    let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
    let Some((parent, field)) = pointer.rsplit_once('/') else { return };
    if let Some(fields) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        fields.shift_remove(field);
    }
}

/// Times with parts of seconds have exactly six digits of them.
fn check_times(resource: &'static Resource, object: &Value) -> Result<(), Refusal> {
    let times: &[&str] = if *resource == LEASES {
        &["/spec/acquireTime", "/spec/renewTime"]
    } else if *resource == EVENTS {
        &["/eventTime", "/series/lastObservedTime"]
    } else {
        &[]
    };
    for pointer in times {
        let Some(text) = object.pointer(pointer).and_then(Value::as_str) else { continue };
        let digits = text
            .split_once('.')
            .map(|(_, rest)| rest.trim_start_matches(|letter: char| letter.is_ascii_digit()));
        let count = text.split_once('.').zip(digits).map(|((_, rest), zone)| rest.len() - zone.len());
        if count != Some(6) || text.parse::<jiff::Timestamp>().is_err() {
            return Err(Refusal::BadRequest(format!(
                "{kind} in version \"{}\" cannot be handled as a {kind}: parsing time \"{text}\" as \
                 \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"{text}\" as \".000000\"",
                resource.version,
                kind = resource.kind,
            )));
        }
    }
    Ok(())
}
