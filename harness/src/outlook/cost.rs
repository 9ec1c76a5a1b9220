//! What one group that fails costs a request.

use super::{KERNEL_S, short};
use crate::verdict::result::{DeploymentSettings, Failing, GatewaySettings};

/// The first pause before a retry; each further one is twice as long.
const PAUSE_S: f64 = 0.5;
/// No pause is longer, without its jitter.
const PAUSE_MAX_S: f64 = 8.0;
/// What chance adds to a pause at most.
const JITTER_S: f64 = 0.75;
/// Whoever retries more often has waited long enough to be told so.
const RETRIES_MAX: u64 = 100;

/// From the least to the most, and how it is made up.
pub(super) struct Cost {
    pub(super) least_s: f64,
    pub(super) most_s: f64,
    pub(super) formula: String,
}

/// The cost of a group whose deployments all fail, for the first request that meets that; `None` where a setting that
/// it depends on is not known.
pub(super) fn cost(
    settings: &GatewaySettings,
    group: &str,
    is_first: bool,
    failing: Failing,
    streamed: bool,
) -> Option<Cost> {
    if settings.retries_by_class {
        return None;
    }
    let own: Vec<&DeploymentSettings> =
        settings.deployments.iter().filter(|deployment| deployment.group == group).collect();
    let attempt = match failing {
        Failing::AtOnce => 0.0,
        Failing::Blackhole => timeout(settings, &own, streamed)?.min(KERNEL_S),
        Failing::Hang => timeout(settings, &own, streamed)?,
    };
    let set = own.iter().map(|deployment| deployment.num_retries.or(settings.num_retries));
    let retries = set.max().unwrap_or(settings.num_retries)?.min(RETRIES_MAX);
    let is_counted = is_first || settings.max_fallbacks == Some(1);
    // A connection that is refused is never counted by one of the providers, so only a timeout is sure to be.
    let cooled_at_once =
        failing != Failing::AtOnce && is_counted && cools_at_once(settings) && own.len() <= 1;
    if retries == 0 || cooled_at_once {
        let formula = format!("{group}: 1 x {} s", short(attempt));
        return Some(Cost { least_s: attempt, most_s: attempt, formula });
    }
    let attempts = retries + 1;
    let floor = settings.retry_after_s.unwrap_or_default();
    let pauses: f64 = (0..attempts)
        .map(|k| (PAUSE_S * 2_f64.powi(i32::try_from(k).unwrap_or(i32::MAX))).max(floor).min(PAUSE_MAX_S))
        .sum();
    let count = attempts as f64;
    // With a second deployment that is not left alone there is no pause.
    let least_pauses = if own.len() > 1 { 0.0 } else { pauses };
    let (least, most) = (count * attempt + least_pauses, count * attempt + pauses + count * JITTER_S);
    let formula = format!(
        "{group}: {attempts} x {} s + {}-{} s of pauses",
        short(attempt),
        short(least_pauses),
        short(pauses + count * JITTER_S)
    );
    Some(Cost { least_s: least, most_s: most, formula })
}

/// The first failure that counts leaves a deployment alone.
fn cools_at_once(settings: &GatewaySettings) -> bool {
    !settings.cooldowns_disabled
        && settings.cooldown_time_s.is_some_and(|time| time > 0.0)
        && settings.allowed_fails == Some(0)
}

/// The longest of the group's deployments.
fn timeout(settings: &GatewaySettings, own: &[&DeploymentSettings], streamed: bool) -> Option<f64> {
    let one = |own_timeout: Option<f64>, own_stream: Option<f64>| {
        let stream = own_stream.or(settings.stream_timeout_s).filter(|_| streamed);
        stream.or(own_timeout).or(settings.timeout_s)
    };
    if own.is_empty() {
        return one(None, None);
    }
    let all: Option<Vec<f64>> =
        own.iter().map(|deployment| one(deployment.timeout_s, deployment.stream_timeout_s)).collect();
    all?.into_iter().max_by(f64::total_cmp)
}
