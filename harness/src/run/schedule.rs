//! How long a run in a cluster may take at the longest, and what a Job must therefore be given, so that undoing always
//! fits before somebody ends it. Sums of the bounds that every wait of a run has.

use std::time::Duration;

use super::conductor::CONTROL_PROBES;
use super::enter::{BASELINE_WITHIN, DRAINED_WITHIN, FIRST_LOOK_WITHIN};
use super::in_cluster::KNOWN_WITHIN;
use super::leave::{COMPLETION_LIMIT, REACHED_WITHIN, steady_takes};
use super::stop::{CLUSTER_RESTORE_RESERVE, RESTORE_RESERVE};
use super::target::Patience;
use crate::cluster::access::CALL_LIMIT;
use crate::cluster::others;
use crate::environment::{Component, Environment, FaultKind, Mechanism};
use crate::plan::{Plan, Step};
use crate::units::Period;

/// From the Job's first second to that of the program: a node that has to pull the image first.
const STARTED_WITHIN: Duration = Duration::from_secs(120);
/// Watching whether somebody else holds the lock who does not live any more.
const LOCKED_WITHIN: Duration = Duration::from_secs(60);
/// Finding the gateway and asking about permissions, owners and pods: calls that take milliseconds each.
const LOOKED_WITHIN: Duration = Duration::from_secs(120);
/// Judging and writing the reports, once all is restored.
const REPORTED_WITHIN: Duration = Duration::from_secs(20);
/// A fault shows up by then where no pod has a grace period of more than a minute and a half; a run with one that does
/// may meet its deadline, and ends restored.
const EFFECTIVE_WITHIN: Duration = Duration::from_secs(120);
/// Between the baseline and the first fault.
const PHASE_MAX: Duration = Duration::from_secs(2);

/// What a Job of a run must be given. All are lower bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The longest that a run takes in which every wait takes as long as it may.
    pub longest: Duration,
    /// For `--deadline`: the longest, and the reserve in which a run undoes everything.
    pub deadline: Period,
    /// `activeDeadlineSeconds` of the Job: the run's own deadline always comes first.
    pub active_deadline: Duration,
    /// `terminationGracePeriodSeconds` of the pod: undoing everything after SIGTERM, where each undo has to be tried
    /// again until its bound.
    pub grace: Duration,
}

/// What a Job must be given that runs a plan in an environment.
#[must_use]
pub fn schedule(plan: &Plan, environment: &Environment) -> Schedule {
    let postponed = environment.cluster().and_then(|cluster| cluster.postpone);
    let all_undone = undone_within(environment.components.values(), environment);
    let before = postponed.map_or(Duration::ZERO, |postponed| postponed.0)
        + LOCKED_WITHIN
        // What an earlier run has left.
        + all_undone
        + LOOKED_WITHIN
        + others::SEEN_IN
        + KNOWN_WITHIN;
    let steps: Duration = plan.steps.iter().map(|step| of_step(plan, step, environment)).sum();
    let longest = before + steps + REPORTED_WITHIN;
    let deadline = in_minutes(longest + CLUSTER_RESTORE_RESERVE);
    let grace = all_undone + RESTORE_RESERVE + REPORTED_WITHIN;
    Schedule {
        longest,
        deadline: Period(deadline),
        active_deadline: in_minutes(STARTED_WITHIN + deadline + grace),
        grace,
    }
}

/// One mode, from its baseline to its recovery.
fn of_step(plan: &Plan, step: &Step, environment: &Environment) -> Duration {
    let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    let component = |name: &String| environment.components.get(name);
    let baseline = plan.lead.0
        + FIRST_LOOK_WITHIN * count(step.inject.len())
        + BASELINE_WITHIN * count(step.routes.len())
        + PHASE_MAX;
    let inject: Duration =
        step.inject.iter().filter_map(|fault| component(&fault.component)).map(made_within).sum();
    let hold = step.hold() + (step.timeout() + Duration::from_secs(5)).max(step.timeout() * CONTROL_PROBES);
    // Each fault that is in effect is read back at the end.
    let read = Patience::IN_CLUSTER.read_again_within * count(step.inject.len() + step.inherited.len());
    let healed: Vec<&Component> = step.heal.iter().filter_map(component).collect();
    let served =
        healed.iter().map(|component| component.ready_within.0 + COMPLETION_LIMIT + REACHED_WITHIN).max();
    let recovered = step.routes.iter().filter_map(|route| {
        let recovery = route.recover.as_ref()?;
        Some(recovery.within.0 + steady_takes(route))
    });
    baseline
        + inject
        + hold
        + read
        + undone_within(healed.into_iter(), environment)
        + served.unwrap_or_default()
        + recovered.max().unwrap_or_default()
        // The last probes, which may begin as late as that.
        + step.timeout()
}

/// Making the changes of a fault, and seeing it in effect on new and old connections.
fn made_within(component: &Component) -> Duration {
    let drained = match component.down {
        FaultKind::BlackholeBy(_) | FaultKind::Isolate => DRAINED_WITHIN,
        _ => Duration::ZERO,
    };
    CALL_LIMIT * mutations(component, 0) + EFFECTIVE_WITHIN + drained
}

/// Undoing what was changed for these components, one after the other, and reading it back.
fn undone_within<'c>(components: impl Iterator<Item = &'c Component>, environment: &Environment) -> Duration {
    let pauses = |component: &Component| {
        let known = environment.components.iter().find(|(_, known)| *known == component);
        known.map_or(0, |(name, _)| environment.pause(name).len())
    };
    let patience = Patience::IN_CLUSTER;
    components
        // A try that begins at the end of its time takes one call more.
        .map(|component| {
            (patience.undo_within + CALL_LIMIT) * mutations(component, pauses(component))
                + patience.read_back_within
        })
        .sum()
}

/// How many objects are changed to take a component down.
fn mutations(component: &Component, pauses: usize) -> u32 {
    let own = match component.down {
        // The Job that ends it, and the policy.
        FaultKind::Isolate | FaultKind::BlackholeBy(Mechanism::NetworkPolicy) => 2,
        FaultKind::Nothing => 0,
        _ => 1,
    };
    own + u32::try_from(pauses).unwrap_or(u32::MAX)
}

/// Rounded up.
fn in_minutes(duration: Duration) -> Duration {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(seconds.div_ceil(60) * 60)
}
