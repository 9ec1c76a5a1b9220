//! `exec`: a command's channels over a websocket, or over SPDY for old clients.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures::{Sink, SinkExt, Stream, StreamExt, TryStreamExt};
use http::Response;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_util::sync::CancellationToken;

use super::process::{Process, not_started, status};
use super::websocket::{self, Protocol, accept, end, frame};
use super::{Kubelet, container_of, is_set, spdy};
use crate::kubernetes::pod_io::{Body, PodRequest};
use crate::kubernetes::refusal::Refusal;

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const STATUS: u8 = 3;
pub(super) const CLOSE: u8 = 255;
const READ_BYTES: usize = 16 * 1024;
/// How long the output of a command that has ended is waited for: something that it started may hold it open.
const OUTPUT_WITHIN: Duration = Duration::from_secs(2);
/// How long a client may take to read the end.
const FAREWELL_WITHIN: Duration = Duration::from_secs(5);

/// What a client asked for.
struct Asked {
    words: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// Checks a request, and answers it; the command runs on in a task of the kubelet's.
pub(super) fn exec(kubelet: &Kubelet, request: PodRequest) -> Result<Response<Body>, Refusal> {
    let PodRequest { pod, query, request } = request;
    let container = container_of(&pod, &query)?.clone();
    let words = query.iter().filter(|(key, _)| key == "command").map(|(_, word)| word.clone());
    let asked = Asked {
        words: words.collect(),
        stdin: is_set(&query, "stdin"),
        stdout: is_set(&query, "stdout"),
        stderr: is_set(&query, "stderr"),
        tty: is_set(&query, "tty"),
    };
    if asked.words.is_empty() {
        return Err(Refusal::BadRequest(
            "you must specify at least one command for the container".to_owned(),
        ));
    }
    if !asked.stdin && !asked.stdout && !asked.stderr {
        let told = "you must specify at least one of stdin, stdout, stderr";
        return Err(Refusal::BadRequest(told.to_owned()));
    }
    let Some(running) = kubelet.running_pod(&pod) else {
        let name = container["name"].as_str().unwrap_or_default();
        let told = format!("unable to upgrade connection: container not found (\"{name}\")");
        return Err(Refusal::Internal(told));
    };
    let (handshake, response) = if spdy::is_asked(&request) {
        let (handshake, response) = spdy::accept(request, spdy::EXEC)?;
        (Handshake::Spdy(handshake), response)
    } else {
        let (handshake, response) = accept(request)?;
        (Handshake::Websocket(handshake), response)
    };
    let (kubelet, ended) = (kubelet.clone(), kubelet.inner.end.clone());
    let tasks = kubelet.inner.tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = session(&kubelet, &pod, &container, asked, handshake, running.life) => {}
        }
    });
    Ok(response)
}

/// A connection of either kind that the client is about to get.
enum Handshake {
    Websocket(websocket::Handshake),
    Spdy(spdy::Handshake),
}

type Outgoing = Pin<Box<dyn Sink<Message, Error = io::Error> + Send>>;
type Incoming = Pin<Box<dyn Stream<Item = io::Result<Message>> + Send>>;

impl Handshake {
    /// The channels, as messages of a websocket, and whether the client can close one; none if it is gone.
    async fn finish(self, asked: &Asked) -> Option<(Outgoing, Incoming, bool)> {
        match self {
            Self::Websocket(handshake) => {
                let closes = handshake.protocol == Protocol::V5;
                let (sink, source) = handshake.finish().await?.split();
                let sink = sink.sink_map_err(io::Error::other);
                Some((Box::pin(sink), Box::pin(source.map_err(io::Error::other)), closes))
            }
            Self::Spdy(handshake) => {
                let channels = [
                    (true, STATUS),
                    (asked.stdin, STDIN),
                    (asked.stdout, STDOUT),
                    (asked.stderr && !asked.tty, STDERR),
                ];
                let channels = channels.iter().filter(|(is_asked, _)| *is_asked).map(|(_, channel)| *channel);
                let (sink, source) = handshake.finish(&channels.collect::<Vec<_>>()).await?;
                Some((Box::pin(sink), Box::pin(source), true))
            }
        }
    }
}

async fn session(
    kubelet: &Kubelet,
    pod: &Value,
    container: &Value,
    asked: Asked,
    handshake: Handshake,
    life: CancellationToken,
) {
    let Some((mut sink, mut source, closes)) = handshake.finish(&asked).await else { return };
    // A client learns from these that the channels are there.
    for channel in [(asked.stdout, STDOUT), (asked.stderr, STDERR), (true, STATUS)] {
        if channel.0 && sink.send(frame(channel.1, &[])).await.is_err() {
            return;
        }
    }
    let status = match Process::start(kubelet, pod, container, &asked.words, asked.stdin) {
        Ok(mut process) => {
            let outcome = tokio::select! {
                outcome = run(&mut process, &asked, closes, &mut sink, &mut source) => outcome,
                () = life.cancelled() => {
                    process.kill();
                    let ended = process.child.wait().await;
                    Some(status(&asked.words, ended))
                }
            };
            process.kill();
            outcome
        }
        Err(error) => Some(not_started(&asked.words, &error)),
    };
    let Some(status) = status else { return };
    let farewell = async {
        sink.send(frame(STATUS, status.to_string().as_bytes())).await.ok()?;
        sink.send(end()).await.ok()?;
        // What the client still sends is taken, or the end of the connection would be a reset.
        while let Some(Ok(_)) = source.next().await {}
        Some(())
    };
    // A client that is gone needs no farewell.
    let _told = tokio::time::timeout(FAREWELL_WITHIN, farewell).await;
}

/// Runs a command to its end; none where the client left before.
async fn run(
    process: &mut Process,
    asked: &Asked,
    closes: bool,
    sink: &mut Outgoing,
    source: &mut Incoming,
) -> Option<Value> {
    let stdin = process.child.stdin.take();
    let (stdout, stderr) = (process.child.stdout.take(), process.child.stderr.take());
    let (frames, mut outbox) = mpsc::channel(16);
    let stderr_channel = if asked.tty { STDOUT } else { STDERR };
    let copies = {
        let (to_stdout, to_stderr) = (frames.clone(), frames);
        let (wants_stdout, wants_stderr) = (asked.stdout, asked.stderr || asked.tty);
        async move {
            tokio::join!(
                copy(stdout, STDOUT, wants_stdout, to_stdout),
                copy(stderr, stderr_channel, wants_stderr, to_stderr)
            );
        }
    };
    let finish = async {
        tokio::pin!(copies);
        let ended = tokio::select! {
            () = &mut copies => process.child.wait().await,
            ended = process.child.wait() => {
                if tokio::time::timeout(OUTPUT_WITHIN, &mut copies).await.is_ok() {
                    process.forget();
                }
                ended
            }
        };
        status(&asked.words, ended)
    };
    let write = async {
        while let Some(frame) = outbox.recv().await {
            sink.send(frame).await.ok()?;
        }
        Some(())
    };
    let serve = async {
        let (status, written) = tokio::join!(finish, write);
        written.map(|()| status)
    };
    tokio::select! {
        status = serve => status,
        () = listen(source, stdin, closes) => None,
    }
}

/// Passes what a process writes on as frames.
async fn copy(from: Option<impl AsyncRead + Unpin>, channel: u8, is_wanted: bool, to: mpsc::Sender<Message>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) if is_wanted => {
                if to.send(frame(channel, &buffer[..read])).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
        }
    }
}

/// Takes the client's frames until the client leaves.
async fn listen(source: &mut Incoming, mut stdin: Option<ChildStdin>, closes: bool) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            _ => continue,
        };
        match bytes.split_first() {
            Some((&STDIN, rest)) => {
                let written = write(&mut stdin, rest).await;
                // The command reads no more.
                stdin = stdin.filter(|_| written.is_ok());
            }
            Some((&CLOSE, [STDIN])) if closes => stdin = None,
            // Sizes of terminals, and what nobody knows.
            _ => {}
        }
    }
}

async fn write(stdin: &mut Option<ChildStdin>, bytes: &[u8]) -> io::Result<()> {
    match stdin {
        Some(stdin) => {
            stdin.write_all(bytes).await?;
            stdin.flush().await
        }
        None => Ok(()),
    }
}
