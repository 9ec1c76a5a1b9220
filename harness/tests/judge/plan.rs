//! The plan of what is shipped.

use harness::environment::{Environment, Route};
use harness::plan::{Plan, PlannedKind, Step, resolve};
use harness::units::Period;

use super::journal::shipped;

fn plan(names: &[&str]) -> Plan {
    let (scenarios, environment) = shipped(names);
    resolve(&scenarios, &environment, Period::from_secs(3), 1)
}

fn injected(step: &Step) -> Vec<&str> {
    step.inject.iter().map(|fault| fault.component.as_str()).collect()
}

#[test]
fn the_five_modes_stop_each_slow_component_once() {
    let plan = plan(&[]);
    let told: Vec<_> = plan
        .steps
        .iter()
        .map(|step| (step.scenario.name.as_str(), step.inherited.clone(), injected(step), step.heal.clone()))
        .collect();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        told,
        [
            ("normal", names(&[]), vec![], names(&[])),
            ("cloud-down", names(&[]), vec!["cloud"], names(&["cloud"])),
            ("gaming", names(&[]), vec!["vllm"], names(&[])),
            ("cloud-gpu-down", names(&["vllm"]), vec!["cloud"], names(&[])),
            ("full-outage", names(&["cloud", "vllm"]), vec!["ollama"], names(&["cloud", "ollama", "vllm"])),
        ]
    );
    let kinds: Vec<&PlannedKind> =
        plan.steps.iter().flat_map(|step| &step.inject).map(|fault| &fault.kind).collect();
    assert_eq!(
        kinds.iter().map(|kind| kind.word()).collect::<Vec<_>>(),
        ["blackhole", "refuse", "blackhole", "refuse"]
    );
}

#[test]
fn alone_the_fault_that_moves_the_route_comes_last() {
    let plan = plan(&["cloud-gpu-down"]);
    assert_eq!(injected(&plan.steps[0]), ["vllm", "cloud"]);
    assert_eq!(plan.steps[0].heal, ["cloud", "vllm"]);
    let full = self::plan(&["full-outage"]);
    assert_eq!(injected(&full.steps[0]).last(), Some(&"cloud"));
}

#[test]
fn what_may_answer_and_is_not_taken_down_is_kept_up() {
    let (scenarios, mut environment) = shipped(&[]);
    let kept = |environment: &Environment| {
        let plan = resolve(&scenarios, environment, Period::from_secs(3), 1);
        let of = |name: &str| plan.steps.iter().find(|step| step.scenario.name == name).unwrap().clone();
        ["normal", "cloud-down", "full-outage"]
            .map(|name| of(name).keeps_up(environment).map(String::as_str).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(kept(&environment), ["cloud ollama vllm", "ollama vllm", ""]);
    let agent = environment.routes.get_mut("agent").unwrap();
    agent.fallbacks.retain(|alias| alias != "ollama-qwen");
    assert_eq!(kept(&environment), ["cloud vllm", "vllm", ""], "nobody asks ollama");
}

/// The first judged route stays where it is; the second is moved by another component.
#[test]
fn the_last_fault_is_one_that_moves_a_route() {
    let (mut scenarios, mut environment) = shipped(&["gaming"]);
    let route = |model: &str, next: &[&str]| Route {
        model: model.into(),
        fallbacks: next.iter().map(|alias| (*alias).to_owned()).collect(),
        via: harness::environment::Via::Gateway,
    };
    environment.routes.insert("helper".into(), route("ollama-qwen", &["cloud-kimi"]));
    let scenario = &mut scenarios[0];
    scenario.components.insert("ollama".into(), harness::scenario::ComponentState::Down);
    let mut traffic = scenario.traffic[0].clone();
    traffic.route = "helper".into();
    scenario.traffic.push(traffic);
    let mut expectation = scenario.expect["agent"].clone();
    expectation.answer = harness::scenario::Answer::ServedBy("cloud-kimi".into());
    scenario.expect.insert("helper".into(), expectation);
    let plan = resolve(&scenarios, &environment, Period::from_secs(3), 1);
    assert_eq!(injected(&plan.steps[0]), ["vllm", "ollama"], "ollama moves the helper");
}

#[test]
fn who_answers_before_and_after_is_predicted() {
    let plan = plan(&[]);
    let agent: Vec<_> = plan
        .steps
        .iter()
        .map(|step| {
            let route = &step.routes[0];
            assert_eq!(route.route, "agent");
            (route.before.as_deref(), route.after.as_deref(), route.fails_over)
        })
        .collect();
    let kimi = Some("cloud-kimi");
    assert_eq!(
        agent,
        [
            (kimi, kimi, false),
            (kimi, Some("vllm-qwen"), true),
            (kimi, kimi, false),
            (kimi, Some("ollama-qwen"), true),
            (Some("ollama-qwen"), None, true),
        ]
    );
}
