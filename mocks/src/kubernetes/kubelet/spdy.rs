//! The channels of an exec over SPDY/3.1, which kubectl spoke before its version 1.30, and port-forwards, for which it
//! still does.
//!
//! Only what such a client uses: it makes a stream for each channel, and its header blocks are compressed with one
//! dictionary and one state for the whole connection. There is no flow control.

pub(super) mod forward;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, Stream, sink, stream};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::exec::{CLOSE, STATUS, STDERR, STDIN, STDOUT};
use super::websocket::{frame, has_word};
use crate::kubernetes::pod_io::Body;
use crate::kubernetes::refusal::Refusal;

/// What both sides of SPDY/3 prime their compression with; the protocol's definition lists it.
const DICTIONARY: &[u8] = include_bytes!("spdy_dictionary.bin");
/// What is spoken for an exec.
pub(super) const EXEC: &str = "v4.channel.k8s.io";
const VERSION_HEADER: &str = "x-stream-protocol-version";
/// The largest frame that is taken.
const FRAME_MAX: usize = 1024 * 1024;
/// All header blocks of a connection together, unpacked.
const HEADERS_MAX: usize = 64 * 1024;
/// How long a client may take to make its streams.
const STREAMS_WITHIN: Duration = Duration::from_secs(30);
/// Before the data of a header block: two bytes of zlib and the dictionary's checksum.
const ZLIB_HEADER: usize = 6;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;

/// A connection that the client is about to get.
pub(super) struct Handshake {
    upgrade: OnUpgrade,
}

/// Whether a request asks for SPDY.
pub(super) fn is_asked(request: &Request<Incoming>) -> bool {
    has_word(request.headers(), UPGRADE.as_str(), "SPDY/3.1")
}

/// Answers a request for SPDY with this protocol on top.
pub(super) fn accept(
    mut request: Request<Incoming>,
    protocol: &'static str,
) -> Result<(Handshake, Response<Body>), Refusal> {
    let upgrade = hyper::upgrade::on(&mut request);
    if !has_word(request.headers(), VERSION_HEADER, protocol) {
        return Err(Refusal::BadRequest(format!("unable to upgrade: {protocol} is not offered")));
    }
    let mut response = Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    answer.insert(VERSION_HEADER, HeaderValue::from_static(protocol));
    Ok((Handshake { upgrade }, response))
}

/// A frame as it came.
#[derive(Debug)]
enum Frame {
    Control { kind: u16, payload: Vec<u8> },
    Data { stream: u32, is_last: bool, payload: Vec<u8> },
}

type Writer = Arc<Mutex<WriteHalf<TokioIo<Upgraded>>>>;

/// The client's side of a connection.
struct Reader {
    from: ReadHalf<TokioIo<Upgraded>>,
    to: Writer,
    headers: Headers,
    replied: bool,
    /// The client's streams, by channel.
    streams: BTreeMap<u8, u32>,
    /// A message that came with the one before it.
    next: Option<Message>,
}

impl Handshake {
    /// The connection, once the response is out; none if the client is gone by then.
    async fn reader(self) -> Option<Reader> {
        let (from, to) = tokio::io::split(TokioIo::new(self.upgrade.await.ok()?));
        Some(Reader {
            from,
            to: Arc::new(Mutex::new(to)),
            headers: Headers::new(),
            replied: false,
            streams: BTreeMap::new(),
            next: None,
        })
    }

    /// The channels, once the client has made a stream for each of these; none if it does not.
    pub(super) async fn finish(
        self,
        channels: &[u8],
    ) -> Option<(
        impl Sink<Message, Error = io::Error> + Send + use<>,
        impl Stream<Item = io::Result<Message>> + Send + use<>,
    )> {
        let mut reader = self.reader().await?;
        let to = Arc::clone(&reader.to);
        let make = async {
            while !channels.iter().all(|channel| reader.streams.contains_key(channel)) {
                reader.take().await?;
            }
            io::Result::Ok(())
        };
        tokio::time::timeout(STREAMS_WITHIN, make).await.ok()?.ok()?;
        let streams = reader.streams.clone();
        let sink = sink::unfold((to, streams), |(to, streams), message| async move {
            send(&to, &streams, message).await?;
            Ok((to, streams))
        });
        let source = stream::unfold(reader, |mut reader| async move {
            let message = reader.message().await.ok()?;
            Some((Ok(message), reader))
        });
        Some((sink, source))
    }
}

/// Sends what a websocket would carry as frames of the channel's stream.
async fn send(to: &Writer, streams: &BTreeMap<u8, u32>, message: Message) -> io::Result<()> {
    let mut to = to.lock().await;
    match message {
        Message::Binary(bytes) => {
            let Some((channel, rest)) = bytes.split_first() else { return Ok(()) };
            let Some(stream) = streams.get(channel).filter(|_| !rest.is_empty()) else { return Ok(()) };
            if *channel == STATUS {
                // The client reads the others to their end first.
                for other in [STDOUT, STDERR].iter().filter_map(|channel| streams.get(channel)) {
                    to.write_all(&data(*other, FIN, &[])).await?;
                }
            }
            let flags = if *channel == STATUS { FIN } else { 0 };
            to.write_all(&data(*stream, flags, rest)).await?;
        }
        Message::Close(_) => to.write_all(&control(GOAWAY, &[0; 8])).await?,
        _ => {}
    }
    to.flush().await
}

async fn write(to: &Writer, bytes: &[u8]) -> io::Result<()> {
    let mut to = to.lock().await;
    to.write_all(bytes).await?;
    to.flush().await
}

fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = (stream & 0x7fff_ffff).to_be_bytes().to_vec();
    frame.extend(lengths(flags, payload));
    frame
}

fn control(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 0x03];
    frame.extend(kind.to_be_bytes());
    frame.extend(lengths(0, payload));
    frame
}

/// Flags, length in three bytes, and what they are for.
fn lengths(flags: u8, payload: &[u8]) -> Vec<u8> {
    // Payloads are pieces of at most some kilobytes.
    let [_, first, second, third] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[flags, first, second, third], payload].concat()
}

/// A reply without headers: the first one begins the compressed stream, whose blocks are all stored.
fn reply(stream: u32, is_first: bool) -> Vec<u8> {
    let mut payload = stream.to_be_bytes().to_vec();
    if is_first {
        payload.extend([0x78, 0x01]);
    }
    // A stored block of the four bytes that say: no headers.
    payload.extend([0x00, 0x04, 0x00, 0xfb, 0xff, 0, 0, 0, 0]);
    // An empty one, which makes the reader give out what it has.
    payload.extend([0x00, 0x00, 0x00, 0xff, 0xff]);
    control(SYN_REPLY, &payload)
}

impl Reader {
    async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 8];
        self.from.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if length > FRAME_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut payload = vec![0; length];
        self.from.read_exact(&mut payload).await?;
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if first >> 31 == 1 {
            let [_, _, kind @ ..] = first.to_be_bytes();
            return Ok(Frame::Control { kind: u16::from_be_bytes(kind), payload });
        }
        Ok(Frame::Data { stream: first, is_last: head[4] & FIN != 0, payload })
    }

    /// The number and the headers of a stream that the client makes.
    fn opened(&mut self, payload: &[u8]) -> io::Result<(u32, Vec<(String, String)>)> {
        let (head, block) = payload.split_at_checked(10).ok_or(io::ErrorKind::InvalidData)?;
        let stream = u32::from_be_bytes([head[0] & 0x7f, head[1], head[2], head[3]]);
        Ok((stream, self.headers.of(block)?))
    }

    async fn reply(&mut self, stream: u32) -> io::Result<()> {
        let answer = reply(stream, !std::mem::replace(&mut self.replied, true));
        write(&self.to, &answer).await
    }

    /// Takes one frame; gives what it says about a channel.
    async fn take(&mut self) -> io::Result<Option<Message>> {
        match self.read().await? {
            Frame::Control { kind: SYN_STREAM, payload } => {
                let (stream, headers) = self.opened(&payload)?;
                let channel = match header(&headers, "streamtype") {
                    "stdin" => STDIN,
                    "stdout" => STDOUT,
                    "stderr" => STDERR,
                    "error" => STATUS,
                    // Sizes of terminals.
                    _ => CLOSE - 1,
                };
                self.streams.insert(channel, stream);
                self.reply(stream).await?;
                Ok(None)
            }
            Frame::Control { kind: PING, payload } => {
                write(&self.to, &control(PING, &payload)).await?;
                Ok(None)
            }
            Frame::Data { stream, is_last, payload } if self.streams.get(&STDIN) == Some(&stream) => {
                let bytes = (!payload.is_empty()).then(|| frame(STDIN, &payload));
                let closed = is_last.then(|| frame(CLOSE, &[STDIN]));
                if bytes.is_some() {
                    self.next = closed;
                    return Ok(bytes);
                }
                Ok(closed)
            }
            Frame::Control { .. } | Frame::Data { .. } => Ok(None),
        }
    }

    /// The next message about a channel; an error at the end of the connection.
    async fn message(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.next.take() {
                return Ok(message);
            }
            if let Some(message) = self.take().await? {
                return Ok(message);
            }
        }
    }
}

/// The client's header blocks, which are one compressed stream.
struct Headers {
    state: Box<DecompressorOxide>,
    /// The dictionary, and everything unpacked after it: later blocks refer to both.
    unpacked: Vec<u8>,
    filled: usize,
    begun: bool,
}

impl Headers {
    fn new() -> Self {
        let mut unpacked = vec![0; DICTIONARY.len() + HEADERS_MAX];
        unpacked[..DICTIONARY.len()].copy_from_slice(DICTIONARY);
        Self { state: Box::default(), unpacked, filled: DICTIONARY.len(), begun: false }
    }

    /// What a block says of its stream.
    fn of(&mut self, block: &[u8]) -> io::Result<Vec<(String, String)>> {
        let begun = std::mem::replace(&mut self.begun, true);
        let skipped = if begun { 0 } else { ZLIB_HEADER };
        let block = block.get(skipped..).ok_or(io::ErrorKind::InvalidData)?;
        let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT
            | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let start = self.filled;
        let (status, read, written) = decompress(&mut self.state, block, &mut self.unpacked, start, flags);
        if status != TINFLStatus::NeedsMoreInput || read != block.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.filled += written;
        read_pairs(&self.unpacked[start..self.filled]).ok_or(io::ErrorKind::InvalidData.into())
    }
}

/// The value of a header; empty where there is none.
fn header<'h>(headers: &'h [(String, String)], wanted: &str) -> &'h str {
    headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map_or("", |(_, value)| value)
}

/// Names and values of an unpacked block.
fn read_pairs(block: &[u8]) -> Option<Vec<(String, String)>> {
    let (count, mut rest) = block.split_first_chunk::<4>()?;
    let mut text = || -> Option<String> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (text, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        rest = after;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    (0..u32::from_be_bytes(*count)).map(|_| Some((text()?, text()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_block_panics() {
        for block in [&b""[..], b"123456", b"123456\xff\xff\xff", &[0xff; 64], &[0; 64]] {
            let _read = Headers::new().of(block);
            let _pairs = read_pairs(block);
        }
        assert_eq!(
            read_pairs(b"\0\0\0\x01\0\0\0\x01a\0\0\0\x01b").unwrap(),
            [("a".to_owned(), "b".to_owned())]
        );
    }

    #[test]
    fn stored_blocks_are_read_one_after_the_other() {
        let pairs = b"\0\0\0\x01\0\0\0\x0astreamtype\0\0\0\x05stdin";
        let length = u16::try_from(pairs.len()).unwrap();
        let stored = [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), pairs].concat();
        let mut headers = Headers::new();
        for block in [[&[0; ZLIB_HEADER][..], &stored].concat(), stored] {
            assert_eq!(header(&headers.of(&block).unwrap(), "StreamType"), "stdin");
        }
    }
}
