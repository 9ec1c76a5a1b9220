//! What the script prints, typed. Reading it is total and bounded: any bytes give a line or a reason.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use thiserror::Error;

use super::symptom::Symptom;

/// A longer line is not read. The longest true one names 32 remotes: about 2 KiB.
pub(super) const LINE_BYTES_MAX: usize = 32 * 1024;
/// A longer name of an error is cut.
const ERROR_CHARS_MAX: usize = 120;

/// Why a line is none of the script's.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum BadLine {
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// Not JSON, or not as the script writes it.
    #[error("not a line of the prober: {0}")]
    Malformed(String),
}

/// One line. Instants (`*_ns`) are nanoseconds on the pod's monotonic clock; `took_ns` are durations. A target is
/// its index in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// The script runs.
    Hello(Hello),
    /// An answer to a number.
    Echo(Echo),
    /// A new connection to a target was tried.
    Look(Look),
    /// The held connection was asked, or lost.
    Held(Held),
    /// The target's name was asked for.
    Resolved(Resolved),
    /// The pod's sockets were counted.
    Sockets(Sockets),
}

/// The script runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    /// Version of Python.
    pub python: (u32, u32, u32),
    /// Now, monotonic.
    #[serde(rename = "mono")]
    pub mono_ns: u64,
    /// Now, since 1970.
    #[serde(rename = "wall")]
    pub wall_ns: u64,
}

/// An answer to a number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Echo {
    /// The number.
    pub number: u64,
    /// Now, monotonic.
    #[serde(rename = "mono")]
    pub mono_ns: u64,
    /// Now, since 1970.
    #[serde(rename = "wall")]
    pub wall_ns: u64,
}

/// A new connection to each address of a target.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Look {
    /// Which target.
    pub target: usize,
    /// 1, 2, 3, ... for each target.
    pub number: u64,
    /// When it was sent.
    #[serde(rename = "sent")]
    pub sent_ns: u64,
    /// Until one address accepted, or all had failed.
    #[serde(rename = "took")]
    pub took_ns: u64,
    /// The addresses that were tried to the end, with the error of those that failed.
    pub tries: Vec<(IpAddr, Option<ErrorName>)>,
    /// Why the name had no address then; those of before were tried all the same.
    #[serde(default)]
    pub unresolved: Option<ErrorName>,
}

/// What one look shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// This address accepted.
    Up(IpAddr),
    /// None did.
    Down(Symptom),
    /// There was none to try: its name has had none yet.
    Unresolved,
    /// Neither: the prober could not look.
    Unknown(Symptom),
}

impl Look {
    /// Up when any address accepts: a client that tries all would get through.
    #[must_use]
    pub(super) fn shown(&self) -> Shown {
        if let Some((address, _)) = self.tries.iter().find(|(_, error)| error.is_none()) {
            return Shown::Up(*address);
        }
        let failed = self.tries.iter().filter_map(|(_, error)| error.as_ref());
        match Symptom::worst(failed.map(ErrorName::symptom)) {
            Some(ours @ Symptom::Ours(_)) => Shown::Unknown(ours),
            Some(symptom) => Shown::Down(symptom),
            None => Shown::Unresolved,
        }
    }
}

/// Where the held connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Being opened.
    Open,
    /// In its TLS handshake.
    Tls,
    /// Asked, not yet answered.
    Ask,
    /// Between two requests.
    Idle,
}

/// The held connection was asked for what costs nothing, or it was lost.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Which target.
    pub target: usize,
    /// Number of the request or of the attempt to open.
    pub number: u64,
    /// Where it was.
    pub phase: Phase,
    /// When it was established; 0 where it was not.
    #[serde(rename = "born")]
    pub born_ns: u64,
    /// When the request was sent, or the attempt to open begun.
    #[serde(rename = "sent")]
    pub sent_ns: u64,
    /// Until this line.
    #[serde(rename = "took")]
    pub took_ns: u64,
    /// The answer's status.
    #[serde(default)]
    pub status: Option<u16>,
    /// Why there is none.
    #[serde(default)]
    pub error: Option<ErrorName>,
}

/// The target's name was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolved {
    /// Which target.
    pub target: usize,
    /// When it was asked for.
    #[serde(rename = "sent")]
    pub sent_ns: u64,
    /// Until the answer.
    #[serde(rename = "took")]
    pub took_ns: u64,
    /// There were more addresses than are looked at.
    pub more: bool,
    /// A and AAAA.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Why there are none.
    #[serde(default)]
    pub error: Option<ErrorName>,
}

/// The state of a socket, as the kernel's table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of TCP")]
pub enum SocketState {
    Established,
    SynSent,
    SynRecv,
    #[serde(rename = "fin-wait-1")]
    FinWait1,
    #[serde(rename = "fin-wait-2")]
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    Other,
}

/// The pod's sockets, without the prober's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sockets {
    /// When it was begun.
    #[serde(rename = "sent")]
    pub sent_ns: u64,
    /// How long it took.
    #[serde(rename = "took")]
    pub took_ns: u64,
    /// Sockets to any address that a target ever had, by target.
    #[serde(default)]
    pub to: Vec<BTreeMap<SocketState, u64>>,
    /// Established connections to the gateway's own port, by remote address; `others` beyond a number of those.
    #[serde(default)]
    pub inbound: BTreeMap<String, u64>,
    /// There were more sockets than were read.
    #[serde(default)]
    pub cut: bool,
    /// The tables cannot be read.
    #[serde(default)]
    pub error: Option<ErrorName>,
}

/// The script's name of an error, bounded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct ErrorName(String);

impl From<String> for ErrorName {
    fn from(text: String) -> Self {
        Self(text.chars().filter(|c| !c.is_control()).take(ERROR_CHARS_MAX).collect())
    }
}

impl ErrorName {
    /// What it means.
    #[must_use]
    pub fn symptom(&self) -> Symptom {
        Symptom::of(&self.0)
    }

    /// As the script has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Line {
    /// Read one line, without its end.
    ///
    /// # Errors
    /// When it is none of the script's.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BadLine> {
        if bytes.len() > LINE_BYTES_MAX {
            return Err(BadLine::TooLong);
        }
        serde_json::from_slice(bytes).map_err(|error| BadLine::Malformed(error.to_string()))
    }

    /// The target that it is about, if it is about one.
    #[must_use]
    pub(super) fn target(&self) -> Option<usize> {
        match self {
            Self::Look(Look { target, .. })
            | Self::Held(Held { target, .. })
            | Self::Resolved(Resolved { target, .. }) => Some(*target),
            Self::Hello(_) | Self::Echo(_) | Self::Sockets(_) => None,
        }
    }
}

/// Cuts a stream of bytes into lines; what is too long is passed over as a whole.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// Take in some bytes; each whole line in them, in order.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Result<Line, BadLine>> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (part, ends) = match part.strip_suffix(b"\n") {
                Some(part) => (part, true),
                None => (part, false),
            };
            self.too_long |= self.rest.len() + part.len() > LINE_BYTES_MAX;
            if self.too_long {
                self.rest.clear();
            } else {
                self.rest.extend_from_slice(part);
            }
            if ends {
                let too_long = std::mem::take(&mut self.too_long);
                lines.push(if too_long { Err(BadLine::TooLong) } else { Line::parse(&self.rest) });
                self.rest.clear();
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BadLine, LINE_BYTES_MAX, Line, Lines, Shown};
    use crate::cluster::prober::symptom::Symptom;

    fn shown(tries: &str, rest: &str) -> Shown {
        let text = format!(r#"{{"look":{{"target":0,"number":1,"sent":1,"took":2,"tries":{tries}{rest}}}}}"#);
        match Line::parse(text.as_bytes()) {
            Ok(Line::Look(look)) => look.shown(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_address_that_accepts_is_up_and_else_the_worst_is_named() {
        let first = "1.2.3.4".parse().expect("an address");
        assert_eq!(shown(r#"[["::1","ENETUNREACH"],["1.2.3.4",null]]"#, ""), Shown::Up(first));
        assert_eq!(
            shown(r#"[["::1","ENETUNREACH"],["1.2.3.4","ECONNREFUSED"]]"#, ""),
            Shown::Down(Symptom::Refused)
        );
        assert_eq!(shown("[]", r#","unresolved":"EAI_NONAME""#), Shown::Unresolved);
        // What the addresses of before show is not hidden by a lookup that failed.
        let unresolved = r#","unresolved":"EAI_AGAIN""#;
        assert_eq!(shown(r#"[["1.2.3.4",null]]"#, unresolved), Shown::Up(first));
        assert_eq!(shown(r#"[["1.2.3.4","EPERM"]]"#, unresolved), Shown::Down(Symptom::Unreachable));
        assert_eq!(
            shown(r#"[["1.2.3.4","EMFILE"]]"#, ""),
            Shown::Unknown(Symptom::Ours("EMFILE".to_owned()))
        );
    }

    #[test]
    fn what_the_script_does_not_write_is_refused() {
        for text in ["", "{}", "null", "[1]", r#"{"look":{}}"#, r#"{"hello":{"python":[3,11]}}"#, "Traceback"]
        {
            assert!(matches!(Line::parse(text.as_bytes()), Err(BadLine::Malformed(_))), "{text}");
        }
        let extra = r#"{"echo":{"number":1,"mono":1,"wall":1,"env":"secret"}}"#;
        assert!(Line::parse(extra.as_bytes()).is_err(), "nothing comes in that is not known");
    }

    #[test]
    fn a_line_too_long_is_passed_over_and_the_next_is_read() {
        let mut lines = Lines::default();
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(lines.feed(&long).is_empty());
        let read = lines.feed(b"y\n{\"echo\":{\"number\":1,\"mono\":2,\"wall\":3}}\n");
        assert_eq!(read[0], Err(BadLine::TooLong));
        assert!(matches!(&read[1], Ok(Line::Echo(echo)) if echo.mono_ns == 2));
        assert!(lines.rest.is_empty());
    }

    proptest! {
        /// However the stream is cut into pieces, the lines are the same, and memory is bounded.
        #[test]
        fn pieces_make_no_difference(
            bytes in prop::collection::vec(prop::sample::select(b"{}\n\"a1:,".to_vec()), 0..400),
            cuts in prop::collection::vec(0_usize..400, 0..10),
        ) {
            let mut whole = Lines::default();
            let expected = whole.feed(&bytes);
            let mut cuts = cuts;
            cuts.push(0);
            cuts.push(bytes.len());
            cuts.retain(|cut| *cut <= bytes.len());
            cuts.sort_unstable();
            let mut pieces = Lines::default();
            let read: Vec<_> = cuts.windows(2).flat_map(|cut| pieces.feed(&bytes[cut[0]..cut[1]])).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut lines = Lines::default();
            let _ = lines.feed(&bytes);
            prop_assert!(lines.rest.len() <= LINE_BYTES_MAX);
        }
    }
}
