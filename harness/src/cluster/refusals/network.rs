//! What the policies that are there already make of one of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicySpec};

use super::{Refusal, selects};
use crate::cluster::RUN_LABEL;
use crate::environment::ObjectName;

/// Whether a policy of ours on the gateway's pods would do what it should: allow everything but the targets.
///
/// Policies only ever add to what is allowed. Where another one already allows the targets ours changes nothing, and
/// where the pods are isolated already ours would widen what they may do.
#[must_use]
pub fn egress(
    gateway: &ObjectName,
    labels: &BTreeMap<String, String>,
    policies: &[NetworkPolicy],
    targets: &BTreeSet<IpAddr>,
) -> Vec<Refusal> {
    let mut refused = Vec::new();
    for (name, spec) in others(policies, labels, "Egress") {
        let allows = spec.egress.iter().flatten().any(|rule| {
            let to = rule.to.as_deref().unwrap_or_default();
            to.is_empty() || to.iter().any(|peer| reaches(peer, targets))
        });
        refused.push(if allows {
            Refusal::new(
                format!(
                    "NetworkPolicy {}/{name} allows the pods of {gateway} to reach the endpoint: policies only add \
                     up, so one of ours would change nothing",
                    gateway.namespace
                ),
                "take the cloud down by `netns-drop` here",
            )
        } else {
            Refusal::new(
                format!(
                    "NetworkPolicy {}/{name} isolates the pods of {gateway} already: one of ours would allow them \
                     more than before",
                    gateway.namespace
                ),
                "take the cloud down by `netns-drop` here",
            )
        });
    }
    refused
}

/// Whether a policy of ours would keep everybody from the pods of a backend.
#[must_use]
pub fn ingress(
    backend: &ObjectName,
    labels: &BTreeMap<String, String>,
    policies: &[NetworkPolicy],
) -> Vec<Refusal> {
    let allowing = others(policies, labels, "Ingress")
        .filter(|(_, spec)| spec.ingress.as_ref().is_some_and(|rules| !rules.is_empty()));
    let refused = allowing.map(|(name, _)| {
        Refusal::new(
            format!(
                "NetworkPolicy {}/{name} allows others to reach the pods of {backend}: policies only add up, so one \
                 of ours would change nothing",
                backend.namespace
            ),
            "take it down by `scale-to-zero` here",
        )
    });
    refused.collect()
}

/// The policies that are not of a run, mean pods with these labels, and are about this direction.
fn others<'p>(
    policies: &'p [NetworkPolicy],
    labels: &'p BTreeMap<String, String>,
    direction: &'p str,
) -> impl Iterator<Item = (&'p str, &'p NetworkPolicySpec)> {
    let ours = |policy: &&NetworkPolicy| {
        policy.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(RUN_LABEL))
    };
    policies.iter().filter(move |policy| !ours(policy)).filter_map(move |policy| {
        let spec = policy.spec.as_ref()?;
        let means = spec.pod_selector.as_ref().is_none_or(|selector| selects(selector, labels));
        let name = policy.metadata.name.as_deref().unwrap_or_default();
        (means && is_about(spec, direction)).then_some((name, spec))
    })
}

/// A policy that does not say is about what comes in, and about what goes out where it has rules for that.
fn is_about(spec: &NetworkPolicySpec, direction: &str) -> bool {
    match spec.policy_types.as_deref() {
        None | Some([]) => direction == "Ingress" || spec.egress.is_some(),
        Some(types) => types.iter().any(|one| one == direction),
    }
}

/// Whether a peer covers one of the targets; without targets, whether it covers more than private addresses.
fn reaches(peer: &NetworkPolicyPeer, targets: &BTreeSet<IpAddr>) -> bool {
    let Some(block) = &peer.ip_block else { return false };
    if targets.is_empty() {
        return !is_private(&block.cidr);
    }
    targets.iter().any(|target| covers(block, *target))
}

fn covers(block: &IPBlock, address: IpAddr) -> bool {
    let within = |cidr: &str| Range::parse(cidr).is_none_or(|range| range.has(address));
    let excepted =
        block.except.iter().flatten().any(|cidr| Range::parse(cidr).is_some_and(|range| range.has(address)));
    within(&block.cidr) && !excepted
}

fn is_private(cidr: &str) -> bool {
    Range::parse(cidr).is_some_and(|range| match range.first {
        IpAddr::V4(first) => {
            range.bits >= 8 && (first.is_private() || first.is_loopback() || first.is_link_local())
        }
        IpAddr::V6(first) => {
            range.bits >= 7 && (first.segments()[0] & 0xfe00 == 0xfc00 || first.is_loopback())
        }
    })
}

/// Addresses that begin with the same bits.
struct Range {
    first: IpAddr,
    bits: u8,
}

impl Range {
    fn parse(cidr: &str) -> Option<Self> {
        let (first, bits) = cidr.split_once('/')?;
        let (first, bits) = (first.parse().ok()?, bits.parse().ok()?);
        let most = if matches!(first, IpAddr::V4(_)) { 32 } else { 128 };
        (bits <= most).then_some(Self { first, bits })
    }

    fn has(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let shift = u32::from(32 - self.bits);
                let head = |ip: std::net::Ipv4Addr| u32::from(ip).checked_shr(shift).unwrap_or(0);
                head(first) == head(address)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let shift = u32::from(128 - self.bits);
                let head = |ip: std::net::Ipv6Addr| u128::from(ip).checked_shr(shift).unwrap_or(0);
                head(first) == head(address)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeSet, Range, egress, ingress, is_private};
    use crate::cluster::refusals::parse_labels;
    use crate::environment::ObjectName;

    fn policies(specs: &[serde_json::Value]) -> Vec<super::NetworkPolicy> {
        let one = |spec: &serde_json::Value| {
            let object =
                serde_json::json!({ "metadata": { "name": "other", "namespace": "ml" }, "spec": spec });
            serde_json::from_value(object).unwrap()
        };
        specs.iter().map(one).collect()
    }

    fn words_of(spec: serde_json::Value) -> String {
        let targets = BTreeSet::from(["34.36.133.15".parse().unwrap()]);
        let gateway = ObjectName::new("ml", "litellm");
        let refused = egress(&gateway, &parse_labels("app=litellm"), &policies(&[spec]), &targets);
        refused.first().map(|refusal| refusal.reason.clone()).unwrap_or_default()
    }

    #[test]
    fn a_policy_that_allows_the_target_makes_ours_do_nothing() {
        for rules in [
            serde_json::json!([{}]),
            serde_json::json!([{ "ports": [{ "port": 443 }] }]),
            serde_json::json!([{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0" } }] }]),
            serde_json::json!([{ "to": [{ "namespaceSelector": {} }, { "ipBlock": { "cidr": "34.36.0.0/16" } }] }]),
        ] {
            let words = words_of(
                serde_json::json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": rules }),
            );
            assert!(words.contains("would change nothing"), "{rules}: {words}");
        }
    }

    #[test]
    fn a_policy_that_isolates_already_would_be_widened_by_ours() {
        for rules in [
            serde_json::json!([]),
            serde_json::json!([{ "to": [{ "namespaceSelector": {} }] }]),
            serde_json::json!([{ "to": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }] }]),
            serde_json::json!([{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["34.36.133.15/32"] } }] }]),
        ] {
            let words = words_of(
                serde_json::json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": rules }),
            );
            assert!(words.contains("more than before"), "{rules}: {words}");
        }
        // Rules for what goes out make a policy about that, also where it does not say so.
        let unsaid =
            serde_json::json!({ "podSelector": {}, "egress": [{ "to": [{ "namespaceSelector": {} }] }] });
        assert!(words_of(unsaid).contains("more than before"));
    }

    #[test]
    fn other_pods_and_directions_do_not_matter() {
        for spec in [
            serde_json::json!({ "podSelector": { "matchLabels": { "app": "vllm" } }, "policyTypes": ["Egress"] }),
            serde_json::json!({ "podSelector": {}, "policyTypes": ["Ingress"] }),
            serde_json::json!({ "podSelector": {} }),
        ] {
            assert_eq!(words_of(spec.clone()), "", "{spec}");
        }
    }

    #[test]
    fn isolation_fails_only_where_somebody_is_let_in() {
        let labels = parse_labels("app=vllm");
        let backend = ObjectName::new("ml", "vllm");
        let refused = |spec| ingress(&backend, &labels, &policies(&[spec])).len();
        assert_eq!(refused(serde_json::json!({ "podSelector": {}, "policyTypes": ["Ingress"] })), 0);
        assert_eq!(refused(serde_json::json!({ "podSelector": {}, "ingress": [{}] })), 1);
        assert_eq!(
            refused(serde_json::json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] })),
            0
        );
    }

    #[test]
    fn a_policy_of_a_run_is_no_one_elses() {
        let mut own =
            policies(&[serde_json::json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] })]);
        own[0].metadata.labels = Some(parse_labels("failover-harness/run=r1"));
        let refused =
            egress(&ObjectName::new("ml", "litellm"), &parse_labels("app=litellm"), &own, &BTreeSet::new());
        assert_eq!(refused, []);
    }

    #[test]
    fn ranges_of_addresses() {
        let has = |cidr: &str, ip: &str| Range::parse(cidr).unwrap().has(ip.parse().unwrap());
        assert!(
            has("0.0.0.0/0", "1.2.3.4")
                && has("10.1.0.0/16", "10.1.255.1")
                && !has("10.1.0.0/16", "10.2.0.1")
        );
        assert!(has("::/0", "2001:db8::1") && !has("0.0.0.0/0", "2001:db8::1") && has("fd00::/8", "fd12::1"));
        assert!(Range::parse("1.2.3.4/33").is_none() && Range::parse("1.2.3.4").is_none());
        assert!(is_private("10.0.0.0/8") && is_private("192.168.1.0/24") && is_private("fd00::/8"));
        assert!(!is_private("0.0.0.0/0") && !is_private("34.0.0.0/8") && !is_private("::/0"));
    }

    proptest::proptest! {
        #[test]
        fn an_address_is_in_the_ranges_that_it_begins(address: [u8; 16], other: [u8; 16], bits in 0_u8..=128) {
            let same = (0..bits).all(|bit| {
                let at = |bytes: [u8; 16]| bytes[usize::from(bit / 8)] >> (7 - bit % 8) & 1;
                at(address) == at(other)
            });
            let v6 = |bytes: [u8; 16]| std::net::IpAddr::from(bytes);
            let range = Range::parse(&format!("{}/{bits}", v6(address))).unwrap();
            proptest::prop_assert!(range.has(v6(address)));
            proptest::prop_assert_eq!(range.has(v6(other)), same);
            if bits <= 32 {
                let v4 = |bytes: [u8; 16]| std::net::IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]);
                let range = Range::parse(&format!("{}/{bits}", v4(address))).unwrap();
                proptest::prop_assert_eq!(range.has(v4(other)), same);
            }
        }
    }
}
