//! What faults are made on: the only place that changes anything.

mod embedded;

use std::sync::Arc;
use std::time::Duration;

use crate::journal::{Journal, UpstreamCall};
use crate::plan::PlannedFault;
use crate::witness::Witness;

pub(super) use embedded::{Embedded, EmbeddedComponent};

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
    Embedded(Embedded),
}

impl Target {
    /// Make the fault. Idempotent.
    ///
    /// # Errors
    /// In words, when it was not accepted.
    pub(super) async fn inject(&self, active: &ActiveFault) -> Result<(), String> {
        match self {
            Self::Embedded(world) => world.inject(&active.fault).await,
        }
    }

    /// Undo the fault. Idempotent.
    ///
    /// # Errors
    /// In words, when it was not accepted.
    pub(super) async fn heal(&self, active: &ActiveFault) -> Result<Healed, String> {
        match self {
            Self::Embedded(world) => world.heal(&active.fault).await.map(|()| Healed::Undone),
        }
    }

    /// Read back: is the component's setting what it was before any fault?
    ///
    /// # Errors
    /// In words, when that cannot be told.
    pub(super) async fn is_healed(&self, component: &str) -> Result<bool, String> {
        match self {
            Self::Embedded(world) => Ok(world.is_healed(component)),
        }
    }

    /// Someone who looks at what this fault hits, past the gateway; `None` where nobody can.
    #[must_use]
    pub(super) fn witness(&self, fault: &PlannedFault, journal: &Arc<Journal>) -> Option<Witness> {
        match self {
            Self::Embedded(world) => world.witness(fault, journal),
        }
    }

    /// How long a fault may take to show up at its witness after it was accepted.
    #[must_use]
    pub(super) fn effective_within(&self, _fault: &PlannedFault) -> Duration {
        match self {
            Self::Embedded(_) => EMBEDDED_EFFECTIVE_WITHIN,
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
        }
    }

    /// Requests for chats in the upstreams' own journals, by record; open ones as they stand. Empty where
    /// upstreams keep none that can be read.
    #[must_use]
    pub(super) fn calls(&self) -> Vec<(u64, UpstreamCall)> {
        match self {
            Self::Embedded(world) => world.calls(),
        }
    }
}
