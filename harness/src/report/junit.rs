//! `junit.xml`, for continuous integration.
//!
//! fail -> `<failure>`, inconclusive -> `<error>`, not checked -> `<skipped>`. A `<failure>` stands in
//! the file exactly where a scenario or a requirement of the run failed: inside a scenario that did
//! not fail, a check that saw something wrong is reported as open or as not counting.

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::escape::plain;
use super::{figures, words};
use crate::verdict::result::{
    Ended, Failback, Failover, RequirementVerdict, RouteResult, RunResult, ScenarioResult, Verdict,
};

/// One suite a scenario with a case a check, and a suite `run` for what concerns the whole run.
#[must_use]
pub fn junit(result: &RunResult) -> String {
    let mut report = Report::new("harness");
    report.add_test_suite(run_suite(result));
    for scenario in &result.scenarios {
        report.add_test_suite(scenario_suite(scenario));
    }
    report.to_string().expect("writing XML to memory does not fail")
}

fn run_suite(run: &RunResult) -> TestSuite {
    let mut suite = TestSuite::new("run");
    for (name, value) in [
        ("run_id", &run.run_id),
        ("environment", &run.environment),
        ("started_at", &run.started_at),
        ("finished_at", &run.finished_at),
        ("gateway", &run.gateway.kind),
        ("gateway_version", &run.gateway.version),
        ("gateway_config", &run.gateway.config),
    ] {
        suite.add_property(Property::new(name, plain(value)));
    }
    let ended = match (run.ended, words::ending(run.ended)) {
        (Ended::Completed, _) | (_, None) => TestCaseStatus::success(),
        (_, Some(how)) => not_well(NonSuccessKind::Error, how, &run.reasons),
    };
    case(&mut suite, "completed", ended);
    let restored = if run.restored {
        TestCaseStatus::success()
    } else {
        not_well(NonSuccessKind::Error, "something that the run changed is not as it was", &run.reasons)
    };
    case(&mut suite, "restored", restored);
    for requirement in &run.requirements {
        let status = match requirement.verdict {
            RequirementVerdict::Pass => TestCaseStatus::success(),
            RequirementVerdict::Fail => not_well(NonSuccessKind::Failure, &requirement.detail, &[]),
            RequirementVerdict::Inconclusive => not_well(NonSuccessKind::Error, &requirement.detail, &[]),
            RequirementVerdict::NotChecked => skipped("not checked by this run", &requirement.detail),
        };
        case(&mut suite, &format!("requirement {}", requirement.id), status);
    }
    suite
}

fn scenario_suite(scenario: &ScenarioResult) -> TestSuite {
    let mut suite = TestSuite::new(plain(&scenario.name));
    suite.add_property(Property::new("title", plain(&scenario.title)));
    let whole = match scenario.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail => not_well(NonSuccessKind::Failure, first(&scenario.reasons), &scenario.reasons),
        Verdict::Inconclusive => not_well(NonSuccessKind::Error, first(&scenario.reasons), &scenario.reasons),
    };
    case(&mut suite, "verdict", whole);
    for requirement in &scenario.requirements {
        let status = match requirement.verdict {
            RequirementVerdict::Pass => TestCaseStatus::success(),
            RequirementVerdict::Fail => judged(scenario, Verdict::Fail, &requirement.detail),
            RequirementVerdict::Inconclusive => judged(scenario, Verdict::Inconclusive, &requirement.detail),
            RequirementVerdict::NotChecked => skipped("not checked in this mode", &requirement.detail),
        };
        case(&mut suite, &format!("requirement {}", requirement.id), status);
    }
    for route in &scenario.routes {
        case(&mut suite, &format!("route {}: expectation", route.route), expectation(scenario, route));
        if let Some(failover) = &route.failover {
            let (requests, service) = failover_cases(scenario, failover);
            case(&mut suite, &format!("route {}: failover of every request", route.route), requests);
            case(&mut suite, &format!("route {}: steady failover", route.route), service);
        }
        if let Some(failback) = &route.failback {
            case(&mut suite, &format!("route {}: recovery", route.route), recovery(scenario, failback));
        }
    }
    suite
}

/// Whether the right one answered. The result holds no verdict of a route, so this shows what was seen
/// and takes its weight from the scenario's verdict.
fn expectation(scenario: &ScenarioResult, route: &RouteResult) -> TestCaseStatus {
    let Some(expected) = &route.expected else {
        return skipped("this route is not judged in this mode", "");
    };
    let errors = figures::errors(&route.errors);
    let seen = format!(
        "expected {expected}; of {} probes {} were answered, by {}; errors: {errors}",
        route.requests,
        route.ok,
        figures::served_by(&route.served_by),
    );
    let as_expected = if expected == "error" {
        route.ok == 0
    } else {
        route.ok == route.requests && route.served_by.iter().all(|(alias, n)| *n == 0 || alias == expected)
    };
    match scenario.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Inconclusive => not_well(NonSuccessKind::Error, &seen, &scenario.reasons),
        Verdict::Fail if as_expected && route.requests > 0 => TestCaseStatus::success(),
        Verdict::Fail => not_well(NonSuccessKind::Failure, &seen, &[]),
    }
}

fn failover_cases(scenario: &ScenarioResult, failover: &Failover) -> (TestCaseStatus, TestCaseStatus) {
    let limit = figures::limit(failover.limit_ms);
    let worst = match failover.worst_ms {
        Some(ms) => format!("worst wait {}", figures::against(ms, failover.limit_ms)),
        None if failover.censored => "a probe that had to be answered never was".to_owned(),
        None => "no worst wait is known".to_owned(),
    };
    let steady = match failover.steady_after_ms {
        Some(bracket) => format!("steady after {}", figures::span(bracket)),
        None => "steady service was not reached".to_owned(),
    };
    (
        judged(scenario, failover.request_verdict, &format!("{worst}, limit {limit}")),
        judged(scenario, failover.service_verdict, &format!("{steady}, limit {limit}")),
    )
}

fn recovery(scenario: &ScenarioResult, failback: &Failback) -> TestCaseStatus {
    let steady = match failback.steady_after_ms {
        Some(bracket) => format!("steady again {} after the heal", figures::span(bracket)),
        None => "steady service by the primary was not reached after the heal".to_owned(),
    };
    let limit = failback.limit_ms.map_or(String::new(), |ms| format!(", limit {}", figures::limit(ms)));
    let seen = format!("{steady}{limit}; {} errors, {} flaps", failback.errors, failback.flaps);
    match failback.verdict {
        Some(verdict) => judged(scenario, verdict, &seen),
        None => skipped("the scenario states no expectation", &seen),
    }
}

/// A check inside a scenario. Only a failed scenario holds a failure.
fn judged(scenario: &ScenarioResult, verdict: Verdict, seen: &str) -> TestCaseStatus {
    match (verdict, scenario.verdict) {
        (Verdict::Pass, _) => TestCaseStatus::success(),
        (Verdict::Fail, Verdict::Fail) => not_well(NonSuccessKind::Failure, seen, &[]),
        (_, Verdict::Pass) => skipped("this mode's verdict does not depend on it", seen),
        _ => not_well(NonSuccessKind::Error, seen, &scenario.reasons),
    }
}

fn first(reasons: &[String]) -> &str {
    reasons.first().map_or("no reason is recorded", String::as_str)
}

fn case(suite: &mut TestSuite, name: &str, status: TestCaseStatus) {
    let mut case = TestCase::new(plain(name), status);
    case.set_classname(suite.name.clone());
    suite.add_test_case(case);
}

fn not_well(kind: NonSuccessKind, message: &str, reasons: &[String]) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(plain(message));
    // A single reason that is the message would only be said twice.
    if reasons.iter().any(|reason| reason != message) {
        status.set_description(reasons.iter().map(|r| plain(r)).collect::<Vec<_>>().join("\n"));
    }
    status
}

fn skipped(why: &str, detail: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    let detail = plain(detail);
    let message = if detail.is_empty() { why.to_owned() } else { format!("{why}: {detail}") };
    status.set_message(message);
    status
}
