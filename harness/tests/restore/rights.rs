//! A user who may do what is asked for, and nothing else.

use harness::cluster::permissions::{Need, needed, needed_to_restore};
use harness::environment::Environment;
use mocks::gateway::Secret;
use mocks::kubernetes::api::User;
use rustix::process::Signal;

use crate::records::{LONG, asked, records, replicas};
use crate::stack::{CLOUD_AND_GPU_DOWN, Stack, Staging, rules};

const USER: &str = "minimal";

/// What this user was refused since.
fn refused(stack: &Stack, from: usize) -> Vec<String> {
    let entries = stack.household.cluster().audit().entries();
    let refused = entries.iter().skip(from).filter(|entry| entry.user == USER && entry.code == 403);
    refused.map(|entry| format!("{} {} {}", entry.verb, entry.resource, entry.namespace)).collect()
}

async fn start() -> (Stack, Environment) {
    let user = User { name: USER.to_owned(), token: Secret::new("token-of-the-minimal"), rules: Vec::new() };
    let stack = Stack::start(Staging { user: Some(user), ..Staging::default() }).await;
    let environment = stack.environment();
    assert!(stack.household.cluster().set_rules(USER, rules(&needed(&environment))));
    (stack, environment)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_with_what_a_plan_asks_for() {
    let (stack, _) = start().await;
    let file = stack.scenario("cloud-gpu-down", CLOUD_AND_GPU_DOWN);
    stack.harness("run", &[file]).end().await.expect(0);
    assert_eq!(refused(&stack, 0), Vec::<String>::new());
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweeper_needs_no_right_to_make_a_fault() {
    let (stack, environment) = start().await;
    let file = stack.scenario("cloud-gpu-down", LONG);
    let mut running = stack.harness("run", &[file]);
    running.until_it_says("judging").await;
    running.signal(Signal::KILL);
    running.end().await;
    let needs = needed_to_restore(&environment);
    let makes =
        |need: &&Need| need.verb == "create" && !["leases", "events"].contains(&need.resource.as_str());
    assert_eq!(needs.iter().find(makes), None);
    assert!(stack.household.cluster().set_rules(USER, rules(&needs)));
    let before = asked(&stack);
    stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(0);
    assert_eq!(refused(&stack, before), Vec::<String>::new());
    assert_eq!((replicas(&stack, "vllm"), &records(&stack)[0]["phase"]), (1, &"restored".into()));
    stack.assert_clean();
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_that_could_not_restore_does_not_count_as_one_that_works() {
    let (stack, environment) = start().await;
    let sweep = async |needs: &[Need], code: i32| {
        assert!(stack.household.cluster().set_rules(USER, rules(needs)));
        stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(code)
    };
    let mut needs = needed_to_restore(&environment);
    let able = sweep(&needs, 0).await;
    assert!(able.stdout.contains("no run has left anything"), "{}", able.stdout);
    let is_it = |need: &Need| {
        (need.verb.as_str(), need.resource.as_str(), need.name.as_deref())
            == ("patch", "deployments/scale", Some("vllm"))
    };
    needs.retain(|need| !is_it(need));
    let unable = sweep(&needs, 4).await;
    let told = "unable to restore: this user may not patch deployments/scale in ml, called vllm\n";
    assert!(unable.stdout.contains(told), "{}", unable.stdout);
    assert_eq!(unable.stdout.matches("unable to restore").count(), 1, "{}", unable.stdout);
    // What can be done without is not missed.
    needs = needed_to_restore(&environment);
    needs.retain(|need| need.optional.is_none());
    sweep(&needs, 0).await;
    assert_eq!(stack.mutations().len(), 0, "nothing was touched");
    stack.strike().await;
}
