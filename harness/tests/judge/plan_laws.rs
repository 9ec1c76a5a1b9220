//! Laws that hold for the plan of any set of scenarios.

use std::collections::{BTreeMap, BTreeSet};

use harness::environment::Environment;
use harness::plan::{PlannedKind, State, resolve};
use harness::scenario::{Answer, ComponentState, Scenario};
use harness::units::{Period, Rate};
use proptest::prelude::*;

use super::journal::shipped;

const COMPONENTS: [&str; 3] = ["cloud", "vllm", "ollama"];

fn state() -> impl Strategy<Value = Option<ComponentState>> {
    prop_oneof![
        2 => Just(None),
        2 => Just(Some(ComponentState::Down)),
        1 => Just(Some(ComponentState::Gone(vec!["cloud-kimi".to_owned()]))),
    ]
}

prop_compose! {
    fn mode()(states in proptest::collection::vec(state(), 3), rate in 1_u32..60, coder: bool) -> Scenario {
        let (scenarios, environment) = shipped(&["cloud-down"]);
        let mut scenario = scenarios[0].clone();
        scenario.components = BTreeMap::new();
        for (name, state) in COMPONENTS.iter().zip(states) {
            let state = match state {
                Some(ComponentState::Gone(_)) if *name != "cloud" => Some(ComponentState::Down),
                other => other,
            };
            scenario.components.extend(state.map(|state| ((*name).to_owned(), state)));
        }
        for traffic in &mut scenario.traffic {
            traffic.rate = Rate::new(f64::from(rate)).unwrap();
        }
        let mode = State::of(&scenario);
        for (name, expectation) in &mut scenario.expect {
            let server = mode.server(&environment.routes[name], &environment);
            expectation.answer = server.map_or(Answer::Error, Answer::ServedBy);
        }
        if !coder {
            scenario.expect.remove("coder");
        }
        scenario
    }
}

fn modes() -> impl Strategy<Value = Vec<Scenario>> {
    proptest::collection::vec(mode(), 1..=6).prop_map(|mut modes| {
        for (number, mode) in modes.iter_mut().enumerate() {
            mode.name = format!("mode-{number}");
        }
        modes
    })
}

fn local() -> Environment {
    shipped(&["normal"]).1
}

fn ceiling_of<'a>(alias: &str, environment: &'a Environment) -> Option<&'a Rate> {
    let mut components = environment.components.values();
    components.find(|component| component.aliases.iter().any(|own| own == alias))?.ceilings.rate.as_ref()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn each_mode_is_entered_and_left_as_planned(modes in modes()) {
        let environment = local();
        let plan = resolve(&modes, &environment, Period::from_secs(3), 1);
        let planned: BTreeSet<&str> = plan.steps.iter().map(|step| step.scenario.name.as_str()).collect();
        prop_assert_eq!((plan.steps.len(), planned.len()), (modes.len(), modes.len()));

        let mut down: BTreeMap<String, ComponentState> = BTreeMap::new();
        for step in &plan.steps {
            let still: Vec<&String> = down.keys().collect();
            prop_assert_eq!(step.inherited.iter().collect::<BTreeSet<_>>(), still.into_iter().collect());
            for (name, expectation) in &step.scenario.expect {
                let planned = step.routes.iter().find(|route| route.route == *name).unwrap();
                if matches!(&expectation.answer, Answer::ServedBy(alias) if *alias != planned.model) {
                    prop_assert_eq!(planned.before.as_ref(), Some(&planned.model), "starts from its primary");
                    prop_assert!(planned.fails_over);
                }
            }
            for fault in &step.inject {
                let state = match &fault.kind {
                    PlannedKind::Down(_) => ComponentState::Down,
                    PlannedKind::Gone(aliases) => ComponentState::Gone(aliases.clone()),
                };
                prop_assert_eq!(down.insert(fault.component.clone(), state), None, "injected twice");
            }
            prop_assert_eq!(&down, &step.scenario.components, "the mode is what it says");
            for component in &step.heal {
                prop_assert!(down.remove(component).is_some(), "healed while up");
            }
        }
        prop_assert!(down.is_empty(), "left down: {:?}", down);
    }

    #[test]
    fn rates_stay_below_the_ceilings(modes in modes()) {
        let environment = local();
        for step in &resolve(&modes, &environment, Period::from_secs(3), 1).steps {
            for route in &step.routes {
                for alias in route.before.iter().chain(&route.after) {
                    if let Some(ceiling) = ceiling_of(alias, &environment) {
                        prop_assert!(route.rate.per_second() <= ceiling.per_second());
                    }
                }
                let wished = &step.scenario.traffic.iter().find(|t| t.route == route.route).unwrap().rate;
                prop_assert!(route.rate.per_second() <= wished.per_second());
            }
        }
    }

    /// Lead and judged time alone, so a lower bound of what is sent: one probe a mode may be rounded up.
    #[test]
    fn the_requests_of_a_run_stay_below_the_ceilings(modes in modes(), limit in 50_u64..2000) {
        let mut environment = local();
        for component in environment.components.values_mut() {
            component.ceilings.requests = Some(limit);
            component.ceilings.tokens = None;
        }
        let plan = resolve(&modes, &environment, Period::from_secs(3), 1);
        let mut asked = 0.0;
        for step in &plan.steps {
            for route in &step.routes {
                let seconds = 3.0 + route.hold.0.as_secs_f64();
                asked += seconds * route.rate.per_second() - 1.0;
            }
        }
        // Every route may reach the cloud.
        prop_assert!(asked <= limit as f64, "{asked} of {limit}");
    }

    #[test]
    fn the_plan_does_not_depend_on_the_order_of_files(modes in modes().prop_shuffle(), seed: u64) {
        let environment = local();
        let plan = resolve(&modes, &environment, Period::from_secs(3), seed);
        let mut sorted = modes.clone();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        prop_assert_eq!(&resolve(&sorted, &environment, Period::from_secs(3), seed), &plan);
        prop_assert_eq!(&resolve(&modes, &environment, Period::from_secs(3), seed), &plan);
    }
}

#[test]
fn components_that_take_forever_are_planned_too() {
    let (scenarios, mut environment) = shipped(&[]);
    for component in environment.components.values_mut() {
        component.ready_within = Period(std::time::Duration::MAX);
    }
    assert_eq!(resolve(&scenarios, &environment, Period::from_secs(3), 1).steps.len(), 5);
}
