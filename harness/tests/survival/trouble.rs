//! Each kind of call that a run makes, failed once in each way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mocks::kubernetes::api::{ChaosRule, Trouble};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokio::sync::Mutex;

use crate::lane::{Lane, figures, setting};

/// No trouble makes a run with a hold of a second take longer: it tries an undo for a minute, reads back for half of one,
/// and waits another until what was not answered can no longer come through.
const ENDS_WITHIN: Duration = Duration::from_secs(240);
/// All components are down in it, so it makes every call.
const FULL_OUTAGE: usize = 3;

/// One call, and what becomes of it.
#[derive(Clone, Debug)]
struct Case {
    verb: String,
    resource: String,
    /// How many of these calls come through before.
    step: u32,
    /// How many fail; none for all that follow.
    times: Option<u32>,
    trouble: Trouble,
}

/// What can become of a call: what the API says, what the network does.
fn troubles() -> [(Trouble, Option<u32>); 8] {
    let refused = |code, retry_after| Trouble::Refused { code, retry_after };
    [
        (refused(409, None), Some(1)),
        (refused(429, Some(1)), Some(1)),
        (refused(500, None), Some(1)),
        (refused(503, None), None),
        (refused(403, None), Some(1)),
        (Trouble::Cut, Some(1)),
        (Trouble::Hang, Some(1)),
        (Trouble::LostAnswer, Some(1)),
    ]
}

/// All of them: the first, a middle and the last call of each kind that a run without trouble makes.
async fn cases() -> Vec<Case> {
    let lane = Lane::start().await;
    let file = lane.mode(FULL_OUTAGE);
    let ended = lane.stack.harness("run", &[file]).end().await;
    assert_eq!(ended.result["ended"], "completed", "{}", ended.stderr);
    let mut calls = BTreeMap::<(String, String), u32>::new();
    for entry in lane.stack.household.cluster().audit().entries() {
        *calls.entry((entry.verb, entry.resource)).or_default() += 1;
    }
    lane.stack.strike().await;
    let mut cases = Vec::new();
    for ((verb, resource), count) in calls {
        let mut steps = vec![0, count / 2, count - 1];
        steps.dedup();
        for step in steps {
            for (trouble, times) in troubles() {
                let (verb, resource) = (verb.clone(), resource.clone());
                cases.push(Case { verb, resource, step, times, trouble });
            }
        }
    }
    cases
}

impl Case {
    /// The exit code, or a complaint.
    async fn play(&self, lane: &Lane) -> Result<i32, String> {
        lane.stack.swept();
        let file = lane.mode(FULL_OUTAGE);
        let chaos = lane.stack.household.cluster().chaos().clone();
        let Self { verb, resource, step, times, trouble } = self.clone();
        chaos.add_after(step, ChaosRule { verb, resource, times, trouble });
        let running = lane.stack.harness("run", &[file]);
        let ended = tokio::time::timeout(ENDS_WITHIN, running.end()).await;
        chaos.clear();
        let Ok(ended) = ended else { return Err("it does not end".to_owned()) };
        let code = ended.status.code().ok_or("it ended by a signal")?;
        if ![0, 3, 4].contains(&code) {
            return Err(format!("exit code {code}\n{}\n{}", ended.stdout, ended.stderr));
        }
        if code == 4 {
            if ended.result["restored"] != false || !ended.reasons().contains("kubectl") {
                return Err(format!("exit code 4 without what to do\n{}", ended.reasons()));
            }
            // The API is well again: whoever comes next.
            drop(lane.restore(&["--abandoned"]).await.expect(0));
        } else if ended.result["restored"] != true && ended.result["ended"] != "refused" {
            return Err(format!("exit code {code}, and not restored\n{}", ended.stderr));
        }
        let changed = lane.changed().await;
        if !changed.is_empty() {
            return Err(format!("exit code {code}: {changed:?}\n{}\n{}", ended.stderr, lane.story()));
        }
        Ok(code)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_by_runs_whose_calls_fail() {
    let (seed, wanted) = (setting("HARNESS_TEST_SEED", 7), setting("FAILOVER_TEST_TROUBLES", 16));
    let lanes = setting("FAILOVER_TEST_LANES", 5);
    let begun = Instant::now();
    let mut cases = cases().await;
    let all = cases.len();
    if let Ok(words) = std::env::var("FAILOVER_TEST_TROUBLES_OF") {
        cases.retain(|case| format!("{case:?}").contains(&words));
    }
    cases.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    if wanted > 0 {
        cases.truncate(usize::try_from(wanted).unwrap());
    }
    let played = cases.len();
    let cases = Arc::new(Mutex::new(cases));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..lanes {
        let cases = Arc::clone(&cases);
        tasks.spawn(async move {
            let mut lane = Lane::start().await;
            let (mut codes, mut complaints) = (BTreeMap::<i32, u64>::new(), Vec::new());
            loop {
                let Some(case) = cases.lock().await.pop() else { break };
                match case.play(&lane).await {
                    Ok(code) => *codes.entry(code).or_default() += 1,
                    Err(complaint) => {
                        complaints.push(format!("seed {seed}, {case:?}: {complaint}"));
                        // What is left would disturb the next.
                        lane.stack.strike().await;
                        lane = Lane::start().await;
                    }
                }
            }
            lane.stack.strike().await;
            (codes, complaints)
        });
    }
    let (mut codes, mut complaints) = (BTreeMap::<i32, u64>::new(), Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (some, more) = ended.unwrap();
        for (code, count) in some {
            *codes.entry(code).or_default() += count;
        }
        complaints.extend(more);
    }
    let took = begun.elapsed().as_secs();
    figures(&format!(
        "{played} of {all} kinds of trouble in {took} s, exit codes {codes:?}, {} complaints\n{}\n",
        complaints.len(),
        complaints.join("\n\n")
    ));
    assert!(complaints.is_empty(), "{} of {played}:\n{}", complaints.len(), complaints.join("\n\n"));
    assert!(played > 0 && codes.values().sum::<u64>() == u64::try_from(played).unwrap());
}
