//! `harness bench`: what cannot depend on how fast the machine is.

use serde_json::Value;

use crate::child::{harness, run};
use crate::place::{Place, read};
use crate::result::{list, text};

fn bench(rows: &[&str]) -> (Place, Vec<Value>) {
    let place = Place::new();
    let mut words = vec!["bench", "--quick", "--json", "bench.json"];
    words.extend(rows.iter().flat_map(|row| ["--row", row]));
    let ended = run(harness(place.path(), words)).expect(0);
    assert!(ended.stdout.contains("| Row | Measured |"), "{}", ended.said());
    let table: Value = serde_json::from_str(&read(&place.path().join("bench.json"))).expect("JSON");
    let rows = list(&table["rows"]).to_vec();
    (place, rows)
}

#[test]
fn outages_of_known_length_are_never_judged_wrongly_and_no_probe_is_lost() {
    let (_place, rows) = bench(&["B1"]);
    let of = |row: &str, measure: &str| {
        rows.iter()
            .find(|line| line["row"] == row && text(&line["measure"]).starts_with(measure))
            .unwrap_or_else(|| panic!("no {row} {measure}: {rows:?}"))
    };
    for (row, measure) in [("B2", "verdicts"), ("B4", "never recovers"), ("B9", "no data")] {
        let line = of(row, measure);
        assert_eq!(line["holds"], true, "{line}");
    }
    // On a busy machine probes are late and brackets wide; the truth is inside all the same.
    let inside = text(&of("B1", "truth inside the bracket")["value"]);
    let share: f64 = inside.split(' ').next().and_then(|share| share.parse().ok()).expect("a share");
    assert!(share >= 90.0, "{inside}");
}

#[test]
fn every_tool_is_named_also_where_it_is_not_installed() {
    let (_place, rows) = bench(&["peers"]);
    for tool in ["truth", "harness", "oha", "hey", "wrk"] {
        let lines = rows.iter().filter(|line| text(&line["measure"]).ends_with(&format!(": {tool}")));
        assert_eq!(lines.count(), 2, "{tool}: {rows:?}");
    }
    let own = rows.iter().filter(|line| text(&line["measure"]).ends_with(": harness"));
    for line in own {
        assert!(text(&line["value"]).contains("all told"), "{line}");
    }
}
