//! Who asks, and what they may do.

use std::sync::{PoisonError, RwLock};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::request::Target;
use crate::gateway::Secret;
use crate::kubernetes::refusal::Refusal;

/// One thing that may be done, with the words of an RBAC rule. `*` stands for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// In which namespaces; none for everywhere, which also means kinds without a namespace.
    pub namespaces: Vec<String>,
    /// In which API groups; the core group is the empty text.
    pub groups: Vec<String>,
    /// On which resources, for example `pods` or `deployments/scale`.
    pub resources: Vec<String>,
    /// On which objects; none for all.
    pub names: Vec<String>,
    /// With which verbs.
    pub verbs: Vec<String>,
}

impl Rule {
    /// Everything, everywhere.
    #[must_use]
    pub fn everything() -> Self {
        let all = || vec!["*".to_owned()];
        Self { namespaces: Vec::new(), groups: all(), resources: all(), names: Vec::new(), verbs: all() }
    }

    /// These verbs on one resource of one group in one namespace.
    #[must_use]
    pub fn new(namespace: &str, group: &str, resource: &str, verbs: &[&str]) -> Self {
        Self {
            namespaces: vec![namespace.to_owned()],
            groups: vec![group.to_owned()],
            resources: vec![resource.to_owned()],
            names: Vec::new(),
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        }
    }

    fn allows(&self, asked: &Asked<'_>) -> bool {
        let has = |all: &[String], one: &str| all.iter().any(|known| known == "*" || known == one);
        // `*/scale` is the scale of everything.
        let of_all = asked.resource.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
        (self.namespaces.is_empty() || self.namespaces.iter().any(|known| known == asked.namespace))
            && has(&self.groups, asked.group)
            && (has(&self.resources, asked.resource)
                || of_all.is_some_and(|all| self.resources.contains(&all)))
            && (self.names.is_empty() || self.names.iter().any(|known| known == asked.name))
            && has(&self.verbs, asked.verb)
    }
}

/// Somebody who may talk to the API.
#[derive(Debug, Clone)]
pub struct User {
    /// The name that refusals tell.
    pub name: String,
    /// The bearer token.
    pub token: Secret,
    /// What they may do.
    pub rules: Vec<Rule>,
}

/// One act that is asked about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) verb: &'a str,
    pub(super) group: &'a str,
    /// With the subresource, if any.
    pub(super) resource: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// All users. Rules can change while the cluster runs.
#[derive(Debug)]
pub(crate) struct Access {
    users: RwLock<Vec<User>>,
}

impl Access {
    pub(crate) fn new(users: Vec<User>) -> Self {
        Self { users: RwLock::new(users) }
    }

    /// Gives a user other rules. False where there is no such user.
    pub(crate) fn set_rules(&self, name: &str, rules: Vec<Rule>) -> bool {
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        match users.iter_mut().find(|user| user.name == name) {
            Some(user) => {
                user.rules = rules;
                true
            }
            None => false,
        }
    }

    /// The user whose token a request carries.
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<User, Refusal> {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = header.strip_prefix("Bearer ").unwrap_or_default();
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let found = users.iter().find(|user| !token.is_empty() && user.token.expose() == token);
        found.cloned().ok_or(Refusal::Unauthorized)
    }
}

impl User {
    pub(super) fn may(&self, asked: &Asked<'_>) -> bool {
        self.rules.iter().any(|rule| rule.allows(asked))
    }

    /// Refuses what this user may not do to an object.
    pub(super) fn check(&self, verb: &str, target: &Target) -> Result<(), Refusal> {
        let resource = target.rbac_resource();
        let namespace = match &target.namespace {
            Some(namespace) => namespace.as_str(),
            // A namespace lies in itself.
            None if target.resource.plural == "namespaces" => target.name.as_str(),
            None => "",
        };
        let asked =
            Asked { verb, group: target.resource.group, resource: &resource, namespace, name: &target.name };
        if self.may(&asked) {
            return Ok(());
        }
        let scope = match &target.namespace {
            Some(namespace) => format!("in the namespace \"{namespace}\""),
            None => "at the cluster scope".to_owned(),
        };
        let message = format!(
            "User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{}\" {scope}",
            self.name, target.resource.group
        );
        Err(Refusal::Forbidden { resource: Some(target.resource), name: target.name.clone(), message })
    }

    /// Answers a SelfSubjectAccessReview or a SelfSubjectRulesReview.
    pub(super) fn review(&self, kind: &str, mut review: Value) -> Result<Value, Refusal> {
        if !review.is_object() || !review["spec"].is_object() {
            return Err(Refusal::BadRequest("the review has no spec".to_owned()));
        }
        review["status"] = if kind == "selfsubjectaccessreviews" {
            self.review_access(&review["spec"])?
        } else {
            self.review_rules(review["spec"]["namespace"].as_str().unwrap_or_default())
        };
        if !review["metadata"].is_object() {
            review["metadata"] = json!({});
        }
        Ok(review)
    }

    fn review_access(&self, spec: &Value) -> Result<Value, Refusal> {
        if spec["nonResourceAttributes"].is_object() {
            return Ok(json!({ "allowed": true }));
        }
        let asked = &spec["resourceAttributes"];
        if !asked.is_object() {
            let message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(Refusal::BadRequest(message.to_owned()));
        }
        let text = |field: &str| asked[field].as_str().unwrap_or_default();
        let resource = match text("subresource") {
            "" => text("resource").to_owned(),
            subresource => format!("{}/{subresource}", text("resource")),
        };
        let asked = Asked {
            verb: text("verb"),
            group: text("group"),
            resource: &resource,
            namespace: text("namespace"),
            name: text("name"),
        };
        // A refusal is no denial: another authorizer could still allow it.
        Ok(if self.may(&asked) {
            json!({ "allowed": true, "reason": "rule" })
        } else {
            json!({ "allowed": false })
        })
    }

    /// Never the whole truth, and it says so.
    fn review_rules(&self, namespace: &str) -> Value {
        let here = |rule: &&Rule| {
            rule.namespaces.is_empty() || rule.namespaces.iter().any(|known| known == namespace)
        };
        let one = |rule: &Rule| {
            let mut told =
                json!({ "verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources });
            if !rule.names.is_empty() {
                told["resourceNames"] = rule.names.clone().into();
            }
            told
        };
        let rules: Vec<Value> = self.rules.iter().filter(here).map(one).collect();
        json!({
            "resourceRules": rules,
            "nonResourceRules": [{ "verbs": ["get"], "nonResourceURLs": ["/api", "/apis", "/version"] }],
            "incomplete": true,
        })
    }
}
