//! port-forward.

use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::household::{WITHIN, launch, options, usual};

#[tokio::test]
async fn ports_of_a_pod_are_forwarded_until_it_ends() {
    let stage = usual().await;
    let pod = stage.pod("litellm").await;
    let mut forwarder = stage.api::<Pod>().portforward(&pod, &[4000]).await.unwrap();
    let mut stream = forwarder.take_stream(4000).unwrap();
    for sent in ["x".to_owned(), "y".repeat(200_000)] {
        let mut read = vec![0; sent.len()];
        let (mut from, mut to) = tokio::io::split(&mut stream);
        let both = async { tokio::join!(to.write_all(sent.as_bytes()), from.read_exact(&mut read)) };
        let (written, got) = timeout(WITHIN, both).await.unwrap();
        written.unwrap();
        got.unwrap();
        assert!(read == sent.as_bytes());
    }
    stage.api::<Pod>().delete(&pod, &kube::api::DeleteParams::default()).await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(WITHIN, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection outlived its pod");
    stage.shutdown().await;
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_an_error_of_its_own() {
    let stage = usual().await;
    let pod = stage.pod("litellm").await;
    let mut forwarder = stage.api::<Pod>().portforward(&pod, &[4000, 4001]).await.unwrap();
    let told = timeout(WITHIN, forwarder.take_error(4001).unwrap()).await.unwrap().unwrap();
    assert!(told.contains("4001") && told.contains("connection refused"), "{told}");
    let mut stream = forwarder.take_stream(4000).unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(timeout(WITHIN, stream.read_u8()).await.unwrap().unwrap(), b'x');
    stage.shutdown().await;
}

#[tokio::test]
async fn a_line_about_a_client_is_in_the_log_of_the_pod_that_it_was_forwarded_into() {
    let mut options = options().await;
    options.stack.gateway_replicas = 2;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    options.stack.gateway = listener.local_addr().unwrap();
    let stage = launch(options).await;
    stage.household.ready(WITHIN).await.unwrap();
    let kubelet = stage.household.plane().kubelet();
    let say = |client, line: &str| kubelet.log_line_for("ml", "litellm", "litellm", client, line);
    let printed = async |name: &str, line: &str| {
        let logs = stage.api::<Pod>().logs(name, &kube::api::LogParams::default()).await.unwrap();
        logs.lines().any(|printed| printed == line)
    };
    let pods = stage.pods("litellm").await;
    let names: Vec<&str> = pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
    for (at, name) in names.iter().enumerate() {
        let mut forwarder = stage.api::<Pod>().portforward(name, &[4000]).await.unwrap();
        let stream = forwarder.take_stream(4000).unwrap();
        let (socket, client) = timeout(WITHIN, listener.accept()).await.unwrap().unwrap();
        let line = format!("line {at}");
        say(Some(client), &line);
        for other in &names {
            assert_eq!(printed(other, &line).await, other == name, "{line} in the log of {other}");
        }
        drop((stream, socket));
    }
    for (client, line) in [(None, "of nobody"), (Some("127.0.0.1:1".parse().unwrap()), "from elsewhere")] {
        say(client, line);
        let of = [printed(names[0], line).await, printed(names[1], line).await];
        assert_eq!(of.iter().filter(|printed| **printed).count(), 1, "{line} is in one log");
    }
    stage.shutdown().await;
}
