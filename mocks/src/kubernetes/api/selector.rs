//! Label and field selectors.

use serde_json::Value;

use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::resources::{EVENTS, JOBS, NAMESPACES, NODES, PODS, REPLICA_SETS, Resource, SECRETS};

/// What objects have to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Reads both selectors of a query. Only some fields of each kind can be selected by.
    pub(crate) fn read_for(
        resource: &'static Resource,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Refusal> {
        let read = Self::read(labels, fields)?;
        let known = selectable(resource);
        let is_known =
            |path: &str| ["metadata.name", "metadata.namespace"].contains(&path) || known.contains(&path);
        match read.fields.iter().find(|(path, ..)| !is_known(path)) {
            Some((path, ..)) => Err(Refusal::BadRequest(format!(
                "Unable to find \"{}\" that match label selector \"{}\", field selector \"{}\": field label not supported: {path}",
                resource.api_version() + ", Resource=" + resource.plural,
                labels.unwrap_or_default(),
                fields.unwrap_or_default()
            ))),
            None => Ok(read),
        }
    }

    fn read(labels: Option<&str>, fields: Option<&str>) -> Result<Self, Refusal> {
        let labels = parts(labels.unwrap_or_default()).map(requirement).collect::<Result<_, _>>()?;
        let fields = parts(fields.unwrap_or_default()).map(field).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether everything fits.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn fits(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                label(key).is_some_and(|value| values.iter().any(|known| known == value))
            }
            // Also fits what has no such label.
            Requirement::NotIn(key, values) => {
                label(key).is_none_or(|value| !values.iter().any(|known| known == value))
            }
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Absent(key) => label(key).is_none(),
        }) && self.fields.iter().all(|(path, wanted, equal)| (value_at(object, path) == *wanted) == *equal)
    }
}

fn selectable(resource: &'static Resource) -> &'static [&'static str] {
    if *resource == PODS {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    } else if *resource == EVENTS {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    } else if *resource == NAMESPACES {
        &["status.phase"]
    } else if *resource == NODES {
        &["spec.unschedulable"]
    } else if *resource == SECRETS {
        &["type"]
    } else if *resource == JOBS {
        &["status.successful"]
    } else if *resource == REPLICA_SETS {
        &["status.replicas"]
    } else {
        &[]
    }
}

/// The name that alone fits a field selector, where it says so.
pub(super) fn one_name(fields: Option<&str>) -> Option<String> {
    let read = Selector::read(None, fields).ok()?;
    let named = read.fields.into_iter().find(|(path, _, equal)| path == "metadata.name" && *equal);
    named.map(|(_, name, _)| name)
}

/// What stands between commas, but for those in parentheses.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    let split = text.split(move |letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == ',' && depth == 0
    });
    split.map(str::trim).filter(|part| !part.is_empty())
}

fn requirement(text: &str) -> Result<Requirement, Refusal> {
    let refuse = || Refusal::BadRequest(format!("unable to parse requirement: {text:?}"));
    let key = |key: &str| {
        let key = key.trim();
        let is_inner = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
        if key.is_empty() || !key.chars().all(is_inner) { Err(refuse()) } else { Ok(key.to_owned()) }
    };
    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Requirement::NotIn(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Requirement::In(key(name)?, vec![value.trim().to_owned()]));
    }
    if let Some((head, values)) = text.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(refuse)?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [name, "in"] => Ok(Requirement::In(key(name)?, values)),
            [name, "notin"] => Ok(Requirement::NotIn(key(name)?, values)),
            _ => Err(refuse()),
        };
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Requirement::Absent(key(name)?)),
        None => Ok(Requirement::Exists(key(text)?)),
    }
}

fn field(text: &str) -> Result<(String, String, bool), Refusal> {
    let split = match text.split_once("!=") {
        Some((path, value)) => Some((path, value, false)),
        None => {
            text.split_once("==").or_else(|| text.split_once('=')).map(|(path, value)| (path, value, true))
        }
    };
    let (path, value, equal) = split.ok_or_else(|| {
        Refusal::BadRequest(format!("invalid selector: '{text}'; can't understand '{text}'"))
    })?;
    Ok((path.trim().to_owned(), value.trim().to_owned(), equal))
}

/// A field as text; what is not there is empty.
fn value_at(object: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(object, |at, step| at.get(step));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_fit_as_on_a_real_server() {
        let object = json!({
            "metadata": { "name": "p", "labels": { "app": "vllm", "tier": "gpu" } }, "status": { "phase": "Running" },
        });
        for (labels, fields, expected) in [
            ("app=vllm", "", true),
            ("app==vllm,tier", "", true),
            ("app!=vllm", "", false),
            ("other!=x", "", true),
            ("app in (a, vllm),!other", "", true),
            ("app notin (a,b)", "", true),
            ("!app", "", false),
            ("", "metadata.name=p,status.phase!=Failed", true),
            ("", "metadata.name=q", false),
            ("", "spec.nodeName=", true),
        ] {
            let selector = Selector::read(Some(labels), Some(fields)).unwrap();
            assert_eq!(selector.fits(&object), expected, "{labels} {fields}");
        }
        for bad in ["a in b", "=", "a b", "a in (b"] {
            assert!(Selector::read(Some(bad), None).is_err(), "{bad}");
        }
    }
}
