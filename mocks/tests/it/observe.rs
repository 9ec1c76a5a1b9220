//! What the tests look through: a plain TCP client, an HTTP client, and waiting for a condition.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mocks::gate::GateMode;
use mocks::profile::Profile;
use mocks::time::Epoch;
use mocks::world::{World, WorldOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A bound on waits that are expected to end.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);
/// How long nothing must happen for it to count as silence.
pub(crate) const SILENCE: Duration = Duration::from_millis(120);
/// How long a connect must hang for it to count as blackholed.
pub(crate) const CONNECT_MAX: Duration = Duration::from_millis(300);

/// Runs `check` every few milliseconds until it gives something.
pub(crate) async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let wait = async {
        loop {
            ticks.tick().await;
            if let Some(found) = check() {
                return found;
            }
        }
    };
    timeout(WITHIN, wait).await.unwrap_or_else(|_| panic!("never seen: {what}"))
}

/// Starts a server that sends back what it gets, and finishes when its client has finished. It ends with the
/// runtime of the test.
pub(crate) async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _copied = tokio::io::copy(&mut from, &mut to).await;
                let _closed = to.shutdown().await;
            });
        }
    });
    address
}

/// Sends one byte and reads it back.
pub(crate) async fn echo(stream: &mut TcpStream) -> std::io::Result<u8> {
    stream.write_all(b"x").await?;
    timeout(WITHIN, stream.read_u8()).await.expect("an answer or an error in time")
}

/// Whether nothing at all comes from the stream for a while.
pub(crate) async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(SILENCE, stream.read_u8()).await.is_err()
}

/// Checks that a plain client with a connection of its own sees this mode.
pub(crate) async fn check_new_client_sees(mode: GateMode, address: SocketAddr, context: &str) {
    let connect = TcpStream::connect(address);
    if matches!(mode, GateMode::Blackhole | GateMode::DropNew) {
        assert!(timeout(CONNECT_MAX, connect).await.is_err(), "the connect ended: {context}");
        return;
    }
    let connected = timeout(WITHIN, connect).await.unwrap_or_else(|_| panic!("the connect hung: {context}"));
    if matches!(mode, GateMode::Refuse | GateMode::RefuseNew) {
        let refused = connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        assert!(refused, "not refused: {context}");
        return;
    }
    let mut stream = connected.unwrap_or_else(|error| panic!("{error}: {context}"));
    if mode == GateMode::Pass {
        assert_eq!(echo(&mut stream).await.unwrap(), b'x', "{context}");
    } else {
        stream.write_all(b"x").await.unwrap();
        assert!(is_silent(&mut stream).await, "not silent: {context}");
    }
}

/// The five models at test speed, changed by `change`.
pub(crate) async fn world_with(change: impl FnOnce(&mut Profile)) -> World {
    let mut profile = Profile::fast();
    change(&mut profile);
    World::start(WorldOptions::five_aliases(Epoch::starting_now(), 7, profile)).await.unwrap()
}

/// The five models at test speed, to be shared with a control API.
pub(crate) async fn shared_world() -> Arc<World> {
    Arc::new(world_with(|_| {}).await)
}

/// An HTTP client that waits no longer than the tests do.
pub(crate) fn http_client() -> reqwest::Client {
    // An error means that another test of this process has installed it.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(WITHIN).build().unwrap()
}

/// Posts JSON and gives status and body.
pub(crate) async fn post(url: String, body: serde_json::Value) -> (u16, String) {
    let response = http_client().post(url).body(body.to_string()).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Gets a page and gives status and body.
pub(crate) async fn get(url: String) -> (u16, String) {
    let response = http_client().get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}
