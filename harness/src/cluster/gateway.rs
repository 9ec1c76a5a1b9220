//! The gateway of a cluster: how it is reached, and what it says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Selector;
use serde_json::Value;

use super::access::{Access, CallError};
use super::forward::{Forward, ForwardError, Overhead, Way};
use super::prober::{ProberOptions, Target, answer_times, in_pod};
use super::refusals::parse_labels;
use super::watch::ready_pods;
use crate::environment::{Cluster, KeySource, ObjectName, Reach};
use crate::gateway::pages::{PageError, Pages};
use crate::gateway::secret::Secret;
use crate::journal::{Clock, Journal};

/// Empty requests that show what the port-forward costs.
const FORWARD_SAMPLES: usize = 10;
/// What they ask for: it calls no model and needs no key.
pub(super) const EMPTY_PATH: &str = "/health/liveliness";
/// Between two of them inside the pod.
const INSIDE_EVERY: Duration = Duration::from_millis(50);
/// The prober that sends those ends by then.
const INSIDE_WITHIN: Duration = Duration::from_secs(10);

/// A gateway in a cluster that can be asked.
pub struct Gateway {
    /// Without `/v1`.
    pub url: String,
    /// What callers present.
    pub key: Secret,
    /// Labels of its pods.
    pub selector: Selector,
    /// Those that are ready.
    pub pods: Vec<ObjectName>,
    /// The port in a pod.
    pub pod_port: u16,
    /// The container that has it, where a pod says so.
    pub container: Option<String>,
    /// As it told.
    pub version: String,
    /// Deployment ids by alias; the first of each.
    pub ids: BTreeMap<String, String>,
    /// Alias by upstream model and by deployment id.
    pub names: BTreeMap<String, String>,
    /// What a person should know of the way to it.
    pub notes: Vec<String>,
    forward: Option<Forward>,
    overhead: Option<Overhead>,
    /// Of the first pod, which is where the port-forward leads first.
    pod_ip: Option<String>,
}

/// Why a gateway cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum NoGateway {
    /// Nothing of it runs.
    #[error("no pod of the gateway is ready in {namespace} (labels `{labels}`)")]
    NoPod {
        /// Where they should be.
        namespace: String,
        /// By which they are known.
        labels: String,
    },
    /// The variable that holds its key is not set here, or empty.
    #[error("the gateway's key is taken from ${0}, which is not set or empty")]
    NoKey(String),
    /// The cluster does not say what must be known of it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Its Service leads nowhere.
    #[error("{0}")]
    Service(String),
    /// There is no way to it.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// It does not answer as a gateway does.
    #[error(transparent)]
    Page(#[from] PageError),
}

impl Gateway {
    /// Finds its pods, opens a way to it, and asks who it is.
    ///
    /// # Errors
    /// What is missing.
    pub async fn find(
        access: &Access,
        cluster: &Cluster,
        own_key: &Secret,
        clock: Clock,
    ) -> Result<Self, NoGateway> {
        let gateway = &cluster.gateway;
        let namespace = &gateway.deployment.namespace;
        let selector = Selector::from_iter(parse_labels(&gateway.pods));
        let pods = ready_pods(access, namespace, &selector).await?;
        let Some(first) = pods.first() else {
            return Err(NoGateway::NoPod { namespace: namespace.clone(), labels: gateway.pods.clone() });
        };
        let key = match &gateway.key {
            None => own_key.clone(),
            Some(KeySource::Env(variable)) => {
                Secret::of_variable(variable).ok_or_else(|| NoGateway::NoKey(variable.clone()))?
            }
            Some(KeySource::Secret { secret, field }) => access.secret(secret, field).await?,
        };
        let pod: Pod = access.get(first).await?;
        let containers = pod.spec.as_ref().map(|spec| spec.containers.clone()).unwrap_or_default();
        let pod_port = pod_port(access, &gateway.service, gateway.port, &containers).await?;
        let has_port = |container: &&Container| {
            container.ports.iter().flatten().any(|port| port.container_port == i32::from(pod_port))
        };
        let container = containers.iter().find(has_port).map(|container| container.name.clone());
        let (mut notes, mut overhead) = (Vec::new(), None);
        let pod_ip = pod.status.and_then(|status| status.pod_ip);
        let (url, forward) = match cluster.reach {
            Reach::InCluster => {
                let service = &gateway.service;
                (format!("http://{}.{}.svc:{}", service.name, service.namespace, gateway.port), None)
            }
            Reach::Context { .. } | Reach::Embedded { .. } => {
                let forward = Forward::start(access, namespace, &selector, pod_port, clock).await?;
                match forward.measure(EMPTY_PATH, FORWARD_SAMPLES).await {
                    Ok(measured) => overhead = Some(measured),
                    Err(error) => notes.push(format!("what the port-forward costs is not known: {error}")),
                }
                (format!("http://{}", forward.address()), Some(forward))
            }
        };
        notes.push(replicas(&pods, forward.is_some()));
        let pages = Pages { url: &url, key: &key };
        let readiness = pages.get("/health/readiness").await?;
        let version = readiness["litellm_version"].as_str().unwrap_or("unknown").to_owned();
        let (ids, names) = match pages.get("/v1/model/info").await {
            Ok(info) => (ids(&info), names(&info)),
            Err(error) => {
                notes.push(format!(
                    "the gateway does not list its models ({error}): a healed model is asked for by its alias"
                ));
                (BTreeMap::new(), BTreeMap::new())
            }
        };
        Ok(Self {
            url,
            key,
            selector,
            pods,
            pod_port,
            container,
            version,
            ids,
            names,
            notes,
            forward,
            overhead,
            pod_ip,
        })
    }

    /// A page of it, as JSON.
    ///
    /// # Errors
    /// Where it does not answer, or otherwise.
    pub async fn page(&self, path: &str) -> Result<Value, PageError> {
        Pages { url: &self.url, key: &self.key }.get(path).await
    }

    /// What the port-forward costs, less what the same takes inside the pod where that can be measured there; `None`
    /// where there is none.
    pub async fn overhead(&self, access: &Access) -> Option<String> {
        let overhead = self.overhead?;
        let (Some(pod), Some(ip)) = (self.pods.first(), &self.pod_ip) else {
            return Some(overhead.to_string());
        };
        let target = Target {
            component: "gateway".to_owned(),
            host: ip.clone(),
            port: self.pod_port,
            tls: false,
            path: EMPTY_PATH.to_owned(),
            name_may_go: false,
        };
        let mut options = ProberOptions::new(self.pod_port, INSIDE_WITHIN);
        options.ask_every = INSIDE_EVERY;
        let open = in_pod(access, pod, self.container.as_deref());
        let journal = Arc::new(Journal::of_nothing(Clock::starting_now()));
        let took = answer_times(open, target, options, journal, FORWARD_SAMPLES, INSIDE_WITHIN / 2).await;
        Some(overhead.with_inside(took.unwrap_or_default()).to_string())
    }

    /// Who tells what becomes of the port-forward to it, where there is one.
    #[must_use]
    pub fn way(&self) -> Option<Way> {
        self.forward.as_ref().map(Forward::way)
    }

    /// Closes the way to it; says what a person should know of how it went.
    pub async fn close(self) -> Option<String> {
        let forward = self.forward?;
        let forwarded = forward.forwarded();
        forward.stop().await;
        let first = forwarded.troubles.first()?;
        Some(format!(
            "the port-forward to the gateway broke or could not be opened {} times, first at {:.1} s: {}; probes that failed then say nothing of the gateway",
            forwarded.trouble_count,
            first.at_us as f64 / 1e6,
            first.why
        ))
    }
}

fn replicas(pods: &[ObjectName], forwarded: bool) -> String {
    let names: Vec<String> = pods.iter().map(ToString::to_string).collect();
    match (pods.len(), forwarded) {
        (1, _) => format!("the gateway has one pod, {}", names[0]),
        (count, true) => format!(
            "the gateway has {count} pods ({}), each with a memory of cooldowns of its own; a port-forward reaches one of them, so the others are not measured",
            names.join(", ")
        ),
        (count, false) => format!(
            "the gateway has {count} pods ({}), each with a memory of cooldowns of its own; the Service spreads connections over them, and a reply does not name its pod",
            names.join(", ")
        ),
    }
}

/// The port of a pod that a port of a Service leads to.
async fn pod_port(
    access: &Access,
    service: &ObjectName,
    port: u16,
    containers: &[Container],
) -> Result<u16, NoGateway> {
    let object: Service = access.get(service).await?;
    let ports = object.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let Some(found) = ports.iter().find(|one| one.port == i32::from(port)) else {
        return Err(NoGateway::Service(format!("Service {service} has no port {port}")));
    };
    let number = |number: i32| {
        u16::try_from(number).map_err(|_| NoGateway::Service(format!("Service {service} names no port")))
    };
    match &found.target_port {
        None => Ok(port),
        Some(IntOrString::Int(target)) => number(*target),
        Some(IntOrString::String(name)) => {
            let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
            let named = ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port);
            number(named.ok_or_else(|| {
                NoGateway::Service(format!("no container of the gateway has a port named {name}"))
            })?)
        }
    }
}

/// The first deployment id of each alias.
fn ids(info: &Value) -> BTreeMap<String, String> {
    let mut ids = BTreeMap::new();
    for model in info["data"].as_array().map(Vec::as_slice).unwrap_or_default() {
        if let (Some(alias), Some(id)) = (model["model_name"].as_str(), model["model_info"]["id"].as_str()) {
            ids.entry(alias.to_owned()).or_insert_with(|| id.to_owned());
        }
    }
    ids
}

/// The alias of each deployment id, and of each upstream model that stands for one alias only.
fn names(info: &Value) -> BTreeMap<String, String> {
    let mut names: BTreeMap<String, Option<String>> = BTreeMap::new();
    for model in info["data"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let Some(alias) = model["model_name"].as_str() else { continue };
        if let Some(id) = model["model_info"]["id"].as_str() {
            names.insert(id.to_owned(), Some(alias.to_owned()));
        }
        let Some(upstream) = model["litellm_params"]["model"].as_str() else { continue };
        let upstream = upstream.split_once('/').map_or(upstream, |(_, model)| model);
        names
            .entry(upstream.to_owned())
            .and_modify(|known| {
                // Two aliases of one model: its name tells neither.
                if known.as_deref() != Some(alias) {
                    *known = None;
                }
            })
            .or_insert_with(|| Some(alias.to_owned()));
    }
    names.into_iter().filter_map(|(name, alias)| Some((name, alias?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ids, names};

    #[test]
    fn the_first_deployment_stands_for_its_alias() {
        let model = |name: &str, id: &str| json!({ "model_name": name, "model_info": { "id": id } });
        let info =
            json!({ "data": [model("a", "1"), model("a", "2"), model("b", "3"), { "model_name": "c" }] });
        let found: Vec<_> = ids(&info).into_iter().collect();
        assert_eq!(found, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "3".to_owned())]);
        assert!(ids(&json!({ "data": "x" })).is_empty());
    }

    #[test]
    fn a_model_of_two_aliases_names_neither() {
        let model = |name: &str, id: &str, model: &str| json!({ "model_name": name, "model_info": { "id": id }, "litellm_params": { "model": model } });
        let info = json!({ "data": [
            model("a", "1", "ollama_chat/x"), model("b", "2", "ollama_chat/x"), model("c", "3", "hosted_vllm/org/y"),
        ] });
        let found: Vec<_> = names(&info).into_iter().collect();
        let wanted = [("1", "a"), ("2", "b"), ("3", "c"), ("org/y", "c")];
        assert_eq!(found, wanted.map(|(name, alias)| (name.to_owned(), alias.to_owned())));
    }
}
