//! Jobs: their pods, their deadline, and their end some time after they have finished.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::events::{note, warn};
use super::objects::{
    count, instant, is_controlled_by, is_ending, is_true, key_of, meta, set_condition, set_count, status_mut,
};
use super::reconcile::Reconcile;
use super::replica_sets::{is_active, make_pod};
use crate::kubernetes::clock::to_seconds;
use crate::kubernetes::resources::{JOBS, PODS, Resource};
use crate::kubernetes::store::{Deletion, Propagation, Store, Writer};

const MANAGER: &str = "kube-controller-manager";
const COMPONENT: &str = "job-controller";
/// A Job makes no more pods than this at a look.
const PODS_AT_ONCE: u64 = 20;

/// The controller of Jobs, and that of their time to live.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(crate) store: Store,
    /// How often deadlines are looked at.
    pub(crate) tick: Duration,
}

impl Reconcile for Jobs {
    fn kinds(&self) -> Vec<&'static Resource> {
        vec![&JOBS, &PODS]
    }

    async fn reconcile(&mut self) -> Option<Duration> {
        let jobs = self.store.list(&JOBS, None).items;
        for job in &jobs {
            if is_ending(job) {
                continue;
            }
            if has_finished(job) {
                self.expire(job);
            } else if job["spec"]["suspend"] != true {
                self.run(job);
            }
        }
        // The clock can be put forward, so nothing is gained by counting down.
        (!jobs.is_empty()).then_some(self.tick)
    }
}

/// Whether a Job has come to its end, good or bad.
pub(super) fn has_finished(job: &Value) -> bool {
    is_true(job, "Complete") || is_true(job, "Failed")
}

/// Whether so many seconds have passed since then.
fn has_passed(now: Timestamp, since: Option<Timestamp>, seconds: &Value) -> bool {
    let (Some(since), Some(seconds)) = (since, seconds.as_i64()) else { return false };
    since.saturating_add(SignedDuration::from_secs(seconds)).is_ok_and(|due| due <= now)
}

impl Jobs {
    fn expire(&self, job: &Value) {
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        let ends = conditions.filter(|condition| condition["status"] == "True");
        let finished = ends.filter_map(|end| instant(&end["lastTransitionTime"])).max();
        if has_passed(self.store.clock().now(), finished, &job["spec"]["ttlSecondsAfterFinished"]) {
            let uid = Some(meta(job, "uid").to_owned());
            let deletion =
                Deletion { uid, propagation: Some(Propagation::Foreground), ..Deletion::default() };
            // One that is gone by now needs no more.
            let _expired = self.store.delete(&key_of(&JOBS, job), &deletion, MANAGER);
        }
    }

    fn run(&self, job: &Value) {
        let now = self.store.clock().now();
        let mut pods = self.store.list(&PODS, Some(meta(job, "namespace"))).items;
        pods.retain(|pod| is_controlled_by(pod, job));
        let in_phase = |phase: &str| pods.iter().filter(|pod| pod["status"]["phase"] == phase).count() as u64;
        let (succeeded, failed) = (in_phase("Succeeded"), in_phase("Failed"));
        let spec = &job["spec"];
        let wanted = spec["completions"].as_u64();
        let mut active: Vec<_> = pods.iter().filter(|pod| is_active(pod)).collect();
        let is_late = has_passed(now, instant(&job["status"]["startTime"]), &spec["activeDeadlineSeconds"]);
        let outcome = if is_late {
            Some(("DeadlineExceeded", "Job was active longer than specified deadline"))
        } else if failed > count(&spec["backoffLimit"], 6) {
            Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit"))
        } else {
            None
        };
        // Without a number the first success is enough, so that a Job without pods never completes: only its deadline
        // ends it. One that wants no success has completed at once.
        let is_complete = active.is_empty() && succeeded >= wanted.unwrap_or(1);
        // Pods that are asked to end are waited for: where nobody ends them, the Job never fails.
        let is_drained = active.is_empty() && !pods.iter().any(|pod| is_ending(pod));
        if outcome.is_some() {
            for pod in active.drain(..) {
                let _ended = self.store.delete(&key_of(&PODS, pod), &Deletion::default(), MANAGER);
            }
        } else if !is_complete {
            let left = match wanted {
                Some(wanted) => wanted.saturating_sub(succeeded),
                None if succeeded > 0 => 0,
                None => u64::MAX,
            };
            let room = count(&spec["parallelism"], 1).min(left);
            for _ in 0..room.saturating_sub(active.len() as u64).min(PODS_AT_ONCE) {
                let Some(name) = make_pod(&self.store, &JOBS, job) else { break };
                note(&self.store, job, "SuccessfulCreate", &format!("Created pod: {name}"), COMPONENT);
            }
        }
        if let Some((reason, told)) = outcome.filter(|_| is_drained) {
            warn(&self.store, job, reason, told, COMPONENT);
        } else if is_complete {
            note(&self.store, job, "Completed", "Job completed", COMPONENT);
        }
        let _reported = self.store.update(&key_of(&JOBS, job), Writer::of_status(MANAGER), |job| {
            let status = status_mut(job);
            if status["startTime"].is_null() {
                status["startTime"] = to_seconds(now).into();
            }
            set_count(job, "active", active.len() as u64);
            set_count(job, "succeeded", succeeded);
            set_count(job, "failed", failed);
            if let Some((reason, told)) = outcome {
                set_condition(job, "FailureTarget", true, reason, told, now);
                if is_drained {
                    set_condition(job, "Failed", true, reason, told, now);
                }
            } else if is_complete {
                set_condition(
                    job,
                    "SuccessCriteriaMet",
                    true,
                    "CompletionsReached",
                    "Reached expected number of succeeded pods",
                    now,
                );
                set_condition(
                    job,
                    "Complete",
                    true,
                    "CompletionsReached",
                    "Reached expected number of succeeded pods",
                    now,
                );
                status_mut(job)["completionTime"] = to_seconds(now).into();
            }
            Ok(())
        });
    }
}

/// The Jobs of a CronJob, oldest first.
pub(super) fn of_cron_job(store: &Store, cron_job: &Value) -> Vec<Arc<Value>> {
    let mut jobs = store.list(&JOBS, Some(meta(cron_job, "namespace"))).items;
    jobs.retain(|job| is_controlled_by(job, cron_job));
    jobs.sort_by_key(|job| meta(job, "creationTimestamp").to_owned());
    jobs
}
