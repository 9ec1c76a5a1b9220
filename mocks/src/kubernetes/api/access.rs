//! Who asks, and what they may do.

use std::sync::{PoisonError, RwLock};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::request::{Absent, Target};
use crate::gateway::Secret;
use crate::kubernetes::controllers::objects::meta;
use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::resources::{
    CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS,
};
use crate::kubernetes::store::{ObjectKey, Store};

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
pub(crate) struct Access {
    users: RwLock<Vec<User>>,
    /// Accounts and roles.
    store: Store,
}

impl Access {
    pub(crate) fn new(users: Vec<User>, store: Store) -> Self {
        Self { users: RwLock::new(users), store }
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
        let known = {
            let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
            users.iter().find(|user| !token.is_empty() && user.token.expose() == token).cloned()
        };
        known.or_else(|| account(&self.store, token)).ok_or(Refusal::Unauthorized)
    }
}

const TOKEN: &str = "mock-account";

/// The token of a service account; none where there is no such account. It ends with the account.
pub(crate) fn account_token(store: &Store, namespace: &str, name: &str) -> Option<Secret> {
    let account = store.get(&ObjectKey::new(&SERVICE_ACCOUNTS, namespace, name))?;
    Some(Secret::new(format!("{TOKEN}/{namespace}/{name}/{}", meta(&account, "uid"))))
}

/// The service account whose token this is, with what its roles allow at present.
fn account(store: &Store, token: &str) -> Option<User> {
    let mut parts = token.split('/');
    let (TOKEN, namespace, name) = (parts.next()?, parts.next()?, parts.next()?) else { return None };
    let real = account_token(store, namespace, name).filter(|real| real.expose() == token)?;
    let rules = bound(store, namespace, name);
    Some(User { name: format!("system:serviceaccount:{namespace}:{name}"), token: real, rules })
}

/// What the roles allow that an account is bound to.
fn bound(store: &Store, namespace: &str, name: &str) -> Vec<Rule> {
    let is_meant = |binding: &Value| {
        binding["subjects"].as_array().into_iter().flatten().any(|subject| {
            subject["kind"] == "ServiceAccount"
                && subject["namespace"] == namespace
                && subject["name"] == name
        })
    };
    let mut rules = Vec::new();
    for (bindings, is_everywhere) in [(&ROLE_BINDINGS, false), (&CLUSTER_ROLE_BINDINGS, true)] {
        for binding in store.list(bindings, None).items.iter().filter(|binding| is_meant(binding)) {
            let role = binding["roleRef"]["name"].as_str().unwrap_or_default();
            let key = match binding["roleRef"]["kind"].as_str() {
                Some("ClusterRole") => ObjectKey::new(&CLUSTER_ROLES, "", role),
                _ => ObjectKey::new(&ROLES, meta(binding, "namespace"), role),
            };
            // A binding of a role that is not there allows nothing.
            let Some(role) = store.get(&key) else { continue };
            let namespaces = if is_everywhere { vec![] } else { vec![meta(binding, "namespace").to_owned()] };
            let of_role = role["rules"].as_array().into_iter().flatten();
            rules.extend(of_role.map(|rule| of_object(rule, &namespaces)));
        }
    }
    rules
}

fn of_object(rule: &Value, namespaces: &[String]) -> Rule {
    let texts = |field: &str| {
        let texts = rule[field].as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Rule {
        namespaces: namespaces.to_vec(),
        groups: texts("apiGroups"),
        resources: texts("resources"),
        names: texts("resourceNames"),
        verbs: texts("verbs"),
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
        let message = self.cannot(&asked, target.namespace.as_deref());
        Err(Refusal::Forbidden { resource: Some(target.resource), name: target.name.clone(), message })
    }

    /// The same for objects of a kind that there is not.
    pub(super) fn check_absent(&self, verb: &str, absent: &Absent) -> Result<(), Refusal> {
        let Absent { group, resource, namespace, name } = absent;
        let asked = Asked { verb, group, resource, namespace, name };
        if self.may(&asked) {
            return Ok(());
        }
        let message = self.cannot(&asked, Some(namespace.as_str()).filter(|namespace| !namespace.is_empty()));
        Err(Refusal::Forbidden { resource: None, name: name.clone(), message })
    }

    fn cannot(&self, asked: &Asked<'_>, namespace: Option<&str>) -> String {
        let scope = match namespace {
            Some(namespace) => format!("in the namespace \"{namespace}\""),
            None => "at the cluster scope".to_owned(),
        };
        let Asked { verb, group, resource, .. } = asked;
        format!(
            "User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {scope}",
            self.name
        )
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
