//! `harness restore` while calls hang for ever: it ends in bounded time, and says what to do.

use std::time::{Duration, Instant};

use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::resources::NETWORK_POLICIES;

use crate::records::{killed, replicas, two_pods};

/// A person waits for the lock of the killed run (15 s), and then the undo that hangs is tried for a minute, with one call
/// and one alarm at its end.
const PERSON_ENDS_WITHIN: Duration = Duration::from_secs(15 + 60 + 4 * 10 + 20);
/// The next sweep finds nothing of it.
const SWEEP_ENDS_WITHIN: Duration = Duration::from_secs(60);

/// What hangs, and what is said of that.
struct Case {
    verb: &'static str,
    resource: &'static str,
    says: &'static str,
    /// Whether everything else is undone meanwhile.
    undoes_the_rest: bool,
}

const CASES: [Case; 3] = [
    Case {
        verb: "patch",
        resource: "deployments/scale",
        says: "kubectl --kubeconfig kubeconfig --context mock -n ml scale deployment/vllm --current-replicas=0 --replicas=2",
        undoes_the_rest: true,
    },
    Case {
        verb: "update",
        resource: "leases",
        says: "kubectl --kubeconfig kubeconfig --context mock -n ml get configmap failover-harness-",
        undoes_the_rest: false,
    },
    Case {
        verb: "",
        resource: "",
        says: "whether something is left to restore cannot be told",
        undoes_the_rest: false,
    },
];

async fn hangs(case: &Case, how: &[&str], within: Duration) {
    let stack = two_pods().await;
    killed(&stack).await;
    let chaos = stack.household.cluster().chaos();
    let (verb, resource) = (case.verb.to_owned(), case.resource.to_owned());
    chaos.add(ChaosRule { verb, resource, times: None, trouble: Trouble::Hang });
    let begun = Instant::now();
    let arguments = [&["restore", "--env", "cluster.yaml"], how].concat();
    let ended = stack.command(&arguments).end().await.expect(4);
    let (took, words) = (begun.elapsed(), format!("{} {}", case.verb, case.resource));
    assert!(took < within, "{words} {how:?}: it took {took:?}");
    let said = format!("{}\n{}", ended.stdout, ended.stderr);
    assert!(said.contains(case.says), "{words} {how:?}: {said}");
    let policies = stack.household.cluster().store().list(&NETWORK_POLICIES, None).items.len();
    assert_eq!(policies == 0, case.undoes_the_rest, "{words} {how:?}: {said}");
    assert_eq!(replicas(&stack, "vllm"), 0, "it hangs");
    chaos.clear();
    stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    assert_eq!(replicas(&stack, "vllm"), 2);
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_calls_hang_ends_in_bounded_time_and_says_what_to_do() {
    let [scale, lock, all] = &CASES;
    let sweep = ["--abandoned"];
    tokio::join!(
        hangs(scale, &[], PERSON_ENDS_WITHIN),
        hangs(scale, &sweep, SWEEP_ENDS_WITHIN),
        hangs(lock, &[], PERSON_ENDS_WITHIN),
        hangs(lock, &sweep, SWEEP_ENDS_WITHIN),
        hangs(all, &[], PERSON_ENDS_WITHIN),
        hangs(all, &sweep, SWEEP_ENDS_WITHIN),
    );
}
