//! The script itself, as a child process, against the gates of the mock world.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mocks::gate::{Gate, GateMode};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{
    COMMAND, CannotOpen, Fate, Opener, Pipes, Pool, Prober, ProberError, ProberOptions, Seen, Symptom, Target,
};
use crate::journal::{Clock, Entry, Event, Journal};
use crate::witness::Observed;

const LIMIT: Duration = Duration::from_secs(30);

/// Runs a command as a pod's container would.
fn child(command: &'static [&'static str]) -> Opener {
    child_with(command, &[])
}

fn child_with(
    command: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
) -> Opener {
    Box::new(move || {
        async move {
            let started = Command::new(command[0])
                .args(&command[1..])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .envs(variables.iter().copied())
                .kill_on_drop(true)
                .spawn();
            let mut child = started.map_err(|error| CannotOpen {
                for_good: error.kind() == ErrorKind::NotFound,
                why: error.to_string(),
            })?;
            let (input, output, errors) =
                (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let waiter = AbortOnDrop(tokio::spawn(async move {
                let status = child.wait().await.unwrap();
                let _ = sender.send(format!("{status}"));
            }));
            Ok(Pipes {
                input: Box::new(input),
                output: Box::new(output),
                errors: Box::new(errors),
                ended: Box::pin(async { receiver.await.ok() }),
                connection: Box::new(waiter),
            })
        }
        .boxed()
    })
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers any request with an empty 200, on kept connections.
async fn empty_answers() -> (SocketAddr, AbortOnDrop) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, AbortOnDrop(task))
}

struct Stage {
    prober: Prober,
    gate: Gate,
    journal: Arc<Journal>,
    dir: TempDir,
    _server: AbortOnDrop,
}

fn journal() -> (Arc<Journal>, TempDir) {
    let dir = TempDir::new().unwrap();
    let journal = Journal::create(&dir.path().join("journal.jsonl"), Clock::starting_now()).unwrap();
    (Arc::new(journal), dir)
}

fn target(component: &str, host: &str, port: u16) -> Target {
    let (component, host, path) = (component.to_owned(), host.to_owned(), "/".to_owned());
    Target { component, host, port, tls: false, path, name_may_go: false }
}

fn options(gateway_port: u16) -> ProberOptions {
    ProberOptions {
        look_every: Duration::from_millis(50),
        hang: Duration::from_millis(300),
        ask_every: Duration::from_millis(100),
        resolve_every: Duration::from_millis(100),
        sockets_every: Duration::from_millis(100),
        gateway_port,
        ends_after: Duration::from_secs(60),
    }
}

impl Stage {
    async fn set() -> Self {
        let (upstream, server) = empty_answers().await;
        let gate = Gate::start(upstream).await.unwrap();
        let port = gate.address().port();
        let scaled = Target { name_may_go: true, ..target("scaled", "scaled.invalid", 443) };
        let targets =
            vec![target("cloud", "localhost", port), target("nowhere", "nowhere.invalid", 443), scaled];
        let (journal, dir) = journal();
        let prober =
            Prober::start(child(&COMMAND), targets, options(port), Arc::clone(&journal)).await.unwrap();
        Self { prober, gate, journal, dir, _server: server }
    }

    fn now_us(&self) -> u64 {
        self.journal.clock().now_us()
    }

    async fn observe(&self, component: &str, wanted: impl FnMut(&Observed) -> bool) -> Observed {
        let mut observed = self.prober.observed(component).unwrap();
        wait(&mut observed, wanted).await
    }

    async fn see(&self, wanted: impl FnMut(&Seen) -> bool) -> Seen {
        wait(&mut self.prober.seen(), wanted).await
    }

    /// Until the held connection is clearly older than whatever comes next, also with the clock's error.
    async fn hold_a_while(&self) {
        self.see(|seen| {
            let held = &seen.targets["cloud"].held;
            held.born_us.zip(held.answered_sent_us).is_some_and(|(born, sent)| sent > born + 300_000)
        })
        .await;
    }

    /// Stops everything; what the journal says.
    async fn entries(self) -> Vec<Entry> {
        self.prober.stop().await;
        self.gate.shutdown().await;
        // A journal begins with a run; its lines alone are of interest here.
        let text = std::fs::read_to_string(self.dir.path().join("journal.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

async fn wait<T: Clone + std::fmt::Debug>(
    receiver: &mut watch::Receiver<T>,
    wanted: impl FnMut(&T) -> bool,
) -> T {
    if let Ok(Ok(value)) = tokio::time::timeout(LIMIT, receiver.wait_for(wanted)).await {
        return value.clone();
    }
    panic!("not seen: {:?}", receiver.borrow().clone());
}

#[tokio::test]
async fn a_refusing_gate_is_bracketed_and_its_symptom_named() {
    let stage = Stage::set().await;
    stage.observe("cloud", |seen| seen.up == Some(true)).await;
    stage.hold_a_while().await;
    let called_us = stage.now_us();
    stage.gate.set(GateMode::Refuse).await.unwrap();
    let accepted_us = stage.now_us();
    let down = stage.observe("cloud", |seen| seen.up == Some(false)).await;
    assert!(down.down_since_us.is_some_and(|at| at >= called_us), "{down:?}");
    let seen = stage.see(|seen| seen.targets["cloud"].held.not_opened.is_some()).await;
    let cloud = &seen.targets["cloud"];
    assert_eq!(cloud.symptom, Some(Symptom::Refused));
    assert_eq!(cloud.held.fate(called_us), Fate::Cut(Symptom::Reset));
    stage.gate.set(GateMode::Pass).await.unwrap();
    stage.observe("cloud", |seen| seen.up == Some(true)).await;
    let entries = stage.entries().await;
    let changes: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::WitnessSaw { component, up, sent_us, done_us, previous_sent_us, .. }
                if component == "cloud" =>
            {
                Some((*up, *sent_us, *done_us, *previous_sent_us))
            }
            _ => None,
        })
        .collect();
    let [(true, ..), (false, sent, done, Some(last_up)), (true, ..)] = changes[..] else {
        panic!("{changes:?}")
    };
    // The gate closed between the call and its return; the bracket must hold that moment.
    assert!(last_up <= accepted_us && done >= called_us && last_up <= sent, "{changes:?} {called_us}");
}

#[tokio::test]
async fn a_silent_gate_is_silent_to_new_and_held_connections() {
    let stage = Stage::set().await;
    stage.hold_a_while().await;
    let called_us = stage.now_us();
    stage.gate.set(GateMode::Blackhole).await.unwrap();
    let seen = stage
        .see(|seen| {
            let cloud = &seen.targets["cloud"];
            cloud.symptom.is_some() && cloud.held.fate(called_us) == Fate::Silent
        })
        .await;
    assert_eq!(seen.targets["cloud"].symptom, Some(Symptom::Silent));
    stage.gate.set(GateMode::Pass).await.unwrap();
    stage.see(|seen| seen.targets["cloud"].held.fate(called_us) == Fate::Kept).await;
    stage.entries().await;
}

#[tokio::test]
async fn names_are_resolved_inside_and_a_missing_one_is_no_refusal() {
    let stage = Stage::set().await;
    let seen = stage
        .see(|seen| {
            seen.targets["scaled"].symptom.is_some()
                && seen.targets["nowhere"].unresolved.is_some()
                && seen.targets["cloud"].answers > 1
        })
        .await;
    assert_eq!(seen.targets["scaled"].symptom, Some(Symptom::Unresolved), "its name goes with its pods");
    assert_eq!(seen.targets["nowhere"].symptom, None, "no evidence of anything");
    assert!(seen.targets["nowhere"].unresolved.as_deref().is_some_and(|why| why.starts_with("EAI_")));
    assert!(seen.targets["cloud"].addresses.iter().all(std::net::IpAddr::is_loopback));
    assert!(seen.clock_error_us.is_some_and(|error| error < 1_000_000), "{seen:?}");
    stage.entries().await;
}

/// As the script is started in a pod, but that names are lost after some lookups.
const NAMES_ARE_LOST: [&str; 4] = [
    "python3",
    "-u",
    "-c",
    "
import itertools, json, socket
found, count = socket.getaddrinfo, itertools.count()
def lost(*place, **more):
    if next(count) >= 5:
        raise socket.gaierror(socket.EAI_AGAIN, 'lost')
    return found(*place, **more)
socket.getaddrinfo = lost
exec(json.loads(open(0,'rb',0,closefd=False).readline()))
",
];

#[tokio::test]
async fn the_addresses_of_before_are_tried_on_while_a_name_is_lost() {
    let (upstream, _server) = empty_answers().await;
    let gate = Gate::start(upstream).await.unwrap();
    let port = gate.address().port();
    let (journal, _dir) = journal();
    let targets = vec![target("cloud", "localhost", port)];
    let prober = Prober::start(child(&NAMES_ARE_LOST), targets, options(port), journal).await.unwrap();
    let lost = |seen: &Seen| seen.targets["cloud"].unresolved.is_some();
    let seen = wait(&mut prober.seen(), lost).await;
    assert_eq!(seen.targets["cloud"].unresolved.as_deref(), Some("EAI_AGAIN"));
    gate.set(GateMode::Refuse).await.unwrap();
    let mut observed = prober.observed("cloud").unwrap();
    wait(&mut observed, |seen| seen.up == Some(false)).await;
    assert_eq!(prober.target("cloud").unwrap().symptom, Some(Symptom::Refused));
    gate.set(GateMode::Pass).await.unwrap();
    wait(&mut observed, |seen| seen.up == Some(true)).await;
    prober.stop().await;
    gate.shutdown().await;
}

#[tokio::test]
async fn sockets_of_others_are_counted_and_its_own_are_not() {
    let stage = Stage::set().await;
    stage.see(|seen| seen.targets["cloud"].held.answered_us.is_some()).await;
    let none = stage.see(|seen| seen.targets["cloud"].sockets.is_some()).await;
    assert_eq!(none.targets["cloud"].pooled(), Some(0), "the held connection is the prober's own");
    let pooled = TcpStream::connect(stage.gate.address()).await.unwrap();
    let seen = stage.see(|seen| seen.targets["cloud"].pooled() == Some(1)).await;
    assert_eq!(seen.targets["cloud"].pool(0), Pool::Open(1));
    // The gate listens on the port that is given out as the gateway's; what the prober itself has just closed there
    // may stand in the table for a moment.
    stage
        .see(|seen| {
            let inbound = seen.inbound.as_ref();
            inbound.and_then(|inbound| inbound.from.get("127.0.0.1")) == Some(&1)
        })
        .await;
    drop(pooled);
    let now_us = stage.now_us();
    stage.see(|seen| seen.targets["cloud"].pool(now_us) == Pool::Drained).await;
    stage.entries().await;
}

#[tokio::test]
async fn an_ipv4_connection_of_a_socket_for_both_kinds_is_counted() {
    let stage = Stage::set().await;
    let SocketAddr::V4(gate) = stage.gate.address() else { panic!("the gate listens on IPv4") };
    // It stands in the table of IPv6.
    let mapped = SocketAddr::from((gate.ip().to_ipv6_mapped(), gate.port()));
    let _pooled = tokio::net::TcpSocket::new_v6().unwrap().connect(mapped).await.unwrap();
    let seen = stage.see(|seen| seen.targets["cloud"].pooled() == Some(1)).await;
    assert_eq!(seen.targets["cloud"].pool(0), Pool::Open(1));
    stage.entries().await;
}

/// Local ports of established connections from 127.0.0.1 to a port of this machine.
fn ports_to(remote: SocketAddr) -> BTreeSet<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let to = format!("0100007F:{:04X}", remote.port());
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row.len() > 3 && row[2] == to && row[3] == "01");
    let local = |row: Vec<&str>| u16::from_str_radix(row[1].strip_prefix("0100007F:")?, 16).ok();
    ours.filter_map(local).collect()
}

#[tokio::test]
async fn a_socket_with_the_same_port_at_another_address_is_not_its_own() {
    let stage = Stage::set().await;
    // The one that is there before and after an answer is held: the others are closed as soon as they are open.
    let answered = stage.see(|seen| seen.targets["cloud"].held.answered_us.is_some()).await;
    let mut held = ports_to(stage.gate.address());
    stage
        .see(|seen| seen.targets["cloud"].held.answered_us > answered.targets["cloud"].held.answered_us)
        .await;
    held.retain(|port| ports_to(stage.gate.address()).contains(port));
    let [port] = held.into_iter().collect::<Vec<_>>()[..] else { panic!("one connection is held") };
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], port))).unwrap();
    let _pooled = socket.connect(stage.gate.address()).await.unwrap();
    let seen = stage.see(|seen| seen.targets["cloud"].pooled() == Some(1)).await;
    assert_eq!(seen.targets["cloud"].pool(0), Pool::Open(1));
    // The same from the side of who is connected to.
    stage
        .see(|seen| {
            let inbound = seen.inbound.as_ref();
            inbound.and_then(|inbound| inbound.from.get("127.0.0.2")) == Some(&1)
        })
        .await;
    stage.entries().await;
}

#[tokio::test]
async fn a_container_without_python_is_told_at_once() {
    for (command, word) in [
        (&["no-such-program"][..], "No such file"),
        (&["sh", "-c", "echo python3: not found >&2; exit 127"][..], "python3: not found"),
    ] {
        let (journal, _dir) = journal();
        let targets = vec![target("cloud", "127.0.0.1", 9)];
        let error = Prober::start(child(command), targets, options(9), journal).await.err();
        let Some(ProberError::NotStarted(why)) = &error else { panic!("{error:?}") };
        assert!(why.contains(word), "{why}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_is_opened_again_and_leaves_a_gap() {
    let (upstream, _server) = empty_answers().await;
    let (journal, _dir) = journal();
    // Ends after 700 ms, as a connection may that somebody cuts.
    let mut options = options(upstream.port());
    options.ends_after = Duration::from_millis(700);
    let targets = vec![target("cloud", "127.0.0.1", upstream.port())];
    let prober = Prober::start(child(&COMMAND), targets, options, journal).await.unwrap();
    let seen = wait(&mut prober.seen(), |seen| seen.streams > 1 && seen.clock_error_us.is_some()).await;
    assert!(!seen.breaks.is_empty() && seen.ended.is_none(), "{seen:?}");
    wait(&mut prober.observed("cloud").unwrap(), |seen| seen.up == Some(true)).await;
    prober.stop().await;
}

/// Answers HEAD over TLS as `localhost`, and prints its port.
const TLS_SERVER: &str = "
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def finish_request(self, request, address):
        Handler(context.wrap_socket(request, server_side=True), address, self)
    def handle_error(self, request, address):
        pass
server = Server(('127.0.0.1', 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
";
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../mocks/tests/data/loopback-cert.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../mocks/tests/data/loopback-key.pem");

#[tokio::test]
async fn a_held_connection_speaks_tls_with_whom_the_container_trusts_alone() {
    let mut server = Command::new("python3")
        .args(["-c", TLS_SERVER, CERTIFICATE, KEY])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut port = String::new();
    tokio::io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).await.unwrap();
    let port = port.trim().parse().unwrap();
    let target = Target { tls: true, ..target("cloud", "localhost", port) };
    for (variables, is_trusted) in [(&[("SSL_CERT_FILE", CERTIFICATE)][..], true), (&[][..], false)] {
        let (journal, _dir) = journal();
        let open = child_with(&COMMAND, variables);
        let prober = Prober::start(open, vec![target.clone()], options(port), journal).await.unwrap();
        let known = |seen: &Seen| {
            let held = &seen.targets["cloud"].held;
            held.answered_us.is_some() || held.not_opened.is_some()
        };
        let seen = wait(&mut prober.seen(), known).await;
        let held = &seen.targets["cloud"].held;
        assert_eq!(held.answered_us.is_some(), is_trusted, "{held:?}");
        assert_eq!(matches!(held.not_opened, Some(Symptom::Untrusted(_))), !is_trusted, "{held:?}");
        // New connections are seen either way.
        wait(&mut prober.observed("cloud").unwrap(), |seen| seen.up == Some(true)).await;
        prober.stop().await;
    }
    server.kill().await.unwrap();
}

#[test]
fn the_script_reads_no_environment_and_no_other_file() {
    let script = include_str!("prober.py");
    assert!(!script.contains("os.environ") && !script.contains("getenv"));
    let opened: Vec<_> = script.lines().filter(|line| line.contains("open(")).collect();
    let is_ours = |line: &&str| line.contains("self.open(") || line.contains("def open(");
    let files: Vec<_> = opened.into_iter().filter(|line| !is_ours(line)).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].contains("open(path)"));
    assert!(script.contains(r#"for path in ("/proc/net/tcp", "/proc/net/tcp6"):"#));
}
