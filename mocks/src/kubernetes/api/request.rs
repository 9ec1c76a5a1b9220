//! What a request asks for: its path, its query, and the object in its path.

use http::Method;

use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::resources::{self, CrdGroup, Resource};

/// The pairs of a query, decoded, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl Query {
    pub(super) fn read(query: Option<&str>) -> Self {
        // kube begins with an empty pair.
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(name, value)| (decoded(name, true), decoded(value, true))).collect())
    }

    /// The first value of a parameter, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1" | "True" | "TRUE"))
    }

    /// A whole number that is not negative.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let read = |text: &str| {
            text.parse()
                .map_err(|_| Refusal::BadRequest(format!("{name}: Invalid value: \"{text}\": not a number")))
        };
        self.get(name).map(read).transpose()
    }
}

/// The text with each `%XX` replaced; what is no such triple stays.
fn decoded(text: &str, plus_is_space: bool) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, hex(tail.first()), hex(tail.get(1))) {
            // Two hexadecimal digits fit in a byte.
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = &tail[2..];
            }
            (b'+', ..) if plus_is_space => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An object's place, or that of a collection, as a path has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) resource: &'static Resource,
    /// None for all namespaces, and for kinds that have none.
    pub(super) namespace: Option<String>,
    /// Empty for a collection.
    pub(super) name: String,
    /// Empty for the object itself.
    pub(super) subresource: String,
}

impl Target {
    pub(super) fn namespace_or_empty(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// `deployments` or `deployments/scale`, as RBAC rules name it.
    pub(super) fn rbac_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.plural.to_owned()
        } else {
            format!("{}/{}", self.resource.plural, self.subresource)
        }
    }
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Objects.
    Objects(Target),
    /// `POST` of a review: its group, its kind in paths.
    Review(String),
    /// What could be objects of a kind that this cluster does not have: who may not see them is not told so.
    Absent(Absent),
    /// All else: discovery and health, and what is nowhere.
    Other,
}

/// What a path asks for that leads nowhere, as RBAC rules have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Absent {
    pub(super) group: String,
    /// With the subresource, if any.
    pub(super) resource: String,
    pub(super) namespace: String,
    /// Empty for a collection.
    pub(super) name: String,
}

/// Reads a path. Kinds that this cluster does not have are nowhere.
pub(super) fn place(path: &str, crds: &[CrdGroup]) -> Place {
    let steps: Vec<String> = path.trim_matches('/').split('/').map(|step| decoded(step, false)).collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let (group, version, rest) = match steps.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Place::Other,
    };
    if (group, version) == ("authorization.k8s.io", "v1")
        && let ["selfsubjectaccessreviews" | "selfsubjectrulesreviews"] = rest
    {
        return Place::Review(rest[0].to_owned());
    }
    // `namespaces/NAME` is also the path of a namespace itself.
    let (namespace, rest) = match rest {
        ["namespaces", namespace, inner, below @ ..] if *inner != "status" || !below.is_empty() => {
            (Some(*namespace), &rest[2..])
        }
        _ => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return Place::Other,
    };
    let found = resources::by_path(group, version, plural);
    let found = found.filter(|resource| resource.crd.is_none_or(|crd| crds.contains(&crd)));
    let Some(resource) = found else {
        let below = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
        return Place::Absent(Absent {
            group: group.to_owned(),
            resource: format!("{plural}{below}"),
            namespace: namespace.unwrap_or_default().to_owned(),
            name: name.to_owned(),
        });
    };
    // An object in no namespace, or in one that its kind does not have, is nowhere.
    let fits = resource.namespaced == namespace.is_some() || (resource.namespaced && name.is_empty());
    if !fits || !(subresource.is_empty() || resource.has(subresource)) {
        return Place::Other;
    }
    Place::Objects(Target {
        resource,
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    })
}

/// The verb that RBAC knows a request by.
pub(super) fn verb(method: &Method, target: &Target, query: &Query) -> Result<&'static str, Refusal> {
    let of_collection = target.name.is_empty();
    Ok(match *method {
        Method::GET | Method::HEAD if of_collection && query.is_true("watch") => "watch",
        Method::GET | Method::HEAD if of_collection => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST if of_collection || !target.subresource.is_empty() => "create",
        Method::PUT if !of_collection => "update",
        Method::PATCH if !of_collection => "patch",
        Method::DELETE if of_collection => "deletecollection",
        Method::DELETE => "delete",
        _ => return Err(Refusal::MethodNotAllowed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str) -> String {
        match place(path, &[]) {
            Place::Objects(target) => format!(
                "{} {} {} {}",
                target.resource.plural,
                target.namespace.as_deref().unwrap_or("-"),
                target.name,
                target.subresource
            ),
            Place::Review(kind) => kind,
            Place::Absent(_) | Place::Other => "nowhere".to_owned(),
        }
    }

    #[test]
    fn paths_lead_where_they_do_on_a_real_server() {
        for (path, expected) in [
            ("/api/v1/pods", "pods -  "),
            ("/api/v1/namespaces/ml/pods", "pods ml  "),
            ("/api/v1/namespaces/ml/pods/p/log", "pods ml p log"),
            ("/api/v1/namespaces/ml", "namespaces - ml "),
            ("/api/v1/namespaces/ml/status", "namespaces - ml status"),
            ("/api/v1/namespaces", "namespaces -  "),
            ("/api/v1/nodes/n", "nodes - n "),
            ("/apis/apps/v1/namespaces/ml/deployments/vllm/scale", "deployments ml vllm scale"),
            ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "selfsubjectaccessreviews"),
            ("/apis/apps/v1/namespaces/ml/deployments/vllm/exec", "nowhere"),
            ("/apis/apps/v1/deployments/vllm", "nowhere"),
            ("/api/v1/namespaces/ml/nodes/n", "nowhere"),
            ("/apis/keda.sh/v1alpha1/scaledobjects", "nowhere"),
            ("/apis/apps/v2/deployments", "nowhere"),
            ("/", "nowhere"),
        ] {
            assert_eq!(told(path), expected, "{path}");
        }
    }

    #[test]
    fn queries_are_decoded_and_an_empty_first_pair_is_passed_over() {
        let query = Query::read(Some("&labelSelector=a%3Db%2Cc&x=a+b&watch=true&bad=%zz"));
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.get("x"), Some("a b"));
        assert_eq!(query.get("bad"), Some("%zz"));
        assert!(query.is_true("watch"));
    }
}
