//! What faults are made on: the only place that changes anything.

mod cluster;
mod driver;
mod embedded;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::environment::FaultKind;
use crate::journal::{Journal, UpstreamCall};
use crate::plan::{PlannedFault, PlannedKind};
use crate::witness::Witness;

pub(super) use cluster::{Cluster, ClusterParts, SEEN_AGAIN_WITHIN};
pub(super) use driver::{FILTER_MADE_WITHIN, MADE_WITHIN, Patience, TAKEN_DOWN_WITHIN};
pub(super) use embedded::{Embedded, EmbeddedComponent, EmbeddedParts};

/// How long a fault of the embedded world may take to show up at the witness after it was accepted.
const EMBEDDED_EFFECTIVE_WITHIN: Duration = Duration::from_secs(5);

/// A mutation that was intended, and so may have been made.
#[derive(Clone)]
pub(super) struct ActiveFault {
    /// Unique in the run.
    pub(super) id: u32,
    /// What is done.
    pub(super) fault: PlannedFault,
}

/// What became of a fault that was to be undone.
pub(super) enum Healed {
    /// It is undone.
    Undone,
    /// Someone else has changed what was left: it is theirs now.
    LeftAlone(String),
}

/// The stack under test, as something that can be changed and changed back.
pub(super) enum Target {
    /// The mock world in this process.
    Embedded(Box<Embedded>),
    /// A Kubernetes cluster.
    Cluster(Box<Cluster>),
}

/// The gateway's connections from before a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OldConnections {
    /// None was left when they were counted.
    Gone,
    /// They are there, and nothing gets through on them.
    Dead {
        /// When the last request was sent that one of them answered, if one did.
        last_answered_us: Option<u64>,
    },
    /// They may still carry requests.
    Open {
        /// How many.
        count: u64,
        /// When they were counted.
        counted_us: u64,
    },
    /// Nobody can tell.
    Unknown,
}

/// The last pod of a backend is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodsGone {
    /// When the last request was sent that an established connection to it answered, if one did.
    pub(super) last_answered_us: Option<u64>,
    /// When it was known that none is left.
    pub(super) gone_us: u64,
    /// In words.
    pub(super) saw: String,
}

/// Whether a component is reached from where the gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// From everywhere.
    All,
    /// Not from these places, with what is seen there.
    CutOff(Vec<String>),
    /// Nobody can tell from these places, or from any where there are none.
    Unknown(Vec<String>),
}

// What makes and undoes changes is big, and a part of everything above it: each has a place of its own on the heap, or a
// thread of 2 MiB is too small for a run.
impl Target {
    /// A mode begins: nothing is sent yet.
    pub(super) async fn mode_begins(&mut self, scenario: &str) {
        match self {
            Self::Embedded(_) => {}
            Self::Cluster(cluster) => cluster.mode_begins(scenario).await,
        }
    }

    /// A mode is over: all that was sent in it has ended. Waits for nothing once the run is cut short.
    pub(super) async fn mode_ends(&self, cut: &CancellationToken) {
        match self {
            Self::Embedded(_) => {}
            Self::Cluster(cluster) => cluster.mode_ends(cut).await,
        }
    }

    /// From now on, while the mode is judged, these components have to stay up.
    pub(super) fn keep_up(&self, components: &[String]) {
        match self {
            Self::Embedded(_) => {}
            Self::Cluster(cluster) => cluster.keep_up(components),
        }
    }

    /// The mode is judged no longer.
    pub(super) fn forget_up(&self) {
        match self {
            Self::Embedded(_) => {}
            Self::Cluster(cluster) => cluster.forget_up(),
        }
    }

    /// Make the fault. Idempotent. No change is begun once the run is cut short.
    ///
    /// # Errors
    /// In words, when it was not accepted.
    pub(super) async fn inject(&self, active: &ActiveFault, cut: &CancellationToken) -> Result<(), String> {
        match self {
            Self::Embedded(world) => world.inject(active).await,
            Self::Cluster(cluster) => Box::pin(cluster.inject(active, cut)).await,
        }
    }

    /// Undo the fault. Idempotent.
    ///
    /// # Errors
    /// In words, when it was not accepted.
    pub(super) async fn heal(&self, active: &ActiveFault) -> Result<Healed, String> {
        match self {
            Self::Embedded(world) => Box::pin(world.driver().heal(active)).await,
            Self::Cluster(cluster) => Box::pin(cluster.heal(active)).await,
        }
    }

    /// That somebody else keeps down what was undone for a fault, in words; `None` where nobody does, or that is not
    /// told. Takes [`TAKEN_DOWN_WITHIN`] at most.
    pub(super) async fn taken_down(&self, active: &ActiveFault) -> Option<String> {
        match self {
            // A gate that somebody else has told something is left to them by the undo.
            Self::Embedded(_) => None,
            Self::Cluster(cluster) => Box::pin(cluster.taken_down(active)).await,
        }
    }

    /// Looks again at what was undone but may still come through, since nobody has answered it, until it can no longer,
    /// and undoes what does. Tells what is waited for.
    /// What could not be undone then, in words, by the number of the change.
    pub(super) async fn settle(&self, tell: &(dyn Fn(&str) + Sync)) -> BTreeMap<u32, String> {
        match self {
            Self::Embedded(world) => Box::pin(world.driver().settle(tell)).await,
            Self::Cluster(cluster) => Box::pin(cluster.settle(tell)).await,
        }
    }

    /// Whether nothing of a change can still come through.
    pub(super) fn is_settled(&self, change: u32) -> bool {
        match self {
            Self::Embedded(world) => world.driver().is_settled(change),
            Self::Cluster(cluster) => cluster.is_settled(change),
        }
    }

    /// Undoes what comes through late, for as long as somebody is waited for anyhow; never ends, and can be dropped.
    pub(super) async fn look_again(&self) -> Infallible {
        match self {
            Self::Embedded(world) => Box::pin(world.driver().look_again()).await,
            Self::Cluster(cluster) => Box::pin(cluster.look_again()).await,
        }
    }

    /// Read back: is the component's setting what it was before any fault?
    ///
    /// # Errors
    /// In words, when that cannot be told.
    pub(super) async fn is_healed(&self, component: &str) -> Result<bool, String> {
        match self {
            Self::Embedded(world) => Box::pin(world.driver().is_healed(component)).await,
            Self::Cluster(cluster) => Box::pin(cluster.is_healed(component)).await,
        }
    }

    /// The same at the end of a run: what still reads as changed is undone once more.
    ///
    /// # Errors
    /// In words, when that cannot be told.
    pub(super) async fn is_restored(&self, component: &str) -> Result<bool, String> {
        match self {
            Self::Embedded(world) => Box::pin(world.driver().is_restored(component)).await,
            Self::Cluster(cluster) => Box::pin(cluster.is_restored(component)).await,
        }
    }

    /// What a person types to undo what this component's faults changed; nothing where they changed nothing.
    #[must_use]
    pub(super) fn undo_commands(&self, component: &str) -> String {
        match self {
            Self::Embedded(world) => world.driver().undo_commands(component),
            Self::Cluster(cluster) => cluster.undo_commands(component),
        }
    }

    /// What a person types to see why a component does not serve.
    #[must_use]
    pub(super) fn look_command(&self, component: &str) -> Option<String> {
        match self {
            Self::Embedded(_) => None,
            Self::Cluster(cluster) => cluster.look_command(component),
        }
    }

    /// What is no longer as this component's faults left it, and what could not be watched, in words.
    pub(super) async fn what_has_changed(&self, component: &str) -> Vec<String> {
        match self {
            Self::Embedded(world) => Box::pin(world.driver().what_has_changed(component)).await,
            Self::Cluster(cluster) => Box::pin(cluster.what_has_changed(component)).await,
        }
    }

    /// Someone who looks at what this fault hits, past the gateway; `None` where nobody can.
    #[must_use]
    pub(super) fn witness(&self, fault: &PlannedFault, journal: &Arc<Journal>) -> Option<Witness> {
        match self {
            Self::Embedded(world) => world.witness(fault, journal),
            Self::Cluster(cluster) => cluster.witness(fault, journal),
        }
    }

    /// How long a fault may take to show up at its witness after it was accepted; to be asked before it is made.
    #[must_use]
    pub(super) fn effective_within(&self, fault: &PlannedFault) -> Duration {
        match self {
            Self::Embedded(_) => EMBEDDED_EFFECTIVE_WITHIN,
            Self::Cluster(cluster) => cluster.effective_within(fault),
        }
    }

    /// What has become of the gateway's connections from before a fault that leaves established ones alone; `None`
    /// where the fault ends them by itself.
    #[must_use]
    pub(super) fn old_connections(&self, fault: &PlannedFault, effective_us: u64) -> Option<OldConnections> {
        match (self, &fault.kind) {
            (Self::Cluster(cluster), PlannedKind::Down(FaultKind::Isolate | FaultKind::BlackholeBy(_))) => {
                Some(cluster.old_connections(&fault.component, effective_us))
            }
            (Self::Cluster(_) | Self::Embedded(_), _) => None,
        }
    }

    /// Waits until no pod of a backend that is scaled down is left; an error is what there is after `limit`. `None`
    /// where that is not how it is taken down, or is what its witness looks at anyhow.
    pub(super) async fn pods_gone(
        &self,
        fault: &PlannedFault,
        limit: Duration,
    ) -> Option<Result<PodsGone, String>> {
        match self {
            Self::Embedded(_) => None,
            Self::Cluster(cluster) => cluster.pods_gone(fault, limit).await,
        }
    }

    /// Whether a component is reached by new connections from where the gateway is.
    #[must_use]
    pub(super) fn reached(&self, component: &str) -> Reached {
        match self {
            Self::Embedded(_) => Reached::All,
            Self::Cluster(cluster) => cluster.reached(component),
        }
    }

    /// What the cluster says of a component's pods, in words.
    #[must_use]
    pub(super) fn presence(&self, component: &str) -> Option<String> {
        match self {
            Self::Embedded(_) => None,
            Self::Cluster(cluster) => cluster.presence(component),
        }
    }

    /// How long to wait between two requests for a completion of something that starts.
    #[must_use]
    pub(super) fn ask_every(&self) -> Duration {
        match self {
            Self::Embedded(_) => Duration::from_millis(50),
            Self::Cluster(_) => Duration::from_secs(1),
        }
    }

    /// Ends what looks at it; what was changed is not touched.
    pub(super) async fn close(self) {
        if let Self::Cluster(cluster) = self {
            cluster.close().await;
        }
    }

    /// Asks a component for a completion, past the gateway; of this alias where one is named.
    ///
    /// # Errors
    /// In words, what came instead of a whole reply within `limit`.
    pub(super) async fn serves(
        &self,
        component: &str,
        alias: Option<&str>,
        limit: Duration,
    ) -> Result<(), String> {
        match self {
            Self::Embedded(world) => world.serves(component, alias, limit).await,
            Self::Cluster(cluster) => cluster.serves(component, alias, limit).await,
        }
    }

    /// Requests for chats in the upstreams' own journals, by record; open ones as they stand. Empty where
    /// upstreams keep none that can be read.
    #[must_use]
    pub(super) fn calls(&self) -> Vec<(u64, UpstreamCall)> {
        match self {
            Self::Embedded(world) => world.calls(),
            Self::Cluster(_) => Vec::new(),
        }
    }
}
