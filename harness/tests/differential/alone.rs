//! The suite itself, without a LiteLLM: what must be the same passes, what differs is named.

use std::time::Duration;

use crate::ask::{End, Reply};
use crate::compare::{Difference, differences, same_latency, same_total};
use crate::facts::{Labels, facts};

fn reply(body: &str, port: u16) -> Reply {
    Reply {
        status: Some(200),
        headers: vec![
            ("content-type".into(), "text/event-stream".into()),
            ("x-litellm-model-api-base".into(), format!("http://127.0.0.1:{port}")),
            ("x-litellm-call-id".into(), "0a1b2c3d-0000-4000-8000-0123456789ab".into()),
            ("x-litellm-response-duration-ms".into(), "17.5".into()),
        ],
        body: body.as_bytes().to_vec(),
        end: End::Clean,
        took: Duration::ZERO,
    }
}

fn labels(port: u16) -> Labels {
    let mut labels = Labels::default();
    labels.port(port, "first");
    labels
}

#[test]
fn what_must_differ_does_not_count_and_what_must_not_does() {
    let real =
        reply("data: {\"id\":\"a\",\"x\":1}\n\ndata: {\"id\":\"a\",\"x\":2}\n\ndata: [DONE]\n\n", 11111);
    let same =
        reply("data: {\"id\":\"a\",\"x\":1}\n\ndata: {\"id\":\"a\",\"x\":2}\n\ndata: [DONE]\n\n", 22222);
    let real = facts(&real, &labels(11111));
    assert_eq!(differences(1, &real, &facts(&same, &labels(22222))), []);
    assert_eq!(real["header x-litellm-call-id"], "<uuid>");
    assert_eq!(real["header x-litellm-model-api-base"], "http://127.0.0.1:<port of first>");

    let ids = reply("data: {\"id\":\"a\",\"x\":1}\n\ndata: {\"id\":\"b\",\"x\":2}\n\n", 22222);
    let apart = differences(1, &real, &facts(&ids, &labels(22222)));
    let names: Vec<&str> = apart.iter().map(|difference| difference.fact.as_str()).collect();
    assert_eq!(names, ["event 1 /id", "event 2", "events"], "{apart:?}");

    let mut headers =
        reply("data: {\"id\":\"a\",\"x\":1}\n\ndata: {\"id\":\"a\",\"x\":2}\n\ndata: [DONE]\n\n", 22222);
    headers.headers.pop();
    let expected = Difference {
        request: 3,
        fact: "header x-litellm-response-duration-ms".into(),
        real: Some("<ms>".into()),
        mock: None,
    };
    assert_eq!(differences(3, &real, &facts(&headers, &labels(22222))), [expected]);
}

#[test]
fn a_list_of_cooled_deployments_is_that_of_the_cell() {
    let mut labels = Labels::default();
    labels.own_id("id-a");
    let text = labels.normal("x, cooldown_list=['id-b', 'id-a', 'id-c'] after time taken=1.602 seconds");
    assert_eq!(text, "x, cooldown_list=['id-a'] after time taken=<s> seconds");
}

#[test]
fn latencies_are_the_same_within_their_jitter() {
    let ms = Duration::from_millis;
    assert!(same_latency(ms(50), ms(340), 0) && !same_latency(ms(50), ms(360), 0));
    assert!(same_latency(ms(10_000), ms(8_600), 0) && !same_latency(ms(10_000), ms(8_400), 0));
    assert!(same_latency(ms(50), ms(1_700), 2) && !same_latency(ms(50), ms(1_900), 2));
}

#[test]
fn a_sleep_that_is_missing_shows_over_five_requests() {
    // Two groups, each with sleeps of 0.5, 1 and 2 s before jitter of 0.375 s on average.
    let five = |bases: &[f64]| {
        let of_a_group: f64 = bases.iter().map(|base| base + 0.375).sum();
        Duration::from_secs_f64(5.0 * 2.0 * of_a_group)
    };
    let whole = five(&[0.5, 1.0, 2.0]);
    assert!(same_total(whole, whole + Duration::from_secs(5), 5, 30));
    assert!(!same_total(whole, five(&[0.5, 1.0]), 5, 30), "N sleeps instead of N + 1");
    let with_one_retry = five(&[0.5, 1.0]);
    assert!(!same_total(with_one_retry, five(&[0.5]), 5, 20));
    assert!(same_total(Duration::ZERO, Duration::from_millis(1400), 5, 0));
}
