//! An object of the configuration, read key by key.

use std::time::Duration;

use serde_json::{Map, Value};

use super::bearing::bearing;
use super::{BearsOn, ConfigError, Unsupported};

pub(super) type Read<T> = Result<T, ConfigError>;

/// An object at a known path, which remembers the keys that were asked for.
pub(super) struct Section<'a> {
    pub(super) path: String,
    pub(super) keys: Option<&'a Map<String, Value>>,
    pub(super) known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn open(path: String, value: Option<&'a Value>) -> Read<Self> {
        let keys = match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(keys)) => Some(keys),
            Some(_) => return Err(ConfigError::Wrong { path, expected: "an object" }),
        };
        Ok(Self { path, keys, known: Vec::new() })
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value, `null` counting as absent.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.keys?.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn section(&mut self, key: &'static str) -> Read<Section<'a>> {
        let value = self.get(key);
        Section::open(self.path_of(key), value)
    }

    pub(super) fn wrong<T>(&self, key: &str, expected: &'static str) -> Read<T> {
        Err(ConfigError::Wrong { path: self.path_of(key), expected })
    }

    pub(super) fn text(&mut self, key: &'static str) -> Read<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.starts_with("os.environ/") => {
                self.wrong(key, "resolved from its environment variable")
            }
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => self.wrong(key, "a string"),
        }
    }

    pub(super) fn required_text(&mut self, key: &'static str) -> Read<String> {
        self.text(key)?.ok_or_else(|| ConfigError::Missing { path: self.path_of(key) })
    }

    pub(super) fn number(&mut self, key: &'static str) -> Read<Option<f64>> {
        let number = match self.get(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        match number.filter(|n| n.is_finite() && *n >= 0.0) {
            Some(number) => Ok(Some(number)),
            None => self.wrong(key, "a number that is not negative"),
        }
    }

    pub(super) fn seconds(&mut self, key: &'static str) -> Read<Option<Duration>> {
        let Some(seconds) = self.number(key)? else { return Ok(None) };
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) if seconds <= 1e9 => Ok(Some(duration)),
            _ => self.wrong(key, "at most 1e9 seconds"),
        }
    }

    /// Whether the value was written as a whole number.
    pub(super) fn is_whole(&self, key: &str) -> bool {
        self.keys.and_then(|keys| keys.get(key)).is_some_and(|value| value.is_u64())
    }

    pub(super) fn count(&mut self, key: &'static str) -> Read<Option<u32>> {
        let count = match self.get(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
            Some(_) => None,
        };
        match count.filter(|n| *n <= 1_000_000) {
            Some(count) => Ok(Some(count)),
            None => self.wrong(key, "a whole number from 0 to 1000000"),
        }
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Read<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => self.wrong(key, "true or false"),
        }
    }

    /// Adds every key that nobody asked for; what would bear on everything bears on `group`, where one is given.
    pub(super) fn report_unknown(&self, group: Option<&str>, unsupported: &mut Vec<Unsupported>) {
        for (key, value) in self.keys.into_iter().flatten() {
            if self.known.contains(&key.as_str()) || value.is_null() {
                continue;
            }
            let bears_on = match (bearing(&self.path, key, value), group) {
                (None, _) => continue,
                (Some(BearsOn::Everything), Some(group)) => BearsOn::Groups(vec![group.to_owned()]),
                (Some(bears_on), _) => bears_on,
            };
            unsupported.push(Unsupported::new(self.path_of(key), bears_on));
        }
    }
}
