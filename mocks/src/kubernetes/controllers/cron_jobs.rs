//! CronJobs: a Job at each time of the schedule.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use serde_json::{Value, json};

use super::events::note;
use super::jobs::{has_finished, of_cron_job};
use super::objects::{instant, is_ending, is_true, key_of, meta, owner_reference, status_mut};
use super::reconcile::Reconcile;
use super::schedule::Schedule;
use crate::kubernetes::clock::to_seconds;
use crate::kubernetes::resources::{CRON_JOBS, JOBS, Resource};
use crate::kubernetes::store::{Deletion, Store, Writer};

const MANAGER: &str = "kube-controller-manager";
const COMPONENT: &str = "cronjob-controller";
/// How far back a missed time is looked for.
const MINUTES_BACK_MAX: i64 = 7 * 24 * 60;

/// The controller of CronJobs.
#[derive(Debug)]
pub(crate) struct CronJobs {
    pub(crate) store: Store,
    /// How often the clock is looked at.
    pub(crate) tick: Duration,
    /// How long a minute is for those that run every minute.
    pub(crate) minute: Duration,
    /// The latest time of each CronJob, by its uid, that was passed over because a Job was still there.
    pub(crate) passed_over: BTreeMap<String, Timestamp>,
}

/// Every minute, which can be made shorter.
const EVERY_MINUTE: &str = "* * * * *";
const MINUTE: Duration = Duration::from_secs(60);

impl Reconcile for CronJobs {
    fn kinds(&self) -> Vec<&'static Resource> {
        vec![&CRON_JOBS, &JOBS]
    }

    async fn reconcile(&mut self) -> Option<Duration> {
        let all = self.store.list(&CRON_JOBS, None).items;
        self.passed_over.retain(|uid, _| all.iter().any(|cron_job| meta(cron_job, "uid") == uid));
        for cron_job in all.iter().filter(|cron_job| !is_ending(cron_job)) {
            self.tick_one(cron_job);
        }
        (!all.is_empty()).then_some(self.tick)
    }
}

impl CronJobs {
    fn tick_one(&mut self, cron_job: &Value) {
        let jobs = of_cron_job(&self.store, cron_job);
        let (finished, mut active): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| has_finished(job));
        let last_success = finished.iter().filter(|job| is_true(job, "Complete"));
        let last_success = last_success.filter_map(|job| job["status"]["completionTime"].as_str()).max();
        for (outcome, limit) in
            [("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")]
        {
            let of_outcome: Vec<_> = finished.iter().filter(|job| is_true(job, outcome)).collect();
            let kept = usize::try_from(cron_job["spec"][limit].as_u64().unwrap_or(1)).unwrap_or(usize::MAX);
            for job in of_outcome.iter().take(of_outcome.len().saturating_sub(kept)) {
                let _gone = self.store.delete(&key_of(&JOBS, job), &Deletion::default(), MANAGER);
            }
        }
        let due = self.due(cron_job);
        let mut scheduled = None;
        if let Some(due) = due {
            let policy = cron_job["spec"]["concurrencyPolicy"].as_str();
            if policy == Some("Replace") {
                for job in active.drain(..) {
                    let _gone = self.store.delete(&key_of(&JOBS, &job), &Deletion::default(), MANAGER);
                }
            }
            if policy == Some("Forbid") && !active.is_empty() {
                self.pass_over(cron_job, due);
            } else if let Some(job) = self.start(cron_job, due) {
                active.push(job);
                scheduled = Some(to_seconds(due));
            }
        }
        let references: Vec<_> = active.iter().map(|job| reference(job)).collect();
        let _reported =
            self.store.update(&key_of(&CRON_JOBS, cron_job), Writer::of_status(MANAGER), |cron_job| {
                let status = status_mut(cron_job);
                if references.is_empty() {
                    status.as_object_mut().and_then(|fields| fields.shift_remove("active"));
                } else {
                    status["active"] = references.into();
                }
                if let Some(scheduled) = scheduled {
                    status["lastScheduleTime"] = scheduled.into();
                }
                if let Some(last) =
                    last_success.filter(|last| status["lastSuccessfulTime"].as_str() < Some(*last))
                {
                    status["lastSuccessfulTime"] = last.into();
                }
                Ok(())
            });
    }

    /// Says once for each time of the schedule that no Job is made because there is one.
    fn pass_over(&mut self, cron_job: &Value, due: Timestamp) {
        if self.passed_over.insert(meta(cron_job, "uid").to_owned(), due) != Some(due) {
            let told = "Not starting job because prior execution is running and concurrency policy is Forbid";
            note(&self.store, cron_job, "JobAlreadyActive", told, COMPONENT);
        }
    }

    /// The latest time of the schedule that no Job was started for.
    fn due(&self, cron_job: &Value) -> Option<Timestamp> {
        let spec = &cron_job["spec"];
        if spec["suspend"] == true {
            return None;
        }
        let schedule = Schedule::read(spec["schedule"].as_str()?)?;
        let zone =
            spec["timeZone"].as_str().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
        let now = self.store.clock().now();
        let last = instant(&cron_job["status"]["lastScheduleTime"])
            .or_else(|| instant(&cron_job["metadata"]["creationTimestamp"]))?;
        let due = if self.minute < MINUTE && spec["schedule"] == EVERY_MINUTE {
            let now = Timestamp::from_second(now.as_second()).ok()?;
            let since = Duration::try_from(now.duration_since(last)).ok()?;
            (since >= self.minute.max(Duration::from_secs(1))).then_some(now)?
        } else {
            latest(&schedule, &zone, last, now)?
        };
        let patience = spec["startingDeadlineSeconds"].as_i64().map(SignedDuration::from_secs);
        let is_too_late = patience.is_some_and(|patience| now.duration_since(due) > patience);
        (!is_too_late).then_some(due)
    }

    fn start(&self, cron_job: &Value, due: Timestamp) -> Option<std::sync::Arc<Value>> {
        let template = &cron_job["spec"]["jobTemplate"];
        let mut metadata = json!({
            "name": format!("{}-{}", meta(cron_job, "name"), self.number(due)),
            "annotations": { "batch.kubernetes.io/cronjob-scheduled-timestamp": to_seconds(due) },
            "ownerReferences": [owner_reference(&CRON_JOBS, cron_job)],
        });
        if template["metadata"]["labels"].is_object() {
            metadata["labels"] = template["metadata"]["labels"].clone();
        }
        let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"] });
        self.store.create(&JOBS, meta(cron_job, "namespace"), job, Writer::of_object(MANAGER)).ok()
    }
}

impl CronJobs {
    /// What tells the Jobs of a CronJob apart: the minute, as on the real server.
    fn number(&self, due: Timestamp) -> i64 {
        if self.minute < MINUTE { due.as_second() } else { due.as_second() / 60 }
    }
}

fn reference(job: &Value) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "namespace": meta(job, "namespace"),
        "name": meta(job, "name"),
        "uid": meta(job, "uid"),
        "resourceVersion": meta(job, "resourceVersion"),
    })
}

/// The latest time of the schedule after `last` and not after `now`.
fn latest(schedule: &Schedule, zone: &TimeZone, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let minute = now.as_second().div_euclid(60);
    let first = last.as_second().div_euclid(60) + 1;
    let mut minutes = (first.max(minute - MINUTES_BACK_MAX)..=minute).rev();
    minutes.find_map(|minute| {
        let at = Timestamp::from_second(minute * 60).ok()?;
        schedule.holds(&Zoned::new(at, zone.clone())).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_missed_time_is_the_one() {
        let every_five = Schedule::read("*/5 * * * *").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let found = |last, now| latest(&every_five, &TimeZone::UTC, at(last), at(now));
        assert_eq!(found("2026-01-01T00:00:00Z", "2026-01-01T00:04:59Z"), None);
        assert_eq!(found("2026-01-01T00:00:00Z", "2026-01-01T00:17:30Z"), Some(at("2026-01-01T00:15:00Z")));
    }
}
