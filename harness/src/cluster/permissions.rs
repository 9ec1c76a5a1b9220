//! What a run asks of the API, whether this user may, and what to add to the Role where not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};

use super::access::{Access, CallError};
use super::mutation::{Kubectl, Mutation};
use crate::environment::{Cluster, Environment, FaultKind, KeySource, Mechanism, Opponent, Reach};

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// Where; `None` for what has no namespace.
    pub namespace: Option<String>,
    /// API group, empty for the first one.
    pub group: String,
    /// With the subresource: `deployments/scale`.
    pub resource: String,
    /// The one object, where only one is meant.
    pub name: Option<String>,
    /// The API's word.
    pub verb: String,
    /// What is lost without it; `None` where a run cannot do without.
    pub optional: Option<String>,
}

impl Need {
    /// What is said where it is not met.
    #[must_use]
    pub fn refusal(&self) -> String {
        let place = self.namespace.as_ref().map_or(String::new(), |namespace| format!(" in {namespace}"));
        format!("this user may not {} {}{place}", self.verb, self.resource)
    }
}

/// A need and what the API says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What is needed.
    pub need: Need,
    /// Whether this user may.
    pub allowed: bool,
}

/// Collects needs.
#[derive(Default)]
struct Needs(BTreeSet<Need>);

/// What is lost without a right.
const WEAK: &str = "evidence from inside the gateway's pods is missing: the evidence is weak";
const UNNAMED: &str = "what happens meanwhile is not told by its events";
const LEVEL: &str = "the namespace's level of Pod Security is not known before a container is asked for";
const NODES: &str = "the loss of a node is not seen";
const UNTOLD: &str = "a restore that is stuck is not told by an event of its object";
const MIGRATION: &str = "the state of openclaw's migration (FR222, FR223) is not known";
const REPLICAS: &str = "which replica of the gateway answered is not known";
const PRINTED: &str = "what upstreams count in their own logs is not known";

const READ: [&str; 3] = ["get", "list", "watch"];
/// Nobody asks for one of them by its name.
const FOLLOWED: [&str; 2] = ["list", "watch"];

impl Needs {
    fn add(&mut self, namespace: &str, group: &str, resource: &str, verbs: &[&str]) {
        self.insert(Some(namespace), group, resource, None, verbs, None);
    }

    fn insert(
        &mut self,
        namespace: Option<&str>,
        group: &str,
        resource: &str,
        name: Option<&str>,
        verbs: &[&str],
        optional: Option<&str>,
    ) {
        for verb in verbs {
            self.0.insert(Need {
                namespace: namespace.map(str::to_owned),
                group: group.to_owned(),
                resource: resource.to_owned(),
                name: name.map(str::to_owned),
                verb: (*verb).to_owned(),
                optional: optional.map(str::to_owned),
            });
        }
    }

    fn lock(&mut self, namespace: &str) {
        let group = "coordination.k8s.io";
        self.insert(Some(namespace), group, "leases", Some(super::lease::LEASE), &["get", "update"], None);
        self.add(namespace, group, "leases", &["create"]);
    }

    fn policies(&mut self, namespace: &str) {
        self.add(namespace, "networking.k8s.io", "networkpolicies", &["get", "list", "create", "delete"]);
        self.add(namespace, "batch", "jobs", &["get", "list", "create", "delete"]);
    }
}

/// What a run in this environment asks of the API. What is told of an opponent that is found comes on top
/// ([`of_mutations`]).
#[must_use]
pub fn needed(environment: &Environment) -> Vec<Need> {
    let mut needs = Needs::default();
    if let Some(cluster) = environment.cluster() {
        of_gateway(&mut needs, cluster);
        of_safety(&mut needs, environment, cluster);
        of_openclaw(&mut needs, cluster);
        for name in environment.components.keys() {
            of_component(&mut needs, environment, cluster, name);
        }
        needs.insert(None, "", "nodes", None, &FOLLOWED, Some(NODES));
    }
    let mut all: Vec<Need> = needs.0.into_iter().collect();
    // What a run cannot do without comes before the same that it could do without elsewhere, and is asked about once.
    all.dedup_by(|later, earlier| {
        earlier.optional.is_none() && Need { optional: None, ..later.clone() } == *earlier
    });
    all
}

fn of_gateway(needs: &mut Needs, cluster: &Cluster) {
    let gateway = &cluster.gateway;
    let namespace = &gateway.deployment.namespace;
    watched(needs, namespace);
    needs.add(&gateway.service.namespace, "", "services", &READ);
    needs.insert(Some(namespace), "", "pods/exec", None, &["get", "create"], Some(WEAK));
    needs.insert(Some(namespace), "", "pods/log", None, &["get"], Some(REPLICAS));
    if !matches!(cluster.reach, Reach::InCluster) {
        needs.add(namespace, "", "pods/portforward", &["get", "create"]);
    }
    if let Some(KeySource::Secret { secret, .. }) = &gateway.key {
        needs.insert(Some(&secret.namespace), "", "secrets", Some(&secret.name), &["get"], None);
    }
}

/// What the state of the migration is read from.
fn of_openclaw(needs: &mut Needs, cluster: &Cluster) {
    let Some(openclaw) = &cluster.openclaw else { return };
    let (namespace, deployment) = (&openclaw.deployment.namespace, &openclaw.deployment.name);
    let secret = &openclaw.secret;
    let mut need = |namespace: &str, group, resource, name, verbs: &[&str]| {
        needs.insert(Some(namespace), group, resource, name, verbs, Some(MIGRATION));
    };
    need(namespace, "apps", "deployments", Some(deployment.as_str()), &["get"]);
    need(namespace, "", "pods", None, &["list"]);
    need(namespace, "", "pods/exec", None, &["get", "create"]);
    need(&secret.namespace, "", "secrets", Some(secret.name.as_str()), &["get"]);
}

/// Lock, record, and dead-man switch.
fn of_safety(needs: &mut Needs, environment: &Environment, cluster: &Cluster) {
    let namespace = &cluster.gateway.deployment.namespace;
    needs.lock(namespace);
    needs.add(namespace, "", "configmaps", &["get", "list", "create", "update", "delete"]);
    if !matches!(cluster.reach, Reach::Embedded { .. }) {
        needs.add(namespace, "batch", "cronjobs", &["list"]);
    }
    of_alarms(needs, environment, cluster);
}

/// Where an object can be that is not undone.
fn of_alarms(needs: &mut Needs, environment: &Environment, cluster: &Cluster) {
    let components = environment.components.values();
    let places = components.filter_map(|component| Some(&component.deployment.as_ref()?.namespace));
    for place in places.chain([&cluster.gateway.deployment.namespace]) {
        needs.insert(Some(place), "", "events", None, &["create"], Some(UNTOLD));
    }
}

/// Where policies are made.
pub(crate) fn made_in<'e>(environment: &'e Environment, cluster: &'e Cluster) -> BTreeSet<&'e str> {
    let places = environment.components.values().filter_map(|component| match component.down {
        FaultKind::Isolate => component.deployment.as_ref().map(|deployment| deployment.namespace.as_str()),
        FaultKind::BlackholeBy(Mechanism::NetworkPolicy) => {
            Some(cluster.gateway.deployment.namespace.as_str())
        }
        _ => None,
    });
    places.collect()
}

/// What restoring by `harness restore --abandoned` asks of the API: nothing that makes a fault. Letting Argo CD and Flux
/// go on comes on top ([`of_mutations`]).
#[must_use]
pub fn needed_to_restore(environment: &Environment) -> Vec<Need> {
    let mut needs = Needs::default();
    if let Some(cluster) = environment.cluster() {
        let gateway = &cluster.gateway.deployment.namespace;
        needs.lock(gateway);
        needs.add(gateway, "", "configmaps", &["get", "list", "update"]);
        of_alarms(&mut needs, environment, cluster);
        for place in made_in(environment, cluster) {
            needs.add(place, "networking.k8s.io", "networkpolicies", &["get", "list", "delete"]);
            needs.add(place, "batch", "jobs", &["get", "list", "delete"]);
        }
        for (name, component) in &environment.components {
            match (component.down, &component.deployment) {
                (FaultKind::ScaleToZero, Some(deployment)) => {
                    let (place, object) = (&deployment.namespace, Some(deployment.name.as_str()));
                    needs.insert(Some(place), "apps", "deployments/scale", object, &["get", "patch"], None);
                    if environment.pause(name).contains(&Opponent::Keda) {
                        needs.add(place, "keda.sh", "scaledobjects", &["get", "patch"]);
                    }
                }
                (FaultKind::BlackholeBy(Mechanism::NetnsDrop), _) => {
                    needs.add(gateway, "", "pods", &["get"]);
                    needs.add(gateway, "", "pods/ephemeralcontainers", &["patch"]);
                }
                (FaultKind::BlackholeBy(Mechanism::EgressProxy), _) => {
                    // The gate in each pod is told by itself; the record names the pods.
                    if let Some(proxy) = &component.proxy {
                        let place = &proxy.deployment.namespace;
                        needs.add(place, "", "pods", &["get"]);
                        needs.add(place, "", "pods/portforward", &["get", "create"]);
                    }
                }
                _ => {}
            }
        }
    }
    needs.0.into_iter().collect()
}

/// What is followed while a fault is held.
fn watched(needs: &mut Needs, namespace: &str) {
    needs.add(namespace, "apps", "deployments", &READ);
    needs.add(namespace, "", "pods", &READ);
    needs.add(namespace, "", "services", &READ);
    needs.add(namespace, "discovery.k8s.io", "endpointslices", &FOLLOWED);
    needs.add(namespace, "networking.k8s.io", "networkpolicies", &READ);
    needs.insert(Some(namespace), "", "events", None, &FOLLOWED, Some(UNNAMED));
}

fn of_component(needs: &mut Needs, environment: &Environment, cluster: &Cluster, component_name: &str) {
    let component = &environment.components[component_name];
    let gateway = &cluster.gateway.deployment.namespace;
    if let Some(deployment) = &component.deployment {
        watched(needs, &deployment.namespace);
        // In the gateway's own namespace its log is read by the same right.
        if deployment.namespace != *gateway {
            needs.insert(Some(&deployment.namespace), "", "pods/log", None, &["get"], Some(PRINTED));
        }
    }
    match (component.down, &component.deployment) {
        (FaultKind::ScaleToZero, Some(deployment)) => {
            let (namespace, name) = (&deployment.namespace, &deployment.name);
            let scale = "deployments/scale";
            needs.insert(Some(namespace), "apps", scale, Some(name), &["get", "patch"], None);
            // Downscalers go by its annotations.
            needs.insert(Some(namespace), "", "namespaces", Some(namespace), &["get"], None);
            needs.add(namespace, "autoscaling", "horizontalpodautoscalers", &["list"]);
            // Asked for also where there is no such kind: without the right the API does not say that there is not.
            needs.add(namespace, "keda.sh", "scaledobjects", &["list"]);
            needs.add(namespace, "kube-green.com", "sleepinfos", &["list"]);
            if environment.pause(component_name).contains(&Opponent::Keda) {
                needs.add(namespace, "keda.sh", "scaledobjects", &["get", "patch"]);
            }
        }
        (FaultKind::Isolate, Some(deployment)) => needs.policies(&deployment.namespace),
        (FaultKind::BlackholeBy(Mechanism::NetworkPolicy), _) => needs.policies(gateway),
        (FaultKind::BlackholeBy(Mechanism::NetnsDrop), _) => {
            needs.add(gateway, "", "pods/ephemeralcontainers", &["patch"]);
            needs.insert(Some(gateway), "", "namespaces", Some(gateway), &["get"], Some(LEVEL));
        }
        (FaultKind::BlackholeBy(Mechanism::EgressProxy), _) => {
            if let Some(proxy) = &component.proxy {
                watched(needs, &proxy.deployment.namespace);
                needs.add(&proxy.service.namespace, "", "services", &READ);
                needs.add(&proxy.deployment.namespace, "", "pods/portforward", &["get", "create"]);
            }
        }
        _ => {}
    }
}

/// What pausing and resuming those who were found asks of the API.
#[must_use]
pub fn of_mutations(mutations: &[Mutation]) -> Vec<Need> {
    let mut needs = Needs::default();
    for mutation in mutations {
        if let Mutation::Pause(pause) = mutation {
            let (namespace, name) = (Some(pause.object.namespace.as_str()), pause.object.name.as_str());
            let (group, plural) = (&pause.kind.group, &pause.kind.plural);
            needs.insert(namespace, group, plural, Some(name), &["get", "patch"], None);
        }
    }
    needs.0.into_iter().collect()
}

fn review_of(need: &Need) -> SelfSubjectAccessReview {
    let (resource, subresource) = match need.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (need.resource.as_str(), None),
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: need.namespace.clone(),
                group: Some(need.group.clone()),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                name: need.name.clone(),
                verb: Some(need.verb.clone()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    }
}

/// Asks the API about each need.
///
/// # Errors
/// Where it does not answer.
pub async fn ask(access: &Access, needs: Vec<Need>) -> Result<Vec<Answer>, CallError> {
    let mut answers = Vec::with_capacity(needs.len());
    for need in needs {
        let review = access.review(&review_of(&need)).await?;
        let allowed = review.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        answers.push(Answer { need, allowed });
    }
    Ok(answers)
}

/// Whether this user may do everything, which nobody who only tests failover should.
///
/// # Errors
/// Where the API does not answer.
pub async fn may_do_everything(access: &Access) -> Result<bool, CallError> {
    let all = Need {
        namespace: None,
        group: "*".to_owned(),
        resource: "*".to_owned(),
        name: None,
        verb: "*".to_owned(),
        optional: None,
    };
    Ok(ask(access, vec![all]).await?.iter().all(|answer| answer.allowed))
}

/// What a run cannot do without, and may not do.
pub fn missing(answers: &[Answer]) -> impl Iterator<Item = &Need> {
    answers
        .iter()
        .filter(|answer| !answer.allowed && answer.need.optional.is_none())
        .map(|answer| &answer.need)
}

/// What is lost for want of a right, each once.
#[must_use]
pub fn losses(answers: &[Answer]) -> Vec<&str> {
    let lost = answers.iter().filter(|answer| !answer.allowed);
    lost.filter_map(|answer| answer.need.optional.as_deref()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What was asked about and what the API said, a line for each resource of each namespace; what is missing first.
#[must_use]
pub fn asked(answers: &[Answer]) -> String {
    /// Namespace, resource, name.
    type What<'n> = (Option<&'n str>, &'n str, Option<&'n str>);
    let mut verbs: BTreeMap<(Said, What<'_>), Vec<&str>> = BTreeMap::new();
    for Answer { need, allowed } in answers {
        let said = match (allowed, &need.optional) {
            (true, _) => Said::Granted,
            (false, None) => Said::Missing,
            (false, Some(_)) => Said::DoneWithout,
        };
        let what = (need.namespace.as_deref(), need.resource.as_str(), need.name.as_deref());
        verbs.entry((said, what)).or_default().push(&need.verb);
    }
    let mut text = String::new();
    for ((said, (namespace, resource, name)), verbs) in verbs {
        let place = namespace.unwrap_or("the cluster");
        let name = name.map_or(String::new(), |name| format!(" {name}"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "   {:<8} {place}: {} {resource}{name}{}",
            said.word(),
            verbs.join(", "),
            said.rest()
        );
    }
    text
}

/// What the API says of a need, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Missing,
    DoneWithout,
    Granted,
}

impl Said {
    const fn word(self) -> &'static str {
        match self {
            Self::Missing | Self::DoneWithout => "missing",
            Self::Granted => "granted",
        }
    }

    const fn rest(self) -> &'static str {
        match self {
            Self::DoneWithout => " (a run does without)",
            Self::Missing | Self::Granted => "",
        }
    }
}

/// What is missing, as patches that add it to a Role (to a ClusterRole where there is no namespace): JSON Patch as
/// YAML, as `kubectl patch` takes it. Empty where nothing is missing.
#[must_use]
pub fn patch(answers: &[Answer], kubectl: &Kubectl) -> String {
    /// Namespace, group, resource, name.
    type What<'n> = (Option<&'n str>, &'n str, &'n str, Option<&'n str>);
    /// Group, verbs, name.
    type Rule<'n> = (&'n str, BTreeSet<&'n str>, Option<&'n str>);
    let mut verbs: BTreeMap<What<'_>, BTreeSet<&str>> = BTreeMap::new();
    for need in answers.iter().filter(|answer| !answer.allowed).map(|answer| &answer.need) {
        let key =
            (need.namespace.as_deref(), need.group.as_str(), need.resource.as_str(), need.name.as_deref());
        verbs.entry(key).or_default().insert(&need.verb);
    }
    let mut rules: BTreeMap<Option<&str>, BTreeMap<Rule<'_>, BTreeSet<&str>>> = BTreeMap::new();
    for ((namespace, group, resource, name), verbs) in verbs {
        rules.entry(namespace).or_default().entry((group, verbs, name)).or_default().insert(resource);
    }
    let mut text = String::new();
    for (namespace, rules) in rules {
        let line = match namespace {
            Some(namespace) => kubectl.line(namespace, "patch role ROLE --type=json --patch-file=FILE"),
            None => kubectl.whole("patch clusterrole ROLE --type=json --patch-file=FILE"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# {line}");
        for ((group, verbs, name), resources) in rules {
            let names = name.map_or(String::new(), |name| format!(", resourceNames: {}", list([name])));
            let _ = writeln!(
                text,
                "- op: add\n  path: /rules/-\n  value: {{ apiGroups: {}, resources: {}{names}, verbs: {} }}",
                list([group]),
                list(resources),
                list(verbs)
            );
        }
    }
    text
}

fn list<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| format!("\"{text}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Answer, Kubectl, Need, asked, losses, missing, patch, review_of};

    fn answer(resource: &str, name: Option<&str>, verb: &str, allowed: bool) -> Answer {
        let (group, resource) = resource.split_once(':').unwrap();
        let need = Need {
            namespace: Some("ml".into()),
            group: group.into(),
            resource: resource.into(),
            name: name.map(str::to_owned),
            verb: verb.into(),
            optional: None,
        };
        Answer { need, allowed }
    }

    #[test]
    fn what_is_missing_is_a_patch_of_the_role() {
        let answers = [
            answer("apps:deployments/scale", Some("vllm"), "patch", false),
            answer("apps:deployments/scale", Some("vllm"), "get", true),
            answer(":pods", None, "list", false),
            answer(":pods", None, "get", false),
            answer(":services", None, "get", false),
            answer(":services", None, "list", false),
        ];
        assert_eq!(
            patch(&answers, &Kubectl::new(Some("home"))),
            "\
# kubectl --context home -n ml patch role ROLE --type=json --patch-file=FILE
- op: add
  path: /rules/-
  value: { apiGroups: [\"\"], resources: [\"pods\", \"services\"], verbs: [\"get\", \"list\"] }
- op: add
  path: /rules/-
  value: { apiGroups: [\"apps\"], resources: [\"deployments/scale\"], resourceNames: [\"vllm\"], verbs: [\"patch\"] }
"
        );
        assert_eq!(missing(&answers).count(), 5);
        assert_eq!(patch(&answers[1..2], &Kubectl::new(None)), "");
    }

    #[test]
    fn what_can_be_done_without_is_a_loss_and_not_missing() {
        let mut answers =
            [answer(":pods/exec", None, "get", false), answer(":pods/exec", None, "create", false)];
        for answer in &mut answers {
            answer.need.optional = Some("weak".into());
        }
        assert_eq!(missing(&answers).count(), 0);
        assert_eq!(losses(&answers), ["weak"]);
    }

    #[test]
    fn what_was_asked_is_told_with_its_answer_and_what_is_missing_first() {
        let mut answers = [
            answer(":pods", None, "get", true),
            answer(":pods", None, "list", true),
            answer("apps:deployments/scale", Some("vllm"), "get", true),
            answer("apps:deployments/scale", Some("vllm"), "patch", false),
            answer(":nodes", None, "watch", false),
        ];
        answers[4].need.namespace = None;
        answers[4].need.optional = Some("lost".into());
        let told = "   missing  ml: patch deployments/scale vllm
   missing  the cluster: watch nodes (a run does without)
   granted  ml: get deployments/scale vllm
   granted  ml: get, list pods
";
        assert_eq!(asked(&answers), told);
        assert_eq!(asked(&[]), "");
    }

    #[test]
    fn a_subresource_is_asked_for_as_such() {
        let review = review_of(&answer(":pods/exec", None, "create", false).need);
        let asked = review.spec.resource_attributes.unwrap();
        assert_eq!((asked.resource.as_deref(), asked.subresource.as_deref()), (Some("pods"), Some("exec")));
        assert_eq!(asked.group.as_deref(), Some(""));
    }
}
