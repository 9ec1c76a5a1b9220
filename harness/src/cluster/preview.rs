//! What a run would change, ask and run into, found without changing anything.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::access::{Access, CallError};
use super::dead_man::{self, DeadMan};
use super::faults::{Prepared, Wanted, foreseen, prepare};
use super::lease::{self, Claim};
use super::mutation::{Kubectl, Mutation};
use super::permissions::{self, Answer};
use super::record;
use super::refusals::Refusal;
use crate::environment::{Cluster, Environment, Reach};
use crate::units::Period;

/// What stands for the run's id in names.
const RUN: &str = "RUN";
/// On top of what a run needs, before the control plane ends a fault by itself.
const SLACK: Duration = Duration::from_secs(300);
/// No fault is left to the control plane for longer.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// After what time the control plane ends a fault by itself, in a run whose leads and judged times are `demanded`:
/// after twice that and the slowest start.
#[must_use]
pub fn deadline(demanded: Duration, environment: &Environment) -> Period {
    let slowest = environment.components.values().map(|component| component.ready_within.0).max();
    let all = demanded.saturating_mul(2).saturating_add(slowest.unwrap_or_default()).saturating_add(SLACK);
    Period(all.min(DEADLINE_MAX))
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preview {
    /// By component, in the order in which they are taken down first.
    pub faults: Vec<(String, Prepared)>,
    /// What the API says of each verb that a run needs.
    pub answers: Vec<Answer>,
    /// This user may do everything, which is more than a run needs.
    pub may_do_everything: bool,
    /// Who holds the lock.
    pub lock: Option<Claim>,
    /// Runs that may have left something.
    pub open: Vec<String>,
    /// Who restores when this program is lost.
    pub dead_man: Relied,
}

/// What a run relies on if its program is lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Relied {
    /// Nothing is needed: the cluster is lost with it.
    #[default]
    NotNeeded,
    /// Somebody who does it.
    On(DeadMan),
    /// Whoever wants the run has said that it may go on without.
    Waived(DeadMan),
}

impl Relied {
    /// Nobody is proven to restore, and nobody has said that this may be.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::On(DeadMan::Missing(_)))
    }

    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::NotNeeded => {
                "no dead-man switch is needed: the cluster lives inside this program and vanishes with it"
                    .to_owned()
            }
            Self::On(dead_man) => dead_man.words(),
            Self::Waived(dead_man @ DeadMan::Works { .. }) => dead_man.words(),
            Self::Waived(dead_man) => format!(
                "run with --no-dead-man: what is scaled down stays down if this program and its machine are lost, until \
                 somebody calls `harness restore` ({})",
                dead_man.words()
            ),
        }
    }

    /// Why a run must not begin, where it must not.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.is_missing().then(|| Refusal::new(self.words(), dead_man::HINT))
    }
}

/// Looks at all that these components' faults depend on. `waived`: the run may go on without a dead-man switch.
///
/// # Errors
/// Where the API does not answer.
pub async fn look(
    access: &Access,
    environment: &Environment,
    components: &[String],
    deadline: Period,
    waived: bool,
) -> Result<Preview, CallError> {
    let may_do_everything = permissions::may_do_everything(access).await?;
    let mut faults: Vec<(String, Prepared)> = Vec::new();
    for component in components {
        if faults.iter().any(|(known, _)| known == component) {
            continue;
        }
        let wanted = Wanted { component, run: RUN, deadline, targets: BTreeSet::new() };
        let prepared = match prepare(access, environment, &wanted).await {
            Err(error) if error.is_forbidden() => Prepared {
                refusals: vec![Refusal::new(
                    format!("what taking {component} down depends on may not be read: {error}"),
                    "give the right to read it",
                )],
                ..Prepared::default()
            },
            prepared => prepared?,
        };
        faults.push((component.clone(), prepared));
    }
    let mut needs = permissions::needed(environment);
    let mutations: Vec<Mutation> =
        faults.iter().flat_map(|(_, prepared)| prepared.mutations.iter().cloned()).collect();
    needs.extend(permissions::of_mutations(&mutations));
    needs.sort();
    needs.dedup();
    let answers = permissions::ask(access, needs).await?;
    // Whoever lacks a right would only hear that again.
    if permissions::missing(&answers).next().is_none() {
        for (_, prepared) in &mut faults {
            let refused = rehearse(access, &prepared.mutations).await?;
            prepared.refusals.extend(refused);
        }
    }
    let mut preview = Preview { faults, answers, may_do_everything, ..Preview::default() };
    if let Some(cluster) = environment.cluster() {
        let namespace = &cluster.gateway.deployment.namespace;
        // What may not be read is among the permissions that are missing.
        preview.lock = unless_forbidden(lease::look(access, &lease::name(namespace)).await)?.flatten();
        let records = unless_forbidden(record::list(access, namespace).await)?.unwrap_or_default();
        preview.open = records.into_iter().filter(record::Found::is_open).map(|found| found.run).collect();
        preview.dead_man = relied(access, environment, cluster, waived).await?;
    }
    Ok(preview)
}

/// What a run would change in a mock cluster of its own, which there is only while it goes on: by the environment alone.
#[must_use]
pub fn of_mock(environment: &Environment, components: &[String], deadline: Period) -> String {
    let mut text =
        "changes in the mock cluster that a run makes, in this order; those of one fault are undone in the other\n"
            .to_owned();
    for (place, component) in components.iter().enumerate() {
        if components[..place].contains(component) {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "   {component}");
        let wanted = Wanted { component, run: RUN, deadline, targets: BTreeSet::new() };
        let changes = foreseen(environment, &wanted);
        for (change, undo) in &changes {
            let _ = writeln!(text, "      {change}\n         undo: {undo}");
        }
        if changes.is_empty() {
            text.push_str("      nothing\n");
        }
    }
    text.push_str(
        "permissions: all; nobody else owns what is changed, and the cluster vanishes with the run\n",
    );
    text
}

fn unless_forbidden<T>(answer: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_forbidden() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The dead-man switch that a run relies on. `waived`: it may go on without.
///
/// # Errors
/// Where the API does not answer.
pub async fn relied(
    access: &Access,
    environment: &Environment,
    cluster: &Cluster,
    waived: bool,
) -> Result<Relied, CallError> {
    if matches!(cluster.reach, Reach::Embedded { .. }) {
        return Ok(Relied::NotNeeded);
    }
    let namespace = &cluster.gateway.deployment.namespace;
    let found = unless_forbidden(dead_man::look(access, environment, namespace, Timestamp::now()).await)?;
    let found = found.unwrap_or_else(|| DeadMan::Missing("CronJobs may not be listed".to_owned()));
    Ok(if waived { Relied::Waived(found) } else { Relied::On(found) })
}

/// What the cluster itself would say no to.
async fn rehearse(access: &Access, mutations: &[Mutation]) -> Result<Vec<Refusal>, CallError> {
    let mut refused = Vec::new();
    for mutation in mutations {
        match mutation.rehearse(access).await {
            Ok(()) => {}
            // Anything but a refusal of this very object says nothing about what would become of it.
            Err(error) if error.is_refusal() => refused.push(Refusal::new(
                format!("the cluster would not let a run {}: {error}", mutation.words()),
                "see who checks what is made in this namespace: admission policies, quotas",
            )),
            Err(error) if error.is_outcome_unknown() => return Err(error),
            Err(_) => {}
        }
    }
    Ok(refused)
}

impl Preview {
    /// Why a run would be refused, each once.
    #[must_use]
    pub fn refusals(&self) -> BTreeSet<Refusal> {
        let of_faults = self.faults.iter().flat_map(|(_, prepared)| prepared.refusals.iter().cloned());
        of_faults.chain(self.dead_man.refusal()).collect()
    }

    /// Who holds the lock, and what a run would do about it.
    #[must_use]
    pub fn lock_words(&self) -> String {
        self.lock.as_ref().map_or_else(
            || "nobody holds it".to_owned(),
            |claim| format!("held by {}; a run would be refused if that still lives", claim.words()),
        )
    }

    /// Why a run would be refused, in one line.
    #[must_use]
    pub fn refusal(&self) -> String {
        let missing = permissions::missing(&self.answers).map(|need| need.refusal());
        let refusals = self.refusals().into_iter().map(|refusal| refusal.to_string());
        refusals.chain(missing).collect::<Vec<_>>().join("; ")
    }

    /// Whether a run would be refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.refusals().is_empty() || permissions::missing(&self.answers).next().is_some()
    }

    /// All of it in words.
    #[must_use]
    pub fn describe(&self, cluster: &Cluster, name: &str) -> String {
        let kubectl = Kubectl::of(cluster);
        let mut text = format!(
            "changes in the cluster {name}, in this order; those of one fault are undone in the other\n"
        );
        for (component, prepared) in &self.faults {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "   {component}");
            for mutation in &prepared.mutations {
                let _ = writeln!(text, "      {}", mutation.words());
                let _ = writeln!(text, "         undo: {}", mutation.undo_words());
                let _ = writeln!(text, "         by hand: {}", mutation.undo_command(&kubectl));
            }
            if prepared.mutations.is_empty() {
                text.push_str("      nothing\n");
            }
        }
        let granted = self.answers.iter().filter(|answer| answer.allowed).count();
        let _ = writeln!(text, "\npermissions: {granted} of {} granted", self.answers.len());
        text.push_str(&permissions::asked(&self.answers));
        let patch = permissions::patch(&self.answers, &kubectl);
        if !patch.is_empty() {
            let _ = write!(text, "add the others to the Role that this user has:\n{patch}");
        }
        for loss in permissions::losses(&self.answers) {
            let _ = writeln!(text, "note: {loss}");
        }
        if self.may_do_everything {
            text.push_str(
                "note: this user may do everything in the cluster, which is more than a run needs\n",
            );
        }
        let warnings: BTreeSet<&String> =
            self.faults.iter().flat_map(|(_, prepared)| &prepared.warnings).collect();
        for warning in warnings {
            let _ = writeln!(text, "note: {warning}");
        }
        let _ = writeln!(text, "\nlock: {}", self.lock_words());
        for run in &self.open {
            let _ = writeln!(text, "what the run {run} has left would be undone first");
        }
        if !self.dead_man.is_missing() {
            let _ = writeln!(text, "dead-man switch: {}", self.dead_man.words());
        }
        if self.is_refused() {
            text.push_str("\na run would be refused\n");
            for need in permissions::missing(&self.answers) {
                let _ = writeln!(text, "   {}", need.refusal());
            }
            for refusal in self.refusals() {
                let _ = writeln!(text, "   {}\n      {}", refusal.reason, refusal.hint);
            }
        }
        text
    }
}
