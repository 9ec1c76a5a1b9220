//! What enforces NetworkPolicies, and how that feels.

use serde::{Deserialize, Serialize};

use crate::gate::GateMode;

/// Whose manners the enforcement has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cni {
    /// kube-router, which k3s embeds: new connections are refused, established ones are kept.
    #[default]
    #[serde(alias = "kube-router")]
    K3s,
    /// Calico: SYNs are dropped, established connections are kept.
    Calico,
    /// Cilium: SYNs are dropped and established connections fall silent; an `ipBlock` never stands for a pod.
    Cilium,
    /// kindnet: SYNs are dropped, established connections are kept until they are looked at again, and fall silent then.
    Kindnet,
    /// Nobody: policies are objects without effect.
    None,
}

impl Cni {
    /// What a gate does with connections that a policy forbids; none where nobody enforces it.
    pub(crate) fn denial(self) -> Option<GateMode> {
        match self {
            Self::K3s => Some(GateMode::RefuseNew),
            Self::Calico | Self::Kindnet => Some(GateMode::DropNew),
            Self::Cilium => Some(GateMode::Blackhole),
            Self::None => None,
        }
    }

    /// What becomes of them once established ones are looked at again; none where they are not.
    pub(crate) fn late_denial(self) -> Option<GateMode> {
        (self == Self::Kindnet).then_some(GateMode::Blackhole)
    }

    pub(crate) fn blocks_match_pods(self) -> bool {
        self != Self::Cilium
    }
}
