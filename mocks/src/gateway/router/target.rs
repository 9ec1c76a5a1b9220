//! What a request or a fallback list addresses, and the pick among its deployments (section 2, step 2).

use std::collections::BTreeSet;

use rand::{Rng, RngExt};

use crate::gateway::config::GatewayConfig;

/// What a request addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A group, perhaps from one `order` level.
    Group { name: String, order: Option<i64> },
    /// All deployments with this `litellm_params.model`.
    ModelString(String),
    /// One deployment by id, past its cooldown.
    Deployment { id: String, index: usize },
}

impl Target {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Group { name, .. } | Self::ModelString(name) | Self::Deployment { id: name, .. } => name,
        }
    }

    pub(super) fn members(&self, config: &GatewayConfig) -> Vec<usize> {
        match self {
            Self::Group { name, .. } => config.members(name).collect(),
            Self::ModelString(model) => {
                let deployments = config.deployments.iter().enumerate();
                deployments.filter(|(_, d)| d.model == *model).map(|(index, _)| index).collect()
            }
            Self::Deployment { index, .. } => vec![*index],
        }
    }

    pub(super) fn key(&self) -> (String, Option<i64>) {
        match self {
            Self::Group { name, order } => (name.clone(), *order),
            other => (other.name().to_owned(), None),
        }
    }
}

pub(super) fn resolve(config: &GatewayConfig, name: &str) -> Option<Target> {
    let deployments = &config.deployments;
    if deployments.iter().any(|d| d.group == name) {
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
    let levels: BTreeSet<i64> = config.members(name).filter_map(|d| config.deployments[d].order).collect();
    levels.len() > 1
}

/// The higher `order` levels of a group, which are tried as hops of their own before the list.
pub(super) fn order_levels(config: &GatewayConfig, owner: &Target) -> Vec<Target> {
    let Target::Group { name, order } = owner else { return Vec::new() };
    let levels: BTreeSet<i64> = config.members(name).filter_map(|d| config.deployments[d].order).collect();
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
