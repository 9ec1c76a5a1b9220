//! port-forward.

use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::household::{Stage, WITHIN, launch, options, usual};

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
    let (stage, listener) = two_pods().await;
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

/// A connection as kubectl makes it for port-forwards, with its own frames.
struct Spdy {
    socket: TcpStream,
    streams: u32,
}

impl Spdy {
    async fn into_pod(stage: &Stage, pod: &str) -> Self {
        let config = stage.household.cluster().kubectl_config().unwrap();
        let server = config["clusters"][0]["cluster"]["server"].as_str().unwrap();
        let mut socket = TcpStream::connect(server.trim_start_matches("http://")).await.unwrap();
        let request = format!(
            "POST /api/v1/namespaces/ml/pods/{pod}/portforward HTTP/1.1\r\nHost: mock\r\nContent-Length: 0\r\n\
             Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(WITHIN, socket.read_u8()).await.unwrap().unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        Self { socket, streams: 0 }
    }

    async fn stream(&mut self, kind: &str, number: u32) -> u32 {
        let pairs = [("streamtype", kind), ("port", "4000"), ("requestid", &number.to_string())];
        let mut block = u32::try_from(pairs.len()).unwrap().to_be_bytes().to_vec();
        for text in pairs.into_iter().flat_map(|(name, value)| [name, value]) {
            block.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            block.extend(text.as_bytes());
        }
        // Not compressed, in the middle of what is one compressed stream.
        let length = u16::try_from(block.len()).unwrap();
        let start = if self.streams == 0 { &[0; 6][..] } else { &[] };
        let block = [start, &[0], &length.to_le_bytes(), &(!length).to_le_bytes(), &block].concat();
        let stream = self.streams * 2 + 1;
        self.streams += 1;
        let payload = [&stream.to_be_bytes()[..], &[0; 6], &block].concat();
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&[0x80, 3, 0, 1, 0][..], &length[1..], &payload].concat();
        self.socket.write_all(&frame).await.unwrap();
        stream
    }

    /// Both streams of a connection to port 4000; the one of its bytes.
    async fn connection(&mut self, number: u32) -> u32 {
        self.stream("error", number).await;
        self.stream("data", number).await
    }

    /// Reads until the other side has ended a stream; the bytes that came on it.
    async fn until_ended(&mut self, stream: u32) -> Vec<u8> {
        let mut came = Vec::new();
        loop {
            let mut head = [0; 8];
            self.socket.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.socket.read_exact(&mut payload).await.unwrap();
            if u32::from_be_bytes([head[0], head[1], head[2], head[3]]) == stream {
                came.extend(payload);
                if head[4] & 1 == 1 {
                    return came;
                }
            }
        }
    }
}

/// Two pods of a gateway whose connections the test takes.
async fn two_pods() -> (Stage, TcpListener) {
    let mut options = options().await;
    options.stack.gateway_replicas = 2;
    options.cluster.open_port = true;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    options.stack.gateway = listener.local_addr().unwrap();
    let stage = launch(options).await;
    stage.household.ready(WITHIN).await.unwrap();
    (stage, listener)
}

#[tokio::test]
async fn a_line_about_a_client_of_kubectl_is_in_the_log_of_its_pod_as_well() {
    let (stage, listener) = two_pods().await;
    let pods = stage.pods("litellm").await;
    let names: Vec<&str> = pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
    for name in &names {
        let mut spdy = Spdy::into_pod(&stage, name).await;
        let stream = spdy.connection(0).await;
        let (mut socket, client) = timeout(WITHIN, listener.accept()).await.unwrap().unwrap();
        // Once a byte came through both ends know the connection.
        spdy.socket.write_all(&[&stream.to_be_bytes()[..], &[0, 0, 0, 1], b"x"].concat()).await.unwrap();
        assert_eq!(timeout(WITHIN, socket.read_u8()).await.unwrap().unwrap(), b'x');
        let line = format!("into {name}");
        stage.household.plane().kubelet().log_line_for("ml", "litellm", "litellm", Some(client), &line);
        for other in &names {
            let log = stage.api::<Pod>().logs(other, &kube::api::LogParams::default()).await.unwrap();
            assert_eq!(log.lines().any(|printed| printed == line), other == name, "{line} in {other}");
        }
    }
    stage.shutdown().await;
}

#[tokio::test]
async fn a_connection_that_the_pod_ends_is_ended_both_ways_and_makes_room_for_others() {
    let (stage, listener) = two_pods().await;
    let mut spdy = Spdy::into_pod(&stage, &stage.pod("litellm").await).await;
    // More than there may be at a time.
    for number in 0..70 {
        let stream = spdy.connection(number).await;
        let through = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(b"x").await.unwrap();
            socket.shutdown().await.unwrap();
            let came = spdy.until_ended(stream).await;
            // Though the client has not ended its side.
            assert_eq!(socket.read(&mut [0]).await.unwrap(), 0, "connection {number}");
            came
        };
        let came = timeout(WITHIN, through).await.unwrap_or_else(|_| panic!("connection {number}"));
        assert_eq!(came, b"x", "connection {number}");
    }
    stage.shutdown().await;
}
