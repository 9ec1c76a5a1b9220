//! The one way to cut a run short: a signal, the deadline. Everything that waits, waits on this too.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Shared by all parts of a run; fires once.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    cause: Arc<OnceLock<String>>,
}

impl Stop {
    /// Cut the run short; the first cause is kept.
    pub fn fire(&self, cause: &str) {
        let _ = self.cause.set(cause.to_owned());
        self.token.cancel();
    }

    /// Why it fired, if it did.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.cause.get().map(String::as_str)
    }

    /// For those who only wait.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Fire on SIGINT, SIGTERM and SIGHUP. A second signal changes nothing: restoring is under way, it
    /// is bounded, and leaving it half done would be worse than waiting.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn on_signals(&self) -> std::io::Result<()> {
        for (kind, name) in [
            (SignalKind::interrupt(), "SIGINT"),
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::hangup(), "SIGHUP"),
        ] {
            let mut stream = signal(kind)?;
            let stop = self.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    stop.fire(name);
                }
            });
        }
        Ok(())
    }

    /// Fire so long before `deadline` (from now) that restoring still fits.
    pub fn on_deadline(&self, deadline: Duration, reserve: Duration) {
        let stop = self.clone();
        let reserve = reserve.min(deadline / 2);
        tokio::spawn(async move {
            tokio::time::sleep(deadline.saturating_sub(reserve)).await;
            stop.fire("deadline");
        });
    }
}

/// The same in a cluster whose API answers. Where it does not, undoing goes on for longer than this, as the grace of
/// `schedule` says, and the run ends late rather than with something left.
pub(super) const CLUSTER_RESTORE_RESERVE: Duration = Duration::from_secs(90);

/// What healing, its confirmation and the reports may take after the deadline fired. The mock world
/// heals in milliseconds and LiteLLM gets 5 s to end.
pub(super) const RESTORE_RESERVE: Duration = Duration::from_secs(10);
