//! Parts of files as written: values with their places, ordered mappings, and scalars kept as text so
//! that one bad value does not hide the others.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_saphyr::{Location, Spanned};

use super::problem::Place;
use crate::units::{PERIOD_PATTERN, Period, RATE_PATTERN, Rate};

/// A value and where it is written.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

impl<T> At<T> {
    /// A default: written nowhere.
    pub(crate) fn nowhere(value: T) -> Self {
        Self { value, place: Place::default() }
    }
}

/// The place that the parser reports.
pub(crate) fn place_of(location: Location) -> Place {
    let small = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Place {
        line: small(location.line()),
        column: small(location.column()),
        chars: small(location.span().len()),
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::deserialize(deserializer)?;
        Ok(Self { value, place: place_of(referenced) })
    }
}

/// Only for defaults in the JSON Schema.
impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
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

/// A mapping with free keys, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Entries<V>(pub(crate) Vec<(At<String>, V)>);

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entry<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Entry(PhantomData))
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

impl<'de, T> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl<T: Scalar> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.text.parse::<u64>() {
            Ok(number) => serializer.serialize_u64(number),
            Err(_) => serializer.serialize_str(&self.text),
        }
    }
}

impl<T: Scalar> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "scalar".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// What a scalar can be read as.
pub(crate) trait Scalar: Sized {
    /// The value, or a message and what to write instead.
    fn read(text: &str) -> Result<Self, (String, String)>;
    /// The shape, for editors.
    fn schema() -> Schema;
}

impl Scalar for Period {
    fn read(text: &str) -> Result<Self, (String, String)> {
        text.parse().map_err(|error: crate::units::PeriodError| {
            (format!("`{text}`: {error}"), "write a period like `300ms`, `5s`, `15m` or `1h`".to_owned())
        })
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": PERIOD_PATTERN, "examples": ["300ms", "5s", "15m", "1h"] })
    }
}

impl Scalar for Rate {
    fn read(text: &str) -> Result<Self, (String, String)> {
        text.parse().map_err(|error: crate::units::RateError| {
            (format!("`{text}`: {error}"), "write a rate like `4/s`, `30/m` or `100/h`".to_owned())
        })
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": RATE_PATTERN, "examples": ["4/s", "30/m", "100/h"] })
    }
}

impl Scalar for u64 {
    fn read(text: &str) -> Result<Self, (String, String)> {
        text.parse().map_err(|_| {
            (format!("`{text}` is not a whole number"), "write a whole number, zero or more".to_owned())
        })
    }
    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

impl Scalar for f64 {
    fn read(text: &str) -> Result<Self, (String, String)> {
        text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0).ok_or_else(|| {
            (
                format!("`{text}` is not a number greater than zero"),
                "write a number like `0.25` or `5`".to_owned(),
            )
        })
    }
    fn schema() -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0 })
    }
}
