//! A mode as it is seen from the terminal, from its baseline to its end.

use serde_json::{Value, json};

use super::View;
use crate::journal::Entry;

fn see(view: &mut View, at_ms: u64, event: &Value) -> Vec<String> {
    let entry = json!({ "seq": 0, "at_us": at_ms * 1000, "event": event });
    let entry: Entry = serde_json::from_value(entry).unwrap();
    view.take(&entry)
}

/// The five modes in the local environment.
fn started() -> View {
    let loaded = crate::input::load_from(std::path::Path::new("/nowhere"), &[], Some("local")).unwrap();
    let lead = crate::units::Period::from_secs(3);
    let plan = crate::plan::resolve(&loaded.scenarios, &loaded.environment, lead, 1);
    let mut view = View::default();
    let start = json!({ "run-started": {
        "format": crate::journal::FORMAT, "program": "0", "run_id": "r", "started_at": "", "gateway_kind": "mock",
        "gateway_config": "", "upstream_models": {}, "environment": loaded.environment, "plan": plan, "made_with": [],
    }});
    see(&mut view, 0, &start);
    view
}

fn probe(sent_ms: u64, first_ms: u64, server: Option<&str>) -> Value {
    let claims: Vec<Value> =
        server.iter().map(|alias| json!({ "source": "header-model-group", "value": alias })).collect();
    let outcome = if server.is_some() { json!("ok") } else { json!({ "error": "http-500" }) };
    json!({ "probe-ended": {
        "id": "p", "scenario": "cloud-down", "route": "agent", "purpose": "traffic", "model": "cloud-kimi",
        "streamed": false, "fresh": true, "intended_us": sent_ms * 1000, "sent_us": sent_ms * 1000, "headers_us": null,
        "first_content_us": server.map(|_| first_ms * 1000), "first_answer_us": null, "ended_us": first_ms * 1000,
        "status": 200, "outcome": outcome, "claims": claims, "detail": null,
    }})
}

fn looked(up: bool, sent_ms: u64, previous_ms: u64) -> Value {
    json!({ "witness-saw": {
        "component": "cloud", "source": "tcp-witness", "up": up, "sent_us": sent_ms * 1000, "done_us": (sent_ms + 2) * 1000,
        "saw": if up { "connected" } else { "refused" }, "previous_sent_us": previous_ms * 1000,
    }})
}

fn line<'a>(lines: &'a [String], name: &str) -> &'a str {
    lines.iter().find(|line| line.starts_with(name)).unwrap()
}

fn mode(view: &View) -> String {
    view.modes().find(|(name, _)| *name == "cloud-down").unwrap().1
}

#[test]
fn a_mode_is_shown_as_it_goes_on() {
    let mut view = started();
    assert!(view.details().is_empty(), "nothing goes on yet");
    assert_eq!(mode(&view), "waiting");
    let told = see(&mut view, 1000, &json!({ "scenario-started": { "scenario": "cloud-down" } }));
    assert_eq!(told, ["cloud-down: baseline"]);
    assert!(see(&mut view, 1010, &looked(true, 1000, 990)).is_empty());
    assert!(see(&mut view, 1600, &probe(1500, 1600, Some("cloud-kimi"))).is_empty());
    assert_eq!(line(&view.details(), "cloud"), "cloud        up (tcp-witness: connected)");
    assert!(
        line(&view.details(), "agent")
            .contains("0.5/s  now cloud-kimi  1 ok  0 errors  worst 0.00 s (limit 5.00 s)")
    );

    let intended = json!({ "fault-intended": {
        "fault": 1, "scenario": "cloud-down", "component": "cloud", "kind": "blackhole", "undo": "u" } });
    see(&mut view, 2000, &intended);
    assert!(line(&view.details(), "cloud").ends_with("blackhole is being made"));
    // Seen before the call has returned: it cannot have been in effect before it was called.
    assert!(see(&mut view, 2012, &looked(false, 2010, 1990)).is_empty());
    let injected =
        json!({ "fault-injected": { "fault": 1, "called_us": 2_000_000, "accepted_us": 2_013_000 } });
    assert_eq!(
        see(&mut view, 2013, &injected),
        ["cloud: blackhole in effect, [2.000, 2.012] s (12 ms wide)"]
    );
    assert!(see(&mut view, 2030, &looked(false, 2025, 2010)).is_empty(), "told once");
    let hold = json!({ "hold-started": { "scenario": "cloud-down", "from_us": 2_012_000 } });
    assert_eq!(see(&mut view, 2040, &hold), ["cloud-down: judging"]);

    see(&mut view, 4000, &probe(2100, 4000, None));
    let told = see(&mut view, 6012, &probe(2500, 6012, Some("vllm-qwen")));
    assert_eq!(told, ["cloud-down: agent is answered by vllm-qwen, after 3.51 s"]);
    assert!(
        line(&view.details(), "agent").contains("now vllm-qwen  2 ok  1 errors  worst 3.51 s (limit 5.00 s)")
    );
    assert_eq!(mode(&view), "judging, 4.00 s of 12.00 s");
    see(&mut view, 9012, &looked(false, 9000, 8990));
    assert!(line(&view.details(), "agent").ends_with("no good reply for 3.00 s"));

    see(&mut view, 14_100, &json!({ "hold-ended": { "scenario": "cloud-down" } }));
    let healed = json!({ "fault-healed": {
        "fault": 1, "called_us": 14_200_000, "accepted_us": 14_201_000, "read_back": true } });
    see(&mut view, 14_201, &healed);
    assert!(line(&view.details(), "cloud").contains("undone at 14.20 s, not seen to serve yet"));
    let gone = json!({ "fault-gone": { "fault": 1, "last_down_us": 14_210_000, "served_us": 14_260_000 } });
    assert_eq!(see(&mut view, 14_260, &gone), ["cloud: serves again, [14.210, 14.260] s (50 ms wide)"]);
    see(&mut view, 15_000, &json!({ "scenario-ended": { "scenario": "cloud-down" } }));
    assert_eq!(mode(&view), "measured: 2 ok, 1 errors, worst 3.51 s");
}

#[test]
fn what_goes_wrong_with_a_fault_is_shown() {
    let mut view = started();
    see(&mut view, 1, &json!({ "scenario-started": { "scenario": "cloud-down" } }));
    let intended = json!({ "fault-intended": {
        "fault": 1, "scenario": "cloud-down", "component": "cloud", "kind": "blackhole", "undo": "u" } });
    for (event, words) in [
        (json!({ "injection-failed": { "fault": 1, "error": "e" } }), "could not be made"),
        (json!({ "fault-not-effective": { "fault": 1, "waited_ms": 9 } }), "not seen in effect"),
        (json!({ "heal-failed": { "fault": 1, "error": "e" } }), "COULD NOT BE UNDONE"),
        (json!({ "not-serving": { "fault": 1, "saw": "s" } }), "undone, but it does not serve"),
    ] {
        see(&mut view, 2, &intended);
        see(&mut view, 3, &event);
        assert!(line(&view.details(), "cloud").ends_with(words), "{event}");
    }
}
