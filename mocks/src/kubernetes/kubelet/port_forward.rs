//! `portforward`: connections into a pod over a websocket, a channel for data and one for errors for each port; or over
//! SPDY, as kubectl does it, with two streams for each connection.

use std::sync::Arc;

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::websocket::{Handshake, accept, end, frame};
use super::{Kubelet, Running, spdy};
use crate::kubernetes::controllers::objects::meta;
use crate::kubernetes::pod_io::{Body, PodRequest};
use crate::kubernetes::refusal::Refusal;

const READ_BYTES: usize = 16 * 1024;
/// A channel is a byte, and a port has two.
const PORTS_MAX: usize = 127;

/// Checks a request, and answers it; the connections live on in a task of the kubelet's.
pub(super) fn port_forward(kubelet: &Kubelet, request: PodRequest) -> Result<Response<Body>, Refusal> {
    let PodRequest { pod, query, request } = request;
    if spdy::is_asked(&request) {
        return over_spdy(kubelet, pod, request);
    }
    let asked = query.iter().filter(|(key, _)| key == "ports").flat_map(|(_, ports)| ports.split(','));
    let ports: Result<Vec<u16>, _> = asked.map(|port| port.trim().parse::<u16>()).collect();
    let ports =
        ports.ok().filter(|ports| !ports.is_empty() && ports.len() <= PORTS_MAX && !ports.contains(&0));
    let ports =
        ports.ok_or_else(|| Refusal::BadRequest("you must specify ports from 1 to 65535".to_owned()))?;
    let running = running(kubelet, &pod)?;
    let (handshake, response) = accept(request)?;
    let ended = kubelet.inner.end.clone();
    let life = running.life.clone();
    let uid = meta(&pod, "uid").to_owned();
    let kubelet_now = kubelet.clone();
    kubelet.inner.tasks.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = life.cancelled() => {}
            () = session(&kubelet_now, &pod, &uid, &ports, handshake) => {}
        }
    });
    Ok(response)
}

fn running(kubelet: &Kubelet, pod: &Value) -> Result<Running, Refusal> {
    kubelet.running_pod(pod).ok_or_else(|| {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        let told = format!("unable to forward port because pod is not running. Current status={phase}");
        Refusal::BadRequest(told)
    })
}

/// The ports are told later, with each connection.
fn over_spdy(
    kubelet: &Kubelet,
    pod: Arc<Value>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let running = running(kubelet, &pod)?;
    let (handshake, response) = spdy::accept(request, spdy::forward::PROTOCOL)?;
    let ended = kubelet.inner.end.clone();
    let life = running.life.clone();
    let now = kubelet.clone();
    let to: spdy::forward::Connect = Box::new(move |port| {
        let (now, pod) = (now.clone(), Arc::clone(&pod));
        Box::pin(async move {
            let uid = meta(&pod, "uid");
            let running = now.running().get(uid).cloned();
            connect(&now, running.as_ref(), uid, port).await
        })
    });
    kubelet.inner.tasks.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = life.cancelled() => {}
            () = spdy::forward::serve(handshake, to) => {}
        }
    });
    Ok(response)
}

async fn session(kubelet: &Kubelet, pod: &Value, uid: &str, ports: &[u16], handshake: Handshake) {
    let Some(socket) = handshake.finish().await else { return };
    let (mut sink, mut source) = socket.split();
    let (frames, mut outbox) = mpsc::channel::<Message>(16);
    let mut connections = Vec::new();
    let mut readers = Vec::new();
    let mut noted = Vec::new();
    for (channel, port) in (0_u8..).step_by(2).zip(ports) {
        // Both channels begin with the port that they are for.
        for channel in [channel, channel + 1] {
            if sink.send(frame(channel, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        let running = kubelet.running().get(uid).cloned();
        match connect(kubelet, running.as_ref(), uid, *port).await {
            Ok((stream, entered)) => {
                noted.push(entered);
                let (from, to) = stream.into_split();
                readers.push(copy(from, channel, frames.clone()));
                connections.push(Some(to));
            }
            Err(told) => {
                let told = format!("error forwarding port {port} to pod {}: {told}", meta(pod, "name"));
                if sink.send(frame(channel + 1, told.as_bytes())).await.is_err() {
                    return;
                }
                connections.push(None);
            }
        }
    }
    drop(frames);
    let write = async {
        while let Some(message) = outbox.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // The last connection has ended.
        let _closed = sink.send(end()).await;
    };
    let listen = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) => pass(&bytes, &mut connections).await,
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let read = futures::future::join_all(readers);
    tokio::select! {
        () = listen => {}
        _ended = async { tokio::join!(read, write) } => {}
    }
}

/// Connects to the process in the pod, past Services and policies.
async fn connect(
    kubelet: &Kubelet,
    running: Option<&Running>,
    uid: &str,
    port: u16,
) -> Result<(TcpStream, Entered), String> {
    let refused = || format!("dial tcp4 127.0.0.1:{port}: connect: connection refused");
    let running = running.filter(|running| running.serves).ok_or_else(refused)?;
    let backing = running.workload.as_ref().and_then(|key| kubelet.backing(key));
    let backing = backing.filter(|_| running.ports.contains(&port)).ok_or_else(refused)?;
    let stream = TcpStream::connect(backing).await.map_err(|_| refused())?;
    // Failing to set it costs only time.
    let _set = stream.set_nodelay(true);
    let here = stream.local_addr().map_err(|_| refused())?;
    Ok((stream, Entered::note(kubelet, here, uid)))
}

/// A connection into a pod, known until this is dropped.
pub(super) struct Entered {
    kubelet: Kubelet,
    here: SocketAddr,
}

impl Entered {
    fn note(kubelet: &Kubelet, here: SocketAddr, uid: &str) -> Self {
        kubelet.forwarded().insert(here, uid.to_owned());
        Self { kubelet: kubelet.clone(), here }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.kubelet.forwarded().remove(&self.here);
    }
}

async fn copy(mut from: OwnedReadHalf, channel: u8, to: mpsc::Sender<Message>) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.send(frame(channel, &buffer[..read])).await.is_err() {
            return;
        }
    }
}

/// Gives a client's bytes to the connection of their channel.
async fn pass(bytes: &[u8], connections: &mut [Option<OwnedWriteHalf>]) {
    let Some((&channel, rest)) = bytes.split_first() else { return };
    if !channel.is_multiple_of(2) {
        return;
    }
    if let Some(slot) = connections.get_mut(usize::from(channel) / 2)
        && let Some(to) = slot
        && to.write_all(rest).await.is_err()
    {
        *slot = None;
    }
}
