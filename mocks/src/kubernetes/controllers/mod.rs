//! The control loops of the mock cluster, and how fast they are.

mod collection;
mod cron_jobs;
mod deployments;
mod endpoint_slices;
pub(crate) mod events;
mod jobs;
pub(crate) mod objects;
pub(crate) mod opponents;
pub(crate) mod reconcile;
mod replica_sets;
mod schedule;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::store::Store;
pub use opponents::Opponent;
use opponents::{Opponents, Pace};

/// How long everything takes that takes time in a cluster. Seconds that objects give (grace periods, deadlines,
/// polling intervals) are real seconds, unless a field here bounds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From a change to what a controller does about it; `observedGeneration` lags by this.
    pub react_after: Duration,
    /// From the making of a pod to its running container.
    pub start_after: Duration,
    /// From the running container to its readiness, for Deployments without an own time.
    pub ready_after: Duration,
    /// How long a process that was asked to end goes on serving, at most its grace period.
    pub exit_after: Duration,
    /// How long the pods of Jobs run.
    pub job_runs: Duration,
    /// From a NetworkPolicy to its effect.
    pub enforce_after: Duration,
    /// From then until an enforcer that looks again at established connections does so.
    pub look_again_after: Duration,
    /// How often deadlines and schedules are compared with the clock.
    pub tick: Duration,
    /// How long a minute of `* * * * *` is; at least a second. Other schedules go by the clock.
    pub minute: Duration,
    /// How long after a drift Argo CD puts it right.
    pub heal_after: Duration,
    /// The longest interval of the opponents, whatever their objects say.
    pub interval_max: Duration,
}

impl Timing {
    /// As a small k3s is, but that a model loads in half a minute.
    #[must_use]
    pub fn realistic() -> Self {
        Self {
            react_after: Duration::from_millis(100),
            start_after: Duration::from_millis(1500),
            ready_after: Duration::from_secs(30),
            exit_after: Duration::from_secs(3),
            job_runs: Duration::from_secs(2),
            enforce_after: Duration::from_secs(1),
            look_again_after: Duration::from_secs(30),
            tick: Duration::from_millis(500),
            minute: Duration::from_secs(60),
            heal_after: Duration::from_secs(2),
            interval_max: Duration::from_secs(86_400),
        }
    }

    /// For tests.
    #[must_use]
    pub fn fast() -> Self {
        Self {
            react_after: Duration::from_millis(3),
            start_after: Duration::from_millis(10),
            ready_after: Duration::from_millis(60),
            exit_after: Duration::from_millis(80),
            job_runs: Duration::from_millis(30),
            enforce_after: Duration::from_millis(40),
            look_again_after: Duration::from_millis(2500),
            tick: Duration::from_millis(20),
            minute: Duration::from_secs(60),
            heal_after: Duration::from_millis(150),
            interval_max: Duration::from_millis(300),
        }
    }
}

/// Starts all controllers. They end with `end`.
pub(crate) fn start(store: &Store, timing: Timing, end: &CancellationToken, tasks: &TaskTracker) {
    let delay = timing.react_after;
    let store = || store.clone();
    let pace = Pace { heal_after: timing.heal_after, interval_max: timing.interval_max, tick: timing.tick };
    macro_rules! start {
        ($($controller:expr),* $(,)?) => {
            $(drop(tasks.spawn(reconcile::run(store(), delay, end.clone(), $controller)));)*
        };
    }
    start![
        deployments::Deployments { store: store() },
        replica_sets::ReplicaSets { store: store() },
        endpoint_slices::EndpointSlices { store: store() },
        jobs::Jobs { store: store(), tick: timing.tick },
        cron_jobs::CronJobs {
            store: store(),
            tick: timing.tick,
            minute: timing.minute,
            passed_over: BTreeMap::new(),
        },
        collection::Collection { store: store() },
        Opponents::new(store(), pace),
    ];
}
