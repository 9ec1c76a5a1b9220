//! The truth server: OpenAI-shaped chats that fail by a script, and the instants at which they really did.
//!
//! A measurement is compared with it, so it does no more than it must: one thread, replies that are built beforehand,
//! and every change written down as the stretch of CLOCK_MONOTONIC in which it was made. Whoever measures on the same
//! host reads the same clock.

mod connection;
mod reply;
mod server;

use serde::{Deserialize, Serialize};

pub use server::serve;

/// Microseconds of CLOCK_MONOTONIC, which all processes of a host share.
#[must_use]
pub fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000).saturating_add(nanos.unwrap_or(0) / 1000)
}

/// Who answers before and after a failure, and who must not.
pub const PRIMARY: &str = "primary";
/// Who takes over.
pub const SPARE: &str = "spare";
/// Who is up and is not to be asked.
pub const OTHER: &str = "other";

/// How a backend treats a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Does {
    /// Answers as this alias.
    Serve(String),
    /// Answers 503 at once.
    Unavailable,
    /// Answers 503 and says that the model is loading.
    Loading,
    /// Resets the connection when a request has come.
    Reset,
    /// Does not listen; established connections are reset.
    Refuse,
    /// Holds requests and answers them at the next step.
    Hold,
    /// Never answers, not at a later step either.
    Swallow,
    /// Answers as the spare, with the first token so many microseconds late.
    SlowFirst(u64),
    /// Closes the connection in the middle of a reply.
    Cut,
    /// Streams an error event after the first token; 500 where no stream is asked for.
    ErrorEvent,
}

/// One step of a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Microseconds after the script is started.
    pub after_us: u64,
    /// From then on.
    pub does: Does,
}

/// What a backend does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Content chunks of a stream.
    pub chunks: usize,
    /// Time between two chunks, in microseconds; 0 writes one after the other.
    pub chunk_gap_us: u64,
    /// In order; before the first the primary answers.
    pub steps: Vec<Step>,
    /// The component behind goes down with the first step. A control that takes nothing down sets it false.
    pub takes_down: bool,
}

/// The ways of failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// 503 at once.
    Fast503,
    /// The connection is reset when a request has come.
    Reset,
    /// Nobody listens.
    Refuse,
    /// Requests hang and are all answered at the end.
    HangRelease,
    /// Requests are never answered.
    Swallow,
    /// The first token comes later than any limit.
    SlowFirstToken,
    /// Replies end in the middle.
    CutMidStream,
    /// A stream carries an error.
    ErrorEvent,
    /// The wrong model answers.
    WrongModel,
    /// Down three times, up between.
    Flap,
    /// Nobody listens, then the model loads.
    Loading,
    /// 503, and nobody ever takes over.
    NeverRecovers,
}

/// How late the first token of [`Shape::SlowFirstToken`] is: later than the 5 s that are allowed.
pub const SLOW_FIRST_US: u64 = 5_600_000;
/// How often [`Shape::Flap`] goes down.
pub const FLAPS: u64 = 3;

impl Shape {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Fast503,
        Self::Reset,
        Self::Refuse,
        Self::HangRelease,
        Self::Swallow,
        Self::SlowFirstToken,
        Self::CutMidStream,
        Self::ErrorEvent,
        Self::WrongModel,
        Self::Flap,
        Self::Loading,
        Self::NeverRecovers,
    ];

    /// For tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fast503 => "fast503",
            Self::Reset => "reset",
            Self::Refuse => "refuse",
            Self::HangRelease => "hang-release",
            Self::Swallow => "swallow",
            Self::SlowFirstToken => "slow-first-token",
            Self::CutMidStream => "cut-mid-stream",
            Self::ErrorEvent => "error-event-in-stream",
            Self::WrongModel => "wrong-model",
            Self::Flap => "flap",
            Self::Loading => "backend-up-but-loading",
            Self::NeverRecovers => "never-recovers",
        }
    }

    /// Whether it shows in streams only.
    #[must_use]
    pub fn is_of_streams(self) -> bool {
        matches!(self, Self::SlowFirstToken | Self::CutMidStream | Self::ErrorEvent)
    }

    /// The steps of an outage of so many microseconds, after which the spare answers.
    #[must_use]
    pub fn steps(self, outage_us: u64) -> Vec<Step> {
        let does = match self {
            Self::Fast503 | Self::NeverRecovers | Self::Flap => Does::Unavailable,
            Self::Reset => Does::Reset,
            Self::Refuse | Self::Loading => Does::Refuse,
            Self::HangRelease => Does::Hold,
            Self::Swallow => Does::Swallow,
            Self::SlowFirstToken => Does::SlowFirst(SLOW_FIRST_US),
            Self::CutMidStream => Does::Cut,
            Self::ErrorEvent => Does::ErrorEvent,
            Self::WrongModel => Does::Serve(OTHER.to_owned()),
        };
        let mut steps = vec![Step { after_us: 0, does: does.clone() }];
        match self {
            Self::NeverRecovers => return steps,
            Self::Loading => steps.push(Step { after_us: outage_us / 2, does: Does::Loading }),
            Self::Flap => {
                let part = outage_us / (2 * FLAPS - 1);
                for up in 0..FLAPS - 1 {
                    let (up_us, down_us) = ((2 * up + 1) * part, (2 * up + 2) * part);
                    steps.push(Step { after_us: up_us, does: Does::Serve(SPARE.to_owned()) });
                    steps.push(Step { after_us: down_us, does: does.clone() });
                }
            }
            _ => {}
        }
        steps.push(Step { after_us: outage_us, does: Does::Serve(SPARE.to_owned()) });
        steps
    }
}

/// What is asked of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// A new backend.
    Open {
        /// Its number, chosen by whoever asks.
        id: u64,
        /// What it does.
        script: Script,
    },
    /// Start its script.
    Go {
        /// Its number.
        id: u64,
    },
    /// It is over.
    End {
        /// Its number.
        id: u64,
    },
}

/// What the server tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// It listens.
    Opened {
        /// Its number.
        id: u64,
        /// Port that is asked for chats.
        port: u16,
        /// Port of the component behind it.
        component: u16,
    },
    /// The component went down; of the instants the change lies between them.
    Down {
        /// Its number.
        id: u64,
        /// Microseconds of CLOCK_MONOTONIC.
        from_us: u64,
        /// Likewise.
        to_us: u64,
    },
    /// A step was made; the change lies between the instants.
    Changed {
        /// Its number.
        id: u64,
        /// Which step.
        step: usize,
        /// Microseconds of CLOCK_MONOTONIC.
        from_us: u64,
        /// Likewise.
        to_us: u64,
    },
    /// It is over.
    Ended {
        /// Its number.
        id: u64,
        /// Requests that it got.
        requests: u64,
    },
    /// It could not be done.
    Failed {
        /// Its number.
        id: u64,
        /// Why.
        why: String,
    },
}
