//! A file as a tree in which every value knows its place.

use super::at::At;
use super::problem::Place;

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
    /// Something is wrong with it, and that has been said.
    Broken,
}

/// A word, number or text as written.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Without quotes, so that it may mean a number, a truth value or nothing.
    pub(crate) plain: bool,
}

/// A key of a mapping with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: At<String>,
    pub(crate) value: Node,
}

impl Node {
    pub(super) fn broken(place: Place) -> Self {
        Self { place, content: Content::Broken }
    }

    /// Entries of a mapping, none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        if let Content::Mapping(entries) = &self.content { entries } else { &[] }
    }

    /// The value at a key of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry at a key of a mapping.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key.value == key)
    }

    /// Nothing is written, or one of the words for nothing.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.is_null())
    }

    /// In the words of a person.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.content {
            Content::List(_) => "a list",
            Content::Mapping(_) => "a mapping (`key: value`)",
            Content::Scalar(scalar) => scalar.kind(),
            Content::Broken => "something broken",
        }
    }
}

impl Scalar {
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// `true` or `false`, in the spellings of YAML 1.2.
    pub(crate) fn truth(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.plain => Some(true),
            "false" | "False" | "FALSE" if self.plain => Some(false),
            _ => None,
        }
    }

    /// A number, in the spellings of YAML 1.2.
    pub(crate) fn is_number(&self) -> bool {
        let unsigned = self.text.strip_prefix(['-', '+']).unwrap_or(&self.text);
        let based = |prefix: &str, radix: u32| {
            unsigned
                .strip_prefix(prefix)
                .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
        };
        let decimal =
            unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') && unsigned.parse::<f64>().is_ok();
        let named = matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN");
        self.plain && (decimal || named || based("0x", 16) || based("0o", 8))
    }

    fn kind(&self) -> &'static str {
        if self.is_null() {
            "nothing"
        } else if self.truth().is_some() {
            "`true` or `false`"
        } else if self.is_number() {
            "a number"
        } else {
            "text"
        }
    }
}
