//! Parts of files as written: values with their places, keys that may be absent, and scalars kept as text so
//! that one bad value does not hide the others.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::checker::nearest_of;
use super::problem::Place;
use crate::units::{PERIOD_PATTERN, Period, PeriodError, RATE_PATTERN, Rate, RateError};

/// A value and where it is written.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// The value of a key.
#[derive(Clone, Debug, Default)]
pub(crate) enum Key<T> {
    /// Not written, and need not be.
    #[default]
    Absent,
    /// Something is wrong with it, or it is missing; that has been said.
    Broken,
    /// As it should be.
    There(T),
}

impl<T> Key<T> {
    pub(crate) fn there(&self) -> Option<&T> {
        if let Self::There(value) = self { Some(value) } else { None }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<T> Key<At<T>> {
    /// Where the value is written, if it is.
    pub(crate) fn place(&self) -> Option<Place> {
        self.there().map(|at| at.place)
    }
}

/// A list in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Items<T> {
    /// Those that could be read.
    pub(crate) items: Vec<T>,
    /// All of them could.
    pub(crate) complete: bool,
    /// Nothing is written in it.
    pub(crate) empty: bool,
}

/// A mapping with free keys, in the order of the file; `None` for a value that could not be read.
#[derive(Clone, Debug)]
pub(crate) struct Entries<V>(pub(crate) Vec<(At<String>, Option<V>)>);

/// A scalar kept as text, to be read as a `T` once all of the file's problems can be collected.
#[derive(Clone, Debug)]
pub(crate) struct Text<T> {
    pub(crate) text: String,
    what: PhantomData<T>,
}

impl<T> Text<T> {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), what: PhantomData }
    }
}

/// Passes the schema of what is inside on.
macro_rules! schema_of_inside {
    ($outside:ident) => {
        impl<T: JsonSchema> JsonSchema for $outside<T> {
            fn inline_schema() -> bool {
                T::inline_schema()
            }
            fn schema_name() -> Cow<'static, str> {
                T::schema_name()
            }
            fn schema_id() -> Cow<'static, str> {
                T::schema_id()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                T::json_schema(generator)
            }
        }
    };
}

schema_of_inside!(At);
schema_of_inside!(Key);

impl<T: JsonSchema> JsonSchema for Items<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Vec::<T>::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<T>::json_schema(generator)
    }
}

impl<V: JsonSchema> JsonSchema for Entries<V> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("map_of_{}", V::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<V>() })
    }
}

impl<T: FromText> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "scalar".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

/// What a scalar can be read as.
pub(crate) trait FromText: Sized {
    /// To YAML it is a number, so it must not stand in quotes.
    const NUMBER: bool = false;
    /// The value, or a message and what to write instead.
    fn read(text: &str) -> Result<Self, (String, String)>;
    /// The shape, for editors.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

impl FromText for Period {
    fn read(text: &str) -> Result<Self, (String, String)> {
        text.parse().map_err(|error: PeriodError| {
            let hint = match error {
                PeriodError::NoUnit => format!("write `{text}s` if seconds are meant"),
                _ => meant_period(text).map_or_else(
                    || "write a period like `300ms`, `5s`, `15m` or `1h`".to_owned(),
                    |meant| format!("write `{meant}`"),
                ),
            };
            (format!("`{text}`: {error}"), hint)
        })
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PERIOD_PATTERN, "examples": ["300ms", "5s", "15m", "1h"] })
    }
}

impl FromText for Rate {
    fn read(text: &str) -> Result<Self, (String, String)> {
        text.parse().map_err(|error: RateError| {
            let number = text.parse::<u32>().is_ok_and(|number| number > 0);
            let hint = if number {
                format!("write `{text}/s` if that many a second are meant")
            } else {
                meant_rate(text).map_or_else(
                    || "write a rate like `4/s`, `30/m` or `100/h`".to_owned(),
                    |meant| format!("write `{meant}`"),
                )
            };
            (format!("`{text}`: {error}"), hint)
        })
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": RATE_PATTERN, "examples": ["4/s", "30/m", "100/h"] })
    }
}

/// Other ways in which people write units of time.
const UNITS: [(&str, &[&str]); 5] = [
    ("h", &["h", "hr", "hrs", "hour", "hours"]),
    ("m", &["m", "min", "mins", "minute", "minutes"]),
    ("s", &["s", "sec", "secs", "second", "seconds"]),
    ("ms", &["ms", "msec", "msecs", "millis", "millisecond", "milliseconds"]),
    ("us", &["us", "\u{b5}s", "\u{3bc}s", "usec", "microsecond", "microseconds"]),
];

fn unit(written: &str) -> Option<&'static str> {
    UNITS.iter().find(|(_, others)| others.contains(&written)).map(|(unit, _)| *unit)
}

/// Without blanks and capitals; `None` where it is too long to be a slip.
fn without_blanks(text: &str) -> Option<String> {
    (text.len() <= 40).then(|| text.split_whitespace().collect::<String>().to_lowercase())
}

/// The length of a number, without sign or exponent, that a text begins with.
fn number_len(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len())
}

/// The period that is evidently meant: `12 s`, `5 sec`, or several in a row as in `1m30s`.
fn meant_period(text: &str) -> Option<String> {
    let text = without_blanks(text)?;
    let (mut rest, mut parts) = (text.as_str(), Vec::new());
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(number_len(rest));
        let unit_len = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let zero = if number.starts_with('.') { "0" } else { "" };
        parts.push(format!("{zero}{number}{}", unit(&behind[..unit_len])?));
        rest = &behind[unit_len..];
    }
    let mut sum = std::time::Duration::ZERO;
    for part in &parts {
        sum = sum.checked_add(part.parse::<Period>().ok()?.0)?;
    }
    if parts.len() > 1 { Some(Period(sum).to_string()) } else { parts.pop() }
}

/// The rate that is evidently meant: `8/sec`, `8 per minute`, `8 rps`.
fn meant_rate(text: &str) -> Option<String> {
    let text = without_blanks(text)?;
    let (number, behind) = text.split_at(number_len(&text));
    let meant = match behind {
        "rps" | "qps" | "hz" => format!("{number}/s"),
        _ => format!("{number}/{}", unit(behind.strip_prefix('/').or_else(|| behind.strip_prefix("per"))?)?),
    };
    meant.parse::<Rate>().is_ok().then_some(meant)
}

impl FromText for u64 {
    const NUMBER: bool = true;
    fn read(text: &str) -> Result<Self, (String, String)> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits && text.len() > 1 && text.starts_with('0') {
            let short = text.trim_start_matches('0');
            let short = if short.is_empty() { "0" } else { short };
            return Err((
                format!("`{text}` begins with a zero, which some programs read in base eight"),
                format!("write `{short}`"),
            ));
        }
        let number = if digits { text.parse().ok() } else { None };
        number.ok_or_else(|| {
            let what = if digits { "is too large" } else { "is not a whole number" };
            (format!("`{text}` {what}"), "write a whole number, zero or more".to_owned())
        })
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

impl FromText for f64 {
    const NUMBER: bool = true;
    fn read(text: &str) -> Result<Self, (String, String)> {
        text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0).ok_or_else(|| {
            (
                format!("`{text}` is not a number greater than zero"),
                "write a number like `0.25` or `5`".to_owned(),
            )
        })
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0 })
    }
}

/// Reads one of a list of words.
pub(crate) fn one_of<T: Copy>(
    what: &str,
    text: &str,
    known: &[(&'static str, T)],
) -> Result<T, (String, String)> {
    known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names = known.iter().map(|(name, _)| *name);
        (format!("unknown {what} `{text}`"), nearest_of(what, text, names))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evident_periods_and_rates_are_proposed() {
        for (written, meant) in [
            ("12 s", Some("12s")),
            ("5S", Some("5s")),
            ("5 seconds", Some("5s")),
            (".5s", Some("0.5s")),
            ("1m30s", Some("90s")),
            ("1h 30min", Some("90m")),
            ("5d", None),
            ("5ss", None),
            ("-5s", None),
            ("soon", None),
            ("99999999999999999999h", None),
            ("", None),
        ] {
            let meant_here = meant_period(written);
            assert_eq!(meant_here.as_deref(), meant, "{written}");
            assert!(meant_here.is_none_or(|meant| meant.parse::<Period>().is_ok()), "{written}");
        }
        for (written, meant) in [
            ("8/sec", Some("8/s")),
            ("8 / s", Some("8/s")),
            ("8 per minute", Some("8/m")),
            ("8rps", Some("8/s")),
            ("8/ms", None),
            ("0/sec", None),
            ("fast", None),
        ] {
            assert_eq!(meant_rate(written).as_deref(), meant, "{written}");
        }
    }
}
