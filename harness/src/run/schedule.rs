//! How long a run in a cluster may take at the longest, and what a Job must therefore be given, so that undoing always
//! fits before somebody ends it. Sums of the bounds that every wait of a run has.

use std::time::Duration;

use super::at_gateway::LAST_LINES_WITHIN;
use super::conductor::{CONTROL_PROBES, PHASE_MAX};
use super::enter::{DRAINED_WITHIN, FIRST_LOOK_WITHIN, baseline_within};
use super::in_cluster::KNOWN_WITHIN;
use super::leave::{COMPLETION_LIMIT, REACHED_WITHIN, steady_takes};
use super::stop::{CLUSTER_RESTORE_RESERVE, RESTORE_RESERVE};
use super::target::{FILTER_MADE_WITHIN, MADE_WITHIN, Patience, SEEN_AGAIN_WITHIN, TAKEN_DOWN_WITHIN};
use crate::cluster::access::CALL_LIMIT;
use crate::cluster::loki;
use crate::cluster::others;
use crate::cluster::record::{CLOSED_WITHIN, INTENDED_WITHIN, NOTED_WITHIN};
use crate::environment::{Component, Environment, FaultKind, Mechanism};
use crate::plan::{Plan, Step};
use crate::restore::{ANSWERS_WITHIN, earlier_within};
use crate::units::Period;

/// From the Job's first second to that of the program: a node that has to pull the image first.
const STARTED_WITHIN: Duration = Duration::from_secs(120);
/// Waiting for a sweep that holds the lock, and watching whether somebody else does who does not live any more.
const LOCKED_WITHIN: Duration = Duration::from_secs(120);
/// Asking for the records of runs: an API that has a bad moment is asked again, the last time at the end.
const RECORDS_WITHIN: Duration = ANSWERS_WITHIN.saturating_add(CALL_LIMIT);
/// Finding the gateway and asking about permissions, owners and pods: calls that take milliseconds each.
const LOOKED_WITHIN: Duration = Duration::from_secs(120);
/// Asking the gateway how it routes, and the state of openclaw's migration: commands in pods, each bounded, one after the
/// other.
const MIGRATION_WITHIN: Duration = Duration::from_secs(240);
/// Judging and writing the reports, once all is restored.
const REPORTED_WITHIN: Duration = Duration::from_secs(20);
/// A fault shows up by then where no pod has a grace period of more than a minute and a half; a run with one that does
/// may meet its deadline, and ends restored.
const EFFECTIVE_WITHIN: Duration = Duration::from_secs(120);
/// Pods of a gateway, or of the gate before an endpoint, that are each told by themselves: how many there are is not
/// known before the cluster is looked at. A run with more may meet its deadline, and ends restored: they are undone all
/// at once.
const PODS: u32 = 4;
/// In a run that is cut short: whether a component serves is looked at for a moment, with one look under way before and
/// one at the end, and whether new connections reach it; after both looks, whether somebody else keeps it down.
const SERVED_WITHIN: Duration = RESTORE_RESERVE
    .saturating_add(COMPLETION_LIMIT.saturating_mul(2))
    .saturating_add(REACHED_WITHIN)
    .saturating_add(TAKEN_DOWN_WITHIN.saturating_mul(2));
/// What a Job of a run must be given. All are lower bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The longest that a run takes in which every wait takes as long as it may.
    pub longest: Duration,
    /// For `--deadline`: the longest, and the reserve in which a run undoes everything.
    pub deadline: Period,
    /// `activeDeadlineSeconds` of the Job: the run's own deadline always comes first.
    pub active_deadline: Duration,
    /// `terminationGracePeriodSeconds` of the pod: undoing everything after SIGTERM, where what is under way (a change, or
    /// a heal that fails), each undo and each write to the record takes as long as it may, and a write that was not
    /// answered may come through late.
    pub grace: Duration,
}

/// What a Job must be given that runs a plan in an environment.
#[must_use]
pub fn schedule(plan: &Plan, environment: &Environment) -> Schedule {
    let all_undone = undone_within(environment.components.iter(), environment);
    let steps: Duration = plan.steps.iter().map(|step| of_step(plan, step, environment)).sum();
    let longest = before_within(environment) + steps + REPORTED_WITHIN;
    let deadline = in_minutes(longest + CLUSTER_RESTORE_RESERVE);
    let grace = under_way_within(environment)
        + all_undone
        + settled_within(environment.components.len())
        // Everything is read back once more at the end; what is not undone then has one more try, and is read back.
        + read_back_within(environment.components.len())
        + tried_once_more_within(environment)
        + CLOSED_WITHIN
        // The lock is released.
        + CALL_LIMIT
        + SERVED_WITHIN
        + REPORTED_WITHIN;
    Schedule {
        longest,
        deadline: Period(deadline),
        active_deadline: in_minutes(STARTED_WITHIN + deadline + grace),
        grace,
    }
}

/// What to say of a deadline that is shorter than a run may take.
pub(super) fn too_short(deadline: Duration, plan: &Plan, environment: &Environment) -> Option<String> {
    let needed = schedule(plan, environment).deadline;
    (!environment.is_local() && deadline < needed.0).then(|| {
        format!(
            "--deadline {} is shorter than the {needed} that these modes take where every wait takes as long as it may: a \
             run that is slow is cut short then, and not judged to its end",
            Period(deadline)
        )
    })
}

/// How long a log that is kept elsewhere is waited for at the end of a mode, with the look that is under way then.
fn loki_within(environment: &Environment) -> Duration {
    let loki = environment.cluster().and_then(|cluster| cluster.loki.as_ref());
    loki.map_or(Duration::ZERO, |loki| loki.within.0 + loki::READ_WITHIN)
}

/// All that comes before the first mode.
fn before_within(environment: &Environment) -> Duration {
    let postponed = environment.cluster().and_then(|cluster| cluster.postpone);
    postponed.map_or(Duration::ZERO, |postponed| postponed.0)
        + LOCKED_WITHIN
        // What earlier runs have left: what that is, undoing it, and whether anything of it is open then.
        + RECORDS_WITHIN * 2
        + earlier_within(environment)
        + LOOKED_WITHIN
        + environment.cluster().and_then(|cluster| cluster.openclaw.as_ref()).map_or(Duration::ZERO, |_| MIGRATION_WITHIN)
        + others::SEEN_IN
        + KNOWN_WITHIN
}

/// What a run ends first that is cut short, before it undoes everything: a change that it makes; or a heal, which has failed
/// as long as it may and is tried once more then. What it only reads or waits for ends at once.
fn under_way_within(environment: &Environment) -> Duration {
    let made = environment.components.values().map(one_made_within).max().unwrap_or_default();
    let healed = undone_within(environment.components.iter(), environment) + SERVED_WITHIN;
    made.max(healed)
}

/// One mode, from its baseline to its recovery.
fn of_step(plan: &Plan, step: &Step, environment: &Environment) -> Duration {
    let component = |name: &String| environment.components.get_key_value(name);
    let baseline = plan.lead.0
        + FIRST_LOOK_WITHIN * count(step.inject.len())
        + step.routes.iter().map(baseline_within).sum::<Duration>()
        + PHASE_MAX;
    let injected = step.inject.iter().filter_map(|fault| component(&fault.component));
    let inject: Duration =
        injected.map(|(name, component)| made_within(component, pauses(environment, name))).sum();
    let hold = step.hold() + (step.timeout() + Duration::from_secs(5)).max(step.timeout() * CONTROL_PROBES);
    let read = held_read_within(step.inject.len() + step.inherited.len());
    let healed: Vec<(&String, &Component)> = step.heal.iter().filter_map(component).collect();
    let served = healed
        .iter()
        .map(|(_, component)| {
            component.ready_within.0 + COMPLETION_LIMIT + REACHED_WITHIN + TAKEN_DOWN_WITHIN
        })
        .max();
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
        // The last probes, which may begin as late as that, and what the gateway prints of them.
        + step.timeout()
        + LAST_LINES_WITHIN
        + loki_within(environment)
        + if step.heal.is_empty() { Duration::ZERO } else { settled_within(step.heal.len()) }
}

/// Making the changes of a fault, and seeing it in effect on new and old connections.
fn made_within(component: &Component, pauses: u32) -> Duration {
    let drained = match component.down {
        FaultKind::BlackholeBy(_) | FaultKind::Isolate => DRAINED_WITHIN,
        _ => Duration::ZERO,
    };
    one_made_within(component) * (changes(component) + pauses) + EFFECTIVE_WITHIN + drained
}

/// Writing down one change of a fault, and making it.
fn one_made_within(component: &Component) -> Duration {
    let made = match component.down {
        FaultKind::BlackholeBy(Mechanism::NetnsDrop) => FILTER_MADE_WITHIN,
        FaultKind::Nothing => return Duration::ZERO,
        _ => MADE_WITHIN,
    };
    INTENDED_WITHIN + made
}

/// Seeing at the end of a mode that so many faults are still in effect, one after the other: first from the gateway's
/// pods, then by all that was changed for it, which is read at once.
fn held_read_within(faults: usize) -> Duration {
    (SEEN_AGAIN_WITHIN + Patience::IN_CLUSTER.one_read_again()) * count(faults)
}

/// Undoing what was changed for these components, all at once, and reading it back.
fn undone_within<'c>(
    components: impl Iterator<Item = (&'c String, &'c Component)>,
    environment: &Environment,
) -> Duration {
    let rounds: Vec<u32> =
        components.map(|(name, component)| rounds(component) + pauses(environment, name)).collect();
    let slowest = rounds.iter().max().copied().unwrap_or_default();
    if slowest == 0 {
        return Duration::ZERO;
    }
    Patience::IN_CLUSTER.one_undo() * slowest + read_back_within(rounds.len())
}

/// Reading so many components back at once, and writing down what became of them, and what was left to others: however
/// many they are, a write that is under way, and one for all the rest.
fn read_back_within(components: usize) -> Duration {
    Patience::IN_CLUSTER.one_read_back() + NOTED_WITHIN * count(components.min(2))
}

/// Waiting until a write that was not answered can no longer come through, and undoing it where it has at the end.
fn settled_within(components: usize) -> Duration {
    let patience = Patience::IN_CLUSTER;
    patience.lands_within + patience.one_undo() + read_back_within(components)
}

/// One try for each undo, of all components at once, and reading back what became of it.
fn tried_once_more_within(environment: &Environment) -> Duration {
    let all = environment.components.iter();
    let rounds = all.map(|(name, component)| rounds(component) + pauses(environment, name)).max();
    Patience::IN_CLUSTER.last_try * rounds.unwrap_or_default()
        + read_back_within(environment.components.len())
}

/// How many objects are changed to take a component down, one after the other.
fn changes(component: &Component) -> u32 {
    match component.down {
        // One for each pod.
        FaultKind::BlackholeBy(Mechanism::NetnsDrop | Mechanism::EgressProxy) => PODS,
        _ => rounds(component),
    }
}

/// How many undos come one after the other; those of several pods are made at once.
fn rounds(component: &Component) -> u32 {
    match component.down {
        // The Job that ends it, and the policy.
        FaultKind::Isolate | FaultKind::BlackholeBy(Mechanism::NetworkPolicy) => 2,
        FaultKind::Nothing => 0,
        _ => 1,
    }
}

/// Who is told to wait for a component.
fn pauses(environment: &Environment, component: &str) -> u32 {
    count(environment.pause(component).len())
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// Rounded up.
fn in_minutes(duration: Duration) -> Duration {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(seconds.div_ceil(60) * 60)
}

#[cfg(test)]
mod tests;
