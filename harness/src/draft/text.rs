//! The text of a draft.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use super::gateway::{Gateway, Key};
use super::kind::Kind;
use super::parts::{Part, Parts, Place, slug};
use super::{Found, name_of};
use crate::cluster::TARGET_LABEL;
use crate::cluster::mutation::Kubectl;
use crate::environment::ObjectName;
use crate::gateway::config::MASTER_KEY_VARIABLE;

/// Lines with an indentation.
struct Lines(String);

impl Lines {
    fn add(&mut self, indent: usize, line: impl fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{:indent$}{line}", "");
    }

    /// What a person must decide.
    fn decide(&mut self, indent: usize, what: impl fmt::Display) {
        let what = what.to_string();
        let clean: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.add(indent, format_args!("# DECIDE: {clean}"));
    }

    /// That the owner of a Deployment must agree.
    fn ask_owner(&mut self, found: &Found, indent: usize, name: &ObjectName) {
        let rest = format!("label deployment {} {TARGET_LABEL}=true", name.name);
        let line = Kubectl::new(Some(&found.context)).line(&name.namespace, rest);
        self.decide(
            indent,
            format_args!("Deployment {name} is not marked as a target. If it may be one: {line}"),
        );
    }
}

pub(super) fn write(found: &Found, gateway: Option<&Gateway>, parts: &Parts) -> String {
    let mut lines = Lines(String::new());
    lines.add(
        0,
        "# Drafted by `harness init`. What is marked DECIDE is for a person; then: harness check --env FILE,",
    );
    lines.add(0, "# harness doctor --env FILE, harness plan --env FILE. None of these changes anything in the cluster.");
    lines.add(0, format_args!("environment: {}", slug(&found.context)));
    for unread in &found.unread {
        lines.decide(0, format_args!("this could not be read, so what follows may lack something: {unread}"));
    }
    let kubeconfig = found
        .kubeconfig
        .as_ref()
        .map_or(String::new(), |file| format!("kubeconfig: {}, ", quoted(&file.display().to_string())));
    let namespaces = namespaces(gateway, parts);
    lines.add(
        0,
        format_args!(
            "kubernetes: {{ {kubeconfig}context: {}, namespaces: {} }}",
            word(&found.context),
            list(&namespaces)
        ),
    );
    lines.add(0, "");
    lines.add(0, "gateway:");
    match gateway {
        Some(gateway) => of_gateway(&mut lines, found, gateway, parts),
        None => {
            lines.decide(2, "nothing here looks like LiteLLM (image, or name and port 4000): name its Service and the labels of its pods");
            lines.add(2, "service: NAMESPACE/SERVICE");
            lines.add(2, "pods: \"app=litellm\"");
            lines.add(2, format_args!("key: {{ env: {MASTER_KEY_VARIABLE} }}"));
        }
    }
    lines.add(0, "");
    components(&mut lines, found, parts);
    lines.add(0, "");
    routes(&mut lines, parts);
    lines.0
}

fn namespaces(gateway: Option<&Gateway>, parts: &Parts) -> Vec<String> {
    let mut all = BTreeSet::new();
    if let Some(gateway) = gateway {
        all.insert(gateway.deployment.namespace.clone());
        if let Key::Secret(secret, _) = &gateway.key {
            all.insert(secret.namespace.clone());
        }
    }
    for part in &parts.components {
        if let Place::Deployment { name, .. } = &part.place {
            all.insert(name.namespace.clone());
        }
    }
    all.into_iter().collect()
}

fn of_gateway(lines: &mut Lines, found: &Found, gateway: &Gateway, parts: &Parts) {
    let name = &gateway.deployment;
    if !gateway.others.is_empty() {
        let others: Vec<String> = gateway.others.iter().map(ToString::to_string).collect();
        lines.decide(2, format_args!("these look like a gateway, too: {}", others.join(", ")));
    }
    let cut_off = parts.components.iter().any(|part| matches!(part.place, Place::Endpoint(_)));
    if !gateway.agreed && (cut_off || parts.without_config) {
        lines.ask_owner(found, 2, name);
    }
    match &gateway.service {
        Some((service, port)) => {
            if !gateway.other_ways.is_empty() {
                let others = gateway.other_ways.join(", ");
                lines.decide(2, format_args!("which way callers take; there are also {others}"));
            }
            lines.add(2, format_args!("service: {service}"));
            lines.add(2, format_args!("port: {port}"));
            if service != name {
                lines.add(2, format_args!("deployment: {name}"));
            }
        }
        None => {
            lines.decide(
                2,
                format_args!("no Service leads to Deployment {name}: name the one that callers use"),
            );
            lines.add(2, format_args!("service: {}/SERVICE", name.namespace));
            lines.add(2, format_args!("deployment: {name}"));
        }
    }
    if gateway.more_selected {
        lines.decide(
            2,
            "the Deployment selects its pods by more than these labels: they must be its own and no others",
        );
    }
    let labels: Vec<String> = gateway.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    lines.add(2, format_args!("pods: {}", quoted(&labels.join(","))));
    match &gateway.key {
        Key::Secret(secret, field) => {
            lines.add(2, format_args!("key: {{ secret: {secret}, field: {} }}", word(field)));
        }
        Key::NotFound(why) => {
            lines.decide(
                2,
                format_args!(
                    "where the master key is: {why}. Name a Secret, `key: {{ secret: {}/NAME, field: FIELD }}`, or set this variable for the harness",
                    name.namespace
                ),
            );
            lines.add(2, format_args!("key: {{ env: {MASTER_KEY_VARIABLE} }}"));
        }
    }
}

fn components(lines: &mut Lines, found: &Found, parts: &Parts) {
    lines.add(0, "components:");
    for (alias, why) in &parts.unplaced {
        let alias = word(alias);
        lines.decide(
            2,
            format_args!(
                "which component serves {alias}: {why}. Add it to the aliases of one, or leave it out"
            ),
        );
    }
    for name in &parts.unused {
        lines.decide(
            2,
            format_args!("Deployment {name} looks like a backend, and no model of the gateway leads to it"),
        );
    }
    if parts.without_config {
        lines.decide(
            2,
            "no ConfigMap of the gateway holds a LiteLLM configuration: write the aliases of each component",
        );
    }
    for part in &parts.components {
        component(lines, found, part);
    }
    if parts.without_config {
        lines.add(2, "cloud:");
        lines.add(4, "aliases: []");
        lines.decide(4, "where the gateway reaches the cloud");
        lines.add(4, "endpoint: \"https://CLOUD\"");
        lines.add(4, "down: { blackhole: network-policy }");
    } else if parts.components.is_empty() {
        lines.add(2, "{}");
    }
}

fn component(lines: &mut Lines, found: &Found, part: &Part) {
    lines.add(2, format_args!("{}:", part.name));
    if !["cloud", Kind::Vllm.word(), Kind::Ollama.word()].contains(&part.name.as_str()) {
        lines.decide(4, "the scenarios that are built in take down cloud, vllm and ollama, and never this; write your own, or name it so");
    }
    lines.add(4, format_args!("aliases: {}", list(&part.aliases)));
    match &part.place {
        Place::Endpoint(endpoint) => {
            lines.add(4, format_args!("endpoint: {}", quoted(endpoint)));
            lines.add(4, "down: { blackhole: network-policy }");
            lines.decide(4, "what one run may ask of it, where it costs something");
            lines.add(4, "ceilings: { requests: 2000, tokens: 200000, rate: 20/s }");
        }
        Place::Deployment { name, kind, agreed, service, port } => {
            if !agreed {
                lines.ask_owner(found, 4, name);
            }
            lines.add(4, format_args!("deployment: {name}"));
            match service {
                Some(service) if service != name => lines.add(4, format_args!("service: {service}")),
                Some(_) => {}
                None => {
                    lines.decide(4, "no Service leads to it: name the one that the gateway uses");
                    lines.add(4, format_args!("service: {}/SERVICE", name.namespace));
                }
            }
            if let Some(port) = port {
                lines.add(4, format_args!("port: {port}"));
            }
            if found.deployments.iter().any(|one| name_of(&one.metadata) == *name && is_at_zero(one)) {
                lines.decide(4, "it is at 0 pods: a run begins with everything up");
            }
            lines.add(4, "down: scale-to-zero");
            lines.decide(4, "how long it may take from its start to its first completion");
            let ready = if *kind == Some(Kind::Ollama) { "5m" } else { "15m" };
            lines.add(4, format_args!("ready_within: {ready}"));
        }
    }
}

fn is_at_zero(deployment: &k8s_openapi::api::apps::v1::Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(0)
}

fn routes(lines: &mut Lines, parts: &Parts) {
    lines.add(0, "routes:");
    let has = |name: &str| parts.routes.iter().any(|(known, _)| known == name);
    if parts.routes.is_empty() {
        lines.decide(2, "what callers ask for, and who takes over in which order");
        lines.add(2, "agent: { model: ALIAS, fallbacks: [] }");
        lines.add(2, "coder: { model: ALIAS }");
        return;
    }
    if !(has("agent") && has("coder")) {
        lines.decide(2, "the scenarios that are built in ask for the routes `agent` and `coder`; name yours so, or write scenarios");
    }
    for (name, route) in &parts.routes {
        let fallbacks = match route.fallbacks.as_slice() {
            [] => String::new(),
            some => format!(", fallbacks: {}", list(some)),
        };
        lines.add(2, format_args!("{name}: {{ model: {}{fallbacks} }}", word(&route.model)));
    }
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|one| word(one)).collect();
    format!("[{}]", words.join(", "))
}

/// A text as YAML takes it, with quotes where it could be taken for something else.
fn word(text: &str) -> String {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(inner);
    let other = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_word && !other.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
