//! Gates, seen by a plain TCP client.

use std::io::ErrorKind;
use std::net::TcpListener as StdListener;

use futures::future::join_all;
use mocks::gate::{Gate, GateMode};
use proptest::test_runner::{Config, TestRunner};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::observe::{CONNECT_MAX, WITHIN, check_new_client_sees, echo, echo_server, eventually, is_silent};

const MODES: [GateMode; 6] = [
    GateMode::Pass,
    GateMode::Refuse,
    GateMode::Blackhole,
    GateMode::Stall,
    GateMode::RefuseNew,
    GateMode::DropNew,
];

async fn gate() -> Gate {
    Gate::start(echo_server().await).await.unwrap()
}

#[tokio::test]
async fn a_gate_at_an_address_of_its_own_leads_to_a_name() {
    let upstream = echo_server().await;
    for listen in ["127.0.0.2:0", "[::1]:0"] {
        let gate =
            Gate::listen(listen.parse().unwrap(), &format!("localhost:{}", upstream.port())).await.unwrap();
        assert_eq!(gate.address().ip(), listen.parse::<std::net::SocketAddr>().unwrap().ip());
        for mode in [GateMode::Pass, GateMode::Blackhole, GateMode::Pass, GateMode::Refuse, GateMode::Pass] {
            gate.set(mode).await.unwrap();
            check_new_client_sees(mode, gate.address(), &format!("{mode:?} at {listen}")).await;
        }
        gate.shutdown().await;
    }
}

/// Sets each mode in turn; after each, a new client and an established connection must see it.
async fn check_sequence(modes: &[GateMode]) {
    let gate = gate().await;
    let address = gate.address();
    let mut established: Option<TcpStream> = None;
    for (step, &mode) in modes.iter().enumerate() {
        gate.set(mode).await.unwrap();
        assert_eq!(gate.mode(), mode);
        assert_eq!(gate.address(), address);
        check_new_client_sees(mode, address, &format!("step {step} of {modes:?}")).await;
        let Some(mut stream) = established.take() else {
            if mode == GateMode::Pass {
                let mut stream = TcpStream::connect(address).await.unwrap();
                assert_eq!(echo(&mut stream).await.unwrap(), b'x');
                established = Some(stream);
            }
            continue;
        };
        match mode {
            GateMode::Pass | GateMode::RefuseNew | GateMode::DropNew => {
                assert_eq!(echo(&mut stream).await.unwrap(), b'x', "step {step} of {modes:?}");
            }
            GateMode::Refuse => {
                let error = timeout(WITHIN, stream.read_u8()).await.unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "step {step} of {modes:?}");
                continue;
            }
            GateMode::Blackhole | GateMode::Stall => {
                assert!(is_silent(&mut stream).await, "step {step} of {modes:?}");
            }
        }
        established = Some(stream);
    }
    gate.shutdown().await;
}

#[tokio::test]
async fn each_mode_follows_each_other() {
    use GateMode::{Blackhole as B, Pass as P, Refuse as R, Stall as S};
    // Every ordered pair of modes, a mode after itself included, occurs once.
    check_sequence(&[P, P, R, R, B, B, S, S, P, B, P, S, R, S, B, R, P]).await;
}

#[tokio::test]
async fn modes_for_new_connections_alone_follow_each_other_and_the_others() {
    use GateMode::{Blackhole as B, DropNew as D, Pass as P, Refuse as R, RefuseNew as N, Stall as S};
    check_sequence(&[P, N, N, P, D, D, P, N, D, N, B, N, S, N, P, D, B, D, S, D, P, N, R, N, P, D, R, D, P])
        .await;
}

#[test]
fn modes_work_in_any_order() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let modes = proptest::collection::vec(proptest::sample::select(&MODES), 2..8);
    let config = Config { cases: 6, max_shrink_iters: 8, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&modes, |modes| {
        runtime.block_on(check_sequence(&modes));
        Ok(())
    });
    checked.unwrap();
}

#[tokio::test]
async fn passes_all_bytes_and_half_closes() {
    let gate = gate().await;
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut from, mut to) = TcpStream::connect(gate.address()).await.unwrap().into_split();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    // The echo ends only once the server has seen the end of what the client sends.
    timeout(WITHIN, async { tokio::join!(write, from.read_to_end(&mut received)) }).await.unwrap().1.unwrap();
    assert!(received == sent);
    gate.shutdown().await;
}

#[tokio::test]
async fn a_blackholed_connect_times_out_while_another_gate_passes() {
    let (dark, light) = (gate().await, gate().await);
    dark.set(GateMode::Blackhole).await.unwrap();
    let connect = |gate: &Gate| timeout(CONNECT_MAX, TcpStream::connect(gate.address()));
    let (first, second, other) = tokio::join!(connect(&dark), connect(&dark), connect(&light));
    assert!(first.is_err() && second.is_err());
    assert_eq!(echo(&mut other.unwrap().unwrap()).await.unwrap(), b'x');
    dark.shutdown().await;
    light.shutdown().await;
}

/// Sockets of this machine with this address at their other end, as a program in a pod counts the connections of its
/// neighbours.
fn connections_to(address: std::net::SocketAddr) -> usize {
    let std::net::IpAddr::V4(ip) = address.ip() else { unreachable!("gates have IPv4 addresses") };
    let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().filter(|line| line.split_whitespace().nth(2) == Some(&remote)).count()
}

#[tokio::test]
async fn silence_takes_no_connection_that_could_be_counted() {
    for mode in [GateMode::Blackhole, GateMode::DropNew] {
        let gate = gate().await;
        let mut held = TcpStream::connect(gate.address()).await.unwrap();
        assert_eq!(echo(&mut held).await.unwrap(), b'x');
        // Twice, the second time with the first filler perhaps still in the queue.
        for mode in [mode, GateMode::Pass, mode] {
            gate.set(mode).await.unwrap();
        }
        assert!(timeout(CONNECT_MAX, TcpStream::connect(gate.address())).await.is_err());
        assert_eq!(connections_to(gate.address()), 1, "{mode:?}");
        gate.shutdown().await;
    }
}

#[tokio::test]
async fn a_blackholed_connect_gets_through_after_the_heal() {
    let gate = gate().await;
    gate.set(GateMode::Blackhole).await.unwrap();
    let mut connect = Box::pin(TcpStream::connect(gate.address()));
    assert!(timeout(CONNECT_MAX, &mut connect).await.is_err());
    gate.set(GateMode::Pass).await.unwrap();
    // The kernel sends the SYN again about a second after the first.
    let mut stream = timeout(WITHIN, connect).await.unwrap().unwrap();
    assert_eq!(echo(&mut stream).await.unwrap(), b'x');
    gate.shutdown().await;
}

#[tokio::test]
async fn a_blackholed_connect_is_refused_once_the_gate_refuses() {
    let gate = gate().await;
    gate.set(GateMode::Blackhole).await.unwrap();
    let mut connect = Box::pin(TcpStream::connect(gate.address()));
    assert!(timeout(CONNECT_MAX, &mut connect).await.is_err());
    gate.set(GateMode::Refuse).await.unwrap();
    let error = timeout(WITHIN, connect).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    gate.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blackhole_holds_against_clients_that_connect_at_the_same_time() {
    let gate = gate().await;
    for _ in 0..3 {
        let burst = join_all((0..32).map(|_| timeout(CONNECT_MAX, TcpStream::connect(gate.address()))));
        let (burst, set) = tokio::join!(burst, gate.set(GateMode::Blackhole));
        set.unwrap();
        check_new_client_sees(GateMode::Blackhole, gate.address(), "after the switch").await;
        // Whoever got in before the switch is silent, and served after it.
        gate.set(GateMode::Pass).await.unwrap();
        for mut stream in burst.into_iter().filter_map(|connected| connected.ok()?.ok()) {
            assert_eq!(echo(&mut stream).await.unwrap(), b'x');
        }
    }
    gate.shutdown().await;
}

#[tokio::test]
async fn what_a_silent_connection_sent_is_answered_after_the_heal() {
    for mode in [GateMode::Blackhole, GateMode::Stall] {
        let gate = gate().await;
        let mut stream = TcpStream::connect(gate.address()).await.unwrap();
        assert_eq!(echo(&mut stream).await.unwrap(), b'x');
        gate.set(mode).await.unwrap();
        stream.write_all(b"late").await.unwrap();
        assert!(is_silent(&mut stream).await);
        gate.set(GateMode::Pass).await.unwrap();
        let mut answer = [0; 4];
        timeout(WITHIN, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"late");
        gate.shutdown().await;
    }
}

#[tokio::test]
async fn connections_held_by_a_stall_are_served_after_it() {
    let gate = gate().await;
    gate.set(GateMode::Stall).await.unwrap();
    let mut stream = TcpStream::connect(gate.address()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert!(is_silent(&mut stream).await);
    gate.set(GateMode::Pass).await.unwrap();
    assert_eq!(timeout(WITHIN, stream.read_u8()).await.unwrap().unwrap(), b'x');
    gate.shutdown().await;
}

#[tokio::test]
async fn nobody_else_gets_the_port_while_it_refuses() {
    let gate = gate().await;
    // A connection that the gate's side closes first stays in TIME_WAIT and must not keep us from listening again.
    let mut closed = TcpStream::connect(gate.address()).await.unwrap();
    closed.shutdown().await.unwrap();
    assert_eq!(timeout(WITHIN, closed.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    gate.set(GateMode::Refuse).await.unwrap();
    // The standard listener sets SO_REUSEADDR, like most servers.
    assert_eq!(StdListener::bind(gate.address()).unwrap_err().kind(), ErrorKind::AddrInUse);
    let outgoing = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    assert_eq!(outgoing.bind(&gate.address().into()).unwrap_err().kind(), ErrorKind::AddrInUse);
    gate.set(GateMode::Pass).await.unwrap();
    check_new_client_sees(GateMode::Pass, gate.address(), "after the switch").await;
    gate.shutdown().await;
}

#[tokio::test]
async fn an_upstream_that_is_not_there_resets_the_client() {
    let nowhere = StdListener::bind("127.0.0.1:0").unwrap();
    let address = nowhere.local_addr().unwrap();
    drop(nowhere);
    let gate = Gate::start(address).await.unwrap();
    let mut stream = TcpStream::connect(gate.address()).await.unwrap();
    let error = timeout(WITHIN, stream.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    gate.shutdown().await;
}

#[tokio::test]
async fn shutdown_gives_up_the_port_and_every_task() {
    let upstream = echo_server().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let gate = Gate::start(upstream).await.unwrap();
    gate.set(GateMode::Stall).await.unwrap();
    let streams = join_all((0..8).map(|_| TcpStream::connect(gate.address()))).await;
    let address = gate.address();
    eventually("eight held connections", || (tasks() >= before + 9).then_some(())).await;
    gate.shutdown().await;
    eventually("no task is left", || (tasks() <= before).then_some(())).await;
    drop(streams);
    StdListener::bind(address).unwrap();
    assert_eq!(gate.set(GateMode::Pass).await.unwrap_err().kind(), ErrorKind::NotConnected);
}
