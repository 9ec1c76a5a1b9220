//! What is changed in a cluster: one list for a plan that is shown and for a run that does it, each change with its
//! undo. A mutation is plain data: whoever finds it in a journal can undo it from anywhere.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::access::{Access, CallError};
use super::faults::netns::NetnsDrop;
use super::faults::policy::{Anchor, Policy};
use super::faults::scale::Scale;
use super::opponents::pause::Pause;

/// How often a change is tried again after something else in the object has changed meanwhile.
pub(super) const ATTEMPTS: usize = 5;

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
}

impl Mutation {
    /// The object, as people write it: `deployments/scale ml/vllm`.
    #[must_use]
    pub fn object(&self) -> String {
        match self {
            Self::Scale(scale) => scale.object(),
            Self::Anchor(anchor) => anchor.object(),
            Self::Policy(policy) => policy.object(),
            Self::NetnsDrop(drop) => drop.object(),
            Self::Pause(pause) => pause.object(),
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

    /// The object, as events of the API refer to it.
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
        }
    }

    /// Asks the API to do all that making the change does but to keep it, so that what refuses it (admission, quota,
    /// policy) is known before. Does not ask about pauses.
    ///
    /// # Errors
    /// Why it would not be made.
    pub async fn rehearse(&self, access: &Access) -> Result<(), CallError> {
        match self {
            Self::Scale(scale) => scale.rehearse(access).await,
            Self::Anchor(anchor) => anchor.rehearse(access).await,
            Self::Policy(policy) => policy.rehearse(access).await,
            Self::NetnsDrop(drop) => drop.rehearse(access).await,
            Self::Pause(_) => Ok(()),
        }
    }

    /// Makes the change, if the object is still as it was when this was prepared.
    ///
    /// # Errors
    /// Where it was not made, or that is not known: undo it either way.
    pub async fn apply(&self, access: &Access) -> Result<Applied, MutationError> {
        match self {
            Self::Scale(scale) => scale.apply(access).await,
            Self::Anchor(anchor) => anchor.apply(access).await,
            Self::Policy(policy) => policy.apply(access).await,
            Self::NetnsDrop(drop) => drop.apply(access).await,
            Self::Pause(pause) => pause.apply(access).await,
        }
    }

    /// Undoes the change, if the object is still as it was left. Can be repeated.
    ///
    /// # Errors
    /// Where it is not undone, or that is not known: try again.
    pub async fn undo(&self, access: &Access) -> Result<Undone, CallError> {
        match self {
            Self::Scale(scale) => scale.undo(access).await,
            Self::Anchor(anchor) => anchor.undo(access).await,
            Self::Policy(policy) => policy.undo(access).await,
            Self::NetnsDrop(drop) => drop.undo(access).await,
            Self::Pause(pause) => pause.undo(access).await,
        }
    }

    /// Reads what has become of it; changes nothing.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn read_back(&self, access: &Access) -> Result<ReadBack, CallError> {
        match self {
            Self::Scale(scale) => scale.read_back(access).await,
            Self::Anchor(anchor) => anchor.read_back(access).await,
            Self::Policy(policy) => policy.read_back(access).await,
            Self::NetnsDrop(drop) => drop.read_back(access).await,
            Self::Pause(pause) => pause.read_back(access).await,
        }
    }
}

/// Undoes all of these, the last first, each whatever became of the others; the results in the order of the undoing.
pub async fn undo_all<'m>(
    access: &Access,
    mutations: &'m [Mutation],
) -> Vec<(&'m Mutation, Result<Undone, CallError>)> {
    let mut results = Vec::with_capacity(mutations.len());
    for mutation in mutations.iter().rev() {
        results.push((mutation, mutation.undo(access).await));
    }
    results
}

/// How lines for `kubectl` begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubectl {
    context: Option<String>,
}

impl Kubectl {
    /// For a context, or for the cluster that a pod is in.
    #[must_use]
    pub fn new(context: Option<&str>) -> Self {
        Self { context: context.map(str::to_owned) }
    }

    /// For an environment's cluster.
    #[must_use]
    pub fn of(cluster: &crate::environment::Cluster) -> Self {
        use crate::environment::Reach;
        match &cluster.reach {
            Reach::InCluster => Self::new(None),
            Reach::Context { context, .. } | Reach::Embedded { context, .. } => Self::new(Some(context)),
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
        let context =
            self.context.as_ref().map_or(String::new(), |context| format!(" --context {}", quoted(context)));
        format!("kubectl{context} {rest}")
    }
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{Kubectl, quoted};

    #[test]
    fn words_stay_one_word_in_a_shell() {
        assert_eq!(quoted("home"), "home");
        assert_eq!(quoted("my home"), "'my home'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("$(rm)"), "'$(rm)'");
    }

    #[test]
    fn a_line_names_its_context_where_there_is_one() {
        assert_eq!(Kubectl::new(None).line("ml", "get pods"), "kubectl -n ml get pods");
        let line = Kubectl::new(Some("my home")).line("ml", "get pods");
        assert_eq!(line, "kubectl --context 'my home' -n ml get pods");
    }
}
