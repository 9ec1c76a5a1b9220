//! How an upstream breaks.

/// One way to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// Not at all.
    Healthy,
    /// Answers with this status.
    Status {
        /// The status.
        status: u16,
        /// Its `Retry-After`.
        retry_after: Option<&'static str>,
    },
    /// Refuses connections.
    Refuse,
    /// Resets the connection once the request was read.
    Reset,
    /// Closes the connection without an answer.
    Close,
    /// Answers the first request of a connection, and resets it once the second was read.
    ResetUsed,
    /// Answers the first request of a connection, and closes it once the second was read.
    CloseUsed,
    /// Accepts and never answers.
    Stall,
    /// Drops each SYN.
    Blackhole,
    /// Answers properly after three seconds.
    Slow,
    /// Headers, then the connection closes.
    CutBefore,
    /// Headers and some content, then the connection closes.
    CutAfter,
    /// A stream's headers, then silence.
    StallBefore,
    /// A stream's headers and some content, then silence.
    StallAfter,
    /// Content, and a clean end without a finish marker.
    EarlyEnd,
    /// A clean end without anything.
    EmptyEnd,
    /// An error in place of the first piece, with status 200.
    ErrorFirst,
    /// An error after content, with status 200.
    ErrorLater,
    /// Something else than JSON, with status 200.
    NotJson,
}

impl Fault {
    /// The faults of the whole matrix.
    pub(crate) const MATRIX: [Self; 18] = [
        Self::status(500),
        Self::status(429),
        Self::Status { status: 429, retry_after: Some("2") },
        Self::status(401),
        Self::status(404),
        Self::Refuse,
        Self::Reset,
        Self::Close,
        Self::Stall,
        Self::Blackhole,
        Self::Slow,
        Self::CutBefore,
        Self::CutAfter,
        Self::StallBefore,
        Self::StallAfter,
        Self::EarlyEnd,
        Self::ErrorFirst,
        Self::ErrorLater,
    ];
    /// Faults that are looked at once, under the tuned settings.
    pub(crate) const RARE: [Self; 16] = [
        Self::status(400),
        Self::status(402),
        Self::status(403),
        Self::status(408),
        Self::status(409),
        Self::status(413),
        Self::status(418),
        Self::status(422),
        Self::status(502),
        Self::status(503),
        Self::status(504),
        Self::status(529),
        Self::EmptyEnd,
        Self::NotJson,
        Self::ResetUsed,
        Self::CloseUsed,
    ];

    /// An answer with this status and no `Retry-After`.
    pub(crate) const fn status(status: u16) -> Self {
        Self::Status { status, retry_after: None }
    }

    /// Its name in cell names.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Healthy => "healthy".into(),
            Self::Status { status, retry_after: None } => status.to_string(),
            Self::Status { status, retry_after: Some(_) } => format!("{status}-retry-after"),
            Self::Refuse => "refuse".into(),
            Self::Reset => "reset".into(),
            Self::Close => "close".into(),
            Self::ResetUsed => "reset-when-used".into(),
            Self::CloseUsed => "close-when-used".into(),
            Self::Stall => "stall".into(),
            Self::Blackhole => "blackhole".into(),
            Self::Slow => "slow".into(),
            Self::CutBefore => "cut-before-content".into(),
            Self::CutAfter => "cut-after-content".into(),
            Self::StallBefore => "stall-before-content".into(),
            Self::StallAfter => "stall-after-content".into(),
            Self::EarlyEnd => "early-end".into(),
            Self::EmptyEnd => "empty-end".into(),
            Self::ErrorFirst => "error-in-band".into(),
            Self::ErrorLater => "error-after-content".into(),
            Self::NotJson => "not-json".into(),
        }
    }

    /// Whether it is another fault for streams (or for whole replies) than the others.
    pub(crate) fn applies(self, streaming: bool) -> bool {
        streaming || !matches!(self, Self::StallBefore | Self::StallAfter | Self::ErrorLater)
    }

    /// Whether attempts cannot be counted, since no request reaches the upstream.
    pub(crate) fn is_uncounted(self) -> bool {
        matches!(self, Self::Refuse | Self::Blackhole)
    }
}
