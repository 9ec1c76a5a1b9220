//! The dead-man switch: a CronJob that restores what a run has left when nobody else is there to do it. A run relies on
//! it only where it has lately done its work.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJob;
use kube::ResourceExt as _;

use super::access::{Access, CallError};

/// By what the sweeper is found.
pub const LABELS: &str = "app.kubernetes.io/name=failover-harness,app.kubernetes.io/component=sweeper";
/// Its last success is no older; it runs each minute.
pub const FRESH: Duration = Duration::from_secs(180);

/// Whether somebody restores when this program is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadMan {
    /// A sweeper did its work so long ago.
    Works {
        /// Namespace and name.
        sweeper: String,
        /// How long ago.
        ago: Duration,
    },
    /// Nobody does, or that is not proven.
    Missing(String),
}

impl DeadMan {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Works { sweeper, ago } => {
                format!("the sweeper {sweeper} did its work {} s ago", ago.as_secs())
            }
            Self::Missing(why) => format!("no dead-man switch is proven: {why}"),
        }
    }
}

/// What to do where there is none.
pub const HINT: &str = "deploy the sweeper CronJob and wait for its first success, or give --no-dead-man";

/// Looks for the sweeper in the gateway's namespace.
///
/// # Errors
/// Where CronJobs cannot be read.
pub async fn look(access: &Access, namespace: &str, now: Timestamp) -> Result<DeadMan, CallError> {
    let sweepers: Vec<CronJob> = access.list(Some(namespace), LABELS).await?;
    Ok(judge(&sweepers, namespace, now))
}

fn judge(sweepers: &[CronJob], namespace: &str, now: Timestamp) -> DeadMan {
    let mut why = format!("there is no CronJob with the labels {LABELS} in {namespace}");
    for sweeper in sweepers {
        let name = format!("{namespace}/{}", sweeper.name_any());
        let is_suspended = sweeper.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
        let last = sweeper.status.as_ref().and_then(|status| status.last_successful_time.as_ref());
        why = match last.map(|last| now.duration_since(last.0)) {
            _ if is_suspended => format!("the CronJob {name} is suspended"),
            _ if sweeper.metadata.deletion_timestamp.is_some() => {
                format!("the CronJob {name} is being deleted")
            }
            None => format!("the CronJob {name} has never succeeded"),
            Some(ago) if ago.unsigned_abs() >= FRESH => format!(
                "the last success of the CronJob {name} is {} s {}",
                ago.unsigned_abs().as_secs(),
                if ago.is_negative() { "ahead: the clocks differ" } else { "old" }
            ),
            Some(ago) => return DeadMan::Works { sweeper: name, ago: ago.unsigned_abs() },
        };
    }
    DeadMan::Missing(why)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::api::batch::v1::CronJob;
    use serde_json::json;

    use super::{DeadMan, judge};

    fn sweeper(suspend: bool, last: Option<&str>) -> CronJob {
        serde_json::from_value(json!({
            "metadata": { "name": "sweeper", "namespace": "ml" },
            "spec": { "schedule": "* * * * *", "suspend": suspend, "jobTemplate": {} },
            "status": { "lastSuccessfulTime": last },
        }))
        .unwrap()
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn only_a_sweeper_that_has_lately_done_its_work_is_relied_on() {
        let now = at("2026-11-23T00:03:00Z");
        let why = |sweepers: &[CronJob]| match judge(sweepers, "ml", now) {
            DeadMan::Missing(why) => why,
            DeadMan::Works { .. } => String::new(),
        };
        assert_eq!(why(&[sweeper(false, Some("2026-11-23T00:00:01Z"))]), "");
        assert!(why(&[]).contains("there is no CronJob"));
        assert!(why(&[sweeper(false, None)]).contains("never succeeded"));
        assert!(why(&[sweeper(true, Some("2026-11-23T00:02:59Z"))]).contains("suspended"));
        assert!(why(&[sweeper(false, Some("2026-11-23T00:00:00Z"))]).contains("180 s old"));
        assert!(why(&[sweeper(false, Some("2026-11-23T00:30:00Z"))]).contains("the clocks differ"));
        assert_eq!(why(&[sweeper(true, None), sweeper(false, Some("2026-11-23T00:02:00Z"))]), "");
    }
}
