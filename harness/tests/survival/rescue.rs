//! Each kind of call that `harness restore` makes after a run was killed, failed once in each way.

use std::time::Duration;

use rustix::process::Signal;

use crate::lane::{FULL_OUTAGE, Lane};
use crate::matrix::{Case, Program, calm, play_all};

/// No trouble makes it take longer: it waits for the lock of the killed run, or for another one who restores, until nothing
/// that was sent can still come through, until all reads back, and until pods are there again.
const ENDS_WITHIN: Duration = Duration::from_secs(290);
/// So many runs are tried.
const HOLDS_AT_LAST: usize = 4;
const RESTORE: [&str; 3] = ["restore", "--env", "cluster.yaml"];

/// `harness restore`, after a run was killed that holds all of its faults.
struct Restore;

/// What somebody must undo now. A run that a busy machine ends before it holds anything is made again.
async fn kill_one_that_holds(lane: &Lane) {
    for _ in 0..HOLDS_AT_LAST {
        lane.stack.swept();
        let mut running = lane.stack.harness("run", &[lane.mode_for(FULL_OUTAGE, "120s")]);
        let holds = lane.until_it_holds(&mut running).await;
        if holds {
            running.signal(Signal::KILL);
        }
        running.end().await;
        if holds {
            return;
        }
    }
    panic!("no run holds its faults: {}", lane.story());
}

impl Program for Restore {
    async fn undisturbed(lane: &Lane) -> usize {
        kill_one_that_holds(lane).await;
        let from = lane.asked();
        lane.stack.command(&RESTORE).end().await.expect(0);
        assert_eq!(lane.changed().await, Vec::<String>::new());
        from
    }

    async fn play(case: &Case, lane: &Lane) -> Result<i32, String> {
        kill_one_that_holds(lane).await;
        case.begin(lane);
        let ended = tokio::time::timeout(ENDS_WITHIN, lane.stack.command(&RESTORE).end()).await;
        calm(lane);
        let Ok(ended) = ended else { return Err(format!("it does not end\n{}", lane.story())) };
        let said = format!("{}\n{}", ended.stdout, ended.stderr);
        let code = ended.status.code().ok_or("it ended by a signal")?;
        let is_open = !lane.open_records().is_empty();
        match code {
            0 if !is_open
                || said.contains("does not say so yet")
                || said.contains("may still come through") => {}
            0 => return Err(format!("exit code 0, and a record is open\n{said}\n{}", lane.story())),
            4 if said.contains("kubectl") || said.contains("cannot be told") => {}
            4 => return Err(format!("exit code 4 without what to do\n{said}")),
            _ => return Err(format!("exit code {code}\n{said}")),
        }
        // The API is well again, and somebody does it once more.
        let again = tokio::time::timeout(ENDS_WITHIN, lane.stack.command(&RESTORE).end()).await;
        let Ok(again) = again else { return Err(format!("it does not end the second time\n{said}")) };
        let (changed, open) = (lane.changed().await, lane.open_records());
        if again.status.code() == Some(0) && changed.is_empty() && open.is_empty() {
            return Ok(code);
        }
        Err(format!(
            "exit code {code}, then {:?}: {changed:?}\n{said}\n{}\n{}\n{}",
            again.status.code(),
            again.stdout,
            again.stderr,
            lane.story()
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_by_restores_whose_calls_fail() {
    play_all::<Restore>("restores", 8).await;
}
