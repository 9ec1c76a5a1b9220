//! Quantities as people write them: periods (`5s`) and rates (`8/s`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time as written in a file, e.g. `300ms`, `5s`, `15m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// Units of a period with their nanoseconds, longest first.
const PERIOD_UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// The shape of a period in text, for editors.
pub(crate) const PERIOD_PATTERN: &str = r"^[0-9]+(\.[0-9]+)?(h|m|s|ms|us|ns)$";

/// The shape of a rate in text, for editors.
pub(crate) const RATE_PATTERN: &str = r"^[0-9]+(\.[0-9]+)?/(s|m|h)$";

impl Period {
    /// A whole number of seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// In milliseconds, fractions kept.
    #[must_use]
    pub fn as_ms(self) -> f64 {
        self.0.as_secs_f64() * 1000.0
    }
}

/// Why a text is no [`Period`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// Nothing to read as a number in front of the unit.
    #[error("a period is a number and a unit")]
    NoNumber,
    /// A number alone.
    #[error("a period needs a unit")]
    NoUnit,
    /// Something other than `h`, `m`, `s`, `ms`, `us`, `ns` behind the number.
    #[error("unknown unit of time")]
    UnknownUnit,
    /// A minus sign.
    #[error("a period cannot be negative")]
    Negative,
    /// Longer than the program can count, or finer than a nanosecond.
    #[error("this period is too long or too fine to count")]
    OutOfRange,
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        if text.starts_with('-') {
            return Err(PeriodError::Negative);
        }
        let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) {
            return Err(PeriodError::NoNumber);
        }
        if unit.is_empty() {
            return Err(PeriodError::NoUnit);
        }
        let &(_, nanos_each) =
            PERIOD_UNITS.iter().find(|(name, _)| *name == unit).ok_or(PeriodError::UnknownUnit)?;
        let nanos = decimal_times(whole, fraction, nanos_each).ok_or(PeriodError::OutOfRange)?;
        let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| PeriodError::OutOfRange)?;
        let subsecond = u32::try_from(nanos % 1_000_000_000).map_err(|_| PeriodError::OutOfRange)?;
        Ok(Self(Duration::new(seconds, subsecond)))
    }
}

/// `whole.fraction * factor`, `None` where that is no whole number or does not fit.
fn decimal_times(whole: &str, fraction: &str, factor: u128) -> Option<u128> {
    let whole: u128 = whole.parse().ok()?;
    let fraction = fraction.trim_end_matches('0');
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let parts = parts.checked_mul(factor)?;
    parts.is_multiple_of(scale).then_some(())?;
    whole.checked_mul(factor)?.checked_add(parts / scale)
}

impl fmt::Display for Period {
    /// The longest unit of which it is a whole number, so that reading it gives the same period back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (name, each) in PERIOD_UNITS {
            if nanos.is_multiple_of(each) {
                return write!(f, "{}{name}", nanos / each);
            }
        }
        Ok(())
    }
}

/// Probes per unit of time, e.g. `8/s` or `30/m`; held as probes per second, finite and positive.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

/// Units of a rate with their seconds.
const RATE_UNITS: [(&str, f64); 3] = [("s", 1.0), ("m", 60.0), ("h", 3600.0)];

impl Rate {
    /// So many probes per second; `None` unless finite and positive.
    #[must_use]
    pub fn new(per_second: f64) -> Option<Self> {
        (per_second.is_finite() && per_second > 0.0).then_some(Self(per_second))
    }

    /// Probes per second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.0
    }

    /// The time between two probes.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.0).unwrap_or(Duration::MAX)
    }
}

/// Why a text is no [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Nothing to read as a number in front of the slash.
    #[error("a rate is a number, a slash and a unit of time")]
    NoNumber,
    /// A number alone, or something other than `s`, `m`, `h` behind the slash.
    #[error("a rate ends in `/s`, `/m` or `/h`")]
    NoUnit,
    /// Zero, negative, or too large or too small to hold.
    #[error("a rate must be greater than zero")]
    NotPositive,
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (number, unit) = text.split_once('/').ok_or(RateError::NoUnit)?;
        let &(_, seconds) = RATE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(RateError::NoUnit)?;
        if number.starts_with('-') {
            return Err(RateError::NotPositive);
        }
        // Plain decimals only: `f64` would also read `1e3`, `inf` and `nan`.
        let plain = number.starts_with(|c: char| c.is_ascii_digit())
            && number.ends_with(|c: char| c.is_ascii_digit())
            && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let count: f64 = if plain { number.parse().ok() } else { None }.ok_or(RateError::NoNumber)?;
        Self::new(count / seconds).ok_or(RateError::NotPositive)
    }
}

impl fmt::Display for Rate {
    /// In the shortest unit that makes it a whole number and reads back as the same rate, else per second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, seconds) in RATE_UNITS {
            let count = (self.0 * seconds).round();
            if (1.0..1e15).contains(&count) && count / seconds == self.0 {
                return write!(f, "{count}/{name}");
            }
        }
        write!(f, "{}/s", self.0)
    }
}

/// Serializes as the text that people write, and reads it back.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(Period);
serde_as_text!(Rate);
