//! Faults that are injected more than once, by the whole program.

use serde_json::{Value, json};

use crate::place::{Place, fixture};
use crate::result::{list, number, text};

#[test]
fn each_injection_starts_from_a_steady_primary_and_is_judged_by_itself() {
    let place = Place::new();
    let ended = place.run(&[fixture("cloud-twice.yaml")], &fixture("environment.yaml"), &[]).expect(0);
    let run = place.run_dir();
    let result = run.assert_sound();
    run.assert_healed();
    let mode = &result["scenarios"][0];
    assert_eq!((list(&result["scenarios"]).len(), &mode["verdict"]), (1, &json!("pass")), "{ended:#?}");

    let events = list(&mode["events"]);
    let numbers: Vec<&Value> = events.iter().map(|event| &event["injection"]).collect();
    assert_eq!(numbers, [&json!(1), &json!(2)]);
    let agent = &mode["routes"][0];
    assert_eq!(agent["failover"]["injections"], 2);
    assert_eq!(agent["failover"]["support"]["at_least_percent"], 22.3, "0.05 ^ (1 / 2)");
    let of_event =
        |event: &Value, figure: &str| event["routes"][0]["failover"][figure].as_f64().expect("a figure");
    let worst = events.iter().map(|event| of_event(event, "worst_ms")).fold(0.0, f64::max);
    assert_eq!(agent["failover"]["worst_ms"].as_f64(), Some(worst), "the worst event's");
    let asked: u64 = events.iter().map(|event| number(&event["routes"][0]["requests"])).sum();
    assert_eq!(number(&agent["requests"]), asked);

    // Each is healed, and the primary serves again, before the next is injected.
    let faults = list(&mode["faults"]);
    assert_eq!(faults.iter().map(|fault| &fault["injection"]).collect::<Vec<_>>(), [&json!(1), &json!(2)]);
    let healed = faults[0]["healed_ms"][1].as_f64().expect("healed");
    let next = faults[1]["injected_ms"][0].as_f64().expect("injected");
    assert!(healed + 5_000.0 <= next, "steady service takes 5 s: {healed} {next}");
    for event in events {
        assert_eq!(event["routes"][0]["failback"]["verdict"], "pass", "{event}");
    }

    // Where each fell between two probes was drawn, and is written down.
    let started = run.events("scenario-started");
    let phases: Vec<u64> = started.iter().map(|started| number(&started["phase_us"])).collect();
    assert!(
        phases.len() == 2 && phases[0] != phases[1] && phases.iter().all(|phase| *phase < 125_000),
        "{phases:?}"
    );
    for probe in run.events("probe-ended") {
        assert!(
            ["cloud-twice.1-", "cloud-twice.2-", "control-"]
                .iter()
                .any(|of| text(&probe["id"]).starts_with(of)),
            "{probe}"
        );
    }
    let report = run.report();
    assert!(
        report.contains("2 of 2 went well: at 95 % confidence at least 22.3 % of such outages do"),
        "{report}"
    );
    assert!(report.contains("n too small: 29 injections would do"), "{report}");
    let again = place.harness(&["report", "out/latest"]).expect(0);
    assert_eq!(again.stdout, ended.stdout);
}

#[test]
fn what_costs_minutes_each_time_is_refused_unless_it_is_asked_for() {
    let place = Place::new();
    let environment = fixture("../../../../scenarios/environments/home-cluster.yaml");
    let check = |injections: &str| {
        let name = "scenario.yaml";
        let edits = [
            ("components: { cloud: down }", "components: { vllm: down }"),
            ("injections: 2", injections),
            ("served_by: vllm-qwen", "served_by: cloud-kimi"),
        ];
        let scenario = place.edited(name, &fixture("cloud-twice.yaml"), &edits);
        let environment = environment.to_str().expect("UTF-8");
        place.harness(&["check", scenario.to_str().expect("UTF-8"), "--env", environment])
    };
    let refused = check("injections: 20").expect(2);
    let said = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("`vllm` would be scaled to zero 20 times"), "{said}");
    assert!(said.contains("even_expensive: true"), "{said}");
    check("injections: { count: 20, even_expensive: true }").expect(0);
    check("injections: 1").expect(0);
}
