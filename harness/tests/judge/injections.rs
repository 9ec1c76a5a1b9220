//! Faults that are injected more than once: each event by itself, the worst of them, and what all of them support.

use harness::journal::{Event, Outcome};
use harness::verdict::result::{
    Bracket, Failover, FaultResult, Measure, RequirementVerdict, RunResult, ScenarioResult, Verdict,
};

use super::journal::{Part, Slot, Story, Told, shipped};
use super::{expect_verdict, requirement, route, scenario};

fn cloud_down(injections: u32) -> Story {
    Story::changed("cloud-down", move |scenario| scenario.injections = injections)
}

fn told(injections: u32, edit: impl Fn(&Slot, &mut Told) + 'static) -> RunResult {
    let agent = move |slot: &Slot, told: &mut Told| {
        if slot.route == "agent" {
            edit(slot, told);
        }
    };
    cloud_down(injections).edit(agent).judge()
}

fn failover(result: &RunResult) -> &Failover {
    route(result, "cloud-down", "agent").failover.as_ref().unwrap()
}

fn only(result: &RunResult) -> &ScenarioResult {
    let [only] = result.scenarios.as_slice() else { panic!("{:?}", result.scenarios.len()) };
    only
}

#[test]
fn a_plan_injects_so_often_and_begins_and_ends_with_all_up() {
    let (mut scenarios, environment) = shipped(&[]);
    for repeated in scenarios.iter_mut().filter(|scenario| scenario.name == "cloud-down") {
        repeated.injections = 4;
    }
    let plan = Story::with(&scenarios, environment).plan;
    let numbers = |name: &str| -> Vec<Option<u32>> {
        let steps = plan.steps.iter().filter(|step| step.scenario.name == name);
        steps.map(|step| step.injection).collect()
    };
    assert_eq!(numbers("cloud-down"), [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(numbers("full-outage"), [None]);
    for step in plan.steps.iter().filter(|step| step.injection.is_some()) {
        assert!(step.inherited.is_empty(), "{:?}", step.inherited);
        assert_eq!((step.inject.len(), step.heal.as_slice()), (1, &["cloud".to_owned()][..]));
        assert_eq!(step.routes[0].before.as_deref(), Some("cloud-kimi"));
    }
    let first = plan.steps.iter().position(|step| step.injection == Some(1)).unwrap();
    let alike = plan.steps[first..first + 4].iter().all(|step| step.scenario.name == "cloud-down");
    assert!(alike, "nothing comes between them");
    // What stands before them leaves nothing down for them to inherit.
    assert!(plan.steps[..first].last().is_none_or(|step| step.scenario.components.len() == step.heal.len()));
}

#[test]
fn each_event_has_its_figures_and_the_worst_is_the_scenarios() {
    let result = told(5, |slot, told| {
        let took_ms = 200 * u64::from(slot.injection.unwrap());
        if slot.part == Part::Judged && slot.nth == 1 {
            told.after(took_ms * 1000);
        }
    });
    expect_verdict(&result, Verdict::Pass, "all well");
    let mode = only(&result);
    let worst: Vec<Option<f64>> =
        mode.events.iter().map(|event| event.routes[0].failover.as_ref().unwrap().worst_ms).collect();
    assert_eq!(worst, [200.0, 400.0, 600.0, 800.0, 1000.0].map(Some));
    let all = failover(&result);
    assert_eq!((all.injections, all.worst_ms), (5, Some(1000.0)));
    assert_eq!(
        mode.faults.iter().map(|fault| fault.injection).collect::<Vec<_>>(),
        (1..=5).map(Some).collect::<Vec<_>>()
    );
    let agent = route(&result, "cloud-down", "agent");
    let judged: u64 = mode.events.iter().map(|event| event.routes[0].requests).sum();
    assert_eq!((agent.requests, agent.ok, agent.latency_ms.count), (judged, judged, judged));
    assert!(judged > 400, "8/s for 12 s, five times: {judged}");
}

#[test]
fn what_n_of_n_supports_is_told_and_what_they_cannot_is_not() {
    let result = told(20, |_, _| {});
    let support = failover(&result).support.clone().unwrap();
    assert_eq!((support.well, support.confidence_percent, support.at_least_percent), (20, 95.0, 86.0));
    let bound = |of, percent| {
        let bound = support.bounds.iter().find(|bound| bound.of == of && bound.percent == percent).unwrap();
        (bound.at_most_ms.is_some(), bound.needed)
    };
    assert_eq!(bound(Measure::Worst, 50), (true, None));
    assert_eq!(bound(Measure::Worst, 90), (false, Some(29)));
    assert_eq!(bound(Measure::Steady, 99), (false, Some(299)));
    let nfr123 = result.requirements.iter().find(|requirement| requirement.id == "NFR123").unwrap();
    assert!(nfr123.detail.contains("20 of 20 injections went well"), "{}", nfr123.detail);
    assert!(nfr123.detail.contains("at least 86 % of such outages"), "{}", nfr123.detail);
    assert!(nfr123.detail.contains("known to within 12 ms"), "{}", nfr123.detail);
}

#[test]
fn one_event_that_fails_fails_the_scenario_and_is_named() {
    let result = told(5, |slot, told| {
        if slot.injection == Some(4) && slot.part == Part::Judged && slot.nth == 30 {
            told.failed("http-500");
        }
    });
    expect_verdict(&result, Verdict::Fail, "one of five");
    let mode = only(&result);
    assert!(mode.reasons[0].starts_with("injection 4 of 5: agent: "), "{:?}", mode.reasons);
    let verdicts: Vec<Verdict> = mode.events.iter().map(|event| event.verdict).collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Pass).count(), 4);
    let all = failover(&result);
    assert_eq!((all.worst_ms, all.censored, all.request_verdict), (None, true, Verdict::Fail));
    assert_eq!(all.support.as_ref().unwrap().well, 4);
    assert_eq!(requirement(mode, "NFR123"), RequirementVerdict::Fail);
    let nfr123 = mode.requirements.iter().find(|requirement| requirement.id == "NFR123").unwrap();
    assert!(nfr123.detail.starts_with("in 1 of 5 injections judged, first number 4: "), "{}", nfr123.detail);
}

#[test]
fn an_event_that_was_void_is_told_and_counts_for_nothing() {
    let mut lines = cloud_down(5)
        .edit(|slot, told| {
            // It would be the worst, and a failure.
            if slot.injection == Some(2) && slot.part == Part::Judged {
                told.failed("http-500");
            }
        })
        .tell();
    let second = lines.when(|event| matches!(event, Event::ScenarioStarted { injection: Some(2), .. }));
    lines = lines
        .with(second + 1, Event::Voided { scenario: "cloud-down".into(), why: "somebody moved it".into() });
    let result = lines.judge();
    expect_verdict(&result, Verdict::Pass, "four of four that count");
    let mode = only(&result);
    assert_eq!(
        mode.events.iter().map(|event| event.counts).collect::<Vec<_>>(),
        [true, false, true, true, true]
    );
    assert_eq!(failover(&result).injections, 4);
    let told = "injection 2 of 5 does not count: somebody moved it";
    assert!(mode.findings.iter().any(|finding| finding == told), "{:?}", mode.findings);
    // A scenario that passes stands by faults that all held; what else was done is listed where it was.
    let of = |faults: &[FaultResult]| faults.iter().map(|fault| fault.injection.unwrap()).collect::<Vec<_>>();
    assert_eq!(of(&mode.faults), [1, 3, 4, 5]);
    assert_eq!(of(&mode.events[1].faults), [2]);
    assert!(mode.events[0].faults.is_empty());
    assert!(route(&result, "cloud-down", "agent").errors.is_empty());
}

#[test]
fn where_most_events_were_void_nothing_is_shown() {
    for (void, verdict) in [(2, Verdict::Pass), (3, Verdict::Inconclusive), (5, Verdict::Inconclusive)] {
        let mut lines = cloud_down(5).tell();
        for number in 1..=void {
            let start = lines.when(|event| matches!(event, Event::ScenarioStarted { injection, .. } if *injection == Some(number)));
            lines =
                lines.with(start + 1, Event::Voided { scenario: "cloud-down".into(), why: "moved".into() });
        }
        let result = lines.judge();
        expect_verdict(&result, verdict, &format!("{void} of 5 void"));
        assert_eq!(failover(&result).injections, u64::from(5 - void));
        if verdict != Verdict::Pass {
            assert!(requirement(only(&result), "NFR123") == RequirementVerdict::Inconclusive);
        }
    }
}

#[test]
fn a_failover_that_was_never_steady_is_worse_than_any() {
    let result = told(3, |slot, told| {
        if slot.injection == Some(2)
            && matches!(slot.part, Part::Judged | Part::Drain)
            && slot.nth.is_multiple_of(10)
        {
            told.record.outcome = Outcome::Error("http-500".into());
        }
    });
    let all = failover(&result);
    assert_eq!((all.steady_after_ms, all.service_verdict), (None::<Bracket>, Verdict::Fail));
    assert_eq!(scenario(&result, "cloud-down").events[2].verdict, Verdict::Pass);
}

/// A scenario that is injected once is told as ever.
#[test]
fn once_is_no_event() {
    let result = told(1, |_, _| {});
    assert!(only(&result).events.is_empty() && only(&result).faults[0].injection.is_none());
    assert_eq!((failover(&result).injections, &failover(&result).support), (1, &None));
    let text = serde_json::to_string(&result).unwrap();
    assert!(!text.contains("\"events\"") && !text.contains("\"support\"") && !text.contains("\"injection\""));
}
