//! What NetworkPolicies say about a connection. Pure: objects in, yes or no out.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::Value;

use super::selector;

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer<'a> {
    /// Its address.
    pub(crate) ip: Ipv4Addr,
    /// The pod that it is, if it is one.
    pub(crate) pod: Option<&'a Value>,
}

/// The objects that decide.
#[derive(Debug, Clone)]
pub(crate) struct Policies {
    pub(crate) policies: Vec<Arc<Value>>,
    pub(crate) namespaces: Vec<Arc<Value>>,
    /// Whether an `ipBlock` can stand for a pod. With Cilium it cannot.
    pub(crate) blocks_match_pods: bool,
}

/// The two sides on which a connection is judged.
#[derive(Clone, Copy)]
struct Side {
    word: &'static str,
    rules: &'static str,
    peers: &'static str,
}

const EGRESS: Side = Side { word: "Egress", rules: "egress", peers: "to" };
const INGRESS: Side = Side { word: "Ingress", rules: "ingress", peers: "from" };

impl Policies {
    /// Whether a TCP connection may be made.
    pub(crate) fn allow(&self, from: Peer<'_>, to: Peer<'_>, port: u16) -> bool {
        self.side_allows(EGRESS, from, to, to, port) && self.side_allows(INGRESS, to, from, to, port)
    }

    /// Policies add up, and a pod that none selects is free.
    fn side_allows(&self, side: Side, own: Peer<'_>, other: Peer<'_>, server: Peer<'_>, port: u16) -> bool {
        let Some(pod) = own.pod else { return true };
        let mut is_isolated = false;
        for policy in &self.policies {
            let selects = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
                && selector::matches(&policy["spec"]["podSelector"], pod)
                && concerns(policy, side);
            if !selects {
                continue;
            }
            is_isolated = true;
            let mut rules = policy["spec"][side.rules].as_array().into_iter().flatten();
            let namespace = policy["metadata"]["namespace"].as_str().unwrap_or_default();
            if rules.any(|rule| self.rule_allows(rule, side, namespace, other, server, port)) {
                return true;
            }
        }
        !is_isolated
    }

    fn rule_allows(
        &self,
        rule: &Value,
        side: Side,
        namespace: &str,
        other: Peer<'_>,
        server: Peer<'_>,
        port: u16,
    ) -> bool {
        let ports = rule["ports"].as_array().map_or(&[][..], Vec::as_slice);
        let peers = rule[side.peers].as_array().map_or(&[][..], Vec::as_slice);
        (ports.is_empty() || ports.iter().any(|entry| port_matches(entry, server, port)))
            && (peers.is_empty() || peers.iter().any(|peer| self.peer_matches(peer, namespace, other)))
    }

    fn peer_matches(&self, peer: &Value, namespace: &str, other: Peer<'_>) -> bool {
        if peer["ipBlock"].is_object() {
            return (self.blocks_match_pods || other.pod.is_none())
                && block_matches(&peer["ipBlock"], other.ip);
        }
        let Some(pod) = other.pod else { return false };
        let pod_namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let in_namespace = match &peer["namespaceSelector"] {
            Value::Null => pod_namespace == namespace,
            wanted => self
                .namespaces
                .iter()
                .find(|object| object["metadata"]["name"].as_str() == Some(pod_namespace))
                .is_some_and(|object| selector::matches(wanted, object)),
        };
        in_namespace && (peer["podSelector"].is_null() || selector::matches(&peer["podSelector"], pod))
    }
}

/// Without `policyTypes` a policy is about ingress, and about egress where it has such rules.
fn concerns(policy: &Value, side: Side) -> bool {
    match policy["spec"]["policyTypes"].as_array() {
        Some(types) => types.iter().any(|word| word.as_str() == Some(side.word)),
        None => side.word == INGRESS.word || policy["spec"][side.rules].is_array(),
    }
}

fn port_matches(entry: &Value, server: Peer<'_>, port: u16) -> bool {
    if entry["protocol"].as_str().is_some_and(|protocol| protocol != "TCP") {
        return false;
    }
    let port = u64::from(port);
    match &entry["port"] {
        Value::Null => true,
        Value::String(name) => server.pod.is_some_and(|pod| {
            let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
            let mut ports =
                containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
            ports.any(|entry| {
                entry["name"].as_str() == Some(name) && entry["containerPort"].as_u64() == Some(port)
            })
        }),
        first => {
            let first = first.as_u64().unwrap_or(u64::MAX);
            (first..=entry["endPort"].as_u64().unwrap_or(first)).contains(&port)
        }
    }
}

fn block_matches(block: &Value, ip: Ipv4Addr) -> bool {
    let is_in = |cidr: &Value| cidr.as_str().is_some_and(|cidr| contains(cidr, ip));
    let mut except = block["except"].as_array().into_iter().flatten();
    is_in(&block["cidr"]) && !except.any(is_in)
}

/// Whether an IPv4 range in CIDR notation holds the address; anything else holds none.
fn contains(cidr: &str, ip: Ipv4Addr) -> bool {
    let Some((network, length)) = cidr.split_once('/') else { return false };
    let (Ok(network), Ok(length)) = (network.parse::<Ipv4Addr>(), length.parse::<u32>()) else {
        return false;
    };
    let Some(host_bits) = 32_u32.checked_sub(length) else { return false };
    let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
    network.to_bits() & mask == ip.to_bits() & mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CLOUD: Ipv4Addr = Ipv4Addr::new(127, 9, 192, 1);
    const VLLM: Ipv4Addr = Ipv4Addr::new(127, 9, 64, 2);

    fn pod(app: &str, namespace: &str) -> Value {
        json!({
            "metadata": { "name": app, "namespace": namespace, "labels": { "app": app } },
            "spec": { "containers": [{ "ports": [{ "name": "http", "containerPort": 8000 }] }] },
        })
    }

    fn policies(specs: Vec<Value>, blocks_match_pods: bool) -> Policies {
        let policy = |spec| Arc::new(json!({ "metadata": { "namespace": "ml" }, "spec": spec }));
        let namespace =
            |name: &str| Arc::new(json!({ "metadata": { "name": name, "labels": { "name": name } } }));
        Policies {
            policies: specs.into_iter().map(policy).collect(),
            namespaces: vec![namespace("ml"), namespace("apps")],
            blocks_match_pods,
        }
    }

    /// What the gateway may reach: the cloud, and vLLM.
    fn reach(policies: &Policies) -> (bool, bool) {
        let (gateway, vllm) = (pod("litellm", "ml"), pod("vllm", "ml"));
        let from = Peer { ip: Ipv4Addr::new(127, 9, 64, 1), pod: Some(&gateway) };
        let cloud = policies.allow(from, Peer { ip: CLOUD, pod: None }, 443);
        (cloud, policies.allow(from, Peer { ip: VLLM, pod: Some(&vllm) }, 8000))
    }

    fn blackhole(app: &str) -> Value {
        json!({
            "podSelector": { "matchLabels": { "app": app } },
            "policyTypes": ["Egress"],
            "egress": [
                { "to": [{ "namespaceSelector": {} }] },
                { "to": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": [format!("{CLOUD}/32")] } }] },
            ],
        })
    }

    #[test]
    fn the_blackhole_policy_takes_the_cloud_and_nothing_else() {
        assert_eq!(reach(&policies(vec![], true)), (true, true));
        assert_eq!(reach(&policies(vec![blackhole("litellm")], true)), (false, true));
        assert_eq!(reach(&policies(vec![blackhole("openclaw")], true)), (true, true), "it selects others");
    }

    #[test]
    fn another_policy_that_allows_the_internet_makes_it_a_no_op() {
        let open = json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] });
        assert_eq!(reach(&policies(vec![blackhole("litellm"), open], true)), (true, true));
    }

    #[test]
    fn blocks_do_not_stand_for_pods_everywhere() {
        let mut only_blocks = blackhole("litellm");
        only_blocks["egress"].as_array_mut().unwrap().remove(0);
        assert_eq!(reach(&policies(vec![only_blocks.clone()], true)), (false, true));
        assert_eq!(reach(&policies(vec![only_blocks], false)), (false, false));
    }

    #[test]
    fn an_ingress_policy_isolates_the_pods_that_it_selects() {
        let isolate =
            json!({ "podSelector": { "matchLabels": { "app": "vllm" } }, "policyTypes": ["Ingress"] });
        assert_eq!(reach(&policies(vec![isolate.clone()], true)), (true, false));
        let mut from_gateway = isolate;
        from_gateway["ingress"] = json!([{
            "from": [{ "podSelector": { "matchLabels": { "app": "litellm" } } }],
            "ports": [{ "port": "http" }],
        }]);
        assert_eq!(reach(&policies(vec![from_gateway.clone()], true)), (true, true));
        from_gateway["ingress"][0]["ports"] = json!([{ "port": 1, "endPort": 7999 }]);
        assert_eq!(reach(&policies(vec![from_gateway.clone()], true)), (true, false), "another port");
        from_gateway["ingress"][0]["ports"] = json!([{ "protocol": "UDP" }]);
        assert_eq!(reach(&policies(vec![from_gateway], true)), (true, false), "another protocol");
    }

    #[test]
    fn a_policy_without_types_is_about_ingress_and_egress_only_with_rules() {
        let bare = json!({ "podSelector": { "matchLabels": { "app": "litellm" } } });
        assert_eq!(reach(&policies(vec![bare.clone()], true)), (true, true));
        let mut with_rules = bare;
        with_rules["egress"] = json!([]);
        assert_eq!(reach(&policies(vec![with_rules], true)), (false, false));
    }

    #[test]
    fn ranges_are_read_or_hold_nothing() {
        assert!(contains("0.0.0.0/0", CLOUD) && contains("127.9.192.0/18", CLOUD));
        assert!(contains("127.9.192.1/32", CLOUD) && !contains("127.9.192.2/32", CLOUD));
        for wrong in ["", "::/0", "127.9.192.1", "127.9.192.1/33", "127.9.192.1/x"] {
            assert!(!contains(wrong, CLOUD), "{wrong}");
        }
    }
}
