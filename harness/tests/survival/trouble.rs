//! Each kind of call that a run makes, failed once in each way.

use std::time::Duration;

use crate::lane::{FULL_OUTAGE, Lane};
use crate::matrix::{Case, Program, calm, play_all};

/// No trouble makes a run with a hold of a second take longer: it waits a minute until the gateway has done what the run
/// before asked for, tries an undo for another, waits one until what was not answered can no longer come through and tries
/// for one more, tries again at the end of the run, reads back for half a minute, and tries once more: an object that cannot
/// be read for ever takes six.
const ENDS_WITHIN: Duration = Duration::from_secs(450);
/// So many runs without trouble are tried.
const COMPLETE_AT_LAST: usize = 4;

/// `harness run`, with a hold of a second.
struct Run;

impl Program for Run {
    async fn undisturbed(lane: &Lane) -> usize {
        // One that a busy machine cuts short is made again.
        for _ in 0..COMPLETE_AT_LAST {
            lane.stack.swept();
            let from = lane.asked();
            let ended = lane.stack.harness("run", &[lane.mode(FULL_OUTAGE)]).end().await;
            assert_eq!(lane.changed().await, Vec::<String>::new());
            if ended.result["ended"] == "completed" {
                return from;
            }
        }
        panic!("{:?}: no run is completed: {}", lane.variant, lane.story());
    }

    async fn play(case: &Case, lane: &Lane) -> Result<i32, String> {
        lane.stack.swept();
        case.begin(lane);
        let running = lane.stack.harness("run", &[lane.mode(FULL_OUTAGE)]);
        let ended = tokio::time::timeout(ENDS_WITHIN, running.end()).await;
        calm(lane);
        let Ok(ended) = ended else { return Err(format!("it does not end\n{}", lane.story())) };
        let code = ended.status.code().ok_or("it ended by a signal")?;
        let open = lane.open_records();
        match code {
            0 | 3 if ended.result["restored"] != true && ended.result["ended"] != "refused" => {
                return Err(format!("exit code {code}, and not restored\n{}", ended.stderr));
            }
            0 | 3 if open.is_empty() => {}
            // It is restored, and only the cluster could not be told so.
            0 | 3 if ended.result["findings"].to_string().contains("is not closed in the cluster") => {
                drop(lane.restore(&["--abandoned"]).await.expect(0));
            }
            0 | 3 => {
                return Err(format!("exit code {code}, and a record is open: {open:#?}\n{}", ended.stderr));
            }
            4 if ended.result["restored"] != false || !ended.reasons().contains("kubectl") => {
                return Err(format!("exit code 4 without what to do\n{}", ended.reasons()));
            }
            4 if open.is_empty() => {
                return Err(format!(
                    "exit code 4, and no record is open\n{}\n{}",
                    ended.reasons(),
                    lane.story()
                ));
            }
            // The API is well again: whoever comes next.
            4 => drop(lane.restore(&["--abandoned"]).await.expect(0)),
            _ => return Err(format!("exit code {code}\n{}\n{}", ended.stdout, ended.stderr)),
        }
        let (changed, open) = (lane.changed().await, lane.open_records());
        if !changed.is_empty() || !open.is_empty() {
            return Err(format!("exit code {code}: {changed:?}\n{}\n{}", ended.stderr, lane.story()));
        }
        Ok(code)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_by_runs_whose_calls_fail() {
    play_all::<Run>("runs", 16).await;
}
