use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn transport() -> Transport {
    Transport::new(TaskTracker::new(), CancellationToken::new())
}

fn post(port: u16) -> UpstreamRequest {
    let uri = format!("http://127.0.0.1:{port}/api/chat").parse().unwrap();
    UpstreamRequest { uri, headers: HeaderMap::new(), body: Bytes::from_static(b"{}") }
}

/// How a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ends {
    Reset,
    Close,
}

/// An upstream that breaks the connection of each request whose number `breaks` names, from 1, and answers the others.
/// Returns its port and its count of requests.
async fn breaking(ends: Ends, breaks: fn(usize) -> bool) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 1024];
            while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                if breaks(seen.fetch_add(1, Ordering::AcqRel) + 1) {
                    break;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
            if ends == Ends::Reset {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    });
    (port, requests)
}

#[tokio::test]
async fn a_refused_connect_is_tried_twice() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let transport = transport();
    let error = transport.send(&post(port), LIMIT).await.unwrap_err();
    assert!(matches!(error, TransportError::Connect { .. }), "{error:?}");
    assert_eq!(transport.connects.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn on_a_used_connection_a_reset_is_sent_twice_and_a_close_once() {
    for (ends, sent, connects) in [(Ends::Reset, 2, 2), (Ends::Close, 1, 1)] {
        let (port, requests) = breaking(ends, |number| number > 1).await;
        let transport = transport();
        let mut reply = transport.send(&post(port), LIMIT).await.unwrap();
        assert_eq!(reply.read_to_end().await.unwrap(), b"ok");
        drop(reply);
        let error = transport.send(&post(port), LIMIT).await.unwrap_err();
        let expected = match ends {
            Ends::Reset => matches!(error, TransportError::Reset),
            Ends::Close => matches!(error, TransportError::Disconnected),
        };
        assert!(expected, "{ends:?}: {error:?}");
        assert_eq!(requests.load(Ordering::Acquire), 1 + sent, "{ends:?}");
        assert_eq!(transport.connects.load(Ordering::Relaxed), connects, "{ends:?}");
    }
}

#[tokio::test]
async fn the_connection_of_a_second_try_is_not_kept() {
    let (port, requests) = breaking(Ends::Reset, |number| number == 2).await;
    let transport = transport();
    for connects in [1, 2, 3, 3] {
        let mut reply = transport.send(&post(port), LIMIT).await.unwrap();
        assert_eq!(reply.read_to_end().await.unwrap(), b"ok");
        assert_eq!(transport.connects.load(Ordering::Relaxed), connects);
    }
    assert_eq!(requests.load(Ordering::Acquire), 5);
}
