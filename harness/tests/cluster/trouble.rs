//! An API that has a bad time while a run undoes what it made.

use mocks::kubernetes::api::{ChaosRule, Trouble};

use crate::stack::{CLOUD_AND_GPU_DOWN, Stack, Staging};

/// What an undo asks of the API here.
const ASKED: [(&str, &str); 6] = [
    ("get", "deployments/scale"),
    ("patch", "deployments/scale"),
    ("get", "networkpolicies"),
    ("delete", "networkpolicies"),
    ("get", "jobs"),
    ("delete", "jobs"),
];

/// Each of these requests is troubled so many times, from when the faults are held; all is undone in spite of it. What
/// cannot be read at the end of the hold is not known to have held, so trouble with reads leaves the mode open.
async fn undone_in_spite_of(name: &str, trouble: Trouble, asked: &[(&str, &str)], times: u32) {
    let stack = Stack::start(Staging::default()).await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    let before = stack.household.cluster().audit().entries().len();
    for (verb, resource) in asked {
        stack.household.cluster().chaos().add(ChaosRule {
            verb: (*verb).to_owned(),
            resource: (*resource).to_owned(),
            times: Some(times),
            trouble: trouble.clone(),
        });
    }
    let ended = running.end().await.expect(0);
    assert_eq!(ended.result["restored"], true, "{name}");
    let later = stack.household.cluster().audit().entries().split_off(before);
    let troubled = later.iter().filter(|entry| entry.is_mutation() && !(200..300).contains(&entry.code));
    assert!(troubled.count() >= 3, "{name}: each of the three undos met it");
    assert_eq!(stack.replicas("vllm"), 1, "{name}");
    stack.assert_clean();
    stack.strike().await;
}

fn refused(code: u16, retry_after: Option<u32>) -> Trouble {
    Trouble::Refused { code, retry_after }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_refuses_for_a_while_delays_the_undo_and_does_not_prevent_it() {
    let writes = [ASKED[1], ASKED[3], ASKED[5]];
    tokio::join!(
        undone_in_spite_of("a conflict", refused(409, None), &writes, 2),
        undone_in_spite_of("too many requests", refused(429, Some(1)), &ASKED, 2),
        undone_in_spite_of("an error", refused(500, None), &ASKED, 2),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_not_heard_delays_the_undo_and_does_not_prevent_it() {
    let writes = [ASKED[1], ASKED[3], ASKED[5]];
    tokio::join!(
        undone_in_spite_of("nobody there", refused(503, Some(1)), &ASKED, 3),
        undone_in_spite_of("a reset", Trouble::Cut, &ASKED, 2),
        undone_in_spite_of("an answer that is lost", Trouble::LostAnswer, &writes, 1),
    );
}
