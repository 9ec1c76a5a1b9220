//! What was changed by somebody else while a fault was held.

use std::fmt;

use super::seen::Actor;

/// A change that makes what is measured something else than what was planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// When it was seen, in microseconds since the run's zero.
    pub at_us: u64,
    /// What happened.
    pub what: What,
    /// To which object, `Deployment ml/vllm`.
    pub object: String,
    /// Who did it, as far as the object says; a deletion leaves no name.
    pub actor: Option<Actor>,
    /// What the cluster told about the object last.
    pub told: Vec<String>,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Somebody set another count.
    Scaled {
        /// The count that the run relies on.
        expected: i32,
        /// The count that there is.
        found: i32,
    },
    /// The count of what has to stay up is 0.
    ScaledToZero,
    /// A pod of what has to stay up ended, is ending or was deleted, and no other one is ready.
    LastPodGone,
    /// A container of a pod of what has to stay up was started again, and no other pod is ready.
    LastPodRestarted,
    /// The Deployment was deleted, or made anew.
    DeploymentGone,
    /// A pod appeared where none may be.
    PodAppeared,
    /// The run's policy was deleted, or is about to be.
    PolicyGone,
    /// The run's policy was changed, or replaced by another of its name.
    PolicyChanged,
    /// Another policy for the gateway's pods was made or changed: it may allow what the run's forbids.
    PolicyAppeared,
    /// Another policy for pods that nobody may reach was made or changed: it may let somebody in.
    WayIn,
    /// Another policy, for pods whose network must stay as it is, was deleted.
    OtherPolicyGone,
    /// A pod of the gateway was deleted or is terminating: its memory of cooldowns is lost.
    GatewayPodGone,
    /// A container of a pod of the gateway was started again.
    GatewayPodRestarted,
    /// The gateway has a pod more than at the start.
    GatewayPodAppeared,
    /// A Service was changed, deleted or made anew.
    ServiceChanged,
    /// A node with pods of the run is not ready.
    NodeNotReady,
    /// A node with pods of the run was removed.
    NodeGone,
    /// A name has an address that the fault does not cover.
    AddressMoved {
        /// The address, in words.
        to: String,
    },
    /// A name has more addresses than are looked at: what the fault does not cover may be among them.
    MoreAddresses,
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scaled { expected, found } => {
                write!(formatter, "was scaled to {found} while it had to stay at {expected}")
            }
            Self::ScaledToZero => formatter.write_str("was scaled to 0 although it had to stay up"),
            Self::LastPodGone => {
                formatter.write_str("ended or was deleted, and no other pod is ready of what had to stay up")
            }
            Self::LastPodRestarted => {
                formatter.write_str("was restarted, and no other pod is ready of what had to stay up")
            }
            Self::DeploymentGone => formatter.write_str("was deleted"),
            Self::PodAppeared => formatter.write_str("appeared although none may run"),
            Self::PolicyGone => formatter.write_str("was deleted while it was needed"),
            Self::PolicyChanged => formatter.write_str("was changed while it was needed"),
            Self::PolicyAppeared => {
                formatter.write_str("was made or changed, and selects the gateway's pods")
            }
            Self::WayIn => formatter.write_str("was made or changed, and selects pods that nobody may reach"),
            Self::OtherPolicyGone => {
                formatter.write_str("was deleted while the network had to stay as it was")
            }
            Self::GatewayPodGone => formatter.write_str("was replaced: its memory of cooldowns is lost"),
            Self::GatewayPodRestarted => {
                formatter.write_str("was restarted: its memory of cooldowns is lost")
            }
            Self::GatewayPodAppeared => formatter.write_str("joined the gateway"),
            Self::ServiceChanged => formatter.write_str("was changed"),
            Self::NodeNotReady => formatter.write_str("is not ready"),
            Self::NodeGone => formatter.write_str("was removed"),
            Self::AddressMoved { to } => {
                write!(formatter, "has the address {to}, which the fault does not cover")
            }
            Self::MoreAddresses => formatter
                .write_str("has more addresses than are looked at, and the fault may not cover all of them"),
        }
    }
}

impl Drift {
    /// What happened to which object, and what the cluster told about it.
    #[must_use]
    pub fn what_words(&self) -> String {
        let mut words = format!("{} {}", self.object, self.what);
        if !self.told.is_empty() {
            words = format!("{words}; the cluster told: {}", self.told.join("; "));
        }
        words
    }

    /// Who did it, as far as the object says. Who deletes is recorded nowhere, so for a deletion it is who changed
    /// the object last; nodes and names have no actor, and what its pod says of a restart is who made the pod.
    #[must_use]
    pub fn actor_words(&self) -> Option<String> {
        match (&self.actor, &self.what) {
            (
                _,
                What::NodeNotReady
                | What::NodeGone
                | What::AddressMoved { .. }
                | What::MoreAddresses
                | What::LastPodRestarted
                | What::GatewayPodRestarted,
            )
            | (None, _) => None,
            (
                Some(actor),
                What::PolicyGone
                | What::OtherPolicyGone
                | What::DeploymentGone
                | What::GatewayPodGone
                | What::LastPodGone,
            ) => Some(format!("unknown; last changed by {actor}")),
            (Some(actor), _) => Some(actor.to_string()),
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actor = self.actor_words();
        write!(formatter, "{} (by {})", self.what_words(), actor.as_deref().unwrap_or("someone unknown"))
    }
}
