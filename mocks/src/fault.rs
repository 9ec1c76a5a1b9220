//! Faults with an end: whoever makes one says in whose name and for how long. It ends by itself when that time is over,
//! whatever becomes of whoever made it, and nobody else's is taken over.

use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The longest name of a run.
const RUN_BYTES_MAX: usize = 128;
/// Between two tries to end a fault whose time is over.
const END_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A fault that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order<T> {
    /// In whose name.
    pub run: String,
    /// For how many seconds from now on.
    pub seconds: u64,
    /// What it is set to.
    pub to: T,
}

/// How something stands that faults are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing<T> {
    /// What it is set to.
    pub now: T,
    /// Whose fault that is; `None` where it is nobody's.
    pub run: Option<String>,
    /// After how many seconds it ends by itself.
    pub expires_in_s: Option<f64>,
    /// The longest time that a fault may be asked for, in seconds.
    pub max_hold_s: u64,
}

/// What an undo came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It was undone now.
    Now,
    /// There was no fault any more.
    Before,
}

/// Why a fault was not made or undone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FaultError {
    #[error("{0}")]
    Wrong(String),
    #[error("{0}")]
    Taken(String),
    #[error("{0}")]
    Failed(String),
}

/// Something that can be set to a fault, and back to its default.
pub(crate) trait Switch: Send + Sync + 'static {
    type Setting: Clone + PartialEq + Default + Debug + Serialize + DeserializeOwned + Send + Sync;

    fn setting(&self) -> Self::Setting;

    /// Returns once it is in effect.
    fn set(&self, setting: Self::Setting) -> impl Future<Output = Result<(), FaultError>> + Send;
}

/// A switch and the fault that is held on it.
#[derive(Debug)]
pub(crate) struct Faults<S: Switch> {
    switch: S,
    max_hold: Duration,
    held: Mutex<Option<Held<S::Setting>>>,
}

#[derive(Debug)]
struct Held<T> {
    run: String,
    to: T,
    until: Instant,
    _ends_it: AbortOnDropHandle<()>,
}

impl<S: Switch> Faults<S> {
    pub(crate) fn new(switch: S, max_hold: Duration) -> Arc<Self> {
        Arc::new(Self { switch, max_hold, held: Mutex::new(None) })
    }

    /// Makes a fault; the same run may do so again, with another end or another setting.
    pub(crate) async fn hold(self: &Arc<Self>, order: Order<S::Setting>) -> Result<(), FaultError> {
        let max_s = self.max_hold.as_secs();
        if order.run.is_empty() || order.run.len() > RUN_BYTES_MAX || order.run.contains(char::is_control) {
            return Err(FaultError::Wrong("`run` must be a name of at most 128 bytes".to_owned()));
        }
        if order.seconds == 0 || order.seconds > max_s {
            return Err(FaultError::Wrong(format!("`seconds` must be from 1 to {max_s}")));
        }
        if order.to == S::Setting::default() {
            return Err(FaultError::Wrong("`to` is no fault".to_owned()));
        }
        let mut held = self.held.lock().await;
        self.may_change(held.as_ref(), &order.run)?;
        let until = Instant::now() + Duration::from_secs(order.seconds);
        // It ends by itself before it is begun: a switch that half succeeds is undone likewise.
        *held = Some(Held {
            run: order.run,
            to: order.to.clone(),
            until,
            _ends_it: AbortOnDropHandle::new(tokio::spawn(end_at(until, Arc::downgrade(self)))),
        });
        self.switch.set(order.to).await
    }

    /// Ends this run's fault.
    pub(crate) async fn release(&self, run: &str) -> Result<Ended, FaultError> {
        let mut held = self.held.lock().await;
        if self.switch.setting() == S::Setting::default() {
            *held = None;
            return Ok(Ended::Before);
        }
        self.may_change(held.as_ref(), run)?;
        self.switch.set(S::Setting::default()).await?;
        *held = None;
        Ok(Ended::Now)
    }

    pub(crate) async fn standing(&self) -> Standing<S::Setting> {
        let held = self.held.lock().await;
        let held = held.as_ref().filter(|held| self.is_in_force(held));
        Standing {
            now: self.switch.setting(),
            run: held.map(|held| held.run.clone()),
            expires_in_s: held.map(|held| held.until.duration_since(Instant::now()).as_secs_f64()),
            max_hold_s: self.max_hold.as_secs(),
        }
    }

    /// Nobody has set it to something else since.
    fn is_in_force(&self, held: &Held<S::Setting>) -> bool {
        held.to == self.switch.setting()
    }

    /// Whether what is set is the default or this run's own fault.
    fn may_change(&self, held: Option<&Held<S::Setting>>, run: &str) -> Result<(), FaultError> {
        let now = self.switch.setting();
        match held.filter(|held| self.is_in_force(held)) {
            Some(held) if held.run == run => Ok(()),
            Some(held) => Err(FaultError::Taken(format!("it is {} for run {}", shown(&now), held.run))),
            None if now == S::Setting::default() => Ok(()),
            None => Err(FaultError::Taken(format!("it is {} for no run", shown(&now)))),
        }
    }

    /// Ends the fault that was to end then; true where there is nothing left to do.
    async fn end(&self, until: Instant) -> bool {
        let held = self.held.lock().await;
        match held.as_ref().filter(|held| held.until == until && self.is_in_force(held)) {
            Some(_) => self.switch.set(S::Setting::default()).await.is_ok(),
            None => true,
        }
    }
}

fn shown(setting: &impl Serialize) -> String {
    serde_json::json!(setting).to_string()
}

async fn end_at<S: Switch>(until: Instant, faults: Weak<Faults<S>>) {
    tokio::time::sleep_until(until).await;
    while let Some(faults) = faults.upgrade() {
        if faults.end(until).await {
            return;
        }
        tokio::time::sleep(END_AGAIN_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A switch that says `None` where nothing is wrong, and fails as often as it is told.
    #[derive(Debug, Default)]
    struct Lever {
        now: Mutex<Option<u8>>,
        failures: Mutex<u8>,
    }

    impl Switch for Arc<Lever> {
        type Setting = Option<u8>;

        fn setting(&self) -> Option<u8> {
            *self.now.lock().unwrap()
        }

        async fn set(&self, setting: Option<u8>) -> Result<(), FaultError> {
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(FaultError::Failed("stuck".to_owned()));
            }
            *self.now.lock().unwrap() = setting;
            Ok(())
        }
    }

    fn order(run: &str, to: u8, seconds: u64) -> Order<Option<u8>> {
        Order { run: run.to_owned(), seconds, to: Some(to) }
    }

    fn made() -> (Arc<Lever>, Arc<Faults<Arc<Lever>>>) {
        let lever = Arc::new(Lever::default());
        (Arc::clone(&lever), Faults::new(lever, Duration::from_secs(100)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_ends_by_itself_and_by_its_own_run_only() {
        let (lever, faults) = made();
        faults.hold(order("a", 1, 10)).await.unwrap();
        assert_eq!(faults.standing().await.run.as_deref(), Some("a"));
        assert!(matches!(faults.hold(order("b", 1, 10)).await, Err(FaultError::Taken(_))));
        assert!(matches!(faults.release("b").await, Err(FaultError::Taken(_))));
        // The same run may ask again, and then the later end counts.
        tokio::time::advance(Duration::from_secs(9)).await;
        faults.hold(order("a", 1, 10)).await.unwrap();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(faults.standing().await.now, Some(1));
        // A busy switch does not keep it from ending.
        *lever.failures.lock().unwrap() = 2;
        let ended = async {
            let mut looks = tokio::time::interval(Duration::from_millis(100));
            while lever.setting().is_some() {
                looks.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
        let standing = faults.standing().await;
        assert_eq!((standing.now, standing.run, standing.expires_in_s), (None, None, None));
        assert_eq!(faults.release("a").await.unwrap(), Ended::Before);
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_sets_otherwise_is_theirs() {
        let (lever, faults) = made();
        faults.hold(order("a", 1, 10)).await.unwrap();
        *lever.now.lock().unwrap() = Some(2);
        assert_eq!(faults.standing().await.run, None);
        assert!(matches!(faults.release("a").await, Err(FaultError::Taken(_))));
        assert!(matches!(faults.hold(order("a", 1, 10)).await, Err(FaultError::Taken(_))));
        tokio::time::advance(Duration::from_secs(20)).await;
        tokio::task::yield_now().await;
        assert_eq!(lever.setting(), Some(2));
        *lever.now.lock().unwrap() = None;
        assert_eq!(faults.release("a").await.unwrap(), Ended::Before);
        faults.hold(order("b", 1, 10)).await.unwrap();
        assert_eq!(faults.release("b").await.unwrap(), Ended::Now);
        assert_eq!(lever.setting(), None);
    }

    #[tokio::test]
    async fn orders_without_a_name_an_end_or_a_fault_are_refused() {
        let (lever, faults) = made();
        let none = Order { run: "a".to_owned(), seconds: 1, to: None };
        for wrong in [order("", 1, 1), order("a\n", 1, 1), order("a", 1, 0), order("a", 1, 101), none] {
            assert!(matches!(faults.hold(wrong).await, Err(FaultError::Wrong(_))));
        }
        assert_eq!(lever.setting(), None);
    }
}
