//! Whoever restores and may not take the lock: a person goes on where nobody who lives holds it, and says so; a sweep
//! never does.

use mocks::kubernetes::api::{ChaosRule, Trouble};

use crate::child::Ended;
use crate::records::{asked, changes_since, killed, records, replicas, two_pods};
use crate::stack::Stack;

const RESTORE: [&str; 3] = ["restore", "--env", "cluster.yaml"];

/// These calls are refused like this, and somebody restores.
async fn refused(stack: &Stack, verb: &str, resource: &str, code: u16, how: &[&str]) -> Ended {
    let chaos = stack.household.cluster().chaos();
    let (verb, resource) = (verb.to_owned(), resource.to_owned());
    let trouble = Trouble::Refused { code, retry_after: None };
    chaos.add(ChaosRule { verb, resource, times: None, trouble });
    let ended = stack.command(&[&RESTORE, how].concat()).end().await;
    chaos.clear();
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_person_restores_without_the_lock_and_says_so() {
    let stack = two_pods().await;
    killed(&stack).await;
    let by_hand = "get configmap failover-harness-";
    let before = asked(&stack);
    let sweep: &[&str] = &["--abandoned"];
    let cases = [
        // Not by itself.
        ("update", 403, sweep, "needs the right to get, create and update leases"),
        // Whether a run lives is not known.
        ("get", 403, &[], "needs the right to get, create and update leases"),
        ("get", 403, sweep, "needs the right to get, create and update leases"),
        // Nobody asked whether its holder lives.
        ("update", 403, &["--take-over"], "needs the right to get, create and update leases"),
        ("", 401, &[], "the cluster does not know this user any more"),
        ("update", 401, &[], "the cluster does not know this user any more"),
        ("update", 401, sweep, "the cluster does not know this user any more"),
    ];
    for (verb, code, how, why) in cases {
        let ended = refused(&stack, verb, "leases", code, how).await.expect(4);
        let told = &ended.stderr;
        assert!(told.contains("error: nothing was undone of what "), "{verb} {code} {how:?}: {told}");
        assert!(told.contains(why) && told.contains(by_hand), "{verb} {code} {how:?}: {told}");
        assert_eq!(changes_since(&stack, before), [], "{verb} {code} {how:?}");
    }
    for how in [&[], sweep] {
        let ended = refused(&stack, "", "", 401, how).await.expect(4);
        assert!(
            ended.stderr.contains("left to restore cannot be told: cannot list configmaps"),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("401"), "{}", ended.stderr);
    }
    let restored = refused(&stack, "update", "leases", 403, &[]).await.expect(0);
    for said in [&restored.stdout, &restored.stderr] {
        assert!(said.contains("restored without the lock"), "{said}");
    }
    assert_eq!((replicas(&stack, "vllm"), &records(&stack)[0]["phase"]), (2, &"restored".into()));
    stack.assert_clean();
    stack.strike().await;
}
