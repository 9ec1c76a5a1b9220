use std::time::Duration;

use super::{
    CALL_LIMIT, CLOSED_WITHIN, COMPLETION_LIMIT, FILTER_MADE_WITHIN, INTENDED_WITHIN, LOCKED_WITHIN,
    LOOKED_WITHIN, MADE_WITHIN, NOTED_WITHIN, PODS, Patience, REACHED_WITHIN, REPORTED_WITHIN,
    RESTORE_RESERVE, SEEN_AGAIN_WITHIN, Schedule, before_within, held_read_within, schedule, too_short,
};
use crate::environment::Environment;
use crate::input;
use crate::plan::Plan;

const SCENARIO: &str = "\
scenario: one-down
title: For a test
requirements: [FR217]
components: { cloud: down }
traffic:
  - { route: agent, rate: 4/s, for: 6s, stream: mixed }
expect:
  agent: { served_by: vllm-qwen, within: 5s, errors: 0 }
";

/// What a Job needs whose cloud is taken down like this.
fn with(cloud: &str, more: &str) -> Schedule {
    let (plan, environment) = resolved(cloud, more);
    schedule(&plan, &environment)
}

fn resolved(cloud: &str, more: &str) -> (Plan, Environment) {
    let dir = tempfile::tempdir().unwrap();
    let (scenario, file) = (dir.path().join("one-down.yaml"), dir.path().join("cluster.yaml"));
    std::fs::write(&scenario, SCENARIO).unwrap();
    let text = format!(
        "environment: test-cluster\n\
         kubernetes: {{ in_cluster: true, namespaces: [ml] }}\n\
         gateway:\n  \
         service: ml/litellm\n  port: 4000\n  pods: \"app=litellm\"\n  \
         key: {{ secret: ml/key, field: KEY }}\n\
         components:\n  \
         cloud: {{ aliases: [cloud-kimi], endpoint: \"https://ollama.com\", {cloud}, ready_within: 30s }}\n  \
         vllm: {{ aliases: [vllm-qwen], deployment: ml/vllm, down: scale-to-zero, ready_within: 30s{more} }}\n\
         routes:\n  agent: {{ model: cloud-kimi, fallbacks: [vllm-qwen] }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let loaded = input::load(&[scenario], file.to_str()).unwrap();
    let plan = crate::plan::resolve(
        &loaded.scenarios,
        &loaded.environment,
        crate::run::lead(&loaded.environment),
        0,
    );
    (plan, loaded.environment)
}

const BY_POLICY: &str = "down: { blackhole: network-policy }";
const BY_FILTER: &str = "down: { blackhole: netns-drop }";
const BY_GATE: &str = "down: { blackhole: egress-proxy }, proxy: { service: ml/gate, deployment: ml/gate }";

#[test]
fn the_grace_holds_whatever_has_to_be_tried_until_its_bound() {
    let patience = Patience::IN_CLUSTER;
    // The policy and its Job, one after the other; meanwhile vLLM, which takes less.
    let undone = patience.one_undo() * 2 + patience.one_read_back() + NOTED_WITHIN * 2;
    let settled = patience.lands_within + patience.one_undo() + patience.one_read_back() + NOTED_WITHIN * 2;
    // What reads as changed at the end has one more try, and is read back again.
    let read_back = (patience.one_read_back() + NOTED_WITHIN * 2) * 2 + patience.last_try * 2;
    // What else a run that was cut short waits for at its end.
    let ended = CLOSED_WITHIN + CALL_LIMIT;
    let looked = RESTORE_RESERVE + COMPLETION_LIMIT + REACHED_WITHIN + REPORTED_WITHIN;
    let needed = with(BY_POLICY, "").grace;
    let bounds = INTENDED_WITHIN + MADE_WITHIN + undone + settled + read_back + ended + looked;
    assert!(needed >= bounds, "{needed:?} {bounds:?}");
    // SIGTERM as a heal begins that fails: it ends, everything is undone once more, and read back.
    assert!(needed > undone + undone + settled + read_back + CLOSED_WITHIN, "{needed:?}");
    // SIGTERM while what earlier runs have left is undone.
    assert!(needed > crate::restore::CUT_WITHIN + CLOSED_WITHIN + CALL_LIMIT * 2, "{needed:?}");
}

#[test]
fn an_undo_has_the_time_for_an_alarm_that_is_due_just_before_its_last_try() {
    let patience = Patience::IN_CLUSTER;
    // The event of that alarm, a moment, the last try, and the event of its alarm.
    let last = CALL_LIMIT + patience.again_after + patience.last_try + CALL_LIMIT;
    assert!(patience.one_undo() >= patience.undo_within + last, "{:?}", patience.one_undo());
}

/// They are written together: with each more component nothing more is written than with two.
#[test]
fn notes_of_any_number_of_components_take_two_writes() {
    let one = " }\n  more: { aliases: [more], deployment: ml/more, down: scale-to-zero, ready_within: 30s";
    let two = format!("{one}{}", one.replace("more", "most"));
    let grace = |more: &str| with(BY_POLICY, more).grace;
    assert_eq!(grace(""), grace(one));
    assert_eq!(grace(one), grace(&two));
}

#[test]
fn what_is_undone_at_once_is_not_counted_one_after_the_other() {
    let patience = Patience::IN_CLUSTER;
    let (policy, gate) = (with(BY_POLICY, "").grace, with(BY_GATE, "").grace);
    assert!(policy - gate >= patience.one_undo(), "one round for all gates, two for policy and Job");
    // Somebody who has to be told to go on comes after what is scaled back: as many rounds as the policy has.
    assert_eq!(with(BY_GATE, ", opponents: { pause: [keda] }").grace, policy);
    // One round more counts twice: a heal that fails is under way, and everything is undone once more; and then there is
    // one more try.
    let three = with(BY_POLICY, ", opponents: { pause: [keda, argo-cd] }").grace;
    assert_eq!(three - policy, patience.one_undo() * 2 + patience.last_try);
}

#[test]
fn each_pod_of_a_gateway_takes_its_time_to_be_told() {
    let made = |cloud| with(cloud, "").longest;
    let per_pod = |one: Duration| (INTENDED_WITHIN + one) * PODS;
    let undone = Patience::IN_CLUSTER.one_undo();
    // One round less than the policy and its Job.
    let policy = made(BY_POLICY) - (INTENDED_WITHIN + MADE_WITHIN) * 2 - undone;
    assert_eq!(made(BY_GATE), policy + per_pod(MADE_WITHIN));
    assert_eq!(made(BY_FILTER), policy + per_pod(FILTER_MADE_WITHIN));
}

#[test]
fn what_is_read_at_the_end_of_a_mode_holds_its_slowest_read() {
    let patience = Patience::IN_CLUSTER;
    // A gate's read that begins just in time is three calls long, after probers that had to look once more.
    let one = SEEN_AGAIN_WITHIN + patience.read_again_within + CALL_LIMIT * 3;
    assert!(held_read_within(1) >= one, "{:?}", held_read_within(1));
    assert!(held_read_within(2) >= one * 2, "components are read one after the other");
}

#[test]
fn what_earlier_runs_have_left_has_its_time_before_the_first_mode() {
    let longest = |more: &str| with(BY_GATE, more).longest;
    let minutes = Duration::from_secs(60);
    // A component that nobody takes down in this plan: only an earlier run may have.
    let slow = longest(
        " }\n  ollama: { aliases: [ollama-qwen], deployment: ml/ollama, down: scale-to-zero, ready_within: 11m",
    );
    assert!(slow > longest("") + minutes * 10, "{slow:?}");
}

#[test]
fn records_are_asked_for_twice_before_the_first_mode_each_time_patiently() {
    let environment = resolved(BY_GATE, "").1;
    let asked = (crate::restore::ANSWERS_WITHIN + CALL_LIMIT) * 2;
    let others = LOCKED_WITHIN + crate::restore::earlier_within(&environment) + LOOKED_WITHIN;
    assert!(before_within(&environment) >= others + asked, "{:?}", before_within(&environment));
}

#[test]
fn a_job_outlives_the_deadline_of_its_run_and_the_grace() {
    let needed = with(BY_FILTER, "");
    assert!(needed.active_deadline >= needed.deadline.0 + needed.grace);
    assert!(needed.deadline.0 > needed.longest);
}

#[test]
fn a_deadline_that_is_shorter_than_a_run_may_take_is_named() {
    let (plan, environment) = resolved(BY_POLICY, "");
    let needed = schedule(&plan, &environment).deadline.0;
    assert_eq!(too_short(needed, &plan, &environment), None);
    let words = too_short(Duration::from_secs(300), &plan, &environment).unwrap();
    assert!(words.starts_with("--deadline 5m is shorter than the "), "{words}");
    let local = input::environment("local").unwrap();
    assert_eq!(too_short(Duration::from_secs(1), &plan, &local), None, "nobody waits for a cluster");
}
