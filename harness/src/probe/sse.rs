//! Decoder of `text/event-stream` bodies as chat completions use them: `data:` lines only.
//!
//! Partial frames are kept over chunk borders. It never reconnects, so nothing is hidden.

use thiserror::Error;

/// Longest event that is accepted.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// An event is longer than any chat chunk can be.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a stream event is longer than {EVENT_BYTES_MAX} bytes")]
pub(super) struct EventTooLong;

/// Bytes in, `data` payloads out.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    line: Vec<u8>,
    data: Vec<u8>,
}

impl Decoder {
    /// Feed a chunk; `emit` is called once for every complete event, with its joined `data` lines.
    pub(super) fn feed(&mut self, chunk: &[u8], mut emit: impl FnMut(&str)) -> Result<(), EventTooLong> {
        for &byte in chunk {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                    return Err(EventTooLong);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                if !self.data.is_empty() {
                    emit(&String::from_utf8_lossy(&self.data));
                    self.data.clear();
                }
            } else if let Some(data) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(chunks: &[&[u8]]) -> Vec<String> {
        let mut events = Vec::new();
        let mut decoder = Decoder::default();
        for chunk in chunks {
            decoder.feed(chunk, |event| events.push(event.to_owned())).unwrap();
        }
        events
    }

    #[test]
    fn comments_other_fields_and_cut_tails_give_no_event() {
        let body = b": ping\n\nevent: x\nid: 1\n\ndata: a\r\n\r\ndata:b\ndata: c\n\ndata: cut";
        assert_eq!(decode(&[body]), ["a", "b\nc"]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut decoder = Decoder::default();
        let chunk = vec![b'x'; EVENT_BYTES_MAX / 2 + 1];
        decoder.feed(&chunk, |_| ()).unwrap();
        assert_eq!(decoder.feed(&chunk, |_| ()), Err(EventTooLong));
    }

    proptest! {
        #[test]
        fn where_the_chunks_are_cut_does_not_matter(
            body in proptest::collection::vec(proptest::sample::select(b"da:t \r\n{}x".to_vec()), 0..200),
            cuts in proptest::collection::vec(0_usize..200, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.sort_unstable();
            cuts.push(body.len());
            let mut from = 0;
            let mut chunks = Vec::new();
            for cut in cuts {
                chunks.push(&body[from..cut]);
                from = cut;
            }
            prop_assert_eq!(decode(&chunks), decode(&[&body]));
        }
    }
}
