//! Somebody else changes a gate in the middle of a local run, through its control API.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::child::Running;
use crate::place::{Place, fixture};
use crate::result::{reasons, text};

/// The control API of a run, as its journal names it to whoever has to undo something by hand.
fn control_of(place: &Place) -> String {
    let intended = place.run_dir().events("mutation-intended");
    let undo = text(&intended.last().expect("a mutation")["undo"]).to_owned();
    let after = undo.split_once("http://").expect("a URL").1;
    after.split_once('/').expect("a path").0.to_owned()
}

fn put(address: &str, path: &str, body: &str) {
    let mut stream = TcpStream::connect(address).expect("connect");
    let length = body.len();
    write!(
        stream,
        "PUT {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("write");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("read");
    assert!(reply.starts_with("HTTP/1.1 204"), "{reply}");
}

#[test]
fn a_gate_that_somebody_sets_to_pass_voids_the_mode() {
    let place = Place::new();
    let command = place.run_command(&[fixture("cloud-down-short.yaml")], &fixture("environment.yaml"), &[]);
    let mut running = Running::start(command);
    running.until_it_says("cloud-down: judging");
    put(&control_of(&place), "/gates/cloud", r#"{"mode":"pass"}"#);
    running.end().expect(3);
    let result = place.run_dir().assert_sound();
    assert_eq!((&result["verdict"], &result["restored"]), (&json!("inconclusive"), &json!(true)));
    let reasons = reasons(&result);
    assert!(reasons.contains("gate before cloud is as before: somebody undid it"), "{reasons}");
    place.run_dir().assert_healed();
}

#[test]
fn what_serves_again_at_the_end_only_is_late_and_not_left_behind() {
    let place = Place::new();
    let command = place.run_command(&[fixture("cloud-down-short.yaml")], &fixture("environment.yaml"), &[]);
    let mut running = Running::start(command);
    running.until_it_says("cloud-down: judging");
    let control = control_of(&place);
    put(&control, "/gates/cloud", r#"{"mode":"refuse"}"#);
    while place.run_dir().events("not-serving").is_empty() {
        assert!(running.runs_until(Instant::now() + Duration::from_millis(50)), "it waits for the cloud");
    }
    // The route is still watched for its recovery.
    put(&control, "/gates/cloud", r#"{"mode":"pass"}"#);
    running.end().expect(3);
    let result = place.run_dir().assert_sound();
    let reasons = reasons(&result);
    assert_eq!(
        (&result["verdict"], &result["restored"]),
        (&json!("inconclusive"), &json!(true)),
        "{reasons}"
    );
    assert!(!reasons.contains("does not serve again"), "{reasons}");
    let late = "cloud serves again at the end of the run, later than it should have";
    assert!(place.run_dir().report().contains(late), "{}", place.run_dir().report());
}

#[test]
fn what_somebody_else_set_is_left_to_them_and_named() {
    let place = Place::new();
    let command = place.run_command(&[fixture("cloud-down-short.yaml")], &fixture("environment.yaml"), &[]);
    let mut running = Running::start(command);
    running.until_it_says("cloud-down: judging");
    put(&control_of(&place), "/gates/cloud", r#"{"mode":"refuse"}"#);
    let ended = running.end();
    let result = place.run_dir().assert_sound();
    assert_eq!((ended.code, &result["restored"]), (Some(4), &json!(false)), "{ended:#?}");
    let reasons = reasons(&result);
    assert!(reasons.contains("gate before cloud: it is set to refuse by nobody's run"), "{reasons}");
    assert!(reasons.contains("cloud does not serve again"), "{reasons}");
}
