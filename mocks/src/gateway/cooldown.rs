//! Which deployments are in cooldown, and which failure puts one there (section 3).
//!
//! No clock: every call gets `now`, a duration since any fixed instant.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::{ALLOWED_FAILS_UNSET, GatewayConfig};
use super::failure::{ErrorClass, Failure};

/// Window of the built-in rules.
const BUILT_IN_WINDOW: Duration = Duration::from_secs(60);
/// Requests that a one-deployment group must have failed, all of them, before the built-in rules cool it.
const SINGLE_DEPLOYMENT_REQUESTS: u32 = 1000;
/// Requests before a failure rate means anything in larger groups.
const RATE_REQUESTS: u32 = 5;

/// A counter that starts with its first event and dies a fixed time later.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    ends: Duration,
    count: u32,
}

/// What a failure is counted against.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Counter {
    /// `allowed_fails` of the router.
    Router,
    /// `model_info.allowed_fails`.
    Deployment,
    /// A class in `model_info.allowed_fails_policy`.
    DeploymentClass(ErrorClass),
    /// Failures for the built-in rules.
    Failed,
    /// Successes for the built-in rules.
    Succeeded,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Cooldown {
    until: Duration,
    length: Duration,
}

/// The breaker's memory: one per process, lost on restart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CooldownMemory {
    cooldowns: BTreeMap<usize, Cooldown>,
    counters: BTreeMap<(usize, Counter), Window>,
}

impl CooldownMemory {
    /// Whether a deployment is in cooldown.
    #[must_use]
    pub fn is_cooled(&self, deployment: usize, now: Duration) -> bool {
        self.cooldowns.get(&deployment).is_some_and(|cooldown| now < cooldown.until)
    }

    /// Every deployment now in cooldown, in the order of `model_list`.
    #[must_use]
    pub fn cooled(&self, now: Duration) -> Vec<usize> {
        self.cooldowns.keys().copied().filter(|deployment| self.is_cooled(*deployment, now)).collect()
    }

    /// The shortest configured length (not the time left) among the given deployments that are in cooldown.
    #[must_use]
    pub fn shortest_length(&self, deployments: &[usize], now: Duration) -> Option<Duration> {
        deployments
            .iter()
            .filter(|deployment| self.is_cooled(**deployment, now))
            .filter_map(|deployment| self.cooldowns.get(deployment))
            .map(|cooldown| cooldown.length)
            .min()
    }

    /// Notes a success, which the built-in failure-rate rule needs.
    pub fn count_success(&mut self, deployment: usize, now: Duration) {
        self.bump(deployment, Counter::Succeeded, BUILT_IN_WINDOW, now);
    }

    /// Counts a failure and cools its deployment if the rules say so.
    pub fn count_failure(
        &mut self,
        config: &GatewayConfig,
        deployment: usize,
        failure: &Failure,
        now: Duration,
    ) {
        self.bump(deployment, Counter::Failed, BUILT_IN_WINDOW, now);
        let length = cooldown_length(config, deployment, failure);
        if config.router.disable_cooldowns || length.is_zero() || is_ignored(config, deployment, failure) {
            return;
        }
        if self.should_cool(config, deployment, failure, now) {
            self.cooldowns.insert(deployment, Cooldown { until: now.saturating_add(length), length });
        }
    }

    fn should_cool(
        &mut self,
        config: &GatewayConfig,
        index: usize,
        failure: &Failure,
        now: Duration,
    ) -> bool {
        let deployment = &config.deployments[index];
        let router = &config.router;
        let single = config.members(&deployment.group).count() == 1;
        let own_limit = class_limit(config, index, failure.class);
        let router_limit = router.allowed_fails_policy.as_ref().and_then(|policy| policy.get(failure.class));
        if single && failure.status == 402 && own_limit.is_none() && router_limit.is_none() {
            return false;
        }
        // A deployment's own cooldown length is its window only where its own limits are in play.
        let own_rules = deployment.allowed_fails_policy.is_some() || deployment.allowed_fails.is_some();
        let window = deployment.cooldown_time.filter(|_| own_rules).unwrap_or(router.cooldown_time);
        if let Some(limit) = own_limit {
            return self.bump(index, Counter::DeploymentClass(failure.class), window, now) > limit;
        }
        if let Some(limit) = deployment.allowed_fails {
            return !single && self.bump(index, Counter::Deployment, window, now) > limit;
        }
        if deployment.allowed_fails_policy.is_some()
            || router.allowed_fails_policy.is_some()
            || router.allowed_fails != ALLOWED_FAILS_UNSET
        {
            let limit = router_limit.unwrap_or(router.allowed_fails);
            return self.bump(index, Counter::Router, window, now) > limit;
        }
        self.built_in_rules(index, failure.inner_status(), single, now)
    }

    fn built_in_rules(&self, deployment: usize, status: u16, single: bool, now: Duration) -> bool {
        let failed = self.count(deployment, Counter::Failed, now);
        let total = failed.saturating_add(self.count(deployment, Counter::Succeeded, now));
        match status {
            429 if !single => true,
            200 | 401 | 404 => true,
            402 => !single,
            _ if failed == total && total >= SINGLE_DEPLOYMENT_REQUESTS => true,
            _ => !single && total >= RATE_REQUESTS && u64::from(failed) * 2 > u64::from(total),
        }
    }

    fn count(&self, deployment: usize, counter: Counter, now: Duration) -> u32 {
        self.counters.get(&(deployment, counter)).filter(|window| now < window.ends).map_or(0, |w| w.count)
    }

    fn bump(&mut self, deployment: usize, counter: Counter, length: Duration, now: Duration) -> u32 {
        let fresh = Window { ends: now.saturating_add(length), count: 0 };
        let window = self.counters.entry((deployment, counter)).or_insert(fresh);
        if now >= window.ends {
            *window = fresh;
        }
        window.count = window.count.saturating_add(1);
        window.count
    }
}

/// Deployment > upstream `Retry-After` > router (section 1).
fn cooldown_length(config: &GatewayConfig, deployment: usize, failure: &Failure) -> Duration {
    config.deployments[deployment]
        .cooldown_time
        .or(failure.retry_after_s.map(|seconds| Duration::from_secs(u64::from(seconds))))
        .unwrap_or(config.router.cooldown_time)
}

fn class_limit(config: &GatewayConfig, deployment: usize, class: ErrorClass) -> Option<u32> {
    config.deployments[deployment].allowed_fails_policy.as_ref().and_then(|policy| policy.get(class))
}

/// Rule 1: connection errors of `ollama_chat`, and client errors that say nothing about the deployment.
fn is_ignored(config: &GatewayConfig, deployment: usize, failure: &Failure) -> bool {
    let named = class_limit(config, deployment, failure.class).is_some();
    let about_the_deployment =
        !(400..500).contains(&failure.status) || matches!(failure.status, 401 | 402 | 404 | 408 | 429);
    !named && (!about_the_deployment || failure.message.contains("APIConnectionError"))
}

#[cfg(test)]
mod tests;
