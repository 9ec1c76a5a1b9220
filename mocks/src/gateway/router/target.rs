//! What a request or a fallback list addresses, and the pick among its deployments (section 2, step 2).

use std::collections::BTreeSet;

use rand::{Rng, RngExt};
use serde_json::{Map, Value};

use crate::gateway::config::GatewayConfig;
use crate::gateway::provider::python_repr;

/// What a request addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A group, perhaps from one `order` level.
    Group { name: String, order: Option<i64> },
    /// All deployments with this `litellm_params.model`.
    ModelString(String),
    /// One deployment by id, past its cooldown.
    Deployment { id: String, index: usize },
    /// A name in a fallback list that nothing answers to.
    Nothing(String),
    /// A group without the deployments that have failed in this request.
    Remaining { name: String, without: BTreeSet<usize> },
    /// An entry of a request's own list, with fields that replace those of its body.
    Overriding { target: Box<Target>, fields: Map<String, Value> },
}

impl Target {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Group { name, .. }
            | Self::ModelString(name)
            | Self::Deployment { id: name, .. }
            | Self::Nothing(name)
            | Self::Remaining { name, .. } => name,
            Self::Overriding { target, .. } => target.name(),
        }
    }

    /// How messages name it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Overriding { fields, .. } => python_repr(&Value::Object(fields.clone())),
            other => other.name().to_owned(),
        }
    }

    /// Addressed by the name of a group.
    pub(super) fn is_group(&self) -> bool {
        matches!(self, Self::Group { .. } | Self::Remaining { .. })
    }

    pub(super) fn members(&self, config: &GatewayConfig) -> Vec<usize> {
        match self {
            Self::Group { name, .. } | Self::Remaining { name, .. } => {
                config.members(config.router.aliased(name)).collect()
            }
            Self::ModelString(model) => {
                let deployments = config.deployments.iter().enumerate();
                deployments.filter(|(_, d)| d.model == *model).map(|(index, _)| index).collect()
            }
            Self::Deployment { index, .. } => vec![*index],
            Self::Nothing(_) => Vec::new(),
            Self::Overriding { target, .. } => target.members(config),
        }
    }

    pub(super) fn key(&self) -> (String, Option<i64>) {
        match self {
            Self::Group { name, order } => (name.clone(), *order),
            // With the model alone it is the same attempt as its bare name.
            Self::Overriding { target, fields } if fields.len() == 1 => target.key(),
            Self::Overriding { .. } => (self.shown(), None),
            Self::Remaining { name, without } => (format!("{name} without {without:?}"), None),
            other => (other.name().to_owned(), None),
        }
    }
}

pub(super) fn resolve(config: &GatewayConfig, name: &str) -> Option<Target> {
    let deployments = &config.deployments;
    if deployments.iter().any(|d| d.group == config.router.aliased(name)) {
        // A deployment whose id equals its group's name is reached as the group.
        return Some(Target::Group { name: name.to_owned(), order: None });
    }
    if let Some(index) = deployments.iter().position(|d| d.id == name) {
        return Some(Target::Deployment { id: name.to_owned(), index });
    }
    deployments.iter().any(|d| d.model == name).then(|| Target::ModelString(name.to_owned()))
}

/// Whether a group has more than one `order` level.
pub(super) fn has_orders(config: &GatewayConfig, owner: &Target) -> bool {
    let Target::Group { name, .. } = owner else { return false };
    let members = config.members(config.router.aliased(name));
    let levels: BTreeSet<i64> = members.filter_map(|d| config.deployments[d].order).collect();
    levels.len() > 1
}

/// The higher `order` levels of a group, which are tried as hops of their own before the list.
pub(super) fn order_levels(config: &GatewayConfig, owner: &Target) -> Vec<Target> {
    let Target::Group { name, order } = owner else { return Vec::new() };
    let members = config.members(config.router.aliased(name));
    let levels: BTreeSet<i64> = members.filter_map(|d| config.deployments[d].order).collect();
    let Some(tried) = order.or(levels.first().copied()) else { return Vec::new() };
    let higher = levels.into_iter().filter(|level| *level > tried);
    higher.map(|level| Target::Group { name: name.clone(), order: Some(level) }).collect()
}

pub(super) fn weighted_pick(
    config: &GatewayConfig,
    candidates: &[usize],
    rng: &mut impl Rng,
) -> Option<usize> {
    let last = *candidates.last()?;
    if candidates.len() == 1 {
        return Some(last);
    }
    let weighted = candidates.iter().any(|deployment| config.deployments[*deployment].weight.is_some());
    let weight = |deployment: usize| {
        if weighted { config.deployments[deployment].weight.unwrap_or(0.0) } else { 1.0 }
    };
    let total: f64 = candidates.iter().map(|deployment| weight(*deployment)).sum();
    if total <= 0.0 {
        return candidates.get(rng.random_range(0..candidates.len())).copied();
    }
    let mut left = rng.random::<f64>() * total;
    for deployment in candidates {
        left -= weight(*deployment);
        if left < 0.0 {
            return Some(*deployment);
        }
    }
    Some(last)
}
