//! The truth server: it does what its script says, and says when.

use std::time::Duration;

use mocks::truth::{Does, Order, PRIMARY, SPARE, Script, Shape, Step, Told, monotonic_us, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

struct Server {
    orders: UnboundedSender<Order>,
    told: UnboundedReceiver<Told>,
}

impl Server {
    fn start() -> Self {
        let (orders, received) = unbounded_channel();
        let (tell, told) = unbounded_channel();
        tokio::spawn(serve(received, tell));
        Self { orders, told }
    }

    async fn told(&mut self) -> Told {
        tokio::time::timeout(Duration::from_secs(20), self.told.recv()).await.unwrap().unwrap()
    }

    async fn open(&mut self, steps: Vec<Step>) -> (u16, u16) {
        let script = Script { chunks: 4, chunk_gap_us: 0, steps, takes_down: true };
        self.orders.send(Order::Open { id: 1, script }).unwrap();
        match self.told().await {
            Told::Opened { id: 1, port, component } => (port, component),
            other => panic!("{other:?}"),
        }
    }

    /// Start, and wait until so many steps are made: when each was.
    async fn go(&mut self, steps: usize) -> Vec<(u64, u64)> {
        self.orders.send(Order::Go { id: 1 }).unwrap();
        let mut made = Vec::new();
        while made.len() < steps {
            match self.told().await {
                Told::Changed { step, from_us, to_us, .. } => {
                    assert_eq!(step, made.len());
                    made.push((from_us, to_us));
                }
                Told::Down { from_us, to_us, .. } => assert!(from_us <= to_us && made.is_empty()),
                other => panic!("{other:?}"),
            }
        }
        made
    }
}

/// All that comes for one request, or the error that comes instead.
async fn ask(port: u16, streamed: bool) -> std::io::Result<String> {
    let body = format!("{{\"model\":\"primary\",\"stream\":{streamed}}}");
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut read = Vec::new();
    let ends = ["I am", "[DONE]", "\"error\""];
    while stream.read_buf(&mut read).await? > 0 {
        let text = String::from_utf8_lossy(&read).into_owned();
        if ends.iter().any(|end| text.contains(end)) && (text.ends_with('}') || text.ends_with("0\r\n\r\n")) {
            return Ok(text);
        }
    }
    Ok(String::from_utf8_lossy(&read).into_owned())
}

fn step(after_ms: u64, does: Does) -> Step {
    Step { after_us: after_ms * 1000, does }
}

#[tokio::test]
async fn it_answers_whole_and_streamed_and_fails_as_its_script_says() {
    for (does, whole, streamed) in [
        (Does::Unavailable, "503", "503"),
        (Does::Loading, "loading", "loading"),
        (Does::ErrorEvent, "500", "data: {\"error\""),
        (Does::Serve("other".to_owned()), "model-group: other", "model-group: other"),
    ] {
        let mut server = Server::start();
        let (port, _) = server.open(vec![step(0, does.clone())]).await;
        let before = ask(port, false).await.unwrap();
        assert!(before.contains("200 OK") && before.contains(&format!("model-group: {PRIMARY}")), "{before}");
        let before = ask(port, true).await.unwrap();
        assert!(before.matches("word").count() == 4 && before.contains("[DONE]"), "{before}");
        server.go(1).await;
        assert!(ask(port, false).await.unwrap().contains(whole), "{does:?}");
        assert!(ask(port, true).await.unwrap().contains(streamed), "{does:?}");
    }
}

#[tokio::test]
async fn what_breaks_connections_breaks_them() {
    for does in [Does::Reset, Does::Refuse, Does::Cut] {
        let mut server = Server::start();
        let (port, component) = server.open(vec![step(0, does.clone())]).await;
        TcpStream::connect(("127.0.0.1", component)).await.unwrap();
        server.go(1).await;
        let answer = ask(port, true).await;
        assert!(answer.is_err() == (does != Does::Cut), "{does:?}: {answer:?}");
        assert!(!answer.unwrap_or_default().contains("[DONE]"), "{does:?}");
        TcpStream::connect(("127.0.0.1", component)).await.expect_err("the component is down");
    }
}

#[tokio::test]
async fn it_says_when_it_really_failed_and_came_back() {
    let mut server = Server::start();
    let (port, _) = server.open(Shape::Refuse.steps(300_000)).await;
    let asked_us = monotonic_us();
    let made = server.go(2).await;
    assert!(asked_us <= made[0].0 && made[0].1 <= made[1].0 && made[1].1 <= monotonic_us(), "{made:?}");
    assert!(made[1].0 - made[0].1 >= 299_000, "no step is early: {made:?}");
    assert!(ask(port, false).await.unwrap().contains(&format!("model-group: {SPARE}")));
}

#[tokio::test]
async fn what_hangs_is_answered_at_the_next_step() {
    let mut server = Server::start();
    let (port, _) = server.open(Shape::HangRelease.steps(200_000)).await;
    server.go(1).await;
    let answer = ask(port, false).await.unwrap();
    assert!(answer.contains(&format!("model-group: {SPARE}")), "{answer}");
    assert!(matches!(server.told().await, Told::Changed { step: 1, .. }), "not before that");
}
