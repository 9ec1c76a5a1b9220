//! What settings and requests add to the usual walk: the group's other deployments before its list, a cap on
//! repeats, fields that a fallback target brings.

use std::time::Duration;

use super::lists::is_of_the_prompt;
use super::target::{self, Target};
use super::{CooldownMemory, Failure, GatewayConfig, Over, RequestWalk, provider};
use crate::gateway::config::Provider;

impl RequestWalk {
    /// Whether token counts are asked for on the caller's behalf: of streams whose model, as it was addressed, is one
    /// of OpenAI-compatible servers alone. A deployment's id says nothing of its model.
    #[must_use]
    pub fn asks_for_usage(&self, config: &GatewayConfig) -> bool {
        let members = self.requested.members(config);
        let is_openais = |index: &usize| config.deployments[*index].provider == Provider::HostedVllm;
        self.streaming
            && !matches!(self.requested, Target::Deployment { .. })
            && members.iter().all(is_openais)
    }

    /// With `enable_weighted_failover` the group's other healthy deployments come before its list.
    pub(super) fn fail_over_within(
        &mut self,
        config: &GatewayConfig,
        memory: &CooldownMemory,
        now: Duration,
        failure: &Failure,
    ) -> bool {
        let owner = self.run.target.clone();
        let depth = self.depth();
        let (true, true, Some(failed)) =
            (config.router.weighted_failover, owner.is_group(), failure.deployment)
        else {
            return false;
        };
        if self.overrides.disable_fallbacks
            || is_of_the_prompt(failure.class)
            || depth >= self.max_fallbacks(config)
            || target::has_orders(config, &owner)
        {
            return false;
        }
        self.failed_over.insert(failed);
        let is_left = |deployment: &usize| {
            !memory.is_cooled(*deployment, now) && !self.failed_over.contains(deployment)
        };
        if !owner.members(config).iter().any(is_left) {
            return false;
        }
        let rest = Target::Remaining { name: owner.name().to_owned(), without: self.failed_over.clone() };
        self.attempted.insert((owner.name().to_owned(), None));
        self.push_loop(vec![rest], depth, failure.clone(), owner, Over::Rest);
        true
    }

    /// Once a request has repeated itself as often as it may, each further attempt fails without a call.
    pub(super) fn past_the_cap(&self, config: &GatewayConfig, deployment: usize) -> Option<Failure> {
        let cap = config.router.num_retries_per_request?;
        let reached = self.repeats > 0 && cap <= self.repeats;
        reached.then(|| provider::past_the_cap(config.deployments[deployment].provider))
    }

    /// The target itself, its fields taken over for this hop and all after it.
    pub(super) fn without_fields(&mut self, target: Target) -> Target {
        let Target::Overriding { target, fields } = target else { return target };
        self.fields.extend(fields.into_iter().filter(|(name, _)| name != "model"));
        *target
    }
}
