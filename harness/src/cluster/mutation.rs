//! What is changed in a cluster: one list for a plan that is shown and for a run that does it, each change with its
//! undo. A mutation is plain data: whoever finds it in a journal can undo it from anywhere.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::{Access, CALL_LIMIT, CallError, Failure, Target, Verb};
use super::faults::gate::{ControlAt, Gate};
use super::faults::netns::{self, NetnsDrop};
use super::faults::policy::{Anchor, Policy};
use super::faults::scale::Scale;
use super::opponents::pause::Pause;
use crate::environment::quoted;

/// How often a change is tried again after something else in the object has changed meanwhile.
pub(super) const ATTEMPTS: usize = 5;

/// What makes a change is sent again and again for so long, and then no more.
pub const SENT_WITHIN: Duration = Duration::from_secs(30);
/// The same for a packet filter, which a container has to put there.
pub const FILTER_SENT_WITHIN: Duration = netns::RUNS_WITHIN.saturating_add(CALL_LIMIT.saturating_mul(2));

/// One change of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mutation {
    /// A Deployment has no pods.
    Scale(Scale),
    /// A Job without pods that ends what it owns when its time is over.
    Anchor(Anchor),
    /// A NetworkPolicy that the Job owns.
    Policy(Box<Policy>),
    /// A packet filter in the network of a pod, which the kernel ends when its time is over.
    NetnsDrop(Box<NetnsDrop>),
    /// Somebody who would fight the change is told to wait.
    Pause(Box<Pause>),
    /// A fault gate is told to hold a fault, which it ends itself when its time is over.
    Gate(Box<Gate>),
}

/// The object as a mutation has left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its uid.
    pub uid: String,
    /// Its version; a watch from here on sees what others do.
    pub resource_version: String,
}

/// What an undo came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undone {
    /// It was undone now.
    Now,
    /// It was undone before, or never done.
    Before,
    /// Somebody has changed it since: it was left as it is.
    LeftAlone {
        /// What was found instead.
        saw: String,
    },
}

/// What an object says about a mutation when it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadBack {
    /// It is as the mutation left it.
    Done,
    /// It is as it was before.
    Undone,
    /// It is neither.
    Other {
        /// What was found instead.
        saw: String,
    },
}

/// Why a mutation was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MutationError {
    /// The API did not do it, or it is not known whether it did.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The object is no longer as it was when the mutation was prepared.
    #[error("{object} has changed since it was looked at: expected {expected}, found {saw}")]
    Changed {
        /// Which.
        object: String,
        /// What was expected.
        expected: String,
        /// What was found.
        saw: String,
    },
    /// A write was not answered, and what followed does not tell whether it came through: it may still do so.
    #[error("{last}; an earlier write to {object} was not answered, and may have been made")]
    Unsure {
        /// Which.
        object: String,
        /// What was met last.
        last: Box<MutationError>,
    },
}

impl MutationError {
    /// Whether the change was made is not known: it has to be undone.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Call(call) => call.is_outcome_unknown(),
            Self::Changed { .. } => false,
            Self::Unsure { .. } => true,
        }
    }

    /// The same, met after a write to this object that may have been made: no error is a definite no any more.
    pub(super) fn after_a_write_to(self, object: String) -> Self {
        if self.is_outcome_unknown() { self } else { Self::Unsure { object, last: Box::new(self) } }
    }
}

impl Mutation {
    /// The longest that making it takes; nothing is sent for it after that.
    #[must_use]
    pub const fn sent_within(&self) -> Duration {
        match self {
            Self::NetnsDrop(_) => FILTER_SENT_WITHIN,
            _ => SENT_WITHIN,
        }
    }

    /// The object, as people write it: `deployments/scale ml/vllm`.
    #[must_use]
    pub fn object(&self) -> String {
        match self {
            Self::Scale(scale) => scale.object(),
            Self::Anchor(anchor) => anchor.object(),
            Self::Policy(policy) => policy.object(),
            Self::NetnsDrop(drop) => drop.object(),
            Self::Pause(pause) => pause.object(),
            Self::Gate(gate) => gate.object(),
        }
    }

    /// What tells it from every other change that may be open beside it: two of one key would not know which of them
    /// found the object as it was.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::NetnsDrop(drop) => drop.key(),
            other => other.object(),
        }
    }

    /// The object, as events of the API refer to it; nothing where it is none of a cluster.
    #[must_use]
    pub fn reference(&self) -> serde_json::Value {
        let (version, kind, name, uid) = match self {
            Self::Scale(scale) => ("apps/v1".to_owned(), "Deployment", &scale.deployment, scale.uid.as_str()),
            Self::Anchor(anchor) => ("batch/v1".to_owned(), "Job", &anchor.job, ""),
            Self::Policy(policy) => ("networking.k8s.io/v1".to_owned(), "NetworkPolicy", &policy.policy, ""),
            Self::NetnsDrop(drop) => ("v1".to_owned(), "Pod", &drop.pod, drop.uid.as_str()),
            Self::Pause(pause) => (
                format!("{}/{}", pause.kind.group, pause.kind.version),
                pause.kind.kind.as_ref(),
                &pause.object,
                pause.uid.as_str(),
            ),
            Self::Gate(gate) => match &gate.at {
                ControlAt::Pod { pod, uid, .. } => ("v1".to_owned(), "Pod", pod, uid.as_str()),
                ControlAt::Here(_) => return serde_json::Value::Null,
            },
        };
        serde_json::json!({
            "apiVersion": version, "kind": kind, "namespace": name.namespace, "name": name.name, "uid": uid,
        })
    }

    /// What is done, in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Scale(scale) => scale.words(),
            Self::Anchor(anchor) => anchor.words(),
            Self::Policy(policy) => policy.words(),
            Self::NetnsDrop(drop) => drop.words(),
            Self::Pause(pause) => pause.words(),
            Self::Gate(gate) => gate.words(),
        }
    }

    /// What undoes it, in words.
    #[must_use]
    pub fn undo_words(&self) -> String {
        match self {
            Self::Scale(scale) => scale.undo_words(),
            Self::Anchor(anchor) => anchor.undo_words(),
            Self::Policy(policy) => policy.undo_words(),
            Self::NetnsDrop(drop) => drop.undo_words(),
            Self::Pause(pause) => pause.undo_words(),
            Self::Gate(gate) => gate.undo_words(),
        }
    }

    /// What a person types to undo it, whatever has become of this program.
    #[must_use]
    pub fn undo_command(&self, kubectl: &Kubectl) -> String {
        match self {
            Self::Scale(scale) => scale.undo_command(kubectl),
            Self::Anchor(anchor) => anchor.undo_command(kubectl),
            Self::Policy(policy) => policy.undo_command(kubectl),
            Self::NetnsDrop(drop) => drop.undo_command(kubectl),
            Self::Pause(pause) => pause.undo_command(kubectl),
            Self::Gate(gate) => gate.undo_command(kubectl),
        }
    }

    /// What a person types instead of [`Self::undo_command`], where undoing it has failed in a way that shows that
    /// this would fail, too.
    #[must_use]
    pub fn undo_command_instead(&self, failed: &CallError, kubectl: &Kubectl) -> Option<String> {
        match (self, &failed.failure) {
            (Self::NetnsDrop(drop), Failure::Container(_)) => Some(drop.delete_command(kubectl)),
            _ => None,
        }
    }

    /// Asks the API to do all that making the change does but to keep it, so that what refuses it (admission, quota,
    /// policy) is known before. Does not ask about pauses and gates, which nobody but their owner checks.
    ///
    /// # Errors
    /// Why it would not be made.
    pub async fn rehearse(&self, access: &Access) -> Result<(), CallError> {
        match self {
            Self::Scale(scale) => scale.rehearse(access).await,
            Self::Anchor(anchor) => anchor.rehearse(access).await,
            Self::Policy(policy) => policy.rehearse(access).await,
            Self::NetnsDrop(drop) => drop.rehearse(access).await,
            Self::Pause(_) | Self::Gate(_) => Ok(()),
        }
    }

    /// Makes the change, if the object is still as it was when this was prepared. Where there is no cluster, and so no
    /// access, only gates on this machine can be changed.
    ///
    /// # Errors
    /// Where it was not made, or that is not known: undo it either way.
    pub async fn apply(&self, access: impl Into<Option<&Access>>) -> Result<Applied, MutationError> {
        let access = access.into();
        match self {
            Self::Scale(scale) => scale.apply(reached(access)?).await,
            Self::Anchor(anchor) => anchor.apply(reached(access)?).await,
            Self::Policy(policy) => policy.apply(reached(access)?).await,
            Self::NetnsDrop(drop) => drop.apply(reached(access)?).await,
            Self::Pause(pause) => pause.apply(reached(access)?).await,
            Self::Gate(gate) => gate.apply(access).await,
        }
    }

    /// Undoes the change, if the object is still as it was left. Can be repeated.
    ///
    /// # Errors
    /// Where it is not undone, or that is not known: try again.
    pub async fn undo(&self, access: impl Into<Option<&Access>>) -> Result<Undone, CallError> {
        let access = access.into();
        match self {
            Self::Scale(scale) => scale.undo(reached(access)?).await,
            Self::Anchor(anchor) => anchor.undo(reached(access)?).await,
            Self::Policy(policy) => policy.undo(reached(access)?).await,
            Self::NetnsDrop(drop) => drop.undo(reached(access)?).await,
            Self::Pause(pause) => pause.undo(reached(access)?).await,
            Self::Gate(gate) => gate.undo(access).await,
        }
    }

    /// Reads what has become of it; changes nothing.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn read_back(&self, access: impl Into<Option<&Access>>) -> Result<ReadBack, CallError> {
        let access = access.into();
        match self {
            Self::Scale(scale) => scale.read_back(reached(access)?).await,
            Self::Anchor(anchor) => anchor.read_back(reached(access)?).await,
            Self::Policy(policy) => policy.read_back(reached(access)?).await,
            Self::NetnsDrop(drop) => drop.read_back(reached(access)?).await,
            Self::Pause(pause) => pause.read_back(reached(access)?).await,
            Self::Gate(gate) => gate.read_back(access).await,
        }
    }
}

impl Mutation {
    /// That somebody else has made something else of it, once it was undone or before it could be.
    pub(crate) fn taken_over_words(&self, was_undone: bool, who: Option<&str>, saw: &str) -> String {
        let object = self.object();
        match (was_undone, who) {
            (true, Some(who)) => format!("{object} was undone, and has been changed by {who} since: {saw}"),
            (true, None) => {
                format!(
                    "{object} was undone, and is not as it was before any more: {saw}; by whom is not known"
                )
            }
            (false, Some(who)) => {
                format!("{object} was not undone here, and is left as {who} has changed it: {saw}")
            }
            (false, None) => {
                format!("{object} was not undone here, and is left as it is now: {saw}; by whom is not known")
            }
        }
    }

    /// That the object itself keeps its component down now, whoever wants that, in words; told of counts only.
    pub(crate) async fn is_down(&self, access: Option<&Access>) -> Result<Option<String>, CallError> {
        match self {
            Self::Scale(scale) => scale.is_down(reached(access)?).await,
            _ => Ok(None),
        }
    }

    /// Who has changed it after us, where that is told of such an object.
    pub(crate) async fn changed_by(&self, access: Option<&Access>) -> Option<String> {
        match (self, access) {
            (Self::Scale(scale), Some(access)) => scale.changed_by(access).await,
            _ => None,
        }
    }
}

/// Only what is on this machine can be changed without a cluster.
fn reached(access: Option<&Access>) -> Result<&Access, CallError> {
    access.ok_or_else(|| CallError {
        verb: Verb::Get,
        target: Target::outside("the object"),
        failure: Failure::NoCluster,
    })
}

/// How lines for `kubectl` begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubectl {
    kubeconfig: Option<String>,
    context: Option<String>,
}

impl Kubectl {
    /// For a context, or for the cluster that a pod is in.
    #[must_use]
    pub fn new(context: Option<&str>) -> Self {
        Self { kubeconfig: None, context: context.map(str::to_owned) }
    }

    /// For an environment's cluster.
    #[must_use]
    pub fn of(cluster: &crate::environment::Cluster) -> Self {
        use crate::environment::Reach;
        match &cluster.reach {
            Reach::InCluster => Self::new(None),
            Reach::Context { context, kubeconfig } => {
                let kubeconfig = kubeconfig.as_ref().map(|file| file.display().to_string());
                Self { kubeconfig, context: Some(context.clone()) }
            }
            Reach::Embedded { context, .. } => Self::new(Some(context)),
        }
    }

    /// A line for a namespace.
    #[must_use]
    pub fn line(&self, namespace: &str, rest: impl fmt::Display) -> String {
        self.whole(format!("-n {namespace} {rest}"))
    }

    /// A line for what has no namespace.
    #[must_use]
    pub fn whole(&self, rest: impl fmt::Display) -> String {
        let option = |name: &str, value: &Option<String>| {
            value.as_ref().map_or(String::new(), |value| format!(" --{name} {}", quoted(value)))
        };
        let (file, context) = (option("kubeconfig", &self.kubeconfig), option("context", &self.context));
        format!("kubectl{file}{context} {rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::Kubectl;

    #[test]
    fn a_line_names_its_context_where_there_is_one() {
        assert_eq!(Kubectl::new(None).line("ml", "get pods"), "kubectl -n ml get pods");
        let line = Kubectl::new(Some("my home")).line("ml", "get pods");
        assert_eq!(line, "kubectl --context 'my home' -n ml get pods");
    }
}
