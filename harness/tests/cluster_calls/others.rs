//! The logs of the gateway's pods, before the first of them is there.

use std::time::Duration;

use harness::cluster::others::{LogReader, Others, Ours, judge};
use harness::environment::ObjectName;
use wiremock::ResponseTemplate;

use crate::Api;

#[tokio::test]
async fn a_pod_whose_log_is_not_there_yet_is_not_a_pod_that_nobody_uses() {
    let api = Api::start(|_| ResponseTemplate::new(200).set_delay(Duration::from_secs(60))).await;
    let pods = ["litellm-0", "litellm-1"].map(|name| ObjectName::new("ml", name));
    let reader = LogReader::start(&api.access().await, &pods, None, Duration::from_secs(1));
    let mut tally = reader.tally();
    assert_eq!(tally.unread.keys().collect::<Vec<_>>(), pods.iter().collect::<Vec<_>>());
    // One of them is there, and only its kubelet has asked.
    tally.unread.remove(&pods[0]);
    tally.take(&pods[0], "INFO:     10.0.0.2:1 - \"GET /health/liveliness HTTP/1.1\" 200 OK");
    let others = judge(&tally, &Ours::default(), None);
    let Others::Unknown(why) = others else { panic!("{others:?}") };
    assert!(why.contains("ml/litellm-1") && why.contains("not been opened yet"), "{why}");
    reader.stop().await;
}
