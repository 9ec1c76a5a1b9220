//! Ways to the gateway: the port-forward, and what its log tells of others.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::cluster::forward::{Forward, ForwardError};
use harness::cluster::others::{LogReader, Others, Ours, judge};
use harness::cluster::prober::{Prober, ProberOptions, Target, in_pod};
use k8s_openapi::api::core::v1::Pod;
use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::resources::PODS;
use mocks::kubernetes::store::ObjectKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::{LIMIT, LOOK_EVERY, Stage, Staging, app, see};

async fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: gateway\r\n\r\n").await?;
    let mut buffer = [0; 1024];
    let count = tokio::time::timeout(LIMIT, stream.read(&mut buffer)).await.expect("an end")?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

#[tokio::test]
async fn requests_go_through_and_another_pod_takes_over() {
    let stage = Stage::set(Staging { replicas: 2, ..Staging::default() }).await;
    let pods = stage.gateway_pods(2).await;
    let forward = Forward::start(&stage.access, "ml", &app("litellm"), 4000, stage.clock()).await.unwrap();
    let mut stream = TcpStream::connect(forward.address()).await.unwrap();
    for _ in 0..3 {
        assert!(ask(&mut stream).await.unwrap().starts_with("HTTP/1.1 204"));
    }
    let used = forward.forwarded().pod.unwrap();
    assert!(pods.contains(&used));
    let known: Pod = stage.access.get(&used).await.unwrap();
    stage.access.delete::<Pod>(&used, &known.metadata.uid.unwrap()).await.unwrap();
    // The pod ends after a while, and with it what goes to it.
    let until_ended = async { while ask(&mut stream).await.is_ok_and(|reply| !reply.is_empty()) {} };
    tokio::time::timeout(LIMIT, until_ended).await.expect("the old pod's connection ends");
    let until_served = async {
        loop {
            let mut stream = TcpStream::connect(forward.address()).await.unwrap();
            if ask(&mut stream).await.is_ok_and(|reply| reply.starts_with("HTTP/1.1 204")) {
                break;
            }
        }
    };
    tokio::time::timeout(LIMIT, until_served).await.expect("another pod answers");
    let forwarded = forward.forwarded();
    assert_ne!(forwarded.pod.as_ref(), Some(&used));
    assert!(forwarded.connections.len() == 2 && forwarded.trouble_count > 0, "{forwarded:?}");
    forward.stop().await;
    stage.strike().await;
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_once_is_opened_again() {
    let stage = Stage::set(Staging::default()).await;
    let forward = Forward::start(&stage.access, "ml", &app("litellm"), 4000, stage.clock()).await.unwrap();
    let refuse = |times| ChaosRule {
        verb: String::new(),
        resource: "pods/portforward".to_owned(),
        times: Some(times),
        trouble: Trouble::Refused { code: 503, retry_after: None },
    };
    stage.household.cluster().chaos().add(refuse(1));
    let mut stream = TcpStream::connect(forward.address()).await.unwrap();
    assert!(ask(&mut stream).await.unwrap().starts_with("HTTP/1.1 204"));
    let once = forward.forwarded();
    assert!(once.trouble_count == 1 && once.troubles[0].why.contains("503"), "{once:?}");
    // For ever, it is told to the client as a connection that breaks, and remembered with its time.
    stage.household.cluster().chaos().add(refuse(100));
    let before_us = stage.clock().now_us();
    let mut stream = TcpStream::connect(forward.address()).await.unwrap();
    let answer = ask(&mut stream).await;
    assert!(!answer.is_ok_and(|reply| !reply.is_empty()));
    let never = forward.forwarded();
    assert!(never.troubles.last().is_some_and(|trouble| trouble.at_us >= before_us), "{never:?}");
    forward.stop().await;
    stage.strike().await;
}

#[tokio::test]
async fn its_overhead_is_measured_against_the_inside_of_the_pod() {
    let stage = Stage::set(Staging::default()).await;
    let forward = Forward::start(&stage.access, "ml", &app("litellm"), 4000, stage.clock()).await.unwrap();
    let overhead = forward.measure("/health/liveliness", 10).await.unwrap();
    assert!(overhead.fresh.min_us > 0 && overhead.kept.count == 10);
    let pod = stage.gateway_pods(1).await.remove(0);
    let service = harness::environment::ObjectName::new("ml", "litellm");
    let target =
        Target { path: "/health/liveliness".to_owned(), ..Target::service("gateway", &service, 4000) };
    let mut options = ProberOptions::new(4000, Duration::from_secs(60));
    options.ask_every = Duration::from_millis(50);
    let open = in_pod(&stage.access, &pod, None);
    let prober = Prober::start(open, vec![target], options, stage.journal.clone()).await.unwrap();
    let seen = see(&prober, |seen| seen.targets["gateway"].held.took_us.len() >= 5).await;
    let overhead = overhead.with_inside(seen.targets["gateway"].held.took_us.iter().copied());
    assert!(overhead.inside.is_some() && overhead.kept_us() < overhead.kept.median_us, "{overhead}");
    prober.stop().await;
    forward.stop().await;
    stage.strike().await;
}

#[tokio::test]
async fn without_a_ready_pod_there_is_no_forward() {
    let stage = Stage::set(Staging::default()).await;
    let error = Forward::start(&stage.access, "ml", &app("nobody"), 4000, stage.clock()).await.err();
    assert!(matches!(error, Some(ForwardError::NoPod(_))), "{error:?}");
    stage.strike().await;
}

#[tokio::test]
async fn calls_of_others_are_read_in_the_log() {
    let stage = Stage::set(Staging::default()).await;
    let pod = stage.gateway_pods(1).await.remove(0);
    let reader =
        LogReader::start(&stage.access, std::slice::from_ref(&pod), Some("litellm"), Duration::from_secs(60));
    let object = stage.household.cluster().store().get(&ObjectKey::new(&PODS, "ml", &pod.name)).unwrap();
    let print = |line: &str| stage.household.plane().kubelet().log_line(&object, "litellm", line);
    print("INFO:     127.0.0.1:40000 - \"GET /health/liveliness HTTP/1.1\" 200 OK");
    print("INFO:     10.42.0.1:40000 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK");
    print("INFO:     10.42.0.9:40000 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK");
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let until_read = async {
        while reader.tally().requests < 3 {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, until_read).await.expect("the log is read");
    let addresses = BTreeSet::from(["10.42.0.1".parse().unwrap()]);
    let ours = Ours { sent: 1, answered: 1, addresses };
    let others = judge(&reader.tally(), &ours, None);
    assert_eq!(others, Others::Calls { count: 1, from: vec![("10.42.0.9".parse().unwrap(), 1)] });
    reader.stop().await;
    stage.strike().await;
}
