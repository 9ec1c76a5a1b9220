//! port-forward.

use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::household::{WITHIN, usual};

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
