//! A configuration, and a cell of it: a chain of deployments with their faults, and the request that is asked of it.

use std::time::Duration;

use mocks::gateway::config::Provider;
use serde_json::{Map, Value, json};

use crate::ask::Ask;
use crate::facts::Labels;
use crate::fault::Fault;
use crate::run::REQUESTS;

/// Settings of a gateway process; all cells with equal settings share one.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Its name in tables.
    pub(crate) name: String,
    /// `router_settings` without the fallbacks of the cells.
    pub(crate) router: Value,
    /// `litellm_settings`.
    pub(crate) litellm: Value,
    /// Deployments in the first group of a cell of the matrix.
    pub(crate) group_size: usize,
}

/// One entry of `model_list`.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    /// `first`, `second`, ...: its place in the chain, which is its group.
    pub(crate) role: String,
    pub(crate) provider: Provider,
    pub(crate) fault: Fault,
    /// More of `litellm_params`.
    pub(crate) params: Map<String, Value>,
    /// More of `model_info`.
    pub(crate) info: Map<String, Value>,
}

/// What is asked of one chain, five times.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// Unique among the cells of one pair of gateways.
    pub(crate) name: String,
    pub(crate) deployments: Vec<Deployment>,
    /// Role -> roles.
    pub(crate) fallbacks: Vec<(String, Vec<String>)>,
    pub(crate) streaming: bool,
    /// More of the request's body.
    pub(crate) body: Map<String, Value>,
    /// Headers of the request.
    pub(crate) headers: Vec<(String, String)>,
    /// The most retries that any group of it has.
    pub(crate) retries: u32,
    /// Pauses before its requests.
    pub(crate) pauses: [Duration; REQUESTS],
}

impl Deployment {
    /// A deployment without settings of its own.
    pub(crate) fn new(role: &str, provider: Provider, fault: Fault) -> Self {
        Self { role: role.into(), provider, fault, params: Map::new(), info: Map::new() }
    }
}

impl Cell {
    /// Its name for a person: of a drawn cell, what it consists of.
    pub(crate) fn title(&self) -> String {
        if !self.name.starts_with("cell-") {
            return self.name.clone();
        }
        let member = |d: &Deployment| format!("{} {} {}", d.role, d.provider.prefix(), d.fault.name());
        let members: Vec<String> = self.deployments.iter().map(member).collect();
        let kind = if self.streaming { "stream" } else { "whole" };
        format!("{}: {kind}; {}", self.name, members.join(", "))
    }

    /// The group of a role.
    pub(crate) fn group(&self, role: &str) -> String {
        format!("{}.{role}", self.name)
    }

    /// The id of deployment `index`.
    pub(crate) fn id(&self, index: usize) -> String {
        format!("id-{}.{}-{index}", self.name, self.deployments[index].role)
    }

    /// What the upstream of deployment `index` says.
    pub(crate) fn marker(&self, index: usize) -> String {
        format!("this is {}", self.deployments[index].role)
    }

    /// What the attempts at deployment `index` are counted under: its role, or where `order` sets it apart from the
    /// others of its group, its role and its order.
    pub(crate) fn counted_as(&self, index: usize) -> String {
        let deployment = &self.deployments[index];
        match deployment.params.get("order") {
            Some(order) => format!("{}-{order}", deployment.role),
            None => deployment.role.clone(),
        }
    }

    /// Its roles, in order.
    pub(crate) fn roles(&self) -> Vec<&str> {
        let mut roles: Vec<&str> = Vec::new();
        for deployment in &self.deployments {
            if !roles.contains(&deployment.role.as_str()) {
                roles.push(&deployment.role);
            }
        }
        roles
    }

    /// Its entries of `model_list`, given each deployment's `api_base`.
    pub(crate) fn model_list(&self, api_bases: &[String]) -> Vec<Value> {
        let entry = |(index, (deployment, api_base)): (usize, (&Deployment, &String))| {
            let model = format!("{}/{}-model", deployment.provider.prefix(), deployment.role);
            let mut params = json!({ "model": model, "api_base": api_base, "api_key": "none" });
            for (name, value) in &deployment.params {
                params[name] = value.clone();
            }
            let mut info = json!({ "id": self.id(index) });
            for (name, value) in &deployment.info {
                info[name] = value.clone();
            }
            json!({ "model_name": self.group(&deployment.role), "litellm_params": params, "model_info": info })
        };
        self.deployments.iter().zip(api_bases).enumerate().map(entry).collect()
    }

    /// Its entries of `fallbacks`.
    pub(crate) fn fallback_lists(&self) -> Vec<Value> {
        let list = |(role, targets): &(String, Vec<String>)| {
            let targets: Vec<String> = targets.iter().map(|target| self.group(target)).collect();
            let mut entry = Map::new();
            entry.insert(self.group(role), targets.into());
            Value::Object(entry)
        };
        self.fallbacks.iter().map(list).collect()
    }

    /// Whether none of its requests waits for anything: all its time is the gateway's own.
    pub(crate) fn is_busy(&self) -> bool {
        let is_quick = |d: &Deployment| match d.fault {
            Fault::Stall | Fault::Blackhole | Fault::Slow | Fault::StallBefore | Fault::StallAfter => false,
            Fault::Healthy | Fault::EarlyEnd | Fault::ErrorLater | Fault::CutAfter => true,
            Fault::Status { status: 400..=404, .. } => true,
            _ => self.retries == 0,
        };
        let pauses = self.pauses.iter().any(|pause| !pause.is_zero());
        !pauses && self.deployments.iter().all(is_quick)
    }

    /// Its request.
    pub(crate) fn ask(&self) -> Ask {
        let ask = Ask::chat_with(&self.group(&self.deployments[0].role), self.streaming, &self.body);
        self.headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value))
    }

    /// What its names stand for in the replies of one gateway, given each deployment's port. Members of one group
    /// are the same to a comparison: which of them is picked is chance.
    pub(crate) fn labels(&self, ports: &[u16]) -> Labels {
        let mut labels = Labels::default();
        for (index, (deployment, port)) in self.deployments.iter().zip(ports).enumerate() {
            labels.port(*port, &deployment.role);
            labels.own_id(&self.id(index));
            let members = self.deployments.iter().filter(|other| other.role == deployment.role).count();
            if members > 1 && !deployment.params.contains_key("order") {
                labels.name(&self.id(index), &format!("<id of {}>", deployment.role));
            }
        }
        labels
    }
}
