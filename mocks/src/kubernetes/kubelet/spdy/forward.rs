//! Port-forwards: the client makes two streams for each connection, one for what goes wrong and one for its bytes.

use std::collections::BTreeMap;
use std::io;

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::port_forward::Entered;
use super::{FIN, Frame, Handshake, PING, Reader, SYN_STREAM, Writer, control, data, header, write};

/// What is spoken.
pub(in crate::kubernetes::kubelet) const PROTOCOL: &str = "portforward.k8s.io";
const RST_STREAM: u16 = 3;
const READ_BYTES: usize = 16 * 1024;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;

/// Leads to a port of the pod, or says why not.
pub(in crate::kubernetes::kubelet) type Connect =
    Box<dyn Fn(u16) -> BoxFuture<'static, Result<(TcpStream, Entered), String>> + Send + Sync>;

/// The client's connections into a pod.
struct Forward {
    reader: Reader,
    connect: Connect,
    /// Streams for what goes wrong that have no connection yet, by the number that the client gives to both.
    errors: BTreeMap<String, u32>,
    /// Where a client's bytes go, by stream; closed once the pod has ended the connection.
    connections: BTreeMap<u32, mpsc::Sender<Vec<u8>>>,
    carried: JoinSet<()>,
}

/// Forwards until the client is gone.
pub(in crate::kubernetes::kubelet) async fn serve(handshake: Handshake, connect: Connect) {
    let Some(reader) = handshake.reader().await else { return };
    let mut forward = Forward {
        reader,
        connect,
        errors: BTreeMap::new(),
        connections: BTreeMap::new(),
        carried: JoinSet::new(),
    };
    while forward.take().await.is_ok() {}
}

impl Forward {
    /// Takes one frame; an error at the end of the connection.
    async fn take(&mut self) -> io::Result<()> {
        match self.reader.read().await? {
            Frame::Control { kind: SYN_STREAM, payload } => {
                let (stream, headers) = self.reader.opened(&payload)?;
                self.reader.reply(stream).await?;
                let number = header(&headers, "requestid").to_owned();
                if header(&headers, "streamtype") == "error" {
                    if self.errors.len() >= CONNECTIONS_MAX {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    self.errors.insert(number, stream);
                    return Ok(());
                }
                let error = self.errors.remove(&number).ok_or(io::ErrorKind::InvalidData)?;
                self.begin(stream, error, header(&headers, "port")).await
            }
            Frame::Control { kind: PING, payload } => write(&self.reader.to, &control(PING, &payload)).await,
            Frame::Control { kind: RST_STREAM, payload } => {
                if let Some(stream) = payload.first_chunk::<4>() {
                    self.connections.remove(&u32::from_be_bytes(*stream));
                }
                Ok(())
            }
            Frame::Data { stream, is_last, payload } => {
                if let Some(connection) = self.connections.get(&stream) {
                    let is_gone = connection.send(payload).await.is_err();
                    if is_gone || is_last {
                        self.connections.remove(&stream);
                    }
                }
                Ok(())
            }
            Frame::Control { .. } => Ok(()),
        }
    }

    /// Both streams of a connection are there.
    async fn begin(&mut self, stream: u32, error: u32, port: &str) -> io::Result<()> {
        // Whether or not the client ever says that it has ended those that the pod has.
        self.connections.retain(|_, to| !to.is_closed());
        while self.carried.try_join_next().is_some() {}
        let connected = match port.parse() {
            Ok(port) if self.connections.len() < CONNECTIONS_MAX => (self.connect)(port).await,
            _ => Err(format!("no connection to port {port}")),
        };
        match connected {
            Ok((connection, entered)) => {
                let (to, from_client) = mpsc::channel(1);
                self.connections.insert(stream, to);
                let client = Writer::clone(&self.reader.to);
                self.carried.spawn(async move {
                    if carry(connection, entered, from_client, stream, &client).await.is_ok() {
                        for ended in [stream, error] {
                            // A client that is gone needs no end.
                            let _sent = write(&client, &data(ended, FIN, &[])).await;
                        }
                    }
                });
                Ok(())
            }
            Err(told) => {
                write(&self.reader.to, &data(error, FIN, told.as_bytes())).await?;
                write(&self.reader.to, &data(stream, FIN, &[])).await
            }
        }
    }
}

/// Carries a connection's bytes both ways until the pod ends it; an error where the client is gone. A client that has
/// ended its side may still be answered.
async fn carry(
    connection: TcpStream,
    entered: Entered,
    mut from_client: mpsc::Receiver<Vec<u8>>,
    stream: u32,
    client: &Writer,
) -> io::Result<()> {
    let (mut from, mut to) = connection.into_split();
    // Forgotten before the port may be another connection's.
    let _entered = entered;
    let there = async move {
        while let Some(bytes) = from_client.recv().await {
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        drop((to, from_client));
        std::future::pending::<()>().await;
    };
    let back = async {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            write(client, &data(stream, 0, &buffer[..read])).await?;
        }
        Ok(())
    };
    tokio::select! {
        () = there => Ok(()),
        ended = back => ended,
    }
}
