//! `isolate`: the pods of a backend run on, and nobody reaches them. For backends whose count belongs to somebody who
//! would set it back.

use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The rules that let nobody reach these pods (but the node that each runs on, which no policy keeps away).
#[must_use]
pub fn nobody_in(selector: &LabelSelector) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(selector.clone()),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: None,
        egress: None,
    }
}
