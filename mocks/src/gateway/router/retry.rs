//! Whether to try a group again, and after which sleep (section 2, step 4).

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::gateway::failure::{ErrorClass, Failure};

/// Longest backoff before jitter.
const BACKOFF_CAP_S: f64 = 8.0;
/// First backoff before jitter.
const BACKOFF_BASE_S: f64 = 0.5;
/// Jitter is uniform in `[0, JITTER_S)`.
const JITTER_S: f64 = 0.75;
/// A `Retry-After` in this range replaces the backoff.
const RETRY_AFTER_RANGE_S: std::ops::RangeInclusive<u32> = 1..=60;

/// 408, 409, 429 and 5xx.
pub(super) fn is_retryable_status(status: u16) -> bool {
    matches!(status, 408 | 409 | 429) || status >= 500
}

/// 401 and 403 are tried again where another member may have a better key, and also where the class does not tell
/// what they are (403 of `hosted_vllm`).
pub(super) fn worth_retrying(failure: &Failure, members: usize, healthy: usize) -> bool {
    let is_known = matches!(failure.class, ErrorClass::Authentication | ErrorClass::PermissionDenied);
    let status = failure.inner_status();
    let another_key_may_help = matches!(status, 401 | 403) && (members > 1 || !is_known);
    healthy > 0 && (is_retryable_status(status) || another_key_may_help)
}

/// Sleep number `k` (step 4).
pub(super) fn backoff(k: u32, floor: Duration, retry_after_s: Option<u32>, rng: &mut impl Rng) -> Duration {
    let jitter = rng.random::<f64>() * JITTER_S;
    let base = match retry_after_s.filter(|seconds| RETRY_AFTER_RANGE_S.contains(seconds)) {
        Some(seconds) => f64::from(seconds),
        None => {
            let doubled = BACKOFF_BASE_S * 2_f64.powi(i32::try_from(k.min(16)).unwrap_or(16));
            doubled.max(floor.as_secs_f64()).min(BACKOFF_CAP_S)
        }
    };
    Duration::from_secs_f64(base + jitter)
}
