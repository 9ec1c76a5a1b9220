//! `egress-proxy`: the fault gate that the gateway's way to an endpoint leads through for good falls silent.
//!
//! The gate is a Deployment with a Service (`harness gate`), which somebody has put there; nothing of the cluster is
//! changed. Each of its pods is told by itself, through a port-forward to its control.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use mocks::gate::GateMode;

use super::gate::{ControlAt, Gate, Setting, seconds};
use super::{Prepared, Wanted, host_of, policy, sources, unknown_proxies};
use crate::cluster::access::{Access, CallError, found};
use crate::cluster::mutation::Mutation;
use crate::cluster::refusals::{self, Refusal, selects};
use crate::environment::{Cluster, Component, EgressProxy, ObjectName};

/// Where a gate of its own is told.
const PATH: &str = "/fault";

/// Reads what the gates before an endpoint depend on, and how they stand.
pub(super) async fn prepare(
    access: &Access,
    cluster: &Cluster,
    component: &Component,
    wanted: &Wanted<'_>,
) -> Result<Prepared, CallError> {
    let Some(proxy) = &component.proxy else { return Ok(Prepared::default()) };
    let host = component.endpoint.as_deref().and_then(host_of).unwrap_or_default();
    let gateway = &cluster.gateway.deployment;
    let mut prepared = Prepared::default();
    match found(access.get::<Deployment>(gateway).await)? {
        Some(object) => {
            let sources = sources(access, &object, &gateway.namespace).await?;
            prepared.refusals.extend(refusals::gateway_way(gateway, &object, &host, &sources));
            prepared.warnings.extend(unknown_proxies(gateway, &object, &host, &sources));
        }
        None => prepared.refusals.extend(refusals::target(gateway, None, &access.kubectl())),
    }
    let object = found(access.get::<Deployment>(&proxy.deployment).await)?;
    prepared.refusals.extend(refusals::target(&proxy.deployment, object.as_ref(), &access.kubectl()));
    let Some(spec) = object.and_then(|object| object.spec) else { return Ok(prepared) };
    let Some(service) = found(access.get::<Service>(&proxy.service).await)? else {
        prepared.refusals.push(Refusal::new(
            format!("there is no Service {}", proxy.service),
            "correct `proxy` in the environment file",
        ));
        return Ok(prepared);
    };
    let pods: Vec<Pod> = access.list(Some(&proxy.deployment.namespace), "").await?;
    let of_gate = |pod: &&Pod| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        selects(&spec.selector, &labels) && !refusals::is_over(pod) && !refusals::is_ending(pod)
    };
    let pods: Vec<&Pod> = pods.iter().filter(of_gate).collect();
    if pods.is_empty() {
        prepared.refusals.push(Refusal::new(
            format!("Deployment {} has no pod", proxy.deployment),
            "start the gate, or correct `proxy` in the environment file",
        ));
    }
    prepared.refusals.extend(past_it(proxy, &service, &pods, wanted));
    for pod in pods {
        let (gate, refusal) = one(access, proxy, pod, wanted).await?;
        prepared.refusals.extend(refusal);
        prepared.mutations.push(Mutation::Gate(Box::new(gate)));
    }
    Ok(prepared)
}

/// The gate in a pod, and what is in its way.
async fn one(
    access: &Access,
    proxy: &EgressProxy,
    pod: &Pod,
    wanted: &Wanted<'_>,
) -> Result<(Gate, Option<Refusal>), CallError> {
    let name = ObjectName::new(&proxy.deployment.namespace, pod.metadata.name.clone().unwrap_or_default());
    let gate = Gate {
        before: wanted.component.to_owned(),
        at: ControlAt::Pod {
            pod: name.clone(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            port: proxy.control,
        },
        path: PATH.to_owned(),
        run: wanted.run.to_owned(),
        seconds: seconds(wanted.deadline.0),
        to: Setting::Mode(GateMode::Blackhole),
    };
    if !refusals::is_ready(pod) {
        let reason = format!("pod {name} of the gate before {} is not ready", wanted.component);
        return Ok((gate, Some(Refusal::new(reason, "wait until all pods of the gate are ready"))));
    }
    let refusal = match gate.standing(Some(access)).await {
        Ok(standing) => gate.flaw(&standing).map(|flaw| {
            Refusal::new(
                format!("the {} cannot be used: {flaw}", gate.object()),
                "wait until that fault has ended, or see `--max-hold` of `harness gate`",
            )
        }),
        Err(error) if error.is_forbidden() => return Err(error),
        Err(error) => Some(Refusal::new(
            format!("the {} does not say how it stands: {error}", gate.object()),
            format!("it must be `harness gate` with its control at port {}", proxy.control),
        )),
    };
    Ok((gate, refusal))
}

/// A gateway that does not go through the gate, as far as the addresses that it resolves are known.
fn past_it(proxy: &EgressProxy, service: &Service, pods: &[&Pod], wanted: &Wanted<'_>) -> Option<Refusal> {
    let known = addresses(service, pods);
    let past: BTreeSet<IpAddr> = wanted.targets.difference(&known).copied().collect();
    (!past.is_empty()).then(|| {
        Refusal::new(
            format!(
                "the gateway's pods reach {} at {}, which is not Service {}",
                wanted.component,
                policy::listed(&past),
                proxy.service
            ),
            "let the name in `endpoint` resolve to the gate in the gateway's pods, by `hostAliases` for one",
        )
    })
}

/// Where a Service is reached, by itself or at its pods.
fn addresses(service: &Service, pods: &[&Pod]) -> BTreeSet<IpAddr> {
    let spec = service.spec.as_ref();
    let own = spec.into_iter().flat_map(|spec| {
        let lists = [&spec.cluster_ips, &spec.external_ips].into_iter().flatten().flatten();
        spec.cluster_ip.iter().chain(lists)
    });
    let balanced = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let balanced = balanced.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let of_pods = pods.iter().filter_map(|pod| pod.status.as_ref()).flat_map(|status| {
        let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
        status.pod_ip.iter().chain(all)
    });
    let all = own.chain(balanced.filter_map(|ingress| ingress.ip.as_ref())).chain(of_pods);
    // `None`, which a Service without an address of its own says, is none either.
    all.filter_map(|address| address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde_json::json;

    use super::{Pod, Service, addresses};

    #[test]
    fn a_service_is_reached_at_all_of_its_addresses() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {},
            "spec": { "clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9", "fd00::9"], "externalIPs": ["192.0.2.1"] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.2" }, { "hostname": "a.example" }] } },
        }))
        .unwrap();
        let pod: Pod =
            serde_json::from_value(json!({ "metadata": {}, "status": { "podIP": "10.42.0.7" } })).unwrap();
        let known = addresses(&service, &[&pod]);
        let expected = ["10.42.0.7", "10.43.0.9", "192.0.2.1", "192.0.2.2", "fd00::9"];
        let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(known.into_iter().collect::<Vec<_>>(), expected);
        let headless: Service =
            serde_json::from_value(json!({ "metadata": {}, "spec": { "clusterIP": "None" } })).unwrap();
        assert!(addresses(&headless, &[]).is_empty());
    }
}
