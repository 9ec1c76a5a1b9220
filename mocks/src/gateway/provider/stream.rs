//! From an upstream's bytes to [`Chunk`]s: lines of JSON or server-sent events, split anywhere.

use std::collections::VecDeque;

use super::{Chunk, hosted_vllm, ollama_chat};
use crate::gateway::config::Provider;
use crate::gateway::failure::Failure;
use crate::gateway::transport::{TransportError, UpstreamReply};

/// A stream of chunks.
#[derive(Debug)]
pub struct ChunkStream {
    provider: Provider,
    reply: UpstreamReply,
    /// Bytes of the line that is not complete yet; bounded with the reply.
    partial: Vec<u8>,
    lines: VecDeque<String>,
    /// `data:` lines of the event that is not complete yet.
    data: Option<String>,
    ended: bool,
}

impl ChunkStream {
    /// Reads the body of `reply` as a stream of this provider.
    #[must_use]
    pub fn new(provider: Provider, reply: UpstreamReply) -> Self {
        Self { provider, reply, partial: Vec::new(), lines: VecDeque::new(), data: None, ended: false }
    }

    /// The next chunk; `None` once the upstream has ended its stream cleanly.
    ///
    /// # Errors
    /// [`Failure`] for a broken stream, an error event and an unreadable chunk.
    pub async fn next_chunk(&mut self) -> Result<Option<Chunk>, Failure> {
        loop {
            while let Some(line) = self.lines.pop_front() {
                if let Some(chunk) = self.read_line(line.trim_end_matches('\r'))? {
                    return Ok(Some(chunk));
                }
            }
            if self.ended {
                return Ok(None);
            }
            match self.reply.next_piece().await {
                Ok(Some(piece)) => self.split(&piece),
                Ok(None) => self.finish(),
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    fn broken(&self, error: &TransportError) -> Failure {
        super::stream_failure(self.provider, error)
    }

    fn split(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            match part.split_last() {
                Some((b'\n', line)) => {
                    self.partial.extend_from_slice(line);
                    let line = std::mem::take(&mut self.partial);
                    self.lines.push_back(String::from_utf8_lossy(&line).into_owned());
                }
                _ => self.partial.extend_from_slice(part),
            }
        }
    }

    /// The end of the body ends the last line and the last event.
    fn finish(&mut self) {
        self.ended = true;
        let line = std::mem::take(&mut self.partial);
        self.lines.push_back(String::from_utf8_lossy(&line).into_owned());
        self.lines.push_back(String::new());
    }

    fn read_line(&mut self, line: &str) -> Result<Option<Chunk>, Failure> {
        match self.provider {
            Provider::OllamaChat if line.trim().is_empty() => Ok(None),
            Provider::OllamaChat => ollama_chat::chunk(line),
            Provider::HostedVllm => {
                if line.is_empty() {
                    return self.data.take().map_or(Ok(None), |data| hosted_vllm::chunk(&data));
                }
                if let Some(data) = line.strip_prefix("data:") {
                    let data = data.strip_prefix(' ').unwrap_or(data);
                    match &mut self.data {
                        Some(earlier) => {
                            earlier.push('\n');
                            earlier.push_str(data);
                        }
                        None => self.data = Some(data.to_owned()),
                    }
                }
                Ok(None)
            }
        }
    }
}
